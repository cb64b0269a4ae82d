//! The loop: looks at what is open and does what is due.
//!
//! Owns: rounds, waiting, what is said of damaged shards. Does not know: how a step is made, when a shard is due.
//!
//! Invariants: a round is finite (no shard keeps the others waiting, however fast readings come); a damaged shard is told once, left alone
//! for a while, and stops no other.

use crate::policy::{self, Work};
use crate::work::{Pause, Sealer, Step, Trouble};
use crate::{Config, Deps, work};
use anyhow::Context;
use headwater_core::series::Shard;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

/// Names of conditions.
pub(crate) const WAITING: &str = "rollup";
pub(crate) const DAMAGED: &str = "rollup-damaged";

/// How often in a row another sealer may come first before the shard is left to it until the next round.
const LOST_TRIES: u32 = 8;
/// When a damaged shard is looked at again.
const DAMAGED_PAUSE: Duration = Duration::from_secs(60);
/// Damaged shards that are told with their reasons.
const MOST_TOLD: usize = 3;

struct Damage {
    why: String,
    again: Instant,
}

pub(crate) struct Role {
    sealer: Sealer,
    deps: Deps,
    interval: Duration,
    /// How long a damaged shard is left alone.
    pub(crate) damaged_pause: Duration,
    damaged: BTreeMap<Shard, Damage>,
}

impl Role {
    pub(crate) fn new(config: &Config, deps: Deps) -> Self {
        let interval = Duration::from_millis(config.interval_ms);
        Self { sealer: Sealer::new(deps.clone(), config.budget()), deps, interval, damaged_pause: DAMAGED_PAUSE, damaged: BTreeMap::new() }
    }

    /// Works until the store says that only a restart helps.
    pub(crate) async fn work(mut self) -> anyhow::Result<()> {
        let mut pause = Pause::new();
        loop {
            match self.round().await {
                Ok(progress) => {
                    self.deps.health.working(WAITING);
                    pause.over();
                    if !progress {
                        tokio::time::sleep(self.interval).await;
                    }
                }
                Err(Trouble::Stopped(error)) => return Err(error).context("seal what is open"),
                Err(Trouble::Wait(error)) => self.wait(&mut pause, &error.to_string()).await,
                Err(Trouble::Damaged(why)) => self.wait(&mut pause, &why).await,
            }
        }
    }

    async fn wait(&self, pause: &mut Pause, why: &str) {
        self.deps.health.waiting(WAITING, format!("cannot seal: {why}"));
        if pause.tells() {
            warn!("waiting to seal: {why}");
        }
        pause.wait().await;
    }

    /// Does once what is due now; says whether anything was done.
    async fn round(&mut self) -> Result<bool, Trouble> {
        let plan = policy::plan(&self.sealer.backlog().await?, self.deps.clock.now());
        self.forget_healed(&plan);
        let mut progress = false;
        for (shard, work) in plan {
            if self.damaged.get(&shard).is_some_and(|damage| damage.again > Instant::now()) {
                continue;
            }
            match self.shard(shard, work).await {
                Ok(done) => {
                    progress |= done;
                    if self.damaged.remove(&shard).is_some() {
                        info!(shard = shard.0, "shard {} can be sealed again", shard.0);
                        self.tell_damaged();
                    }
                }
                Err(Trouble::Damaged(why)) => self.note_damage(shard, why),
                Err(other) => return Err(other),
            }
        }
        Ok(progress)
    }

    /// Makes steps until the work of one shard is done; says whether any was made.
    async fn shard(&self, shard: Shard, work: Work) -> Result<bool, Trouble> {
        let Work::Seal(mut wanted) = work else {
            return Ok(matches!(self.sealer.merge(shard).await?, Step::Done(_)));
        };
        let (mut progress, mut lost) = (false, 0);
        while wanted > 0 && lost < LOST_TRIES {
            match self.sealer.seal(shard).await? {
                Step::Done(outcomes) => {
                    (progress, lost) = (true, 0);
                    wanted = wanted.saturating_sub(work::settled(outcomes));
                }
                Step::Nothing => break,
                Step::Lost => lost += 1,
            }
        }
        if lost == LOST_TRIES {
            debug!(shard = shard.0, "leaving shard {} to another sealer", shard.0);
        }
        Ok(progress)
    }

    fn note_damage(&mut self, shard: Shard, why: String) {
        let again = Instant::now() + self.damaged_pause;
        if self.damaged.get(&shard).is_none_or(|known| known.why != why) {
            error!(shard = shard.0, "shard {} cannot be sealed, the others go on: {why}", shard.0);
        }
        self.damaged.insert(shard, Damage { why, again });
        self.tell_damaged();
    }

    /// A damaged shard for which there is nothing to do when it would be looked at again has been sealed by somebody else.
    fn forget_healed(&mut self, plan: &[(Shard, Work)]) {
        let (before, now) = (self.damaged.len(), Instant::now());
        self.damaged.retain(|shard, damage| damage.again > now || plan.iter().any(|(planned, _)| planned == shard));
        if self.damaged.len() != before {
            self.tell_damaged();
        }
    }

    fn tell_damaged(&self) {
        if self.damaged.is_empty() {
            self.deps.health.working(DAMAGED);
            return;
        }
        let told: Vec<String> = self
            .damaged
            .iter()
            .take(MOST_TOLD)
            .map(|(shard, damage)| format!("shard {} cannot be sealed: {}", shard.0, damage.why))
            .collect();
        let more = match self.damaged.len().saturating_sub(MOST_TOLD) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        self.deps.health.waiting(DAMAGED, told.join("; ") + &more);
    }
}
