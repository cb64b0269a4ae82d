//! The log: many records to a row, all appends that wait committed together.
//!
//! Owns: [`Log`], the seam's [`EventLog`] over `log.db`. Does not know: the store, what is in a record.
//! Files: [`frames`] the bytes of a row, [`append`] the writer thread's work, [`trim`] what is deleted and when, [`read`]
//! reading rows, [`subscription`] delivering them.
//! Invariants: an append is `Ok` only after a COMMIT with `synchronous=FULL`; after an I/O error the log has stopped for good
//! (a failed fsync is never tried again: the kernel may have dropped what it could not write); `end` covers every append that
//! has returned; positions have no holes.

mod append;
mod frames;
mod read;
mod subscription;
#[cfg(test)]
mod tests;
mod trim;

use crate::Config;
use crate::directory::Directory;
use crate::error::OpenError;
use crate::metrics::Metrics;
use crate::space::Space;
use crate::writer::Writer;
use append::{Appender, Job};
use headwater_core::BoxFuture;
use headwater_core::clock::Clock;
use headwater_core::log::{Bounds, EventLog, LogError, LogId, MAX_RECORD_BYTES, Record, Subscription};
use headwater_core::time::Timestamp;
use read::Reader;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time;

/// The only partition.
const PARTITION: u32 = 0;
/// A permit of the queue stands for this many bytes.
const PERMIT_BYTES: usize = 1024;

/// What the writer and everybody else know of the log.
pub(crate) struct Shared {
    id: LogId,
    /// The number of the next record; rises when an append is durable.
    end: watch::Sender<u64>,
    start: AtomicU64,
    unapplied_bytes: AtomicU64,
    /// Why the log has stopped.
    stopped: OnceLock<String>,
    space: Space,
    max_unapplied: u64,
    /// One for the subscriptions, one for everybody else, so that neither waits for the other's reads.
    delivering: Reader,
    looking: Reader,
}

impl Shared {
    fn end(&self) -> u64 {
        *self.end.borrow()
    }

    fn running(&self) -> Result<(), LogError> {
        match self.stopped.get() {
            Some(reason) => Err(LogError::Stopped(reason.clone())),
            None => Ok(()),
        }
    }

    /// Whether the log is full: `pending` bytes are about to be appended before what is asked for.
    fn check_size(&self, pending: u64) -> Result<(), LogError> {
        let unapplied = self.unapplied_bytes.load(Ordering::Acquire);
        if unapplied.saturating_add(pending) >= self.max_unapplied {
            return Err(LogError::Busy(format!("{unapplied} bytes are not applied yet, of at most {}", self.max_unapplied)));
        }
        Ok(())
    }

    fn check_space(&self) -> Result<(), LogError> {
        self.space.shortage().map_or(Ok(()), |shortage| Err(LogError::Busy(shortage)))
    }
}

/// The log of a data directory. See the module.
pub(crate) struct Log {
    shared: Arc<Shared>,
    writer: Writer<Job>,
    /// Room in the queue of appends.
    queue: Arc<Semaphore>,
    queue_permits: u32,
    append_wait: Duration,
    metrics: Metrics,
    /// Who has the partition, by group.
    groups: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Log {
    /// Opens `log.db`, or makes it with a new identity.
    pub(crate) fn open(
        directory: &Directory,
        config: &Config,
        clock: Arc<dyn Clock>,
        space: Space,
        metrics: Metrics,
    ) -> Result<Self, OpenError> {
        let path = directory.file(crate::LOG_FILE);
        let (appender, shared) = Appender::open(&path, config, clock, space, metrics.clone())?;
        let queue_permits =
            u32::try_from(config.append_queue_bytes / PERMIT_BYTES).unwrap_or(u32::MAX).clamp(1, Semaphore::MAX_PERMITS as u32);
        let capacity = queue_permits as usize + 16;
        let writer = Writer::start("log-writer", capacity, appender).map_err(OpenError::doing("cannot start the log's writer thread"))?;
        Ok(Self {
            shared,
            writer,
            queue: Arc::new(Semaphore::new(queue_permits as usize)),
            queue_permits,
            append_wait: config.append_wait,
            metrics,
            groups: Mutex::default(),
        })
    }

    /// Ends the writer thread after what is queued, and lets go of the file.
    pub(crate) fn close(&self) {
        // Readers first: whoever closes the file last empties the write-ahead log, and that is the writer's work.
        self.shared.delivering.close();
        self.shared.looking.close();
        self.writer.close();
        self.shared.stopped.get_or_init(|| "it was closed".to_owned());
        self.shared.end.send_modify(|_| {});
    }

    async fn append_all(&self, records: Vec<Record>) -> Result<(), LogError> {
        self.shared.running()?;
        let bytes = check_records(&records)?;
        if records.is_empty() {
            return Ok(());
        }
        self.shared.check_size(0)?;
        // A call larger than the whole queue takes all of it.
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX).min(self.queue_permits);
        let room = match time::timeout(self.append_wait, Arc::clone(&self.queue).acquire_many_owned(permits)).await {
            Ok(Ok(room)) => room,
            Ok(Err(_)) => return Err(closed()),
            Err(_) => return Err(LogError::Busy(format!("appends have waited {:?} for those before them", self.append_wait))),
        };
        let (reply, answer) = oneshot::channel();
        self.ask(Job::Append(append::Append { records, bytes: bytes as u64, reply, _room: room }), answer).await
    }

