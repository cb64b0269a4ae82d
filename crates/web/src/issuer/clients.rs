//! The clients that may have tokens, and how their secrets are known again.
//!
//! Owns: [`ClientConfig`], [`Clients`]. Invariants: a secret is kept as its SHA-256 alone (it is long and random, so that nothing
//! slower is needed); comparing takes the same time whatever was sent, also for a client that does not exist.

use crate::access::Scopes;
use anyhow::{Context, Result, ensure};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

/// A secret is 128 random bits at least, whatever way they are written.
const SHORTEST: usize = 22;
const LONGEST: u64 = 1024;
const HASH: &str = "sha256:";

/// An entry of `[[auth.clients]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    /// Its name: `client_id`, and the `sub` of its tokens.
    pub id: String,
    /// The SHA-256 of its secret, as `sha256:` and 64 hexadecimal digits.
    pub secret_hash: String,
    /// Or a file that holds the secret.
    pub secret_file: String,
    /// What its tokens may allow, separated by spaces.
    pub scope: String,
    /// Only these devices; without it, all.
    pub devices: Option<Vec<String>>,
    /// How long its tokens are good.
    #[serde(with = "crate::duration")]
    pub ttl: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            id: String::new(),
            secret_hash: String::new(),
            secret_file: String::new(),
            scope: String::new(),
            devices: None,
            ttl: Duration::from_hours(1),
        }
    }
}

impl ClientConfig {
    /// Everything that is wrong with it, each as `key: what`; empty when all is well.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/@".contains(&byte);
        if !(1..=128).contains(&self.id.len()) || !self.id.bytes().all(is_plain) {
            problems.push("id: has 1 to 128 letters, digits and `._-/@`".to_owned());
        }
        match (self.secret_hash.as_str(), self.secret_file.as_str()) {
            ("", "") => problems.push("secret_hash: is needed, or secret_file".to_owned()),
            ("", _) => {}
            (hash, "") if hash_of_text(hash).is_none() => {
                problems.push(format!("secret_hash: is written `{HASH}` and 64 hexadecimal digits"));
            }
            (_, "") => {}
            _ => problems.push("secret_hash: goes without secret_file: one of them is enough".to_owned()),
        }
        match Scopes::parse(&self.scope) {
            Err(why) => problems.push(format!("scope: {why}")),
            Ok(scopes) if scopes.is_empty() => problems.push("scope: names nothing that its tokens would allow".to_owned()),
            Ok(_) => {}
        }
        if self.devices.as_ref().is_some_and(Vec::is_empty) {
            problems.push("devices: is empty, so that its tokens would allow nothing; leave it out for all devices".to_owned());
        }
        if self.ttl < Duration::from_secs(1) {
            problems.push("ttl: is shorter than a second".to_owned());
        }
        problems
    }
}

type Hash = [u8; 32];

/// A client.
pub(super) struct Client {
    pub(super) id: String,
    pub(super) scopes: Scopes,
    pub(super) devices: Option<Vec<String>>,
    pub(super) ttl: Duration,
    hash: Hash,
}

/// All clients.
pub(super) struct Clients(HashMap<String, Client>);

impl Clients {
    /// The clients of valid configurations.
    pub(super) fn open(configs: Vec<ClientConfig>) -> Result<Self> {
        configs.into_iter().map(|config| Ok((config.id.clone(), Client::open(config)?))).collect::<Result<_>>().map(Self)
    }

    pub(super) fn get(&self, id: &str) -> Option<&Client> {
        self.0.get(id)
    }

    /// The client of that name, if that is its secret.
    pub(super) fn verify(&self, id: &str, secret: &str) -> Option<&Client> {
        let (client, sent) = (self.0.get(id), hash_of(secret));
        // A stranger is compared too, with what nothing hashes to.
        let expected = client.map_or([0; 32], |client| client.hash);
        let right = verify_slices_are_equal(&expected, &sent).is_ok();
        client.filter(|_| right)
    }
}

