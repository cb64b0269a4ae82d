//! Gets records into the log: waits while the log pushes back, and says when they are durable.
//!
//! Owns: [`Appender`]: the retries, their deadline, and the tasks in which appends run. Does not know: what is in a record.
//! Invariants: `Ok` only after [`EventLog::append`] returned `Ok`; an append that began is never cancelled, whatever becomes of
//! the request; after the deadline none begins.

use headwater_core::failpoint;
use headwater_core::health::Health;
use headwater_core::log::{EventLog, LogError, Record};
use headwater_web::{Error, Reservation};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::task::TaskTracker;

/// What the gateway's condition is called in [`Health`].
const CONDITION: &str = "gateway";
/// The first pause after a refusal; doubled from then on.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause: short enough that a log with room again is used at once.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// When to come back after the log pushed back for the whole wait.
const RETRY_AFTER_BUSY: u32 = 5;
/// When to come back to a log that only a restart helps.
const RETRY_AFTER_STOPPED: u32 = 30;

/// The way into the log.
#[derive(Clone)]
pub(crate) struct Appender {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) health: Health,
    pub(crate) tasks: TaskTracker,
    pub(crate) wait: Duration,
}

impl Appender {
    /// Appends all records with one call and returns when they are durable. `held` is given back when the append has ended,
    /// even if nobody waits for it any more.
    ///
    /// # Errors
    /// 503 with `Retry-After`: nothing is claimed (an append whose answer came too late may still have happened; keys make it
    /// harmless to send again).
    pub(crate) async fn append(&self, records: Vec<Record>, held: Reservation) -> Result<(), Error> {
        let deadline = Instant::now() + self.wait;
        let appender = self.clone();
        let task = self.tasks.spawn(async move {
            let result = appender.attempts(records, deadline).await;
            drop(held);
            result
        });
        match timeout_at(deadline, task).await {
            Ok(Ok(result)) => result.map_err(refusal),
            Ok(Err(panic)) => Err(Error::internal(panic)),
            Err(_) => Err(refusal(LogError::Busy("an append takes longer than requests may wait".to_owned()))),
        }
    }

    /// Tries until the log takes the records, it cannot, or the deadline has come. While it waits, the role's condition says so.
    async fn attempts(&self, records: Vec<Record>, deadline: Instant) -> Result<(), LogError> {
        let mut pause = FIRST_PAUSE;
        loop {
            failpoint::reach("gateway.before_append");
            match self.log.append(records.clone()).await {
                Err(problem) if problem.is_transient() && Instant::now() + pause < deadline => {
                    self.health.waiting(CONDITION, public_words(&problem));
                    sleep_until(Instant::now() + pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(problem) => {
                    self.health.working(CONDITION);
                    return Err(problem);
                }
                Ok(()) => {
                    self.health.working(CONDITION);
                    failpoint::reach("gateway.before_ack");
                    return Ok(());
                }
            }
        }
    }
}

/// The answer to a request whose records the log did not take. Logged by the kit with the request's id, once; a log that has
/// stopped has said so itself.
fn refusal(problem: LogError) -> Error {
    let detail = format!("{}; nothing of this request is acknowledged", public_words(&problem));
    let error = if problem.is_transient() {
        Error::busy("log_busy", detail, RETRY_AFTER_BUSY)
    } else {
        Error::busy("log_stopped", detail, RETRY_AFTER_STOPPED)
    };
    error.source(problem)
}

/// What strangers are told of a problem of the log: its kind.
pub(crate) const fn public_words(problem: &LogError) -> &'static str {
    match problem {
        LogError::Busy(_) => "the log is full",
        LogError::Unavailable(_) => "the log is unavailable",
        LogError::Corrupt(_) => "the log is not what it must be",
        LogError::Stopped(_) => "the log has stopped",
    }
}
