//! What happens to readers: others join and leave, retention overtakes them, other programs write.

use crate::broker::Broker;
use headwater_contract::builders::record;
use headwater_contract::{eventually, run, within};
use headwater_core::clock::SystemClock;
use headwater_core::log::{Delivery, EventLog, Foreign, Gap, LogError, Position, Record, StoredRecord, Subscription};
use headwater_core::time::Timestamp;
use headwater_kafka::{Config, KafkaLog};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const GROUP: &str = "ingest";

pub(crate) async fn open(config: Config) -> Arc<KafkaLog> {
    headwater_kafka::open(config, Arc::new(SystemClock)).await.expect("open a topic")
}

/// Waits for the partitions of a subscription that is alone.
pub(crate) async fn assigned(subscription: &mut dyn Subscription) -> Vec<u32> {
    match within(subscription.next()).await.expect("wait for partitions") {
        Delivery::Assigned(partitions) => partitions,
        other => panic!("partitions are assigned, not {other:?}"),
    }
}

/// Reads partition 0 to an end.
pub(crate) async fn read_to(subscription: &mut dyn Subscription, end: u64) -> Vec<StoredRecord> {
    let mut read = Vec::new();
    loop {
        match within(subscription.next()).await.expect("wait for records") {
            Delivery::Records { next, records, .. } => {
                read.extend(records);
                if next >= end {
                    return read;
                }
            }
            other => panic!("records are delivered, not {other:?}"),
        }
    }
}

pub(crate) fn numbered(numbers: std::ops::Range<u64>) -> Vec<Record> {
    numbers.map(|n| record(0, format!("record {n}"))).collect()
}

#[test]
fn what_other_programs_write_is_delivered_as_foreign() {
    run(async {
        let broker = Broker::new();
        let topic = broker.topic(1, &[]).await;
        let log = open(broker.config(&topic)).await;
        broker.produce(&topic, 0, "press-7", Some("application/json"), b"{\"value\":1}").await;
        within(log.append(vec![Record { key: Some("press-8".to_owned()), ..record(0, "ours") }])).await.expect("append");
        broker.produce(&topic, 0, "press-9", None, b"").await;
        let mut subscription = log.subscribe(GROUP).await.expect("subscribe");
        assigned(subscription.as_mut()).await;
        within(subscription.resume(vec![(0, None)])).await.expect("resume");
        let read = read_to(subscription.as_mut(), 3).await;
        let foreign = |content_type: &str, key: &str| Foreign { content_type: content_type.to_owned(), key: Some(key.to_owned()) };
        assert_eq!(read[0].foreign.as_deref(), Some(&foreign("application/json", "press-7")));
        assert_eq!((read[0].count, &read[0].payload[..]), (0, &b"{\"value\":1}"[..]));
        assert_eq!(read[0].received_at, Timestamp(1_763_910_000_123_000), "the time of the message, so that a replay gives it again");
        assert_eq!((read[1].count, &read[1].foreign), (1, &None));
        assert_eq!(read[2].foreign.as_deref(), Some(&foreign("", "press-9")));
        assert_eq!(within(log.oldest_from(0, 0)).await.expect("ask"), Some(record(0, "").received_at));
    });
}

/// Bytes that do not compress (xorshift).
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes / 8).flat_map(|_| next()).collect()
}

/// A reader that is slower than the log: its partition is paused and goes on, many times.
#[test]
fn a_slow_reader_gets_everything_once() {
    run(async {
        let broker = Broker::new();
        let topic = broker.topic(1, &[]).await;
        let log = open(Config { buffer_bytes: 2 << 20, ..broker.config(&topic) }).await;
        within(log.append((0..100).map(|n| record(0, noise(n + 1, 256 * 1024))).collect())).await.expect("append");
        let mut subscription = log.subscribe(GROUP).await.expect("subscribe");
        assigned(subscription.as_mut()).await;
        within(subscription.resume(vec![(0, None)])).await.expect("resume");
        let mut stands = 0;
        while stands < 100 {
            match within(subscription.next()).await.expect("read") {
                Delivery::Records { from, next, records, .. } => {
                    assert_eq!((from, records.len() as u64), (stands, next - from), "without holes and without repeating");
                    stands = next;
                }
                other => panic!("records are delivered, not {other:?}"),
            }
            // Long enough for the buffer to fill again.
            within(log.oldest_from(0, 50)).await.expect("ask");
        }
    });
}

