//! What happens when the server, the network or another process does not do what one hopes.

use crate::database::{Database, config, connect, server_url};
use crate::proxy::{Proxy, Then};
use headwater_contract::builders::{NO_LIMITS, at, batch, id_of, letter, new_series};
use headwater_contract::{eventually, run, within};
use headwater_core::dead_letter::DeadLetter;
use headwater_core::series::{SeriesId, Shard};
use headwater_core::store::{Batch, Ingestion, Queries, Registered, Sealing, SeriesLimits, StoreError, Totals};
use headwater_core::time::TimeRange;
use headwater_postgres::{Config, Store};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Client;

const LIFETIME: Duration = Duration::from_secs(30);
/// Begins every COPY of blocks.
const COPY: &str = "PGCOPY";
/// Ends every transaction.
const COMMIT: &str = "COMMIT\0";

async fn a_series(store: &Store) -> SeriesId {
    id_of(store.register(vec![new_series("device", "metric")], NO_LIMITS).await.expect("register")[0])
}

async fn totals(store: &Store) -> Totals {
    within(store.snapshot(LIFETIME)).await.expect("take a snapshot").totals().await.expect("ask for the totals")
}

async fn next(store: &Store) -> Option<u64> {
    store.positions().await.expect("read the positions").first().map(|position| position.next)
}

fn authority() -> String {
    server_url().split_once("://").expect("a URL").1.split(['/', '?']).next().expect("a host").to_owned()
}

/// A store that reaches the database by a proxy only: another process.
async fn by_way_of(database: &Database, text: &'static str, then: Then) -> (Arc<Store>, Proxy) {
    let authority = authority();
    let (user, host) = authority.rsplit_once('@').expect("a user");
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:5432") };
    let proxy = Proxy::new(host, text, then).await;
    let url = format!("postgres://{user}@{}/{}?sslmode=disable", proxy.address, database.name);
    let store = database.open_with(config(&url)).await;
    proxy.arm();
    (store, proxy)
}

fn reading(id: SeriesId, seconds: i64, value: f64) -> headwater_contract::builders::BatchBuilder {
    batch().readings(&[(id, at(seconds), value)])
}

#[test]
fn a_commit_whose_answer_is_lost_is_unknown_and_its_position_tells_that_it_was_applied() {
    run(async {
        let database = Database::new().await;
        let direct = database.open().await;
        let id = a_series(&direct).await;
        let (store, _proxy) = by_way_of(&database, COMMIT, Then::Cut).await;
        let batch = reading(id, 0, 1.0).dead(letter(1)).moved(0, None, 5).build();
        let outcome = within(store.commit(Arc::clone(&batch))).await;
        assert!(matches!(outcome, Err(StoreError::Unknown(_))), "{outcome:?}");
        eventually("the position", async || next(&direct).await.filter(|next| *next == 5)).await;
        let again = within(store.commit(batch)).await;
        assert!(matches!(again, Err(StoreError::Fenced { partition: 0, expected: None, found: Some(5) })), "{again:?}");
        let totals = totals(&direct).await;
        assert_eq!((totals.received, totals.unsealed, totals.dead_letters), (2, 1, 1));
    });
}

/// Makes every commit stand still for a while in the middle of COMMIT.
async fn slow_commits(client: &Client) {
    client
        .batch_execute(
            "CREATE FUNCTION wait_a_little() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER wait_a_little AFTER UPDATE ON counters DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION wait_a_little();",
        )
        .await
        .expect("slow down commits");
}

/// Ends every session of the store that runs a statement like this.
async fn terminate(client: &Client, like: &str) -> bool {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'headwater' AND state = 'active' AND query LIKE $1";
    !client.query(sql, &[&like]).await.expect("end sessions").is_empty()
}

