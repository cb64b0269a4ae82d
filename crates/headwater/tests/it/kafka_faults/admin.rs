//! What an administrator does to a topic, and what other programs put on it.
//!
//! Owns: the calls. Does not know: Headwater, but for the names of topics.

use super::ground::HEALED;
use crate::backends::Backends;
use crate::stack::wait_for;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use std::time::Duration;
use tokio::runtime::Runtime;

const WAIT: Duration = Duration::from_secs(10);

/// An administrator of the topic of a test.
pub(crate) struct Admin {
    topic: String,
    client: AdminClient<DefaultClientContext>,
    producer: FutureProducer,
    runtime: Runtime,
}

impl Admin {
    pub(crate) fn of(backends: &Backends) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &backends.brokers).set("allow.auto.create.topics", "false");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = config.create().unwrap();
        // As Java's clients choose partitions.
        let producer = config.set("partitioner", "murmur2_random").create().unwrap();
        Self { topic: backends.name.clone(), client, producer, runtime }
    }

    /// Gives the topic more partitions: `count` in all.
    pub(crate) fn add_partitions(&self, count: usize) {
        let (wanted, options) = ([NewPartitions::new(&self.topic, count)], options());
        self.runtime.block_on(self.client.create_partitions(&wanted, &options)).unwrap().remove(0).unwrap();
    }

    /// Deletes what lies before `next`, as retention does.
    pub(crate) fn delete_before(&self, partition: u64, next: u64) {
        let mut list = TopicPartitionList::new();
        let (partition, next) = (i32::try_from(partition).unwrap(), i64::try_from(next).unwrap());
        list.add_partition_offset(&self.topic, partition, Offset::Offset(next)).unwrap();
        self.runtime.block_on(self.client.delete_records(&list, &options())).unwrap();
    }

    /// Deletes the topic and makes another one of the same name.
    pub(crate) fn make_again(&self, partitions: i32) {
        self.runtime.block_on(self.client.delete_topics(&[&self.topic], &options())).unwrap().remove(0).unwrap();
        let topic = NewTopic::new(&self.topic, partitions, TopicReplication::Fixed(1));
        // The name is free a moment later.
        wait_for("the topic to be made again", HEALED, || {
            self.runtime.block_on(self.client.create_topics([&topic], &options())).unwrap().remove(0).ok()
        });
    }

    /// How many copies of the topic's least copied partition are in step with its leader.
    pub(crate) fn n_in_sync(&self) -> usize {
        let metadata = self.client.inner().fetch_metadata(Some(&self.topic), WAIT).unwrap();
        metadata.topics()[0].partitions().iter().map(|partition| partition.isr().len()).min().unwrap()
    }

    /// Puts something on the topic as another program does, in the partition that Java clients choose.
    pub(crate) fn produce(&self, key: &str, content_type: Option<&str>, payload: &[u8]) {
        let record = FutureRecord::to(&self.topic).payload(payload);
        self.send(if key.is_empty() { record } else { record.key(key) }, content_type);
    }

    /// Puts something into a partition.
    pub(crate) fn produce_into(&self, partition: i32, payload: &str) {
        self.send(FutureRecord::<str, [u8]>::to(&self.topic).partition(partition).payload(payload.as_bytes()), Some("application/json"));
    }

    fn send(&self, mut record: FutureRecord<'_, str, [u8]>, content_type: Option<&str>) {
        let header = |value| OwnedHeaders::new().insert(Header { key: "content-type", value: Some(value) });
        record.headers = content_type.map(header);
        self.runtime.block_on(self.producer.send(record, WAIT)).map_err(|(error, _)| error).unwrap();
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(WAIT)).operation_timeout(Some(WAIT))
}
