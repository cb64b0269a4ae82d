//! What trimming and restarts leave.
#![expect(missing_docs, reason = "a property's name is its claim")]

use super::LogHarness;
use super::reader::{a_partition, append, bounds_of, expected, numbered, position, read, read_from, texts, trim};
use crate::within;
use headwater_core::log::EventLog;

pub async fn trimming_never_deletes_what_is_not_applied(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    within(log.append((0..4).map(|n| numbered(partition, n)).collect())).await.expect("append");
    append(&*log, partition, 4..10).await;
    let all = read(&*log, partition).await;
    // Within the records of one call, at its end, and just before the log's end.
    for next in [1, 3, 4, 9] {
        within(log.trim_to(&[(partition, next)])).await.expect("trim");
        let bounds = bounds_of(&*log, partition).await;
        assert!(bounds.start <= next, "trimmed to {next}, the log begins at {}", bounds.start);
        let read = read_from(&*log, partition, Some(position(&*log, partition, &all, next))).await;
        assert_eq!(read, all[next as usize..], "trimmed to {next}");
    }
    drop(log);
    let log = harness.open().await;
    let read = read_from(&*log, partition, Some(position(&*log, partition, &all, 9))).await;
    assert_eq!(read, all[9..], "after a restart");
}

pub async fn trimming_backwards_changes_nothing(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    append(&*log, partition, 0..8).await;
    let all = read(&*log, partition).await;
    within(log.trim_to(&[(partition, 6)])).await.expect("trim");
    let before = bounds_of(&*log, partition).await;
    within(log.trim_to(&[(partition, 2)])).await.expect("trim backwards");
    within(log.trim_to(&[(partition, 0)])).await.expect("trim backwards");
    let after = bounds_of(&*log, partition).await;
    assert!(before.start <= after.start && after.start <= 6, "the start does not come back: {before:?}, {after:?}");
    assert_eq!(after.end, 8);
    assert_eq!(read_from(&*log, partition, Some(position(&*log, partition, &all, 6))).await, all[6..]);
    trim(&*log, partition, 8).await;
}

pub async fn a_log_trimmed_to_empty_keeps_its_numbering(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    append(&*log, partition, 0..7).await;
    trim(&*log, partition, 7).await;
    assert_goes_on_at_7(&*log, partition).await;
}

pub async fn a_log_trimmed_to_empty_keeps_its_numbering_over_a_restart(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    append(&*log, partition, 0..7).await;
    trim(&*log, partition, 7).await;
    drop(log);
    // Twice: the first start has trimmed state to read, the second has it written by a start.
    drop(harness.open().await);
    let log = harness.open().await;
    assert_goes_on_at_7(&*log, partition).await;
}

async fn assert_goes_on_at_7(log: &dyn EventLog, partition: u32) {
    let empty = bounds_of(log, partition).await;
    assert_eq!((empty.start, empty.end), (7, 7), "the empty log keeps its numbering");
    append(log, partition, 7..9).await;
    let read = read(log, partition).await;
    assert_eq!(texts(&read), expected(7..9));
    assert_eq!(read.iter().map(|record| record.position).collect::<Vec<_>>(), [7, 8]);
}

pub async fn identity_and_contents_survive_a_restart(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    within(log.append((0..5).map(|n| numbered(partition, n)).collect())).await.expect("append");
    append(&*log, partition, 5..8).await;
    let (identity, bounds, records) = (log.identity(), bounds_of(&*log, partition).await, read(&*log, partition).await);
    assert_eq!(texts(&records), expected(0..8));
    drop(log);
    let log = harness.open().await;
    assert_eq!(log.identity(), identity);
    assert_eq!(bounds_of(&*log, partition).await, bounds);
    assert_eq!(read(&*log, partition).await, records);
    append(&*log, partition, 8..9).await;
    assert_eq!(read_from(&*log, partition, Some(position(&*log, partition, &records, 8))).await[0].position, 8, "and numbering goes on");
}

pub async fn two_logs_have_two_identities(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let other = harness.other().await;
    assert_ne!(log.identity(), other.identity());
    let partition = a_partition(&*log).await;
    append(&*log, partition, 0..2).await;
    assert_eq!(bounds_of(&*other, partition).await.end, 0, "they share no records");
    assert_eq!(log.identity(), log.identity());
}
