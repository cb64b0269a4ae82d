//! What sealing reads: the backlog, the oldest blocks with all that they touch, the series' keys.
#![expect(missing_docs, reason = "a property's name is its claim")]

use super::view::{View, arrive, backlog, blocks_of, shard_mates, some_series, version, view};
use super::{Store, StoreHarness};
use crate::builders::{NO_BUDGET, START, at, load, new_series, seal_all, seal_shard};
use crate::within;
use headwater_core::block::OpenBlock;
use headwater_core::seal::{ChunkKey, Level, Loaded, RollupKey, StoredChunk};
use headwater_core::series::{SHARDS, SeriesId, Shard};
use headwater_core::store::{Backlog, LoadBudget, StoreError};
use headwater_core::summary::Summary;
use headwater_core::time::{DAY, HOUR, TimeRange, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Hours before, on and after two borders of days, as (day, hour of the day).
const HOURS: [(i64, i64); 5] = [(0, 22), (0, 23), (1, 0), (1, 12), (2, 0)];

fn hour(day: i64, hour: i64) -> Timestamp {
    START.floor_to(DAY).plus(day * DAY + hour * HOUR)
}

/// Seals 70 readings of each series in each of [`HOURS`]: so every touched window has a rollup.
async fn seal_history(store: &dyn Store, series: &[SeriesId]) {
    let minute_of = |(day, of_day): (i64, i64), n: i64| hour(day, of_day).plus(n * 1_000_000);
    let of_series = |id: SeriesId| HOURS.into_iter().flat_map(move |place| (0..70).map(move |n| (id, minute_of(place, n), n as f64 / 4.0)));
    let readings: Vec<_> = series.iter().flat_map(|&id| of_series(id)).collect();
    arrive(store, START, &readings).await;
    seal_all(store).await;
}

/// What of a view's chunks and rollups readings touch, those of series up to `through`.
fn touched<'a>(
    view: &View,
    blocks: impl IntoIterator<Item = &'a OpenBlock>,
    through: Option<SeriesId>,
) -> (BTreeMap<ChunkKey, StoredChunk>, BTreeMap<RollupKey, Summary>) {
    let mut days: BTreeSet<(SeriesId, i64)> = BTreeSet::new();
    let mut windows: BTreeSet<RollupKey> = BTreeSet::new();
    for block in blocks {
        for (&series, &time) in block.series.iter().zip(&block.times).filter(|(series, _)| through.is_none_or(|last| **series <= last)) {
            days.insert((series, time.div_euclid(DAY)));
            windows.extend(Level::ALL.map(|level| RollupKey { series, level, start: level.start_of(time) }));
        }
    }
    let chunks = view.chunks.iter().filter(|(key, _)| days.contains(&(key.series, key.day()))).cloned().collect();
    (chunks, view.rollups.iter().filter(|(key, _)| windows.contains(key)).cloned().collect())
}

/// Asserts that nothing is missing of what sealing needs, and nothing is there that it does not.
fn assert_loaded(view: &View, loaded: &Loaded) {
    let (chunks, rollups) = touched(view, loaded.blocks.iter().map(|(_, block)| block), loaded.through);
    assert_eq!(loaded.chunks, chunks, "every chunk of every day that is touched");
    assert_eq!(loaded.rollups, rollups, "every rollup of every window that is touched");
}

fn bytes_of(loaded: &Loaded) -> u64 {
    let mut rollups = Vec::new();
    loaded.rollups.values().for_each(|summary| summary.encode(&mut rollups));
    (rollups.len() + loaded.chunks.values().map(|chunk| chunk.bytes.len()).sum::<usize>()) as u64
}

