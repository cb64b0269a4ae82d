//! The key of the built-in issuer: where it is, and who may make it.
//!
//! Owns: the choice between the key of the data directory and a shared one. Does not know: what a key looks like.
//! Invariant: only a server makes a key, and only in its own data directory; a key that was named must exist.

use crate::config::Settings;
use anyhow::{Context, bail};
use headwater_web::{SigningKey, VerifyingKey};
use std::path::Path;

/// What a server has.
pub(crate) struct Keys {
    /// For signing, where the private part is at hand.
    pub(crate) signing: Option<SigningKey>,
    /// For verifying.
    pub(crate) verifying: VerifyingKey,
    /// Whether it was made just now: the very first start.
    pub(crate) made: bool,
}

/// The key of a server, made on the first start.
pub(crate) fn of_server(settings: &Settings) -> anyhow::Result<Keys> {
    match settings.auth.key_file() {
        Some(shared) => of_file(shared),
        None => {
            let path = settings.key_file();
            let made = !path.try_exists().with_context(|| format!("look for the token key {}", path.display()))?;
            let signing = SigningKey::open_or_create(&path).with_context(|| format!("open the token key {}", path.display()))?;
            Ok(Keys { verifying: signing.verifying_key(), signing: Some(signing), made })
        }
    }
}

/// A shared key; a public one only verifies.
fn of_file(path: &Path) -> anyhow::Result<Keys> {
    let named = || format!("open the token key {} (auth.key_file)", path.display());
    let text = std::fs::read_to_string(path).with_context(named)?;
    if text.contains("PRIVATE KEY") {
        let signing = SigningKey::open(path).with_context(named)?;
        return Ok(Keys { verifying: signing.verifying_key(), signing: Some(signing), made: false });
    }
    Ok(Keys { verifying: VerifyingKey::open(path).with_context(named)?, signing: None, made: false })
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
