//! Reading single records where they lie: for the CRC of the last applied one, the time of the oldest one, and to prove holes.
//!
//! Owns: a consumer in no group, used by one caller at a time. Does not know: subscriptions. Invariant: every call ends at its
//! deadline, and leaves nothing assigned. All of it blocks: not for a thread of the runtime.

use crate::context::Context;
use crate::{error, record};
use headwater_core::log::{LogError, StoredRecord};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long one look may take.
const WAIT: Duration = Duration::from_secs(5);
/// The most records and bytes that are looked at for the least receive time: gateways' clocks differ by far less than these span.
const MOST_RECORDS: usize = 64;
const MOST_BYTES: usize = 1 << 20;

/// Looks at records.
pub(crate) struct ReadBack {
    consumer: Mutex<BaseConsumer<Context>>,
    topic: String,
}

impl ReadBack {
    pub(crate) fn new(consumer: BaseConsumer<Context>, topic: String) -> Self {
        Self { consumer: Mutex::new(consumer), topic }
    }

    /// The first record from `from` on; `None` where there is none up to the end. `from` must not lie beyond the end.
    pub(crate) fn first(&self, partition: u32, from: u64) -> Result<Option<StoredRecord>, LogError> {
        Ok(self.some(partition, from, 1)?.pop())
    }

    /// The first records from `from` on: a few, so that one odd clock among them does not count for more than it is.
    pub(crate) fn firsts(&self, partition: u32, from: u64) -> Result<Vec<StoredRecord>, LogError> {
        self.some(partition, from, MOST_RECORDS)
    }

    fn some(&self, partition: u32, from: u64, most: usize) -> Result<Vec<StoredRecord>, LogError> {
        let doing = || format!("read record {from} of partition {partition} of topic {}", self.topic);
        let consumer = self.consumer.lock().unwrap_or_else(PoisonError::into_inner);
        let read = self.read(&consumer, partition, from, most);
        let left = consumer.unassign();
        let records = read.map_err(|failure| match failure {
            Some(failure) => error::of(&doing(), &failure),
            None => LogError::Unavailable(format!("{}: no answer in time", doing())),
        })?;
        left.map_err(|failure| error::of(&doing(), &failure))?;
        Ok(records)
    }

    /// `None` as an error is the deadline.
    fn read(
        &self,
        consumer: &BaseConsumer<Context>,
        partition: u32,
        from: u64,
        most: usize,
    ) -> Result<Vec<StoredRecord>, Option<KafkaError>> {
        let deadline = Instant::now() + WAIT;
        let mut list = TopicPartitionList::with_capacity(1);
        let offset = Offset::Offset(i64::try_from(from).unwrap_or(i64::MAX));
        list.add_partition_offset(&self.topic, partition as i32, offset).map_err(Some)?;
        consumer.assign(&list).map_err(Some)?;
        let mut records = Vec::new();
        let mut bytes = 0;
        while records.len() < most && bytes < MOST_BYTES {
            let left = deadline.saturating_duration_since(Instant::now());
            match consumer.poll(left.min(Duration::from_millis(100))) {
                // What was fetched for an earlier call is not looked at.
                Some(Ok(message)) if message.partition() != partition as i32 || message.offset() < from as i64 => {}
                Some(Ok(message)) => {
                    bytes += message.payload_len();
                    records.push(record::stored(&message));
                }
                Some(Err(KafkaError::PartitionEOF(at))) if at == partition as i32 => break,
                Some(Err(failure)) if failure.rdkafka_error_code().is_some_and(error::is_about_the_topic) => return Err(Some(failure)),
                // The client connects again by itself.
                Some(Err(_)) | None => {}
            }
            if Instant::now() >= deadline {
                return if records.is_empty() { Err(None) } else { Ok(records) };
            }
        }
        Ok(records)
    }
}
