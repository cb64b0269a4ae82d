//! What move tells: progress on standard error, a summary on standard output.
//!
//! Owns: words and how many of them.

use crate::output;
use headwater_core::store::Totals;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::io::Write;
use std::time::{Duration, Instant};

/// Where there is no terminal, a line this often.
const EVERY: Duration = Duration::from_secs(5);

/// What was carried so far.
pub(super) struct Report {
    totals: Totals,
    pub(super) series: u64,
    pub(super) chunks: u64,
    pub(super) readings: u64,
    pub(super) rollups: u64,
    pub(super) letters: u64,
    bar: ProgressBar,
    began: Instant,
    told: Instant,
}

impl Report {
    /// Of a store that counts so.
    pub(super) fn new(totals: &Totals) -> Self {
        let bar = if output::messages_on_terminal() {
            let style = ProgressStyle::with_template("move {bar:30} {percent:>3} % {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::with_draw_target(Some(totals.stored), ProgressDrawTarget::stderr()).with_style(style)
        } else {
            ProgressBar::hidden()
        };
        let now = Instant::now();
        Self { totals: totals.clone(), series: 0, chunks: 0, readings: 0, rollups: 0, letters: 0, bar, began: now, told: now }
    }

    /// Shows how far it is.
    pub(super) fn progressed(&mut self) {
        self.bar.set_position(self.readings);
        self.bar.set_message(format!("{} series, {} readings", self.series, self.readings));
        if !output::messages_on_terminal() && self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            output::message(&format!("{} of {} readings so far", self.readings, self.totals.stored));
        }
    }

    /// The summary.
    pub(super) fn finish(self, json: bool) -> anyhow::Result<()> {
        self.bar.finish_and_clear();
        let Self { totals, series, chunks, readings, rollups, letters, began, .. } = self;
        let Totals { received, stored, duplicate, conflict, dead, .. } = totals;
        let seconds = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        let text = if json {
            json!({
                "complete": true, "received": received, "stored": stored, "duplicate": duplicate, "conflict": conflict, "dead": dead,
                "moved": { "series": series, "chunks": chunks, "readings": readings, "rollups": rollups, "dead_letters": letters },
                "seconds": seconds,
            })
            .to_string()
        } else {
            format!(
                "moved and compared {series} series, {readings} readings in {chunks} chunks, {rollups} rollups, {letters} dead letters in {seconds} s\n\
                 received {received} = stored {stored} + duplicate {duplicate} + conflict {conflict} + dead {dead}"
            )
        };
        let mut out = output::data();
        writeln!(out, "{text}")?;
        Ok(out.flush()?)
    }
}
