//! `headwater token`: a token of the built-in issuer, and another key for it.
//!
//! Owns: what may be asked for. Does not know: how a token or a key is made (the crate `web` does).
//! Invariant: both work beside a running server, which needs no restart; without a key they make none.

use crate::cli::{Issue, RotateKey};
use crate::config::{self, Flags, Settings};
use crate::environment::Environment;
use crate::failure::{Failure, Outcome};
use crate::{keys, output};
use anyhow::Context;
use headwater_core::clock::{Clock, SystemClock};
use headwater_web::{Grant, Ring, Scopes, SigningKey, duration};
use std::io::Write;
use std::time::Duration;

pub(crate) fn issue(args: &Issue, environment: &Environment) -> Outcome {
    let scopes = Scopes::parse(&args.scope.join(" ")).map_err(Failure::Usage)?;
    if scopes.is_empty() {
        return Err(Failure::Usage("--scope names nothing that the token would allow".to_owned()));
    }
    let flags = Flags::default().with("data_dir", "--data-dir", args.data_dir.as_ref().map(|dir| dir.to_string_lossy()));
    let settings = config::load(args.config.as_deref(), environment, flags)?;
    allowed(args.ttl, settings.auth.max_ttl)?;
    let key = keys::signing(&settings)?;
    let devices = (!args.devices.is_empty()).then(|| args.devices.clone());
    let token = sign(&key, &settings, Wanted { subject: &args.subject, scopes, devices, ttl: args.ttl })?;
    let mut out = output::data();
    writeln!(out, "{token}")?;
    Ok(out.flush()?)
}

/// Makes another key; its id alone goes to standard output.
pub(crate) fn rotate_key(args: &RotateKey, environment: &Environment) -> Outcome {
    let flags = Flags::default().with("data_dir", "--data-dir", args.data_dir.as_ref().map(|dir| dir.to_string_lossy()));
    let settings = config::load(args.config.as_deref(), environment, flags)?;
    // That there is one, and that it signs, is told in the words of `issue`.
    keys::signing(&settings)?;
    let (path, now, most) = (settings.key_file(), SystemClock.now(), settings.auth.max_ttl);
    let until = now.plus(i64::try_from(most.as_micros()).unwrap_or(i64::MAX));
    let rotated =
        Ring::rotate(&path, now, (!args.revoke).then_some(until)).with_context(|| format!("rotate the key {}", path.display()))?;
    let before = if args.revoke {
        "and no token that was signed before is good any more".to_owned()
    } else {
        format!("and tokens of {} stay good until they expire, {until} at the latest", rotated.before)
    };
    output::message(&format!("{} signs tokens from now on, {before}; running servers notice within seconds", rotated.now));
    let mut out = output::data();
    writeln!(out, "{}", rotated.now)?;
    Ok(out.flush()?)
}

/// What a token is to say.
pub(crate) struct Wanted<'a> {
    /// Whom it is for.
    pub(crate) subject: &'a str,
    /// What it allows.
    pub(crate) scopes: Scopes,
    /// Only these devices; `None` = all.
    pub(crate) devices: Option<Vec<String>>,
    /// How long it is valid.
    pub(crate) ttl: Duration,
}

/// Signs a token that the server of these settings accepts.
pub(crate) fn sign(key: &SigningKey, settings: &Settings, wanted: Wanted<'_>) -> anyhow::Result<String> {
    let grant = Grant {
        issuer: settings.auth.issuer.clone(),
        audience: settings.auth.audience.clone(),
        subject: wanted.subject.to_owned(),
        scopes: wanted.scopes,
        devices: wanted.devices,
        ttl: wanted.ttl,
    };
    key.sign(&grant, SystemClock.now())
}

fn allowed(ttl: Duration, most: Duration) -> Outcome {
    if ttl < Duration::from_secs(1) {
        return Err(Failure::Usage("--ttl is shorter than a second".to_owned()));
    }
    if ttl > most {
        return Err(Failure::Usage(format!(
            "--ttl {} is longer than auth.max_ttl, which is {}",
            duration::print(ttl),
            duration::print(most)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_no_longer_than_the_configuration_allows() {
        let span = |text: &str| duration::parse(text).unwrap();
        allowed(span("366d"), span("366d")).unwrap();
        assert!(matches!(allowed(span("367d"), span("366d")), Err(Failure::Usage(_))));
        assert!(matches!(allowed(span("0s"), span("366d")), Err(Failure::Usage(_))));
    }
}
