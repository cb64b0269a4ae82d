//! An [`EventLog`] in memory, for tests of roles.
//!
//! Owns: [`MemoryLog`]. Does not know: what is in a record. Clones share one log; a clone is what a restart finds again.
//! Invariants: it passes the suite that the backends pass; records are deleted as soon as they are applied, so that a test
//! sees what trimming does. One lock, never held across an await.

use bytes::Bytes;
use headwater_core::BoxFuture;
use headwater_core::log::{
    Bounds, Delivery, EventLog, Foreign, Gap, LogError, LogId, MAX_RECORD_BYTES, Position, Record, StoredRecord, Subscription,
};
use headwater_core::time::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use uuid::Uuid;

/// The most records of one delivery: few, so that a test sees several.
const DELIVERY_RECORDS: usize = 16;

/// A log in memory. Clones share it.
#[derive(Debug, Clone)]
pub struct MemoryLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    id: LogId,
    state: Mutex<State>,
    /// Its value rises with every change that a waiting reader may care about.
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    partitions: Vec<Partition>,
    groups: BTreeMap<String, Group>,
    next_member: u64,
}

#[derive(Debug, Default)]
struct Partition {
    start: u64,
    records: VecDeque<StoredRecord>,
}

impl Partition {
    fn end(&self) -> u64 {
        self.start + self.records.len() as u64
    }

    fn push(&mut self, received_at: Timestamp, count: u64, payload: Bytes, foreign: Option<Box<Foreign>>) {
        let (position, crc) = (self.end(), crc32fast::hash(&payload));
        self.records.push_back(StoredRecord { position, received_at, count, payload, crc, damaged: false, foreign });
    }

    fn record(&self, position: u64) -> Option<&StoredRecord> {
        let at = position.checked_sub(self.start)?;
        self.records.get(usize::try_from(at).ok()?)
    }
}

/// The subscriptions of a group, who is first in line for free partitions, and who has which.
#[derive(Debug, Default)]
struct Group {
    members: Vec<u64>,
    owners: BTreeMap<u32, u64>,
    /// Partitions to be told as revoked.
    revoking: Vec<u32>,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new(1)
    }
}

impl MemoryLog {
    /// An empty log with this many partitions and a new identity.
    pub fn new(partitions: u32) -> Self {
        let partitions = (0..partitions).map(|_| Partition::default()).collect();
        let state = State { partitions, groups: BTreeMap::new(), next_member: 0 };
        Self(Arc::new(Shared { id: LogId(Uuid::new_v4().to_string()), state: Mutex::new(state), changed: watch::Sender::new(0) }))
    }

    /// The records that a partition holds now.
    pub fn records(&self, partition: u32) -> Vec<StoredRecord> {
        self.state().partitions.get(partition as usize).map(|found| found.records.iter().cloned().collect()).unwrap_or_default()
    }

    /// Puts a record there as another program does, past [`EventLog::append`] and its limits.
    ///
    /// # Panics
    /// When there is no such partition.
    pub fn put_foreign(&self, partition: u32, received_at: Timestamp, payload: impl Into<Bytes>, foreign: Foreign) {
        self.state().partitions[partition as usize].push(received_at, 0, payload.into(), Some(Box::new(foreign)));
        self.wake();
    }

    /// Changes a byte of a kept record, as bit rot does: it is delivered as damaged from now on.
    ///
    /// # Panics
    /// When there is no such record.
    pub fn damage(&self, partition: u32, position: u64) {
        let mut state = self.state();
        let found = &mut state.partitions[partition as usize];
        let at = usize::try_from(position - found.start).expect("a position that is kept");
        let record = &mut found.records[at];
        let mut bytes = record.payload.to_vec();
        match bytes.first_mut() {
            Some(byte) => *byte ^= 1,
            None => bytes.push(0),
        }
        record.payload = Bytes::from(bytes);
        record.damaged = true;
    }

    /// Takes partitions away from the subscriptions of a group that have them, as a rebalance does: they are told `Revoked`,
    /// and when they have released them, the next subscription in line is assigned them (the same one where there is no other).
    pub fn revoke(&self, group: &str, partitions: &[u32]) {
        if let Some(group) = self.state().groups.get_mut(group) {
            group.revoking.extend_from_slice(partitions);
        }
        self.wake();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.0.changed.send_modify(|n| *n += 1);
    }
}

