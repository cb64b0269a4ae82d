//! What people read with SQL: the views, the functions, the role, and every example of the documentation.

use crate::database::{Database, connect, url_of};
use headwater_contract::builders::{NO_BUDGET, Reading, reading, seal_shard, store_readings};
use headwater_contract::{run, within};
use headwater_core::chunk::Chunk;
use headwater_core::filter::SeriesFilter;
use headwater_core::store::{Queries, Sealing};
use headwater_core::time::{DAY, HOUR, SECOND, TimeRange, Timestamp};
use headwater_postgres::Store;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// 2025-11-23T15:00:00Z
const START: Timestamp = headwater_contract::builders::START;

const DEVICE: &str = "plant-a/press-7";

/// Sealed and open, repeated, in conflict, late, with tags, before 1990, and with times that need eight bytes.
fn some_readings(round: i64) -> Vec<Reading> {
    let temperature = || reading(DEVICE, "temperature");
    let mut readings: Vec<Reading> =
        (0..300).map(|n| temperature().at(START.plus(n * 10 * SECOND)).value(n as f64 + round as f64)).collect();
    readings.extend((0..40).map(|n| temperature().tag("line", "3").unit("°C").at(START.plus(n * 60 * SECOND)).value(0.5)));
    // Over days, with microseconds.
    readings.extend((0..30).map(|n| reading(DEVICE, "vibration \"x\"").at(START.plus(-n * (HOUR + 1) - round)).value(n as f64 / 3.0)));
    readings.extend((0..5).map(|n| reading("plant-a/press-8", "temperature").at(START.plus((n - 2) * DAY)).value(-1.0)));
    readings.push(temperature().at(Timestamp(-1 - round)).value(7.0));
    readings.push(temperature().at(START.plus(5)).value(round as f64));
    readings.push(temperature().at(START.plus(5)).value(9.0));
    readings
}

/// Some sealed, some not, in two shards or more.
async fn fill(store: &Store) {
    for round in 0..4 {
        within(store_readings(store, &some_readings(round))).await;
        if round == 1 {
            for backlog in within(store.backlog()).await.expect("ask for the backlog") {
                seal_shard(store, backlog.shard, NO_BUDGET).await;
            }
        }
    }
}

type Row = (String, String, i64, u64);

/// What the seam knows: sealed first, then batch, then place.
async fn by_the_seam(store: &Store) -> Vec<Row> {
    let mut snapshot = within(store.snapshot(Duration::from_secs(30))).await.expect("take a snapshot");
    let mut rows = Vec::new();
    for series in within(snapshot.series(&SeriesFilter::default(), None, 1_000)).await.expect("ask for series") {
        let mut known: BTreeMap<i64, f64> = BTreeMap::new();
        let (shard, id) = (series.id.shard(), series.id);
        for (_, stored) in within(snapshot.chunks(shard, &[id], TimeRange::ALL, None, 64 << 20)).await.expect("ask for chunks") {
            let chunk = Chunk::decode(&stored.bytes).expect("a chunk");
            for (time, value) in chunk.times.into_iter().zip(chunk.values) {
                known.entry(time).or_insert(value);
            }
        }
        for (_, block) in within(snapshot.blocks(shard, TimeRange::ALL, None, 64 << 20)).await.expect("ask for blocks") {
            for i in block.run(id) {
                known.entry(block.times[i]).or_insert(block.values[i]);
            }
        }
        let parts = series.key.parts();
        rows.extend(known.into_iter().map(|(time, value)| (parts.device.to_owned(), parts.metric.to_owned(), time, value.to_bits())));
    }
    rows.sort();
    rows
}

async fn by_sql(client: &Client, sql: &str) -> Vec<Row> {
    let rows = client.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let mut rows: Vec<Row> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get::<_, f64>(3).to_bits())).collect();
    rows.sort();
    rows
}

const MICROS: &str = "(extract(epoch FROM time) * 1000000)::bigint";

