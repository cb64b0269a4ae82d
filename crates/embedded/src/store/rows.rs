//! Rows as the words of the core.
//!
//! Owns: the mapping of columns. Does not know: statements.
//! Invariant: bytes and texts from the disk are checked; what does not fit is `Corrupt` and names the row.

use super::keys;
use crate::error::Fault;
use crate::sqlite::uint;
use headwater_core::block::{BlockStats, OpenBlock};
use headwater_core::dead_letter::{Attempt, DeadLetter, History, KeptLetter, LetterState, Origin, Reason, RetryOutcome};
use headwater_core::log::{LogId, Position};
use headwater_core::seal::{ChunkKey, Level, RollupKey};
use headwater_core::series::{Series, SeriesId, SeriesKey, Shard};
use headwater_core::store::{Backlog, BatchId, StoreError};
use headwater_core::summary::Summary;
use headwater_core::time::Timestamp;
use rusqlite::Row;
use uuid::Uuid;

type Result<T> = std::result::Result<T, Fault<StoreError>>;

fn corrupt(words: String) -> Fault<StoreError> {
    Fault::Said(StoreError::Corrupt(words))
}

/// `log, partition, next, crc`
pub(super) fn position(row: &Row<'_>) -> rusqlite::Result<Position> {
    Ok(Position { log: LogId(row.get(0)?), partition: row.get(1)?, next: uint(row.get(2)?), crc: row.get(3)? })
}

/// `id, key, unit`, with the key as the caller has checked it to be text.
pub(super) fn series(row: &Row<'_>, key: &str) -> Result<Series> {
    let id: u32 = row.get(0)?;
    let key = SeriesKey::parse(key).map_err(|problem| corrupt(format!("series {id} has a key that is none: {problem}")))?;
    Ok(Series { id: SeriesId(id), key, unit: row.get(2)? })
}

/// `batch, readings, series, min_time, max_time`
pub(super) fn block_stats(row: &Row<'_>) -> rusqlite::Result<(BatchId, BlockStats)> {
    let stats = BlockStats { readings: uint(row.get(1)?), series: uint(row.get(2)?), min_time: row.get(3)?, max_time: row.get(4)? };
    Ok((BatchId(uint(row.get(0)?)), stats))
}

/// A block from its bytes, which must be of this shard and hold this many readings.
pub(super) fn block(bytes: &[u8], batch: BatchId, shard: Shard, readings: u64) -> Result<OpenBlock> {
    let named = |what: &dyn std::fmt::Display| corrupt(format!("the open block of batch {} and shard {}: {what}", batch.0, shard.0));
    let block = OpenBlock::decode(bytes).map_err(|damaged| named(&damaged))?;
    if block.shard != shard || block.len() as u64 != readings {
        return Err(named(&format_args!("its bytes hold {} readings of shard {} where {readings} should be", block.len(), block.shard.0)));
    }
    Ok(block)
}

/// `shard, readings, unmerged, widest, oldest`
pub(super) fn backlog(row: &Row<'_>) -> rusqlite::Result<Backlog> {
    Ok(Backlog {
        shard: Shard(row.get(0)?),
        readings: uint(row.get(1)?),
        unmerged: uint(row.get(2)?),
        widest: uint(row.get(3)?),
        oldest: Timestamp(row.get(4)?),
    })
}

/// The bytes in a column, where they are.
pub(super) fn bytes<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a [u8]> {
    Ok(row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from)?)
}

/// A chunk without its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) key: ChunkKey,
    pub(super) last: i64,
    pub(super) readings: u64,
}

/// `id, first, last, readings`
pub(super) fn chunk_head(row: &Row<'_>, day: i64) -> Result<Head> {
    let (series, place) = keys::of_chunk(row.get(0)?);
    let first = keys::time(day, place).wrapping_add(row.get(1)?);
    Ok(Head { key: ChunkKey { series, first }, last: first.wrapping_add(row.get(2)?), readings: uint(row.get(3)?) })
}

/// `id, bytes`
pub(super) fn rollup(row: &Row<'_>, level: Level, day: i64) -> Result<(RollupKey, Summary)> {
    let (series, offset) = keys::of_rollup(row.get(0)?);
    let key = RollupKey { series, level, start: keys::time(day, offset) };
    let summary = Summary::decode(bytes(row, 1)?)
        .map_err(|damaged| corrupt(format!("the rollup of series {} from {}: {damaged}", series.0, Timestamp(key.start))))?;
    Ok((key, summary))
}

/// Which letter, and how many bytes its parts have.
pub(super) struct LetterRow {
    pub(super) batch: i64,
    pub(super) number: i64,
    pub(super) bytes: u64,
    /// Without its bytes.
    pub(super) kept: KeptLetter,
}

/// `batch, number, id, received_at, reason, detail, device, format, count, parts, bytes, log, partition, position`, then what
/// [`history`] reads
pub(super) fn letter(row: &Row<'_>) -> Result<LetterRow> {
    let id = Uuid::from_bytes(row.get(2)?);
    let reason: String = row.get(4)?;
    let log: String = row.get(11)?;
    // What sealing found travelled in no log.
    let origin = match log.is_empty() {
        true => None,
        false => Some(Origin { log: LogId(log), partition: row.get(12)?, position: uint(row.get(13)?) }),
    };
    let letter = DeadLetter {
        id,
        received_at: Timestamp(row.get(3)?),
        reason: Reason::parse(&reason).ok_or_else(|| corrupt(format!("dead letter {id} has the unknown reason {reason:?}")))?,
        detail: row.get(5)?,
        device: row.get(6)?,
        format: row.get(7)?,
        count: uint(row.get(8)?),
        bytes: Vec::new(),
        part: 0,
        parts: row.get(9)?,
        origin,
    };
    let kept = KeptLetter { history: history(row, id, letter.received_at)?, letter };
    Ok(LetterRow { batch: row.get(0)?, number: row.get(1)?, bytes: uint(row.get(10)?), kept })
}

/// `last_seen, seen, state, attempts, attempted_at, outcome, attempt_detail` from column 14 on
fn history(row: &Row<'_>, id: Uuid, received_at: Timestamp) -> Result<History> {
    let unknown = |what: &str, word: &str| corrupt(format!("dead letter {id} has the unknown {what} {word:?}"));
    let state: String = row.get(16)?;
    let last_attempt = match (row.get::<_, Option<i64>>(18)?, row.get::<_, Option<String>>(19)?) {
        (Some(at), Some(outcome)) => Some(Attempt {
            at: Timestamp(at),
            outcome: RetryOutcome::parse(&outcome).ok_or_else(|| unknown("outcome", &outcome))?,
            detail: row.get::<_, Option<String>>(20)?.unwrap_or_default(),
        }),
        _ => None,
    };
    Ok(History {
        last_seen: row.get::<_, Option<i64>>(14)?.map_or(received_at, Timestamp),
        seen: uint(row.get(15)?),
        state: LetterState::parse(&state).ok_or_else(|| unknown("state", &state))?,
        attempts: uint(row.get(17)?),
        last_attempt,
    })
}
