//! What the log's writer thread does: everything that waits goes into one transaction.
//!
//! Owns: [`Appender`], the only writer of `log.db`, and [`State`], what it knows of the rows without reading them. Does not
//! know: who reads.
//! Invariants: `State` is what the database holds (it is replaced only after a commit); appends are answered only after the
//! commit and after `end` was moved.

use super::Shared;
use super::frames::Row;
use super::read::Reader;
use super::trim::{self, Rules};
use crate::error::{Failure, Fault, OpenError};
use crate::metrics::Metrics;
use crate::space::Space;
use crate::sqlite::{self, Use, int, uint};
use crate::wal::Wal;
use crate::writer::{Queue, Work};
use crate::{Config, migrations};
use headwater_core::clock::Clock;
use headwater_core::failpoint;
use headwater_core::log::{LogError, LogId, Record};
use headwater_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use std::mem;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use uuid::Uuid;

pub(super) const CREATE: &str = include_str!("../sql/log/create.sql");
pub(super) const LOAD: &str = include_str!("../sql/log/load.sql");
pub(super) const SAVE: &str = include_str!("../sql/log/save.sql");
pub(super) const APPEND: &str = include_str!("../sql/log/append.sql");
pub(super) const PLACE: &str = include_str!("../sql/log/place.sql");
pub(super) const EDGES: &str = include_str!("../sql/log/edges.sql");

/// A transaction takes no further append beyond this, nor beyond so small a part of the disk.
const COMMIT_BYTES: u64 = 16 << 20;
const DISK_PARTS: u64 = 64;
/// The write-ahead log is moved into the file every so many bytes, or such a part of the disk: until then they are there twice.
const CHECKPOINT_BYTES: u64 = 16 << 20;

/// The answer to a job.
pub(super) type Reply = oneshot::Sender<Result<(), LogError>>;

/// One call of `append`.
pub(super) struct Append {
    pub(super) records: Vec<Record>,
    pub(super) bytes: u64,
    pub(super) reply: Reply,
    /// Its room in the queue, until it is done.
    pub(super) _room: OwnedSemaphorePermit,
}

/// What the thread is asked.
pub(super) enum Job {
    Append(Append),
    /// Everything before `next` is durably applied.
    Trim {
        next: u64,
        reply: Reply,
    },
}

/// What is known of the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) next: u64,
    pub(super) start: u64,
    pub(super) applied: u64,
    /// Bytes of all rows ever appended, of those before the first kept one, and of those before the first that is not applied
    /// as a whole.
    pub(super) bytes: u64,
    pub(super) bytes_before_start: u64,
    pub(super) bytes_before_applied: u64,
}

impl State {
    const fn unapplied_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.bytes_before_applied)
    }

    /// Bytes of rows that are applied as a whole and still kept.
    pub(super) const fn kept_bytes(&self) -> u64 {
        self.bytes_before_applied.saturating_sub(self.bytes_before_start)
    }

    fn apply(&mut self, conn: &Connection, next: u64) -> rusqlite::Result<()> {
        self.applied = self.applied.max(next);
        self.bytes_before_applied = bytes_before(conn, self.applied)?.unwrap_or(self.bytes);
        Ok(())
    }
}

/// The bytes of all rows that end at `position` or before; `None` where no row begins before it.
fn bytes_before(conn: &Connection, position: u64) -> rusqlite::Result<Option<u64>> {
    let place = |row: &rusqlite::Row<'_>| {
        let (first, records, before, bytes) = (uint(row.get(0)?), uint(row.get(1)?), uint(row.get(2)?), uint(row.get(3)?));
        Ok(if position < first + records { before } else { before + bytes })
    };
    conn.prepare_cached(PLACE)?.query_row([int(position)], place).optional()
}

