//! The real broker that these tests run on, and what an administrator does there.
//!
//! Owns: topics of their own for each test, deleted at its end.

use headwater_kafka::Config;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, FutureProducer, FutureRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uuid::Uuid;

const WAIT: Duration = Duration::from_secs(10);

/// The brokers of `KAFKA_BROKERS`.
#[derive(Clone)]
pub(crate) struct Broker(Arc<Inner>);

struct Inner {
    brokers: String,
    admin: AdminClient<DefaultClientContext>,
    topics: Mutex<Vec<String>>,
}

impl Broker {
    /// # Panics
    /// Without a broker: a test never passes by not running.
    pub(crate) fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
        let brokers = std::env::var("KAFKA_BROKERS");
        let brokers = brokers.expect("KAFKA_BROKERS names the brokers to test on, as host:port; `cargo xtask servers start` starts one");
        let admin = client(&brokers).create().expect("make a client");
        Self(Arc::new(Inner { brokers, admin, topics: Mutex::default() }))
    }

    /// The configuration of a log on a topic.
    pub(crate) fn config(&self, topic: &str) -> Config {
        let options = BTreeMap::from([("client.id".to_owned(), "headwater-test".to_owned())]);
        Config { url: format!("kafka://{}/{topic}", self.0.brokers), options, ..Config::default() }
    }

    /// A name that no topic has; what is made under it is deleted at the end.
    pub(crate) fn unused(&self) -> String {
        let name = format!("headwater-test-{}", Uuid::new_v4().simple());
        self.0.topics.lock().expect("the lock of the names").push(name.clone());
        name
    }

    /// A new topic. It keeps everything: records of these tests have times that lie long ago.
    pub(crate) async fn topic(&self, partitions: i32, settings: &[(&str, &str)]) -> String {
        let name = self.unused();
        self.make(&name, partitions, settings).await;
        name
    }

    /// Makes a topic, and again where the name was just deleted.
    pub(crate) async fn make(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let settings: Vec<_> = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (broker, name) = (self.clone(), name.to_owned());
        let making = move || tokio::runtime::Handle::current().block_on(broker.make_now(&name, partitions, &settings));
        tokio::task::spawn_blocking(making).await.expect("make a topic");
    }

    async fn make_now(&self, name: &str, partitions: i32, settings: &[(String, String)]) {
        let keep_all = NewTopic::new(name, partitions, TopicReplication::Fixed(1)).set("retention.ms", "-1");
        let topic = settings.iter().fold(keep_all, |topic, (key, value)| topic.set(key, value));
        headwater_contract::eventually("a topic to be made", async || {
            let made = self.0.admin.create_topics([&topic], &options()).await.expect("make a topic");
            made.into_iter().next().expect("one answer").ok()
        })
        .await;
    }

    pub(crate) async fn delete(&self, name: &str) {
        let deleted = self.0.admin.delete_topics(&[name], &options()).await.expect("delete a topic");
        deleted.into_iter().next().expect("one answer").expect("delete a topic");
    }

    /// Deletes records as retention does.
    pub(crate) async fn delete_before(&self, name: &str, before: &[(u32, u64)]) {
        let mut list = TopicPartitionList::new();
        for &(partition, next) in before {
            list.add_partition_offset(name, partition as i32, Offset::Offset(next as i64)).expect("an offset");
        }
        self.0.admin.delete_records(&list, &options()).await.expect("delete records");
    }

    pub(crate) async fn add_partitions(&self, name: &str, count: usize) {
        let added = self.0.admin.create_partitions(&[NewPartitions::new(name, count)], &options()).await.expect("add partitions");
        added.into_iter().next().expect("one answer").expect("add partitions");
    }

    /// The value of a topic's setting.
    pub(crate) async fn setting(&self, topic: &str, name: &str) -> Option<String> {
        let described = self.0.admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options()).await.expect("describe");
        let settings = described.into_iter().next().expect("one answer").expect("describe a topic");
        settings.get(name)?.value.clone()
    }

    /// Puts something on a topic as another program does.
    pub(crate) async fn produce(&self, topic: &str, partition: i32, key: &str, content_type: Option<&str>, payload: &[u8]) {
        let producer: FutureProducer = client(&self.0.brokers).create().expect("make a producer");
        let header = |value| OwnedHeaders::new().insert(Header { key: "Content-Type", value: Some(value) });
        let mut record = FutureRecord::to(topic).partition(partition).key(key).payload(payload).timestamp(1_763_910_000_123);
        record.headers = content_type.map(header);
        producer.send(record, WAIT).await.map_err(|(error, _)| error).expect("produce");
    }

    /// Puts a record on partition 0 in a transaction each, committed or aborted.
    pub(crate) async fn produce_in_transactions(&self, topic: &str, committed: &'static [bool]) {
        let (mut config, topic) = (client(&self.0.brokers), topic.to_owned());
        let producing = move || {
            let producer: BaseProducer = config.set("transactional.id", &topic).create().expect("make a producer");
            producer.init_transactions(WAIT * 3).expect("begin with transactions");
            for &is_committed in committed {
                producer.begin_transaction().expect("begin");
                let record = BaseRecord::<str, str>::to(&topic).partition(0).payload("in a transaction");
                producer.send(record).map_err(|(error, _)| error).expect("produce");
                producer.flush(WAIT).expect("produce");
                let ended = if is_committed { producer.commit_transaction(WAIT) } else { producer.abort_transaction(WAIT) };
                ended.expect("end a transaction");
            }
        };
        tokio::task::spawn_blocking(producing).await.expect("produce in transactions");
    }

    /// The offset that a group has committed.
    pub(crate) async fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        use rdkafka::consumer::{BaseConsumer, Consumer as _};
        let mut config = client(&self.0.brokers);
        let (group, topic) = (group.to_owned(), topic.to_owned());
        let ask = move || {
            let consumer: BaseConsumer = config.set("group.id", &group).create().expect("make a consumer");
            let mut list = TopicPartitionList::new();
            list.add_partition(&topic, partition);
            let committed = consumer.committed_offsets(list, WAIT).expect("ask for offsets");
            committed.elements().first().and_then(|element| element.offset().to_raw()).filter(|offset| *offset >= 0)
        };
        tokio::task::spawn_blocking(ask).await.expect("ask for offsets")
    }
}

/// Deletes the topics, whatever they are.
impl Drop for Inner {
    fn drop(&mut self) {
        let topics = self.topics.lock().map(|topics| topics.clone()).unwrap_or_default();
        let brokers = self.brokers.clone();
        let deleting = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("start a runtime");
            let admin: AdminClient<DefaultClientContext> = client(&brokers).create().expect("make a client");
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            drop(runtime.block_on(admin.delete_topics(&names, &options())));
        });
        drop(deleting.join());
    }
}

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("allow.auto.create.topics", "false");
    config
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(WAIT)).operation_timeout(Some(WAIT))
}
