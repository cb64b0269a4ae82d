//! The data directory: made for its owner only, marked with its format, held by one process at a time.
//!
//! Owns: the directory's mode, the files `LOCK` and `format`. Does not know: what else is in it.
//! Invariants: the lock is the operating system's, so it goes with the process that held it, however that ended; a format that
//! is newer than this program is never touched.

use crate::error::OpenError;
use headwater_core::time::Timestamp;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The format of a directory that this program writes.
const FORMAT: u32 = 1;
const MARK: &str = "headwater data, format ";

/// A data directory that this process holds, until it is dropped.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes the directory where there is none, takes its lock and looks at its format.
    pub(crate) fn open(path: &Path, now: Timestamp) -> Result<Self, OpenError> {
        create(path).map_err(OpenError::doing(format!("cannot create the data directory {}", path.display())))?;
        let lock = hold(path, now)?;
        check_format(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The path of a file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the names of new files durable.
    pub(crate) fn sync(&self) -> Result<(), OpenError> {
        sync(&self.path).map_err(OpenError::doing(format!("cannot sync the data directory {}", self.path.display())))
    }
}

fn create(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync(parent.unwrap_or(Path::new(".")))
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn hold(dir: &Path, now: Timestamp) -> Result<File, OpenError> {
    let path = dir.join("LOCK");
    let doing = || format!("cannot lock {}", path.display());
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(OpenError::doing(doing()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { dir: dir.to_owned(), holder: holder(&mut file) }),
        Err(TryLockError::Error(error)) => return Err(OpenError::doing(doing())(error)),
    }
    let words = format!("process {}, since {now}\n", std::process::id());
    file.set_len(0).and_then(|()| file.write_all(words.as_bytes())).map_err(OpenError::doing(doing()))?;
    Ok(file)
}

/// What the holder says of itself; it may be writing it just now.
fn holder(file: &mut File) -> String {
    let mut words = String::new();
    match file.take(200).read_to_string(&mut words) {
        Ok(_) if !words.trim().is_empty() => words.trim().to_owned(),
        _ => "another process".to_owned(),
    }
}

/// Who holds the directory, in the holder's own words; `None` where nobody does. The system's list of locks is read: a try to take the lock
/// could be in the way of a server that starts.
pub fn holder_of(dir: &Path) -> Option<String> {
    let mut file = File::open(dir.join("LOCK")).ok()?;
    let inode = format!(":{}", file.metadata().ok()?.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let is_held = locks.lines().any(|line| line.contains("FLOCK") && line.split_whitespace().any(|word| word.ends_with(&inode)));
    is_held.then(|| holder(&mut file))
}

/// Looks at the format; a directory that holds no data is marked as new.
pub(crate) fn check_format(dir: &Path) -> Result<(), OpenError> {
    let path = dir.join("format");
    let doing = || format!("cannot read or write {}", path.display());
    let words = match fs::read_to_string(&path) {
        Ok(words) => words,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return mark_new(dir, &path),
        Err(error) => return Err(OpenError::doing(doing())(error)),
    };
    match words.trim().strip_prefix(MARK).and_then(|version| version.parse::<u32>().ok()) {
        Some(FORMAT) => Ok(()),
        Some(newer) if newer > FORMAT => {
            Err(OpenError::Newer(format!("the data directory {} has format {newer}, and this program knows {FORMAT}", dir.display())))
        }
        _ => Err(OpenError::Damaged(format!("{} does not say a format that this program knows: {:?}", path.display(), words.trim()))),
    }
}

fn mark_new(dir: &Path, path: &Path) -> Result<(), OpenError> {
    if dir.join(crate::LOG_FILE).exists() || dir.join(crate::STORE_FILE).exists() {
        return Err(OpenError::Damaged(format!("the data directory {} holds data, but its file `format` is gone", dir.display())));
    }
    let write = || -> io::Result<()> {
        let new = dir.join("format.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        writeln!(file, "{MARK}{FORMAT}")?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync(dir)
    };
    write().map_err(OpenError::doing(format!("cannot write {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn open(path: &Path) -> Result<Directory, OpenError> {
        Directory::open(path, Timestamp(0))
    }

    #[test]
    fn a_new_directory_is_for_its_owner_only_and_opens_again() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b");
        drop(open(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_to_string(path.join("format")).unwrap(), "headwater data, format 1\n");
        open(&path).unwrap();
    }

    #[test]
    fn a_second_open_is_refused_and_names_the_holder() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(holder_of(temp.path()), None);
        let held = open(temp.path()).unwrap();
        assert!(holder_of(temp.path()).is_some_and(|words| words.contains(&std::process::id().to_string())));
        let refused = open(temp.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("in use by process {}, since 1970-01-01T00:00:00Z", std::process::id())), "{refused}");
        drop(held);
        assert_eq!(holder_of(temp.path()), None);
        open(temp.path()).unwrap();
    }

    #[test]
    fn a_newer_format_is_refused_in_words_and_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("format"), "headwater data, format 2\n").unwrap();
        let refused = open(temp.path()).unwrap_err();
        assert!(matches!(refused, OpenError::Newer(_)) && refused.to_string().contains("has format 2"), "{refused}");
        assert_eq!(fs::read_to_string(temp.path().join("format")).unwrap(), "headwater data, format 2\n");
    }

    #[test]
    fn a_format_that_is_no_format_is_refused() {
        for (words, data) in [(Some("other"), false), (Some("headwater data, format 0"), false), (None, true)] {
            let temp = tempfile::tempdir().unwrap();
            if let Some(words) = words {
                fs::write(temp.path().join("format"), words).unwrap();
            }
            if data {
                fs::write(temp.path().join(crate::LOG_FILE), "").unwrap();
            }
            assert!(matches!(open(temp.path()), Err(OpenError::Damaged(_))), "{words:?}");
        }
    }
}
