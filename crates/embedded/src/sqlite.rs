//! Connections: how SQLite is set so that a commit means "on disk", and what is read back to be sure of it.
//!
//! Owns: pragmas, limits, transactions. Does not know: tables.
//! Invariants: every connection uses WAL and pages of 4,096 bytes; a writer has `synchronous=FULL`; nothing checkpoints by
//! itself (see [`crate::wal`]).

use crate::error::{Fault, OpenError};
use headwater_core::failpoint;
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// The first version without the WAL-reset defect that could lose commits under concurrent checkpoints.
const LEAST_VERSION: i32 = 3_051_003;
/// Only a person's `sqlite3` can hold a lock: the directory is ours alone.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a page.
pub(crate) const PAGE_BYTES: u64 = 4096;
/// `PRAGMA synchronous` as SQLite numbers it.
const FULL: i64 = 2;
/// No blob is longer: a block of the most readings at 16 bytes each, and room.
const MOST_BYTES: i32 = 128 << 20;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// The one that writes; makes the file where there is none.
    Write,
    /// The same, of a file that must be able to shrink.
    WriteAndShrink,
    /// One of those that only read.
    Read,
}

/// Opens a connection and reads back that it is set as asked.
pub(crate) fn open(path: &Path, purpose: Use) -> Result<Connection, OpenError> {
    let doing = || format!("cannot open {}", path.display());
    if rusqlite::version_number() < LEAST_VERSION {
        return Err(OpenError::Damaged(format!("SQLite {} is older than the oldest that is safe, 3.51.3", rusqlite::version())));
    }
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if purpose != Use::Read {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let conn = Connection::open_with_flags(path, flags).map_err(OpenError::doing(doing()))?;
    set(&conn, purpose).map_err(OpenError::doing(doing()))?;
    check(&conn, path, purpose)?;
    Ok(conn)
}

fn set(conn: &Connection, purpose: Use) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_limit(Limit::SQLITE_LIMIT_LENGTH, MOST_BYTES)?;
    conn.set_prepared_statement_cache_capacity(96);
    if purpose == Use::WriteAndShrink {
        // Takes effect only before the first table, and so before WAL.
        conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    conn.pragma_update(None, "page_size", PAGE_BYTES as i64)?;
    if purpose != Use::Read {
        conn.pragma_update(None, "journal_mode", "WAL")?;
    }
    // fullfsync: on macOS an fsync alone does not reach the disk; elsewhere it is the same.
    conn.execute_batch(
        "PRAGMA synchronous=FULL; PRAGMA fullfsync=ON; PRAGMA checkpoint_fullfsync=ON; PRAGMA foreign_keys=OFF;
         PRAGMA cell_size_check=ON; PRAGMA trusted_schema=OFF; PRAGMA temp_store=MEMORY; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-8192;",
    )?;
    if purpose == Use::Read {
        // The last one that closes the file would move the write-ahead log into it: that is the writer's work.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        conn.pragma_update(None, "query_only", true)?;
    }
    Ok(())
}

fn check(conn: &Connection, path: &Path, purpose: Use) -> Result<(), OpenError> {
    let doing = || format!("cannot read back how {} is set", path.display());
    let mode: String = conn.pragma_query_value(None, "journal_mode", |row| row.get(0)).map_err(OpenError::doing(doing()))?;
    let page: i64 = conn.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(OpenError::doing(doing()))?;
    let synchronous = synchronous(conn).map_err(OpenError::doing(doing()))?;
    if mode != "wal" || page != PAGE_BYTES as i64 || (purpose != Use::Read && synchronous != FULL) {
        return Err(OpenError::Damaged(format!(
            "{} has journal_mode={mode}, page_size={page}, synchronous={synchronous} where wal, {PAGE_BYTES} and {FULL} (FULL) are needed",
            path.display()
        )));
    }
    Ok(())
}

/// `PRAGMA synchronous` as it is: 2 is FULL.
pub(crate) fn synchronous(conn: &Connection) -> rusqlite::Result<i64> {
    conn.pragma_query_value(None, "synchronous", |row| row.get(0))
}

/// Runs `work` in one write transaction; all of it is durable on `Ok`, nothing of it happened on `Err` (unless the commit
/// itself failed on the disk, which its error says). `failpoint` is reached between the work and the commit.
pub(crate) fn transaction<T, E>(
    conn: &Connection,
    failpoint: &'static str,
    work: impl FnOnce(&Connection) -> Result<T, Fault<E>>,
) -> Result<T, Fault<E>> {
    conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let done = work(conn).and_then(|value| {
        failpoint::reach(failpoint);
        conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(value)
    });
    if done.is_err() && !conn.is_autocommit() {
        // The error at hand says more than one of the rollback, which SQLite has often done already.
        conn.execute_batch("ROLLBACK").ok();
    }
    done
}

/// A number for SQLite, which knows signed ones only; beyond them it is held at the greatest.
pub(crate) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A number that SQLite holds and that is never negative.
pub(crate) fn uint(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_set_as_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let writer = open(&path, Use::WriteAndShrink).unwrap();
        writer.execute_batch("CREATE TABLE t (a)").unwrap();
        let reader = open(&path, Use::Read).unwrap();
        let get = |conn: &Connection, name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(synchronous(&writer).unwrap(), FULL);
        for (pragma, value) in
            [("auto_vacuum", 2), ("foreign_keys", 0), ("cell_size_check", 1), ("wal_autocheckpoint", 0), ("query_only", 0)]
        {
            assert_eq!(get(&writer, pragma), value, "{pragma}");
        }
        assert_eq!(get(&reader, "query_only"), 1);
        reader.execute_batch("INSERT INTO t VALUES (1)").unwrap_err();
    }

    #[test]
    fn another_page_size_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        Connection::open(&path).unwrap().execute_batch("PRAGMA page_size=8192; CREATE TABLE t (a)").unwrap();
        let refused = open(&path, Use::Write).unwrap_err().to_string();
        assert!(refused.contains("page_size=8192"), "{refused}");
    }

    #[test]
    fn a_failed_transaction_leaves_nothing_and_the_next_one_works() {
        let dir = tempfile::tempdir().unwrap();
        let conn = open(&dir.path().join("x.db"), Use::Write).unwrap();
        conn.execute_batch("CREATE TABLE t (a)").unwrap();
        let insert = |conn: &Connection| conn.execute("INSERT INTO t VALUES (1)", []);
        let failed: Result<(), Fault<()>> = transaction(&conn, "test", |conn| {
            insert(conn)?;
            Err(Fault::Said(()))
        });
        assert!(matches!(failed, Err(Fault::Said(()))));
        transaction::<_, ()>(&conn, "test", |conn| Ok(insert(conn)?)).unwrap();
        assert_eq!(conn.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    }
}
