//! What ingest counts, and how far it is behind the log.
//!
//! Owns: [`Metrics`]. Does not know: who scrapes.
//! Invariants: readings, records and dead letters count when their batch is in the store; what is behind is looked up at a scrape,
//! within a second, and goes on growing while nothing can be committed, because the age of what is in hand is known here.

use headwater_core::clock::{Clock, SystemClock};
use headwater_core::dead_letter::Reason;
use headwater_core::log::{Bounds, EventLog};
use headwater_core::metrics::{Counter, Gauge, Histogram, NUMBERS, Registry, SECONDS};
use headwater_core::store::{Batch, StoreError};
use headwater_core::time::{SECOND, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// How long is looked at the log for a scrape.
const LOOK: Duration = Duration::from_secs(1);

/// Why a commit was not made at the first try: a closed list.
const RETRIES: [&str; 6] = ["busy", "unavailable", "unknown", "fenced", "restored", "other"];

/// The role's handles. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    records: Counter,
    open: Counter,
    dead: Counter,
    letters: Vec<Counter>,
    batches: Histogram,
    commits: Histogram,
    retries: [Counter; RETRIES.len()],
    last_commit: Gauge,
    applied: Gauge,
    clock: Arc<dyn Clock>,
    progress: Arc<Mutex<Progress>>,
}

/// How far the partitions of this process are.
#[derive(Debug, Default)]
struct Progress {
    /// By partition, the next record to be applied; `None` = from the log's start.
    applied: BTreeMap<u32, Option<u64>>,
    /// When the oldest record that is in hand and not applied was received.
    in_hand: Option<Timestamp>,
}

/// What a batch is made of, beside what the store is told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Content {
    pub(crate) records: u64,
    /// When its newest record was received.
    pub(crate) newest: Option<Timestamp>,
}

impl Metrics {
    /// Makes the handles, and follows how far `log` is ahead.
    pub fn new(registry: &mut Registry, log: Arc<dyn EventLog>, clock: Arc<dyn Clock>) -> Self {
        let metrics = Self::counted(registry, clock);
        let lag = Lag {
            records: registry
                .gauge("headwater_ingest_lag_records", "Records of this process's partitions that are in the log and not applied"),
            seconds: registry.gauge("headwater_ingest_lag_seconds", "Age of the oldest of these records; 0: none"),
        };
        lag.forget();
        let of = metrics.clone();
        registry.source(LOOK, move || {
            let (metrics, log, lag) = (of.clone(), Arc::clone(&log), lag.clone());
            async move { metrics.look(log.as_ref(), &lag).await }
        });
        metrics
    }

    fn counted(registry: &mut Registry, clock: Arc<dyn Clock>) -> Self {
        let outcome = "Readings of applied records, by what became of them at first";
        let letters = "Dead letters that came through the log or were made by ingest";
        let retries = "Commits that did not succeed at the first try, by why";
        let outcome = |registry: &mut Registry, of| registry.counter_of("headwater_ingest_readings_total", outcome, &[("outcome", of)]);
        Self {
            records: registry.counter("headwater_ingest_records_total", "Records of the log that were applied, heartbeats included"),
            open: outcome(registry, "open"),
            dead: outcome(registry, "dead"),
            letters: Reason::ALL
                .iter()
                .map(|reason| registry.counter_of("headwater_ingest_dead_letters_total", letters, &[("reason", reason.as_str())]))
                .collect(),
            batches: registry.histogram("headwater_ingest_batch_readings", "Readings of a batch that was applied", NUMBERS),
            commits: registry.histogram("headwater_ingest_commit_duration_seconds", "Time of a commit that succeeded", SECONDS),
            retries: RETRIES.map(|reason| registry.counter_of("headwater_ingest_commit_retries_total", retries, &[("reason", reason)])),
            last_commit: registry
                .gauge("headwater_ingest_last_commit_timestamp_seconds", "When a batch was last applied; 0: not since the start"),
            applied: registry.heartbeat("applied"),
            clock,
            progress: Arc::default(),
        }
    }

    /// A try to commit has succeeded.
    pub(crate) fn committed(&self, took: Duration) {
        self.commits.observe(took.as_secs_f64());
    }

