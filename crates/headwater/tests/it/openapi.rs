//! The API's document against a running server: it is valid OpenAPI 3.1.
//!
//! The validator comes from PyPI, once, into a Python environment below `target/`.

use crate::client::Ask;
use crate::stack::Stack;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

const SCHEMATHESIS: &str = "4.32.5";
const VALIDATOR: &str = "0.9.0";
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

#[test]
fn the_document_is_valid_and_its_examples_fit_their_schemas() {
    let stack = Stack::embedded();
    let document = stack.file("openapi.json", stack.ask(&Ask::new("GET", "/openapi.json").anonymous()).ok().body);
    let checked = Command::new(PROGRAMS.join("python")).arg(Path::new(HELPERS).join("check.py")).arg(document).output().unwrap();
    assert!(checked.status.success(), "{}", said(&checked));
}
