//! `headwater up --demo`: a server with a fleet of its own, to look at.
//!
//! Owns: which fleet, and the line that tells how it goes. Does not know: how a server runs, what a fleet measures.
//! Invariant: the fleet writes as any device does, over HTTP with a token; a demonstration never uses another data directory
//! than its own unless told to.

use crate::config::Checked;
use crate::keys::Keys;
use crate::token::{self, Wanted};
use crate::{output, ready};
use anyhow::{Context, bail};
use headwater_core::clock::{Clock, SystemClock};
use headwater_core::time::SECOND;
use headwater_simulator::faults::Faults;
use headwater_simulator::fleet::Fleet;
use headwater_simulator::http::{Connection, Target};
use headwater_simulator::load::{self, Bearer, Config, Deps};
use headwater_simulator::report::Counts;
use headwater_web::{Scope, Scopes};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Where a demonstration keeps its data.
pub(crate) const DATA_DIR: &str = "headwater-demo";

/// Always the same fleet.
const SEED: u64 = 1;
const DEVICES: u32 = 1_000;
const METRICS: usize = 2;
const INTERVAL: i64 = 10 * SECOND;
/// Small requests, as devices send them.
const BATCH: usize = 20;
/// What is still under way when the server stops is not waited for: the server refuses it by then.
const PATIENCE: Duration = Duration::from_millis(200);

/// The life of the tokens that the fleet signs for itself; it signs another after half of it.
const TTL: Duration = Duration::from_mins(10);
/// Where there is no terminal, a line this often.
const EVERY: Duration = Duration::from_secs(10);

/// Sends to the server at `address`, which runs in this process, until `stop`.
pub(crate) async fn run(settings: Checked, keys: Arc<Keys>, address: SocketAddr, stop: CancellationToken) -> anyhow::Result<()> {
    let target = Target::parse(&format!("http://{}", ready::reachable(address))).map_err(anyhow::Error::msg)?;
    let deps = Deps { target, bearer: bearer(settings, keys)?, progress: Arc::default() };
    let fleet = Fleet { seed: SEED, devices: DEVICES, metrics: METRICS, start: SystemClock.now(), interval: INTERVAL };
    let faults = Faults::a_little_of_everything();
    output::message(&format!(
        "  demonstration   {DEVICES} sensors measure {} every {} s; what goes wrong on the way: {faults}\n",
        fleet.metrics().iter().map(|metric| metric.name).collect::<Vec<_>>().join(" and "),
        INTERVAL / SECOND,
    ));
    let config = Config { faults, batch: BATCH, patience: PATIENCE, ..Config::new(fleet) };
    let sending = load::run(config, deps.clone(), stop.clone());
    tokio::select! {
        sent = sending => sent.context("run the fleet of the demonstration").map(drop)?,
        () = tell(&deps) => {}
    }
    output::end_live();
    // The server ends by its own order, and a task that ends before it would look like one that failed.
    std::future::pending().await
}

/// Signs tokens with the server's key.
fn bearer(settings: Checked, keys: Arc<Keys>) -> anyhow::Result<Bearer> {
    if !keys.ring.signs() {
        bail!("--demo needs the private part of {}, to sign the tokens of its sensors", settings.key_file().display());
    }
    let current: Mutex<Option<(String, Instant)>> = Mutex::default();
    Ok(Arc::new(move || {
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        let ttl = TTL.min(settings.auth.max_ttl);
        if let Some((bearer, signed)) = &*current
            && signed.elapsed() < ttl / 2
        {
            return Ok(bearer.clone());
        }
        let wanted = Wanted { subject: "demo", scopes: Scopes::from(Scope::WriteReadings), devices: None, ttl };
        let signed = keys.ring.with_signing(|key| token::sign(key, &settings, wanted)).context("there is no key")?;
        let bearer = format!("Bearer {}", signed?);
        *current = Some((bearer.clone(), Instant::now()));
        Ok(bearer)
    }))
}

/// Tells how it goes, for ever: on a terminal each second in one line, else in the log.
async fn tell(deps: &Deps) {
    let (mut second, mut last, mut told) = (interval(Duration::from_secs(1)), Counts::default(), Instant::now());
    let (mut since, mut connection) = (last, None);
    second.tick().await;
    loop {
        second.tick().await;
        let counts = deps.progress.counts();
        if output::messages_on_terminal() {
            let status = status(deps, &mut connection).await;
            output::live(&line(&counts, counts.acked - last.acked, status.as_ref()));
        } else if told.elapsed() >= EVERY {
            let status = status(deps, &mut connection).await.unwrap_or_default();
            let rate = (counts.acked - since.acked) as f64 / told.elapsed().as_secs_f64();
            let (lag_seconds, in_flight) = (status["lag_seconds"].as_f64(), status["in_flight"].as_u64());
            info!(
                readings_per_second = rate.round(),
                lag_seconds,
                in_flight,
                accepted = counts.acked,
                rejected = counts.refused,
                "the demonstration goes on"
            );
            (told, since) = (Instant::now(), counts);
        }
        last = counts;
    }
}

/// `/v1/status`; `None` while the server does not answer.
async fn status(deps: &Deps, connection: &mut Option<Connection>) -> Option<Value> {
    let bearer = (deps.bearer)().ok()?;
    let mut open = match connection.take().filter(Connection::is_open) {
        Some(open) => open,
        None => Connection::open(&deps.target).await.ok()?,
    };
    let answer = open.get(&deps.target, &bearer, "/v1/status").await.ok().filter(|answer| answer.status == 200)?;
    *connection = Some(open);
    serde_json::from_slice(&answer.body).ok()
}

/// Short enough for 80 columns: a line that wraps cannot be drawn over.
fn line(counts: &Counts, rate: u64, status: Option<&Value>) -> String {
    let Some(status) = status else { return format!("{rate} readings/s · the server does not answer") };
    let lag = status["lag_seconds"].as_f64().unwrap_or_default();
    let in_flight = status["in_flight"].as_u64().unwrap_or_default();
    format!("{rate} readings/s · fresh to {lag:.1} s · {in_flight} in flight · {} accepted, {} rejected", counts.acked, counts.refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_line_tells_rate_freshness_and_what_is_in_flight() {
        let counts = Counts { acked: 1234, refused: 5, ..Counts::default() };
        let status = json!({ "lag_seconds": 0.42, "in_flight": 3 });
        let expected = "200 readings/s · fresh to 0.4 s · 3 in flight · 1234 accepted, 5 rejected";
        assert_eq!(line(&counts, 200, Some(&status)), expected);
        assert!(line(&counts, 0, None).contains("does not answer"));
    }
}
