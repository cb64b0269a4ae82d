//! A directory that appears whole or not at all.
//!
//! Owns: the place beside it where it is made, and who makes it. Does not know: what is in it.
//! Invariants: the name that was asked for is taken by a rename, after everything is on the disk; only an empty directory may be there; of two that
//! make the same one, the second is refused; what a killed one left is removed by the next.

use super::parent_of;
use anyhow::{Context, bail};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// In the directory while it is made: the operating system's lock on it goes with whoever holds it.
const LOCK: &str = "LOCK";

/// A directory that is being made.
pub(super) struct Staging {
    target: PathBuf,
    parent: PathBuf,
    dir: PathBuf,
    /// Held for as long as it is made.
    _lock: File,
    published: bool,
}

impl Staging {
    /// Begins to make `target`.
    pub(super) fn begin(target: &Path) -> anyhow::Result<Self> {
        refuse_taken(target)?;
        let parent = parent_of(target)?;
        let name = target.file_name().with_context(|| format!("{} has no name of its own", target.display()))?;
        let mut staged = name.to_owned();
        staged.push(".partial");
        let dir = parent.join(staged);
        let made = || DirBuilder::new().mode(0o700).create(&dir);
        match made() {
            Err(why) if why.kind() == ErrorKind::AlreadyExists => {
                remove_left(&dir)?;
                made()
            }
            made => made,
        }
        .with_context(|| format!("make {}", dir.display()))?;
        let lock = hold(&dir)?;
        Ok(Self { target: target.to_owned(), parent, dir, _lock: lock, published: false })
    }

    /// Where files go meanwhile.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes it appear. The files in it are on the disk already.
    pub(super) fn publish(mut self) -> anyhow::Result<()> {
        let sync = |dir: &Path| File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| format!("sync {}", dir.display()));
        sync(&self.dir)?;
        // An empty directory gives way; a full one does not.
        fs::rename(&self.dir, &self.target).with_context(|| format!("rename {} to {}", self.dir.display(), self.target.display()))?;
        self.published = true;
        // Last: until then nobody takes it for one that was cut short.
        let lock = self.target.join(LOCK);
        fs::remove_file(&lock).with_context(|| format!("remove {}", lock.display()))?;
        sync(&self.target)?;
        sync(&self.parent)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed now is removed by the next try.
            drop(fs::remove_dir_all(&self.dir));
        }
    }
}

fn refuse_taken(target: &Path) -> anyhow::Result<()> {
    match fs::read_dir(target) {
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(()),
        Err(why) => Err(why).with_context(|| format!("look into {}", target.display())),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => bail!("{} is there already and is not empty; nothing is written over", target.display()),
        },
    }
}

fn hold(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.with_context(|| format!("make {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("another process is making {}", dir.display()),
        Err(TryLockError::Error(why)) => Err(why).with_context(|| format!("lock {}", path.display())),
    }
}

/// Removes what was cut short, unless somebody is still at it.
fn remove_left(dir: &Path) -> anyhow::Result<()> {
    let _lock = hold(dir)?;
    fs::remove_dir_all(dir).with_context(|| format!("remove {}, which was cut short", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn it_appears_whole_for_its_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("copy");
        let staging = Staging::begin(&target).unwrap();
        fs::write(staging.dir().join("file"), "x").unwrap();
        assert!(!target.exists());
        staging.publish().unwrap();
        assert_eq!((names(home.path()), names(&target)), (vec!["copy".to_owned()], vec!["file".to_owned()]));
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn an_empty_directory_gives_way_and_a_full_one_does_not() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("copy");
        fs::create_dir(&target).unwrap();
        let staging = Staging::begin(&target).unwrap();
        fs::write(target.join("of somebody else"), "").unwrap();
        staging.publish().unwrap_err();
        assert_eq!((names(home.path()), names(&target)), (vec!["copy".to_owned()], vec!["of somebody else".to_owned()]));
        let refused = Staging::begin(&target).err().unwrap().to_string();
        assert!(refused.contains("not empty"), "{refused}");
        fs::remove_file(target.join("of somebody else")).unwrap();
        Staging::begin(&target).unwrap().publish().unwrap();
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_a_living_one_makes_is_not() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("copy");
        let left = home.path().join("copy.partial");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("half"), "x").unwrap();
        let staging = Staging::begin(&target).unwrap();
        assert_eq!(names(staging.dir()), [LOCK]);
        let refused = Staging::begin(&target).err().unwrap().to_string();
        assert!(refused.contains("another process is making"), "{refused}");
        drop(staging);
        assert_eq!(names(home.path()), [""; 0]);
    }
}
