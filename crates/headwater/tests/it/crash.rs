//! kill -9 at every stage and at random instants loses nothing, doubles nothing, invents nothing.
//!
//! At a failpoint the binary kills itself with SIGKILL (feature `failpoints`): `HEADWATER_FAILPOINT=name:nth`.

use crate::both::on_both;
use crate::journal::{Journal, all_bytes, check};
use crate::oracle::Random;
use crate::stack::{Builder, SOON, Stack};
use std::hash::{BuildHasher, RandomState};
use std::os::unix::process::ExitStatusExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

on_both! {
    a_kill_before_the_append_leaves_no_trace_or_all,
    a_kill_between_append_and_acknowledgement_loses_nothing,
    a_kill_while_series_are_registered_changes_nothing,
    a_kill_before_a_commit_begins_loses_nothing,
    a_kill_inside_a_commit_loses_and_doubles_nothing,
    a_kill_after_a_commit_doubles_nothing,
    kills_at_random_instants_lose_double_and_invent_nothing,
}

/// Enough for the pipeline to be full at every stage when it dies.
const PER_REQUEST: u64 = 20;

fn a_kill_before_the_append_leaves_no_trace_or_all(builder: Builder) {
    killed_at(builder, "gateway.before_append", &[1, 4]);
}

fn a_kill_between_append_and_acknowledgement_loses_nothing(builder: Builder) {
    killed_at(builder, "gateway.before_ack", &[1, 4]);
}

#[test]
fn a_kill_when_an_append_begins_leaves_no_trace_or_all() {
    killed_at(Builder::default(), "log.append.begin", &[1, 4]);
}

#[test]
fn a_kill_inside_an_append_loses_nothing_acknowledged() {
    killed_at(Builder::default(), "log.append.before_commit", &[1, 4]);
}

#[test]
fn a_kill_after_an_append_is_durable_loses_nothing() {
    killed_at(Builder::default(), "log.append.after_commit", &[1, 4]);
}

fn a_kill_while_series_are_registered_changes_nothing(builder: Builder) {
    killed_at(builder, "store.register", &[1, 2]);
}

fn a_kill_before_a_commit_begins_loses_nothing(builder: Builder) {
    killed_at(builder, "store.commit.begin", &[1, 3]);
}

fn a_kill_inside_a_commit_loses_and_doubles_nothing(builder: Builder) {
    killed_at(builder, "store.commit.before_commit", &[1, 3]);
}

fn a_kill_after_a_commit_doubles_nothing(builder: Builder) {
    killed_at(builder, "store.commit.after_commit", &[1, 3]);
}

#[test]
fn a_kill_while_the_log_is_trimmed_loses_nothing() {
    killed_at(Builder::default(), "log.trim", &[1, 3]);
}

#[test]
fn a_kill_in_a_checkpoint_of_the_store_loses_nothing() {
    // A checkpoint is due when enough was written, and bytes that are refused are written, too.
    killed_with(hasty(Builder::default()), "store.checkpoint", &[1], Journal::new("device", 1, PER_REQUEST).padded(2 << 20));
}

fn killed_at(builder: Builder, failpoint: &str, nths: &[u32]) {
    killed_with(hasty(builder), failpoint, nths, Journal::new("device", 1, PER_REQUEST));
}

/// Commits ten times as often as usual, so that more of them are hit.
fn hasty(builder: Builder) -> Stack {
    builder.env("HEADWATER_INGEST__BATCH_MS", "50").start()
}

/// For each `nth`: writes until the server dies there, starts it again, and looks.
pub(crate) fn killed_with(mut stack: Stack, failpoint: &str, nths: &[u32], mut journal: Journal) {
    for nth in nths {
        // Something is in the pipeline already, applied and not.
        assert!(journal.send(&stack));
        stack.kill9();
        match stack.start_or_die(&[("HEADWATER_FAILPOINT", &format!("{failpoint}:{nth}"))]) {
            Ok(()) => {
                write_until_it_dies(&stack, &mut journal, failpoint);
                assert_eq!(stack.ended().signal(), Some(9), "it dies at {failpoint}, of nothing else");
            }
            // It came there while it caught up.
            Err(status) => assert_eq!(status.signal(), Some(9), "it dies at {failpoint}, of nothing else"),
        }
        stack.start();
        stack.settled();
        check(&[&journal], &stack);
    }
    keeps_every_byte(&mut stack);
    // It goes on as if nothing had been.
    assert!((0..3).all(|_| journal.send(&stack)));
    stack.settled();
    check(&[&journal], &stack);
}

fn write_until_it_dies(stack: &Stack, journal: &mut Journal, failpoint: &str) {
    let started = Instant::now();
    while journal.send(stack) || stack.is_ready() {
        assert!(started.elapsed() < SOON, "{failpoint} was not reached in {SOON:?} and {} requests", journal.n_acknowledged());
    }
}

/// Two more restarts change no byte of any answer.
fn keeps_every_byte(stack: &mut Stack) {
    let before = all_bytes(stack);
    stack.restart();
    assert!(all_bytes(stack) == before, "another kill -9 changed an answer");
    assert_eq!(stack.stop(), 0);
    stack.start();
    assert!(all_bytes(stack) == before, "a stop changed an answer");
}

fn kills_at_random_instants_lose_double_and_invent_nothing(builder: Builder) {
    let seed = seed();
    println!("HEADWATER_SEED={seed}");
    let mut random = Random(seed);
    let mut stack = hasty(builder);
    let journals: Vec<_> = (0..3).map(|n| Mutex::new(Journal::new(&format!("device-{n}"), seed + n, 10))).collect();
    for _round in 0..10 {
        let (acknowledged, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for journal in &journals {
                let (client, acknowledged, stop) = (stack.client(), &acknowledged, &stop);
                scope.spawn(move || {
                    let mut journal = journal.lock().unwrap();
                    while !stop.load(Ordering::SeqCst) && journal.send(&client) {
                        acknowledged.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            let (enough, started) = (random.below(40) as usize, Instant::now());
            while acknowledged.load(Ordering::SeqCst) < enough && started.elapsed() < SOON {
                std::thread::yield_now();
            }
            // The instant itself is random; nothing is waited for.
            std::thread::sleep(Duration::from_micros(random.below(20_000)));
            stack.kill9();
            stop.store(true, Ordering::SeqCst);
        });
        stack.start();
        stack.settled();
        let journals: Vec<_> = journals.iter().map(|journal| journal.lock().unwrap()).collect();
        check(&journals.iter().map(|journal| &**journal).collect::<Vec<_>>(), &stack);
    }
    keeps_every_byte(&mut stack);
    assert!(journals.iter().all(|journal| journal.lock().unwrap().n_acknowledged() > 0), "every writer got through");
}

/// Another every time, and the one that is given where a failure is looked into.
pub(crate) fn seed() -> u64 {
    given("HEADWATER_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) >> 1)
}

/// A number that whoever runs the tests gives.
pub(crate) fn given(name: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "a test has no configuration, and a failure must be repeatable")]
    let given = std::env::var(name).ok();
    given.map(|given| given.parse().unwrap_or_else(|why| panic!("{name}={given}: {why}")))
}
