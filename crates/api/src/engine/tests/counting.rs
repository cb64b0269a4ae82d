//! A store that counts what is asked of its snapshots, and can hand out damaged chunks.

use headwater_contract::MemoryStore;
use headwater_core::BoxFuture;
use headwater_core::block::BlockStats;
use headwater_core::dead_letter::KeptLetter;
use headwater_core::filter::SeriesFilter;
use headwater_core::seal::{ChunkKey, Level, RollupKey, StoredChunk};
use headwater_core::series::{Series, SeriesId, SeriesKey, Shard};
use headwater_core::store::{BatchId, Blocks, ChunkStats, DeadLetterQuery, Queries, Result, SealMark, Snapshot, Totals};
use headwater_core::summary::Summary;
use headwater_core::time::TimeRange;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uuid::Uuid;

/// What came of the calls since the last look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) rollup_calls: usize,
    pub(super) rollups: usize,
    pub(super) chunk_calls: usize,
    pub(super) chunks: usize,
    pub(super) block_calls: usize,
}

#[derive(Clone)]
pub(super) struct Counting {
    store: MemoryStore,
    counts: Arc<Mutex<Counts>>,
    pub(super) damages: Arc<AtomicBool>,
}

impl Counting {
    pub(super) fn new(store: MemoryStore) -> Self {
        Self { store, counts: Arc::default(), damages: Arc::default() }
    }

    /// The counts, which begin anew.
    pub(super) fn counts(&self) -> Counts {
        std::mem::take(&mut self.counts.lock().unwrap())
    }
}

impl Queries for Counting {
    fn snapshot(&self, lifetime: Duration) -> BoxFuture<'_, Result<Box<dyn Snapshot>>> {
        Box::pin(async move {
            let snapshot = Counted { snapshot: self.store.snapshot(lifetime).await?, by: self.clone() };
            Ok(Box::new(snapshot) as Box<dyn Snapshot>)
        })
    }
}

struct Counted {
    snapshot: Box<dyn Snapshot>,
    by: Counting,
}

impl Counted {
    fn count(&self, add: impl FnOnce(&mut Counts)) {
        add(&mut self.by.counts.lock().unwrap());
    }
}

impl Snapshot for Counted {
    fn totals(&mut self) -> BoxFuture<'_, Result<Totals>> {
        self.snapshot.totals()
    }

    fn series<'a>(
        &'a mut self,
        filter: &'a SeriesFilter,
        after: Option<&'a SeriesKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Series>>> {
        self.snapshot.series(filter, after, limit)
    }

    fn block_stats(&mut self, shard: Shard, range: TimeRange) -> BoxFuture<'_, Result<Vec<(BatchId, BlockStats)>>> {
        self.snapshot.block_stats(shard, range)
    }

    fn blocks(&mut self, shard: Shard, range: TimeRange, after: Option<BatchId>, max_bytes: usize) -> BoxFuture<'_, Result<Blocks>> {
        self.count(|counts| counts.block_calls += 1);
        self.snapshot.blocks(shard, range, after, max_bytes)
    }

    fn seal_marks(&mut self) -> BoxFuture<'_, Result<Option<Vec<SealMark>>>> {
        self.snapshot.seal_marks()
    }

    fn rollups<'a>(
        &'a mut self,
        shard: Shard,
        level: Level,
        series: &'a [SeriesId],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<(RollupKey, Summary)>>> {
        Box::pin(async move {
            let rollups = self.snapshot.rollups(shard, level, series, range).await?;
            self.count(|counts| {
                counts.rollup_calls += 1;
                counts.rollups += rollups.len();
            });
            Ok(rollups)
        })
    }

    fn chunk_stats<'a>(&'a mut self, shard: Shard, series: &'a [SeriesId], range: TimeRange) -> BoxFuture<'a, Result<ChunkStats>> {
        self.snapshot.chunk_stats(shard, series, range)
    }

    fn chunks<'a>(
        &'a mut self,
        shard: Shard,
        series: &'a [SeriesId],
        range: TimeRange,
        after: Option<ChunkKey>,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<(ChunkKey, StoredChunk)>>> {
        Box::pin(async move {
            let mut chunks = self.snapshot.chunks(shard, series, range, after, max_bytes).await?;
            self.count(|counts| {
                counts.chunk_calls += 1;
                counts.chunks += chunks.len();
            });
            if self.by.damages.load(Ordering::Relaxed) {
                chunks.iter_mut().for_each(|(_, chunk)| chunk.bytes[4] ^= 1);
            }
            Ok(chunks)
        })
    }

    fn dead_letters<'a>(&'a mut self, query: &'a DeadLetterQuery, max_bytes: usize) -> BoxFuture<'a, Result<(Vec<KeptLetter>, bool)>> {
        self.snapshot.dead_letters(query, max_bytes)
    }

    fn dead_letter(&mut self, id: Uuid) -> BoxFuture<'_, Result<Option<KeptLetter>>> {
        self.snapshot.dead_letter(id)
    }
}
