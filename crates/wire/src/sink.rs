//! Where all decoders put what they read: the rules of readings, in one place.
//!
//! Owns: the checks of devices, tags and times, the counts, the words of refusals. Does not know: formats.
//! Invariants: a series enters the dictionary only after its parts were checked; no allocation per reading that is kept.
//!
//! What bodies made of refusals may cost is bounded: several bad metrics of one item are told one by one only while the item's
//! bytes, once for each, stay below [`MAX_REPEATED_BYTES`]; beyond [`MAX_SEPARATE`] refusals of a body, neighbours that are
//! refused for the same reason become one. Counts are the same either way.

use crate::{Base, Context, Decoded, MAX_DETAIL_BYTES, Place, Refused};
use headwater_core::columns::ReadingBatch;
use headwater_core::dead_letter::Reason;
use headwater_core::series::{self, IdProblem, MAX_ID_BYTES, MAX_TAG_VALUE_BYTES, MAX_TAGS, MAX_UNIT_BYTES};
use headwater_core::time::{EARLIEST, FURTHEST_AHEAD, Timestamp};
use std::borrow::Cow;
use std::fmt::Display;
use std::ops::Range;

/// How many original bytes the refusals of one item's metrics may repeat in all.
const MAX_REPEATED_BYTES: usize = 64 * 1024;
/// How many refusals of one body are always told apart.
const MAX_SEPARATE: usize = 10_000;

/// A line of line protocol has about so many bytes.
const BYTES_OF_A_LINE: usize = 48;
/// Room is made for at most so many series at once.
const MOST_EXPECTED: usize = 8_192;

/// Why an item or a metric is refused.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
}

impl Problem {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Reason::Malformed, detail)
    }
}

/// An item of the body.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) place: Place,
    pub(crate) span: Range<usize>,
}

/// What the readings of an item share, checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shared<'i> {
    pub(crate) device: &'i str,
    pub(crate) time: i64,
    pub(crate) unit: Option<&'i str>,
}

/// How many tags of an item are worth keeping: more than may be, whichever of them names the device.
pub(crate) const KEPT_TAGS: usize = MAX_TAGS + 2;

/// Collects readings and refusals of one body.
#[derive(Debug)]
pub(crate) struct Sink<'c> {
    pub(crate) context: &'c Context<'c>,
    batch: ReadingBatch,
    skipped: u64,
    refused: Vec<Refused>,
    key: String,
    last_series: u32,
    /// For each series the one that followed it last.
    followers: Vec<u32>,
    last_device: String,
    kept_at_refusal: u64,
}

impl<'c> Sink<'c> {
    /// For a body of so many bytes.
    pub(crate) fn new(context: &'c Context<'c>, body_bytes: usize) -> Self {
        let mut batch = ReadingBatch::default();
        // Where an agent names another series in each line, the dictionary would hash its texts again at every growth.
        batch.dictionary.reserve((body_bytes / BYTES_OF_A_LINE).min(MOST_EXPECTED));
        Self {
            context,
            batch,
            skipped: 0,
            refused: Vec::new(),
            key: String::new(),
            last_series: 0,
            followers: Vec::new(),
            last_device: String::new(),
            kept_at_refusal: 0,
        }
    }

    pub(crate) fn finish(self) -> Decoded {
        Decoded { batch: self.batch, skipped: self.skipped, refused: self.refused }
    }

    pub(crate) fn skip(&mut self, n: u64) {
        self.skipped += n;
    }

    /// Checks a device: that it is an id, and that the sender may write as it.
    pub(crate) fn check_device(&mut self, device: &str) -> Result<(), Problem> {
        if device == self.last_device && !device.is_empty() {
            return Ok(());
        }
        check_id(device).map_err(|problem| of_text(Reason::InvalidDevice, "device", device, &problem))?;
        if !self.context.devices.allow(device) {
            let detail = format!("the credential may not write as device {}", quoted(device));
            return Err(Problem::new(Reason::ForbiddenDevice, detail));
        }
        self.last_device.clear();
        self.last_device.push_str(device);
        Ok(())
    }

