//! `headwater verify`: clean beside a server at work; what is damaged on the disk is named and hides nothing else.

use crate::both::{Kind, on_both};
use crate::oracle::{MONDAY, Random, Reading, SECOND, as_json, as_ndjson, series};
use crate::stack::{HEADWATER, Stack, clean};
use rusqlite::Connection;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};

on_both! {
    a_store_is_clean_beside_a_server_that_writes_and_seals,
    rows_that_are_gone_are_missed,
}

/// Exit code and the JSON of `headwater verify`.
pub(crate) fn verified(stack: &Stack, arguments: &[&str]) -> (i32, Value) {
    let output = stack.beside("verify").arg("--json").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code().unwrap();
    (code, serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{code}: {why}: {said}")))
}

/// Some series over a few days, dense enough for rollups of hours.
fn fleet() -> Vec<Reading> {
    let mut random = Random(44);
    (0..5).flat_map(|n| series(&mut random, &format!("pump-{n}"), "flow", MONDAY, 9_000)).collect()
}

/// The fleet sealed, the server stopped, and how many readings are stored.
fn sealed(mut stack: Stack) -> (Stack, u64) {
    stack.file("fleet.ndjson", as_ndjson(&fleet()));
    stack.output(&["import", "fleet.ndjson"]);
    stack.settled();
    stack.output(&["seal"]);
    let stored = stack.status()["stored"].as_u64().unwrap();
    assert_eq!(stack.stop(), 0);
    let (code, report) = verified(&stack, &[]);
    assert_eq!((code, &report["clean"], &report["stored"]), (0, &Value::from(true), &Value::from(stored)), "{report}");
    (stack, stored)
}

/// Changes a row of the store behind Headwater's back.
fn change(stack: &Stack, sql: &str) {
    let changed = match stack.backends() {
        None => Connection::open(stack.data.join("store.db")).unwrap().execute(sql, []).unwrap(),
        Some(backends) => backends.sql(&format!("{sql} RETURNING 1")).lines().count(),
    };
    assert_eq!(changed, 1, "{sql}");
}

/// What chooses one row in the midst of a table.
fn some_row(stack: &Stack, table: &str) -> String {
    let id = if stack.backends().is_some() { "ctid" } else { "id" };
    format!("{id} = (SELECT {id} FROM {table} ORDER BY {id} LIMIT 1 OFFSET (SELECT count(*) / 3 FROM {table}))")
}

/// A flipped bit in the middle of the bytes of one row.
fn flip(stack: &Stack, table: &str, id: i64) {
    let conn = Connection::open(stack.data.join("store.db")).unwrap();
    let mut bytes: Vec<u8> = conn.query_row(&format!("SELECT bytes FROM {table} WHERE id = ?1"), [id], |row| row.get(0)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 16;
    assert_eq!(conn.execute(&format!("UPDATE {table} SET bytes = ?1 WHERE id = ?2"), (bytes, id)).unwrap(), 1);
}

fn some_id(stack: &Stack, table: &str) -> i64 {
    let sql = format!("SELECT id FROM {table} ORDER BY id LIMIT 1 OFFSET (SELECT count(*) / 3 FROM {table})");
    Connection::open(stack.data.join("store.db")).unwrap().query_row(&sql, [], |row| row.get(0)).unwrap()
}

fn a_store_is_clean_beside_a_server_that_writes_and_seals(stack: Stack) {
    stack.file("fleet.ndjson", as_ndjson(&fleet()));
    stack.output(&["import", "fleet.ndjson"]);
    stack.settled();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let client = stack.client();
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                n += 1;
                // Repeats, conflicts, new series, and what is refused.
                let rows: Vec<_> = (0..200)
                    .map(|i| Reading::new(&format!("fan-{}", (n * i) % 97), "speed", MONDAY + (n * i % 5_000) * SECOND, (n % 3) as f64))
                    .collect();
                client.send(&as_json(&rows));
                client.send_line("nonsense");
                if n % 5 == 0 {
                    client.post("/v1/seal", "application/json", "").ok();
                }
            }
        });
        // Also when an assertion fails: the writer would write for ever.
        let _stops = Stops(&done);
        for _ in 0..8 {
            let (code, report) = verified(&stack, &[]);
            assert_eq!((code, &report["differences"]), (0, &Value::from(0)), "{report}");
            assert!(report["received"].as_u64() > Some(0), "{report}");
        }
    });
    stack.settled();
    let (open, status) = (verified(&stack, &[]).1, stack.status());
    for count in ["received", "stored", "duplicate", "conflict", "dead", "unsealed"] {
        assert_eq!(open[count], status[count], "{count}");
    }
    assert_eq!((&open["readings"], &open["open_readings"]), (&status["stored"], &status["unsealed"]));
}

