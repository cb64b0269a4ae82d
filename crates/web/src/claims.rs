//! The claims of a token, whoever issued it, and which of them say what.
//!
//! Owns: [`Claims`] and the strict reading of each. Does not know: keys, signatures; they are checked before.
//! Invariants: a claim of a wrong type refuses the token, it is never taken as absent; a claim that is there twice does too.

use crate::access::Scopes;
use headwater_core::glob::{DevicePatterns, Glob};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// All claims, each once.
pub(crate) struct Claims(BTreeMap<String, Value>);

/// The form in which an issuer writes its lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lists {
    /// As RFC 9068 has it: scopes as words in one string, devices as a list.
    Strict,
    /// A string or a list, as other issuers write either.
    Either,
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;
        impl<'de> Visitor<'de> for Unique {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of claims")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
                let mut claims = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if claims.insert(name, value).is_some() {
                        return Err(A::Error::custom("a claim is there twice"));
                    }
                }
                Ok(Claims(claims))
            }
        }
        deserializer.deserialize_map(Unique)
    }
}

impl Claims {
    /// `sub`.
    pub(crate) fn subject(&self) -> Result<String, String> {
        match self.0.get("sub") {
            Some(Value::String(subject)) => Ok(subject.clone()),
            _ => Err("sub is no text".to_owned()),
        }
    }

    /// A number of seconds; null is a wrong type, not an absent claim.
    pub(crate) fn seconds(&self, name: &str) -> Result<Option<f64>, String> {
        match self.0.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| format!("{name} is no number")),
        }
    }

    /// Whether `aud` has a form that it may have; the library compares it.
    pub(crate) fn audience(&self) -> Result<(), String> {
        self.texts("aud", Lists::Either).and_then(|found| found.map(drop).ok_or_else(|| "there is no aud".to_owned()))
    }

    /// The scopes that a claim allows; words that are none of ours allow nothing.
    pub(crate) fn scopes(&self, name: &str, lists: Lists) -> Result<Scopes, String> {
        match (self.0.get(name), lists) {
            (None, _) => Ok(Scopes::NONE),
            (Some(Value::String(words)), _) => Ok(Scopes::of_claim(words)),
            (Some(Value::Array(_)), Lists::Either) => Ok(Scopes::of_claim(&self.texts(name, lists)?.unwrap_or_default().join(" "))),
            _ => Err(format!("{name} is no text")),
        }
    }

    /// The devices that a claim narrows the token to; without it, to none in particular.
    pub(crate) fn devices(&self, name: &str, lists: Lists) -> Result<DevicePatterns, String> {
        Ok(match self.texts(name, lists)? {
            None => DevicePatterns::All,
            Some(patterns) => DevicePatterns::Some(patterns.into_iter().map(Glob::new).collect()),
        })
    }

    /// A list of texts.
    fn texts(&self, name: &str, lists: Lists) -> Result<Option<Vec<&str>>, String> {
        let wrong = || format!("{name} is no list of texts");
        match (self.0.get(name), lists) {
            (None, _) => Ok(None),
            (Some(Value::String(one)), Lists::Either) => Ok(Some(vec![one])),
            (Some(Value::Array(items)), _) => items.iter().map(|item| item.as_str().ok_or_else(wrong)).collect::<Result<_, _>>().map(Some),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Scope;

    fn claims(text: &str) -> Claims {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn lists_are_read_in_the_form_that_an_issuer_may_use() {
        let claims = claims(r#"{"scp": ["read:stats", "openid"], "scope": "read:stats openid", "one": "plant-a/*", "none": []}"#);
        let stats = Scopes::from(Scope::ReadStats);
        assert_eq!(claims.scopes("scp", Lists::Either), Ok(stats));
        assert_eq!(claims.scopes("scope", Lists::Either), Ok(stats));
        assert_eq!(claims.scopes("scope", Lists::Strict), Ok(stats));
        assert_eq!(claims.scopes("absent", Lists::Either), Ok(Scopes::NONE));
        assert!(claims.scopes("scp", Lists::Strict).is_err());
        assert_eq!(claims.devices("one", Lists::Either), Ok(DevicePatterns::Some(vec![Glob::new("plant-a/*")])));
        assert!(claims.devices("one", Lists::Strict).is_err());
        assert_eq!(claims.devices("none", Lists::Either), Ok(DevicePatterns::Some(vec![])), "no device and never all");
        assert_eq!(claims.devices("absent", Lists::Either), Ok(DevicePatterns::All));
    }

    #[test]
    fn a_wrong_type_is_no_absence_in_either_form() {
        let claims = claims(r#"{"null": null, "number": 1, "object": {}, "mixed": ["a", 1], "text": "1"}"#);
        for name in ["null", "number", "object", "mixed"] {
            for lists in [Lists::Strict, Lists::Either] {
                assert!(claims.scopes(name, lists).is_err() && claims.devices(name, lists).is_err(), "{name}");
            }
        }
        assert!(claims.seconds("null").is_err() && claims.seconds("text").is_err());
        assert_eq!((claims.seconds("number"), claims.seconds("absent")), (Ok(Some(1.0)), Ok(None)));
        assert!(claims.subject().is_err() && claims.audience().is_err());
    }

    #[test]
    fn a_claim_that_is_there_twice_refuses_the_token() {
        assert!(serde_json::from_str::<Claims>(r#"{"roles": 1, "roles": 2}"#).is_err());
        assert!(serde_json::from_str::<Claims>("[]").is_err());
    }
}
