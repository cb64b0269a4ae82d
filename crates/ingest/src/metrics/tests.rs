//! What is counted, and how the lag grows and goes, over the in-memory log and store.

use super::*;
use crate::{Config, Deps, run};
use headwater_contract::builders::{START, reading, reading_batch};
use headwater_contract::{FaultyLog, FaultyStore, LogCall, MemoryLog, MemoryStore, StoreCall, eventually, within};
use headwater_core::clock::ManualClock;
use headwater_core::health::Health;
use headwater_core::log::LogError;
use headwater_core::metrics::Format;
use headwater_core::store::Queries;
use headwater_wire::record::{encode_heartbeat, encode_readings};
use tokio_util::sync::CancellationToken;

struct Stage {
    log: Arc<FaultyLog>,
    store: Arc<FaultyStore>,
    clock: Arc<ManualClock>,
    registry: Registry,
}

impl Stage {
    fn start() -> Self {
        let (log, store) = (Arc::new(FaultyLog::new(MemoryLog::new(1))), Arc::new(FaultyStore::new(MemoryStore::new())));
        let (clock, mut registry) = (Arc::new(ManualClock::at(START)), Registry::default());
        let metrics = Metrics::new(&mut registry, log.clone(), clock.clone());
        let deps = Deps { log: log.clone(), store: store.clone(), health: Health::default(), metrics };
        tokio::spawn(run(Config { batch_ms: 1, ..Config::default() }, deps, CancellationToken::new()));
        Self { log, store, clock, registry }
    }

    async fn send(&self, n: usize) {
        let readings: Vec<_> = (0..n).map(|i| reading("a", "t").value(i as f64)).collect();
        within(self.log.append(encode_readings(&reading_batch(&readings), START, &|_| 0))).await.unwrap();
    }

    async fn scraped(&self, series: &str) -> Option<f64> {
        for source in self.registry.sources() {
            within((source.refresh)()).await;
        }
        let text = self.registry.write(Format::Plain);
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')).map(|value| value.parse().unwrap())
    }

    async fn until(&self, series: &str, value: f64) {
        eventually(series, async || (self.scraped(series).await == Some(value)).then_some(())).await;
    }
}

#[tokio::test]
async fn what_was_applied_is_counted_once_whatever_had_to_be_tried_again() {
    let stage = Stage::start();
    stage.store.faults.fail(StoreCall::Commit, 2, StoreError::Busy("full".to_owned()));
    stage.store.faults.fail_after(StoreCall::Commit, 1, StoreError::Unknown("the answer was lost".to_owned()));
    stage.send(3).await;
    stage.until("headwater_ingest_records_total", 1.0).await;
    for (series, value) in [
        ("headwater_ingest_readings_total{outcome=\"open\"}", 3.0),
        ("headwater_ingest_readings_total{outcome=\"dead\"}", 0.0),
        ("headwater_ingest_commit_retries_total{reason=\"busy\"}", 2.0),
        ("headwater_ingest_commit_retries_total{reason=\"unknown\"}", 1.0),
        ("headwater_ingest_commit_retries_total{reason=\"other\"}", 0.0),
        ("headwater_ingest_batch_readings_sum", 3.0),
        ("headwater_ingest_last_commit_timestamp_seconds", START.micros() as f64 / 1e6),
    ] {
        assert_eq!(stage.scraped(series).await, Some(value), "{series}");
    }
}

#[tokio::test]
async fn a_heartbeat_moves_the_position_and_counts_as_no_reading() {
    let stage = Stage::start();
    let sent = START.plus(7 * SECOND);
    within(stage.log.append(vec![encode_heartbeat(sent, 0)])).await.unwrap();
    let stage_of = "headwater_heartbeat_timestamp_seconds{stage=\"applied\"}";
    stage.until(stage_of, sent.micros() as f64 / 1e6).await;
    let totals = stage.store.snapshot(Duration::from_secs(10)).await.unwrap().totals().await.unwrap();
    assert_eq!((totals.received, totals.dead, totals.dead_letters, totals.positions[0].next), (0, 0, 0, 1));
    stage.until("headwater_ingest_lag_records", 0.0).await;
    assert_eq!(stage.scraped("headwater_ingest_records_total").await, Some(1.0));
}

#[tokio::test]
async fn the_lag_goes_on_growing_while_nothing_can_be_committed_and_ends_with_it() {
    let stage = Stage::start();
    stage.until("headwater_ingest_lag_seconds", 0.0).await;
    stage.store.faults.fail(StoreCall::Commit, u32::MAX, StoreError::Unavailable("gone".to_owned()));
    stage.send(1).await;
    stage.until("headwater_ingest_lag_records", 1.0).await;
    for age in [30, 90] {
        stage.clock.set(START.plus(age * SECOND));
        stage.until("headwater_ingest_lag_seconds", age as f64).await;
    }
    // Even where the log says nothing any more.
    stage.log.faults.fail(LogCall::Bounds, u32::MAX, LogError::Unavailable("gone".to_owned()));
    stage.clock.set(START.plus(120 * SECOND));
    stage.until("headwater_ingest_lag_seconds", 120.0).await;
    stage.log.faults.heal();
    stage.store.faults.heal();
    stage.until("headwater_ingest_lag_seconds", 0.0).await;
    stage.until("headwater_ingest_lag_records", 0.0).await;
}
