//! The door with TLS, as an operator and a client on the command line meet it.

use crate::stack::{HEADWATER, SOON, Stack, clean, refused_start, signal, wait_for};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use tempfile::TempDir;

/// A server on a directory of its own, with a certificate for `localhost` by an authority of its own.
struct Secure {
    home: TempDir,
    child: Child,
    url: String,
}

/// Writes `ca.pem`, `cert.pem` and `key.pem`.
fn certificates(home: &Path, name: &str) {
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    for (file, text) in [("ca.pem", issuer.pem()), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())] {
        std::fs::write(home.join(file), text).unwrap();
    }
}

impl Secure {
    fn start() -> Self {
        let home = tempfile::Builder::new().prefix("headwater-it-").tempdir().unwrap();
        certificates(home.path(), "localhost");
        let said = std::fs::File::create(home.path().join("said")).unwrap();
        // Anybody can reach this address, and no --insecure is said.
        let child = clean(HEADWATER)
            .args(["up", "--data-dir", "data", "--listen", "0.0.0.0:0"])
            .envs([("HEADWATER_HTTP__TLS_CERT", "cert.pem"), ("HEADWATER_HTTP__TLS_KEY", "key.pem")])
            .current_dir(home.path())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .unwrap();
        let mut secure = Self { home, child, url: String::new() };
        let port = wait_for("the server to be ready", SOON, || {
            let said = std::fs::read_to_string(secure.path("said")).unwrap();
            assert!(secure.child.try_wait().unwrap().is_none(), "it has ended: {said}");
            let address = said.lines().find_map(|line| line.trim().strip_prefix("address "))?.trim().to_owned();
            Some(address.strip_prefix("https://0.0.0.0:").unwrap_or_else(|| panic!("{address}")).to_owned())
        });
        secure.url = format!("https://localhost:{port}");
        secure
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn run_as(&self, url: &str, ca: Option<&str>, arguments: &[&str]) -> Output {
        let mut command = clean(HEADWATER);
        command.args(arguments).args(["--url", url, "--data-dir", "data"]).current_dir(self.home.path());
        command.args(ca.map(|ca| ["--ca-cert", ca]).into_iter().flatten()).output().unwrap()
    }

    fn output(&self, arguments: &[&str]) -> String {
        let output = self.run_as(&self.url, Some("ca.pem"), arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- what the server said ---\n{}", std::fs::read_to_string(self.path("said")).unwrap_or_default());
        }
    }
}

#[test]
fn every_client_command_works_over_https() {
    let mut secure = Secure::start();
    std::fs::write(secure.path("a.csv"), "device,metric,ts,value\na,m,1767571200,1\na,m,1767571260,3\n").unwrap();
    secure.output(&["import", "a.csv"]);
    let rows = |text: String| serde_json::from_str::<Value>(&text).unwrap()["rows"].as_array().map_or(0, Vec::len);
    wait_for("both readings", SOON, || {
        (rows(secure.output(&["readings", "--json", "--device", "a", "--from", "2026-01-01T00:00:00Z"])) == 2).then_some(())
    });
    assert_eq!(rows(secure.output(&["latest", "--json", "--device", "a"])), 1);
    assert_eq!(rows(secure.output(&["series", "--json", "--device", "a"])), 1);
    let stats = secure.output(&["stats", "-o", "csv", "--device", "a", "--from", "2026-01-01T00:00:00Z", "--stats", "avg"]);
    assert!(stats.lines().nth(1).is_some_and(|line| line.contains(",2")), "{stats}");
    secure.output(&["seal"]);
    let sent = secure.output(&["simulate", "--devices", "5", "--rate", "100/s", "--duration", "1s", "--json"]);
    assert!(
        serde_json::from_str::<Value>(&sent).unwrap()["readings"]["accepted"].as_u64().is_some_and(|accepted| accepted >= 50),
        "{sent}"
    );
    signal(secure.child.id(), "TERM");
    assert!(secure.child.wait().unwrap().success());
}

#[test]
fn a_client_that_cannot_trust_is_told_why_and_sends_nothing() {
    let secure = Secure::start();
    let refused = |url: &str, ca: Option<&str>| {
        let output = secure.run_as(url, ca, &["latest"]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    std::fs::create_dir(secure.path("other")).unwrap();
    certificates(&secure.path("other"), "localhost");
    let unknown = refused(&secure.url, Some("other/ca.pem"));
    assert!(unknown.contains("--ca-cert FILE") && unknown.contains("HEADWATER_CA_CERT"), "{unknown}");
    let (_, port) = secure.url.rsplit_once(':').unwrap();
    let name = refused(&format!("https://127.0.0.1:{port}"), Some("ca.pem"));
    assert!(name.contains("for another name"), "{name}");
    let plain = refused(&format!("http://localhost:{port}"), None);
    assert!(plain.contains("https://"), "{plain}");
    let missing = refused(&secure.url, Some("nothing.pem"));
    assert!(missing.contains("nothing.pem"), "{missing}");
    let plain_server = Stack::embedded();
    let tls = refused(&plain_server.base.replace("http://", "https://"), Some("ca.pem"));
    assert!(tls.contains("speaks no TLS") && tls.contains("http://"), "{tls}");
}

#[test]
fn the_authority_may_stand_in_the_environment() {
    let secure = Secure::start();
    let mut command = clean(HEADWATER);
    command.args(["latest", "--data-dir", "data"]).current_dir(secure.home.path());
    let output = command.env("HEADWATER_URL", &secure.url).env("HEADWATER_CA_CERT", "ca.pem").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_renewed_certificate_is_shown_without_a_restart() {
    let secure = Secure::start();
    let trusted = |ca: &str| secure.run_as(&secure.url, Some(ca), &["latest"]).status.success();
    std::fs::copy(secure.path("ca.pem"), secure.path("old-ca.pem")).unwrap();
    certificates(secure.home.path(), "localhost");
    wait_for("the new certificate", SOON, || trusted("ca.pem").then_some(()));
    assert!(!trusted("old-ca.pem"));
    // A pair that does not belong together changes nothing, and that is said once.
    std::fs::copy(secure.path("ca.pem"), secure.path("cert.pem")).unwrap();
    let said = || std::fs::read_to_string(secure.path("said")).unwrap().matches("the old one stays").count();
    wait_for("a warning", SOON, || (said() > 0).then_some(()));
    assert!(trusted("ca.pem") && said() == 1);
}

#[test]
fn a_certificate_that_cannot_be_used_stops_the_start_in_words() {
    let home = tempfile::tempdir().unwrap();
    certificates(home.path(), "localhost");
    let (cert, key) = (home.path().join("cert.pem"), home.path().join("key.pem"));
    let start = |cert: &Path, key: &Path, more: &[&str]| {
        let file = home.path().join("h.toml");
        std::fs::write(&file, format!("[http]\ntls_cert = {cert:?}\ntls_key = {key:?}\n")).unwrap();
        let arguments = [&["--config", file.to_str().unwrap(), "--listen", "127.0.0.1:0"][..], more].concat();
        let (status, said) = refused_start(&home.path().join("data"), &arguments);
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(!home.path().join("data").exists(), "nothing was made");
        said
    };
    assert!(start(&cert, Path::new(""), &[]).contains("http.tls_key: is needed"));
    assert!(start(&home.path().join("no.pem"), &key, &[]).contains("no.pem"));
    assert!(start(&home.path().join("ca.pem"), &key, &[]).contains("does not belong to the first certificate"));
    assert!(start(&cert, &cert, &[]).contains("holds no private key"));
    assert!(start(&cert, &key, &["--demo"]).contains("--demo"));
}
