//! The directory as a whole: opening, closing, and what a killed process leaves behind.

use crate::{Config, Embedded, OpenError, open};
use headwater_core::clock::SystemClock;
use headwater_core::dead_letter::{DeadLetter, Origin, Reason};
use headwater_core::log::{LogError, LogId, Record};
use headwater_core::store::{Batch, Ingestion, Queries, StoreError};
use headwater_core::time::Timestamp;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

fn open_at(dir: &Path) -> Result<Embedded, OpenError> {
    open(dir, Config::default(), Arc::new(SystemClock))
}

fn record(payload: &'static str) -> Record {
    Record { partition: 0, received_at: Timestamp(1), count: 1, key: None, payload: payload.into() }
}

fn dead_letter() -> DeadLetter {
    DeadLetter {
        id: Uuid::from_u128(1),
        received_at: Timestamp(1),
        reason: Reason::Malformed,
        detail: String::new(),
        device: None,
        format: "json".into(),
        count: 1,
        bytes: b"{".to_vec(),
        part: 0,
        parts: 1,
        origin: Some(Origin { log: LogId("log".into()), partition: 0, position: 0 }),
    }
}

#[tokio::test]
async fn one_process_has_a_directory_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = open_at(dir.path()).unwrap();
    let refused = open_at(dir.path()).map(drop).unwrap_err();
    assert!(matches!(&refused, OpenError::InUse { holder, .. } if holder.contains(&std::process::id().to_string())), "{refused}");
    let (log, store) = (Arc::clone(&first.log), Arc::clone(&first.store));
    first.close();
    // Those who still hold the log and the store do not hold the directory.
    open_at(dir.path()).unwrap().close();
    assert!(matches!(log.append(vec![record("x")]).await, Err(LogError::Stopped(_))));
    assert!(matches!(store.snapshot(Duration::from_secs(1)).await.map(drop), Err(StoreError::Stopped(_))));
}

#[tokio::test]
async fn what_a_killed_process_leaves_holds_all_that_was_acknowledged() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let embedded = open_at(dir.path()).unwrap();
    for payload in ["a", "b", "c"] {
        embedded.log.append(vec![record(payload)]).await.unwrap();
    }
    embedded.log.trim_to(&[(0, 2)]).await.unwrap();
    embedded.store.commit(Arc::new(Batch { dead_letters: vec![dead_letter()], ..Batch::default() })).await.unwrap();
    // The files as they are, the write-ahead logs not moved in: what the system has when the process is gone.
    for file in ["format", "log.db", "log.db-wal", "store.db", "store.db-wal"] {
        std::fs::copy(dir.path().join(file), copy.path().join(file)).unwrap();
    }
    let again = open_at(copy.path()).unwrap();
    assert_eq!(again.log.identity(), embedded.log.identity());
    assert_eq!(again.log.bounds().await.unwrap(), embedded.log.bounds().await.unwrap());
    let mut snapshot = again.store.snapshot(Duration::from_secs(20)).await.unwrap();
    assert_eq!(snapshot.totals().await.unwrap().dead_letters, 1);
    assert_eq!(snapshot.dead_letter(Uuid::from_u128(1)).await.unwrap().map(|kept| kept.letter), Some(dead_letter()));
}

#[tokio::test]
async fn closing_empties_the_write_ahead_logs() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = open_at(dir.path()).unwrap();
    embedded.log.append(vec![record("x")]).await.unwrap();
    embedded.close();
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.ends_with("-wal")), "{left:?}");
}
