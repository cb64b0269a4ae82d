//! What becomes of a reading that comes twice, late, or wrong: it counts once, is right at once, or is kept as a dead letter.

use crate::both::on_both;
use crate::client::{Client, target};
use crate::main_job::counts;
use crate::oracle::{
    DAY, HOUR, MINUTE, MONDAY, Random, Reading, SECOND, Truth, as_json, as_lines, as_long_csv, as_ndjson, check_row, rfc3339, series,
};
use crate::stack::{Builder, SOON, Stack, wait_for};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

on_both! {
    a_reading_sent_fifty_times_in_any_order_and_format_counts_once,
    the_first_value_of_a_key_wins,
    zero_has_one_sign_and_tags_have_no_order,
    a_late_reading_is_right_at_once_however_late,
    ten_thousand_readings_of_one_second_are_all_there,
    a_reading_without_a_time_has_the_time_of_its_receipt,
    a_unit_belongs_to_the_series_and_the_last_one_wins,
    clocks_that_are_wrong_are_refused_by_name_and_move_nothing,
    a_time_is_told_apart_by_its_magnitude_and_by_its_zone,
    status_adds_up_at_every_look_while_loading,
    what_is_refused_is_kept_with_its_bytes_and_its_reason,
    series_beyond_the_limit_become_dead_letters_and_others_go_on,
    beyond_the_limit_of_open_readings_ingest_waits_says_so_and_loses_nothing,
    no_number_is_made_up_or_lost,
}

/// Everything from 1990 to 2040.
const EVER: [(&str, &str); 2] = [("from", "1990-01-01T00:00:00Z"), ("to", "2040-01-01T00:00:00Z")];

fn values(stack: &Stack, device: &str) -> Vec<f64> {
    let rows = stack.rows("/v1/readings", &[&EVER[..], &[("device", device)]].concat());
    rows.iter().map(|row| row["value"].as_f64().unwrap()).collect()
}

fn a_reading_sent_fifty_times_in_any_order_and_format_counts_once(stack: Stack) {
    let mut random = Random(10);
    let readings = series(&mut random, "often", "m", MONDAY, 40);
    for round in 0..50 {
        let mut shuffled = readings.clone();
        shuffled.rotate_left(random.below(40) as usize);
        // Twice in one body, too.
        shuffled.extend_from_within(..10);
        match round % 4 {
            0 => drop(stack.send(&as_json(&shuffled))),
            1 => drop(stack.post("/v1/readings", "text/csv", as_long_csv(&shuffled)).ok()),
            2 => drop(stack.post("/v1/readings", "application/x-ndjson", as_ndjson(&shuffled)).ok()),
            _ => drop(stack.send_line(&as_lines(&shuffled)).expect(204)),
        }
    }
    stack.settled();
    let truth = Truth::of(&readings);
    assert_eq!(stack.rows("/v1/readings", &EVER), truth.listed());
    let row = &stack.rows("/v1/stats", &EVER)[0];
    check_row(row, &truth.buckets(MONDAY, MONDAY + DAY, None, Clone::clone).into_values().next().unwrap());
    let status = stack.status();
    let counts = counts(&status);
    assert_eq!((counts["received"], counts["dead"]), (50 * 50, 0), "{status}");
}

fn the_first_value_of_a_key_wins(stack: Stack) {
    let at = |value| Reading::new("first", "m", MONDAY, value);
    // Within a body, over bodies, over formats, before and after it is applied.
    stack.send(&as_json(&[at(1.0), at(2.0), at(1.0)]));
    stack.send(&as_json(&[at(3.0)]));
    stack.settled();
    stack.send_line(&as_lines(&[at(4.0)])).expect(204);
    stack.post("/v1/readings", "text/csv", as_long_csv(&[at(1.0), at(5.0)])).ok();
    stack.settled();
    assert_eq!(values(&stack, "first"), [1.0]);
    let row = &stack.rows("/v1/stats", &EVER)[0];
    assert_eq!((&row["count"], &row["max"], &row["avg"]), (&json!(1), &json!(1.0), &json!(1.0)));
    assert_eq!(counts(&stack.status())["received"], 7);
}

