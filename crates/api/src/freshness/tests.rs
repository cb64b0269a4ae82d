//! How the way of the newest record is measured, on a clock that stands still.

use super::*;
use crate::testing::{Stack, at};
use headwater_contract::builders::{batch, record};
use headwater_core::log::{EventLog, Position, Record};
use headwater_core::store::Ingestion;

fn follower(stack: &Stack) -> Follower {
    Follower { log: stack.log.identity(), deps: stack.deps.clone(), seen: BTreeMap::new(), begun: false, last: 0, asked: None }
}

async fn appended(stack: &Stack, partition: u32, second: i64) {
    stack.log.append(vec![Record { received_at: at(second), count: 0, ..record(partition, "x") }]).await.unwrap();
}

async fn applied(stack: &Stack, partition: u32, expected: Option<u64>, next: u64) {
    let position = Position { log: stack.log.identity(), partition, next, crc: Some(1) };
    stack.store.commit(batch().moved_to(position, expected).build()).await.unwrap();
}

async fn seen(stack: &Stack) -> (Option<f64>, Option<f64>, Option<f64>) {
    let of = async |series| stack.scraped(series).await;
    (
        of("headwater_heartbeat_timestamp_seconds{stage=\"queryable\"}").await,
        of("headwater_heartbeat_delay_seconds_count").await,
        of("headwater_heartbeat_delay_seconds_sum").await,
    )
}

fn time(second: i64) -> Option<f64> {
    Some(at(second).micros() as f64 / 1e6)
}

#[tokio::test]
async fn a_record_that_is_applied_is_seen_once_with_the_time_that_it_took() {
    let stack = Stack::new();
    let mut follower = follower(&stack);
    follower.look().await.unwrap();
    assert_eq!(seen(&stack).await, (Some(0.0), Some(0.0), Some(0.0)));
    appended(&stack, 0, -9).await;
    follower.look().await.unwrap();
    assert_eq!(seen(&stack).await.1, Some(0.0), "it is not applied");
    applied(&stack, 0, None, 1).await;
    for _ in 0..3 {
        follower.look().await.unwrap();
        assert_eq!(seen(&stack).await, (time(-9), Some(1.0), Some(9.0)));
    }
}

#[tokio::test]
async fn what_was_applied_before_the_first_look_says_nothing_of_the_delay() {
    let stack = Stack::new();
    appended(&stack, 1, -3600).await;
    applied(&stack, 1, None, 1).await;
    follower(&stack).look().await.unwrap();
    assert_eq!(seen(&stack).await, (time(-3600), Some(0.0), Some(0.0)));
}

#[tokio::test(start_paused = true)]
async fn partitions_that_move_are_asked_about_in_turn() {
    let stack = Stack::new();
    let mut follower = follower(&stack);
    follower.look().await.unwrap();
    for n in 0..3 {
        for partition in [0, 1] {
            appended(&stack, partition, -10 * (1 + i64::from(partition))).await;
            applied(&stack, partition, (n > 0).then_some(n), n + 1).await;
        }
        follower.look().await.unwrap();
        tokio::time::advance(ASK_EVERY).await;
    }
    // The second partition first, because the first counts as asked about: 20 s, 10 s, 20 s.
    assert_eq!(seen(&stack).await, (time(-10), Some(3.0), Some(50.0)));
}

#[tokio::test]
async fn a_record_that_is_not_kept_any_more_and_another_log_change_nothing() {
    let stack = Stack::new();
    let mut follower = follower(&stack);
    follower.look().await.unwrap();
    applied(&stack, 0, None, 5).await;
    let other = Position { log: LogId("other".into()), partition: 1, next: 3, crc: None };
    stack.store.commit(batch().moved_to(other, None).build()).await.unwrap();
    follower.look().await.unwrap();
    assert_eq!(seen(&stack).await, (Some(0.0), Some(0.0), Some(0.0)));
}

#[tokio::test(start_paused = true)]
async fn the_log_is_asked_now_and_then_and_what_moved_meanwhile_is_not_measured_later() {
    let stack = Stack::new();
    let mut follower = follower(&stack);
    follower.look().await.unwrap();
    for n in 0..2 {
        appended(&stack, 0, -10).await;
        applied(&stack, 0, (n > 0).then_some(n), n + 1).await;
        follower.look().await.unwrap();
    }
    tokio::time::advance(ASK_EVERY).await;
    follower.look().await.unwrap();
    assert_eq!(seen(&stack).await, (time(-10), Some(1.0), Some(10.0)));
}
