//! Tokens of a real OpenID provider: npm's `oidc-provider`, run with the machine's Node.js.
//!
//! It is installed once, below `target/`, with the npm client. What an issuer can do wrong is tested with one that lies, in the
//! crate `web`.

use crate::client::Ask;
use crate::stack::{Builder, SOON, Stack, clean, wait_for};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::LazyLock;

const VERSION: &str = "9.13.3";
const AUDIENCE: &str = "https://headwater.example/api";

/// A folder in which Node.js finds the provider.
static INSTALLED: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("oidc-provider-{VERSION}"));
    if !folder.join("node_modules/oidc-provider/package.json").exists() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("package.json"), r#"{ "private": true, "type": "module" }"#).unwrap();
        // npm keeps its cache in the home directory, and finds its registry there.
        let mut install = std::process::Command::new("npm");
        let package = format!("oidc-provider@{VERSION}");
        install.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", &package]).current_dir(&folder);
        let output = install.output().unwrap_or_else(|why| panic!("Node.js with npm is needed for this test: {why}"));
        assert!(output.status.success(), "npm install {package}: {}", String::from_utf8_lossy(&output.stderr));
    }
    std::fs::write(folder.join("provider.mjs"), include_str!("provider.mjs")).unwrap();
    folder
});

struct Provider {
    child: Child,
    issuer: String,
}

impl Provider {
    fn start() -> Self {
        let node = std::process::Command::new("node").args(["-p", "process.execPath"]).output().unwrap();
        let node = String::from_utf8(node.stdout).unwrap();
        let mut command = clean(node.trim());
        command.args(["provider.mjs", "0"]).current_dir(&*INSTALLED);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let issuer = lines.find(|line| line.starts_with("http://")).expect("the provider says where it is");
        Self { child, issuer }
    }

    /// A token for these scopes, signed by this algorithm.
    fn token(&self, stack: &Stack, algorithm: &str, scope: &str) -> String {
        let mut client = stack.client();
        client.base.clone_from(&self.issuer);
        let form = format!("grant_type=client_credentials&scope={}&resource=https://x/{algorithm}", scope.replace(' ', "+"));
        let basic = BASE64_STANDARD.encode("plant:a+secret+of+the+plant+that+is+long+enough");
        let ask = Ask::post("/token", "application/x-www-form-urlencoded", form).anonymous();
        client.ask(&ask.header("Authorization", &format!("Basic {basic}"))).ok().json()["access_token"].as_str().unwrap().to_owned()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The token with another signature.
fn forged(token: &str) -> String {
    let (before, last) = token.split_at(token.len() - 10);
    let other = if last.starts_with('A') { "B" } else { "A" };
    format!("{before}{other}{}", &last[1..])
}

fn status(stack: &Stack, path: &str, token: &str) -> u16 {
    stack.ask(&Ask::new("GET", path).token(token)).status
}

#[test]
fn tokens_of_a_real_provider_get_in_where_their_scopes_lead_and_outlive_it() {
    let provider = Provider::start();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("h.toml");
    std::fs::write(&file, format!("[[auth.providers]]\nissuer = {:?}\naudience = '{AUDIENCE}'\n", provider.issuer)).unwrap();
    let stack = Builder::default().env("HEADWATER_CONFIG", file.to_str().unwrap()).start();
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let token = provider.token(&stack, algorithm, "read:stats");
        assert_eq!(status(&stack, "/v1/stats", &token), 200, "{algorithm}");
        assert_eq!(status(&stack, "/v1/readings", &token), 403, "{algorithm}");
        assert_eq!(status(&stack, "/v1/stats", &forged(&token)), 401, "{algorithm}");
    }
    let writer = provider.token(&stack, "ES256", "write:readings read:readings");
    let reading = r#"{"device": "a", "metric": "m", "ts": 1767571200, "value": 1}"#;
    stack.ask(&Ask::post("/v1/readings", "application/json", reading).token(&writer)).ok();
    wait_for("the reading", SOON, || {
        let rows: Value = stack.ask(&Ask::new("GET", "/v1/latest").token(&writer)).ok().json();
        (rows["rows"].as_array()?.len() == 1).then_some(())
    });
    // Its keys are here: it may go, and a token that was never shown before is good.
    let unseen = provider.token(&stack, "RS256", "read:stats");
    drop(provider);
    assert_eq!((status(&stack, "/v1/stats", &unseen), status(&stack, "/v1/latest", &writer)), (200, 200));
    assert_eq!(status(&stack, "/v1/stats", &stack.token), 200);
    assert!(!stack.said().contains(&unseen));
}
