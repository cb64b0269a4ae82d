//! The store of a directory that another process may be writing to.
//!
//! Owns: [`open_for_reading`]. Does not know: who writes.
//! Invariants: nothing is written to the directory but SQLite's shared-memory index, no lock is taken, no schema is changed, and the write-ahead
//! log stays where it is; a format or a schema that is newer is refused.

use super::gate::Gate;
use super::readers::Readers;
use crate::error::OpenError;
use crate::sqlite::{self, Use};
use crate::{directory, migrations};
use headwater_core::BoxFuture;
use headwater_core::store::{Queries, Result, Snapshot};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Snapshots that may be open at a time.
const READERS: usize = 2;

/// Opens the store of a data directory for nothing but questions, beside a server that has it open or without one. A snapshot should be short:
/// the server's write-ahead log cannot start over meanwhile.
///
/// # Errors
/// When there is no store, when a newer or an older program wrote it, when it is damaged, or when the system says no.
pub fn open_for_reading(dir: &Path) -> std::result::Result<Arc<dyn Queries>, OpenError> {
    let path = dir.join(crate::STORE_FILE);
    if !path.is_file() {
        return Err(OpenError::Damaged(format!(
            "there is no store in the data directory {}: {} is missing",
            dir.display(),
            crate::STORE_FILE
        )));
    }
    // With a store in it, the directory is not new, so it is never marked here.
    directory::check_format(dir)?;
    migrations::check(&sqlite::open(&path, Use::Read)?, crate::STORE_FILE, migrations::STORE)?;
    // The server's gate cannot be seen from here.
    let readers = Readers::open(&path, "store-reader", READERS, Arc::new(Gate::default()), Box::new(|| ()))?;
    Ok(Arc::new(Reading(readers)))
}

/// Only the readers of a store.
struct Reading(Arc<Readers>);

impl Queries for Reading {
    fn snapshot(&self, lifetime: Duration) -> BoxFuture<'_, Result<Box<dyn Snapshot>>> {
        let readers = Arc::clone(&self.0);
        Box::pin(async move { Ok(Box::new(readers.begin(lifetime).await?) as Box<dyn Snapshot>) })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, open};
    use headwater_core::clock::SystemClock;
    use std::fs;

    async fn totals(store: &dyn Queries) -> headwater_core::store::Totals {
        store.snapshot(Duration::from_secs(20)).await.unwrap().totals().await.unwrap()
    }

    fn files(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_store_is_read_beside_the_process_that_has_it_and_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let embedded = open(dir.path(), Config::default(), Arc::new(SystemClock)).unwrap();
        let reading = open_for_reading(dir.path()).unwrap();
        assert_eq!(totals(&*reading).await, totals(&*embedded.store).await);
        drop(reading);
        embedded.close();
        let before = (files(dir.path()), fs::read(dir.path().join(crate::STORE_FILE)).unwrap());
        assert_eq!(totals(&*open_for_reading(dir.path()).unwrap()).await.received, 0);
        assert_eq!(fs::read(dir.path().join(crate::STORE_FILE)).unwrap(), before.1);
        open(dir.path(), Config::default(), Arc::new(SystemClock)).unwrap().close();
        assert_eq!(files(dir.path()), before.0);
    }

    #[tokio::test]
    async fn reading_what_a_killed_process_left_does_not_move_its_write_ahead_log() {
        let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let embedded = open(dir.path(), Config::default(), Arc::new(SystemClock)).unwrap();
        for file in ["format", "store.db", "store.db-wal"] {
            fs::copy(dir.path().join(file), copy.path().join(file)).unwrap();
        }
        let wal = || fs::read(copy.path().join("store.db-wal")).unwrap();
        let before = wal();
        assert!(!before.is_empty());
        assert_eq!(totals(&*open_for_reading(copy.path()).unwrap()).await, totals(&*embedded.store).await);
        assert!(wal() == before);
    }

    #[test]
    fn a_directory_without_a_store_or_of_another_version_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |words: &str| {
            let before = files(dir.path());
            let text = open_for_reading(dir.path()).err().unwrap().to_string();
            assert!(text.contains(words), "{text}");
            assert_eq!(files(dir.path()), before);
        };
        refused("there is no store");
        open(dir.path(), Config::default(), Arc::new(SystemClock)).unwrap().close();
        let change = |sql: &str| rusqlite::Connection::open(dir.path().join(crate::STORE_FILE)).unwrap().execute_batch(sql).unwrap();
        change("INSERT INTO schema_migrations VALUES (999, 'later', 0, 0)");
        assert!(matches!(open_for_reading(dir.path()), Err(OpenError::Newer(_))));
        change("DELETE FROM schema_migrations WHERE version > 1");
        assert!(open_for_reading(dir.path()).err().unwrap().to_string().contains("start the server once"));
        fs::write(dir.path().join("format"), "headwater data, format 99\n").unwrap();
        assert!(matches!(open_for_reading(dir.path()), Err(OpenError::Newer(_))));
    }
}
