//! Batches: all or nothing, fenced by their positions.
#![expect(missing_docs, reason = "a property's name is its claim")]

use super::view::{backlog, commit, fenced, positions, some_series, totals, view};
use super::{Store, StoreHarness};
use crate::builders::{at, batch, gap, letter, test_log};
use crate::within;
use headwater_core::dead_letter::DeadLetter;
use headwater_core::log::{LogId, Position};
use headwater_core::series::SeriesId;
use headwater_core::store::{Batch, StoreError, Totals};
use std::sync::Arc;

pub async fn a_new_store_is_empty(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let view = view(&*store).await;
    assert_eq!(view.totals, Totals::default());
    assert!(view.series.is_empty() && view.blocks.is_empty() && view.stats.is_empty() && view.letters.is_empty());
    assert_eq!(backlog(&*store).await, []);
    assert_eq!(positions(&*store).await, []);
    assert_eq!(within(store.open_readings()).await.expect("ask for open readings"), 0);
}

pub async fn a_commit_is_seen_by_the_next_snapshot(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let [a, b] = some_series(&*store, 2).await[..] else { panic!("two series") };
    let batch =
        batch().readings(&[(a, at(1), 1.5), (b, at(2), 2.5), (a, at(0), 0.5)]).dead(letter(7)).gap(gap(0, 3)).moved(0, None, 5).build();
    let committed = commit(&*store, Arc::clone(&batch)).await;
    assert_eq!(committed.open_readings, 3);
    let view = view(&*store).await;
    let mut blocks: Vec<_> = view.blocks.iter().map(|(batch, block)| (*batch, block.clone())).collect();
    blocks.sort_by_key(|(_, block)| block.shard);
    assert_eq!(blocks, batch.blocks.iter().map(|block| (committed.batch, block.clone())).collect::<Vec<_>>());
    let letters: Vec<_> = view.letters.into_iter().map(|kept| kept.letter).collect();
    assert_eq!(letters, batch.dead_letters);
    let to = batch.moves[0].to.clone();
    assert_eq!(
        view.totals,
        Totals {
            received: 4,
            dead: 1,
            unsealed: 3,
            positions: vec![to.clone()],
            dead_letters: 1,
            dead_letters_open: 1,
            gaps: 1,
            ..Totals::default()
        }
    );
    assert_eq!(positions(&*store).await, [to]);
}

pub async fn every_snapshot_balances(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let series = some_series(&*store, 5).await;
    let writing = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for n in 0..40u64 {
                let readings: Vec<_> = series.iter().map(|&id| (id, at(n as i64), 1.0)).collect();
                let dead = DeadLetter { count: n % 3, ..letter(u128::from(n)) };
                let batch = batch().readings(&readings[..n as usize % 6]).dead(dead).moved(0, n.checked_sub(1), n).build();
                commit(&*store, batch).await;
            }
        }
    });
    loop {
        let ended = writing.is_finished();
        let Totals { received, stored, duplicate, conflict, dead, unsealed, positions, .. } = totals(&*store).await;
        assert_eq!(received, stored + duplicate + conflict + dead + unsealed, "at {positions:?}");
        if ended {
            assert_eq!((received, dead), ((0..40).map(|n| n % 6 + n % 3).sum(), (0..40).map(|n| n % 3).sum()));
            break;
        }
    }
    within(writing).await.expect("the commits succeed");
}

pub async fn open_readings_are_the_sum_of_all_blocks(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let [a, b, c] = some_series(&*store, 3).await[..] else { panic!("three series") };
    let mut sum = 0;
    for (n, ids) in [vec![a, b, c], vec![b], vec![], vec![a, a]].into_iter().enumerate() {
        sum += ids.len() as u64;
        let readings: Vec<_> = ids.into_iter().map(|id| (id, at(n as i64), 1.0)).collect();
        let committed = commit(&*store, batch().readings(&readings).moved(0, n.checked_sub(1).map(|n| n as u64), n as u64).build()).await;
        let view = view(&*store).await;
        assert_eq!(committed.open_readings, sum);
        assert_eq!(within(store.open_readings()).await.expect("ask for open readings"), sum);
        assert_eq!(view.totals.unsealed, sum);
        assert_eq!(view.stats.iter().map(|(.., stats)| stats.readings).sum::<u64>(), sum);
    }
}

