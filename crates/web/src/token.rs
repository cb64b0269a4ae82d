//! Tokens of the built-in issuer: JWTs after RFC 9068, signed with EdDSA.
//!
//! Owns: [`Grant`], signing, and [`Verifier`]. Does not know: how a token travels ([`crate::app`]'s gate does), which scope a
//! route needs.
//! Invariants, after RFC 8725: the algorithm comes from here and never from the token; `kid` only looks up a key in memory, and
//! keys or addresses inside a token are ignored; a claim of a wrong type refuses the token, it is never taken as absent; the
//! time is the [`Clock`]'s; why a token was refused is never told to whoever sent it.

pub use crate::key::{SigningKey, VerifyingKey};

use crate::access::Scopes;
use crate::caller::Caller;
use anyhow::{Context, Result};
use headwater_core::clock::Clock;
use headwater_core::glob::{DevicePatterns, Glob};
use headwater_core::time::{SECOND, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The type of a token, RFC 9068 §2.1.
const TYPE: &str = "at+jwt";
/// How far clocks may differ.
const LEEWAY_S: f64 = 30.0;
/// The longest token that is looked at; ours are below 1 KiB, many device patterns included below 8.
pub const LONGEST: usize = 8 * 1024;

/// What a token shall say.
#[derive(Debug, Clone)]
pub struct Grant {
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
    /// `sub`, and `client_id` with it.
    pub subject: String,
    /// `scope`.
    pub scopes: Scopes,
    /// `devices`: the patterns it is narrowed to, if it is.
    pub devices: Option<Vec<String>>,
    /// How long it is good for.
    pub ttl: Duration,
}

#[derive(Serialize)]
struct Issued<'a> {
    iss: &'a str,
    aud: &'a str,
    exp: i64,
    iat: i64,
    jti: String,
    sub: &'a str,
    client_id: &'a str,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    devices: Option<&'a [String]>,
}

impl SigningKey {
    /// The token that says `grant`, good from `now` on.
    ///
    /// # Errors
    /// The token would be longer than a [`Verifier`] takes (too many device patterns), or cannot be signed.
    pub fn sign(&self, grant: &Grant, now: Timestamp) -> Result<String> {
        let iat = now.micros().div_euclid(SECOND);
        let claims = Issued {
            iss: &grant.issuer,
            aud: &grant.audience,
            exp: iat.saturating_add(i64::try_from(grant.ttl.as_secs()).unwrap_or(i64::MAX)),
            iat,
            jti: uuid::Uuid::new_v4().to_string(),
            sub: &grant.subject,
            client_id: &grant.subject,
            scope: grant.scopes.to_string(),
            devices: grant.devices.as_deref(),
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(self.id().to_owned());
        let token = jsonwebtoken::encode(&header, &claims, &self.encoding).context("sign a token")?;
        anyhow::ensure!(
            token.len() <= LONGEST,
            "the token would have {} bytes, at most {LONGEST} are taken; give it fewer or shorter device patterns",
            token.len()
        );
        Ok(token)
    }
}

/// Why a token is not good. For the log: whoever sent it is told the same in every case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Longer than [`LONGEST`].
    #[error("the token is too long")]
    TooLong,
    /// It does not parse, or a claim or header has a wrong type or is there twice.
    #[error("the token is malformed: {0}")]
    Malformed(String),
    /// `typ` is another, or the header asks for what we do not do.
    #[error("the token is of another type: {0}")]
    Type(&'static str),
    /// `kid` names none of our keys.
    #[error("the token's key is not known")]
    UnknownKey,
    /// The signature is not that key's, the algorithm is another, or issuer or audience are not ours.
    #[error("the token does not verify: {0}")]
    Invalid(String),
    /// Past `exp`.
    #[error("the token has expired")]
    Expired,
    /// Before `nbf`.
    #[error("the token is not valid yet")]
    NotYet,
}

/// The claims that are looked at. Serde refuses wrong types and repeated members.
#[derive(Deserialize)]
struct Claims {
    #[expect(dead_code, reason = "compared by the library; here for its type and presence")]
    iss: String,
    #[expect(dead_code, reason = "compared by the library; here for its type and presence")]
    aud: Audience,
    exp: f64,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    #[expect(dead_code, reason = "here for its type")]
    iat: Option<f64>,
    sub: String,
    #[serde(default)]
    scope: String,
    #[serde(default, deserialize_with = "present")]
    devices: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "compared by the library; here for its type")]