#[test]
fn the_view_shows_what_the_seam_does() {
    run(async {
        let database = Database::new().await;
        let store = database.open().await;
        fill(&store).await;
        let expected = by_the_seam(&store).await;
        let client = database.connect().await;
        assert_eq!(by_sql(&client, &format!("SELECT device, metric, {MICROS}, value FROM readings")).await, expected);
        let tagged = "SELECT count(*), count(DISTINCT unit) FROM readings WHERE tags ->> 'line' = '3' AND unit = '°C'";
        let row = client.query_one(tagged, &[]).await.expect("ask for tags");
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (40, 1));
        // And once all is sealed.
        headwater_contract::builders::seal_all(&*store).await;
        assert_eq!(by_sql(&client, &format!("SELECT device, metric, {MICROS}, value FROM readings")).await, expected);
    });
}

#[test]
fn the_function_shows_what_the_seam_does_within_its_borders() {
    run(async {
        let database = Database::new().await;
        let store = database.open().await;
        fill(&store).await;
        let (all, client) = (by_the_seam(&store).await, database.connect().await);
        let ranges = [
            (START, START.plus(HOUR)),
            (START.plus(5), START.plus(6)),
            (START.plus(6), START.plus(10 * SECOND)),
            (START.plus(-2 * DAY), START.plus(-DAY)),
            (Timestamp(-10), Timestamp(0)),
            (Timestamp(-DAY), START.plus(DAY)),
            (START, START),
        ];
        for metric in ["temperature", "vibration \"x\"", "none"] {
            for (from, to) in ranges {
                let inside = |row: &&Row| row.0 == DEVICE && row.1 == metric && (from.0..to.0).contains(&row.2);
                let expected: Vec<Row> = all.iter().filter(inside).cloned().collect();
                let sql = format!(
                    "SELECT '{DEVICE}'::text, '{metric}'::text, {MICROS}, value FROM readings('{DEVICE}', '{metric}', '{from}', '{to}')"
                );
                assert_eq!(by_sql(&client, &sql).await, expected, "{metric} from {from} to {to}");
            }
        }
        let unbounded = format!(
            "SELECT '{DEVICE}'::text, 'temperature'::text, {MICROS}, value FROM readings('{DEVICE}', 'temperature', '-infinity', 'infinity')"
        );
        assert_eq!(by_sql(&client, &unbounded).await.len(), all.iter().filter(|row| row.0 == DEVICE && row.1 == "temperature").count());
    });
}

async fn explain(client: &Client, sql: &str) -> String {
    let rows = client.query(&format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {sql}"), &[]).await.expect("explain");
    rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect()
}

#[test]
fn the_function_goes_to_the_chunks_by_their_key_and_to_no_other_day() {
    run(async {
        let database = Database::new().await;
        let store = database.open().await;
        // Twenty days of ten series of one shard, and nothing that statistics know of.
        let mut readings = Vec::new();
        for (series, day, n) in (0..640).step_by(64).flat_map(|s| (0..20).flat_map(move |d| (0..10).map(move |n| (s, d, n)))) {
            readings.push(reading("d", &format!("m{series}")).at(START.plus(day * DAY + n * SECOND)).value(1.0));
        }
        within(store_readings(&*store, &readings)).await;
        headwater_contract::builders::seal_all(&*store).await;
        let client = database.connect().await;
        for analyzed in [false, true] {
            if analyzed {
                client.batch_execute("ANALYZE").await.expect("analyze");
            }
            let from = START.plus(7 * DAY);
            let plan = explain(&client, &format!("SELECT * FROM readings('d', 'm64', '{from}', '{}')", from.plus(HOUR))).await;
            assert!(!plan.contains("Function Scan on readings"), "the planner inlines it:\n{plan}");
            assert!(!plan.contains("Seq Scan on chunks"), "chunks are not walked over:\n{plan}");
            let condition = plan.lines().find(|line| {
                line.contains("Index Cond") && line.contains("chunks") || line.contains("(day = ") && line.contains("first < ")
            });
            assert!(condition.is_some_and(|line| line.contains("series = ")), "chunks are found by their key:\n{plan}");
            let scans: Vec<&str> = plan.lines().filter(|line| line.contains("Scan using chunks_pkey")).collect();
            assert!(scans.iter().any(|line| line.contains("rows=1 loops=1")), "one chunk of one day is read:\n{plan}");
        }
    });
}

#[test]
fn rollups_are_columns_that_equal_the_readings() {
    run(async {
        let database = Database::new().await;
        let store = database.open().await;
        fill(&store).await;
        headwater_contract::builders::seal_all(&*store).await;
        let client = database.connect().await;
        let sql = format!(
            "SELECT r.count, r.sum, r.avg, r.min, r.max, e.*
             FROM rollups_hour('{DEVICE}', 'temperature', '{START}', '{}') r
             CROSS JOIN LATERAL (
                 SELECT count(*), sum(value), avg(value), min(value), max(value)
                 FROM readings('{DEVICE}', 'temperature', r.time, r.time + interval '1 hour') x WHERE x.tags = r.tags
             ) e",
            START.plus(HOUR)
        );
        let rows = client.query(&sql, &[]).await.expect("ask for rollups");
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].get::<_, i64>(0), rows[0].get::<_, i64>(5));
        for column in 1..5 {
            let (rolled, raw): (f64, f64) = (rows[0].get(column), rows[0].get(column + 5));
            assert!((rolled - raw).abs() < 1e-9, "column {column}: {rolled} and {raw}");
        }
        let days = client.query_one("SELECT count(*) FROM rollups_day WHERE device = $1", &[&DEVICE]).await.expect("ask for days");
        assert!(days.get::<_, i64>(0) >= 1);
    });
}