    /// Checks tags that are sorted by name, without repeats.
    pub(crate) fn check_tags<'i>(tags: impl Iterator<Item = (&'i str, &'i str)>) -> Result<(), Problem> {
        let mut n_tags = 0;
        for (name, value) in tags {
            n_tags += 1;
            check_tag(name, value).map_err(|problem| of_text(Reason::InvalidTags, "tag", name, &problem))?;
        }
        if n_tags > MAX_TAGS {
            return Err(Problem::new(Reason::InvalidTags, format!("there are more than {MAX_TAGS} tags")));
        }
        Ok(())
    }

    /// Checks a time against the receipt, and gives its microseconds.
    pub(crate) fn check_time(&self, time: Timestamp) -> Result<i64, Problem> {
        let latest = self.context.now.plus(FURTHEST_AHEAD);
        if time > latest {
            let detail = format!("{} is more than 10 minutes after the receipt at {}", shown(time), self.context.now);
            return Err(Problem::new(Reason::TimestampTooFarAhead, detail));
        }
        if time < EARLIEST {
            return Err(Problem::new(Reason::TimestampTooOld, format!("{} is before {EARLIEST}", shown(time))));
        }
        Ok(time.micros())
    }

    /// Checks a unit; an empty one is none.
    pub(crate) fn check_unit(unit: &str) -> Result<Option<&str>, Problem> {
        if unit.len() > MAX_UNIT_BYTES {
            return Err(of_text(Reason::InvalidMetric, "unit", unit, &IdProblem::TooLong(MAX_UNIT_BYTES)));
        }
        if unit.chars().any(char::is_control) {
            return Err(of_text(Reason::InvalidMetric, "unit", unit, &IdProblem::Control));
        }
        Ok((!unit.is_empty()).then_some(unit))
    }

    /// Checks the number of an item's metrics.
    pub(crate) fn check_metrics(&self, n_metrics: u64) -> Result<(), Problem> {
        let most = self.context.max_metrics;
        if n_metrics > most as u64 {
            return Err(Problem::new(Reason::TooManyMetrics, format!("{n_metrics} metrics in one item are more than {most}")));
        }
        Ok(())
    }

    /// Keeps a reading, or refuses it alone. `shared` and `tags` were checked, `tags` are sorted.
    #[inline]
    pub(crate) fn reading<'i>(
        &mut self,
        item: &Item,
        shared: &Shared<'_>,
        metric: &str,
        tags: impl Iterator<Item = (&'i str, &'i str)>,
        value: f64,
    ) {
        if !value.is_finite() {
            return self.refuse_metric(item, not_finite(metric), Some(shared.device));
        }
        series::write_key(&mut self.key, shared.device, metric, tags);
        match self.series(metric) {
            Ok(series) => {
                self.batch.push(series, shared.time, value);
                if let Some(unit) = shared.unit {
                    self.batch.dictionary.set_unit(series, unit);
                }
            }
            Err(problem) => {
                let problem = of_text(Reason::InvalidMetric, "metric", metric, &problem);
                self.refuse_metric(item, problem, Some(shared.device));
            }
        }
    }

    /// The number of the series whose text is in `key`; its metric is checked unless it is known.
    #[inline]
    fn series(&mut self, metric: &str) -> Result<u32, IdProblem> {
        // Bodies list series in runs or in rounds: the one that followed last time is worth a comparison before a hash.
        let last = self.last_series as usize;
        let guess = self.followers.get(last).copied().unwrap_or_default();
        if self.batch.dictionary.key(guess) == self.key {
            self.last_series = guess;
            return Ok(guess);
        }
        check_id(metric)?;
        let series = self.batch.dictionary.insert(&self.key);
        if self.batch.dictionary.len() > self.followers.len() {
            self.followers.push(series);
        }
        self.followers[last] = series;
        self.last_series = series;
        Ok(series)
    }

    /// Refuses an item as a whole.
    #[cold]
    pub(crate) fn refuse(&mut self, item: &Item, problem: Problem, device: Option<&str>, count: u64) {
        let kept = self.batch.len() as u64 + self.skipped;
        let full = self.refused.len() >= MAX_SEPARATE;
        if let Some(last) = self.refused.last_mut()
            && full
            && last.reason == problem.reason
            && self.kept_at_refusal == kept
        {
            last.count += count;
            last.span.end = item.span.end;
            return;
        }
        self.kept_at_refusal = kept;
        self.refused.push(Refused {
            place: item.place,
            reason: problem.reason,
            detail: shortened(problem.detail),
            device: device.map(|device| printable(cut(device, MAX_ID_BYTES)).into_owned()),
            count,
            span: item.span.clone(),
            base: Base::None,
        });
    }

    /// How many refusals there are.
    pub(crate) const fn n_refused(&self) -> usize {
        self.refused.len()
    }

    /// Says what the items need that were refused after the first `known` ones.
    pub(crate) fn need(&mut self, known: usize, base: impl Fn() -> Base) {
        self.refused[known..].iter_mut().for_each(|refused| refused.base = base());
    }

    /// Refuses one metric of an item.
    #[cold]
    pub(crate) fn refuse_metric(&mut self, item: &Item, problem: Problem, device: Option<&str>) {
        let n_before = self.refused.iter().rev().take_while(|refused| refused.span == item.span).count();
        let start = self.refused.len() - n_before;
        if (n_before + 1) * item.span.len() > MAX_REPEATED_BYTES
            && let Some(same) = self.refused[start..].iter_mut().find(|refused| refused.reason == problem.reason)
        {
            same.count += 1;
            return;
        }
        self.refuse(item, problem, device, 1);
    }
}

