//! The settings of the store on PostgreSQL.
//!
//! Owns: [`Config`], and how its URL becomes a [`Target`]. Does not know: connections.
//! Invariants: no password is ever printed; whatever encrypts also verifies (see [`Sslmode`]).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// Fewer connections would let questions keep commits waiting.
const LEAST_CONNECTIONS: usize = 6;
const MOST_CONNECTIONS: usize = 1_000;

/// Where the database is, and the limits of what is asked of it. Every one is finite.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `postgres://user@host:port/database?sslmode=…`. Several hosts are tried in turn (`host1,host2`), and the one that can be written to is
    /// taken; a host that is a path (`?host=/run/postgresql`) is a Unix socket. `sslmode` is `disable`, `prefer`, `require` or `verify-full`:
    /// all but the first verify the certificate and the name. Without it, `disable` for this machine and `verify-full` for any other.
    pub url: String,
    /// A file with the password.
    pub password_file: Option<PathBuf>,
    /// A PEM file with the authorities that may have signed the server's certificate, instead of the machine's own.
    pub tls_ca: Option<PathBuf>,
    /// Connections that this process has at most. Four are kept for writing and sealing; the others are snapshots that may be open at a time.
    pub max_connections: usize,
    /// How long a connection may take to be made.
    pub connect_timeout_ms: u64,
    /// How long a commit or a replacement may take before its connection is given up.
    pub commit_timeout_ms: u64,
    /// How long any other statement may take.
    pub statement_timeout_ms: u64,
    /// How long a writer waits for a lock that another one holds, and how long one that stands still may hold it.
    pub lock_timeout_ms: u64,
    /// Bytes of dead letters that are kept; beyond it the oldest go, and are counted. No key of this section: it is the same on every store.
    #[serde(skip)]
    pub dead_letter_bytes: u64,
    /// Dead letters that are kept, likewise.
    #[serde(skip)]
    pub dead_letter_count: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: String::new(),
            password_file: None,
            tls_ca: None,
            max_connections: 16,
            connect_timeout_ms: 10_000,
            commit_timeout_ms: 60_000,
            statement_timeout_ms: 60_000,
            lock_timeout_ms: 5_000,
            dead_letter_bytes: 1 << 30,
            dead_letter_count: 1_000_000,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("url", &redacted(&self.url))
            .field("password_file", &self.password_file)
            .field("tls_ca", &self.tls_ca)
            .field("max_connections", &self.max_connections)
            .field("connect_timeout_ms", &self.connect_timeout_ms)
            .field("commit_timeout_ms", &self.commit_timeout_ms)
            .field("statement_timeout_ms", &self.statement_timeout_ms)
            .field("lock_timeout_ms", &self.lock_timeout_ms)
            .field("dead_letter_bytes", &self.dead_letter_bytes)
            .field("dead_letter_count", &self.dead_letter_count)
            .finish()
    }
}