impl Client {
    fn open(config: ClientConfig) -> Result<Self> {
        let scopes = Scopes::parse(&config.scope).map_err(anyhow::Error::msg)?;
        let hash = match hash_of_text(&config.secret_hash) {
            Some(hash) => hash,
            None => hash_of_file(Path::new(&config.secret_file)).with_context(|| format!("read the secret of {}", config.id))?,
        };
        Ok(Self { id: config.id, scopes, devices: config.devices, ttl: config.ttl, hash })
    }
}

fn hash_of(secret: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    hash
}

fn hash_of_text(text: &str) -> Option<Hash> {
    let digits = text.strip_prefix(HASH).filter(|digits| digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let mut hash = [0; 32];
    for (byte, two) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok()?;
    }
    Some(hash)
}

fn hash_of_file(path: &Path) -> Result<Hash> {
    let named = || format!("read {}", path.display());
    ensure!(std::fs::metadata(path).with_context(named)?.len() <= LONGEST, "{} is too large to be a secret", path.display());
    let text = std::fs::read_to_string(path).with_context(named)?;
    let secret = text.trim_end_matches(['\r', '\n']);
    ensure!(
        secret.len() >= SHORTEST,
        "the secret in {} is too short to be random enough; `openssl rand -hex 32` makes one",
        path.display()
    );
    Ok(hash_of(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_reported_at_once() {
        let wrong = ClientConfig {
            id: "a b".to_owned(),
            scope: "read:everything".to_owned(),
            devices: Some(vec![]),
            ttl: Duration::ZERO,
            ..ClientConfig::default()
        };
        let problems = wrong.validate();
        for key in ["id:", "secret_hash: is needed", "scope:", "devices:", "ttl:"] {
            assert!(problems.iter().any(|problem| problem.starts_with(key)), "{key} in {problems:?}");
        }
        assert_eq!(problems.len(), 5);
        let with = |hash: &str, file: &str| ClientConfig {
            id: "a".to_owned(),
            scope: "admin".to_owned(),
            secret_hash: hash.to_owned(),
            secret_file: file.to_owned(),
            ..ClientConfig::default()
        };
        let hash = format!("sha256:{}", "0a".repeat(32));
        assert!(with(&hash, "").validate().is_empty() && with("", "file").validate().is_empty());
        for (hash, file) in [(hash.as_str(), "file"), ("sha256:0a", ""), (&hash[7..], ""), (&hash.replace('a', "g"), "")] {
            assert_eq!(with(hash, file).validate().len(), 1, "{hash} {file}");
        }
    }

    #[test]
    fn a_secret_is_known_by_its_hash_or_by_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let config = |id: &str, hash: &str, file: &Path| ClientConfig {
            id: id.to_owned(),
            secret_hash: hash.to_owned(),
            secret_file: file.to_str().unwrap().to_owned(),
            scope: "read:stats".to_owned(),
            ..ClientConfig::default()
        };
        std::fs::write(&path, "a secret that is long enough\n").unwrap();
        // printf %s 'a secret that is long enough' | sha256sum
        let hash = hash_of("a secret that is long enough").iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let clients = Clients::open(vec![config("h", &format!("sha256:{hash}"), Path::new("")), config("f", "", &path)]).unwrap();
        for id in ["h", "f"] {
            assert!(clients.verify(id, "a secret that is long enough").is_some_and(|client| client.id == id));
            assert!(clients.verify(id, "a secret that is long enough\n").is_none() && clients.verify(id, "").is_none());
        }
        assert!(clients.verify("x", "a secret that is long enough").is_none());
        for (text, word) in [("short", "too short"), (&"x".repeat(2000), "too large")] {
            std::fs::write(&path, text).unwrap();
            let refused = format!("{:#}", Clients::open(vec![config("f", "", &path)]).err().unwrap());
            assert!(refused.contains(word) && refused.contains("secret") && !refused.contains("short\n"), "{refused}");
        }
    }
}
