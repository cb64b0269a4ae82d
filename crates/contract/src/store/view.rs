//! Everything that a snapshot can be asked, and short ways to ask.

use super::Store;
use crate::builders::{NO_LIMITS, id_of, new_series};
use crate::within;
use headwater_core::block::{BlockStats, OpenBlock};
use headwater_core::dead_letter::DeadLetter;
use headwater_core::filter::SeriesFilter;
use headwater_core::log::Position;
use headwater_core::series::{SHARDS, Series, SeriesId, Shard};
use headwater_core::store::{Batch, BatchId, Committed, DeadLetterQuery, Snapshot, StoreError, Totals};
use headwater_core::time::TimeRange;
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
    pub(super) letters: Vec<DeadLetter>,
}

pub(super) async fn snapshot(store: &dyn Store) -> Box<dyn Snapshot> {
    within(store.snapshot(LIFETIME)).await.expect("take a snapshot")
}

/// Asks a snapshot everything.
pub(super) async fn ask(snapshot: &mut dyn Snapshot) -> View {
    let totals = within(snapshot.totals()).await.expect("ask for the totals");
    let series = within(snapshot.series(&SeriesFilter::default(), None, MANY)).await.expect("ask for series");
    let (mut stats, mut blocks) = (Vec::new(), Vec::new());
    for shard in (0..SHARDS).map(Shard) {
        let of_shard = within(snapshot.block_stats(shard, TimeRange::ALL)).await.expect("ask for the numbers of blocks");
        stats.extend(of_shard.into_iter().map(|(batch, stats)| (shard, batch, stats)));
        blocks.extend(within(snapshot.blocks(shard, TimeRange::ALL, None, MANY_BYTES)).await.expect("ask for blocks"));
    }
    let query = DeadLetterQuery { limit: MANY, ..DeadLetterQuery::default() };
    let (letters, more) = within(snapshot.dead_letters(&query, MANY_BYTES)).await.expect("ask for dead letters");
    assert!(!more, "all dead letters fit one page");
    View { totals, series, stats, blocks, letters }
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
pub(super) async fn letters(store: &dyn Store, query: DeadLetterQuery) -> Vec<DeadLetter> {
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