pub async fn batch_ids_rise(harness: &mut dyn StoreHarness) {
    let mut store = harness.open().await;
    let mut last = None;
    for n in 0..6u64 {
        if n == 3 {
            drop(store);
            store = harness.open().await;
        }
        fenced(&*store, batch().moved(0, Some(99), 100).build()).await;
        let committed = commit(&*store, batch().moved(0, n.checked_sub(1), n).build()).await;
        assert!(last < Some(committed.batch), "{:?} comes after {last:?}", committed.batch);
        last = Some(committed.batch);
    }
}

/// A batch of everything, that would be seen wherever one looks.
fn rich(id: SeriesId, n: u128) -> crate::builders::BatchBuilder {
    batch().readings(&[(id, at(n as i64), n as f64)]).dead(letter(n)).gap(gap(0, 1))
}

pub async fn a_fenced_commit_changes_nothing_and_names_the_partition(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let id = some_series(&*store, 1).await[0];
    commit(&*store, rich(id, 1).moved(3, None, 10).build()).await;
    let before = view(&*store).await;
    for expected in [None, Some(9), Some(11)] {
        assert_eq!(fenced(&*store, rich(id, 2).moved(3, expected, 20).build()).await, (3, expected, Some(10)));
        assert_eq!(view(&*store).await, before, "expecting {expected:?}");
        assert_eq!(within(store.open_readings()).await.expect("ask for open readings"), 1);
    }
    commit(&*store, rich(id, 3).moved(3, Some(10), 20).build()).await;
}

pub async fn a_first_commit_is_fenced_where_a_position_exists(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    commit(&*store, batch().moved(0, None, 0).build()).await;
    assert_eq!(fenced(&*store, batch().moved(0, None, 5).build()).await, (0, None, Some(0)));
    commit(&*store, batch().moved(0, Some(0), 5).build()).await;
}

pub async fn a_commit_that_expects_a_position_is_fenced_where_none_exists(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    for expected in [0, 4] {
        assert_eq!(fenced(&*store, batch().moved(1, Some(expected), 5).build()).await, (1, Some(expected), None));
    }
    assert_eq!(positions(&*store).await, []);
}

pub async fn the_mismatch_of_one_partition_undoes_the_other(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let id = some_series(&*store, 1).await[0];
    commit(&*store, rich(id, 1).moved(0, None, 10).moved(1, None, 20).moved(2, None, 30).build()).await;
    let before = view(&*store).await;
    let second = rich(id, 2).moved(0, Some(10), 11).moved(1, Some(19), 21).moved(2, Some(30), 31);
    assert_eq!(fenced(&*store, second.build()).await, (1, Some(19), Some(20)));
    let first_of_two = rich(id, 2).moved(0, Some(10), 11).moved(1, Some(18), 21).moved(2, Some(29), 31);
    assert_eq!(fenced(&*store, first_of_two.build()).await, (1, Some(18), Some(20)), "the first mismatch is named");
    assert_eq!(view(&*store).await, before);
}

pub async fn of_two_writers_from_the_same_position_one_is_fenced(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let id = some_series(&*store, 1).await[0];
    for round in 0..10u64 {
        let expected = round.checked_sub(1);
        let write = |writer: u128| {
            let (store, batch) = (Arc::clone(&store), rich(id, u128::from(round) * 2 + writer).moved(0, expected, round).build());
            tokio::spawn(async move { within(store.commit(batch)).await })
        };
        let outcomes = [write(0), write(1)];
        let mut won = 0;
        for outcome in outcomes {
            match outcome.await.expect("a writer that did not panic") {
                Ok(_) => won += 1,
                Err(StoreError::Fenced { partition: 0, expected: believed, found: Some(found) }) => {
                    assert_eq!((believed, found), (expected, round));
                }
                Err(other) => panic!("the other writer is fenced, not {other:?}"),
            }
        }
        assert_eq!(won, 1, "in round {round} exactly one writer wins");
        let totals = totals(&*store).await;
        assert_eq!((totals.received, totals.dead_letters, totals.gaps), ((round + 1) * 2, round + 1, round + 1));
    }
}

