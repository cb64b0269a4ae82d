//! What is this store's own: the write-ahead log, readers, limits, damage; the rest is the contract's.

mod sealing;

use super::gate::Gate;
use super::ingestion::Keeper;
use super::prepared::Commit;
use super::{Store, account, attempts, history, ingestion, letters, queries, registry, replace, sealing as sealer};
use crate::directory::Directory;
use crate::error::Fault;
use crate::space::Space;
use crate::{Config, sqlite};
use headwater_core::block;
use headwater_core::dead_letter::{DeadLetter, Origin, Reason};
use headwater_core::log::{LogId, Position};
use headwater_core::series::{SeriesId, SeriesKey, Shard};
use headwater_core::store::{
    Batch, BatchId, DeadLetterQuery, Ingestion, Move, NewSeries, Queries, Registered, SeriesLimits, Snapshot, StoreError,
};
use headwater_core::time::{TimeRange, Timestamp};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::time;
use uuid::Uuid;

const LONG: Duration = Duration::from_secs(20);

/// A data directory with a store.
struct Machine {
    store: Arc<Store>,
    config: Config,
    directory: Directory,
    dir: TempDir,
}

impl Machine {
    fn new(config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path(), Timestamp(0)).unwrap();
        let store = Arc::new(Store::open(&directory, &config, Space::new(dir.path(), 0), Timestamp(0)).unwrap());
        Self { store, config, directory, dir }
    }

    fn reopen(&mut self) {
        self.store.close();
        self.store = Arc::new(Store::open(&self.directory, &self.config, Space::new(self.dir.path(), 0), Timestamp(0)).unwrap());
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.store.close();
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    time::timeout(LONG, future).await.expect("it comes within 20 seconds")
}

async fn begin(store: &Store, lifetime: Duration) -> super::snapshot::Pinned {
    within(Arc::clone(&store.readers).begin(lifetime)).await.unwrap()
}

fn moved(from: u64, next: u64) -> Vec<Move> {
    let to = Position { log: LogId("log".into()), partition: 0, next, crc: Some(1) };
    vec![Move { to, expected: (from > 0).then_some(from), received: next - from, dead: 0 }]
}

/// Batch number `n` (from 0) of `readings` readings of one series.
fn batch(n: u64, readings: u64) -> Arc<Batch> {
    let times: Vec<i64> = (0..readings as i64).map(|i| n as i64 * 1_000_000 + i).collect();
    let values: Vec<f64> = times.iter().map(|&t| (t as f64).sin()).collect();
    let blocks = block::cut(&vec![SeriesId(3); times.len()], &times, &values);
    Arc::new(Batch { blocks, moves: moved(n * readings, (n + 1) * readings), ..Batch::default() })
}

fn prepared(n: u64, readings: u64) -> Commit {
    Commit::of(batch(n, readings))
}

fn letter(n: u64, len: usize) -> DeadLetter {
    DeadLetter {
        id: Uuid::from_u128(n.into()),
        received_at: Timestamp(n as i64),
        reason: Reason::Malformed,
        detail: "it is no object".into(),
        device: None,
        format: "json".into(),
        count: 1,
        bytes: vec![n as u8; len],
        part: 0,
        parts: 1,
        origin: Some(Origin { log: LogId("log".into()), partition: 0, position: n }),
    }
}

async fn commit_letters(store: &Store, letters: Vec<DeadLetter>) {
    within(store.commit(Arc::new(Batch { dead_letters: letters, ..Batch::default() }))).await.unwrap();
}

async fn letters_of(store: &Store) -> (Vec<u128>, u64, u64) {
    let mut snapshot = within(store.snapshot(LONG)).await.unwrap();
    let query = DeadLetterQuery { limit: 1000, ..DeadLetterQuery::default() };
    let (page, more) = within(snapshot.dead_letters(&query, usize::MAX)).await.unwrap();
    let totals = within(snapshot.totals()).await.unwrap();
    assert!(!more);
    (page.iter().map(|letter| letter.id.as_u128()).collect(), totals.dead_letters, totals.dead_letters_dropped)
}

fn keeper(dir: &Path) -> Keeper {
    Keeper::open(&dir.join(crate::STORE_FILE), &Config::default(), Arc::new(Gate::default()), Space::new(dir, 0), Timestamp(0)).unwrap()
}

#[test]
fn the_writer_syncs_every_commit() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(sqlite::synchronous(&keeper(dir.path()).conn).unwrap(), 2);
}