    async fn ask(&self, job: Job, answer: oneshot::Receiver<Result<(), LogError>>) -> Result<(), LogError> {
        self.writer.send(job).await.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(LogError::Stopped("its writer has ended".to_owned())))
    }

    fn place_in(&self, group: &str) -> Arc<Semaphore> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        // Groups that nobody is in are forgotten, so that names cannot pile up.
        groups.retain(|name, place| name == group || Arc::strong_count(place) > 1);
        Arc::clone(groups.entry(group.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))))
    }
}

fn closed() -> LogError {
    LogError::Stopped("it was closed".to_owned())
}

fn no_partition(partition: u32) -> LogError {
    LogError::Corrupt(format!("the log has no partition {partition}, only {PARTITION}"))
}

/// The bytes that records take in the log.
fn check_records(records: &[Record]) -> Result<usize, LogError> {
    let mut bytes = 0;
    for record in records {
        if record.partition != PARTITION {
            return Err(no_partition(record.partition));
        }
        if record.payload.len() > MAX_RECORD_BYTES {
            return Err(LogError::Corrupt(format!("a record of {} bytes is longer than {MAX_RECORD_BYTES}", record.payload.len())));
        }
        bytes += record.payload.len() + frames::HEADER;
    }
    Ok(bytes)
}

impl EventLog for Log {
    fn identity(&self) -> LogId {
        self.shared.id.clone()
    }

    fn durability(&self) -> &'static str {
        "fsync"
    }

    fn partition_of(&self, _device: &str) -> u32 {
        PARTITION
    }

    fn bounds(&self) -> BoxFuture<'_, Result<Vec<Bounds>, LogError>> {
        Box::pin(async {
            // The start first: both only rise, so it is never beyond the end that is read after it.
            let start = self.shared.start.load(Ordering::Acquire);
            Ok(vec![Bounds { partition: PARTITION, start, end: self.shared.end() }])
        })
    }

    /// By rows: the least of the row that holds `next` counts whole, so the answer is never later than the truth.
    fn oldest_from(&self, partition: u32, next: u64) -> BoxFuture<'_, Result<Option<Timestamp>, LogError>> {
        Box::pin(async move {
            if partition != PARTITION {
                return Err(no_partition(partition));
            }
            if next >= self.shared.end() {
                return Ok(None);
            }
            let shared = Arc::clone(&self.shared);
            read::blocking(move || shared.looking.oldest_from(next)).await
        })
    }

    fn received_at(&self, partition: u32, position: u64) -> BoxFuture<'_, Result<Option<Timestamp>, LogError>> {
        Box::pin(async move {
            if partition != PARTITION {
                return Err(no_partition(partition));
            }
            let shared = Arc::clone(&self.shared);
            read::blocking(move || shared.looking.received_at(position)).await
        })
    }

    fn append(&self, records: Vec<Record>) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move {
            let began = time::Instant::now();
            let done = self.append_all(records).await;
            self.metrics.appends.ended(began.elapsed(), done.is_ok());
            done
        })
    }

    fn writable(&self) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async {
            self.shared.running()?;
            self.shared.check_size(0)?;
            let shared = Arc::clone(&self.shared);
            read::blocking(move || shared.check_space()).await
        })
    }

    fn subscribe(&self, group: &str) -> BoxFuture<'_, Result<Box<dyn Subscription>, LogError>> {
        let place = self.place_in(group);
        Box::pin(async move {
            self.shared.running()?;
            Ok(Box::new(subscription::Tail::new(Arc::clone(&self.shared), place)) as Box<dyn Subscription>)
        })
    }

    fn trim_to(&self, applied: &[(u32, u64)]) -> BoxFuture<'_, Result<(), LogError>> {
        let applied = applied.to_vec();
        Box::pin(async move {
            for (partition, next) in applied {
                if partition != PARTITION {
                    return Err(no_partition(partition));
                }
                let (reply, answer) = oneshot::channel();
                self.ask(Job::Trim { next, reply }, answer).await?;
            }
            Ok(())
        })
    }
}
