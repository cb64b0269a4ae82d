//! `headwater restore`: a data directory out of a copy.
//!
//! Owns: where it may go. Does not know: what is in the files; a server that starts on them does.
//! Invariant: every file is compared with the manifest on its way, and the data directory appears only when all of them were right.

use super::manifest::Manifest;
use super::staging::Staging;
use super::{KEYS, Progress};
use crate::cli::Restore;
use crate::config::{self, Flags, Log};
use crate::environment::Environment;
use crate::failure::Outcome;
use crate::output;
use serde_json::json;
use std::io::Write;

/// Puts a copy back.
pub(crate) fn run(args: &Restore, environment: &Environment) -> Outcome {
    let flags = Flags::default().with("data_dir", "--data-dir", args.data_dir.as_ref().map(|dir| dir.to_string_lossy()));
    let settings = config::load(args.config.as_deref(), environment, flags)?;
    let manifest = Manifest::read(&args.dir)?;
    let staging = Staging::begin(&settings.data_dir)?;
    let (mut progress, all) = (Progress::new("restore"), manifest.bytes());
    manifest.carry_all(&args.dir, staging.dir(), &mut |done| progress.told(done, all))?;
    progress.end();
    staging.publish()?;
    let (dir, has_key) = (settings.data_dir.display(), manifest.names().any(|name| name == KEYS[0]));
    let mut out = output::data();
    if args.json {
        writeln!(out, "{}", json!({ "data_dir": settings.data_dir, "made_at": manifest.made_at(), "bytes": all, "keys": has_key }))?;
    } else {
        writeln!(out, "{dir} is as it was at {}: {all} bytes, every checksum right", manifest.made_at())?;
    }
    out.flush()?;
    output::message(&format!("to look at everything in it: headwater verify --data-dir {dir}"));
    if !has_key && settings.auth.key_file().is_none() {
        output::message("there is no token key in it: the first start makes another, and tokens that were issued are not good any more");
    }
    if manifest.log.is_none() && matches!(settings.log, Log::Embedded) {
        output::message("there is no log in it: the copy was made of a store whose log is in Kafka; start it with the same log.url");
    }
    Ok(())
}
