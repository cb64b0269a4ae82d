//! Keys that are kept as new as where they come from.
//!
//! Owns: [`Source`] (the set in use, when to fetch another, who waits for it). Does not know: where from ([`Fetch`] does), tokens.
//! Invariants: the last good set stays in use whatever happens to fetching; one fetch runs at a time; a key that is asked for in
//! vain brings a fetch at most once within the pace, and whoever asks waits for it no longer than that allows.

use crate::keyset::KeySet;
use anyhow::Result;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// Where keys come from.
pub(crate) trait Fetch: Send + Sync + 'static {
    /// The keys there are now, and how long they are good for, where that is said. It may block, for a bounded time.
    ///
    /// # Errors
    /// They cannot be had, or are of no use.
    fn fetch(&self) -> Result<Fetched>;
}

/// What was fetched.
pub(crate) struct Fetched {
    pub(crate) keys: KeySet,
    /// When to look again.
    pub(crate) again_in: Duration,
}

/// How often, and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Between two fetches because of a key that is not there.
    pub(crate) between: Duration,
    /// How long a request waits for such a fetch.
    pub(crate) patience: Duration,
    /// Until the next try after a failure, while there are no keys at all.
    pub(crate) while_empty: Duration,
    /// Until the next try after a failure.
    pub(crate) after_failure: Duration,
}

/// The keys of one issuer.
pub(crate) struct Source {
    /// For the log.
    name: String,
    fetch: Box<dyn Fetch>,
    pace: Pace,
    state: Mutex<State>,
    /// Counts fetches that have ended.
    ended: watch::Sender<u64>,
    /// … and those of them that have failed.
    failures: AtomicU64,
}

struct State {
    keys: Arc<KeySet>,
    /// Rises with every other set.
    generation: u64,
    began: Option<Instant>,
    running: bool,
    failing: bool,
    due: Instant,
}

impl Source {
    /// A source that has fetched nothing yet.
    pub(crate) fn new(name: &str, fetch: Box<dyn Fetch>, pace: Pace) -> Arc<Self> {
        Self::with(name, fetch, pace, KeySet::default())
    }

    /// A source that has these keys already.
    pub(crate) fn with(name: &str, fetch: Box<dyn Fetch>, pace: Pace, keys: KeySet) -> Arc<Self> {
        let (due, generation) = (Instant::now(), u64::from(!keys.is_empty()));
        let state = State { keys: Arc::new(keys), generation, began: None, running: false, failing: false, due };
        Arc::new(Self {
            name: name.to_owned(),
            fetch,
            pace,
            state: Mutex::new(state),
            ended: watch::Sender::new(0),
            failures: AtomicU64::new(0),
        })
    }

    /// The keys in use and which set that is; 0 = none was ever there.
    pub(crate) fn current(&self) -> (Arc<KeySet>, u64) {
        let state = self.state();
        (Arc::clone(&state.keys), state.generation)
    }

    /// How many fetches have failed so far.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Looks for keys that are newer than `generation`, within the pace; whether there are any now.
    pub(crate) async fn look_again(self: &Arc<Self>, generation: u64) -> bool {
        let mut ended = self.ended.subscribe();
        let looking = async {
            let turn = self.state().began.map(|began| began + self.pace.between);
            let wait = turn.map_or(Duration::ZERO, |turn| turn.saturating_duration_since(Instant::now()));
            if wait > self.pace.patience && !self.state().running {
                return;
            }
            // Whoever else looks meanwhile looks for all.
            drop(timeout(wait, ended.changed()).await);
            if self.begin(|state| state.began.is_none_or(|began| began.elapsed() >= self.pace.between)) {
                drop(ended.changed().await);
            }
        };
        // Who is not patient enough is refused; the fetch goes on.
        drop(timeout(self.pace.patience, looking).await);
        self.state().generation != generation
    }

    /// Fetches whenever it is due, for ever.
    pub(crate) async fn keep_fresh(self: Arc<Self>) {
        loop {
            let mut ended = self.ended.subscribe();
            if self.begin(|state| state.due <= Instant::now()) {
                drop(ended.changed().await);
            }
            let due = self.state().due;
            sleep(due.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))).await;
        }
    }

    /// Begins a fetch if `wanted`; whether one runs now.
    fn begin(self: &Arc<Self>, wanted: impl FnOnce(&State) -> bool) -> bool {
        let mut state = self.state();
        if !state.running && wanted(&state) {
            (state.running, state.began) = (true, Some(Instant::now()));
            tokio::spawn(Arc::clone(self).run());
        }
        state.running
    }

    async fn run(self: Arc<Self>) {
        let source = Arc::clone(&self);
        let fetched = tokio::task::spawn_blocking(move || source.fetch.fetch()).await;
        self.take(fetched.map_err(anyhow::Error::from).flatten());
        self.ended.send_modify(|ended| *ended += 1);
    }

    fn take(&self, fetched: Result<Fetched>) {
        let mut state = self.state();
        state.running = false;
        match fetched {
            Ok(Fetched { keys, again_in }) => {
                if std::mem::take(&mut state.failing) {
                    tracing::info!(issuer = %self.name, "the keys of {} can be had again", self.name);
                }
                if state.generation == 0 || !state.keys.same(&keys) {
                    tracing::info!(issuer = %self.name, keys = keys.len(), "took up the keys of {}", self.name);
                    state.generation += 1;
                    state.keys = Arc::new(keys);
                }
                state.due = Instant::now() + again_in;
            }
            Err(why) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut state.failing, true) {
                    let kept = if state.generation == 0 { "its tokens wait until they can" } else { "the last good ones stay" };
                    tracing::warn!(issuer = %self.name, "the keys of {} cannot be had, {kept}: {why:#}", self.name);
                }
                let pause = if state.generation == 0 { self.pace.while_empty } else { self.pace.after_failure };
                state.due = Instant::now() + pause;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
