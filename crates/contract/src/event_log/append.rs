//! What an acknowledged record is.
#![expect(missing_docs, reason = "a property's name is its claim")]

use super::LogHarness;
use super::reader::{Reader, a_partition, append, bounds, bounds_of, expected, numbered, read, texts, trim};
use crate::builders::{START, at, record};
use crate::within;
use headwater_core::log::{EventLog, MAX_RECORD_BYTES, Record};
use std::collections::BTreeSet;
use std::sync::Arc;

pub async fn an_acknowledged_record_is_read_back_as_it_was_appended(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    let payloads: [&[u8]; 3] = [b"\0\xff not text \n", b"", b"plain"];
    let sent: Vec<Record> = payloads
        .into_iter()
        .zip(1..)
        .map(|(bytes, n)| Record { count: n * 7, received_at: at(n as i64).plus(1), ..record(partition, bytes) })
        .collect();
    within(log.append(sent.clone())).await.expect("append");
    let read = read(&*log, partition).await;
    assert_eq!(read.len(), sent.len());
    for (read, sent) in read.iter().zip(&sent) {
        assert_eq!((read.received_at, read.count, &read.payload), (sent.received_at, sent.count, &sent.payload));
        assert_eq!(read.crc, crc32fast::hash(&sent.payload), "the crc is CRC-32 (IEEE) of the bytes");
        assert!(!read.damaged);
    }
}

pub async fn records_of_one_call_keep_their_order(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    within(log.append((0..100).map(|n| numbered(partition, n)).collect())).await.expect("append");
    assert_eq!(texts(&read(&*log, partition).await), expected(0..100));
}

pub async fn numbering_is_dense_from_0(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    let new = bounds_of(&*log, partition).await;
    assert_eq!((new.start, new.end), (0, 0), "a new log is empty and begins at 0");
    append(&*log, partition, 0..3).await;
    within(log.append((3..7).map(|n| numbered(partition, n)).collect())).await.expect("append");
    append(&*log, partition, 7..9).await;
    let numbers: Vec<u64> = read(&*log, partition).await.iter().map(|record| record.position).collect();
    assert_eq!(numbers, (0..9).collect::<Vec<_>>());
}

pub async fn each_partition_numbers_its_own_records(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partitions: Vec<u32> = bounds(&*log).await.iter().map(|bounds| bounds.partition).collect();
    let mixed = (0..3).flat_map(|n| partitions.iter().map(move |&partition| record(partition, format!("{partition}: {n}"))));
    within(log.append(mixed.collect())).await.expect("append");
    let mut reader = Reader::from(&*log, partitions[0], None).await;
    for &partition in &partitions {
        assert_eq!(bounds_of(&*log, partition).await.end, 3, "of partition {partition}");
        reader.resume(&*log, partition, None).await.expect("resume");
        let read = reader.read_to(partition, 3).await;
        assert_eq!(texts(&read), (0..3).map(|n| format!("{partition}: {n}")).collect::<Vec<_>>());
    }
}

pub async fn records_appended_from_many_tasks_are_there_once_and_in_each_callers_order(harness: &mut dyn LogHarness) {
    const CALLERS: u64 = 8;
    const CALLS: u64 = 20;
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    let callers: Vec<_> = (0..CALLERS).map(|caller| tokio::spawn(append_as(Arc::clone(&log), partition, caller, CALLS))).collect();
    for caller in callers {
        within(caller).await.expect("a caller that did not panic");
    }
    let texts = texts(&read(&*log, partition).await);
    for caller in 0..CALLERS {
        let of_caller: Vec<_> = texts.iter().filter(|text| text.starts_with(&format!("{caller}:"))).cloned().collect();
        let sent: Vec<_> = (0..CALLS).flat_map(|call| [format!("{caller}: {call} a"), format!("{caller}: {call} b")]).collect();
        assert_eq!(of_caller, sent, "of caller {caller}");
    }
    assert_eq!(texts.len() as u64, CALLERS * CALLS * 2);
}

async fn append_as(log: Arc<dyn EventLog>, partition: u32, caller: u64, calls: u64) {
    for call in 0..calls {
        let records = ["a", "b"].map(|part| record(partition, format!("{caller}: {call} {part}")));
        within(log.append(records.into())).await.expect("append");
    }
}

