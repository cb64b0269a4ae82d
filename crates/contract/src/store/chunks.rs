//! Chunks and rollups as they are read.
#![expect(missing_docs, reason = "a property's name is its claim")]

use super::view::{MANY_BYTES, View, arrive, shard_mates, snapshot, some_series, view};
use super::{Store, StoreHarness};
use crate::builders::{START, at, seal_all};
use crate::within;
use headwater_core::seal::{ChunkKey, GOOD_READINGS, Level, RollupKey, StoredChunk};
use headwater_core::series::SeriesId;
use headwater_core::store::{ChunkStats, Snapshot};
use headwater_core::summary::Summary;
use headwater_core::time::{DAY, HOUR, TimeRange, Timestamp};

pub async fn chunks_come_back_bit_by_bit(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let id = some_series(&*store, 1).await[0];
    let values = [0.0, 0.1 + 0.2, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, -1e-300, 1e300, 21.5];
    let readings: Vec<_> = (0i64..).zip(values).map(|(n, value)| (id, START.plus(n * n), value)).collect();
    arrive(&*store, START, &readings).await;
    seal_all(&*store).await;
    let view = view(&*store).await;
    let bits = |readings: &[(SeriesId, Timestamp, f64)]| readings.iter().map(|r| (r.0, r.1, r.2.to_bits())).collect::<Vec<_>>();
    assert_eq!(bits(&view.sealed()), bits(&readings));
    let [(key, stored)] = &view.chunks[..] else { panic!("one chunk, not {:?}", view.chunks) };
    assert_eq!((key.series, key.first, stored.last, stored.readings), (id, START.0, START.0 + 64, 9));
}

/// Series of one shard with two full chunks and two rolled-up hours in each of three days; and one of another shard, which is
/// never asked for.
async fn history(store: &dyn Store) -> (Vec<SeriesId>, View) {
    let ids = shard_mates(store, 4).await;
    let stranger = SeriesId(ids[0].0 + 1);
    let full = GOOD_READINGS as i64 + 1;
    let mut readings = Vec::new();
    for &id in ids.iter().chain([&stranger]) {
        for start in (0..3).flat_map(|day| [day * DAY, day * DAY + 4 * HOUR]) {
            readings.extend((0..full).map(|n| (id, START.plus(start + n * 1_000), (n % 50) as f64)));
        }
    }
    arrive(store, START, &readings).await;
    seal_all(store).await;
    let view = view(store).await;
    assert_eq!((view.chunks.len(), view.rollups.len()), (5 * 6, 5 * (6 + 3)), "the history is there");
    (ids, view)
}

/// Series and ranges to ask for, the latter with borders on the borders of chunks.
fn questions(ids: &[SeriesId]) -> Vec<(Vec<SeriesId>, TimeRange)> {
    let last = START.plus(GOOD_READINGS as i64 * 1_000);
    let second = START.plus(4 * HOUR);
    let ranges = [
        (Timestamp(i64::MIN), Timestamp(i64::MAX)),
        (START, START.plus(1)),
        (Timestamp(i64::MIN), START),
        (last, last.plus(1)),
        (last.plus(1), second),
        (last.plus(1), second.plus(1)),
        (last, second.plus(1)),
        (START.plus(5 * HOUR), START.plus(DAY)),
        (START.plus(5 * HOUR), START.plus(DAY + HOUR)),
        (START.plus(DAY), START.plus(2 * DAY)),
        (START.plus(9 * DAY), Timestamp(i64::MAX)),
        (at(9), at(3)),
    ];
    let unknown = SeriesId(ids[3].0 + 64);
    let series = [ids.to_vec(), vec![ids[2]], vec![ids[0], ids[3], unknown], vec![unknown], vec![]];
    series.iter().flat_map(|series| ranges.map(|(from, to)| (series.clone(), TimeRange::new(from, to)))).collect()
}

fn asked_for(view: &View, series: &[SeriesId], range: TimeRange) -> Vec<(ChunkKey, StoredChunk)> {
    let touches = |key: &ChunkKey, chunk: &StoredChunk| range.touches(key.first, chunk.last);
    let mut found: Vec<_> =
        view.chunks.iter().filter(|(key, chunk)| series.contains(&key.series) && touches(key, chunk)).cloned().collect();
    found.sort_by_key(|(key, _)| *key);
    found
}

pub async fn chunks_are_found_by_series_and_range_in_order(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let (ids, view) = history(&*store).await;
    let mut snapshot = snapshot(&*store).await;
    for (series, range) in questions(&ids) {
        let found = within(snapshot.chunks(ids[0].shard(), &series, range, None, MANY_BYTES)).await.expect("ask for chunks");
        assert_eq!(found, asked_for(&view, &series, range), "of {series:?} in {range:?}");
    }
}

