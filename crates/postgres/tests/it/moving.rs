//! Filling a database from another store.

use crate::database::{Database, config};
use headwater_contract::{run, within};
use headwater_core::clock::SystemClock;
use headwater_core::log::{Gap, LogId, Position};
use headwater_core::seal::{ChunkKey, Outcomes, StoredChunk};
use headwater_core::series::{Series, SeriesId, SeriesKey, Shard};
use headwater_core::store::{Account, Applied, Queries, StoreError, Totals};
use headwater_core::time::TimeRange;
use headwater_postgres::{Begun, Mover, Source};
use std::sync::Arc;
use std::time::Duration;

async fn mover(database: &Database) -> Mover {
    within(headwater_postgres::open_for_moving(config(&database.url), Arc::new(SystemClock))).await.expect("open it for a move")
}

fn source(identity: &str, state: &str) -> Source {
    Source { place: format!("sqlite:{identity}"), identity: identity.to_owned(), state: state.to_owned(), next_series: 1 }
}

fn chunk() -> (ChunkKey, StoredChunk) {
    let mut bytes = Vec::new();
    headwater_core::chunk::encode(&[1_000, 2_000], &[1.5, 2.5], &mut bytes);
    (ChunkKey { series: SeriesId(0), first: 1_000 }, StoredChunk { last: 2_000, readings: 2, bytes })
}

fn account() -> (Account, Totals) {
    let log = LogId("a-log".to_owned());
    let position = Position { log: log.clone(), partition: 0, next: 7, crc: Some(u32::MAX) };
    let account = Account {
        positions: vec![Applied { position: position.clone(), received: 3, dead: 0 }],
        outcomes: vec![(Shard(0), Outcomes { stored: 2, duplicate: 1, conflict: 0 })],
        gaps: vec![Gap { log, partition: 0, from: 1, to: 3 }],
        next_series: 1,
        dead_letters_dropped: 4,
        dead_letters_discarded: 2,
    };
    let totals = Totals {
        received: 3,
        stored: 2,
        duplicate: 1,
        positions: vec![position],
        dead_letters_dropped: 4,
        dead_letters_discarded: 2,
        gaps: 1,
        ..Totals::default()
    };
    (account, totals)
}

async fn put(mover: &Mover, again: bool) {
    let series = Series { id: SeriesId(0), key: SeriesKey::new("d", "m", &[("a", "b")]).expect("a key"), unit: Some("°C".to_owned()) };
    within(mover.put_series(&[series])).await.expect("put a series");
    within(mover.put_history(Shard(0), vec![chunk()], Vec::new(), again)).await.expect("put a chunk");
}

fn words<T>(outcome: Result<T, StoreError>) -> String {
    outcome.err().expect("it is refused").to_string()
}

#[test]
fn moving_twice_is_the_same_and_an_unfinished_move_keeps_roles_away() {
    run(async {
        let database = Database::new().await;
        let from = source("x", "1");
        let first = mover(&database).await;
        assert_eq!(within(first.begin(&from)).await.expect("begin"), Begun::Fresh);
        let second = mover(&database).await;
        assert!(words(within(second.begin(&from)).await).contains("another process is moving"));
        put(&first, false).await;
        for opened in [
            within(headwater_postgres::open(config(&database.url), Arc::new(SystemClock))).await.map(drop),
            within(headwater_postgres::open_for_reading(config(&database.url))).await.map(drop),
        ] {
            assert!(words(opened).contains("a move from sqlite:x into this database is not finished; run `headwater move` again"));
        }
        drop((first, second));
        // Its lock goes with its connection, a moment later.
        let mover = mover(&database).await;
        let begun = within(async {
            loop {
                match mover.begin(&from).await {
                    Ok(begun) => return begun,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        });
        assert_eq!(begun.await, Begun::Resumed);
        put(&mover, true).await;
        let (account, totals) = account();
        let wrong = Totals { stored: 1, ..totals.clone() };
        assert!(words(within(mover.finish(&account, &wrong)).await).contains("others than the source's"));
        within(mover.finish(&account, &totals)).await.expect("finish");
        assert_eq!(within(mover.begin(&from)).await.expect("look"), Begun::Complete);

        let store = database.open().await;
        let mut snapshot = within(store.snapshot(Duration::from_secs(20))).await.expect("a snapshot");
        assert_eq!(within(snapshot.totals()).await.expect("totals"), totals);
        let chunks = within(snapshot.chunks(Shard(0), &[SeriesId(0)], TimeRange::ALL, None, 1 << 20)).await.expect("chunks");
        assert_eq!(chunks, [chunk()]);
    });
}

#[test]
fn a_source_that_has_changed_begins_anew_and_a_foreign_target_is_refused() {
    run(async {
        let database = Database::new().await;
        let mover = mover(&database).await;
        within(mover.begin(&source("x", "1"))).await.expect("begin");
        put(&mover, false).await;
        assert!(words(within(mover.begin(&source("y", "1"))).await).contains("holds an unfinished move from sqlite:x"));
        assert_eq!(within(mover.begin(&source("x", "2"))).await.expect("begin anew"), Begun::Fresh);
        // Nothing is there that would be in the way.
        put(&mover, false).await;
        let (account, totals) = account();
        within(mover.finish(&account, &totals)).await.expect("finish");
        assert!(words(within(mover.begin(&source("x", "3"))).await).contains("has taken in more since"));
        assert!(words(within(mover.begin(&source("y", "2"))).await).contains("was filled from sqlite:x before"));
        database.connect().await.batch_execute("TRUNCATE moves").await.expect("forget the move");
        let refused = words(within(mover.begin(&source("x", "2"))).await);
        assert!(refused.contains("is not empty, it holds 1 series, positions of a log, chunks, gaps"), "{refused}");
    });
}
