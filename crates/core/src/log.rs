//! The first seam: a durable, partitioned, replayable log of opaque records.
//!
//! Owns: [`EventLog`], [`Subscription`] and their words. Does not know: what is in a record, who reads it, where it is kept.
//!
//! # Rules for implementers
//!
//! A partition is a sequence of records numbered from 0 without holes; `start..end` are the records that can still be read.
//!
//! ```text
//!   0 ──trimmed──▶ start ──applied, kept a while──▶ applied ──not yet applied──▶ end
//!                                                   (told by trim_to)            (next append)
//! ```
//!
//! * [`EventLog::append`] returns `Ok` only when every record given is durable. Records of one call keep their order within a
//!   partition. A call that failed may still have appended (an unknown outcome): senders send again, keys make it harmless.
//! * A log trimmed to empty keeps its numbering, over restarts too.
//! * Delivery is in order and without holes within a partition; `resume` makes it repeat, never skip.
//! * The identity is made with the log and never changes; a log made anew has another.
//! * Calls carry batches, never single readings. Nothing here blocks a thread of the runtime.

use crate::BoxFuture;
use crate::time::Timestamp;
use bytes::Bytes;
use std::fmt;

/// The identity of a log: a UUID written at its creation (Kafka: cluster id and topic id).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId(pub String);

impl LogId {
    const RETIRED: &str = "retired:";

    /// The identity under which the position of a log is kept that nobody will read any more: its counts stay, and another log may take its place.
    #[must_use]
    pub fn retired(&self) -> Self {
        if self.is_retired() { self.clone() } else { Self(format!("{}{}", Self::RETIRED, self.0)) }
    }

    /// Whether nobody will read this log any more.
    pub fn is_retired(&self) -> bool {
        self.0.starts_with(Self::RETIRED)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A record to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The partition that it goes to.
    pub partition: u32,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// How many readings it counts as.
    pub count: u64,
    /// The device, where everything in it is of one: what other readers of the log find it by.
    pub key: Option<String>,
    /// Its bytes; at most [`MAX_RECORD_BYTES`].
    pub payload: Bytes,
}

/// The most bytes that a record's payload has.
pub const MAX_RECORD_BYTES: usize = 512 * 1024;
/// The most readings that a record carries.
pub const MAX_RECORD_READINGS: usize = 4_096;

/// A record that was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its number in the partition.
    pub position: u64,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// How many readings it counts as; 0 where another program put it there, which counts nothing: its reader does.
    pub count: u64,
    /// Its bytes.
    pub payload: Bytes,
    /// CRC-32 of its bytes as they were appended.
    pub crc: u32,
    /// Whether the bytes read back are others than those appended (bit rot); the payload is then whatever could be read.
    pub damaged: bool,
    /// What another program said about it, where it was not appended by [`EventLog::append`].
    pub foreign: Option<Box<Foreign>>,
}

/// What another program that writes to the log says about a record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Foreign {
    /// The media type of its bytes, as the record's header says; empty where it says nothing.
    pub content_type: String,
    /// The device that its key names, where it has one that is text.
    pub key: Option<String>,
}

/// What can be read of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The partition.
    pub partition: u32,
    /// The first record that can be read.
    pub start: u64,
    /// The number of the next record; equal to `start` when empty.
    pub end: u64,
}

/// How far a partition of a log has been applied to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The log that was read.
    pub log: LogId,
    /// The partition.
    pub partition: u32,
    /// The number of the next record to apply.
    pub next: u64,
    /// CRC-32 of the last applied record's bytes, `None` when none was applied.
    pub crc: Option<u32>,
}

/// Records that the log no longer had when they were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The log.
    pub log: LogId,
    /// The partition.
    pub partition: u32,
    /// The first missing record.
    pub from: u64,
    /// The first record that exists again.
    pub to: u64,
}

