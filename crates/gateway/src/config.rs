//! What can be configured of the gateway, and the check that finds every problem at once.
//!
//! Owns: [`Config`] and its limits. Does not know: files, the environment, where a value came from.
//! Invariant: a configuration without problems keeps one request within what the process-wide decode budget can hold.

use headwater_core::series::{MAX_ID_BYTES, check_tag};
use serde::{Deserialize, Serialize};
use std::time::Duration;

const MIB: usize = 1024 * 1024;
/// The largest body that can be configured: one request is charged up to [`Config::MEMORY_FACTOR`] times its decoded limit,
/// and that must fit the process-wide budget of 256 MiB.
const MOST_BODY_BYTES: usize = 64 * MIB;

/// The section `[gateway]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The tags of line protocol that can name the device; the first one that is present does, and leaves the tag set.
    pub device_tags: Vec<String>,
    /// The largest body as it is sent, in bytes.
    pub max_body_bytes: usize,
    /// The largest body once it is decompressed, in bytes.
    pub max_decoded_bytes: usize,
    /// The most metrics in one item or line.
    pub max_metrics: usize,
    /// How long a request waits for the log, or for memory, before it is answered 503; such as `10s`.
    #[serde(with = "headwater_web::duration")]
    pub append_wait: Duration,
    /// How often a record without readings goes into the log, by which the way to the answers is measured; `off`: never.
    #[serde(with = "headwater_web::duration::or_off")]
    pub heartbeat: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            device_tags: ["device", "device_id", "entity_id", "dev_eui", "host"].map(String::from).to_vec(),
            max_body_bytes: 8 * MIB,
            max_decoded_bytes: 64 * MIB,
            max_metrics: 256,
            append_wait: Duration::from_secs(10),
            heartbeat: Some(Duration::from_secs(5)),
        }
    }
}

impl Config {
    /// How many times `max_decoded_bytes` one request may hold in all: the body, its columns, and its records.
    pub(crate) const MEMORY_FACTOR: usize = 3;

    /// Every problem of this section, each with its key.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        for (i, tag) in self.device_tags.iter().enumerate() {
            check(
                check_tag(tag, "x").is_ok(),
                format!("gateway.device_tags[{i}]: a tag name has 1 to {MAX_ID_BYTES} bytes and no control characters"),
            );
            check(!self.device_tags[..i].contains(tag), format!("gateway.device_tags[{i}]: `{}` stands twice", tag.escape_debug()));
        }
        for (key, bytes) in [("max_body_bytes", self.max_body_bytes), ("max_decoded_bytes", self.max_decoded_bytes)] {
            check((1024..=MOST_BODY_BYTES).contains(&bytes), format!("gateway.{key}: must be 1024 to {MOST_BODY_BYTES}, is {bytes}"));
        }
        check(
            self.max_decoded_bytes >= self.max_body_bytes,
            format!("gateway.max_decoded_bytes: must not be less than gateway.max_body_bytes ({})", self.max_body_bytes),
        );
        check((1..=4096).contains(&self.max_metrics), format!("gateway.max_metrics: must be 1 to 4096, is {}", self.max_metrics));
        let seconds = Duration::from_millis(100)..=Duration::from_secs(60);
        check(
            seconds.contains(&self.append_wait),
            format!("gateway.append_wait: must be 100ms to 60s, is {}", headwater_web::duration::print(self.append_wait)),
        );
        let often = Duration::from_millis(100)..=Duration::from_hours(1);
        let every = self.heartbeat.unwrap_or(Duration::from_secs(5));
        check(
            often.contains(&every),
            format!("gateway.heartbeat: must be `off`, or 100ms to 1h, is {}", headwater_web::duration::print(every)),
        );
        problems
    }

    /// The most memory that one request is given.
    pub(crate) const fn max_request_bytes(&self) -> usize {
        self.max_decoded_bytes.saturating_mul(Self::MEMORY_FACTOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_problems_and_come_back_from_their_text() {
        let config = Config::default();
        assert_eq!(config.validate(), Vec::<String>::new());
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains(r#""append_wait":"10s""#), "{text}");
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
    }

    #[test]
    fn all_problems_are_reported_at_once_with_their_keys() {
        let config = Config {
            device_tags: vec!["host".into(), String::new(), "host".into()],
            max_body_bytes: 1,
            max_decoded_bytes: 0,
            max_metrics: 0,
            append_wait: Duration::ZERO,
            heartbeat: Some(Duration::ZERO),
        };
        let problems = config.validate();
        for key in [
            "device_tags[1]",
            "device_tags[2]",
            "max_body_bytes: must be",
            "max_decoded_bytes: must be",
            "must not be less",
            "max_metrics",
            "append_wait",
            "heartbeat",
        ] {
            assert!(problems.iter().any(|problem| problem.contains(key)), "{key}: {problems:?}");
        }
    }

    #[test]
    fn the_heartbeat_can_be_switched_off() {
        let off = serde_json::from_str::<Config>(r#"{"heartbeat":"off"}"#).unwrap();
        assert_eq!((off.heartbeat, off.validate()), (None, Vec::new()));
        assert!(serde_json::to_string(&off).unwrap().contains(r#""heartbeat":"off""#));
    }

    #[test]
    fn an_unknown_key_or_a_bare_number_is_refused() {
        for text in [r#"{"devicetags": []}"#, r#"{"append_wait": 10}"#, r#"{"append_wait": "10 parsecs"}"#, r#"{"append_wait": "s"}"#] {
            assert!(serde_json::from_str::<Config>(text).is_err(), "{text}");
        }
    }
}
