//! Brings a database to the schema that this program knows: plain files, forward only, checksummed.
//!
//! Owns: the list of migrations and the table `schema_migrations`. Does not know: what is in the other tables.
//! Invariants: all that is missing is applied in one transaction, by one process at a time; a migration that was applied is never another
//! afterwards; a schema that is newer than this program is refused, and so is a server that is too old or does not speak UTF-8.

use crate::error::Done;
use crate::pool::Session;
use headwater_core::store::StoreError;
use headwater_core::time::Timestamp;

/// One file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

pub(crate) const ALL: &[Migration] = &[
    Migration { version: 1, name: "init", sql: include_str!("sql/0001_init.sql") },
    Migration { version: 2, name: "views", sql: include_str!("sql/0002_views.sql") },
    Migration { version: 3, name: "moves", sql: include_str!("sql/0003_moves.sql") },
    Migration { version: 4, name: "letters", sql: include_str!("sql/0004_letters.sql") },
];

const CREATE: &str = include_str!("sql/migrations_create.sql");
const LOCK: &str = include_str!("sql/migrations_lock.sql");
const APPLIED: &str = include_str!("sql/migrations_applied.sql");
const INSERT: &str = include_str!("sql/migrations_insert.sql");
const SERVER: &str = include_str!("sql/server.sql");

/// Applies what is missing, after whoever does so at the same time.
pub(crate) async fn run(session: &Session, migrations: &[Migration], now: Timestamp) -> Done<()> {
    check_server(session).await?;
    session.begin().await?;
    session.query_one(LOCK, &[]).await?;
    session.execute(CREATE, &[]).await?;
    let applied = applied(session).await?;
    refuse_newer(&applied, migrations)?;
    for migration in migrations {
        apply(session, migration, &applied, now).await?;
    }
    session.commit().await
}

/// Looks at whether everything is applied, and changes nothing.
pub(crate) async fn check(session: &Session, migrations: &[Migration]) -> Done<()> {
    check_server(session).await?;
    let applied = applied(session).await?;
    refuse_newer(&applied, migrations)?;
    let (newest, known) = (newest(&applied), migrations.last().map_or(0, |last| last.version));
    if newest < known {
        let words =
            format!("the database has schema version {newest}, and this program reads {known}; start one that writes to bring it there");
        return Err(StoreError::Stopped(words).into());
    }
    Ok(())
}

/// The newest version that is applied, and the one that this program knows.
pub(crate) async fn versions(session: &Session) -> Done<(i64, i64)> {
    Ok((newest(&applied(session).await?), ALL.last().map_or(0, |last| last.version)))
}

/// What was applied: version and checksum.
type Applied = Vec<(i64, i64)>;

fn newest(applied: &Applied) -> i64 {
    applied.last().map_or(0, |(version, _)| *version)
}

async fn applied(session: &Session) -> Done<Applied> {
    let rows = session.query(APPLIED, &[]).await?;
    Ok(rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, tokio_postgres::Error>>()?)
}

fn refuse_newer(applied: &Applied, migrations: &[Migration]) -> Done<()> {
    let (newest, known) = (newest(applied), migrations.last().map_or(0, |last| last.version));
    if newest > known {
        return Err(StoreError::Stopped(format!("the database has schema version {newest}, and this program knows {known}")).into());
    }
    Ok(())
}

async fn apply(session: &Session, migration: &Migration, applied: &Applied, now: Timestamp) -> Done<()> {
    let Migration { version, name, sql } = *migration;
    let checksum = i64::from(crc32fast::hash(sql.as_bytes()));
    if let Some((_, found)) = applied.iter().find(|(of, _)| *of == version) {
        if *found == checksum {
            return Ok(());
        }
        let words =
            format!("migration {version} ({name}) was applied with checksum {found:08x}, but this program has it with {checksum:08x}");
        return Err(StoreError::Stopped(words).into());
    }
    session.client()?.batch_execute(sql).await?;
    session.execute(INSERT, &[&version, &name, &checksum, &now.0]).await?;
    tracing::info!(version, name, "applied a migration");
    Ok(())
}

async fn check_server(session: &Session) -> Done<()> {
    let row = session.query_one(SERVER, &[]).await?;
    let (version, encoding, fsync): (i32, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if version < 150_000 {
        return Err(StoreError::Stopped(format!("PostgreSQL 15 or later is needed, and the server is {}", version / 10_000)).into());
    }
    if encoding != "UTF8" {
        return Err(StoreError::Stopped(format!("the database must have the encoding UTF8, and has {encoding}")).into());
    }
    if fsync != "on" {
        tracing::warn!("the server runs with fsync = off: what was acknowledged is lost when its machine stops");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_without_holes() {
        assert!(ALL.iter().map(|migration| migration.version).eq(1..=ALL.len() as i64));
    }

    #[test]
    fn a_newer_schema_is_refused_in_words() {
        let known = &ALL[..1];
        assert!(refuse_newer(&vec![], known).is_ok() && refuse_newer(&vec![(1, 0)], known).is_ok());
        let Err(crate::error::Fault::Said(StoreError::Stopped(words))) = refuse_newer(&vec![(1, 0), (2, 0)], known) else {
            panic!("taken")
        };
        assert!(words.contains("schema version 2") && words.contains("knows 1"), "{words}");
    }
}