/// A value that is a number beyond f64, or spells none.
pub(crate) fn not_finite(metric: &str) -> Problem {
    Problem::new(Reason::NotFinite, format!("the value of {} is not a finite number", quoted(metric)))
}

/// Something else where a number belongs.
pub(crate) fn not_numeric(metric: &str, what: &str) -> Problem {
    Problem::new(Reason::NotNumeric, format!("the value of {} is {what}, not a number", quoted(metric)))
}

/// No device where one is needed.
pub(crate) fn no_device() -> Problem {
    Problem::new(Reason::InvalidDevice, "no device is named")
}

/// A time that cannot be read.
pub(crate) fn no_time(text: &str) -> Problem {
    Problem::new(Reason::InvalidTimestamp, format!("{} is neither RFC 3339 with an offset nor an epoch number", quoted(text)))
}

fn of_text(reason: Reason, what: &str, text: &str, problem: &IdProblem) -> Problem {
    Problem::new(reason, format!("the {what} {}: {problem}", quoted(text)))
}

/// A time for a person; beyond the year 9999 there is no RFC 3339.
fn shown(time: Timestamp) -> impl Display {
    const YEAR_10_000: i64 = 253_402_300_800_000_000;
    if time.micros().unsigned_abs() < YEAR_10_000.unsigned_abs() { time.to_string() } else { format!("{} µs after 1970", time.micros()) }
}

/// A text of the body as a detail shows it: in quotes, escaped, not too much of it.
pub(crate) fn quoted(text: &str) -> String {
    const MOST: usize = 80;
    if text.len() > MOST { format!("{:?}…", cut(text, MOST)) } else { format!("{text:?}") }
}

/// At most `most` bytes of a text.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// A text without control characters.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) { text.replace(char::is_control, "\u{fffd}").into() } else { text.into() }
}

fn shortened(mut detail: String) -> String {
    detail.truncate(detail.floor_char_boundary(MAX_DETAIL_BYTES));
    detail
}

/// Bytes that every id may hold; others (beyond ASCII, control, wildcards) are for core to judge.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        plain[byte] = !matches!(byte as u8, b'+' | b'#' | b'*' | b'?');
        byte += 1;
    }
    plain
};

fn is_plain(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|byte| PLAIN[usize::from(byte)])
}

/// [`series::check_id`], with a short way for the usual id.
#[inline]
pub(crate) fn check_id(text: &str) -> Result<(), IdProblem> {
    if is_plain(text, MAX_ID_BYTES) { Ok(()) } else { series::check_id(text) }
}

/// [`series::check_tag`], with a short way for the usual tag.
#[inline]
pub(crate) fn check_tag(name: &str, value: &str) -> Result<(), IdProblem> {
    if is_plain(name, MAX_ID_BYTES) && is_plain(value, MAX_TAG_VALUE_BYTES) { Ok(()) } else { series::check_tag(name, value) }
}
