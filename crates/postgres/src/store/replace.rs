//! Putting what was sealed or merged in the place of what was loaded.
//!
//! Owns: the transaction of a replacement. Does not know: sealing.
//! Invariants: the shard's version moves first, by compare-and-set, and its row is held to the end; every row that goes is one that was loaded, and
//! there; otherwise nothing is changed and it is `Lost`. Several processes may replace at once: one shard each, and days are inserted in one order.

use super::blocks::{self, BlockRow};
use super::chunks::{self, ChunkRow, day_of};
use super::sealing::stored_version;
use super::{Store, WAIT, aside, int, letters, queries, rows, shard_of, within};
use crate::error::{Done, corrupt, on_commit, on_write};
use crate::pool::Session;
use headwater_core::failpoint;
use headwater_core::seal::{ChunkKey, Replacement, RollupKey, StoredChunk};
use headwater_core::series::Shard;
use headwater_core::store::{BatchId, Replaced, Result, StoreError, Version};
use headwater_core::summary::Summary;
use headwater_core::time::Timestamp;
use std::sync::Arc;
use tokio::time;

const MOVE_SHARD: &str = include_str!("../sql/store/move_shard.sql");
const DELETE_BLOCKS: &str = include_str!("../sql/store/delete_blocks.sql");
const DELETE_CHUNKS: &str = include_str!("../sql/store/delete_chunks.sql");
const INSERT_DAYS: &str = include_str!("../sql/store/insert_days.sql");
const PUT_ROLLUPS: &str = include_str!("../sql/store/put_rollups.sql");

/// What can be made ready before the transaction begins.
pub(super) struct Ready {
    chunks: Vec<ChunkRow>,
    rollups: Rollups,
    days: Vec<i32>,
}

impl Ready {
    pub(super) fn of(shard: Shard, chunks: &[(ChunkKey, StoredChunk)], rollups: &[(RollupKey, Summary)]) -> Done<Self> {
        let chunks = chunks.iter().map(|(key, stored)| ChunkRow::of(*key, stored, shard)).collect::<Done<Vec<_>>>()?;
        let rollups = Rollups::of(rollups);
        let mut days: Vec<i32> = chunks.iter().map(ChunkRow::day).chain(rollups.days.iter().copied()).collect();
        days.sort_unstable();
        days.dedup();
        Ok(Self { chunks, rollups, days })
    }

    /// Writes chunks, none of whose keys may be there, and rollups.
    pub(super) async fn write(&self, session: &Session, shard: Shard) -> Done<()> {
        chunks::copy(session, &self.chunks).await.map_err(|fault| chunk_is_there(fault, shard))?;
        if !self.days.is_empty() {
            session.execute(INSERT_DAYS, &[&self.days]).await?;
        }
        put_rollups(session, shard, &self.rollups).await
    }
}

/// Rollups in columns, in the order of their key.
#[derive(Default)]
struct Rollups {
    days: Vec<i32>,
    levels: Vec<i16>,
    series: Vec<i64>,
    starts: Vec<i64>,
    counts: Vec<i64>,
    sums: Vec<Option<f64>>,
    avgs: Vec<Option<f64>>,
    mins: Vec<Option<f64>>,
    maxs: Vec<Option<f64>>,
    summaries: Vec<Vec<u8>>,
}

impl Rollups {
    fn of(rollups: &[(RollupKey, Summary)]) -> Self {
        let mut sorted: Vec<&(RollupKey, Summary)> = rollups.iter().collect();
        sorted.sort_by_key(|(key, _)| (day_of(key.start), key.level, key.series, key.start));
        let mut columns = Self::default();
        for (key, summary) in sorted {
            columns.days.push(day_of(key.start));
            columns.levels.push(rows::level(key.level));
            columns.series.push(i64::from(key.series.0));
            columns.starts.push(key.start);
            columns.counts.push(int(summary.count()));
            columns.sums.push(summary.sum());
            columns.avgs.push(summary.mean());
            columns.mins.push(summary.min());
            columns.maxs.push(summary.max());
            let mut bytes = Vec::new();
            summary.encode(&mut bytes);
            columns.summaries.push(bytes);
        }
        columns
    }
}

