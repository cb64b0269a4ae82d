//! What a copy holds: `backup.json`, with a checksum of every file.
//!
//! Owns: its form, and carrying files with their checksums. Does not know: databases, where a copy lies.
//! Invariants: names are plain and known, so a manifest cannot point elsewhere; a manifest of a newer form is refused.

use super::{DATABASES, FORMAT_FILE, KEYS};
use anyhow::{Context, bail, ensure};
use aws_lc_rs::digest::{Context as Digest, SHA256};
use headwater_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Its name.
pub(super) const FILE: &str = "backup.json";
/// The form that this program writes.
const FORM: u32 = 1;
const BUFFER: usize = 1 << 20;
/// A manifest has some hundred bytes; a wrong file shall not be read whole.
const MOST_BYTES: u64 = 1 << 20;

/// The manifest of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The form of this file.
    backup: u32,
    /// The version of the program that made it.
    headwater: String,
    /// When.
    made_at: String,
    /// Every file of the copy but this one.
    files: Vec<Entry>,
    /// The log, where it is in the copy.
    pub(super) log: Option<LogPart>,
    /// How far the store had applied what: log, partition, next record.
    positions: Vec<(String, u32, u64)>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    name: String,
    bytes: u64,
    sha256: String,
}

/// The log of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogPart {
    /// Its identity.
    pub(super) id: String,
    /// Its first record.
    pub(super) start: u64,
    /// The number after its last.
    pub(super) end: u64,
}

impl Manifest {
    /// Of files that lie in `dir`.
    pub(super) fn of(
        dir: &Path,
        names: &[&str],
        log: Option<LogPart>,
        positions: Vec<(String, u32, u64)>,
        now: Timestamp,
    ) -> anyhow::Result<Self> {
        let entry = |name: &&str| {
            let (bytes, sha256) = read_through(&dir.join(name), |_| Ok(()))?;
            Ok(Entry { name: (*name).to_owned(), bytes, sha256 })
        };
        let files = names.iter().map(entry).collect::<anyhow::Result<_>>()?;
        Ok(Self { backup: FORM, headwater: env!("CARGO_PKG_VERSION").to_owned(), made_at: now.to_string(), files, log, positions })
    }

    /// Of the copy in `dir`.
    pub(super) fn read(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(FILE);
        let file = File::open(&path).with_context(|| format!("{} is no backup: open {}", dir.display(), path.display()))?;
        let mut text = String::new();
        file.take(MOST_BYTES).read_to_string(&mut text).with_context(|| format!("read {}", path.display()))?;
        #[derive(Deserialize)]
        struct Form {
            backup: u32,
        }
        let unreadable = || format!("{} is no manifest of a backup", path.display());
        let Form { backup } = serde_json::from_str(&text).with_context(unreadable)?;
        ensure!(backup <= FORM, "{} has form {backup}, and this program knows {FORM}; use the newer program that wrote it", path.display());
        let manifest: Self = serde_json::from_str(&text).with_context(unreadable)?;
        manifest.check(&path)?;
        Ok(manifest)
    }

    fn check(&self, path: &Path) -> anyhow::Result<()> {
        for (n, Entry { name, .. }) in self.files.iter().enumerate() {
            let known = DATABASES.iter().chain(&KEYS).chain([&FORMAT_FILE]).any(|known| known == name);
            ensure!(known, "{} names a file that no backup has: {name:?}", path.display());
            ensure!(self.files[..n].iter().all(|before| before.name != *name), "{} names {name} twice", path.display());
        }
        for needed in [DATABASES[0], FORMAT_FILE] {
            ensure!(self.names().any(|name| name == needed), "{} does not name {needed}", path.display());
        }
        Ok(())
    }

