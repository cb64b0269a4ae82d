//! What every door of the gateway shares: who is let in, and what must work for that.
//!
//! Owns: [`Door`], the state of all handlers, and the probes. Does not know: routes, formats.
//! Invariant: a request counts as begun before it is asked whether the gateway is stopping, so `drained` misses none.

use crate::append::{Appender, public_words};
use crate::body::{self, Body, BodyError};
use crate::clock_watch::ClockWatch;
use crate::content::{Coding, Format, letter_name};
use crate::intake::{Intake, Outcome, Parcel, Refusal, Sender};
use crate::{Config, Deps};
use axum::http::{HeaderValue, header};
use headwater_core::clock::Clock;
use headwater_core::time::Timestamp;
use headwater_web::{Error, Probe};
use headwater_wire::{Precision, Unreadable};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The state of the handlers.
pub(crate) struct Door {
    pub(crate) intake: Arc<Intake>,
    pub(crate) started: Timestamp,
    pub(crate) since: Instant,
    clock: Arc<dyn Clock>,
    clock_floor: Timestamp,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Door {
    pub(crate) fn new(config: Config, deps: Deps, tasks: TaskTracker, stop: CancellationToken) -> Self {
        let Deps { log, clock, decode_budget, clock_floor, health, metrics } = deps;
        let appender = Appender { log, health, tasks: tasks.clone(), wait: config.append_wait };
        let intake = Arc::new(Intake {
            config: Arc::new(config),
            clock: ClockWatch::new(Arc::clone(&clock), clock_floor, metrics.clone()),
            budget: decode_budget,
            appender,
            metrics,
            decoders: Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from)),
        });
        Self { intake, started: clock.now(), since: Instant::now(), clock, clock_floor, tasks, stop }
    }

    /// Lets a write in; it counts as begun until the token is dropped.
    ///
    /// # Errors
    /// 503 while the gateway stops, or the clock was never set.
    pub(crate) fn admit(&self) -> Result<TaskTrackerToken, Error> {
        let begun = self.tasks.token();
        if self.stop.is_cancelled() {
            let stopping = Error::busy("stopping", "the server is stopping", 1);
            return Err(stopping.header(header::CONNECTION, HeaderValue::from_static("close")));
        }
        self.intake.now()?;
        Ok(begun)
    }

    /// Reads a body, without its coding.
    ///
    /// # Errors
    /// A body that is not what its coding says becomes a dead letter first.
    pub(crate) async fn receive(
        &self,
        format: Format,
        precision: Precision,
        coding: Coding,
        body: axum::body::Body,
    ) -> Result<Body, Refusal> {
        let came = |bytes| self.intake.metrics.body(format, bytes);
        match body::read(&self.intake.config, &self.intake.budget, coding, body, came).await {
            Ok(body) => Ok(body),
            Err(BodyError::Refused(error)) => Err(error.into()),
            Err(BodyError::Broken { encoded, detail }) => {
                self.intake.bury(format, letter_name(format, coding, precision), encoded, &detail, self.intake.now()?).await?;
                Err(Refusal::Unreadable(Unreadable { detail, pointer: None }))
            }
        }
    }

    /// Takes a whole body in, as a task of its own: from here on a client that goes away changes nothing.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub(crate) async fn take(&self, format: Format, body: Body, sender: Sender) -> Result<Outcome, Refusal> {
        let intake = Arc::clone(&self.intake);
        let task = self.tasks.spawn(async move { intake.take(Parcel { format, body, sender }).await });
        task.await.map_err(Error::internal)?
    }

    /// Whether a write would be taken now.
    ///
    /// # Errors
    /// What does not work, in public words.
    pub(crate) async fn check(&self) -> Result<(), String> {
        self.check_clock()?;
        self.check_log().await
    }

    fn check_clock(&self) -> Result<(), String> {
        let now = self.clock.now();
        if now < self.clock_floor {
            return Err(format!("the clock says {now}, before this program was built"));
        }
        Ok(())
    }

    async fn check_log(&self) -> Result<(), String> {
        if self.stop.is_cancelled() {
            return Err("the gateway is stopping".to_owned());
        }
        self.intake.appender.log.writable().await.map_err(|problem| public_words(&problem).to_owned())
    }
}

/// What must work for the gateway to be ready: the clock, and the log.
pub(crate) fn probes(door: &Arc<Door>) -> Vec<Probe> {
    let (clock, log) = (Arc::clone(door), Arc::clone(door));
    vec![
        Probe::new("clock", move || std::future::ready(clock.check_clock())),
        Probe::new("log", move || {
            let log = Arc::clone(&log);
            async move { log.check_log().await }
        }),
    ]
}
