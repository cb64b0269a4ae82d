//! Tokens: who gets in, where to, and for which devices (reliability rows 48 to 51).
//!
//! Tokens are forged here with the server's own key and without its code, so that each differs from a good one in one thing.

use crate::client::{Ask, target};
use crate::main_job::counts;
use crate::oracle::{MONDAY, Reading, as_json, rfc3339};
use crate::stack::Stack;
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use headwater_core::clock::{Clock, SystemClock};
use headwater_web::access::{Access, ROUTES, Route, Scope};
use serde_json::{Value, json};

/// The server's signing key in other hands.
struct Forge {
    pair: Ed25519KeyPair,
    header: Value,
    claims: Value,
}

impl Forge {
    fn of(stack: &Stack) -> Self {
        let pem = std::fs::read_to_string(stack.data.join("token-key.pem")).unwrap();
        let der = BASE64_STANDARD.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap();
        let part = |n| serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(stack.token.split('.').nth(n).unwrap()).unwrap()).unwrap();
        Self { pair: Ed25519KeyPair::from_pkcs8(&der).unwrap(), header: part(0), claims: part(1) }
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(message.as_bytes());
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// A good token but for one claim; null takes the claim away.
    fn with_claim(&self, name: &str, value: Value) -> String {
        self.sign(&self.header.to_string(), &changed(&self.claims, name, value).to_string())
    }

    /// A good token but for one member of its header; null takes it away.
    fn with_header(&self, name: &str, value: Value) -> String {
        self.sign(&changed(&self.header, name, value).to_string(), &self.claims.to_string())
    }
}

fn changed(object: &Value, name: &str, value: Value) -> Value {
    let mut object = object.clone();
    let members = object.as_object_mut().unwrap();
    if value.is_null() {
        members.remove(name)
    } else {
        members.insert(name.to_owned(), value)
    };
    object
}

fn now() -> i64 {
    SystemClock.now().micros() / 1_000_000
}

#[test]
fn a_token_that_is_good_gets_in() {
    let stack = Stack::embedded();
    let forge = Forge::of(&stack);
    assert_eq!((&forge.header["typ"], &forge.header["alg"]), (&json!("at+jwt"), &json!("EdDSA")));
    for claim in ["iss", "aud", "jti", "sub", "scope"] {
        assert!(forge.claims[claim].is_string(), "{claim} in {}", forge.claims);
    }
    let good = [
        forge.sign(&forge.header.to_string(), &forge.claims.to_string()),
        forge.with_claim("exp", json!(now() - 10)),
        forge.with_claim("nbf", json!(now() + 10)),
        forge.with_claim("aud", json!(["another", "headwater"])),
        forge.with_header("jku", json!("http://127.0.0.1:1/keys")),
    ];
    for token in good {
        stack.ask(&Ask::new("GET", "/v1/status").token(&token)).ok();
    }
}

