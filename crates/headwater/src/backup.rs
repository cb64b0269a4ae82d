//! `headwater backup` and `headwater restore`: a copy of a data directory that can be put back.
//!
//! Owns: what belongs to a copy, where it may go, the order of things. [`manifest`] says what a copy holds, [`staging`] makes a directory appear
//! whole or not at all, [`restore`] puts one back. Does not know: how databases are copied beside a server (the embedded backend does).
//!
//! Invariants: nothing that exists is written over; a directory of the name that was asked for is a whole copy, on the disk; whatever is cut
//! short leaves only what the next try removes; keys are readable by their owner alone.

mod manifest;
pub(crate) mod restore;
mod staging;

use crate::cli::Backup;
use crate::config::{self, DEFAULT_KEY_FILE, Flags, Log, Settings, Store};
use crate::environment::Environment;
use crate::failure::{Failure, Outcome};
use crate::keys;
use crate::{output, wiring};
use anyhow::{Context, bail};
use headwater_core::clock::{Clock, SystemClock};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use manifest::{LogPart, Manifest};
use serde_json::json;
use staging::Staging;
use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The file that marks a data directory.
const FORMAT_FILE: &str = "format";
/// What a copy is made of; nothing else is ever copied, in either direction.
const DATABASES: [&str; 2] = ["store.db", "log.db"];
const KEYS: [&str; 2] = [DEFAULT_KEY_FILE, keys::RETIRED_FILE];

/// Makes a copy.
pub(crate) fn run(args: &Backup, environment: &Environment) -> Outcome {
    let flags = Flags::default().with("data_dir", "--data-dir", args.data_dir.as_ref().map(|dir| dir.to_string_lossy()));
    let settings = config::load(args.config.as_deref(), environment, flags)?;
    refuse_other_stores(&settings, &args.dir).map_err(Failure::Usage)?;
    let began = Instant::now();
    let staging = Staging::begin(&args.dir)?;
    let manifest = fill(&settings, &staging, !args.no_keys)?;
    staging.publish()?;
    Ok(tell(args, &settings, &manifest, began)?)
}

/// A database server is copied with its own tools: they know its log, and we would not.
fn refuse_other_stores(settings: &Settings, to: &Path) -> Result<(), String> {
    let Store::Postgres(_) = settings.store else { return Ok(()) };
    let store = settings.store.to_string();
    let dump = format!("pg_dump --format=custom --file={}.dump --dbname=URL", to.display());
    Err(match settings.log {
        Log::Kafka(_) => format!(
            "the store is {store}: back it up with its own tools, beside the running roles, such as `{dump}` (or pg_basebackup); rows and \
             positions are in it together, and what came later is read again from Kafka: keep retention.ms longer than the age of your \
             backups; copy auth.key_file too"
        ),
        Log::Embedded => format!(
            "the store is {store}: first `{dump}` (or pg_basebackup), then stop the server and copy {}: the log has to be the later of the two",
            settings.data_dir.display()
        ),
    })
}

/// Everything that belongs to the copy.
fn fill(settings: &Settings, staging: &Staging, with_keys: bool) -> anyhow::Result<Manifest> {
    let (from, to) = (&settings.data_dir, staging.dir());
    let mut progress = Progress::new("backup");
    let copied = wiring::copy_embedded(settings, to, &mut |done, all| progress.told(done, all))?;
    progress.end();
    let mut names: Vec<&str> = DATABASES.into_iter().filter(|name| to.join(name).exists()).chain([FORMAT_FILE]).collect();
    manifest::carry(&from.join(FORMAT_FILE), &to.join(FORMAT_FILE))?;
    for name in KEYS.into_iter().filter(|name| with_keys && from.join(name).exists()) {
        manifest::carry(&from.join(name), &to.join(name))?;
        names.push(name);
    }
    let log = copied.log.map(|log| LogPart { id: log.id.0, start: log.start, end: log.end });
    let positions = copied.positions.iter().map(|position| (position.log.to_string(), position.partition, position.next)).collect();
    let manifest = Manifest::of(to, &names, log, positions, SystemClock.now())?;
    manifest.write(to)?;
    Ok(manifest)
}

fn tell(args: &Backup, settings: &Settings, manifest: &Manifest, began: Instant) -> anyhow::Result<()> {
    let keys: Vec<&str> = manifest.names().filter(|name| KEYS.contains(name)).collect();
    let (bytes, seconds) = (manifest.bytes(), (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0);
    let mut out = output::data();
    if args.json {
        let files: Vec<&str> = manifest.names().collect();
        let told = json!({ "backup": args.dir, "bytes": bytes, "files": files, "log": manifest.log, "keys": !keys.is_empty(), "seconds": seconds });
        writeln!(out, "{told}")?;
        return Ok(out.flush()?);
    }
    writeln!(out, "{} is a whole copy: {bytes} bytes in {seconds} s, on the disk", args.dir.display())?;
    out.flush()?;
    output::message(&match (keys.is_empty(), settings.auth.key_file()) {
        (false, _) => "the key that signs tokens is in it (mode 0600): whoever has the copy can sign tokens".to_owned(),
        (true, Some(shared)) => format!("the key is not in it: it is {} (auth.key_file)", shared.display()),
        (true, None) => "the key is not in it: tokens that were issued will not be good where it is put back".to_owned(),
    });
    if manifest.log.is_none() {
        output::message("the log is not in it: what came later is read again from Kafka, while that has it");
    }
    Ok(())
}

/// A bar on a terminal, nothing elsewhere.
struct Progress(ProgressBar);

impl Progress {
    fn new(what: &str) -> Self {
        if !output::messages_on_terminal() {
            return Self(ProgressBar::hidden());
        }
        let template = format!("{what} {{bar:30}} {{percent:>3}} % {{bytes_per_sec}}");
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style))
    }

    fn told(&mut self, done: u64, all: u64) {
        self.0.set_length(all);
        self.0.set_position(done);
    }

    fn end(self) {
        self.0.finish_and_clear();
    }
}

/// The directory that holds another one, made where there is none: names in it have to be made durable.
fn parent_of(dir: &Path) -> anyhow::Result<PathBuf> {
    let whole = std::path::absolute(dir).with_context(|| format!("find {}", dir.display()))?;
    let Some(parent) = whole.parent() else { bail!("{} cannot be a copy", dir.display()) };
    DirBuilder::new().mode(0o700).recursive(true).create(parent).with_context(|| format!("make {}", parent.display()))?;
    Ok(parent.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_server_is_refused_with_the_commands_to_use() {
        let loaded = |pairs: &[(&str, &str)]| config::load(None, &pairs.iter().copied().collect(), Flags::default()).unwrap();
        let store = ("HEADWATER_STORE__URL", "postgres://me:hunter2@db-1/plant");
        let refused = refuse_other_stores(&loaded(&[store]), Path::new("/copies/today")).unwrap_err();
        assert!(refused.contains("pg_dump --format=custom --file=/copies/today.dump") && refused.contains("stop the server"), "{refused}");
        let kafka = ("HEADWATER_LOG__URL", "kafka://k:9092/topic");
        let refused = refuse_other_stores(&loaded(&[store, kafka]), Path::new("d")).unwrap_err();
        assert!(refused.contains("retention.ms") && refused.contains("db-1/plant") && !refused.contains("hunter2"), "{refused}");
        refuse_other_stores(&loaded(&[kafka]), Path::new("d")).unwrap();
    }
}
