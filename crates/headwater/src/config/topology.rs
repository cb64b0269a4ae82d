//! Whether the sections together can work; if not, a sentence that says what to do.

use super::Settings;
use super::sections::Role;
use std::net::SocketAddr;

pub(super) fn problems(settings: &Settings, insecure: bool) -> Vec<String> {
    [apart(&settings.roles), reachable(&settings.http, insecure)].into_iter().flatten().collect()
}

/// What a reading needs on its way from a device to a person. Without `rollup` nothing is sealed, and answers are the same.
const NEEDED: [Role; 3] = [Role::Gateway, Role::Ingest, Role::Api];

/// The embedded log and store are files that one process has locked: whatever does not run here runs nowhere.
fn apart(roles: &[Role]) -> Option<String> {
    if NEEDED.iter().all(|role| roles.contains(role)) {
        return None;
    }
    let names: Vec<String> = roles.iter().map(|role| format!("`{role}`")).collect();
    let only = match names.as_slice() {
        [one] => format!("only {one} runs here"),
        several => format!("only {} run here", several.join(" and ")),
    };
    let advice = "run all roles together or use a kafka:// log (which is not built into this version)";
    Some(format!("`log.url = embedded:` lives in one process, but {only}; {advice}"))
}

fn reachable(http: &headwater_web::Config, insecure: bool) -> Option<String> {
    let address: SocketAddr = http.listen.parse().ok()?;
    if address.ip().to_canonical().is_loopback() || http.behind_proxy || insecure {
        return None;
    }
    Some(format!(
        "http.listen = {address} can be reached from elsewhere, and tokens would travel without TLS; listen on 127.0.0.1, set \
         http.behind_proxy = true where a proxy speaks TLS in front, or say --insecure"
    ))
}
