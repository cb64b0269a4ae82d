//! Sealing all that is open now, for whoever asks.
//!
//! Owns: [`Everything`]: what is still to be settled, shard by shard, and what has been. Does not know: HTTP.
//!
//! Invariant: blocks are settled in the order in which they came, so once as many readings of a shard are settled as were open at the
//! beginning, what is open came later.

use crate::work::{self, Pause, Sealer, Step, Trouble};
use headwater_core::seal::Outcomes;
use headwater_core::series::Shard;
use headwater_core::store::StoreError;
use std::collections::VecDeque;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// How long it may take.
pub(crate) struct Limit {
    pub(crate) deadline: Instant,
    pub(crate) stop: CancellationToken,
}

impl Limit {
    /// What `act` gives, unless the limit comes first.
    pub(crate) async fn within<T>(&self, act: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            outcome = timeout_at(self.deadline, act) => outcome.ok(),
        }
    }

    fn is_reached(&self) -> bool {
        self.stop.is_cancelled() || Instant::now() >= self.deadline
    }
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum End {
    /// What was open at the beginning is sealed, but for damaged shards; so many readings are open now.
    Sealed(u64),
    /// The limit came first.
    Unfinished,
}

/// What has been done so far.
#[derive(Debug, Default)]
pub(crate) struct Everything {
    /// What became of the readings.
    pub(crate) outcomes: Outcomes,
    /// Shards that cannot be sealed.
    pub(crate) damaged: Vec<Shard>,
}

impl Everything {
    /// Seals what is open now. Steps are never cut short, so that everything done is counted.
    ///
    /// # Errors
    /// When only a restart helps.
    pub(crate) async fn seal(&mut self, sealer: &Sealer, limit: &Limit) -> Result<End, StoreError> {
        let Some(at_first) = open(sealer, limit).await? else { return Ok(End::Unfinished) };
        let mut left: VecDeque<(Shard, u64)> = at_first.into();
        let mut pause = Pause::new();
        while let Some((shard, wanted)) = left.pop_front() {
            if limit.is_reached() {
                return Ok(End::Unfinished);
            }
            match sealer.seal(shard).await {
                Ok(Step::Done(outcomes)) => {
                    pause.over();
                    self.count(outcomes);
                    let wanted = wanted.saturating_sub(work::settled(outcomes));
                    if wanted > 0 {
                        left.push_front((shard, wanted));
                    }
                }
                Ok(Step::Nothing) => {}
                // It is not ours alone: the others first.
                Ok(Step::Lost) => {
                    left.push_back((shard, wanted));
                    limit.within(pause.wait()).await;
                }
                Err(Trouble::Wait(why)) => {
                    warn!(shard = shard.0, "waiting to seal: {why}");
                    left.push_front((shard, wanted));
                    limit.within(pause.wait()).await;
                }
                Err(Trouble::Damaged(why)) => {
                    error!(shard = shard.0, "shard {} cannot be sealed, the others go on: {why}", shard.0);
                    self.damaged.push(shard);
                }
                Err(Trouble::Stopped(error)) => return Err(error),
            }
        }
        let now = open(sealer, limit).await?;
        Ok(now.map_or(End::Unfinished, |open| End::Sealed(open.iter().map(|(_, readings)| readings).sum())))
    }

    const fn count(&mut self, outcomes: Outcomes) {
        self.outcomes.stored += outcomes.stored;
        self.outcomes.duplicate += outcomes.duplicate;
        self.outcomes.conflict += outcomes.conflict;
    }
}

/// The open readings of every shard; `None` when the limit comes first.
async fn open(sealer: &Sealer, limit: &Limit) -> Result<Option<Vec<(Shard, u64)>>, StoreError> {
    let mut pause = Pause::new();
    loop {
        match limit.within(sealer.backlog()).await {
            None => return Ok(None),
            Some(Ok(backlog)) => return Ok(Some(backlog.iter().map(|open| (open.shard, open.readings)).collect())),
            Some(Err(Trouble::Stopped(error))) => return Err(error),
            Some(Err(Trouble::Damaged(why))) => return Err(StoreError::Corrupt(why)),
            Some(Err(Trouble::Wait(why))) => warn!("waiting to look at what is open: {why}"),
        }
        limit.within(pause.wait()).await;
    }
}
