//! The main job: readings in over HTTP in every format, exact statistics out.
//!
//! Each test compares with the oracle, which sorts and counts.

use crate::both::{Kind, on_both};
use crate::client::{Ask, Client, target};
use crate::oracle::{
    DAY, HOUR, Key, MINUTE, MONDAY, Random, Reading, SECOND, Truth, as_json, as_lines, as_long_csv, as_ndjson, as_wide_csv, as_wide_json,
    check_row, gzip, rfc3339, series, zstd,
};
use crate::stack::Stack;
use serde_json::{Value, json};
use std::collections::BTreeMap;

on_both! {
    what_is_sent_in_any_format_comes_out_as_exact_statistics,
    steps_and_groups_follow_the_oracle,
    filters_choose_series_by_exact_names_globs_and_tags,
    fill_shows_the_buckets_without_data,
    pages_join_to_the_whole,
    csv_that_readings_returns_can_be_sent_back,
    the_same_question_has_the_same_tag_until_the_data_changes,
    answers_keep_their_bytes_over_kill_9_and_restart,
}

/// Every kind of statistic.
pub(crate) const ALL_STATISTICS: &str =
    "count,sum,avg,min,max,range,stddev,stddev_pop,first,last,p0,p1,p25,p50,p75,p90,p95,p99,p99.9,p99.95,p100";

/// A way to send readings.
type Sending = fn(&Client, &[Reading]);

const FORMATS: [(&str, Sending); 9] = [
    ("json", |to, readings| accepted(to, readings, "application/json", as_json(readings).to_string().into(), "")),
    ("json-of-metrics", |to, readings| {
        accepted(to, readings, "application/json; charset=utf-8", as_wide_json(readings).to_string().into(), "")
    }),
    ("ndjson", |to, readings| accepted(to, readings, "application/x-ndjson", as_ndjson(readings).into(), "")),
    ("csv-long", |to, readings| accepted(to, readings, "text/csv", as_long_csv(readings).into(), "")),
    ("csv-wide", |to, readings| accepted(to, readings, "text/csv", as_wide_csv(readings).into(), "")),
    ("json-gzip", |to, readings| accepted(to, readings, "application/json", gzip(as_json(readings).to_string().as_bytes()), "gzip")),
    ("csv-zstd", |to, readings| accepted(to, readings, "text/csv", zstd(as_long_csv(readings).as_bytes()), "zstd")),
    ("line-protocol", |to, readings| drop(to.send_line(&as_lines(readings)).expect(204))),
    ("line-protocol-v1", |to, readings| drop(to.post("/write?db=plant&precision=u", "", as_lines(readings)).expect(204))),
];

/// Sends a body, of which every reading has to be accepted.
fn accepted(to: &Client, readings: &[Reading], kind: &str, body: Vec<u8>, coding: &str) {
    let ask = Ask::post("/v1/readings", kind, body);
    let answer = to.ask(&if coding.is_empty() { ask } else { ask.header("Content-Encoding", coding) }).ok().json();
    assert_eq!((&answer["accepted"], &answer["rejected"], &answer["errors"]), (&json!(readings.len()), &json!(0), &json!([])), "{answer}");
}

/// Compares rows of `/v1/stats` with what they have to be, in order.
fn agree(rows: &[Value], expected: &BTreeMap<(Key, i64), Vec<(i64, f64)>>) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let labels = |row: &Value| -> (Key, String) {
        let tags = row["tags"].as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        let tags = tags.map(|(name, value)| (name.clone(), text(value))).collect();
        ((text(&row["device"]), text(&row["metric"]), tags), text(&row["time"]))
    };
    let found: Vec<_> = rows.iter().map(labels).collect();
    let wanted: Vec<_> = expected.keys().map(|(key, time)| (key.clone(), rfc3339(*time))).collect();
    assert_eq!(found, wanted);
    rows.iter().zip(expected.values()).for_each(|(row, points)| check_row(row, points));
}

