//! `[log]` and `[store]`: which backend stands behind each seam, told by the scheme of its URL.
//!
//! Owns: the schemes. Does not know: what a backend does with its section (its own `Config` says that).
//! Invariants: a URL is never repeated beyond its scheme (it may hold a password); keys that the chosen backend does not have are problems.

use headwater_kafka::Config as Kafka;
use headwater_postgres::Config as Postgres;
use std::fmt;

/// Where records go.
#[derive(Debug, Clone)]
pub(crate) enum Log {
    /// `embedded:`, in the data directory.
    Embedded,
    /// `kafka://…`.
    Kafka(Box<Kafka>),
}

/// Where readings are kept.
#[derive(Debug, Clone)]
pub(crate) enum Store {
    /// `sqlite:`, in the data directory.
    Sqlite,
    /// `postgres://…`.
    Postgres(Box<Postgres>),
}

const EMBEDDED: &str = "embedded:";
const SQLITE: &str = "sqlite:";

impl Log {
    /// Reads the section, and says what is wrong with it.
    pub(super) fn of(section: Kafka) -> (Self, Vec<String>) {
        let url = if section.url.is_empty() { EMBEDDED } else { &section.url };
        if scheme(url) == Some("kafka") {
            let problems = section.validate();
            return (Self::Kafka(Box::new(section)), problems);
        }
        let has_more = Kafka { url: String::new(), ..section.clone() } != Kafka::default();
        (Self::Embedded, of_embedded(EMBEDDED, url, "kafka://", has_more))
    }
}

impl Store {
    /// Reads the section, and says what is wrong with it.
    pub(super) fn of(section: Postgres) -> (Self, Vec<String>) {
        let url = if section.url.is_empty() { SQLITE } else { &section.url };
        if matches!(scheme(url), Some("postgres" | "postgresql")) {
            let problems = section.validate();
            return (Self::Postgres(Box::new(section)), problems);
        }
        let has_more = Postgres { url: String::new(), ..section.clone() } != Postgres::default();
        (Self::Sqlite, of_embedded(SQLITE, url, "postgres://", has_more))
    }
}

fn scheme(url: &str) -> Option<&str> {
    url.split_once(':').map(|(scheme, _)| scheme)
}

/// What is wrong with a section that is not the other backend's.
fn of_embedded(own: &str, url: &str, other: &str, has_more: bool) -> Vec<String> {
    let mut problems = Vec::new();
    if url != own {
        problems.push(match scheme(url) {
            Some(scheme) if own.strip_suffix(':') == Some(scheme) => {
                format!("url: is `{own}` and nothing after it: its files are in data_dir")
            }
            _ => format!("url: is `{own}` or begins with `{other}`"),
        });
    } else if has_more {
        problems.push(format!("url: is `{own}`, which has no other keys; those that are set here belong to `{other}`"));
    }
    problems
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::Kafka(config) => f.write_str(&shown(&config.url)),
        }
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite => f.write_str("embedded (SQLite)"),
            Self::Postgres(config) => f.write_str(&shown(&config.url)),
        }
    }
}

/// An address without what may be secret: who asks, and options.
fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    format!("{scheme}://{rest}")
}
