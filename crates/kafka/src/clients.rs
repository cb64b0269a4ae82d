//! The clients of one log, and the questions that they answer by asking the cluster.
//!
//! Owns: producer, administration, reading back; the log's identity as it is now. Does not know: subscriptions, the runtime.
//! Invariants: every question ends at its deadline and blocks until then: none is for a thread of the runtime. Dropping this
//! blocks too (librdkafka ends its threads), so the last owner is a thread of its own (`watch`).

use crate::context::{Context, Words};
use crate::native::{self, NoId, TopicId};
use crate::producer::Producer;
use crate::read_back::ReadBack;
use crate::settings::Settings;
use crate::url::Url;
use crate::{Config, error, position};
use base64::Engine as _;
use headwater_core::log::{Bounds, Gap, LogError, LogId, Position};
use rdkafka::admin::AdminClient;
use rdkafka::client::Client;
use rdkafka::error::KafkaError;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long one question to the cluster may take.
pub(crate) const ASK: Duration = Duration::from_secs(4);
/// How long librdkafka may wait for the cluster's id before it is asked again.
const CLUSTER_ID: Duration = Duration::from_millis(200);
/// How long it is waited before a question is asked again.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);
/// How long all questions of one call may take.
const ASK_ALL: Duration = Duration::from_secs(15);

/// The clients of one log.
pub(crate) struct Clients {
    pub(crate) producer: Producer,
    pub(crate) admin: AdminClient<Context>,
    pub(crate) read_back: ReadBack,
    pub(crate) topic: String,
    words: Arc<Words>,
}

impl Clients {
    /// Makes the clients. They connect in the background.
    pub(crate) fn new(config: &Config, url: &Url, settings: &Settings, instance: String) -> Result<Self, LogError> {
        let context = Context::default();
        let made = |error: KafkaError| LogError::Corrupt(format!("make a client of librdkafka: {error}"));
        let topic = url.topic.clone();
        let producer = settings.producer().create_with_context(context.clone()).map_err(made)?;
        let reader = settings.reader().create_with_context(context.clone()).map_err(made)?;
        let admin = settings.admin().create_with_context(context.clone()).map_err(made)?;
        Ok(Self {
            producer: Producer::new(producer, topic.clone(), config, instance),
            admin,
            read_back: ReadBack::new(reader, topic.clone()),
            topic,
            words: context.0,
        })
    }

    fn client(&self) -> &Client<Context> {
        self.admin.inner()
    }