pub async fn what_is_loaded_is_the_oldest_blocks_with_all_that_they_touch(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let [a, b, c, new] = shard_mates(&*store, 4).await[..] else { panic!("four series") };
    seal_history(&*store, &[a, b, c]).await;
    // Late, ahead of all chunks, on a border, and of a series that has no chunks.
    arrive(&*store, START, &[(a, hour(0, 23), 9.0), (b, hour(1, 0).plus(-1), 9.0), (new, hour(0, 23), 9.0)]).await;
    arrive(&*store, START, &[(b, hour(2, 0), 9.0), (b, hour(2, 23), 9.0), (a, hour(0, 0), 9.0)]).await;
    arrive(&*store, START, &[(b, hour(1, 12), 9.0)]).await;
    let view = view(&*store).await;
    assert!(view.chunks.len() >= 9 && view.rollups.len() == 3 * (5 + 3), "the history is there");
    let open = blocks_of(&*store, a.shard(), TimeRange::ALL).await;
    for (readings, n) in [(0, 1), (6, 2), (u64::MAX, 3)] {
        let (loaded_version, loaded) = load(&*store, a.shard(), LoadBudget { readings, bytes: u64::MAX }).await;
        assert_eq!(loaded.blocks, open[..n], "of {readings} readings");
        assert_eq!(loaded.through, None);
        assert_loaded(&view, &loaded);
        assert!(!loaded.chunks.is_empty() && !loaded.rollups.is_empty(), "the blocks touch something");
        assert_eq!(loaded_version, version(&*store, a.shard()).await);
    }
}

pub async fn a_load_takes_at_least_one_block_and_no_more_readings_than_its_budget(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let id = some_series(&*store, 1).await[0];
    let sizes = [5usize, 3, 10, 1];
    for (n, size) in sizes.into_iter().enumerate() {
        let readings: Vec<_> = (0..size).map(|i| (id, at((n * 100 + i) as i64), 1.0)).collect();
        arrive(&*store, START, &readings).await;
    }
    let open = blocks_of(&*store, id.shard(), TimeRange::ALL).await;
    for (readings, expected) in [(0, 1), (4, 1), (5, 1), (7, 1), (8, 2), (17, 2), (18, 3), (19, 4), (u64::MAX, 4)] {
        let (_, loaded) = load(&*store, id.shard(), LoadBudget { readings, ..NO_BUDGET }).await;
        assert_eq!(loaded.blocks, open[..expected], "within {readings} readings");
        assert_eq!(loaded.through, None, "nothing is sealed that would not fit");
    }
}

pub async fn a_load_takes_no_more_bytes_than_its_budget(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let [a, b, c] = shard_mates(&*store, 3).await[..] else { panic!("three series") };
    seal_history(&*store, &[a, b, c]).await;
    for id in [c, a, b] {
        arrive(&*store, START, &[(id, hour(0, 23).plus(-1), 9.0)]).await;
    }
    let (view, open) = (view(&*store).await, blocks_of(&*store, a.shard(), TimeRange::ALL).await);
    let (_, all) = load(&*store, a.shard(), NO_BUDGET).await;
    let total = bytes_of(&all);
    assert_eq!(all.blocks, open);
    let mut seen = BTreeSet::new();
    for bytes in (0..=8).map(|eighths| total * eighths / 8) {
        let (_, loaded) = load(&*store, a.shard(), LoadBudget { bytes, ..NO_BUDGET }).await;
        let n = loaded.blocks.len();
        assert!(n >= 1 && loaded.blocks == open[..n], "the oldest blocks, at least one, within {bytes} bytes");
        assert!(n == 1 || bytes_of(&loaded) <= bytes, "{n} blocks touch {} bytes, more than {bytes}", bytes_of(&loaded));
        assert_loaded(&view, &loaded);
        seen.insert(n);
    }
    assert!(seen.len() > 1, "the budget makes a difference");
}

