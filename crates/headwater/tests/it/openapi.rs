//! The API's document against a running server: it is valid OpenAPI 3.1, and what it says is what happens.
//!
//! The validator and schemathesis come from PyPI, once, into a Python environment below `target/`. schemathesis makes requests out
//! of the document, good ones and bad ones, and holds every answer against it; `openapi/schemathesis.toml` says how, and
//! `openapi/hooks.py` knows what a schema cannot say.

use crate::client::Ask;
use crate::oracle::{MONDAY, Reading, as_json};
use crate::stack::{Builder, Stack};
use aws_lc_rs::digest::{SHA256, digest};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use tempfile::TempDir;

const SCHEMATHESIS: &str = "4.32.5";
const VALIDATOR: &str = "0.9.0";
const SECRET: &str = "c2VjcmV0IG9mIHRoZSBwbGFudCwgbG9uZyBhbmQgcmFuZG9t";
/// Where the helpers of these tests lie.
const HELPERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/openapi");

/// The programs of a Python environment that has both.
static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("schemathesis-{SCHEMATHESIS}"));
    let (programs, done) = (folder.join("bin"), folder.join("installed"));
    if !done.exists() {
        succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        let packages = [format!("schemathesis=={SCHEMATHESIS}"), format!("openapi-spec-validator=={VALIDATOR}")];
        // pip keeps its cache in the home directory, and finds its registry there.
        succeed(Command::new(programs.join("pip")).args(["install", "--quiet", "--disable-pip-version-check"]).args(packages));
        std::fs::write(done, "").unwrap();
    }
    programs
});

fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|why| panic!("{command:?}: {why}; Python 3 with venv is needed for this test"));
    assert!(output.status.success(), "{command:?}: {}", said(&output));
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A server that has something to show: series of two plants, dead letters of three reasons, and a client that may have tokens.
fn furnished() -> (Stack, TempDir) {
    let home = tempfile::tempdir().unwrap();
    let hash: String = digest(&SHA256, SECRET.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let file = home.path().join("h.toml");
    std::fs::write(&file, format!("[[auth.clients]]\nid = 'plant'\nsecret_hash = 'sha256:{hash}'\nscope = 'write:readings read:stats'\n"))
        .unwrap();
    let stack = Builder::default().env("HEADWATER_CONFIG", file.to_str().unwrap()).start();
    let devices = ["plant-a/press-7", "plant-a/press-8", "plant-b/oven"];
    let readings: Vec<Reading> = (0..300).map(|n| Reading::new(devices[n % 3], "temperature", MONDAY + n as i64, n as f64)).collect();
    stack.send(&as_json(&readings));
    let refused = r#"[{"device": "plant-a/press-7", "metric": "m", "value": "hot"}, {"device": "a+b", "metric": "m", "value": 1}]"#;
    stack.post("/v1/readings", "application/json", refused).expect(422);
    stack.post("/v1/readings", "application/json", b"[\xff\xfe".to_vec()).expect(400);
    stack.settled();
    (stack, home)
}

#[test]
fn the_document_is_valid_and_its_examples_fit_their_schemas() {
    let stack = Stack::embedded();
    let document = stack.file("openapi.json", stack.ask(&Ask::new("GET", "/openapi.json").anonymous()).ok().body);
    let checked = Command::new(PROGRAMS.join("python")).arg(Path::new(HELPERS).join("check.py")).arg(document).output().unwrap();
    assert!(checked.status.success(), "{}", said(&checked));
}

#[test]
fn the_page_shows_the_document_and_its_forms_work() {
    let (stack, _home) = furnished();
    let shown = Command::new("node")
        .arg(Path::new(HELPERS).join("page.mjs"))
        .arg(&stack.base)
        .env("HEADWATER_TOKEN", &stack.token)
        .output()
        .unwrap();
    assert!(shown.status.success(), "{}", said(&shown));
    let text = String::from_utf8(shown.stdout).unwrap();
    for fact in
        ["/v1/dead-letters/{id}", "Needs a token with the scope read:stats", "tag.<name>", "no_such_dead_letter", "percentile_error"]
    {
        assert!(text.contains(fact), "{fact}");
    }
    assert!(text.contains(&format!("curl -sS '{}/v1/stats' -H \"Authorization: Bearer $HEADWATER_TOKEN\"", stack.base)), "{text}");
}

/// Lets schemathesis loose on a server with this token; every finding fails the test.
fn search(stack: &Stack, token: &str, arguments: &[&str]) {
    let mut command = Command::new(PROGRAMS.join("schemathesis"));
    command.arg("--config-file").arg(Path::new(HELPERS).join("schemathesis.toml")).arg("run");
    command.arg(format!("{}/openapi.json", stack.base)).args(arguments).current_dir(stack.home.path());
    command.env("SCHEMATHESIS_HOOKS", Path::new(HELPERS).join("hooks.py")).env("HEADWATER_TOKEN", token);
    // Sets have the same order every time, so that a seed means the same requests.
    let output = command.env("PYTHONHASHSEED", "0").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    println!("{}", said(&output));
}

#[test]
fn a_search_through_everything_that_may_be_asked_finds_no_surprise() {
    let (stack, _home) = furnished();
    search(&stack, &stack.token, &[]);
}

#[test]
fn a_search_with_a_narrow_token_finds_no_surprise() {
    let (stack, _home) = furnished();
    let token = stack.issue(&["--scope", "read:stats", "--devices", "plant-a/*"]);
    search(&stack, &token, &["--phases", "examples,coverage"]);
}
