//! What the sealer reads: each call is one snapshot that ends with it.
//!
//! Owns: the backlog, and which blocks, chunks and rollups are loaded together. Does not know: what becomes of them.
//! Invariants: what is loaded stays within the budget, but for the first block and its first series; chunks of a series are loaded for a whole
//! day or not at all; nothing is held when a call has ended.

use super::chunks::{self, day_of};
use super::rows::{self, level};
use super::{aside, blocks, ids_of, int, shard_of, uint};
use crate::error::{Done, corrupt};
use crate::pool::{Life, Params, Session};
use headwater_core::failpoint;
use headwater_core::seal::{ChunkKey, Level, Loaded, RollupKey, StoredChunk, Touched, touched};
use headwater_core::series::{SeriesId, SeriesKey, Shard};
use headwater_core::store::{Backlog, Blocks, LoadBudget, Version};
use headwater_core::summary::Summary;

const BACKLOG: &str = include_str!("../sql/store/backlog.sql");
const VERSION: &str = include_str!("../sql/store/version.sql");
const OLDEST: &str = include_str!("../sql/store/oldest_blocks.sql");
const UNMERGED: &str = include_str!("../sql/store/unmerged_blocks.sql");
const KEYS: &str = include_str!("../sql/store/keys_of_series.sql");
const TOUCHED_CHUNKS: &str = include_str!("../sql/store/touched_chunks.sql");
const TOUCHED_ROLLUPS: &str = include_str!("../sql/store/touched_rollups.sql");

/// Chunks of so many (day, series) are asked for at once: at most some 10 MB beyond a budget.
const GROUP: usize = 512;

pub(super) async fn backlog(session: &Session) -> Done<Vec<Backlog>> {
    session.query(BACKLOG, &[]).await?.iter().map(rows::backlog).collect()
}

pub(super) async fn keys(session: &Session, ids: &[SeriesId]) -> Done<Vec<SeriesKey>> {
    let numbers = ids_of(ids);
    let mut found: Vec<Option<SeriesKey>> = vec![None; ids.len()];
    for row in session.query(KEYS, &[&numbers]).await? {
        let place = row.try_get::<_, i64>(0)? as usize - 1;
        found[place] = Some(rows::key(row.try_get(1)?, numbers[place])?);
    }
    let key = |(key, id): (Option<SeriesKey>, &SeriesId)| key.ok_or_else(|| corrupt(format!("there is no series {}", id.0)));
    found.into_iter().zip(ids).map(key).collect()
}

async fn version(session: &Session, shard: Shard, life: Life) -> Done<Version> {
    let stored: i64 = session.query_one(VERSION, &[&shard_of(shard)]).await?.try_get(0)?;
    Ok(Version(uint(stored) | mark(life)))
}

/// So many bits are what is stored; a shard that is sealed a thousand times a second has enough of them for thirty years.
const STORED_BITS: u32 = 40;

/// The upper bits of a version tell in which life of the database it was read: after a failover or a restore, the same version and the same batch
/// numbers may come again with other readings.
const fn mark(life: Life) -> u64 {
    (life.0 as u64) << STORED_BITS
}

/// The version as it is stored; `None` where it was read in another life than this.
pub(super) const fn stored_version(version: Version, life: Life) -> Option<i64> {
    let stored = version.0 & ((1 << STORED_BITS) - 1);
    if version.0 - stored == mark(life) { Some(stored as i64) } else { None }
}

async fn read_blocks(session: &Session, sql: &str, params: Params<'_>, shard: Shard) -> Done<Blocks> {
    let rows = session.query(sql, params).await?;
    aside(move || blocks::decode_all(&rows, shard)).await
}

pub(super) async fn unmerged(session: &Session, shard: Shard, most: usize, readings: u64) -> Done<(Version, Blocks)> {
    let life = session.begin_reading().await?;
    let version = version(session, shard, life).await?;
    let params: Params<'_> = &[&shard_of(shard), &int(readings), &int(most.max(1) as u64)];
    let blocks = read_blocks(session, UNMERGED, params, shard).await?;
    session.commit().await?;
    Ok((version, blocks))
}

pub(super) async fn load(session: &Session, shard: Shard, budget: LoadBudget) -> Done<Option<(Version, Loaded)>> {
    failpoint::reach("store.load");
    let life = session.begin_reading().await?;
    let version = version(session, shard, life).await?;
    let blocks = read_blocks(session, OLDEST, &[&shard_of(shard), &int(budget.readings)], shard).await?;
    let loaded = if blocks.is_empty() { None } else { Some(with_history(session, shard, blocks, budget.bytes).await?) };
    session.commit().await?;
    Ok(loaded.map(|loaded| (version, loaded)))
}