#[test]
fn a_session_that_is_ended_in_the_middle_of_commit_is_unknown_and_its_position_tells_that_it_was_not_applied() {
    run(async {
        let database = Database::new().await;
        let (store, client) = (database.open().await, database.connect().await);
        let id = a_series(&store).await;
        slow_commits(&client).await;
        let batch = reading(id, 0, 1.0).moved(0, None, 5).build();
        let committing = tokio::spawn({
            let (store, batch) = (Arc::clone(&store), Arc::clone(&batch));
            async move { store.commit(batch).await }
        });
        eventually("COMMIT", async || terminate(&client, "COMMIT%").await.then_some(())).await;
        let outcome = within(committing).await.expect("a commit that does not panic");
        assert!(matches!(outcome, Err(StoreError::Unknown(_))), "{outcome:?}");
        client.batch_execute("DROP TRIGGER wait_a_little ON counters").await.expect("let commits go again");
        assert_eq!(next(&store).await, None, "it was not applied");
        within(store.commit(batch)).await.expect("the same batch again");
        let totals = totals(&store).await;
        assert_eq!((totals.received, totals.unsealed), (1, 1));
    });
}

#[test]
fn a_session_that_is_ended_before_commit_is_unavailable_and_changes_nothing() {
    run(async {
        let database = Database::new().await;
        let (store, client) = (database.open().await, database.connect().await);
        let id = a_series(&store).await;
        // The dead letter stands still behind another transaction that holds its id.
        client.batch_execute("BEGIN").await.expect("begin");
        client
            .execute("INSERT INTO dead_letter_parts (id, part, bytes) VALUES ($1, 0, '')", &[&letter(1).id])
            .await
            .expect("hold a dead letter's id");
        let other = database.connect().await;
        let batch = reading(id, 0, 1.0).dead(letter(1)).moved(0, None, 5).build();
        let committing = tokio::spawn({
            let (store, batch) = (Arc::clone(&store), Arc::clone(&batch));
            async move { store.commit(batch).await }
        });
        eventually("the dead letter", async || terminate(&other, "%dead_letter_parts%").await.then_some(())).await;
        let outcome = within(committing).await.expect("a commit that does not panic");
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
        client.batch_execute("ROLLBACK").await.expect("let go");
        assert_eq!(totals(&store).await, Totals::default());
        within(store.commit(batch)).await.expect("the same batch again");
    });
}

#[test]
fn a_writer_that_stalls_inside_copy_holds_no_position_and_is_fenced_when_it_goes_on() {
    run(async {
        let database = Database::new().await;
        let direct = database.open().await;
        let id = a_series(&direct).await;
        let (zombie, proxy) = by_way_of(&database, COPY, Then::Stall).await;
        let stalled = tokio::spawn(async move { zombie.commit(reading(id, 0, 1.0).moved(0, None, 5).build()).await });
        within(proxy.reached()).await;
        within(direct.commit(reading(id, 0, 2.0).moved(0, None, 5).build())).await.expect("another takes the partition over");
        within(direct.commit(reading(id, 0, 3.0).moved(0, Some(5), 6).build())).await.expect("and goes on");
        proxy.go_on();
        let outcome = within(stalled).await.expect("a commit that does not panic");
        assert!(matches!(outcome, Err(StoreError::Fenced { partition: 0, expected: None, found: Some(6) })), "{outcome:?}");
        assert_eq!(totals(&direct).await.unsealed, 2);
    });
}

#[test]
fn a_batch_is_numbered_when_it_commits_and_not_when_it_begins() {
    run(async {
        let database = Database::new().await;
        let direct = database.open().await;
        let id = a_series(&direct).await;
        let (slow, proxy) = by_way_of(&database, COPY, Then::Stall).await;
        // A key that came through two partitions: the batch that was seen first has the lesser number, so its value stays, sealed or not.
        let stalled = tokio::spawn(async move { slow.commit(reading(id, 0, 1.0).moved(0, None, 5).build()).await });
        within(proxy.reached()).await;
        let first = within(direct.commit(reading(id, 0, 2.0).moved(1, None, 5).build())).await.expect("commit another partition");
        proxy.go_on();
        let second = within(stalled).await.expect("a commit that does not panic").expect("its position was its own");
        assert!(first.batch < second.batch, "{first:?} came before {second:?}");
        let mut snapshot = within(direct.snapshot(LIFETIME)).await.expect("take a snapshot");
        let blocks = snapshot.blocks(id.shard(), TimeRange::ALL, None, 1 << 20).await.expect("ask for blocks");
        assert_eq!(
            blocks.iter().map(|(batch, block)| (*batch, block.values[0])).collect::<Vec<_>>(),
            [(first.batch, 2.0), (second.batch, 1.0)]
        );
    });
}

