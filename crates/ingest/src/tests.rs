//! Stories of ingest over the in-memory log and store, with faults on order.

mod foreign;

use crate::{Config, Deps, GROUP, Metrics, run};
use headwater_contract::builders::{Reading, START, at, reading, reading_batch};
use headwater_contract::{FaultyLog, FaultyStore, LogCall, MemoryLog, MemoryStore, StoreCall, eventually, within};
use headwater_core::dead_letter::{KeptLetter, Reason};
use headwater_core::filter::SeriesFilter;
use headwater_core::health::Health;
use headwater_core::log::{EventLog, LogError, LogId, Position, Record};
use headwater_core::merge::SeriesReadings;
use headwater_core::store::{Batch, DeadLetterQuery, Ingestion, Move, Queries, Snapshot, StoreError, Totals};
use headwater_core::time::TimeRange;
use headwater_wire::record::{self, RefusedItem};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A log, a store, and an ingest between them.
struct Stage {
    log: Arc<FaultyLog>,
    store: Arc<FaultyStore>,
    health: Health,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

fn quick() -> Config {
    Config { batch_ms: 5, ..Config::default() }
}

impl Stage {
    fn start(config: Config) -> Self {
        Self::over(config, MemoryLog::new(1), MemoryStore::new())
    }

    fn over(config: Config, log: MemoryLog, store: MemoryStore) -> Self {
        let (log, store) = (Arc::new(FaultyLog::new(log)), Arc::new(FaultyStore::new(store)));
        let (health, stop) = (Health::default(), CancellationToken::new());
        let deps = Deps { log: log.clone(), store: store.clone(), health: health.clone(), metrics: Metrics::default() };
        let running = tokio::spawn(run(config, deps, stop.clone()));
        Self { log, store, health, stop, running }
    }

    async fn send(&self, readings: &[Reading]) {
        within(self.log.append(record::encode_readings(&reading_batch(readings), START, &|_| 0))).await.unwrap();
    }

    /// Waits until everything in the log is applied.
    async fn settled(&self) -> Totals {
        let end = self.log.bounds().await.unwrap()[0].end;
        eventually("everything to be applied", async || {
            let totals = self.snapshot().await.totals().await.unwrap();
            (end == 0 || totals.positions.iter().any(|p| p.next == end)).then_some(totals)
        })
        .await
    }

    async fn snapshot(&self) -> Box<dyn Snapshot> {
        self.store.snapshot(Duration::from_secs(10)).await.unwrap()
    }

    /// The readings of one device and metric, merged.
    async fn series(&self, device: &str, metric: &str) -> Vec<(i64, f64)> {
        let mut snapshot = self.snapshot().await;
        let key = reading(device, metric).key();
        let all = snapshot.series(&SeriesFilter::default(), None, usize::MAX).await.unwrap();
        let Some(series) = all.iter().find(|s| s.key == key) else { return Vec::new() };
        let mut merged = SeriesReadings::default();
        for (_, block) in snapshot.blocks(series.id.shard(), TimeRange::ALL, None, usize::MAX).await.unwrap() {
            merged.gather(&block, series.id, TimeRange::ALL);
        }
        merged.settle();
        merged.times.into_iter().zip(merged.values).collect()
    }

    async fn letters(&self) -> Vec<KeptLetter> {
        let query = DeadLetterQuery { limit: 1000, ..DeadLetterQuery::default() };
        self.snapshot().await.dead_letters(&query, usize::MAX).await.unwrap().0
    }

