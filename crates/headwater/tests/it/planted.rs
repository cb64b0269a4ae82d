//! The tests tested: each bug that can be planted in the binary is found by a check that exists, and nothing is found without it.
//!
//! `HEADWATER_PLANTED_BUG=name` plants one (feature `failpoints`). That a store skips the compare-and-set cannot be seen from
//! outside while one process writes; the contract finds it, in the tests of the crate `embedded`.

use crate::crash::killed_with;
use crate::journal::Journal;
use crate::oracle::{HOUR, MONDAY, Reading, SECOND, Truth, as_json};
use crate::sealing::open_only;
use crate::stack::{Builder, Stack};
use crate::verify::verified;
use serde_json::json;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What no bug is called.
const NO_BUG: &str = "no-bug";
const EVER: [(&str, &str); 3] = [("from", "1990-01-01T00:00:00Z"), ("to", "2040-01-01T00:00:00Z"), ("limit", "100000")];

fn with(bug: &str) -> Builder {
    Builder::default().env("HEADWATER_PLANTED_BUG", bug)
}

#[test]
fn an_acknowledgement_before_the_append_is_durable_is_found() {
    // So many bytes that the acknowledgement is out before the append is done.
    let killed = |bug| {
        let journal = Journal::new("device", 1, 20).padded(1 << 20);
        let stack = with(bug).env("HEADWATER_INGEST__BATCH_MS", "50").start();
        killed_with(stack, "log.append.before_commit", &[1, 2, 3], journal);
    };
    killed(NO_BUG);
    let panic = catch_unwind(AssertUnwindSafe(|| killed("ack-before-durable"))).expect_err("nothing was lost");
    let words = panic.downcast::<String>().unwrap();
    assert!(words.contains("was acknowledged and is not there"), "{words}");
}

#[test]
fn a_reading_that_counts_open_and_sealed_is_found() {
    // Every reading is listed once; only where a rollup covers its hour it counts again.
    assert_eq!(complaints("count-twice"), BTreeSet::from(["answers"]));
}

#[test]
fn a_block_that_is_dropped_when_it_should_be_sealed_is_found() {
    assert_eq!(complaints("drop-block-at-seal"), BTreeSet::from(["answers", "conservation", "readings", "verify"]));
}

#[test]
fn a_rollup_of_a_part_of_its_hour_is_found() {
    assert_eq!(complaints("part-of-an-hour"), BTreeSet::from(["answers", "verify"]));
}

#[test]
fn a_last_value_that_wins_is_found() {
    assert_eq!(complaints("last-value-wins"), BTreeSet::from(["answers", "readings"]));
}

#[test]
fn without_a_bug_nothing_is_found() {
    assert_eq!(complaints(NO_BUG), BTreeSet::new());
}

/// Readings of one series: an hour with a rollup and one without; then the rest of that one, repeats and contradictions. Each part
/// comes in two requests, of which none is merged with the other.
fn parts() -> [[Vec<Reading>; 2]; 2] {
    let nth = |n: i64, value: f64| Reading::new("pump", "flow", MONDAY + n * 30 * SECOND, value);
    let run = |from: i64, to: i64, more: f64| -> Vec<Reading> { (from..to).map(|n| nth(n, (n * 7 % 50) as f64 + more)).collect() };
    // 30 seconds apart, an hour has 120; the one from 120 on has a half of them at first.
    [[run(0, 80, 0.0), run(80, 160, 0.0)], [run(155, 220, 0.0), [run(10, 20, 0.0), run(200, 205, 0.5), run(20, 25, 0.5)].concat()]]
}

/// Which of the checks complain of a server with a bug: open, sealed, and sealed with more that is open.
fn complaints(bug: &str) -> BTreeSet<&'static str> {
    let (stack, other) = (with(bug).env("HEADWATER_INGEST__BATCH_MS", "50").start(), open_only());
    let (mut found, mut truth) = (BTreeSet::new(), Truth::default());
    for part in parts() {
        for readings in part {
            for stack in [&stack, &other] {
                stack.send(&as_json(&readings));
                stack.settled();
            }
            truth.learn(&readings);
        }
        found.extend(complain(&stack, &other, &truth));
        stack.post("/v1/seal", "application/json", "").ok();
        found.extend(complain(&stack, &other, &truth));
    }
    found
}

/// What the checks say of a server, beside one that never seals and has no bug.
fn complain(stack: &Stack, other: &Stack, truth: &Truth) -> Vec<&'static str> {
    let status = stack.status();
    let settled: u64 = ["stored", "duplicate", "conflict", "dead", "unsealed"].iter().map(|name| status[name].as_u64().unwrap()).sum();
    let answers = |stack: &Stack| -> Vec<String> {
        let within = format!("from={}&to={}&stats=count,sum,min,max,p50,first,last", MONDAY / SECOND, (MONDAY + 3 * HOUR) / SECOND);
        let steps = ["5m", "1h", "1d"].map(|step| format!("/v1/stats?{within}&step={step}"));
        steps.iter().map(|question| stack.get(question).ok().text()).collect()
    };
    let (code, report) = verified(stack, &[]);
    assert_eq!(report["clean"], json!(code == 0), "{report}");
    let found: [(&'static str, bool); 4] = [
        ("answers", answers(stack) != answers(other)),
        ("conservation", status["received"] != settled),
        ("readings", stack.rows("/v1/readings", &EVER) != truth.listed()),
        ("verify", code != 0),
    ];
    found.into_iter().filter(|(_, is_wrong)| *is_wrong).map(|(name, _)| name).collect()
}
