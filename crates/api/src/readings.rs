//! `GET /v1/readings`: raw readings by series and time.
//!
//! Owns: the first readings of a page ([`RawPage`], a sink) and how they are written; CSV comes as `POST /v1/readings` takes it.
//! Does not know: how readings are found.
//! Invariant: at most about twice the page's rows are held.

use crate::answer::{Answer, Csv, Guard, Json, Out};
use crate::config::Config;
use crate::engine::{Question, Room, Sink};
use crate::failure::Result;
use crate::params::{Format, Page, Params, check_devices};
use crate::{Api, tags};
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use headwater_core::filter::SeriesFilter;
use headwater_core::merge::SeriesReadings;
use headwater_core::plan::Buckets;
use headwater_core::series::{Series, SeriesKey};
use headwater_core::summary::Summary;
use headwater_core::time::{TimeRange, Timestamp};
use headwater_web::Caller;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a row beside its series' ids.
const BYTES_PER_ROW: usize = 128;
/// Memory of a held series beside its key and readings.
const BYTES_PER_SERIES: usize = 160;

/// What is asked.
struct ReadingsQuery {
    filter: SeriesFilter,
    range: TimeRange,
    page: Page,
    format: Format,
    resume: Option<(SeriesKey, Timestamp)>,
}

/// The handler.
pub(crate) async fn readings(State(api): State<Api>, caller: Caller, RawQuery(raw): RawQuery, headers: HeaderMap) -> Result<Response> {
    let query = ReadingsQuery::read(&api, raw.as_deref(), &caller, &headers)?;
    let mut room = api.room().await?;
    let rows = query.rows(&api, &mut room).await?;
    query.answer(rows).into_response(&headers, room).await
}

impl ReadingsQuery {
    fn read(api: &Api, raw: Option<&str>, caller: &Caller, headers: &HeaderMap) -> Result<Self> {
        let mut params = Params::decode("/v1/readings", raw);
        let filter = params.series(caller);
        let page = params.page(caller, api.config.default_limit);
        let range = params.range(api.clock.now(), &page);
        let format = params.format(headers);
        let after = page.after_series(&mut params);
        params.finish()?;
        check_devices(&filter.devices, &caller.devices)?;
        let after_time = page.cursor.as_ref().and_then(|cursor| cursor.time);
        let resume = after.zip(after_time).map(|(key, time)| (key, time.plus(1)));
        Ok(Self { filter, range, page, format: format?, resume })
    }

    /// Asks the store; the snapshot is gone on return.
    async fn rows(&self, api: &Api, room: &mut Room) -> Result<RawPage> {
        let question = Question { filter: &self.filter, range: self.range, resume: self.resume.clone() };
        api.engine(room).await?.feed(&question, RawPage::new(self.page.limit)).await
    }

    fn answer(self, rows: RawPage) -> Answer<impl Fn(Out<'_>) + Send + 'static> {
        let (mut n_rows, mut text_bytes) = (0, 256);
        let last = rows.each(|key, _, _| {
            n_rows += 1;
            text_bytes += BYTES_PER_ROW + 2 * key.as_str().len();
        });
        let (from, to) = (Some(self.range.from), Some(self.range.to));
        let cursor = last.map(|(key, time)| self.page.cursor_after(from, to, key.as_str().to_owned(), Some(time)));
        let next = cursor.as_ref().map(|cursor| self.page.link_to(cursor));
        let (format, held_bytes) = (self.format, rows.memory_bytes());
        // No cell is guarded against spreadsheets: an apostrophe more would be another device.
        let write = move |out: Out<'_>| match format {
            Format::Json => write_json(&rows, Json::on(out), cursor.as_deref()),
            Format::Csv => write_csv(&rows, Csv::on(out, Guard::Nothing)),
        };
        Answer { write, format, n_rows, held_bytes, text_bytes, next }
    }
}