#[test]
fn every_statement_prepares() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(dir.path());
    let statements = [
        ingestion::LOAD_STATE,
        ingestion::SAVE_STATE,
        ingestion::OPEN_READINGS,
        ingestion::TAKEN_BLOCKS,
        ingestion::INSERT_BLOCK,
        ingestion::INSERT_GAP,
        ingestion::MOVE_POSITION,
        ingestion::INSERT_POSITION,
        ingestion::FIND_POSITION,
        ingestion::POSITIONS,
        registry::FIND,
        registry::INSERT,
        registry::SET_UNIT,
        registry::OF_DEVICE,
        letters::FIND,
        letters::INSERT,
        letters::INSERT_PART,
        letters::EXTEND,
        letters::OLDEST,
        letters::DROP,
        letters::DROP_PARTS,
        letters::FIND_PART,
        letters::SEE_AGAIN,
        letters::OLD,
        letters::DROP_ONE,
        letters::DROP_PARTS_OF_ONE,
        attempts::SAVE,
        attempts::DISCARD,
        account::POSITIONS,
        account::SHARDS,
        account::GAPS,
        queries::TOTALS,
        queries::SERIES,
        queries::BLOCK_STATS,
        queries::BLOCKS,
        queries::DEAD_LETTERS,
        queries::DEAD_LETTER,
        queries::LETTER_PARTS,
        sealer::BACKLOG,
        sealer::VERSION,
        sealer::OLDEST,
        sealer::UNMERGED,
        sealer::KEY,
        replace::MOVE_SHARD,
        replace::BLOCK_AGE,
        replace::DELETE_BLOCK,
        replace::COUNT_FRESH,
        replace::TAKE_BLOCKS,
        replace::SWEEP_BLOCKS,
        replace::INSERT_DAY,
        replace::FIND_CHUNK,
        replace::INSERT_CHUNK,
        replace::UPDATE_CHUNK,
        replace::DELETE_CHUNK,
        replace::PUT_ROLLUP,
        history::DAYS,
        history::CHUNKS,
        history::CHUNK_HEADS,
        history::CHUNK_BYTES,
        history::CHUNKS_BETWEEN,
        history::CHUNK_HEADS_BETWEEN,
        history::ROLLUPS_BETWEEN,
        history::SEAL_MARKS,
    ];
    for sql in statements {
        keeper.conn.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/sql/store")).unwrap().count();
    assert_eq!(files, statements.len(), "every file is a statement");
}

#[test]
fn statements_seek_and_do_not_scan() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(dir.path());
    let seeking = [
        registry::FIND,
        registry::OF_DEVICE,
        letters::FIND,
        letters::DROP,
        letters::DROP_PARTS,
        letters::FIND_PART,
        letters::SEE_AGAIN,
        letters::OLD,
        letters::DROP_ONE,
        letters::DROP_PARTS_OF_ONE,
        attempts::SAVE,
        attempts::DISCARD,
        queries::DEAD_LETTER,
        queries::SERIES,
        queries::BLOCK_STATS,
        queries::BLOCKS,
        queries::DEAD_LETTERS,
        sealer::VERSION,
        sealer::OLDEST,
        sealer::UNMERGED,
        sealer::KEY,
        replace::MOVE_SHARD,
        replace::BLOCK_AGE,
        replace::COUNT_FRESH,
        replace::FIND_CHUNK,
        replace::UPDATE_CHUNK,
        replace::DELETE_CHUNK,
        history::DAYS,
        history::CHUNKS,
        history::CHUNK_HEADS,
        history::CHUNK_BYTES,
        history::CHUNKS_BETWEEN,
        history::CHUNK_HEADS_BETWEEN,
        history::ROLLUPS_BETWEEN,
    ];
    for sql in seeking {
        let mut statement = keeper.conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let parameters = vec![1i64; statement.parameter_count()];
        let plan: Vec<String> =
            statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
        let merges = ["MERGE", "LEFT", "RIGHT", "COMPOUND", "UNION ALL", "SCALAR SUBQUERY"];
        let is_fine = |step: &String| step.starts_with("SEARCH") || merges.iter().any(|merge| step.starts_with(merge));
        assert!(plan.iter().any(|step| step.starts_with("SEARCH")) && plan.iter().all(is_fine), "{sql}: {plan:?}");
    }
}

#[tokio::test]
async fn the_oldest_dead_letters_go_when_there_are_too_many() {
    let mut machine = Machine::new(Config { dead_letter_count: 3, ..Config::default() });
    commit_letters(&machine.store, vec![letter(9, 10), letter(1, 10)]).await;
    commit_letters(&machine.store, vec![letter(2, 10), letter(9, 10)]).await;
    assert_eq!(letters_of(&machine.store).await, (vec![9, 2, 1], 3, 0), "one that was sent again is kept once");
    commit_letters(&machine.store, vec![letter(3, 10), letter(4, 10)]).await;
    assert_eq!(letters_of(&machine.store).await, (vec![4, 3, 2], 3, 2), "the first to come go first");
    machine.reopen();
    commit_letters(&machine.store, vec![letter(5, 10)]).await;
    assert_eq!(letters_of(&machine.store).await, (vec![5, 4, 3], 3, 3));
}

