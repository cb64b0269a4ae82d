//! Commits: everything is written first, and the positions move last.
//!
//! Owns: [`Store::commit_batch`]. Does not know: what is in a batch's records.
//! Invariants: until the last message is sent no lock is held that another commit needs (but for one on a dead letter of the same id); the last
//! message holds the compare-and-set of all positions, the batch's number and COMMIT, so that a writer that stalls anywhere stalls nobody; what is
//! lost before it is `Unavailable` and changes nothing, what is lost after it is `Unknown`.

use super::blocks::BlockRow;
use super::{Store, WAIT, aside, blocks, int, letters, uint, within};
use crate::error::{Done, FENCED, before_commit, on_commit, on_write, words};
use crate::pool::Session;
use headwater_core::failpoint;
use headwater_core::log::Gap;
use headwater_core::store::{Batch, BatchId, Committed, Move, Result, StoreError};
use std::sync::Arc;
use tokio::time;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

const COMMIT_BATCH: &str = include_str!("../sql/store/commit_batch.sql");
const INSERT_GAPS: &str = include_str!("../sql/store/insert_gaps.sql");

impl Store {
    /// Commits a batch; see the module.
    pub(super) async fn commit_batch(&self, batch: Arc<Batch>) -> Result<Committed> {
        failpoint::reach("store.commit.begin");
        batch.moves.iter().try_for_each(check_move)?;
        let provisional = provisional_number();
        let rows = {
            let batch = Arc::clone(&batch);
            aside(move || Ok(batch.blocks.iter().map(|block| BlockRow::of(block, provisional, batch.received_at, false)).collect()))
        };
        let rows: Vec<BlockRow> = rows.await.map_err(on_write)?;
        let session = self.pool.get(WAIT).await?;
        let written = within(self.commit_timeout, self.write_batch(&session, &batch, &rows)).await;
        if let Err(fault) = written {
            return session.settle(Err(fault), on_write).await;
        }
        failpoint::reach("store.commit.before_commit");
        // Dropping the session, here or because the caller went away, closes the connection: its outcome is not known then.
        let done = match time::timeout(self.commit_timeout, finish(&session, &batch, provisional)).await {
            Ok(done) => done,
            Err(_) => return Err(StoreError::Unknown(format!("COMMIT was not answered within {} s", self.commit_timeout.as_secs_f64()))),
        };
        let committed = match done {
            Ok(committed) => {
                session.give_back();
                committed
            }
            // The server has answered both: nothing is open.
            Err(error @ (StoreError::Fenced { .. } | StoreError::Busy(_))) => {
                session.give_back();
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        failpoint::reach("store.commit.after_commit");
        if !batch.dead_letters.is_empty() {
            letters::keep_quota(self).await;
        }
        Ok(committed)
    }

    /// Everything but the positions.
    async fn write_batch(&self, session: &Session, batch: &Batch, rows: &[BlockRow]) -> Done<()> {
        self.check_ids(session.begin().await?)?;
        blocks::copy(session, rows).await?;
        letters::keep(session, &batch.dead_letters).await?;
        if !batch.gaps.is_empty() {
            write_gaps(session, &batch.gaps).await?;
        }
        // Prepared now, so that the last message needs no answer before it.
        session.prepare(COMMIT_BATCH).await.map(drop)
    }
}

/// A number for blocks until they have their own: negative, and nobody else's.
fn provisional_number() -> i64 {
    -((Uuid::new_v4().as_u128() as u64 >> 1) as i64) - 1
}

fn check_move(step: &Move) -> Result<()> {
    let Move { to, expected, .. } = step;
    if expected.is_some_and(|expected| to.next < expected) {
        let (log, partition, next) = (&to.log, to.partition, to.next);
        return Err(StoreError::Corrupt(format!("partition {partition} of the log {log} cannot go back from {expected:?} to {next}")));
    }
    Ok(())
}

pub(super) async fn write_gaps(session: &Session, gaps: &[Gap]) -> Done<()> {
    let logs: Vec<&str> = gaps.iter().map(|gap| gap.log.0.as_str()).collect();
    let partitions: Vec<i64> = gaps.iter().map(|gap| i64::from(gap.partition)).collect();
    let from: Vec<i64> = gaps.iter().map(|gap| int(gap.from)).collect();
    let to: Vec<i64> = gaps.iter().map(|gap| int(gap.to)).collect();
    session.execute(INSERT_GAPS, &[&logs, &partitions, &from, &to]).await.map(drop)
}

/// Moves the positions, numbers the batch and commits, in one message.
async fn finish(session: &Session, batch: &Batch, provisional: i64) -> Result<Committed> {
    let moves = &batch.moves;
    let shards: Vec<i16> = batch.blocks.iter().map(|block| i16::from(block.shard.0)).collect();
    let logs: Vec<&str> = moves.iter().map(|step| step.to.log.0.as_str()).collect();
    let column = |of: fn(&Move) -> i64| moves.iter().map(of).collect::<Vec<i64>>();
    let partitions = column(|step| i64::from(step.to.partition));
    let expected: Vec<Option<i64>> = moves.iter().map(|step| step.expected.map(int)).collect();
    let nexts = column(|step| int(step.to.next));
    let crcs: Vec<Option<i64>> = moves.iter().map(|step| step.to.crc.map(i64::from)).collect();
    let (received, dead) = (column(|step| int(step.received)), column(|step| int(step.dead)));
    let client = session.client().map_err(on_write)?;
    let statement = session.prepare(COMMIT_BATCH).await.map_err(on_write)?;
    let params: crate::pool::Params<'_> = &[&provisional, &shards, &logs, &partitions, &expected, &nexts, &crcs, &received, &dead];
    // Polled in this order, both are sent before the first answer comes.
    let (moved, committed) = tokio::join!(biased; client.query_one(&statement, params), client.batch_execute("COMMIT"));
    let row = moved.map_err(|error| fenced(&error, moves).unwrap_or_else(|| before_commit(error)))?;
    committed.map_err(on_commit)?;
    answer(&row).map_err(|error| StoreError::Unknown(words(&error)))
}

fn answer(row: &Row) -> std::result::Result<Committed, Error> {
    Ok(Committed { batch: BatchId(uint(row.try_get(0)?)), open_readings: uint(row.try_get(1)?) })
}

/// What `commit_batch` says of a position that was moved by another writer: its place among the moves, from 1, and what was found.
fn fenced(error: &Error, moves: &[Move]) -> Option<StoreError> {
    let said = error.as_db_error().filter(|said| said.code().code() == FENCED)?;
    let (place, found) = said.detail()?.split_once(' ')?;
    let step = moves.get(place.parse::<usize>().ok()?.checked_sub(1)?)?;
    Some(StoreError::Fenced { partition: step.to.partition, expected: step.expected, found: found.parse().ok() })
}
