//! Input that was refused: why, from where, and its original bytes.
//!
//! Owns: the closed list of [`Reason`]s, [`DeadLetter`], and what became of one since ([`History`]: how often it came, how often it
//! was retried, its [`LetterState`]). Does not know: how refused input is carried (the log record is `wire`'s), kept (the store's)
//! or taken in again (the gateway's).
//! Invariant: nothing is lost of what was refused: bytes longer than one part travel in several and are put together again.

use crate::log::LogId;
use crate::time::Timestamp;
use uuid::Uuid;

/// The most original bytes that one part carries, so that a part fits a log record.
pub const PART_BYTES: usize = 384 * 1024;

macro_rules! codes {
    ($(#[$of:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$of])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// Every one of the list.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable code.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            /// The one of a stable code.
            pub fn parse(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == code)
            }
        }
    };
}

codes! {
    /// Why input was refused: a closed list, stable codes.
    Reason {
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
}

codes! {
    /// What is left to do about a letter.
    LetterState {
        /// Nothing of it was taken in again, or not all.
        Open = "open",
        /// A retry has taken all of it in.
        Retried = "retried",
        /// Somebody has decided against it: its account is kept, its bytes are not.
        Discarded = "discarded",
    }
}

codes! {
    /// What came of a retry.
    RetryOutcome {
        /// Everything was taken in.
        Accepted = "accepted",
        /// Some readings were taken in, others refused again.
        Partly = "partly",
        /// Nothing was taken in.
        Rejected = "rejected",
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
    /// such as `json+gzip`; of line protocol also what its times count where that is not nanoseconds, such as `line;precision=s`. See [`Form`].
    pub format: String,
    /// How many readings it counts as (`dead`, or `conflict`). Where it is read from a store: over all times that it came.
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

/// What a letter's `format` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form<'a> {
    /// The format, such as `json` or `csv+header`.
    pub name: &'a str,
    /// The coding that is still on the bytes, such as `gzip`.
    pub coding: Option<&'a str>,
    /// What the times of line protocol count, where it is not nanoseconds.
    pub precision: Option<&'a str>,
}

impl<'a> Form<'a> {
    const CODINGS: [&'static str; 2] = ["gzip", "zstd"];

    /// Takes a format apart.
    pub fn of(format: &'a str) -> Self {
        let (format, parameter) = format.split_once(';').unwrap_or((format, ""));
        let precision = parameter.strip_prefix("precision=");
        match format.rsplit_once('+').filter(|(_, coding)| Self::CODINGS.contains(coding)) {
            Some((name, coding)) => Self { name, coding: Some(coding), precision },
            None => Self { name: format, coding: None, precision },
        }
    }

    /// The format without its parameter, as people are told.
    pub fn shown(format: &str) -> &str {
        format.split(';').next().unwrap_or_default()
    }
}

/// What came of taking a letter's bytes, or edited ones, in again; what was accepted is durable in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readmitted {
    /// The receive time of the record that carried it.
    pub at: Timestamp,
    /// Readings that were taken in.
    pub accepted: u64,
    /// What was no reading, such as null.
    pub skipped: u64,
    /// Readings that were refused again.
    pub rejected: u64,
    /// The first of those.
    pub refused: Vec<RefusedAgain>,
}

/// An item that was refused again. It becomes no new letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedAgain {
    /// Why.
    pub reason: Reason,
    /// What exactly was wrong, for a person.
    pub detail: String,
    /// Which item: `index` from 0 or `line` from 1; none where it is the whole.
    pub place: Option<(&'static str, u64)>,
}

impl Readmitted {
    /// The longest [`Readmitted::detail`], in bytes.
    const MAX_DETAIL_BYTES: usize = 500;

    /// Nothing was taken in, all for one reason.
    pub fn nothing(at: Timestamp, reason: Reason, detail: impl Into<String>) -> Self {
        let refused = vec![RefusedAgain { reason, detail: detail.into(), place: None }];
        Self { at, accepted: 0, skipped: 0, rejected: 1, refused }
    }

    /// What came of it in a word. Where there is no reading, nothing was taken in.
    pub const fn outcome(&self) -> RetryOutcome {
        match (self.accepted, self.rejected) {
            (0, _) => RetryOutcome::Rejected,
            (_, 0) => RetryOutcome::Accepted,
            _ => RetryOutcome::Partly,
        }
    }

    /// What was wrong, in one text; empty where everything was taken in.
    pub fn detail(&self) -> String {
        if self.accepted == 0 && self.rejected == 0 {
            return "there is no reading in it".to_owned();
        }
        let mut text = String::new();
        for refused in &self.refused {
            let between = if text.is_empty() { "" } else { "; " };
            if text.len() + between.len() + refused.detail.len() > Self::MAX_DETAIL_BYTES {
                break;
            }
            text.push_str(between);
            text.push_str(&refused.detail);
        }
        text
    }

    /// It, as the letter's history remembers it.
    pub fn attempt(&self) -> Attempt {
        Attempt { at: self.at, outcome: self.outcome(), detail: self.detail() }
    }
}

/// One try to take a letter in again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When: the receive time of the record that carried what was taken in.
    pub at: Timestamp,
    /// What came of it.
    pub outcome: RetryOutcome,
    /// What was still wrong, for a person; empty where nothing was.
    pub detail: String,
}

/// What became of a letter since it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// When the gateway received it the last time.
    pub last_seen: Timestamp,
    /// How often it came, at least once.
    pub seen: u64,
    /// What is left to do.
    pub state: LetterState,
    /// How often it was tried to take it in again.
    pub attempts: u64,
    /// The last of them.
    pub last_attempt: Option<Attempt>,
}

