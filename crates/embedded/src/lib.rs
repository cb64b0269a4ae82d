//! The log and the store of one machine, over the SQLite that is built in: both seams of [`headwater_core`] in one directory.
//!
//! Owns: the data directory ([`open`]): its lock and format, `log.db` (an [`EventLog`]) and `store.db` (a [`Store`], which is
//! `Ingestion`, `Sealing` and `Queries`). Does not know: records' bytes, HTTP, the roles, where its configuration comes from.
//!
//! Invariants: one process at a time; each file has one writer thread that owns the only writing connection, with
//! `synchronous=FULL`, and `Ok` is said only after COMMIT; a failed write or sync stops that file's writer for good (a restart
//! tells what is on the disk), a full disk only makes it busy; every queue is bounded; both write-ahead logs are bounded.
//!
//! Files: `directory` the directory, `sqlite` connections and transactions, `migrations`, `writer` the thread and its
//! queue, `wal` checkpoints, `space` the reserve on the disk, `log` and `store`, `backup` a copy beside whoever writes.

mod backup;
mod directory;
mod error;
mod log;
mod metrics;
mod migrations;
mod space;
mod sqlite;
mod store;
#[cfg(test)]
mod tests;
mod wal;
mod writer;

pub use backup::{Copied, CopiedLog, Files, copy, look_at_log};
pub use directory::holder_of;
pub use error::OpenError;
pub use metrics::Metrics;
pub use store::{Store, open_for_reading};

use directory::Directory;
use headwater_core::clock::Clock;
use headwater_core::log::EventLog;
use log::Log;
use space::Space;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const LOG_FILE: &str = "log.db";
const STORE_FILE: &str = "store.db";

/// The limits of the log and the store. Every one is finite; the defaults suit one machine with a disk of some 10 GB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How long an append waits for those before it, before the log says busy. Short: the sender is waiting.
    pub append_wait: Duration,
    /// Bytes of records that may wait to be appended. They are in memory.
    pub append_queue_bytes: usize,
    /// Bytes of records that may be in the log and not applied yet, before it says busy: the outage of the store that the
    /// disk can take.
    pub max_unapplied_bytes: u64,
    /// Bytes of the disk that appends leave free (at most a twentieth of the disk), and commits a quarter of it: commits,
    /// sealing and trimming need room to make room, so that a full disk heals. Below it nothing applied is kept.
    pub reserve_bytes: u64,
    /// How long applied records are kept, so that a store that was put back from a copy can catch up.
    pub keep_age: Duration,
    /// Bytes of applied records that are kept at most, however young.
    pub keep_bytes: u64,
    /// Bytes of dead letters that are kept; beyond it the oldest go, and are counted.
    pub dead_letter_bytes: u64,
    /// Dead letters that are kept, likewise.
    pub dead_letter_count: u64,
    /// Bytes of a write-ahead log beyond which new snapshots wait until it was emptied.
    pub wal_limit: u64,
    /// Snapshots that may be open at a time; each has a thread and a connection (8 MiB of cache).
    pub readers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            append_wait: Duration::from_secs(2),
            append_queue_bytes: 64 << 20,
            max_unapplied_bytes: 4 << 30,
            reserve_bytes: 256 << 20,
            keep_age: Duration::from_secs(24 * 3600),
            keep_bytes: 2 << 30,
            dead_letter_bytes: 256 << 20,
            dead_letter_count: 1_000_000,
            wal_limit: 64 << 20,
            readers: 4,
        }
    }
}

/// An open data directory. Dropping it closes it, as [`Embedded::close`] does.
pub struct Embedded {
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// The store.
    pub store: Arc<Store>,
    /// The log again, as what can be closed.
    closing: Arc<Log>,
    /// Last: the lock goes when nothing writes any more.
    _directory: Directory,
}

/// Opens a data directory, and makes it where there is none.
///
/// # Errors
/// When another process has it, when a newer program wrote it, when it is damaged, or when the system says no.
pub fn open(dir: &Path, config: Config, clock: Arc<dyn Clock>) -> Result<Embedded, OpenError> {
    open_with(dir, config, clock, Metrics::default())
}

/// [`open`], with what happens counted.
///
/// # Errors
/// As [`open`].
pub fn open_with(dir: &Path, config: Config, clock: Arc<dyn Clock>, metrics: Metrics) -> Result<Embedded, OpenError> {
    let directory = Directory::open(dir, clock.now())?;
    let space = Space::new(dir, config.reserve_bytes);
    let log = Arc::new(Log::open(&directory, &config, Arc::clone(&clock), space.clone(), metrics)?);
    let store = Arc::new(Store::open(&directory, &config, space, clock.now())?);
    directory.sync()?;
    Ok(Embedded { log: Arc::clone(&log) as Arc<dyn EventLog>, store, closing: log, _directory: directory })
}

impl Embedded {
    /// Ends both writers after what is queued, moves the write-ahead logs into the files and gives up the directory. Whoever
    /// still holds the log or the store is told that they have stopped. Blocks for as long as the queues need.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.closing.close();
        self.store.close();
    }
}
