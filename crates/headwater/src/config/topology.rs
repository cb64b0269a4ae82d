//! Whether the sections together can work; if not, a sentence that says what to do.

use super::sections::Role;
use super::{Log, Settings, Store};
use std::net::SocketAddr;

pub(super) fn problems(settings: &Settings, insecure: bool) -> Vec<String> {
    let roles = &settings.roles;
    let uses_log = matches!(settings.log, Log::Embedded) && roles.iter().any(|role| role.needs_log());
    let uses_store = matches!(settings.store, Store::Sqlite) && roles.iter().any(|role| role.needs_store());
    let log = uses_log.then(|| apart(roles, "log.url = embedded:", "kafka:// log", &[Role::Gateway, Role::Ingest, Role::Api]));
    let store = uses_store.then(|| apart(roles, "store.url = sqlite:", "postgres:// store", &[Role::Ingest, Role::Api]));
    // One sentence is enough where both are embedded.
    let backends = log.flatten().or(store.flatten());
    backends.into_iter().chain(reachable(&settings.http, insecure)).chain(certificate(&settings.http)).collect()
}

/// The embedded log and store are files that one process has locked: of what uses them (`needed`, of what a reading needs on its way from a
/// device to a person), whatever does not run here runs nowhere. Without `rollup` nothing is sealed, and answers are the same.
fn apart(roles: &[Role], embedded: &str, other: &str, needed: &[Role]) -> Option<String> {
    if needed.iter().all(|role| roles.contains(role)) {
        return None;
    }
    let names: Vec<String> = roles.iter().map(|role| format!("`{role}`")).collect();
    let only = match names.as_slice() {
        [one] => format!("only {one} runs here"),
        several => format!("only {} run here", several.join(" and ")),
    };
    Some(format!("`{embedded}` lives in one process, but {only}; run all roles together or use a {other}"))
}

fn reachable(http: &headwater_web::Config, insecure: bool) -> Option<String> {
    let address: SocketAddr = http.listen.parse().ok()?;
    if address.ip().to_canonical().is_loopback() || http.has_tls() || http.behind_proxy || insecure {
        return None;
    }
    Some(format!(
        "http.listen = {address} can be reached from elsewhere, and tokens would travel without TLS; set http.tls_cert and \
         http.tls_key, listen on 127.0.0.1, set http.behind_proxy = true where a proxy speaks TLS in front, or say --insecure"
    ))
}

/// Whether the listener will be able to show its certificate: told here, before anything is opened.
fn certificate(http: &headwater_web::Config) -> Option<String> {
    headwater_web::Tls::of(http).err().map(|why| format!("http.tls_cert, http.tls_key: {why:#}"))
}
