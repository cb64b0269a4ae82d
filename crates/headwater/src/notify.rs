//! Telling a service manager how the process is doing: the protocol of sd_notify(3), over a socket that it names.
//!
//! Owns: the messages, and when the watchdog hears of us. Does not know: what must work (it is given probes and a pulse).
//!
//! | when | what |
//! |---|---|
//! | the start takes time (recovery, migrations, a database that is away) | `EXTEND_TIMEOUT_USEC`, again and again, with a `STATUS` |
//! | the probes pass for the first time | `READY=1` |
//! | from then on, where the manager asks for it (`WatchdogSec=`) | `WATCHDOG=1` twice in its time, while a restart would heal nothing |
//! | what is waited for changes | `STATUS` |
//! | a stop begins | `STOPPING=1` |
//!
//! Invariants: without `NOTIFY_SOCKET` nothing is done; a manager that does not listen holds nothing up.

use crate::environment::Environment;
use headwater_core::BoxFuture;
use headwater_core::health::Health;
use headwater_web::Probe;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

/// Whether a restart would heal nothing: an error names what it would.
pub(crate) type Pulse = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// How often a start that takes time says that it needs more, and how much.
const EXTEND_EVERY: Duration = Duration::from_secs(5);
const EXTEND_BY: Duration = Duration::from_secs(30);
/// How often is looked whether the probes pass.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How often the status is looked at where no watchdog asks for more.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// How long a pulse may take where no watchdog says.
const LONGEST_PULSE: Duration = Duration::from_secs(30);
/// The most bytes of a status.
const STATUS_BYTES: usize = 500;

/// The way to the service manager, where there is one.
#[derive(Clone)]
pub(crate) struct Notifier(Option<Arc<Manager>>);

struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// Within which time it wants to hear of us.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says.
    pub(crate) fn of(environment: &Environment) -> Self {
        let Some(name) = environment.notify_socket() else { return Self(None) };
        let made = address(name).and_then(|address| Ok((UnixDatagram::unbound()?, address)));
        match made {
            Ok((socket, address)) => Self(Some(Arc::new(Manager { socket, address, watchdog: watchdog(environment) }))),
            Err(why) => {
                warn!("the service manager will hear nothing of this process: NOTIFY_SOCKET {name:?}: {why}");
                Self(None)
            }
        }
    }

    /// Does `work`, which belongs to the start, and asks for the time that it takes.
    pub(crate) async fn starting<T>(&self, status: &str, work: impl Future<Output = T>) -> T {
        let asking = async {
            loop {
                self.tell(&format!("EXTEND_TIMEOUT_USEC={}\nSTATUS={}", EXTEND_BY.as_micros(), on_one_line(status)));
                sleep(EXTEND_EVERY).await;
            }
        };
        tokio::select! {
            // Asked before the work begins, however short it is.
            biased;
            () = asking => std::future::pending().await,
            done = work => done,
        }
    }

    /// A stop has begun.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping: finishing what has begun");
    }

    /// Follows the process from the end of its start on, until it is dropped.
    pub(crate) async fn follow(self, probes: Vec<Probe>, health: Health, pulse: Pulse) {
        let Some(manager) = self.0.clone() else { return std::future::pending().await };
        self.starting("waiting until everything works", until_they_pass(&probes)).await;
        self.tell("READY=1\nSTATUS=ready");
        let every = manager.watchdog.map_or(STATUS_EVERY, |within| within / 2);
        let mut status = "ready".to_owned();
        loop {
            let began = Instant::now();
            let beat = timeout(every.min(LONGEST_PULSE), pulse()).await;
            match beat.unwrap_or_else(|_| Err(format!("no answer within {every:?}"))) {
                Ok(()) if manager.watchdog.is_some() => self.tell("WATCHDOG=1"),
                Ok(()) => {}
                Err(why) => warn!("only a restart helps, so the watchdog hears nothing: {why}"),
            }
            let now = words_of(&health);
            if now != status {
                self.tell(&format!("STATUS={}", on_one_line(&now)));
                status = now;
            }
            sleep(every.saturating_sub(began.elapsed()).max(LOOK_AGAIN)).await;
        }
    }

    fn tell(&self, message: &str) {
        let Some(manager) = &self.0 else { return };
        if let Err(why) = manager.socket.send_to_addr(message.as_bytes(), &manager.address) {
            debug!("could not tell the service manager {message:?}: {why}");
        }
    }
}

