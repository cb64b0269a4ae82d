//! What the reader's thread has for the reader: events first, then records that somebody has vouched for.
//!
//! Owns: the state of each partition between `Assigned` and `Revoked`. Does not know: librdkafka, clusters, threads, what it takes to
//! vouch for records.
//!
//! Invariants: one lock, never held across an await. Only the thread begins a partition or puts records in, only the reader takes
//! them out, so a record of an earlier place cannot come after `begin`: it has cleared the queue and knows the next number.

use headwater_core::log::{Delivery, LogError, StoredRecord};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The most records of one delivery.
const DELIVERY_RECORDS: usize = 256;
/// A delivery that has this many bytes takes no further record.
const DELIVERY_BYTES: usize = 4 << 20;
/// What a record takes beside its bytes.
const RECORD_BYTES: u64 = 256;

/// Shared by the thread and the reader.
pub(super) struct Inbox {
    state: Mutex<State>,
    /// There is something to take.
    news: Notify,
    /// There is something to vouch for.
    arrival: Notify,
    most_bytes: u64,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    /// Once there, all that is ever delivered.
    failure: Option<LogError>,
    feeds: BTreeMap<u32, Feed>,
    bytes: u64,
    /// How many records were ever taken in.
    arrived: u64,
    /// How many of these may be delivered.
    vouched: u64,
    /// The partition of the last delivery: the others come first.
    last: u32,
    /// Revoked, and the reader has not said that it is done with them.
    unreleased: BTreeSet<u32>,
    /// Kafka said that some place does not exist, and nobody has looked yet.
    suspect: bool,
}

enum Event {
    Assigned(Vec<u32>),
    Revoked(Vec<u32>),
    Trouble(LogError),
}

/// A partition that is ours.
#[derive(Default)]
struct Feed {
    /// librdkafka fetches it (or would, were it not paused).
    attached: bool,
    /// The reader has said where to begin.
    resumed: bool,
    /// The fetch was started or started again: a first record behind `next` is a hole only if that is proven.
    fresh: bool,
    /// The number after the last that was delivered.
    from: u64,
    /// The number after the last in the queue.
    next: u64,
    /// Each with its number among those that arrived.
    queue: VecDeque<(u64, StoredRecord)>,
    /// `next` when it was last looked whether it moves.
    stood: Option<u64>,
}

/// What became of a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is queued.
    Kept,
    /// It is of no partition that is read, or of an earlier place.
    Dropped,
    /// It comes behind `expected` right after a start: was anything skipped?
    Skips { expected: u64, record: StoredRecord },
}