pub async fn the_end_covers_every_append_that_has_returned(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    for n in 1..=20 {
        append(&*log, partition, n - 1..n).await;
        assert_eq!(bounds_of(&*log, partition).await.end, n);
    }
}

pub async fn an_empty_append_changes_nothing(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    within(log.append(vec![])).await.expect("append nothing");
    append(&*log, partition, 0..1).await;
    within(log.append(vec![])).await.expect("append nothing");
    append(&*log, partition, 1..2).await;
    assert_eq!(texts(&read(&*log, partition).await), expected(0..2));
    assert_eq!(bounds_of(&*log, partition).await.end, 2);
}

pub async fn a_record_of_the_greatest_size_goes_through(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    let bytes: Vec<u8> = (0..MAX_RECORD_BYTES).map(|i| (i % 251) as u8).collect();
    let greatest = record(partition, bytes);
    within(log.append(vec![numbered(partition, 0), greatest.clone(), greatest.clone()])).await.expect("append");
    let read = read(&*log, partition).await;
    assert_eq!(read.len(), 3);
    assert!(read[1].payload == greatest.payload && read[2].payload == greatest.payload, "the bytes come back as they were");
}

pub async fn a_device_keeps_its_partition(harness: &mut dyn LogHarness) {
    let devices: Vec<String> = (0..50).map(|n| format!("plant-{}/press-{n}", n % 3)).collect();
    let log = harness.open().await;
    let known: BTreeSet<u32> = bounds(&*log).await.iter().map(|bounds| bounds.partition).collect();
    let partitions: Vec<u32> = devices.iter().map(|device| log.partition_of(device)).collect();
    assert!(partitions.iter().all(|partition| known.contains(partition)), "partitions of devices have bounds");
    assert_eq!(partitions.iter().copied().collect::<BTreeSet<_>>(), known, "devices spread over all partitions");
    drop(log);
    let log = harness.open().await;
    assert_eq!(devices.iter().map(|device| log.partition_of(device)).collect::<Vec<_>>(), partitions, "after a restart");
}

pub async fn an_open_log_is_writable(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    within(log.writable()).await.expect("a log that takes appends");
    assert!(!log.durability().is_empty(), "it says what its acknowledgement means");
}

pub async fn the_oldest_time_is_not_later_than_any_record_from_there_on(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    // Clocks step back, and records of one call need not have one time.
    let times = [5, 9, 2, 7, 4, 8].map(at);
    for pair in times.chunks(2) {
        within(log.append(pair.iter().map(|&received_at| Record { received_at, ..numbered(partition, 0) }).collect()))
            .await
            .expect("append");
    }
    for next in 0..times.len() {
        let oldest = within(log.oldest_from(partition, next as u64)).await.expect("ask for the oldest").expect("there are records");
        let least = times[next..].iter().min().expect("there are times");
        assert!(oldest <= *least, "from {next} on: {oldest} is later than {least}");
        assert!(oldest >= START, "from {next} on: {oldest} is a time that a record has");
    }
}

pub async fn there_is_no_oldest_time_at_the_end(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    assert_eq!(within(log.oldest_from(partition, 0)).await.expect("ask an empty log"), None);
    append(&*log, partition, 0..3).await;
    assert_eq!(within(log.oldest_from(partition, 2)).await.expect("ask before the end"), Some(START));
    assert_eq!(within(log.oldest_from(partition, 3)).await.expect("ask at the end"), None);
}

pub async fn the_receive_time_of_a_record_is_told_while_it_is_kept(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    let told = async |position| within(log.received_at(partition, position)).await.expect("ask for a receive time");
    assert_eq!(told(0).await, None, "there is no record");
    for n in 0..4 {
        within(log.append(vec![Record { received_at: at(n), ..numbered(partition, 0) }])).await.expect("append");
    }
    // Clocks go on, so nothing later is older.
    for n in 0..4 {
        assert_eq!(told(n).await, Some(at(n as i64)), "record {n}");
    }
    assert_eq!(told(4).await, None, "it is not appended");
    trim(&*log, partition, 2).await;
    assert_eq!((told(1).await, told(2).await), (None, Some(at(2))), "what is not kept any more has no time");
    trim(&*log, partition, 4).await;
    assert_eq!(told(3).await, None, "nothing is kept");
}
