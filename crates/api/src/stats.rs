//! `GET /v1/stats`: statistics by group and bucket.
//!
//! Owns: the question (what is asked of which series, in which buckets, pooled how), and how its rows are written. Does not know:
//! how readings are found ([`crate::engine`]) and pooled ([`crate::groups`]).

use crate::answer::{Answer, Csv, Guard, Json, Out};
use crate::engine::{Question, Room, off_the_workers};
use crate::failure::Result;
use crate::figures::{self, Stat};
use crate::groups::{Grouping, Groups, Row};
use crate::params::time::{parse_step, step_text};
use crate::params::{Format, Page, Params, check_devices, shown};
use crate::{Api, tags};
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use headwater_core::filter::SeriesFilter;
use headwater_core::plan::Buckets;
use headwater_core::series::{Parts, SeriesKey};
use headwater_core::time::Timestamp;
use headwater_web::Caller;
use std::collections::BTreeSet;

/// Bytes of a row beside its key and figures, and of a figure with its name.
const BYTES_PER_ROW: usize = 160;
const BYTES_PER_FIGURE: usize = 32;

/// What is asked.
struct StatsQuery {
    filter: SeriesFilter,
    buckets: Buckets,
    stats: Vec<Stat>,
    grouping: Grouping,
    fill: bool,
    page: Page,
    format: Format,
    resume: Option<(SeriesKey, Timestamp)>,
}

/// The handler.
pub(crate) async fn stats(State(api): State<Api>, caller: Caller, RawQuery(raw): RawQuery, headers: HeaderMap) -> Result<Response> {
    let query = StatsQuery::read(&api, raw.as_deref(), &caller, &headers)?;
    let mut room = api.room().await?;
    let groups = query.groups(&api, &mut room).await?;
    query.answer(groups).into_response(&headers, room).await
}

impl StatsQuery {
    fn read(api: &Api, raw: Option<&str>, caller: &Caller, headers: &HeaderMap) -> Result<Self> {
        let mut params = Params::decode("/v1/stats", raw);
        let filter = params.series(caller);
        let page = params.page(caller, api.config.default_limit);
        let range = params.range(api.clock.now(), &page);
        let step = params.read("step", "a positive duration such as 15m, 1h30m, PT1H or P1D", parse_step);
        let stats = read_stats(&mut params);
        let grouping = read_grouping(&mut params);
        let fill = params.read("fill", "none or null", |text| match text {
            "none" => Some(false),
            "null" => Some(true),
            _ => None,
        });
        let format = params.format(headers);
        let resume = match (&page.cursor, &grouping) {
            (Some(cursor), Grouping::Series) => page.after_series(&mut params).zip(cursor.time),
            _ => None,
        };
        params.finish()?;
        check_devices(&filter.devices, &caller.devices)?;
        let buckets = Buckets { range, step };
        // A page of series begins at the series of the last row, after its bucket.
        let resume = resume.map(|(key, time)| (key, buckets.after(time)));
        Ok(Self { filter, buckets, stats, grouping, fill: fill.unwrap_or(false), page, format: format?, resume })
    }

    /// Asks the store; the snapshot is gone on return.
    async fn groups(&self, api: &Api, room: &mut Room) -> Result<Groups> {
        let after = self.page.cursor.as_ref().and_then(|cursor| Some((cursor.key.clone(), cursor.time?)));
        let sink = Groups::new(self.grouping.clone(), self.buckets, self.stats.clone(), self.fill, after, self.page.limit);
        let question = Question { filter: &self.filter, range: self.buckets.range, resume: self.resume.clone() };
        let groups = api.engine(room).await?.feed(&question, sink).await?;
        off_the_workers(groups.n_buckets(), move || groups.finished()).await
    }

    fn answer(self, groups: Groups) -> Answer<impl Fn(Out<'_>) + Send + 'static> {
        let (mut n_rows, mut text_bytes) = (0, 512);
        let bytes_per_row = BYTES_PER_ROW + self.stats.len() * BYTES_PER_FIGURE;
        let last = groups.rows(|row| {
            n_rows += 1;
            text_bytes += bytes_per_row + 2 * row.key.len() + row.unit.map_or(0, str::len);
        });
        let cursor = last.map(|(key, time)| self.cursor(key, time));
        let next = cursor.as_ref().map(|cursor| self.page.link_to(cursor));
        let (format, held_bytes) = (self.format, groups_bytes(&groups));
        let write = move |out: Out<'_>| match format {
            Format::Json => self.write_json(&groups, Json::on(out), cursor.as_deref()),
            Format::Csv => self.write_csv(&groups, Csv::on(out, Guard::Formulas)),
        };
        Answer { write, format, n_rows, held_bytes, text_bytes, next }
    }

    fn cursor(&self, key: String, time: Timestamp) -> String {
        self.page.cursor_after(Some(self.buckets.range.from), Some(self.buckets.range.to), key, Some(time))
    }

