//! Telling good tokens from others.
//!
//! Owns: [`Verifier`]: which issuers are believed, and what makes a token of theirs good. Does not know: how a token travels,
//! which scope a route needs, where keys come from.
//! Invariants, after RFC 8725: a token is checked against the keys of the issuer that it names and of no other; the algorithm is
//! the key's and never the token's; `kid` only looks up a key in memory, and keys or addresses inside a token are ignored; the
//! time is the [`Clock`]'s; why a token was refused is never told to whoever sent it.

use crate::caller::Caller;
use crate::claims::{Claims, Lists};
use crate::key::VerifyingKey;
use crate::keyset::{Key, KeySet};
use crate::provider::{self, Provider};
use crate::ring::{self, Ring};
use crate::source::{Fetch, Fetched, Source};
use crate::token::{LONGEST, TYPE};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use headwater_core::clock::Clock;
use headwater_core::metrics::Registry;
use headwater_core::time::{SECOND, Timestamp};
use jsonwebtoken::{Header, Validation};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How far clocks may differ.
const LEEWAY_S: f64 = 30.0;
/// How many good tokens are remembered; with one more, all are forgotten and checked anew.
const REMEMBERED: usize = 1_024;

/// Why a token is not good. For the log: whoever sent it is told the same in every case but the last.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Longer than [`LONGEST`].
    #[error("the token is too long")]
    TooLong,
    /// It does not parse, or a header has a wrong type or is there twice.
    #[error("the token is malformed: {0}")]
    Malformed(String),
    /// `iss` is nobody who is believed here.
    #[error("the token's issuer is not known")]
    UnknownIssuer,
    /// `typ` is another, or the header asks for what we do not do.
    #[error("the token is of another type: {0}")]
    Type(&'static str),
    /// `kid` names none of the issuer's keys.
    #[error("the token's key is not known")]
    UnknownKey,
    /// The signature is not that key's, the algorithm is another, the audience is not ours, or a claim has a wrong type.
    #[error("the token does not verify: {0}")]
    Invalid(String),
    /// Past `exp`.
    #[error("the token has expired")]
    Expired,
    /// Before `nbf`.
    #[error("the token is not valid yet")]
    NotYet,
    /// The issuer's keys could not be had yet, so nobody can say.
    #[error("the keys of the token's issuer cannot be had")]
    Unavailable,
}

/// Tells good tokens from others.
pub struct Verifier {
    issuers: Vec<Issuer>,
    clock: Arc<dyn Clock>,
    /// Good tokens that came before, by their whole text: a signature takes 40 µs to check, as much as 50 readings. Their times
    /// are looked at again at every use, and all is when their issuer has other keys. It holds at most [`REMEMBERED`].
    remembered: Mutex<HashMap<Box<str>, Known>>,
}

/// Somebody whose tokens are believed.
struct Issuer {
    name: String,
    audience: String,
    /// What `typ` may be, in lower case and without `application/`.
    types: Vec<String>,
    scope_claim: String,
    devices_claim: String,
    lists: Lists,
    keys: Arc<Source>,
}

/// A token whose signature was right.
#[derive(Clone)]
struct Known {
    issuer: usize,
    generation: u64,
    times: Times,
    caller: Caller,
}

/// When a token is good, in seconds.
#[derive(Debug, Clone, Copy)]
struct Times {
    exp: f64,
    nbf: Option<f64>,
    /// From when on its key verifies nothing any more.
    key_until: Option<Timestamp>,
}

/// What is read of a token before its signature is checked, to know by whose keys.
#[derive(Deserialize)]
struct Unverified {
    iss: String,
}

/// Keys that never change.
struct Fixed(KeySet);

impl Fetch for Fixed {
    fn fetch(&self) -> anyhow::Result<Fetched> {
        Ok(Fetched { keys: self.0.clone(), again_in: Duration::from_secs(86_400) })
    }
}

impl Verifier {
    /// Takes tokens of the built-in issuer for `audience`, signed by one of `keys`, which stay the same.
    pub fn new(keys: Vec<VerifyingKey>, issuer: &str, audience: &str, clock: Arc<dyn Clock>) -> Self {
        let set = keys.iter().fold(KeySet::default(), |set, key| set.with(key, None));
        let source = Source::with(issuer, Box::new(Fixed(set.clone())), ring::PACE, set);
        Self { issuers: vec![Issuer::built_in(issuer, audience, source)], clock, remembered: Mutex::default() }
    }