/// Commits and aborts take numbers of the log; what was aborted is never read.
#[test]
fn numbers_without_records_are_covered() {
    run(async {
        let broker = Broker::new();
        let topic = broker.topic(1, &[]).await;
        let log = open(broker.config(&topic)).await;
        broker.produce_in_transactions(&topic, &[true, false]).await;
        within(log.append(numbered(0..1))).await.expect("append");
        let mut subscription = log.subscribe(GROUP).await.expect("subscribe");
        assigned(subscription.as_mut()).await;
        let at = |next| Position { log: log.identity(), partition: 0, next, crc: None };
        // 0 is committed, 1 its mark, 2 is aborted, 3 its mark, 4 is ours.
        for (position, positions) in [(None, vec![0, 4]), (Some(at(1)), vec![4]), (Some(at(3)), vec![4])] {
            within(subscription.resume(vec![(0, position)])).await.expect("resume");
            let read = read_to(subscription.as_mut(), 5).await;
            assert_eq!(read.iter().map(|record| record.position).collect::<Vec<_>>(), positions);
        }
        assert_eq!(within(log.oldest_from(0, 1)).await.expect("ask"), Some(record(0, "").received_at));
    });
}

/// Retention passes a reader that stands still: its partition is paused because what it holds is not taken.
#[test]
fn retention_past_the_reader_gives_the_exact_gap() {
    run(async {
        let broker = Broker::new();
        let topic = broker.topic(1, &[]).await;
        let log = open(Config { buffer_bytes: 2 << 20, ..broker.config(&topic) }).await;
        let large = |n: u64| record(0, noise(n + 1, 256 * 1024));
        within(log.append((0..64).map(large).collect())).await.expect("append");
        let mut subscription = log.subscribe(GROUP).await.expect("subscribe");
        assigned(subscription.as_mut()).await;
        within(subscription.resume(vec![(0, None)])).await.expect("resume");
        // Delivery, buffer and prefetch hold 11 of these 16 MiB at most: whatever is fetched by now, the rest up to 60 is gone.
        let first = within(subscription.next()).await.expect("the first records");
        broker.delete_before(&topic, &[(0, 60)]).await;
        let Delivery::Records { mut next, .. } = first else { panic!("records, not {first:?}") };
        loop {
            match within(subscription.next()).await.expect("go on reading") {
                Delivery::Records { next: after, .. } => next = after,
                Delivery::Revoked(partitions) => break assert_eq!(partitions, [0]),
                other @ Delivery::Assigned(_) => panic!("first it is taken back, not {other:?}"),
            }
        }
        assert!(next < 60, "the reader had not read to {next}");
        within(subscription.released(&[0])).await.expect("release");
        assert_eq!(assigned(subscription.as_mut()).await, [0]);
        let stored = Position { log: log.identity(), partition: 0, next, crc: Some(1) };
        let gaps = within(subscription.resume(vec![(0, Some(stored))])).await.expect("resume");
        assert_eq!(gaps, [Gap { log: log.identity(), partition: 0, from: next, to: 60 }]);
        let read = read_to(subscription.as_mut(), 64).await;
        assert_eq!(read.iter().map(|record| record.position).collect::<Vec<_>>(), (60..64).collect::<Vec<_>>());
    });
}

/// What readers have applied: by partition the next number, and how many records.
type Applied = Arc<Mutex<BTreeMap<u32, (u64, u64)>>>;

/// Reads as ingest does, "committing" every delivery, until told to stop.
fn reader(log: Arc<KafkaLog>, applied: Applied, owned: Arc<Mutex<Vec<u32>>>) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (stop, mut stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        let mut subscription = log.subscribe(GROUP).await.expect("subscribe");
        loop {
            let delivery = tokio::select! {
                _ = &mut stopped => return,
                delivery = subscription.next() => delivery.expect("read"),
            };
            match delivery {
                Delivery::Assigned(partitions) => {
                    let stored = |partition: &u32| applied.lock().expect("the store").get(partition).map(|(next, _)| *next);
                    let position = |partition: u32, next| Position { log: log.identity(), partition, next, crc: None };
                    let positions = partitions.iter().map(|p| (*p, stored(p).map(|next| position(*p, next)))).collect();
                    assert_eq!(subscription.resume(positions).await.expect("resume"), []);
                    owned.lock().expect("the list").extend(partitions);
                }
                Delivery::Revoked(partitions) => {
                    owned.lock().expect("the list").retain(|partition| !partitions.contains(partition));
                    subscription.released(&partitions).await.expect("release");
                }
                Delivery::Records { partition, from, next, records } => {
                    let mut applied = applied.lock().expect("the store");
                    let (stands, count) = applied.entry(partition).or_default();
                    assert_eq!(from, *stands, "partition {partition} is read without holes and without repeating");
                    (*stands, *count) = (next, *count + records.len() as u64);
                }
            }
        }
    });
    (stop, task)
}

async fn owns(owned: &Arc<Mutex<Vec<u32>>>, partitions: usize) {
    eventually("the partitions to be shared out", async || (owned.lock().expect("the list").len() == partitions).then_some(())).await;
}

