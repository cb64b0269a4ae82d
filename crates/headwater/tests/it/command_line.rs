//! The client commands of the binary: import, stats, readings, latest, series.

use crate::client::target;
use crate::oracle::{DAY, HOUR, MONDAY, Random, Reading, SECOND, Truth, as_json, as_lines, as_ndjson, check_row, gzip, rfc3339, zstd};
use crate::stack::{HEADWATER, SOON, Stack, clean, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;

/// A gzip of CSV with `n` lines of data, its good readings, and its bad lines.
fn recording(n: u64) -> (Vec<u8>, Vec<Reading>, Vec<(u64, &'static str)>) {
    let mut random = Random(20);
    let (mut text, mut readings, mut bad) = (String::from("ts,device,metric,value\n"), Vec::new(), Vec::new());
    for line in 2..n + 2 {
        let reading = Reading::new(&format!("truck-{}", line % 7), "speed", MONDAY + (line / 7) as i64 * SECOND, random.value());
        let (cell, why) = match line % 1500 {
            17 => ("n/a".to_owned(), Some("not_numeric")),
            400 => ("NaN".to_owned(), Some("not_finite")),
            _ => (reading.value.to_string(), None),
        };
        text += &format!("{},{},speed,{cell}\n", rfc3339(reading.time), reading.device);
        match why {
            Some(why) => bad.push((line, why)),
            None => readings.push(reading),
        }
    }
    (gzip(text.as_bytes()), readings, bad)
}

#[test]
fn a_file_is_imported_with_line_numbers_and_again_without_effect() {
    let stack = Stack::embedded();
    let (file, readings, bad) = recording(30_000);
    stack.file("trucks.csv.gz", file);
    let (from, to) = (rfc3339(MONDAY), rfc3339(MONDAY + DAY));
    let question = target("/v1/stats", &[("from", &from), ("to", &to), ("step", "1h"), ("stats", "count,sum,min,max,p50,p99,first,last")]);
    let mut answers = Vec::new();
    for round in 1..=2 {
        let output = stack.run(&["import", "--json", "trucks.csv.gz"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        let counts = ["received", "accepted", "skipped", "rejected"].map(|name| told[name].as_u64().unwrap());
        assert_eq!(counts, [30_000, readings.len() as u64, 0, bad.len() as u64]);
        for (line, why) in &bad {
            assert!(
                said.lines().any(|text| text.starts_with(&format!("trucks.csv.gz:{line}:")) && text.contains(why)),
                "line {line} in {said}"
            );
        }
        stack.settled();
        assert_eq!(stack.status()["received"], round * 30_000);
        answers.push(stack.get(&question).ok().text());
    }
    assert!(answers[0] == answers[1], "repeats changed an answer");
    let rows: Value = serde_json::from_str(&answers[0]).unwrap();
    let expected = Truth::of(&readings).buckets(MONDAY, MONDAY + DAY, Some(HOUR), Clone::clone);
    assert_eq!(rows["rows"].as_array().unwrap().len(), expected.len());
    rows["rows"].as_array().unwrap().iter().zip(expected.values()).for_each(|(row, points)| check_row(row, points));
}

#[test]
fn every_format_is_imported_from_files_and_standard_input() {
    let stack = Stack::embedded();
    let of = |device: &str| (0..300).map(|n| Reading::new(device, "m", MONDAY + n * SECOND, n as f64)).collect::<Vec<_>>();
    stack.file("a.ndjson", as_ndjson(&of("a")));
    stack.file("b.jsonl.zst", zstd(as_ndjson(&of("b")).as_bytes()));
    // In a file, line protocol is in nanoseconds.
    stack.file("c.lp.gz", gzip(as_lines(&of("c")).replace("000000\n", "000000000\n").as_bytes()));
    let all = stack.output(&["import", "a.ndjson", "b.jsonl.zst", "c.lp.gz"]);
    assert!(all.contains("received 900 = accepted 900"), "{all}");
    let piped = clean("sh")
        .args(["-c", r#"printf 'device,ts,m\nd,2026-01-05T00:00:00Z,4\n' | "$0" import - --format csv"#, HEADWATER])
        .env("HEADWATER_URL", &stack.base)
        .env("HEADWATER_TOKEN", &stack.token)
        .output()
        .unwrap();
    assert!(piped.status.success(), "{}", String::from_utf8_lossy(&piped.stderr));
    stack.settled();
    let rows = stack.rows("/v1/stats", &[("from", &rfc3339(MONDAY)), ("to", &rfc3339(MONDAY + DAY)), ("stats", "count")]);
    let counts: BTreeMap<_, _> = rows.iter().map(|row| (row["device"].as_str().unwrap(), row["count"].as_u64().unwrap())).collect();
    assert_eq!(counts, BTreeMap::from([("a", 300), ("b", 300), ("c", 300), ("d", 1)]));
}

#[test]
fn an_import_that_was_cut_off_is_resumed_by_running_it_again() {
    let mut stack = Stack::embedded();
    let (file, readings, _) = recording(20_000);
    stack.file("trucks.csv.gz", file);
    let fails = stack.run(&["import", "no-such-file.csv"]);
    assert_eq!(fails.status.code(), Some(1));
    // The server goes away under it: the import fails and says how to go on.
    let mut import = import_command(&stack).spawn().unwrap();
    wait_for("the first rows to arrive", SOON, || (stack.status()["received"] != 0 || import.try_wait().unwrap().is_some()).then_some(()));
    stack.kill9();
    let ended = import.wait_with_output().unwrap();
    stack.start();
    let output = import_command(&stack).output().unwrap();
    assert!(output.status.success(), "after {ended:?}: {}", String::from_utf8_lossy(&output.stderr));
    stack.settled();
    let range = [("from", rfc3339(MONDAY)), ("to", rfc3339(MONDAY + DAY))];
    let rows = stack.rows("/v1/stats", &[("from", &range[0].1), ("to", &range[1].1), ("group_by", "none"), ("stats", "count,sum")]);
    let expected = Truth::of(&readings).buckets(MONDAY, MONDAY + DAY, None, |key| (String::new(), key.1.clone(), BTreeMap::new()));
    check_row(&rows[0], expected.values().next().unwrap());
}

fn import_command(stack: &Stack) -> Command {
    let mut command = clean(HEADWATER);
    command.args(["import", "trucks.csv.gz"]).current_dir(stack.home.path());
    command.env("HEADWATER_URL", &stack.base).env("HEADWATER_TOKEN", &stack.token);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command
}

/// 12,000 readings of three devices.
fn three_devices() -> Stack {
    let stack = Stack::embedded();
    let readings: Vec<_> = (0..12_000).map(|n| Reading::new(&format!("d{}", n % 3), "m", MONDAY + n * SECOND, n as f64 / 8.0)).collect();
    stack.send(&as_json(&readings));
    stack.settled();
    stack
}

/// Runs a command in each format and compares with the API, page by page.
fn prints(stack: &Stack, command: &str, flags: &[&str], parameters: &[(&str, &str)]) {
    let expected = stack.rows(&format!("/v1/{command}"), parameters);
    let run = |format: &str| stack.output(&[&[command], flags, &["-o", format]].concat());
    let told: Value = serde_json::from_str(&run("json")).unwrap();
    assert_eq!((&told["rows"], &told["next_cursor"]), (&json!(expected), &json!(null)), "{command}");
    let (csv, table) = (run("csv"), run("table"));
    for text in [&csv, &table] {
        assert_eq!(text.lines().count(), expected.len() + 1, "a head and a line a row:\n{text}");
        assert!(text.lines().nth(1).unwrap().contains(expected[0]["device"].as_str().unwrap()), "{text}");
    }
    assert!(csv.lines().next().unwrap().split(',').any(|name| name == "device"), "{csv}");
    assert!(table.lines().next().unwrap().contains("DEVICE"), "{table}");
}

#[test]
fn the_command_line_prints_statistics_as_the_api_answers_them() {
    let stack = three_devices();
    let (from, to) = (rfc3339(MONDAY), rfc3339(MONDAY + DAY));
    let (range, in_range) = (["--from", from.as_str(), "--to", &to], [("from", from.as_str()), ("to", &to)]);
    prints(&stack, "stats", &range, &in_range);
    let hourly = ["--step", "1h", "--stats", "count,p95", "--group-by", "device", "--device", "d*", "--metric", "m"];
    let hourly_in_api = [("step", "1h"), ("stats", "count,p95"), ("group_by", "device"), ("device", "d*"), ("metric", "m")];
    prints(&stack, "stats", &[&range[..], &hourly].concat(), &[&in_range[..], &hourly_in_api].concat());
    let csv = stack.get(&target("/v1/stats", &[&in_range[..], &[("format", "csv")]].concat())).ok().text();
    assert_eq!(stack.output(&[&["stats", "-o", "csv"], &range[..]].concat()), csv);
}

#[test]
fn the_command_line_prints_readings_over_all_pages() {
    let stack = three_devices();
    let (from, to) = (rfc3339(MONDAY), rfc3339(MONDAY + DAY));
    prints(&stack, "readings", &["--from", &from, "--to", &to], &[("from", &from), ("to", &to)]);
}

#[test]
fn the_command_line_prints_the_latest_readings_and_the_series() {
    let stack = three_devices();
    prints(&stack, "latest", &["--device", "d1"], &[("device", "d1")]);
    prints(&stack, "series", &[], &[]);
}

#[test]
fn without_a_token_a_command_signs_its_own_with_the_key_at_hand() {
    let stack = Stack::embedded();
    let run = |data: &str| clean(HEADWATER).args(["series", "-o", "json", "--url", &stack.base, "--data-dir", data]).output().unwrap();
    let answered = run(stack.data.to_str().unwrap());
    assert!(answered.status.success(), "{}", String::from_utf8_lossy(&answered.stderr));
    let refused = run("/nonexistent");
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stdout.is_empty());
}

#[test]
fn exit_codes_tell_failure_from_wrong_usage() {
    let stack = Stack::embedded();
    let code = |arguments: &[&str]| stack.run(arguments).status.code();
    assert_eq!(code(&["series"]), Some(0));
    assert_eq!(code(&["stats", "--step", "soon"]), Some(1), "the server refuses it");
    assert_eq!(code(&["stats", "--no-such-flag"]), Some(2));
    assert_eq!(code(&["rebuild", "there"]), Some(2), "what is not built is no command");
    assert_eq!(code(&["token", "issue", "--scope", "read:everything"]), Some(2));
    assert_eq!(code(&["series", "--url", "http://127.0.0.1:1"]), Some(1), "nobody is there");
}