/// Says that it is done when it goes.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn damaged_chunks_and_rollups_are_named_and_hide_nothing_else() {
    let (stack, stored) = sealed(Stack::embedded());
    let (chunk, rollup) = (some_id(&stack, "chunks"), some_id(&stack, "rollups"));
    flip(&stack, "chunks", chunk);
    let (code, report) = verified(&stack, &[]);
    let first = &report["first"][0];
    assert_eq!((code, &report["differences"]), (1, &Value::from(1)), "{report}");
    assert!(first["place"].as_str().unwrap().starts_with("chunk from 2026-01-"), "{first}");
    assert!(first["device"].as_str().unwrap().starts_with("pump-") && first["metric"] == "flow" && first["shard"].is_u64(), "{first}");
    assert!(first["found"].as_str().unwrap().contains("damaged"), "{first}");
    // The others were looked at all the same.
    assert!(report["readings"].as_u64().unwrap() + 5_000 > stored, "{report}");
    flip(&stack, "rollups", rollup);
    let (code, report) = verified(&stack, &[]);
    assert_eq!((code, &report["differences"]), (1, &Value::from(2)), "{report}");
    let places: Vec<_> = report["first"].as_array().unwrap().iter().map(|found| found["place"].as_str().unwrap()).collect();
    assert!(places.iter().any(|place| place.contains(" rollup of 2026-01-")), "{places:?}");
    // In words: the same, on standard output.
    let output = clean(HEADWATER).args(["verify", "--data-dir"]).arg(&stack.data).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("/flow), chunk from 2026-01-") && said.ends_with("2 differences\n"), "{said}");
}

/// Arrays are damaged by whoever writes to the database; what beside them tells so are the rollups.
#[test]
fn changed_rows_of_a_database_are_named() {
    let (stack, _) = sealed(Kind::Scaled.start());
    change(&stack, &format!("UPDATE chunks SET \"values\"[2] = \"values\"[2] + 1 WHERE {}", some_row(&stack, "chunks")));
    let (code, report) = verified(&stack, &[]);
    let places: Vec<_> = report["first"].as_array().unwrap().iter().map(|found| found["place"].as_str().unwrap()).collect();
    assert!(code == 1 && !places.is_empty() && places.iter().all(|place| place.contains("rollup of 2026-01-")), "{report}");
    let before = report["differences"].as_u64().unwrap();
    let flipped = "set_byte(summary, length(summary) / 2, get_byte(summary, length(summary) / 2) # 16)";
    change(&stack, &format!("UPDATE rollups SET summary = {flipped} WHERE {}", some_row(&stack, "rollups")));
    let (code, report) = verified(&stack, &[]);
    assert!(code == 1 && report["differences"].as_u64() >= Some(before), "{report}");
    assert!(report["first"].to_string().contains("damaged"), "{report}");
}

