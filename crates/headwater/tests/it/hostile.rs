//! Questions and names that were made to do harm: they are data, or they are refused, and nothing else notices.

use crate::both::on_both;
use crate::client::{Ask, encoded, target};
use crate::oracle::{DAY, MONDAY, Random, Reading, as_json, rfc3339, series};
use crate::stack::{Builder, Stack};
use serde_json::json;

on_both! {
    a_name_is_only_ever_a_name,
    control_characters_neither_get_in_nor_break_the_servers_log,
    statistics_as_csv_hold_no_formulas,
    a_cursor_belongs_to_its_question,
    cost_is_what_is_stored_and_not_the_width_of_the_range,
}

const EVER: [(&str, &str); 2] = [("from", "1990-01-01T00:00:00Z"), ("to", "2040-01-01T00:00:00Z")];

fn a_name_is_only_ever_a_name(stack: Stack) {
    let names = [
        "'; DROP TABLE series; --",
        "\" OR 1=1 --",
        "../../etc/passwd",
        "%2e%2e%2f",
        "..",
        "a%00b",
        "=cmd|' /C calc'!A0",
        "{\"$gt\":\"\"}",
        "<script>alert(1)</script>",
        "\\u0000\\n",
        "ключ/пресс-7 🚀",
        "a,b;c\"d'e`f",
    ];
    let readings: Vec<_> = names.iter().zip(0..).map(|(name, n)| Reading::new(name, "m", MONDAY + n, n as f64).tag("tag", name)).collect();
    stack.send(&as_json(&readings));
    stack.settled();
    for (name, reading) in names.iter().zip(&readings) {
        for filter in [("device", *name), ("tag.tag", *name)] {
            let rows = stack.rows("/v1/readings", &[&EVER[..], &[filter]].concat());
            assert_eq!((rows.len(), &rows[0]["value"]), (1, &json!(reading.value)), "{filter:?}");
        }
        assert_eq!(stack.rows("/v1/series", &[("metric", name)]).len(), 0);
        stack.get(&target("/v1/stats", &[("step", name)])).expect(400).problem();
        stack.get(&target("/v1/readings", &[("cursor", name)])).expect(400).problem();
        stack.get(&target("/v1/readings", &[("limit", name)])).expect(400).problem();
        stack.get(&target("/v1/readings", &[(&format!("order{name}"), "1")])).expect(400).problem();
        let id = stack.get(&format!("/v1/dead-letters/{}", encoded(name)));
        assert!([400, 404].contains(&id.status), "{name}: {}", id.status);
    }
    assert_eq!(stack.rows("/v1/series", &[]).len(), names.len());
}

fn control_characters_neither_get_in_nor_break_the_servers_log(stack: Stack) {
    let lines_before = stack.said().lines().count();
    let evil = "a\u{1b}[2J\r\nERROR forged\0";
    let items = json!([
        { "device": evil, "metric": "m", "value": 1 },
        { "device": "a", "metric": evil, "value": 1 },
        { "device": "a", "metric": "m", "tags": { "t": evil }, "value": 1 },
        { "device": "a", "metric": "m", "value": evil },
    ]);
    let answer = stack.post("/v1/readings", "application/json", items.to_string()).expect(422);
    let reasons: Vec<_> = answer.json()["errors"].as_array().unwrap().iter().map(|error| error["reason"].clone()).collect();
    assert_eq!(reasons, ["invalid_device", "invalid_metric", "invalid_tags", "not_numeric"]);
    stack.get(&target("/v1/stats", &[(evil, evil)])).expect(400).problem();
    stack.ask(&Ask::new("GET", &format!("/{}", encoded(evil)))).expect(404).problem();
    stack.settled();
    // What was sent is kept as it was; it is the printing that has to be careful.
    assert_eq!(stack.rows("/v1/dead-letters", &[]).len(), 4);
    let csv = stack.get("/v1/dead-letters").ok().text();
    assert!(!csv.contains('\u{1b}') && !csv.contains('\0'), "JSON escapes control characters");
    let said = stack.said();
    let new: Vec<_> = said.lines().skip(lines_before).collect();
    assert!(!new.iter().any(|line| line.starts_with("ERROR forged") || line.contains('\u{1b}')), "{new:?}");
}

fn statistics_as_csv_hold_no_formulas(stack: Stack) {
    stack.send(&as_json(&[Reading::new("=1-2", "m", MONDAY, 1.0), Reading::new("@x", "-m", MONDAY, 1.0)]));
    stack.settled();
    let csv = stack.get(&target("/v1/stats", &[&EVER[..], &[("format", "csv")]].concat())).ok().text();
    assert!(csv.lines().skip(1).all(|line| line.split(',').all(|cell| !cell.starts_with(['=', '@']))), "{csv}");
}

