//! What can be configured of the log on Kafka, and the check that finds every problem at once.
//!
//! Owns: [`Config`] and its limits. Does not know: files, the environment, where a value came from, any broker.
//! Invariants: `Debug` shows no value of an option (some are secrets); nothing here needs the network.

use crate::settings;
use crate::url::Url;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

const MIB: u64 = 1024 * 1024;

/// Where the log is and how it is reached.
///
/// Authentication: `options = { "security.protocol" = "SASL_SSL", "sasl.mechanism" = "SCRAM-SHA-512", "sasl.username" = "…" }`
/// and `password_file`. `SSL`, `SASL_SSL` and the mechanisms `SCRAM-*` and `OAUTHBEARER` need a build with the cargo feature
/// `tls` (releases have it); `PLAIN` over `SASL_PLAINTEXT` does not. `GSSAPI` (Kerberos) is not built in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `kafka://host:9092,other:9092/topic?partitions=12&replication=3`. The numbers count when the topic is made; without
    /// them it gets 12 partitions and as many copies as there are brokers, at most 3.
    pub url: String,
    /// Further settings of librdkafka by their own names, for all connections: SASL, TLS, `client.id`, `compression.codec`.
    /// Those that a promise depends on are refused by name.
    pub options: BTreeMap<String, String>,
    /// The file that holds the SASL password (its first line); never logged.
    pub password_file: Option<PathBuf>,
    /// Static membership: the name of this process within its group, unique in it and the same after a restart. After a restart
    /// (its own or a broker's) reading then goes on without a rebalance.
    pub group_instance_id: Option<String>,
    /// How long opening waits for the cluster, in ms.
    pub connect_wait_ms: u64,
    /// How long the cluster may take to acknowledge an append, retries included, in ms.
    pub append_wait_ms: u64,
    /// After how long without a sign of life a reader's partitions go to another, in ms.
    pub session_timeout_ms: u64,
    /// The most bytes that are appended and not acknowledged.
    pub queue_bytes: u64,
    /// The most bytes that a subscription holds ready; beyond them it pauses its partitions and stays in its group.
    pub buffer_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: String::new(),
            options: BTreeMap::new(),
            password_file: None,
            group_instance_id: None,
            connect_wait_ms: 10_000,
            append_wait_ms: 30_000,
            // The least that brokers take as they come (group.min.session.timeout.ms).
            session_timeout_ms: 6_000,
            queue_bytes: 64 * MIB,
            buffer_bytes: 32 * MIB,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("url", &self.url)
            .field("options", &self.options.keys().collect::<Vec<_>>())
            .field("password_file", &self.password_file)
            .field("group_instance_id", &self.group_instance_id)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Every problem of this section, each with its key.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(problem) = Url::parse(&self.url) {
            problems.push(format!("log.url: {problem}"));
        }
        if self.group_instance_id.as_deref().is_some_and(|id| id.is_empty() || id.len() > 200 || id.contains('\0')) {
            problems.push("log.group_instance_id: must have 1 to 200 characters".to_owned());
        }
        for (key, value, least, most) in [
            ("connect_wait_ms", self.connect_wait_ms, 100, 600_000),
            ("append_wait_ms", self.append_wait_ms, 1_000, 600_000),
            ("session_timeout_ms", self.session_timeout_ms, 1_000, 240_000),
            ("queue_bytes", self.queue_bytes, 2 * MIB, 2_048 * MIB),
            ("buffer_bytes", self.buffer_bytes, 2 * MIB, 2_048 * MIB),
        ] {
            if !(least..=most).contains(&value) {
                problems.push(format!("log.{key}: must be {least} to {most}, is {value}"));
            }
        }
        problems.extend(settings::problems(&self.options));
        problems
    }

    pub(crate) const fn connect_wait(&self) -> Duration {
        Duration::from_millis(self.connect_wait_ms)
    }

    pub(crate) const fn append_wait(&self) -> Duration {
        Duration::from_millis(self.append_wait_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_option(name: &str, value: &str) -> Config {
        let options = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        Config { url: "kafka://localhost/readings".to_owned(), options, ..Config::default() }
    }

    #[test]
    fn a_url_is_all_that_is_needed() {
        assert_eq!(Config { url: "kafka://localhost/readings".to_owned(), ..Config::default() }.validate(), Vec::<String>::new());
    }

    #[test]
    fn all_problems_are_found_at_once() {
        let config = Config { append_wait_ms: 0, group_instance_id: Some(String::new()), ..with_option("acks", "1") };
        let problems = Config { url: "x".to_owned(), ..config }.validate();
        for key in ["log.url", "log.append_wait_ms", "log.group_instance_id", "log.options.acks"] {
            assert!(problems.iter().any(|problem| problem.starts_with(key)), "{key}: {problems:?}");
        }
    }

    #[test]
    fn settings_that_a_promise_depends_on_are_refused_by_name() {
        for name in ["enable.auto.commit", "acks", "enable.idempotence", "partitioner", "group.id", "auto.offset.reset"] {
            let problems = with_option(name, "true").validate();
            assert!(problems.iter().any(|problem| problem.contains(name)), "{name}: {problems:?}");
        }
    }

    #[test]
    fn a_password_among_the_options_is_sent_to_its_file_and_not_repeated() {
        let config = with_option("sasl.password", "hunter2");
        let problems = config.validate().join("\n");
        assert!(problems.contains("password_file") && !problems.contains("hunter2"), "{problems}");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn an_unknown_setting_or_value_is_said_before_connecting() {
        assert!(with_option("no.such.setting", "1").validate()[0].contains("no.such.setting"));
        assert!(with_option("socket.timeout.ms", "soon").validate()[0].contains("socket.timeout.ms"));
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn a_build_without_tls_refuses_what_needs_it_in_words() {
        for (name, value) in [("security.protocol", "SASL_SSL"), ("sasl.mechanism", "SCRAM-SHA-512"), ("ssl.ca.location", "/ca.pem")] {
            let problems = with_option(name, value).validate().join("\n");
            assert!(problems.contains("feature `tls`"), "{name}: {problems}");
        }
        assert!(with_option("sasl.mechanism", "PLAIN").validate().is_empty());
    }
}
