//! The sections that the binary itself owns; roles own theirs.
//!
//! Owns: their keys, defaults and what each allows. Does not know: the other sections.

use headwater_web::duration;
use serde::Deserialize;
use std::fmt;
use std::path::{Path, PathBuf};
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

/// `[log]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    url: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { url: "embedded:".to_owned() }
    }
}

impl Log {
    pub(super) fn validate(&self) -> Option<String> {
        backend("embedded:", &self.url, &["kafka"])
    }
}

/// `[store]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Store {
    url: String,
}

impl Default for Store {
    fn default() -> Self {
        Self { url: "sqlite:".to_owned() }
    }
}

impl Store {
    pub(super) fn validate(&self) -> Option<String> {
        backend("sqlite:", &self.url, &["postgres", "postgresql"])
    }
}

/// What is wrong with a backend's address. It is never repeated beyond its scheme: it may hold a password.
fn backend(known: &str, url: &str, planned: &[&str]) -> Option<String> {
    if url == known {
        return None;
    }
    Some(match url.split_once(':').map(|(scheme, _)| scheme) {
        Some(scheme) if planned.contains(&scheme) => format!("url: `{scheme}://` is not built into this version, which has only `{known}`"),
        Some(scheme) if known.strip_suffix(':') == Some(scheme) => {
            format!("url: is `{known}` and nothing after it: its files are in data_dir")
        }
        _ => format!("url: this version has only `{known}`"),
    })
}

/// `[auth]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Auth {
    /// `iss` of tokens.
    pub(crate) issuer: String,
    /// `aud` of tokens.
    pub(crate) audience: String,
    /// The longest life of a token that is issued.
    #[serde(with = "headwater_web::duration")]
    pub(crate) max_ttl: Duration,
    key_file: String,
}

impl Default for Auth {
    fn default() -> Self {
        let headwater = || "headwater".to_owned();
        Self { issuer: headwater(), audience: headwater(), max_ttl: Duration::from_hours(366 * 24), key_file: String::new() }
    }
}

impl Auth {
    /// An Ed25519 key in PEM that several processes share; `None` = the one in the data directory.
    pub(crate) fn key_file(&self) -> Option<&Path> {
        (!self.key_file.is_empty()).then_some(Path::new(&self.key_file))
    }

    pub(super) fn validate(&self) -> Vec<String> {
        let empty = |key: &str, value: &str| value.is_empty().then(|| format!("{key}: is empty"));
        let mut problems: Vec<String> = [empty("issuer", &self.issuer), empty("audience", &self.audience)].into_iter().flatten().collect();
        if self.max_ttl < Duration::from_secs(1) || self.max_ttl > Duration::from_hours(3660 * 24) {
            problems.push(format!("max_ttl: {} must lie between 1s and 3660d", duration::print(self.max_ttl)));
        }
        problems
    }
}

/// `[retention]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Retention {
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

/// `[logging]`.
#[derive(Debug, Clone, Deserialize)]
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
        EnvFilter::builder().parse(&self.filter)
    }

    pub(super) fn validate(&self) -> Option<String> {
        self.filter().err().map(|why| format!("filter: `{}` cannot be read: {why}", self.filter))
    }
}
