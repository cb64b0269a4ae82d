//! Opening the log and the store, and waiting for what is on other machines and away.
//!
//! Owns: trying again, and what is answered meanwhile. Does not know: which backends there are.
//!
//! A server that would end because its database restarts at the same moment would be restarted again and again, and would tell its operators
//! nothing. So it waits, as every role does later: `/livez` is 200, `/readyz` says what is waited for, everything else is 503 with `Retry-After`.
//! Invariants: only what passes by itself is waited for; the port is taken once, so that nobody is refused between waiting and working.

use crate::config::Checked;
use crate::lifecycle::Stop;
use crate::run::bind;
use crate::wiring::{self, Backends};
use anyhow::Context;
use headwater_core::health::Health;
use headwater_core::log::LogError;
use headwater_core::store::StoreError;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The first pause between two tries; each is twice the one before, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// What a server starts with.
pub(crate) struct Opened {
    /// The log and the store.
    pub(crate) backends: Backends,
    /// The port, where it was taken already.
    pub(crate) listener: Option<TcpListener>,
}

/// Opens what the configuration names; `None` when it was told to stop while it waited.
///
/// # Errors
/// What does not pass by itself.
pub(crate) async fn open(settings: &Checked, stop: &Stop) -> anyhow::Result<Option<Opened>> {
    match wiring::open(settings).await {
        Ok(backends) => Ok(Some(Opened { backends, listener: None })),
        Err(why) if passes(&why) => wait(settings, stop, why).await,
        Err(why) => Err(why),
    }
}

/// Whether waiting helps.
fn passes(why: &anyhow::Error) -> bool {
    let log = |cause: &LogError| cause.is_transient();
    let store = |cause: &StoreError| cause.is_transient();
    why.chain().any(|cause| cause.downcast_ref().is_some_and(log) || cause.downcast_ref().is_some_and(store))
}

async fn wait(settings: &Checked, stop: &Stop, why: anyhow::Error) -> anyhow::Result<Option<Opened>> {
    let (health, began) = (Health::default(), Instant::now());
    let (room, listener) = WaitingRoom::open(settings, stop, &health).await?;
    let tried = tokio::select! {
        tried = try_again(settings, &health, why) => tried.map(Some),
        () = stop.soft.cancelled() => Ok(None),
    };
    room.close().await;
    let Some(backends) = tried? else { return Ok(None) };
    info!("the log and the store are there after {} s", began.elapsed().as_secs());
    Ok(Some(Opened { backends, listener: Some(listener) }))
}

async fn try_again(settings: &Checked, health: &Health, mut why: anyhow::Error) -> anyhow::Result<Backends> {
    let mut pause = FIRST_PAUSE;
    loop {
        health.waiting("start", format!("{why:#}"));
        warn!(retry_ms = pause.as_millis() as u64, "cannot start yet, trying again: {why:#}");
        sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
        match wiring::open(settings).await {
            Ok(backends) => return Ok(backends),
            Err(again) if passes(&again) => why = again,
            Err(other) => return Err(other),
        }
    }
}

/// What answers meanwhile.
struct WaitingRoom {
    over: CancellationToken,
    serving: JoinHandle<anyhow::Result<()>>,
}

impl WaitingRoom {
    /// Answers on the port of the configuration; gives the port for later, too.
    async fn open(settings: &Checked, stop: &Stop, health: &Health) -> anyhow::Result<(Self, TcpListener)> {
        let port = bind(settings).await?.into_std().context("take the listener over")?;
        let twin = port.try_clone().context("share the listener")?;
        let (here, later) = (TcpListener::from_std(twin).context("listen")?, TcpListener::from_std(port).context("listen")?);
        let (app, over) = (headwater_web::waiting(health.clone(), &settings.http), CancellationToken::new());
        let serving = tokio::spawn(headwater_web::serve(here, app, settings.http.clone(), over.clone(), stop.hard.child_token()));
        Ok((Self { over, serving }, later))
    }

    async fn close(self) {
        self.over.cancel();
        match self.serving.await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => warn!("could not answer while waiting: {why:#}"),
            Err(why) => warn!("could not answer while waiting: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_by_itself_is_waited_for() {
        let away = || LogError::Unavailable("no broker answered".to_owned());
        assert!(passes(&anyhow::Error::from(away()).context("open the log")));
        assert!(passes(&anyhow::Error::from(StoreError::Busy("too many connections".to_owned()))));
        assert!(!passes(&anyhow::Error::from(StoreError::Stopped("a newer schema".to_owned()))));
        assert!(!passes(&anyhow::Error::from(LogError::Corrupt("compaction".to_owned())).context("open the log")));
        assert!(!passes(&anyhow::anyhow!("the data directory is in use")));
    }
}
