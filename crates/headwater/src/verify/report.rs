//! What verify tells: progress, the first differences, a summary.
//!
//! Owns: words and how many of them. Invariants: progress goes to standard error, differences and the summary to standard output (one JSON
//! object where that was asked for); however much is broken, only the first [`MOST_PRINTED`] differences are printed.

use crate::output;
use headwater_core::series::SeriesKey;
use headwater_core::store::Totals;
use headwater_core::time::TimeRange;
use headwater_core::verify::{Difference, Looked};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, Instant};

/// Differences that are printed.
const MOST_PRINTED: usize = 20;
/// Where there is no terminal, a line this often.
const EVERY: Duration = Duration::from_secs(5);

/// What was found so far.
pub(super) struct Report {
    range: TimeRange,
    json: bool,
    series: u64,
    done: u64,
    totals: Totals,
    looked: Looked,
    differences: u64,
    printed: Vec<Value>,
    bar: ProgressBar,
    began: Instant,
    told: Instant,
}

impl Report {
    pub(super) fn new(range: TimeRange, json: bool) -> Self {
        Self {
            range,
            json,
            series: 0,
            done: 0,
            totals: Totals::default(),
            looked: Looked::default(),
            differences: 0,
            printed: Vec::new(),
            bar: ProgressBar::hidden(),
            began: Instant::now(),
            told: Instant::now(),
        }
    }

    /// Begins to show progress over so many series.
    pub(super) fn begin(&mut self, totals: Totals, series: u64) {
        (self.totals, self.series) = (totals, series);
        if output::messages_on_terminal() {
            let style = ProgressStyle::with_template("verify {bar:30} {percent:>3} % {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            self.bar = ProgressBar::with_draw_target(Some(series), ProgressDrawTarget::stderr()).with_style(style);
        }
    }

    /// What was looked at so far.
    #[cfg(test)]
    pub(super) const fn seen(&self) -> Looked {
        self.looked
    }

    /// Adds what was looked at.
    pub(super) const fn looked(&mut self, looked: Looked) {
        self.looked.add(looked);
    }

    /// So many more series are done.
    pub(super) fn progressed(&mut self, series: u64) {
        self.done += series;
        let message = format!("{} readings, {} differences", self.looked.readings, self.differences);
        if !output::messages_on_terminal() && self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            output::message(&format!("verify: {} of {} series, {message}", self.done, self.series));
        }
        self.bar.set_position(self.done);
        self.bar.set_message(message);
    }

    /// How many differences may still be printed.
    pub(super) const fn room(&self) -> usize {
        MOST_PRINTED.saturating_sub(self.printed.len())
    }

    /// Counts a difference, and tells it while there is room.
    pub(super) fn tell(&mut self, difference: Difference, name: Option<&SeriesKey>) {
        self.differences += 1;
        if self.room() == 0 {
            return;
        }
        let told = in_json(&difference, name);
        if !self.json {
            let text = in_words(&difference, name);
            // Where nobody reads it, the exit code still says it.
            self.bar.suspend(|| print(&text).ok());
        }
        self.printed.push(told);
    }

    /// Whether there was no difference.
    pub(super) const fn is_clean(&self) -> bool {
        self.differences == 0
    }

    /// Tells the summary. `whole` is whether everything was looked at.
    pub(super) fn finish(self, whole: bool) -> std::io::Result<()> {
        self.bar.finish_and_clear();
        print(&if self.json { self.summary_in_json(whole).to_string() } else { self.summary_in_words(whole) })
    }

    fn summary_in_json(&self, whole: bool) -> Value {
        let time = |time: headwater_core::time::Timestamp, open: bool| (!open).then(|| time.to_string());
        let (Looked { chunks, readings, rollups, blocks, open }, totals) = (self.looked, &self.totals);
        json!({
            "clean": self.differences == 0 && whole, "complete": whole,
            "from": time(self.range.from, self.range.from == TimeRange::ALL.from), "to": time(self.range.to, self.range.to == TimeRange::ALL.to),
            "series": self.series, "chunks": chunks, "readings": readings, "rollups": rollups, "blocks": blocks, "open_readings": open,
            "received": totals.received, "stored": totals.stored, "duplicate": totals.duplicate, "conflict": totals.conflict,
            "dead": totals.dead, "unsealed": totals.unsealed,
            "gaps": totals.gaps, "differences": self.differences, "first": self.printed, "seconds": (self.began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
        })
    }

    fn summary_in_words(&self, whole: bool) -> String {
        let Looked { chunks, readings, rollups, blocks, open } = self.looked;
        let Totals { received, stored, duplicate, conflict, dead, unsealed, gaps, .. } = self.totals;
        let gaps = match gaps {
            0 => String::new(),
            n => format!("\ngaps: {n} stretches of the log were gone before they were applied; the table gaps has their ranges"),
        };
        let seconds = self.began.elapsed().as_secs_f64();
        let outcome = match (self.differences, whole) {
            (0, true) => "no difference".to_owned(),
            (0, false) => "no difference so far; it was not looked at everything".to_owned(),
            (1, _) => "1 difference".to_owned(),
            (n, _) if n > MOST_PRINTED as u64 => format!("{n} differences (the first {MOST_PRINTED} are above)"),
            (n, _) => format!("{n} differences"),
        };
        format!(
            "{} series: {chunks} chunks of {readings} readings, {rollups} rollups, {blocks} open blocks of {open} readings, in {seconds:.1} s\n\
             counts when it began: received {received}, stored {stored}, duplicate {duplicate}, conflict {conflict}, dead {dead}, unsealed {unsealed}{gaps}\n\
             {outcome}",
            self.series
        )
    }
}

fn print(text: &str) -> std::io::Result<()> {
    let mut out = output::data();
    writeln!(out, "{text}")?;
    out.flush()
}

fn in_words(difference: &Difference, name: Option<&SeriesKey>) -> String {
    let Difference { place, rule, expected, found } = difference;
    let shard = place.shard().map(|shard| format!("shard {}, ", shard.0)).unwrap_or_default();
    let series = match (place.series(), name) {
        (Some(series), Some(key)) => format!("series {} ({}), ", series.0, words_of(key)),
        (Some(series), None) => format!("series {}, ", series.0),
        (None, _) => String::new(),
    };
    let text = format!("difference: {shard}{series}{place}: {rule}: expected {expected}, found {found}");
    output::sanitised(&text).into_owned()
}

/// `device/metric`, with its tags.
fn words_of(key: &SeriesKey) -> String {
    let parts = key.parts();
    let tags: String = parts.tags().map(|(name, value)| format!(" {name}={value}")).collect();
    format!("{}/{}{tags}", parts.device, parts.metric)
}

fn in_json(difference: &Difference, name: Option<&SeriesKey>) -> Value {
    let Difference { place, rule, expected, found } = difference;
    let tags = name.map(|key| key.parts().tags().map(|(name, value)| (name.to_owned(), json!(value))).collect::<serde_json::Map<_, _>>());
    json!({
        "shard": place.shard().map(|shard| shard.0), "series": place.series().map(|series| series.0),
        "device": name.map(|key| key.parts().device), "metric": name.map(|key| key.parts().metric), "tags": tags,
        "place": place.to_string(), "rule": rule, "expected": expected, "found": found,
    })
}
