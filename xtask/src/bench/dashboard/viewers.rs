//! People who look at the dashboard, and sensors that go on sending meanwhile.
//!
//! Owns: the closed loop (what a query costs), the open one (how long people wait), the live load. Does not know: what is on the panels.
//! A viewer is a browser: six connections, and what it has it offers with `If-None-Match`. How long a panel takes counts from the moment in which
//! its refresh was due, so a server that falls behind shows it.

use super::panels::{self, DEVICES, Fleet, PANELS};
use crate::bench::server::{Connection, Server};
use anyhow::ensure;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Connections of a browser to one server.
const CONNECTIONS: usize = 6;
/// From one refresh to the next.
const REFRESH: Duration = Duration::from_secs(5);

/// Panels that were shown, and how long each took.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) took: Vec<Duration>,
    pub(super) unchanged: usize,
    pub(super) bytes: usize,
}

impl Shown {
    pub(super) fn add(&mut self, other: Self) {
        self.took.extend(other.took);
        self.unchanged += other.unchanged;
        self.bytes += other.bytes;
    }

    /// The time that `share` of all took at most, in milliseconds.
    pub(super) fn ms(&mut self, share: f64) -> f64 {
        self.took.sort_unstable();
        let at = (self.took.len() as f64 * share) as usize;
        self.took.get(at.min(self.took.len().saturating_sub(1))).map_or(0.0, Duration::as_secs_f64) * 1e3
    }

    /// Asks for a panel, offering what is known of it.
    fn ask(&mut self, connection: &mut Connection, panel: usize, since: Instant, known: &mut Option<String>) -> anyhow::Result<()> {
        let path = panels::path(panel);
        let answer = connection.get(&path, known.as_deref())?;
        ensure!(answer.status == 200 || answer.status == 304, "{path} was answered {}", answer.status);
        ensure!(answer.status == 304 || answer.body.windows(8).any(|part| part == b"\"time\":\""), "{path} shows nothing");
        self.took.push(since.elapsed());
        self.unchanged += usize::from(answer.status == 304);
        self.bytes += answer.body.len();
        *known = answer.tag;
        Ok(())
    }
}

/// Each panel `times` times, one after the other.
pub(super) fn closed_loop(server: &Server, panel: usize, times: usize) -> anyhow::Result<Shown> {
    let mut connection = Connection::open(server)?;
    let mut shown = Shown::default();
    for _ in 0..times {
        shown.ask(&mut connection, panel, Instant::now(), &mut None)?;
    }
    Ok(shown)
}

/// Viewers whose dashboards refresh by the clock for some time.
pub(super) fn open_loop(server: &Server, viewers: usize, lasting: Duration) -> anyhow::Result<Shown> {
    let begin = Instant::now() + Duration::from_millis(100);
    let all = Mutex::new(Shown::default());
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for viewer in 0..viewers {
            let first = begin + REFRESH.mul_f64(viewer as f64 / viewers as f64);
            for lane in 0..CONNECTIONS {
                let all = &all;
                threads.push(scope.spawn(move || -> anyhow::Result<()> {
                    let shown = look(server, lane, first, begin + lasting)?;
                    all.lock().unwrap_or_else(PoisonError::into_inner).add(shown);
                    Ok(())
                }));
            }
        }
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_panic| anyhow::anyhow!("a viewer panicked"))?)
    })?;
    Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// One connection of a browser: every sixth panel.
fn look(server: &Server, lane: usize, first: Instant, end: Instant) -> anyhow::Result<Shown> {
    let mut connection = Connection::open(server)?;
    let mut shown = Shown::default();
    let mut known: Vec<Option<String>> = vec![None; PANELS.len()];
    let mut due = first;
    while due < end {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        for panel in (lane..PANELS.len()).step_by(CONNECTIONS) {
            shown.ask(&mut connection, panel, due, &mut known[panel])?;
        }
        due += REFRESH;
    }
    Ok(shown)
}

/// Milliseconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "panels ask for times relative to the server's now, which is this machine's")]
pub(super) fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// Sends `lines` lines a second, each of two readings, to every server until it is told to stop.
pub(super) fn send_live(servers: &[Server], lines: u64, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut connections = servers.iter().map(Connection::open).collect::<anyhow::Result<Vec<_>>>()?;
    let mut fleet = Fleet::new();
    let mut due = Instant::now();
    let mut n = 0;
    while lines > 0 && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        due += Duration::from_secs(1);
        let (now, mut body) = (now_ms(), String::new());
        for _ in 0..lines {
            fleet.line(n % DEVICES, now, &mut body);
            n += 1;
        }
        for connection in &mut connections {
            let (status, answer) = connection.request("POST", super::WRITE, body.as_bytes())?;
            ensure!(status == 204, "a write was answered {status}: {answer}");
        }
    }
    Ok(())
}
