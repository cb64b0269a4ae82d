//! Planned faults come as planned, and what cannot be met is shown as ignored.

use crate::builders::{NO_BUDGET, batch, letter, load, reading, reading_batch, record, sealed, store_readings};
use crate::event_log::LogHarness;
use crate::{FaultyLog, FaultyStore, LogCall, MemoryLog, MemoryStore, StoreCall, within};
use headwater_core::BoxFuture;
use headwater_core::log::{Delivery, EventLog, LogError};
use headwater_core::store::{Ingestion, Queries, Replaced, Sealing, StoreError};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn an_append_that_fails_before_does_nothing_and_one_that_fails_after_took_effect() {
    let memory = MemoryLog::new(1);
    let log = FaultyLog::new(memory.clone());
    log.faults.fail(LogCall::Append, 2, LogError::Busy("full".into()));
    for _ in 0..2 {
        assert!(matches!(log.append(vec![record(0, "lost")]).await, Err(LogError::Busy(_))));
    }
    log.faults.fail_after(LogCall::Append, 1, LogError::Unavailable("connection lost".into()));
    assert!(matches!(log.append(vec![record(0, "kept")]).await, Err(LogError::Unavailable(_))));
    log.append(vec![record(0, "kept too")]).await.unwrap();
    assert_eq!(memory.records(0).iter().map(|record| &record.payload[..]).collect::<Vec<_>>(), [&b"kept"[..], b"kept too"]);
    assert_eq!(log.faults.calls(LogCall::Append), 4);
}

#[tokio::test]
async fn a_held_call_goes_on_when_it_is_let_go() {
    let log = Arc::new(FaultyLog::new(MemoryLog::new(1)));
    let held = log.faults.hold(LogCall::Append);
    let appending = tokio::spawn({
        let log = Arc::clone(&log);
        async move { log.append(vec![record(0, "late")]).await }
    });
    log.faults.called(LogCall::Append, 1).await;
    assert_eq!(log.bounds().await.unwrap()[0].end, 0);
    drop(held);
    within(appending).await.unwrap().unwrap();
    assert_eq!(log.bounds().await.unwrap()[0].end, 1);
}

