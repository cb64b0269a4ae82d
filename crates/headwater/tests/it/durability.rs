//! An acknowledgement means on disk, seen from outside with strace; and what happens when the disk says no.
//!
//! A kill -9 cannot show a missing fsync (the page cache survives it), so the system calls are looked at: between the log's
//! write and the status line of the 2xx there must be an fsync of that file that has returned.

use crate::client::Ask;
use crate::journal::{Journal, check};
use crate::main_job::counts;
use crate::oracle::{MONDAY, Reading, SECOND, as_json, rfc3339};
use crate::stack::{Builder, SOON, Stack, clean, wait_for};
use headwater_core::clock::{Clock, SystemClock};
use serde_json::json;
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

const LOG: &str = "log.db-wal";

/// One line of a trace: a system call begins, ends, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Bytes on their way to the log's file.
    Write,
    /// An fsync or fdatasync of the log's file has returned 0.
    Synced,
    /// The status line of a 2xx begins to be sent.
    Acknowledged,
}

/// What a trace tells, in order; `-f` puts the process id first, `-y` the path behind each descriptor.
fn seen(trace: &str) -> Vec<Seen> {
    let mut syncing: HashMap<&str, bool> = HashMap::new();
    let mut seen = Vec::new();
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(' ').map(|(thread, call)| (thread, call.trim_start())) else { continue };
        let name = call.split('(').next().unwrap_or_default();
        let of_log = call.split_once('>').is_some_and(|(descriptor, _)| descriptor.ends_with(LOG));
        match name {
            "fsync" | "fdatasync" if call.contains("<unfinished") => drop(syncing.insert(thread, of_log)),
            "fsync" | "fdatasync" if of_log && call.ends_with("= 0") => seen.push(Seen::Synced),
            "pwrite64" | "write" | "writev" | "pwritev" if of_log => seen.push(Seen::Write),
            "sendto" | "sendmsg" | "write" | "writev" if call.contains("\"HTTP/1.1 2") => seen.push(Seen::Acknowledged),
            // The other half of a call during which another thread was seen.
            _ if call.starts_with("<... f")
                && call.contains("sync resumed")
                && syncing.remove(thread) == Some(true)
                && call.ends_with("= 0") =>
            {
                seen.push(Seen::Synced);
            }
            _ => {}
        }
    }
    seen
}

/// Whether every acknowledgement comes after a write to the log and, after the last write before it, a sync.
fn every_acknowledgement_is_durable(seen: &[Seen]) -> Result<usize, String> {
    let (mut written, mut synced, mut n) = (false, false, 0);
    for (at, event) in seen.iter().enumerate() {
        match event {
            Seen::Write => (written, synced) = (true, false),
            Seen::Synced => synced = true,
            Seen::Acknowledged if written && synced => (written, synced, n) = (false, false, n + 1),
            Seen::Acknowledged => {
                return Err(format!("acknowledgement {} (event {at}) came before write ({written}) and sync ({synced})", n + 1));
            }
        }
    }
    Ok(n)
}

#[test]
fn a_trace_without_the_sync_is_noticed() {
    let good = concat!(
        "7 pwrite64(5</d/log.db-wal>, \"x\", 4096, 32) = 4096\n",
        "7 fdatasync(5</d/log.db-wal> <unfinished ...>\n",
        "8 pwrite64(6</d/store.db-wal>, \"x\", 4096, 32) = 4096\n",
        "7 <... fdatasync resumed>) = 0\n",
        "9 sendto(4<TCP:[1]>, \"HTTP/1.1 200 OK\\r\\ncontent\"..., 90, MSG_NOSIGNAL, NULL, 0) = 90\n",
    );
    assert_eq!(every_acknowledgement_is_durable(&seen(good)), Ok(1));
    let without_sync: String = good.lines().filter(|line| !line.contains("sync")).map(|line| format!("{line}\n")).collect();
    let before_return: String = good.lines().filter(|line| !line.contains("resumed")).map(|line| format!("{line}\n")).collect();
    let of_another_file = good.replace("fdatasync(5</d/log.db-wal>", "fdatasync(6</d/store.db-wal>");
    let failed = good.replace("fdatasync resumed>) = 0", "fdatasync resumed>) = -1 EIO (Input/output error)");
    let then_written_again = good.replace("9 sendto", "7 pwrite64(5</d/log.db-wal>, \"y\", 4096, 32) = 4096\n9 sendto");
    for bad in [without_sync, before_return, of_another_file, failed, then_written_again] {
        every_acknowledgement_is_durable(&seen(&bad)).unwrap_err();
    }
}

