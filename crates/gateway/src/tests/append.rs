//! The acknowledgement: only after the append, never instead of it, and what is said when there is none.

use super::*;
use headwater_contract::{LogCall, eventually, within};
use headwater_core::log::LogError;
use std::pin::pin;

fn busy() -> LogError {
    LogError::Busy("18,000,000 records wait at /secret/path".to_owned())
}

#[tokio::test]
async fn no_answer_comes_before_the_append_has_returned() {
    let site = Site::new();
    let held = site.faulty.faults.hold(LogCall::Append);
    let mut answer = pin!(site.send(JSON, item("a", 1.0)));
    tokio::select! {
        early = &mut answer => panic!("answered before the append returned: {early:?}"),
        () = site.faulty.faults.called(LogCall::Append, 1) => {}
    }
    // The append has begun and is held; let everything else that could answer run.
    for _ in 0..100 {
        assert!(tokio::time::timeout(Duration::ZERO, &mut answer).await.is_err());
        tokio::task::yield_now().await;
    }
    assert!(site.log.records(0).is_empty());
    drop(held);
    assert_eq!(within(answer).await.status, StatusCode::OK);
    assert_eq!(site.readings(), [stored("a", 1.0)]);
}

#[tokio::test]
async fn a_log_that_is_full_for_a_moment_only_delays_the_answer() {
    let site = Site::new();
    site.faulty.faults.fail(LogCall::Append, 3, busy());
    let answer = site.send(JSON, item("a", 1.0)).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(site.readings(), [stored("a", 1.0)]);
    assert_eq!(site.faulty.faults.calls(LogCall::Append), 4);
    assert!(site.health.conditions().is_empty(), "the condition ends with the wait");
}

#[tokio::test]
async fn a_log_that_stays_full_is_a_503_that_claims_nothing() {
    for problem in [busy(), LogError::Unavailable("broker 10.1.2.3 is away".to_owned())] {
        let site = Site::hasty();
        site.faulty.faults.fail(LogCall::Append, u32::MAX, problem);
        let answer = site.send(JSON, item("a", 1.0)).await;
        assert!(answer.says_come_back(), "{answer:?}");
        let text = String::from_utf8(answer.body.clone()).unwrap();
        assert!(!text.contains("secret") && !text.contains("10.1.2.3"), "no internal detail leaves: {text}");
        assert!(!text.contains("accepted"), "{text}");
        assert!(site.log.records(0).is_empty());
        assert!(site.faulty.faults.calls(LogCall::Append) > 1, "it was tried again");
        assert!(site.health.conditions().is_empty(), "or a probe would keep writers away for ever");
    }
}

#[tokio::test]
async fn a_log_that_has_stopped_is_a_503_at_once() {
    for problem in [LogError::Stopped("fsync said EIO".to_owned()), LogError::Corrupt("another log".to_owned())] {
        let site = Site::new();
        site.faulty.faults.fail(LogCall::Append, u32::MAX, problem.clone());
        site.faulty.faults.fail(LogCall::Writable, u32::MAX, problem);
        let answer = site.send(JSON, item("a", 1.0)).await;
        assert!(answer.says_come_back(), "{answer:?}");
        assert_eq!(site.faulty.faults.calls(LogCall::Append), 1);
        let failing: Vec<_> = probe(&site).await.into_iter().filter(|(_, outcome)| outcome.is_err()).map(|(name, _)| name).collect();
        assert_eq!(failing, ["log"]);
    }
}

#[tokio::test]
async fn an_append_that_takes_too_long_is_a_503_and_goes_on() {
    let site = Site::hasty();
    let held = site.faulty.faults.hold(LogCall::Append);
    let answer = within(site.send(JSON, item("a", 1.0))).await;
    assert!(answer.says_come_back(), "{answer:?}");
    drop(held);
    within(site.gateway.drained()).await;
    assert_eq!(site.readings(), [stored("a", 1.0)], "an append that began is not cancelled half way");
}

