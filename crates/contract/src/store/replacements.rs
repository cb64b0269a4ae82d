//! Replacements: all or nothing, behind the version of their shard.
#![expect(missing_docs, reason = "a property's name is its claim")]

use super::view::{arrive, backlog, blocks_of, commit, decoded, done, letters, lost, shard_mates, some_series, totals, version, view};
use super::{Store, StoreHarness};
use crate::builders::{NO_BUDGET, START, at, batch, load, seal_all, sealed};
use crate::within;
use headwater_core::dead_letter::Reason;
use headwater_core::seal::{ChunkKey, Level, Replacement, RollupKey};
use headwater_core::series::SeriesId;
use headwater_core::store::{BatchId, DeadLetterQuery, LoadBudget, Replaced, Totals, Version};
use headwater_core::time::TimeRange;
use std::sync::Arc;

/// Loads and seals the whole shard of a series, and replaces nothing yet.
async fn sealed_whole(store: &dyn Store, id: SeriesId) -> (Version, Arc<Replacement>) {
    let (version, loaded) = load(store, id.shard(), NO_BUDGET).await;
    (version, sealed(store, id.shard(), &loaded, usize::MAX).await)
}

fn assert_balances(totals: &Totals) {
    let Totals { received, stored, duplicate, conflict, dead, unsealed, .. } = *totals;
    assert_eq!(received, stored + duplicate + conflict + dead + unsealed, "received = {totals:?}");
}

pub async fn a_replacement_moves_readings_from_open_to_sealed(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let ids = some_series(&*store, 66).await;
    let (a, mate, other) = (ids[0], ids[64], ids[1]);
    arrive(&*store, START, &[(a, at(5), 1.0), (a, at(5), 1.0), (a, at(5), 2.0), (mate, at(1), 4.0), (other, at(1), 8.0)]).await;
    arrive(&*store, START, &[(a, at(5), 1.0), (a, at(9), 3.0), (mate, at(0), 0.5)]).await;
    let before = view(&*store).await;
    assert_eq!((before.totals.received, before.totals.unsealed), (8, 8));
    let (version, replacement) = sealed_whole(&*store, a).await;
    assert_eq!(view(&*store).await, before, "loading changes nothing");
    assert_eq!(done(&*store, a.shard(), version, &replacement).await, 1, "open over all shards");
    let after = view(&*store).await;
    let expected = Totals { stored: 4, duplicate: 2, conflict: 1, unsealed: 1, dead_letters: 1, dead_letters_open: 1, ..before.totals };
    assert_eq!(after.totals, expected);
    assert_balances(&after.totals);
    assert_eq!(after.sealed(), [(a, at(5), 1.0), (a, at(9), 3.0), (mate, at(0), 0.5), (mate, at(1), 4.0)]);
    assert_eq!(after.blocks.iter().map(|(_, block)| block.shard).collect::<Vec<_>>(), [other.shard()]);
    assert_eq!(within(store.open_readings()).await.expect("ask for open readings"), 1);
    seal_all(&*store).await;
    assert_eq!(totals(&*store).await, Totals { stored: 5, unsealed: 0, ..expected });
}

pub async fn a_block_inserted_between_load_and_replace_survives(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let id = some_series(&*store, 1).await[0];
    arrive(&*store, START, &[(id, at(1), 1.0)]).await;
    let (version, replacement) = sealed_whole(&*store, id).await;
    let between = arrive(&*store, START, &[(id, at(1), 7.0), (id, at(2), 2.0)]).await;
    assert_eq!(done(&*store, id.shard(), version, &replacement).await, 2);
    let open = blocks_of(&*store, id.shard(), TimeRange::ALL).await;
    assert_eq!(open.iter().map(|(batch, block)| (*batch, &block.values[..])).collect::<Vec<_>>(), [(between, &[7.0, 2.0][..])]);
    assert_balances(&totals(&*store).await);
    seal_all(&*store).await;
    let view = view(&*store).await;
    assert_eq!(view.sealed(), [(id, at(1), 1.0), (id, at(2), 2.0)]);
    assert_eq!((view.totals.stored, view.totals.conflict, view.totals.unsealed), (2, 1, 0));
}

pub async fn of_two_replacements_of_one_load_one_is_lost(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let id = some_series(&*store, 1).await[0];
    for round in 0..10 {
        arrive(&*store, START, &[(id, at(round), 1.0), (id, at(round), 2.0)]).await;
        let (version, replacement) = sealed_whole(&*store, id).await;
        let write = || {
            let (store, replacement) = (Arc::clone(&store), Arc::clone(&replacement));
            tokio::spawn(async move { within(store.replace(id.shard(), version, replacement)).await.expect("replace") })
        };
        let writers = [write(), write()];
        let mut outcomes = Vec::new();
        for writer in writers {
            outcomes.push(within(writer).await.expect("a writer that did not panic"));
        }
        let won = outcomes.iter().filter(|outcome| matches!(outcome, Replaced::Done { open_readings: 0 })).count();
        assert!(won == 1 && outcomes.contains(&Replaced::Lost), "in round {round} exactly one wins: {outcomes:?}");
        lost(&*store, id.shard(), version, &replacement).await;
        let view = view(&*store).await;
        let rounds = round as u64 + 1;
        assert_eq!((view.totals.stored, view.totals.conflict, view.totals.dead_letters), (rounds, rounds, rounds));
        assert_eq!(view.sealed().len() as u64, rounds);
    }
}

