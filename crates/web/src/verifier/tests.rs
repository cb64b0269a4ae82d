//! Tokens that are taken and tokens that are refused.

use super::*;
use crate::access::{Scope, Scopes};
use crate::token::{Grant, SigningKey};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use headwater_core::clock::ManualClock;
use headwater_core::glob::DevicePatterns;
use serde_json::{Value, json};

const NOW_S: i64 = 1_763_910_000;

/// An issuer whose hands are free: it signs whatever it is told to.
struct Forge {
    pair: Ed25519KeyPair,
    id: String,
    clock: Arc<ManualClock>,
    verifier: Verifier,
}

fn forge() -> Forge {
    let pair = Ed25519KeyPair::generate().unwrap();
    let pem = pem::encode(&pem::Pem::new("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref()));
    let key = SigningKey::from_pem(&pem).unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp(NOW_S * SECOND)));
    let verifier = Verifier::new(vec![key.verifying_key()], "headwater", "headwater", Arc::<ManualClock>::clone(&clock));
    Forge { pair, id: key.id().to_owned(), clock, verifier }
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Forge {
    fn header(&self) -> Value {
        json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": self.id })
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", b64(header), b64(claims));
        let signature = self.pair.sign(message.as_bytes());
        format!("{message}.{}", b64(signature.as_ref()))
    }

    fn with_claims(&self, change: impl FnOnce(&mut Value)) -> Result<Caller, Refused> {
        let mut claims = claims();
        change(&mut claims);
        self.verifier.verify(&self.sign(&self.header().to_string(), &claims.to_string()))
    }

    fn with_header(&self, change: impl FnOnce(&mut Value)) -> Result<Caller, Refused> {
        let mut header = self.header();
        change(&mut header);
        self.verifier.verify(&self.sign(&header.to_string(), &claims().to_string()))
    }
}

fn claims() -> Value {
    json!({
        "iss": "headwater", "aud": "headwater", "exp": NOW_S + 60, "iat": NOW_S, "jti": "1", "sub": "tester", "client_id": "tester",
        "scope": "read:stats",
    })
}

#[test]
fn what_is_signed_is_what_is_verified() {
    let forge = forge();
    let pem = pem::encode(&pem::Pem::new("PRIVATE KEY", forge.pair.to_pkcs8v1().unwrap().as_ref()));
    let grant = Grant {
        issuer: "headwater".to_owned(),
        audience: "headwater".to_owned(),
        subject: "press-7".to_owned(),
        scopes: Scopes::parse("write:readings read:stats").unwrap(),
        devices: Some(vec!["plant-a/*".to_owned()]),
        ttl: Duration::from_secs(60),
    };
    let token = SigningKey::from_pem(&pem).unwrap().sign(&grant, forge.clock.now()).unwrap();
    let caller = forge.verifier.verify(&token).unwrap();
    assert_eq!((caller.subject.as_str(), caller.scopes), ("press-7", grant.scopes));
    assert!(caller.devices.allow("plant-a/x") && !caller.devices.allow("plant-b/x"));

    let [header, claims, _] =
        token.split('.').map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap_or_default()).collect::<Vec<_>>().try_into().unwrap();
    let (header, claims): (Value, Value) = (serde_json::from_slice(&header).unwrap(), serde_json::from_slice(&claims).unwrap());
    assert_eq!((&header["typ"], &header["alg"], &header["kid"]), (&json!("at+jwt"), &json!("EdDSA"), &json!(forge.id)));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
    for claim in ["iss", "aud", "jti", "sub", "client_id", "scope"] {
        assert!(claims[claim].is_string(), "{claim}");
    }
}

#[test]
fn a_token_too_long_to_be_taken_is_not_signed() {
    let forge = forge();
    let pem = pem::encode(&pem::Pem::new("PRIVATE KEY", forge.pair.to_pkcs8v1().unwrap().as_ref()));
    let grant = Grant {
        issuer: "headwater".to_owned(),
        audience: "headwater".to_owned(),
        subject: "many".to_owned(),
        scopes: Scope::Admin.into(),
        devices: Some((0..1000).map(|n| format!("plant-{n}/*")).collect()),
        ttl: Duration::from_secs(60),
    };
    let error = SigningKey::from_pem(&pem).unwrap().sign(&grant, forge.clock.now()).unwrap_err();
    assert!(error.to_string().contains("device patterns"), "{error}");
}

#[test]
fn a_good_token_is_good_in_every_form_that_the_rfc_allows() {
    let forge = forge();
    assert!(forge.with_header(|header| header["typ"] = json!("application/AT+JWT")).is_ok());
    assert!(forge.with_claims(|claims| claims["aud"] = json!(["other", "headwater"])).is_ok());
    assert!(forge.with_claims(|claims| claims["exp"] = json!(NOW_S as f64 + 0.5)).is_ok());
    assert!(forge.with_claims(|claims| claims["nbf"] = json!(NOW_S)).is_ok());
    // Another server's scopes and claims are nothing to us.
    let caller = forge.with_claims(|claims| {
        claims["scope"] = json!("openid read:stats write:everything");
        claims["roles"] = json!({ "admin": true });
    });
    assert_eq!(caller.unwrap().scopes, Scopes::from(Scope::ReadStats));
    let caller = forge.with_claims(|claims| drop(claims.as_object_mut().unwrap().remove("scope")));
    assert!(caller.unwrap().scopes.is_empty());
}

