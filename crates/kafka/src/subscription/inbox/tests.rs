//! What the reader gets in which order, and what is forgotten.

use super::*;
use bytes::Bytes;
use headwater_core::time::Timestamp;

fn record(position: u64) -> StoredRecord {
    sized(position, 10)
}

fn sized(position: u64, bytes: usize) -> StoredRecord {
    let payload = Bytes::from(vec![0; bytes]);
    StoredRecord { position, received_at: Timestamp(0), count: 1, crc: 0, damaged: false, foreign: None, payload }
}

/// An inbox whose records may all be delivered.
fn made(most_bytes: u64) -> Arc<Inbox> {
    let inbox = Inbox::new(most_bytes);
    inbox.vouched(u64::MAX);
    inbox
}

/// An inbox with partition 0, begun at a place and fetched.
fn begun(at: u64) -> Arc<Inbox> {
    let inbox = made(1_000);
    inbox.assigned(&[0]);
    assert_eq!(inbox.take().unwrap(), Some(Delivery::Assigned(vec![0])));
    assert_eq!(inbox.begin(0, at), Some(false));
    inbox.attach(0);
    inbox
}

fn positions(delivery: Option<Delivery>) -> (u64, Vec<u64>, u64) {
    match delivery {
        Some(Delivery::Records { from, next, records, .. }) => (from, records.iter().map(|record| record.position).collect(), next),
        other => panic!("records, not {other:?}"),
    }
}

#[test]
fn records_come_in_order_and_without_holes() {
    let inbox = begun(5);
    for position in 5..8 {
        assert_eq!(inbox.take_in(0, record(position), false), Taken::Kept);
    }
    assert_eq!(positions(inbox.take().unwrap()), (5, vec![5, 6, 7], 8));
    assert_eq!(inbox.take().unwrap(), None);
    inbox.take_in(0, record(8), false);
    assert_eq!(positions(inbox.take().unwrap()), (8, vec![8], 9));
}

#[test]
fn a_hole_in_the_log_is_covered_by_the_numbers_around_it() {
    let inbox = begun(5);
    inbox.take_in(0, record(5), false);
    inbox.take_in(0, record(8), false);
    assert_eq!(positions(inbox.take().unwrap()), (5, vec![5, 8], 9));
}

#[test]
fn a_hole_right_after_a_start_has_to_be_proven() {
    let inbox = begun(5);
    assert_eq!(inbox.take_in(0, record(7), false), Taken::Skips { expected: 5, record: record(7) });
    assert_eq!(inbox.take().unwrap(), None, "nothing was taken in");
    assert_eq!(inbox.take_in(0, record(7), true), Taken::Kept);
    assert_eq!(positions(inbox.take().unwrap()), (5, vec![7], 8));
    inbox.freshen(&[0]);
    assert_eq!(inbox.take_in(0, record(9), false), Taken::Skips { expected: 8, record: record(9) });
}

#[test]
fn fetching_again_keeps_what_is_queued() {
    let inbox = begun(5);
    inbox.take_in(0, record(5), false);
    inbox.freshen(&[0]);
    assert_eq!(inbox.places(), [(0, 6)]);
    assert_eq!(inbox.take_in(0, record(5), false), Taken::Dropped, "it came before");
    inbox.take_in(0, record(6), false);
    assert_eq!(positions(inbox.take().unwrap()), (5, vec![5, 6], 7));
}

#[test]
fn nothing_is_taken_in_before_a_partition_is_begun() {
    let inbox = made(1_000);
    inbox.assigned(&[0]);
    inbox.attach(0);
    assert_eq!(inbox.take_in(0, record(0), false), Taken::Dropped);
    assert_eq!(inbox.take_in(1, record(0), false), Taken::Dropped);
}

#[test]
fn beginning_again_forgets_what_was_fetched_for_the_old_place() {
    let inbox = begun(0);
    for position in 0..4 {
        inbox.take_in(0, record(position), false);
    }
    assert_eq!(inbox.begin(0, 2), Some(true));
    assert_eq!(inbox.take().unwrap(), None);
    assert_eq!(inbox.take_in(0, record(1), false), Taken::Dropped, "a late record of the old place");
    inbox.take_in(0, record(2), false);
    assert_eq!(positions(inbox.take().unwrap()), (2, vec![2], 3));
}

#[test]
fn a_full_inbox_stops_the_flow_until_it_is_half_empty() {
    let inbox = begun(0);
    for position in 0..4 {
        inbox.take_in(0, record(position), false);
    }
    assert_eq!(inbox.flow(false), (true, vec![(0, false)]));
    inbox.take().unwrap();
    assert_eq!(inbox.flow(true), (false, vec![(0, true)]));
    for position in 4..7 {
        inbox.take_in(0, record(position), false);
    }
    assert_eq!(inbox.flow(true), (true, vec![(0, false)]), "above the half it stays stopped");
    assert_eq!(inbox.flow(false), (false, vec![(0, true)]), "and it would not have been stopped");
}

#[test]
fn forgetting_gives_the_room_back() {
    let inbox = begun(0);
    inbox.take_in(0, sized(0, 2_000), false);
    assert!(inbox.flow(false).0);
    inbox.revoked(&[0]);
    assert_eq!(inbox.flow(false), (false, vec![]));
}

