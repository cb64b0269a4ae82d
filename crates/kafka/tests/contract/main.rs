//! The log on Kafka keeps what the seam promises, on a real broker.
#![expect(clippy::expect_used, reason = "a test's harness: a panic is how it fails")]

mod broker;
mod reading;
mod topics;

use broker::Broker;
use headwater_contract::event_log::LogHarness;
use headwater_core::BoxFuture;
use headwater_core::clock::SystemClock;
use headwater_core::log::{Bounds, EventLog, LogError, LogId, Record, Subscription};
use headwater_core::time::Timestamp;
use headwater_kafka::KafkaLog;
use std::sync::Arc;

/// A topic that is opened again and again, and others beside it.
struct Cluster {
    broker: Broker,
    topic: Option<String>,
}

impl Cluster {
    fn new() -> Self {
        Self { broker: Broker::new(), topic: None }
    }

    async fn log(&self, topic: &str) -> Arc<dyn EventLog> {
        let config = self.broker.config(topic);
        let log = headwater_kafka::open(config, Arc::new(SystemClock)).await.expect("open a topic");
        Arc::new(Retained { log, topic: topic.to_owned(), broker: self.broker.clone() })
    }
}

impl LogHarness for Cluster {
    fn open(&mut self) -> BoxFuture<'_, Arc<dyn EventLog>> {
        Box::pin(async {
            if self.topic.is_none() {
                self.topic = Some(self.broker.topic(3, &[]).await);
            }
            self.log(self.topic.as_deref().expect("it was made above")).await
        })
    }

    fn other(&mut self) -> BoxFuture<'_, Arc<dyn EventLog>> {
        Box::pin(async {
            let topic = self.broker.topic(3, &[]).await;
            self.log(&topic).await
        })
    }
}

/// A log whose records are deleted as soon as they are applied, as the suite asks: this plays Kafka's retention, which deletes in
/// its own time and cannot be hurried.
struct Retained {
    log: Arc<KafkaLog>,
    topic: String,
    broker: Broker,
}

impl EventLog for Retained {
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
        self.log.bounds()
    }

    fn oldest_from(&self, partition: u32, next: u64) -> BoxFuture<'_, Result<Option<Timestamp>, LogError>> {
        self.log.oldest_from(partition, next)
    }

    fn received_at(&self, partition: u32, position: u64) -> BoxFuture<'_, Result<Option<Timestamp>, LogError>> {
        self.log.received_at(partition, position)
    }

    fn append(&self, records: Vec<Record>) -> BoxFuture<'_, Result<(), LogError>> {
        self.log.append(records)
    }

    fn writable(&self) -> BoxFuture<'_, Result<(), LogError>> {
        self.log.writable()
    }

    fn subscribe(&self, group: &str) -> BoxFuture<'_, Result<Box<dyn Subscription>, LogError>> {
        self.log.subscribe(group)
    }

    fn trim_to(&self, applied: &[(u32, u64)]) -> BoxFuture<'_, Result<(), LogError>> {
        let applied = applied.to_vec();
        Box::pin(async move {
            self.log.trim_to(&applied).await?;
            self.broker.delete_before(&self.topic, &applied).await;
            Ok(())
        })
    }
}

headwater_contract::event_log_suite!(Cluster::new);
