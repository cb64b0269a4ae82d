//! The topic: made where it is missing, checked where it exists.
//!
//! Owns: the settings that a topic of ours has, and which of an existing one cannot work, or should be thought about.
//! Does not know: records. Invariant: an existing topic is never changed.
//!
//! | setting | made with | of an existing topic |
//! |---|---|---|
//! | `cleanup.policy` | `delete` | compaction is refused: it deletes records that were not read |
//! | `max.message.bytes` | 2 MiB | less than 1 MiB is refused: a record would not fit |
//! | `message.timestamp.type` | `CreateTime` | both work: the receive time is in a header; `LogAppendTime` suits foreign producers |
//! | `retention.ms`, `.bytes` | 7 days, none | less than a day, or any size, is warned of: an outage must be shorter |
//! | `min.insync.replicas` | 2 of 3 copies | 1 of 3 is warned of: an acknowledged record may have one copy |
//! | `unclean.leader.election.enable` | `false` | `true` is warned of: acknowledged records may vanish |

use crate::clients::{ASK, Clients, PAUSE};
use crate::error;
use crate::settings::NEEDED_MESSAGE_BYTES;
use crate::url::Url;
use headwater_core::log::LogError;
use rdkafka::admin::{AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode as Code;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tracing::{info, warn};

const DEFAULT_PARTITIONS: u32 = 12;
const DEFAULT_REPLICATION: usize = 3;
const DAY_MS: i64 = 86_400_000;

/// Makes the topic where it is missing, or checks the one that exists. Says how many partitions it has. Blocks.
pub(crate) fn open(clients: &Clients, url: &Url, wait: Duration) -> Result<u32, LogError> {
    let deadline = Instant::now() + wait;
    let (brokers, copies) = clients.copies()?;
    let Some(partitions) = clients.partitions()? else {
        create(clients, url, brokers)?;
        return visible(clients, deadline);
    };
    if url.partitions.is_some_and(|wanted| wanted != partitions) {
        warn!(partitions, "topic {} exists with {partitions} partitions; the number in log.url is not used", url.topic);
    }
    check(clients, url, brokers, copies)?;
    Ok(partitions)
}

fn create(clients: &Clients, url: &Url, brokers: usize) -> Result<(), LogError> {
    let partitions = url.partitions.unwrap_or(DEFAULT_PARTITIONS);
    let replication = url.replication.map_or_else(|| brokers.clamp(1, DEFAULT_REPLICATION), usize::from);
    let retention = (7 * DAY_MS).to_string();
    let message_bytes = (2 * NEEDED_MESSAGE_BYTES).to_string();
    let mut topic = NewTopic::new(&url.topic, partitions as i32, TopicReplication::Fixed(replication as i32))
        .set("cleanup.policy", "delete")
        .set("max.message.bytes", &message_bytes)
        .set("message.timestamp.type", "CreateTime")
        .set("retention.ms", &retention)
        .set("unclean.leader.election.enable", "false");
    if replication >= 3 {
        topic = topic.set("min.insync.replicas", "2");
    }
    let options = AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK));
    let doing = format!("make topic {} with {partitions} partitions and {replication} copies", url.topic);
    let asked = Handle::current().block_on(clients.admin.create_topics([&topic], &options));
    let results = asked.map_err(|failure| error::of(&doing, &failure))?;
    match results.into_iter().next() {
        Some(Ok(_)) => info!(partitions, replication, "made topic {} with {partitions} partitions, {replication} copies each", url.topic),
        // Another process was faster.
        Some(Err((_, Code::TopicAlreadyExists))) => {}
        Some(Err((_, Code::InvalidReplicationFactor))) => {
            return Err(LogError::Corrupt(format!("{doing}: the cluster has {brokers} brokers; write ?replication={brokers} in log.url")));
        }
        Some(Err((_, code @ (Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed | Code::PolicyViolation)))) => {
            return Err(LogError::Corrupt(format!("{doing}: {code}; make it yourself, or allow this user to")));
        }
        Some(Err((_, code))) => return Err(LogError::Unavailable(format!("{doing}: {code}"))),
        None => return Err(LogError::Unavailable(format!("{doing}: an empty answer"))),
    }
    Ok(())
}

/// Waits until a new topic is known by the brokers, and each of its partitions has a leader.
fn visible(clients: &Clients, deadline: Instant) -> Result<u32, LogError> {
    loop {
        if let Some(partitions) = clients.partitions()?
            && clients.bounds(partitions).is_ok()
        {
            return Ok(partitions);
        }
        if Instant::now() >= deadline {
            return Err(LogError::Unavailable(format!("topic {} was made and is not there yet", clients.topic)));
        }
        std::thread::sleep(PAUSE);
    }
}

