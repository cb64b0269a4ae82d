//! How many dead letters were retried, by what came of it.
//!
//! Owns: [`Tried`], the place where every retry is counted. Does not know: how counts are shown.

use headwater_core::dead_letter::RetryOutcome;
use headwater_core::metrics::{Counter, Registry};

const NAME: &str = "headwater_dead_letter_retries_total";
const HELP: &str = "Dead letters that were retried: accepted as a whole, or refused again, in part at least";

/// Counts since the start of the process. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Tried {
    /// Letters that were taken in, all of them.
    accepted: Counter,
    /// Letters of which something was refused again.
    rejected: Counter,
}

impl Tried {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let mut of = |outcome| registry.counter_of(NAME, HELP, &[("outcome", outcome)]);
        Self { accepted: of("accepted"), rejected: of("rejected") }
    }

    /// Counts one letter.
    pub(crate) fn count(&self, outcome: RetryOutcome) {
        let counter = match outcome {
            RetryOutcome::Accepted => &self.accepted,
            RetryOutcome::Partly | RetryOutcome::Rejected => &self.rejected,
        };
        counter.inc();
    }

    /// Accepted, rejected.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.accepted.get(), self.rejected.get())
    }
}