pub async fn a_batch_committed_again_is_fenced(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let id = some_series(&*store, 1).await[0];
    let batch: Arc<Batch> = rich(id, 1).moved(0, None, 3).build();
    commit(&*store, Arc::clone(&batch)).await;
    let before = view(&*store).await;
    assert_eq!(fenced(&*store, batch).await, (0, None, Some(3)), "an unknown outcome is told by the position");
    assert_eq!(view(&*store).await, before);
}

pub async fn positions_come_in_the_order_of_log_and_partition(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let position = |log: &str, partition, next| Position { log: LogId(log.into()), partition, next, crc: None };
    let places = [("b", 1), ("a", 10), ("b", 0), ("a", 2)];
    for (log, partition) in places {
        // Another log is another position: the number of its partition is no position of this one.
        commit(&*store, batch().moved_to(position(log, partition, 7), None).build()).await;
    }
    let expected = [("a", 2), ("a", 10), ("b", 0), ("b", 1)].map(|(log, partition)| position(log, partition, 7));
    assert_eq!(totals(&*store).await.positions, expected);
    let mut all = positions(&*store).await;
    all.sort_by(|a, b| (&a.log, a.partition).cmp(&(&b.log, b.partition)));
    assert_eq!(all, expected);
    // The crc moves with its position.
    let moved = Position { crc: Some(u32::MAX), ..position("a", 10, 1 << 40) };
    commit(&*store, batch().moved_to(moved.clone(), Some(7)).build()).await;
    assert_eq!(totals(&*store).await.positions[1], moved);
}

pub async fn gaps_are_recorded_and_counted(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    commit(&*store, batch().gap(gap(0, 10)).moved(0, None, 11).build()).await;
    assert_eq!(totals(&*store).await.gaps, 1);
    commit(&*store, batch().gap(gap(11, 12)).gap(gap(13, 1 << 40)).moved(0, Some(11), 1 << 40).build()).await;
    assert_eq!(totals(&*store).await.gaps, 3);
}

pub async fn everything_survives_a_restart(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    fill(&*store).await;
    let (before, stored) = (view(&*store).await, positions(&*store).await);
    assert_eq!(before.totals.received, before.totals.dead + before.totals.unsealed);
    drop(store);
    let store = harness.open().await;
    assert_eq!(view(&*store).await, before);
    assert_eq!(positions(&*store).await, stored);
    assert_eq!(within(store.open_readings()).await.expect("ask for open readings"), before.totals.unsealed);
    assert_eq!(fenced(&*store, batch().moved(0, Some(3), 9).build()).await, (0, Some(3), Some(4)), "it still fences");
}

/// Some of everything.
pub(super) async fn fill(store: &dyn Store) {
    let ids = some_series(store, 4).await;
    for n in 0..4u64 {
        let readings: Vec<_> = ids.iter().map(|&id| (id, at(n as i64), f64::from(id.0) + 0.25)).collect();
        let part = DeadLetter { part: n as u32 % 2, parts: 2, bytes: vec![n as u8; 20], ..letter(u128::from(n / 2)) };
        let other = Position { log: test_log(), partition: 1, next: n * 10, crc: None };
        let batch = batch().readings(&readings).moved(0, (n > 0).then_some(n), n + 1).dead(part).gap(gap(n, n + 1));
        commit(store, batch.moved_to(other, n.checked_sub(1).map(|n| n * 10)).build()).await;
    }
}