    /// A try to commit has failed.
    pub(crate) fn failed(&self, error: &StoreError) {
        let reason = match error {
            StoreError::Busy(_) => 0,
            StoreError::Unavailable(_) => 1,
            StoreError::Unknown(_) => 2,
            StoreError::Fenced { .. } => 3,
            StoreError::Restored(_) => 4,
            StoreError::Deadline | StoreError::Corrupt(_) | StoreError::Stopped(_) => 5,
        };
        self.retries[reason].inc();
    }

    /// A batch is in the store.
    pub(crate) fn applied(&self, batch: &Batch, content: Content) {
        let readings: usize = batch.blocks.iter().map(|block| block.len()).sum();
        self.records.inc_by(content.records);
        self.open.inc_by(readings as u64);
        self.dead.inc_by(batch.moves.iter().map(|step| step.dead).sum());
        for letter in batch.dead_letters.iter().filter(|letter| letter.part == 0) {
            if let Some(counter) = Reason::ALL.iter().position(|reason| *reason == letter.reason).and_then(|at| self.letters.get(at)) {
                counter.inc();
            }
        }
        self.batches.observe(readings as f64);
        self.last_commit.set(seconds(self.clock.now()));
        if let Some(newest) = content.newest {
            self.applied.raise(seconds(newest));
        }
        let mut progress = self.progress();
        for step in &batch.moves {
            if let Some(next) = progress.applied.get_mut(&step.to.partition) {
                *next = Some(step.to.next);
            }
        }
    }

    /// A partition is read from here on.
    pub(crate) fn begins(&self, partition: u32, next: Option<u64>) {
        self.progress().applied.insert(partition, next);
    }

    /// No partition is ours any more.
    pub(crate) fn owns_nothing(&self) {
        *self.progress() = Progress::default();
    }

    /// When the oldest record in hand was received.
    pub(crate) fn in_hand(&self, oldest: Option<Timestamp>) {
        self.progress().in_hand = oldest;
    }

    /// Looks at how far the log is ahead. Where it does not say, the age of what is in hand goes on growing.
    async fn look(&self, log: &dyn EventLog, lag: &Lag) {
        if self.progress().applied.is_empty() {
            return lag.forget();
        }
        let bounds = timeout(LOOK, log.bounds()).await;
        let behind = bounds.ok().and_then(Result::ok).map(|bounds| self.behind(&bounds));
        if let Some(behind) = &behind {
            lag.records.set_count(behind.iter().map(|(_, _, records)| records).sum());
        }
        let in_hand = self.progress().in_hand;
        match (in_hand, behind) {
            (_, Some(behind)) if behind.is_empty() => lag.seconds.set(0.0),
            (Some(oldest), _) => lag.seconds.set(self.age(oldest)),
            (None, Some(behind)) => {
                if let Ok(Some(oldest)) = timeout(LOOK, oldest(log, &behind)).await {
                    lag.seconds.set(self.age(oldest));
                }
            }
            (None, None) => {}
        }
    }

    /// The partitions of ours that are not applied to their end: partition, next record, records.
    fn behind(&self, bounds: &[Bounds]) -> Vec<(u32, u64, u64)> {
        let progress = self.progress();
        let of = |bounds: &Bounds| {
            let next = progress.applied.get(&bounds.partition)?.unwrap_or(bounds.start).max(bounds.start);
            (next < bounds.end).then_some((bounds.partition, next, bounds.end - next))
        };
        bounds.iter().filter_map(of).collect()
    }

    fn age(&self, of: Timestamp) -> f64 {
        seconds(self.clock.now().plus(of.micros().saturating_neg())).max(0.0)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Metrics {
    /// Counted for nobody.
    fn default() -> Self {
        Self::counted(&mut Registry::default(), Arc::new(SystemClock))
    }
}

#[derive(Clone)]
struct Lag {
    records: Gauge,
    seconds: Gauge,
}

impl Lag {
    /// Nothing is ours, or not yet.
    fn forget(&self) {
        self.records.forget();
        self.seconds.forget();
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.micros() as f64 / SECOND as f64
}

/// The least receive time of the records that are behind.
async fn oldest(log: &dyn EventLog, behind: &[(u32, u64, u64)]) -> Option<Timestamp> {
    let mut oldest = None;
    for (partition, next, _) in behind {
        let of_partition = log.oldest_from(*partition, *next).await.ok().flatten();
        oldest = oldest.into_iter().chain(of_partition).min();
    }
    oldest
}

#[cfg(test)]
mod tests;
