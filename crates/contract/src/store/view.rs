//! Everything that a snapshot can be asked, and short ways to ask.

use super::Store;
use crate::builders::{NO_LIMITS, batch, id_of, new_series, test_log};
use crate::within;
use headwater_core::block::{BlockStats, OpenBlock};
use headwater_core::chunk::Chunk;
use headwater_core::dead_letter::KeptLetter;
use headwater_core::filter::SeriesFilter;
use headwater_core::log::Position;
use headwater_core::seal::{self, ChunkKey, Level, Replacement, RollupKey, StoredChunk};
use headwater_core::series::{SHARDS, Series, SeriesId, Shard};
use headwater_core::store::{
    Backlog, Batch, BatchId, ChunkStats, Committed, DeadLetterQuery, Replaced, Snapshot, StoreError, Totals, Version,
};
use headwater_core::summary::Summary;
use headwater_core::time::{TimeRange, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A lifetime that no property outlives.
const LIFETIME: Duration = Duration::from_secs(60);
/// Far more than a property's blocks or dead letters have.
pub(super) const MANY_BYTES: usize = 64 << 20;
/// Far more rows than a property makes.
pub(super) const MANY: usize = 10_000;

/// All answers of a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    pub(super) totals: Totals,
    pub(super) series: Vec<Series>,
    pub(super) stats: Vec<(Shard, BatchId, BlockStats)>,
    pub(super) blocks: Vec<(BatchId, OpenBlock)>,
    pub(super) rollups: Vec<(RollupKey, Summary)>,
    pub(super) chunk_stats: Vec<(Shard, ChunkStats)>,
    pub(super) chunks: Vec<(ChunkKey, StoredChunk)>,
    pub(super) letters: Vec<KeptLetter>,
}

impl View {
    /// Every sealed reading.
    pub(super) fn sealed(&self) -> Vec<(SeriesId, Timestamp, f64)> {
        decoded(&self.chunks)
    }

    /// The readings of every rollup.
    pub(super) fn rolled_up(&self) -> Vec<(RollupKey, u64)> {
        self.rollups.iter().map(|(key, summary)| (*key, summary.count())).collect()
    }
}

/// The readings of chunks.
pub(super) fn decoded(chunks: &[(ChunkKey, StoredChunk)]) -> Vec<(SeriesId, Timestamp, f64)> {
    let readings = |(key, stored): &(ChunkKey, StoredChunk)| {
        let chunk = Chunk::decode(&stored.bytes).expect("a chunk that is not damaged");
        let series = key.series;
        chunk.times.into_iter().zip(chunk.values).map(move |(time, value)| (series, Timestamp(time), value)).collect::<Vec<_>>()
    };
    chunks.iter().flat_map(readings).collect()
}

pub(super) async fn snapshot(store: &dyn Store) -> Box<dyn Snapshot> {
    within(store.snapshot(LIFETIME)).await.expect("take a snapshot")
}

/// Asks a snapshot everything.
pub(super) async fn ask(snapshot: &mut dyn Snapshot) -> View {
    let totals = within(snapshot.totals()).await.expect("ask for the totals");
    let positions = within(snapshot.positions()).await.expect("ask for the positions");
    assert_eq!(positions, totals.positions, "the positions alone are those beside the totals");
    let series = within(snapshot.series(&SeriesFilter::default(), None, MANY)).await.expect("ask for series");
    let (mut stats, mut blocks) = (Vec::new(), Vec::new());
    for shard in (0..SHARDS).map(Shard) {
        let of_shard = within(snapshot.block_stats(shard, TimeRange::ALL)).await.expect("ask for the numbers of blocks");
        stats.extend(of_shard.into_iter().map(|(batch, stats)| (shard, batch, stats)));
        blocks.extend(within(snapshot.blocks(shard, TimeRange::ALL, None, MANY_BYTES)).await.expect("ask for blocks"));
    }
    let mut by_shard: BTreeMap<Shard, Vec<SeriesId>> = BTreeMap::new();
    series.iter().for_each(|series| by_shard.entry(series.id.shard()).or_default().push(series.id));
    let (mut rollups, mut chunk_stats, mut chunks) = (Vec::new(), Vec::new(), Vec::new());
    for (shard, mut ids) in by_shard {
        ids.sort();
        for level in Level::ALL {
            rollups.extend(within(snapshot.rollups(shard, level, &ids, TimeRange::ALL)).await.expect("ask for rollups"));
        }
        let stats = within(snapshot.chunk_stats(shard, &ids, TimeRange::ALL)).await.expect("ask for the numbers of chunks");
        chunk_stats.push((shard, stats));
        chunks.extend(within(snapshot.chunks(shard, &ids, TimeRange::ALL, None, MANY_BYTES)).await.expect("ask for chunks"));
    }
    let query = DeadLetterQuery { limit: MANY, ..DeadLetterQuery::default() };
    let (letters, more) = within(snapshot.dead_letters(&query, MANY_BYTES)).await.expect("ask for dead letters");
    assert!(!more, "all dead letters fit one page");
    View { totals, series, stats, blocks, rollups, chunk_stats, chunks, letters }
}