/// Every way of being wrong that is known.
fn bad_tokens(forge: &Forge, good: &str) -> Vec<(String, String)> {
    let claims: [(&str, Vec<Value>); 7] = [
        ("exp", vec![json!(now() - 40), json!(0), json!("9999999999"), json!([9_999_999_999_u64]), json!(true), Value::Null]),
        ("nbf", vec![json!(now() + 60), json!("0"), json!({})]),
        ("iss", vec![json!("another"), json!(["headwater"]), Value::Null]),
        ("aud", vec![json!("another"), json!([]), Value::Null]),
        ("sub", vec![json!(1), Value::Null]),
        ("scope", vec![json!(["admin"]), json!(1)]),
        ("devices", vec![json!("*"), json!({ "a": 1 }), json!([1])]),
    ];
    let headers: [(&str, Vec<Value>); 4] = [
        ("alg", vec![json!("none"), json!("None"), json!("HS256"), json!("RS256"), json!("ES256"), Value::Null]),
        ("typ", vec![json!("JWT"), Value::Null]),
        ("kid", vec![json!("../../etc/passwd"), json!("' OR 1=1"), json!("http://127.0.0.1/"), json!(""), json!(7), Value::Null]),
        ("crit", vec![json!(["exp"])]),
    ];
    let mut bad = Vec::new();
    for (name, values) in claims {
        bad.extend(values.into_iter().map(|value| (format!("{name} = {value}"), forge.with_claim(name, value))));
    }
    for (name, values) in headers {
        bad.extend(values.into_iter().map(|value| (format!("{name} = {value}"), forge.with_header(name, value))));
    }
    let (message, signature) = good.rsplit_once('.').unwrap();
    let stranger = Forge { pair: Ed25519KeyPair::generate().unwrap(), header: forge.header.clone(), claims: forge.claims.clone() };
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64_URL_SAFE_NO_PAD.encode(stranger.pair.public_key().as_ref()) });
    let twice = forge.claims.to_string().replacen('{', r#"{"scope":"read:stats","#, 1);
    let mut add = |name: &str, token: String| bad.push((name.to_owned(), token));
    add("no signature", format!("{message}."));
    add("no signature at all", message.to_owned());
    add("half a signature", format!("{message}.{}", &signature[..40]));
    add("another's signature", stranger.sign(&forge.header.to_string(), &forge.claims.to_string()));
    add("another's key inside", stranger.with_header("jwk", jwk));
    add("a claim twice", forge.sign(&forge.header.to_string(), &twice));
    add("HS256 with the public key", hs256(forge, forge.pair.public_key().as_ref()));
    add("HS256 with nothing", hs256(forge, b""));
    add(
        "unsigned",
        format!("{}.{}.", BASE64_URL_SAFE_NO_PAD.encode(r#"{"typ":"at+jwt","alg":"none"}"#), message.split('.').nth(1).unwrap()),
    );
    add("garbage", "garbage".to_owned());
    add("dots", "..".to_owned());
    add("huge", format!("{message}.{}", "A".repeat(12_000)));
    bad
}

fn hs256(forge: &Forge, secret: &[u8]) -> String {
    let header = changed(&forge.header, "alg", json!("HS256")).to_string();
    let message = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(forge.claims.to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
}

#[test]
fn every_token_that_is_not_good_gets_the_same_401() {
    let stack = Stack::embedded();
    let bodies: Vec<Value> = bad_tokens(&Forge::of(&stack), &stack.token)
        .into_iter()
        .map(|(what, token)| {
            let answer = stack.ask(&Ask::post("/v1/readings", "application/json", "[").token(&token));
            assert_eq!(answer.status, 401, "{what}: {}", answer.text());
            let challenge = answer.header("www-authenticate").unwrap_or_default();
            assert!(challenge.starts_with("Bearer ") && challenge.contains("invalid_token"), "{what}: {challenge}");
            answer.problem()
        })
        .collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]), "the same words for all");
    // RFC 6750: who sends nothing is told nothing but that it is needed.
    let anonymous = stack.ask(&Ask::new("GET", "/v1/stats").anonymous()).expect(401);
    anonymous.problem();
    assert!(anonymous.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer") && !challenge.contains("error")));
    stack.settled();
    assert_eq!(counts(&stack.status())["received"], 0, "nothing was looked at before the credentials");
    assert!(!stack.said().contains(&stack.token), "tokens are not logged");
}

/// What a caller would send to a route.
fn visit(route: &Route) -> Ask {
    let path = route.path.replace("{id}", "00000000-0000-0000-0000-000000000000");
    let path = if path.ends_with("/write") { format!("{path}?db=x&bucket=x") } else { path };
    if route.method == "POST" { Ask::post(&path, "application/json", "[]") } else { Ask::new(route.method, &path) }
}

#[test]
fn every_route_lets_in_its_scope_and_no_other() {
    let stack = Stack::embedded();
    let tokens: Vec<(Scope, String)> = Scope::ALL.into_iter().map(|scope| (scope, stack.issue(&["--scope", scope.as_str()]))).collect();
    let nothing = Forge::of(&stack).with_claim("scope", json!("openid"));
    let is_in = |status: u16| ![401, 403, 404, 405].contains(&status);
    for route in ROUTES {
        let anonymous = stack.ask(&visit(route).anonymous()).status;
        assert_eq!(anonymous != 401, route.access == Access::Public, "{route:?} without a token: {anonymous}");
        let unscoped = stack.ask(&visit(route).token(&nothing)).status;
        assert_eq!(unscoped == 403, matches!(route.access, Access::Scope(_)), "{route:?} without a scope: {unscoped}");
        for (scope, token) in &tokens {
            let answer = stack.ask(&visit(route).token(token));
            let allowed = match route.access {
                Access::Public | Access::AnyToken => true,
                Access::Scope(needed) => *scope == needed || *scope == Scope::Admin,
            };
            // The letter that is asked for by id does not exist; that is told to whoever may know.
            let found = is_in(answer.status) || (allowed && route.path.contains("{id}") && answer.status == 404);
            assert_eq!(found, allowed, "{route:?} with {scope}: {}", answer.text());
            if !allowed {
                let answer = answer.expect(403);
                assert!(answer.header("www-authenticate").is_some_and(|challenge| challenge.contains("insufficient_scope")), "{answer:?}");
            }
        }
    }
}

#[test]
fn a_method_cannot_be_smuggled_past_its_scope() {
    let stack = Stack::embedded();
    let reader = stack.issue(&["--scope", "read:readings"]);
    let writing = as_json(&[Reading::new("a", "m", MONDAY, 1.0)]).to_string();
    for header in ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"] {
        stack.ask(&Ask::new("GET", "/v1/readings").token(&reader).header(header, "POST")).ok();
        stack.ask(&Ask::post("/v1/readings", "application/json", writing.clone()).token(&reader).header(header, "GET")).expect(403);
    }
    for path in ["/v1/readings/", "//v1/readings", "/v1/./readings", "/V1/readings", "/v1/readings%2f", "/livez/../v1/stats"] {
        let status = stack.ask(&Ask::new("GET", path).anonymous()).status;
        assert!([401, 404].contains(&status), "{path}: {status}");
    }
    stack.settled();
    assert_eq!(counts(&stack.status())["received"], 0);
}

