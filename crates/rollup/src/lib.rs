//! The role rollup: store → store. Open readings become chunks and rollups.
//!
//! Owns: which shard is sealed when (`policy`), a step for a shard (`work`), the rounds (`role`), sealing everything for whoever asks
//! (`everything`, and `face`: `POST /v1/seal`); and that dead letters that are too old go (`letters`). Does not know: which store; how chunks and rollups are made (`core::seal`, pure); the log;
//! what is answered to questions, which is the same sealed or not.
//!
//! Invariants: everything that is written is load → pure function → replace, so any number of sealers may work on one store, and a sealer
//! that is killed at any instant leaves nothing to repair; what is held in memory is bounded by one load.

mod everything;
mod face;
mod letters;
mod metrics;
mod policy;
mod role;
#[cfg(test)]
mod tests;
mod work;

pub use face::face;
pub use letters::{Letters, keep_letters};
pub use metrics::Metrics;
pub use work::Turn;

use headwater_core::clock::Clock;
use headwater_core::health::Health;
use headwater_core::seal::Outcomes;
use headwater_core::store::{LoadBudget, Sealing};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Whoever waits for everything waits for no clock.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What can be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How often is looked at what is due, in milliseconds, while nothing is.
    pub interval_ms: u64,
    /// The open readings of one step. 200,000 take some 10 MB in memory and keep a replacement near 100 ms.
    pub step_readings: u64,
    /// … and the bytes of the chunks and rollups that they touch.
    pub step_bytes: u64,
    /// How long `POST /v1/seal` works before it answers that there is more. Less than clients wait for an answer.
    #[serde(with = "headwater_web::duration")]
    pub seal_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { interval_ms: 1_000, step_readings: 200_000, step_bytes: 64 << 20, seal_timeout: Duration::from_secs(60) }
    }
}

impl Config {
    /// Everything that is wrong with it, each with its key.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut within = |key: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                problems.push(format!("{key} = {value} must lie between {least} and {most}"));
            }
        };
        within("interval_ms", self.interval_ms, 10, 3_600_000);
        within("step_readings", self.step_readings, 1_000, 4_000_000);
        within("step_bytes", self.step_bytes, 1 << 20, 1 << 30);
        if !(Duration::from_secs(1)..=Duration::from_hours(1)).contains(&self.seal_timeout) {
            problems.push(format!("seal_timeout: {} must lie between 1s and 1h", headwater_web::duration::print(self.seal_timeout)));
        }
        problems
    }

    const fn budget(&self) -> LoadBudget {
        LoadBudget { readings: self.step_readings, bytes: self.step_bytes }
    }
}

/// What the role works with.
#[derive(Clone)]
pub struct Deps {
    /// What is sealed.
    pub store: Arc<dyn Sealing>,
    /// What time it is, for the age of blocks and the receive time of conflicts.
    pub clock: Arc<dyn Clock>,
    /// Where the role says what it waits for, and which shards are damaged.
    pub health: Health,
    /// One for the role and its face.
    pub turn: Turn,
    /// What it counts.
    pub metrics: Metrics,
}

/// Seals all that is open now, for as long as that takes, and says what became of the readings.
///
/// # Errors
/// When a shard is damaged (all others are sealed then), or the store has stopped, or `stop` came first.
pub async fn seal_everything(config: &Config, deps: Deps, stop: CancellationToken) -> anyhow::Result<Outcomes> {
    let sealer = work::Sealer::new(deps, config.budget());
    let limit = everything::Limit { deadline: Instant::now() + FOR_EVER, stop };
    let mut everything = everything::Everything::default();
    match everything.seal(&sealer, &limit).await? {
        everything::End::Unfinished => anyhow::bail!("sealing was stopped"),
        everything::End::Sealed(_) if !everything.damaged.is_empty() => {
            let shards: Vec<String> = everything.damaged.iter().map(|shard| shard.0.to_string()).collect();
            anyhow::bail!("stored bytes of the shards {} are damaged; `headwater verify` says where", shards.join(", "))
        }
        everything::End::Sealed(_) => Ok(everything.outcomes),
    }
}

/// Works until `stop`, then returns at once: a step that is cut short has changed nothing, or all that it wanted.
///
/// # Errors
/// When the store can no longer promise durability. Everything transient is waited for, and a damaged shard stops no other.
pub async fn run(config: Config, deps: Deps, stop: CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        () = stop.cancelled() => {}
        ended = role::Role::new(&config, deps).work() => ended?,
    }
    info!("rollup has stopped");
    Ok(())
}
