//! The key of the built-in issuer: where it is, and who may make it.
//!
//! Owns: the choice between the key of the data directory and a shared one, and who is made of it. Does not know: what a key looks
//! like, how it is rotated.
//! Invariant: only a server makes a key, and only in its own data directory; a key that was named must exist.

use crate::config::Settings;
use anyhow::{Context, bail};
use headwater_core::clock::Clock;
use headwater_web::{Face, Provider, Ring, SigningKey, Verifier, issuer};
use std::path::Path;
use std::sync::Arc;

/// Beside the key in the data directory, after a rotation: the public parts of those before it.
pub(crate) const RETIRED_FILE: &str = "token-key.pem.retired";

/// What a server has.
pub(crate) struct Keys {
    /// The key that signs, where the private part is at hand, and all that verify. It follows its files.
    pub(crate) ring: Arc<Ring>,
    /// Whether it was made just now: the very first start.
    pub(crate) made: bool,
}

/// The key of a server, made on the first start.
pub(crate) fn of_server(settings: &Settings) -> anyhow::Result<Keys> {
    if let Some(shared) = settings.auth.key_file() {
        let ring = Ring::open(shared).with_context(|| format!("open the token key {} (auth.key_file)", shared.display()))?;
        return Ok(Keys { ring, made: false });
    }
    let path = settings.key_file();
    make_directory(&settings.data_dir)?;
    let named = || format!("open the token key {}", path.display());
    let made = !path.try_exists().with_context(|| format!("look for the token key {}", path.display()))?;
    SigningKey::open_or_create(&path).with_context(named)?;
    Ok(Keys { ring: Ring::open(&path).with_context(named)?, made })
}

impl Keys {
    /// Who tells good tokens from others: ours, and those of the providers in the configuration.
    pub(crate) fn verifier(&self, settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<Verifier> {
        let auth = &settings.auth;
        let own = Verifier::of_ring(&self.ring, &auth.issuer, &auth.audience, clock);
        auth.providers().try_fold(own, |verifier, provider| Ok(verifier.with(Provider::open(provider)?)))
    }

    /// The built-in issuer over HTTP.
    pub(crate) fn face(&self, settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<Face> {
        let auth = &settings.auth;
        issuer::face(issuer::Deps {
            ring: Arc::clone(&self.ring),
            clock,
            issuer: auth.issuer.clone(),
            audience: auth.audience.clone(),
            clients: auth.clients.clone(),
        })
    }
}

/// Where nothing is embedded, nobody has made the data directory yet.
fn make_directory(dir: &Path) -> anyhow::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(dir).with_context(|| format!("make the data directory {}", dir.display()))
}

/// The key for signing beside a server; never made here.
pub(crate) fn signing(settings: &Settings) -> anyhow::Result<SigningKey> {
    let path = settings.key_file();
    match path.try_exists() {
        Ok(true) => SigningKey::open(&path).with_context(|| format!("open the token key {}", path.display())),
        Ok(false) => bail!("there is no token key at {}: it is made by the first start of a server (is --data-dir right?)", path.display()),
        Err(why) => Err(why).with_context(|| format!("look for the token key {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Flags};
    use crate::environment::Environment;

    #[test]
    fn asking_for_a_token_never_makes_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let flags = Flags::default().with("data_dir", "--data-dir", dir.path().to_str());
        let settings = config::load(None, &Environment::default(), flags).unwrap();
        let refused = signing(&settings).err().unwrap().to_string();
        assert!(refused.contains("there is no token key") && refused.contains("--data-dir"), "{refused}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_server_makes_its_key_once() {
        let dir = tempfile::tempdir().unwrap();
        let flags = || Flags::default().with("data_dir", "--data-dir", dir.path().to_str());
        let settings = config::load(None, &Environment::default(), flags()).unwrap();
        assert!(of_server(&settings).unwrap().made);
        assert!(!of_server(&settings).unwrap().made);
        signing(&settings).unwrap();
    }

    #[test]
    fn a_key_that_was_named_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let shared = dir.path().join("shared.pem");
        let environment = Environment::from_iter([("HEADWATER_AUTH__KEY_FILE", shared.to_str().unwrap())]);
        let settings = config::load(None, &environment, Flags::default()).unwrap();
        assert!(format!("{:#}", of_server(&settings).err().unwrap()).contains("auth.key_file"));
        assert!(!shared.exists());
    }
}
