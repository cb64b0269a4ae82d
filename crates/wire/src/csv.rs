//! CSV (RFC 4180: comma, quotes, UTF-8): long, a reading a line, or wide, a column a metric.
//!
//! ```text
//! device,metric,ts,value            device,ts,temperature,pressure,tag.line
//! press-7,temperature,1763910000,21.5      press-7,2026-11-23T15:00:00Z,21.5,1.02,3
//! ```
//!
//! Owns: what a line means under its header (`header`); the lines themselves are cut in `rows`. Does not know: which readings
//! are taken (the sink does).
//! Invariants: only a header that cannot be used refuses the body; blank lines are no lines of data but are counted. Spaces are
//! part of a field, as RFC 4180 says. An empty `device`, `ts`, `unit` or tag is as if the column were not there.

mod header;
mod rows;

use crate::sink::{self, Item, Problem, Shared, Sink};
use crate::{Context, Decoded, Place, Unreadable, number, time};
use header::{Form, Header};
use rows::Rows;
use std::borrow::Cow;

/// Reads a body.
///
/// # Errors
/// When there is no header, or one that cannot be used.
pub fn decode(body: &[u8], context: &Context<'_>) -> Result<Decoded, Unreadable> {
    let mut rows = Rows::new(body);
    let mut fields = Vec::new();
    let header = match rows.next(&mut fields, header::MAX_COLUMNS) {
        None => return Err(Unreadable::new("the body is empty")),
        Some(row) => {
            row.read.map_err(|detail| Unreadable::new(format!("the header on line {}: {detail}", row.line)))?;
            Header::read(&fields, context.own_device.is_some())?
        }
    };
    let mut lines = Lines { header: &header, sink: Sink::new(context, body.len()) };
    while let Some(row) = rows.next(&mut fields, header.n_columns) {
        let item = Item { place: Place::Line(row.line), span: row.span };
        match row.read {
            Ok(n) if n == header.n_columns => lines.line(&item, &fields),
            Ok(n) => {
                let detail = format!("{n} fields under a header of {}", header.n_columns);
                lines.sink.refuse(&item, Problem::malformed(detail), None, 1);
            }
            Err(detail) => lines.sink.refuse(&item, Problem::malformed(detail), None, 1),
        }
    }
    Ok(lines.sink.finish())
}

struct Lines<'h, 'c> {
    header: &'h Header,
    sink: Sink<'c>,
}

impl Lines<'_, '_> {
    fn line(&mut self, item: &Item, fields: &[Cow<'_, str>]) {
        let n_metrics = self.count(fields);
        if let Err(problem) = self.readings(item, fields, n_metrics) {
            let named = self.header.device.map(|at| &*fields[at]).filter(|device| !device.is_empty());
            let device = named.or(self.sink.context.own_device);
            self.sink.refuse(item, problem, device, n_metrics.max(1));
        }
    }

    /// How many readings the line has; its empty cells are skipped here.
    fn count(&mut self, fields: &[Cow<'_, str>]) -> u64 {
        let (n_cells, n_empty) = match &self.header.form {
            Form::Long { value, .. } => (1, usize::from(fields[*value].is_empty())),
            Form::Wide(metrics) => (metrics.len(), metrics.iter().filter(|(_, at)| fields[*at].is_empty()).count()),
        };
        self.sink.skip(n_empty as u64);
        (n_cells - n_empty) as u64
    }

    fn readings(&mut self, item: &Item, fields: &[Cow<'_, str>], n_metrics: u64) -> Result<(), Problem> {
        let header = self.header;
        let field = |column: Option<usize>| column.map(|at| &*fields[at]).filter(|text| !text.is_empty());
        let device = field(header.device).or(self.sink.context.own_device).ok_or_else(sink::no_device)?;
        self.sink.check_device(device)?;
        let tags = || header.tags.iter().map(|(name, at)| (&**name, &*fields[*at])).filter(|(_, value)| !value.is_empty());
        Sink::check_tags(tags())?;
        let time = match field(header.ts) {
            Some(text) => self.sink.check_time(time::parse(text).ok_or_else(|| sink::no_time(text))?)?,
            None => self.sink.context.received_at.micros(),
        };
        let unit = field(header.unit).map(Sink::check_unit).transpose()?.flatten();
        self.sink.check_metrics(n_metrics)?;
        let shared = Shared { device, time, unit };
        let mut cell = |metric: &str, text: &str| match read_value(text) {
            _ if text.is_empty() => {}
            Some(value) => self.sink.reading(item, &shared, metric, tags(), value),
            None => self.sink.refuse_metric(item, sink::not_numeric(metric, &sink::quoted(text)), Some(device)),
        };
        match &header.form {
            Form::Long { metric, value } => cell(&fields[*metric], &fields[*value]),
            Form::Wide(metrics) => metrics.iter().for_each(|(metric, at)| cell(metric, &fields[*at])),
        }
        Ok(())
    }
}

/// The number in a cell, infinite where it is none that is finite.
fn read_value(text: &str) -> Option<f64> {
    number::decimal(text).or_else(|| number::is_not_finite(text).then_some(f64::INFINITY))
}

#[cfg(test)]
mod tests;
