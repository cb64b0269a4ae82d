//! The last stage of a record's way: questions see it.
//!
//! Owns: [`follow`]: looking, the way questions look, how far the log has been applied, and how long ago the newest applied record was received.
//! Does not know: heartbeats; a gateway sends one now and then, so that there is a new record even where no device sends anything.
//!
//! The store says up to which record a partition is applied; the log says when that record was received. So the delay that is measured is from
//! the receipt until the look that found it: up to [`EVERY`] more than the truth, never less.
//!
//! Invariants: one look at a time, each with an end; a store or log that does not answer is looked at again in its time; what moved while the
//! log was not asked is not measured later, when it would seem to have taken longer than it did.

use crate::Deps;
use crate::metrics::seconds;
use headwater_core::log::LogId;
use headwater_core::time::SECOND;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// How often is looked: a snapshot and one row a partition.
const EVERY: Duration = Duration::from_millis(500);
/// How often the log is asked at most: on Kafka an answer is a fetch. Heartbeats come more seldom, so none of an idle server is missed.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// How long a look may take.
const LOOK: Duration = Duration::from_secs(2);

/// Follows it, for ever.
pub async fn follow(deps: Deps) {
    let mut follower = Follower { log: deps.log.identity(), deps, seen: BTreeMap::new(), begun: false, last: 0, asked: None };
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match timeout(LOOK, follower.look()).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => tracing::debug!(why, "could not look how fresh answers are"),
            Err(_) => tracing::debug!("looking how fresh answers are took too long"),
        }
    }
}

struct Follower {
    deps: Deps,
    log: LogId,
    /// By partition, the next record to apply, when it was last looked.
    seen: BTreeMap<u32, u64>,
    /// Whether there was a look before: what was applied earlier says nothing about how long it takes now.
    begun: bool,
    /// The partition that was asked about last, and when.
    last: u32,
    asked: Option<Instant>,
}

impl Follower {
    async fn look(&mut self) -> Result<(), String> {
        let words = |error: &dyn std::fmt::Display| error.to_string();
        let positions = {
            let mut snapshot = self.deps.store.snapshot(LOOK).await.map_err(|error| words(&error))?;
            snapshot.positions().await.map_err(|error| words(&error))?
        };
        // What was found is seen from now on, whatever it takes to ask about it.
        let now = self.deps.clock.now();
        let of_log = positions.iter().filter(|position| position.log == self.log && position.next > 0);
        let current: BTreeMap<u32, u64> = of_log.map(|position| (position.partition, position.next)).collect();
        let moved: Vec<u32> =
            current.iter().filter(|(partition, next)| self.seen.get(partition) != Some(next)).map(|(partition, _)| *partition).collect();
        let (begun, last) = (std::mem::replace(&mut self.begun, true), self.last);
        self.seen = current;
        // One is enough: under load all of them move, and each in its turn is asked about.
        let Some(&partition) = moved.iter().find(|partition| **partition > last).or(moved.first()) else { return Ok(()) };
        if self.asked.is_some_and(|asked| asked.elapsed() < ASK_EVERY) {
            return Ok(());
        }
        (self.last, self.asked) = (partition, Some(Instant::now()));
        let newest = self.seen.get(&partition).map_or(0, |next| next - 1);
        let received = self.deps.log.received_at(partition, newest).await.map_err(|error| words(&error))?;
        if let Some(received) = received {
            self.deps.metrics.queryable.raise(seconds(received));
            if begun {
                let delay = now.micros().saturating_sub(received.micros()).max(0);
                self.deps.metrics.delay.observe(delay as f64 / SECOND as f64);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