#[test]
fn a_question_that_cannot_be_read_is_refused_with_the_parameter() {
    let stack = Stack::embedded();
    let wrong = [
        ("/v1/stats", "nosuch", "1"),
        ("/v1/stats", "limit", "0"),
        ("/v1/stats", "limit", "100001"),
        ("/v1/stats", "limit", "-1"),
        ("/v1/stats", "limit", "9223372036854775807"),
        ("/v1/stats", "limit", "1e3"),
        ("/v1/stats", "step", "0s"),
        ("/v1/stats", "step", "-1h"),
        ("/v1/stats", "step", "1 fortnight"),
        ("/v1/stats", "stats", "median"),
        ("/v1/stats", "stats", "p101"),
        ("/v1/stats", "stats", ""),
        ("/v1/stats", "group_by", "metric2"),
        ("/v1/stats", "fill", "previous"),
        ("/v1/stats", "format", "ndjson"),
        ("/v1/stats", "from", "tomorrow"),
        ("/v1/stats", "from", "2026-02-30T00:00:00Z"),
        ("/v1/stats", "from", "now+1m"),
        ("/v1/stats", "tz", "Europe/Berlin"),
        ("/v1/readings", "step", "1h"),
        ("/v1/readings", "cursor", "AAAA"),
        ("/v1/latest", "from", "now-1h"),
        ("/v1/series", "format", "xml"),
        ("/v1/status", "verbose", "1"),
        ("/v1/dead-letters", "limit", "x"),
    ];
    for (path, name, value) in wrong {
        let problem = stack.get(&target(path, &[(name, value)])).expect(400).problem();
        assert_eq!(problem["errors"][0]["parameter"], name, "{path} {problem}");
    }
    stack.get("/v1/stats?device=%ff").expect(400).problem();
    stack.get("/v1/stats?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z").expect(400).problem();
}

fn a_cursor_belongs_to_its_question(stack: Stack) {
    stack.send(&as_json(&series(&mut Random(30), "a", "m", MONDAY, 50)));
    stack.settled();
    let first = stack.get(&target("/v1/readings", &[&EVER[..], &[("limit", "10")]].concat())).ok().json();
    let cursor = first["next_cursor"].as_str().expect("more pages").to_owned();
    let with_cursor = |path: &str, more: &[(&str, &str)]| stack.get(&target(path, &[&EVER[..], &[("cursor", &cursor)], more].concat()));
    with_cursor("/v1/readings", &[]).ok();
    with_cursor("/v1/readings", &[("device", "b")]).expect(400).problem();
    with_cursor("/v1/stats", &[]).expect(400).problem();
    for at in 0..cursor.len() {
        let mut changed = cursor.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        let answer = stack.get(&target("/v1/readings", &[&EVER[..], &[("cursor", &changed)]].concat()));
        assert!([200, 400].contains(&answer.status), "{changed}: {}", answer.text());
    }
}

fn cost_is_what_is_stored_and_not_the_width_of_the_range(builder: Builder) {
    let stack = builder.env("HEADWATER_API__MAX_READINGS", "1000").env("HEADWATER_API__MAX_ROWS", "1000").start();
    stack.send(&as_json(&series(&mut Random(31), "small", "m", MONDAY, 300)));
    stack.send(&as_json(&series(&mut Random(32), "large", "m", MONDAY, 3000)));
    stack.settled();
    let week = [("from", rfc3339(MONDAY)), ("to", rfc3339(MONDAY + 7 * DAY))];
    let week = [("from", week[0].1.as_str()), ("to", week[1].1.as_str())];
    // Fifty years of one small series in one bucket, or in a second each, is cheap.
    for step in ["", "1s"] {
        let parameters: Vec<_> =
            EVER.into_iter().chain([("device", "small")]).chain(Some(("step", step)).filter(|(_, step)| !step.is_empty())).collect();
        assert!(!stack.rows("/v1/stats", &parameters).is_empty());
    }
    for (parameters, limit) in [
        ([&week[..], &[("device", "large")]].concat(), "max_readings"),
        ([&week[..], &[("device", "small"), ("step", "1s"), ("fill", "null"), ("limit", "100000")]].concat(), "max_rows"),
    ] {
        let problem = stack.get(&target("/v1/stats", &parameters)).expect(422).problem();
        assert!(problem["detail"].as_str().unwrap().contains(limit), "{problem}");
    }
}
