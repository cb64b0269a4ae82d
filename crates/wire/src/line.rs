//! InfluxDB line protocol.
//!
//! ```text
//! weather,host=press-7,line=3 temperature=21.5,running=t,state="ok" 1763910000123456789
//! ```
//!
//! Owns: what a point means: its device, the names of its metrics, its time. The grammar is in `point`. Does not know: which
//! readings are taken (the sink does).
//! Invariants: a line that cannot be read is refused alone, as `malformed`, and counts 1; nothing of it is kept. Integers and
//! booleans become numbers, texts are skipped.
//!
//! The device is the first present tag of `Context::device_tags`, which then leaves the tags; else the sender's own device; else
//! `Context::fallback_device`. A metric is `<measurement>_<field>`, or the measurement alone where the field is `value`.
//!
//! Source: the grammar of the `line-protocol` repository of InfluxData (line-protocol.ebnf) and what its corpus accepts.

mod point;

use crate::sink::{self, Item, Problem, Shared, Sink};
use crate::{Context, Decoded, Place, number};
use headwater_core::dead_letter::Reason;
use point::{Cursor, Point};

/// Reads a body. A body without points is no error here.
pub fn decode(body: &[u8], context: &Context<'_>) -> Decoded {
    let mut lines = Lines { sink: Sink::new(context, body.len()), metric: String::new() };
    let mut cursor = Cursor::new(body);
    let mut point = Point::new(context.max_metrics);
    while let Some(start) = cursor.next_point() {
        let place = Place::Line(cursor.line());
        let read = cursor.read(&mut point);
        let end = cursor.finish_line(start, read.as_ref().err().map(|bad| &**bad));
        let item = Item { place, span: start..end };
        match read {
            Ok(()) => lines.point(&item, &mut point),
            Err(bad) => lines.sink.refuse(&item, Problem::malformed(bad.detail), None, 1),
        }
    }
    lines.sink.finish()
}

struct Lines<'c> {
    sink: Sink<'c>,
    metric: String,
}

impl Lines<'_> {
    fn point(&mut self, item: &Item, point: &mut Point<'_>) {
        self.sink.skip(point.n_texts);
        if let Err(problem) = point.sort_tags() {
            return self.sink.refuse(item, Problem::malformed(problem), None, 1);
        }
        let tag = point.take_tag(self.sink.context.device_tags);
        let context = self.sink.context;
        let device = tag.as_deref().or(context.own_device).or(context.fallback_device);
        if let Err(problem) = self.readings(item, point, device) {
            self.sink.refuse(item, problem, device, point.n_numbers.max(1));
        }
    }

    fn readings(&mut self, item: &Item, point: &Point<'_>, device: Option<&str>) -> Result<(), Problem> {
        let device = device.ok_or_else(sink::no_device)?;
        self.sink.check_device(device)?;
        let tags = || point.tags.iter().map(|(name, value)| (&**name, &**value));
        Sink::check_tags(tags())?;
        let time = match point.time {
            Some(digits) => self.sink.check_time(self.sink.context.precision.time(integer(digits)?))?,
            None => self.sink.context.received_at.micros(),
        };
        self.sink.check_metrics(point.n_numbers)?;
        let shared = Shared { device, time, unit: None };
        for (field, value) in &point.fields {
            let metric = name(&mut self.metric, &point.measurement, field);
            self.sink.reading(item, &shared, metric, tags(), *value);
        }
        Ok(())
    }
}

/// The name of a metric, put together in `scratch` where it needs to be.
fn name<'s>(scratch: &'s mut String, measurement: &'s str, field: &str) -> &'s str {
    if field == "value" {
        return measurement;
    }
    scratch.clear();
    scratch.push_str(measurement);
    scratch.push('_');
    scratch.push_str(field);
    scratch
}

/// A time's digits, which the grammar has checked; only their range is open.
fn integer(digits: &str) -> Result<i64, Problem> {
    let beyond = || Problem::new(Reason::InvalidTimestamp, format!("the time {} is beyond 64 bits", sink::quoted(digits)));
    number::integer(digits).ok_or_else(beyond)
}

#[cfg(test)]
mod tests;
