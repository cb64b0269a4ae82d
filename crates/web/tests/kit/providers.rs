//! Tokens of OpenID providers, against an issuer that rotates its keys, lies, hangs and goes down.

use crate::support::{DEADLINE, app_with, ask, token};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use aws_lc_rs::{hmac, rsa};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use headwater_core::clock::{Clock, SystemClock};
use headwater_web::Provider;
use headwater_web::provider::Config;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A key of an issuer.
enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

struct Key {
    id: String,
    pair: Pair,
}

impl Key {
    fn rsa(id: &str) -> Self {
        Self { id: id.to_owned(), pair: Pair::Rsa(RsaKeyPair::generate(rsa::KeySize::Rsa2048).unwrap()) }
    }

    fn p256(id: &str) -> Self {
        Self { id: id.to_owned(), pair: Pair::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()) }
    }

    fn ed(id: &str) -> Self {
        Self { id: id.to_owned(), pair: Pair::Ed(Ed25519KeyPair::generate().unwrap()) }
    }

    fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
            Pair::Ed(_) => "EdDSA",
        }
    }

    fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                let (n, e) = (public.modulus(), public.exponent());
                json!({ "kty": "RSA", "n": b64(n.big_endian_without_leading_zero()), "e": b64(e.big_endian_without_leading_zero()) })
            }
            Pair::P256(pair) => {
                let point = pair.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..]) })
            }
            Pair::Ed(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key()) }),
        };
        (jwk["kid"], jwk["use"], jwk["alg"]) = (json!(self.id), json!("sig"), json!(self.algorithm()));
        jwk
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
                signature
            }
            Pair::P256(pair) => pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", b64(signature))
    }

    /// A good token of `issuer`.
    fn token(&self, issuer: &Issuer) -> String {
        self.sign(&self.header(), &issuer.claims())
    }

    fn header(&self) -> Value {
        json!({ "typ": "at+jwt", "alg": self.algorithm(), "kid": self.id })
    }
}

/// How an issuer answers.
#[derive(Clone)]
enum Mood {
    Well,
    Says(StatusCode),
    Redirects(String),
    IsAnother,
    PointsTo(String),
    Floods,
    Hangs,
}

/// An issuer on a port of its own.
struct Issuer {
    address: SocketAddr,
    state: Arc<Mutex<Told>>,
    serving: JoinHandle<()>,
}

/// What an issuer tells, and how often it was asked for keys.
struct Told {
    url: String,
    keys: Vec<Value>,
    mood: Mood,
    asked: usize,
}

impl Issuer {
    async fn start(keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let keys = keys.iter().map(|key| key.jwk()).collect();
        let state = Arc::new(Mutex::new(Told { url: format!("http://{address}"), keys, mood: Mood::Well, asked: 0 }));
        Self { address, serving: serve(listener, Arc::clone(&state)), state }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn mood(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    fn rotate(&self, keys: &[&Key]) {
        self.state.lock().unwrap().keys = keys.iter().map(|key| key.jwk()).collect();
    }

    fn asked(&self) -> usize {
        self.state.lock().unwrap().asked
    }

    async fn goes_down(&mut self) {
        self.serving.abort();
        drop((&mut self.serving).await);
    }

    async fn comes_up(&mut self) {
        self.serving = serve(TcpListener::bind(self.address).await.unwrap(), Arc::clone(&self.state));
    }

    fn config(&self) -> Config {
        Config { issuer: self.url(), audience: "headwater".to_owned(), ..Config::default() }
    }

    fn claims(&self) -> Value {
        let now = SystemClock.now().micros() / 1_000_000;
        json!({ "iss": self.url(), "aud": ["headwater", "other"], "sub": "somebody", "exp": now + 600, "iat": now, "jti": "1", "scope": "openid read:stats" })
    }
}

fn serve(listener: TcpListener, state: Arc<Mutex<Told>>) -> JoinHandle<()> {
    let discovery = |State(state): State<Arc<Mutex<Told>>>| async move {
        let (url, mood) = {
            let told = state.lock().unwrap();
            (told.url.clone(), told.mood.clone())
        };
        answer(&mood, |mood| match mood {
            Mood::IsAnother => json!({ "issuer": "https://another.example", "jwks_uri": format!("{url}/jwks") }),
            Mood::PointsTo(elsewhere) => json!({ "issuer": url, "jwks_uri": elsewhere }),
            _ => json!({ "issuer": url, "jwks_uri": format!("{url}/jwks"), "more": ["that", "is", "ignored"] }),
        })
        .await
    };
    let jwks = |State(state): State<Arc<Mutex<Told>>>| async move {
        let (keys, mood) = {
            let mut told = state.lock().unwrap();
            told.asked += 1;
            (told.keys.clone(), told.mood.clone())
        };
        answer(&mood, |_| json!({ "keys": keys })).await
    };
    let app = Router::new().route("/.well-known/openid-configuration", get(discovery)).route("/jwks", get(jwks)).with_state(state);
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() })
}

