//! What the store's writer thread does: one request at a time, one transaction each.
//!
//! Owns: [`Keeper`], the only writer of `store.db`, and [`State`], the numbers it keeps at hand. Does not know: readers, but for
//! the gate in front of them.
//! Invariants: `State` is what the database holds (it is replaced only after a commit); positions move last; after an I/O error
//! every request is refused.

use super::errors::on_write;
use super::gate::Gate;
use super::letters::{self, Quota};
use super::prepared::{Block, Commit, Replace};
use super::registry::Lookup;
use super::{attempts, replace, rows};
use crate::error::{Fault, OpenError};
use crate::space::Space;
use crate::sqlite::{self, Use, int, uint};
use crate::wal::Wal;
use crate::writer::{Queue, Work};
use crate::{Config, migrations};
use headwater_core::dead_letter::{Attempt, History};
use headwater_core::failpoint;
use headwater_core::log::{Gap, Position};
use headwater_core::series::{SHARDS, Shard};
use headwater_core::store::{BatchId, Committed, Move, NewSeries, Registered, Replaced, Result, SeriesLimits, StoreError, Version};
use headwater_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::oneshot;
use uuid::Uuid;

pub(super) const LOAD_STATE: &str = include_str!("../sql/store/load_state.sql");
pub(super) const SAVE_STATE: &str = include_str!("../sql/store/save_state.sql");
pub(super) const OPEN_READINGS: &str = include_str!("../sql/store/open_readings.sql");
pub(super) const TAKEN_BLOCKS: &str = include_str!("../sql/store/taken_blocks.sql");
pub(super) const INSERT_BLOCK: &str = include_str!("../sql/store/insert_block.sql");
pub(super) const INSERT_GAP: &str = include_str!("../sql/store/insert_gap.sql");
pub(super) const MOVE_POSITION: &str = include_str!("../sql/store/move_position.sql");
pub(super) const INSERT_POSITION: &str = include_str!("../sql/store/insert_position.sql");
pub(super) const FIND_POSITION: &str = include_str!("../sql/store/find_position.sql");
pub(super) const POSITIONS: &str = include_str!("../sql/store/positions.sql");

/// The write-ahead log is moved into the file every so many bytes, or such a part of the disk: until then they are there twice.
const CHECKPOINT_BYTES: u64 = 4 << 20;
const DISK_PARTS: u64 = 64;

type Written<T> = std::result::Result<T, Fault<StoreError>>;

/// The answer to a request.
pub(super) type Reply<T> = oneshot::Sender<Result<T>>;

/// What the thread is asked.
pub(super) enum Job {
    Commit(Commit, Reply<Committed>),
    Register(Vec<NewSeries>, SeriesLimits, Reply<Vec<Registered>>),
    Replace(Shard, Version, Replace, Reply<Replaced>),
    Positions(Reply<Vec<Position>>),
    Attempted(Vec<(Uuid, Attempt)>, Reply<Vec<Option<History>>>),
    Discard(Uuid, Reply<bool>),
    Expire(Timestamp, u64, Reply<u64>),
    /// A reader has ended while the gate was shut.
    Checkpoint,
}

/// The numbers that every commit needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) next_batch: u64,
    pub(super) next_series: u64,
    pub(super) letters: u64,
    pub(super) letters_dropped: u64,
    pub(super) letter_bytes: u64,
    /// Of the whole letters, those that are not open.
    pub(super) letters_settled: u64,
    pub(super) letters_discarded: u64,
    pub(super) open_readings: u64,
    /// Blocks, and readings in them, that a replacement took and whose rows are still to be swept.
    pub(super) taken_blocks: u64,
    pub(super) taken_readings: u64,
}

/// The writer.
pub(super) struct Keeper {
    pub(super) conn: Connection,
    state: State,
    quota: Quota,
    wal: Wal,
    gate: Arc<Gate>,
    space: Space,
    /// Whether the last transaction found the disk full, and has left its bytes in the write-ahead log.
    full: bool,
    /// The gauge, for those outside the thread.
    open_readings: Arc<AtomicU64>,
    /// Why nothing is written any more.
    stopped: Option<StoreError>,
}