impl Store {
    /// Replaces what was loaded; see the module.
    pub(super) async fn replace_rows(&self, shard: Shard, version: Version, replacement: Arc<Replacement>) -> Result<Replaced> {
        failpoint::reach("store.replace.begin");
        let ready = {
            let replacement = Arc::clone(&replacement);
            aside(move || Ready::of(shard, &replacement.new_chunks, &replacement.rollups)).await.map_err(on_write)?
        };
        let session = self.pool.get(WAIT).await?;
        let written = within(self.commit_timeout, write(&session, shard, version, &replacement, &ready)).await;
        let open_readings = match written {
            Ok(Some(open_readings)) => open_readings,
            Ok(None) => {
                session.roll_back().await;
                return Ok(Replaced::Lost);
            }
            Err(fault) => return session.settle(Err(fault), on_write).await,
        };
        failpoint::reach("store.replace.before_commit");
        let limit = self.commit_timeout;
        let late = || StoreError::Unknown(format!("COMMIT was not answered within {} s", limit.as_secs_f64()));
        let committing = session.client().map_err(on_write)?.batch_execute("COMMIT");
        time::timeout(limit, committing).await.map_err(|_| late())?.map_err(on_commit)?;
        session.give_back();
        failpoint::reach("store.replace.after_commit");
        if !replacement.dead_letters.is_empty() {
            letters::keep_quota(self).await;
        }
        Ok(Replaced::Done { open_readings })
    }
}

/// All but COMMIT; what is open then, or nothing where it is lost.
async fn write(session: &Session, shard: Shard, version: Version, replacement: &Replacement, ready: &Ready) -> Done<Option<u64>> {
    let life = session.begin().await?;
    let Some(stored) = stored_version(version, life) else { return Ok(None) };
    if !move_shard(session, shard, stored, replacement).await? {
        return Ok(None);
    }
    let Some(oldest) = delete_blocks(session, shard, &replacement.sealed_blocks).await? else { return Ok(None) };
    if !delete_chunks(session, shard, &replacement.old_chunks).await? {
        return Ok(None);
    }
    ready.write(session, shard).await?;
    if let Some((BatchId(batch), block)) = &replacement.rest {
        blocks::copy(session, &[BlockRow::of(block, int(*batch), oldest, true)]).await?;
    }
    letters::keep(session, &replacement.dead_letters).await?;
    queries::open_readings(session).await.map(Some)
}

async fn move_shard(session: &Session, shard: Shard, version: i64, replacement: &Replacement) -> Done<bool> {
    let outcomes = replacement.outcomes;
    let [stored, duplicate, conflict] = [outcomes.stored, outcomes.duplicate, outcomes.conflict].map(int);
    let moved = session.execute(MOVE_SHARD, &[&shard_of(shard), &version, &stored, &duplicate, &conflict]).await?;
    Ok(moved == 1)
}

/// The least receive time of the blocks that went; nothing where one was not there, or would go twice.
async fn delete_blocks(session: &Session, shard: Shard, batches: &[BatchId]) -> Done<Option<Timestamp>> {
    if batches.is_empty() {
        return Ok(Some(Timestamp(0)));
    }
    let numbers: Vec<i64> = batches.iter().map(|batch| int(batch.0)).collect();
    let gone = session.query(DELETE_BLOCKS, &[&shard_of(shard), &numbers]).await?;
    if gone.len() != batches.len() {
        return Ok(None);
    }
    let times = gone.iter().map(|row| row.try_get(0)).collect::<std::result::Result<Vec<i64>, _>>()?;
    Ok(times.into_iter().min().map(Timestamp))
}

/// Whether all of them were there.
pub(super) async fn delete_chunks(session: &Session, shard: Shard, keys: &[ChunkKey]) -> Done<bool> {
    if keys.is_empty() {
        return Ok(true);
    }
    let days: Vec<i32> = keys.iter().map(|key| day_of(key.first)).collect();
    let series: Vec<i64> = keys.iter().map(|key| i64::from(key.series.0)).collect();
    let firsts: Vec<i64> = keys.iter().map(|key| key.first).collect();
    let gone = session.execute(DELETE_CHUNKS, &[&shard_of(shard), &days, &series, &firsts]).await?;
    Ok(gone == keys.len() as u64)
}

async fn put_rollups(session: &Session, shard: Shard, rollups: &Rollups) -> Done<()> {
    if rollups.days.is_empty() {
        return Ok(());
    }
    let Rollups { days, levels, series, starts, counts, sums, avgs, mins, maxs, summaries } = rollups;
    session
        .execute(PUT_ROLLUPS, &[&shard_of(shard), days, levels, series, starts, counts, sums, avgs, mins, maxs, summaries])
        .await
        .map(drop)
}

/// A key that is there already is not a passing trouble: the shard's version says that nobody else writes its chunks.
fn chunk_is_there(fault: crate::error::Fault, shard: Shard) -> crate::error::Fault {
    match fault {
        crate::error::Fault::Pg(error) if error.code() == Some(&tokio_postgres::error::SqlState::UNIQUE_VIOLATION) => {
            corrupt(format!("a chunk of shard {} is there already: {}", shard.0, crate::error::words(&error)))
        }
        fault => fault,
    }
}