fn write_json(rows: &RawPage, mut json: Json<'_>, next: Option<&str>) {
    json.open(b'{');
    json.name("rows");
    json.open(b'[');
    rows.each(|key, time, value| {
        let parts = key.parts();
        json.open(b'{');
        json.time("time", time);
        json.member("device", parts.device);
        json.member("metric", parts.metric);
        json.tags(parts.tags().map(|(name, value)| (name, Some(value))));
        json.member("value", &value);
        json.close(b'}');
    });
    json.end_of_rows(next);
}

/// The columns of `POST /v1/readings`, in its long form.
fn write_csv(rows: &RawPage, mut csv: Csv<'_>) {
    let mut tag_names = BTreeSet::new();
    rows.each(|key, _, _| tags::collect(&mut tag_names, key.parts()));
    ["time", "device", "metric"].into_iter().for_each(|name| csv.text(name));
    tag_names.iter().for_each(|name| csv.text(&format!("tag.{name}")));
    csv.text("value");
    csv.end_line();
    rows.each(|key, time, value| {
        let parts = key.parts();
        csv.time(time);
        csv.text(parts.device);
        csv.text(parts.metric);
        tags::cells(&mut csv, parts, &tag_names);
        csv.number(value);
        csv.end_line();
    });
}

/// The first readings by (series, time).
struct RawPage {
    /// How many are needed: those of the page, and one that tells whether there is another page.
    needed: usize,
    rows: BTreeMap<SeriesKey, SeriesReadings>,
    n_rows: usize,
    key_bytes: usize,
}

impl RawPage {
    const fn new(limit: usize) -> Self {
        Self { needed: limit + 1, rows: BTreeMap::new(), n_rows: 0, key_bytes: 0 }
    }

    /// Calls `each` with the rows of the page; returns the last one's place when more follow.
    fn each(&self, mut each: impl FnMut(&SeriesKey, Timestamp, f64)) -> Option<(&SeriesKey, Timestamp)> {
        let mut last = None;
        let mut left = self.needed - 1;
        for (key, readings) in &self.rows {
            for (&time, &value) in readings.times.iter().zip(&readings.values) {
                if left == 0 {
                    return last;
                }
                left -= 1;
                last = Some((key, Timestamp(time)));
                each(key, Timestamp(time), value);
            }
        }
        None
    }

    fn is_beside(&self, key: &SeriesKey) -> bool {
        self.n_rows >= self.needed && self.rows.last_key_value().is_some_and(|(last, _)| key > last)
    }
}

impl Sink for RawPage {
    fn buckets(&self) -> Option<Buckets> {
        None
    }

    fn merge(&mut self, _: &Series, _: &[(Timestamp, &Summary)]) {}

    fn wants(&mut self, series: &Series, _: Timestamp) -> bool {
        let is_enough = self.rows.get(&series.key).is_some_and(|held| held.len() >= self.needed);
        !is_enough && !self.is_beside(&series.key)
    }

    fn take(&mut self, series: &Series, readings: &SeriesReadings) {
        if self.is_beside(&series.key) {
            return;
        }
        if !self.rows.contains_key(&series.key) {
            self.key_bytes += series.key.as_str().len();
        }
        let held = self.rows.entry(series.key.clone()).or_default();
        let n_added = readings.len().min(self.needed.saturating_sub(held.len()));
        held.times.extend_from_slice(&readings.times[..n_added]);
        held.values.extend_from_slice(&readings.values[..n_added]);
        self.n_rows += n_added;
        while let Some(last) = self.rows.last_entry()
            && self.n_rows - last.get().len() >= self.needed
        {
            let (key, dropped) = last.remove_entry();
            self.n_rows -= dropped.len();
            self.key_bytes -= key.as_str().len();
        }
    }

    fn resumed(&mut self, _: &Series) {}

    fn shard_is_done(&mut self) {}

    fn is_complete(&self) -> bool {
        self.n_rows >= self.needed
    }

    fn memory_bytes(&self) -> usize {
        // Columns may have twice the room that they need.
        32 * self.n_rows + BYTES_PER_SERIES * self.rows.len() + self.key_bytes
    }

    fn growth_bytes(&self, n_readings: usize) -> usize {
        (32 + BYTES_PER_SERIES) * n_readings.min(self.needed)
    }

    fn check(&self, _: &Config) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
