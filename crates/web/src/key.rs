//! The keys of the built-in issuer: Ed25519, in PEM.
//!
//! Owns: [`SigningKey`] (PKCS#8 v1, made on first start, mode 0600) and [`VerifyingKey`] (SPKI, or the public half of a
//! signing key). Does not know: what is signed.
//! Invariants: a key file appears whole and durable or not at all, and an existing one is only replaced where that is asked for;
//! a key's id is its RFC 7638 thumbprint, so it depends on the key alone.

use anyhow::{Context, Result, bail};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Far more than a key has, so that a wrong path does not read a whole disk.
const LARGEST_FILE: u64 = 64 * 1024;

/// A key that signs tokens. Its `Debug` shows the id alone.
pub struct SigningKey {
    pub(crate) encoding: EncodingKey,
    verifying: VerifyingKey,
}

/// A key that verifies tokens.
#[derive(Clone)]
pub struct VerifyingKey {
    pub(crate) id: String,
    pub(crate) decoding: DecodingKey,
    pub(crate) jwk: Jwk,
}

impl SigningKey {
    /// Opens the key at `path`, making a new one where there is no file.
    ///
    /// # Errors
    /// The file cannot be read or made, or holds no Ed25519 private key; the path is named.
    pub fn open_or_create(path: &Path) -> Result<Self> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                create(path).with_context(|| format!("make the signing key {}", path.display()))?;
                tracing::info!(path = %path.display(), "made a new signing key");
                Self::open(path)
            }
            _ => Self::open(path),
        }
    }

    /// Opens the key at `path`.
    ///
    /// # Errors
    /// There is none, it cannot be read, or it is no Ed25519 private key; the path is named.
    pub fn open(path: &Path) -> Result<Self> {
        let pem = read(path)?;
        warn_of_readers(path);
        Self::from_pem(&pem).with_context(|| format!("read the signing key {}", path.display()))
    }

    /// The key of a PEM text.
    ///
    /// # Errors
    /// It is no Ed25519 private key in PKCS#8.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let encoding = EncodingKey::from_ed_pem(pem.as_bytes()).context("this is no Ed25519 private key (PKCS#8, PEM)")?;
        let jwk = Jwk::from_encoding_key(&encoding, Algorithm::EdDSA).context("this is no Ed25519 private key in PKCS#8 version 1")?;
        Ok(Self { encoding, verifying: VerifyingKey::from_jwk(&jwk)? })
    }

    /// Its public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.verifying.clone()
    }

    /// Its id, the `kid` of what it signs.
    pub fn id(&self) -> &str {
        &self.verifying.id
    }
}

impl VerifyingKey {
    /// Opens the key at `path`: a public key, or the public half of a private one.
    ///
    /// # Errors
    /// There is none, it cannot be read, or it is no Ed25519 key; the path is named.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_pem(&read(path)?).with_context(|| format!("read the key {}", path.display()))
    }

    /// The key of a PEM text, public or private.
    ///
    /// # Errors
    /// It is no Ed25519 key.
    pub fn from_pem(pem: &str) -> Result<Self> {
        if pem.contains("PRIVATE KEY") {
            return Ok(SigningKey::from_pem(pem)?.verifying);
        }
        let decoding = DecodingKey::from_ed_pem(pem.as_bytes()).context("this is no Ed25519 public key (SPKI, PEM)")?;
        let jwk = Jwk::from_decoding_key(&decoding, Some(Algorithm::EdDSA)).context("this is no Ed25519 public key")?;
        Self::from_jwk(&jwk)
    }

    /// The key of a JWK.
    pub(crate) fn from_jwk(jwk: &Jwk) -> Result<Self> {
        let AlgorithmParameters::OctetKeyPair(parameters) = &jwk.algorithm else { bail!("this is no Ed25519 key") };
        if parameters.curve != EllipticCurve::Ed25519 {
            bail!("this is no Ed25519 key");
        }
        let id = jwk.thumbprint(ThumbprintHash::SHA256).context("compute the thumbprint of the key")?;
        let decoding = DecodingKey::from_jwk(jwk).context("take the public half of the key")?;
        let mut jwk = jwk.clone();
        jwk.common.key_id = Some(id.clone());
        jwk.common.key_algorithm = Some(KeyAlgorithm::EdDSA);
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self { id, decoding, jwk })
    }

    /// Its id: the RFC 7638 thumbprint.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.verifying.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey").field("id", &self.id).finish_non_exhaustive()
    }
}