impl Config {
    /// Everything that is wrong with it, each with its key.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(problem) = self.target(String::new()) {
            problems.push(format!("url: {problem}"));
        }
        let mut within = |key: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                problems.push(format!("{key} = {value} must lie between {least} and {most}"));
            }
        };
        within("max_connections", self.max_connections as u64, LEAST_CONNECTIONS as u64, MOST_CONNECTIONS as u64);
        within("connect_timeout_ms", self.connect_timeout_ms, 100, 300_000);
        within("commit_timeout_ms", self.commit_timeout_ms, 1_000, 600_000);
        within("statement_timeout_ms", self.statement_timeout_ms, 1_000, 3_600_000);
        within("lock_timeout_ms", self.lock_timeout_ms, 100, 60_000);
        problems
    }

    /// The URL without a password that stands in it.
    pub fn public_url(&self) -> String {
        redacted(&self.url)
    }

    pub(crate) const fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(crate) const fn commit_timeout(&self) -> Duration {
        Duration::from_millis(self.commit_timeout_ms)
    }

    pub(crate) const fn statement_timeout(&self) -> Duration {
        Duration::from_millis(self.statement_timeout_ms)
    }

    /// What the URL says, in words where it cannot be taken. `password` is what the password file holds, if anything.
    pub(crate) fn target(&self, password: String) -> Result<Target, String> {
        let (url, sslmode) = without_sslmode(&self.url)?;
        // The error's own cause names what is wrong without repeating values.
        let mut pg: tokio_postgres::Config = url.parse().map_err(|error: tokio_postgres::Error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("it cannot be read{cause}")
        })?;
        if pg.get_hosts().is_empty() && pg.get_hostaddrs().is_empty() {
            return Err("it names no host".to_owned());
        }
        if !password.is_empty() {
            pg.password(password);
        }
        let sslmode = match sslmode {
            Some(sslmode) => sslmode,
            None if pg.get_hosts().iter().all(is_here) && pg.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback) => Sslmode::Disable,
            None => Sslmode::Verify,
        };
        pg.ssl_mode(match sslmode {
            Sslmode::Disable => SslMode::Disable,
            Sslmode::Prefer => SslMode::Prefer,
            Sslmode::Verify => SslMode::Require,
        });
        self.set_limits(&mut pg);
        Ok(Target { pg, sslmode })
    }

    fn set_limits(&self, pg: &mut tokio_postgres::Config) {
        if pg.get_application_name().is_none() {
            pg.application_name(APPLICATION);
        }
        pg.connect_timeout(self.connect_timeout());
        // A server that is gone without a word is noticed after about a minute.
        pg.keepalives(true).keepalives_idle(Duration::from_secs(30)).keepalives_interval(Duration::from_secs(10)).keepalives_retries(3);
        pg.tcp_user_timeout(Duration::from_secs(60));
    }
}

const APPLICATION: &str = "headwater";

/// What becomes of encryption. There is none that does not verify: it would keep out nobody who can sit in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sslmode {
    /// Plain.
    Disable,
    /// Encrypted and verified where the server offers it, otherwise plain.
    Prefer,
    /// Encrypted and verified, by certificate and name (`require` and `verify-full`).
    Verify,
}

/// Where to connect to.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) pg: tokio_postgres::Config,
    pub(crate) sslmode: Sslmode,
}

impl Target {
    /// Only a server that can be written to.
    pub(crate) fn for_writing(mut self) -> Self {
        self.pg.target_session_attrs(TargetSessionAttrs::ReadWrite);
        self
    }

    /// `host:port/database`, for messages.
    pub(crate) fn place(&self) -> String {
        let ports = self.pg.get_ports();
        let port = |n: usize| ports.get(n).or(ports.first()).copied().unwrap_or(5432);
        let host = |(n, host): (usize, &Host)| match host {
            Host::Tcp(name) => format!("{name}:{}", port(n)),
            #[cfg(unix)]
            Host::Unix(path) => format!("{}:{}", path.display(), port(n)),
        };
        let hosts: Vec<String> = self.pg.get_hosts().iter().enumerate().map(host).collect();
        format!("{}/{}", hosts.join(","), self.pg.get_dbname().or(self.pg.get_user()).unwrap_or_default())
    }
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

/// The URL without its `sslmode`, of which the driver knows only some.
fn without_sslmode(url: &str) -> Result<(String, Option<Sslmode>), String> {
    let (scheme, _) = url.split_once("://").ok_or("it must begin with postgres://")?;
    if !matches!(scheme, "postgres" | "postgresql") {
        return Err(format!("it must begin with postgres://, not {scheme}://"));
    }
    let Some((base, query)) = url.split_once('?') else { return Ok((url.to_owned(), None)) };
    let mut sslmode = None;
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", mode)) => sslmode = Some(sslmode_of(mode)?),
            Some(("sslrootcert", _)) => return Err("sslrootcert is given as tls_ca".to_owned()),
            Some(("password", _)) => return Err("the password belongs into password_file".to_owned()),
            _ => rest.push(pair),
        }
    }
    let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    Ok((url, sslmode))
}

