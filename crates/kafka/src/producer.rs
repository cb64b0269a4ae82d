//! Appending: records in, acknowledgement of all in-sync replicas out.
//!
//! Owns: the producer's client, one [`Call`] for each append. Does not know: which partition a device has, readers.
//! Invariants: `Ok` only when every record of the call is acknowledged; records of one call keep their order within a partition
//! (they are queued in order and the idempotent producer sends in that order); no lock is held across an await.

use crate::context::Context;
use crate::{error, record};
use headwater_core::log::{LogError, MAX_RECORD_BYTES, Record};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long an append waits for room in the local queue before it says busy.
const ROOM_WAIT: Duration = Duration::from_secs(2);
/// How often it looks for room.
const ROOM_PAUSE: Duration = Duration::from_millis(5);
/// librdkafka reports every record within `message.timeout.ms`; this much later something is wrong with it.
const REPORT_SLACK: Duration = Duration::from_secs(10);

/// The records of one append that are not acknowledged yet.
#[derive(Debug)]
pub(crate) struct Call {
    remaining: AtomicUsize,
    failure: Mutex<Option<KafkaError>>,
    done: Notify,
}

impl Call {
    fn new(records: usize) -> Arc<Self> {
        Arc::new(Self { remaining: AtomicUsize::new(records), failure: Mutex::new(None), done: Notify::new() })
    }

    /// One of its records was acknowledged, or not. Called by librdkafka's thread.
    pub(crate) fn settle(&self, failure: Option<KafkaError>) {
        if failure.is_some() {
            let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            *first = first.take().or(failure);
        }
        if self.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_one();
        }
    }

    /// Waits until all are. The permit of `notify_one` is kept, so an end before the call is not missed.
    async fn settled(&self) -> Result<(), KafkaError> {
        self.done.notified().await;
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}

/// Appends to one topic.
pub(crate) struct Producer {
    client: ThreadedProducer<Context>,
    topic: String,
    append_wait: Duration,
    queue_bytes: u64,
    /// Bytes of payload that are queued or on their way, for readiness.
    waiting: AtomicU64,
    /// Begins the ids of this producer's records; another process has another.
    instance: String,
    next_id: AtomicU64,
}

impl Producer {
    pub(crate) fn new(client: ThreadedProducer<Context>, topic: String, config: &crate::Config, instance: String) -> Self {
        let (append_wait, queue_bytes) = (config.append_wait(), config.queue_bytes);
        Self { client, topic, append_wait, queue_bytes, waiting: AtomicU64::new(0), instance, next_id: AtomicU64::new(0) }
    }

    /// Appends, and returns when all are acknowledged.
    pub(crate) async fn append(&self, records: Vec<Record>) -> Result<(), LogError> {
        if records.is_empty() {
            return Ok(());
        }
        if let Some(record) = records.iter().find(|record| record.payload.len() > MAX_RECORD_BYTES) {
            let bytes = record.payload.len();
            return Err(LogError::Corrupt(format!("a record of {bytes} bytes is larger than {MAX_RECORD_BYTES}")));
        }
        let bytes = records.iter().map(|record| record.payload.len() as u64).sum();
        let _counted = Counted::new(&self.waiting, bytes);
        let call = Call::new(records.len());
        let until = Instant::now() + ROOM_WAIT;
        for record in &records {
            self.enqueue(record, &call, until).await?;
        }
        match tokio::time::timeout(self.append_wait + REPORT_SLACK, call.settled()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(self.failed(&failure)),
            Err(_late) => Err(LogError::Unavailable(format!("append to topic {}: no report in time", self.topic))),
        }
    }

    async fn enqueue(&self, record: &Record, call: &Arc<Call>, until: Instant) -> Result<(), LogError> {
        loop {
            match self.try_enqueue(record, call) {
                Ok(()) => return Ok(()),
                Err(KafkaError::MessageProduction(Code::QueueFull)) if Instant::now() < until => {}
                Err(failure) => return Err(self.failed(&failure)),
            }
            tokio::time::sleep(ROOM_PAUSE).await;
        }
    }

    fn try_enqueue(&self, record: &Record, call: &Arc<Call>) -> Result<(), KafkaError> {
        let partition = i32::try_from(record.partition).map_err(|_| KafkaError::MessageProduction(Code::UnknownPartition))?;
        let id = format!("{}-{:x}", self.instance, self.next_id.fetch_add(1, Ordering::Relaxed));
        let mut message = BaseRecord::<str, [u8], _>::with_opaque_to(&self.topic, Arc::clone(call))
            .partition(partition)
            .timestamp(record::timestamp_ms(record))
            .headers(record::headers(record, &id))
            .payload(&record.payload[..]);
        message.key = record.key.as_deref();
        self.client.send(message).map_err(|(error, _message)| error)
    }

    fn failed(&self, failure: &KafkaError) -> LogError {
        match self.fatal() {
            Some(stopped) => stopped,
            None => error::of(&format!("append to topic {}", self.topic), failure),
        }
    }

    /// The error after which this producer can do nothing any more.
    pub(crate) fn fatal(&self) -> Option<LogError> {
        let (code, why) = self.client.client().fatal_error()?;
        Some(LogError::Stopped(format!("append to topic {}: {code}: {why}", self.topic)))
    }

    /// Whether the local queue has room.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < self.queue_bytes
    }
}

/// Counts bytes while it lives, however the call ends.
struct Counted<'a>(&'a AtomicU64, u64);

impl<'a> Counted<'a> {
    fn new(counter: &'a AtomicU64, bytes: u64) -> Self {
        counter.fetch_add(bytes, Ordering::Relaxed);
        Self(counter, bytes)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_ends_with_its_last_record_and_its_first_failure() {
        let call = Call::new(3);
        call.settle(None);
        call.settle(Some(KafkaError::MessageProduction(Code::MessageTimedOut)));
        call.settle(Some(KafkaError::MessageProduction(Code::QueueFull)));
        let failure = call.settled().await.unwrap_err();
        assert_eq!(failure.rdkafka_error_code(), Some(Code::MessageTimedOut));
    }

    #[tokio::test]
    async fn a_call_is_not_done_before_its_last_record() {
        let call = Call::new(2);
        call.settle(None);
        assert!(tokio::time::timeout(Duration::from_millis(5), call.settled()).await.is_err());
        call.settle(None);
        assert!(call.settled().await.is_ok());
    }
}
