//! Rests and merged blocks: open still, in the place of what they came from.
#![expect(missing_docs, reason = "a property's name is its claim")]

use super::view::{arrive, backlog, blocks_of, done, merge, shard_mates, some_series, view};
use super::{Store, StoreHarness};
use crate::builders::{NO_BUDGET, START, at, blocks, load, seal_all, sealed};
use crate::within;
use headwater_core::series::{SeriesId, Shard};
use headwater_core::store::{BatchId, LoadBudget, Totals};
use headwater_core::time::TimeRange;

async fn unmerged(store: &dyn Store, shard: Shard, most: usize, readings: u64) -> Vec<BatchId> {
    let (_, blocks) = within(store.unmerged(shard, most, readings)).await.expect("ask for unmerged blocks");
    blocks.into_iter().map(|(batch, _)| batch).collect()
}

async fn open(store: &dyn Store, shard: Shard) -> Vec<BatchId> {
    blocks_of(store, shard, TimeRange::ALL).await.into_iter().map(|(batch, _)| batch).collect()
}

pub async fn a_rest_takes_the_place_of_the_block_it_came_from(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let [a, b, c] = shard_mates(&*store, 3).await[..] else { panic!("three series") };
    let shard = a.shard();
    let first = arrive(&*store, at(3), &[(a, at(1), 1.0), (b, at(1), 1.0), (c, at(1), 1.0), (c, at(1), 2.0)]).await;
    let second = arrive(&*store, at(4), &[(a, at(1), 9.0), (b, at(1), 9.0), (c, at(1), 9.0)]).await;
    let (version, loaded) = load(&*store, shard, LoadBudget { readings: 4, ..NO_BUDGET }).await;
    let replacement = sealed(&*store, shard, &loaded, 1).await;
    assert_eq!(replacement.rest.as_ref().map(|(batch, block)| (*batch, block.len())), Some((first, 3)));
    assert_eq!(done(&*store, shard, version, &replacement).await, 6);
    let open = blocks_of(&*store, shard, TimeRange::ALL).await;
    let rest = &blocks(&[(b, at(1), 1.0), (c, at(1), 1.0), (c, at(1), 2.0)])[0];
    assert_eq!((open.len(), &open[0]), (2, &(first, rest.clone())), "still before the second block");
    assert_eq!(unmerged(&*store, shard, 9, 99).await, [second], "a rest is not merged");
    let backlog = backlog(&*store).await[0];
    assert_eq!((backlog.readings, backlog.unmerged, backlog.widest, backlog.oldest), (6, 1, 3, at(3)), "it is as old as its block");
    let stats = view(&*store).await.stats;
    assert_eq!((stats[0].1, stats[0].2), (first, rest.stats()));
    seal_all(&*store).await;
    let view = view(&*store).await;
    assert_eq!(view.sealed(), [(a, at(1), 1.0), (b, at(1), 1.0), (c, at(1), 1.0)], "the first wins");
    assert_eq!((view.totals.stored, view.totals.conflict, view.totals.unsealed), (3, 4, 0));
}

pub async fn merging_keeps_every_reading_and_their_order(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let [a, b] = shard_mates(&*store, 2).await[..] else { panic!("two series") };
    let shard = a.shard();
    // Later batches hold earlier times, the same keys, and other values.
    let sent: Vec<Vec<_>> =
        (0..5).map(|n| vec![(b, at(9), f64::from(n)), (a, at(-i64::from(n)), 1.0), (b, at(9), -1.0 - f64::from(n))]).collect();
    let mut batches = Vec::new();
    for readings in &sent {
        batches.push(arrive(&*store, START, readings).await);
    }
    let before = view(&*store).await.totals;
    merge(&*store, shard, 3).await;
    let open = blocks_of(&*store, shard, TimeRange::ALL).await;
    let merged = blocks(&sent[..3].concat());
    assert_eq!(open[0], (batches[2], merged[0].clone()), "in the place of the last, readings of one key as they arrived");
    assert_eq!(open[1..], [(batches[3], blocks(&sent[3])[0].clone()), (batches[4], blocks(&sent[4])[0].clone())]);
    assert_eq!(view(&*store).await.totals, before, "merging settles nothing");
    assert_eq!(unmerged(&*store, shard, 9, 99).await, batches[3..], "a merged block is not merged again");
    merge(&*store, shard, 9).await;
    assert_eq!(self::open(&*store, shard).await, [batches[2], batches[4]]);
    seal_all(&*store).await;
    let view = view(&*store).await;
    let expected: Vec<_> = (0..5).rev().map(|n: i64| (a, at(-n), 1.0)).chain([(b, at(9), 0.0)]).collect();
    assert_eq!(view.sealed(), expected, "the first wins");
    assert_eq!(view.totals, Totals { stored: 6, duplicate: 0, conflict: 9, unsealed: 0, dead_letters: 9, dead_letters_open: 9, ..before });
}

pub async fn a_merged_block_stands_for_the_oldest_of_its_blocks(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let [a, b] = shard_mates(&*store, 2).await[..] else { panic!("two series") };
    for (received, id) in [(at(30), a), (at(10), b), (at(20), a), (at(40), a)] {
        arrive(&*store, received, &[(id, received, 1.0)]).await;
    }
    merge(&*store, a.shard(), 3).await;
    let merged = backlog(&*store).await[0];
    assert_eq!((merged.readings, merged.unmerged, merged.widest, merged.oldest), (4, 1, 2, at(10)));
    let (version, loaded) = load(&*store, a.shard(), LoadBudget { readings: 3, ..NO_BUDGET }).await;
    done(&*store, a.shard(), version, &sealed(&*store, a.shard(), &loaded, 1).await).await;
    let rest = backlog(&*store).await[0];
    assert_eq!((rest.readings, rest.unmerged, rest.widest, rest.oldest), (2, 1, 1, at(10)), "and its rest does too");
}

pub async fn unmerged_blocks_come_oldest_first_within_their_limits(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let id: SeriesId = some_series(&*store, 1).await[0];
    let mut batches = Vec::new();
    for size in [5, 3, 10, 1] {
        let readings: Vec<_> = (0..size).map(|n| (id, at(n), 1.0)).collect();
        batches.push(arrive(&*store, START, &readings).await);
    }
    let cases = [(0, 0, 1), (1, 99, 1), (2, 99, 2), (9, 0, 1), (9, 7, 1), (9, 8, 2), (9, 17, 2), (9, 18, 3), (9, 19, 4), (3, 19, 3)];
    for (most, readings, expected) in cases {
        assert_eq!(unmerged(&*store, id.shard(), most, readings).await, batches[..expected], "at most {most} with {readings} readings");
    }
    let (_, read) = within(store.unmerged(id.shard(), 9, 99)).await.expect("ask for unmerged blocks");
    assert_eq!(read, blocks_of(&*store, id.shard(), TimeRange::ALL).await, "as queries see them");
}