fn what_is_sent_in_any_format_comes_out_as_exact_statistics(stack: Stack) {
    let mut random = Random(1);
    let mut truth = Truth::default();
    for (name, send) in FORMATS {
        let device = format!("plant-a/{name}");
        let mut readings = series(&mut random, &device, "temperature", MONDAY, 64);
        readings.extend(series(&mut random, &device, "flow", MONDAY, 300));
        readings.extend(series(&mut random, &device, "door", MONDAY, 1));
        send(&stack, &readings);
        truth.learn(&readings);
    }
    stack.settled();
    let (from, to) = (MONDAY, MONDAY + DAY);
    let rows = stack.rows("/v1/stats", &[("from", &rfc3339(from)), ("to", &rfc3339(to)), ("stats", ALL_STATISTICS)]);
    agree(&rows, &truth.buckets(from, to, None, Key::clone));
    assert_eq!(stack.rows("/v1/readings", &[("from", &rfc3339(from)), ("to", &rfc3339(to))]), truth.listed());
}

/// Two days of three devices on two lines; one series has no line.
fn a_plant(stack: &Stack) -> Truth {
    let mut random = Random(2);
    let mut readings = Vec::new();
    for (device, line) in [("plant-a/oven", Some("1")), ("plant-a/press", Some("2")), ("plant-b/press", None)] {
        for metric in ["pressure", "temperature"] {
            let of_series = series(&mut random, device, metric, MONDAY, 1500);
            readings.extend(of_series.into_iter().map(|reading| match line {
                Some(line) => reading.tag("line", line).tag("site", "x"),
                None => reading,
            }));
        }
    }
    readings.chunks(1000).for_each(|chunk| drop(stack.send(&as_json(chunk))));
    stack.settled();
    Truth::of(&readings)
}

/// What is left of a series' labels when it is pooled with others.
type Label = fn(&Key) -> Key;
/// A range, a step as it is asked for and in microseconds, what to group by, and what that leaves of the labels.
type Grouped<'a> = ((i64, i64), &'a str, Option<i64>, &'a str, Label);
/// Parameters of a filter, and what they keep.
type Filter<'a> = (&'a [(&'a str, &'a str)], fn(&Key) -> bool);

fn steps_and_groups_follow_the_oracle(stack: Stack) {
    let truth = a_plant(&stack);
    let of_device: Label = |key| (key.0.clone(), key.1.clone(), BTreeMap::new());
    let of_line: Label = |key| {
        (String::new(), key.1.clone(), key.2.iter().filter(|(name, _)| *name == "line").map(|(n, v)| (n.clone(), v.clone())).collect())
    };
    let of_none: Label = |key| (String::new(), key.1.clone(), BTreeMap::new());
    let ragged = (MONDAY + 3 * HOUR + 17 * MINUTE, MONDAY + DAY + 41 * SECOND);
    let questions: [Grouped; 8] = [
        (ragged, "15m", Some(15 * MINUTE), "", Key::clone),
        (ragged, "1h", Some(HOUR), "", Key::clone),
        (ragged, "PT1H", Some(HOUR), "device", of_device),
        (ragged, "1h30m", Some(90 * MINUTE), "tag.line", of_line),
        (ragged, "1d", Some(DAY), "none", of_none),
        (ragged, "", None, "none", of_none),
        ((MONDAY, MONDAY + 3 * DAY), "7d", Some(7 * DAY), "tag.line", of_line),
        ((MONDAY, MONDAY + 1), "1h", Some(HOUR), "device", of_device),
    ];
    for ((from, to), step, micros, group_by, label) in questions {
        let (from_text, to_text) = (rfc3339(from), rfc3339(to));
        let mut parameters = vec![("from", from_text.as_str()), ("to", &to_text), ("stats", ALL_STATISTICS)];
        parameters.extend([("step", step), ("group_by", group_by)].into_iter().filter(|(_, value)| !value.is_empty()));
        agree(&stack.rows("/v1/stats", &parameters), &truth.buckets(from, to, micros, label));
    }
}

