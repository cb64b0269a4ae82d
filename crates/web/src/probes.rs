//! `/livez` and `/readyz`.
//!
//! Owns: running the checks of all faces and wording what they say. Does not know: what a check does.
//! Invariants: `/livez` asks nobody; `/readyz` answers within the time of one check, and however often it is asked (anyone may
//! ask), the checks run at most every half second.

use crate::face::Probe;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use headwater_core::health::Health;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// How long a check may take: well within the usual timeout of whoever asks.
const CHECK_TIME: Duration = Duration::from_secs(2);
/// How long an outcome is good for.
const FRESH: Duration = Duration::from_millis(500);

type Outcome = (&'static str, Result<(), String>);

pub(crate) struct Probes {
    probes: Vec<Probe>,
    health: Health,
    latest: Mutex<Option<(Instant, Arc<[Outcome]>)>>,
}

impl Probes {
    pub(crate) fn new(probes: Vec<Probe>, health: Health) -> Self {
        Self { probes, health, latest: Mutex::new(None) }
    }

    /// Every check and every condition, as they are now.
    async fn outcomes(&self) -> Vec<Outcome> {
        let mut outcomes = self.checks().await.to_vec();
        outcomes.extend(self.health.conditions().into_iter().map(|(name, reason)| (name, Err(reason))));
        outcomes
    }

    /// The checks alone. Whoever asks while they run waits for the same outcome: that is what the lock is held for.
    async fn checks(&self) -> Arc<[Outcome]> {
        let mut latest = self.latest.lock().await;
        match &*latest {
            Some((at, outcomes)) if at.elapsed() < FRESH => Arc::clone(outcomes),
            _ => {
                let outcomes = self.run().await;
                *latest = Some((Instant::now(), Arc::clone(&outcomes)));
                outcomes
            }
        }
    }

    async fn run(&self) -> Arc<[Outcome]> {
        // All at once, each as a task of its own: a check that hangs or panics says nothing of the others.
        let running: Vec<_> = self.probes.iter().map(|probe| (probe.name, tokio::spawn(timeout(CHECK_TIME, (probe.check)())))).collect();
        let mut outcomes = Vec::with_capacity(running.len());
        for (name, task) in running {
            let outcome = match task.await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(format!("no answer within {} s", CHECK_TIME.as_secs())),
                Err(_) => Err("the check broke".to_owned()),
            };
            outcomes.push((name, outcome));
        }
        outcomes.into()
    }
}

/// The process runs.
pub(crate) async fn livez() -> Response {
    answer(StatusCode::OK, "ok\n".to_owned())
}

/// Everything works, or what does not; `?verbose` lists every check.
pub(crate) async fn readyz(State(probes): State<Arc<Probes>>, RawQuery(query): RawQuery) -> Response {
    let outcomes = probes.outcomes().await;
    let ready = outcomes.iter().all(|(_, outcome)| outcome.is_ok());
    let verbose = query.is_some_and(|query| query.split('&').any(|part| part == "verbose" || part.starts_with("verbose=")));
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer(status, report(&outcomes, ready, verbose))
}

fn report(outcomes: &[Outcome], ready: bool, verbose: bool) -> String {
    let mut text = String::new();
    for (name, outcome) in outcomes {
        // Writing to a String does not fail.
        let written = match outcome {
            Ok(()) if verbose => writeln!(text, "[+] {name} ok"),
            Ok(()) => Ok(()),
            Err(reason) => writeln!(text, "[-] {name}: {reason}"),
        };
        debug_assert!(written.is_ok());
    }
    text.push_str(if ready { "ok\n" } else { "not ready\n" });
    text
}

fn answer(status: StatusCode, text: String) -> Response {
    (status, [(CACHE_CONTROL, "no-store")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn one_failing_check_makes_it_not_ready_and_is_named() {
        let probes = vec![
            Probe::new("log", || async { Ok(()) }),
            Probe::new("store", || async { Err("the disk is full".to_owned()) }),
            Probe::new("broken", || async { panic!("a check that breaks") }),
        ];
        let health = Health::default();
        health.waiting("ingest", "waiting for the store");
        let outcomes = Probes::new(probes, health).outcomes().await;
        let text = report(&outcomes, false, true);
        assert_eq!(
            text,
            "[+] log ok\n[-] store: the disk is full\n[-] broken: the check broke\n[-] ingest: waiting for the store\nnot ready\n"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_is_given_up() {
        let probes = Probes::new(vec![Probe::new("slow", std::future::pending)], Health::default());
        assert_eq!(probes.outcomes().await, [("slow", Err("no answer within 2 s".to_owned()))]);
    }

    #[tokio::test(start_paused = true)]
    async fn checks_do_not_run_once_per_question() {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let probe = Probe::new("counted", move || {
            counted.fetch_add(1, Ordering::SeqCst);
            async { Ok(()) }
        });
        let probes = Arc::new(Probes::new(vec![probe], Health::default()));
        let asking: Vec<_> = (0..50)
            .map(|_| {
                let probes = Arc::clone(&probes);
                tokio::spawn(async move { probes.outcomes().await })
            })
            .collect();
        for asked in asking {
            asked.await.unwrap();
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }
}
