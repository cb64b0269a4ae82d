//! TLS for the listener: which certificate it shows, and a new one when the files change.
//!
//! Owns: [`Tls`] (certificate and key from two PEM files, followed while the server runs), the count of handshakes, and until when the certificate is good. Does not
//! know: deadlines and places (a handshake happens inside those of its connection), HTTP.
//! Invariants: the cryptography is aws-lc-rs, named here and never a default of the process; TLS 1.2 and 1.3 and nothing older;
//! a pair of files that cannot be used never takes the place of one that can.

mod expiry;

pub use expiry::validity;

use crate::config::Config;
use anyhow::{Context, Result, anyhow, bail};
use aws_lc_rs::digest::{SHA256, digest};
use headwater_core::metrics::{Gauge, Registry};
use rustls::crypto::aws_lc_rs as crypto;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{Error as TlsError, InconsistentKeys, ServerConfig};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;

/// How often the files are looked at: a renewed certificate is in use within this time, twice at most.
const EVERY: Duration = Duration::from_secs(5);
/// How often clients that speak no TLS are logged.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// A chain has some KiB; a wrong path shall not read a whole disk.
const LARGEST_FILE: u64 = 1 << 20;

/// What the listener shows of itself.
pub struct Tls {
    files: Files,
    current: RwLock<Arc<ServerConfig>>,
    watch: Mutex<Watch>,
    counts: Counts,
    /// Until when the certificate in use is good, in seconds since the epoch.
    not_after: Gauge,
    said: Mutex<Option<Instant>>,
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// What the files held when they were last looked at.
struct Watch {
    mark: Mark,
    verdict: Verdict,
}

type Mark = [u8; 32];

/// What was thought of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    /// Wrong, but perhaps only half written: it is looked at once more.
    Unsure,
    /// Wrong, and that was said.
    Told,
}

#[derive(Default)]
struct Counts {
    done: AtomicU64,
    not_tls: AtomicU64,
    failed: AtomicU64,
}

/// How handshakes have ended since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Handshakes {
    /// Well.
    pub done: u64,
    /// The client spoke something else, such as plain HTTP.
    pub not_tls: u64,
    /// In another way: nothing in common, a certificate that the client does not trust, a client that went away or was too slow.
    pub failed: u64,
}

impl Tls {
    /// The pair of files that the configuration names, if it names one.
    ///
    /// # Errors
    /// A file cannot be read, holds nothing usable, or the two do not belong together; the paths are named.
    pub fn of(config: &Config) -> Result<Option<Arc<Self>>> {
        let (certificate, key) = (&config.tls_cert, &config.tls_key);
        if certificate.is_empty() && key.is_empty() {
            return Ok(None);
        }
        let files = Files { certificate: certificate.into(), key: key.into() };
        let pair = files.read()?;
        let watch = Mutex::new(Watch { mark: pair.mark(), verdict: Verdict::Good });
        let current = RwLock::new(Arc::new(files.config(&pair)?));
        let not_after = Gauge::default();
        show(&not_after, &pair);
        Ok(Some(Arc::new(Self { files, current, watch, counts: Counts::default(), not_after, said: Mutex::default() })))
    }

    /// Shows until when the certificate is good.
    pub fn measure(&self, registry: &mut Registry) {
        let help = "Until when the certificate that the listener shows is good, since the epoch";
        let (shown, known) = (registry.gauge("headwater_tls_certificate_expiry_timestamp_seconds", help), self.not_after.clone());
        registry.source(Duration::ZERO, move || {
            known.get().map_or_else(|| shown.forget(), |at| shown.set(at));
            std::future::ready(())
        });
    }

    /// How handshakes have ended so far.
    pub fn handshakes(&self) -> Handshakes {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Handshakes { done: of(&self.counts.done), not_tls: of(&self.counts.not_tls), failed: of(&self.counts.failed) }
    }

