//! Certificates that are taken up and certificates that are refused.

use super::*;
use tempfile::TempDir;

/// A certificate and its key, as PEM.
fn made(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn write(directory: &TempDir, (certificate, key): &(String, String)) -> Config {
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let config = Config { tls_cert: path("cert.pem"), tls_key: path("key.pem"), ..Config::default() };
    std::fs::write(&config.tls_cert, certificate).unwrap();
    std::fs::write(&config.tls_key, key).unwrap();
    config
}

fn refusal(certificate: &str, key: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let config = write(&directory, &(certificate.to_owned(), key.to_owned()));
    format!("{:#}", Tls::of(&config).err().expect("it is refused"))
}

fn in_use(tls: &Tls) -> Arc<ServerConfig> {
    Arc::clone(&tls.current.read().unwrap())
}

#[test]
fn without_a_certificate_there_is_no_tls() {
    assert!(Tls::of(&Config::default()).unwrap().is_none());
}

#[test]
fn a_pair_that_cannot_be_used_is_refused_in_words() {
    let ((certificate, key), (_, other)) = (made("localhost"), made("localhost"));
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let legacy = key.replace("-----\nM", "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nM");
    for (certificate, key, words) in [
        (certificate.as_str(), other.as_str(), &["does not belong to the first certificate", "cert.pem", "key.pem"][..]),
        (&certificate, &encrypted, &["encrypted", "openssl pkey -in", "key.pem"]),
        (&certificate, &legacy, &["encrypted", "key.pem"]),
        (&certificate, "", &["holds no private key", "key.pem"]),
        (&certificate, &certificate, &["holds no private key", "key.pem"]),
        ("", &key, &["holds no certificate", "cert.pem"]),
        ("hello", &key, &["holds no certificate", "cert.pem"]),
        (&key, &key, &["holds no certificate", "cert.pem"]),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &key, &["cert.pem", "cannot be read"]),
    ] {
        let said = refusal(certificate, key);
        for word in words {
            assert!(said.contains(word), "`{word}` in {said}");
        }
        assert!(!said.contains("MIG"), "nothing of the key is told: {said}");
    }
    let missing = Config { tls_cert: "/nonexistent/cert.pem".to_owned(), tls_key: "/nonexistent/key.pem".to_owned(), ..Config::default() };
    assert!(format!("{:#}", Tls::of(&missing).err().unwrap()).contains("/nonexistent/cert.pem"));
}

#[test]
fn a_key_and_its_certificate_may_share_a_file() {
    let (certificate, key) = made("localhost");
    let directory = tempfile::tempdir().unwrap();
    let both = format!("{key}{certificate}");
    assert!(Tls::of(&write(&directory, &(both.clone(), both))).is_ok());
}

#[test]
fn a_new_pair_is_taken_up_and_a_bad_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (made("old"), made("new"));
    let config = write(&directory, &old);
    let tls = Tls::of(&config).unwrap().unwrap();
    let verdict = || tls.watch.lock().unwrap().verdict;
    let first = in_use(&tls);
    tls.look();
    assert!(Arc::ptr_eq(&first, &in_use(&tls)), "nothing is new");

    // The certificate is there before its key, as when both are copied one after the other: nothing is said yet.
    std::fs::write(&config.tls_cert, &new.0).unwrap();
    tls.look();
    assert!(Arc::ptr_eq(&first, &in_use(&tls)) && verdict() == Verdict::Unsure);
    std::fs::write(&config.tls_key, &new.1).unwrap();
    tls.look();
    let second = in_use(&tls);
    assert!(!Arc::ptr_eq(&first, &second) && verdict() == Verdict::Good);

    // Wrong twice is wrong, and said once.
    std::fs::write(&config.tls_key, "nothing").unwrap();
    for expected in [Verdict::Unsure, Verdict::Told, Verdict::Told] {
        tls.look();
        assert!(Arc::ptr_eq(&second, &in_use(&tls)) && verdict() == expected);
    }
    std::fs::remove_file(&config.tls_key).unwrap();
    tls.look();
    assert!(Arc::ptr_eq(&second, &in_use(&tls)) && verdict() == Verdict::Unsure);
    write(&directory, &old);
    tls.look();
    assert!(!Arc::ptr_eq(&second, &in_use(&tls)) && verdict() == Verdict::Good);
}
