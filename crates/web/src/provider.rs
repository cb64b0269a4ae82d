//! OpenID providers: whose tokens are believed beside our own, and how their keys are fetched.
//!
//! Owns: [`Config`] (an entry of `[[auth.providers]]`), its checks, and fetching a JWK set, found by OpenID Connect Discovery or
//! named. Does not know: when to fetch (`source` does), what makes a token good.
//! Invariants: only `https://`, or `http://` on this machine; no redirects, no proxies; an answer is bounded in size and time; a
//! set without a key of use is a failure and takes no one's place.

use crate::keyset::KeySet;
use crate::source::{Fetch, Fetched, Pace};
use crate::trust::Roots;
use anyhow::{Context, Result, bail, ensure};
use axum::http::Uri;
use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// A key that is not there is looked for every half minute at most; a request waits two seconds for that.
pub(crate) const PACE: Pace = Pace {
    between: Duration::from_secs(30),
    patience: Duration::from_secs(2),
    while_empty: Duration::from_secs(5),
    after_failure: Duration::from_secs(60),
};
/// Discovery and the set together may take twice this.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A set of ten RSA keys with their certificates has some 30 KiB.
const MOST_BYTES: u64 = 512 * 1024;
/// When to look again: as long as the provider says, within these; a key that it takes back shall not be good for long.
const SOONEST: Duration = Duration::from_mins(5);
const LATEST: Duration = Duration::from_mins(60);
const USUAL: Duration = Duration::from_mins(10);
/// The algorithms that can be allowed, with the words for them.
const ALGORITHMS: [(&str, Algorithm); 3] = [("RS256", Algorithm::RS256), ("ES256", Algorithm::ES256), ("EdDSA", Algorithm::EdDSA)];

/// An entry of `[[auth.providers]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `iss` of its tokens, letter by letter.
    pub issuer: String,
    /// What `aud` of its tokens has to hold; empty: `auth.audience`.
    pub audience: String,
    /// Where its JWK set is; empty: where `{issuer}/.well-known/openid-configuration` says.
    pub jwks_url: String,
    /// The algorithms that are allowed, of RS256, ES256 and EdDSA.
    pub algorithms: Vec<String>,
    /// What `typ` of its tokens may be. RFC 9068 wants `at+jwt`; some providers write `JWT`.
    pub types: Vec<String>,
    /// The claim that holds scopes: words in a text, or a list.
    pub scope_claim: String,
    /// The claim that narrows a token to devices: a list of patterns, or one. A token without it is not narrowed.
    pub devices_claim: String,
    /// The certificate of an authority to trust beside the system's, in PEM.
    pub ca_cert: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: String::new(),
            jwks_url: String::new(),
            algorithms: ALGORITHMS.map(|(word, _)| word.to_owned()).to_vec(),
            types: vec!["at+jwt".to_owned()],
            scope_claim: "scope".to_owned(),
            devices_claim: "devices".to_owned(),
            ca_cert: String::new(),
        }
    }
}

impl Config {
    /// Everything that is wrong with it, each as `key: what`; empty when all is well.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        match (self.issuer.as_str(), self.jwks_url.as_str()) {
            ("", _) => problems.push("issuer: is empty".to_owned()),
            (issuer, "") => problems.extend(may_be_asked(issuer).err().map(|why| format!("issuer: {why}"))),
            (_, url) => problems.extend(may_be_asked(url).err().map(|why| format!("jwks_url: {why}"))),
        }
        for word in self.algorithms.iter().filter(|word| algorithm(word).is_none()) {
            problems.push(format!("algorithms: `{word}` is none of RS256, ES256, EdDSA"));
        }
        let lists = [("algorithms", self.algorithms.is_empty()), ("types", self.types.is_empty())];
        let texts = [("scope_claim", self.scope_claim.is_empty()), ("devices_claim", self.devices_claim.is_empty())];
        problems.extend(lists.iter().chain(&texts).filter(|(_, empty)| *empty).map(|(key, _)| format!("{key}: is empty")));
        problems
    }
}

fn algorithm(word: &str) -> Option<Algorithm> {
    ALGORITHMS.into_iter().find(|(known, _)| *known == word).map(|(_, algorithm)| algorithm)
}