#[test]
fn the_time_is_the_clocks_with_half_a_minute_of_leeway() {
    let forge = forge();
    let at = |second: i64| forge.clock.set(Timestamp((NOW_S + second) * SECOND));
    let expiring = |exp: i64| forge.with_claims(|claims| claims["exp"] = json!(NOW_S + exp));
    assert!(expiring(-29).is_ok());
    assert_eq!(expiring(-30), Err(Refused::Expired));
    assert_eq!(forge.with_claims(|claims| claims["nbf"] = json!(NOW_S + 31)), Err(Refused::NotYet));
    assert!(forge.with_claims(|claims| claims["nbf"] = json!(NOW_S + 30)).is_ok());
    at(1_000_000_000);
    assert_eq!(expiring(60), Err(Refused::Expired));
    at(-1_000_000_000);
    assert!(expiring(60).is_ok(), "the machine's clock does not count");
}

#[test]
fn a_wrong_claim_refuses_the_token() {
    let forge = forge();
    assert!(forge.with_claims(|_| {}).is_ok());
    let wrong = [
        ("exp", vec![json!(null), json!("9999999999"), json!(true), json!([NOW_S + 60]), json!({}), json!(0), json!(-1)]),
        ("nbf", vec![json!(null), json!("0"), json!(false), json!([]), json!(1e300)]),
        ("iat", vec![json!("0"), json!(null)]),
        ("iss", vec![json!("headwaters"), json!(["headwater"]), json!(null), json!(1), json!("")]),
        ("aud", vec![json!("other"), json!([]), json!(["other"]), json!(null), json!({ "headwater": 1 }), json!([1])]),
        ("sub", vec![json!(null), json!(1), json!({})]),
        ("scope", vec![json!(["read:stats"]), json!(null), json!(1)]),
        ("devices", vec![json!(null), json!("*"), json!([1]), json!({}), json!([["*"]]), json!(["a", null])]),
    ];
    for (claim, values) in wrong {
        for value in values {
            let refused = forge.with_claims(|claims| claims[claim] = value.clone());
            assert!(refused.is_err(), "{claim} = {value}");
        }
    }
    for claim in ["exp", "iss", "aud", "sub"] {
        let refused = forge.with_claims(|claims| drop(claims.as_object_mut().unwrap().remove(claim)));
        assert!(refused.is_err(), "without {claim}");
    }
}

#[test]
fn an_empty_list_of_devices_is_no_device_and_never_all() {
    let caller = forge().with_claims(|claims| claims["devices"] = json!([])).unwrap();
    assert_eq!(caller.devices, DevicePatterns::Some(vec![]));
}

