//! Wrappers around a log or a store that fail when told to.
//!
//! Owns: [`FaultyLog`], [`FaultyStore`] and the [`Faults`] that steer them. Does not know: what is wrapped.
//! Invariant: without a planned fault a wrapper changes nothing, so it passes the suites too.
//!
//! ```text
//! let log = FaultyLog::new(MemoryLog::new(1));
//! log.faults.fail(LogCall::Append, 2, LogError::Busy("full".into()));        // the next two appends do nothing
//! store.faults.fail_after(StoreCall::Commit, 1, StoreError::Unknown("connection lost".into())); // it took effect
//! let held = log.faults.hold(LogCall::Append);                               // appends wait until `held` is dropped
//! log.faults.called(LogCall::Append, 1).await;                               // one has begun
//! ```

mod log;
mod store;

pub use log::{FaultyLog, LogCall};
pub use store::{FaultyStore, StoreCall};

use std::sync::Arc;
use tokio::sync::watch;

/// What is planned for the calls of one wrapper. Clones share the plan.
#[derive(Debug)]
pub struct Faults<C, E>(Arc<watch::Sender<Plan<C, E>>>);

#[derive(Debug)]
struct Plan<C, E> {
    failures: Vec<Failure<C, E>>,
    held: Vec<C>,
    begun: Vec<C>,
}

#[derive(Debug)]
struct Failure<C, E> {
    call: C,
    moment: Moment,
    times: u32,
    error: E,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// Nothing happened.
    Before,
    /// It happened, but the answer was lost.
    After,
}

impl<C, E> Clone for Faults<C, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C, E> Default for Faults<C, E> {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Plan { failures: Vec::new(), held: Vec::new(), begun: Vec::new() })))
    }
}

impl<C: Copy + Eq, E: Clone> Faults<C, E> {
    /// The next `times` of these calls say `error` and do nothing.
    pub fn fail(&self, call: C, times: u32, error: E) {
        self.plan(call, Moment::Before, times, error);
    }

    /// The next `times` of these calls that succeed say `error` although they took effect.
    pub fn fail_after(&self, call: C, times: u32, error: E) {
        self.plan(call, Moment::After, times, error);
    }

    /// Forgets every planned failure.
    pub fn heal(&self) {
        self.0.send_modify(|plan| plan.failures.clear());
    }

    /// Makes these calls wait until the answer is dropped.
    #[must_use = "calls go on when it is dropped"]
    pub fn hold(&self, call: C) -> Held<C, E> {
        self.0.send_modify(|plan| plan.held.push(call));
        Held { faults: self.clone(), call }
    }

    /// How many of these calls have begun.
    pub fn calls(&self, call: C) -> usize {
        self.0.borrow().begun.iter().filter(|begun| **begun == call).count()
    }

    /// Waits until at least `n` of these calls have begun.
    ///
    /// # Panics
    /// When they have not after ten seconds.
    pub async fn called(&self, call: C, n: usize) {
        let mut plan = self.0.subscribe();
        let enough = plan.wait_for(|plan| plan.begun.iter().filter(|begun| **begun == call).count() >= n);
        drop(crate::within(enough).await.expect("the plan lives as long as the wrapper"));
    }

    fn plan(&self, call: C, moment: Moment, times: u32, error: E) {
        self.0.send_modify(|plan| plan.failures.push(Failure { call, moment, times, error }));
    }

    fn take(&self, call: C, moment: Moment) -> Option<E> {
        let mut taken = None;
        self.0.send_if_modified(|plan| {
            let planned = plan.failures.iter_mut().find(|failure| failure.call == call && failure.moment == moment && failure.times > 0);
            if let Some(failure) = planned {
                failure.times -= 1;
                taken = Some(failure.error.clone());
            }
            false
        });
        taken
    }

    /// Does `act` as the plan wants it.
    async fn through<T>(&self, call: C, act: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.0.send_modify(|plan| plan.begun.push(call));
        let mut plan = self.0.subscribe();
        drop(plan.wait_for(|plan| !plan.held.contains(&call)).await.expect("the plan lives as long as the wrapper"));
        if let Some(error) = self.take(call, Moment::Before) {
            return Err(error);
        }
        let answer = act.await?;
        self.take(call, Moment::After).map_or(Ok(answer), Err)
    }
}

/// Calls wait until this is dropped.
#[derive(Debug)]
pub struct Held<C: Copy + Eq, E> {
    faults: Faults<C, E>,
    call: C,
}

impl<C: Copy + Eq, E> Drop for Held<C, E> {
    fn drop(&mut self) {
        self.faults.0.send_modify(|plan| {
            if let Some(at) = plan.held.iter().position(|held| *held == self.call) {
                plan.held.swap_remove(at);
            }
        });
    }
}