/// As many of the blocks as touch no more than `bytes`, with what they touch.
async fn with_history(session: &Session, shard: Shard, mut blocks: Blocks, bytes: u64) -> Done<Loaded> {
    loop {
        let touched = touched(&blocks);
        let mut history = History { session, shard, budget: bytes, taken: 0, loaded: Loaded::default() };
        let is_all = history.of(&touched).await?;
        if !is_all && blocks.len() > 1 {
            blocks.truncate(blocks.len() / 2);
            continue;
        }
        if !is_all {
            history = History { session, shard, budget: bytes, taken: 0, loaded: Loaded::default() };
            history.by_series(touched).await?;
        }
        return Ok(Loaded { blocks, ..history.loaded });
    }
}

/// Chunks and rollups, as they are gathered.
struct History<'a> {
    session: &'a Session,
    shard: Shard,
    budget: u64,
    taken: u64,
    loaded: Loaded,
}

impl History<'_> {
    /// All that is touched; `false` where the budget does not suffice.
    async fn of(&mut self, touched: &[Touched]) -> Done<bool> {
        for group in touched.chunks(GROUP) {
            let chunks = read_chunks(self.session, self.shard, group).await?;
            if !chunks.into_iter().all(|(key, chunk)| self.take_chunk(key, chunk)) {
                return Ok(false);
            }
            let rollups = read_rollups(self.session, self.shard, group).await?;
            if !rollups.into_iter().all(|(key, summary, bytes)| self.take_rollup(key, summary, bytes)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Series by series, as many as the budget suffices for, at least one.
    async fn by_series(&mut self, mut touched: Vec<Touched>) -> Done<()> {
        touched.sort_by_key(|touched| (touched.series, touched.day));
        let mut through = None;
        let mut is_all = true;
        for series in touched.chunk_by(|a, b| a.series == b.series) {
            let id = series[0].series;
            if through.is_none() {
                let budget = std::mem::replace(&mut self.budget, u64::MAX);
                self.of(series).await?;
                self.budget = budget;
            } else if !self.of(series).await? {
                // What there is of it already goes again.
                self.loaded.chunks.split_off(&ChunkKey { series: id, first: i64::MIN });
                self.loaded.rollups.split_off(&RollupKey { series: id, level: Level::Hour, start: i64::MIN });
                is_all = false;
                break;
            }
            through = Some(id);
        }
        self.loaded.through = through.filter(|_| !is_all);
        Ok(())
    }

    fn take_chunk(&mut self, key: ChunkKey, chunk: StoredChunk) -> bool {
        let fits = self.spend(chunk.bytes.len());
        self.loaded.chunks.insert(key, chunk);
        fits
    }

    fn take_rollup(&mut self, key: RollupKey, summary: Summary, bytes: usize) -> bool {
        let fits = self.spend(bytes);
        self.loaded.rollups.insert(key, summary);
        fits
    }

    fn spend(&mut self, bytes: usize) -> bool {
        self.taken = self.taken.saturating_add(bytes as u64);
        self.taken <= self.budget
    }
}

async fn read_chunks(session: &Session, shard: Shard, touched: &[Touched]) -> Done<Vec<(ChunkKey, StoredChunk)>> {
    let days: Vec<i32> = touched.iter().map(|touched| day_of(touched.midnight())).collect();
    let series: Vec<i64> = touched.iter().map(|touched| i64::from(touched.series.0)).collect();
    let rows = session.query(TOUCHED_CHUNKS, &[&shard_of(shard), &days, &series]).await?;
    aside(move || chunks::decode_all(&rows)).await
}

/// Rollups with the number of their bytes.
async fn read_rollups(session: &Session, shard: Shard, touched: &[Touched]) -> Done<Vec<(RollupKey, Summary, usize)>> {
    let (mut days, mut levels, mut series, mut starts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for touched in touched {
        for (of, start) in touched.windows() {
            days.push(day_of(touched.midnight()));
            levels.push(level(of));
            series.push(i64::from(touched.series.0));
            starts.push(start);
        }
    }
    let rows = session.query(TOUCHED_ROLLUPS, &[&shard_of(shard), &days, &levels, &series, &starts]).await?;
    let decode = |row: &tokio_postgres::Row| {
        let (key, summary) = rows::rollup(row)?;
        Ok((key, summary, row.try_get::<_, &[u8]>(3)?.len()))
    };
    rows.iter().map(decode).collect::<Done<_>>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_counts_in_the_life_in_which_it_was_read_and_in_no_other() {
        let (life, next) = (Life(-7), Life(-8));
        let version = Version(12 | mark(life));
        assert_eq!((stored_version(version, life), stored_version(version, next)), (Some(12), None));
    }
}
