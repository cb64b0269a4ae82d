//! One step for one shard: load → seal → replace, or unmerged → merge → replace.
//!
//! Owns: [`Sealer`], what can go wrong with a step ([`Trouble`]). Does not know: which shard is due, when to stop, how long to wait.
//!
//! Invariants: one step at a time over the whole process ([`Turn`]), so that at most one replacement waits for the store and the memory of
//! one load is held; a step that is dropped or fails at any place has replaced all or nothing, and can be made again.

use crate::{Deps, policy};
use headwater_core::dead_letter::DeadLetter;
use headwater_core::seal::{self, Broken, Conflict, Outcomes, Replacement};
use headwater_core::series::{SeriesId, SeriesKey, Shard};
use headwater_core::store::{Backlog, LoadBudget, Replaced, StoreError, Version};
use headwater_core::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tracing::debug;

/// Whose turn it is: the role and its face share one. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Turn(Arc<Semaphore>);

impl Default for Turn {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// How many readings are settled by these outcomes.
pub(crate) const fn settled(outcomes: Outcomes) -> u64 {
    outcomes.stored + outcomes.duplicate + outcomes.conflict
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// These readings are settled (none by a merge).
    Done(Outcomes),
    /// Nothing was there to do.
    Nothing,
    /// Another sealer came first; nothing was changed.
    Lost,
}

/// Why a step was not made.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// It may work later, for every shard.
    Wait(StoreError),
    /// Something of this shard is not what was written; other shards are not concerned.
    Damaged(String),
    /// Only a restart helps.
    Stopped(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            // Of an unknown outcome the next load tells: the blocks are there or they are not.
            StoreError::Busy(_) | StoreError::Unavailable(_) | StoreError::Unknown(_) | StoreError::Deadline => Self::Wait(error),
            StoreError::Corrupt(_) => Self::Damaged(error.to_string()),
            StoreError::Stopped(_) | StoreError::Fenced { .. } | StoreError::Restored(_) => Self::Stopped(error),
        }
    }
}

impl From<Broken> for Trouble {
    fn from(broken: Broken) -> Self {
        Self::Damaged(broken.to_string())
    }
}

type Result<T> = std::result::Result<T, Trouble>;

/// Makes steps.
#[derive(Clone)]
pub(crate) struct Sealer {
    deps: Deps,
    budget: LoadBudget,
}

impl Sealer {
    pub(crate) const fn new(deps: Deps, budget: LoadBudget) -> Self {
        Self { deps, budget }
    }

    /// What is open, by shard.
    pub(crate) async fn backlog(&self) -> Result<Vec<Backlog>> {
        let backlog = self.deps.store.backlog().await?;
        self.deps.metrics.looked(&backlog);
        Ok(backlog)
    }

    /// Seals the oldest blocks of a shard, as many as the budget allows.
    pub(crate) async fn seal(&self, shard: Shard) -> Result<Step> {
        let _turn = self.deps.turn.0.acquire().await;
        let began = Instant::now();
        let step = self.try_seal(shard).await;
        self.deps.metrics.sealed(&step, began.elapsed());
        step
    }

    async fn try_seal(&self, shard: Shard) -> Result<Step> {
        let Some((version, loaded)) = self.deps.store.load(shard, self.budget).await? else { return Ok(Step::Nothing) };
        let most = usize::try_from(self.budget.readings).unwrap_or(usize::MAX);
        let mut replacement = in_background(move || seal::seal(shard, &loaded, most)).await??;
        if !replacement.conflicts.is_empty() {
            replacement = self.with_letters(replacement).await?;
        }
        self.replace(shard, version, replacement).await
    }

    /// Merges the oldest unmerged blocks of a shard into one. Where the first of them alone is too large for that, they are sealed.
    pub(crate) async fn merge(&self, shard: Shard) -> Result<Step> {
        let merged = {
            let _turn = self.deps.turn.0.acquire().await;
            let most = usize::try_from(policy::MERGE_BLOCKS).unwrap_or(usize::MAX);
            let (version, blocks) = self.deps.store.unmerged(shard, most, policy::MERGE_READINGS).await?;
            match in_background(move || seal::merge_blocks(shard, &blocks)).await? {
                Some(replacement) => {
                    let step = self.replace(shard, version, replacement).await;
                    self.deps.metrics.stepped(&step);
                    Some(step?)
                }
                None => None,
            }
        };
        match merged {
            Some(step) => Ok(step),
            None => self.seal(shard).await,
        }
    }

    async fn replace(&self, shard: Shard, version: Version, replacement: Replacement) -> Result<Step> {
        let outcomes = replacement.outcomes;
        let (blocks, chunks) = (replacement.sealed_blocks.len(), replacement.new_chunks.len());
        match self.deps.store.replace(shard, version, Arc::new(replacement)).await? {
            Replaced::Lost => {
                debug!(shard = shard.0, "another sealer came first");
                Ok(Step::Lost)
            }
            Replaced::Done { open_readings } => {
                let Outcomes { stored, duplicate, conflict } = outcomes;
                debug!(shard = shard.0, blocks, chunks, stored, duplicate, conflict, open_readings, "replaced {blocks} open blocks");
                Ok(Step::Done(outcomes))
            }
        }
    }

    /// The replacement with its conflicts as dead letters.
    async fn with_letters(&self, mut replacement: Replacement) -> Result<Replacement> {
        let mut ids: Vec<SeriesId> = replacement.conflicts.iter().map(|conflict| conflict.series).collect();
        ids.dedup();
        let keys = self.deps.store.keys(&ids).await?;
        if keys.len() != ids.len() {
            return Err(Trouble::Damaged(format!("asked for the names of {} series, {} came", ids.len(), keys.len())));
        }
        let (keys, now) = (ids.into_iter().zip(keys).collect(), self.deps.clock.now());
        in_background(move || {
            replacement.dead_letters = letters(&replacement.conflicts, &keys, now);
            replacement
        })
        .await
    }
}

/// One letter for each (series, time, lost value), which counts as often as that value has lost.
fn letters(conflicts: &[Conflict], keys: &BTreeMap<SeriesId, SeriesKey>, now: Timestamp) -> Vec<DeadLetter> {
    let mut letters = seal::letters(conflicts, keys, now);
    letters.sort_by_key(|letter| letter.id);
    letters.dedup_by(|again, first| {
        let same = again.id == first.id;
        first.count += if same { again.count } else { 0 };
        same
    });
    letters
}

/// Computes off the runtime. A panic is a mistake of ours, met by what is in this shard: the others go on.
async fn in_background<T: Send + 'static>(compute: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    spawn_blocking(compute).await.map_err(|why| Trouble::Damaged(format!("sealing it broke: {why}")))
}

/// Growing pauses between attempts: 50 ms, doubled up to 5 s. What they are for is told at once, and then once a minute.
pub(crate) struct Pause {
    next: Duration,
    told: Option<Instant>,
}

impl Pause {
    const FIRST: Duration = Duration::from_millis(50);

    pub(crate) const fn new() -> Self {
        Self { next: Self::FIRST, told: None }
    }

    /// All is well again.
    pub(crate) const fn over(&mut self) {
        *self = Self::new();
    }

    /// Whether what is waited for is to be told now.
    pub(crate) fn tells(&mut self) -> bool {
        let tells = self.told.is_none_or(|told| told.elapsed() >= Duration::from_secs(60));
        if tells {
            self.told = Some(Instant::now());
        }
        tells
    }

    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(Duration::from_secs(5));
    }
}