fn zero_has_one_sign_and_tags_have_no_order(stack: Stack) {
    stack
        .post(
            "/v1/readings",
            "application/json",
            r#"[{"device":"z","metric":"m","ts":1767571200,"value":-0.0},{"device":"z","metric":"m","ts":1767571200,"value":0}]"#,
        )
        .ok();
    stack.send_line("m,device=t,b=2,a=1 value=1 1767571200000000\nm,a=1,device=t,b=2 value=1 1767571200000000").expect(204);
    stack.settled();
    assert_eq!(stack.rows("/v1/readings", &EVER).len(), 2);
    assert!(values(&stack, "z")[0].is_sign_positive());
}

fn a_late_reading_is_right_at_once_however_late(stack: Stack) {
    let mut sent = series(&mut Random(11), "late", "m", MONDAY, 200);
    stack.send(&as_json(&sent));
    stack.settled();
    let late = [MONDAY - HOUR, MONDAY - DAY, MONDAY - 365 * DAY, MONDAY + 90 * SECOND, MONDAY - 30 * 365 * DAY];
    for (n, time) in late.into_iter().enumerate() {
        let reading = Reading::new("late", "m", time, 20_000.0 + n as f64);
        stack.send(&as_json(std::slice::from_ref(&reading)));
        sent.push(reading);
        stack.settled();
        let truth = Truth::of(&sent);
        for (step, micros) in [("", None), ("1h", Some(HOUR)), ("1d", Some(DAY))] {
            let parameters: Vec<_> = EVER.into_iter().chain(Some(("step", step)).filter(|(_, step)| !step.is_empty())).collect();
            let rows = stack.rows("/v1/stats", &parameters);
            let expected = truth.buckets(631_152_000 * SECOND, i64::MAX, micros, Clone::clone);
            assert_eq!(rows.len(), expected.len());
            rows.iter().zip(expected.values()).for_each(|(row, points)| check_row(row, points));
        }
    }
}

fn ten_thousand_readings_of_one_second_are_all_there(stack: Stack) {
    let readings: Vec<_> = (0..10_000).map(|n| Reading::new("burst", "m", MONDAY + n * 100, n as f64 - 5000.0)).collect();
    stack.send(&as_json(&readings));
    stack.settled();
    let rows = stack.rows("/v1/stats", &[&EVER[..], &[("step", "1s"), ("stats", "count,sum,min,max,p50,p99,p0,p100")]].concat());
    assert_eq!(rows.len(), 1);
    check_row(&rows[0], &readings.iter().map(|reading| (reading.time, reading.value)).collect());
}

fn a_reading_without_a_time_has_the_time_of_its_receipt(stack: Stack) {
    for _ in 0..2 {
        stack.send(&json!({ "device": "now", "metric": "m", "value": 1 }));
    }
    stack.settled();
    // It counts once a delivery, and lies within the default range.
    assert_eq!(stack.rows("/v1/stats", &[])[0]["count"], 2);
    for (from, to, count) in [("now-1m", "now+1m", 1), ("now-1d/d", "now+1m", 1), ("now-2h", "now-1h", 0), ("now-30d", "now-7d/d", 0)] {
        assert_eq!(stack.rows("/v1/stats", &[("from", from), ("to", to)]).len(), count, "from {from} to {to}");
    }
}

