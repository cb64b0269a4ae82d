//! One state of a [`super::MemoryStore`]: every question is answered by looking at everything.

use super::State;
use super::letters::Letter;
use headwater_core::BoxFuture;
use headwater_core::block::{BlockStats, OpenBlock};
use headwater_core::dead_letter::KeptLetter;
use headwater_core::filter::SeriesFilter;
use headwater_core::glob::DevicePatterns;
use headwater_core::seal::{ChunkKey, Level, RollupKey, StoredChunk};
use headwater_core::series::{SHARDS, Series, SeriesId, SeriesKey, Shard};
use headwater_core::store::{BatchId, ChunkStats, DeadLetterQuery, Result, SealMark, Snapshot, StoreError, Totals};
use headwater_core::summary::Summary;
use headwater_core::time::TimeRange;
use std::cmp::Reverse;
use std::sync::Arc;
use tokio::time::Instant;
use uuid::Uuid;

/// What a decoded reading takes of memory, as the seam counts it.
const READING_BYTES: usize = 20;

pub(super) struct MemorySnapshot {
    pub(super) state: Arc<State>,
    pub(super) deadline: Instant,
}

impl MemorySnapshot {
    fn state(&self) -> Result<&State> {
        if Instant::now() >= self.deadline { Err(StoreError::Deadline) } else { Ok(&self.state) }
    }
}

impl State {
    fn touching(&self, shard: Shard, range: TimeRange) -> impl Iterator<Item = (BatchId, &OpenBlock)> {
        let of_shard = self.blocks.range((shard, BatchId(0))..=(shard, BatchId(u64::MAX)));
        of_shard.map(|((_, batch), open)| (*batch, &*open.block)).filter(move |(_, block)| {
            let stats = block.stats();
            range.touches(stats.min_time, stats.max_time)
        })
    }

    fn chunks_touching(&self, series: &[SeriesId], range: TimeRange) -> impl Iterator<Item = (ChunkKey, &StoredChunk)> {
        let touched = move |key: &ChunkKey, chunk: &StoredChunk| series.contains(&key.series) && range.touches(key.first, chunk.last);
        self.chunks.iter().filter(move |(key, chunk)| touched(key, chunk)).map(|(key, chunk)| (*key, &**chunk))
    }

    /// Matching letters, newest first.
    fn letters(&self, query: &DeadLetterQuery) -> Vec<&Letter> {
        let mut found: Vec<&Letter> = self.whole_letters().filter(|letter| asked_for(query, letter)).collect();
        found.sort_by_key(|letter| Reverse((letter.head.received_at, letter.head.id)));
        found
    }
}

fn asked_for(query: &DeadLetterQuery, Letter { head: letter, history, .. }: &Letter) -> bool {
    let device = letter.device.as_deref();
    let visible = match &query.allowed {
        DevicePatterns::All => true,
        allowed => device.is_some_and(|device| allowed.allow(device)),
    };
    visible
        && query.reason.is_none_or(|reason| reason == letter.reason)
        && query.state.is_none_or(|state| state == history.state)
        && (query.devices.is_empty() || device.is_some_and(|device| query.devices.iter().any(|glob| glob.matches(device))))
        && query.from.is_none_or(|from| from <= letter.received_at)
        && query.to.is_none_or(|to| letter.received_at < to)
        && query.after.is_none_or(|after| (letter.received_at, letter.id) < after)
}

/// The longest beginning whose sizes stay under `most`, at least one.
fn fitting<T>(items: impl Iterator<Item = T>, most: usize, size: impl Fn(&T) -> usize) -> Vec<T> {
    let mut taken = 0usize;
    let mut first = true;
    items
        .take_while(|item| {
            taken = taken.saturating_add(size(item));
            std::mem::take(&mut first) || taken <= most
        })
        .collect()
}