pub async fn the_numbers_of_chunks_are_those_of_what_is_found(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let (ids, view) = history(&*store).await;
    let mut snapshot = snapshot(&*store).await;
    for (series, range) in questions(&ids) {
        let stats = within(snapshot.chunk_stats(ids[0].shard(), &series, range)).await.expect("ask for the numbers of chunks");
        let found = asked_for(&view, &series, range);
        let readings = found.iter().map(|(_, chunk)| chunk.readings).sum();
        assert_eq!(stats, ChunkStats { chunks: found.len() as u64, readings }, "of {series:?} in {range:?}");
    }
}

pub async fn rollups_are_found_by_level_series_and_range_in_order(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let (ids, view) = history(&*store).await;
    let midnight = START.floor_to(DAY);
    let ranges = [(midnight, midnight.plus(1)), (midnight.plus(1), midnight.plus(DAY + 1)), (midnight.plus(DAY), midnight.plus(2 * DAY))];
    let wide = ranges.map(|(from, to)| (ids.clone(), TimeRange::new(from, to)));
    let mut snapshot = snapshot(&*store).await;
    for (series, range) in questions(&ids).into_iter().chain(wide) {
        for level in Level::ALL {
            let asked_for = |key: &RollupKey| key.level == level && series.contains(&key.series) && range.contains(key.start);
            let mut expected: Vec<(RollupKey, Summary)> = view.rollups.iter().filter(|(key, _)| asked_for(key)).cloned().collect();
            expected.sort_by_key(|(key, _)| *key);
            let found = within(snapshot.rollups(ids[0].shard(), level, &series, range)).await.expect("ask for rollups");
            assert_eq!(found, expected, "{level:?} of {series:?} in {range:?}");
        }
    }
}

/// Everything, in pages of `max_bytes`.
async fn paged(snapshot: &mut dyn Snapshot, series: &[SeriesId], max_bytes: usize) -> Vec<(ChunkKey, StoredChunk)> {
    let (mut paged, mut after): (Vec<(ChunkKey, StoredChunk)>, _) = (Vec::new(), None);
    loop {
        let asking = snapshot.chunks(series[0].shard(), series, TimeRange::new(START, START.plus(DAY + HOUR)), after, max_bytes);
        let page = within(asking).await.expect("ask for chunks");
        let (Some((first, _)), Some((last, _))) = (page.first(), page.last()) else { break paged };
        assert!(after < Some(*first), "a page begins behind the one before");
        let bytes: usize = page.iter().map(|(_, chunk)| chunk.bytes.len()).sum();
        assert!(page.len() == 1 || bytes <= max_bytes, "{} chunks take {bytes} bytes, more than {max_bytes}", page.len());
        after = Some(*last);
        paged.extend(page);
    }
}

pub async fn paging_chunks_gives_each_once(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let (ids, view) = history(&*store).await;
    let mut snapshot = snapshot(&*store).await;
    let series = [ids[0], ids[1], ids[3]];
    let expected = asked_for(&view, &series, TimeRange::new(START, START.plus(DAY + HOUR)));
    let one = expected[0].1.bytes.len();
    assert_eq!(expected.len(), 9);
    for max_bytes in [0, 1, one, one * 2, one * 5 / 2, one * 4, MANY_BYTES] {
        assert_eq!(paged(&mut *snapshot, &series, max_bytes).await, expected, "in pages of {max_bytes} bytes");
    }
}

/// Readings of many series, each in some of ten days, a few of them full chunks, some of them late: from `seed`.
async fn scattered(store: &dyn Store, ids: &[SeriesId], mut seed: u64) {
    let mut below = move |most: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % most
    };
    for _ in 0..3 {
        let mut readings = Vec::new();
        for &id in ids {
            for _ in 0..below(4) {
                let start = below(10) as i64 * DAY + below(20) as i64 * HOUR;
                let full = if below(8) == 0 { GOOD_READINGS as i64 } else { 1 + below(3) as i64 };
                readings.extend((0..full).map(|n| (id, START.plus(start + n * 1_000), n as f64)));
            }
        }
        arrive(store, START, &readings).await;
        seal_all(store).await;
    }
}

pub async fn edges_are_those_of_the_first_and_the_last_chunk(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let mut ids = shard_mates(&*store, 12).await;
    scattered(&*store, &ids[..11], 5).await;
    let view = view(&*store).await;
    ids.push(SeriesId(ids[11].0 + 64));
    let mut snapshot = snapshot(&*store).await;
    for series in [&ids[..], &ids[3..4], &ids[11..], &[ids[0], ids[10]], &[]] {
        let mut expected = Vec::new();
        for &id in series {
            let chunks = asked_for(&view, &[id], TimeRange::ALL);
            expected.extend(chunks.first().zip(chunks.last()).map(|(first, last)| (id, first.0.first, last.1.last)));
        }
        let found = within(snapshot.edges(ids[0].shard(), series)).await.expect("ask for edges");
        assert_eq!(found, expected, "of {series:?}");
    }
}