fn a_unit_belongs_to_the_series_and_the_last_one_wins(stack: Stack) {
    for (device, unit) in [("a", "Cel"), ("a", "K"), ("b", "K"), ("c", "Pa")] {
        stack.send(&json!({ "device": device, "metric": "m", "ts": 1_767_571_200, "value": 1, "unit": unit }));
    }
    stack.settled();
    let units = |rows: Vec<Value>| rows.iter().map(|row| row["unit"].as_str().map(str::to_owned)).collect::<Vec<_>>();
    let [kelvin, pascal] = ["K", "Pa"].map(|unit| Some(unit.to_owned()));
    assert_eq!(units(stack.rows("/v1/series", &[])), [kelvin.clone(), kelvin.clone(), pascal.clone()]);
    assert_eq!(units(stack.rows("/v1/stats", &EVER)), [kelvin.clone(), kelvin.clone(), pascal]);
    assert_eq!(units(stack.rows("/v1/stats", &[&EVER[..], &[("group_by", "none")]].concat())), [None], "where it differs there is none");
    assert_eq!(units(stack.rows("/v1/stats", &[&EVER[..], &[("group_by", "none"), ("device", "a"), ("device", "b")]].concat())), [kelvin]);
    assert_eq!(counts(&stack.status())["received"], 4);
}

fn clocks_that_are_wrong_are_refused_by_name_and_move_nothing(stack: Stack) {
    let now = stack.status()["applied_to"].as_str().unwrap().to_owned();
    let cases = [
        (json!(0), "timestamp_too_old"),
        (json!("1989-12-31T23:59:59.999999Z"), "timestamp_too_old"),
        (json!("2106-02-07T06:28:15Z"), "timestamp_too_far_ahead"),
        (json!(4_000_000_000_i64), "timestamp_too_far_ahead"),
        (json!("2026-02-30T00:00:00Z"), "invalid_timestamp"),
        (json!("2026-01-05 08:00"), "invalid_timestamp"),
        (json!("yesterday"), "invalid_timestamp"),
        (json!([1]), "invalid_timestamp"),
    ];
    let items: Vec<Value> = cases.iter().map(|(ts, _)| json!({ "device": "clock", "metric": "m", "ts": ts, "value": 1 })).collect();
    let answer = stack.post("/v1/readings", "application/json", json!(items).to_string()).expect(422).problem();
    let told = ["received", "accepted", "skipped", "rejected"].map(|name| answer[name].as_u64().unwrap());
    assert_eq!(told, [8, 0, 0, 8]);
    let reasons: Vec<_> = answer["errors"].as_array().unwrap().iter().map(|error| error["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, cases.each_ref().map(|(_, reason)| *reason));
    // Live data goes on: the future of one reading is nobody else's.
    stack.send(&json!({ "device": "clock", "metric": "m", "value": 2 }));
    stack.settled();
    assert_eq!(values(&stack, "clock"), [2.0]);
    assert!(stack.status()["applied_to"].as_str().unwrap() >= now.as_str());
    assert_eq!(stack.status()["dead"], cases.len());
}

fn a_time_is_told_apart_by_its_magnitude_and_by_its_zone(stack: Stack) {
    let instant = json!([
        1_767_571_200,
        1_767_571_200_000_i64,
        1_767_571_200_000_000_i64,
        1_767_571_200_000_000_999_i64,
        "2026-01-05T00:00:00Z",
        "2026-01-05T01:30:00+01:30",
        1_767_571_200.0
    ]);
    for (n, ts) in instant.as_array().unwrap().iter().enumerate() {
        stack.send(&json!({ "device": format!("d{n}"), "metric": "m", "ts": ts, "value": 1 }));
    }
    stack.settled();
    let rows = stack.rows("/v1/readings", &EVER);
    assert_eq!(rows.len(), 7);
    assert!(rows.iter().all(|row| row["time"] == "2026-01-05T00:00:00Z"), "{rows:?}");
}

fn status_adds_up_at_every_look_while_loading(stack: Stack) {
    let done = AtomicBool::new(false);
    let (mut looks, mut last) = (0, 0);
    let (sent, dead) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|n| {
                let (client, done) = (stack.client(), &done);
                scope.spawn(move || load(&client, n, done))
            })
            .collect();
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(3) || last == 0 {
            assert!(started.elapsed() < SOON, "nothing is applied");
            let received = counts(&stack.status())["received"];
            assert!(received >= last, "a counter fell from {last} to {received}");
            (looks, last) = (looks + 1, received);
        }
        done.store(true, Ordering::SeqCst);
        writers.into_iter().map(|writer| writer.join().unwrap()).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    });
    stack.settled();
    let status = stack.status();
    let counts = counts(&status);
    assert_eq!((counts["received"], counts["dead"]), (sent, dead), "after {looks} looks: {status}");
    let positions = status["positions"].as_array().unwrap();
    assert!(!positions.is_empty() && positions.iter().all(|position| position["next"] == position["end"]), "{status}");
}

