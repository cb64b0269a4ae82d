//! A folder of its own for a few servers, removed with the handle.
//!
//! Invariants: others may enter it (mode 0755, unlike most temporary folders), so that the user postgres reaches what is below;
//! the folder of a process that was killed is removed by the next one (its lock went with the process).

use anyhow::Context;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder under the system's temporary folder (or `HEADWATER_SERVERS_RUN_DIR`).
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held while the handle lives. `None` once it is to stay.
    lock: Option<File>,
}

const LOCK: &str = ".lock";

impl Folder {
    /// Makes one; `name` only helps whoever looks around.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let parent = crate::places::run_dir();
        fs::create_dir_all(&parent).with_context(|| format!("make {}", parent.display()))?;
        sweep(&parent);
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("headwater-{name}-{}-{n}", std::process::id());
            // It gets the name that is swept when it is locked already: somebody may be sweeping at this instant.
            let (path, hidden) = (parent.join(&name), parent.join(format!(".{name}")));
            if path.exists() {
                // Left by a process that had our id and was killed.
                continue;
            }
            fs::create_dir_all(&hidden).with_context(|| format!("make {}", hidden.display()))?;
            fs::set_permissions(&hidden, fs::Permissions::from_mode(0o755))?;
            let lock = File::create(hidden.join(LOCK)).with_context(|| format!("write to {}", hidden.display()))?;
            lock.lock().with_context(|| format!("lock {}", hidden.display()))?;
            fs::rename(&hidden, &path).with_context(|| format!("make {}", path.display()))?;
            return Ok(Self { path, lock: Some(lock) });
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets it stay, for servers that go on running.
    #[must_use]
    pub fn keep(mut self) -> PathBuf {
        // Without its lock file it is nobody's to sweep. If that stays, so does the lock, with a process that ends soon.
        drop(fs::remove_file(self.path.join(LOCK)));
        self.lock = None;
        self.path.clone()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // What cannot be removed lies in a temporary folder; a destructor has nobody to tell.
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

/// Removes what killed processes have left. What cannot be removed stays: it may be another user's.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with("headwater-"));
        let lock = ours.then(|| File::open(entry.path().join(LOCK)).ok()).flatten();
        if lock.is_some_and(|lock| lock.try_lock().is_ok()) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_not_swept_while_it_is_made() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..200).for_each(|_| fs::write(Folder::new("unit").unwrap().path().join("file"), "").unwrap()));
            }
        });
    }

    #[test]
    fn a_folder_goes_with_its_handle_and_stays_when_kept() {
        let folder = Folder::new("unit").unwrap();
        let path = folder.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        drop(folder);
        assert!(!path.exists());
        let kept = Folder::new("unit").unwrap().keep();
        sweep(kept.parent().unwrap());
        assert!(kept.exists());
        fs::remove_dir_all(&kept).unwrap();
    }

    #[test]
    fn only_what_nobody_holds_is_swept() {
        let parent = Folder::new("unit").unwrap();
        let held = parent.path().join("headwater-held");
        let left = parent.path().join("headwater-left");
        let foreign = parent.path().join("headwater-foreign");
        for dir in [&held, &left, &foreign] {
            fs::create_dir(dir).unwrap();
        }
        let lock = File::create(held.join(LOCK)).unwrap();
        lock.lock().unwrap();
        drop(File::create(left.join(LOCK)).unwrap());
        sweep(parent.path());
        assert_eq!([held.exists(), left.exists(), foreign.exists()], [true, false, true]);
    }
}
