//! Bringing a database to its schema.

use crate::database::{Database, config};
use headwater_contract::{run, within};
use headwater_core::clock::SystemClock;
use headwater_core::store::StoreError;
use std::sync::Arc;
use std::time::Duration;

async fn open(database: &Database) -> Result<(), StoreError> {
    within(headwater_postgres::open(config(&database.url), Arc::new(SystemClock))).await.map(drop)
}

fn refused(outcome: Result<(), StoreError>, words: &str) {
    assert!(matches!(&outcome, Err(StoreError::Stopped(said)) if said.contains(words)), "{words:?} is not said by {outcome:?}");
}

#[test]
fn migrating_twice_and_by_several_at_once_applies_each_once() {
    run(async {
        let database = Arc::new(Database::empty().await);
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let database = Arc::clone(&database);
                tokio::spawn(async move { open(&database).await })
            })
            .collect();
        for task in tasks {
            task.await.expect("a task that does not panic").expect("open the store");
        }
        open(&database).await.expect("open it again");
        let applied = database.connect().await.query("SELECT version FROM schema_migrations ORDER BY version", &[]).await.expect("look");
        assert!(applied.iter().map(|row| row.get::<_, i64>(0)).eq(1..=4), "{applied:?}");
    });
}

#[test]
fn a_newer_schema_is_refused_in_words() {
    run(async {
        let database = Database::new().await;
        let client = database.connect().await;
        client.batch_execute("INSERT INTO schema_migrations VALUES (999, 'later', 0, 0)").await.expect("look newer");
        refused(open(&database).await, "schema version 999, and this program knows");
        let reading = within(headwater_postgres::open_for_reading(config(&database.url))).await.map(drop);
        refused(reading, "schema version 999");
    });
}

#[test]
fn a_migration_that_was_changed_is_refused() {
    run(async {
        let database = Database::new().await;
        database.connect().await.batch_execute("UPDATE schema_migrations SET checksum = 7 WHERE version = 1").await.expect("change it");
        refused(open(&database).await, "migration 1 (init) was applied with checksum 00000007");
    });
}

#[test]
fn reading_changes_nothing_and_needs_the_schema() {
    run(async {
        let database = Database::empty().await;
        let outcome = within(headwater_postgres::open_for_reading(config(&database.url))).await.map(drop);
        assert!(outcome.is_err(), "there is no schema");
        drop(database.open().await);
        let store = within(headwater_postgres::open_for_reading(config(&database.url))).await.expect("open it for reading");
        let mut snapshot = within(store.snapshot(Duration::from_secs(20))).await.expect("take a snapshot");
        within(snapshot.totals()).await.expect("ask for the totals");
    });
}

#[test]
fn every_statement_prepares() {
    run(async {
        let database = Database::new().await;
        let client = database.connect().await;
        let mut n = 0;
        for folder in ["src/sql", "src/sql/store"] {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            for file in std::fs::read_dir(folder).expect("list the statements") {
                let path = file.expect("a file").path();
                let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                if !name.ends_with(".sql") || name.starts_with("000") {
                    continue;
                }
                let sql = std::fs::read_to_string(&path).expect("read a statement");
                client.prepare(&sql).await.unwrap_or_else(|error| panic!("{name}: {:?}", error.as_db_error()));
                n += 1;
            }
        }
        assert!(n > 40, "the statements are found: {n}");
    });
}
