//! [`EventLog`](headwater_core::log::EventLog) on Apache Kafka, by librdkafka.
//!
//! Owns: one topic as a log: its making and checking, its identity, appending, reading as a member of a group. Does not know:
//! what is in a record, any store, any role, HTTP.
//!
//! # What Kafka makes of the seam
//!
//! * **Durable** is what `acks=all` means on that cluster, with an idempotent producer. A call's records are no transaction: when
//!   it fails, a part may have been appended.
//! * **Identity** is cluster id and topic id (`native`): a topic that was deleted and made again is another log. It is compared
//!   at every `resume`, before records are delivered, every 5 s (`watch`), and whenever Kafka says that an offset is out of range.
//!   What is appended between the making and the next look lies in the new topic; after it every call is refused.
//! * **Positions** are those that `resume` is given. Kafka's own group offsets are written by `trim_to` for lag gauges, and never
//!   read. `trim_to` deletes nothing: Kafka deletes by its retention, applied or not, and what was not read is a gap.
//! * **Partitions** are chosen as Java clients do (`murmur2`). Where partitions are added, a device may move to another one, and
//!   has one order only within each: its readings are all kept, but which of two values for the same key came first is then the
//!   order in which they are applied.
//! * **Numbers** may have holes (marks of other programs' transactions): `Records{from, next}` covers them. A mark behind the last
//!   record is not delivered by itself, so a position may stay short of the end by it until the next record.
//! * **Other programs** may write to the topic; see `record`.
//!
//! # Building
//!
//! Without features nothing is needed but a C compiler and make: zlib, zstd and lz4 are built in. The feature `tls` builds OpenSSL
//! from source too (perl and minutes); without it, settings that need TLS are refused in words ([`Config`]).
//!
//! Invariants: every call ends at a deadline; every queue has a limit; nothing that blocks runs on a thread of the runtime;
//! nothing that is read can make this crate panic.

mod clients;
mod config;
mod context;
mod error;
mod examine;
mod log;
mod murmur2;
#[expect(unsafe_code, reason = "rdkafka has no safe call for a topic's id, and its headers panic on names that are not UTF-8")]
mod native;
mod position;
mod producer;
mod read_back;
mod record;
mod settings;
mod subscription;
mod topic;
mod url;
mod watch;

pub use config::Config;
pub use examine::{Examined, Topic, examine};
pub use log::{KafkaLog, open, open_with};
