//! `headwater backup` and `restore`: a copy made beside a server at work is one state of everything, and a server goes on from it.

use crate::client::Ask;
use crate::journal::{Journal, all_bytes};
use crate::main_job::counts;
use crate::stack::{Builder, HEADWATER, SOON, Stack, clean, wait_for};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

fn backup(stack: &Stack, to: &Path, more: &[&str]) -> Output {
    stack.beside("backup").arg(to).args(more).output().unwrap()
}

fn restore(from: &Path, to: &Path) -> Output {
    clean(HEADWATER).arg("restore").arg(from).arg("--data-dir").arg(to).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn is_clean(data: &Path) {
    let verified = clean(HEADWATER).args(["verify", "--json", "--data-dir"]).arg(data).output().unwrap();
    assert!(verified.status.success(), "{} {}", String::from_utf8_lossy(&verified.stdout), said(&verified));
}

/// A server on what was restored, in the directory of the one that was copied.
fn server_on(restored: &str, from: Stack) -> Stack {
    let Stack { home, .. } = &from;
    let other = tempfile::Builder::new().prefix("headwater-it-").tempdir().unwrap();
    std::fs::rename(home.path().join(restored), other.path().join("data")).unwrap();
    drop(from);
    Builder::default().start_in(other, "data")
}

#[test]
fn a_copy_made_beside_a_server_that_writes_and_seals_is_one_state_and_a_server_goes_on_from_it() {
    let stack = Stack::embedded();
    let mut still = Journal::new("still", 1, 40);
    assert!((0..12).all(|_| still.send(&stack)));
    stack.settled();
    stack.output(&["seal"]);
    let question = "/v1/readings?device=still&from=1990-01-01T00:00:00Z&to=2040-01-01T00:00:00Z&limit=100000";
    let before = stack.get(question).ok().body;
    let (sent, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (copy, restored) = (stack.home.path().join("copy"), stack.home.path().join("restored"));
    let (acknowledged, told) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let (client, mut busy) = (stack.client(), Journal::new("busy", 2, 40));
            while !stop.load(Ordering::SeqCst) {
                assert!(busy.send(&client));
                if sent.fetch_add(1, Ordering::SeqCst) % 10 == 9 {
                    client.post("/v1/seal", "application/json", "").ok();
                }
            }
        });
        wait_for("writes", SOON, || (sent.load(Ordering::SeqCst) > 20).then_some(()));
        let acknowledged = sent.load(Ordering::SeqCst);
        let output = backup(&stack, &copy, &["--json"]);
        wait_for("writes to go on", SOON, || (sent.load(Ordering::SeqCst) > acknowledged + 5).then_some(()));
        stop.store(true, Ordering::SeqCst);
        (acknowledged, done(&output))
    });
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["keys"], true, "{told}");
    done(&restore(&copy, &restored));
    is_clean(&restored);

    let token = stack.token.clone();
    let stack = server_on("restored", stack);
    stack.settled();
    assert!(stack.get(question).ok().body == before, "what was there before the copy has the same bytes");
    let counts = counts(&stack.status());
    assert_eq!(counts["received"], ["stored", "duplicate", "conflict", "dead", "unsealed"].iter().map(|count| counts[*count]).sum::<u64>());
    // A request's marker is there exactly if the request is.
    let markers = stack.rows(
        "/v1/readings",
        &[("device", "busy"), ("metric", "request"), ("from", "1990-01-01T00:00:00Z"), ("to", "2040-01-01T00:00:00Z")],
    );
    assert!(markers.len() >= acknowledged, "{} of {acknowledged} requests that were acknowledged before the copy began", markers.len());
    stack.ask(&Ask::new("GET", "/v1/status").token(&token)).ok();
    stack.output(&["seal"]);
    assert!((0..3).all(|_| still.send(&stack)), "it takes more");
}

#[test]
fn what_a_killed_server_left_is_copied_without_a_server() {
    let mut stack = Stack::embedded();
    let mut journal = Journal::new("device", 3, 20);
    assert!((0..10).all(|_| journal.send(&stack)));
    stack.settled();
    assert!((0..3).all(|_| journal.send(&stack)));
    let bytes = {
        stack.settled();
        all_bytes(&stack)
    };
    stack.kill9();
    let (copy, restored) = (stack.home.path().join("copies/of today?"), stack.home.path().join("restored"));
    done(&backup(&stack, &copy, &[]));
    std::fs::remove_dir_all(&stack.data).unwrap();
    done(&restore(&copy, &restored));
    is_clean(&restored);
    let stack = server_on("restored", stack);
    stack.settled();
    assert!(all_bytes(&stack) == bytes);
}

#[test]
fn nothing_is_written_over_and_a_damaged_copy_makes_nothing() {
    let stack = Stack::embedded();
    let (copy, restored) = (stack.home.path().join("copy"), stack.home.path().join("restored"));
    done(&backup(&stack, &copy, &[]));
    let again = backup(&stack, &copy, &[]);
    assert!(again.status.code() == Some(1) && said(&again).contains("not empty"), "{}", said(&again));
    let over = restore(&copy, &stack.data);
    assert!(over.status.code() == Some(1) && said(&over).contains("not empty"), "{}", said(&over));
    assert!(stack.is_ready());

    let mut bytes = std::fs::read(copy.join("store.db")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(copy.join("store.db"), bytes).unwrap();
    let damaged = restore(&copy, &restored);
    assert!(damaged.status.code() == Some(1) && said(&damaged).contains("store.db is not what was backed up"), "{}", said(&damaged));
    let mut names: Vec<_> =
        std::fs::read_dir(stack.home.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["copy", "data"]);
    let nothing = restore(&stack.data, &restored);
    assert!(said(&nothing).contains("is no backup"), "{}", said(&nothing));
}

#[test]
fn keys_are_for_their_owner_alone_and_can_be_left_out() {
    let stack = Stack::embedded();
    let (with, without) = (stack.home.path().join("with"), stack.home.path().join("without"));
    done(&clean(HEADWATER).args(["token", "rotate-key", "--data-dir"]).arg(&stack.data).output().unwrap());
    let told = backup(&stack, &with, &[]);
    done(&told);
    assert!(said(&told).contains("the key that signs tokens is in it"), "{}", said(&told));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&with), 0o700);
    for file in ["token-key.pem", "token-key.pem.retired", "store.db", "log.db", "format", "backup.json"] {
        assert_eq!(mode(&with.join(file)), 0o600, "{file}");
    }
    let told = backup(&stack, &without, &["--no-keys"]);
    done(&told);
    assert!(said(&told).contains("the key is not in it"), "{}", said(&told));
    assert!(!without.join("token-key.pem").exists() && !without.join("token-key.pem.retired").exists());
}

#[test]
fn other_stores_are_refused_with_the_commands_for_them() {
    let home = tempfile::tempdir().unwrap();
    let refused = clean(HEADWATER)
        .arg("backup")
        .arg(home.path().join("copy"))
        .env("HEADWATER_STORE__URL", "postgres://me@db-1/plant")
        .output()
        .unwrap();
    assert!(refused.status.code() == Some(2) && said(&refused).contains("pg_dump"), "{}", said(&refused));
    let none = clean(HEADWATER).arg("backup").arg(home.path().join("copy")).current_dir(home.path()).output().unwrap();
    assert!(none.status.code() == Some(1) && said(&none).contains("nothing to copy"), "{}", said(&none));
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}
