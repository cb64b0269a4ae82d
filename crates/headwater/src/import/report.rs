//! What import tells: progress, rejects with their lines, a summary.
//!
//! Owns: words and how many of them. Invariant: progress and rejects go to standard error, the summary to standard output;
//! however many rows are rejected, the report of a file stays short (the server keeps each of them as a dead letter).

use crate::output;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Rejects of a file that are printed.
const MOST_PRINTED: u64 = 100;
/// Where there is no terminal, a line this often.
const EVERY: Duration = Duration::from_secs(5);

/// Readings.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) received: u64,
    pub(super) accepted: u64,
    pub(super) skipped: u64,
    pub(super) rejected: u64,
}

impl Counts {
    const fn add(&mut self, other: Self) {
        self.received += other.received;
        self.accepted += other.accepted;
        self.skipped += other.skipped;
        self.rejected += other.rejected;
    }
}

/// Of all files.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Totals {
    files: u64,
    counts: Counts,
}

impl Totals {
    pub(super) const fn add(&mut self, counts: Counts) {
        self.files += 1;
        self.counts.add(counts);
    }

    pub(super) const fn any_received(&self) -> bool {
        self.counts.received > 0
    }
}

/// A row that the server did not take.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reject {
    /// Its line in the file.
    pub(super) line: Option<u64>,
    /// Why.
    pub(super) text: String,
}

/// Of one file.
pub(super) struct Report {
    name: String,
    counts: Counts,
    printed: u64,
    bytes: Option<u64>,
    bar: ProgressBar,
    told: Instant,
}

impl Report {
    pub(super) fn of(path: &Path) -> Self {
        let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
        let name = output::sanitised(&name).into_owned();
        Self { name, counts: Counts::default(), printed: 0, bytes: None, bar: ProgressBar::hidden(), told: Instant::now() }
    }

    /// Begins to show progress, of `bytes` in all where that is known.
    pub(super) fn expect(&mut self, bytes: Option<u64>) {
        self.bytes = bytes;
        if !output::messages_on_terminal() {
            return;
        }
        let template = if bytes.is_some() { "{prefix} {bar:30} {percent:>3} % {msg}" } else { "{prefix} {spinner} {bytes} {msg}" };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bar = ProgressBar::with_draw_target(bytes, ProgressDrawTarget::stderr()).with_style(style).with_prefix(self.name.clone());
    }

    /// Notes an answer.
    pub(super) fn sent(&mut self, counts: Counts, rejects: &[Reject]) {
        self.counts.add(counts);
        self.printable(rejects).iter().for_each(|line| self.say(line));
    }

    /// What is printed of rejects, as many as may still be.
    fn printable(&mut self, rejects: &[Reject]) -> Vec<String> {
        let room = MOST_PRINTED.saturating_sub(self.printed);
        let first = &rejects[..rejects.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        self.printed += first.len() as u64;
        let place = |reject: &Reject| reject.line.map(|line| format!(":{line}")).unwrap_or_default();
        first.iter().map(|reject| format!("{}{}: {}", self.name, place(reject), output::sanitised(&reject.text))).collect()
    }

    /// Notes that so many bytes of the file have been sent.
    pub(super) fn progressed(&mut self, bytes: u64) {
        self.bar.set_position(bytes);
        self.bar.set_message(format!("{} readings", grouped(self.counts.received)));
        if !output::messages_on_terminal() && self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            let of = self.bytes.filter(|all| *all > 0).map(|all| format!(", {} %", bytes.min(all) * 100 / all)).unwrap_or_default();
            output::message(&format!("{}: {} readings so far{of}", self.name, grouped(self.counts.received)));
        }
    }

    /// A message that does not tear the progress bar.
    pub(super) fn say(&self, text: &str) {
        self.bar.suspend(|| output::message(text));
    }

    /// Ends the progress; tells how many rejects there were.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
        if self.counts.rejected > 0 {
            let more = if self.printed == MOST_PRINTED { format!(" (the first {MOST_PRINTED} are above)") } else { String::new() };
            let rejected = grouped(self.counts.rejected);
            output::message(&format!("{}: {rejected} rejected{more}; each is kept as a dead letter, see GET /v1/dead-letters", self.name));
        }
    }

    /// The file, as it is printed.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn totals(&self) -> Counts {
        self.counts
    }
}

/// What became of all files.
pub(super) fn summary(totals: &Totals, took: Duration, json: bool) -> anyhow::Result<()> {
    let Totals { files, counts } = totals;
    let seconds = took.as_secs_f64();
    let rate = if seconds > 0.0 { (counts.received as f64 / seconds).round() as u64 } else { counts.received };
    let text = if json {
        let Counts { received, accepted, skipped, rejected } = counts;
        let seconds = (seconds * 1000.0).round() / 1000.0;
        serde_json::json!({
            "files": files, "received": received, "accepted": accepted, "skipped": skipped, "rejected": rejected,
            "seconds": seconds, "readings_per_second": rate,
        })
        .to_string()
    } else {
        let [received, accepted, skipped, rejected] = [counts.received, counts.accepted, counts.skipped, counts.rejected].map(grouped);
        let files = if *files == 1 { "1 file".to_owned() } else { format!("{files} files") };
        format!(
            "{files}: received {received} = accepted {accepted} + skipped {skipped} + rejected {rejected}, in {seconds:.1} s ({} readings/s)",
            grouped(rate)
        )
    };
    let mut out = output::data();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// `1234567` → `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 7, 999, 1_000, 1_234_567].map(grouped), ["0", "7", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_file_full_of_rejects_has_a_short_report() {
        let mut report = Report::of(Path::new("x.csv"));
        let rejects: Vec<Reject> = (0..1_000).map(|line| Reject { line: Some(line), text: "malformed: \u{1b}[2J".to_owned() }).collect();
        let printed = report.printable(&rejects[..70]);
        assert_eq!(printed[1], "x.csv:1: malformed: \u{fffd}[2J");
        assert_eq!(report.printable(&rejects[70..]).len(), 30);
        assert_eq!(report.printable(&rejects).len(), 0);
    }
}
