//! The role gateway: devices → log.
//!
//! Owns: the doors (`POST /v1/readings`, InfluxDB's write routes and their side routes), the limits on what comes through them,
//! what is answered, and the way from a body to records of the log, which [`Readmission`] opens to what was refused before. Does not know: which log, what becomes of a record, tokens
//! (the kit in `web` checks them first and says who calls), the bytes of formats and records (`wire` does).
//!
//! Follow a reading: `readings` or `influx` (the door) → `body` (read, decompressed, within limits) → `intake` (decoded,
//! refused items made dead letters, records) → `append` (durable) → `answer`. Beside that, `heartbeat` puts a record without readings
//! into the log now and then, for whoever watches how long the way to the answers is.
//!
//! Invariants: a success is answered only after the log said that every record of the request is durable; everything refused
//! has a dead letter in the same append; nothing transient is ever answered with a 4xx; every request's memory is reserved in
//! the process-wide budget before it is used.

mod answer;
mod append;
mod body;
mod clock_watch;
mod config;
mod content;
mod door;
mod estimate;
mod heartbeat;
mod influx;
mod influx_side;
mod intake;
mod metrics;
mod readings;
mod readmission;
mod refusals;
#[cfg(test)]
mod tests;
mod unpack;

pub use config::Config;
pub use heartbeat::run as send_heartbeats;
pub use metrics::Metrics;
pub use readmission::Readmission;

use door::Door;
use headwater_core::clock::Clock;
use headwater_core::health::Health;
use headwater_core::log::EventLog;
use headwater_core::time::Timestamp;
use headwater_web::{Budget, Face};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the role works with.
#[derive(Clone)]
pub struct Deps {
    /// Where records go.
    pub log: Arc<dyn EventLog>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The memory for bodies, shared by the whole process.
    pub decode_budget: Arc<Budget>,
    /// The time before which a clock cannot be right: when this program was built.
    pub clock_floor: Timestamp,
    /// Where the role says what it is waiting for.
    pub health: Health,
    /// What it counts.
    pub metrics: Metrics,
}

/// The role, ready to be served.
pub struct Gateway {
    /// Its routes and probes.
    pub face: Face,
    tasks: TaskTracker,
}

impl Gateway {
    /// Waits until every request that came before the stop is answered and every append that began has ended.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Builds the role's face. After `stop` is cancelled new writes are answered 503; those that had begun finish.
pub fn face(config: Config, deps: Deps, stop: CancellationToken) -> Gateway {
    let tasks = TaskTracker::new();
    let door = Arc::new(Door::new(config, deps, tasks.clone(), stop));
    let router = readings::routes().merge(influx::routes()).merge(influx_side::routes()).with_state(Arc::clone(&door));
    Gateway { face: Face { role: "gateway", router, probes: door::probes(&door) }, tasks }
}