enum Audience {
    One(String),
    Some(Vec<String>),
}

/// An optional claim that is there: null is a wrong type, not an absent claim.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Tells good tokens from others.
pub struct Verifier {
    keys: HashMap<String, DecodingKey>,
    validation: Validation,
    clock: Arc<dyn Clock>,
    /// Good tokens that came before, by their whole text: a signature takes 40 µs to check, as much as 50 readings. Their times
    /// are looked at again at every use. It holds at most [`REMEMBERED`].
    remembered: Mutex<HashMap<Box<str>, Known>>,
}

/// How many good tokens are remembered; with one more, all are forgotten and checked anew.
const REMEMBERED: usize = 1_024;

/// A token whose signature was right.
#[derive(Clone)]
struct Known {
    times: Times,
    caller: Caller,
}

/// When a token is good, in seconds.
#[derive(Debug, Clone, Copy)]
struct Times {
    exp: f64,
    nbf: Option<f64>,
}

impl Verifier {
    /// Takes tokens of `issuer` for `audience` signed by one of `keys`.
    pub fn new(keys: Vec<VerifyingKey>, issuer: &str, audience: &str, clock: Arc<dyn Clock>) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
        // The library would ask the system for the time; `in_time` asks the clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Self { keys: keys.into_iter().map(|key| (key.id, key.decoding)).collect(), validation, clock, remembered: Mutex::default() }
    }

    /// Who calls with `token`.
    ///
    /// # Errors
    /// It is not good; see [`Refused`].
    pub fn verify(&self, token: &str) -> Result<Caller, Refused> {
        if token.len() > LONGEST {
            return Err(Refused::TooLong);
        }
        let remembered = self.remembered().get(token).cloned();
        let known = match remembered {
            Some(known) => known,
            None => self.check(token)?,
        };
        in_time(known.times, self.clock.now())?;
        Ok(known.caller)
    }

    /// Checks all but the times, and remembers what is good.
    fn check(&self, token: &str) -> Result<Known, Refused> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| Refused::Malformed(error.to_string()))?;
        check_type(&header)?;
        let key = header.kid.as_deref().and_then(|kid| self.keys.get(kid)).ok_or(Refused::UnknownKey)?;
        let claims =
            jsonwebtoken::decode::<Claims>(token, key, &self.validation).map_err(|error| Refused::Invalid(error.to_string()))?.claims;
        let caller = Caller {
            subject: claims.sub,
            scopes: Scopes::of_claim(&claims.scope),
            devices: match claims.devices {
                None => DevicePatterns::All,
                Some(patterns) => DevicePatterns::Some(patterns.into_iter().map(Glob::new).collect()),
            },
        };
        let known = Known { times: Times { exp: claims.exp, nbf: claims.nbf }, caller };
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

fn check_type(header: &Header) -> Result<(), Refused> {
    let typ = header.typ.as_deref().unwrap_or_default();
    if !typ.eq_ignore_ascii_case(TYPE) && !typ.eq_ignore_ascii_case("application/at+jwt") {
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

fn in_time(times: Times, now: Timestamp) -> Result<(), Refused> {
    #[expect(clippy::cast_precision_loss, reason = "microseconds of this age are exact in an f64 to far below the leeway")]
    let now_s = now.micros() as f64 / SECOND as f64;
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
