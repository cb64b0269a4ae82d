//! What a snapshot is asked of chunks and rollups.
//!
//! Owns: the statements that read them. Does not know: why they are read, deadlines.
//! Invariants: only days that exist are looked at, however wide a range is; memory is bounded by `max_bytes`, a group of chunks and the heads of the
//! chunks of a few series; a page goes on where the one before ended.

use super::chunks::{self, day_of};
use super::rows::{self, level as level_number};
use super::{aside, ids_of, shard_of, uint};
use crate::error::Done;
use crate::pool::Session;
use headwater_core::seal::{ChunkKey, Level, RollupKey, StoredChunk};
use headwater_core::series::{SeriesId, Shard};
use headwater_core::store::{ChunkStats, SealMark};
use headwater_core::summary::Summary;
use headwater_core::time::TimeRange;

const SEAL_MARKS: &str = include_str!("../sql/store/seal_marks.sql");
const ROLLUPS: &str = include_str!("../sql/store/rollups.sql");
const CHUNK_STATS: &str = include_str!("../sql/store/chunk_stats.sql");
const CHUNK_HEADS: &str = include_str!("../sql/store/chunk_heads.sql");
const CHUNKS_BY_KEY: &str = include_str!("../sql/store/chunks_by_key.sql");
const EDGES: &str = include_str!("../sql/store/edges.sql");

/// Series whose chunks are looked up at a time: a year of them are some 60,000 short rows.
const SERIES: usize = 32;
/// Chunks that are read at a time: at most 3 MB of arrays.
const GROUP: usize = 64;

/// The days that a range touches.
fn days(range: TimeRange) -> (i32, i32) {
    (day_of(range.from.0), day_of(range.to.0.saturating_sub(1)))
}

/// The mark of every shard, in the life of the database that this connection leads to.
pub(super) async fn seal_marks(session: &Session) -> Done<Vec<SealMark>> {
    let mark = |row: &tokio_postgres::Row| {
        let (stored, life): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok(SealMark { life: life.cast_unsigned(), stored: uint(stored) })
    };
    session.query(SEAL_MARKS, &[]).await?.iter().map(mark).collect()
}

pub(super) async fn rollups(
    session: &Session,
    shard: Shard,
    level: Level,
    series: &[SeriesId],
    range: TimeRange,
) -> Done<Vec<(RollupKey, Summary)>> {
    if range.is_empty() || series.is_empty() {
        return Ok(Vec::new());
    }
    // The window of a day may begin before the range's first day ends, never on another day than its start.
    let ((from_day, to_day), ids) = (days(range), ids_of(series));
    let params: crate::pool::Params<'_> = &[&shard_of(shard), &level_number(level), &ids, &range.from.0, &range.to.0, &from_day, &to_day];
    let rows = session.query(ROLLUPS, params).await?;
    aside(move || {
        let mut found = rows.iter().map(rows::rollup).collect::<Done<Vec<_>>>()?;
        found.sort_unstable_by_key(|(key, _)| *key);
        Ok(found)
    })
    .await
}

pub(super) async fn chunk_stats(session: &Session, shard: Shard, series: &[SeriesId], range: TimeRange) -> Done<ChunkStats> {
    if range.is_empty() || series.is_empty() {
        return Ok(ChunkStats::default());
    }
    let ((from_day, to_day), ids) = (days(range), ids_of(series));
    let row = session.query_one(CHUNK_STATS, &[&shard_of(shard), &ids, &range.from.0, &range.to.0, &from_day, &to_day]).await?;
    Ok(ChunkStats { chunks: uint(row.try_get(0)?), readings: uint(row.try_get(1)?) })
}

/// A chunk without its readings.
#[derive(Debug, Clone, Copy)]
struct Head {
    key: ChunkKey,
    readings: u64,
}