pub async fn a_replacement_with_an_old_version_is_lost_though_all_its_rows_are_there(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let id = some_series(&*store, 1).await[0];
    arrive(&*store, START, &[(id, at(1), 1.0), (id, at(1), 2.0)]).await;
    let (version, replacement) = sealed_whole(&*store, id).await;
    done(&*store, id.shard(), version, &Arc::default()).await;
    lost(&*store, id.shard(), version, &replacement).await;
    lost(&*store, id.shard(), Version(version.0 + 1_000), &replacement).await;
    let (newer, again) = sealed_whole(&*store, id).await;
    assert!(newer > version, "every replacement moves the version");
    assert_eq!(done(&*store, id.shard(), newer, &again).await, 0);
}

pub async fn a_replacement_of_a_block_that_is_gone_is_lost(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let ids = some_series(&*store, 2).await;
    let (id, other) = (ids[0], ids[1]);
    let elsewhere = arrive(&*store, START, &[(other, at(1), 1.0)]).await;
    let batch = arrive(&*store, START, &[(id, at(1), 1.0), (id, at(1), 2.0)]).await;
    let (version, replacement) = sealed_whole(&*store, id).await;
    for gone in [elsewhere, BatchId(batch.0 + 1)] {
        let mut blocks = replacement.sealed_blocks.clone();
        blocks.push(gone);
        blocks.sort();
        lost(&*store, id.shard(), version, &Arc::new(Replacement { sealed_blocks: blocks, ..Replacement::clone(&replacement) })).await;
    }
    assert_eq!(done(&*store, id.shard(), version, &replacement).await, 1, "the version did not move");
}

pub async fn a_replacement_of_a_chunk_that_is_gone_is_lost(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let [id, mate] = shard_mates(&*store, 2).await[..] else { panic!("two series") };
    arrive(&*store, START, &[(id, at(1), 1.0), (mate, at(2), 1.0)]).await;
    seal_all(&*store).await;
    arrive(&*store, START, &[(id, at(2), 2.0), (id, at(1), 2.0)]).await;
    let (version, replacement) = sealed_whole(&*store, id).await;
    assert_eq!(replacement.old_chunks, [ChunkKey { series: id, first: at(1).0 }]);
    for gone in [ChunkKey { series: mate, first: at(1).0 }, ChunkKey { series: id, first: at(2).0 }] {
        let mut chunks = replacement.old_chunks.clone();
        chunks.push(gone);
        chunks.sort();
        lost(&*store, id.shard(), version, &Arc::new(Replacement { old_chunks: chunks, ..Replacement::clone(&replacement) })).await;
    }
    assert_eq!(done(&*store, id.shard(), version, &replacement).await, 0, "the version did not move");
    assert_eq!(view(&*store).await.sealed(), [(id, at(1), 1.0), (id, at(2), 2.0), (mate, at(2), 1.0)]);
}

pub async fn replacing_one_shard_leaves_the_others(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let ids = some_series(&*store, 3).await;
    // One batch, three shards: blocks with one number.
    arrive(&*store, START, &[(ids[0], at(1), 1.0), (ids[1], at(1), 2.0), (ids[2], at(1), 3.0)]).await;
    let (first, second) = (sealed_whole(&*store, ids[0]).await, sealed_whole(&*store, ids[1]).await);
    assert_eq!(done(&*store, ids[0].shard(), first.0, &first.1).await, 2);
    assert_eq!(done(&*store, ids[1].shard(), second.0, &second.1).await, 1, "another shard's version is its own");
    assert_eq!(backlog(&*store).await.iter().map(|backlog| backlog.shard).collect::<Vec<_>>(), [ids[2].shard()]);
    assert_eq!(view(&*store).await.sealed(), [(ids[0], at(1), 1.0), (ids[1], at(1), 2.0)]);
    assert_balances(&totals(&*store).await);
}

pub async fn a_rollup_takes_the_place_of_the_one_before(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let [id, sparse] = shard_mates(&*store, 2).await[..] else { panic!("two series") };
    let readings = |id, from, to| (from..to).map(|n| (id, at(n), n as f64)).collect::<Vec<_>>();
    arrive(&*store, START, &readings(sparse, 0, 64)).await;
    let window = |level: Level| RollupKey { series: id, level, start: level.start_of(START.0) };
    for (from, to, expected) in [(0, 60, None), (60, 100, Some(100)), (50, 170, Some(170)), (200, 201, Some(171))] {
        arrive(&*store, START, &readings(id, from, to)).await;
        seal_all(&*store).await;
        let view = view(&*store).await;
        let rollups: Vec<_> = expected.iter().flat_map(|&n| Level::ALL.map(|level| (window(level), n))).collect();
        assert_eq!(view.rolled_up(), rollups, "after {from} to {to}");
        let mut summary = headwater_core::summary::Summary::new();
        view.sealed().iter().filter(|(series, ..)| *series == id).for_each(|(_, time, value)| summary.add(time.0, *value));
        assert!(view.rollups.iter().all(|(_, rollup)| *rollup == summary), "rollups equal raw");
    }
}

