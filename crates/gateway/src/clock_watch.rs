//! Looks at the clock for every request: refuses one that was never set, and reports when it steps back.
//!
//! Owns: [`ClockWatch`]. Does not know: requests.
//! Invariant: a step back is a warning, once for each step, and changes no answer; a clock before the build of this program
//! cannot be right, and a reading received then would be kept with a wrong time for ever.

use crate::metrics::Metrics;
use headwater_core::clock::Clock;
use headwater_core::time::{SECOND, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// A smaller step back is what keeping a clock in time looks like, or two threads that asked at once.
const STEP: i64 = SECOND;

/// The clock, watched.
pub(crate) struct ClockWatch {
    clock: Arc<dyn Clock>,
    floor: Timestamp,
    last: AtomicI64,
    metrics: Metrics,
}

impl ClockWatch {
    pub(crate) fn new(clock: Arc<dyn Clock>, floor: Timestamp, metrics: Metrics) -> Self {
        Self { clock, floor, last: AtomicI64::new(i64::MIN), metrics }
    }

    /// Now.
    ///
    /// # Errors
    /// What is wrong, when the clock stands before the floor.
    pub(crate) fn now(&self) -> Result<Timestamp, String> {
        let now = self.clock.now();
        if let Some(step) = self.stepped_back(now) {
            self.metrics.stepped_back();
            tracing::warn!(now = %now, seconds = step / SECOND, "the clock of this machine stepped back; readings without a time are stamped with it");
        }
        if now < self.floor {
            return Err(format!("the clock of this machine says {now}, before this program was built ({}); set the clock", self.floor));
        }
        Ok(now)
    }

    /// By how much the clock went back since it was last asked, when that is a step.
    fn stepped_back(&self, now: Timestamp) -> Option<i64> {
        let last = self.last.swap(now.micros(), Ordering::Relaxed);
        let step = last.saturating_sub(now.micros());
        (step >= STEP).then_some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::clock::ManualClock;

    #[test]
    fn a_step_back_is_seen_once() {
        let watch = ClockWatch::new(Arc::new(ManualClock::default()), Timestamp(0), Metrics::default());
        let steps: Vec<_> = [100, 101, 101, 40, 40, 41, 10].map(|second| watch.stepped_back(Timestamp(second * SECOND))).to_vec();
        assert_eq!(steps, [None, None, None, Some(61 * SECOND), None, None, Some(31 * SECOND)]);
        assert_eq!(watch.stepped_back(Timestamp(10 * SECOND - 1)), None);
    }

    #[test]
    fn a_clock_before_the_floor_is_refused_until_it_is_set() {
        let clock = Arc::new(ManualClock::at(Timestamp(5)));
        let watch = ClockWatch::new(clock.clone(), Timestamp(10), Metrics::default());
        assert!(watch.now().unwrap_err().contains("1970-01-01T00:00:00.000005Z"));
        clock.set(Timestamp(10));
        assert_eq!(watch.now(), Ok(Timestamp(10)));
    }
}
