//! How much room the disk has, and how much of it is for whom.
//!
//! Owns: [`Space`]. Does not know: who asks.
//!
//! Room is kept back in two steps: appends leave the reserve free, the store's commits a quarter of it, and that is for what
//! makes room again (trimming, checkpoints). So a full disk first refuses what is new, then stops what is under way, and heals.

use std::path::{Path, PathBuf};

/// The file system of the data directory.
#[derive(Debug, Clone)]
pub(crate) struct Space {
    dir: PathBuf,
    size: u64,
    reserve: u64,
}

impl Space {
    /// Keeps `reserve` bytes free, but never more than a twentieth of the disk, so that small disks work too.
    pub(crate) fn new(dir: &Path, reserve: u64) -> Self {
        let size = rustix::fs::statvfs(dir).map_or(u64::MAX, |disk| disk.f_blocks.saturating_mul(disk.f_frsize));
        Self { dir: dir.to_owned(), size, reserve: reserve.min(size / 20) }
    }

    /// One that lies about the disk.
    #[cfg(test)]
    pub(crate) fn with_reserve(dir: &Path, reserve: u64) -> Self {
        Self { dir: dir.to_owned(), size: u64::MAX, reserve }
    }

    /// `bytes`, but at most one part in `parts` of the disk: what is written twice must fit a small disk twice.
    pub(crate) fn at_most(&self, bytes: u64, parts: u64) -> u64 {
        bytes.min(self.size / parts)
    }

    /// What is wrong when there is no room for appends.
    pub(crate) fn shortage(&self) -> Option<String> {
        self.less_than(self.reserve)
    }

    /// What is wrong when there is no room for commits either.
    pub(crate) fn dire_shortage(&self) -> Option<String> {
        self.less_than(self.reserve / 4)
    }

    /// What is wrong when there would be no room for appends after `bytes` more were written.
    pub(crate) fn shortage_after(&self, bytes: u64) -> Option<String> {
        let disk = rustix::fs::statvfs(&self.dir).ok()?;
        let (free, kept) = (disk.f_bavail.saturating_mul(disk.f_frsize), self.reserve);
        (free < kept.saturating_add(bytes)).then(|| format!("{free} bytes are free on the disk, and {kept} of them have to stay free"))
    }

    fn less_than(&self, kept: u64) -> Option<String> {
        // A file system that cannot say how much is free says so when it is written to.
        let disk = rustix::fs::statvfs(&self.dir).ok()?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        (free < kept).then(|| format!("{free} bytes are free on the disk, and the last {kept} are kept for what makes room again"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_has_a_small_reserve_and_commits_may_use_most_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let space = Space::new(dir.path(), u64::MAX);
        assert_eq!(space.reserve, space.size / 20);
        assert!(space.at_most(u64::MAX, 64) == space.size / 64 && space.at_most(1, 64) == 1);
        let disk = rustix::fs::statvfs(dir.path()).unwrap();
        let twice = Space::with_reserve(dir.path(), disk.f_bavail * disk.f_frsize * 2);
        assert!(twice.shortage().is_some() && twice.dire_shortage().is_none());
    }
}
