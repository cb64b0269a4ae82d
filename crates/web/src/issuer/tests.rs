//! Tokens over the counter.

use super::*;
use crate::token::{SigningKey, Verifier};
use crate::{Config, Scope};
use axum::http::Request;
use headwater_core::clock::SystemClock;
use headwater_core::health::Health;
use http_body_util::BodyExt;
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const GRANT: &str = "grant_type=client_credentials";

struct Home {
    _directory: TempDir,
    app: Router,
    verifier: Arc<Verifier>,
}

fn client(id: &str, scope: &str, devices: Option<&[&str]>, secret_file: &std::path::Path) -> ClientConfig {
    ClientConfig {
        id: id.to_owned(),
        scope: scope.to_owned(),
        devices: devices.map(|devices| devices.iter().map(|device| (*device).to_owned()).collect()),
        secret_file: secret_file.to_str().unwrap().to_owned(),
        ..ClientConfig::default()
    }
}

fn home() -> Home {
    let directory = tempfile::tempdir().unwrap();
    let (key, secret) = (directory.path().join("key.pem"), directory.path().join("secret"));
    SigningKey::open_or_create(&key).unwrap();
    std::fs::write(&secret, SECRET).unwrap();
    let ring = Ring::open(&key).unwrap();
    let clients =
        vec![client("plant-a", "write:readings read:stats", Some(&["plant-a/*"]), &secret), client("root", "admin", None, &secret)];
    let verifier = Arc::new(Verifier::of_ring(&ring, "headwater", "headwater", Arc::new(SystemClock)));
    let deps = Deps { ring, clock: Arc::new(SystemClock), issuer: "headwater".to_owned(), audience: "headwater".to_owned(), clients };
    let app = crate::app(vec![face(deps).unwrap()], Arc::clone(&verifier), Health::default(), &Config::default());
    Home { _directory: directory, app, verifier }
}

