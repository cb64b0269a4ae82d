//! Dead letters have a way back: every one is listed, explained, and taken in again, as it is or edited, and never twice.
//!
//! What an operator does at a shell is in `shell`; what happens when roles are apart, or foreign programs write, in `apart`.

mod apart;
mod shell;

use crate::both::on_both;
use crate::client::{Answer, Ask};
use crate::main_job::counts;
use crate::oracle::{MONDAY, rfc3339};
use crate::stack::{Builder, SOON, Stack, wait_for};
use headwater_core::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;

on_both! {
    every_reason_from_every_door_is_listed_explained_and_taken_in_once_it_was_edited,
    what_a_wrong_clock_refused_is_taken_in_as_it_is_when_its_time_has_come,
    a_letter_retried_again_and_again_is_stored_once,
    a_conflict_says_that_it_would_be_one_again_and_passes_when_it_was_edited,
    a_series_beyond_the_limit_is_one_letter_however_often_it_is_retried,
    a_narrowed_token_takes_in_and_discards_what_is_its_own,
    a_process_that_dies_between_the_append_and_the_record_of_it_stores_nothing_twice,
    many_are_retried_by_filter_and_what_is_discarded_stays_counted,
    beyond_the_quota_and_the_age_the_oldest_go_and_all_adds_up,
}

/// Everything from 1990 to 2040.
const EVER: [(&str, &str); 2] = [("from", "1990-01-01T00:00:00Z"), ("to", "2040-01-01T00:00:00Z")];
const JSON: &str = "application/json";

/// Commits ten times as often as usual.
fn hasty(builder: Builder) -> Builder {
    builder.env("HEADWATER_INGEST__BATCH_MS", "50")
}

fn open_letters(stack: &Stack) -> Vec<Value> {
    stack.settled();
    stack.rows("/v1/dead-letters", &[])
}

fn id(letter: &Value) -> String {
    letter["id"].as_str().expect("an id").to_owned()
}

fn retry(stack: &Stack, id: &str) -> Answer {
    stack.post(&format!("/v1/dead-letters/{id}/retry"), "", "")
}

fn edit(stack: &Stack, id: &str, kind: &str, body: impl Into<Vec<u8>>) -> Answer {
    stack.post(&format!("/v1/dead-letters/{id}/retry"), kind, body)
}

fn letter(stack: &Stack, id: &str) -> Value {
    stack.get(&format!("/v1/dead-letters/{id}")).ok().json()
}

fn values(stack: &Stack, device: &str) -> Vec<f64> {
    let rows = stack.rows("/v1/readings", &[&EVER[..], &[("device", device)]].concat());
    rows.iter().map(|row| row["value"].as_f64().unwrap()).collect()
}

