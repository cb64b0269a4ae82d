//! How a connection is encrypted: rustls with the one crypto provider of this project.
//!
//! Owns: the connector. Does not know: when it is used (`config::Sslmode`).
//! Invariant: a certificate is verified against the authorities of `tls_ca`, or else those of the machine, and so is the name.

use crate::config::{Config, Sslmode};
use headwater_core::store::StoreError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;

/// A connector; where nothing is encrypted, one that trusts nobody and is never asked.
pub(crate) fn connector(config: &Config, sslmode: Sslmode) -> Result<MakeRustlsConnect, StoreError> {
    let roots = match (sslmode, &config.tls_ca) {
        (Sslmode::Disable, _) => RootCertStore::empty(),
        (_, Some(path)) => from_file(path)?,
        (_, None) => of_the_machine()?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Stopped(format!("cannot set up TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(tls))
}

fn from_file(path: &Path) -> Result<RootCertStore, StoreError> {
    let unreadable = |why: &dyn std::fmt::Display| StoreError::Stopped(format!("cannot read tls_ca {}: {why}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        roots.add(certificate).map_err(|error| unreadable(&error))?;
    }
    if roots.is_empty() {
        return Err(unreadable(&"it holds no certificate"));
    }
    Ok(roots)
}

fn of_the_machine() -> Result<RootCertStore, StoreError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(StoreError::Stopped(format!(
            "this machine has no certificate authorities ({} errors, {ignored} unreadable): give tls_ca, or sslmode=disable",
            found.errors.len()
        )));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, "nothing").unwrap();
        let config = Config { tls_ca: Some(path), ..Config::default() };
        let refused = connector(&config, Sslmode::Verify).err().unwrap().to_string();
        assert!(refused.contains("ca.pem"), "{refused}");
        assert!(connector(&config, Sslmode::Disable).is_ok());
    }
}