impl State {
    fn partition(&self, partition: u32) -> Result<&Partition, LogError> {
        self.partitions.get(partition as usize).ok_or_else(|| no_partition(partition))
    }

    fn append(&mut self, records: Vec<Record>) -> Result<(), LogError> {
        for record in &records {
            self.partition(record.partition)?;
            if record.payload.len() > MAX_RECORD_BYTES {
                return Err(LogError::Corrupt(format!("a record of {} bytes is larger than {MAX_RECORD_BYTES}", record.payload.len())));
            }
        }
        for Record { partition, received_at, count, key: _, payload } in records {
            self.partitions[partition as usize].push(received_at, count, payload, None);
        }
        Ok(())
    }

    fn trim_to(&mut self, applied: &[(u32, u64)]) -> Result<(), LogError> {
        for &(partition, next) in applied {
            self.partition(partition)?;
            let partition = &mut self.partitions[partition as usize];
            while partition.start < next && partition.records.pop_front().is_some() {
                partition.start += 1;
            }
        }
        Ok(())
    }
}

fn no_partition(partition: u32) -> LogError {
    LogError::Corrupt(format!("the log has no partition {partition}"))
}

impl EventLog for MemoryLog {
    fn identity(&self) -> LogId {
        self.0.id.clone()
    }

    fn durability(&self) -> &'static str {
        "memory"
    }

    fn partition_of(&self, device: &str) -> u32 {
        crc32fast::hash(device.as_bytes()) % self.state().partitions.len() as u32
    }

    fn bounds(&self) -> BoxFuture<'_, Result<Vec<Bounds>, LogError>> {
        Box::pin(async {
            let state = self.state();
            let numbered = state.partitions.iter().zip(0..);
            Ok(numbered.map(|(found, partition)| Bounds { partition, start: found.start, end: found.end() }).collect())
        })
    }

    fn oldest_from(&self, partition: u32, next: u64) -> BoxFuture<'_, Result<Option<Timestamp>, LogError>> {
        Box::pin(async move {
            let state = self.state();
            let records = &state.partition(partition)?.records;
            Ok(records.iter().filter(|record| record.position >= next).map(|record| record.received_at).min())
        })
    }

    fn received_at(&self, partition: u32, position: u64) -> BoxFuture<'_, Result<Option<Timestamp>, LogError>> {
        Box::pin(async move {
            let state = self.state();
            let records = &state.partition(partition)?.records;
            Ok(records.iter().find(|record| record.position == position).map(|record| record.received_at))
        })
    }

    fn append(&self, records: Vec<Record>) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move {
            self.state().append(records)?;
            self.wake();
            Ok(())
        })
    }

    fn writable(&self) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async { Ok(()) })
    }

    fn subscribe(&self, group: &str) -> BoxFuture<'_, Result<Box<dyn Subscription>, LogError>> {
        let group = group.to_owned();
        Box::pin(async move {
            let mut state = self.state();
            let member = state.next_member;
            state.next_member += 1;
            state.groups.entry(group.clone()).or_default().members.push(member);
            drop(state);
            let changed = self.0.changed.subscribe();
            Ok(Box::new(MemorySubscription { log: self.clone(), group, member, cursors: BTreeMap::new(), changed })
                as Box<dyn Subscription>)
        })
    }

    fn trim_to(&self, applied: &[(u32, u64)]) -> BoxFuture<'_, Result<(), LogError>> {
        let applied = applied.to_vec();
        Box::pin(async move { self.state().trim_to(&applied) })
    }
}

struct MemorySubscription {
    log: MemoryLog,
    group: String,
    member: u64,
    /// The next record of each partition that was resumed.
    cursors: BTreeMap<u32, u64>,
    changed: watch::Receiver<u64>,
}