fn filters_choose_series_by_exact_names_globs_and_tags(stack: Stack) {
    let truth = a_plant(&stack);
    let (from, to) = (MONDAY, MONDAY + 3 * DAY);
    let questions: [Filter; 6] = [
        (&[("device", "plant-a/oven")], |key| key.0 == "plant-a/oven"),
        (&[("device", "plant-a/*"), ("metric", "temp*")], |key| key.0.starts_with("plant-a/") && key.1 == "temperature"),
        (&[("device", "plant-a/oven"), ("device", "*b/p*s")], |key| key.0 != "plant-a/press"),
        (&[("tag.line", "1")], |key| key.2.get("line").is_some_and(|line| line == "1")),
        (&[("tag.line", "*"), ("tag.site", "x")], |key| !key.2.is_empty()),
        (&[("device", "Plant-A/oven")], |_| false),
    ];
    for (filter, keeps) in questions {
        let chosen = Truth(truth.0.iter().filter(|(key, _)| keeps(key)).map(|(key, readings)| (key.clone(), readings.clone())).collect());
        let (from_text, to_text) = (rfc3339(from), rfc3339(to));
        let parameters: Vec<_> = filter.iter().copied().chain([("from", from_text.as_str()), ("to", &to_text)]).collect();
        agree(&stack.rows("/v1/stats", &parameters), &chosen.buckets(from, to, None, Key::clone));
        assert_eq!(stack.rows("/v1/readings", &parameters), chosen.listed(), "{filter:?}");
    }
}

fn fill_shows_the_buckets_without_data(stack: Stack) {
    let readings = [Reading::new("a", "m", MONDAY + HOUR, 1.0), Reading::new("a", "m", MONDAY + 3 * HOUR, 2.0)];
    stack.send(&as_json(&readings));
    stack.send(&as_json(&[Reading::new("elsewhen", "m", MONDAY - DAY, 1.0)]));
    stack.settled();
    let from = rfc3339(MONDAY + 30 * MINUTE);
    let to = rfc3339(MONDAY + 5 * HOUR);
    let parameters = [("from", from.as_str()), ("to", &to), ("step", "1h"), ("stats", "count,avg,p50")];
    let none = stack.rows("/v1/stats", &parameters);
    assert_eq!(none.iter().map(|row| &row["count"]).collect::<Vec<_>>(), [1, 1]);
    let filled = stack.rows("/v1/stats", &[&parameters[..], &[("fill", "null")]].concat());
    let expected = [(0, 0, json!(null)), (1, 1, json!(1.0)), (2, 0, json!(null)), (3, 1, json!(2.0)), (4, 0, json!(null))];
    assert_eq!(filled.len(), expected.len(), "{filled:?}");
    for (row, (hour, count, value)) in filled.iter().zip(expected) {
        assert_eq!((&row["time"], &row["device"]), (&json!(rfc3339(MONDAY + hour * HOUR)), &json!("a")));
        assert_eq!((&row["count"], &row["avg"], &row["p50"]), (&json!(count), &value, &value), "{row}");
    }
}

fn pages_join_to_the_whole(stack: Stack) {
    a_plant(&stack);
    let (from, to) = (rfc3339(MONDAY), rfc3339(MONDAY + 2 * DAY));
    let range = [("from", from.as_str()), ("to", &to)];
    let hourly = [&range[..], &[("step", "1h"), ("fill", "null")]].concat();
    let pooled = [&range[..], &[("step", "15m"), ("group_by", "tag.line")]].concat();
    for (path, parameters, limit) in [
        ("/v1/stats", &hourly[..], "31"),
        ("/v1/stats", &pooled, "100"),
        ("/v1/readings", &range, "999"),
        ("/v1/latest", &[], "4"),
        ("/v1/series", &[], "1"),
    ] {
        let whole = stack.get(&target(path, &[parameters, &[("limit", "100000")]].concat())).ok().json();
        assert_eq!(whole["next_cursor"], json!(null), "{path}");
        let pages = stack.rows(path, &[parameters, &[("limit", limit)]].concat());
        assert!(pages.len() > limit.parse().unwrap(), "{path} has more than one page");
        assert_eq!(json!(pages), whole["rows"], "{path}");
    }
}

