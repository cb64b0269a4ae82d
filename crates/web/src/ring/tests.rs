//! Rotation, and what is good before and after it.

use super::*;
use crate::token::{Grant, Refused, Verifier};
use crate::{Scope, Scopes};
use headwater_core::clock::{Clock, ManualClock};
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

const NOW: Timestamp = Timestamp(1_763_910_000 * SECOND);
const DAY_S: i64 = 86_400;

struct Home {
    directory: TempDir,
    path: PathBuf,
    clock: Arc<ManualClock>,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        SigningKey::open_or_create(&path).unwrap();
        Self { directory, path, clock: Arc::new(ManualClock::at(NOW)) }
    }

    fn after(&self, seconds: i64) -> Timestamp {
        self.clock.now().plus(seconds * SECOND)
    }

    fn verifier(&self) -> Verifier {
        Verifier::of_ring(&Ring::open(&self.path).unwrap(), "headwater", "headwater", Arc::<ManualClock>::clone(&self.clock))
    }

    /// A token by the key that signs now, for ten days.
    fn token(&self) -> String {
        let grant = Grant {
            issuer: "headwater".to_owned(),
            audience: "headwater".to_owned(),
            subject: "tester".to_owned(),
            scopes: Scopes::from(Scope::Admin),
            devices: None,
            ttl: Duration::from_secs(10 * 86_400),
        };
        SigningKey::open(&self.path).unwrap().sign(&grant, self.clock.now()).unwrap()
    }

    fn rotate(&self, until: Option<Timestamp>) -> Rotated {
        Ring::rotate(&self.path, self.clock.now(), until).unwrap()
    }
}

#[tokio::test]
async fn a_running_server_takes_up_a_rotated_key_by_the_first_token_that_it_signs() {
    let home = Home::new();
    let (verifier, before) = (home.verifier(), home.token());
    assert!(verifier.admit(&before).await.is_ok());
    let rotated = home.rotate(Some(home.after(10 * DAY_S)));
    assert_ne!(rotated.before, rotated.now);
    let after = home.token();
    assert_eq!(verifier.verify(&after), Err(Refused::UnknownKey), "it was not looked for yet");
    assert!(verifier.admit(&after).await.is_ok());
    assert!(verifier.admit(&before).await.is_ok(), "what was signed before stays good");
}

#[tokio::test(start_paused = true)]
async fn what_a_rotated_key_has_signed_is_good_until_its_time_and_no_longer() {
    let home = Home::new();
    let before = home.token();
    home.rotate(Some(home.after(2 * DAY_S)));
    let verifier = home.verifier();
    assert!(verifier.verify(&before).is_ok());
    home.clock.set(home.after(2 * DAY_S - 1));
    assert!(verifier.verify(&before).is_ok());
    home.clock.set(home.after(1));
    assert_eq!(verifier.verify(&before), Err(Refused::UnknownKey), "although the token itself has not expired");
    assert_eq!(verifier.admit(&before).await, Err(Refused::UnknownKey));
    // The next rotation forgets it.
    home.rotate(Some(home.after(DAY_S)));
    assert_eq!(read_retired(&home.path).unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_key_is_worthless_within_seconds_remembered_tokens_too() {
    let home = Home::new();
    let (verifier, first) = (Arc::new(home.verifier()), home.token());
    home.rotate(Some(home.after(DAY_S)));
    let second = home.token();
    assert!(verifier.admit(&first).await.is_ok() && verifier.admit(&second).await.is_ok());
    home.rotate(None);
    let stop = tokio_util::sync::CancellationToken::new();
    let keeping = tokio::spawn(Arc::clone(&verifier).keep_fresh(stop.clone()));
    tokio::time::sleep(EVERY * 2).await;
    for token in [first, second] {
        assert_eq!(verifier.verify(&token), Err(Refused::UnknownKey));
    }
    assert!(verifier.verify(&home.token()).is_ok());
    stop.cancel();
    keeping.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn keys_that_cannot_be_read_any_more_change_nothing() {
    let home = Home::new();
    let ring = Ring::open(&home.path).unwrap();
    let token = home.token();
    let verifier = Arc::new(Verifier::of_ring(&ring, "headwater", "headwater", Arc::<ManualClock>::clone(&home.clock)));
    tokio::spawn(Arc::clone(&verifier).keep_fresh(tokio_util::sync::CancellationToken::new()));
    for text in ["", "garbage"] {
        std::fs::write(&home.path, text).unwrap();
        tokio::time::sleep(EVERY * 3).await;
        assert!(verifier.verify(&token).is_ok() && ring.signs());
    }
    std::fs::remove_file(&home.path).unwrap();
    tokio::time::sleep(EVERY * 3).await;
    assert!(verifier.verify(&token).is_ok() && ring.signs());
}

#[test]
fn the_public_keys_are_told_and_nothing_of_the_private_ones() {
    let home = Home::new();
    let rotated = home.rotate(Some(home.after(DAY_S)));
    let jwks = Ring::open(&home.path).unwrap().jwks(home.clock.now());
    let ids: Vec<&str> = jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect();
    assert_eq!(ids, [&rotated.now, &rotated.before]);
    for key in jwks["keys"].as_array().unwrap() {
        let mut members: Vec<&String> = key.as_object().unwrap().keys().collect();
        members.sort();
        assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
        assert_eq!((&key["alg"], &key["use"], &key["crv"]), (&json!("EdDSA"), &json!("sig"), &json!("Ed25519")));
    }
    let later = Ring::open(&home.path).unwrap().jwks(home.after(DAY_S));
    assert_eq!(later["keys"].as_array().unwrap().len(), 1, "a key whose time is over is not told");
    // What verifies elsewhere by these verifies here.
    let set = KeySet::of_jwks(jwks.to_string().as_bytes(), &[jsonwebtoken::Algorithm::EdDSA]).unwrap();
    assert_eq!(set.len(), 2);
}

#[test]
fn a_rotation_keeps_the_mode_and_leaves_nothing_else_behind() {
    let home = Home::new();
    std::fs::set_permissions(&home.path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let old = std::fs::read_to_string(&home.path).unwrap();
    home.rotate(Some(home.after(DAY_S)));
    let mut names: Vec<String> =
        std::fs::read_dir(home.directory.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["key.pem", "key.pem.retired"]);
    for name in names {
        let path = home.directory.path().join(name);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(old.lines().nth(1).unwrap()), "the old private key is gone");
    }
}

#[test]
fn what_cannot_be_rotated_is_named_and_left_as_it_is() {
    let home = Home::new();
    let ring = Ring::open(&home.path).unwrap();
    std::fs::write(retired_file(&home.path), "{}").unwrap();
    let refused = format!("{:#}", Ring::rotate(&home.path, NOW, Some(NOW)).unwrap_err());
    assert!(refused.contains("key.pem.retired"), "{refused}");
    assert!(Ring::open(&home.path).is_err(), "a server does not start without the earlier keys");
    let signing = SigningKey::open(&home.path).unwrap();
    assert_eq!(ring.with_signing(|key| key.id().to_owned()), Some(signing.id().to_owned()));
    let missing = home.directory.path().join("none.pem");
    assert!(format!("{:#}", Ring::rotate(&missing, NOW, None).unwrap_err()).contains("none.pem"));
}