/// Sends bodies with repeats, conflicts and bad items until told to end; how much was sent, and how much of it is dead.
fn load(client: &Client, writer: u64, done: &AtomicBool) -> (u64, u64) {
    let mut random = Random(100 + writer);
    let (mut sent, mut dead) = (0, 0);
    while !done.load(Ordering::SeqCst) {
        let mut items: Vec<Value> = (0..40)
            .map(|_| Reading::new(&format!("w{writer}"), "m", MONDAY + random.below(500) as i64 * SECOND, random.below(3) as f64).json())
            .collect();
        items.push(json!({ "device": "w", "ts": 1_767_571_200, "metrics": { "a": "hot", "b": "cold", "c": 1, "d": null } }));
        items.push(json!(17));
        let answer = client.post("/v1/readings", "application/json", json!(items).to_string()).ok().json();
        let told = ["received", "accepted", "skipped", "rejected"].map(|name| answer[name].as_u64().unwrap());
        assert_eq!(told, [45, 41, 1, 3], "{answer}");
        sent += 44;
        dead += 3;
    }
    (sent, dead)
}

fn what_is_refused_is_kept_with_its_bytes_and_its_reason(stack: Stack) {
    let body = format!(
        "device,metric,ts,value\na,m,{0},1\na,m,{0},hot\na,m,{0},NaN\na,m,{0}\n,m,{0},1\na,m#,{0},1\na,m,1,1\na,m,{0},\n",
        rfc3339(MONDAY + MINUTE)
    );
    let answer = stack.post("/v1/readings", "text/csv", body).ok().json();
    let told = ["received", "accepted", "skipped", "rejected"].map(|name| answer[name].as_u64().unwrap());
    assert_eq!(told, [8, 1, 1, 6], "{answer}");
    let errors = answer["errors"].as_array().unwrap();
    let places: Vec<_> = errors.iter().map(|error| (error["line"].as_u64().unwrap(), error["reason"].as_str().unwrap())).collect();
    let expected =
        [(3, "not_numeric"), (4, "not_finite"), (5, "malformed"), (6, "invalid_device"), (7, "invalid_metric"), (8, "timestamp_too_old")];
    assert_eq!(places, expected);
    stack.settled();
    let letters = stack.rows("/v1/dead-letters", &[]);
    assert_eq!(letters.len(), 6);
    for error in errors {
        let letter = stack.get(&format!("/v1/dead-letters/{}", error["dead_letter"].as_str().unwrap())).ok().json();
        assert_eq!((&letter["reason"], &letter["id"], &letter["count"]), (&error["reason"], &error["dead_letter"], &json!(1)));
        assert!(letters.iter().any(|listed| listed["id"] == letter["id"]), "{letter} is listed");
    }
    let hot = stack.rows("/v1/dead-letters", &[("reason", "not_numeric")]);
    assert!(hot[0]["text"].as_str().unwrap().ends_with(&format!("a,m,{},hot", rfc3339(MONDAY + MINUTE))), "{hot:?}");
    assert_eq!(stack.rows("/v1/dead-letters", &[("device", "a"), ("reason", "not_finite")]).len(), 1);
    stack.get(&target("/v1/dead-letters", &[("reason", "no_such_reason")])).expect(400).problem();
    stack.get("/v1/dead-letters/00000000-0000-0000-0000-000000000000").expect(404).problem();
}