#[test]
fn readers_that_come_and_go_lose_nothing_and_double_nothing() {
    run(async {
        let broker = Broker::new();
        let topic = broker.topic(4, &[]).await;
        let (first, second) = (open(broker.config(&topic)).await, open(broker.config(&topic)).await);
        let applied = Applied::default();
        let (sent, appending) = keep_appending(Arc::clone(&first));
        let (of_first, of_second) = (Arc::default(), Arc::default());
        let (stop_first, reading_first) = reader(Arc::clone(&first), Arc::clone(&applied), Arc::clone(&of_first));
        owns(&of_first, 4).await;
        for _ in 0..2 {
            let (stop_second, reading_second) = reader(Arc::clone(&second), Arc::clone(&applied), Arc::clone(&of_second));
            owns(&of_second, 2).await;
            owns(&of_first, 2).await;
            stop_second.send(()).expect("the second reads");
            within(reading_second).await.expect("the second did not fail");
            of_second.lock().expect("the list").clear();
            owns(&of_first, 4).await;
        }
        drop(sent);
        let total = within(appending).await.expect("appending did not fail");
        eventually("everything to be read", async || {
            let applied: u64 = applied.lock().expect("the store").values().map(|(_, count)| count).sum();
            (applied == total).then_some(())
        })
        .await;
        stop_first.send(()).expect("the first reads");
        within(reading_first).await.expect("the first did not fail");
    });
}

/// Appends to all partitions until the sender is dropped; how many records.
fn keep_appending(log: Arc<KafkaLog>) -> (oneshot::Sender<()>, JoinHandle<u64>) {
    let (go_on, mut ended) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let mut sent = 0;
        while matches!(ended.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
            log.append((0..4).map(|partition| record(partition, format!("{sent}"))).collect()).await.expect("append");
            sent += 4;
        }
        sent
    });
    (go_on, task)
}

#[test]
fn added_partitions_are_found_by_writers_and_given_to_readers() {
    run(async {
        let broker = Broker::new();
        let topic = broker.topic(1, &[]).await;
        let log = open(broker.config(&topic)).await;
        let mut subscription = log.subscribe(GROUP).await.expect("subscribe");
        assigned(subscription.as_mut()).await;
        within(subscription.resume(vec![(0, None)])).await.expect("resume");
        broker.add_partitions(&topic, 3).await;
        let deadline = Duration::from_secs(30);
        let mut new = match timeout(deadline, subscription.next()).await.expect("in time").expect("wait for partitions") {
            Delivery::Assigned(partitions) => partitions,
            other => panic!("partitions are assigned, not {other:?}"),
        };
        new.sort_unstable();
        assert_eq!(new, [1, 2]);
        within(subscription.resume(vec![(1, None), (2, None)])).await.expect("resume");
        eventually("the writer to see them", async || (within(log.bounds()).await.expect("ask for the bounds").len() == 3).then_some(()))
            .await;
        assert!((0..50).any(|n| log.partition_of(&format!("press-{n}")) == 2), "devices go to new partitions");
    });
}

#[test]
fn applied_positions_become_the_offsets_of_the_group() {
    run(async {
        let broker = Broker::new();
        let topic = broker.topic(1, &[]).await;
        let group = format!("gauges-{topic}");
        let log = open(broker.config(&topic)).await;
        within(log.append(numbered(0..7))).await.expect("append");
        let mut subscription = log.subscribe(&group).await.expect("subscribe");
        assigned(subscription.as_mut()).await;
        within(subscription.resume(vec![(0, None)])).await.expect("resume");
        read_to(subscription.as_mut(), 7).await;
        within(log.trim_to(&[(0, 7)])).await.expect("say what is applied");
        let of_topic = format!("{group}.{topic}");
        eventually("the offset to be written", async || broker.committed(&of_topic, &topic, 0).await.filter(|offset| *offset == 7)).await;
        let bounds = within(log.bounds()).await.expect("ask for the bounds");
        assert_eq!((bounds[0].start, bounds[0].end), (0, 7), "nothing was deleted");
    });
}

#[test]
fn a_second_process_with_the_same_instance_id_stops_the_first() {
    run(async {
        let broker = Broker::new();
        let topic = broker.topic(1, &[]).await;
        let config = Config { group_instance_id: Some("reader-1".to_owned()), ..broker.config(&topic) };
        let (first, second) = (open(config.clone()).await, open(config).await);
        let group = format!("static-{topic}");
        let mut reads = first.subscribe(&group).await.expect("subscribe");
        assigned(reads.as_mut()).await;
        within(reads.resume(vec![(0, None)])).await.expect("resume");
        let mut takes_over = second.subscribe(&group).await.expect("subscribe");
        assigned(takes_over.as_mut()).await;
        let failure = within(async {
            loop {
                if let Err(failure) = reads.next().await {
                    return failure;
                }
            }
        })
        .await;
        assert!(matches!(&failure, LogError::Stopped(words) if words.contains("group_instance_id")), "{failure:?}");
    });
}