pub(crate) fn read(path: &Path) -> Result<String> {
    let doing = || format!("open the key {}", path.display());
    if fs::metadata(path).with_context(doing)?.len() > LARGEST_FILE {
        bail!("{} is too large to be a key", path.display());
    }
    fs::read_to_string(path).with_context(doing)
}

/// Whoever reads the key can sign tokens. That may be meant (a shared group), so it is said and not refused.
fn warn_of_readers(path: &Path) {
    if let Ok(metadata) = fs::metadata(path) {
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            tracing::warn!(path = %path.display(), mode = %format!("{mode:o}"), "others can read the signing key; chmod 600 is enough");
        }
    }
}

/// A new key, as PEM.
pub(crate) fn generate() -> Result<String> {
    let pair = aws_lc_rs::signature::Ed25519KeyPair::generate().context("generate an Ed25519 key")?;
    // Version 1 of PKCS#8: jsonwebtoken takes no thumbprint of version 2, which is what `to_pkcs8` writes.
    let der = pair.to_pkcs8v1().context("encode an Ed25519 key")?;
    Ok(pem::encode(&pem::Pem::new("PRIVATE KEY", der.as_ref())))
}

/// Makes a key beside `path`, durable, and then gives it its name unless the name is taken by then.
fn create(path: &Path) -> Result<()> {
    let beside = write_beside(path, &generate()?, 0o600)?;
    // A link, because unlike a rename it never replaces: of two processes that start at once, one makes the key.
    let linked = fs::hard_link(&beside, path);
    fs::remove_file(&beside)?;
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        linked => linked?,
    }
    Ok(File::open(directory(path))?.sync_all()?)
}

/// Puts `text` in the place of the file at `path`, whole and durable, with the owner and mode of `like`.
pub(crate) fn replace(path: &Path, text: &str, like: &Path) -> Result<()> {
    let model = fs::metadata(like)?;
    let beside = write_beside(path, text, model.mode() & 0o777)?;
    let made = fs::metadata(&beside)?;
    if (made.uid(), made.gid()) != (model.uid(), model.gid()) {
        chown(&beside, Some(model.uid()), Some(model.gid())).context("give the file to the owner of the one before")?;
    }
    fs::rename(&beside, path)?;
    Ok(File::open(directory(path))?.sync_all()?)
}

fn write_beside(path: &Path, text: &str, mode: u32) -> Result<PathBuf> {
    let beside = beside(path);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).context("remove what an earlier start left behind"),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(beside)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    PathBuf::from(name)
}

pub(crate) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    #[test]
    fn a_key_is_made_once_and_readable_by_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        let made = SigningKey::open_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SigningKey::open_or_create(&path).unwrap().id(), made.id());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_key_that_appears_meanwhile_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        let first = SigningKey::open_or_create(&path).unwrap();
        create(&path).unwrap();
        assert_eq!(SigningKey::open(&path).unwrap().id(), first.id());
    }

    #[test]
    fn a_public_key_has_the_id_of_its_private_one() {
        let pair = Ed25519KeyPair::generate().unwrap();
        let private = pem::encode(&pem::Pem::new("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref()));
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let public = pem::encode(&pem::Pem::new("PUBLIC KEY", spki.as_ref()));
        let signing = SigningKey::from_pem(&private).unwrap();
        assert_eq!(VerifyingKey::from_pem(&public).unwrap().id(), signing.id());
        assert_eq!(VerifyingKey::from_pem(&private).unwrap().id(), signing.id());
        assert!(SigningKey::from_pem(&public).is_err());
    }

    #[test]
    fn a_thumbprint_is_that_of_the_rfc() {
        // RFC 8037, appendix A.3.
        let x = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        spki.extend(x);
        let public = pem::encode(&pem::Pem::new("PUBLIC KEY", spki));
        assert_eq!(VerifyingKey::from_pem(&public).unwrap().id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_by_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        for text in ["", "hello", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            fs::write(&path, text).unwrap();
            let error = SigningKey::open_or_create(&path).unwrap_err();
            assert!(format!("{error:#}").contains("key.pem"), "{error:#}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "it is left as it was");
        }
    }
}
