//! Open blocks as they are read.
#![expect(missing_docs, reason = "a property's name is its claim")]

use super::StoreHarness;
use super::view::{blocks_of, commit, snapshot, some_series};
use crate::builders::{START, at, batch, blocks};
use crate::within;
use headwater_core::block::OpenBlock;
use headwater_core::store::BatchId;
use headwater_core::time::{TimeRange, Timestamp};

pub async fn blocks_come_back_bit_by_bit(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let id = some_series(&*store, 1).await[0];
    let values = [0.0, 0.1 + 0.2, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, -1e-300, 1e300, 21.5];
    let times = [0, i64::MIN, i64::MAX, -1, 1, START.0, START.0, START.0 - 1];
    let readings: Vec<_> = times.iter().zip(values).map(|(&time, value)| (id, Timestamp(time), value)).collect();
    commit(&*store, batch().readings(&readings).moved(0, None, 1).build()).await;
    let sent = blocks(&readings);
    let read: Vec<OpenBlock> = blocks_of(&*store, id.shard(), TimeRange::ALL).await.into_iter().map(|(_, block)| block).collect();
    assert_eq!(read, sent);
    let bits = |blocks: &[OpenBlock]| blocks[0].values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&read), bits(&sent));
}

pub async fn blocks_come_in_the_order_of_their_batches(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let id = some_series(&*store, 1).await[0];
    let mut committed = Vec::new();
    // Later batches hold earlier times: only the batch orders them.
    for n in 0..12u64 {
        let batch = batch().readings(&[(id, at(-(n as i64)), n as f64)]).moved(0, n.checked_sub(1), n).build();
        committed.push(commit(&*store, batch).await.batch);
    }
    let read = blocks_of(&*store, id.shard(), TimeRange::ALL).await;
    assert_eq!(read.iter().map(|(batch, _)| *batch).collect::<Vec<_>>(), committed);
    assert_eq!(read.iter().map(|(_, block)| block.values[0]).collect::<Vec<_>>(), (0..12).map(f64::from).collect::<Vec<_>>());
}

pub async fn blocks_are_found_by_shard(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    // 65 ids: the first and the last share a shard.
    let ids = some_series(&*store, 65).await;
    let readings: Vec<_> = ids.iter().map(|&id| (id, START, f64::from(id.0))).collect();
    let batch = batch().readings(&readings).moved(0, None, 1).build();
    assert_eq!(batch.blocks.len(), 64);
    let committed = commit(&*store, batch.clone()).await;
    for block in &batch.blocks {
        assert_eq!(blocks_of(&*store, block.shard, TimeRange::ALL).await, [(committed.batch, block.clone())]);
    }
    assert_eq!(blocks_of(&*store, ids[0].shard(), TimeRange::ALL).await[0].1.len(), 2);
}

pub async fn blocks_are_found_by_the_times_that_they_touch(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let id = some_series(&*store, 1).await[0];
    for (n, (min, max)) in [(0, 10), (10, 20), (15, 15), (30, 40)].into_iter().enumerate() {
        let before = n.checked_sub(1).map(|n| n as u64);
        commit(&*store, batch().readings(&[(id, at(max), 1.0), (id, at(min), 2.0)]).moved(0, before, n as u64).build()).await;
    }
    let cases = [
        (at(0), at(41), vec![0, 10, 15, 30]),
        (at(0), at(10), vec![0]),
        (at(10), at(11), vec![0, 10]),
        (at(15), at(16), vec![10, 15]),
        (at(20), at(30), vec![10]),
        (at(20).plus(1), at(30), vec![]),
        (at(30), at(30).plus(1), vec![30]),
        (at(40).plus(1), at(99), vec![]),
        (at(35), at(36), vec![30]),
        (Timestamp(i64::MIN), at(0), vec![]),
        (Timestamp(i64::MIN), at(0).plus(1), vec![0]),
    ];
    for (from, to, expected) in cases {
        let range = TimeRange::new(from, to);
        let read = blocks_of(&*store, id.shard(), range).await;
        let least: Vec<i64> = read.iter().map(|(_, block)| (block.times[0] - START.0) / 1_000_000).collect();
        assert_eq!(least, expected, "of {from} to {to}");
        let stats = within(snapshot(&*store).await.block_stats(id.shard(), range)).await.expect("ask for the numbers of blocks");
        assert_eq!(stats, read.iter().map(|(batch, block)| (*batch, block.stats())).collect::<Vec<_>>(), "of {from} to {to}");
    }
}

pub async fn the_numbers_of_blocks_are_those_of_their_readings(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    // Series 0 and 64 share a shard.
    let ids = some_series(&*store, 65).await;
    let readings = [(ids[64], at(5), 1.0), (ids[0], at(3), 1.0), (ids[0], at(3), 2.0), (ids[0], at(-2), 1.0)];
    let committed = commit(&*store, batch().readings(&readings).moved(0, None, 1).build()).await;
    let stats = within(snapshot(&*store).await.block_stats(ids[0].shard(), TimeRange::ALL)).await.expect("ask for the numbers of blocks");
    let [(batch, stats)] = stats[..] else { panic!("one block, not {stats:?}") };
    assert_eq!(batch, committed.batch);
    assert_eq!((stats.readings, stats.series, stats.min_time, stats.max_time), (4, 2, at(-2).0, at(5).0), "repeats count");
}

pub async fn paging_blocks_gives_each_once(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let id = some_series(&*store, 1).await[0];
    let sizes = [1usize, 5, 2, 30, 1, 1, 8, 3];
    let mut expected = 0u64;
    for (n, size) in sizes.into_iter().enumerate() {
        let readings: Vec<_> = (0..size).map(|i| (id, at(i as i64), i as f64)).collect();
        commit(&*store, batch().readings(&readings).moved(0, n.checked_sub(1).map(|n| n as u64), n as u64).build()).await;
        expected += size as u64;
    }
    let all = blocks_of(&*store, id.shard(), TimeRange::ALL).await;
    assert_eq!(all.iter().map(|(_, block)| block.len() as u64).sum::<u64>(), expected);
    let mut snapshot = snapshot(&*store).await;
    for max_bytes in [0, 1, 20, 100, 160, 600, 10_000] {
        let (mut paged, mut after): (Vec<(BatchId, OpenBlock)>, _) = (Vec::new(), None);
        loop {
            let page = within(snapshot.blocks(id.shard(), TimeRange::ALL, after, max_bytes)).await.expect("ask for blocks");
            let (Some((first, _)), Some((last, _))) = (page.first(), page.last()) else { break };
            assert!(after < Some(*first), "a page begins behind the one before");
            let bytes: usize = page.iter().map(|(_, block)| 20 * block.len()).sum();
            assert!(page.len() == 1 || bytes <= max_bytes, "{} blocks take {bytes} bytes, more than {max_bytes}", page.len());
            after = Some(*last);
            paged.extend(page);
        }
        assert_eq!(paged, all, "in pages of {max_bytes} bytes");
    }
}