#[test]
fn the_log_is_synced_before_the_status_line_is_sent() {
    let home = tempfile::tempdir().unwrap();
    let trace = home.path().join("trace");
    let calls = "trace=fsync,fdatasync,pwrite64,pwritev,write,sendto,sendmsg,writev";
    needs_strace();
    // -D keeps the server our child, so that it can be killed and waited for as ever.
    let strace = ["strace", "-D", "-f", "-y", "-q", "-s", "64", "-e", calls, "-e", "signal=none", "-o", trace.to_str().unwrap()];
    let stack = Builder::default().under(&strace).start_in(home, "data");
    let before = seen(&std::fs::read_to_string(&trace).unwrap()).len();
    for n in 0..20 {
        stack.send(&as_json(&[Reading::new("a", "m", MONDAY + n, 1.0)]));
        stack.send_line(&format!("m,device=b value=1 {}", MONDAY + n)).expect(204);
    }
    // strace writes a line when the call returns, and the answer is here before that.
    let n = wait_for("the trace to hold forty acknowledgements", SOON, || {
        let events = seen(&std::fs::read_to_string(&trace).unwrap()).split_off(before);
        let n = events.iter().filter(|event| **event == Seen::Acknowledged).count();
        (n >= 40).then(|| every_acknowledgement_is_durable(&events).unwrap())
    });
    assert_eq!(n, 40);
}

#[test]
fn a_failed_sync_acknowledges_nothing_and_ends_the_server() {
    let mut stack = Stack::embedded();
    stack.send(&as_json(&[Reading::new("a", "m", MONDAY, 1.0)]));
    stack.settled();
    let mut strace = inject(stack.pid(), &stack.data.join(LOG), "fsync,fdatasync", "error=EIO");
    // What the kernel dropped does not come back, so it is not tried again: whoever promises durability has to stop.
    for n in 1..5 {
        match stack.try_ask(&writing(n)) {
            Ok(answer) => drop(answer.expect(503).problem()),
            Err(_) => break,
        }
    }
    let status = stack.ended();
    assert_eq!(status.code(), Some(1), "it ends by itself: {status}");
    assert!(stack.said().contains("the log has stopped"), "and says why");
    strace.wait().unwrap();

    stack.start();
    stack.ask(&writing(9)).ok();
    stack.settled();
    let rows = stack.rows("/v1/readings", &[("from", "1990-01-01T00:00:00Z")]);
    let times: Vec<_> = rows.iter().map(|row| row["time"].as_str().unwrap()).collect();
    assert_eq!((times[0], times[times.len() - 1]), (rfc3339(MONDAY).as_str(), rfc3339(MONDAY + 9).as_str()));
    assert!(times.len() <= 6, "what was acknowledged is there, what was not may be: {times:?}");
    counts(&stack.status());
}

#[test]
fn a_kill_in_the_middle_of_the_logs_writes_loses_nothing_acknowledged() {
    let mut stack = Stack::embedded();
    let mut journal = Journal::new("device", 7, 20);
    for nth in [1, 2, 5] {
        assert!(journal.send(&stack));
        let mut strace = inject(stack.pid(), &stack.data.join(LOG), "pwrite64", &format!("signal=KILL:when={nth}"));
        let started = Instant::now();
        while journal.send(&stack) {
            assert!(started.elapsed() < SOON, "write {nth} of the log does not come");
        }
        assert_eq!(stack.ended().signal(), Some(9));
        strace.wait().unwrap();
        stack.start();
        stack.settled();
        check(&[&journal], &stack);
    }
}

/// A request with one reading.
fn writing(n: i64) -> Ask {
    Ask::post("/v1/readings", "application/json", as_json(&[Reading::new("a", "m", MONDAY + n, 2.0)]).to_string())
}