/// The writer.
pub(super) struct Appender {
    pub(super) conn: Connection,
    pub(super) shared: Arc<Shared>,
    state: State,
    rules: Rules,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    wal: Wal,
    commit_bytes: u64,
    /// Whether the disk is short of room: then nothing is kept that is applied.
    pressed: bool,
    /// The furthest that `trim_to` has said since the log was opened. What was applied before may be gone: the store may have
    /// been put back from a copy meanwhile, and then it needs those records again.
    told: u64,
    /// Whether the last step of trimming left something for the next one.
    more_to_trim: bool,
}

impl Appender {
    pub(super) fn open(
        path: &Path,
        config: &Config,
        clock: Arc<dyn Clock>,
        space: Space,
        metrics: Metrics,
    ) -> Result<(Self, Arc<Shared>), OpenError> {
        let mut conn = sqlite::open(path, Use::WriteAndShrink)?;
        migrations::run(&mut conn, crate::LOG_FILE, migrations::LOG, clock.now())?;
        let doing = || format!("cannot read {}", path.display());
        let (id, state) = load(&conn).map_err(OpenError::doing(doing()))?;
        check(&conn, &state).map_err(OpenError::doing(doing()))?.map_or(Ok(()), |wrong| Err(OpenError::Damaged(wrong)))?;
        let commit_bytes = space.at_most(COMMIT_BYTES, DISK_PARTS);
        let (every, most) = (space.at_most(CHECKPOINT_BYTES, DISK_PARTS), space.at_most(config.wal_limit, DISK_PARTS / 4));
        let wal = Wal::watch(&mut conn, every, most).map_err(OpenError::doing(doing()))?;
        let shared = Arc::new(Shared {
            id,
            end: watch::Sender::new(state.next),
            start: AtomicU64::new(state.start),
            unapplied_bytes: AtomicU64::new(state.unapplied_bytes()),
            stopped: OnceLock::new(),
            space,
            max_unapplied: config.max_unapplied_bytes,
            delivering: Reader::open(path)?,
            looking: Reader::open(path)?,
        });
        let rules = Rules::new(config);
        Ok((
            Self {
                conn,
                shared: Arc::clone(&shared),
                state,
                rules,
                clock,
                metrics,
                wal,
                commit_bytes,
                pressed: false,
                told: 0,
                more_to_trim: false,
            },
            shared,
        ))
    }

    /// One transaction for everything in `batch`.
    pub(super) fn write(&mut self, batch: &Batch) -> Result<(), LogError> {
        let now = self.clock.now();
        let mut state = self.state.clone();
        self.told = batch.applied().map_or(self.told, |next| next.max(self.told));
        let rows = Row::pack(state.next, batch.appends.iter().flat_map(|append| &append.records));
        let last_failpoint = if rows.is_empty() { "log.trim" } else { "log.append.before_commit" };
        if !rows.is_empty() {
            failpoint::reach("log.append.begin");
        }
        let mut committing = None;
        let done = sqlite::transaction(&self.conn, last_failpoint, |conn| {
            for row in &rows {
                insert(conn, &mut state, row, now)?;
            }
            if let Some(next) = batch.applied() {
                failpoint::reach("log.trim");
                state.apply(conn, next)?;
            }
            let more = trim::step(conn, &mut state, self.told, self.rules(), now)?;
            save(conn, &state)?;
            committing = Some(Instant::now());
            Ok(more)
        });
        let took = committing.map(|began| began.elapsed());
        let done = done.map_err(|fault| self.on_write(fault));
        // A transaction that found the disk full has left its bytes in the write-ahead log.
        self.pressed |= matches!(done, Err(LogError::Busy(_)));
        self.more_to_trim = done?;
        self.publish(state);
        if let Some(took) = took {
            self.metrics.fsync.observe(took.as_secs_f64());
        }
        if !rows.is_empty() {
            self.metrics.appends.durable(rows.iter().map(|row| row.records).sum());
            failpoint::reach("log.append.after_commit");
        }
        Ok(())
    }

