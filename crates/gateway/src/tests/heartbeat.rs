//! Heartbeats: how often, with what in them, and what happens when the log takes none.

use super::*;
use crate::send_heartbeats;
use headwater_contract::LogCall;
use headwater_core::log::LogError;

/// Runs the heartbeat for `seconds` of a paused clock.
async fn beat_for(site: &Site, every: Option<Duration>, seconds: u64) {
    let config = Config { heartbeat: every, ..Config::default() };
    let task = tokio::spawn(send_heartbeats(config, site.deps.clone(), site.stop.clone()));
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    site.stop.cancel();
    task.await.unwrap();
}

fn beats(site: &Site) -> usize {
    site.contents().iter().filter(|content| matches!(content, Content::Heartbeat)).count()
}

#[tokio::test(start_paused = true)]
async fn heartbeats_come_in_their_time_and_count_nothing() {
    let site = Site::new();
    beat_for(&site, Some(Duration::from_secs(5)), 12).await;
    assert_eq!((beats(&site), site.counted()), (3, 0));
    let text = site.registry.write(TextFormat::Plain);
    let sent = START.micros() as f64 / 1e6;
    assert!(text.contains(&format!("headwater_heartbeat_timestamp_seconds{{stage=\"sent\"}} {sent:?}\n")), "{text}");
}

#[tokio::test(start_paused = true)]
async fn none_is_sent_where_they_are_off_or_the_clock_was_never_set() {
    let site = Site::new();
    beat_for(&site, None, 60).await;
    assert_eq!(beats(&site), 0);
    let site = Site::new();
    site.clock.set(START.plus(-10));
    beat_for(&site, Some(Duration::from_secs(5)), 60).await;
    assert_eq!(beats(&site), 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_the_log_does_not_take_is_given_up() {
    let site = Site::new();
    site.faulty.faults.fail(LogCall::Append, 2, LogError::Busy("full".to_owned()));
    beat_for(&site, Some(Duration::from_secs(5)), 12).await;
    assert_eq!(beats(&site), 1);
}
