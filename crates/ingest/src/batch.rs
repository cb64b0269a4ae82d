//! The batch that is being built.
//!
//! Owns: [`Pending`] and the counting of received and dead. Does not know: how records are decoded, the seams' calls.
//! Invariant: what is in it is exactly the records between each move's `expected` and its `to.next`, each once.

use crate::metrics::Content;
use headwater_core::block;
use headwater_core::dead_letter::DeadLetter;
use headwater_core::log::{Gap, LogId, Position};
use headwater_core::series::SeriesId;
use headwater_core::store::{Batch, Move};
use headwater_core::time::Timestamp;
use headwater_core::trace::Context;
use std::collections::BTreeMap;
use tokio::time::Instant;

/// A batch is full when its dead letters hold this many bytes, however few readings it has.
const DEAD_LETTER_BYTES: usize = 32 << 20;
/// A batch is linked to so many of the requests that it came from: enough to find it from any that was looked at.
const MOST_LINKS: usize = 64;

/// Readings, dead letters, gaps and moves on their way into one transaction.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) series: Vec<SeriesId>,
    pub(crate) times: Vec<i64>,
    pub(crate) values: Vec<f64>,
    dead_letters: Vec<DeadLetter>,
    dead_letter_bytes: usize,
    gaps: Vec<Gap>,
    moves: BTreeMap<u32, Move>,
    first_at: Option<Instant>,
    received_at: Option<Timestamp>,
    content: Content,
    /// The places in traces that its records were sent in.
    links: Vec<Context>,
}

impl Pending {
    /// Whether there is nothing to commit.
    pub(crate) fn is_empty(&self) -> bool {
        self.moves.is_empty()
    }

    /// Whether it takes no more.
    pub(crate) const fn is_full(&self, readings: usize) -> bool {
        self.times.len() >= readings || self.dead_letter_bytes >= DEAD_LETTER_BYTES
    }

    /// How many readings still fit.
    pub(crate) const fn room(&self, readings: usize) -> usize {
        readings.saturating_sub(self.times.len())
    }

    /// When its first record came.
    pub(crate) const fn first_at(&self) -> Option<Instant> {
        self.first_at
    }

    /// The partitions that it moves, with the record after the last of each.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (u32, u64)> {
        self.moves.iter().map(|(partition, to)| (*partition, to.to.next))
    }

    /// Moves a partition on. `expected` is where the store's position will be when this batch commits; it counts only for
    /// the first move of the partition in this batch.
    pub(crate) fn advance(&mut self, log: &LogId, partition: u32, expected: Option<u64>, next: u64, crc: Option<u32>) -> &mut Move {
        self.first_at.get_or_insert_with(Instant::now);
        let entry = self.moves.entry(partition).or_insert_with(|| Move {
            to: Position { log: log.clone(), partition, next, crc },
            expected,
            received: 0,
            dead: 0,
        });
        entry.to.next = next;
        entry.to.crc = crc;
        entry
    }

    /// Notes when a record was received: the batch is as old as its oldest.
    pub(crate) fn note_received(&mut self, at: Timestamp) {
        self.received_at = Some(self.received_at.map_or(at, |oldest| oldest.min(at)));
        self.content.records += 1;
        self.content.newest = self.content.newest.max(Some(at));
    }

    /// When its oldest record was received.
    pub(crate) const fn oldest(&self) -> Option<Timestamp> {
        self.received_at
    }

    /// What is counted of it once it is applied.
    pub(crate) const fn content(&self) -> Content {
        self.content
    }

    /// Notes the place in a trace that a record was sent in.
    pub(crate) fn note_trace(&mut self, place: Option<Context>) {
        if let Some(place) = place.filter(|place| self.links.len() < MOST_LINKS && !self.links.contains(place)) {
            self.links.push(place);
        }
    }

    /// The places in traces that its records were sent in, as far as they were sampled.
    pub(crate) fn links(&self) -> &[Context] {
        &self.links
    }

    /// Adds a dead letter; its count was added to the move by the caller.
    pub(crate) fn bury(&mut self, letter: DeadLetter) {
        self.dead_letter_bytes += letter.bytes.len() + 256;
        self.dead_letters.push(letter);
    }

    /// Adds a gap.
    pub(crate) fn record(&mut self, gap: Gap) {
        self.gaps.push(gap);
    }

    /// Sorts the readings into blocks: the batch as the store takes it. Tens of milliseconds of work for a full batch.
    pub(crate) fn close(self) -> Batch {
        Batch {
            received_at: self.received_at.unwrap_or_default(),
            blocks: block::cut(&self.series, &self.times, &self.values),
            dead_letters: self.dead_letters,
            gaps: self.gaps,
            moves: self.moves.into_values().collect(),
        }
    }
}
