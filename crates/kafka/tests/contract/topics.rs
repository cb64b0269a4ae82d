//! Which topics are taken, and what happens when one is made again.

use crate::broker::Broker;
use crate::reading::{assigned, numbered, open, read_to};
use headwater_contract::{eventually, run, within};
use headwater_core::clock::SystemClock;
use headwater_core::log::{EventLog, LogError, Position};
use headwater_kafka::Config;
use std::sync::Arc;
use std::time::Duration;

async fn refused(config: Config) -> String {
    match headwater_kafka::open(config, Arc::new(SystemClock)).await {
        Err(LogError::Corrupt(words)) => words,
        Err(other) => panic!("it is refused as something for a person, not as {other:?}"),
        Ok(_) => panic!("it is refused"),
    }
}

#[test]
fn a_missing_topic_is_made_with_settings_that_can_work() {
    run(async {
        let broker = Broker::new();
        let topic = broker.unused();
        let mut config = broker.config(&topic);
        config.url = format!("{}?partitions=2&replication=1", config.url);
        let log = open(config.clone()).await;
        assert_eq!(within(log.bounds()).await.expect("ask for the bounds").len(), 2);
        assert!(log.identity().0.starts_with("kafka:"), "{}", log.identity());
        for (name, value) in [
            ("cleanup.policy", "delete"),
            ("message.timestamp.type", "CreateTime"),
            ("max.message.bytes", "2097152"),
            ("retention.ms", "604800000"),
        ] {
            assert_eq!(broker.setting(&topic, name).await.as_deref(), Some(value), "{name}");
        }
        let again = open(config).await;
        assert_eq!(again.identity(), log.identity(), "the second time it is found");
    });
}

#[test]
fn a_topic_that_deletes_what_was_not_read_is_refused() {
    run(async {
        let broker = Broker::new();
        let topic = broker.topic(1, &[("cleanup.policy", "compact")]).await;
        let words = refused(broker.config(&topic)).await;
        assert!(words.contains(&topic) && words.contains("cleanup.policy"), "{words}");
    });
}

#[test]
fn a_topic_that_takes_no_whole_record_is_refused() {
    run(async {
        let broker = Broker::new();
        let topic = broker.topic(1, &[("max.message.bytes", "100000")]).await;
        let words = refused(broker.config(&topic)).await;
        assert!(words.contains("100000") && words.contains("max.message.bytes"), "{words}");
    });
}

#[test]
fn a_cluster_that_does_not_answer_is_unavailable_within_the_wait() {
    run(async {
        // Nothing listens on port 1.
        let config = Config { url: "kafka://127.0.0.1:1/readings".to_owned(), connect_wait_ms: 1_000, ..Config::default() };
        let failure = within(headwater_kafka::open(config, Arc::new(SystemClock))).await.err().expect("nobody is there");
        assert!(matches!(&failure, LogError::Unavailable(words) if words.contains("127.0.0.1:1")), "{failure:?}");
    });
}

/// Resuming at the old place would silently skip half of the new records.
#[test]
fn a_topic_made_again_while_nobody_looked_is_refused_naming_both() {
    run(async {
        let broker = Broker::new();
        let topic = broker.topic(1, &[]).await;
        let log = open(broker.config(&topic)).await;
        within(log.append(numbered(0..5))).await.expect("append");
        let stored = Position { log: log.identity(), partition: 0, next: 5, crc: Some(1) };
        drop(log);
        broker.delete(&topic).await;
        broker.make(&topic, 1, &[]).await;
        let log = eventually("the new topic to be seen", async || {
            let log = open(broker.config(&topic)).await;
            (log.identity() != stored.log).then_some(log)
        })
        .await;
        within(log.append(numbered(0..10))).await.expect("append");
        let mut subscription = log.subscribe("ingest").await.expect("subscribe");
        assigned(subscription.as_mut()).await;
        let refusal = within(subscription.resume(vec![(0, Some(stored.clone()))])).await.expect_err("another log");
        let LogError::Corrupt(words) = refusal else { panic!("refused as corrupt, not as {refusal:?}") };
        assert!(words.contains(&stored.log.0) && words.contains(&log.identity().0), "{words}");
        within(subscription.resume(vec![(0, None)])).await.expect("as a new log it can be read");
        assert_eq!(read_to(subscription.as_mut(), 10).await.len(), 10);
    });
}

/// Kafka itself may say nothing of it at all.
#[test]
fn a_topic_made_again_while_it_is_used_is_refused_naming_both() {
    run(async {
        let broker = Broker::new();
        let topic = broker.topic(1, &[]).await;
        let log = open(broker.config(&topic)).await;
        within(log.append(numbered(0..5))).await.expect("append");
        let mut subscription = log.subscribe("ingest").await.expect("subscribe");
        assigned(subscription.as_mut()).await;
        within(subscription.resume(vec![(0, None)])).await.expect("resume");
        read_to(subscription.as_mut(), 5).await;
        broker.delete(&topic).await;
        broker.make(&topic, 1, &[]).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        let refusal = loop {
            match tokio::time::timeout_at(deadline, subscription.next()).await.expect("it is noticed") {
                Err(failure) if failure.is_transient() => {}
                Err(failure) => break failure,
                // A reader whose partition is lost and given back is told when it resumes; this one does not.
                Ok(_) => {}
            }
        };
        let LogError::Corrupt(words) = refusal else { panic!("refused as corrupt, not as {refusal:?}") };
        assert!(words.contains(&log.identity().0) && words.matches("kafka:").count() == 2, "{words}");
        let failure = within(log.append(numbered(0..1))).await.expect_err("nothing is appended to another log");
        assert!(matches!(failure, LogError::Corrupt(_)), "{failure:?}");
        assert!(within(log.writable()).await.is_err());
    });
}
