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
pub(crate) async fn announce(settings: &Checked, keys: &Keys, address: SocketAddr, durability: &str, probes: Vec<Probe>) {
    let waiting_for = pass(&probes).await;
    let data_dir = std::path::absolute(&settings.data_dir).unwrap_or_else(|_| settings.data_dir.clone());
    let facts =
        Facts { address, data_dir: &data_dir, roles: settings.roles.iter().map(|role| role.as_str()).collect(), durability, waiting_for };
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
    address: SocketAddr,
    data_dir: &'a Path,
    roles: Vec<&'static str>,
    durability: &'a str,
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
    let Some(signing) = &keys.signing else { return Access::Elsewhere(settings.key_file()) };
    let command = || Access::Command(settings.data_dir.clone());
    if !keys.made || !output::messages_on_terminal() {
        return command();
    }
    let wanted =
        Wanted { subject: "first-start", scopes: Scopes::from(Scope::Admin), devices: None, ttl: FIRST_TTL.min(settings.auth.max_ttl) };
    token::sign(signing, settings, wanted).map_or_else(|_| command(), Access::Token)
}

fn block(facts: &Facts<'_>, access: &Access) -> String {
    let version = cli::Cli::command().render_version();
    let state = match &facts.waiting_for {
        None => "is ready".to_owned(),
        Some(why) => format!("is running, but not ready yet ({why})"),
    };
    let durability = match facts.durability {
        "fsync" => "fsync: what is acknowledged is on disk".to_owned(),
        other => other.to_owned(),
    };
    let url = format!("http://{}", reachable(facts.address));
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
        "\n{} {state}\n  address         http://{}\n  data directory  {}\n  embedded        log and store (SQLite), roles {}\n  durability      {durability}\n{way_in}\n",
        version.trim_end(),
        facts.address,
        facts.data_dir.display(),
        facts.roles.join(", "),
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
        let facts = Facts {
            address: "0.0.0.0:8080".parse().unwrap(),
            data_dir: Path::new("/data"),
            roles: vec!["gateway", "ingest", "rollup", "api"],
            durability: "fsync",
            waiting_for,
        };
        block(&facts, access)
    }

    #[test]
    fn the_block_tells_address_directory_what_is_embedded_and_durability() {
        let text = told(&Access::Command("my data".into()), None);
        for part in ["headwater 0.1.0 is ready", "http://0.0.0.0:8080", "/data", "log and store", "gateway, ingest, rollup, api", "fsync"] {
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
    fn what_is_not_ready_is_named() {
        assert!(told(&Access::Command("d".into()), Some("store: is busy".to_owned())).contains("not ready yet (store: is busy)"));
    }
}