fn series_beyond_the_limit_become_dead_letters_and_others_go_on(builder: Builder) {
    let stack = builder.env("HEADWATER_INGEST__SERIES_PER_DEVICE", "10").start();
    let readings: Vec<_> = (0..30).map(|n| Reading::new("explodes", &format!("m{n:02}"), MONDAY, 1.0)).collect();
    stack.send(&as_json(&readings));
    stack.send(&as_json(&[Reading::new("another", "m", MONDAY, 1.0)]));
    stack.settled();
    // Again, over the same and over known series.
    stack.send(&as_json(&readings));
    stack.settled();
    assert_eq!(stack.rows("/v1/series", &[("device", "explodes")]).len(), 10);
    assert_eq!(values(&stack, "another"), [1.0]);
    let counts = counts(&stack.status());
    assert_eq!((counts["received"], counts["dead"]), (61, 40));
    let letters = stack.rows("/v1/dead-letters", &[("reason", "series_limit")]);
    assert_eq!(letters.iter().map(|letter| letter["count"].as_u64().unwrap()).sum::<u64>(), 40, "{letters:?}");
}

fn beyond_the_limit_of_open_readings_ingest_waits_says_so_and_loses_nothing(builder: Builder) {
    let mut stack = builder.env("HEADWATER_INGEST__BATCH_READINGS", "100").start();
    stack.kill9();
    stack.start_or_die(&[("HEADWATER_INGEST__OPEN_READINGS", "1000")]).unwrap();
    let readings = series(&mut Random(12), "open", "m", MONDAY, 3000);
    readings.chunks(100).for_each(|chunk| drop(stack.send(&as_json(chunk))));
    wait_for("ingest to wait", SOON, || (counts(&stack.status())["unsealed"] >= 1000).then_some(()));
    let readiness = wait_for("readiness to say so", SOON, || {
        let readiness = stack.get("/readyz?verbose").text();
        readiness.contains("waiting for sealing").then_some(readiness)
    });
    assert!(readiness.contains("1000"), "with the limit: {readiness}");
    let status = stack.status();
    assert!(status["in_flight"].as_u64().unwrap() > 0 && counts(&status)["unsealed"] < 3000, "{status}");
    // Without the limit it goes on where it was.
    stack.restart();
    stack.settled();
    assert_eq!(stack.rows("/v1/readings", &EVER), Truth::of(&readings).listed());
    assert_eq!(counts(&stack.status())["received"], 3000);
}

fn no_number_is_made_up_or_lost(stack: Stack) {
    let good = [
        ("5e-324", 5e-324),
        ("1.7976931348623157e308", f64::MAX),
        ("-1e-300", -1e-300),
        ("9007199254740993", 9_007_199_254_740_992.0),
        ("0.1", 0.1),
        ("123456789012345678901234567890", 1.234_567_890_123_456_8e29),
        ("true", 1.0),
        ("false", 0.0),
    ];
    let bad = [("1e999", "not_finite"), ("-1e999", "not_finite"), ("\"1\"", "not_numeric"), ("[1]", "not_numeric"), ("{}", "not_numeric")];
    for (n, (text, _)) in good.iter().enumerate() {
        stack.post("/v1/readings", "application/json", format!(r#"{{"device":"n{n}","metric":"m","ts":1767571200,"value":{text}}}"#)).ok();
    }
    for (text, reason) in bad {
        let answer = stack
            .post("/v1/readings", "application/json", format!(r#"{{"device":"bad","metric":"m","ts":1767571200,"value":{text}}}"#))
            .expect(422);
        assert_eq!(answer.problem()["errors"][0]["reason"], reason, "{text}");
    }
    stack.settled();
    for (n, (text, value)) in good.iter().enumerate() {
        assert_eq!(values(&stack, &format!("n{n}")), [*value], "{text}");
    }
    // A sum beyond f64 is null, never infinite.
    let large = [0, 1].map(|n| json!({ "device": "large", "metric": "m", "ts": 1_767_571_200 + n, "value": 1.7e308 }));
    stack.send(&json!(large));
    stack.settled();
    let row = &stack.rows("/v1/stats", &[&EVER[..], &[("device", "large"), ("stats", "count,sum,avg,max")]].concat())[0];
    assert_eq!((&row["count"], &row["sum"], &row["avg"], &row["max"]), (&json!(2), &json!(null), &json!(1.7e308), &json!(1.7e308)));
}