#[test]
fn a_lock_that_another_one_holds_is_waited_for_a_little_and_then_said_to_be_busy() {
    run(async {
        let database = Database::new().await;
        let store = database.open_with(Config { lock_timeout_ms: 100, ..config(&database.url) }).await;
        let id = a_series(&store).await;
        within(store.commit(reading(id, 0, 1.0).moved(0, None, 1).build())).await.expect("commit");
        let holder = database.connect().await;
        let busy = |outcome: Result<(), StoreError>| assert!(matches!(outcome, Err(StoreError::Busy(_))), "{outcome:?}");
        for locked in ["positions", "shards WHERE shard = 0", "counters"] {
            holder.batch_execute(&format!("BEGIN; SELECT * FROM {locked} FOR UPDATE")).await.expect("hold locks");
            match locked {
                "positions" => busy(within(store.commit(reading(id, 1, 1.0).moved(0, Some(1), 2).build())).await.map(drop)),
                "counters" => busy(within(store.register(vec![new_series("device", "new")], NO_LIMITS)).await.map(drop)),
                _ => {
                    let (version, _) = within(store.unmerged(Shard(0), 1, 1)).await.expect("ask for the version");
                    busy(within(store.replace(Shard(0), version, Arc::default())).await.map(drop));
                }
            }
            holder.batch_execute("ROLLBACK").await.expect("let go");
        }
        within(store.commit(reading(id, 1, 1.0).moved(0, Some(1), 2).build())).await.expect("it goes on");
    });
}

#[test]
fn several_processes_that_register_at_once_keep_the_limits() {
    run(async {
        let database = Database::new().await;
        let limits = SeriesLimits { per_device: 10, total: 25 };
        let mut tasks = Vec::new();
        for process in 0..3 {
            let store = database.open().await;
            for device in ["a", "b", "c"] {
                let store = Arc::clone(&store);
                tasks.push(tokio::spawn(async move {
                    let mut answers = Vec::new();
                    for n in 0..6 {
                        let series = (0..2).map(|m| new_series(device, &format!("{process}-{n}-{m}"))).collect();
                        answers.extend(within(store.register(series, limits)).await.expect("register"));
                    }
                    answers
                }));
            }
        }
        let mut ids = Vec::new();
        for task in tasks {
            ids.extend(within(task).await.expect("a task that does not panic").into_iter().filter_map(|answer| match answer {
                Registered::As(id) => Some(id.0),
                Registered::DeviceLimit | Registered::TotalLimit => None,
            }));
        }
        ids.sort_unstable();
        assert_eq!(ids, (0..25).collect::<Vec<u32>>(), "as many as the limit of all, and no id twice");
        let counts = database.connect().await.query("SELECT count(*) FROM series GROUP BY device", &[]).await.expect("count");
        assert!(counts.iter().all(|row| row.get::<_, i64>(0) <= 10), "no device has more than its limit");
    });
}

