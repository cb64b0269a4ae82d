//! Whom is trusted where we are the client: the system's authorities, and one more that was named.
//!
//! Owns: [`Roots`], and what clients make of them. Does not know: who is asked for what.
//! Invariants: certificates are always verified, names included; the cryptography is aws-lc-rs, named here.

use anyhow::{Context, Result, anyhow, bail};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

/// Authorities that are trusted.
#[derive(Debug, Clone)]
pub struct Roots(Vec<CertificateDer<'static>>);

impl Roots {
    /// The system's, and those of the PEM file `ca`.
    ///
    /// # Errors
    /// The file cannot be read or holds no certificate; or there is no authority at all.
    pub fn load(ca: Option<&Path>) -> Result<Self> {
        let mut roots = match ca {
            Some(path) => of_file(path)?,
            None => Vec::new(),
        };
        // What of the system's cannot be read is not trusted, which the failing connection will tell.
        roots.extend(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            bail!("this system has no certificates of authorities (such as the package ca-certificates), and none was named");
        }
        Ok(Self(roots))
    }

    /// Nobody.
    pub(crate) const fn none() -> Self {
        Self(Vec::new())
    }

    /// For clients on rustls.
    ///
    /// # Errors
    /// None that depends on the authorities.
    pub fn client(&self) -> Result<Arc<ClientConfig>> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.0.iter().cloned());
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .context("choose the versions of TLS")?;
        Ok(Arc::new(builder.with_root_certificates(store).with_no_client_auth()))
    }

    /// For clients on ureq.
    pub fn ureq(&self) -> TlsConfig {
        let roots: Vec<Certificate<'static>> = self.0.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
        TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(default_provider()))
            .root_certs(RootCerts::new_with_certs(&roots))
            .build()
    }
}

fn of_file(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = std::fs::read(path).with_context(|| format!("read the certificate of the authority {}", path.display()))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|why| anyhow!("{} is no PEM file of certificates: {why}", path.display()))?;
    if found.is_empty() {
        bail!("{} holds no certificate (PEM, `BEGIN CERTIFICATE`)", path.display());
    }
    let mut store = RootCertStore::empty();
    for certificate in &found {
        store.add(certificate.clone()).map_err(|why| anyhow!("a certificate in {} cannot be read: {why}", path.display()))?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_was_named_must_be_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let refused = |path: &Path| format!("{:#}", Roots::load(Some(path)).unwrap_err());
        assert!(refused(&path).contains("ca.pem"), "{}", refused(&path));
        for (text, word) in [
            ("", "holds no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
            ("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n", "no PEM file"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(refused(&path).contains(word), "{}", refused(&path));
        }
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&path, made.cert.pem()).unwrap();
        let roots = Roots::load(Some(&path)).unwrap();
        assert!(roots.client().is_ok() && !roots.0.is_empty());
    }
}