pub async fn a_conflict_found_again_is_kept_once_and_has_no_origin(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let id = some_series(&*store, 1).await[0];
    arrive(&*store, START, &[(id, at(1), 1.0)]).await;
    for _ in 0..3 {
        arrive(&*store, START, &[(id, at(1), 2.5)]).await;
        seal_all(&*store).await;
    }
    let totals = totals(&*store).await;
    assert_eq!((totals.received, totals.stored, totals.conflict, totals.dead, totals.dead_letters), (4, 1, 3, 0, 1));
    let listed = letters(&*store, DeadLetterQuery { reason: Some(Reason::Conflict), ..DeadLetterQuery::default() }).await;
    let [letter] = &listed[..] else { panic!("one letter, not {listed:?}") };
    assert_eq!((letter.reason, letter.origin.as_ref(), letter.device.as_deref()), (Reason::Conflict, None, Some("device")));
    assert!(String::from_utf8_lossy(&letter.bytes).contains("2.5"), "it holds the value that lost");
    let found = within(super::view::snapshot(&*store).await.dead_letter(letter.id)).await.expect("ask for a dead letter");
    assert_eq!(found.as_ref(), Some(letter));
}

pub async fn what_is_sealed_survives_a_restart(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let [id, mate] = shard_mates(&*store, 2).await[..] else { panic!("two series") };
    let dense: Vec<_> = (0..100).map(|n| (id, at(n), n as f64)).chain([(id, at(0), 9.0), (id, at(1), 1.0)]).collect();
    arrive(&*store, START, &dense).await;
    let stale = sealed_whole(&*store, id).await;
    seal_all(&*store).await;
    // A rest, and a block behind it.
    arrive(&*store, at(5), &[(id, at(200), 1.0), (mate, at(200), 2.0)]).await;
    let (version, loaded) = load(&*store, id.shard(), NO_BUDGET).await;
    done(&*store, id.shard(), version, &sealed(&*store, id.shard(), &loaded, 1).await).await;
    arrive(&*store, at(6), &[(mate, at(200), 3.0)]).await;
    let (loaded_before, open_before) = (sealed_whole(&*store, id).await, backlog(&*store).await);
    let before = view(&*store).await;
    drop(store);
    let store = harness.open().await;
    assert_eq!(view(&*store).await, before);
    assert_eq!(backlog(&*store).await, open_before);
    assert_eq!(within(store.open_readings()).await.expect("ask for open readings"), 2);
    lost(&*store, id.shard(), stale.0, &stale.1).await;
    assert_eq!(done(&*store, id.shard(), loaded_before.0, &loaded_before.1).await, 0, "the version is still that of the load");
    let after = view(&*store).await.totals;
    assert_eq!((after.received, after.stored, after.duplicate, after.conflict), (105, 102, 1, 2));
}

pub async fn commits_go_on_while_sealing(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let ids = shard_mates(&*store, 3).await;
    let shard = ids[0].shard();
    let writing = tokio::spawn({
        let (store, ids) = (Arc::clone(&store), ids.clone());
        async move {
            for n in 0..40u64 {
                // Half of each batch repeats the one before.
                let readings: Vec<_> = ids.iter().flat_map(|&id| [(id, at(n as i64), 1.0), (id, at(n as i64 + 1), 1.0)]).collect();
                commit(&*store, batch().readings(&readings).moved(0, n.checked_sub(1), n).build()).await;
            }
        }
    });
    let budget = LoadBudget { readings: 30, bytes: 1 << 20 };
    loop {
        let ended = writing.is_finished();
        match within(store.load(shard, budget)).await.expect("load a shard") {
            Some((version, loaded)) => {
                let replacement = sealed(&*store, shard, &loaded, 4).await;
                done(&*store, shard, version, &replacement).await;
            }
            None if ended => break,
            None => tokio::task::yield_now().await,
        }
        assert_balances(&totals(&*store).await);
    }
    within(writing).await.expect("the commits succeed");
    let view = view(&*store).await;
    assert_eq!((view.totals.received, view.totals.stored, view.totals.duplicate, view.totals.unsealed), (240, 123, 117, 0));
    let expected: Vec<_> = ids.iter().flat_map(|&id| (0..41).map(move |n| (id, at(n), 1.0))).collect();
    assert_eq!(decoded(&view.chunks), expected);
    assert!(version(&*store, shard).await > Version(0), "sealing moved the version");
}
