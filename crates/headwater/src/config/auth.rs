//! `[auth]`: the built-in issuer, who may have tokens of it, and whose tokens are believed beside its own.
//!
//! Owns: its keys, defaults and what it allows (a client and a provider check themselves). Does not know: keys, tokens.

use headwater_web::issuer::ClientConfig;
use headwater_web::{duration, provider};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// `[auth]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// `[[auth.clients]]`: who may ask `POST /v1/token`.
    pub(crate) clients: Vec<ClientConfig>,
    providers: Vec<provider::Config>,
}

impl Default for Auth {
    fn default() -> Self {
        let headwater = || "headwater".to_owned();
        Self {
            issuer: headwater(),
            audience: headwater(),
            max_ttl: Duration::from_hours(366 * 24),
            key_file: String::new(),
            clients: Vec::new(),
            providers: Vec::new(),
        }
    }
}

impl Auth {
    /// An Ed25519 key in PEM that several processes share; `None` = the one in the data directory.
    pub(crate) fn key_file(&self) -> Option<&Path> {
        (!self.key_file.is_empty()).then_some(Path::new(&self.key_file))
    }

    /// `[[auth.providers]]`, each with its audience.
    pub(crate) fn providers(&self) -> impl Iterator<Item = provider::Config> {
        self.providers.iter().cloned().map(|mut provider| {
            if provider.audience.is_empty() {
                provider.audience.clone_from(&self.audience);
            }
            provider
        })
    }

    pub(super) fn validate(&self) -> Vec<String> {
        let empty = |key: &str, value: &str| value.is_empty().then(|| format!("{key}: is empty"));
        let mut problems: Vec<String> = [empty("issuer", &self.issuer), empty("audience", &self.audience)].into_iter().flatten().collect();
        if self.max_ttl < Duration::from_secs(1) || self.max_ttl > Duration::from_hours(3660 * 24) {
            problems.push(format!("max_ttl: {} must lie between 1s and 3660d", duration::print(self.max_ttl)));
        }
        self.clients(&mut problems);
        self.issuers(&mut problems);
        problems
    }

    fn clients(&self, problems: &mut Vec<String>) {
        let mut ids = BTreeSet::new();
        for (n, client) in self.clients.iter().enumerate() {
            problems.extend(client.validate().into_iter().map(|problem| format!("clients[{n}].{problem}")));
            if !ids.insert(client.id.as_str()) {
                problems.push(format!("clients[{n}].id: `{}` is there twice", client.id));
            }
            if client.ttl > self.max_ttl {
                problems.push(format!("clients[{n}].ttl: is longer than auth.max_ttl, which is {}", duration::print(self.max_ttl)));
            }
        }
    }

    /// Whoever a token names has to be one: two with one name would each be believed by the other's keys.
    fn issuers(&self, problems: &mut Vec<String>) {
        let mut names = BTreeSet::from([self.issuer.as_str()]);
        for (n, provider) in self.providers.iter().enumerate() {
            problems.extend(provider.validate().into_iter().map(|problem| format!("providers[{n}].{problem}")));
            if !names.insert(&provider.issuer) {
                problems.push(format!("providers[{n}].issuer: `{}` is there twice, or is auth.issuer", provider.issuer));
            }
        }
    }
}
