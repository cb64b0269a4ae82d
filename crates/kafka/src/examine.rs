//! A look at a cluster and a topic, for a person.
//!
//! Owns: [`examine`]. Does not know: what is to be thought of it. Invariant: nothing is changed, and no topic is made.

use crate::Config;
use crate::clients::Clients;
use crate::settings::Settings;
use crate::topic::{self, Judgement};
use crate::url::Url;
use headwater_core::log::LogError;
use std::time::Duration;

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// The brokers that were asked, and the topic.
    pub place: String,
    /// The cluster's id.
    pub cluster: String,
    /// How many brokers it has.
    pub brokers: usize,
    /// The topic; `None` where there is none yet.
    pub topic: Option<Topic>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its partitions.
    pub partitions: u32,
    /// The copies of its least copied partition.
    pub copies: usize,
    /// Why it cannot be the log.
    pub refusals: Vec<String>,
    /// Why acknowledged records may be lost.
    pub doubts: Vec<String>,
}

/// Looks at the cluster and the topic of `config.url`; waits for no longer than `patience` for a broker.
///
/// # Errors
/// [`LogError::Corrupt`] where the configuration cannot work, [`LogError::Unavailable`] where no broker answers.
pub async fn examine(config: Config, patience: Duration) -> Result<Examined, LogError> {
    let problems = config.validate();
    if !problems.is_empty() {
        return Err(LogError::Corrupt(problems.join("; ")));
    }
    let url = Url::parse(&config.url).map_err(|problem| LogError::Corrupt(format!("log.url: {problem}")))?;
    let looking = tokio::task::spawn_blocking(move || look(&config, &url, patience.min(config.connect_wait())));
    looking.await.unwrap_or_else(|_| Err(LogError::Stopped("looking at kafka has panicked".to_owned())))
}

fn look(config: &Config, url: &Url, patience: Duration) -> Result<Examined, LogError> {
    let settings = Settings::new(config, url)?;
    let clients = Clients::new(config, url, &settings, "doctor".to_owned())?;
    let cluster = clients.cluster_id(url, patience)?;
    let (brokers, copies) = clients.copies()?;
    let topic = match clients.partitions()? {
        None => None,
        Some(partitions) => {
            let Judgement { refusals, doubts } = topic::judged(&clients, url, copies)?.unwrap_or_default();
            Some(Topic { partitions, copies, refusals, doubts })
        }
    };
    Ok(Examined { place: format!("{}/{}", url.bootstrap(), url.topic), cluster, brokers, topic })
}