impl Snapshot for MemorySnapshot {
    fn totals(&mut self) -> BoxFuture<'_, Result<Totals>> {
        Box::pin(async { Ok(self.state()?.totals()) })
    }

    fn series<'a>(
        &'a mut self,
        filter: &'a SeriesFilter,
        after: Option<&'a SeriesKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Series>>> {
        Box::pin(async move {
            let state = self.state()?;
            let matching = state.ids.iter().filter(|(key, _)| after.is_none_or(|after| after < key) && filter.matches(key.as_str()));
            Ok(matching.take(limit).map(|(_, id)| state.series[id.0 as usize].clone()).collect())
        })
    }

    fn block_stats(&mut self, shard: Shard, range: TimeRange) -> BoxFuture<'_, Result<Vec<(BatchId, BlockStats)>>> {
        Box::pin(async move { Ok(self.state()?.touching(shard, range).map(|(batch, block)| (batch, block.stats())).collect()) })
    }

    fn blocks(
        &mut self,
        shard: Shard,
        range: TimeRange,
        after: Option<BatchId>,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<(BatchId, OpenBlock)>>> {
        Box::pin(async move {
            let later = self.state()?.touching(shard, range).filter(|(batch, _)| after.is_none_or(|after| after < *batch));
            let page = fitting(later, max_bytes, |(_, block)| READING_BYTES * block.len());
            Ok(page.into_iter().map(|(batch, block)| (batch, block.clone())).collect())
        })
    }

    fn seal_marks(&mut self) -> BoxFuture<'_, Result<Option<Vec<SealMark>>>> {
        Box::pin(async move {
            let state = self.state()?;
            let stored = |shard| state.shards.get(&shard).map_or(0, |row| row.outcomes.stored);
            Ok(Some((0..SHARDS).map(|shard| SealMark { life: state.life, stored: stored(Shard(shard)) }).collect()))
        })
    }

    fn rollups<'a>(
        &'a mut self,
        _: Shard,
        level: Level,
        series: &'a [SeriesId],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<(RollupKey, Summary)>>> {
        Box::pin(async move {
            let asked_for = |key: &RollupKey| key.level == level && series.contains(&key.series) && range.contains(key.start);
            let found = self.state()?.rollups.iter().filter(|(key, _)| asked_for(key));
            Ok(found.map(|(key, summary)| (*key, Summary::clone(summary))).collect())
        })
    }

    fn chunk_stats<'a>(&'a mut self, _: Shard, series: &'a [SeriesId], range: TimeRange) -> BoxFuture<'a, Result<ChunkStats>> {
        Box::pin(async move {
            let count = |stats: ChunkStats, (_, chunk): (ChunkKey, &StoredChunk)| ChunkStats {
                chunks: stats.chunks + 1,
                readings: stats.readings + chunk.readings,
            };
            Ok(self.state()?.chunks_touching(series, range).fold(ChunkStats::default(), count))
        })
    }

    fn chunks<'a>(
        &'a mut self,
        _: Shard,
        series: &'a [SeriesId],
        range: TimeRange,
        after: Option<ChunkKey>,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<(ChunkKey, StoredChunk)>>> {
        Box::pin(async move {
            let later = self.state()?.chunks_touching(series, range).filter(|(key, _)| after.is_none_or(|after| after < *key));
            let page = fitting(later, max_bytes, |(_, chunk)| chunk.bytes.len());
            Ok(page.into_iter().map(|(key, chunk)| (key, chunk.clone())).collect())
        })
    }

    fn dead_letters<'a>(&'a mut self, query: &'a DeadLetterQuery, max_bytes: usize) -> BoxFuture<'a, Result<(Vec<KeptLetter>, bool)>> {
        Box::pin(async move {
            let found = self.state()?.letters(query);
            let page = fitting(found.iter().take(query.limit), max_bytes, |letter| letter.len());
            let more = page.len() < found.len();
            Ok((page.into_iter().map(|letter| letter.assembled()).collect(), more))
        })
    }

    fn dead_letter(&mut self, id: Uuid) -> BoxFuture<'_, Result<Option<KeptLetter>>> {
        Box::pin(async move { Ok(self.state()?.letters.get(&id).filter(|letter| letter.is_whole()).map(Letter::assembled)) })
    }
}
