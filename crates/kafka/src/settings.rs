//! The settings of librdkafka: which are Headwater's, what each kind of client gets, and why.
//!
//! Owns: every `name = value` that goes to librdkafka. Does not know: topics, groups' members, what is done with a client.
//! Invariants: what a promise depends on is set last and refused among the options; every local queue is finite.

use crate::Config;
use crate::url::Url;
use headwater_core::log::{LogError, MAX_RECORD_BYTES};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use std::collections::BTreeMap;

/// Set here, because a promise depends on them, or a limit.
const OWNED: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "batch.size",
    "bootstrap.servers",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.queue.backoff.ms",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "isolation.level",
    "log.queue",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "message.max.bytes",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "plugin.library.paths",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queued.max.messages.kbytes",
    "request.required.acks",
    "session.timeout.ms",
    "transactional.id",
];

/// The most bytes of one batch of records before it is compressed: librdkafka's default, which brokers take as they come.
const MAX_BATCH_BYTES: usize = 1_000_000;
// A record with its key and headers must fit.
const _: () = assert!(MAX_RECORD_BYTES + 4_096 < MAX_BATCH_BYTES);
/// What a topic must allow (`max.message.bytes`) so that every batch is taken.
pub(crate) const NEEDED_MESSAGE_BYTES: u64 = 1 << 20;

/// What librdkafka fetches ahead of what has been taken from it. Small, because pausing throws it away.
const PREFETCH_KIB: &str = "4096";
/// Longer than any database should stall while a callback waits; polling goes on otherwise (see `subscription`).
const MAX_POLL_INTERVAL_MS: &str = "300000";

/// What is wrong with the options, each with its key.
pub(crate) fn problems(options: &BTreeMap<String, String>) -> Vec<String> {
    let mut problems: Vec<String> = options.iter().filter_map(|(name, value)| problem(name, value)).collect();
    let mut known = ClientConfig::new();
    for (name, value) in options.iter().filter(|(name, value)| problem(name, value).is_none()) {
        known.set(name, value);
        if let Err(error) = known.create_native_config() {
            problems.push(format!("log.options.{}: librdkafka refuses it: {error}", name.escape_debug()));
            known.remove(name);
        }
    }
    problems
}

fn problem(name: &str, value: &str) -> Option<String> {
    if name == "sasl.password" {
        return Some("log.options.sasl.password: write the password into a file and name it as log.password_file".to_owned());
    }
    if OWNED.contains(&name) {
        return Some(format!("log.options.{name}: is set by headwater itself; take it out"));
    }
    let value = value.to_ascii_uppercase();
    let is_mechanism = matches!(name, "sasl.mechanism" | "sasl.mechanisms");
    if is_mechanism && value == "GSSAPI" {
        return Some(format!("log.options.{name}: GSSAPI is not built in; PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 are"));
    }
    let needs_tls = (name == "security.protocol" && value.ends_with("SSL"))
        || (is_mechanism && value != "PLAIN")
        || name.starts_with("ssl.")
        || name.starts_with("sasl.oauthbearer")
        || name == "enable.ssl.certificate.verification";
    (needs_tls && !cfg!(feature = "tls"))
        .then(|| format!("log.options.{name}: needs TLS, which this program was built without; build it with the cargo feature `tls`"))
}

/// Makes the settings of each kind of client.
#[derive(Clone)]
pub(crate) struct Settings {
    base: ClientConfig,
    config: Config,
}

impl Settings {
    /// Reads the password, if there is one.
    pub(crate) fn new(config: &Config, url: &Url) -> Result<Self, LogError> {
        let mut base = ClientConfig::new();
        base.set_log_level(RDKafkaLogLevel::Info);
        base.set("client.id", "headwater");
        for (name, value) in &config.options {
            base.set(name, value);
        }
        if let Some(file) = &config.password_file {
            let text = std::fs::read_to_string(file)
                .map_err(|error| LogError::Corrupt(format!("cannot read log.password_file {}: {error}", file.display())))?;
            base.set("sasl.password", text.lines().next().unwrap_or_default());
        }
        base.set("bootstrap.servers", url.bootstrap())
            .set("allow.auto.create.topics", "false")
            // A recreated topic and added partitions are noticed within this time.
            .set("topic.metadata.refresh.interval.ms", "5000")
            .set("topic.metadata.propagation.max.ms", "5000")
            .set("reconnect.backoff.max.ms", "1000");
        Ok(Self { base, config: config.clone() })
    }

    /// For administration: nothing beyond the base.
    pub(crate) fn admin(&self) -> ClientConfig {
        self.base.clone()
    }

    /// For the producer: idempotent, acknowledged by all in-sync replicas.
    pub(crate) fn producer(&self) -> ClientConfig {
        let mut config = self.base.clone();
        // The cheaper of the codecs that all Kafka clients read; an option may choose another.
        let chosen = ["compression.codec", "compression.type"].iter().any(|name| self.config.options.contains_key(*name));
        if !chosen {
            config.set("compression.codec", "lz4");
        }
        let linger = ["linger.ms", "queue.buffering.max.ms"].iter().any(|name| self.config.options.contains_key(*name));
        if !linger {
            config.set("linger.ms", "5");
        }
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.max.bytes", MAX_BATCH_BYTES.to_string())
            .set("message.timeout.ms", self.config.append_wait_ms.to_string())
            .set("queue.buffering.max.kbytes", (self.config.queue_bytes / 1024).to_string())
            .set("queue.buffering.max.messages", "100000");
        config
    }

    /// For looking at single records: assigned by hand, in no group.
    pub(crate) fn reader(&self) -> ClientConfig {
        let mut config = self.consumer_base("headwater-read-back");
        config.set("enable.partition.eof", "true").set("queued.min.messages", "1").set("fetch.wait.max.ms", "10");
        config
    }

    /// For a member of a group.
    pub(crate) fn member(&self, group: &str) -> ClientConfig {
        let mut config = self.consumer_base(group);
        let heartbeat = (self.config.session_timeout_ms / 6).clamp(300, 3_000);
        config
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", self.config.session_timeout_ms.to_string())
            .set("heartbeat.interval.ms", heartbeat.to_string())
            .set("max.poll.interval.ms", MAX_POLL_INTERVAL_MS)
            // A seek waits for the running fetch, so a fetch that finds nothing must end soon.
            .set("fetch.wait.max.ms", "100");
        if let Some(id) = &self.config.group_instance_id {
            config.set("group.instance.id", id);
        }
        config
    }

    fn consumer_base(&self, group: &str) -> ClientConfig {
        let mut config = self.base.clone();
        config
            .set("group.id", group)
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("fetch.message.max.bytes", "1048576")
            .set("fetch.max.bytes", "4194304")
            .set("queued.max.messages.kbytes", PREFETCH_KIB)
            // With a small prefetch the default of a second would be a limit of 4 MiB a second.
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.error.backoff.ms", "100");
        config
    }
}