    async fn ended(self) -> anyhow::Result<()> {
        within(self.running).await.unwrap()
    }
}

fn adds_up(totals: &Totals) {
    assert_eq!(totals.received, totals.stored + totals.duplicate + totals.conflict + totals.dead + totals.unsealed, "{totals:?}");
}

#[tokio::test]
async fn readings_travel_from_the_log_to_the_store() {
    let stage = Stage::start(quick());
    stage.send(&[reading("a", "t").value(1.5), reading("b", "t").value(2.5), reading("a", "t").at(at(1)).value(3.5)]).await;
    let totals = stage.settled().await;
    assert_eq!((totals.received, totals.unsealed, totals.dead), (3, 3, 0));
    assert_eq!(stage.series("a", "t").await, [(at(0).0, 1.5), (at(1).0, 3.5)]);
    assert_eq!(stage.series("b", "t").await, [(at(0).0, 2.5)]);
}

#[tokio::test]
async fn many_records_become_few_commits_and_every_reading_is_there_once() {
    let stage = Stage::start(Config { batch_readings: 7, ..quick() });
    for i in 0..50 {
        stage.send(&[reading("a", "t").at(at(i)).value(i as f64), reading("b", "t").at(at(i)).value(-(i as f64))]).await;
    }
    let totals = stage.settled().await;
    adds_up(&totals);
    assert_eq!(totals.received, 100);
    let expected: Vec<_> = (0..50).map(|i| (at(i).0, i as f64)).collect();
    assert_eq!(stage.series("a", "t").await, expected);
    assert!(stage.store.faults.calls(StoreCall::Commit) >= 100 / 8, "a batch takes at most 8 readings here");
}

#[tokio::test]
async fn a_reading_sent_twice_is_seen_once_and_counted_twice() {
    let stage = Stage::start(quick());
    for _ in 0..2 {
        stage.send(&[reading("a", "t").value(1.0)]).await;
    }
    let totals = stage.settled().await;
    assert_eq!(totals.received, 2);
    assert_eq!(stage.series("a", "t").await, [(at(0).0, 1.0)]);
}

#[tokio::test]
async fn a_fenced_writer_changes_nothing_and_resumes() {
    let stage = Stage::start(quick());
    stage.send(&[reading("a", "t").value(1.0)]).await;
    let first = stage.settled().await;
    // Another writer applies the next record behind the back of this one.
    let held = stage.store.faults.hold(StoreCall::Commit);
    stage.send(&[reading("a", "t").at(at(1)).value(2.0)]).await;
    stage.store.faults.called(StoreCall::Commit, 2).await;
    let to = Position { next: 2, ..first.positions[0].clone() };
    let theirs = Move { to, expected: Some(1), received: 1, dead: 0 };
    let blocks = headwater_contract::builders::blocks(&[(headwater_core::series::SeriesId(0), at(1), 2.0)]);
    let other = stage.store.clone();
    let committing = tokio::spawn(async move { other.commit(Arc::new(Batch { blocks, moves: vec![theirs], ..Batch::default() })).await });
    stage.store.faults.called(StoreCall::Commit, 3).await;
    drop(held);
    let their_outcome = within(committing).await.unwrap();
    stage.send(&[reading("a", "t").at(at(2)).value(3.0)]).await;
    let totals = stage.settled().await;
    adds_up(&totals);
    // Whoever came first, the record counts once.
    assert_eq!(totals.received, 3, "their commit: {their_outcome:?}");
    assert_eq!(stage.series("a", "t").await, [(at(0).0, 1.0), (at(1).0, 2.0), (at(2).0, 3.0)]);
}

#[tokio::test]
async fn a_commit_that_says_fenced_is_read_again_from_the_stored_position() {
    let stage = Stage::start(quick());
    let fenced = StoreError::Fenced { partition: 0, expected: None, found: Some(7) };
    stage.store.faults.fail(StoreCall::Commit, 1, fenced);
    stage.send(&[reading("a", "t").value(1.0)]).await;
    let totals = stage.settled().await;
    assert_eq!(totals.received, 1);
    assert!(stage.log.faults.calls(LogCall::Resume) >= 2, "it resumed");
}

#[tokio::test]
async fn a_store_that_may_have_gone_back_is_told_every_series_again() {
    for call in [StoreCall::Commit, StoreCall::Register] {
        let stage = Stage::start(quick());
        stage.send(&[reading("a", "t").value(1.0)]).await;
        stage.settled().await;
        let registered = stage.store.faults.calls(StoreCall::Register);
        stage.store.faults.fail(call, 1, StoreError::Restored("another server answers".into()));
        stage.send(&[reading("a", "t").at(at(1)).value(2.0), reading("b", "t").value(3.0)]).await;
        stage.settled().await;
        // A series that was registered long ago, and no new one with it.
        stage.send(&[reading("a", "t").at(at(2)).value(4.0)]).await;
        let totals = stage.settled().await;
        adds_up(&totals);
        assert_eq!(totals.received, 4, "{call:?}");
        assert_eq!(stage.series("a", "t").await, [(at(0).0, 1.0), (at(1).0, 2.0), (at(2).0, 4.0)]);
        assert!(stage.log.faults.calls(LogCall::Resume) >= 2, "{call:?}: it resumed");
        assert!(stage.store.faults.calls(StoreCall::Register) >= registered + 2, "{call:?}: ids were asked for again");
    }
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_is_applied_once_whether_it_took_effect_or_not() {
    for took_effect in [true, false] {
        let stage = Stage::start(quick());
        let unknown = StoreError::Unknown("connection lost".into());
        if took_effect {
            stage.store.faults.fail_after(StoreCall::Commit, 1, unknown);
        } else {
            stage.store.faults.fail(StoreCall::Commit, 1, unknown);
        }
        stage.send(&[reading("a", "t").value(1.0)]).await;
        stage.send(&[reading("a", "t").at(at(1)).value(2.0)]).await;
        let totals = stage.settled().await;
        adds_up(&totals);
        assert_eq!(totals.received, 2, "took effect: {took_effect}");
    }
}

#[tokio::test]
async fn transient_faults_wait_and_never_make_dead_letters() {
    let stage = Stage::start(quick());
    stage.store.faults.fail(StoreCall::Register, 1, StoreError::Busy("disk full".into()));
    stage.store.faults.fail(StoreCall::Commit, 2, StoreError::Unavailable("database down".into()));
    stage.log.faults.fail(LogCall::Next, 1, LogError::Unavailable("broker away".into()));
    stage.send(&[reading("a", "t").value(1.0)]).await;
    let totals = stage.settled().await;
    assert_eq!((totals.received, totals.dead), (1, 0));
    assert!(stage.letters().await.is_empty());
    eventually("no condition to be left", async || stage.health.conditions().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_store_that_is_away_is_named_while_it_is() {
    let stage = Stage::start(quick());
    stage.store.faults.fail(StoreCall::Commit, u32::MAX, StoreError::Unavailable("database down".into()));
    stage.send(&[reading("a", "t").value(1.0)]).await;
    let condition = eventually("a condition", async || stage.health.conditions().pop()).await;
    assert!(condition.1.contains("database down"), "{condition:?}");
    stage.store.faults.heal();
    assert_eq!(stage.settled().await.received, 1);
}

#[tokio::test]
async fn a_record_that_cannot_be_decoded_becomes_a_dead_letter_with_its_bytes() {
    let stage = Stage::start(quick());
    let garbage = Record { partition: 0, received_at: START, count: 5, key: None, payload: bytes::Bytes::from_static(b"garbage") };
    stage.log.append(vec![garbage]).await.unwrap();
    stage.send(&[reading("a", "t").value(1.0)]).await;
    let totals = stage.settled().await;
    adds_up(&totals);
    assert_eq!((totals.received, totals.dead, totals.unsealed), (6, 5, 1));
    let letters = stage.letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].reason, letters[0].count, &letters[0].bytes[..]), (Reason::Undecodable, 5, &b"garbage"[..]));
    assert_eq!(letters[0].origin.as_ref().unwrap().position, 0);
}

#[tokio::test]
async fn refused_items_arrive_as_dead_letters_with_their_origin() {
    let stage = Stage::start(quick());
    let item = RefusedItem {
        id: Uuid::from_u128(7),
        reason: Reason::NotFinite,
        detail: "1e999 is beyond f64".into(),
        device: Some("a".into()),
        format: "json".into(),
        count: 3,
        bytes: vec![b'x'; 2 * headwater_core::dead_letter::PART_BYTES + 5],
        part: 0,
        parts: 1,
    };
    stage.log.append(record::encode_refused(vec![item], START, 0)).await.unwrap();
    let totals = stage.settled().await;
    adds_up(&totals);
    assert_eq!((totals.received, totals.dead), (3, 3));
    let letters = stage.letters().await;
    assert_eq!(letters.len(), 1, "its parts are one letter");
    assert_eq!(letters[0].id, Uuid::from_u128(7));
    assert_eq!(letters[0].bytes.len(), 2 * headwater_core::dead_letter::PART_BYTES + 5);
    assert_eq!(letters[0].origin.as_ref().unwrap().log, stage.log.identity());
}

#[tokio::test]
async fn readings_of_series_beyond_a_limit_become_dead_letters_and_all_adds_up() {
    let stage = Stage::start(Config { series_per_device: 1, ..quick() });
    stage.send(&[reading("a", "t").value(1.0), reading("a", "u").value(2.0), reading("a", "u").at(at(1)).value(3.0)]).await;
    stage.send(&[reading("a", "t").at(at(1)).value(4.0), reading("b", "t").value(5.0)]).await;
    let totals = stage.settled().await;
    adds_up(&totals);
    assert_eq!((totals.received, totals.dead), (5, 2));
    let letters = stage.letters().await;
    assert_eq!((letters.len(), letters[0].reason, letters[0].count), (1, Reason::SeriesLimit, 2));
    let json: serde_json::Value = serde_json::from_slice(&letters[0].bytes).unwrap();
    assert_eq!(json[1], serde_json::json!({"device": "a", "metric": "u", "ts": at(1).to_string(), "value": 3.0}));
    assert_eq!(stage.series("a", "t").await.len(), 2);
    assert!(stage.series("a", "u").await.is_empty());
}

#[tokio::test]
async fn the_same_readings_beyond_a_limit_are_one_letter_however_often_they_come() {
    let stage = Stage::start(Config { series_per_device: 1, ..quick() });
    let beyond = [reading("a", "u").unit("K").value(2.0), reading("a", "u").unit("K").at(at(1)).value(3.0)];
    stage.send(&[reading("a", "t")]).await;
    for _ in 0..3 {
        stage.send(&beyond).await;
        stage.settled().await;
    }
    stage.send(&[reading("a", "u").unit("K").value(2.5)]).await;
    stage.settled().await;
    let letters = stage.letters().await;
    let told: Vec<_> = letters.iter().map(|letter| (letter.count, letter.history.seen)).collect();
    assert_eq!((letters.len(), told.contains(&(6, 3)), told.contains(&(1, 1))), (2, true, true), "{told:?}");
    let totals = stage.snapshot().await.totals().await.unwrap();
    assert_eq!((totals.received, totals.dead), (8, 7), "letters sum to what is dead");
    assert!(letters.iter().all(|letter| String::from_utf8_lossy(&letter.bytes).contains(r#""unit":"K""#)));
}

#[tokio::test]
async fn the_last_unit_of_a_series_counts() {
    let stage = Stage::start(quick());
    for unit in ["K", "Cel"] {
        stage.send(&[reading("a", "t").unit(unit)]).await;
        stage.settled().await;
    }
    stage.send(&[reading("a", "t")]).await;
    stage.settled().await;
    let series = stage.snapshot().await.series(&SeriesFilter::default(), None, 10).await.unwrap();
    assert_eq!(series[0].unit.as_deref(), Some("Cel"));
}

#[tokio::test]
async fn above_the_limit_of_open_readings_it_waits_and_says_so() {
    let stage = Stage::start(Config { open_readings: 2, ..quick() });
    stage.send(&[reading("a", "t"), reading("b", "t"), reading("c", "t")]).await;
    stage.settled().await;
    let condition = eventually("a condition", async || stage.health.conditions().pop()).await;
    assert!(condition.1.contains("3 readings are open") && condition.1.contains("limit is 2"), "{condition:?}");
    let commits = stage.store.faults.calls(StoreCall::Commit);
    stage.send(&[reading("a", "t").at(at(1))]).await;
    let looks = stage.store.faults.calls(StoreCall::OpenReadings);
    stage.store.faults.called(StoreCall::OpenReadings, looks + 2).await;
    assert_eq!(stage.store.faults.calls(StoreCall::Commit), commits, "nothing is committed beyond the limit");
    stage.stop.cancel();
    stage.ended().await.unwrap();
}

#[tokio::test]
async fn a_stop_commits_what_the_log_holds() {
    let stage = Stage::start(Config { batch_ms: 60_000, ..Config::default() });
    for i in 0..30 {
        stage.send(&[reading("a", "t").at(at(i))]).await;
    }
    let store = stage.store.clone();
    stage.stop.cancel();
    stage.ended().await.unwrap();
    let mut snapshot = store.snapshot(Duration::from_secs(1)).await.unwrap();
    assert_eq!(snapshot.totals().await.unwrap().received, 30);
}

#[tokio::test]
async fn a_restart_goes_on_where_the_store_stands() {
    let (log, store) = (MemoryLog::new(1), MemoryStore::new());
    for round in 0..3 {
        let stage = Stage::over(quick(), log.clone(), store.clone());
        stage.send(&[reading("a", "t").at(at(round))]).await;
        let totals = stage.settled().await;
        assert_eq!(totals.received, round as u64 + 1);
        stage.stop.cancel();
        stage.ended().await.unwrap();
    }
}

#[tokio::test]
async fn a_stored_position_of_another_log_stops_it_with_both_names() {
    let store = MemoryStore::new();
    let other = Position { log: LogId("other".into()), partition: 0, next: 3, crc: None };
    store
        .commit(Arc::new(Batch { moves: vec![Move { to: other, expected: None, received: 0, dead: 0 }], ..Batch::default() }))
        .await
        .unwrap();
    let log = MemoryLog::new(1);
    let id = log.identity();
    let stage = Stage::over(quick(), log, store);
    let error = format!("{:#}", stage.ended().await.unwrap_err());
    assert!(error.contains("other") && error.contains(&id.0), "{error}");
}

#[tokio::test]
async fn records_that_the_log_no_longer_has_are_recorded_as_a_gap() {
    let (log, store) = (MemoryLog::new(1), MemoryStore::new());
    let id = log.identity();
    let mut first = log.subscribe(GROUP).await.unwrap();
    for n in 0..4 {
        log.append(record::encode_readings(&reading_batch(&[reading("a", "t").at(at(n))]), START, &|_| 0)).await.unwrap();
    }
    let behind = Position { log: id.clone(), partition: 0, next: 1, crc: None };
    store
        .commit(Arc::new(Batch { moves: vec![Move { to: behind, expected: None, received: 1, dead: 1 }], ..Batch::default() }))
        .await
        .unwrap();
    log.trim_to(&[(0, 3)]).await.unwrap();
    first.released(&[0]).await.unwrap();
    drop(first);
    let stage = Stage::over(quick(), log, store.clone());
    let totals = stage.settled().await;
    assert_eq!((totals.gaps, totals.unsealed), (1, 1));
    assert_eq!((store.gaps()[0].from, store.gaps()[0].to), (1, 3));
}
