//! Reading a log as ingest does, with the rules of delivery checked on the way.

use crate::{eventually, within};
use headwater_core::log::{Bounds, Delivery, EventLog, Gap, LogError, Position, Record, StoredRecord, Subscription};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time;

/// How long a log gets to deliver what it must not deliver.
const SILENCE: Duration = Duration::from_millis(60);

/// A subscription that has all partitions, and where it stands in each.
pub(super) struct Reader {
    subscription: Box<dyn Subscription>,
    cursors: BTreeMap<u32, u64>,
}

impl Reader {
    /// Subscribes and waits until every partition is assigned. Nothing is resumed.
    pub(super) async fn join(log: &dyn EventLog) -> Self {
        let mut waiting: Vec<u32> = bounds(log).await.iter().map(|bounds| bounds.partition).collect();
        let mut subscription = log.subscribe("contract").await.expect("subscribe");
        while !waiting.is_empty() {
            match within(subscription.next()).await.expect("wait for the partitions") {
                Delivery::Assigned(partitions) => waiting.retain(|partition| !partitions.contains(partition)),
                other => panic!("before every partition was assigned, the log delivered {other:?}"),
            }
        }
        Self { subscription, cursors: BTreeMap::new() }
    }

    /// Joins and resumes: `partition` from `position`, the others from the start.
    pub(super) async fn from(log: &dyn EventLog, partition: u32, position: Option<Position>) -> Self {
        let mut reader = Self::join(log).await;
        reader.resume(log, partition, position).await.expect("resume");
        reader
    }

    /// Resumes `partition` from `position` and every other one from the start.
    pub(super) async fn resume(&mut self, log: &dyn EventLog, partition: u32, position: Option<Position>) -> Result<Vec<Gap>, LogError> {
        let at = |bounds: &Bounds| if bounds.partition == partition { position.clone() } else { None };
        let bounds = bounds(log).await;
        let gaps = within(self.subscription.resume(bounds.iter().map(|bounds| (bounds.partition, at(bounds))).collect())).await?;
        self.cursors = bounds
            .iter()
            .map(|bounds| (bounds.partition, at(bounds).map_or(bounds.start, |position| position.next.max(bounds.start))))
            .collect();
        Ok(gaps)
    }

    /// The next records of any partition. Waits as long as `patience` says; `None` when the call was dropped.
    async fn delivered(&mut self, patience: impl Future<Output = ()>) -> Option<(u32, Vec<StoredRecord>)> {
        let delivery = tokio::select! {
            biased;
            delivery = self.subscription.next() => delivery.expect("wait for records"),
            () = patience => return None,
        };
        let Delivery::Records { partition, from, next, records } = delivery else {
            panic!("while reading, the log delivered {delivery:?}");
        };
        let cursor = self.cursors.get_mut(&partition).expect("records of a partition that was resumed");
        assert_eq!(from, *cursor, "partition {partition} is delivered without holes");
        assert!(from < next, "a delivery moves forward: {from}..{next}");
        assert!(records.iter().is_sorted_by(|a, b| a.position < b.position), "records come in order");
        assert!(records.iter().all(|record| (from..next).contains(&record.position)), "records are of the range {from}..{next}");
        *cursor = next;
        Some((partition, records))
    }

    /// Reads until `partition` stands at `end`; its records.
    pub(super) async fn read_to(&mut self, partition: u32, end: u64) -> Vec<StoredRecord> {
        let mut read = Vec::new();
        while self.cursors[&partition] < end {
            let (from, records) = within(self.delivered(std::future::pending())).await.expect("a call that was not dropped");
            if from == partition {
                read.extend(records);
            }
        }
        assert_eq!(self.cursors[&partition], end, "nothing beyond the end of partition {partition} is delivered");
        read
    }

    /// Calls `next` a few times and drops the call: after one look, after two, after some time. What came nevertheless.
    pub(super) async fn read_while_dropping(&mut self, partition: u32) -> Vec<StoredRecord> {
        let mut read = Vec::new();
        for call in 0u64..7 {
            let delivered = match call {
                0..3 => self.delivered(std::future::ready(())).await,
                3..5 => self.delivered(tokio::task::yield_now()).await,
                _ => self.delivered(time::sleep(Duration::from_micros(call * 100))).await,
            };
            read.extend(delivered.into_iter().filter(|(from, _)| *from == partition).flat_map(|(_, records)| records));
        }
        read
    }

    /// Asserts that nothing is delivered for a while.
    pub(super) async fn hears_nothing(&mut self) {
        if let Ok(delivery) = time::timeout(SILENCE, self.subscription.next()).await {
            panic!("the log delivered {delivery:?}");
        }
    }
}

/// Reads `partition` from `position` to its end.
pub(super) async fn read_from(log: &dyn EventLog, partition: u32, position: Option<Position>) -> Vec<StoredRecord> {
    let end = bounds_of(log, partition).await.end;
    Reader::from(log, partition, position).await.read_to(partition, end).await
}

/// Reads all of `partition`.
pub(super) async fn read(log: &dyn EventLog, partition: u32) -> Vec<StoredRecord> {
    read_from(log, partition, None).await
}

pub(super) async fn bounds(log: &dyn EventLog) -> Vec<Bounds> {
    let bounds = within(log.bounds()).await.expect("ask for the bounds");
    assert!(!bounds.is_empty(), "a log has at least one partition");
    bounds
}

pub(super) async fn bounds_of(log: &dyn EventLog, partition: u32) -> Bounds {
    let found = bounds(log).await.into_iter().find(|bounds| bounds.partition == partition);
    found.unwrap_or_else(|| panic!("partition {partition} has no bounds"))
}

/// The partition that most properties speak of: the last, which is not 0 where there are several.
pub(super) async fn a_partition(log: &dyn EventLog) -> u32 {
    bounds(log).await.last().map_or(0, |bounds| bounds.partition)
}

/// A small record that tells which it is.
pub(super) fn numbered(partition: u32, n: u64) -> Record {
    crate::builders::record(partition, format!("record {n}"))
}

/// Appends small records `numbers`, each in a call of its own.
pub(super) async fn append(log: &dyn EventLog, partition: u32, numbers: std::ops::Range<u64>) {
    for n in numbers {
        within(log.append(vec![numbered(partition, n)])).await.expect("append a record");
    }
}

/// What the payloads of small records say.
pub(super) fn texts(records: &[StoredRecord]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8_lossy(&record.payload).into_owned()).collect()
}

/// What the payloads of small records `numbers` say.
pub(super) fn expected(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|n| format!("record {n}")).collect()
}

/// The position of a reader that has applied all before number `next` of `records` (which begin at number 0).
pub(super) fn position(log: &dyn EventLog, partition: u32, records: &[StoredRecord], next: u64) -> Position {
    let last = next.checked_sub(1).and_then(|last| records.iter().find(|record| record.position == last));
    Position { log: log.identity(), partition, next, crc: last.map(|record| record.crc) }
}

/// Says that all before `next` is applied, and waits until the log has deleted it.
pub(super) async fn trim(log: &dyn EventLog, partition: u32, next: u64) {
    eventually("applied records to be deleted", async || {
        within(log.trim_to(&[(partition, next)])).await.expect("trim");
        (bounds_of(log, partition).await.start == next).then_some(())
    })
    .await;
}
