//! One request until its answer is final.
//!
//! Owns: sending it again, losing its answer on purpose, writing down what came. Does not know: when the next one is due.

use super::{Shared, Verdict, lock, verdict};
use crate::http::{Answer, Connection};
use crate::journal::Outcome;
use crate::stream::{Batch, Loss};
use anyhow::bail;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// After a lost connection: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A request on its way.
pub(super) struct Delivery {
    pub(super) shared: Arc<Shared>,
    pub(super) batch: Batch,
    /// The same however often it is sent.
    pub(super) body: Bytes,
    /// When it was to be sent.
    pub(super) due: Instant,
}

impl Delivery {
    /// Sends until the answer is final, or nobody waits any more: then the request stays counted as in flight.
    pub(super) async fn run(self) {
        let (mut loss, mut pause) = (self.batch.loss, FIRST_PAUSE);
        loop {
            let sent = tokio::select! {
                biased;
                () = self.shared.give_up.cancelled() => return,
                sent = self.attempt(loss) => sent,
            };
            let on_purpose = loss.take().is_some();
            let wait = match sent {
                Ok(_) | Err(_) if on_purpose => {
                    self.unknown(None, true);
                    Duration::ZERO
                }
                Ok(answer) => match self.answered(&answer) {
                    Some(wait) => wait,
                    None => return self.shared.deps.progress.ended(),
                },
                Err(_) => {
                    self.unknown(None, false);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    pause / 2
                }
            };
            tokio::select! {
                () = self.shared.give_up.cancelled() => return,
                () = sleep(wait) => {}
            }
        }
    }

    async fn attempt(&self, loss: Option<Loss>) -> anyhow::Result<Answer> {
        let deps = &self.shared.deps;
        let bearer = match (deps.bearer)() {
            Ok(bearer) => bearer,
            Err(why) => {
                self.shared.fail(why.context("sign a token"));
                bail!("there is no token");
            }
        };
        let idle = lock(&self.shared.idle).pop();
        let mut connection = match idle.filter(Connection::is_open) {
            Some(connection) => connection,
            None => Connection::open(&deps.target).await?,
        };
        let format = self.shared.config.format;
        let exchange = connection.post(&deps.target, &bearer, format.path(), format.content_type(), self.body.clone());
        let answer = match loss {
            Some(Loss::Cut(micros)) => timeout(Duration::from_micros(micros), exchange).await??,
            Some(Loss::Unheard) | None => exchange.await?,
        };
        if connection.is_open() {
            lock(&self.shared.idle).push(connection);
        }
        Ok(answer)
    }

    /// Takes an answer; how long to wait where it was not the last.
    fn answered(&self, answer: &Answer) -> Option<Duration> {
        let (all, good) = (self.batch.readings.len() as u64, self.batch.good().count() as u64);
        let (progress, status) = (&self.shared.deps.progress, Some(answer.status));
        match verdict(self.shared.config.format, answer, good, all - good) {
            Verdict::Taken(accepted, rejected) if (accepted, rejected) == (good, all - good) => {
                self.note(Outcome::Ack, status);
                progress.acked(accepted, rejected, self.due.elapsed());
                None
            }
            Verdict::Taken(accepted, rejected) => {
                self.note(Outcome::Unknown, status);
                let expected = format!("{good} accepted and {} rejected", all - good);
                progress
                    .problem(format!("request {}: {accepted} accepted and {rejected} rejected instead of {expected}", self.batch.number));
                None
            }
            Verdict::Refused(why) => {
                self.note(Outcome::Nack, status);
                progress.nacked(all);
                progress.problem(format!("request {} was refused: {why}", self.batch.number));
                None
            }
            Verdict::Never(why) => {
                self.note(Outcome::Nack, status);
                progress.nacked(all);
                self.shared.fail(anyhow::Error::msg(why));
                None
            }
            Verdict::Again(wait) => {
                self.unknown(status, false);
                Some(wait)
            }
        }
    }

    fn unknown(&self, status: Option<u16>, on_purpose: bool) {
        self.note(Outcome::Unknown, status);
        self.shared.deps.progress.unknown(on_purpose);
    }

    fn note(&self, outcome: Outcome, status: Option<u16>) {
        if let Err(why) = self.shared.note(|journal| journal.outcome(self.batch.number, outcome, status)) {
            self.shared.fail(why);
        }
    }
}
