//! How many dead letters were retried, by what came of it.
//!
//! Owns: [`Tried`], the place where every retry is counted. Does not know: how counts are shown.

use headwater_core::dead_letter::RetryOutcome;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start of the process.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    /// Letters that were taken in, all of them.
    accepted: AtomicU64,
    /// Letters of which something was refused again.
    rejected: AtomicU64,
}

impl Tried {
    /// Counts one letter.
    pub(crate) fn count(&self, outcome: RetryOutcome) {
        let counter = match outcome {
            RetryOutcome::Accepted => &self.accepted,
            RetryOutcome::Partly | RetryOutcome::Rejected => &self.rejected,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Accepted, rejected.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.accepted.load(Ordering::Relaxed), self.rejected.load(Ordering::Relaxed))
    }
}