#[test]
fn a_device_writes_only_as_itself() {
    let stack = Stack::embedded();
    let press = stack.issue(&["--scope", "write:readings", "--devices", "plant-a/press-7"]);
    let plant = stack.issue(&["--scope", "write:readings", "--devices", "plant-a/*"]);
    let post = |token: &str, body: Value| stack.ask(&Ask::post("/v1/readings", "application/json", body.to_string()).token(token));
    post(&press, json!({ "ts": 1_767_571_200, "metric": "own", "value": 1 })).ok();
    post(&press, as_json(&[Reading::new("plant-a/press-7", "own", MONDAY + 1, 2.0)])).ok();
    // Which device a pattern means cannot be known.
    post(&plant, json!({ "metric": "own", "value": 1 })).expect(422);
    let mixed = [
        Reading::new("plant-a/x", "m", MONDAY, 1.0),
        Reading::new("plant-b/x", "m", MONDAY, 2.0),
        Reading::new("plant-a", "m", MONDAY, 3.0),
    ];
    let answer = post(&plant, as_json(&mixed)).ok().json();
    let refused: Vec<_> =
        answer["errors"].as_array().unwrap().iter().map(|error| (error["index"].as_u64().unwrap(), error["reason"].clone())).collect();
    assert_eq!(refused, [(1, json!("forbidden_device")), (2, json!("forbidden_device"))]);
    let line =
        |token: &str, line: &str| stack.ask(&Ask::post("/api/v2/write?bucket=plant-b&precision=s", "", line.to_owned()).token(token));
    line(&press, "own value=3 1767571202").expect(204);
    let foreign = line(&press, "m,device=plant-b/x value=1 1767571202").expect(422).json();
    assert!(foreign["message"].as_str().unwrap().contains("accepted 0, rejected 1"), "{foreign}");
    stack.settled();
    let rows = stack.rows("/v1/readings", &[("from", "1990-01-01T00:00:00Z")]);
    let stored: Vec<_> = rows.iter().map(|row| (row["device"].as_str().unwrap(), row["value"].as_f64().unwrap())).collect();
    assert_eq!(stored, [("plant-a/press-7", 1.0), ("plant-a/press-7", 2.0), ("plant-a/press-7", 3.0), ("plant-a/x", 1.0)]);
    assert_eq!(stack.rows("/v1/dead-letters", &[("reason", "forbidden_device")]).len(), 3);
}