impl Keeper {
    pub(super) fn open(
        path: &Path,
        config: &Config,
        gate: Arc<Gate>,
        space: Space,
        now: Timestamp,
    ) -> std::result::Result<Self, OpenError> {
        let mut conn = sqlite::open(path, Use::Write)?;
        migrations::run(&mut conn, crate::STORE_FILE, migrations::STORE, now)?;
        let doing = || format!("cannot read {}", path.display());
        let state = load(&conn).map_err(OpenError::doing(doing()))?;
        let (every, most) = (space.at_most(CHECKPOINT_BYTES, DISK_PARTS), space.at_most(config.wal_limit, DISK_PARTS / 4));
        let wal = Wal::watch(&mut conn, every, most).map_err(OpenError::doing(doing()))?;
        let quota = Quota { letters: config.dead_letter_count, bytes: config.dead_letter_bytes };
        let open_readings = Arc::new(AtomicU64::new(state.open_readings));
        Ok(Self { conn, state, quota, wal, gate, space, full: false, open_readings, stopped: None })
    }

    pub(super) fn open_readings(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.open_readings)
    }

    /// Runs `write` in a transaction on a copy of the state, which counts when the transaction does.
    pub(super) fn transaction<T>(&mut self, name: &'static str, write: impl FnOnce(&Connection, &mut State) -> Written<T>) -> Result<T> {
        if let Some(stopped) = &self.stopped {
            return Err(stopped.clone());
        }
        if let Some(shortage) = self.space.dire_shortage() {
            return Err(StoreError::Busy(shortage));
        }
        let mut state = self.state.clone();
        let done = sqlite::transaction(&self.conn, name, |conn| {
            let value = write(conn, &mut state)?;
            save(conn, &state)?;
            Ok(value)
        });
        match done.map_err(on_write) {
            Ok(value) => {
                self.open_readings.store(state.open_readings, Ordering::Release);
                self.state = state;
                Ok(value)
            }
            Err(error) => {
                self.full = matches!(error, StoreError::Busy(_));
                Err(self.stop_if_broken(error))
            }
        }
    }

    fn stop_if_broken(&mut self, error: StoreError) -> StoreError {
        if matches!(error, StoreError::Stopped(_)) && self.stopped.is_none() {
            tracing::error!(%error, "the store has stopped: a write failed, and what is on the disk is not known until a restart");
            self.stopped = Some(error.clone());
        }
        error
    }

    pub(super) fn commit(&mut self, commit: &Commit) -> Result<Committed> {
        failpoint::reach("store.commit.begin");
        let quota = self.quota;
        let Commit { batch, blocks } = commit;
        let done = self.transaction("store.commit.before_commit", |conn, state| {
            let id = state.next_batch;
            state.next_batch += 1;
            for block in blocks {
                write_block(conn, id, block, batch.received_at, false)?;
                state.open_readings += block.stats.readings;
            }
            letters::keep(conn, id, &batch.dead_letters, quota, state)?;
            write_gaps(conn, id, &batch.gaps)?;
            for step in &batch.moves {
                move_position(conn, step)?;
            }
            Ok(Committed { batch: BatchId(id), open_readings: state.open_readings })
        })?;
        failpoint::reach("store.commit.after_commit");
        Ok(done)
    }

    pub(super) fn replace(&mut self, shard: Shard, version: Version, replace: &Replace) -> Result<Replaced> {
        failpoint::reach("store.replace.begin");
        let quota = self.quota;
        let mut lost = false;
        let done = self.transaction("store.replace.before_commit", |conn, state| {
            lost = !replace::write(conn, shard, version, replace, quota, state)?;
            // Only an error undoes what was written so far; it is not told to anybody.
            if lost { Err(StoreError::Unavailable("another replacement came first".to_owned()).into()) } else { Ok(state.open_readings) }
        });
        if lost {
            return Ok(Replaced::Lost);
        }
        let open_readings = done?;
        failpoint::reach("store.replace.after_commit");
        Ok(Replaced::Done { open_readings })
    }

    fn register(&mut self, series: &[NewSeries], limits: SeriesLimits) -> Result<Vec<Registered>> {
        let lookup = match Lookup::new(&self.conn, series).map_err(on_write) {
            Ok(lookup) => lookup,
            Err(error) => return Err(self.stop_if_broken(error)),
        };
        match lookup.known() {
            Some(known) => Ok(known),
            None => self.transaction("store.register", |conn, state| lookup.write(conn, limits, &mut state.next_series)),
        }
    }

    fn attempted(&mut self, tried: Vec<(Uuid, Attempt)>) -> Result<Vec<Option<History>>> {
        self.transaction("store.letters", |conn, state| {
            tried.into_iter().map(|(id, attempt)| attempts::record(conn, id, attempt, state)).collect()
        })
    }

    pub(super) fn positions(&self) -> Result<Vec<Position>> {
        let read = || self.conn.prepare_cached(POSITIONS)?.query_map([], rows::position)?.collect::<rusqlite::Result<_>>();
        read().map_err(|error| super::errors::on_read(Fault::Sql(error)))
    }

    /// Keeps the write-ahead log short. Past its limit nobody begins to read until it was emptied.
    fn tend_wal(&mut self) {
        if self.stopped.is_some() {
            return;
        }
        if let Err(error) = self.try_tend_wal() {
            let error = on_write(Fault::Sql(error));
            tracing::warn!(%error, "a checkpoint failed");
            drop(self.stop_if_broken(error));
        }
    }

    fn try_tend_wal(&mut self) -> rusqlite::Result<()> {
        let due = self.wal.is_due();
        if due {
            failpoint::reach("store.checkpoint");
            self.wal.checkpoint(&self.conn)?;
        }
        if std::mem::take(&mut self.full) {
            // Gives the room back if nobody reads; the gate is not for this.
            self.wal.truncate(&self.conn)?;
        }
        if !self.wal.is_too_long() {
            self.gate.set_open(true);
            return Ok(());
        }
        // While somebody reads it can only fail: it is tried when one has ended, and now and then.
        if self.gate.is_empty() || due {
            self.empty_wal()?;
        }
        Ok(())
    }

    fn empty_wal(&mut self) -> rusqlite::Result<()> {
        let mut emptied = self.wal.truncate(&self.conn)?;
        if !emptied {
            if self.gate.is_open() {
                tracing::info!(
                    bytes = self.wal.bytes(),
                    "the write-ahead log of the store is too long: new snapshots wait until it was emptied"
                );
            }
            self.gate.set_open(false);
            // The last one may have ended just before, and told nobody.
            if self.gate.is_empty() {
                emptied = self.wal.truncate(&self.conn)?;
                if !emptied {
                    tracing::warn!(bytes = self.wal.bytes(), "the write-ahead log of the store is too long, but not because of a snapshot");
                }
            }
        }
        // Shut only for those that the writer waits for: each tells when it ends.
        self.gate.set_open(emptied || self.gate.is_empty());
        Ok(())
    }
}

