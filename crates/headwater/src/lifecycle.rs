//! How the process ends.
//!
//! Owns: signals (the first asks to stop, the second stops at once), the tasks of the process, and what follows when one of them
//! fails. Does not know: what the tasks do; [`crate::wiring`] says in which order they stop.
//!
//! Invariants: the first task to end although nobody asked it to stops all others, is named, and makes the exit code non-zero;
//! nothing that was acknowledged depends on a stop being soft.

use anyhow::{Context, anyhow, bail};
use std::collections::HashMap;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// The two ways to ask for a stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    /// Finish what has begun.
    pub(crate) soft: CancellationToken,
    /// Stop at once.
    pub(crate) hard: CancellationToken,
}

impl Stop {
    /// Listens to SIGINT and SIGTERM from now on.
    pub(crate) fn on_signals() -> anyhow::Result<Self> {
        let stop = Self::default();
        let listening = |kind| signal(kind).context("listen to signals");
        let (interrupt, terminate) = (listening(SignalKind::interrupt())?, listening(SignalKind::terminate())?);
        tokio::spawn(stop.clone().follow(interrupt, terminate));
        Ok(stop)
    }

    async fn follow(self, mut interrupt: Signal, mut terminate: Signal) {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            }
        };
        let first = next().await;
        info!("{first}: finishing what has begun; a second signal stops at once");
        self.soft.cancel();
        let second = next().await;
        warn!("{second}: stopping at once");
        self.hard.cancel();
    }
}

/// The tasks of the process, by name.
#[derive(Default)]
pub(crate) struct Tasks {
    set: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, &'static str>,
}

/// A task that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) name: &'static str,
    pub(crate) result: anyhow::Result<()>,
}

impl Tasks {
    /// Starts a task.
    pub(crate) fn start(&mut self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let id = self.set.spawn(task).id();
        self.names.insert(id, name);
    }

    /// The next task to end; `None` when none is left. Cancel-safe.
    pub(crate) async fn next_end(&mut self) -> Option<Ended> {
        let (id, result) = match self.set.join_next_with_id().await? {
            Ok((id, result)) => (id, result),
            Err(failed) => (failed.id(), Err(panicked(failed))),
        };
        Some(Ended { name: self.names.remove(&id).unwrap_or("a task"), result })
    }

    /// Whether the task of that name has not ended yet.
    pub(crate) fn runs(&self, name: &str) -> bool {
        self.names.values().any(|running| *running == name)
    }

    /// Waits until the task of that name has ended, at most `patience`. What others end with meanwhile is told.
    pub(crate) async fn ended(&mut self, name: &'static str, patience: Duration) -> anyhow::Result<()> {
        let wait = async {
            while self.runs(name) {
                let Some(ended) = self.next_end().await else { return Ok(()) };
                if ended.name == name {
                    return ended.result.with_context(|| format!("stop {name}"));
                }
                if let Err(why) = ended.result {
                    error!("{} failed while stopping: {why:#}", ended.name);
                }
            }
            Ok(())
        };
        match timeout(patience, wait).await {
            Ok(result) => result,
            Err(_) => bail!("{name} has not stopped within {} s", patience.as_secs()),
        }
    }
}

fn panicked(failed: JoinError) -> anyhow::Error {
    match failed.try_into_panic() {
        Ok(panic) => {
            let said = panic.downcast_ref::<&str>().map(|said| (*said).to_owned());
            anyhow!("it panicked: {}", said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default())
        }
        Err(cancelled) => anyhow!("it was cancelled: {cancelled}"),
    }
}

/// Waits for a reason to stop: a signal, or a task that ends although nobody asked it to.
///
/// # Errors
/// The task that ended, with its name and why.
pub(crate) async fn until_stopped(tasks: &mut Tasks, stop: &Stop) -> anyhow::Result<()> {
    tokio::select! {
        () = stop.soft.cancelled() => Ok(()),
        ended = tasks.next_end() => Err(match ended {
            None => anyhow!("nothing runs any more"),
            Some(Ended { name, result: Ok(()) }) => anyhow!("{name} ended although nobody had asked it to"),
            Some(Ended { name, result: Err(why) }) => why.context(format!("{name} failed")),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test]
    async fn the_first_task_to_fail_is_named() {
        let mut tasks = Tasks::default();
        tasks.start("listener", pending());
        tasks.start("ingest", async { bail!("the store is damaged") });
        let why = until_stopped(&mut tasks, &Stop::default()).await.unwrap_err();
        assert_eq!(format!("{why:#}"), "ingest failed: the store is damaged");
        assert!(tasks.runs("listener") && !tasks.runs("ingest"));
    }

    #[tokio::test]
    async fn a_task_that_ends_by_itself_or_panics_has_failed() {
        let mut tasks = Tasks::default();
        tasks.start("listener", async { Ok(()) });
        let why = until_stopped(&mut tasks, &Stop::default()).await.unwrap_err();
        assert_eq!(why.to_string(), "listener ended although nobody had asked it to");
        let mut tasks = Tasks::default();
        tasks.start("ingest", async { panic!("of the test") });
        let why = until_stopped(&mut tasks, &Stop::default()).await.unwrap_err();
        assert_eq!(format!("{why:#}"), "ingest failed: it panicked: of the test");
    }

    #[tokio::test]
    async fn a_signal_is_no_failure() {
        let (mut tasks, stop) = (Tasks::default(), Stop::default());
        tasks.start("listener", pending());
        stop.soft.cancel();
        until_stopped(&mut tasks, &stop).await.unwrap();
    }

    #[tokio::test]
    async fn stopping_waits_for_the_task_that_was_asked_and_no_longer_than_allowed() {
        let mut tasks = Tasks::default();
        tasks.start("listener", pending());
        tasks.start("ingest", async { Ok(()) });
        tasks.ended("ingest", Duration::from_secs(60)).await.unwrap();
        tasks.ended("ingest", Duration::from_secs(60)).await.unwrap();
        let late = tasks.ended("listener", Duration::from_millis(1)).await.unwrap_err().to_string();
        assert!(late.starts_with("listener has not stopped"), "{late}");
    }
}
