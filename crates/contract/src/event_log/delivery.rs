//! How a subscription delivers.
#![expect(missing_docs, reason = "a property's name is its claim")]

use super::LogHarness;
use super::reader::{Reader, a_partition, append, bounds_of, expected, numbered, position, read, read_from, texts, trim};
use crate::within;

pub async fn nothing_is_delivered_before_resume(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    append(&*log, partition, 0..3).await;
    let mut reader = Reader::join(&*log).await;
    reader.hears_nothing().await;
    append(&*log, partition, 3..4).await;
    reader.hears_nothing().await;
    reader.resume(&*log, partition, None).await.expect("resume");
    assert_eq!(texts(&reader.read_to(partition, 4).await), expected(0..4));
}

pub async fn resume_redelivers_every_record_from_a_position(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    append(&*log, partition, 0..5).await;
    within(log.append((5..40).map(|n| numbered(partition, n)).collect())).await.expect("append");
    let all = read(&*log, partition).await;
    assert_eq!(texts(&all), expected(0..40));
    // Every place, within a call's records too; `0` is a stored position of which nothing was applied.
    for next in 0..=40 {
        let read = read_from(&*log, partition, Some(position(&*log, partition, &all, next))).await;
        assert_eq!(read, all[next as usize..], "from {next} on");
    }
}

pub async fn resume_again_delivers_again(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    append(&*log, partition, 0..10).await;
    let mut reader = Reader::from(&*log, partition, None).await;
    let all = reader.read_to(partition, 10).await;
    assert_eq!(texts(&all), expected(0..10));
    for next in [0, 4, 9] {
        let gaps = reader.resume(&*log, partition, Some(position(&*log, partition, &all, next))).await.expect("resume");
        assert_eq!(gaps, []);
        assert_eq!(reader.read_to(partition, 10).await, all[next as usize..], "from {next} on");
    }
    append(&*log, partition, 10..12).await;
    assert_eq!(texts(&reader.read_to(partition, 12).await), expected(10..12), "then it goes on");
}

pub async fn resume_may_skip_forward_while_reading(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    append(&*log, partition, 0..30).await;
    let all = read(&*log, partition).await;
    let mut reader = Reader::from(&*log, partition, None).await;
    // What was fetched in advance for the old place must not be delivered at the new one; the reader checks that.
    reader.resume(&*log, partition, Some(position(&*log, partition, &all, 20))).await.expect("resume");
    assert_eq!(texts(&reader.read_to(partition, 30).await), expected(20..30));
}

pub async fn a_dropped_next_loses_nothing(harness: &mut dyn LogHarness) {
    const ROUNDS: u64 = 40;
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    let mut reader = Reader::from(&*log, partition, None).await;
    let mut all = Vec::new();
    for round in 0..ROUNDS {
        let (read, ()) = tokio::join!(reader.read_while_dropping(partition), append(&*log, partition, round * 3..round * 3 + 3));
        all.extend(read);
    }
    // Comes after everything that could have been lost, so that a loss is a hole and not a silence.
    append(&*log, partition, ROUNDS * 3..ROUNDS * 3 + 1).await;
    all.extend(reader.read_to(partition, ROUNDS * 3 + 1).await);
    assert_eq!(texts(&all), expected(0..ROUNDS * 3 + 1));
}

pub async fn a_waiting_next_is_woken_by_an_append(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    let mut reader = Reader::from(&*log, partition, None).await;
    for n in 0..20 {
        let waiting = reader.read_to(partition, n + 1);
        let appending = async {
            // Lets the reader come to its waiting, a little later each time.
            for _ in 0..n * 3 {
                tokio::task::yield_now().await;
            }
            append(&*log, partition, n..n + 1).await;
        };
        let (read, ()) = tokio::join!(waiting, appending);
        assert_eq!(texts(&read), expected(n..n + 1));
    }
}

pub async fn without_a_position_reading_begins_at_the_start_and_that_is_no_gap(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    append(&*log, partition, 0..5).await;
    assert_eq!(texts(&read(&*log, partition).await), expected(0..5));
    trim(&*log, partition, 5).await;
    append(&*log, partition, 5..8).await;
    let mut reader = Reader::join(&*log).await;
    let gaps = reader.resume(&*log, partition, None).await.expect("resume");
    assert_eq!(gaps, [], "the start is no gap, wherever it lies");
    assert_eq!(bounds_of(&*log, partition).await.start, 5);
    assert_eq!(texts(&reader.read_to(partition, 8).await), expected(5..8));
}
