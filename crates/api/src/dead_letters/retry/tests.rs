//! What `retry` promises, through the router, over a way back that does as it is told.

use crate::testing::{Got, Stack, at};
use headwater_contract::StoreCall;
use headwater_contract::builders;
use headwater_core::dead_letter::DeadLetter;
use headwater_core::glob::{DevicePatterns, Glob};
use headwater_core::store::{Ingestion, StoreError};
use serde_json::{Value, json};
use uuid::Uuid;

/// Letters 1, 2, …, a second apart, of these devices (none where it is empty) and with these texts.
async fn stack(letters: &[(&str, &str)]) -> Stack {
    let stack = Stack::new();
    let batch = letters.iter().zip(1i64..).fold(builders::batch(), |batch, ((device, text), n)| {
        let device = (!device.is_empty()).then(|| (*device).to_owned());
        batch.dead(DeadLetter { device, received_at: at(n), bytes: text.as_bytes().to_vec(), ..builders::letter(n as u128) })
    });
    stack.store.commit(batch.moved(0, None, 1).build()).await.unwrap();
    stack.clock.set(at(100));
    stack
}

fn path(n: u128) -> String {
    format!("/v1/dead-letters/{}", Uuid::from_u128(n))
}

async fn retry(stack: &Stack, n: u128, body: &'static str) -> Got {
    stack.change("POST", &[], &format!("{}/retry", path(n)), body).await
}

/// State, attempts, outcome of the last one.
async fn history(stack: &Stack, n: u128) -> (String, u64, Value) {
    let letter = stack.get(&path(n)).await.ok().json();
    (letter["state"].as_str().unwrap().to_owned(), letter["attempts"].as_u64().unwrap(), letter["last_attempt"]["outcome"].clone())
}

fn ids(rows: &Value) -> Vec<u128> {
    rows["rows"].as_array().unwrap().iter().map(|row| Uuid::try_parse(row["id"].as_str().unwrap()).unwrap().as_u128()).collect()
}

#[tokio::test]
async fn a_retry_says_what_was_accepted_and_is_recorded() {
    let stack = stack(&[("a", "good"), ("a", "half"), ("a", "bad")]).await;
    let told = retry(&stack, 1, "").await.ok().json();
    let expected = json!({
        "id": builders::letter(1).id.to_string(), "state": "retried", "attempts": 1, "received": 1, "accepted": 1, "skipped": 0, "rejected": 0,
        "errors": [],
    });
    assert_eq!(told, expected);
    let told = retry(&stack, 2, "").await.ok().json();
    assert_eq!((&told["state"], &told["accepted"], &told["rejected"]), (&json!("open"), &json!(1), &json!(1)));
    assert_eq!(told["errors"], json!([{ "reason": "not_numeric", "detail": "still no number" }]));
    let refused = retry(&stack, 3, "").await;
    let told = refused.json();
    assert_eq!((refused.status.as_u16(), &told["code"]), (422, &json!("nothing_accepted")));
    assert_eq!((&told["state"], &told["attempts"], &told["errors"][0]["reason"]), (&json!("open"), &json!(1), &json!("not_numeric")));
    assert_eq!(history(&stack, 1).await, ("retried".into(), 1, json!("accepted")));
    assert_eq!(history(&stack, 2).await, ("open".into(), 1, json!("partly")));
    assert_eq!(history(&stack, 3).await, ("open".into(), 1, json!("rejected")));
    let last = stack.get(&path(3)).await.ok().json()["last_attempt"].clone();
    assert_eq!(last, json!({ "at": at(100).to_string(), "outcome": "rejected", "detail": "still no number" }));
    // What is left to do is what the list shows.
    assert_eq!(ids(&stack.get("/v1/dead-letters").await.ok().json()), [3, 2]);
    assert_eq!(ids(&stack.get("/v1/dead-letters?state=retried").await.ok().json()), [1]);
    assert_eq!(ids(&stack.get("/v1/dead-letters?state=all").await.ok().json()), [3, 2, 1]);
}

