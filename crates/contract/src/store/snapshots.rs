//! Snapshots: one state of everything, for a while.
#![expect(missing_docs, reason = "a property's name is its claim")]

use super::commits::fill;
use super::view::{arrive, ask, commit, shard_mates, snapshot, view};
use super::{Store, StoreHarness};
use crate::builders::{NO_LIMITS, START, at, batch, gap, letter, new_series, seal_all};
use crate::{eventually, within};
use headwater_core::filter::SeriesFilter;
use headwater_core::seal::Level;
use headwater_core::series::{SHARDS, SeriesId, Shard};
use headwater_core::store::{DeadLetterQuery, SealMark, Snapshot, StoreError};
use headwater_core::time::TimeRange;
use std::time::Duration;

/// Changes whatever a snapshot can be asked for, behind what [`fill`] has made.
async fn change_everything(store: &dyn Store) {
    let shard_mates = [0, 1, 2, 3].map(|id| (SeriesId(id), at(100), 1.0));
    commit(store, batch().readings(&shard_mates).dead(letter(77)).gap(gap(0, 1)).moved(0, Some(4), 5).build()).await;
    let unit = headwater_core::store::NewSeries { unit: Some("K".into()), ..new_series("device", "metric-0") };
    within(store.register(vec![unit, new_series("new", "m")], NO_LIMITS)).await.expect("register");
}

pub async fn a_snapshot_answers_the_same_before_and_after_a_concurrent_commit(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    fill(&*store).await;
    let mut early = snapshot(&*store).await;
    let before = ask(&mut *early).await;
    change_everything(&*store).await;
    assert_eq!(ask(&mut *early).await, before);
    assert_eq!(within(early.dead_letter(letter(77).id)).await.expect("ask for a dead letter"), None);
    let after = view(&*store).await;
    assert_eq!(after.totals.received, before.totals.received + 5, "a later snapshot sees the commit");
    assert!(after.series.len() == before.series.len() + 1 && after.letters.len() == before.letters.len() + 1);
    assert_eq!(ask(&mut *early).await, before, "other snapshots do not move it");
}

pub async fn a_snapshot_sees_the_state_in_which_it_was_taken(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    fill(&*store).await;
    let before = view(&*store).await;
    // Not asked anything before the commit: a transaction that begins at its first question would be too late.
    let mut early = snapshot(&*store).await;
    change_everything(&*store).await;
    assert_eq!(ask(&mut *early).await, before);
}

pub async fn a_snapshot_answers_the_same_before_and_after_a_concurrent_replacement(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let [a, b] = shard_mates(&*store, 2).await[..] else { panic!("two series") };
    let dense: Vec<_> = (0..100).map(|n| (a, at(n), n as f64)).collect();
    arrive(&*store, START, &dense).await;
    seal_all(&*store).await;
    arrive(&*store, START, &[(a, at(7), -1.0), (a, at(200), 2.0), (b, at(3), 3.0)]).await;
    let (mut asked, mut unasked) = (snapshot(&*store).await, snapshot(&*store).await);
    let before = ask(&mut *asked).await;
    seal_all(&*store).await;
    assert_eq!(ask(&mut *asked).await, before);
    assert_eq!(ask(&mut *unasked).await, before, "the state in which it was taken");
    drop((asked, unasked));
    let after = view(&*store).await;
    assert!(after.blocks.is_empty() && after.chunks != before.chunks && after.rollups != before.rollups && after.letters != before.letters);
}

pub async fn a_snapshot_past_its_deadline_says_so(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    fill(&*store).await;
    let mut snapshot = within(store.snapshot(Duration::from_millis(50))).await.expect("take a snapshot");
    eventually("the deadline", async || match within(snapshot.totals()).await {
        Ok(_) => None,
        Err(StoreError::Deadline) => Some(()),
        Err(other) => panic!("past its deadline a snapshot says so, not {other:?}"),
    })
    .await;
    for (question, answer) in ask_in_vain(&mut *snapshot).await {
        assert!(matches!(answer, Err(StoreError::Deadline)), "{question} says {answer:?}");
    }
    drop(snapshot);
    view(&*store).await;
}

async fn marks(snapshot: &mut dyn Snapshot) -> Option<Vec<SealMark>> {
    within(snapshot.seal_marks()).await.expect("ask for the marks")
}

pub async fn the_mark_of_a_shard_moves_whenever_what_is_sealed_in_it_does(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let [a, b] = shard_mates(&*store, 2).await[..] else { panic!("two series") };
    let mut empty = snapshot(&*store).await;
    // A backend that cannot tell says so always.
    let Some(before) = marks(&mut *empty).await else { return };
    assert_eq!(before.len(), usize::from(SHARDS));
    let dense: Vec<_> = (0..100).map(|n| (a, at(n), n as f64)).collect();
    let late = [(a, at(200), 1.0)];
    let other = [(b, at(3), 1.0)];
    let (mut last, mut seen) = (before.clone(), vec![before.clone()]);
    for readings in [&dense[..], &late, &other] {
        arrive(&*store, START, readings).await;
        assert_eq!(marks(&mut *snapshot(&*store).await).await, Some(last), "what is open is not sealed");
        seal_all(&*store).await;
        let after = marks(&mut *snapshot(&*store).await).await.expect("the marks");
        assert!(seen.iter().all(|seen| seen[usize::from(a.shard().0)] != after[usize::from(a.shard().0)]), "it has moved: {after:?}");
        let elsewhere = |marks: &[SealMark]| {
            marks.iter().enumerate().filter(|(n, _)| *n != usize::from(a.shard().0)).map(|(_, mark)| *mark).collect::<Vec<_>>()
        };
        assert_eq!(elsewhere(&after), elsewhere(&before), "other shards");
        seen.push(after.clone());
        last = after;
    }
    assert_eq!(marks(&mut *empty).await, Some(before), "those of the state in which it was taken");
}

async fn ask_in_vain(snapshot: &mut dyn Snapshot) -> [(&'static str, Result<(), StoreError>); 11] {
    let query = DeadLetterQuery { limit: 10, ..DeadLetterQuery::default() };
    let filter = SeriesFilter::default();
    [
        ("totals", within(snapshot.totals()).await.map(drop)),
        ("positions", within(snapshot.positions()).await.map(drop)),
        ("series", within(snapshot.series(&filter, None, 10)).await.map(drop)),
        ("block_stats", within(snapshot.block_stats(Shard(0), TimeRange::ALL)).await.map(drop)),
        ("blocks", within(snapshot.blocks(Shard(0), TimeRange::ALL, None, 1_000)).await.map(drop)),
        ("seal_marks", within(snapshot.seal_marks()).await.map(drop)),
        ("rollups", within(snapshot.rollups(Shard(0), Level::Hour, &[SeriesId(0)], TimeRange::ALL)).await.map(drop)),
        ("chunk_stats", within(snapshot.chunk_stats(Shard(0), &[SeriesId(0)], TimeRange::ALL)).await.map(drop)),
        ("chunks", within(snapshot.chunks(Shard(0), &[SeriesId(0)], TimeRange::ALL, None, 1_000)).await.map(drop)),
        ("dead_letters", within(snapshot.dead_letters(&query, 1_000)).await.map(drop)),
        ("dead_letter", within(snapshot.dead_letter(letter(0).id)).await.map(drop)),
    ]
}