#[test]
fn a_narrowed_reader_sees_its_devices_and_nothing_of_others() {
    let stack = Stack::embedded();
    let devices = ["plant-a/x", "plant-a/y", "plant-b/x"];
    for (n, device) in devices.iter().enumerate() {
        stack.send(&as_json(&[Reading::new(device, "m", MONDAY, n as f64), Reading::new(device, "m", MONDAY + 1, 5.0)]));
        stack.post("/v1/readings", "application/json", json!({ "device": device, "metric": "m", "value": "hot" }).to_string()).expect(422);
    }
    stack.settled();
    let mut narrow = stack.client();
    narrow.token = stack.issue(&[
        "--scope",
        "read:stats read:readings read:devices read:dead-letters",
        "--devices",
        "plant-a/*",
        "--devices",
        "plant-c",
    ]);
    let (from, to) = (rfc3339(MONDAY), rfc3339(MONDAY + 10));
    for (path, range) in
        [("/v1/stats", true), ("/v1/readings", true), ("/v1/latest", false), ("/v1/series", false), ("/v1/dead-letters", false)]
    {
        let range = if range { vec![("from", from.as_str()), ("to", &to)] } else { vec![] };
        let seen = |parameters: &[(&str, &str)]| -> Vec<String> {
            let rows = narrow.get(&target(path, &[&range[..], parameters].concat())).ok().json()["rows"].as_array().unwrap().clone();
            let mut devices: Vec<String> = rows.iter().map(|row| row["device"].as_str().unwrap().to_owned()).collect();
            devices.sort();
            devices.dedup();
            devices
        };
        assert_eq!(seen(&[]), &devices[..2], "{path}");
        assert_eq!(seen(&[("device", "*/x")]), &devices[..1], "{path}: the intersection");
        assert_eq!(seen(&[("device", "plant-b/*")]), Vec::<String>::new(), "{path}");
        narrow.get(&target(path, &[&range[..], &[("device", "plant-b/x")]].concat())).expect(403).problem();
    }
    // Pooled statistics pool what may be seen; the same question of another has another tag.
    let pooled = target("/v1/stats", &[("from", from.as_str()), ("to", &to), ("group_by", "none"), ("stats", "count,max")]);
    let (mine, all) = (narrow.get(&pooled).ok(), stack.get(&pooled).ok());
    assert_eq!((&mine.json()["rows"][0]["count"], &all.json()["rows"][0]["count"]), (&json!(4), &json!(6)));
    assert_ne!(mine.header("etag"), all.header("etag"));
    // A foreign letter is as if it were not there, and a foreign cursor is no way around.
    let foreign = stack.rows("/v1/dead-letters", &[("device", "plant-b/x")])[0]["id"].as_str().unwrap().to_owned();
    narrow.get(&format!("/v1/dead-letters/{foreign}")).expect(404).problem();
    let first = stack.get("/v1/series?limit=1").ok().json();
    narrow.get(&target("/v1/series", &[("cursor", first["next_cursor"].as_str().unwrap())])).expect(400).problem();
}