async fn until_they_pass(probes: &[Probe]) {
    loop {
        let mut all = true;
        for probe in probes {
            all &= (probe.check)().await.is_ok();
        }
        if all {
            return;
        }
        sleep(LOOK_AGAIN).await;
    }
}

fn words_of(health: &Health) -> String {
    let conditions: Vec<String> = health.conditions().into_iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
    if conditions.is_empty() { "ready".to_owned() } else { conditions.join("; ") }
}

/// A line feed would begin another message.
fn on_one_line(status: &str) -> String {
    let mut line: String = status.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = (0..=STATUS_BYTES.min(line.len())).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    line.truncate(end);
    line
}

/// A path, or after `@` a name that no file has.
fn address(name: &str) -> std::io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = name.strip_prefix('@') {
        return <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name);
    }
    SocketAddr::from_pathname(name)
}

/// The time of the watchdog, where it means this process.
fn watchdog(environment: &Environment) -> Option<Duration> {
    let (micros, pid) = environment.watchdog();
    let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    let micros: u64 = micros?.parse().ok().filter(|micros| *micros > 0)?;
    is_ours.then(|| Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().copied().collect()
    }

    #[test]
    fn a_status_is_one_line_of_whole_letters() {
        assert_eq!(on_one_line("a\nREADY=1\tb"), "a READY=1 b");
        assert_eq!(on_one_line(&"é".repeat(400)).len(), STATUS_BYTES);
    }

    #[test]
    fn only_a_watchdog_of_this_process_counts() {
        let ours = std::process::id().to_string();
        let of = |pairs: &[(&str, &str)]| watchdog(&environment(pairs));
        assert_eq!(of(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", &ours)]), Some(Duration::from_secs(2)));
        assert_eq!(of(&[("WATCHDOG_USEC", "2000000")]), Some(Duration::from_secs(2)));
        assert_eq!(of(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "1")]), None);
        assert_eq!(of(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(of(&[]), None);
    }

    #[tokio::test]
    async fn a_start_that_takes_time_asks_for_it_and_a_pulse_that_fails_keeps_the_watchdog_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let heard = || {
            let mut buffer = [0; 1024];
            let n = manager.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..n]).into_owned()
        };
        let notifier = Notifier::of(&environment(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "400000")]));
        assert_eq!(
            notifier
                .starting("opening\nit", async {
                    sleep(Duration::from_millis(1)).await;
                    7
                })
                .await,
            7
        );
        assert_eq!(heard(), "EXTEND_TIMEOUT_USEC=30000000\nSTATUS=opening it");
        let health = Health::default();
        let ill: Pulse = Arc::new(|| Box::pin(async { Err("the log has stopped".to_owned()) }));
        health.waiting("ingest", "the store is away");
        let following = tokio::spawn(notifier.clone().follow(Vec::new(), health.clone(), ill));
        let heard = tokio::task::spawn_blocking(move || {
            let mut buffer = [0; 1024];
            let mut next = || manager.recv(&mut buffer).map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned()).unwrap();
            [next(), next(), next(), next()]
        });
        // After the status nothing comes but the word of the stop.
        sleep(Duration::from_millis(900)).await;
        notifier.stopping();
        let heard = heard.await.unwrap();
        assert!(heard[0].starts_with("EXTEND_TIMEOUT_USEC="), "{heard:?}");
        assert_eq!(heard[1..3], ["READY=1\nSTATUS=ready", "STATUS=ingest: the store is away"]);
        assert!(heard[3].starts_with("STOPPING=1"), "{heard:?}");
        following.abort();
    }
}
