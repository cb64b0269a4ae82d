//! Sealing changes no answer: open, sealed, with late data, in part, and over kill -9 at every stage of it.
//!
//! The other truth is a server that never seals.

use crate::both::{Kind, on_both};
use crate::client::{Ask, target};
use crate::main_job::{ALL_STATISTICS, counts};
use crate::oracle::{DAY, HOUR, MINUTE, MONDAY, Random, Reading, SECOND, as_json, rfc3339, series};
use crate::stack::{Builder, SOON, Stack, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;

on_both! {
    a_conflict_is_kept_as_one_letter,
    a_kill_at_any_stage_of_a_replacement_changes_no_answer,
    what_is_large_is_sealed_by_itself,
    the_command_prints_what_was_settled,
}

/// Two days of sparse, dense and very dense series, with repeats and contradictions.
pub(crate) fn a_plant(seed: u64) -> Vec<Reading> {
    let mut random = Random(seed);
    let mut readings = Vec::new();
    for (device, line) in [("plant-a/oven", Some("1")), ("plant-a/press", Some("2")), ("plant-b/press", None)] {
        for (metric, n) in [("pressure", 1500), ("door", 30), ("one", 1)] {
            let of_series = series(&mut random, device, metric, MONDAY, n);
            readings.extend(of_series.into_iter().map(|reading| match line {
                Some(line) => reading.tag("line", line),
                None => reading,
            }));
        }
    }
    let dense = |n: i64| Reading::new("plant-a/mill", "vibration", MONDAY + 22 * HOUR + n * 700_000, (n * 37 % 1000) as f64 / 8.0);
    readings.extend((0..15_000).map(dense));
    for n in 0..readings.len() / 20 {
        let mut again = readings[random.below(readings.len() as u64) as usize].clone();
        if n % 3 == 0 {
            again.value += 1.0;
        }
        readings.push(again);
    }
    readings
}

/// Readings that come after the others of their days were sealed: new times, known times, another day.
pub(crate) fn late(seed: u64) -> Vec<Reading> {
    let mut random = Random(seed);
    let mut readings = series(&mut random, "plant-b/press", "pressure", MONDAY + 7 * MINUTE, 300);
    readings.extend(series(&mut random, "plant-b/press", "late", MONDAY - 3 * DAY, 100));
    readings.extend((0..500).map(|n| Reading::new("plant-a/mill", "vibration", MONDAY + 23 * HOUR + n * 350_000, n as f64 / 8.0)));
    readings
}

fn send(stack: &Stack, readings: &[Reading]) {
    readings.chunks(1000).for_each(|chunk| drop(stack.send(&as_json(chunk))));
    stack.settled();
}

/// Many questions of every kind.
fn questions() -> Vec<String> {
    let all = (MONDAY - 5 * DAY, MONDAY + 4 * DAY);
    let ragged = (MONDAY + 3 * HOUR + 17 * MINUTE, MONDAY + DAY + 41 * SECOND);
    let midday = (MONDAY + 10 * HOUR, MONDAY + 12 * HOUR);
    let mut questions = vec!["/v1/latest".to_owned(), "/v1/series".to_owned(), "/v1/latest?device=plant-a/*".to_owned()];
    for (from, to) in [all, ragged, midday, (MONDAY, MONDAY + DAY)] {
        let (from, to) = (rfc3339(from), rfc3339(to));
        let range = [("from", from.as_str()), ("to", &to), ("limit", "100000")];
        let mut ask = |path: &str, more: &[(&str, &str)]| questions.push(target(path, &[&range[..], more].concat()));
        for step in ["15m", "1h", "1h30m", "1d", "7d"] {
            ask("/v1/stats", &[("step", step), ("stats", ALL_STATISTICS)]);
            ask("/v1/stats", &[("step", step), ("group_by", "tag.line"), ("stats", ALL_STATISTICS)]);
        }
        ask("/v1/stats", &[]);
        ask("/v1/stats", &[("group_by", "none"), ("format", "csv")]);
        ask("/v1/stats", &[("group_by", "device"), ("step", "1h"), ("fill", "null"), ("device", "plant-*/press")]);
        ask("/v1/stats", &[("metric", "vibration"), ("step", "1m"), ("stats", "count,p50,first,last")]);
        ask("/v1/readings", &[]);
        ask("/v1/readings", &[("device", "plant-b/press"), ("format", "csv")]);
    }
    questions
}

pub(crate) type Answers = BTreeMap<String, String>;

pub(crate) fn answers(stack: &Stack) -> Answers {
    answers_to(stack, 1)
}

/// Answers to every `nth` question, where there are many occasions to ask.
pub(crate) fn answers_to(stack: &Stack, nth: usize) -> Answers {
    questions().into_iter().step_by(nth).map(|question| (question.clone(), stack.get(&question).ok().text())).collect()
}

pub(crate) fn same(found: &Answers, expected: &Answers, when: &str) {
    let other: Vec<&String> =
        expected.iter().filter(|(question, text)| found.get(*question) != Some(text)).map(|(question, _)| question).collect();
    assert!(other.is_empty(), "{when}, {} of {} answers have other bytes: {other:#?}", other.len(), expected.len());
}

fn seal(stack: &Stack) -> Value {
    serde_json::from_str(&stack.output(&["seal", "--json"])).unwrap()
}

/// A server that never seals.
pub(crate) fn open_only() -> Stack {
    Builder::default().env("HEADWATER__ROLES", "gateway,ingest,api").start()
}

#[test]
fn answers_have_the_same_bytes_sealed_or_not() {
    let (stack, open) = (Stack::embedded(), open_only());
    for stack in [&stack, &open] {
        send(stack, &a_plant(1));
    }
    let expected = answers(&open);
    same(&answers(&stack), &expected, "open");
    let before = counts(&stack.status());
    assert_eq!(before["stored"], 0, "nothing is due yet");

    let sealed = seal(&stack);
    assert_eq!(sealed["unsealed"], 0, "{sealed}");
    let after = counts(&stack.status());
    assert_eq!((after["received"], after["unsealed"]), (before["received"], 0));
    for name in ["stored", "duplicate", "conflict"] {
        assert_eq!(sealed[name], json!(after[name]), "{name}");
    }
    assert!(after["duplicate"] > 0 && after["conflict"] > 0);
    same(&answers(&stack), &expected, "sealed");

    for stack in [&stack, &open] {
        send(stack, &late(2));
    }
    let expected = answers(&open);
    same(&answers(&stack), &expected, "with late data that is open");
    assert_eq!(seal(&stack)["unsealed"], 0);
    same(&answers(&stack), &expected, "with late data that is sealed");
    let mut stack = stack;
    stack.restart();
    same(&answers(&stack), &expected, "after a restart");
    assert_eq!(seal(&stack), json!({ "stored": 0, "duplicate": 0, "conflict": 0, "unsealed": 0 }));
}

/// With the readings of the test before, so that these answers are also those of a server that never seals.
#[test]
fn answers_have_the_same_bytes_embedded_and_scaled() {
    let mut stacks = [Kind::Embedded, Kind::Scaled].map(Kind::start);
    let alike = |[embedded, scaled]: &[Stack; 2], nth: usize, when: &str| {
        same(&answers_to(scaled, nth), &answers_to(embedded, nth), when);
        assert_eq!(counts(&scaled.status()), counts(&embedded.status()), "{when}");
    };
    for (part, readings) in [a_plant(1), late(2)].iter().enumerate() {
        stacks.iter().for_each(|stack| send(stack, readings));
        alike(&stacks, 1, &format!("part {part}, open"));
        stacks.iter_mut().for_each(Stack::restart);
        alike(&stacks, 5, &format!("part {part}, open and killed"));
        let [embedded, scaled] = stacks.each_ref().map(seal);
        assert_eq!(scaled, embedded, "part {part}: what was settled");
        assert_eq!(scaled["unsealed"], 0);
        alike(&stacks, 5, &format!("part {part}, sealed"));
        stacks.iter_mut().for_each(Stack::restart);
        alike(&stacks, 1, &format!("part {part}, sealed and killed"));
    }
    let [embedded, scaled] = stacks.each_ref().map(letters);
    assert_eq!(scaled, embedded);
    assert!(!embedded.is_empty());
}

/// What is kept of conflicts, but for their ids and when they were found.
fn letters(stack: &Stack) -> Vec<String> {
    let letters = stack.rows("/v1/dead-letters", &[("reason", "conflict")]);
    let mut letters: Vec<_> = letters.iter().map(|letter| format!("{} {} {}", letter["device"], letter["count"], letter["text"])).collect();
    letters.sort_unstable();
    letters
}

fn a_conflict_is_kept_as_one_letter(stack: Stack) {
    for value in [1.0, 2.5, 2.5, 1.0] {
        send(&stack, &[Reading::new("a", "m", MONDAY, value)]);
    }
    assert_eq!(seal(&stack), json!({ "stored": 1, "duplicate": 1, "conflict": 2, "unsealed": 0 }));
    send(&stack, &[Reading::new("a", "m", MONDAY, 2.5)]);
    assert_eq!(seal(&stack)["conflict"], 1);
    let letters = stack.rows("/v1/dead-letters", &[("reason", "conflict")]);
    assert_eq!(letters.len(), 1, "{letters:?}");
    let whole = stack.get(&format!("/v1/dead-letters/{}", letters[0]["id"].as_str().unwrap())).ok().json();
    let reading: Value = serde_json::from_str(whole["text"].as_str().unwrap()).unwrap();
    assert_eq!((&reading["value"], &reading["kept"], &reading["ts"]), (&json!(2.5), &json!(1.0), &json!(rfc3339(MONDAY))));
    assert_eq!(counts(&stack.status())["dead"], 0, "it is counted as a conflict");
}

/// Seals until the server dies at each stage, for the first shard and for a later one; starts it again, and looks.
fn a_kill_at_any_stage_of_a_replacement_changes_no_answer(mut stack: Stack) {
    send(&stack, &a_plant(3));
    let (expected, of_some) = (answers(&stack), answers_to(&stack, 7));
    let before = counts(&stack.status());
    let stages = ["store.replace.begin", "store.replace.before_commit", "store.replace.after_commit"];
    for (failpoint, nth) in stages.into_iter().flat_map(|failpoint| [(failpoint, 1), (failpoint, 3)]) {
        stack.kill9();
        stack.start_or_die(&[("HEADWATER_FAILPOINT", &format!("{failpoint}:{nth}"))]).unwrap_or_else(|status| {
            panic!("nothing is due by itself, but it ended with {status}");
        });
        let cut = stack.run(&["seal"]);
        assert_eq!(cut.status.code(), Some(1), "the server dies under it");
        assert_eq!(stack.ended().signal(), Some(9), "it dies at {failpoint}, of nothing else");
        stack.start();
        same(&answers_to(&stack, 7), &of_some, &format!("after a kill at {failpoint}:{nth}"));
        assert_eq!(counts(&stack.status())["received"], before["received"]);
    }
    assert_eq!(seal(&stack)["unsealed"], 0);
    same(&answers(&stack), &expected, "sealed in the end");
    let after = counts(&stack.status());
    assert_eq!((after["received"], after["unsealed"]), (before["received"], 0));
}

fn what_is_large_is_sealed_by_itself(builder: Builder) {
    let stack = builder.env("HEADWATER_ROLLUP__INTERVAL_MS", "50").start();
    let readings: Vec<Reading> = (0..66_000).map(|n| Reading::new("a", "m", MONDAY + n * SECOND, (n % 100) as f64)).collect();
    readings.chunks(10_000).for_each(|chunk| drop(stack.send(&as_json(chunk))));
    stack.settled();
    wait_for("the shard to be sealed", SOON, || (counts(&stack.status())["stored"] >= 65_536).then_some(()));
    let (from, to) = (rfc3339(MONDAY), rfc3339(MONDAY + DAY));
    let rows = stack.rows("/v1/stats", &[("from", &from), ("to", &to), ("stats", "count,min,max,first,last")]);
    let row = json!({ "count": 66_000, "min": 0.0, "max": 99.0, "first": 0.0, "last": 99.0 });
    for (name, value) in row.as_object().unwrap() {
        assert_eq!(&rows[0][name], value, "{name} of {rows:?}");
    }
}

#[test]
fn where_rollup_does_not_run_there_is_nothing_to_ask() {
    let stack = open_only();
    stack.ask(&Ask::new("POST", "/v1/seal")).expect(404).problem();
    let refused = stack.run(&["seal"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the role rollup does not run"), "{refused:?}");
    assert_eq!(stack.status()["roles"], json!(["gateway", "ingest", "api"]));
}

fn the_command_prints_what_was_settled(stack: Stack) {
    send(&stack, &[Reading::new("a", "m", MONDAY, 1.0), Reading::new("a", "m", MONDAY + 1, 1.0)]);
    assert_eq!(stack.output(&["seal"]), "STORED  DUPLICATE  CONFLICT  UNSEALED\n     2          0         0         0\n");
    assert_eq!(stack.output(&["seal", "-o", "csv"]), "stored,duplicate,conflict,unsealed\r\n0,0,0,0\r\n");
    assert_eq!(stack.output(&["seal", "-o", "json"]), "{\"stored\":0,\"duplicate\":0,\"conflict\":0,\"unsealed\":0}\n");
}