pub async fn a_wide_block_is_loaded_through_its_first_series(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let series = shard_mates(&*store, 4).await;
    seal_history(&*store, &series).await;
    let wide: Vec<_> = series.iter().map(|&id| (id, hour(0, 23).plus(-1), 9.0)).collect();
    arrive(&*store, START, &wide).await;
    arrive(&*store, START, &wide[..1]).await;
    let before = view(&*store).await;
    let (_, first) = load(&*store, series[0].shard(), LoadBudget { readings: 0, ..NO_BUDGET }).await;
    let total = bytes_of(&first);
    assert_eq!(first.through, None, "it fits");
    let mut seen = BTreeSet::new();
    for bytes in (0..8).map(|eighths| total * eighths / 8) {
        let (_, loaded) = load(&*store, series[0].shard(), LoadBudget { bytes, ..NO_BUDGET }).await;
        assert_eq!(loaded.blocks, first.blocks, "one block, whole, within {bytes} bytes");
        let through = loaded.through.expect("its series do not all fit");
        let place = series.iter().position(|&id| id == through).expect("one of its series");
        assert!(place == 0 || bytes_of(&loaded) <= bytes, "through series {place} within {bytes} bytes");
        assert!(bytes > 0 || place == 0, "within nothing there is no room for a second series");
        assert_loaded(&before, &loaded);
        seen.insert(place);
    }
    assert!(seen.len() > 1, "the budget makes a difference");
    seal_shard(&*store, series[0].shard(), LoadBudget { readings: u64::MAX, bytes: 0 }).await;
    let after = view(&*store).await;
    assert_eq!((after.totals.unsealed, after.totals.stored), (0, before.totals.stored + 4), "series after series");
}

pub async fn a_shard_without_open_blocks_is_not_loaded(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let id = some_series(&*store, 1).await[0];
    arrive(&*store, START, &[(id, START, 1.0)]).await;
    seal_all(&*store).await;
    arrive(&*store, START, &[(SeriesId(id.0 + 1), START, 1.0)]).await;
    for shard in [id.shard(), Shard(40)] {
        assert!(within(store.load(shard, NO_BUDGET)).await.expect("load a shard").is_none(), "shard {}", shard.0);
        assert_eq!(within(store.unmerged(shard, 10, 10)).await.expect("ask for unmerged blocks").1, []);
    }
}

pub async fn the_backlog_tells_readings_unmerged_widest_and_oldest(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let ids = some_series(&*store, 66).await;
    let (a, other, mate) = (ids[0], ids[1], ids[64]);
    arrive(&*store, at(50), &[(other, at(9), 1.0), (a, at(1), 1.0), (a, at(1), 1.0), (a, at(1), 2.0)]).await;
    // Received before the first one: a clock that was set back, or a log that was put back.
    arrive(&*store, at(20), &[(a, at(3), 1.0), (mate, at(4), 1.0)]).await;
    arrive(&*store, at(70), &[(mate, at(5), 1.0)]).await;
    let of_other = Backlog { shard: other.shard(), readings: 1, unmerged: 1, widest: 1, oldest: at(50) };
    let of_a = Backlog { shard: a.shard(), readings: 6, unmerged: 3, widest: 2, oldest: at(20) };
    assert!(a.shard() < other.shard());
    assert_eq!(backlog(&*store).await, [of_a, of_other], "repeats count");
    seal_shard(&*store, other.shard(), NO_BUDGET).await;
    assert_eq!(backlog(&*store).await, [of_a], "what is sealed is not open");
    seal_all(&*store).await;
    assert_eq!(backlog(&*store).await, []);
}

pub async fn the_keys_of_series_come_in_the_order_of_the_question(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let ids = some_series(&*store, usize::from(SHARDS) + 6).await;
    let asked: Vec<SeriesId> = [69, 0, 3, 66, 2, 3].map(|i: usize| ids[i]).into();
    let expected: Vec<_> = [69, 0, 3, 66, 2, 3].map(|i| new_series("device", &format!("metric-{i}")).key).into();
    assert_eq!(within(store.keys(&asked)).await.expect("ask for the keys of series"), expected);
    assert_eq!(within(store.keys(&[])).await.expect("ask for no keys"), []);
}

pub async fn the_key_of_an_unknown_series_is_refused(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let ids = some_series(&*store, 2).await;
    let answer = within(store.keys(&[ids[1], SeriesId(999), ids[0]])).await;
    assert!(matches!(answer, Err(StoreError::Corrupt(_))), "an id that nothing has is damage, not {answer:?}");
}