#[tokio::test]
async fn the_oldest_dead_letters_go_when_they_are_too_large() {
    let machine = Machine::new(Config { dead_letter_bytes: 1000, ..Config::default() });
    commit_letters(&machine.store, vec![letter(1, 400), letter(2, 400)]).await;
    let part = |part, len| DeadLetter { part, parts: 2, bytes: vec![part as u8; len], ..letter(3, 0) };
    commit_letters(&machine.store, vec![part(1, 100)]).await;
    assert_eq!(letters_of(&machine.store).await, (vec![2, 1], 2, 0), "one that is not whole is not seen");
    commit_letters(&machine.store, vec![part(1, 100), part(0, 300)]).await;
    assert_eq!(letters_of(&machine.store).await, (vec![3, 2], 2, 1));
    let mut snapshot = within(machine.store.snapshot(LONG)).await.unwrap();
    let whole = within(snapshot.dead_letter(Uuid::from_u128(3))).await.unwrap().unwrap();
    assert_eq!(whole.bytes, [vec![0; 300], vec![1; 100]].concat());
    drop(snapshot);
    commit_letters(&machine.store, vec![letter(4, 2000)]).await;
    assert_eq!(letters_of(&machine.store).await, (vec![], 0, 4), "one that is larger than all may be goes too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_write_ahead_log_stays_short_under_readers_that_never_pause() {
    const LIMIT: u64 = 6 << 20;
    let machine = Machine::new(Config { wal_limit: LIMIT, ..Config::default() });
    let reading = |lifetime| {
        let store = Arc::clone(&machine.store);
        tokio::spawn(async move {
            let mut taken = 0u64;
            loop {
                // Each begins before the other's end, so at every moment somebody reads.
                let mut snapshot = store.snapshot(LONG).await.unwrap();
                taken += 1;
                match snapshot.totals().await {
                    Err(StoreError::Stopped(_)) => return taken,
                    other => drop(other.unwrap()),
                }
                time::sleep(lifetime).await;
                if snapshot.totals().await.unwrap().unsealed > 3_000_000 {
                    return taken;
                }
            }
        })
    };
    let readers = [30, 41, 53].map(|millis| reading(Duration::from_millis(millis)));
    let mut longest = 0;
    for n in 0..160 {
        within(machine.store.commit(batch(n, 20_000))).await.unwrap();
        longest = longest.max(std::fs::metadata(machine.file("store.db-wal")).unwrap().len());
    }
    for reader in readers {
        assert!(within(reader).await.unwrap() > 3, "readers come in again and again");
    }
    assert!(longest > LIMIT / 2, "readers did hold it: {longest}");
    assert!(longest < 3 * LIMIT, "{longest} bytes");
    assert!(std::fs::metadata(machine.file("store.db")).unwrap().len() > 3 * LIMIT, "far more was written than the limit");
}

#[tokio::test]
async fn a_statement_past_the_deadline_is_interrupted_and_the_reader_is_free_again() {
    let machine = Machine::new(Config { readers: 1, ..Config::default() });
    let began = Instant::now();
    let snapshot = begin(&machine.store, Duration::from_millis(100)).await;
    let endless = |view: &super::readers::View<'_>| {
        let sql = "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        Ok(view.conn.query_row(sql, [], |row| row.get::<_, i64>(0))?)
    };
    assert!(matches!(within(snapshot.ask(endless)).await, Err(StoreError::Deadline)));
    assert!(began.elapsed() >= Duration::from_millis(100));
    // The snapshot is still in hand, its reader is not.
    let mut next = begin(&machine.store, LONG).await;
    within(next.totals()).await.unwrap();
    drop(next);
    // One that is dropped in the middle of a statement lets go as well.
    let dropped = begin(&machine.store, LONG).await;
    time::timeout(Duration::from_millis(20), dropped.ask(endless)).await.unwrap_err();
    drop(dropped);
    within(begin(&machine.store, LONG).await.totals()).await.unwrap();
}

#[tokio::test]
async fn a_call_that_was_dropped_does_not_disturb_the_next_one() {
    let machine = Machine::new(Config::default());
    let mut snapshot = begin(&machine.store, LONG).await;
    for _ in 0..10 {
        // It lasts until it was dropped.
        let (held, until) = std::sync::mpsc::channel::<()>();
        let slow = snapshot.ask(move |_| Ok(until.recv().is_ok()));
        time::timeout(Duration::from_millis(1), slow).await.unwrap_err();
        drop(held);
    }
    within(snapshot.totals()).await.unwrap();
}