impl Inbox {
    pub(super) fn new(most_bytes: u64) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), news: Notify::new(), arrival: Notify::new(), most_bytes })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something was put in since the last look. A wake-up is kept for the next call.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    // The thread's side.

    /// Partitions have become ours.
    pub(super) fn assigned(&self, partitions: &[u32]) {
        let mut state = self.state();
        for &partition in partitions {
            state.forget(partition);
            state.feeds.insert(partition, Feed::default());
        }
        state.events.push_back(Event::Assigned(partitions.to_vec()));
        self.news.notify_one();
    }

    /// Partitions are to be given up. Those of which the reader has not even heard are not told of.
    pub(super) fn revoked(&self, partitions: &[u32]) {
        let mut state = self.state();
        let mut told: Vec<u32> = Vec::new();
        for &partition in partitions.iter() {
            state.forget(partition);
            state.feeds.remove(&partition);
            if !state.take_back(partition) {
                told.push(partition);
            }
        }
        state.unreleased.extend(&told);
        if !told.is_empty() {
            state.events.push_back(Event::Revoked(told));
            self.news.notify_one();
        }
    }

    /// Begins a partition at a place. Says whether it is fetched already; `None` where it is not ours.
    pub(super) fn begin(&self, partition: u32, at: u64) -> Option<bool> {
        let mut state = self.state();
        state.forget(partition);
        let feed = state.feeds.get_mut(&partition)?;
        *feed = Feed { attached: feed.attached, resumed: true, fresh: true, from: at, next: at, ..Feed::default() };
        Some(feed.attached)
    }

    /// A place that could not be begun at: nothing is delivered until the next try.
    pub(super) fn stop(&self, partition: u32) {
        let mut state = self.state();
        state.forget(partition);
        if let Some(feed) = state.feeds.get_mut(&partition) {
            feed.resumed = false;
        }
    }

    /// Where a partition goes on, if the reader has said where it begins.
    pub(super) fn place(&self, partition: u32) -> Option<u64> {
        self.state().feeds.get(&partition).filter(|feed| feed.resumed).map(|feed| feed.next)
    }

    /// librdkafka fetches it from now on.
    pub(super) fn attach(&self, partition: u32) {
        if let Some(feed) = self.state().feeds.get_mut(&partition) {
            feed.attached = true;
        }
    }

    /// The fetch of these was started again, at their places.
    pub(super) fn freshen(&self, partitions: &[u32]) {
        let mut state = self.state();
        for partition in partitions {
            if let Some(feed) = state.feeds.get_mut(partition) {
                feed.fresh = true;
            }
        }
    }

    /// Takes a record in. `proven` says that nothing lies between it and the one before.
    pub(super) fn take_in(&self, partition: u32, record: StoredRecord, proven: bool) -> Taken {
        let mut state = self.state();
        let arrived = state.arrived + 1;
        let Some(feed) = state.feeds.get_mut(&partition).filter(|feed| feed.resumed && record.position >= feed.next) else {
            return Taken::Dropped;
        };
        if feed.fresh && !proven && record.position > feed.next {
            return Taken::Skips { expected: feed.next, record };
        }
        feed.fresh = false;
        feed.next = record.position + 1;
        let bytes = weight(&record);
        feed.queue.push_back((arrived, record));
        state.arrived = arrived;
        state.bytes += bytes;
        self.arrival.notify_one();
        Taken::Kept
    }

    /// Takes a partition back and gives it anew, where it still stands at `at`: the reader has to resume.
    pub(super) fn hold(&self, partition: u32, at: u64) {
        let mut state = self.state();
        if state.feeds.get(&partition).is_none_or(|feed| !feed.resumed || feed.next != at) {
            return;
        }
        state.forget(partition);
        let feed = Feed { attached: true, ..Feed::default() };
        state.feeds.insert(partition, feed);
        state.events.push_back(Event::Revoked(vec![partition]));
        state.events.push_back(Event::Assigned(vec![partition]));
        self.news.notify_one();
    }

    /// The attached partitions, and whether each may be fetched.
    pub(super) fn flow(&self, was_full: bool) -> (bool, Vec<(u32, bool)>) {
        let state = self.state();
        let full = state.bytes > if was_full { self.most_bytes / 2 } else { self.most_bytes };
        let attached = state.feeds.iter().filter(|(_, feed)| feed.attached);
        (full, attached.map(|(&partition, feed)| (partition, feed.resumed && !full)).collect())
    }

    pub(super) fn released(&self, partitions: &[u32]) {
        let mut state = self.state();
        for partition in partitions {
            state.unreleased.remove(partition);
        }
    }

    pub(super) fn none_unreleased(&self) -> bool {
        self.state().unreleased.is_empty()
    }

    /// Nothing is waited for any more.
    pub(super) fn give_up_waiting(&self) {
        self.state().unreleased.clear();
    }

    /// From now on there is only this.
    pub(super) fn fail(&self, failure: LogError) {
        self.state().failure.get_or_insert(failure);
        self.news.notify_one();
    }

    /// Something that the reader should hear once.
    pub(super) fn trouble(&self, failure: LogError) {
        let mut state = self.state();
        if !state.events.iter().any(|event| matches!(event, Event::Trouble(_))) {
            state.events.push_back(Event::Trouble(failure));
            self.news.notify_one();
        }
    }

    /// Some place may not exist.
    pub(super) fn suspect(&self) {
        self.state().suspect = true;
        self.news.notify_one();
    }

    /// Suspects the partitions that have not moved since the last call.
    pub(super) fn look_for_still_ones(&self) {
        let mut state = self.state();
        let mut is_still = false;
        for feed in state.feeds.values_mut().filter(|feed| feed.resumed && feed.attached) {
            is_still |= feed.stood.replace(feed.next) == Some(feed.next);
        }
        if is_still {
            state.suspect = true;
            self.news.notify_one();
        }
    }

    // The side of who vouches.

    /// Waits until there are records that nobody has vouched for. Says how many have arrived until now.
    pub(super) async fn arrived(&self) -> u64 {
        loop {
            let (arrived, vouched) = {
                let state = self.state();
                (state.arrived, state.vouched)
            };
            if arrived > vouched {
                return arrived;
            }
            self.arrival.notified().await;
        }
    }

    /// So many of those that have arrived may be delivered.
    pub(super) fn vouched(&self, arrived: u64) {
        self.state().vouched = arrived;
        self.news.notify_one();
    }

    // The reader's side.

    /// What comes next, if anything is there.
    pub(super) fn take(&self) -> Result<Option<Delivery>, LogError> {
        let mut state = self.state();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        match state.events.pop_front() {
            Some(Event::Assigned(partitions)) => Ok(Some(Delivery::Assigned(partitions))),
            Some(Event::Revoked(partitions)) => Ok(Some(Delivery::Revoked(partitions))),
            Some(Event::Trouble(failure)) => Err(failure),
            None => Ok(state.records()),
        }
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.state().suspect
    }

    /// Somebody looks now.
    pub(super) fn inspecting(&self) {
        self.state().suspect = false;
    }

    /// Where each partition that is read stands.
    pub(super) fn places(&self) -> Vec<(u32, u64)> {
        self.state().feeds.iter().filter(|(_, feed)| feed.resumed).map(|(&partition, feed)| (partition, feed.next)).collect()
    }
}

