//! What can be configured of the listener: the section `[http]`.
//!
//! Owns: [`Config`], its defaults with their reasons, and its checks.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// The section `[http]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address to listen on. Without TLS, anything but loopback has to be asked for twice.
    pub listen: String,
    /// The certificate that the listener shows, with the ones that lead to its authority behind it (a PEM file); empty: no TLS.
    /// Both files are followed: what is new in them is in use some seconds later.
    pub tls_cert: String,
    /// The private key of the certificate (a PEM file, not encrypted).
    pub tls_key: String,
    /// Says that TLS ends at a proxy in front, and so that any address may be listened on.
    pub behind_proxy: bool,
    /// How long a request's head may take from its first byte, and a new connection to send one. A head is a few hundred bytes.
    #[serde(with = "crate::duration")]
    pub header_timeout: Duration,
    /// How long the next piece of a body may take.
    #[serde(with = "crate::duration")]
    pub body_idle_timeout: Duration,
    /// How long may be waited for a body in all.
    #[serde(with = "crate::duration")]
    pub body_timeout: Duration,
    /// The least bytes a second of a body, after a grace of `body_idle_timeout`. A modem of the 1990s does twice this.
    pub body_min_rate: u32,
    /// How long a handler may work on one request, body included; the last line of defence, roles have limits of their own.
    #[serde(with = "crate::duration")]
    pub request_timeout: Duration,
    /// How long a connection may wait for its next request. Above the 60 s for which common proxies keep theirs, so that it is
    /// the client who closes, and above the interval at which most devices send.
    #[serde(with = "crate::duration")]
    pub idle_timeout: Duration,
    /// How long a client may leave an answer unread.
    #[serde(with = "crate::duration")]
    pub write_timeout: Duration,
    /// Connections at once. Each costs some 20 KiB when idle, and some 20 more over TLS.
    pub max_connections: usize,
    /// Connections at once from one address (IPv6: one /64), so that one machine cannot take them all.
    pub max_connections_per_address: usize,
    /// The largest head of a request, in bytes.
    pub max_header_bytes: usize,
    /// Requests at once on one HTTP/2 connection.
    pub max_concurrent_streams: u32,
    /// How much of a refused body is still read so that its sender can read the answer, in bytes.
    pub drain_bytes: usize,
    /// For how long it is.
    #[serde(with = "crate::duration")]
    pub drain_timeout: Duration,
    /// How long a server that was told to stop goes on as before, but for `/readyz`, which says 503, and answers that close their connections:
    /// the time in which whoever chooses servers by `/readyz` turns to another one.
    #[serde(with = "crate::duration")]
    pub drain_delay: Duration,
}

/// A longer delay would outlast what gives up on a process that was told to stop.
const LONGEST_DRAIN_DELAY: Duration = Duration::from_mins(5);

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            tls_cert: String::new(),
            tls_key: String::new(),
            behind_proxy: false,
            header_timeout: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(300),
            body_min_rate: 1024,
            request_timeout: Duration::from_secs(360),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            max_connections: 4096,
            max_connections_per_address: 2048,
            max_header_bytes: 32 * 1024,
            max_concurrent_streams: 128,
            drain_bytes: 16 * 1024 * 1024,
            drain_timeout: Duration::from_secs(5),
            drain_delay: Duration::ZERO,
        }
    }
}

impl Config {
    /// Everything that is wrong with it, each as `key: what`; empty when all is well.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(error) = self.listen.parse::<SocketAddr>() {
            problems.push(format!("listen: `{}` is not an address with a port, such as 127.0.0.1:8080: {error}", self.listen));
        }
        for (given, missing, value) in [("tls_cert", "tls_key", &self.tls_key), ("tls_key", "tls_cert", &self.tls_cert)] {
            if self.has_tls() && value.is_empty() {
                problems.push(format!("{missing}: is needed where {given} is set: TLS takes a certificate and its key"));
            }
        }
        for (key, duration) in self.durations() {
            if duration.is_zero() || duration > Duration::from_secs(86_400) {
                problems.push(format!("{key}: must be more than 0s and at most 1d"));
            }
        }
        if self.drain_delay > LONGEST_DRAIN_DELAY {
            problems.push("drain_delay: must be at most 5m".to_owned());
        }
        if self.request_timeout < self.body_timeout {
            problems.push("request_timeout: must not be shorter than body_timeout".to_owned());
        }
        for (key, number, least, most) in self.numbers() {
            if !(least..=most).contains(&number) {
                problems.push(format!("{key}: must be from {least} to {most}"));
            }
        }
        problems
    }

    /// Whether the listener is to speak TLS.
    pub const fn has_tls(&self) -> bool {
        !self.tls_cert.is_empty() || !self.tls_key.is_empty()
    }

    fn durations(&self) -> [(&'static str, Duration); 7] {
        [
            ("header_timeout", self.header_timeout),
            ("body_idle_timeout", self.body_idle_timeout),
            ("body_timeout", self.body_timeout),
            ("request_timeout", self.request_timeout),
            ("idle_timeout", self.idle_timeout),
            ("write_timeout", self.write_timeout),
            ("drain_timeout", self.drain_timeout),
        ]
    }

    fn numbers(&self) -> [(&'static str, usize, usize, usize); 6] {
        [
            ("body_min_rate", self.body_min_rate as usize, 1, 1 << 20),
            ("max_connections", self.max_connections, 1, 1 << 20),
            ("max_connections_per_address", self.max_connections_per_address, 1, 1 << 20),
            // hyper's own floor is 8 KiB.
            ("max_header_bytes", self.max_header_bytes, 8 * 1024, 1 << 20),
            ("max_concurrent_streams", self.max_concurrent_streams as usize, 1, 1 << 16),
            ("drain_bytes", self.drain_bytes, 0, 1 << 30),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Vec::<String>::new());
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let config = Config {
            listen: "localhost".to_owned(),
            header_timeout: Duration::ZERO,
            request_timeout: Duration::from_secs(1),
            max_connections: 0,
            ..Config::default()
        };
        let problems = config.validate();
        for key in ["listen:", "header_timeout:", "request_timeout:", "max_connections:"] {
            assert!(problems.iter().any(|problem| problem.starts_with(key)), "{key} in {problems:?}");
        }
        assert_eq!(problems.len(), 4);
    }

    #[test]
    fn a_certificate_goes_with_its_key() {
        let config = |cert: &str, key: &str| Config { tls_cert: cert.to_owned(), tls_key: key.to_owned(), ..Config::default() };
        assert!(config("c.pem", "").validate()[0].starts_with("tls_key: is needed"));
        assert!(config("", "k.pem").validate()[0].starts_with("tls_cert: is needed"));
        assert!(config("c.pem", "k.pem").validate().is_empty());
    }

    #[test]
    fn keys_are_read_and_unknown_ones_are_errors() {
        let config: Config = serde_json::from_str(r#"{"listen": "[::1]:1", "idle_timeout": "2m"}"#).unwrap();
        assert_eq!(config.idle_timeout, Duration::from_secs(120));
        let error = serde_json::from_str::<Config>(r#"{"listne": "[::1]:1"}"#).unwrap_err();
        assert!(error.to_string().contains("`listne`"));
        let printed = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&printed).unwrap(), config);
    }
}