#[tokio::test]
async fn an_edited_letter_takes_the_place_of_its_bytes() {
    let stack = stack(&[("a", "bad")]).await;
    retry(&stack, 1, "good now").await.ok();
    assert_eq!(stack.way_back.came.lock().unwrap()[0].0, "good now");
    let letter = stack.get(&path(1)).await.ok().json();
    assert_eq!((&letter["state"], &letter["text"]), (&json!("retried"), &json!("bad")), "its own bytes stay");
}

#[tokio::test]
async fn a_retry_that_could_not_be_tried_is_not_recorded() {
    let stack = stack(&[("a", "busy"), ("a", "large")]).await;
    assert_eq!(retry(&stack, 1, "").await.problem().0, 503);
    assert_eq!(retry(&stack, 2, "").await.problem().0, 413);
    assert_eq!((history(&stack, 1).await.1, history(&stack, 2).await.1), (0, 0));
}

#[tokio::test]
async fn what_was_taken_in_and_could_not_be_recorded_can_be_retried_again() {
    let stack = stack(&[("a", "good")]).await;
    for error in [StoreError::Unavailable("away".into()), StoreError::Unknown("lost".into()), StoreError::Busy("full".into())] {
        stack.letters.faults.fail(StoreCall::Attempted, 1, error);
        assert_eq!(retry(&stack, 1, "").await.problem().0, 503);
        assert_eq!(history(&stack, 1).await, ("open".into(), 0, Value::Null));
    }
    retry(&stack, 1, "").await.ok();
    assert_eq!(history(&stack, 1).await, ("retried".into(), 1, json!("accepted")));
}

#[tokio::test]
async fn a_narrowed_caller_retries_and_discards_letters_of_his_devices_alone() {
    let stack = stack(&[("plant-a/1", "good"), ("plant-b/1", "good"), ("", "good")]).await;
    for n in [2, 3, 9] {
        assert_eq!(stack.change("POST", &["plant-a/*"], &format!("{}/retry", path(n)), "").await.status, 404, "letter {n}");
        assert_eq!(stack.change("DELETE", &["plant-a/*"], &path(n), "").await.status, 404, "letter {n}");
    }
    let many = stack.change("POST", &["plant-a/*"], "/v1/dead-letters/retry", "").await.ok().json();
    assert_eq!(ids(&many), [1]);
    let only = DevicePatterns::Some(vec![Glob::new("plant-a/*")]);
    assert_eq!(*stack.way_back.came.lock().unwrap(), [("good".to_owned(), only)], "and the way back is told who it is");
    assert_eq!(stack.change("POST", &["plant-a/*"], "/v1/dead-letters/retry?device=plant-b/1", "").await.problem().0, 403);
}

#[tokio::test]
async fn many_are_retried_page_after_page_and_each_once() {
    let letters: Vec<(&str, &str)> = (0..25).map(|n| ("a", if n % 5 == 0 { "bad" } else { "good" })).collect();
    let stack = stack(&letters).await;
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = stack.change("POST", &[], &format!("/v1/dead-letters/retry?limit=10{cursor}"), "").await.ok().json();
        pages.push(ids(&page));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
    assert_eq!(pages.concat(), (1..=25).rev().collect::<Vec<_>>(), "newest first");
    assert_eq!(ids(&stack.get("/v1/dead-letters").await.ok().json()), [21, 16, 11, 6, 1]);
    let again = stack.change("POST", &[], "/v1/dead-letters/retry", "").await.ok().json();
    assert_eq!((ids(&again), &again["next_cursor"]), (vec![21, 16, 11, 6, 1], &Value::Null), "what is open still can be tried again");
    let row = &again["rows"][0];
    assert_eq!((&row["outcome"], &row["detail"], &row["state"]), (&json!("rejected"), &json!("still no number"), &json!("open")));
    assert_eq!((&row["reason"], &row["device"], &row["attempts"]), (&json!("malformed"), &json!("a"), &json!(2)));
}