#[test]
fn a_claim_or_header_that_is_there_twice_refuses_the_token() {
    let forge = forge();
    let twice = claims().to_string().replacen('{', r#"{"devices":["a"],"devices":["*"],"#, 1);
    assert!(forge.verifier.verify(&forge.sign(&forge.header().to_string(), &twice)).is_err());
    let twice = claims().to_string().replacen('{', r#"{"exp":9999999999,"#, 1);
    assert!(forge.verifier.verify(&forge.sign(&forge.header().to_string(), &twice)).is_err());
    let twice = forge.header().to_string().replacen('{', r#"{"alg":"none","#, 1);
    assert!(forge.verifier.verify(&forge.sign(&twice, &claims().to_string())).is_err());
}

#[test]
fn a_wrong_header_refuses_the_token() {
    let forge = forge();
    let wrong = [
        ("typ", vec![json!("JWT"), json!(null), json!(""), json!("at+jwt; x"), json!(1)]),
        ("alg", vec![json!("none"), json!("None"), json!("HS256"), json!("ES256"), json!(""), json!(null), json!(["EdDSA"])]),
        ("crit", vec![json!(["exp"]), json!([]), json!("x")]),
        ("zip", vec![json!("DEF")]),
        ("enc", vec![json!("A128GCM")]),
        (
            "kid",
            vec![
                json!("../../etc/passwd"),
                json!("' OR 1=1 --"),
                json!("http://127.0.0.1/key"),
                json!(""),
                json!(null),
                json!(0),
                json!(format!("{} ", forge.id)),
            ],
        ),
    ];
    for (name, values) in wrong {
        for value in values {
            let refused = forge.with_header(|header| header[name] = value.clone());
            assert!(refused.is_err(), "{name} = {value}");
        }
    }
    assert!(forge.with_header(|header| drop(header.as_object_mut().unwrap().remove("kid"))).is_err());
}

#[test]
fn keys_and_addresses_inside_a_token_are_not_looked_at() {
    let (ours, theirs) = (forge(), forge());
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(theirs.pair.public_key()), "kid": ours.id });
    for (name, value) in [("jwk", jwk), ("jku", json!("http://127.0.0.1:1/jwks")), ("x5u", json!("file:///etc/passwd"))] {
        let mut header = ours.header();
        header[name] = value;
        let forged = theirs.sign(&header.to_string(), &claims().to_string());
        assert!(matches!(ours.verifier.verify(&forged), Err(Refused::Invalid(_))), "{name}");
        assert!(ours.verifier.verify(&ours.sign(&header.to_string(), &claims().to_string())).is_ok(), "{name} is ignored");
    }
}

#[test]
fn a_signature_that_is_not_the_keys_refuses_the_token() {
    let (ours, theirs) = (forge(), forge());
    let good = ours.sign(&ours.header().to_string(), &claims().to_string());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let mut raw = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    raw[5] ^= 1;
    let longer = claims().to_string().replace("read:stats", "admin");
    let forgeries = [
        format!("{message}."),
        message.to_owned(),
        format!("{message}.{}", b64(&raw)),
        format!("{message}.{}", b64([0u8; 64])),
        format!("{message}.{}", &signature[..40]),
        format!("{good}.{signature}"),
        format!("{}.{}.{signature}", b64(ours.header().to_string()), b64(longer)),
        theirs.sign(&ours.header().to_string(), &claims().to_string()),
        theirs.sign(&theirs.header().to_string(), &claims().to_string()),
    ];
    assert!(ours.verifier.verify(&good).is_ok());
    for forgery in forgeries {
        assert!(ours.verifier.verify(&forgery).is_err(), "{forgery}");
    }
}

#[test]
fn the_public_key_is_no_hmac_secret() {
    let forge = forge();
    let raw = forge.pair.public_key().as_ref().to_vec();
    let spki: PublicKeyX509Der<'_> = forge.pair.public_key().as_der().unwrap();
    let pem = pem::encode(&pem::Pem::new("PUBLIC KEY", spki.as_ref()));
    for secret in [raw, spki.as_ref().to_vec(), pem.into_bytes()] {
        let header = json!({ "typ": "at+jwt", "alg": "HS256", "kid": forge.id });
        let message = format!("{}.{}", b64(header.to_string()), b64(claims().to_string()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
        assert!(forge.verifier.verify(&format!("{message}.{}", b64(tag.as_ref()))).is_err());
    }
}

#[test]
fn an_unsigned_token_is_refused() {
    let forge = forge();
    for alg in ["none", "NONE", "nOnE"] {
        let header = json!({ "typ": "at+jwt", "alg": alg, "kid": forge.id });
        let message = format!("{}.{}", b64(header.to_string()), b64(claims().to_string()));
        assert!(forge.verifier.verify(&format!("{message}.")).is_err(), "{alg}");
    }
}

#[test]
fn what_is_no_token_is_refused_without_a_panic() {
    let forge = forge();
    let good = forge.sign(&forge.header().to_string(), &claims().to_string());
    let deep = format!("{}.{}.AA", b64("[".repeat(5000)), b64("{}"));
    for text in
        ["", ".", "..", "...", "a", "é.é.é", "null.null.null", "eyJ.eyJ.eyJ", deep.as_str(), &format!(" {good}"), &format!("{good}\n")]
    {
        assert!(forge.verifier.verify(text).is_err(), "{text:?}");
    }
    assert_eq!(forge.verifier.verify(&"a".repeat(LONGEST + 1)), Err(Refused::TooLong));
    let huge = forge.with_claims(|claims| claims["devices"] = json!(vec!["plant/*"; 2000]));
    assert_eq!(huge, Err(Refused::TooLong));
}

#[test]
fn a_remembered_token_still_expires_and_a_changed_one_is_not_remembered() {
    let forge = forge();
    let token = forge.sign(&forge.header().to_string(), &claims().to_string());
    assert!(forge.verifier.verify(&token).is_ok() && forge.verifier.verify(&token).is_ok());
    assert_eq!(forge.verifier.remembered().len(), 1);
    let mut changed = token.clone().into_bytes();
    // Another signature, the same claims.
    let last = changed.len() - 2;
    changed[last] = if changed[last] == b'A' { b'B' } else { b'A' };
    assert!(forge.verifier.verify(std::str::from_utf8(&changed).unwrap()).is_err());
    forge.clock.set(Timestamp((NOW_S + 91) * SECOND));
    assert!(matches!(forge.verifier.verify(&token), Err(Refused::Expired)));
}

#[test]
fn no_more_tokens_are_remembered_than_the_limit() {
    let forge = forge();
    for n in 0..REMEMBERED + 10 {
        assert!(forge.with_claims(|claims| claims["jti"] = json!(n.to_string())).is_ok());
    }
    assert!(forge.verifier.remembered().len() <= REMEMBERED);
    assert!(forge.with_claims(|claims| claims["aud"] = json!("other")).is_err());
}