fn check(clients: &Clients, url: &Url, brokers: usize, copies: usize) -> Result<(), LogError> {
    let Some(found) = judged(clients, url, copies)? else { return Ok(()) };
    for doubt in &found.doubts {
        warn!("topic {}: {doubt}", url.topic);
    }
    if copies < DEFAULT_REPLICATION && copies < brokers {
        warn!("topic {} has {copies} copies on {brokers} brokers", url.topic);
    }
    if found.refusals.is_empty() {
        return Ok(());
    }
    Err(LogError::Corrupt(format!("topic {} cannot be the log: {}", url.topic, found.refusals.join("; "))))
}

/// What there is to say about the settings of a topic that exists; `None` where they may not be seen.
pub(crate) fn judged(clients: &Clients, url: &Url, copies: usize) -> Result<Option<Judgement>, LogError> {
    let options = AdminOptions::new().request_timeout(Some(ASK));
    let doing = format!("ask for the settings of topic {}", url.topic);
    let asked = Handle::current().block_on(clients.admin.describe_configs(&[ResourceSpecifier::Topic(&url.topic)], &options));
    let results = asked.map_err(|failure| error::of(&doing, &failure))?;
    let settings = match results.into_iter().next() {
        Some(Ok(settings)) => settings,
        Some(Err(code)) => {
            warn!("{doing}: {code}; going on without a check");
            return Ok(None);
        }
        None => return Err(LogError::Unavailable(format!("{doing}: an empty answer"))),
    };
    Ok(Some(judge(&|name| value_of(&settings, name), copies)))
}

fn value_of(settings: &ConfigResource, name: &str) -> Option<String> {
    settings.get(name)?.value.clone()
}

/// What there is to say about a topic's settings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) refusals: Vec<String>,
    pub(crate) doubts: Vec<String>,
}

fn judge(value: &dyn Fn(&str) -> Option<String>, copies: usize) -> Judgement {
    let mut found = Judgement::default();
    let number = |name: &str| value(name)?.parse::<i64>().ok();
    if value("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        found.refusals.push("cleanup.policy has compaction, which deletes records that were not read; set it to delete".to_owned());
    }
    if let Some(bytes) = number("max.message.bytes").filter(|bytes| *bytes < NEEDED_MESSAGE_BYTES as i64) {
        found.refusals.push(format!("max.message.bytes is {bytes}; set it to {NEEDED_MESSAGE_BYTES} or more"));
    }
    if let Some(ms) = number("retention.ms").filter(|ms| (0..DAY_MS).contains(ms)) {
        found.doubts.push(format!("retention.ms is {ms}: what is not applied to the store within that time is lost (as a gap)"));
    }
    if let Some(bytes) = number("retention.bytes").filter(|bytes| *bytes >= 0) {
        found.doubts.push(format!("retention.bytes is {bytes}: what is not applied before as much arrives is lost (as a gap)"));
    }
    if copies >= 3 && number("min.insync.replicas").is_some_and(|replicas| replicas < 2) {
        found.doubts.push("min.insync.replicas is 1: an acknowledged record may have one copy only; set it to 2".to_owned());
    }
    if value("unclean.leader.election.enable").is_some_and(|unclean| unclean == "true") {
        found.doubts.push("unclean.leader.election.enable is true: acknowledged records may vanish".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(settings: &[(&str, &str)], copies: usize) -> Judgement {
        let value = |name: &str| settings.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        judge(&value, copies)
    }

    #[test]
    fn what_a_topic_is_made_with_is_beyond_doubt() {
        let settings = [
            ("cleanup.policy", "delete"),
            ("max.message.bytes", "2097152"),
            ("message.timestamp.type", "CreateTime"),
            ("retention.ms", "604800000"),
            ("retention.bytes", "-1"),
            ("min.insync.replicas", "2"),
            ("unclean.leader.election.enable", "false"),
        ];
        assert_eq!(judged(&settings, 3), Judgement::default());
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (name, value) in [("cleanup.policy", "compact"), ("cleanup.policy", "compact,delete"), ("max.message.bytes", "100000")] {
            let found = judged(&[(name, value)], 1);
            assert!(found.refusals.len() == 1 && found.refusals[0].contains(name), "{name}={value}: {found:?}");
        }
    }

    #[test]
    fn what_may_lose_records_is_said() {
        for (name, value) in [
            ("retention.ms", "3600000"),
            ("retention.bytes", "1000"),
            ("min.insync.replicas", "1"),
            ("unclean.leader.election.enable", "true"),
        ] {
            let found = judged(&[(name, value)], 3);
            assert!(found.doubts.len() == 1 && found.doubts[0].contains(name), "{name}={value}: {found:?}");
        }
        assert_eq!(judged(&[("min.insync.replicas", "1"), ("retention.ms", "-1")], 1), Judgement::default());
    }
}