#[test]
fn calls_that_are_dropped_leave_no_connection_in_a_transaction() {
    run(async {
        let database = Database::new().await;
        let (store, client) = (database.open().await, database.connect().await);
        let id = a_series(&store).await;
        let mut expected = None;
        for round in 0..60u64 {
            let commit =
                store.commit(reading(id, 0, 1.0).dead(letter(u128::from(round))).moved(0, expected, expected.unwrap_or(0) + 1).build());
            drop(tokio::time::timeout(Duration::from_micros(round * 150), commit).await);
            let snapshot = tokio::time::timeout(Duration::from_micros(round * 100), store.snapshot(LIFETIME)).await;
            if let Ok(Ok(mut snapshot)) = snapshot {
                drop(tokio::time::timeout(Duration::from_micros(round * 20), snapshot.totals()).await);
            }
            expected = next(&store).await;
        }
        eventually("all transactions to end", async || {
            let open = client.query_one(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'headwater' AND (state <> 'idle' OR backend_xmin IS NOT NULL)",
                &[],
            );
            (open.await.expect("count").get::<_, i64>(0) == 0).then_some(())
        })
        .await;
        let totals = totals(&store).await;
        assert_eq!(totals.received, totals.dead + totals.unsealed, "a commit is whole or not there");
    });
}

#[test]
fn a_question_that_is_dropped_is_cancelled_on_the_server() {
    run(async {
        let database = Database::new().await;
        let (store, client) = (database.open().await, database.connect().await);
        let waiting = async || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
            client.query_one(sql, &[]).await.expect("count").get::<_, i64>(0)
        };
        let mut snapshot = within(store.snapshot(LIFETIME)).await.expect("take a snapshot");
        client.batch_execute("BEGIN; LOCK TABLE gaps IN ACCESS EXCLUSIVE MODE").await.expect("hold a table");
        let asking = tokio::spawn(async move { snapshot.totals().await.map(drop) });
        eventually("the question to wait", async || (waiting().await == 1).then_some(())).await;
        asking.abort();
        eventually("the question to be cancelled", async || (waiting().await == 0).then_some(())).await;
        let mut late = within(store.snapshot(Duration::from_millis(300))).await.expect("take a snapshot");
        let outcome = within(late.totals()).await;
        assert!(matches!(outcome, Err(StoreError::Deadline)), "{outcome:?}");
        eventually("the question to be cancelled", async || (waiting().await == 0).then_some(())).await;
    });
}

#[test]
fn a_snapshot_that_nobody_asks_ends_at_its_deadline_and_its_age_is_told() {
    run(async {
        let database = Database::new().await;
        let store = database.open().await;
        assert_eq!(within(store.oldest_snapshot_age()).await.expect("ask for the age"), None);
        let forgotten = within(store.snapshot(Duration::from_millis(400))).await.expect("take a snapshot");
        let age = within(store.oldest_snapshot_age()).await.expect("ask for the age");
        assert!(age.is_some_and(|age| age < Duration::from_secs(10)), "{age:?}");
        let vitals = within(store.vitals()).await.expect("ask how it is");
        assert!(vitals.bytes > Some(1 << 20) && vitals.oldest_snapshot > Some(Duration::ZERO), "{vitals:?}");
        let age = async || within(store.oldest_snapshot_age()).await.expect("ask for the age");
        eventually("the end", async || age().await.is_none().then_some(())).await;
        drop(forgotten);
    });
}

#[test]
fn more_snapshots_than_there_may_be_wait_and_are_busy() {
    run(async {
        let database = Database::new().await;
        let store = database.open_with(Config { max_connections: 6, ..config(&database.url) }).await;
        let held =
            [within(store.snapshot(LIFETIME)).await.expect("the first"), within(store.snapshot(LIFETIME)).await.expect("the second")];
        let third = within(store.snapshot(Duration::from_millis(100))).await.map(drop);
        assert!(matches!(third, Err(StoreError::Busy(_))), "{third:?}");
        let id = a_series(&store).await;
        within(store.commit(reading(id, 0, 1.0).moved(0, None, 1).build())).await.expect("writers have connections of their own");
        drop(held);
        within(store.snapshot(LIFETIME)).await.expect("there is room again");
    });
}

