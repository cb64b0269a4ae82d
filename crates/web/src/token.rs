//! Tokens of the built-in issuer: JWTs after RFC 9068, signed with EdDSA.
//!
//! Owns: [`Grant`] and signing. Does not know: what makes a token good ([`Verifier`] does), who may have one.

pub use crate::key::{SigningKey, VerifyingKey};
pub use crate::verifier::{Refused, Verifier};

use crate::access::Scopes;
use anyhow::{Context, Result};
use headwater_core::time::{SECOND, Timestamp};
use jsonwebtoken::{Algorithm, Header};
use serde::Serialize;
use std::time::Duration;

/// The type of a token, RFC 9068 §2.1.
pub(crate) const TYPE: &str = "at+jwt";
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