impl Work for Keeper {
    type Job = Job;

    fn run(&mut self, job: Job, _queue: &mut Queue<Job>) {
        // Whoever asked may have gone.
        match job {
            Job::Commit(batch, reply) => drop(reply.send(self.commit(&batch))),
            Job::Register(series, limits, reply) => drop(reply.send(self.register(&series, limits))),
            Job::Replace(shard, version, replacement, reply) => drop(reply.send(self.replace(shard, version, &replacement))),
            Job::Positions(reply) => drop(reply.send(self.positions())),
            Job::Attempted(attempts, reply) => drop(reply.send(self.attempted(attempts))),
            Job::Discard(id, reply) => {
                drop(reply.send(self.transaction("store.letters", |conn, state| attempts::discard(conn, id, state))))
            }
            Job::Expire(before, most, reply) => {
                drop(reply.send(self.transaction("store.letters", |conn, state| letters::expire(conn, before, most, state))));
            }
            Job::Checkpoint => {}
        }
        self.tend_wal();
    }

    fn end(mut self) {
        if self.stopped.is_none()
            && let Err(error) = self.wal.truncate(&self.conn)
        {
            tracing::warn!(%error, "the store was closed without its last checkpoint");
        }
    }
}

fn load(conn: &Connection) -> rusqlite::Result<State> {
    let open_readings = uint(conn.query_row(OPEN_READINGS, [], |row| row.get(0))?);
    let (taken_blocks, taken_readings) = conn.query_row(TAKEN_BLOCKS, [], |row| Ok((uint(row.get(0)?), uint(row.get(1)?))))?;
    conn.query_row(LOAD_STATE, [], |row| {
        let [next_batch, next_series, letters, letters_dropped, letter_bytes, letters_settled, letters_discarded] =
            [0, 1, 2, 3, 4, 5, 6].map(|column| row.get(column).map(uint));
        Ok(State {
            next_batch: next_batch?,
            next_series: next_series?,
            letters: letters?,
            letters_dropped: letters_dropped?,
            letter_bytes: letter_bytes?,
            letters_settled: letters_settled?,
            letters_discarded: letters_discarded?,
            open_readings,
            taken_blocks,
            taken_readings,
        })
    })
}

