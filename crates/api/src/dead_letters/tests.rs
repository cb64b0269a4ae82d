//! What `dead_letters` promises, through the router or by its functions.

use crate::testing::{Stack, at, reading};
use headwater_contract::builders::{self, START};
use headwater_core::dead_letter::{DeadLetter, Reason};
use headwater_core::store::Ingestion;
use serde_json::{Value, json};
use uuid::Uuid;

/// Letters 1 to 4, a second apart: of device a, b, none, and a again with bytes that are no text.
async fn stack() -> Stack {
    let stack = Stack::new();
    let letters = [
        DeadLetter { device: Some("a".into()), reason: Reason::NotFinite, count: 3, ..builders::letter(1) },
        DeadLetter { device: Some("b".into()), ..builders::letter(2) },
        builders::letter(3),
        DeadLetter { device: Some("a".into()), bytes: vec![0x1f, 0x8b, 0xff], format: "json+gzip".into(), ..builders::letter(4) },
    ];
    let letters = letters.into_iter().zip(1..).map(|(letter, second)| DeadLetter { received_at: at(second), ..letter });
    let batch = letters.fold(builders::batch(), builders::BatchBuilder::dead).moved(0, None, 4).build();
    stack.store.commit(batch).await.unwrap();
    stack
}

fn ids(rows: &[Value]) -> Vec<u128> {
    rows.iter().map(|row| Uuid::try_parse(row["id"].as_str().unwrap()).unwrap().as_u128()).collect()
}

#[tokio::test]
async fn letters_are_listed_newest_first_with_their_bytes() {
    let stack = stack().await;
    let rows = stack.get("/v1/dead-letters").await.ok().rows();
    assert_eq!(ids(&rows), [4, 3, 2, 1]);
    assert_eq!((&rows[0]["bytes_base64"], rows[0].get("text")), (&json!("H4v/"), None));
    let letter = builders::letter(1);
    let expected = json!({
        "id": letter.id.to_string(), "received_at": "2025-11-23T15:00:01Z", "reason": "not_finite", "detail": letter.detail, "device": "a",
        "format": "json", "count": 3, "log": "test-log", "partition": 0, "position": 0, "state": "open",
        "first_seen": "2025-11-23T15:00:01Z", "last_seen": "2025-11-23T15:00:01Z", "seen": 1, "attempts": 0, "last_attempt": null,
        "text": "{\"letter\":1",
    });
    assert_eq!(rows[3], expected);
    assert_eq!(stack.get(&format!("/v1/dead-letters/{}", letter.id)).await.ok().json(), expected);
    assert_eq!(ids(&stack.all_pages("/v1/dead-letters?", 1).await), [4, 3, 2, 1]);
    assert_eq!(ids(&stack.all_pages("/v1/dead-letters?", 3).await), [4, 3, 2, 1]);
}

#[tokio::test]
async fn filters_narrow_the_list() {
    let stack = stack().await;
    let cases: [(&str, &[u128]); 9] = [
        ("reason=not_finite", &[1]),
        ("reason=conflict", &[]),
        ("device=a", &[4, 1]),
        ("device=a&device=b", &[4, 2, 1]),
        ("device=*", &[4, 2, 1]),
        ("state=open", &[4, 3, 2, 1]),
        ("from=2025-11-23T15:00:02Z", &[4, 3, 2]),
        ("to=2025-11-23T15:00:02Z", &[1]),
        ("from=now%2B2s&to=now%2B4s", &[3, 2]),
    ];
    for (query, expected) in cases {
        assert_eq!(ids(&stack.get(&format!("/v1/dead-letters?{query}")).await.ok().rows()), expected, "{query}");
        assert_eq!(ids(&stack.all_pages(&format!("/v1/dead-letters?{query}"), 1).await), expected, "{query} in pages");
    }
    for query in ["reason=ugly", "state=ugly", "from=x", "from=now&to=now", "limit=0", "cursor=x"] {
        let problem = stack.get(&format!("/v1/dead-letters?{query}")).await.problem();
        assert_eq!((problem.0, problem.2.len()), (400, 1), "{query}");
    }
}

#[tokio::test]
async fn a_page_goes_on_over_the_range_that_it_began_with() {
    let stack = stack().await;
    stack.clock.set(at(3));
    let first = stack.get("/v1/dead-letters?to=now&limit=1").await.ok().json();
    stack.clock.set(at(60));
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = stack.get(&format!("/v1/dead-letters?to=now&cursor={cursor}")).await.ok();
    assert_eq!((ids(first["rows"].as_array().unwrap()), ids(&second.rows())), (vec![2], vec![1]));
    assert_eq!(stack.get(&format!("/v1/dead-letters?to=now&reason=malformed&cursor={cursor}")).await.status, 400);
    assert!(START < at(3));
}

#[tokio::test]
async fn a_narrowed_caller_sees_letters_of_his_devices_alone() {
    let stack = stack().await;
    let show = |n: u128| format!("/v1/dead-letters/{}", Uuid::from_u128(n));
    assert_eq!(ids(&stack.get_as(&["a*"], "/v1/dead-letters").await.ok().rows()), [4, 1]);
    for (n, status) in [(1, 200), (2, 404), (3, 404), (9, 404)] {
        assert_eq!(stack.get_as(&["a*"], &show(n)).await.status, status, "letter {n}");
    }
    assert_eq!(stack.get_as(&["*"], &show(3)).await.status, 404, "a letter without a device is nobody's");
    assert_eq!(stack.get(&show(9)).await.problem(), (404, "no_such_dead_letter".into(), vec![]));
    for id in ["1", "%FF", "..%2F..%2Fetc", "not-a-uuid"] {
        assert_eq!(stack.get(&format!("/v1/dead-letters/{id}")).await.problem(), (400, "invalid_id".into(), vec![]), "{id}");
    }
}

#[tokio::test]
async fn a_conflict_that_sealing_found_has_no_place_in_the_log() {
    let stack = Stack::new();
    stack.commit(&[reading("a", "m").at(at(-60)).value(1.0)]).await;
    stack.commit(&[reading("a", "m").at(at(-60)).value(2.0)]).await;
    stack.seal().await;
    let row = &stack.get("/v1/dead-letters?reason=conflict").await.ok().rows()[0];
    assert_eq!((&row["log"], &row["partition"], &row["position"]), (&Value::Null, &Value::Null, &Value::Null));
    let text: Value = serde_json::from_str(row["text"].as_str().unwrap()).unwrap();
    assert_eq!((&text["value"], &text["kept"], &row["device"]), (&json!(2.0), &json!(1.0), &json!("a")));
}
