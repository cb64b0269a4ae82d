//! Bytes <-> readings: what devices send (JSON, NDJSON, CSV, line protocol, SenML) and what the log holds (the record).
//!
//! Owns: the formats, [`Decoded`] (what became of a body), [`Refused`] (why an item was not taken, and where its bytes lie).
//! Does not know: HTTP, media types, compression, the log, the store. No I/O; the time is a parameter.
//!
//! Invariants:
//! * No input panics, recurses with its depth, or takes memory that its length does not justify.
//! * `received = batch.len() + skipped + Σ refused.count`: every reading of a body is in exactly one of them.
//! * A refusal is of an item (a line, an object), never of its neighbours; its `span` is the item's bytes within the body.
//! * A value is the f64 nearest to the decimal that was sent; a time is its decimal floored to the microsecond, exactly.
//!
//! # What is decided here, where the formats leave it open
//!
//! * A refused item counts as many readings as it has metrics, at least 1; one that cannot be read counts 1. In an item with
//!   several metrics, a bad value or metric name refuses that metric alone.
//! * Members of a JSON item and columns of a long CSV that have no meaning here (such as `location`) are ignored.
//! * A metric that stands twice in one JSON item, or a field twice in one line, is two readings of one key: the store keeps the
//!   first and tells whether the other is a duplicate or a conflict. A member such as `ts` twice is `malformed`, a tag twice
//!   `invalid_tags` (line protocol: `malformed`), a CSV column twice makes the header unusable.
//! * `unit` beside several metrics is the unit of each of them. A `unit` that breaks the rules is told as `invalid_metric`.
//! * A leap second (`23:59:60` UTC) is the second after it, as in POSIX, so that times keep their order.

pub mod csv;
pub mod json;
pub mod letters;
pub mod line;
pub mod ndjson;
mod number;
pub mod record;
pub mod senml;
mod sink;
pub mod time;

use headwater_core::columns::ReadingBatch;
use headwater_core::dead_letter::Reason;
use headwater_core::glob::DevicePatterns;
use headwater_core::time::Timestamp;
use std::ops::Range;

/// What a decoder has to know beside the bytes.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// When the body was received: the time of readings without one.
    pub received_at: Timestamp,
    /// The measure of times that lie ahead: the receipt, or now where what was refused then is taken in later.
    pub now: Timestamp,
    /// The devices that the sender may write as.
    pub devices: &'a DevicePatterns,
    /// The device that the sender is, where its credential is a device's.
    pub own_device: Option<&'a str>,
    /// Line protocol: the tags that may name the device, the first present one does.
    pub device_tags: &'a [String],
    /// Line protocol: the device of lines without such a tag, where the sender is no device (the bucket or database).
    pub fallback_device: Option<&'a str>,
    /// Line protocol: what its times count.
    pub precision: Precision,
    /// The most metrics in one item.
    pub max_metrics: usize,
}

/// What the times of line protocol count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Told by magnitude, as [`time::from_integer`] does.
    Auto,
    /// Nanoseconds.
    #[default]
    Nanoseconds,
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Minutes.
    Minutes,
    /// Hours.
    Hours,
}

impl Precision {
    /// The precision of a name that InfluxDB's versions and clients use.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "auto" => Self::Auto,
            "n" | "ns" | "nanosecond" => Self::Nanoseconds,
            "u" | "us" | "µ" | "µs" | "microsecond" => Self::Microseconds,
            "ms" | "millisecond" => Self::Milliseconds,
            "s" | "second" => Self::Seconds,
            "m" | "minute" => Self::Minutes,
            "h" | "hour" => Self::Hours,
            _ => return None,
        })
    }

    /// The shortest of its names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Nanoseconds => "ns",
            Self::Microseconds => "us",
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
            Self::Minutes => "m",
            Self::Hours => "h",
        }
    }

    /// The time that `n` is in this precision, floored to the microsecond and held at the ends of what can be represented.
    pub const fn time(self, n: i64) -> Timestamp {
        match self {
            Self::Auto => time::from_integer(n),
            Self::Nanoseconds => Timestamp(n.div_euclid(1_000)),
            Self::Microseconds => Timestamp(n),
            Self::Milliseconds => Timestamp(n.saturating_mul(1_000)),
            Self::Seconds => Timestamp(n.saturating_mul(1_000_000)),
            Self::Minutes => Timestamp(n.saturating_mul(60_000_000)),
            Self::Hours => Timestamp(n.saturating_mul(3_600_000_000)),
        }
    }
}

/// What became of a body.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The readings to keep, in the order of the body.
    pub batch: ReadingBatch,
    /// How many readings were none: null, an empty cell, a text of line protocol or SenML.
    pub skipped: u64,
    /// What was refused, in the order of the body.
    pub refused: Vec<Refused>,
}

impl Decoded {
    /// How many readings the body had: kept, skipped and refused.
    pub fn received(&self) -> u64 {
        self.batch.len() as u64 + self.skipped + self.rejected()
    }

    /// How many readings were refused.
    pub fn rejected(&self) -> u64 {
        self.refused.iter().map(|refused| refused.count).sum()
    }
}

/// Which item of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The item's number, from 0.
    Index(u64),
    /// The line on which it begins, from 1.
    Line(u64),
}

/// An item, or some of its metrics, that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which item.
    pub place: Place,
    /// Why.
    pub reason: Reason,
    /// What exactly was wrong, for a person; at most [`MAX_DETAIL_BYTES`], without control characters.
    pub detail: String,
    /// The device, where one could be read, as text to show: at most 128 bytes, control characters replaced.
    pub device: Option<String>,
    /// How many readings it counts as, at least 1.
    pub count: u64,
    /// Where the item's bytes lie in the body.
    pub span: Range<usize>,
    /// What the item needs of those before it.
    pub base: Base,
}

/// What an item of SenML means only together with: base fields of records before it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Base {
    /// None; so is every item of another format.
    #[default]
    None,
    /// These, as a record of their own.
    Fields(String),
    /// Some that could not be read, or that are too long to be repeated.
    Lost,
}

/// The longest detail of a refusal, in bytes.
pub const MAX_DETAIL_BYTES: usize = 500;

/// Why nothing of a body can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Unreadable {
    /// What exactly was wrong, for a person, with the place.
    pub detail: String,
    /// The JSON pointer of the item at which reading ended, where there is one.
    pub pointer: Option<String>,
}

impl Unreadable {
    fn new(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), pointer: None }
    }
}

#[cfg(test)]
mod tests;
