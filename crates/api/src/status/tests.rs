//! What `status` promises, through the router or by its functions.

use super::*;
use crate::testing::{Stack, at};
use axum::http::header;
use headwater_contract::builders::{self, record};
use headwater_core::log::{EventLog, Record};
use headwater_core::series::SeriesId;
use headwater_core::store::Ingestion;
use serde_json::json;

/// Applies partition `partition` up to `next`, with readings and a dead letter.
async fn apply(stack: &Stack, partition: u32, expected: Option<u64>, next: u64) {
    let position = Position { log: stack.log.identity(), partition, next, crc: Some(1) };
    let letter = builders::letter(u128::from(partition) + 1);
    let batch =
        builders::batch().readings(&[(SeriesId(0), at(-5), 1.0), (SeriesId(0), at(-5), 1.0)]).dead(letter).moved_to(position, expected);
    stack.store.commit(batch.build()).await.unwrap();
}

#[tokio::test]
async fn an_empty_stack_has_nothing_in_flight() {
    let stack = Stack::new();
    let got = stack.get("/v1/status").await.ok();
    assert_eq!(got.header(header::CACHE_CONTROL), "no-store");
    let log = stack.log.identity().0;
    let expected = json!({
        "version": "1.2.3", "roles": ["ingest", "api"], "durability": stack.log.durability(), "received": 0, "stored": 0, "duplicate": 0,
        "conflict": 0, "dead": 0, "unsealed": 0, "in_flight": 0, "applied_to": "2025-11-23T15:00:00Z", "lag_seconds": 0.0,
        "positions": [{"log": log, "partition": 0, "next": 0, "end": 0}, {"log": log, "partition": 1, "next": 0, "end": 0}], "waiting": [],
        "dead_letters": {"kept": 0, "open": 0, "dropped": 0, "discarded": 0},
    });
    assert_eq!(got.json(), expected);
}

#[tokio::test]
async fn what_is_acknowledged_and_not_applied_is_in_flight_and_lags() {
    let stack = Stack::new();
    let records = [(0, -30), (0, -20), (1, -10)];
    let records = records.map(|(partition, second)| Record { received_at: at(second), ..record(partition, "x") });
    stack.log.append(records.to_vec()).await.unwrap();
    let seen = async || {
        let status = stack.get("/v1/status").await.ok().json();
        (status["in_flight"].as_u64().unwrap(), status["lag_seconds"].as_f64().unwrap(), status["applied_to"].as_str().unwrap().to_owned())
    };
    assert_eq!(seen().await, (3, 30.0, "2025-11-23T14:59:30Z".to_owned()));
    apply(&stack, 0, None, 1).await;
    assert_eq!(seen().await, (2, 20.0, "2025-11-23T14:59:40Z".to_owned()));
    apply(&stack, 0, Some(1), 2).await;
    stack.clock.set(at(-4));
    assert_eq!(seen().await, (1, 6.0, "2025-11-23T14:59:50Z".to_owned()));
    stack.clock.set(at(-15));
    assert_eq!(seen().await, (1, 0.0, "2025-11-23T14:59:45Z".to_owned()), "a clock that stepped back makes no negative lag");
    apply(&stack, 1, None, 1).await;
    assert_eq!(seen().await.0, 0);
    let status = stack.get("/v1/status").await.ok().json();
    let counts = ["received", "stored", "duplicate", "conflict", "dead", "unsealed"].map(|name| status[name].as_u64().unwrap());
    assert_eq!(counts, [9, 0, 0, 0, 3, 6]);
    assert_eq!(status["positions"][0]["next"], 2);
}

#[tokio::test]
async fn what_roles_wait_for_is_told() {
    let stack = Stack::new();
    stack.health.waiting("ingest", "waiting for sealing");
    assert_eq!(stack.get("/v1/status").await.ok().json()["waiting"], json!([{"part": "ingest", "reason": "waiting for sealing"}]));
}

#[test]
fn positions_of_another_log_do_not_count_and_trimmed_records_are_not_in_flight() {
    let (mine, other) = (LogId("mine".into()), LogId("other".into()));
    let position = |log: &LogId, partition, next| Position { log: log.clone(), partition, next, crc: None };
    let bounds =
        [Bounds { partition: 0, start: 5, end: 9 }, Bounds { partition: 1, start: 5, end: 9 }, Bounds { partition: 2, start: 0, end: 4 }];
    let positions = [position(&mine, 0, 3), position(&other, 1, 9), position(&mine, 2, 7)];
    let in_flight: Vec<u64> = progress(&mine, &bounds, &positions).into_iter().map(Progress::in_flight).collect();
    assert_eq!(in_flight, [4, 4, 0]);
}
