//! `headwater move`: from a data directory into a database, over kill -9 in the middle, and on from there.

use crate::backends::Backends;
use crate::main_job::counts;
use crate::oracle::as_json;
use crate::sealing::{a_plant, answers, late, same};
use crate::stack::{Builder, HEADWATER, Stack, clean};
use serde_json::{Value, json};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

fn moving(data: &Path, to: &str) -> Command {
    let mut command = clean(HEADWATER);
    command.args(["move", "--json", "--from", &format!("sqlite:{}", data.display()), "--to", to]);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn done(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Readings with repeats and contradictions, refused ones, some sealed, the rest open.
fn lived_in() -> Stack {
    let stack = Stack::embedded();
    let send = |readings: &[crate::oracle::Reading]| readings.chunks(1000).for_each(|chunk| drop(stack.send(&as_json(chunk))));
    send(&a_plant(1));
    stack.output(&[
        "simulate",
        "--devices",
        "20",
        "--rate",
        "2000/s",
        "--duration",
        "2s",
        "--faults",
        "duplicates=2%,late=2%,malformed=1%,nan=1%",
    ]);
    stack.settled();
    stack.output(&["seal"]);
    send(&late(2));
    stack.settled();
    stack
}

/// Starts on the directory of a stack that has ended, with another store behind its log, or another log too.
fn moved_to(stack: Stack, builder: Builder) -> Stack {
    let home = tempfile::Builder::new().prefix("headwater-it-").tempdir().unwrap();
    std::fs::rename(&stack.data, home.path().join("data")).unwrap();
    drop(stack);
    builder.start_in(home, "data")
}

fn letters(stack: &Stack) -> Vec<Value> {
    stack.rows("/v1/dead-letters", &[])
}

fn verified(stack: &Stack, url: &str) {
    let output =
        clean(HEADWATER).args(["verify", "--json", "--data-dir"]).arg(&stack.data).env("HEADWATER_STORE__URL", url).output().unwrap();
    assert_eq!(done(&output)["clean"], json!(true));
}

#[test]
fn what_was_moved_gives_the_same_answers_over_kills_and_goes_on() {
    let mut stack = lived_in();
    let (expected, expected_letters, before) = (answers(&stack), letters(&stack), counts(&stack.status()));
    assert!(before["unsealed"] > 0 && before["dead"] > 0, "{before:?}");
    let backends = Backends::shared();
    let url = backends.store_url();

    let refused = moving(&stack.data, &url).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains(&format!("in use by process {}", stack.pid())), "{}", said(&refused));
    assert_eq!(stack.stop(), 0);

    for (failpoint, nth) in [
        ("store.move.before_commit", 1),
        ("store.move.after_commit", 1),
        ("store.move.before_commit", 20),
        ("store.move.after_commit", 30),
        ("store.move.finish", 1),
    ] {
        let killed = moving(&stack.data, &url).env("HEADWATER_FAILPOINT", format!("{failpoint}:{nth}")).output().unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{failpoint}:{nth}: {}", said(&killed));
        let verify = stack.beside("verify").env("HEADWATER_STORE__URL", &url).output().unwrap();
        assert_eq!(verify.status.code(), Some(1));
        assert!(said(&verify).contains("is not finished; run `headwater move` again"), "{}", said(&verify));
    }
    let first = done(&moving(&stack.data, &url).output().unwrap());
    assert_eq!(first["complete"], json!(true));
    assert_eq!(first["moved"]["readings"], first["stored"], "{first}");
    assert_eq!(first["received"], json!(before["received"]));
    let again = moving(&stack.data, &url).output().unwrap();
    done(&again);
    assert!(said(&again).contains("completed before"), "{}", said(&again));

    // The data directory is still good by itself.
    stack.start();
    same(&answers(&stack), &expected, "where it came from");
    assert_eq!(stack.stop(), 0);

    let moved = moved_to(stack, Builder::default().env("HEADWATER_STORE__URL", &url));
    same(&answers(&moved), &expected, "moved");
    assert_eq!(without_found(letters(&moved)), without_found(expected_letters));
    verified(&moved, &url);
    let readings = late(7);
    readings.chunks(1000).for_each(|chunk| drop(moved.send(&as_json(chunk))));
    moved.settled();
    let after = counts(&moved.status());
    assert_eq!(after["received"], before["received"] + readings.len() as u64);
    moved.output(&["seal"]);
    verified(&moved, &url);
}

/// All but the letters that sealing made only when the move sealed.
fn without_found(letters: Vec<Value>) -> Vec<Value> {
    letters.into_iter().filter(|letter| letter["reason"] != "conflict").collect()
}

#[test]
fn what_a_killed_server_had_not_applied_is_applied_and_kafka_can_come_next() {
    // Long enough that nothing is applied.
    let mut stack = Builder::default().env("HEADWATER_INGEST__BATCH_MS", "60000").start();
    let readings = a_plant(5);
    readings.chunks(1000).for_each(|chunk| drop(stack.send(&as_json(chunk))));
    stack.kill9();
    let backends = Backends::shared();
    let summary = done(&moving(&stack.data, &backends.store_url()).arg("--new-log").output().unwrap());
    assert_eq!(summary["received"], json!(readings.len()), "{summary}");
    let moved = moved_to(stack, Builder::default().on(&backends));
    assert_eq!(counts(&moved.status())["received"], readings.len() as u64);
    let more = late(6);
    more.chunks(1000).for_each(|chunk| drop(moved.send(&as_json(chunk))));
    moved.settled();
    assert_eq!(counts(&moved.status())["received"], (readings.len() + more.len()) as u64);
    let open = crate::sealing::open_only();
    for part in [&readings, &more] {
        part.chunks(1000).for_each(|chunk| drop(open.send(&as_json(chunk))));
        open.settled();
    }
    same(&answers(&moved), &answers(&open), "applied by the move, and from Kafka");
}

#[test]
fn what_cannot_be_moved_is_told() {
    let home = tempfile::tempdir().unwrap();
    for (from, to, words) in [
        ("postgres://h/d", "postgres://h/d", "sqlite:DIR"),
        ("sqlite:d", "sqlite:e", "must begin with postgres://"),
        ("sqlite:d", "mysql://u:secret@h/d", "not mysql://"),
    ] {
        let output = clean(HEADWATER).args(["move", "--from", from, "--to", to]).current_dir(home.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(words) && !said(&output).contains("secret"), "{}", said(&output));
    }
    let output = moving(&home.path().join("none"), "postgres://127.0.0.1:1/d").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("there is no store"), "{}", said(&output));
    assert!(!home.path().join("none").exists());
}