impl History {
    /// Of a letter that came at `at` and was left alone since.
    pub const fn new(at: Timestamp) -> Self {
        Self { last_seen: at, seen: 1, state: LetterState::Open, attempts: 0, last_attempt: None }
    }

    /// It came again, received at `at`: what was retried is refused again, what was discarded stays so.
    pub fn seen_again(&mut self, at: Timestamp) {
        self.last_seen = at;
        self.seen += 1;
        if self.state == LetterState::Retried {
            self.state = LetterState::Open;
        }
    }

    /// It was retried. Where it has come again by that very retry (its record was applied before this was written), it stays open.
    pub fn attempted(&mut self, attempt: Attempt) {
        let is_settled = attempt.outcome == RetryOutcome::Accepted && attempt.at != self.last_seen;
        if is_settled && self.state == LetterState::Open {
            self.state = LetterState::Retried;
        }
        self.attempts += 1;
        self.last_attempt = Some(attempt);
    }
}

/// A letter as a store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLetter {
    /// What was refused; without bytes where it was discarded.
    pub letter: DeadLetter,
    /// What became of it since.
    pub history: History,
}

impl std::ops::Deref for KeptLetter {
    type Target = DeadLetter;

    fn deref(&self) -> &DeadLetter {
        &self.letter
    }
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
        assert_eq!(LetterState::parse("retried"), Some(LetterState::Retried));
        assert_eq!(RetryOutcome::parse("Partly"), None);
    }

    #[test]
    fn a_format_is_taken_apart() {
        let form = |name, coding, precision| Form { name, coding, precision };
        let cases = [
            ("json", form("json", None, None)),
            ("csv+header", form("csv+header", None, None)),
            ("csv+gzip", form("csv", Some("gzip"), None)),
            ("line;precision=s", form("line", None, Some("s"))),
            ("line+zstd;precision=ms", form("line", Some("zstd"), Some("ms"))),
            ("", form("", None, None)),
        ];
        for (format, expected) in cases {
            assert_eq!(Form::of(format), expected, "{format}");
        }
        assert_eq!((Form::shown("line+zstd;precision=ms"), Form::shown("json")), ("line+zstd", "json"));
    }

    #[test]
    fn a_letter_is_settled_by_an_accepted_retry_and_opened_by_coming_again() {
        let attempt = |at, outcome| Attempt { at: Timestamp(at), outcome, detail: String::new() };
        let mut history = History::new(Timestamp(1));
        history.attempted(attempt(2, RetryOutcome::Partly));
        assert_eq!((history.state, history.attempts), (LetterState::Open, 1));
        history.attempted(attempt(3, RetryOutcome::Accepted));
        assert_eq!((history.state, history.attempts), (LetterState::Retried, 2));
        history.seen_again(Timestamp(4));
        assert_eq!((history.state, history.seen, history.last_seen), (LetterState::Open, 2, Timestamp(4)));
        // What it carried was refused before it could be written down.
        history.attempted(attempt(4, RetryOutcome::Accepted));
        assert_eq!((history.state, history.attempts), (LetterState::Open, 3));
        history.state = LetterState::Discarded;
        history.seen_again(Timestamp(5));
        history.attempted(attempt(6, RetryOutcome::Accepted));
        assert_eq!((history.state, history.seen, history.attempts), (LetterState::Discarded, 3, 4));
    }
}
