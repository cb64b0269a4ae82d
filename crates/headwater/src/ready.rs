//! What a server tells, once, when it works: a single block on standard error.
//!
//! Owns: its words. Invariant: a token is shown only on a terminal and only at the very first start; journals hold no secrets.

use crate::config::Checked;
use crate::keys::Keys;
use crate::token::{self, Wanted};
use crate::{cli, output};
use clap::CommandFactory;
use headwater_web::{Probe, Scope, Scopes, duration};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long to wait for the probes before saying that they do not pass yet.
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN: Duration = Duration::from_millis(20);
/// The life of the token of the first start.
const FIRST_TTL: Duration = Duration::from_hours(24);

/// Waits until the probes pass, then tells.
pub(crate) async fn announce(settings: &Checked, keys: &Keys, address: SocketAddr, durability: Option<&str>, probes: Vec<Probe>) {
    let waiting_for = pass(&probes).await;
    let data_dir = std::path::absolute(&settings.data_dir).unwrap_or_else(|_| settings.data_dir.clone());
    let facts = Facts {
        scheme: if settings.http.has_tls() { "https" } else { "http" },
        address,
        data_dir: &data_dir,
        roles: settings.roles.iter().map(|role| role.as_str()).collect(),
        log: settings.log.to_string(),
        store: settings.store.to_string(),
        durability,
        waiting_for,
    };
    output::message(&block(&facts, &access(settings, keys)));
}

/// Waits until all probes pass; what does not in time is named.
async fn pass(probes: &[Probe]) -> Option<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut failing = None;
        for probe in probes {
            if let Err(why) = (probe.check)().await {
                failing = Some(format!("{}: {why}", probe.name));
            }
        }
        if failing.is_none() || Instant::now() >= deadline {
            return failing;
        }
        sleep(BETWEEN).await;
    }
}

struct Facts<'a> {
    scheme: &'static str,
    address: SocketAddr,
    data_dir: &'a Path,
    roles: Vec<&'static str>,
    log: String,
    store: String,
    /// Where the log is used here.
    durability: Option<&'a str>,
    waiting_for: Option<String>,
}

/// How to get in.
enum Access {
    /// The first start, on a terminal.
    Token(String),
    /// The command that makes a token.
    Command(PathBuf),
    /// Only whoever has the private part of this key can.
    Elsewhere(PathBuf),
}

fn access(settings: &Checked, keys: &Keys) -> Access {
    if !keys.ring.signs() {
        return Access::Elsewhere(settings.key_file());
    }
    let command = || Access::Command(settings.data_dir.clone());
    if !keys.made || !output::messages_on_terminal() {
        return command();
    }
    let wanted =
        Wanted { subject: "first-start", scopes: Scopes::from(Scope::Admin), devices: None, ttl: FIRST_TTL.min(settings.auth.max_ttl) };
    let signed = keys.ring.with_signing(|key| token::sign(key, settings, wanted));
    signed.and_then(Result::ok).map_or_else(command, Access::Token)
}

fn block(facts: &Facts<'_>, access: &Access) -> String {
    let version = cli::Cli::command().render_version();
    let state = match &facts.waiting_for {
        None => "is ready".to_owned(),
        Some(why) => format!("is running, but not ready yet ({why})"),
    };
    let durability = match facts.durability {
        Some("fsync") => "fsync: what is acknowledged is on disk",
        Some("acks=all") => "acks=all: what is acknowledged is on all replicas that are in sync",
        Some(other) => other,
        None => "of the gateways: nothing is acknowledged here",
    };
    let url = format!("{}://{}", facts.scheme, reachable(facts.address));
    let way_in = match access {
        Access::Token(token) => {
            let ttl = duration::print(FIRST_TTL);
            format!(
                "  An admin token, shown this once (valid at most {ttl}; `headwater token issue` makes others):\n    {token}\n  Try it:\n    \
                 curl -H 'Authorization: Bearer {token}' {url}/v1/status"
            )
        }
        Access::Command(dir) => format!("  a token         headwater token issue --scope admin --data-dir {}", quoted(dir)),
        Access::Elsewhere(key) => format!("  tokens          are issued where the private part of {} is", key.display()),
    };
    format!(
        "\n{} {state}\n  address         {}://{}\n  data directory  {}\n  roles           {}\n  log             {}\n  store           {}\n  durability      {durability}\n{way_in}\n",
        version.trim_end(),
        facts.scheme,
        facts.address,
        facts.data_dir.display(),
        facts.roles.join(", "),
        facts.log,
        facts.store,
    )
}

/// Where a client on this machine reaches a listener on all addresses.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(access: &Access, waiting_for: Option<String>) -> String {
        told_over("http", access, waiting_for)
    }

    fn told_over(scheme: &'static str, access: &Access, waiting_for: Option<String>) -> String {
        let facts = Facts {
            scheme,
            address: "0.0.0.0:8080".parse().unwrap(),
            data_dir: Path::new("/data"),
            roles: vec!["gateway", "ingest", "rollup", "api"],
            log: "embedded".to_owned(),
            store: "embedded (SQLite)".to_owned(),
            durability: Some("fsync"),
            waiting_for,
        };
        block(&facts, access)
    }

    #[test]
    fn the_block_tells_address_directory_what_is_embedded_and_durability() {
        let text = told(&Access::Command("my data".into()), None);
        for part in
            ["headwater 0.1.0 is ready", "http://0.0.0.0:8080", "/data", "embedded (SQLite)", "gateway, ingest, rollup, api", "fsync"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.contains("headwater token issue --scope admin --data-dir 'my data'\n"), "{text}");
    }

    #[test]
    fn the_curl_line_of_the_first_start_reaches_the_server() {
        let text = told(&Access::Token("abc".to_owned()), None);
        assert!(text.contains("\n    curl -H 'Authorization: Bearer abc' http://127.0.0.1:8080/v1/status\n"), "{text}");
    }

    #[test]
    fn over_tls_the_addresses_say_so() {
        let text = told_over("https", &Access::Token("abc".to_owned()), None);
        assert!(text.contains("https://0.0.0.0:8080") && text.contains(" https://127.0.0.1:8080/v1/status\n"), "{text}");
        assert!(!text.contains("http://"), "{text}");
    }

    #[test]
    fn what_is_not_ready_is_named() {
        assert!(told(&Access::Command("d".into()), Some("store: is busy".to_owned())).contains("not ready yet (store: is busy)"));
    }
}