    /// Writes it into `dir`, on the disk when this returns.
    pub(super) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let path = dir.join(FILE);
        let text = serde_json::to_string_pretty(self).context("write down what the copy holds")? + "\n";
        let mut file = create(&path)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(|| format!("write {}", path.display()))
    }

    /// The files, without this one.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.name.as_str())
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// When it was made.
    pub(super) fn made_at(&self) -> &str {
        &self.made_at
    }

    /// Carries every file from one directory to another, where there is none of them, and compares it with its checksum. `told` hears how many
    /// bytes are carried.
    pub(super) fn carry_all(&self, from: &Path, to: &Path, told: &mut dyn FnMut(u64)) -> anyhow::Result<()> {
        let mut done = 0;
        for Entry { name, bytes, sha256 } in &self.files {
            let source = from.join(name);
            let mut target = create(&to.join(name))?;
            let (found, sum) = read_through(&source, |part| {
                target.write_all(part)?;
                done += part.len() as u64;
                told(done);
                Ok(())
            })?;
            target.sync_all().with_context(|| format!("sync {}", to.join(name).display()))?;
            if found != *bytes || sum != *sha256 {
                bail!(
                    "{} is not what was backed up: it has {found} bytes and SHA-256 {sum}, not {bytes} bytes and {sha256}; nothing was restored",
                    source.display()
                );
            }
        }
        Ok(())
    }
}

/// Copies a small file, readable by its owner alone and on the disk when this returns.
pub(super) fn carry(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut target = create(to)?;
    read_through(from, |part| target.write_all(part))?;
    target.sync_all().with_context(|| format!("sync {}", to.display()))
}

fn create(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(|| format!("make {}", path.display()))
}

/// Reads a file part by part; gives its length and its checksum.
fn read_through(path: &Path, mut each: impl FnMut(&[u8]) -> std::io::Result<()>) -> anyhow::Result<(u64, String)> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let (mut digest, mut buffer, mut bytes) = (Digest::new(&SHA256), vec![0; BUFFER], 0);
    loop {
        let n = file.read(&mut buffer).with_context(|| format!("read {}", path.display()))?;
        if n == 0 {
            break;
        }
        digest.update(&buffer[..n]);
        each(&buffer[..n]).with_context(|| format!("copy {}", path.display()))?;
        bytes += n as u64;
    }
    let sum = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((bytes, sum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn made(dir: &Path) -> Manifest {
        fs::write(dir.join("store.db"), "the store").unwrap();
        fs::write(dir.join("format"), "x").unwrap();
        let manifest = Manifest::of(dir, &["store.db", "format"], None, vec![("log".to_owned(), 0, 7)], Timestamp(0)).unwrap();
        manifest.write(dir).unwrap();
        manifest
    }

    #[test]
    fn it_comes_back_as_it_was_and_carries_its_files() {
        let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let manifest = made(dir.path());
        assert_eq!(Manifest::read(dir.path()).unwrap(), manifest);
        // As `sha256sum` says.
        assert_eq!(manifest.files[1].sha256, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881");
        let mut told = 0;
        manifest.carry_all(dir.path(), to.path(), &mut |done| told = done).unwrap();
        assert_eq!((fs::read(to.path().join("store.db")).unwrap(), told), (b"the store".to_vec(), 10));
    }

    #[test]
    fn a_changed_byte_is_named_with_its_file() {
        let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let manifest = made(dir.path());
        fs::write(dir.path().join("store.db"), "the stOre").unwrap();
        let refused = manifest.carry_all(dir.path(), to.path(), &mut |_| {}).unwrap_err().to_string();
        assert!(refused.contains("store.db is not what was backed up") && refused.contains("9 bytes"), "{refused}");
    }

    #[test]
    fn manifests_that_are_newer_incomplete_or_point_elsewhere_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        made(dir.path());
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        for (from, to, words) in [
            ("\"backup\": 1", "\"backup\": 2", "form 2"),
            ("\"name\": \"format\"", "\"name\": \"../format\"", "no backup has"),
            ("\"name\": \"format\"", "\"name\": \"store.db\"", "twice"),
            ("\"name\": \"format\"", "\"name\": \"log.db\"", "does not name format"),
            ("{", "[", "no manifest"),
        ] {
            fs::write(dir.path().join(FILE), text.replacen(from, to, 1)).unwrap();
            let refused = format!("{:#}", Manifest::read(dir.path()).unwrap_err());
            assert!(refused.contains(words), "{to}: {refused}");
        }
        fs::remove_file(dir.path().join(FILE)).unwrap();
        assert!(Manifest::read(dir.path()).unwrap_err().to_string().contains("is no backup"));
    }
}