    /// Takes tokens of the built-in issuer for `audience`, signed by a key of the ring, which may change.
    pub fn of_ring(ring: &Arc<Ring>, issuer: &str, audience: &str, clock: Arc<dyn Clock>) -> Self {
        let source = Source::with(issuer, Box::new(Arc::clone(ring)), ring::PACE, ring.keys());
        Self { issuers: vec![Issuer::built_in(issuer, audience, source)], clock, remembered: Mutex::default() }
    }

    /// Counts fetches of providers' keys that fail, where there are providers.
    pub fn measure(&self, registry: &mut Registry) {
        // The first issuer is the built-in one.
        let providers: Vec<Arc<Source>> = self.issuers.iter().skip(1).map(|issuer| Arc::clone(&issuer.keys)).collect();
        if providers.is_empty() {
            return;
        }
        let failures = registry.total("headwater_jwks_refresh_failures_total", "Fetches of the keys of OpenID providers that failed");
        registry.source(Duration::ZERO, move || {
            failures.set(providers.iter().map(|keys| keys.failures()).sum::<u64>() as f64);
            std::future::ready(())
        });
    }

    /// Takes tokens of an OpenID provider too. Its keys come with [`Self::keep_fresh`], or when a token asks for them.
    #[must_use]
    pub fn with(mut self, provider: Provider) -> Self {
        let config = provider.config().clone();
        self.issuers.push(Issuer {
            keys: Source::new(&config.issuer, Box::new(provider), provider::PACE),
            name: config.issuer,
            audience: config.audience,
            types: config.types.iter().map(|word| bare_type(word)).collect(),
            scope_claim: config.scope_claim,
            devices_claim: config.devices_claim,
            lists: Lists::Either,
        });
        self
    }

    /// Keeps all keys as new as where they come from, until `stop`.
    pub async fn keep_fresh(self: Arc<Self>, stop: CancellationToken) {
        let mut keeping: JoinSet<()> = self.issuers.iter().map(|issuer| Arc::clone(&issuer.keys).keep_fresh()).collect();
        tokio::select! {
            () = stop.cancelled() => {}
            _ = keeping.join_next() => {}
        }
    }

    /// Who calls with `token`. A key that is not there is looked for where the issuer's keys come from, rarely and for a short time.
    ///
    /// # Errors
    /// It is not good; see [`Refused`].
    pub async fn admit(&self, token: &str) -> Result<Caller, Refused> {
        let looked = self.look(token);
        let Err((Refused::UnknownKey | Refused::Unavailable, Some(at))) = &looked else {
            return looked.map_err(|(refused, _)| refused);
        };
        let keys = &self.issuers[at.issuer].keys;
        if !keys.look_again(at.generation).await {
            return looked.map_err(|(refused, _)| refused);
        }
        self.verify(token)
    }

    /// Who calls with `token`, by the keys at hand.
    ///
    /// # Errors
    /// It is not good; see [`Refused`].
    pub fn verify(&self, token: &str) -> Result<Caller, Refused> {
        self.look(token).map_err(|(refused, _)| refused)
    }

    /// [`Self::verify`], and where a key was looked for in vain.
    fn look(&self, token: &str) -> Result<Caller, (Refused, Option<Place>)> {
        if token.len() > LONGEST {
            return Err((Refused::TooLong, None));
        }
        let remembered = self.remembered().get(token).cloned();
        let known = match remembered {
            Some(known) if self.issuers[known.issuer].keys.current().1 == known.generation => known,
            _ => self.check(token)?,
        };
        in_time(known.times, self.clock.now()).map_err(|refused| (refused, None))?;
        Ok(known.caller)
    }

