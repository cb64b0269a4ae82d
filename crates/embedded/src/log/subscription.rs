//! Delivering the log to one reader of a group.
//!
//! Owns: [`Tail`]. Does not know: what is done with the records.
//! Invariants: one subscription of a group has the partition, the next one gets it when that is dropped; a dropped `next` has
//! taken nothing (what was read waits in the subscription); nothing is delivered before `resume` has answered.

use super::read::{blocking, joined};
use super::{PARTITION, Shared, no_partition};
use headwater_core::BoxFuture;
use headwater_core::log::{Delivery, Gap, LogError, Position, Subscription};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;

/// A reader's end.
pub(super) struct Tail {
    shared: Arc<Shared>,
    end: watch::Receiver<u64>,
    /// The group's one place, and whether it is ours.
    place: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
    /// The next record to deliver, once that was said.
    cursor: Option<u64>,
    /// A read that is under way, or has ended and was not taken yet.
    reading: Option<JoinHandle<Result<Delivery, LogError>>>,
}

impl Tail {
    pub(super) fn new(shared: Arc<Shared>, place: Arc<Semaphore>) -> Self {
        let end = shared.end.subscribe();
        Self { shared, end, place, held: None, cursor: None, reading: None }
    }

    async fn deliver(&mut self) -> Result<Delivery, LogError> {
        if self.held.is_none() {
            let held = Arc::clone(&self.place).acquire_owned().await.map_err(|_| super::closed())?;
            self.held = Some(held);
            return Ok(Delivery::Assigned(vec![PARTITION]));
        }
        loop {
            if let Some(reading) = &mut self.reading {
                let delivery = joined(reading.await);
                // No await from here on: the delivery is either still in `reading` or returned.
                self.reading = None;
                if let Ok(Delivery::Records { next, .. }) = &delivery {
                    self.cursor = Some(*next);
                }
                return delivery;
            }
            let end = *self.end.borrow_and_update();
            match self.cursor {
                Some(from) if from < end => {
                    let shared = Arc::clone(&self.shared);
                    self.reading = Some(tokio::task::spawn_blocking(move || shared.delivering.delivery(from)));
                }
                // What was appended can still be read after the log has stopped; then there is nothing more to wait for.
                _ => {
                    self.shared.running()?;
                    self.end.changed().await.map_err(|_| super::closed())?;
                }
            }
        }
    }

    async fn restart(&mut self, positions: Vec<(u32, Option<Position>)>) -> Result<Vec<Gap>, LogError> {
        if let Some(&(partition, _)) = positions.iter().find(|(partition, _)| *partition != PARTITION) {
            return Err(no_partition(partition));
        }
        let Some((_, position)) = positions.into_iter().next_back() else { return Ok(Vec::new()) };
        if self.held.is_none() {
            return Err(LogError::Unavailable(format!("partition {PARTITION} is not assigned to this subscription")));
        }
        // Until the position is checked nothing is delivered, and what was is forgotten.
        (self.cursor, self.reading) = (None, None);
        let shared = Arc::clone(&self.shared);
        let (from, gap) = blocking(move || check(&shared, position)).await?;
        self.cursor = Some(from);
        Ok(gap.into_iter().collect())
    }
}

/// Where to begin, and the gap before it.
fn check(shared: &Shared, position: Option<Position>) -> Result<(u64, Option<Gap>), LogError> {
    // The start first: it may rise meanwhile, and then reading says what is missing.
    let start = shared.start.load(Ordering::Acquire);
    let end = shared.end();
    let Some(Position { log, next, crc, .. }) = position else { return Ok((start, None)) };
    if log != shared.id {
        return Err(LogError::Corrupt(format!(
            "the stored position {next} is of the log {log}, but this is the log {}: the log was made anew, or another one was put in its place",
            shared.id
        )));
    }
    if next > end {
        return Err(LogError::Corrupt(format!(
            "the stored position {next} lies beyond the end {end} of the log {log}: an older copy of the log was put back"
        )));
    }
    if let (Some(applied), Some(last)) = (crc, next.checked_sub(1).filter(|last| *last >= start)) {
        match shared.looking.crc_of(last)? {
            Some(found) if found != applied => {
                return Err(LogError::Corrupt(format!(
                    "record {last} of the log {log} has CRC {found:08x}, but the one that was applied had {applied:08x}: an older copy of the log was put back and went on differently"
                )));
            }
            Some(_) => {}
            None => tracing::warn!(record = last, "the last applied record can no longer be compared with the log"),
        }
    }
    let gap = (next < start).then_some(Gap { log, partition: PARTITION, from: next, to: start });
    Ok((next.max(start), gap))
}

impl Subscription for Tail {
    fn next(&mut self) -> BoxFuture<'_, Result<Delivery, LogError>> {
        Box::pin(self.deliver())
    }

    fn resume(&mut self, positions: Vec<(u32, Option<Position>)>) -> BoxFuture<'_, Result<Vec<Gap>, LogError>> {
        Box::pin(self.restart(positions))
    }

    /// Nothing is ever revoked here.
    fn released(&mut self, _partitions: &[u32]) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async { Ok(()) })
    }
}