#[test]
fn a_delivery_is_limited_in_bytes_and_partitions_take_turns() {
    let inbox = made(u64::MAX);
    inbox.assigned(&[0, 1]);
    inbox.take().unwrap();
    for partition in [0, 1] {
        inbox.begin(partition, 0);
        for position in 0..2 {
            inbox.take_in(partition, sized(position, DELIVERY_BYTES), false);
        }
    }
    let turns: Vec<_> = std::iter::from_fn(|| inbox.take().unwrap())
        .map(|delivery| match delivery {
            Delivery::Records { partition, from, next, .. } => (partition, from, next),
            other => panic!("records, not {other:?}"),
        })
        .collect();
    assert_eq!(turns, [(1, 0, 1), (0, 0, 1), (1, 1, 2), (0, 1, 2)]);
}

#[test]
fn a_revoked_partition_delivers_nothing_and_is_waited_for() {
    let inbox = begun(0);
    inbox.take_in(0, record(0), false);
    inbox.revoked(&[0]);
    assert!(!inbox.none_unreleased());
    assert_eq!(inbox.take().unwrap(), Some(Delivery::Revoked(vec![0])));
    assert_eq!(inbox.take().unwrap(), None);
    inbox.released(&[0]);
    assert!(inbox.none_unreleased());
    assert_eq!(inbox.begin(0, 0), None, "it is not ours any more");
}

#[test]
fn an_assignment_that_nobody_has_heard_of_is_taken_back_silently() {
    let inbox = made(1_000);
    inbox.assigned(&[0, 1]);
    inbox.revoked(&[1]);
    assert!(inbox.none_unreleased());
    assert_eq!(inbox.take().unwrap(), Some(Delivery::Assigned(vec![0])));
    inbox.revoked(&[0]);
    assert_eq!(inbox.take().unwrap(), Some(Delivery::Revoked(vec![0])));
}

#[test]
fn a_held_partition_is_given_anew_unless_it_moved_on() {
    let inbox = begun(3);
    inbox.take_in(0, record(3), false);
    inbox.hold(0, 3);
    assert_eq!(positions(inbox.take().unwrap()), (3, vec![3], 4), "it has moved on");
    inbox.hold(0, 4);
    assert_eq!(inbox.take().unwrap(), Some(Delivery::Revoked(vec![0])));
    assert_eq!(inbox.take().unwrap(), Some(Delivery::Assigned(vec![0])));
    assert_eq!(inbox.take_in(0, record(4), false), Taken::Dropped);
    assert_eq!(inbox.flow(false), (false, vec![(0, false)]), "it is not fetched meanwhile");
    assert_eq!(inbox.begin(0, 9), Some(true));
}

#[test]
fn a_failure_is_for_good_and_trouble_is_told_once() {
    let inbox = begun(0);
    inbox.trouble(LogError::Unavailable("no rights".to_owned()));
    inbox.trouble(LogError::Unavailable("no rights".to_owned()));
    inbox.take().unwrap_err();
    assert_eq!(inbox.take().unwrap(), None);
    inbox.fail(LogError::Stopped("first".to_owned()));
    inbox.fail(LogError::Stopped("second".to_owned()));
    for _ in 0..2 {
        assert!(inbox.take().unwrap_err().to_string().contains("first"));
    }
}

#[test]
fn a_partition_that_does_not_move_is_suspected() {
    let inbox = begun(0);
    inbox.look_for_still_ones();
    assert!(!inbox.is_suspect(), "it was never looked at before");
    inbox.take_in(0, record(0), false);
    inbox.look_for_still_ones();
    assert!(!inbox.is_suspect(), "it has moved");
    inbox.look_for_still_ones();
    assert!(inbox.is_suspect());
    inbox.inspecting();
    assert!(!inbox.is_suspect());
}

#[tokio::test]
async fn a_record_is_delivered_when_it_has_been_vouched_for_and_not_before() {
    let inbox = begun(5);
    inbox.vouched(0);
    inbox.take_in(0, record(5), false);
    inbox.take_in(0, record(6), false);
    let arrived = inbox.arrived().await;
    inbox.take_in(0, record(7), false);
    assert_eq!(inbox.take().unwrap(), None);
    inbox.vouched(arrived);
    assert_eq!(positions(inbox.take().unwrap()), (5, vec![5, 6], 7));
    assert_eq!(inbox.take().unwrap(), None, "the last came after the question");
    inbox.vouched(inbox.arrived().await);
    assert_eq!(positions(inbox.take().unwrap()), (7, vec![7], 8));
}

#[tokio::test]
async fn what_has_been_vouched_for_does_not_count_for_what_is_read_again() {
    let inbox = begun(5);
    inbox.vouched(0);
    inbox.take_in(0, record(5), false);
    let arrived = inbox.arrived().await;
    assert_eq!(inbox.begin(0, 5), Some(true));
    inbox.take_in(0, record(5), false);
    inbox.vouched(arrived);
    assert_eq!(inbox.take().unwrap(), None);
    inbox.vouched(inbox.arrived().await);
    assert_eq!(positions(inbox.take().unwrap()), (5, vec![5], 6));
}
