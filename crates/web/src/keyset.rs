//! The keys of one issuer, by id.
//!
//! Owns: [`KeySet`], and which keys of a JWK set are of use. Does not know: where a set comes from, tokens.
//! Invariants, after RFC 8725: a key is good for one algorithm, which follows from what the key is, never from a token; a key that
//! says it is for something else, is symmetric, or has no id is left out, and does not spoil the others.

use crate::key::VerifyingKey;
use headwater_core::time::Timestamp;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;

/// More keys than any issuer has at a time.
const MOST_KEYS: usize = 64;
/// Ids are compared and never interpreted; a longer one is nobody's.
const LONGEST_ID: usize = 512;

/// A key and what it is good for.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) decoding: DecodingKey,
    pub(crate) algorithm: Algorithm,
    /// From when on it verifies nothing any more.
    pub(crate) until: Option<Timestamp>,
    /// Tells one key from another that took over its id.
    thumbprint: String,
}

/// Keys by id.
#[derive(Clone, Default)]
pub(crate) struct KeySet(HashMap<String, Key>);

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// The keys of a JWK set that can verify signatures by one of `algorithms`.
    ///
    /// # Errors
    /// It is no JWK set.
    pub(crate) fn of_jwks(text: &[u8], algorithms: &[Algorithm]) -> serde_json::Result<Self> {
        let document: Document = serde_json::from_slice(text)?;
        let keys = document.keys.into_iter().take(MOST_KEYS).filter_map(|key| usable(serde_json::from_value(key).ok()?, algorithms));
        // Of two with one id the first counts: an id that means two keys means none for sure.
        let mut set = Self::default();
        for (id, key) in keys {
            set.0.entry(id).or_insert(key);
        }
        Ok(set)
    }

    /// With a key of ours.
    #[must_use]
    pub(crate) fn with(mut self, key: &VerifyingKey, until: Option<Timestamp>) -> Self {
        let (id, decoding) = (key.id.clone(), key.decoding.clone());
        self.0.insert(id.clone(), Key { decoding, algorithm: Algorithm::EdDSA, until, thumbprint: id });
        self
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Key> {
        self.0.get(id)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both hold the same keys for the same time.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let has = |(id, key): (&String, &Key)| other.get(id).is_some_and(|o| (&o.thumbprint, o.until) == (&key.thumbprint, key.until));
        self.len() == other.len() && self.0.iter().all(has)
    }
}

fn usable(jwk: Jwk, algorithms: &[Algorithm]) -> Option<(String, Key)> {
    let common = &jwk.common;
    let id = common.key_id.clone().filter(|id| (1..=LONGEST_ID).contains(&id.len()))?;
    let for_signatures = common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    let verifies = common.key_operations.as_ref().is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return None,
    };
    let says_so = common.key_algorithm.is_none_or(|said| said.to_string() == format!("{algorithm:?}"));
    if !for_signatures || !verifies || !says_so || !algorithms.contains(&algorithm) {
        return None;
    }
    let thumbprint = jwk.thumbprint(ThumbprintHash::SHA256).ok()?;
    Some((id, Key { decoding: DecodingKey::from_jwk(&jwk).ok()?, algorithm, until: None, thumbprint }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ALL: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

    fn rsa(changes: Value) -> Value {
        let mut key = json!({ "kty": "RSA", "kid": "r", "n": "AQAB".repeat(86), "e": "AQAB" });
        changes.as_object().unwrap().iter().for_each(|(name, value)| key[name] = value.clone());
        key
    }

    fn ids(keys: Value, algorithms: &[Algorithm]) -> Vec<String> {
        let set = KeySet::of_jwks(json!({ "keys": keys }).to_string().as_bytes(), algorithms).unwrap();
        let mut ids: Vec<String> = set.0.into_keys().collect();
        ids.sort();
        ids
    }

    #[test]
    fn keys_of_the_three_kinds_are_of_use_and_no_other() {
        let ed = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "e", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "alg": "EdDSA" });
        let p256 = json!({ "kty": "EC", "crv": "P-256", "kid": "p",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" });
        let others = [
            json!({ "kty": "oct", "kid": "o", "k": "c2VjcmV0", "alg": "HS256" }),
            json!({ "kty": "EC", "crv": "P-384", "kid": "q", "x": "AA", "y": "AA" }),
            json!({ "kty": "of tomorrow", "kid": "t" }),
            json!("no key"),
            rsa(json!({ "kid": "enc", "use": "enc" })),
            rsa(json!({ "kid": "ops", "key_ops": ["sign"] })),
            rsa(json!({ "kid": "ps", "alg": "PS256" })),
            rsa(json!({ "kid": "hs", "alg": "HS256" })),
            rsa(json!({ "kid": "" })),
            rsa(json!({ "kid": null })),
            rsa(json!({ "kid": "n", "n": "not base64!" })),
        ];
        let good = [rsa(json!({ "use": "sig", "key_ops": ["verify"], "alg": "RS256" })), p256, ed];
        let all = Value::from_iter(good.iter().chain(&others).cloned());
        assert_eq!(ids(all.clone(), &ALL), ["e", "p", "r"]);
        assert_eq!(ids(all.clone(), &[Algorithm::ES256]), ["p"]);
        assert_eq!(ids(all, &[]), Vec::<String>::new());
    }

    #[test]
    fn sets_are_told_apart_by_what_their_keys_are() {
        let set = |keys: Value| KeySet::of_jwks(json!({ "keys": keys }).to_string().as_bytes(), &ALL).unwrap();
        let (one, other) = (set(json!([rsa(json!({}))])), set(json!([rsa(json!({ "n": "AQAC".repeat(86) }))])));
        assert!(one.same(&one) && !one.same(&other) && !one.same(&KeySet::default()) && !KeySet::default().same(&one));
        assert!(set(json!([rsa(json!({})), rsa(json!({ "n": "AQAC".repeat(86) }))])).same(&one), "the first of an id counts");
    }

    #[test]
    fn what_is_no_set_is_refused_and_a_huge_one_is_cut() {
        for text in ["", "[]", "{}", "{\"keys\": 1}", "<html>"] {
            assert!(KeySet::of_jwks(text.as_bytes(), &ALL).is_err(), "{text}");
        }
        let many = Value::from_iter((0..1000).map(|n| rsa(json!({ "kid": n.to_string() }))));
        assert_eq!(ids(many, &ALL).len(), MOST_KEYS);
    }
}
