//! The built-in issuer beside a running server: rotated keys, clients with secrets, public keys.

use crate::client::{Answer, Ask};
use crate::stack::{Builder, HEADWATER, SOON, Stack, clean, wait_for};
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;
use std::process::Output;
use tempfile::TempDir;

const SECRET: &str = "c2VjcmV0IG9mIHRoZSBwbGFudCwgbG9uZyBhbmQgcmFuZG9t";

fn rotate(stack: &Stack, more: &[&str]) -> Output {
    clean(HEADWATER).args(["token", "rotate-key", "--data-dir"]).arg(&stack.data).args(more).output().unwrap()
}

fn rotated(stack: &Stack, more: &[&str]) -> String {
    let output = rotate(stack, more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn status(stack: &Stack, token: &str) -> u16 {
    stack.ask(&Ask::new("GET", "/v1/status").token(token)).status
}

/// The ids of the keys that the server shows to everybody.
fn key_ids(stack: &Stack) -> Vec<String> {
    let answer = stack.ask(&Ask::new("GET", "/.well-known/jwks.json").anonymous()).ok();
    answer.json()["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_rotated_key_signs_at_once_and_the_one_before_stays_good() {
    let mut stack = Stack::embedded();
    let before = stack.issue(&["--scope", "admin"]);
    let [first] = key_ids(&stack).try_into().unwrap();
    let second = rotated(&stack, &[]);
    let after = stack.issue(&["--scope", "admin"]);
    // The first token of a new key is good, not the first one after a while.
    assert_eq!((status(&stack, &after), status(&stack, &before)), (200, 200));
    assert_eq!(key_ids(&stack), [second.clone(), first.clone()]);
    let third = rotated(&stack, &[]);
    stack.restart();
    assert_eq!((status(&stack, &after), status(&stack, &before)), (200, 200), "after a restart as before it");
    let [a, b, c] = key_ids(&stack).try_into().unwrap();
    assert!(a == third && [&b, &c].contains(&&first) && [&b, &c].contains(&&second));
}

#[test]
fn a_revoked_key_is_worthless_within_seconds() {
    let stack = Stack::embedded();
    let (before, held) = (stack.issue(&["--scope", "admin"]), stack.token.clone());
    assert_eq!((status(&stack, &before), status(&stack, &held)), (200, 200));
    let key = rotated(&stack, &["--revoke"]);
    wait_for("the revoked key to be forgotten", SOON, || (status(&stack, &before) == 401).then_some(()));
    assert_eq!(status(&stack, &held), 401);
    assert_eq!(status(&stack, &stack.issue(&["--scope", "admin"])), 200);
    assert_eq!(key_ids(&stack), [key]);
}

#[test]
fn where_there_is_no_key_none_is_made_by_rotating() {
    let home = tempfile::tempdir().unwrap();
    let refused = clean(HEADWATER).args(["token", "rotate-key", "--data-dir"]).arg(home.path()).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(1) && said.contains("there is no token key"), "{said}");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

/// A server that knows the client `plant`, and the folder of its configuration.
fn with_client() -> (Stack, TempDir) {
    let home = tempfile::tempdir().unwrap();
    let hash: String = digest(&SHA256, SECRET.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let file = home.path().join("h.toml");
    let text = format!(
        "[[auth.clients]]\nid = 'plant'\nsecret_hash = 'sha256:{hash}'\nscope = 'write:readings read:stats'\ndevices = ['plant-a/*']\nttl = '10m'\n"
    );
    std::fs::write(&file, text).unwrap();
    (Builder::default().env("HEADWATER_CONFIG", file.to_str().unwrap()).start(), home)
}

fn ask_for_a_token(stack: &Stack, secret: &str, more: &str) -> Answer {
    let form = format!("grant_type=client_credentials&client_id=plant&client_secret={secret}{more}");
    stack.ask(&Ask::post("/v1/token", "application/x-www-form-urlencoded", form).anonymous())
}

#[test]
fn a_client_with_a_secret_gets_tokens_that_write_and_read_its_devices() {
    let (stack, _home) = with_client();
    let answer = ask_for_a_token(&stack, SECRET, "").ok();
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let body = answer.json();
    let token = body["access_token"].as_str().unwrap();
    let write = |device: &str| {
        let reading = format!(r#"{{"device": "{device}", "metric": "m", "ts": 1767571200, "value": 1}}"#);
        stack.ask(&Ask::post("/v1/readings", "application/json", reading).token(token)).status
    };
    assert_eq!((write("plant-a/x"), write("plant-b/x")), (200, 422));
    assert_eq!(stack.ask(&Ask::new("GET", "/v1/stats").token(token)).status, 200);
    assert_eq!(stack.ask(&Ask::new("GET", "/v1/dead-letters").token(token)).status, 403);
    // A rotated key signs these too.
    let key = rotated(&stack, &[]);
    let signed_by = |answer: Answer| {
        let token = answer.ok().json()["access_token"].as_str().unwrap().to_owned();
        assert!(stack.ask(&Ask::new("GET", "/v1/stats").token(&token)).status == 200);
        let header = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, token.split('.').next().unwrap()).unwrap();
        serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
    };
    wait_for("tokens of the new key", SOON, || (signed_by(ask_for_a_token(&stack, SECRET, "")) == key).then_some(()));
    let said = stack.said();
    assert!(!said.contains(SECRET) && !said.contains(token) && said.contains("issued a token"), "{said}");
}

#[test]
fn a_wrong_secret_gets_nothing_and_soon_not_even_a_hearing() {
    let (stack, _home) = with_client();
    let refused = ask_for_a_token(&stack, "wrong", "").expect(401);
    assert_eq!(refused.json()["error"], "invalid_client");
    ask_for_a_token(&stack, SECRET, "&scope=admin").expect(400);
    let last = wait_for("too many guesses", SOON, || Some(ask_for_a_token(&stack, "wrong", "")).filter(|answer| answer.status != 401));
    assert!(last.expect(429).header("retry-after").is_some());
    ask_for_a_token(&stack, SECRET, "").expect(429);
    assert_eq!(status(&stack, &stack.token), 200, "nobody else is kept waiting");
}