#[tokio::test]
async fn filters_say_which_are_retried_and_what_is_no_filter_is_refused() {
    let stack = stack(&[("a", "good"), ("b", "good"), ("a", "good"), ("c", "good")]).await;
    let retried = async |query: &str| ids(&stack.change("POST", &[], &format!("/v1/dead-letters/retry?{query}"), "").await.ok().json());
    assert_eq!(retried("reason=conflict").await, [0u128; 0]);
    assert_eq!(retried("device=a&to=2025-11-23T15:00:02Z").await, [1]);
    assert_eq!(retried("from=2025-11-23T15:00:04Z&reason=malformed").await, [4]);
    assert_eq!(retried("device=*").await, [3, 2]);
    for query in ["limit=0", "limit=1001", "state=open", "reason=ugly", "from=now&to=now", "cursor=x", "id=1"] {
        let problem = stack.change("POST", &[], &format!("/v1/dead-letters/retry?{query}"), "").await.problem();
        assert_eq!((problem.0, problem.2.len()), (400, 1), "{query}");
    }
    let body = stack.change("POST", &[], "/v1/dead-letters/retry", "{\"reason\":\"conflict\"}").await;
    assert_eq!(body.problem(), (400, "unexpected_body".into(), vec![]));
}

#[tokio::test]
async fn many_stop_where_nothing_can_be_taken_in_and_go_on_from_there() {
    let stack = stack(&[("a", "good"), ("a", "busy"), ("a", "large"), ("a", "good")]).await;
    let page = stack.change("POST", &[], "/v1/dead-letters/retry", "").await.ok().json();
    assert_eq!(ids(&page), [4, 3]);
    assert_eq!((&page["rows"][1]["outcome"], history(&stack, 2).await.1), (&json!("rejected"), 0), "what can never be taken in is told");
    let cursor = page["next_cursor"].as_str().expect("there is more");
    let uri = format!("/v1/dead-letters/retry?cursor={cursor}");
    assert_eq!(stack.change("POST", &[], &uri, "").await.problem(), (503, "log_busy".into(), vec![]));
}

#[tokio::test]
async fn a_discarded_letter_is_gone_from_the_list_and_cannot_be_retried() {
    let stack = stack(&[("a", "good"), ("a", "good")]).await;
    for _ in 0..2 {
        let answer = stack.change("DELETE", &[], &path(1), "").await;
        assert_eq!((answer.status.as_u16(), answer.bytes.len()), (204, 0));
    }
    assert_eq!(retry(&stack, 1, "").await.problem(), (409, "dead_letter_discarded".into(), vec![]));
    assert_eq!(ids(&stack.get("/v1/dead-letters").await.ok().json()), [2]);
    let letter = stack.get(&path(1)).await.ok().json();
    assert_eq!((&letter["state"], letter.get("text"), letter.get("bytes_base64")), (&json!("discarded"), None, None));
    assert_eq!(stack.change("DELETE", &[], &path(9), "").await.problem().0, 404);
    assert_eq!(stack.change("DELETE", &[], "/v1/dead-letters/x", "").await.problem().0, 400);
    assert_eq!(stack.change("DELETE", &[], &format!("{}?force=1", path(2)), "").await.problem().0, 400);
    let status = stack.get("/v1/status").await.ok().json();
    assert_eq!((&status["received"], &status["dead"]), (&json!(2), &json!(2)), "what it counted as stays counted");
}

#[test]
fn every_retry_is_counted_by_what_came_of_it() {
    use super::super::Tried;
    use headwater_core::dead_letter::RetryOutcome::{Accepted, Partly, Rejected};
    let tried = Tried::new(&mut headwater_core::metrics::Registry::default());
    [Accepted, Partly, Rejected, Accepted, Accepted].into_iter().for_each(|outcome| tried.count(outcome));
    assert_eq!(tried.counts(), (3, 2));
}
