//! Files that were lost or put back: what the log can repeat is repeated without a change, and what does not fit together is
//! refused with both sides named.

use crate::journal::{Journal, all_bytes, check};
use crate::stack::{Stack, refused_start};
use std::fs;
use std::path::Path;

/// A stopped stack that has a past.
fn stopped() -> (Stack, Journal, Vec<Vec<u8>>) {
    let mut stack = Stack::embedded();
    let mut journal = Journal::new("device", 40, 30);
    assert!((0..20).all(|_| journal.send(&stack)));
    stack.settled();
    let answers = all_bytes(&stack);
    assert_eq!(stack.stop(), 0);
    (stack, journal, answers)
}

/// Moves a database with what belongs to it, or copies it.
fn put(from: &Path, to: &Path, name: &str) {
    fs::create_dir_all(to).unwrap();
    for file in [name.to_owned(), format!("{name}-wal"), format!("{name}-shm")] {
        drop(fs::remove_file(to.join(&file)));
        if from.join(&file).exists() {
            fs::copy(from.join(&file), to.join(&file)).unwrap();
        }
    }
}

#[test]
fn a_store_made_anew_is_filled_from_the_log_and_answers_with_the_same_bytes() {
    let (mut stack, journal, answers) = stopped();
    for file in ["store.db", "store.db-wal", "store.db-shm"] {
        drop(fs::remove_file(stack.data.join(file)));
    }
    stack.start();
    stack.settled();
    assert!(all_bytes(&stack) == answers, "a replay of everything changed an answer");
    check(&[&journal], &stack);
}

#[test]
fn an_older_copy_of_the_store_catches_up_from_the_log() {
    let (mut stack, mut journal, _) = stopped();
    let copy = stack.home.path().join("copy");
    put(&stack.data, &copy, "store.db");
    stack.start();
    assert!((0..20).all(|_| journal.send(&stack)));
    stack.settled();
    let answers = all_bytes(&stack);
    assert_eq!(stack.stop(), 0);
    put(&copy, &stack.data, "store.db");
    stack.start();
    stack.settled();
    assert!(all_bytes(&stack) == answers, "catching up changed an answer");
    check(&[&journal], &stack);
}

#[test]
fn an_older_copy_of_the_log_is_refused_and_nothing_is_skipped() {
    let (mut stack, mut journal, _) = stopped();
    let copy = stack.home.path().join("copy");
    put(&stack.data, &copy, "log.db");
    stack.start();
    assert!(journal.send(&stack));
    stack.settled();
    assert_eq!(stack.stop(), 0);
    put(&stack.data, &stack.home.path().join("ours"), "log.db");
    put(&copy, &stack.data, "log.db");
    let (status, said) = refused_start(&stack.data, &["--listen", "127.0.0.1:0"]);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("position"), "{said}");
    // With the right one back it goes on.
    put(&stack.home.path().join("ours"), &stack.data, "log.db");
    stack.start();
    stack.settled();
    check(&[&journal], &stack);
}

#[test]
fn another_log_is_refused_naming_both() {
    let (mut one, _, _) = stopped();
    let (other, _, _) = stopped();
    let identity = |stack: &mut Stack| {
        stack.start();
        let log = stack.status()["positions"][0]["log"].as_str().unwrap().to_owned();
        assert_eq!(stack.stop(), 0);
        log
    };
    let ours = identity(&mut one);
    put(&other.data, &one.data, "log.db");
    let (status, said) = refused_start(&one.data, &["--listen", "127.0.0.1:0"]);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&ours), "the log that the store knows, in {said}");
}