/// strace on a running server, doing harm in system calls on one file.
fn inject(pid: u32, file: &Path, calls: &str, harm: &str) -> Child {
    needs_strace();
    let mut strace = clean("strace")
        .args(["-f", "-p", &pid.to_string(), "-e", &format!("trace={calls}"), "-e", "signal=none", "-P", file.to_str().unwrap()])
        .args(["-e", &format!("inject={calls}:{harm}"), "-o", "/dev/null"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(strace.stderr.take().unwrap()).lines().map_while(Result::ok);
    let attached = lines.find(|line| line.contains("attached"));
    assert!(
        attached.is_some(),
        "strace cannot attach to the server (it needs the right to trace: run as root, or set kernel.yama.ptrace_scope=0)"
    );
    // It goes on to say what it does, and must not be stopped by a pipe that nobody reads.
    std::thread::spawn(move || lines.for_each(drop));
    strace
}

fn needs_strace() {
    let there = clean("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    assert!(there, "this test needs strace: apt-get install --yes strace");
}

#[test]
fn a_full_disk_pushes_back_still_reads_and_heals() {
    let stack = on_small_disk(Builder::default().env("HEADWATER_GATEWAY__APPEND_WAIT", "1s"), 24);
    let disk = stack.data_seen().parent().unwrap().to_owned();
    stack.send(&as_json(&[Reading::new("a", "m", MONDAY, 1.0)]));
    // The only dead letter that there is to be, from a clock that was two seconds more than ten minutes ahead.
    let ahead = (SystemClock.now().micros() + 602 * SECOND) / SECOND;
    stack.post("/v1/readings", "application/json", format!(r#"{{"device":"b","metric":"m","ts":{ahead},"value":1}}"#)).expect(422);
    stack.settled();
    let before = counts(&stack.status());
    let letter = stack.rows("/v1/dead-letters", &[])[0]["id"].as_str().unwrap().to_owned();
    let retry = || stack.post(&format!("/v1/dead-letters/{letter}/retry"), "application/json", "");

    let filler = disk.join("filler");
    fill(&filler);
    let refused =
        wait_for("the disk to be noticed", SOON, || Some(stack.ask(&writing(1))).filter(|answer| answer.status != 200)).expect(503);
    refused.problem();
    assert!(refused.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()), "{refused:?}");
    assert_eq!(stack.rows("/v1/latest", &[])[0]["value"], json!(1.0), "reading goes on");
    wait_for("a retry that would pass to find the disk full", SOON, || (retry().status == 503).then_some(()));
    counts(&stack.status());

    std::fs::remove_file(&filler).unwrap();
    wait_for("room to be noticed", SOON, || (stack.ask(&writing(2)).status == 200).then_some(()));
    stack.settled();
    let after = counts(&stack.status());
    assert_eq!(after["dead"], 1, "a full disk makes no dead letters");
    let letters = stack.rows("/v1/dead-letters", &[("state", "all")]);
    assert_eq!(letters.len(), 1, "{letters:?}");
    retry().ok();
    assert!(after["received"] > before["received"]);
    assert!(stack.is_ready());
}

/// Starts a server on a disk of so many MiB: a mount of its own, which goes with it (/proc/PID/root leads into it). The disk is the
/// folder above [`Stack::data_seen`].
pub(crate) fn on_small_disk(builder: Builder, mib: u32) -> Stack {
    let home = tempfile::tempdir().unwrap();
    let disk = home.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = format!(r#"mount -t tmpfs -o size={mib}m headwater-it "$0" && exec "$@""#);
    let who = if is_root() { "--mount" } else { "--map-root-user" };
    let wrapper = ["unshare", who, "--mount", "sh", "-c", &mount, disk.to_str().unwrap()];
    builder.under(&wrapper).start_in(home, "disk/data")
}

/// Fills what is left of a disk.
fn fill(filler: &Path) {
    assert!(std::fs::write(filler, vec![b'x'; 64 << 20]).is_err(), "the disk is larger than it was made");
}

fn is_root() -> bool {
    let id = clean("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}
