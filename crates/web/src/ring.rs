//! The keys of the built-in issuer on disk: the one that signs, and those before it whose tokens are still good.
//!
//! Owns: [`Ring`] (a key file and, beside it, `….retired` with public keys and until when each is good) and rotation. Does not
//! know: who looks and when, tokens.
//! Invariants: at every instant of a rotation whoever reads the key first and the retired ones then has all that are good; a
//! private key that no longer signs is gone.

use crate::key::{self, SigningKey, VerifyingKey};
use crate::keyset::KeySet;
use crate::source::{Fetch, Fetched, Pace};
use anyhow::{Context, Result, ensure};
use headwater_core::time::{SECOND, Timestamp};
use jsonwebtoken::jwk::Jwk;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// A rotated key is in use within seconds, and at once where a token shows that there is one. Looking costs two small reads.
pub(crate) const PACE: Pace =
    Pace { between: Duration::from_secs(1), patience: Duration::from_secs(2), while_empty: Duration::from_secs(5), after_failure: EVERY };
const EVERY: Duration = Duration::from_secs(5);
/// Keys that are rotated every other day while their tokens live a year; a file of these has 50 KiB.
const MOST_RETIRED: usize = 200;

/// The keys of the built-in issuer.
pub struct Ring {
    path: PathBuf,
    held: RwLock<Arc<Held>>,
}

struct Held {
    /// Where the private part is at hand.
    signing: Option<SigningKey>,
    verifying: VerifyingKey,
    retired: Vec<Retired>,
}

/// A key that signs no more.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Retired {
    jwk: Jwk,
    /// Until when its tokens are good, in seconds since 1970.
    until: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetiredFile {
    keys: Vec<Retired>,
}

/// What a rotation has done: ids of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// Signed until now.
    pub before: String,
    /// Signs from now on.
    pub now: String,
}

impl Ring {
    /// The ring of a key file, private or public.
    ///
    /// # Errors
    /// There is none, or it or the file of retired keys cannot be read; the path is named.
    pub fn open(path: &Path) -> Result<Arc<Self>> {
        let held = RwLock::new(Arc::new(Held::read(path)?));
        Ok(Arc::new(Self { path: path.to_owned(), held }))
    }

    /// Whether it can sign.
    pub fn signs(&self) -> bool {
        self.held().signing.is_some()
    }

    /// Does something with the key that signs now.
    pub fn with_signing<T>(&self, sign: impl FnOnce(&SigningKey) -> T) -> Option<T> {
        self.held().signing.as_ref().map(sign)
    }

    /// All keys that verify, with until when.
    pub(crate) fn keys(&self) -> KeySet {
        self.held().keys()
    }

    /// The public keys that are good at `now`, as a JWK set.
    pub fn jwks(&self, now: Timestamp) -> Value {
        let held = self.held();
        let retired = held.retired.iter().filter(|retired| retired.until_time() > now).map(|retired| &retired.jwk);
        json!({ "keys": std::iter::once(&held.verifying.jwk).chain(retired).collect::<Vec<_>>() })
    }

    /// Makes a new key that signs from now on. What the one before has signed is good until `until`, or no longer at all.
    ///
    /// # Errors
    /// The key file holds no private key, or files cannot be written; the path is named.
    pub fn rotate(path: &Path, now: Timestamp, until: Option<Timestamp>) -> Result<Rotated> {
        // One rotation at a time; the lock is the system's and goes with the process.
        let directory = File::open(key::directory(path)).with_context(|| format!("open the directory of {}", path.display()))?;
        directory.lock().context("wait for another rotation")?;
        let before = SigningKey::open(path)?;
        let mut retired = read_retired(path)?;
        retired.retain(|retired| retired.until_time() > now && retired.jwk.common.key_id.as_deref() != Some(before.id()));
        match until {
            Some(until) => retired.push(Retired { jwk: before.verifying_key().jwk, until: until.micros().div_euclid(SECOND) }),
            None => retired.clear(),
        }
        ensure!(retired.len() <= MOST_RETIRED, "there are {MOST_RETIRED} earlier keys already whose tokens are good");
        let pem = key::generate()?;
        let now = SigningKey::from_pem(&pem)?;
        let text = serde_json::to_string(&RetiredFile { keys: retired })?;
        let file = retired_file(path);
        // First the old one is among the retired, then it signs no more.
        key::replace(&file, &text, path).with_context(|| format!("write {}", file.display()))?;
        key::replace(path, &pem, path).with_context(|| format!("write {}", path.display()))?;
        Ok(Rotated { before: before.id().to_owned(), now: now.id().to_owned() })
    }

    fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Fetch for Arc<Ring> {
    fn fetch(&self) -> Result<Fetched> {
        let held = Arc::new(Held::read(&self.path)?);
        let keys = held.keys();
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = held;
        Ok(Fetched { keys, again_in: EVERY })
    }
}

impl Held {
    fn read(path: &Path) -> Result<Self> {
        // In this order; see the module.
        let text = key::read(path)?;
        let retired = read_retired(path)?;
        let named = || format!("read the key {}", path.display());
        let (signing, verifying) = if text.contains("PRIVATE KEY") {
            let signing = SigningKey::from_pem(&text).with_context(named)?;
            let verifying = signing.verifying_key();
            (Some(signing), verifying)
        } else {
            (None, VerifyingKey::from_pem(&text).with_context(named)?)
        };
        Ok(Self { signing, verifying, retired })
    }

    fn keys(&self) -> KeySet {
        let retired = self.retired.iter().filter_map(|retired| Some((VerifyingKey::from_jwk(&retired.jwk).ok()?, retired.until_time())));
        let set = retired.fold(KeySet::default(), |set, (key, until)| set.with(&key, Some(until)));
        set.with(&self.verifying, None)
    }
}

impl Retired {
    const fn until_time(&self) -> Timestamp {
        Timestamp(self.until.saturating_mul(SECOND))
    }
}

fn retired_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".retired");
    PathBuf::from(name)
}

fn read_retired(path: &Path) -> Result<Vec<Retired>> {
    let file = retired_file(path);
    let reading = || format!("read the earlier keys in {}", file.display());
    if !file.try_exists().with_context(reading)? {
        return Ok(Vec::new());
    }
    let text = key::read(&file).with_context(reading)?;
    let read: RetiredFile = serde_json::from_str(&text).with_context(reading)?;
    for retired in &read.keys {
        VerifyingKey::from_jwk(&retired.jwk).with_context(reading)?;
    }
    Ok(read.keys)
}

#[cfg(test)]
mod tests;