fn save(conn: &Connection, state: &State) -> rusqlite::Result<()> {
    let State { next_batch, next_series, letters, letters_dropped, letter_bytes, letters_settled, letters_discarded, .. } = state;
    let numbers = [next_batch, next_series, letters, letters_dropped, letter_bytes, letters_settled, letters_discarded].map(|&n| int(n));
    conn.prepare_cached(SAVE_STATE)?.execute(numbers)?;
    Ok(())
}

/// Where a block's row lies: beside those that came with it.
pub(super) fn block_id(batch: u64, shard: Shard) -> i64 {
    int(batch * u64::from(SHARDS) + u64::from(shard.0))
}

/// Writes a block as one of `batch`.
pub(super) fn write_block(conn: &Connection, batch: u64, block: &Block, received_at: Timestamp, merged: bool) -> Written<()> {
    let Block { shard, stats, bytes } = block;
    conn.prepare_cached(INSERT_BLOCK)?.execute((
        block_id(batch, *shard),
        int(batch),
        shard.0,
        int(stats.readings),
        int(stats.series),
        stats.min_time,
        stats.max_time,
        received_at.0,
        merged,
        bytes,
    ))?;
    Ok(())
}

fn write_gaps(conn: &Connection, batch: u64, gaps: &[Gap]) -> Written<()> {
    for (number, gap) in gaps.iter().enumerate() {
        let Gap { log, partition, from, to } = gap;
        conn.prepare_cached(INSERT_GAP)?.execute((int(batch), int(number as u64), &log.0, partition, int(*from), int(*to)))?;
    }
    Ok(())
}

/// Moves a position if it is where the writer believes.
fn move_position(conn: &Connection, step: &Move) -> Written<()> {
    let Move { to: Position { log, partition, next, crc }, expected, received, dead } = step;
    if expected.is_some_and(|expected| *next < expected) {
        return Err(
            StoreError::Corrupt(format!("partition {partition} of the log {log} cannot go back from {expected:?} to {next}")).into()
        );
    }
    let find = || conn.prepare_cached(FIND_POSITION)?.query_row((&log.0, partition), |row| row.get::<_, i64>(0)).optional();
    let assumed = if failpoint::planted("skip-compare-and-set") { find()?.map(uint) } else { *expected };
    let changed = match assumed {
        Some(expected) => {
            conn.prepare_cached(MOVE_POSITION)?.execute((&log.0, partition, int(expected), int(*next), crc, int(*received), int(*dead)))?
        }
        None => conn.prepare_cached(INSERT_POSITION)?.execute((&log.0, partition, int(*next), crc, int(*received), int(*dead)))?,
    };
    if changed == 1 {
        return Ok(());
    }
    Err(StoreError::Fenced { partition: *partition, expected: *expected, found: find()?.map(uint) }.into())
}