fn csv_that_readings_returns_can_be_sent_back(kind: Kind) {
    let (one, other) = (kind.start(), kind.start());
    let mut readings = series(&mut Random(3), "plant-a/press, \"7\"", "temperature", MONDAY, 100);
    readings.extend(series(&mut Random(4), "=1-2", "druck,°C", MONDAY, 10).into_iter().map(|reading| reading.tag("line", "a \"b\", c")));
    readings.push(Reading::new("precise", "m", MONDAY + 1, 0.1));
    readings.push(Reading::new("precise", "m", MONDAY + 2, 5e-324));
    one.send(&as_json(&readings));
    one.settled();
    let question = target("/v1/readings", &[("from", &rfc3339(MONDAY)), ("to", &rfc3339(MONDAY + DAY)), ("format", "csv")]);
    let csv = one.get(&question).ok();
    assert!(csv.header("content-type").is_some_and(|kind| kind.starts_with("text/csv")));
    for stack in [&one, &other] {
        let answer = stack.post("/v1/readings", "text/csv", csv.body.clone()).ok().json();
        assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(readings.len()), &json!(0)), "{answer}");
        stack.settled();
        assert_eq!(stack.get(&question).ok().text(), csv.text());
    }
    assert_eq!(other.rows("/v1/readings", &[("from", &rfc3339(MONDAY)), ("to", &rfc3339(MONDAY + DAY))]), Truth::of(&readings).listed());
}

fn the_same_question_has_the_same_tag_until_the_data_changes(stack: Stack) {
    stack.send(&as_json(&series(&mut Random(5), "a", "m", MONDAY, 100)));
    stack.settled();
    let question = target("/v1/stats", &[("from", &rfc3339(MONDAY)), ("to", &rfc3339(MONDAY + DAY)), ("step", "1h")]);
    let first = stack.get(&question).ok();
    let tag = first.header("etag").expect("an entity tag").to_owned();
    assert!(tag.starts_with('"'), "{tag} is a strong one");
    assert_eq!(first.header("cache-control"), Some("private, no-cache"));
    assert_eq!(first.header("vary"), Some("Authorization, Accept, Accept-Encoding"));
    let unchanged = stack.ask(&Ask::new("GET", &question).header("If-None-Match", &tag)).expect(304);
    assert_eq!((unchanged.header("etag"), unchanged.body.len()), (Some(tag.as_str()), 0));

    // A repeat changes nothing, a late reading does.
    stack.send(&as_json(&series(&mut Random(5), "a", "m", MONDAY, 100)));
    stack.settled();
    assert_eq!(stack.get(&question).ok().header("etag"), Some(tag.as_str()));
    stack.send(&as_json(&[Reading::new("a", "m", MONDAY + 7, 1.0)]));
    stack.settled();
    let changed = stack.ask(&Ask::new("GET", &question).header("If-None-Match", &tag)).ok();
    assert_ne!(changed.header("etag"), Some(tag.as_str()));
}

fn answers_keep_their_bytes_over_kill_9_and_restart(mut stack: Stack) {
    a_plant(&stack);
    stack
        .post(
            "/v1/readings",
            "application/json",
            r#"[{"device": "a", "metric": "m", "value": "hot"}, {"device": "a", "metric": "m", "value": 1}]"#,
        )
        .ok();
    stack.settled();
    let (from, to) = (rfc3339(MONDAY), rfc3339(MONDAY + 2 * DAY));
    let range = [("from", from.as_str()), ("to", &to)];
    let questions = [
        target("/v1/stats", &[&range[..], &[("step", "1h"), ("stats", ALL_STATISTICS)]].concat()),
        target("/v1/stats", &[&range[..], &[("group_by", "none"), ("format", "csv")]].concat()),
        target("/v1/readings", &[&range[..], &[("limit", "100000")]].concat()),
        "/v1/latest".to_owned(),
        "/v1/series".to_owned(),
        "/v1/dead-letters".to_owned(),
    ];
    let answers = |stack: &Stack| questions.iter().map(|question| stack.get(question).ok().text()).collect::<Vec<_>>();
    let before = answers(&stack);
    let counts_before = counts(&stack.status());
    stack.restart();
    assert!(answers(&stack) == before, "after kill -9");
    assert_eq!(counts(&stack.status()), counts_before);
    assert_eq!(stack.stop(), 0);
    stack.start();
    assert!(answers(&stack) == before, "after a stop");
    assert_eq!(counts(&stack.status()), counts_before);
}

/// The counts of `/v1/status`, which have to add up.
pub(crate) fn counts(status: &Value) -> BTreeMap<&'static str, u64> {
    let names = ["received", "stored", "duplicate", "conflict", "dead", "unsealed"];
    let counts: BTreeMap<_, _> = names.iter().map(|name| (*name, status[name].as_u64().expect("a count"))).collect();
    assert_eq!(counts["received"], names[1..].iter().map(|name| counts[name]).sum::<u64>(), "{status}");
    counts
}