async fn answer(mood: &Mood, well: impl FnOnce(&Mood) -> Value) -> Response {
    match mood {
        Mood::Says(status) => (*status, "{}").into_response(),
        Mood::Redirects(to) => (StatusCode::FOUND, [("location", to.clone())]).into_response(),
        Mood::Floods => " ".repeat(2 << 20).into_response(),
        Mood::Hangs => std::future::pending().await,
        mood => well(mood).to_string().into_response(),
    }
}

fn provider(config: Config) -> Provider {
    assert_eq!(config.validate(), Vec::<String>::new());
    Provider::open(config).unwrap()
}

/// The status that a token gets.
async fn status(app: &Router, path: &str, token: &str) -> u16 {
    ask(app, "GET", path, &[("authorization", &format!("Bearer {token}"))]).await.0
}

/// Waits until a token gets this status.
async fn gets(app: &Router, token: &str, expected: u16) {
    let waiting = async {
        while status(app, "/v1/stats", token).await != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE * 2, waiting).await.unwrap_or_else(|_| panic!("it never gets {expected}"));
}

#[tokio::test]
async fn a_providers_token_is_good_by_each_algorithm_and_only_for_what_it_allows() {
    let keys = [Key::rsa("r"), Key::p256("p"), Key::ed("e")];
    let issuer = Issuer::start(&[&keys[0], &keys[1], &keys[2]]).await;
    let app = app_with(vec![provider(issuer.config())]);
    for key in &keys {
        let token = key.token(&issuer);
        assert_eq!(status(&app, "/v1/stats", &token).await, 200, "{}", key.algorithm());
        assert_eq!(status(&app, "/v1/readings", &token).await, 403, "{}", key.algorithm());
        assert_eq!(status(&app, "/v1/stats", &format!("{token}x")).await, 401);
    }
    assert_eq!(status(&app, "/v1/stats", &token("read:stats")).await, 200, "our own are as good as before");
    assert_eq!(issuer.asked(), 1, "the keys are kept");
    // An algorithm that is not allowed has no key.
    let app = app_with(vec![provider(Config { algorithms: vec!["ES256".to_owned()], ..issuer.config() })]);
    let with = async |key: &Key| status(&app, "/v1/stats", &key.token(&issuer)).await;
    assert_eq!((with(&keys[1]).await, with(&keys[0]).await, with(&keys[2]).await), (200, 401, 401));
}