/// What comes through a door, why it is refused, its bytes in the letter, and how it is put right.
struct Case {
    ask: Ask,
    reason: &'static str,
    format: &'static str,
    text: String,
    edited: (&'static str, String),
}

/// Every reason that a write is told, through every door that can refuse for it. `edited` is a reading of value 1 of device `e<n>`.
fn cases() -> Vec<Case> {
    let second = MONDAY / 1_000_000;
    let json = |reason, item: String, edited: String| Case {
        ask: Ask::post("/v1/readings", JSON, item.clone()),
        reason,
        format: "json",
        text: item,
        edited: ("", edited),
    };
    let good = |n: usize| format!(r#"{{"device":"e{n:02}","metric":"m","ts":{second},"value":1}}"#);
    let bad = |member: &str| format!(r#"{{"device":"a","metric":"m","ts":{second},"value":1,{member}}}"#);
    let many: Vec<String> = (0..257).map(|n| format!(r#""m{n}":1"#)).collect();
    let csv = format!("device,metric,ts,value\na,m,{second},hot");
    let far = 4_102_444_800_i64;
    vec![
        json("malformed", r#"[{"device":"a","metr"#.to_owned(), good(0)),
        json("malformed", "17".to_owned(), good(1)),
        json("invalid_device", format!(r#"{{"device":"a+b","metric":"m","ts":{second},"value":1}}"#), good(2)),
        json("invalid_metric", format!(r#"{{"device":"a","metric":5,"ts":{second},"value":1}}"#), good(3)),
        json("invalid_tags", bad(r#""tags":["x"]"#), good(4)),
        json("invalid_timestamp", r#"{"device":"a","metric":"m","ts":"yesterday","value":1}"#.to_owned(), good(5)),
        json("timestamp_too_far_ahead", format!(r#"{{"device":"a","metric":"m","ts":{far},"value":1}}"#), good(6)),
        json("timestamp_too_old", r#"{"device":"a","metric":"m","ts":1,"value":1}"#.to_owned(), good(7)),
        json("not_finite", format!(r#"{{"device":"a","metric":"m","ts":{second},"value":1e999}}"#), good(8)),
        json("not_numeric", format!(r#"{{"device":"a","metric":"m","ts":{second},"value":"hot"}}"#), good(9)),
        json("too_many_metrics", format!(r#"{{"device":"a","ts":{second},"metrics":{{{}}}}}"#, many.join(",")), good(10)),
        Case {
            ask: Ask::post("/v1/readings", "application/x-ndjson", "{\"device\": \n"),
            reason: "malformed",
            format: "ndjson",
            text: "{\"device\":".to_owned(),
            edited: ("", good(11)),
        },
        Case {
            ask: Ask::post("/v1/readings", "text/csv", csv.clone()),
            reason: "not_numeric",
            format: "csv+header",
            text: csv,
            edited: ("", format!("device,metric,ts,value\ne12,m,{second},1")),
        },
        Case {
            ask: Ask::post("/v1/readings", "text/csv", "when,what\n1,2\n"),
            reason: "malformed",
            format: "csv",
            text: "when,what\n1,2\n".to_owned(),
            edited: ("text/csv", format!("device,ts,m\ne13,{second},1")),
        },
        Case {
            ask: Ask::post("/api/v2/write?bucket=plant&precision=s", "", format!("m,device=a value=1 {far}")),
            reason: "timestamp_too_far_ahead",
            format: "line",
            text: format!("m,device=a value=1 {far}"),
            edited: ("", format!("m,device=e14 value=1 {second}")),
        },
        Case {
            ask: Ask::post("/write?db=plant", "", "m,device=a value=oops 1"),
            reason: "malformed",
            format: "line",
            text: "m,device=a value=oops 1".to_owned(),
            edited: ("text/plain", format!("m,device=e15 value=1 {}", second * 1_000_000_000)),
        },
        Case {
            ask: Ask::post("/v1/readings", JSON, good(99)).header("Content-Encoding", "gzip"),
            reason: "malformed",
            format: "json+gzip",
            text: good(99),
            edited: ("", good(16)),
        },
    ]
}

fn every_reason_from_every_door_is_listed_explained_and_taken_in_once_it_was_edited(builder: Builder) {
    let stack = hasty(builder).start();
    let cases = cases();
    let mut ids = Vec::new();
    for Case { ask, reason, format, text, .. } in &cases {
        let answer = stack.ask(ask);
        assert!([400, 422].contains(&answer.status), "{reason}: {}", answer.text());
        let letter =
            open_letters(&stack).into_iter().find(|letter| !ids.contains(&id(letter))).unwrap_or_else(|| panic!("no letter of {text}"));
        assert_eq!((&letter["reason"], &letter["format"], &letter["text"]), (&json!(reason), &json!(format), &json!(text)), "{letter}");
        assert!(letter["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{letter} is explained");
        ids.push(id(&letter));
    }
    let scope = stack.issue(&["--scope", "write:readings", "--devices", "own"]);
    stack.ask(&Ask::post("/v1/readings", JSON, r#"{"device":"other","metric":"m","value":1}"#).token(&scope)).expect(422);
    stack.settled();
    let dead = counts(&stack.status())["dead"];

    for (n, (case, id)) in cases.iter().zip(&ids).enumerate() {
        // As it is it is refused again, and that is all that happens.
        let refused = retry(&stack, id).expect(422).problem();
        assert_eq!(
            (&refused["code"], &refused["accepted"], &refused["attempts"]),
            (&json!("nothing_accepted"), &json!(0), &json!(1)),
            "{refused}"
        );
        let (kind, body) = &case.edited;
        let told = edit(&stack, id, kind, body.clone()).ok().json();
        assert_eq!((&told["accepted"], &told["rejected"], &told["state"]), (&json!(1), &json!(0), &json!("retried")), "{told}");
        stack.settled();
        assert_eq!(values(&stack, &format!("e{n:02}")), [1.0], "{body}");
        let kept = letter(&stack, id);
        assert_eq!(
            (&kept["attempts"], &kept["last_attempt"]["outcome"], &kept["text"]),
            (&json!(2), &json!("accepted"), &json!(case.text)),
            "{kept}"
        );
    }
    // What another token may not write, this one may.
    let left = open_letters(&stack);
    assert_eq!((left.len(), &left[0]["reason"]), (1, &json!("forbidden_device")), "{left:?}");
    retry(&stack, &id(&left[0])).ok();
    assert_eq!(open_letters(&stack).len(), 0);
    assert_eq!(values(&stack, "other"), [1.0]);
    let counts = counts(&stack.status());
    assert_eq!((counts["dead"], counts["received"]), (dead, dead + cases.len() as u64 + 1), "retries make no dead letters");
    assert_eq!(stack.rows("/v1/dead-letters", &[("state", "all")]).len(), cases.len() + 1);
}

fn what_a_wrong_clock_refused_is_taken_in_as_it_is_when_its_time_has_come(builder: Builder) {
    let stack = hasty(builder).start();
    let time = SystemClock.now().micros() / 1_000_000 + 602;
    stack.post("/api/v2/write?bucket=b&precision=s", "", format!("m,device=a value=3 {time}")).expect(422);
    stack.post("/v1/readings", "text/csv", format!("device,ts,m\nb,{time},4\n")).expect(422);
    stack.post("/v1/readings", JSON, format!(r#"[{{"device":"c","metric":"m","ts":{time},"value":5}}]"#)).expect(422);
    for letter in open_letters(&stack) {
        assert_eq!(letter["reason"], "timestamp_too_far_ahead");
        assert_eq!(letter.get("precision").cloned(), (letter["format"] == "line").then(|| json!("s")), "what its times count is kept");
        let accepted = wait_for("its time to come", SOON, || Some(retry(&stack, &id(&letter))).filter(|answer| answer.status == 200));
        assert_eq!(accepted.json()["state"], "retried");
    }
    stack.settled();
    let rows = stack.rows("/v1/readings", &EVER);
    let told: Vec<_> =
        rows.iter().map(|row| (row["device"].as_str().unwrap(), row["time"].as_str().unwrap(), row["value"].as_f64().unwrap())).collect();
    let when = rfc3339(time * 1_000_000);
    assert_eq!(told, [("a", when.as_str(), 3.0), ("b", when.as_str(), 4.0), ("c", when.as_str(), 5.0)]);
}

fn a_letter_retried_again_and_again_is_stored_once(builder: Builder) {
    let stack = hasty(builder).start();
    let narrow = stack.issue(&["--scope", "write:readings", "--devices", "own"]);
    // Without a time of its own: what counts is when it came first.
    stack
        .ask(
            &Ask::post("/v1/readings", JSON, r#"[{"device":"a","metric":"m","value":1},{"device":"a","metric":"n","value":2}]"#)
                .token(&narrow),
        )
        .expect(422);
    let letters = open_letters(&stack);
    for _ in 0..3 {
        letters.iter().for_each(|letter| drop(retry(&stack, &id(letter)).ok()));
        stack.settled();
    }
    let rows = stack.rows("/v1/readings", &EVER);
    let times: Vec<_> = rows.iter().map(|row| &row["time"]).collect();
    assert_eq!(times, [&letters[0]["received_at"], &letters[1]["received_at"]]);
    stack.output(&["seal"]);
    let counts = counts(&stack.status());
    assert_eq!((counts["stored"], counts["duplicate"], counts["dead"], counts["received"]), (2, 4, 2, 8));
    assert_eq!(letter(&stack, &id(&letters[0]))["attempts"], 3);
}

fn a_conflict_says_that_it_would_be_one_again_and_passes_when_it_was_edited(builder: Builder) {
    let stack = hasty(builder).start();
    let reading = |value: f64, time: &str| json!({ "device": "a", "metric": "m", "ts": time, "value": value });
    let (monday, later) = (rfc3339(MONDAY), rfc3339(MONDAY + 1));
    for value in [1.0, 2.0, 2.0] {
        stack.send(&reading(value, &monday));
        stack.settled();
    }
    stack.output(&["seal"]);
    let letters = open_letters(&stack);
    let [conflict] = &letters[..] else { panic!("one letter, not {letters:?}") };
    assert_eq!(
        (&conflict["reason"], &conflict["count"], &conflict["log"]),
        (&json!("conflict"), &json!(2), &Value::Null),
        "it came twice, and is one"
    );
    let refused = retry(&stack, &id(conflict)).expect(422).problem();
    assert!(refused["detail"].as_str().unwrap().contains("would be a conflict again: the value 1.0 came first"), "{refused}");
    stack.output(&["seal"]);
    assert_eq!(counts(&stack.status())["conflict"], 2, "nothing was tried");
    // Sent as it is by hand, it comes again and is the same letter, open.
    edit(&stack, &id(conflict), JSON, reading(2.0, &monday).to_string()).ok();
    stack.settled();
    stack.output(&["seal"]);
    let again = letter(&stack, &id(conflict));
    assert_eq!((&again["state"], &again["seen"], &again["count"]), (&json!("open"), &json!(2), &json!(3)), "{again}");
    edit(&stack, &id(conflict), JSON, reading(2.0, &later).to_string()).ok();
    stack.settled();
    assert_eq!(values(&stack, "a"), [1.0, 2.0]);
    assert_eq!(open_letters(&stack).len(), 0);
    assert_eq!(counts(&stack.status())["conflict"], 3);
}

fn a_series_beyond_the_limit_is_one_letter_however_often_it_is_retried(builder: Builder) {
    let mut stack = hasty(builder).env("HEADWATER_INGEST__SERIES_PER_DEVICE", "1").start();
    let readings: Vec<Value> = ["m", "n"]
        .iter()
        .map(|metric| json!({ "device": "a", "metric": metric, "ts": rfc3339(MONDAY), "value": 0.1, "unit": "Cel" }))
        .collect();
    stack.send(&json!(readings));
    let letters = open_letters(&stack);
    let [first] = &letters[..] else { panic!("one letter, not {letters:?}") };
    assert_eq!((&first["reason"], &first["device"]), (&json!("series_limit"), &json!("a")));
    for n in 2..4 {
        retry(&stack, &id(first)).ok();
        let again = wait_for("it to be refused again", SOON, || Some(letter(&stack, &id(first))).filter(|letter| letter["seen"] == n));
        assert_eq!((&again["state"], &again["count"]), (&json!("open"), &json!(n)), "{again}");
        assert_eq!(stack.rows("/v1/dead-letters", &[("state", "all")]).len(), 1);
    }
    let now = counts(&stack.status());
    assert_eq!((now["dead"], now["received"]), (3, 4), "each time it was received, and refused");
    stack.kill9();
    stack.start_or_die(&[("HEADWATER_INGEST__SERIES_PER_DEVICE", "9")]).unwrap();
    retry(&stack, &id(first)).ok();
    assert_eq!(open_letters(&stack).len(), 0);
    assert_eq!(values(&stack, "a"), [0.1, 0.1]);
    let series = stack.rows("/v1/series", &[]);
    assert!(series.iter().all(|series| series["unit"] == "Cel"), "{series:?}");
}

fn a_narrowed_token_takes_in_and_discards_what_is_its_own(builder: Builder) {
    let stack = hasty(builder).start();
    let items = json!([
        { "device": "plant-a/1", "metric": "m", "value": "x" },
        { "device": "plant-b/1", "metric": "m", "value": "x" },
        { "metric": "m", "value": 1 },
    ]);
    stack.post("/v1/readings", JSON, items.to_string()).expect(422);
    let by_device: BTreeMap<Option<String>, String> =
        open_letters(&stack).iter().map(|letter| (letter["device"].as_str().map(str::to_owned), id(letter))).collect();
    let (own, others) =
        (by_device[&Some("plant-a/1".into())].clone(), [by_device[&Some("plant-b/1".into())].clone(), by_device[&None].clone()]);
    let writer = stack.issue(&["--scope", "write:dead-letters", "--devices", "plant-a/*"]);
    let ask = |method: &str, path: &str| stack.ask(&Ask::new(method, path).token(&writer));
    ask("GET", "/v1/dead-letters").expect(403).problem();
    for other in &others {
        ask("POST", &format!("/v1/dead-letters/{other}/retry")).expect(404).problem();
        ask("DELETE", &format!("/v1/dead-letters/{other}")).expect(404).problem();
    }
    let foreign = r#"{"device":"plant-b/2","metric":"m","value":1}"#;
    let answer = stack.ask(&Ask::post(&format!("/v1/dead-letters/{own}/retry"), JSON, foreign).token(&writer)).expect(422).problem();
    assert_eq!(answer["errors"][0]["reason"], "forbidden_device");
    let body = r#"[{"metric":"m","value":1},{"device":"plant-b/2","metric":"m","value":1}]"#;
    let partly = stack.ask(&Ask::post(&format!("/v1/dead-letters/{own}/retry"), JSON, body).token(&writer)).ok().json();
    assert_eq!((&partly["accepted"], &partly["rejected"], &partly["state"]), (&json!(1), &json!(1), &json!("open")), "{partly}");
    stack.settled();
    assert_eq!((values(&stack, "plant-a/1"), values(&stack, "plant-b/2")), (vec![1.0], vec![]));
    ask("DELETE", &format!("/v1/dead-letters/{own}")).expect(204);
    assert_eq!(ask("POST", "/v1/dead-letters/retry").ok().json()["rows"], json!([]), "nothing of its own is open");
    let reader = stack.issue(&["--scope", "read:dead-letters write:readings"]);
    stack.ask(&Ask::new("POST", &format!("/v1/dead-letters/{}/retry", others[0])).token(&reader)).expect(403).problem();
}

fn a_process_that_dies_between_the_append_and_the_record_of_it_stores_nothing_twice(builder: Builder) {
    let mut stack = hasty(builder).start();
    let narrow = stack.issue(&["--scope", "write:readings", "--devices", "own"]);
    let item = |n: usize| format!(r#"{{"device":"a","metric":"m{n}","value":{n}}}"#);
    let items: Vec<String> = (0..5).map(item).collect();
    stack.ask(&Ask::post("/v1/readings", JSON, format!("[{}]", items.join(","))).token(&narrow)).expect(422);
    let letters = open_letters(&stack);
    for (path, failpoint) in [
        (format!("/v1/dead-letters/{}/retry", id(&letters[0])), "letters.before_mark:1"),
        ("/v1/dead-letters/retry".to_owned(), "letters.before_mark:1"),
        (format!("/v1/dead-letters/{}/retry", id(&letters[1])), "gateway.before_append:1"),
    ] {
        stack.kill9();
        stack.start_or_die(&[("HEADWATER_FAILPOINT", failpoint)]).unwrap();
        assert!(stack.try_ask(&Ask::post(&path, "", "")).is_err(), "it dies before it answers");
        assert_eq!(stack.ended().signal(), Some(9));
        stack.start();
        stack.settled();
        let open = open_letters(&stack);
        assert_eq!(open.len(), 5, "nothing is recorded");
        assert!(open.iter().all(|letter| letter["attempts"] == 0), "{open:?}");
    }
    let told = stack.post("/v1/dead-letters/retry", "", "").ok().json();
    assert_eq!(told["rows"].as_array().unwrap().len(), 5);
    stack.settled();
    assert_eq!(values(&stack, "a"), [0.0, 1.0, 2.0, 3.0, 4.0], "each once");
    stack.output(&["seal"]);
    let counts = counts(&stack.status());
    assert_eq!((counts["stored"], counts["dead"]), (5, 5));
    assert_eq!(counts["duplicate"], 6, "what was taken in before it died");
    assert_eq!(open_letters(&stack).len(), 0);
}

fn many_are_retried_by_filter_and_what_is_discarded_stays_counted(builder: Builder) {
    let stack = hasty(builder).start();
    let narrow = stack.issue(&["--scope", "write:readings", "--devices", "own"]);
    let items: Vec<Value> = (0..120)
        .map(|n| json!({ "device": format!("d{:03}", n % 40), "metric": format!("m{n}"), "ts": rfc3339(MONDAY), "value": 1 }))
        .collect();
    stack.ask(&Ask::post("/v1/readings", JSON, json!(items).to_string()).token(&narrow)).expect(422);
    let bad: Vec<Value> = (0..7).map(|n| json!({ "device": format!("d{n:03}"), "metric": "m", "value": "x" })).collect();
    stack.post("/v1/readings", JSON, json!(bad).to_string()).expect(422);
    stack.settled();
    let before = counts(&stack.status());
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = stack.post(&format!("/v1/dead-letters/retry?device=d00*&limit=8{cursor}"), "", "").ok().json();
        let of_page = page["rows"].as_array().unwrap();
        assert!(of_page.len() <= 8);
        rows.extend(of_page.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let count = |outcome: &str| rows.iter().filter(|row| row["outcome"] == outcome).count();
    assert_eq!((count("accepted"), count("rejected"), rows.len()), (30, 7, 37));
    assert_eq!(open_letters(&stack).len(), 90 + 7);
    for letter in stack.rows("/v1/dead-letters", &[("reason", "not_numeric")]) {
        stack.ask(&Ask::new("DELETE", &format!("/v1/dead-letters/{}", id(&letter)))).expect(204);
        retry(&stack, &id(&letter)).expect(409).problem();
    }
    assert_eq!((open_letters(&stack).len(), stack.rows("/v1/dead-letters", &[("state", "discarded")]).len()), (90, 7));
    let told = stack.post("/v1/dead-letters/retry?limit=1000", "", "").ok().json();
    assert_eq!((told["rows"].as_array().unwrap().len(), &told["next_cursor"]), (90, &Value::Null));
    assert_eq!(open_letters(&stack).len(), 0);
    let (after, kept) = (counts(&stack.status()), stack.status()["dead_letters"].clone());
    assert_eq!((after["dead"], after["received"]), (before["dead"], before["received"] + 120));
    assert_eq!(kept, json!({ "kept": 127, "open": 0, "dropped": 0, "discarded": 7 }));
}

fn beyond_the_quota_and_the_age_the_oldest_go_and_all_adds_up(builder: Builder) {
    let mut stack = hasty(builder).env("HEADWATER_DEAD_LETTERS__QUOTA_LETTERS", "5").start();
    for n in 0..8 {
        stack.post("/v1/readings", JSON, format!(r#"{{"device":"d{n}","metric":"m","value":"x"}}"#)).expect(422);
        stack.settled();
    }
    let tally = |stack: &Stack| {
        let letters = stack.status()["dead_letters"].clone();
        ["kept", "open", "dropped", "discarded"].map(|name| letters[name].as_u64().unwrap())
    };
    wait_for("the oldest to go", SOON, || (tally(&stack) == [5, 5, 3, 0]).then_some(()));
    let devices: Vec<_> = open_letters(&stack).iter().map(|letter| letter["device"].as_str().unwrap().to_owned()).collect();
    assert_eq!(devices, ["d7", "d6", "d5", "d4", "d3"]);
    assert_eq!(counts(&stack.status())["dead"], 8, "what has gone stays counted");
    assert_eq!(stack.stop(), 0);
    stack.start_or_die(&[("HEADWATER_DEAD_LETTERS__RETENTION", "1s")]).unwrap();
    wait_for("all to be too old", SOON, || (tally(&stack) == [0, 0, 8, 0]).then_some(()));
    assert_eq!(counts(&stack.status())["dead"], 8);
}
