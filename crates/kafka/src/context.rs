//! What librdkafka has to say, in the program's log.
//!
//! Owns: levels, and a limit for what repeats (a broker that is away is told ten times a second). Does not know: what is done.
//! Invariant: of the same thing at most one line in [`PAUSE`], with the number of those left out.

use crate::producer::Call;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel as Level;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{debug, error, trace, warn};

/// At most one line of the same thing in this time.
const PAUSE: Duration = Duration::from_secs(10);
/// The most things that are told apart; beyond them all counts as the same.
const MOST_THINGS: usize = 64;

/// Says things, and the same thing not too often.
#[derive(Debug, Default)]
pub(crate) struct Words {
    said: Mutex<HashMap<String, (Instant, u64)>>,
    last_error: Mutex<Option<String>>,
}

impl Words {
    /// Whether something may be said now, and how often it was not said since the last time.
    fn allowed(&self, thing: &str, now: Instant) -> Option<u64> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let thing = if said.len() < MOST_THINGS || said.contains_key(thing) { thing } else { "…" };
        match said.get_mut(thing) {
            Some((at, left_out)) if now.saturating_duration_since(*at) < PAUSE => {
                *left_out += 1;
                None
            }
            Some((at, left_out)) => {
                *at = now;
                Some(std::mem::take(left_out))
            }
            None => {
                said.insert(thing.to_owned(), (now, 0));
                Some(0)
            }
        }
    }

    /// A warning about `thing`.
    pub(crate) fn warn(&self, thing: &str, words: &str) {
        match self.allowed(thing, Instant::now()) {
            Some(0) => warn!(target: "headwater_kafka", "{words}"),
            Some(left_out) => warn!(target: "headwater_kafka", left_out, "{words}"),
            None => {}
        }
    }

    /// The last error that librdkafka told, for a message that says why nothing works.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn log(&self, level: Level, facility: &str, message: &str) {
        match level {
            Level::Emerg | Level::Alert | Level::Critical => error!(target: "headwater_kafka", facility, "librdkafka: {message}"),
            Level::Error | Level::Warning => self.warn(facility, &format!("librdkafka: {facility}: {message}")),
            Level::Notice | Level::Info => debug!(target: "headwater_kafka", facility, "librdkafka: {message}"),
            Level::Debug => trace!(target: "headwater_kafka", facility, "librdkafka: {message}"),
        }
    }

    pub(crate) fn error(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        // The end of a partition is what reading back waits for.
        if code == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{error}: {reason}"));
        self.warn(&format!("{code:?}"), &format!("librdkafka: {error}: {reason}"));
    }
}

/// The context of every client that is not a member of a group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Context(pub(crate) Arc<Words>);

impl ClientContext for Context {
    fn log(&self, level: Level, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = Arc<Call>;

    fn delivery(&self, result: &DeliveryResult<'_>, call: Arc<Call>) {
        call.settle(result.as_ref().err().map(|(error, _)| error.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_said_once_in_a_while_with_a_count() {
        let words = Words::default();
        let start = Instant::now();
        assert_eq!(words.allowed("away", start), Some(0));
        assert_eq!(words.allowed("away", start + PAUSE / 2), None);
        assert_eq!(words.allowed("other", start + PAUSE / 2), Some(0));
        assert_eq!(words.allowed("away", start + PAUSE), Some(1));
    }

    #[test]
    fn no_number_of_different_things_grows_the_memory() {
        let words = Words::default();
        let now = Instant::now();
        let said = (0..1_000).filter(|n| words.allowed(&n.to_string(), now).is_some()).count();
        assert_eq!(said, MOST_THINGS + 1);
        assert_eq!(words.said.lock().unwrap().len(), MOST_THINGS + 1);
    }
}