#[tokio::test]
async fn without_a_free_reader_a_snapshot_is_busy_after_its_lifetime() {
    let machine = Machine::new(Config { readers: 2, ..Config::default() });
    let held = [begin(&machine.store, LONG).await, begin(&machine.store, LONG).await];
    let refused = within(machine.store.snapshot(Duration::from_millis(30))).await.map(drop);
    assert!(matches!(refused, Err(StoreError::Busy(_))), "{refused:?}");
    drop(held);
    within(machine.store.snapshot(LONG)).await.unwrap();
}

#[tokio::test]
async fn a_damaged_block_is_named() {
    let mut machine = Machine::new(Config::default());
    for n in 0..2 {
        within(machine.store.commit(batch(n, 100))).await.unwrap();
    }
    machine.store.close();
    let conn = rusqlite::Connection::open(machine.file("store.db")).unwrap();
    conn.execute_batch("UPDATE open_blocks SET bytes = CAST(substr(bytes, 1, 50) || x'00ff' || substr(bytes, 53) AS BLOB) WHERE batch = 2")
        .unwrap();
    drop(conn);
    machine.reopen();
    let mut snapshot = within(machine.store.snapshot(LONG)).await.unwrap();
    let range = TimeRange::new(Timestamp(0), Timestamp(1_000_000));
    assert_eq!(within(snapshot.blocks(Shard(3), range, None, 1)).await.unwrap()[0].0, BatchId(1), "the rest is served");
    let refused = within(snapshot.blocks(Shard(3), TimeRange::ALL, Some(BatchId(1)), 1)).await.unwrap_err().to_string();
    assert!(refused.contains("batch 2 and shard 3"), "{refused}");
}

#[test]
fn a_full_disk_makes_the_store_busy_and_it_heals() {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = keeper(dir.path());
    let limit = |keeper: &Keeper, pages: i64| keeper.conn.pragma_update(None, "max_page_count", pages).ok();
    limit(&keeper, 40);
    let refused = keeper.commit(&prepared(0, 50_000)).unwrap_err();
    assert!(matches!(refused, StoreError::Busy(_)), "{refused}");
    limit(&keeper, 100_000);
    let done = keeper.commit(&prepared(0, 50_000)).unwrap();
    assert_eq!(done.open_readings, 50_000);
}

#[test]
fn after_a_failed_sync_nothing_is_written_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = keeper(dir.path());
    let failed = || Fault::Sql(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC), None));
    assert!(matches!(keeper.transaction::<()>("test", |_, _| Err(failed())), Err(StoreError::Stopped(_))));
    assert!(matches!(keeper.commit(&prepared(0, 1)), Err(StoreError::Stopped(_))));
    assert_eq!(keeper.positions().unwrap(), []);
}

#[tokio::test]
async fn registering_what_is_known_writes_nothing() {
    let machine = Machine::new(Config::default());
    let limits = SeriesLimits { per_device: 10, total: 10 };
    let new = |unit: Option<&str>| vec![NewSeries { key: SeriesKey::new("d", "m", &[]).unwrap(), unit: unit.map(str::to_owned) }];
    within(machine.store.register(new(Some("K")), limits)).await.unwrap();
    let written = || std::fs::metadata(machine.file("store.db-wal")).unwrap().len();
    let before = written();
    for unit in [None, Some("K")] {
        assert_eq!(within(machine.store.register(new(unit), limits)).await.unwrap(), [Registered::As(SeriesId(0))]);
    }
    assert_eq!(written(), before);
    within(machine.store.register(new(Some("Cel")), limits)).await.unwrap();
    assert!(written() > before);
}

#[tokio::test]
async fn a_position_never_goes_back() {
    let machine = Machine::new(Config::default());
    within(machine.store.commit(batch(0, 10))).await.unwrap();
    let mut back = Batch { moves: moved(10, 10), ..Batch::default() };
    back.moves[0].to.next = 9;
    assert!(matches!(within(machine.store.commit(Arc::new(back))).await, Err(StoreError::Corrupt(_))));
    assert_eq!(within(machine.store.positions()).await.unwrap()[0].next, 10);
}

#[tokio::test]
async fn a_closed_store_says_so_to_those_who_read_and_write() {
    let machine = Machine::new(Config::default());
    let mut snapshot = begin(&machine.store, LONG).await;
    machine.store.close();
    assert!(matches!(within(snapshot.totals()).await, Err(StoreError::Stopped(_))));
    assert!(matches!(within(machine.store.snapshot(LONG)).await.map(drop), Err(StoreError::Stopped(_))));
    assert!(matches!(within(machine.store.commit(batch(0, 1))).await, Err(StoreError::Stopped(_))));
}