impl MemorySubscription {
    /// What can be delivered at once. Takes nothing until it returns, so a dropped `next` loses nothing.
    fn ready(&mut self) -> Result<Option<Delivery>, LogError> {
        let log = self.log.clone();
        let mut state = log.state();
        let State { partitions, groups, .. } = &mut *state;
        let group = groups.entry(self.group.clone()).or_default();
        let revoked = group.take_revoked(self.member);
        if !revoked.is_empty() {
            self.cursors.retain(|partition, _| !revoked.contains(partition));
            return Ok(Some(Delivery::Revoked(revoked)));
        }
        let assigned = group.take_free(self.member, partitions.len() as u32);
        if !assigned.is_empty() {
            return Ok(Some(Delivery::Assigned(assigned)));
        }
        for (&partition, from) in &mut self.cursors {
            let found = &partitions[partition as usize];
            if *from < found.start {
                return Err(LogError::Corrupt(format!(
                    "record {from} was trimmed before it was delivered; the log starts at {}",
                    found.start
                )));
            }
            let at = usize::try_from(*from - found.start).unwrap_or(usize::MAX);
            let records: Vec<_> = found.records.iter().skip(at).take(DELIVERY_RECORDS).cloned().collect();
            if !records.is_empty() {
                let next = *from + records.len() as u64;
                let delivery = Delivery::Records { partition, from: *from, next, records };
                *from = next;
                return Ok(Some(delivery));
            }
        }
        Ok(None)
    }
}

impl Group {
    fn take_revoked(&mut self, member: u64) -> Vec<u32> {
        let (mine, others) =
            std::mem::take(&mut self.revoking).into_iter().partition(|partition| self.owners.get(partition) == Some(&member));
        self.revoking = others;
        mine
    }

    fn take_free(&mut self, member: u64, partitions: u32) -> Vec<u32> {
        if self.members.first() != Some(&member) {
            return Vec::new();
        }
        let free: Vec<u32> = (0..partitions).filter(|partition| !self.owners.contains_key(partition)).collect();
        self.owners.extend(free.iter().map(|&partition| (partition, member)));
        free
    }

    fn leave(&mut self, member: u64) {
        self.members.retain(|&other| other != member);
        self.owners.retain(|_, owner| *owner != member);
    }
}

/// Where to begin, and the gap before it.
fn check(log: &LogId, partition: u32, found: &Partition, position: Option<&Position>) -> Result<(u64, Option<Gap>), LogError> {
    let Some(position) = position else {
        return Ok((found.start, None));
    };
    if position.log != *log {
        return Err(LogError::Corrupt(format!("the stored position is of log {}, but this is log {log}", position.log)));
    }
    if position.next > found.end() {
        return Err(LogError::Corrupt(format!("the stored position {} lies beyond the log's end {}", position.next, found.end())));
    }
    if let Some(last) = position.next.checked_sub(1).and_then(|last| found.record(last))
        && let Some(crc) = position.crc
        && crc != last.crc
    {
        return Err(LogError::Corrupt(format!("record {} has crc {:08x}, but {crc:08x} was applied", last.position, last.crc)));
    }
    if position.next < found.start {
        return Ok((found.start, Some(Gap { log: log.clone(), partition, from: position.next, to: found.start })));
    }
    Ok((position.next, None))
}

impl Subscription for MemorySubscription {
    fn next(&mut self) -> BoxFuture<'_, Result<Delivery, LogError>> {
        Box::pin(async {
            loop {
                self.changed.borrow_and_update();
                if let Some(delivery) = self.ready()? {
                    return Ok(delivery);
                }
                // The sender lives in the log that this subscription holds.
                self.changed.changed().await.map_err(|_| LogError::Stopped("the log is gone".to_owned()))?;
            }
        })
    }

    fn resume(&mut self, positions: Vec<(u32, Option<Position>)>) -> BoxFuture<'_, Result<Vec<Gap>, LogError>> {
        Box::pin(async move {
            let state = self.log.state();
            let mut cursors = Vec::new();
            let mut gaps = Vec::new();
            for (partition, position) in positions {
                let (from, gap) = check(&self.log.0.id, partition, state.partition(partition)?, position.as_ref())?;
                cursors.push((partition, from));
                gaps.extend(gap);
            }
            self.cursors.extend(cursors);
            Ok(gaps)
        })
    }

    fn released(&mut self, partitions: &[u32]) -> BoxFuture<'_, Result<(), LogError>> {
        let partitions = partitions.to_vec();
        Box::pin(async move {
            if let Some(group) = self.log.state().groups.get_mut(&self.group) {
                group.owners.retain(|partition, owner| *owner != self.member || !partitions.contains(partition));
                group.members.retain(|&member| member != self.member);
                group.members.push(self.member);
            }
            self.log.wake();
            Ok(())
        })
    }
}

impl Drop for MemorySubscription {
    fn drop(&mut self) {
        if let Some(group) = self.log.state().groups.get_mut(&self.group) {
            group.leave(self.member);
        }
        self.log.wake();
    }
}
