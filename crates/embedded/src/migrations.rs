//! Brings a database to the schema that this program knows: plain files, forward only, checksummed.
//!
//! Owns: the lists of migrations and the table `schema_migrations`. Does not know: what is in the tables.
//! Invariants: a migration is one transaction with its line in the table; one that was applied is never another afterwards;
//! a schema that is newer than this program is refused.

use crate::error::OpenError;
use headwater_core::time::Timestamp;
use rusqlite::{Connection, TransactionBehavior};
use std::cmp::Ordering;

/// One file.
pub(crate) struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

/// Of `log.db`.
pub(crate) const LOG: &[Migration] = &[Migration { version: 1, name: "init", sql: include_str!("../migrations/log/0001_init.sql") }];
/// Of `store.db`.
pub(crate) const STORE: &[Migration] = &[
    Migration { version: 1, name: "init", sql: include_str!("../migrations/store/0001_init.sql") },
    Migration { version: 2, name: "sealing", sql: include_str!("../migrations/store/0002_sealing.sql") },
    Migration { version: 3, name: "letters", sql: include_str!("../migrations/store/0003_letters.sql") },
];

const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum INTEGER NOT NULL, applied_at INTEGER NOT NULL) STRICT";

/// Applies what is missing; `file` is for the words of errors.
pub(crate) fn run(conn: &mut Connection, file: &str, migrations: &[Migration], now: Timestamp) -> Result<(), OpenError> {
    conn.execute_batch(TABLE).map_err(OpenError::doing(format!("cannot create schema_migrations in {file}")))?;
    for migration in migrations {
        apply(conn, file, migration, now)?;
    }
    let doing = format!("cannot read the schema's version in {file}");
    let newest: i64 =
        conn.query_row("SELECT max(version) FROM schema_migrations", [], |row| row.get(0)).map_err(OpenError::doing(doing))?;
    let known = migrations.last().map_or(0, |last| last.version);
    if newest > known {
        return Err(OpenError::Newer(format!("{file} has schema version {newest}, and this program knows {known}")));
    }
    Ok(())
}

/// Looks at whether everything is applied, and changes nothing.
pub(crate) fn check(conn: &Connection, file: &str, migrations: &[Migration]) -> Result<(), OpenError> {
    let doing = format!("cannot read the schema's version in {file}");
    let newest: i64 =
        conn.query_row("SELECT coalesce(max(version), 0) FROM schema_migrations", [], |row| row.get(0)).map_err(OpenError::doing(doing))?;
    let known = migrations.last().map_or(0, |last| last.version);
    match newest.cmp(&known) {
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(OpenError::Newer(format!("{file} has schema version {newest}, and this program knows {known}"))),
        Ordering::Less => Err(OpenError::Damaged(format!(
            "{file} has schema version {newest}, and this program reads {known}; start the server once to bring it there"
        ))),
    }
}

fn apply(conn: &mut Connection, file: &str, migration: &Migration, now: Timestamp) -> Result<(), OpenError> {
    let Migration { version, name, sql } = *migration;
    let checksum = i64::from(crc32fast::hash(sql.as_bytes()));
    let doing = format!("cannot apply migration {version} ({name}) to {file}");
    let mut work = || -> rusqlite::Result<Option<i64>> {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut applied = tx.prepare("SELECT checksum FROM schema_migrations WHERE version = ?1")?;
        if let Some(row) = applied.query([version])?.next()? {
            return row.get(0).map(Some);
        }
        drop(applied);
        tx.execute_batch(sql)?;
        tx.execute("INSERT INTO schema_migrations VALUES (?1, ?2, ?3, ?4)", (version, name, checksum, now.0))?;
        tx.commit()?;
        Ok(None)
    };
    match work().map_err(OpenError::doing(doing))? {
        Some(found) if found != checksum => Err(OpenError::Damaged(format!(
            "migration {version} ({name}) of {file} was applied with checksum {found:08x}, but this program has it with {checksum:08x}"
        ))),
        Some(_) => Ok(()),
        None => {
            tracing::info!(file, version, name, "applied a migration");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Migration = Migration { version: 1, name: "one", sql: "CREATE TABLE one (a);" };
    const TWO: Migration = Migration { version: 2, name: "two", sql: "CREATE TABLE two (a);" };

    fn run_on(conn: &mut Connection, migrations: &[Migration]) -> Result<(), OpenError> {
        run(conn, "x.db", migrations, Timestamp(7))
    }

    fn tables(conn: &Connection) -> i64 {
        conn.query_row("SELECT count(*) FROM sqlite_schema WHERE name IN ('one', 'two')", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn each_migration_is_applied_once_and_in_order() {
        let mut conn = Connection::open_in_memory().unwrap();
        run_on(&mut conn, &[ONE]).unwrap();
        assert_eq!(tables(&conn), 1);
        run_on(&mut conn, &[ONE, TWO]).unwrap();
        run_on(&mut conn, &[ONE, TWO]).unwrap();
        assert_eq!(tables(&conn), 2);
    }

    #[test]
    fn a_migration_that_was_changed_is_refused() {
        let mut conn = Connection::open_in_memory().unwrap();
        run_on(&mut conn, &[ONE]).unwrap();
        let refused = run_on(&mut conn, &[Migration { sql: "CREATE TABLE one (b);", ..ONE }]).unwrap_err().to_string();
        assert!(refused.contains("migration 1 (one) of x.db was applied with checksum"), "{refused}");
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let mut conn = Connection::open_in_memory().unwrap();
        run_on(&mut conn, &[ONE, TWO]).unwrap();
        assert!(matches!(run_on(&mut conn, &[ONE]), Err(OpenError::Newer(_))));
    }

    #[test]
    fn a_migration_that_fails_leaves_nothing() {
        let mut conn = Connection::open_in_memory().unwrap();
        run_on(&mut conn, &[ONE, Migration { sql: "CREATE TABLE two (a); nonsense", ..TWO }]).unwrap_err();
        assert_eq!(tables(&conn), 1);
        run_on(&mut conn, &[ONE, TWO]).unwrap();
    }
}