    fn rules(&self) -> &Rules {
        if self.pressed { &Rules::KEEP_NOTHING } else { &self.rules }
    }

    fn publish(&mut self, state: State) {
        self.shared.unapplied_bytes.store(state.unapplied_bytes(), Ordering::Release);
        self.shared.start.store(state.start, Ordering::Release);
        self.shared.end.send_if_modified(|end| mem::replace(end, state.next) != state.next);
        self.state = state;
    }

    /// After an I/O error it is no longer known what is on the disk: the log stops for good.
    pub(super) fn on_write(&self, fault: Fault<LogError>) -> LogError {
        let error = match fault {
            Fault::Said(error) => return error,
            Fault::Sql(error) => error,
        };
        match Failure::of(&error) {
            Failure::Full => LogError::Busy(format!("the disk is full: {error}")),
            Failure::Busy | Failure::Interrupted => LogError::Unavailable(format!("cannot write to the log: {error}")),
            Failure::Other => LogError::Corrupt(format!("cannot write to the log: {error}")),
            Failure::Io | Failure::Corrupt => {
                tracing::error!(%error, "the log has stopped: a write failed, and what is on the disk is not known until a restart");
                let reason = self.shared.stopped.get_or_init(|| format!("a write failed ({error}); restart it")).clone();
                // Wakes whoever waits for records.
                self.shared.end.send_modify(|_| {});
                LogError::Stopped(reason)
            }
        }
    }

    fn tend_wal(&mut self) {
        let mut done = Ok(());
        if self.wal.is_due() {
            done = self.wal.checkpoint(&self.conn);
        }
        if done.is_ok() && (self.wal.is_too_long() || self.pressed) {
            // Reads are short: they are kept out for the moment that emptying takes.
            let shared = Arc::clone(&self.shared);
            let _readers = (shared.delivering.held(), shared.looking.held());
            done = self.wal.truncate(&self.conn).map(drop);
        }
        if let Err(error) = done {
            // Logged and remembered there; nobody waits for an answer.
            drop(self.on_write(Fault::Sql(error)));
        }
    }

    /// Sorts a job into the batch, or answers it at once.
    fn take(&self, job: Job, batch: &mut Batch, short: Option<&LogError>) {
        match job {
            Job::Append(append) => match self.shared.check_size(batch.bytes).err().or_else(|| short.cloned()) {
                Some(error) => answer(append.reply, Err(error)),
                None => {
                    batch.bytes += append.bytes;
                    batch.appends.push(append);
                }
            },
            Job::Trim { next, reply } if next > self.state.next => {
                let words = format!("record {next} cannot be applied: the log {} ends at {}", self.shared.id, self.state.next);
                answer(reply, Err(LogError::Corrupt(words)));
            }
            Job::Trim { next, reply } => batch.trims.push((next, reply)),
        }
    }
}

impl Work for Appender {
    type Job = Job;

    fn run(&mut self, job: Job, queue: &mut Queue<Job>) {
        let short = self.shared.check_space().err();
        self.pressed = short.is_some();
        let mut batch = Batch::default();
        let mut waiting = Some(job);
        while let Some(job) = waiting {
            self.take(job, &mut batch, short.as_ref());
            waiting = (batch.bytes < self.commit_bytes).then(|| queue.try_next()).flatten();
        }
        if batch.is_empty() {
            // Appends are refused, and nobody may have anything to apply: what is kept has to go all the same.
            self.more_to_trim |= self.pressed && self.state.start < self.told.min(self.state.applied);
            return;
        }
        if failpoint::planted("ack-before-durable") {
            batch.appends.iter_mut().for_each(|append| answer(mem::replace(&mut append.reply, oneshot::channel().0), Ok(())));
        }
        let done = self.shared.running().and_then(|()| self.write(&batch));
        batch.answer(&done);
        self.tend_wal();
    }

