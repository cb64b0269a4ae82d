//! What the embedded log counts, and how large it is.
//!
//! Owns: [`Metrics`]. Does not know: who scrapes.

use headwater_core::metrics::{Appends, Histogram, Registry, SECONDS};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For how long sizes of files are good enough.
const FRESH: Duration = Duration::from_secs(1);

/// The handles of a data directory.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) appends: Appends,
    pub(crate) fsync: Histogram,
}

impl Metrics {
    /// Makes the handles, and follows the size of the log and the room on the disk of `dir`.
    pub fn new(registry: &mut Registry, dir: &Path) -> Self {
        follow_disk(registry, dir);
        let log_bytes = registry.gauge("headwater_log_bytes", "Bytes that the log takes on its disk, its write-ahead log included");
        let log = dir.join(crate::LOG_FILE);
        registry.source(FRESH, move || {
            let (log_bytes, log) = (log_bytes.clone(), log.clone());
            async move {
                let looked = tokio::task::spawn_blocking(move || database_bytes(&log)).await;
                looked.ok().map_or_else(|| log_bytes.forget(), |bytes| log_bytes.set_count(bytes));
            }
        });
        Self::counted(registry)
    }

    /// For a directory whose log nobody uses: only the room on its disk is followed.
    pub fn of_store(registry: &mut Registry, dir: &Path) -> Self {
        follow_disk(registry, dir);
        Self::default()
    }

    fn counted(registry: &mut Registry) -> Self {
        let fsync = "Time of a commit of the log, which ends with its fsync";
        Self { appends: Appends::new(registry), fsync: registry.histogram("headwater_log_fsync_duration_seconds", fsync, SECONDS) }
    }
}

impl Default for Metrics {
    /// Counted for nobody.
    fn default() -> Self {
        Self::counted(&mut Registry::default())
    }
}

fn follow_disk(registry: &mut Registry, dir: &Path) {
    let free = registry.gauge("headwater_disk_free_bytes", "Bytes that are free for us on the file system of the data directory");
    let size = registry.gauge("headwater_disk_size_bytes", "Bytes of the file system of the data directory");
    let dir = dir.to_owned();
    registry.source(Duration::ZERO, move || {
        let (free, size, dir) = (free.clone(), size.clone(), dir.clone());
        async move {
            // A file system may hang; whoever scrapes does not wait for it.
            match tokio::task::spawn_blocking(move || rustix::fs::statvfs(&dir)).await {
                Ok(Ok(disk)) => {
                    free.set_count(disk.f_bavail.saturating_mul(disk.f_frsize));
                    size.set_count(disk.f_blocks.saturating_mul(disk.f_frsize));
                }
                Ok(Err(_)) | Err(_) => {
                    free.forget();
                    size.forget();
                }
            }
        }
    });
}

/// Bytes of a database file and its write-ahead log.
pub(crate) fn database_bytes(file: &Path) -> u64 {
    let mut wal = file.as_os_str().to_owned();
    wal.push("-wal");
    [file.to_owned(), PathBuf::from(wal)].iter().filter_map(|file| Some(std::fs::metadata(file).ok()?.len())).sum()
}