#[tokio::test]
async fn a_healed_wrapper_fails_no_more() {
    let log = FaultyLog::new(MemoryLog::new(1));
    log.faults.fail(LogCall::Writable, 100, LogError::Unavailable("broker down".into()));
    assert!(log.writable().await.is_err());
    log.faults.heal();
    assert!(log.writable().await.is_ok());
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_took_effect_or_not_as_planned() {
    let memory = MemoryStore::new();
    let store = FaultyStore::new(memory.clone());
    let batch = batch().dead(letter(1)).moved(0, None, 1).build();
    store.faults.fail(StoreCall::Commit, 1, StoreError::Unknown("connection lost".into()));
    assert!(matches!(store.commit(Arc::clone(&batch)).await, Err(StoreError::Unknown(_))));
    assert_eq!(memory.positions().await.unwrap(), []);
    store.faults.fail_after(StoreCall::Commit, 1, StoreError::Unknown("connection lost".into()));
    assert!(matches!(store.commit(batch).await, Err(StoreError::Unknown(_))));
    assert_eq!(memory.positions().await.unwrap()[0].next, 1);
}

#[tokio::test]
async fn a_replacement_of_unknown_outcome_took_effect_or_not_as_planned() {
    let memory = MemoryStore::new();
    let store = FaultyStore::new(memory.clone());
    store_readings(&store, &[reading("d", "m")]).await;
    let shard = store.backlog().await.unwrap()[0].shard;
    let (version, loaded) = load(&store, shard, NO_BUDGET).await;
    let replacement = sealed(&store, shard, &loaded, 1).await;
    let lost = StoreError::Unknown("connection lost".into());
    store.faults.fail(StoreCall::Replace, 1, lost.clone());
    assert!(store.replace(shard, version, Arc::clone(&replacement)).await.is_err());
    assert_eq!(memory.open_readings().await.unwrap(), 1);
    store.faults.fail_after(StoreCall::Replace, 1, lost);
    assert!(store.replace(shard, version, Arc::clone(&replacement)).await.is_err());
    assert_eq!(memory.open_readings().await.unwrap(), 0);
    assert_eq!(store.replace(shard, version, replacement).await.unwrap(), Replaced::Lost);
    for (call, calls) in [(StoreCall::Backlog, 1), (StoreCall::Load, 1), (StoreCall::Keys, 1), (StoreCall::Replace, 3)] {
        assert_eq!(store.faults.calls(call), calls, "{call:?}");
    }
}

#[tokio::test]
async fn every_question_to_a_snapshot_can_fail() {
    let store = FaultyStore::new(MemoryStore::new());
    store.faults.fail(StoreCall::Snapshot, 1, StoreError::Unavailable("starting".into()));
    assert!(store.snapshot(Duration::from_secs(9)).await.is_err());
    let mut snapshot = store.snapshot(Duration::from_secs(9)).await.unwrap();
    store.faults.fail(StoreCall::Question, 1, StoreError::Deadline);
    assert!(matches!(snapshot.totals().await, Err(StoreError::Deadline)));
    assert!(snapshot.totals().await.is_ok());
}

#[tokio::test]
async fn a_revoked_partition_goes_to_the_next_in_line_when_it_is_released() {
    let log = MemoryLog::new(2);
    let mut first = log.subscribe("g").await.unwrap();
    assert_eq!(first.next().await.unwrap(), Delivery::Assigned(vec![0, 1]));
    let mut second = log.subscribe("g").await.unwrap();
    log.revoke("g", &[1]);
    assert_eq!(within(first.next()).await.unwrap(), Delivery::Revoked(vec![1]));
    first.released(&[1]).await.unwrap();
    assert_eq!(within(second.next()).await.unwrap(), Delivery::Assigned(vec![1]));
    drop(second);
    assert_eq!(within(first.next()).await.unwrap(), Delivery::Assigned(vec![1]));
}

#[tokio::test]
async fn a_damaged_record_is_delivered_as_such() {
    let log = MemoryLog::new(1);
    log.append(vec![record(0, "whole"), record(0, "rotten")]).await.unwrap();
    log.damage(0, 1);
    let records = log.records(0);
    assert_eq!((records[0].damaged, records[1].damaged), (false, true));
    assert_ne!(crc32fast::hash(&records[1].payload), records[1].crc);
}

#[tokio::test]
async fn built_readings_are_stored_and_batched_as_they_were_said() {
    let readings = [reading("d", "m").tag("b", "2").tag("a", "1").unit("K").value(-0.0), reading("d", "m").value(2.5)];
    let batch = reading_batch(&readings);
    assert_eq!((batch.len(), batch.dictionary.len(), batch.dictionary.unit(0)), (2, 2, Some("K")));
    let store = MemoryStore::new();
    assert_eq!(store_readings(&store, &readings).await.open_readings, 2);
    assert_eq!(store_readings(&store, &readings[1..]).await.open_readings, 3);
}

/// A harness whose other log is the same one.
struct Same(MemoryLog);

impl LogHarness for Same {
    fn open(&mut self) -> BoxFuture<'_, Arc<dyn EventLog>> {
        Box::pin(async { Arc::new(self.0.clone()) as Arc<dyn EventLog> })
    }

    fn other(&mut self) -> BoxFuture<'_, Arc<dyn EventLog>> {
        self.open()
    }
}

mod excepted {
    use super::{MemoryLog, Same};
    crate::event_log_suite!(|| Same(MemoryLog::new(1)), except: [
        two_logs_have_two_identities = "shows an exception: this harness has one log only",
        a_position_of_another_log_is_refused_naming_both = "shows an exception: this harness has one log only",
    ]);
}