    fn write_json(&self, groups: &Groups, mut json: Json<'_>, next: Option<&str>) {
        json.open(b'{');
        json.time("from", self.buckets.range.from);
        json.time("to", self.buckets.range.to);
        json.member("step", &self.buckets.step.map(step_text));
        json.name("rows");
        json.open(b'[');
        groups.rows(|row| self.write_row(&mut json, row));
        json.end_of_rows(next);
    }

    fn write_row(&self, json: &mut Json<'_>, row: &Row<'_>) {
        let parts = Parts::of(row.key);
        json.open(b'{');
        json.time("time", row.time);
        if self.grouping.has_device() {
            json.member("device", parts.device);
        }
        json.member("metric", parts.metric);
        match &self.grouping {
            Grouping::Series => json.tags(parts.tags().map(|(name, value)| (name, Some(value)))),
            Grouping::By(_, names) if names.is_empty() => {}
            Grouping::By(_, names) => json.tags(names.iter().map(|name| (name.as_str(), parts.tag(name)))),
        }
        json.member("unit", &row.unit);
        for (place, stat) in self.stats.iter().enumerate() {
            match stat {
                Stat::Count => json.member(stat.name(), &row.figures.as_ref().map_or(0, |figures| figures.count)),
                _ => json.member(stat.name(), &row.figures.as_ref().and_then(|figures| figures.value(place))),
            }
        }
        if self.has_percentiles() {
            json.member("percentile_error", &row.figures.as_ref().map(|figures| figures.percentile_error));
        }
        json.close(b'}');
    }

    fn write_csv(&self, groups: &Groups, mut csv: Csv<'_>) {
        let tag_names = self.tag_names(groups);
        csv.text("time");
        if self.grouping.has_device() {
            csv.text("device");
        }
        csv.text("metric");
        tag_names.iter().for_each(|name| csv.text(&format!("tag.{name}")));
        csv.text("unit");
        self.stats.iter().for_each(|stat| csv.text(stat.name()));
        if self.has_percentiles() {
            csv.text("percentile_error");
        }
        csv.end_line();
        groups.rows(|row| self.write_line(&mut csv, row, &tag_names));
    }

    fn write_line(&self, csv: &mut Csv<'_>, row: &Row<'_>, tag_names: &BTreeSet<String>) {
        let parts = Parts::of(row.key);
        csv.time(row.time);
        if self.grouping.has_device() {
            csv.text(parts.device);
        }
        csv.text(parts.metric);
        tags::cells(csv, parts, tag_names);
        csv.text(row.unit.unwrap_or_default());
        for (place, stat) in self.stats.iter().enumerate() {
            match (stat, &row.figures) {
                (Stat::Count, figures) => csv.number(figures.as_ref().map_or(0, |figures| figures.count)),
                (_, figures) => csv.number_or_empty(figures.as_ref().and_then(|figures| figures.value(place))),
            }
        }
        if self.has_percentiles() {
            csv.number_or_empty(row.figures.as_ref().map(|figures| figures.percentile_error));
        }
        csv.end_line();
    }

    /// The tags that have a column: those grouped by, or all of the page's series.
    fn tag_names(&self, groups: &Groups) -> BTreeSet<String> {
        match &self.grouping {
            Grouping::By(_, names) => names.clone(),
            Grouping::Series => {
                let mut names = BTreeSet::new();
                groups.rows(|row| tags::collect(&mut names, Parts::of(row.key)));
                names
            }
        }
    }

    fn has_percentiles(&self) -> bool {
        self.stats.iter().any(|stat| matches!(stat, Stat::Percentile(..)))
    }
}

fn groups_bytes(groups: &Groups) -> usize {
    use crate::engine::Sink;
    groups.memory_bytes()
}

fn read_stats(params: &mut Params) -> Vec<Stat> {
    let asked = params.one("stats").unwrap_or_else(|| figures::DEFAULT_STATS.to_owned());
    figures::parse_list(&asked).unwrap_or_else(|name| {
        let known = "count, sum, avg, min, max, range, stddev, stddev_pop, first, last, p0 to p100";
        params.wrong("stats", format!("`{}` is not a statistic; there are {known}", shown(&name)));
        Vec::new()
    })
}

fn read_grouping(params: &mut Params) -> Grouping {
    let read = |text: &str| {
        if text == "none" {
            return Some(Grouping::By(false, BTreeSet::new()));
        }
        let (mut by_device, mut tags) = (false, BTreeSet::new());
        for label in text.split(',').map(str::trim) {
            match label.strip_prefix("tag.") {
                Some(name) if !name.is_empty() => {
                    tags.insert(name.to_owned());
                }
                _ if label == "device" => by_device = true,
                _ => return None,
            }
        }
        Some(Grouping::By(by_device, tags))
    };
    params
        .read("group_by", "none, or a list of device and tag.<name> (the metric is always part of the group)", read)
        .unwrap_or(Grouping::Series)
}

#[cfg(test)]
mod tests;