/// Whether an address may be fetched from: keys that come in the clear could be anybody's.
fn may_be_asked(url: &str) -> Result<(), String> {
    let uri: Uri = url.parse().map_err(|_| format!("`{url}` is no address such as https://id.example.com"))?;
    let host = uri.host().unwrap_or_default();
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("an address here holds no name and password".to_owned());
    }
    match uri.scheme_str() {
        Some("https") if !host.is_empty() => Ok(()),
        Some("http") if is_this_machine(host) => Ok(()),
        Some("http") => Err(format!("`{url}` is not https://, which only addresses of this machine need not be")),
        _ => Err(format!("`{url}` is no address such as https://id.example.com")),
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A provider, ready to be asked.
pub struct Provider {
    config: Config,
    algorithms: Vec<Algorithm>,
    agent: ureq::Agent,
}

#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

impl Provider {
    /// The provider of a valid configuration. Nothing is asked yet.
    ///
    /// # Errors
    /// The authority that was named cannot be read; its path is named.
    pub fn open(config: Config) -> Result<Self> {
        let ca = (!config.ca_cert.is_empty()).then_some(Path::new(&config.ca_cert));
        let roots = match Roots::load(ca) {
            Err(why) if ca.is_some() => return Err(why).with_context(|| format!("trust the provider {}", config.issuer)),
            // Without any authority every https:// fails, and says so.
            roots => roots.unwrap_or_else(|_| Roots::none()),
        };
        let agent = ureq::Agent::config_builder()
            .tls_config(roots.ureq())
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .max_idle_connections(0)
            .timeout_global(Some(TIMEOUT))
            .user_agent(concat!("headwater/", env!("CARGO_PKG_VERSION")))
            .build();
        let algorithms = config.algorithms.iter().filter_map(|word| algorithm(word)).collect();
        Ok(Self { config, algorithms, agent: agent.into() })
    }

    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    /// Where the set is.
    fn jwks_url(&self) -> Result<String> {
        if !self.config.jwks_url.is_empty() {
            return Ok(self.config.jwks_url.clone());
        }
        let url = format!("{}/.well-known/openid-configuration", self.config.issuer.trim_end_matches('/'));
        let (body, _) = self.get(&url)?;
        let found: Discovered = serde_json::from_slice(&body).with_context(|| format!("read what {url} says"))?;
        ensure!(found.issuer == self.config.issuer, "{url} speaks for another issuer, `{}`", found.issuer.escape_debug());
        may_be_asked(&found.jwks_uri).map_err(anyhow::Error::msg).with_context(|| format!("follow the jwks_uri of {url}"))?;
        Ok(found.jwks_uri)
    }

    fn get(&self, url: &str) -> Result<(Vec<u8>, Duration)> {
        let asking = || format!("ask {url}");
        let response = self.agent.get(url).header("Accept", "application/json, application/jwk-set+json").call().with_context(asking)?;
        let (parts, mut body) = response.into_parts();
        if parts.status != 200 {
            bail!("{url} answered {}", parts.status.as_u16());
        }
        let fresh = parts.headers.get("cache-control").and_then(|value| max_age(value.to_str().ok()?)).unwrap_or(USUAL);
        Ok((body.with_config().limit(MOST_BYTES).read_to_vec().with_context(asking)?, fresh))
    }
}

impl Fetch for Provider {
    fn fetch(&self) -> Result<Fetched> {
        let url = self.jwks_url()?;
        let (body, fresh) = self.get(&url)?;
        let keys = KeySet::of_jwks(&body, &self.algorithms).with_context(|| format!("read the keys of {url}"))?;
        ensure!(!keys.is_empty(), "{url} has no key of use: one with an id, for signatures, for {}", self.config.algorithms.join(", "));
        Ok(Fetched { keys, again_in: fresh.clamp(SOONEST, LATEST) })
    }
}

/// `max-age` of a `Cache-Control`.
fn max_age(header: &str) -> Option<Duration> {
    let seconds = header.split(',').find_map(|part| part.trim().strip_prefix("max-age="))?;
    seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(issuer: &str, jwks_url: &str) -> Config {
        Config { issuer: issuer.to_owned(), jwks_url: jwks_url.to_owned(), ..Config::default() }
    }

    #[test]
    fn keys_are_asked_for_over_https_or_on_this_machine_only() {
        for good in [
            "https://id.example.com",
            "https://id.example.com:8443/realms/x",
            "http://127.0.0.1:1/x",
            "http://[::1]:1",
            "http://localhost:9",
        ] {
            assert_eq!(config(good, "").validate(), Vec::<String>::new(), "{good}");
            assert_eq!(config("any text", good).validate(), Vec::<String>::new(), "{good}");
        }
        for bad in [
            "http://id.example.com",
            "http://127.0.0.1.example.com",
            "ftp://x",
            "id.example.com",
            "https://",
            "https://u:p@host",
            "file:///etc",
            "/",
        ] {
            assert_eq!(config(bad, "").validate().len(), 1, "{bad}");
            assert_eq!(config("x", bad).validate().len(), 1, "{bad}");
        }
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let wrong = Config {
            algorithms: vec!["HS256".to_owned(), "none".to_owned()],
            types: vec![],
            scope_claim: String::new(),
            ..Config::default()
        };
        let problems = wrong.validate();
        for start in ["issuer: is empty", "algorithms: `HS256`", "algorithms: `none`", "types: is empty", "scope_claim: is empty"] {
            assert!(problems.iter().any(|problem| problem.starts_with(start)), "{start} in {problems:?}");
        }
        assert_eq!(problems.len(), 5);
    }

    #[test]
    fn the_time_that_a_set_is_good_for_is_read() {
        assert_eq!(max_age("public, max-age=600, must-revalidate"), Some(Duration::from_secs(600)));
        assert_eq!(max_age("no-store"), None);
        assert_eq!(max_age("max-age=x"), None);
    }
}