#[tokio::test]
async fn keys_issuers_and_algorithms_cannot_be_confused() {
    let (rsa, p256, other) = (Key::rsa("r"), Key::p256("p"), Key::ed("o"));
    let (issuer, second) = (Issuer::start(&[&rsa, &p256]).await, Issuer::start(&[&other]).await);
    let app = app_with(vec![provider(issuer.config()), provider(second.config())]);
    assert_eq!(status(&app, "/v1/stats", &rsa.token(&issuer)).await, 200);
    assert_eq!(status(&app, "/v1/stats", &other.token(&second)).await, 200);
    let header = |alg: &str, kid: &str| json!({ "typ": "at+jwt", "alg": alg, "kid": kid });
    let mut ours = issuer.claims();
    ours["iss"] = json!("headwater");
    let mut strange = issuer.claims();
    strange["iss"] = json!("https://nobody.example");
    let mut forgeries = vec![
        ("another's key for this issuer", other.sign(&header("EdDSA", "o"), &issuer.claims())),
        ("this issuer's key for another", rsa.sign(&header("RS256", "r"), &second.claims())),
        ("a provider as the built-in issuer", rsa.sign(&header("RS256", "r"), &ours)),
        ("an issuer that nobody knows", rsa.sign(&header("RS256", "r"), &strange)),
        ("one key under the id of the other", rsa.sign(&header("RS256", "p"), &issuer.claims())),
        ("the other's algorithm", rsa.sign(&header("ES256", "r"), &issuer.claims())),
        ("RS512 with a key for RS256", rsa.sign(&header("RS512", "r"), &issuer.claims())),
        ("none", format!("{}.{}.", b64(header("none", "r").to_string()), b64(issuer.claims().to_string()))),
    ];
    // RFC 8725 §2.1: the public key as the secret of an HMAC, in the forms in which a library might take it.
    for secret in [rsa.jwk()["n"].as_str().unwrap().as_bytes().to_vec(), rsa.jwk().to_string().into_bytes(), vec![]] {
        let message = format!("{}.{}", b64(header("HS256", "r").to_string()), b64(issuer.claims().to_string()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
        forgeries.push(("HS256 with the public key", format!("{message}.{}", b64(tag))));
    }
    for (what, token) in forgeries {
        assert_eq!(status(&app, "/v1/stats", &token).await, 401, "{what}");
    }
    let own = token("read:stats");
    let (message, signature) = own.rsplit_once('.').unwrap();
    let stolen = format!("{}.{}.{signature}", message.split('.').next().unwrap(), b64(issuer.claims().to_string()));
    assert_eq!(status(&app, "/v1/stats", &stolen).await, 401, "our signature under their claims");
}

#[tokio::test]
async fn claims_are_checked_and_read_as_the_configuration_says() {
    let key = Key::p256("k");
    let issuer = Issuer::start(&[&key]).await;
    let strict = app_with(vec![provider(issuer.config())]);
    let lenient = app_with(vec![provider(Config {
        audience: "api://headwater".to_owned(),
        types: vec!["at+jwt".to_owned(), "JWT".to_owned()],
        scope_claim: "scp".to_owned(),
        devices_claim: "https://headwater.example/devices".to_owned(),
        ..issuer.config()
    })]);
    let changed = |changes: Value| {
        let mut claims = issuer.claims();
        changes.as_object().unwrap().iter().for_each(|(name, value)| claims[name] = value.clone());
        claims
    };
    let now = SystemClock.now().micros() / 1_000_000;
    for wrong in [
        json!({ "aud": "another" }),
        json!({ "aud": [1, "headwater"] }),
        json!({ "exp": now - 60 }),
        json!({ "exp": "9999999999" }),
        json!({ "nbf": now + 60 }),
        json!({ "sub": null }),
        json!({ "scope": { "read:stats": true } }),
        json!({ "devices": 1 }),
    ] {
        assert_eq!(status(&strict, "/v1/stats", &key.sign(&key.header(), &changed(wrong.clone()))).await, 401, "{wrong}");
    }
    let id_token = json!({ "typ": "JWT", "alg": "ES256", "kid": "k" });
    assert_eq!(status(&strict, "/v1/stats", &key.sign(&id_token, &issuer.claims())).await, 401, "an id token is no access token");
    let theirs = changed(json!({ "aud": "api://headwater", "scp": ["read:readings"], "scope": "admin" }));
    assert_eq!(status(&lenient, "/v1/readings", &key.sign(&id_token, &theirs)).await, 200);
    assert_eq!(status(&lenient, "/v1/stats", &key.sign(&id_token, &theirs)).await, 403, "only the claim that was named counts");
    assert_eq!(status(&lenient, "/v1/readings", &key.sign(&id_token, &issuer.claims())).await, 401);
}

#[tokio::test]
async fn a_rotated_key_is_taken_up_by_the_first_token_that_it_signs() {
    let (old, new, third) = (Key::rsa("1"), Key::rsa("2"), Key::rsa("3"));
    let issuer = Issuer::start(&[&old]).await;
    // Without the background, so that only requests ask; the first has to wait for the keys.
    let app = app_with(vec![provider(issuer.config())]);
    assert_eq!(status(&app, "/v1/stats", &old.token(&issuer)).await, 200);
    issuer.rotate(&[&new, &old]);
    // The first fetch was a moment ago: for half a minute nobody is asked again, whoever asks and however often.
    for n in 0..50 {
        let unknown = json!({ "typ": "at+jwt", "alg": "RS256", "kid": format!("x{n}") });
        assert_eq!(status(&app, "/v1/stats", &third.sign(&unknown, &issuer.claims())).await, 401);
    }
    assert_eq!((status(&app, "/v1/stats", &new.token(&issuer)).await, issuer.asked()), (401, 1));
    assert_eq!(status(&app, "/v1/stats", &old.token(&issuer)).await, 200);
    // Who begins now finds both; `source`'s tests turn the clock.
    let later = app_with(vec![provider(issuer.config())]);
    assert_eq!(status(&later, "/v1/stats", &new.token(&issuer)).await, 200);
    assert_eq!(status(&later, "/v1/stats", &old.token(&issuer)).await, 200);
}

#[tokio::test]
async fn the_keys_of_a_provider_that_goes_down_stay_good() {
    let (key, unknown) = (Key::ed("k"), Key::ed("u"));
    let mut issuer = Issuer::start(&[&key]).await;
    let app = app_with(vec![provider(issuer.config())]);
    let tokens: Vec<String> = (0..3)
        .map(|n| {
            let mut claims = issuer.claims();
            claims["jti"] = json!(n.to_string());
            key.sign(&key.header(), &claims)
        })
        .collect();
    assert_eq!(status(&app, "/v1/stats", &tokens[0]).await, 200);
    issuer.goes_down().await;
    assert_eq!(status(&app, "/v1/stats", &tokens[1]).await, 200, "one that was not seen before");
    assert_eq!(status(&app, "/v1/stats", &unknown.token(&issuer)).await, 401);
    issuer.comes_up().await;
    assert_eq!(status(&app, "/v1/stats", &tokens[2]).await, 200);
}

#[tokio::test]
async fn while_a_providers_keys_were_never_had_its_tokens_are_put_off_and_not_refused() {
    let key = Key::ed("k");
    let mut issuer = Issuer::start(&[&key]).await;
    issuer.goes_down().await;
    let app = app_with(vec![provider(issuer.config())]);
    let bearer = format!("Bearer {}", key.token(&issuer));
    let (status_of, head, body) = ask(&app, "GET", "/v1/stats", &[("authorization", &bearer)]).await;
    assert_eq!((status_of, head.headers()["retry-after"].to_str().unwrap()), (503, "5"), "{body}");
    assert!(body.contains("issuer_unavailable") && !body.contains("127.0.0.1"), "{body}");
    assert_eq!(status(&app, "/v1/stats", &token("read:stats")).await, 200, "nobody else waits");
    issuer.comes_up().await;
    gets(&app, &key.token(&issuer), 200).await;
}

#[tokio::test]
async fn a_provider_that_hangs_holds_no_request_up_for_long() {
    let key = Key::ed("k");
    let issuer = Issuer::start(&[&key]).await;
    issuer.mood(Mood::Hangs);
    let app = app_with(vec![provider(issuer.config())]);
    let started = Instant::now();
    for _ in 0..3 {
        assert_eq!(status(&app, "/v1/stats", &key.token(&issuer)).await, 503);
    }
    assert!(started.elapsed() < Duration::from_secs(8), "two seconds each at most: {:?}", started.elapsed());
    assert_eq!(status(&app, "/v1/stats", &token("read:stats")).await, 200);
    issuer.mood(Mood::Well);
    gets(&app, &key.token(&issuer), 200).await;
}

#[tokio::test]
async fn a_provider_that_lies_is_not_believed() {
    let (key, thief) = (Key::ed("k"), Key::ed("k"));
    let (issuer, elsewhere) = (Issuer::start(&[&key]).await, Issuer::start(&[&thief]).await);
    for mood in [
        Mood::Says(StatusCode::NOT_FOUND),
        Mood::Says(StatusCode::OK),
        Mood::Redirects(format!("{}/jwks", elsewhere.url())),
        Mood::IsAnother,
        Mood::PointsTo("http://192.0.2.1/jwks".to_owned()),
        Mood::PointsTo("file:///etc/passwd".to_owned()),
        Mood::Floods,
    ] {
        issuer.mood(mood);
        let app = app_with(vec![provider(issuer.config())]);
        for key in [&key, &thief] {
            assert_eq!(status(&app, "/v1/stats", &key.token(&issuer)).await, 503);
        }
    }
    assert_eq!(elsewhere.asked(), 0, "no redirect was followed");
    issuer.mood(Mood::Well);
    issuer.state.lock().unwrap().keys.clear();
    let app = app_with(vec![provider(issuer.config())]);
    assert_eq!(status(&app, "/v1/stats", &key.token(&issuer)).await, 503, "no keys are no answer");
}

#[tokio::test]
async fn a_set_that_was_named_needs_no_discovery() {
    let key = Key::p256("k");
    let issuer = Issuer::start(&[&key]).await;
    let named = Config { issuer: "accounts.example".to_owned(), jwks_url: format!("{}/jwks", issuer.url()), ..issuer.config() };
    let app = app_with(vec![provider(named)]);
    let mut claims = issuer.claims();
    claims["iss"] = json!("accounts.example");
    assert_eq!(status(&app, "/v1/stats", &key.sign(&key.header(), &claims)).await, 200);
    assert_eq!(status(&app, "/v1/stats", &key.token(&issuer)).await, 401);
}
