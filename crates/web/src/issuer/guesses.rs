//! Slowing down whoever guesses secrets.
//!
//! Owns: [`Guesses`]: ten wrong secrets at once from one address for one client, then one every six seconds. Does not know: what a
//! right one is. Invariants: who guesses keeps nobody else waiting (another address, or another client behind the same one); the
//! table is bounded, and forgets rather than refuses when it is full, because secrets are too long to be guessed anyway.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Wrong secrets that may come at once.
const AT_ONCE: u32 = 10;
/// After that one more is forgiven every so often.
const EACH: Duration = Duration::from_secs(6);
const MOST_HELD: usize = 4_096;

/// From where, and for which client; strangers are one.
type Who = (Option<IpAddr>, Option<String>);

/// Wrong secrets that were not forgiven yet. The value is the instant at which all will be.
#[derive(Debug, Default)]
pub(super) struct Guesses(Mutex<HashMap<Who, Instant>>);

impl Guesses {
    /// For how many seconds nothing is to be tried from there.
    pub(super) fn must_wait(&self, address: Option<IpAddr>, client: Option<&str>) -> Option<u32> {
        let forgiven = *self.held().get(&(address, client.map(str::to_owned)))?;
        let wait = forgiven.checked_duration_since(Instant::now())?.checked_sub(EACH * (AT_ONCE - 1))?;
        (!wait.is_zero()).then(|| u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1))
    }

    /// A secret was wrong.
    pub(super) fn wrong(&self, address: Option<IpAddr>, client: Option<&str>) {
        let (mut held, now) = (self.held(), Instant::now());
        if held.len() >= MOST_HELD {
            held.retain(|_, forgiven| *forgiven > now);
        }
        if held.len() >= MOST_HELD {
            held.clear();
        }
        let forgiven = held.entry((address, client.map(str::to_owned))).or_insert(now);
        *forgiven = (*forgiven).max(now) + EACH;
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Who, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u32) -> Option<IpAddr> {
        Some(IpAddr::from((0x0a00_0000 + last).to_be_bytes()))
    }

    #[tokio::test(start_paused = true)]
    async fn who_guesses_is_slowed_down_and_nobody_else_is() {
        let guesses = Guesses::default();
        for _ in 0..AT_ONCE {
            assert_eq!(guesses.must_wait(address(1), Some("a")), None);
            guesses.wrong(address(1), Some("a"));
        }
        let wait = guesses.must_wait(address(1), Some("a")).unwrap();
        assert!((6..=7).contains(&wait), "{wait}");
        for (from, client) in [(address(2), Some("a")), (address(1), Some("b")), (address(1), None), (None, Some("a"))] {
            assert_eq!(guesses.must_wait(from, client), None);
        }
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(guesses.must_wait(address(1), Some("a")), None);
        guesses.wrong(address(1), Some("a"));
        assert!(guesses.must_wait(address(1), Some("a")).is_some(), "one was forgiven, not all");
        tokio::time::advance(EACH * AT_ONCE).await;
        assert_eq!(guesses.must_wait(address(1), Some("a")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded() {
        let guesses = Guesses::default();
        for n in 0..20_000 {
            guesses.wrong(address(n), None);
        }
        assert!(guesses.held().len() <= MOST_HELD);
    }
}
