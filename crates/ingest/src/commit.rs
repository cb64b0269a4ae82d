//! One batch into the store, until its outcome is known.
//!
//! Owns: retrying what is transient, resolving what is unknown, telling the log what is durably applied.
//! Does not know: how batches are built. Invariant: a batch that was applied is never committed again.

use crate::batch::Pending;
use crate::{Deps, consume};
use anyhow::Context;
use headwater_core::log::Position;
use headwater_core::store::{Batch, Committed, StoreError};
use headwater_core::trace::{Kind, Span};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is in the store. The number of open readings is known unless the commit's own answer was lost.
    Applied(Option<Committed>),
    /// Another writer moved a position, or the store went back to an earlier state: nothing of it is in the store.
    Fenced,
}

/// Commits a batch and tells the log. Waits out what is transient, however long.
///
/// # Errors
/// When a person must look.
pub(crate) async fn commit(deps: Deps, pending: Pending) -> anyhow::Result<Outcome> {
    let content = pending.content();
    let mut span = Span::linked("ingest batch", Kind::Consumer, pending.links());
    let batch = tokio::task::spawn_blocking(move || pending.close()).await.context("cut a batch into blocks")?;
    let batch = Arc::new(batch);
    span.set("headwater.readings", batch.blocks.iter().map(|b| b.len()).sum::<usize>());
    span.set("headwater.dead_letters", batch.dead_letters.len());
    let committing = Span::child("commit", Kind::Internal, span.context());
    let outcome = until_known(&deps, &batch).await?;
    drop(committing);
    if matches!(outcome, Outcome::Fenced) {
        span.fail();
    }
    if let Outcome::Applied(_) = &outcome {
        deps.metrics.applied(&batch, content);
        let applied: Vec<(u32, u64)> = batch.moves.iter().map(|m| (m.to.partition, m.to.next)).collect();
        // The log keeps more than it must when it does not hear this; the next commit says it again.
        if let Err(error) = deps.log.trim_to(&applied).await {
            warn!(%error, "could not tell the log what is applied: {error}");
        }
    }
    Ok(outcome)
}

async fn until_known(deps: &Deps, batch: &Arc<Batch>) -> anyhow::Result<Outcome> {
    let mut pause = consume::Pause::new();
    loop {
        let began = Instant::now();
        let error = match deps.store.commit(Arc::clone(batch)).await {
            Ok(committed) => {
                deps.metrics.committed(began.elapsed());
                deps.health.working(consume::COMMIT);
                if pause.told.is_over() {
                    info!("going on: a batch that had to wait is committed");
                }
                let readings: usize = batch.blocks.iter().map(|b| b.len()).sum();
                debug!(
                    batch = committed.batch.0,
                    readings,
                    dead_letters = batch.dead_letters.len(),
                    "committed a batch of {readings} readings"
                );
                return Ok(Outcome::Applied(Some(committed)));
            }
            Err(error) => error,
        };
        deps.metrics.failed(&error);
        match error {
            StoreError::Restored(_) => {
                warn!("dropped a batch: {error}");
                return Ok(Outcome::Fenced);
            }
            StoreError::Fenced { partition, .. } => {
                warn!(partition, "dropped a batch: {error}");
                return Ok(Outcome::Fenced);
            }
            StoreError::Unknown(_) => {
                info!("{error}: looking at the positions");
                if let Some(outcome) = resolve(deps, batch).await? {
                    return Ok(outcome);
                }
            }
            error if error.is_transient() => {
                deps.health.waiting(consume::COMMIT, format!("cannot commit: {error}"));
                if pause.told.is_due() {
                    warn!("waiting to commit a batch: {error}");
                }
            }
            error => return Err(error).context("commit a batch"),
        }
        pause.wait().await;
    }
}

/// What a commit of unknown outcome did, by the positions: `None` = nothing, commit the same batch again.
async fn resolve(deps: &Deps, batch: &Batch) -> anyhow::Result<Option<Outcome>> {
    let stored = consume::positions(deps).await?;
    let next_of = |to: &Position| stored.iter().find(|p| p.partition == to.partition && p.log == to.log).map(|p| p.next);
    if batch.moves.iter().all(|m| next_of(&m.to) == Some(m.to.next)) {
        return Ok(Some(Outcome::Applied(None)));
    }
    if batch.moves.iter().all(|m| next_of(&m.to) == m.expected) {
        return Ok(None);
    }
    warn!("dropped a batch: its outcome was not known, and the positions are neither where it began nor where it ended");
    Ok(Some(Outcome::Fenced))
}

/// Waits until the open readings are below the limit again.
///
/// # Errors
/// When a person must look.
pub(crate) async fn wait_for_room(deps: &Deps, limit: u64) -> anyhow::Result<()> {
    loop {
        match deps.store.open_readings().await {
            Ok(open) if open < limit => {
                deps.health.working(consume::OPEN);
                info!(open, "going on: {open} readings are open");
                return Ok(());
            }
            Ok(open) => {
                deps.health.waiting(consume::OPEN, format!("waiting for sealing: {open} readings are open, the limit is {limit}"));
            }
            Err(error) if error.is_transient() => {
                deps.health.waiting(consume::OPEN, format!("waiting for sealing, and the open readings cannot be counted: {error}"));
            }
            Err(error) => return Err(error).context("count the open readings"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