impl State {
    /// Drops what is queued of a partition.
    fn forget(&mut self, partition: u32) {
        if let Some(feed) = self.feeds.get_mut(&partition) {
            self.bytes -= feed.queue.drain(..).map(|(_, record)| weight(&record)).sum::<u64>();
            feed.next = feed.from;
        }
    }

    /// Takes a partition out of an assignment that was not delivered yet. A partition that was revoked before it stays told.
    fn take_back(&mut self, partition: u32) -> bool {
        let mut found = false;
        for event in &mut self.events {
            if let Event::Assigned(partitions) = event {
                let before = partitions.len();
                partitions.retain(|other| *other != partition);
                found |= partitions.len() < before;
            }
        }
        self.events.retain(|event| !matches!(event, Event::Assigned(partitions) if partitions.is_empty()));
        found
    }

    fn records(&mut self) -> Option<Delivery> {
        let vouched = self.vouched;
        let filled = |(&partition, feed): (&u32, &Feed)| feed.queue.front().filter(|(arrived, _)| *arrived <= vouched).map(|_| partition);
        let after = self.feeds.range(self.last.saturating_add(1)..).find_map(filled);
        let partition = after.or_else(|| self.feeds.iter().find_map(filled))?;
        self.last = partition;
        let feed = self.feeds.get_mut(&partition)?;
        let (mut records, mut bytes) = (Vec::new(), 0);
        while records.len() < DELIVERY_RECORDS && bytes < DELIVERY_BYTES {
            let Some((_, record)) = feed.queue.pop_front_if(|(arrived, _)| *arrived <= vouched) else { break };
            bytes += record.payload.len();
            self.bytes -= weight(&record);
            records.push(record);
        }
        let next = records.last()?.position + 1;
        let from = std::mem::replace(&mut feed.from, next);
        Some(Delivery::Records { partition, from, next, records })
    }
}

fn weight(record: &StoredRecord) -> u64 {
    record.payload.len() as u64 + RECORD_BYTES
}

#[cfg(test)]
mod tests;
