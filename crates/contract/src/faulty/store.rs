//! A store that fails when told to.

use super::Faults;
use headwater_core::BoxFuture;
use headwater_core::block::{BlockStats, OpenBlock};
use headwater_core::dead_letter::{Attempt, History, KeptLetter};
use headwater_core::filter::SeriesFilter;
use headwater_core::log::Position;
use headwater_core::seal::{ChunkKey, Level, Loaded, Replacement, RollupKey, StoredChunk};
use headwater_core::series::{Series, SeriesId, SeriesKey, Shard};
use headwater_core::store::{
    Backlog, Batch, BatchId, Blocks, ChunkStats, Committed, DeadLetterQuery, DeadLetters, Ingestion, LoadBudget, NewSeries, Queries,
    Registered, Replaced, Result, SealMark, Sealing, SeriesLimits, Snapshot, StoreError, Totals, Version, Vitals,
};
use headwater_core::summary::Summary;
use headwater_core::time::{TimeRange, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// A call of [`Ingestion`], [`Sealing`], [`Queries`] or [`DeadLetters`] that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the calls' own names")]
pub enum StoreCall {
    Positions,
    OpenReadings,
    Register,
    Commit,
    Backlog,
    Load,
    Unmerged,
    Keys,
    Replace,
    Snapshot,
    /// Any question to a snapshot.
    Question,
    Attempted,
    Discard,
    Expire,
}

/// A store, and what is planned for its calls and those of its snapshots.
pub struct FaultyStore {
    store: Box<dyn crate::store::Store>,
    /// What is planned.
    pub faults: Faults<StoreCall, StoreError>,
}

impl FaultyStore {
    /// A store that does what `store` does until something is planned.
    pub fn new(store: impl crate::store::Store + 'static) -> Self {
        Self { store: Box::new(store), faults: Faults::default() }
    }
}

impl Ingestion for FaultyStore {
    fn positions(&self) -> BoxFuture<'_, Result<Vec<Position>>> {
        Box::pin(self.faults.through(StoreCall::Positions, self.store.positions()))
    }

    fn open_readings(&self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(self.faults.through(StoreCall::OpenReadings, self.store.open_readings()))
    }

    fn register(&self, series: Vec<NewSeries>, limits: SeriesLimits) -> BoxFuture<'_, Result<Vec<Registered>>> {
        Box::pin(self.faults.through(StoreCall::Register, self.store.register(series, limits)))
    }

    fn forget_ids(&self) {
        self.store.forget_ids();
    }

    fn commit(&self, batch: Arc<Batch>) -> BoxFuture<'_, Result<Committed>> {
        Box::pin(self.faults.through(StoreCall::Commit, self.store.commit(batch)))
    }
}

impl Sealing for FaultyStore {
    fn backlog(&self) -> BoxFuture<'_, Result<Vec<Backlog>>> {
        Box::pin(self.faults.through(StoreCall::Backlog, self.store.backlog()))
    }

    fn load(&self, shard: Shard, budget: LoadBudget) -> BoxFuture<'_, Result<Option<(Version, Loaded)>>> {
        Box::pin(self.faults.through(StoreCall::Load, self.store.load(shard, budget)))
    }

    fn unmerged(&self, shard: Shard, most: usize, readings: u64) -> BoxFuture<'_, Result<(Version, Blocks)>> {
        Box::pin(self.faults.through(StoreCall::Unmerged, self.store.unmerged(shard, most, readings)))
    }

    fn keys<'a>(&'a self, ids: &'a [SeriesId]) -> BoxFuture<'a, Result<Vec<SeriesKey>>> {
        Box::pin(self.faults.through(StoreCall::Keys, self.store.keys(ids)))
    }

    fn replace(&self, shard: Shard, version: Version, replacement: Arc<Replacement>) -> BoxFuture<'_, Result<Replaced>> {
        Box::pin(self.faults.through(StoreCall::Replace, self.store.replace(shard, version, replacement)))
    }
}

impl Queries for FaultyStore {
    fn snapshot(&self, lifetime: Duration) -> BoxFuture<'_, Result<Box<dyn Snapshot>>> {
        let taking = self.faults.through(StoreCall::Snapshot, self.store.snapshot(lifetime));
        Box::pin(async move {
            let snapshot = FaultySnapshot { snapshot: taking.await?, faults: self.faults.clone() };
            Ok(Box::new(snapshot) as Box<dyn Snapshot>)
        })
    }

    fn vitals(&self) -> BoxFuture<'_, Result<Vitals>> {
        self.store.vitals()
    }
}

