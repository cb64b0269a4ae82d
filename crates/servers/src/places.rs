//! Where things are: the cache of what is installed, the folder for running servers, and what the environment says.
//!
//! Owns: every variable that this crate reads. Invariant: nothing else in the crate looks at the environment.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Names a Kafka that is there already.
pub(crate) const KAFKA_BROKERS: &str = "KAFKA_BROKERS";
/// Names a PostgreSQL that is there already.
pub(crate) const POSTGRES_URL: &str = "POSTGRES_URL";

/// What is installed, and `run.json`: `HEADWATER_SERVERS_DIR`, otherwise `target/servers` of the workspace.
pub(crate) fn cache() -> PathBuf {
    if let Some(dir) = set("HEADWATER_SERVERS_DIR") {
        return absolute(dir);
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("/"));
    let target = set("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), absolute);
    target.join("servers")
}

/// Where servers keep their data while they run: `HEADWATER_SERVERS_RUN_DIR`, otherwise the system's folder for such things.
/// Not under `target`: the user postgres could not reach it where the checkout lies in a home that only its owner may enter.
pub(crate) fn run_dir() -> PathBuf {
    set("HEADWATER_SERVERS_RUN_DIR").map_or_else(std::env::temp_dir, absolute)
}

/// The value of `KAFKA_BROKERS` or `POSTGRES_URL`, where it is set.
pub(crate) fn existing(name: &str) -> Option<String> {
    set(name).map(|value| value.to_string_lossy().into_owned())
}

/// The program of that name on the search path, links followed.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())?;
    Some(fs::canonicalize(&found).unwrap_or(found))
}

/// Waits for the lock of that name among all processes; it is let go when the file is dropped, or its process dies.
pub(crate) fn lock(name: &str) -> anyhow::Result<File> {
    let dir = cache();
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let path = dir.join(name);
    let file = File::options().create(true).truncate(false).write(true).open(&path).with_context(|| format!("open {}", path.display()))?;
    file.lock().with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

fn set(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn absolute(path: OsString) -> PathBuf {
    let path = PathBuf::from(path);
    std::path::absolute(&path).unwrap_or(path)
}