/// What a subscription delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// These partitions are the subscriber's now; nothing of them is delivered before [`Subscription::resume`].
    Assigned(Vec<u32>),
    /// These partitions go to somebody else, who waits until [`Subscription::released`].
    Revoked(Vec<u32>),
    /// Records `from..next` of a partition, in order. `records` may be shorter than `next - from` only where a log has
    /// numbers without records (Kafka's transaction marks).
    Records {
        /// The partition.
        partition: u32,
        /// The number of the first.
        from: u64,
        /// The number after the last.
        next: u64,
        /// The records.
        records: Vec<StoredRecord>,
    },
}

/// Why the log did not do what it was asked; the kinds are what a caller acts on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// No room at the moment (limit of unapplied records, disk nearly full): push back and try again.
    #[error("the log is full: {0}")]
    Busy(String),
    /// Cannot be reached at the moment: push back and try again.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// The log or a stored position is not what it must be (another log, an older copy, damage): a person must look.
    #[error("{0}")]
    Corrupt(String),
    /// The log can no longer promise durability (a failed fsync) and has stopped; only a restart helps.
    #[error("the log has stopped: {0}")]
    Stopped(String),
}

impl LogError {
    /// Whether waiting and trying again can help.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Unavailable(_))
    }
}

/// A durable, partitioned, replayable log. See the module for the rules.
pub trait EventLog: Send + Sync {
    /// The identity, made with the log.
    fn identity(&self) -> LogId;

    /// What an append's `Ok` means: `fsync`, or `acks=all`.
    fn durability(&self) -> &'static str;

    /// The partition of a device: the same for the life of the log while the number of partitions stays.
    fn partition_of(&self, device: &str) -> u32;

    /// The bounds of every partition, in order. `end` covers every append that has returned.
    fn bounds(&self) -> BoxFuture<'_, Result<Vec<Bounds>, LogError>>;

    /// The least receive time among the records of a partition from number `next` on; `None` where there are none.
    fn oldest_from(&self, partition: u32, next: u64) -> BoxFuture<'_, Result<Option<Timestamp>, LogError>>;

    /// When a record was received, or a little before; `None` where it is not kept any more.
    fn received_at(&self, partition: u32, position: u64) -> BoxFuture<'_, Result<Option<Timestamp>, LogError>>;

    /// Appends and returns when durable. Waits a little as back-pressure, then says busy. All records of a call or none
    /// are appended where the log can promise that (embedded); elsewhere a part may be.
    fn append(&self, records: Vec<Record>) -> BoxFuture<'_, Result<(), LogError>>;

    /// Whether an append would be taken now, for readiness.
    fn writable(&self) -> BoxFuture<'_, Result<(), LogError>>;

    /// Joins the readers of `group`. Every partition is assigned to one subscription of the group.
    fn subscribe(&self, group: &str) -> BoxFuture<'_, Result<Box<dyn Subscription>, LogError>>;

    /// Says that everything before `next` is durably applied, by partition. The log deletes by its own rules, never beyond.
    fn trim_to(&self, applied: &[(u32, u64)]) -> BoxFuture<'_, Result<(), LogError>>;
}

/// One reader's end. Used by one task.
pub trait Subscription: Send {
    /// What comes next; waits where there is nothing. Cancel-safe: a dropped call has taken nothing.
    fn next(&mut self) -> BoxFuture<'_, Result<Delivery, LogError>>;

    /// Answers `Assigned`, and may be called at any time: forgets what was delivered of these partitions and delivers from
    /// the stored positions. A partition without a stored position (`None`) begins at the log's start, and that is no gap.
    ///
    /// Returns the gaps: positions before the log's start, with the exact range.
    ///
    /// # Errors
    /// [`LogError::Corrupt`], naming both sides, when a stored position is of another log, lies beyond the end, or the last
    /// applied record (where it is still kept) has another CRC. Nothing is skipped then.
    fn resume(&mut self, positions: Vec<(u32, Option<Position>)>) -> BoxFuture<'_, Result<Vec<Gap>, LogError>>;

    /// Answers `Revoked`: the running commit has ended, the partitions are free.
    fn released(&mut self, partitions: &[u32]) -> BoxFuture<'_, Result<(), LogError>>;
}
