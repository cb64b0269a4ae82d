//! Input that was refused: why, from where, and its original bytes.
//!
//! Owns: the closed list of [`Reason`]s and [`DeadLetter`]. Does not know: how refused input is carried (the log record is
//! `wire`'s) or kept (the store's).
//! Invariant: nothing is lost of what was refused: bytes longer than one part travel in several and are put together again.

use crate::log::LogId;
use crate::time::Timestamp;
use uuid::Uuid;

/// The most original bytes that one part carries, so that a part fits a log record.
pub const PART_BYTES: usize = 384 * 1024;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal,)*) => {
        /// Why input was refused: a closed list, stable codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable code.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)*
                }
            }
        }
    };
}

reasons! {
    /// Not what the format says an item, line or body is.
    Malformed = "malformed",
    /// No device, or a text that is no id.
    InvalidDevice = "invalid_device",
    /// A metric that is no id.
    InvalidMetric = "invalid_metric",
    /// Tags that are no object of texts, or break a rule.
    InvalidTags = "invalid_tags",
    /// A time that cannot be read.
    InvalidTimestamp = "invalid_timestamp",
    /// More than ten minutes after the receipt.
    TimestampTooFarAhead = "timestamp_too_far_ahead",
    /// Before 1990.
    TimestampTooOld = "timestamp_too_old",
    /// NaN, an infinity, or a number beyond f64.
    NotFinite = "not_finite",
    /// Something else where a number belongs.
    NotNumeric = "not_numeric",
    /// More metrics in one item than the limit.
    TooManyMetrics = "too_many_metrics",
    /// A device that the credential may not write as.
    ForbiddenDevice = "forbidden_device",
    /// Found later: more series than the limit of the device or of all.
    SeriesLimit = "series_limit",
    /// Found later: another value for a key that is stored.
    Conflict = "conflict",
    /// Found later: a record of the log that cannot be decoded.
    Undecodable = "undecodable",
}

impl Reason {
    /// The reason of a stable code.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == code)
    }
}

/// Where in the log a dead letter travelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The log.
    pub log: LogId,
    /// Its partition.
    pub partition: u32,
    /// The record.
    pub position: u64,
}

/// One refused item, line or body, or one part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id, told to the sender.
    pub id: Uuid,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// Why it was refused.
    pub reason: Reason,
    /// What exactly was wrong, for a person.
    pub detail: String,
    /// The device, where one could be read.
    pub device: Option<String>,
    /// The format of the bytes, such as `json`, `csv+header` (a line behind its header) or `line`; with the coding of a body that could not be decompressed,
    /// such as `json+gzip`.
    pub format: String,
    /// How many readings it counts as (`dead`).
    pub count: u64,
    /// The original bytes, or those of this part.
    pub bytes: Vec<u8>,
    /// Which part this is, from 0. Everything but `bytes` is the same in all parts.
    pub part: u32,
    /// How many parts there are, at least 1.
    pub parts: u32,
    /// Where in the log it travelled; none where sealing found it (a conflict).
    pub origin: Option<Origin>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
        }
        assert_eq!(Reason::parse("other"), None);
    }
}