fn rows_that_are_gone_are_missed(stack: Stack) {
    let (stack, _) = sealed(stack);
    change(&stack, &format!("DELETE FROM rollups WHERE {}", some_row(&stack, "rollups")));
    let (code, report) = verified(&stack, &[]);
    assert_eq!((code, &report["differences"]), (1, &Value::from(1)), "{report}");
    assert!(report["first"][0]["place"].as_str().unwrap().contains("rollup of") && report["first"][0]["found"] == "no rollup", "{report}");
    change(&stack, &format!("DELETE FROM chunks WHERE {}", some_row(&stack, "chunks")));
    let (code, report) = verified(&stack, &[]);
    let rules: Vec<_> = report["first"].as_array().unwrap().iter().map(|found| found["rule"].as_str().unwrap()).collect();
    assert_eq!(code, 1);
    assert!(rules.iter().any(|rule| rule.contains("as many readings as are stored")), "{rules:?}");
    change(&stack, "UPDATE shards SET duplicate = duplicate + 1 WHERE shard = 7");
    let rules = verified(&stack, &[]).1["first"].to_string();
    assert!(rules.contains("received = stored + duplicate"), "{rules}");
}

#[test]
fn a_damaged_open_block_is_named_and_other_days_are_not_looked_at() {
    let mut stack = Stack::embedded();
    stack.send(&as_json(&[Reading::new("a", "m", MONDAY, 1.0), Reading::new("b", "m", MONDAY, 2.0)]));
    stack.settled();
    assert_eq!(stack.stop(), 0);
    flip(&stack, "open_blocks", some_id(&stack, "open_blocks"));
    let (code, report) = verified(&stack, &["--to", "2026-01-06T00:00:00Z"]);
    assert_eq!((code, &report["differences"], &report["blocks"]), (1, &Value::from(1), &Value::from(1)), "{report}");
    assert!(report["first"][0]["place"].as_str().unwrap().starts_with("open block of batch"), "{report}");
    let (code, report) = verified(&stack, &["--from", "2026-01-06T00:00:00Z"]);
    assert_eq!((code, &report["blocks"]), (0, &Value::from(0)), "{report}");
}

#[test]
fn what_cannot_be_asked_is_told() {
    let stack = Stack::embedded();
    let run = |arguments: &[&str]| {
        let output = clean(HEADWATER).arg("verify").args(arguments).current_dir(stack.home.path()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run(&["--from", "yesterday"]);
    assert!(code == 2 && said.contains("--from yesterday"), "{code} {said}");
    assert_eq!(run(&["--from", "2026-01-06T00:00:00Z", "--to", "2026-01-05T00:00:00Z"]).0, 2);
    assert_eq!(run(&["--everything"]).0, 2);
    let (code, said) = run(&["--data-dir", "elsewhere"]);
    assert!(code == 1 && said.contains("there is no store in the data directory elsewhere"), "{code} {said}");
    assert!(!stack.home.path().join("elsewhere").exists());
}

#[test]
fn a_database_is_found_by_a_file_and_one_that_cannot_be_read_is_told() {
    let stack = Kind::Scaled.start();
    stack.send(&as_json(&[Reading::new("a", "m", MONDAY, 1.0)]));
    stack.settled();
    let backends = stack.backends().unwrap();
    let verify = |url: &str| {
        let file = stack.file("headwater.toml", format!("[store]\nurl = '{url}'\n"));
        let output = clean(HEADWATER).args(["verify", "--json", "--config"]).arg(file).current_dir(stack.home.path()).output().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, report, said) = verify(&backends.store_url());
    let report: Value = serde_json::from_str(&report).unwrap_or_else(|why| panic!("{code}: {why}: {said}"));
    assert_eq!((code, &report["clean"], &report["received"]), (0, &Value::from(true), &Value::from(1)), "{report}");
    let (code, _, said) = verify(&format!("{}_not", backends.store_url()));
    assert!(code == 1 && said.contains(&format!("{}_not", backends.name)), "{code} {said}");
    // A database that nobody has prepared is not prepared by who only looks.
    backends.sql("CREATE SCHEMA empty");
    let (code, _, said) = verify(&format!("{}?options=-csearch_path%3Dempty", backends.store_url()));
    assert_eq!(code, 1, "{said}");
    assert_eq!(backends.sql("SELECT count(*) FROM pg_class WHERE relnamespace = 'empty'::regnamespace"), "0", "{said}");
    assert!(!stack.home.path().join("headwater-data").exists());
}
