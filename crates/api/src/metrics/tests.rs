//! What is counted of questions, and what a scrape shows of the store.

use crate::Config;
use crate::testing::{Stack, at, reading};
use headwater_contract::builders::record;
use headwater_contract::{FaultyStore, MemoryStore, StoreCall};
use headwater_core::log::EventLog;
use headwater_core::store::StoreError;
use std::sync::Arc;

/// Memory for all answers of a test.
const BUDGET: usize = 256 << 20;

#[tokio::test]
async fn answers_are_counted_with_their_rows_and_refusals_by_their_reason() {
    let stack = Stack::with(Config { max_readings: 3, ..Config::default() });
    stack.commit(&[reading("a", "t").at(at(-3)), reading("b", "t").at(at(-2))]).await;
    stack.get("/v1/latest").await.ok();
    stack.get("/v1/status").await.ok();
    stack.get("/v1/stats?nonsense=1").await.problem();
    stack.commit(&(0..9).map(|n| reading("c", "t").at(at(-n))).collect::<Vec<_>>()).await;
    assert_eq!(stack.get("/v1/stats").await.problem().1, "query_too_expensive");
    let count = async |what: &str, route: &str| stack.scraped(&format!("headwater_api_query_{what}{{route=\"{route}\"}}")).await.unwrap();
    assert_eq!((count("rows_sum", "/v1/latest").await, count("rows_count", "/v1/latest").await), (2.0, 1.0));
    assert_eq!((count("rows_sum", "/v1/status").await, count("duration_seconds_count", "/v1/status").await), (1.0, 1.0));
    assert_eq!(count("duration_seconds_count", "/v1/stats").await, 0.0);
    for (reason, n) in [("cost", 1.0), ("deadline", 0.0), ("busy", 0.0)] {
        assert_eq!(stack.scraped(&format!("headwater_api_refused_queries_total{{reason=\"{reason}\"}}")).await, Some(n), "{reason}");
    }
}

#[tokio::test]
async fn the_store_adds_up_and_what_is_in_flight_is_told() {
    let stack = Stack::new();
    stack.commit(&[reading("a", "t").at(at(-3)), reading("a", "t").at(at(-3)), reading("b", "t").at(at(-2))]).await;
    stack.seal().await;
    stack.commit(&[reading("a", "t").at(at(-1))]).await;
    stack.log.append(vec![record(0, "x"), record(1, "x")]).await.unwrap();
    let of = async |outcome: &str| stack.scraped(&format!("headwater_store_readings{{outcome=\"{outcome}\"}}")).await.unwrap();
    assert_eq!(stack.scraped("headwater_store_received_readings").await, Some(4.0));
    assert_eq!(
        [of("stored").await, of("duplicate").await, of("conflict").await, of("dead").await, of("unsealed").await],
        [2.0, 1.0, 0.0, 0.0, 1.0]
    );
    assert_eq!(
        (stack.scraped("headwater_store_up").await, stack.scraped("headwater_store_in_flight_records").await),
        (Some(1.0), Some(2.0))
    );
    assert_eq!(stack.scraped("headwater_store_applied_to_timestamp_seconds").await, Some(at(0).micros() as f64 / 1e6));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_down_within_a_second_and_shows_nothing_old() {
    let faulty = Arc::new(FaultyStore::new(MemoryStore::new()));
    let stack = Stack::behind(faulty.clone(), MemoryStore::new(), Config::default(), BUDGET);
    assert_eq!(stack.scraped("headwater_store_received_readings").await, Some(0.0));
    let held = faulty.faults.hold(StoreCall::Snapshot);
    let began = tokio::time::Instant::now();
    assert_eq!(stack.scraped("headwater_store_up").await, Some(0.0));
    assert!(began.elapsed() <= super::LOOK, "{:?}", began.elapsed());
    assert_eq!(stack.scraped("headwater_store_received_readings").await, None);
    assert_eq!(stack.scraped("headwater_store_in_flight_records").await, None);
    drop(held);
    faulty.faults.fail(StoreCall::Snapshot, 1, StoreError::Unavailable("gone".to_owned()));
    assert_eq!(stack.scraped("headwater_store_up").await, Some(0.0));
    assert_eq!(stack.scraped("headwater_store_received_readings").await, Some(0.0));
}