#[test]
fn a_reader_sees_the_views_and_nothing_else() {
    run(async {
        let database = Database::new().await;
        let store = database.open().await;
        fill(&store).await;
        let admin = database.connect().await;
        let role = format!("reader_of_{}", database.name);
        admin.batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x' IN ROLE headwater_reader")).await.expect("create a role");
        let reader = connect(&url_of(&database.name, Some(&format!("{role}:x")))).await;
        for sql in [
            "SELECT count(*) FROM readings",
            "SELECT count(*) FROM readings('plant-a/press-7', 'temperature', '2025-11-23', '2025-11-24')",
            "SELECT count(*) FROM rollups_hour",
            "SELECT count(*) FROM rollups_day('plant-a/press-7', 'temperature', '2025-11-23', '2025-11-24')",
            "SELECT count(*) FROM series_rows",
        ] {
            let row = reader.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            assert!(row.get::<_, i64>(0) > 0, "{sql}");
        }
        for sql in [
            "SELECT * FROM chunks",
            "SELECT * FROM blocks",
            "SELECT * FROM dead_letters",
            "SELECT * FROM positions",
            "DELETE FROM series_rows",
            "UPDATE readings SET value = 0",
            "INSERT INTO days VALUES (1)",
            "SELECT drop_oldest_letters(0, 0)",
            "CREATE TABLE mine (a int)",
        ] {
            let error = reader.batch_execute(sql).await.expect_err(sql);
            let refused = [SqlState::INSUFFICIENT_PRIVILEGE, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE];
            assert!(error.code().is_some_and(|code| refused.contains(code)), "{sql}: {error:?}");
        }
        drop(reader);
        admin.batch_execute(&format!("DROP ROLE {role}")).await.expect("drop the role");
    });
}

#[test]
fn every_example_of_the_documentation_runs() {
    run(async {
        let database = Database::new().await;
        let store = database.open().await;
        fill(&store).await;
        let client = database.connect().await;
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql.md");
        let text = std::fs::read_to_string(path).expect("read docs/sql.md");
        let examples: Vec<&str> = text.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect();
        assert!(examples.len() >= 10, "{} examples", examples.len());
        for sql in examples {
            // Roles belong to the whole server: what an example makes goes again.
            client.batch_execute("BEGIN").await.expect("begin");
            if sql.starts_with("COPY") {
                drop(client.copy_out(sql.trim_end().trim_end_matches(';')).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")));
            } else {
                client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            }
            client.batch_execute("ROLLBACK").await.expect("roll back");
        }
        let bins = "SELECT count(*) FROM readings('plant-a/press-7', 'temperature', '2025-11-23 15:00Z', '2025-11-23 18:00Z')";
        assert!(client.query_one(bins, &[]).await.expect("count").get::<_, i64>(0) > 300, "the examples are about something that is there");
    });
}