    /// Checks all but the times, and remembers what is good.
    fn check(&self, token: &str) -> Result<Known, (Refused, Option<Place>)> {
        let plain = |refused: Refused| (refused, None);
        let header = jsonwebtoken::decode_header(token).map_err(|error| plain(Refused::Malformed(error.to_string())))?;
        let name = claimed_issuer(token).ok_or_else(|| plain(Refused::Malformed("there is no iss".to_owned())))?;
        let at = self.issuers.iter().position(|issuer| issuer.name == name).ok_or_else(|| plain(Refused::UnknownIssuer))?;
        let issuer = &self.issuers[at];
        issuer.check_type(&header).map_err(plain)?;
        let (keys, generation) = issuer.keys.current();
        let Some(key) = header.kid.as_deref().and_then(|kid| keys.get(kid)) else {
            let refused = if generation == 0 { Refused::Unavailable } else { Refused::UnknownKey };
            return Err((refused, Some(Place { issuer: at, generation })));
        };
        let (times, caller) = issuer.read(token, key).map_err(plain)?;
        let known = Known { issuer: at, generation, times, caller };
        let mut remembered = self.remembered();
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(token.into(), known.clone());
        Ok(known)
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<Box<str>, Known>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose keys lacked one.
#[derive(Debug, Clone, Copy)]
struct Place {
    issuer: usize,
    generation: u64,
}

impl Issuer {
    fn built_in(name: &str, audience: &str, keys: Arc<Source>) -> Self {
        Self {
            name: name.to_owned(),
            audience: audience.to_owned(),
            types: vec![TYPE.to_owned()],
            scope_claim: "scope".to_owned(),
            devices_claim: "devices".to_owned(),
            lists: Lists::Strict,
            keys,
        }
    }

    fn check_type(&self, header: &Header) -> Result<(), Refused> {
        // RFC 7519: where nothing is said, it is a JWT.
        let typ = bare_type(header.typ.as_deref().unwrap_or("JWT"));
        if !self.types.contains(&typ) {
            return Err(Refused::Type("typ"));
        }
        if header.crit.is_some() {
            return Err(Refused::Type("crit"));
        }
        if header.enc.is_some() || header.zip.is_some() {
            return Err(Refused::Type("enc"));
        }
        Ok(())
    }

    /// What a token says, whose signature has to be this key's.
    fn read(&self, token: &str, key: &Key) -> Result<(Times, Caller), Refused> {
        let mut validation = Validation::new(key.algorithm);
        validation.set_issuer(&[&self.name]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
        // The library would ask the system for the time; `in_time` asks the clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let decoded = jsonwebtoken::decode::<Claims>(token, &key.decoding, &validation);
        self.said(&decoded.map_err(|error| Refused::Invalid(error.to_string()))?.claims, key).map_err(Refused::Invalid)
    }

    fn said(&self, claims: &Claims, key: &Key) -> Result<(Times, Caller), String> {
        claims.audience()?;
        claims.seconds("iat")?;
        let exp = claims.seconds("exp")?.ok_or("there is no exp")?;
        let times = Times { exp, nbf: claims.seconds("nbf")?, key_until: key.until };
        let caller = Caller {
            subject: claims.subject()?,
            scopes: claims.scopes(&self.scope_claim, self.lists)?,
            devices: claims.devices(&self.devices_claim, self.lists)?,
        };
        Ok((times, caller))
    }
}

/// A media type as it is compared.
fn bare_type(word: &str) -> String {
    let word = word.to_ascii_lowercase();
    word.strip_prefix("application/").map_or_else(|| word.clone(), str::to_owned)
}

/// Who a token says has issued it; nothing else is believed of it before its signature is.
fn claimed_issuer(token: &str) -> Option<String> {
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Unverified>(&payload).ok().map(|claims| claims.iss)
}

fn in_time(times: Times, now: Timestamp) -> Result<(), Refused> {
    #[expect(clippy::cast_precision_loss, reason = "microseconds of this age are exact in an f64 to far below the leeway")]
    let now_s = now.micros() as f64 / SECOND as f64;
    if times.key_until.is_some_and(|until| now >= until) {
        return Err(Refused::UnknownKey);
    }
    if now_s >= times.exp + LEEWAY_S {
        return Err(Refused::Expired);
    }
    match times.nbf {
        Some(nbf) if now_s < nbf - LEEWAY_S => Err(Refused::NotYet),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
