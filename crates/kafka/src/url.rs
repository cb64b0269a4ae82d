//! `kafka://host:9092,other:9092/topic?partitions=12&replication=3`, read and checked.
//!
//! Owns: [`Url`]. Does not know: librdkafka, settings. Invariant: a problem says what is wrong and what to write instead.

const SCHEME: &str = "kafka://";
const DEFAULT_PORT: u16 = 9092;
/// The most bytes of a topic's name that Kafka takes.
const MAX_TOPIC: usize = 249;
/// More partitions than any cluster should give one topic.
const MAX_PARTITIONS: u32 = 4_096;

/// Where the log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// `host:port` of each broker to ask first.
    pub(crate) brokers: Vec<String>,
    /// The topic's name.
    pub(crate) topic: String,
    /// How many partitions the topic is made with.
    pub(crate) partitions: Option<u32>,
    /// How many copies the topic is made with.
    pub(crate) replication: Option<u16>,
}

impl Url {
    /// Reads the URL.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix(SCHEME).ok_or("must begin with kafka://, such as kafka://localhost:9092/readings")?;
        let (hosts, rest) = rest.split_once('/').ok_or("names no topic: write kafka://host:9092/topic")?;
        let (topic, query) = rest.split_once('?').unwrap_or((rest, ""));
        if hosts.contains('@') {
            return Err("must not hold a user: write options.\"sasl.username\" and password_file".to_owned());
        }
        let brokers = hosts.split(',').map(broker).collect::<Result<_, _>>()?;
        check_topic(topic)?;
        let mut url = Self { brokers, topic: topic.to_owned(), partitions: None, replication: None };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            url.set(pair)?;
        }
        Ok(url)
    }

    fn set(&mut self, pair: &str) -> Result<(), String> {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "partitions" => self.partitions = Some(number(key, value, MAX_PARTITIONS)?),
            "replication" => self.replication = Some(number(key, value, 64)? as u16),
            _ => return Err(format!("knows no `{}`: write ?partitions=12&replication=3", key.escape_debug())),
        }
        Ok(())
    }

    /// The brokers as librdkafka takes them.
    pub(crate) fn bootstrap(&self) -> String {
        self.brokers.join(",")
    }
}

fn number(key: &str, value: &str, most: u32) -> Result<u32, String> {
    let read = value.parse().ok().filter(|n| (1..=most).contains(n));
    read.ok_or_else(|| format!("`{key}` must be a number from 1 to {most}, is `{}`", value.escape_debug()))
}

fn broker(text: &str) -> Result<String, String> {
    let bad = || format!("names a broker `{}`: write host:9092, several separated by commas", text.escape_debug());
    // An IPv6 address has its colons within brackets.
    let after_address = text.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match text[after_address..].rfind(':') {
        Some(at) => (&text[..after_address + at], text[after_address + at + 1..].parse::<u16>().map_err(|_| bad())?),
        None => (text, DEFAULT_PORT),
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || ".-_[]:".contains(c);
    if host.is_empty() || port == 0 || !host.chars().all(is_host) || (host.contains(':') && !host.starts_with('[')) {
        return Err(bad());
    }
    Ok(format!("{host}:{port}"))
}

fn check_topic(topic: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if topic.is_empty() {
        return Err("names no topic: write kafka://host:9092/topic".to_owned());
    }
    if topic.len() > MAX_TOPIC || topic == "." || topic == ".." || !topic.chars().all(legal) {
        let topic = topic.escape_debug();
        return Err(format!("names the topic `{topic}`: a topic has 1 to {MAX_TOPIC} letters, digits, `.`, `_` or `-`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_url_is_read() {
        let url = Url::parse("kafka://a:9093,b.example,[::1]:9094/readings.v1?partitions=12&replication=3").unwrap();
        assert_eq!(url.brokers, ["a:9093", "b.example:9092", "[::1]:9094"]);
        assert_eq!(url.bootstrap(), "a:9093,b.example:9092,[::1]:9094");
        assert_eq!((url.topic.as_str(), url.partitions, url.replication), ("readings.v1", Some(12), Some(3)));
    }

    #[test]
    fn what_is_not_said_is_left_open() {
        let url = Url::parse("kafka://localhost/readings").unwrap();
        assert_eq!((url.partitions, url.replication), (None, None));
    }

    #[test]
    fn a_problem_says_what_to_write() {
        for (text, said) in [
            ("http://a/b", "must begin with kafka://"),
            ("kafka://a:9092", "names no topic"),
            ("kafka://a:9092/", "names no topic"),
            ("kafka:///topic", "write host:9092"),
            ("kafka://a:port/topic", "write host:9092"),
            ("kafka://a:0/topic", "write host:9092"),
            ("kafka://::1/topic", "write host:9092"),
            ("kafka://a,,b/topic", "write host:9092"),
            ("kafka://user:word@a/topic", "password_file"),
            ("kafka://a/to pic", "letters, digits"),
            ("kafka://a/..", "letters, digits"),
            ("kafka://a/t?partitions=0", "from 1 to 4096"),
            ("kafka://a/t?replication=x", "from 1 to 64"),
            ("kafka://a/t?acks=1", "?partitions=12&replication=3"),
        ] {
            let problem = Url::parse(text).expect_err(text);
            assert!(problem.contains(said), "{text}: {problem}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_not_repeated() {
        let problem = Url::parse("kafka://user:secret@a/topic").unwrap_err();
        assert!(!problem.contains("secret"), "{problem}");
    }
}