/// Asks a new snapshot everything.
pub(super) async fn view(store: &dyn Store) -> View {
    ask(&mut *snapshot(store).await).await
}

pub(super) async fn totals(store: &dyn Store) -> Totals {
    within(snapshot(store).await.totals()).await.expect("ask for the totals")
}

/// All blocks of a shard that touch `range`.
pub(super) async fn blocks_of(store: &dyn Store, shard: Shard, range: TimeRange) -> Vec<(BatchId, OpenBlock)> {
    within(snapshot(store).await.blocks(shard, range, None, MANY_BYTES)).await.expect("ask for blocks")
}

/// All dead letters that a query means.
pub(super) async fn letters(store: &dyn Store, query: DeadLetterQuery) -> Vec<KeptLetter> {
    let query = DeadLetterQuery { limit: MANY, ..query };
    let (letters, more) = within(snapshot(store).await.dead_letters(&query, MANY_BYTES)).await.expect("ask for dead letters");
    assert!(!more, "all dead letters fit one page");
    letters
}

pub(super) async fn positions(store: &dyn Store) -> Vec<Position> {
    within(store.positions()).await.expect("read the positions")
}

pub(super) async fn commit(store: &dyn Store, batch: Arc<Batch>) -> Committed {
    within(store.commit(batch)).await.expect("commit")
}

/// Asserts that a commit is fenced; what the store says of it.
pub(super) async fn fenced(store: &dyn Store, batch: Arc<Batch>) -> (u32, Option<u64>, Option<u64>) {
    match within(store.commit(batch)).await {
        Err(StoreError::Fenced { partition, expected, found }) => (partition, expected, found),
        other => panic!("the commit is fenced, not {other:?}"),
    }
}

/// Registers this many series of one device: ids that are new and lie in shards of their own.
pub(super) async fn some_series(store: &dyn Store, n: usize) -> Vec<SeriesId> {
    let series = (0..n).map(|i| new_series("device", &format!("metric-{i}"))).collect();
    let registered = within(store.register(series, NO_LIMITS)).await.expect("register");
    registered.into_iter().map(id_of).collect()
}

/// Registers this many series of one shard.
pub(super) async fn shard_mates(store: &dyn Store, n: usize) -> Vec<SeriesId> {
    let all = some_series(store, (n - 1) * usize::from(SHARDS) + 1).await;
    all.into_iter().step_by(usize::from(SHARDS)).collect()
}

/// Commits readings, received at `received`, behind the position of partition 0.
pub(super) async fn arrive(store: &dyn Store, received: Timestamp, readings: &[(SeriesId, Timestamp, f64)]) -> BatchId {
    let next = positions(store).await.iter().find(|stored| stored.log == test_log()).map(|stored| stored.next);
    commit(store, batch().received(received).readings(readings).moved(0, next, next.unwrap_or(0) + 1).build()).await.batch
}

pub(super) async fn backlog(store: &dyn Store) -> Vec<Backlog> {
    within(store.backlog()).await.expect("ask for the backlog")
}

/// Merges the oldest unmerged blocks of a shard, at most `most`.
pub(super) async fn merge(store: &dyn Store, shard: Shard, most: usize) {
    let (version, blocks) = within(store.unmerged(shard, most, u64::MAX)).await.expect("ask for unmerged blocks");
    let merged = seal::merge_blocks(shard, &blocks).expect("two blocks or more");
    done(store, shard, version, &Arc::new(merged)).await;
}

/// The version of a shard.
pub(super) async fn version(store: &dyn Store, shard: Shard) -> Version {
    within(store.unmerged(shard, 1, 0)).await.expect("ask for unmerged blocks").0
}

/// Replaces; readings that are open then.
pub(super) async fn done(store: &dyn Store, shard: Shard, version: Version, replacement: &Arc<Replacement>) -> u64 {
    match within(store.replace(shard, version, Arc::clone(replacement))).await {
        Ok(Replaced::Done { open_readings }) => open_readings,
        other => panic!("the replacement is done, not {other:?}"),
    }
}

/// Asserts that a replacement is lost and changes nothing.
pub(super) async fn lost(store: &dyn Store, shard: Shard, version: Version, replacement: &Arc<Replacement>) {
    let before = view(store).await;
    let replaced = within(store.replace(shard, version, Arc::clone(replacement))).await;
    assert!(matches!(replaced, Ok(Replaced::Lost)), "the replacement is lost, not {replaced:?}");
    assert_eq!(view(store).await, before, "what is lost changes nothing");
}