    /// Waits until the cluster answers, and says which it is. Asks again and again: librdkafka can miss the moment in which the answer
    /// comes, and then it waits to the end of the time that it is given.
    pub(crate) fn cluster_id(&self, url: &Url, wait: Duration) -> Result<String, LogError> {
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(id) = self.client().fetch_cluster_id(left.min(CLUSTER_ID)).filter(|id| !id.is_empty()) {
                return Ok(id);
            }
            if left.is_zero() {
                let why = self.words.last_error().unwrap_or_else(|| "no answer".to_owned());
                let (brokers, ms) = (url.bootstrap(), wait.as_millis());
                return Err(LogError::Unavailable(format!("no broker of {brokers} answered within {ms} ms: {why}")));
            }
            std::thread::sleep(PAUSE.min(left));
        }
    }

    /// How many partitions the topic has; `None` where there is no such topic, or it is still being made.
    pub(crate) fn partitions(&self) -> Result<Option<u32>, LogError> {
        let doing = || format!("ask for the partitions of topic {}", self.topic);
        let metadata = self.client().fetch_metadata(Some(&self.topic), ASK).map_err(|failure| error::of(&doing(), &failure))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == self.topic);
        Ok(topic.filter(|topic| topic.error().is_none()).map(|topic| topic.partitions().len() as u32).filter(|count| *count > 0))
    }

    /// How many brokers the cluster has, and how many copies the topic's least copied partition.
    pub(crate) fn copies(&self) -> Result<(usize, usize), LogError> {
        let doing = || format!("ask for the brokers of topic {}", self.topic);
        let metadata = self.client().fetch_metadata(Some(&self.topic), ASK).map_err(|failure| error::of(&doing(), &failure))?;
        let of_topic = metadata.topics().iter().flat_map(|topic| topic.partitions());
        Ok((metadata.brokers().len(), of_topic.map(|partition| partition.replicas().len()).min().unwrap_or(0)))
    }

    /// The identity that the topic has now.
    pub(crate) fn identity(&self, cluster: &str) -> Result<LogId, LogError> {
        match native::topic_id(self.client(), &self.topic, ASK) {
            Ok(id) => Ok(log_id(cluster, id)),
            Err(NoId::Missing) => Err(LogError::Unavailable(format!("the cluster has no topic {}", self.topic))),
            Err(NoId::Failed(why)) => Err(LogError::Unavailable(format!("ask for the id of topic {}: {why}", self.topic))),
        }
    }

    /// Refuses a topic that is another than the one that was opened.
    pub(crate) fn check_identity(&self, log: &LogId) -> Result<(), LogError> {
        let now = self.identity(cluster_of(log))?;
        if now == *log {
            return Ok(());
        }
        let topic = &self.topic;
        Err(LogError::Corrupt(format!("topic {topic} was deleted and made again: it was log {log} and is log {now} now")))
    }

    /// What can be read of one partition. Waits a little for a leader: a new topic has none at first, and one that moves neither.
    pub(crate) fn bounds_of(&self, partition: u32) -> Result<Bounds, LogError> {
        let deadline = Instant::now() + ASK;
        loop {
            match self.client().fetch_watermarks(&self.topic, partition as i32, ASK) {
                Ok((low, high)) => {
                    let start = u64::try_from(low).unwrap_or(0);
                    return Ok(Bounds { partition, start, end: u64::try_from(high).unwrap_or(0).max(start) });
                }
                Err(failure) if Instant::now() < deadline && failure.rdkafka_error_code().is_some_and(error::is_about_the_leader) => {}
                Err(failure) => {
                    return Err(error::of(&format!("ask for the bounds of partition {partition} of topic {}", self.topic), &failure));
                }
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// What can be read of the first `partitions`.
    pub(crate) fn bounds(&self, partitions: u32) -> Result<Vec<Bounds>, LogError> {
        let deadline = Instant::now() + ASK_ALL;
        (0..partitions).map(|partition| before(deadline).and_then(|()| self.bounds_of(partition))).collect()
    }

    /// Where to begin in each partition, and the gaps before. Refuses what [`position`] refuses; changes nothing.
    pub(crate) fn check(&self, log: &LogId, positions: &[(u32, Option<Position>)]) -> Result<Checked, LogError> {
        let deadline = Instant::now() + ASK_ALL;
        for (partition, stored) in positions {
            position::of_this_log(log, *partition, stored.as_ref())?;
        }
        self.check_identity(log)?;
        let mut checked = Checked::default();
        for (partition, stored) in positions {
            before(deadline)?;
            let bounds = self.bounds_of(*partition)?;
            let (start, gap) = position::start(log, bounds, stored.as_ref())?;
            if let Some((last, crc)) = stored.as_ref().and_then(|stored| position::last_kept(bounds, stored)) {
                self.check_crc(*partition, last, crc)?;
            }
            checked.starts.push((*partition, start));
            checked.gaps.extend(gap);
        }
        Ok(checked)
    }

    fn check_crc(&self, partition: u32, last: u64, crc: u32) -> Result<(), LogError> {
        match self.read_back.first(partition, last)? {
            Some(kept) if kept.position == last => position::same_record(partition, crc, &kept),
            // Its number has no record (a transaction mark): there is nothing to compare.
            _ => Ok(()),
        }
    }
}

/// Asks something off the runtime.
pub(crate) async fn ask<T: Send + 'static>(
    clients: Arc<Clients>,
    question: impl FnOnce(&Clients) -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    let answer = tokio::task::spawn_blocking(move || question(&clients)).await;
    answer.unwrap_or_else(|_| Err(LogError::Stopped("asking the cluster has panicked".to_owned())))
}

/// Positions that were compared with the log.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// By partition, where to begin.
    pub(crate) starts: Vec<(u32, u64)>,
    /// Records that are gone.
    pub(crate) gaps: Vec<Gap>,
}

fn before(deadline: Instant) -> Result<(), LogError> {
    if Instant::now() < deadline { Ok(()) } else { Err(LogError::Unavailable("the cluster answers too slowly".to_owned())) }
}

/// `kafka:<cluster id>/<topic id>`, the topic id as Kafka's own tools print it.
fn log_id(cluster: &str, topic: TopicId) -> LogId {
    let topic = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(topic.0.to_be_bytes());
    LogId(format!("kafka:{cluster}/{topic}"))
}

fn cluster_of(log: &LogId) -> &str {
    log.0.strip_prefix("kafka:").and_then(|rest| rest.split_once('/')).map_or("", |(cluster, _)| cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_is_written_as_kafkas_tools_write_it() {
        let bits = 0x5045_1379_5907_4c4f_b4fb_8b27_c09a_dee6_u128;
        let id = log_id("MkU3OEVBNTcwNTJENDM2Qg", TopicId(bits));
        assert_eq!(id.0, "kafka:MkU3OEVBNTcwNTJENDM2Qg/UEUTeVkHTE-0-4snwJre5g");
        assert_eq!(cluster_of(&id), "MkU3OEVBNTcwNTJENDM2Qg");
    }
}
