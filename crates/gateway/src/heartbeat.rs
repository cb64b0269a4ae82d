//! The heartbeat: a record without readings, put into the log now and then.
//!
//! Owns: when one is sent, and the partition that it goes to. Does not know: what becomes of it (ingest applies it with the
//! positions, and whoever reads them knows the receive time of the newest record that is applied).
//! Invariants: it counts nothing; one that could not be appended is given up and the next one is sent in its time, so heartbeats
//! never queue up behind a log that is full; none is sent while the clock was never set, nor after `stop`.

use crate::{Config, Deps};
use headwater_wire::record::encode_heartbeat;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// Sends one every `config.heartbeat` until `stop`; where there are to be none, returns at once.
pub async fn run(config: Config, deps: Deps, stop: CancellationToken) {
    let Some(every) = config.heartbeat else { return };
    let mut ticks = interval(every);
    // The one that was missed says nothing that the next one does not.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for beat in 0u64.. {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        send(&deps, beat, every).await;
    }
}

/// Sends the heartbeat of this number, and waits no longer than until the next one.
async fn send(deps: &Deps, beat: u64, every: Duration) {
    let now = deps.clock.now();
    if now < deps.clock_floor {
        return;
    }
    // The log spreads texts over its partitions, so in the long run each partition gets its share.
    let record = encode_heartbeat(now, deps.log.partition_of(&format!("heartbeat-{beat}")));
    match timeout(every, deps.log.append(vec![record])).await {
        Ok(Ok(())) => deps.metrics.sent(now),
        // Whoever writes readings is told of a log that takes nothing; this would only say it again.
        Ok(Err(problem)) => tracing::debug!(%problem, "a heartbeat was not sent"),
        Err(_) => tracing::debug!("a heartbeat was not sent in time"),
    }
}
