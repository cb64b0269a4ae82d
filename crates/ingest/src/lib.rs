//! The role ingest: log → store.
//!
//! Owns: batching, registration of new series, the commit with its outcomes (applied, fenced, unknown, not now), resuming.
//! Does not know: which log, which store, HTTP, the clock (times were validated against the receive time, so that a replay
//! changes nothing).
//!
//! The life of a record here: `consume` takes it from the subscription, `decode` turns it into columns (`foreign`, where another
//! program than a gateway has put it there), `registry` gives its series their ids, `batch` gathers it with others, `commit` brings them into the store in one transaction and tells the
//! log what is durably applied. While one batch commits the next is decoded.
//!
//! Invariants: readings, dead letters and positions move together or not at all; everything else may repeat. Transient
//! faults wait and never make dead letters. What is held in memory is bounded: one delivery of the log, one batch being
//! built, one being committed, the cache of series.

mod batch;
mod commit;
mod consume;
mod decode;
mod foreign;
mod metrics;
mod registry;
#[cfg(test)]
mod tests;

pub use metrics::Metrics;

use headwater_core::health::Health;
use headwater_core::log::EventLog;
use headwater_core::series::{MAX_ID_BYTES, check_tag};
use headwater_core::store::{Ingestion, SeriesLimits};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What can be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A batch closes this many milliseconds after its first record: the freshness of answers. 500 ms keep commits few.
    pub batch_ms: u64,
    /// … or at this many readings: 20 bytes each in memory, and a commit of some tens of milliseconds.
    pub batch_readings: usize,
    /// Above this many open readings ingest waits for sealing. 20 million take some 100 MB in the store.
    pub open_readings: u64,
    /// The most series of one device; readings of more become dead letters `series_limit`.
    pub series_per_device: u64,
    /// The most series of all devices.
    pub series_total: u64,
    /// Line protocol that other programs put into the log: the tags that can name the device; the first one that is present
    /// does, and leaves the tag set. As `gateway.device_tags`, which is about what the gateway receives.
    pub device_tags: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            batch_ms: 500,
            batch_readings: 200_000,
            open_readings: 20_000_000,
            series_per_device: 10_000,
            series_total: 2_000_000,
            device_tags: ["device", "device_id", "entity_id", "dev_eui", "host"].map(String::from).to_vec(),
        }
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
        within("batch_ms", self.batch_ms, 1, 60_000);
        // A block holds at most 4,194,304 readings, and a batch may go beyond the limit by one record: at most 2,097,153
        // readings (`foreign`).
        within("batch_readings", self.batch_readings as u64, 1, 2_000_000);
        within("open_readings", self.open_readings, 1, u64::MAX);
        within("series_per_device", self.series_per_device, 1, u64::from(u32::MAX));
        within("series_total", self.series_total, 1, u64::from(u32::MAX));
        for (i, tag) in self.device_tags.iter().enumerate() {
            if check_tag(tag, "-").is_err() {
                problems.push(format!("device_tags[{i}] = {tag:?}: a tag name has 1 to {MAX_ID_BYTES} bytes and no control characters"));
            }
            if self.device_tags[..i].contains(tag) {
                problems.push(format!("device_tags[{i}] = {tag:?} stands twice"));
            }
        }
        problems
    }

    const fn batch_age(&self) -> Duration {
        Duration::from_millis(self.batch_ms)
    }

    const fn limits(&self) -> SeriesLimits {
        SeriesLimits { per_device: self.series_per_device, total: self.series_total }
    }
}

/// What the role works with.
#[derive(Clone)]
pub struct Deps {
    /// Where records come from.
    pub log: Arc<dyn EventLog>,
    /// Where they go.
    pub store: Arc<dyn Ingestion>,
    /// Where the role says what it waits for.
    pub health: Health,
    /// What it counts.
    pub metrics: Metrics,
}

/// The name of the group of readers that ingest belongs to.
pub const GROUP: &str = "headwater-ingest";

/// Works until `stop`; then commits what the log holds at that moment (within ten seconds; the rest stays in the log, and
/// nothing of it is lost) and returns.
///
/// # Errors
/// When the log or the store says that a person must look: another log than the stored position's, damage, a lost promise
/// of durability. Everything transient is waited for.
pub async fn run(config: Config, deps: Deps, stop: CancellationToken) -> anyhow::Result<()> {
    consume::Consumer::new(config, deps).run(stop).await
}