    /// Follows the files, for ever.
    pub(crate) async fn follow(self: Arc<Self>) {
        loop {
            sleep(EVERY).await;
            let tls = Arc::clone(&self);
            // Looking panics nowhere; were it to, the certificate in use stays.
            drop(tokio::task::spawn_blocking(move || tls.look()).await);
        }
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Counts a handshake that ended well.
    pub(crate) fn done(&self) {
        self.counts.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a handshake that was cut.
    pub(crate) fn slow(&self) {
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a handshake that failed.
    pub(crate) fn failed(&self, error: &io::Error) {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<TlsError>());
        if !matches!(cause, Some(TlsError::InvalidMessage(_))) {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%error, "a TLS handshake failed");
            return;
        }
        let so_far = self.counts.not_tls.fetch_add(1, Ordering::Relaxed) + 1;
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            *said = Some(Instant::now());
            tracing::warn!(so_far, "closed a connection that spoke no TLS; clients say https:// here");
        }
    }

    /// Looks at the files and takes up what is new in them.
    fn look(&self) {
        let read = self.files.read();
        let mark = match &read {
            Ok(pair) => pair.mark(),
            Err(why) => hash(&[format!("{why:#}").as_bytes()]),
        };
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let same = mark == watch.mark;
        if same && watch.verdict != Verdict::Unsure {
            return;
        }
        watch.mark = mark;
        watch.verdict = match read.and_then(|pair| Ok((self.files.config(&pair)?, pair))) {
            Ok((config, pair)) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                show(&self.not_after, &pair);
                tracing::info!(certificate = %self.files.certificate.display(), "took up a new certificate");
                Verdict::Good
            }
            Err(_) if !same => Verdict::Unsure,
            Err(why) => {
                tracing::warn!("the new certificate or its key cannot be used, the old one stays: {why:#}");
                Verdict::Told
            }
        };
    }
}

/// Takes over the end of the first certificate of a pair.
fn show(not_after: &Gauge, pair: &Pair) {
    let first = CertificateDer::pem_slice_iter(&pair.certificate).next().and_then(Result::ok);
    let end = first.and_then(|certificate| expiry::not_after(&certificate));
    end.map_or_else(|| not_after.forget(), |seconds| not_after.set(seconds as f64));
}

/// The bytes of both files.
struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Pair {
    /// Tells one content from another; times and inodes do not matter, so links and mounts that are swapped work too.
    fn mark(&self) -> Mark {
        hash(&[&self.certificate, &self.key])
    }
}

fn hash(parts: &[&[u8]]) -> Mark {
    let marks: Vec<u8> = parts.iter().flat_map(|part| digest(&SHA256, part).as_ref().to_vec()).collect();
    let mut mark = [0; 32];
    mark.copy_from_slice(digest(&SHA256, &marks).as_ref());
    mark
}

impl Files {
    fn read(&self) -> Result<Pair> {
        let certificate = read(&self.certificate).with_context(|| format!("read the certificate {}", self.certificate.display()))?;
        let key = read(&self.key).with_context(|| format!("read the key {}", self.key.display()))?;
        Ok(Pair { certificate, key })
    }

    fn config(&self, pair: &Pair) -> Result<ServerConfig> {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pair.certificate)
            .collect::<Result<_, _>>()
            .map_err(|why| anyhow!("{certificate} is no PEM file of certificates: {why}"))?;
        if chain.is_empty() {
            bail!("{certificate} holds no certificate (PEM, `BEGIN CERTIFICATE`)");
        }
        let private = private_key(&pair.key, &self.key)?;
        let builder = ServerConfig::builder_with_provider(Arc::new(crypto::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .context("choose the versions of TLS")?;
        let made = builder.with_no_client_auth().with_single_cert(chain, private);
        let mut config = made.map_err(|why| match why {
            TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                anyhow!("the key in {key} does not belong to the first certificate in {certificate}")
            }
            TlsError::InvalidCertificate(why) => anyhow!("the first certificate in {certificate} cannot be read: {why:?}"),
            why => anyhow!("the key in {key} cannot be used: {why}"),
        })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Devices that come again save both sides the costly part of the handshake, without memory here.
        config.ticketer = crypto::Ticketer::new().context("make the keys of session tickets")?;
        Ok(config)
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large to be one"));
    }
    Ok(bytes)
}

fn private_key(pem: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>> {
    let path = path.display();
    let text = String::from_utf8_lossy(pem);
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        bail!(
            "the key in {path} is encrypted, and a server has nobody to ask for the password; `openssl pkey -in {path}` writes it without"
        );
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| anyhow!("{path} holds no private key (PEM, `BEGIN PRIVATE KEY`)"))
}

#[cfg(test)]
mod tests;