impl DeadLetters for FaultyStore {
    fn attempted(&self, attempts: Vec<(Uuid, Attempt)>) -> BoxFuture<'_, Result<Vec<Option<History>>>> {
        Box::pin(self.faults.through(StoreCall::Attempted, self.store.attempted(attempts)))
    }

    fn discard(&self, id: Uuid) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.faults.through(StoreCall::Discard, self.store.discard(id)))
    }

    fn expire(&self, before: Timestamp, most: u64) -> BoxFuture<'_, Result<u64>> {
        Box::pin(self.faults.through(StoreCall::Expire, self.store.expire(before, most)))
    }
}

struct FaultySnapshot {
    snapshot: Box<dyn Snapshot>,
    faults: Faults<StoreCall, StoreError>,
}

impl Snapshot for FaultySnapshot {
    fn totals(&mut self) -> BoxFuture<'_, Result<Totals>> {
        Box::pin(self.faults.through(StoreCall::Question, self.snapshot.totals()))
    }

    fn positions(&mut self) -> BoxFuture<'_, Result<Vec<Position>>> {
        Box::pin(self.faults.through(StoreCall::Question, self.snapshot.positions()))
    }

    fn series<'a>(
        &'a mut self,
        filter: &'a SeriesFilter,
        after: Option<&'a SeriesKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Series>>> {
        Box::pin(self.faults.through(StoreCall::Question, self.snapshot.series(filter, after, limit)))
    }

    fn block_stats(&mut self, shard: Shard, range: TimeRange) -> BoxFuture<'_, Result<Vec<(BatchId, BlockStats)>>> {
        Box::pin(self.faults.through(StoreCall::Question, self.snapshot.block_stats(shard, range)))
    }

    fn blocks(
        &mut self,
        shard: Shard,
        range: TimeRange,
        after: Option<BatchId>,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<(BatchId, OpenBlock)>>> {
        Box::pin(self.faults.through(StoreCall::Question, self.snapshot.blocks(shard, range, after, max_bytes)))
    }

    fn seal_marks(&mut self) -> BoxFuture<'_, Result<Option<Vec<SealMark>>>> {
        Box::pin(self.faults.through(StoreCall::Question, self.snapshot.seal_marks()))
    }

    fn rollups<'a>(
        &'a mut self,
        shard: Shard,
        level: Level,
        series: &'a [SeriesId],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<(RollupKey, Summary)>>> {
        Box::pin(self.faults.through(StoreCall::Question, self.snapshot.rollups(shard, level, series, range)))
    }

    fn chunk_stats<'a>(&'a mut self, shard: Shard, series: &'a [SeriesId], range: TimeRange) -> BoxFuture<'a, Result<ChunkStats>> {
        Box::pin(self.faults.through(StoreCall::Question, self.snapshot.chunk_stats(shard, series, range)))
    }

    fn chunks<'a>(
        &'a mut self,
        shard: Shard,
        series: &'a [SeriesId],
        range: TimeRange,
        after: Option<ChunkKey>,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<(ChunkKey, StoredChunk)>>> {
        Box::pin(self.faults.through(StoreCall::Question, self.snapshot.chunks(shard, series, range, after, max_bytes)))
    }

    fn edges<'a>(&'a mut self, shard: Shard, series: &'a [SeriesId]) -> BoxFuture<'a, Result<Vec<(SeriesId, i64, i64)>>> {
        Box::pin(self.faults.through(StoreCall::Question, self.snapshot.edges(shard, series)))
    }

    fn dead_letters<'a>(&'a mut self, query: &'a DeadLetterQuery, max_bytes: usize) -> BoxFuture<'a, Result<(Vec<KeptLetter>, bool)>> {
        Box::pin(self.faults.through(StoreCall::Question, self.snapshot.dead_letters(query, max_bytes)))
    }

    fn dead_letter(&mut self, id: Uuid) -> BoxFuture<'_, Result<Option<KeptLetter>>> {
        Box::pin(self.faults.through(StoreCall::Question, self.snapshot.dead_letter(id)))
    }
}
