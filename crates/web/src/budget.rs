//! Bytes that the process may hold at once for one purpose, shared by all requests.
//!
//! Owns: [`Budget`], [`Reservation`]. Does not know: what the bytes are for.
//! Invariants: what is reserved never exceeds the budget; waiting is bounded, so holders that all want more end in a 503 and
//! never in a deadlock; a reservation is given back when it is dropped.

use crate::error::Error;
use axum::http::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// What one permit stands for. Finer would not fit the semaphore's u32 for large budgets, coarser would waste on small requests.
const UNIT: usize = 1024;

/// A number of bytes that are shared out; see the module.
#[derive(Debug)]
pub struct Budget {
    name: &'static str,
    units: u32,
    free: Arc<Semaphore>,
}

impl Budget {
    /// A budget of `bytes` (at least 1 KiB, at most 512 GiB); `name` says in errors what it is for, such as "bodies being decoded".
    pub fn new(bytes: usize, name: &'static str) -> Arc<Self> {
        let most = (Semaphore::MAX_PERMITS).min(1 << 29);
        let units = (bytes / UNIT).clamp(1, most);
        Arc::new(Self { name, units: u32::try_from(units).unwrap_or(u32::MAX), free: Arc::new(Semaphore::new(units)) })
    }

    /// How many bytes it shares out.
    pub fn bytes(&self) -> usize {
        self.units as usize * UNIT
    }

    /// How many of them nobody holds.
    pub fn free_bytes(&self) -> usize {
        self.free.available_permits() * UNIT
    }

    /// Takes `bytes`, waiting for at most `wait`, in the order of asking.
    ///
    /// # Errors
    /// 503 with `Retry-After: 1` (`busy`) when they did not come free in time; 422 (`exceeds_budget`) when they never could.
    pub async fn reserve(self: &Arc<Self>, bytes: usize, wait: Duration) -> Result<Reservation, Error> {
        let permit = self.take(units(bytes), wait).await?;
        Ok(Reservation { budget: Arc::clone(self), permit, wait })
    }

    async fn take(&self, units: usize, wait: Duration) -> Result<OwnedSemaphorePermit, Error> {
        let asked = u32::try_from(units).unwrap_or(u32::MAX);
        if asked > self.units {
            let detail = format!("this needs more memory than the {} bytes that there are for {}", self.bytes(), self.name);
            return Err(Error::new(StatusCode::UNPROCESSABLE_ENTITY, "exceeds_budget", detail));
        }
        match timeout(wait, Arc::clone(&self.free).acquire_many_owned(asked)).await {
            Ok(Ok(permit)) => Ok(permit),
            // Nobody closes the semaphore; were it closed, busy would still be the true answer.
            Ok(Err(_)) | Err(_) => Err(Error::busy("busy", format!("the memory for {} is in use", self.name), 1)),
        }
    }
}

/// Bytes taken from a [`Budget`]; dropping gives them back.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    permit: OwnedSemaphorePermit,
    wait: Duration,
}

impl Reservation {
    /// How many bytes are held, in whole KiB.
    pub fn bytes(&self) -> usize {
        self.permit.num_permits() * UNIT
    }

    /// How long the first taking was allowed to wait.
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// Takes `more` bytes on top, waiting for at most `wait` while holding what there is.
    ///
    /// # Errors
    /// As [`Budget::reserve`]; what was held stays held.
    pub async fn grow(&mut self, more: usize, wait: Duration) -> Result<(), Error> {
        let units = units(more);
        // More on top of what is held than there is in all can never come; waiting for it would be a lie.
        let asked = if self.permit.num_permits() + units > self.budget.units as usize { usize::MAX } else { units };
        let more = self.budget.take(asked, wait).await?;
        self.permit.merge(more);
        Ok(())
    }

    /// Holds at least `bytes`: takes what is missing, if anything is.
    ///
    /// # Errors
    /// As [`Reservation::grow`].
    pub async fn grow_to(&mut self, bytes: usize, wait: Duration) -> Result<(), Error> {
        match bytes.checked_sub(self.bytes()) {
            Some(more) if more > 0 => self.grow(more, wait).await,
            _ => Ok(()),
        }
    }

    /// Gives back what exceeds `bytes`; never takes more.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.permit.num_permits().saturating_sub(units(bytes));
        drop(self.permit.split(surplus));
    }
}

/// The permits for a number of bytes, rounded up.
const fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_reservation_is_given_back_when_dropped() {
        let budget = Budget::new(10 * UNIT, "tests");
        let held = budget.reserve(9 * UNIT + 1, SHORT).await.unwrap();
        assert_eq!((held.bytes(), budget.free_bytes()), (10 * UNIT, 0));
        let refused = budget.reserve(1, SHORT).await.unwrap_err();
        assert_eq!((refused.status().as_u16(), refused.code()), (503, "busy"));
        drop(held);
        assert_eq!(budget.free_bytes(), 10 * UNIT);
    }

    #[tokio::test]
    async fn waiting_ends_as_soon_as_there_is_room() {
        let budget = Budget::new(10 * UNIT, "tests");
        let held = budget.reserve(10 * UNIT, SHORT).await.unwrap();
        let waiting = tokio::spawn({
            let budget = Arc::clone(&budget);
            async move { budget.reserve(10 * UNIT, Duration::from_secs(60)).await.map(|held| held.bytes()) }
        });
        drop(held);
        assert_eq!(waiting.await.unwrap().unwrap(), 10 * UNIT);
    }

    #[tokio::test]
    async fn more_than_there_is_in_all_is_refused_at_once() {
        let budget = Budget::new(10 * UNIT, "tests");
        let forever = Duration::from_secs(3600);
        assert_eq!(budget.reserve(11 * UNIT, forever).await.unwrap_err().code(), "exceeds_budget");
        assert_eq!(budget.reserve(usize::MAX, forever).await.unwrap_err().code(), "exceeds_budget");
        let mut held = budget.reserve(6 * UNIT, forever).await.unwrap();
        assert_eq!(held.grow(5 * UNIT, forever).await.unwrap_err().code(), "exceeds_budget");
        assert_eq!(held.bytes(), 6 * UNIT);
    }

    #[tokio::test]
    async fn holders_that_all_want_more_end_in_503_and_not_in_a_deadlock() {
        let budget = Budget::new(10 * UNIT, "tests");
        let (mut one, mut other) = (budget.reserve(5 * UNIT, SHORT).await.unwrap(), budget.reserve(5 * UNIT, SHORT).await.unwrap());
        let (first, second) = tokio::join!(one.grow(5 * UNIT, SHORT), other.grow(5 * UNIT, SHORT));
        assert_eq!((first.unwrap_err().status().as_u16(), second.unwrap_err().status().as_u16()), (503, 503));
    }

    #[tokio::test]
    async fn a_reservation_grows_and_shrinks() {
        let budget = Budget::new(10 * UNIT, "tests");
        let mut held = budget.reserve(0, SHORT).await.unwrap();
        held.grow_to(3 * UNIT, SHORT).await.unwrap();
        held.grow_to(2 * UNIT, SHORT).await.unwrap();
        assert_eq!(held.bytes(), 3 * UNIT);
        held.shrink_to(UNIT);
        held.shrink_to(9 * UNIT);
        assert_eq!((held.bytes(), budget.free_bytes()), (UNIT, 9 * UNIT));
    }
}