#[tokio::test]
async fn a_body_that_cannot_be_kept_as_a_dead_letter_is_not_refused_for_good() {
    let site = Site::hasty();
    site.faulty.faults.fail(LogCall::Append, u32::MAX, busy());
    assert!(site.send(JSON, "{\"cut").await.says_come_back(), "a 400 would make the client drop it");
    let broken = site.ask(encoded(JSON, "gzip", "no gzip")).await;
    assert!(broken.says_come_back());
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_no_append() {
    let site = Site::new();
    let held = site.faulty.faults.hold(LogCall::Append);
    let request = tokio::spawn(site.router().oneshot(super::readings(JSON, &[], item("a", 1.0))));
    site.faulty.faults.called(LogCall::Append, 1).await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    drop(held);
    eventually("the append to end", async || (!site.log.records(0).is_empty()).then_some(())).await;
    assert_eq!(site.readings(), [stored("a", 1.0)]);
    within(site.gateway.drained()).await;
    assert_eq!(site.budget.free_bytes(), site.budget.bytes());
}

#[tokio::test]
async fn a_stop_lets_what_has_begun_finish_and_takes_nothing_new() {
    let site = Site::new();
    let held = site.faulty.faults.hold(LogCall::Append);
    let begun = tokio::spawn(site.router().oneshot(super::readings(JSON, &[], item("a", 1.0))));
    site.faulty.faults.called(LogCall::Append, 1).await;
    site.stop.cancel();
    for request in [super::readings(JSON, &[], item("b", 1.0)), post("/write?db=x", &[], &[], "t value=1")] {
        let late = site.ask(request).await;
        assert!(late.says_come_back());
        assert_eq!((late.header("retry-after"), late.header("connection")), ("1", "close"));
    }
    let mut drained = pin!(site.gateway.drained());
    assert!(tokio::time::timeout(Duration::ZERO, &mut drained).await.is_err(), "an append is still running");
    drop(held);
    within(drained).await;
    assert_eq!(within(begun).await.unwrap().unwrap().status(), StatusCode::OK);
    assert_eq!(site.readings(), [stored("a", 1.0)]);
    assert!(probe(&site).await.iter().any(|(_, outcome)| outcome.is_err()), "a stopping gateway is not ready");
}

#[tokio::test]
async fn a_clock_that_was_never_set_takes_nothing() {
    let site = Site::new();
    site.clock.set(Timestamp(0));
    for request in [super::readings(JSON, &[], item("a", 1.0)), post("/api/v2/write?bucket=x", &[], &[], "t value=1")] {
        let answer = site.ask(request).await;
        assert!(answer.says_come_back());
        assert!(answer.json()["detail"].as_str().unwrap().contains("1970-01-01T00:00:00Z"), "{answer:?}");
    }
    assert!(site.log.records(0).is_empty());
    assert!(probe(&site).await.iter().any(|(name, outcome)| *name == "clock" && outcome.is_err()));
    site.clock.set(START);
    assert_eq!(site.send(JSON, item("a", 1.0)).await.status, StatusCode::OK);
    // A step back above the floor is a warning and changes no answer.
    site.clock.set(START.plus(-1));
    assert_eq!(site.send(JSON, item("a", 1.0)).await.status, StatusCode::OK);
    assert!(probe(&site).await.iter().all(|(_, outcome)| outcome.is_ok()));
}

#[tokio::test]
async fn memory_that_is_in_use_is_waited_for_and_then_a_503() {
    let site = Site::hasty();
    let all = site.budget.reserve(site.budget.bytes(), Duration::ZERO).await.unwrap();
    let answer = within(site.send(JSON, item("a", 1.0))).await;
    assert!(answer.says_come_back(), "{answer:?}");
    drop(all);
    assert_eq!(site.send(JSON, item("a", 1.0)).await.status, StatusCode::OK);
}

async fn probe(site: &Site) -> Vec<(&'static str, Result<(), String>)> {
    let mut outcomes = Vec::new();
    for probe in &site.gateway.face.probes {
        outcomes.push((probe.name, (probe.check)().await));
    }
    outcomes
}
