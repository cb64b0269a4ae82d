//! Dead letters grow old: those that are older than is wanted go.
//!
//! Owns: when is looked, and how many go at a time. Does not know: quotas (the store keeps those by itself), which store.
//! Invariant: a store that does not answer is asked again later; nothing of this stops the role.

use headwater_core::clock::Clock;
use headwater_core::store::{DeadLetters, StoreError};
use headwater_core::time::{SECOND, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

/// Letters that go in one transaction.
const AT_A_TIME: u64 = 1_000;
/// How often is looked, at most and at least: a letter stays for a tenth of its time more.
const OFTEN: Duration = Duration::from_millis(200);
const RARELY: Duration = Duration::from_secs(600);

/// What [`keep_letters`] works with.
#[derive(Clone)]
pub struct Letters {
    /// Where letters are.
    pub store: Arc<dyn DeadLetters>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How old they become.
    pub retention: Duration,
}

/// Lets letters go that are too old, until `stop`.
pub async fn keep_letters(letters: Letters, stop: CancellationToken) {
    let pause = (letters.retention / 10).clamp(OFTEN, RARELY);
    loop {
        match letters.expire().await {
            Ok(0) => {}
            Ok(n) => info!(n, "{n} dead letters were too old, and went"),
            Err(error) => debug!(%error, "could not look for dead letters that are too old: {error}"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

impl Letters {
    /// How many went.
    async fn expire(&self) -> Result<u64, StoreError> {
        let retention = i64::try_from(self.retention.as_secs()).unwrap_or(i64::MAX).saturating_mul(SECOND);
        let before = Timestamp(self.clock.now().0.saturating_sub(retention));
        let mut went = 0;
        loop {
            let n = self.store.expire(before, AT_A_TIME).await?;
            went += n;
            if n < AT_A_TIME {
                return Ok(went);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_contract::builders::{START, at, batch, letter};
    use headwater_contract::{FaultyStore, MemoryStore, StoreCall, eventually, within};
    use headwater_core::clock::ManualClock;
    use headwater_core::dead_letter::DeadLetter;
    use headwater_core::store::{Ingestion, Queries};

    async fn kept(store: &MemoryStore) -> (u64, u64) {
        let totals = store.snapshot(Duration::from_secs(9)).await.unwrap().totals().await.unwrap();
        (totals.dead_letters, totals.dead_letters_dropped)
    }

    #[tokio::test]
    async fn letters_go_when_they_are_too_old_though_the_store_was_away() {
        let (store, clock) = (MemoryStore::new(), Arc::new(ManualClock::at(START)));
        // More than go at a time.
        let letters =
            (0..2_500).map(|n| DeadLetter { received_at: START, ..letter(n) }).chain([DeadLetter { received_at: at(50), ..letter(9_999) }]);
        store.commit(letters.fold(batch(), |batch, letter| batch.dead(letter)).moved(0, None, 1).build()).await.unwrap();
        let faulty = FaultyStore::new(store.clone());
        faulty.faults.fail(StoreCall::Expire, 2, StoreError::Unavailable("away".into()));
        let (faults, stop) = (faulty.faults.clone(), CancellationToken::new());
        let letters = Letters { store: Arc::new(faulty), clock: Arc::clone(&clock) as _, retention: Duration::from_secs(1) };
        let keeping = tokio::spawn(keep_letters(letters, stop.clone()));
        faults.called(StoreCall::Expire, 3).await;
        assert_eq!(kept(&store).await, (2_501, 0), "none is too old yet");
        clock.set(at(2));
        eventually("old letters to go", async || (kept(&store).await == (1, 2_500)).then_some(())).await;
        stop.cancel();
        within(keeping).await.unwrap();
    }
}