/// What touches the range, in the order of (series, time).
async fn heads(session: &Session, shard: Shard, series: &[SeriesId], range: TimeRange) -> Done<Vec<Head>> {
    let ((from_day, to_day), ids) = (days(range), ids_of(series));
    let rows = session.query(CHUNK_HEADS, &[&shard_of(shard), &ids, &range.from.0, &range.to.0, &from_day, &to_day]).await?;
    let head = |row: &tokio_postgres::Row| {
        let readings: i32 = row.try_get(2)?;
        let key = ChunkKey { series: rows::series_id(row.try_get(0)?)?, first: row.try_get(1)? };
        Ok(Head { key, readings: uint(readings.into()) })
    };
    let mut heads = rows.iter().map(head).collect::<Done<Vec<_>>>()?;
    heads.sort_unstable_by_key(|head| head.key);
    Ok(heads)
}

pub(super) async fn chunks(
    session: &Session,
    shard: Shard,
    series: &[SeriesId],
    range: TimeRange,
    after: Option<ChunkKey>,
    max_bytes: usize,
) -> Done<Vec<(ChunkKey, StoredChunk)>> {
    let mut page = Page { found: Vec::new(), taken: 0, most: max_bytes as u64 };
    if range.is_empty() {
        return Ok(page.found);
    }
    let begin = after.map_or(0, |after| series.partition_point(|&series| series < after.series));
    for some in series[begin..].chunks(SERIES) {
        let mut heads = heads(session, shard, some, range).await?;
        heads.retain(|head| after.is_none_or(|after| head.key > after));
        let mut rest = &heads[..];
        while !rest.is_empty() {
            let (group, later) = rest.split_at(page.group_of(rest));
            if !page.take(read(session, shard, group).await?) {
                return Ok(page.found);
            }
            rest = later;
        }
    }
    Ok(page.found)
}

/// These chunks, in their order.
async fn read(session: &Session, shard: Shard, heads: &[Head]) -> Done<Vec<(ChunkKey, StoredChunk)>> {
    let days: Vec<i32> = heads.iter().map(|head| day_of(head.key.first)).collect();
    let series: Vec<i64> = heads.iter().map(|head| i64::from(head.key.series.0)).collect();
    let firsts: Vec<i64> = heads.iter().map(|head| head.key.first).collect();
    let rows = session.query(CHUNKS_BY_KEY, &[&shard_of(shard), &days, &series, &firsts]).await?;
    aside(move || {
        let mut found = chunks::decode_all(&rows)?;
        found.sort_unstable_by_key(|(key, _)| *key);
        Ok(found)
    })
    .await
}

/// What is taken until it is full.
struct Page {
    found: Vec<(ChunkKey, StoredChunk)>,
    taken: u64,
    most: u64,
}

impl Page {
    /// How many of these are read at a time: as many as fit at a byte a reading, which few chunks take less than.
    fn group_of(&self, heads: &[Head]) -> usize {
        let room = self.most.saturating_sub(self.taken);
        let mut least = 0;
        let fits = heads.iter().take(GROUP).take_while(|head| {
            let before = least;
            least += head.readings;
            before <= room
        });
        fits.count().max(1)
    }

    /// Takes chunks; `false` where one does not fit any more.
    fn take(&mut self, chunks: Vec<(ChunkKey, StoredChunk)>) -> bool {
        for (key, chunk) in chunks {
            self.taken = self.taken.saturating_add(chunk.bytes.len() as u64);
            if !self.found.is_empty() && self.taken > self.most {
                return false;
            }
            self.found.push((key, chunk));
        }
        true
    }
}

pub(super) async fn edges(session: &Session, shard: Shard, series: &[SeriesId]) -> Done<Vec<(SeriesId, i64, i64)>> {
    if series.is_empty() {
        return Ok(Vec::new());
    }
    let edge = |row: &tokio_postgres::Row| Ok((rows::series_id(row.try_get(0)?)?, row.try_get(1)?, row.try_get(2)?));
    session.query(EDGES, &[&shard_of(shard), &ids_of(series)]).await?.iter().map(edge).collect()
}
