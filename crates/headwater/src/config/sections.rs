//! The sections that the binary itself owns; roles own theirs.
//!
//! Owns: their keys, defaults and what each allows. Does not know: the other sections.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// A part of Headwater that can run in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Devices → log.
    Gateway,
    /// Log → store.
    Ingest,
    /// Store → store: seals open readings.
    Rollup,
    /// Store → people.
    Api,
}

impl Role {
    /// All that this version has.
    pub(crate) const ALL: [Self; 4] = [Self::Gateway, Self::Ingest, Self::Rollup, Self::Api];

    /// Whether it reads or writes the log.
    pub(crate) const fn needs_log(self) -> bool {
        !matches!(self, Self::Rollup)
    }

    /// Whether it reads or writes the store.
    pub(crate) const fn needs_store(self) -> bool {
        !matches!(self, Self::Gateway)
    }

    /// Its name.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Ingest => "ingest",
            Self::Rollup => "rollup",
            Self::Api => "api",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The keys outside of any section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Top {
    /// Where everything is kept; made when missing.
    pub(super) data_dir: PathBuf,
    roles: Vec<Role>,
}

impl Default for Top {
    fn default() -> Self {
        Self { data_dir: PathBuf::from("headwater-data"), roles: Role::ALL.to_vec() }
    }
}

impl Top {
    pub(super) const KEYS: &[&str] = &["data_dir", "roles"];

    /// The roles, each once and in the order of a reading's life.
    pub(super) fn roles(&self) -> Vec<Role> {
        Role::ALL.into_iter().filter(|role| self.roles.contains(role)).collect()
    }

    pub(super) fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.data_dir.as_os_str().is_empty() {
            problems.push("data_dir: is empty".to_owned());
        }
        if self.roles.is_empty() {
            problems.push("roles: at least one of gateway, ingest, rollup, api is needed".to_owned());
        }
        problems
    }
}

/// `[retention]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Retention {
    readings: String,
}

impl Default for Retention {
    fn default() -> Self {
        Self { readings: "forever".to_owned() }
    }
}

impl Retention {
    pub(super) fn validate(&self) -> Option<String> {
        (self.readings != "forever").then(|| "readings: this version keeps them `forever` and nothing else".to_owned())
    }
}

/// `[dead_letters]`: how much of what was refused is kept. Beyond any of it the oldest go, and are counted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DeadLetters {
    /// Letters at most.
    pub(crate) quota_letters: u64,
    /// Bytes of them at most; 256 MiB on the embedded store and 1 GiB on PostgreSQL where nothing is said.
    pub(crate) quota_bytes: Option<u64>,
    /// How old they become, such as `90d`.
    retention: String,
}

const FOREVER: &str = "forever";

impl Default for DeadLetters {
    fn default() -> Self {
        Self { quota_letters: 1_000_000, quota_bytes: None, retention: FOREVER.to_owned() }
    }
}

impl DeadLetters {
    /// How old they become; `None` is for ever, and also a text that cannot be read, which [`DeadLetters::validate`] tells.
    pub(crate) fn retention(&self) -> Option<Duration> {
        headwater_web::duration::parse(&self.retention).ok()
    }

    pub(super) fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let (letters, bytes) = (1..=1 << 40, 1 << 20..=1 << 50);
        if !letters.contains(&self.quota_letters) {
            problems.push(format!("quota_letters: is {} and must lie between 1 and {}", self.quota_letters, letters.end()));
        }
        if let Some(quota) = self.quota_bytes.filter(|quota| !bytes.contains(quota)) {
            problems.push(format!("quota_bytes: is {quota} and must lie between {} (1 MiB) and {}", bytes.start(), bytes.end()));
        }
        match headwater_web::duration::parse(&self.retention) {
            _ if self.retention == FOREVER => {}
            Ok(retention) if retention >= Duration::from_secs(1) => {}
            Ok(_) => problems.push("retention: must be at least 1s".to_owned()),
            Err(why) => problems.push(format!("retention: {why}, or `{FOREVER}`")),
        }
        problems
    }
}

/// `[logging]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Logging {
    filter: String,
}

impl Default for Logging {
    fn default() -> Self {
        Self { filter: "info".to_owned() }
    }
}

impl Logging {
    /// Which messages are written.
    pub(crate) fn filter(&self) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
        Self::parse(&self.filter)
    }

    /// The filter as it is written.
    pub(crate) fn text(&self) -> &str {
        &self.filter
    }

    /// Reads a filter, such as `info,headwater_ingest=debug`.
    pub(crate) fn parse(text: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
        EnvFilter::builder().parse(text)
    }

    pub(super) fn validate(&self) -> Option<String> {
        self.filter().err().map(|why| format!("filter: `{}` cannot be read: {why}", self.filter))
    }
}