    fn idle(&mut self) -> bool {
        if !self.more_to_trim || self.shared.running().is_err() {
            return false;
        }
        self.more_to_trim = false;
        if let Err(error) = self.write(&Batch::default()) {
            tracing::warn!(%error, "the log was not trimmed");
        }
        self.tend_wal();
        self.more_to_trim
    }

    fn end(mut self) {
        if self.shared.running().is_ok()
            && let Err(error) = self.wal.truncate(&self.conn)
        {
            tracing::warn!(%error, "the log was closed without its last checkpoint");
        }
    }
}

/// What goes into one transaction.
#[derive(Default)]
pub(super) struct Batch {
    appends: Vec<Append>,
    bytes: u64,
    trims: Vec<(u64, Reply)>,
}

impl Batch {
    #[cfg(test)]
    pub(super) fn of(append: Append) -> Self {
        Self { bytes: append.bytes, appends: vec![append], trims: Vec::new() }
    }

    const fn is_empty(&self) -> bool {
        self.appends.is_empty() && self.trims.is_empty()
    }

    fn applied(&self) -> Option<u64> {
        self.trims.iter().map(|(next, _)| *next).max()
    }

    fn answer(self, done: &Result<(), LogError>) {
        let replies = self.appends.into_iter().map(|append| append.reply).chain(self.trims.into_iter().map(|(_, reply)| reply));
        replies.for_each(|reply| answer(reply, done.clone()));
    }
}

/// Whoever asked may have gone.
fn answer(reply: Reply, done: Result<(), LogError>) {
    reply.send(done).ok();
}

/// What the database holds; made where it is new.
fn load(conn: &Connection) -> rusqlite::Result<(LogId, State)> {
    let read = |row: &rusqlite::Row<'_>| {
        let [next, start, applied, bytes] = [1, 2, 3, 4].map(|column| row.get::<_, i64>(column).map(uint));
        let state = State { next: next?, start: start?, applied: applied?, bytes: bytes?, bytes_before_start: 0, bytes_before_applied: 0 };
        Ok((LogId(row.get(0)?), state))
    };
    let (id, mut state) = match conn.query_row(LOAD, [], read).optional()? {
        Some(found) => found,
        None => {
            conn.execute(CREATE, [Uuid::new_v4().to_string()])?;
            conn.query_row(LOAD, [], read)?
        }
    };
    state.bytes_before_start = bytes_before(conn, state.start)?.unwrap_or(state.bytes);
    state.bytes_before_applied = bytes_before(conn, state.applied)?.unwrap_or(state.bytes);
    Ok((id, state))
}

/// Whether the rows are those that the state speaks of; what is wrong otherwise.
fn check(conn: &Connection, state: &State) -> rusqlite::Result<Option<String>> {
    let edges: (Option<i64>, Option<i64>) = conn.query_row(EDGES, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (first, end) = (edges.0.map_or(state.next, uint), edges.1.map_or(state.next, uint));
    let wrong = (first, end) != (state.start, state.next);
    Ok(wrong.then(|| {
        format!(
            "the log should hold records {} to {}, but its rows hold {first} to {end}: rows were removed or added by hand",
            state.start, state.next
        )
    }))
}

fn insert(conn: &Connection, state: &mut State, row: &Row, now: Timestamp) -> rusqlite::Result<()> {
    let bytes = row.blob.len() as u64;
    let numbers = [row.first, row.records, row.count].map(int);
    conn.prepare_cached(APPEND)?.execute((
        numbers[0],
        numbers[1],
        numbers[2],
        row.received,
        now.0,
        int(state.bytes),
        int(bytes),
        i64::from(row.crc),
        &row.blob[..],
    ))?;
    state.next = row.first + row.records;
    state.bytes += bytes;
    Ok(())
}

fn save(conn: &Connection, state: &State) -> rusqlite::Result<()> {
    conn.prepare_cached(SAVE)?.execute([state.next, state.start, state.applied, state.bytes].map(int))?;
    Ok(())
}
