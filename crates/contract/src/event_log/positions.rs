//! Which stored positions a log accepts, and what it says of the others.
#![expect(missing_docs, reason = "a property's name is its claim")]

use super::LogHarness;
use super::reader::{Reader, a_partition, append, expected, position, read, texts, trim};
use headwater_core::log::{EventLog, Gap, LogError, Position};

pub async fn a_position_before_the_start_is_a_gap_with_its_exact_range(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    append(&*log, partition, 0..6).await;
    let all = read(&*log, partition).await;
    trim(&*log, partition, 6).await;
    append(&*log, partition, 6..9).await;
    for next in [0, 1, 5] {
        let mut reader = Reader::join(&*log).await;
        let gaps = reader.resume(&*log, partition, Some(position(&*log, partition, &all, next))).await.expect("resume");
        assert_eq!(gaps, [Gap { log: log.identity(), partition, from: next, to: 6 }]);
        assert_eq!(texts(&reader.read_to(partition, 9).await), expected(6..9), "delivery begins behind the gap");
    }
}

pub async fn a_position_at_the_start_is_no_gap(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    append(&*log, partition, 0..4).await;
    let all = read(&*log, partition).await;
    trim(&*log, partition, 4).await;
    let mut reader = Reader::join(&*log).await;
    let gaps = reader.resume(&*log, partition, Some(position(&*log, partition, &all, 4))).await.expect("resume");
    assert_eq!(gaps, []);
    append(&*log, partition, 4..6).await;
    assert_eq!(texts(&reader.read_to(partition, 6).await), expected(4..6));
}

pub async fn a_position_at_the_end_delivers_only_what_comes_later(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    append(&*log, partition, 0..3).await;
    let all = read(&*log, partition).await;
    let mut reader = Reader::from(&*log, partition, Some(position(&*log, partition, &all, 3))).await;
    reader.hears_nothing().await;
    append(&*log, partition, 3..4).await;
    assert_eq!(texts(&reader.read_to(partition, 4).await), expected(3..4));
}

pub async fn a_position_beyond_the_end_is_refused_naming_both(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    append(&*log, partition, 0..37).await;
    let beyond = Position { log: log.identity(), partition, next: 5_923, crc: Some(1) };
    refuses(&*log, partition, beyond, &[&["5923", "5,923"], &["37"]]).await;
    let all = read(&*log, partition).await;
    let just_beyond = Position { next: 38, ..position(&*log, partition, &all, 37) };
    refuses(&*log, partition, just_beyond, &[&["38"], &["37"]]).await;
}

pub async fn a_position_of_another_log_is_refused_naming_both(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    append(&*log, partition, 0..3).await;
    let all = read(&*log, partition).await;
    let other = harness.other().await.identity();
    for next in [0, 2, 9] {
        let position = Position { log: other.clone(), ..position(&*log, partition, &all, next) };
        refuses(&*log, partition, position, &[&[&other.0], &[&log.identity().0]]).await;
    }
}

pub async fn a_position_with_another_crc_is_refused_naming_both(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    append(&*log, partition, 0..5).await;
    let all = read(&*log, partition).await;
    for next in [1, 3, 5] {
        let right = position(&*log, partition, &all, next);
        let kept = all[next as usize - 1].crc;
        let wrong = kept ^ 0x0010_0001;
        let position = Position { crc: Some(wrong), ..right };
        refuses(&*log, partition, position, &[&[&format!("{wrong:x}"), &wrong.to_string()], &[&format!("{kept:x}"), &kept.to_string()]])
            .await;
    }
}

pub async fn a_refused_resume_skips_nothing(harness: &mut dyn LogHarness) {
    let log = harness.open().await;
    let partition = a_partition(&*log).await;
    append(&*log, partition, 0..6).await;
    let all = read(&*log, partition).await;
    let mut reader = Reader::join(&*log).await;
    let beyond = Position { log: log.identity(), partition, next: 100, crc: None };
    reader.resume(&*log, partition, Some(beyond)).await.expect_err("a position beyond the end");
    reader.hears_nothing().await;
    reader.resume(&*log, partition, Some(position(&*log, partition, &all, 2))).await.expect("resume");
    assert_eq!(texts(&reader.read_to(partition, 6).await), expected(2..6));
}

/// Asserts that a position is refused as corrupt, with words that hold one spelling of each named thing.
async fn refuses(log: &dyn EventLog, partition: u32, position: Position, named: &[&[&str]]) {
    let mut reader = Reader::join(log).await;
    let refusal = reader.resume(log, partition, Some(position.clone())).await.expect_err("a position that is not this log's");
    let LogError::Corrupt(words) = refusal else {
        panic!("{position:?} is refused as corrupt, not as {refusal:?}");
    };
    for spellings in named {
        let lower = words.to_lowercase();
        assert!(spellings.iter().any(|spelling| lower.contains(&spelling.to_lowercase())), "{words:?} names one of {spellings:?}");
    }
}
