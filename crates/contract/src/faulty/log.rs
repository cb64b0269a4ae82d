//! A log that fails when told to.

use super::Faults;
use headwater_core::BoxFuture;
use headwater_core::log::{Bounds, Delivery, EventLog, Gap, LogError, LogId, Position, Record, Subscription};
use headwater_core::time::Timestamp;

/// A call of [`EventLog`] or [`Subscription`] that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the calls' own names")]
pub enum LogCall {
    Bounds,
    OldestFrom,
    Append,
    Writable,
    Subscribe,
    TrimTo,
    Next,
    Resume,
    Released,
}

/// A log, and what is planned for its calls and those of its subscriptions.
pub struct FaultyLog {
    log: Box<dyn EventLog>,
    /// What is planned.
    pub faults: Faults<LogCall, LogError>,
}

impl FaultyLog {
    /// A log that does what `log` does until something is planned.
    pub fn new(log: impl EventLog + 'static) -> Self {
        Self { log: Box::new(log), faults: Faults::default() }
    }
}

impl EventLog for FaultyLog {
    fn identity(&self) -> LogId {
        self.log.identity()
    }

    fn durability(&self) -> &'static str {
        self.log.durability()
    }

    fn partition_of(&self, device: &str) -> u32 {
        self.log.partition_of(device)
    }

    fn bounds(&self) -> BoxFuture<'_, Result<Vec<Bounds>, LogError>> {
        Box::pin(self.faults.through(LogCall::Bounds, self.log.bounds()))
    }

    fn oldest_from(&self, partition: u32, next: u64) -> BoxFuture<'_, Result<Option<Timestamp>, LogError>> {
        Box::pin(self.faults.through(LogCall::OldestFrom, self.log.oldest_from(partition, next)))
    }

    fn received_at(&self, partition: u32, position: u64) -> BoxFuture<'_, Result<Option<Timestamp>, LogError>> {
        Box::pin(self.faults.through(LogCall::OldestFrom, self.log.received_at(partition, position)))
    }

    fn append(&self, records: Vec<Record>) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(self.faults.through(LogCall::Append, self.log.append(records)))
    }

    fn writable(&self) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(self.faults.through(LogCall::Writable, self.log.writable()))
    }

    fn subscribe(&self, group: &str) -> BoxFuture<'_, Result<Box<dyn Subscription>, LogError>> {
        let subscribing = self.faults.through(LogCall::Subscribe, self.log.subscribe(group));
        Box::pin(async move {
            let subscription = FaultySubscription { subscription: subscribing.await?, faults: self.faults.clone() };
            Ok(Box::new(subscription) as Box<dyn Subscription>)
        })
    }

    fn trim_to(&self, applied: &[(u32, u64)]) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(self.faults.through(LogCall::TrimTo, self.log.trim_to(applied)))
    }
}

struct FaultySubscription {
    subscription: Box<dyn Subscription>,
    faults: Faults<LogCall, LogError>,
}

impl Subscription for FaultySubscription {
    fn next(&mut self) -> BoxFuture<'_, Result<Delivery, LogError>> {
        Box::pin(self.faults.through(LogCall::Next, self.subscription.next()))
    }

    fn resume(&mut self, positions: Vec<(u32, Option<Position>)>) -> BoxFuture<'_, Result<Vec<Gap>, LogError>> {
        Box::pin(self.faults.through(LogCall::Resume, self.subscription.resume(positions)))
    }

    fn released(&mut self, partitions: &[u32]) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(self.faults.through(LogCall::Released, self.subscription.released(partitions)))
    }
}