#[test]
fn letters_that_come_again_after_a_failover_are_kept_once_and_the_counts_add_up() {
    run(async {
        let database = Database::new().await;
        let store = database.open().await;
        let id = a_series(&store).await;
        let part = |part| DeadLetter { part, parts: 2, ..letter(2) };
        let applied: Arc<Batch> = reading(id, 0, 1.0).dead(letter(1)).dead(part(0)).dead(part(1)).moved(0, None, 4).build();
        within(store.commit(Arc::clone(&applied))).await.expect("commit");
        let before = totals(&store).await;
        // The standby had the letters and not the rest: worse than what a failover can do, for it loses whole transactions.
        database.connect().await.batch_execute("DELETE FROM positions; DELETE FROM blocks").await.expect("go back");
        within(store.commit(applied)).await.expect("the log brings it again");
        assert_eq!(totals(&store).await, before);
        assert_eq!((before.received, before.dead + before.unsealed, before.dead_letters), (3, 3, 2));
    });
}

#[test]
fn the_oldest_letters_go_when_there_are_too_many_and_are_counted() {
    run(async {
        let database = Database::new().await;
        let store = database.open_with(Config { dead_letter_count: 3, ..config(&database.url) }).await;
        for n in 0..6u64 {
            let letters = [
                DeadLetter { received_at: at(n as i64), ..letter(u128::from(n)) },
                DeadLetter { received_at: at(99), parts: 2, ..letter(99) },
            ];
            let batch = letters.into_iter().fold(batch(), |batch, letter| batch.dead(letter));
            within(store.commit(batch.moved(0, n.checked_sub(1), n).build())).await.expect("commit");
        }
        let totals = totals(&store).await;
        assert_eq!((totals.dead_letters, totals.dead_letters_dropped), (3, 3));
        let mut snapshot = within(store.snapshot(LIFETIME)).await.expect("take a snapshot");
        for n in 0..6 {
            let found = within(snapshot.dead_letter(letter(n).id)).await.expect("ask for a dead letter");
            assert_eq!(found.is_some(), n >= 3, "letter {n}");
        }
    });
}

#[test]
fn a_writer_that_has_stopped_in_the_middle_of_copy_is_ended() {
    run(async {
        let database = Database::new().await;
        let store = database.open_with(Config { lock_timeout_ms: 100, commit_timeout_ms: 1_000, ..config(&database.url) }).await;
        let id = a_series(&store).await;
        let (zombie, proxy) = by_way_of(&database, COPY, Then::Stall).await;
        let stalled = tokio::spawn(async move { zombie.commit(reading(id, 0, 1.0).moved(0, None, 5).build()).await });
        within(proxy.reached()).await;
        let holder = database.connect().await;
        within(store.commit(reading(id, 0, 1.0).moved(1, None, 1).build())).await.expect("commit");
        holder.batch_execute("BEGIN; SELECT * FROM positions FOR UPDATE").await.expect("hold locks");
        // Whoever finds a lock held looks for those who have stopped.
        let mut rounds = 0;
        while !stalled.is_finished() {
            rounds += 1;
            assert!(rounds < 300, "it is ended within some seconds");
            let outcome = within(store.commit(reading(id, 0, 1.0).moved(1, Some(1), 2).build())).await;
            assert!(matches!(outcome, Err(StoreError::Busy(_))), "{outcome:?}");
        }
        let outcome = stalled.await.expect("a commit that does not panic");
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    });
}

#[test]
fn a_server_that_is_not_there_is_unavailable_and_a_refused_user_stops() {
    run(async {
        let open = async |url: &str| {
            let config = Config { connect_timeout_ms: 500, ..config(url) };
            within(headwater_postgres::open(config, Arc::new(headwater_core::clock::SystemClock))).await.map(drop)
        };
        let outcome = open("postgres://nobody@127.0.0.1:1/nothing").await;
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
        let outcome = open(&crate::database::url_of("headwater_no_such_database", None)).await;
        assert!(matches!(&outcome, Err(StoreError::Stopped(words)) if words.contains("headwater_no_such_database")), "{outcome:?}");
        drop(connect(&server_url()).await);
    });
}