fn sslmode_of(mode: &str) -> Result<Sslmode, String> {
    match mode {
        "disable" => Ok(Sslmode::Disable),
        "prefer" => Ok(Sslmode::Prefer),
        "require" | "verify-full" => Ok(Sslmode::Verify),
        other => Err(format!("sslmode={other} is not supported: disable, prefer, require and verify-full are (all but the first verify)")),
    }
}

/// The URL without a password that stands in it.
fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "…".to_owned() };
    let authority = rest.find(['/', '?']).unwrap_or(rest.len());
    let (user, place) = match rest[..authority].rsplit_once('@') {
        Some((user, host)) => (user.split_once(':').map_or_else(|| user.to_owned(), |(name, _)| format!("{name}:***")) + "@", host),
        None => (String::new(), &rest[..authority]),
    };
    let tail = if rest.contains("password") { "/…" } else { &rest[authority..] };
    format!("{scheme}://{user}{place}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> Config {
        Config { url: url.to_owned(), ..Config::default() }
    }

    fn sslmode(url: &str) -> Sslmode {
        config(url).target(String::new()).unwrap_or_else(|problem| panic!("{url}: {problem}")).sslmode
    }

    #[test]
    fn other_urls_are_refused_in_words() {
        for (url, words) in [
            ("", "must begin with postgres://"),
            ("sqlite:data", "must begin with postgres://"),
            ("mysql://h/d", "not mysql://"),
            ("postgres://u@h/d?sslmode=allow", "sslmode=allow is not supported"),
            ("postgres://u@h/d?sslrootcert=x", "tls_ca"),
            ("postgres://u@h/d?password=hunter2", "password_file"),
            ("postgres://u@h/d?nonsense=1", "nonsense"),
            ("postgres://", "no host"),
        ] {
            let problems = config(url).validate();
            assert!(problems.len() == 1 && problems[0].contains(words), "{url}: {problems:?}");
        }
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let config = Config { max_connections: 1, lock_timeout_ms: 0, ..config("x") };
        assert_eq!(config.validate().len(), 3);
        assert_eq!(self::config("postgres://u@localhost/d").validate(), [""; 0]);
    }

    #[test]
    fn what_encrypts_verifies_and_another_machine_is_encrypted() {
        assert_eq!(sslmode("postgres://u@localhost/d"), Sslmode::Disable);
        assert_eq!(sslmode("postgres://u@127.0.0.1:5433/d"), Sslmode::Disable);
        assert_eq!(sslmode("postgres://u@%2Fvar%2Frun%2Fpostgresql/d"), Sslmode::Disable);
        assert_eq!(sslmode("postgres:///d?host=/run/postgresql&user=u"), Sslmode::Disable);
        assert_eq!(sslmode("postgres://u@db.example/d"), Sslmode::Verify);
        assert_eq!(sslmode("postgres://u@localhost,db.example/d"), Sslmode::Verify);
        assert_eq!(sslmode("postgres://u@db.example/d?sslmode=disable"), Sslmode::Disable);
        assert_eq!(sslmode("postgres://u@db.example/d?sslmode=require"), Sslmode::Verify);
        assert_eq!(sslmode("postgres://u@db.example/d?connect_timeout=3&sslmode=verify-full"), Sslmode::Verify);
        assert_eq!(sslmode("postgres://u@db.example/d?sslmode=prefer"), Sslmode::Prefer);
    }

    #[test]
    fn no_password_is_printed() {
        for url in ["postgres://u:hunter2@h:1/d?sslmode=require", "postgres://u@h/d?password=hunter2", "hunter2"] {
            let printed = format!("{:?}", config(url));
            assert!(!printed.contains("hunter2"), "{printed}");
        }
        assert!(format!("{:?}", config("postgres://u:p@h:1/d?sslmode=require")).contains("postgres://u:***@h:1/d?sslmode=require"));
    }
}
