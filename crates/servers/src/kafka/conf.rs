//! The settings of our brokers.

use anyhow::Context;
use std::collections::BTreeMap;
use std::path::Path;

/// `server.properties` of node `id` (from 1), whose controllers listen on `controllers`.
pub(super) fn properties(id: usize, port: u16, controllers: &[u16], data: &Path, more: &[(String, String)]) -> String {
    let nodes = controllers.len();
    let replicas = nodes.min(3).to_string();
    // With three replicas one may be missing; with fewer, none.
    let in_sync = if nodes >= 3 { "2" } else { "1" };
    let voters: Vec<String> = controllers.iter().enumerate().map(|(at, port)| format!("{}@127.0.0.1:{port}", at + 1)).collect();
    let broker = format!("PLAINTEXT://127.0.0.1:{port}");
    let controller = format!("CONTROLLER://127.0.0.1:{}", controllers[id - 1]);
    let mut all: BTreeMap<String, String> = FIXED.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let mut set = |key: &str, value: &str| all.insert(key.to_owned(), value.to_owned());
    set("node.id", &id.to_string());
    set("controller.quorum.voters", &voters.join(","));
    set("listeners", &format!("{broker},{controller}"));
    set("advertised.listeners", &broker);
    set("log.dirs", &data.to_string_lossy());
    for key in ["default.replication.factor", "offsets.topic.replication.factor", "transaction.state.log.replication.factor"] {
        set(key, &replicas);
    }
    set("share.coordinator.state.topic.replication.factor", &replicas);
    for key in ["min.insync.replicas", "transaction.state.log.min.isr", "share.coordinator.state.topic.min.isr"] {
        set(key, in_sync);
    }
    for (key, value) in more {
        set(key, value);
    }
    all.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
}

const FIXED: &[(&str, &str)] = &[
    ("process.roles", "broker,controller"),
    ("controller.listener.names", "CONTROLLER"),
    ("inter.broker.listener.name", "PLAINTEXT"),
    ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"),
    // A topic that nobody made is a mistake.
    ("auto.create.topics.enable", "false"),
    // A first consumer need not wait for others.
    ("group.initial.rebalance.delay.ms", "0"),
    ("offsets.topic.num.partitions", "8"),
    ("transaction.state.log.num.partitions", "8"),
    ("share.coordinator.state.topic.num.partitions", "8"),
    ("num.network.threads", "2"),
    ("num.io.threads", "4"),
    // The default of 128 MiB would be a third of the heap.
    ("log.cleaner.dedupe.buffer.size", "16777216"),
    // A killed broker may register again once its session is over: after 9 s by default.
    ("broker.session.timeout.ms", "2000"),
    ("broker.heartbeat.interval.ms", "500"),
];

/// A new one: 128 random bits as Kafka writes them.
pub(super) fn cluster_id() -> anyhow::Result<String> {
    let path = "/proc/sys/kernel/random/uuid";
    let uuid = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let digits: Vec<u32> = uuid.chars().filter_map(|c| c.to_digit(16)).collect();
    let bits = digits.iter().fold(0_u128, |bits, digit| bits << 4 | u128::from(*digit));
    Ok(url_safe(bits))
}

/// 128 bits in base 64 with the letters of RFC 4648 §5, without padding. An id may not begin with a minus (a command line
/// would take it for an option), so the first six bits lose a minus to an `A`.
fn url_safe(bits: u128) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // 21 letters take 126 bits, the last one the two that are left, with four zeros behind them.
    let sextets = (0..21).map(|at| bits >> (122 - 6 * at)).chain([bits << 4]);
    let text: String = sextets.map(|sextet| char::from(LETTERS[usize::try_from(sextet & 63).unwrap_or(0)])).collect();
    if text.starts_with('-') { text.replacen('-', "A", 1) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(id: usize, controllers: &[u16], more: &[(String, String)]) -> Vec<String> {
        properties(id, 20_001, controllers, Path::new("/d/n"), more).lines().map(str::to_owned).collect()
    }

    #[test]
    fn one_node_needs_no_other() {
        let text = lines(1, &[20_002], &[]);
        for line in [
            "node.id=1",
            "controller.quorum.voters=1@127.0.0.1:20002",
            "listeners=PLAINTEXT://127.0.0.1:20001,CONTROLLER://127.0.0.1:20002",
            "advertised.listeners=PLAINTEXT://127.0.0.1:20001",
            "log.dirs=/d/n",
            "offsets.topic.replication.factor=1",
            "min.insync.replicas=1",
            "broker.session.timeout.ms=2000",
        ] {
            assert!(text.iter().any(|l| l == line), "{line} in {text:?}");
        }
    }

    #[test]
    fn three_nodes_keep_three_replicas_and_need_two() {
        let text = lines(3, &[20_002, 20_004, 20_006], &[]);
        for line in [
            "controller.quorum.voters=1@127.0.0.1:20002,2@127.0.0.1:20004,3@127.0.0.1:20006",
            "listeners=PLAINTEXT://127.0.0.1:20001,CONTROLLER://127.0.0.1:20006",
            "default.replication.factor=3",
            "transaction.state.log.min.isr=2",
        ] {
            assert!(text.iter().any(|l| l == line), "{line} in {text:?}");
        }
    }

    #[test]
    fn what_was_asked_for_replaces_ours() {
        let text = lines(1, &[20_002], &[("num.io.threads".to_owned(), "8".to_owned())]);
        assert_eq!(text.iter().filter(|line| line.starts_with("num.io.threads=")).collect::<Vec<_>>(), ["num.io.threads=8"]);
    }

    #[test]
    fn ids_are_written_as_kafka_writes_them() {
        assert_eq!(url_safe(0x5042_9379_5907_4c4f_b4fb_8b27_c09a_ede6), "UEKTeVkHTE-0-4snwJrt5g");
        assert_eq!(url_safe(u128::MAX), "_____________________w");
        assert!(url_safe(0xf800_0000_0000_0000_0000_0000_0000_0000).starts_with("AAAA"));
        assert_ne!(cluster_id().unwrap(), cluster_id().unwrap());
    }
}