impl Home {
    async fn ask(&self, request: Request<Body>) -> (u16, HeaderMap, Value) {
        let (parts, body) = self.app.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), parts.headers, serde_json::from_slice(&body).unwrap())
    }

    async fn post(&self, body: &str) -> (u16, HeaderMap, Value) {
        let request = Request::post("/v1/token").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.ask(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    async fn of(&self, id: &str, secret: &str, more: &str) -> (u16, HeaderMap, Value) {
        self.post(&format!("{GRANT}&client_id={id}&client_secret={secret}{more}")).await
    }
}

#[tokio::test]
async fn a_client_gets_a_token_for_what_it_may_do_and_its_devices() {
    let home = home();
    let (status, headers, body) = home.of("plant-a", SECRET, "").await;
    assert_eq!((status, &body["token_type"], &body["expires_in"]), (200, &json!("Bearer"), &json!(3600)), "{body}");
    assert_eq!((headers["cache-control"].to_str().unwrap(), &body["scope"]), ("no-store", &json!("write:readings read:stats")));
    let caller = home.verifier.verify(body["access_token"].as_str().unwrap()).unwrap();
    assert_eq!((caller.subject.as_str(), caller.scopes.to_string().as_str()), ("plant-a", "write:readings read:stats"));
    assert!(caller.devices.allow("plant-a/x") && !caller.devices.allow("plant-b/x"));
    // Less may be asked for, and of an administrator anything.
    for (id, asked) in [("plant-a", "read:stats"), ("root", "read:devices write:readings"), ("root", "admin")] {
        let (status, _, body) = home.of(id, SECRET, &format!("&scope={}", asked.replace(' ', "+"))).await;
        assert_eq!(status, 200, "{body}");
        let caller = home.verifier.verify(body["access_token"].as_str().unwrap()).unwrap();
        assert_eq!(caller.scopes, Scopes::parse(asked).unwrap());
    }
}

#[tokio::test]
async fn what_a_client_may_not_have_is_invalid_scope() {
    let home = home();
    for asked in ["admin", "read:stats+admin", "read:readings", "read:everything", "+"] {
        let (status, _, body) = home.of("plant-a", SECRET, &format!("&scope={asked}")).await;
        assert_eq!((status, &body["error"]), (400, &json!("invalid_scope")), "{asked}: {body}");
        assert!(body["error_description"].is_string() && body.get("access_token").is_none());
    }
}

#[tokio::test]
async fn a_stranger_and_a_wrong_secret_get_the_same_answer() {
    let home = home();
    let (stranger, known) = (home.of("nobody", SECRET, "").await, home.of("plant-a", "wrong", "").await);
    assert_eq!((stranger.0, &stranger.2), (known.0, &known.2));
    assert_eq!((known.0, &known.2["error"]), (401, &json!("invalid_client")));
    assert!(!known.2.to_string().contains("wrong"));
    let request = Request::post("/v1/token").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let request = request.header(AUTHORIZATION, "Basic cGxhbnQtYTp4").body(Body::from(GRANT)).unwrap();
    let (status, headers, _) = home.ask(request).await;
    assert!(status == 401 && headers[WWW_AUTHENTICATE].to_str().unwrap().starts_with("Basic "));
}

#[tokio::test]
async fn who_guesses_is_told_to_wait_and_the_right_client_elsewhere_is_not() {
    let home = home();
    let ask = async |address: [u8; 4], secret: &str| {
        let request = Request::post("/v1/token").header(CONTENT_TYPE, "application/x-www-form-urlencoded").extension(Peer(address.into()));
        home.ask(request.body(Body::from(format!("{GRANT}&client_id=root&client_secret={secret}"))).unwrap()).await
    };
    for _ in 0..10 {
        assert_eq!(ask([10, 0, 0, 1], "guess").await.0, 401);
    }
    let (status, headers, body) = ask([10, 0, 0, 1], SECRET).await;
    assert_eq!((status, &body["error"]), (429, &json!("temporarily_unavailable")), "the right one is not tried either");
    assert!(headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() >= 1);
    assert_eq!(ask([10, 0, 0, 2], SECRET).await.0, 200);
}

#[tokio::test]
async fn bodies_that_are_no_request_are_refused_in_the_words_of_oauth() {
    let home = home();
    let post = |kind: &str, body: &str| Request::post("/v1/token").header(CONTENT_TYPE, kind).body(Body::from(body.to_owned())).unwrap();
    let (status, headers, body) = home.ask(post("application/json", "[]")).await;
    assert_eq!((status, &body["error"]), (400, &json!("invalid_request")));
    assert!(!headers.contains_key("x-influxdb-version") && headers.contains_key("x-request-id"));
    let (status, _, body) = home.ask(post("application/x-www-form-urlencoded", &"x".repeat(MOST_BYTES + 1))).await;
    assert_eq!((status, &body["error"]), (413, &json!("too_large")));
}

#[tokio::test]
async fn the_public_keys_are_there_for_everybody() {
    let home = home();
    let (status, headers, body) = home.ask(Request::get("/.well-known/jwks.json").body(Body::empty()).unwrap()).await;
    assert_eq!((status, headers["cache-control"].to_str().unwrap()), (200, "public, max-age=300"));
    assert_eq!(body["keys"].as_array().unwrap().len(), 1);
    assert!(body["keys"][0].get("d").is_none() && body["keys"][0]["kid"].is_string());
}

#[tokio::test]
async fn who_has_only_a_public_key_issues_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key.pem");
    let spki = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00][..], &[9; 32]].concat();
    std::fs::write(&key, pem::encode(&pem::Pem::new("PUBLIC KEY", spki))).unwrap();
    let ring = Ring::open(&key).unwrap();
    let verifier = Arc::new(Verifier::of_ring(&ring, "headwater", "headwater", Arc::new(SystemClock)));
    let deps = Deps { ring, clock: Arc::new(SystemClock), issuer: "i".to_owned(), audience: "a".to_owned(), clients: vec![] };
    let app = crate::app(vec![face(deps).unwrap()], verifier, Health::default(), &Config::default());
    let status = async |request: Request<Body>| app.clone().oneshot(request).await.unwrap().status().as_u16();
    assert_eq!(status(Request::post("/v1/token").body(Body::empty()).unwrap()).await, 404);
    assert_eq!(status(Request::get("/.well-known/jwks.json").body(Body::empty()).unwrap()).await, 200);
}

#[test]
fn scopes_list_what_they_name_and_no_more() {
    let admin = Scopes::from(Scope::Admin);
    assert!(admin.has(Scope::ReadStats) && !admin.lists(Scope::ReadStats) && admin.lists(Scope::Admin));
}
