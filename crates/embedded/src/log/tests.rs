//! What is this log's own: rows, damage, limits, what is kept; the rest is the contract's.

use super::append::{self, Append, Appender};
use super::{Log, read, trim};
use crate::directory::Directory;
use crate::error::{Fault, OpenError};
use crate::metrics::Metrics;
use crate::space::Space;
use crate::{Config, sqlite};
use headwater_core::clock::ManualClock;
use headwater_core::log::{Delivery, EventLog, LogError, Position, Record, StoredRecord, Subscription};
use headwater_core::time::{HOUR, Timestamp};
use proptest::prelude::*;
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{Semaphore, oneshot};
use tokio::time;

/// A data directory with a log, and the hands of its clock.
struct Machine {
    dir: TempDir,
    config: Config,
    clock: Arc<ManualClock>,
    /// The lock goes after the log.
    log: Option<(Log, Directory)>,
}

impl Machine {
    fn new(config: Config) -> Self {
        let mut machine = Self { dir: tempfile::tempdir().unwrap(), config, clock: Arc::default(), log: None };
        machine.open().unwrap();
        machine
    }

    fn open(&mut self) -> Result<(), OpenError> {
        self.close();
        let directory = Directory::open(self.dir.path(), Timestamp(0))?;
        let space = Space::new(self.dir.path(), self.config.reserve_bytes);
        let clock = Arc::clone(&self.clock);
        self.log = Some((Log::open(&directory, &self.config, clock, space, Metrics::default())?, directory));
        Ok(())
    }

    fn close(&mut self) {
        if let Some((log, _directory)) = self.log.take() {
            log.close();
        }
    }

    fn log(&self) -> &Log {
        &self.log.as_ref().unwrap().0
    }

    /// Closes, changes the file by hand, and opens again.
    fn tamper(&mut self, sql: &str) -> Result<(), OpenError> {
        self.close();
        Connection::open(self.file()).unwrap().execute_batch(sql).unwrap();
        self.open()
    }

    fn file(&self) -> std::path::PathBuf {
        self.dir.path().join(crate::LOG_FILE)
    }
}

fn record(at: i64, count: u64, payload: impl Into<Vec<u8>>) -> Record {
    Record { partition: 0, received_at: Timestamp(at), count, key: None, payload: payload.into().into() }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    time::timeout(Duration::from_secs(20), future).await.expect("it comes within 20 seconds")
}

async fn edges(log: &Log) -> (u64, u64) {
    let bounds = within(log.bounds()).await.unwrap();
    (bounds[0].start, bounds[0].end)
}

async fn join(log: &Log, group: &str, position: Option<Position>) -> Box<dyn Subscription> {
    let mut tail = within(log.subscribe(group)).await.unwrap();
    assert_eq!(within(tail.next()).await.unwrap(), Delivery::Assigned(vec![0]));
    within(tail.resume(vec![(0, position)])).await.unwrap();
    tail
}

/// Everything up to the log's end.
async fn rest(log: &Log, tail: &mut dyn Subscription, mut from: u64) -> Vec<StoredRecord> {
    let mut all = Vec::new();
    while from < edges(log).await.1 {
        let Delivery::Records { from: begins, next, mut records, .. } = within(tail.next()).await.unwrap() else { panic!("records") };
        assert_eq!((begins, records.len() as u64), (from, next - from));
        from = next;
        all.append(&mut records);
    }
    all
}

async fn read_all(log: &Log) -> Vec<StoredRecord> {
    let from = edges(log).await.0;
    rest(log, &mut *join(log, "reader", None).await, from).await
}

fn appender(dir: &Path) -> Appender {
    Appender::open(&dir.join(crate::LOG_FILE), &Config::default(), Arc::new(ManualClock::default()), Space::new(dir, 0), Metrics::default())
        .unwrap()
        .0
}

#[test]
fn the_writer_syncs_every_commit() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(sqlite::synchronous(&appender(dir.path()).conn).unwrap(), 2);
}

#[test]
fn every_statement_prepares() {
    let dir = tempfile::tempdir().unwrap();
    let appender = appender(dir.path());
    let statements = [
        append::CREATE,
        append::LOAD,
        append::SAVE,
        append::APPEND,
        append::PLACE,
        append::EDGES,
        read::READ,
        read::OLDEST_FROM,
        read::RECEIVED_AT,
        trim::OLDEST_ROWS,
        trim::TRIM,
    ];
    for sql in statements {
        appender.conn.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/sql/log")).unwrap().count();
    assert_eq!(files, statements.len(), "every file is a statement");
}

#[tokio::test]
async fn a_damaged_row_is_delivered_as_damaged_records_and_counted() {
    let mut machine = Machine::new(Config::default());
    for n in 0..3u8 {
        within(machine.log().append(vec![record(1, 10, vec![n; 100]), record(2, 20, vec![n; 100])])).await.unwrap();
    }
    // Bytes 30 to 33 are in the first record's payload, the first byte is in its frame.
    machine
        .tamper("UPDATE record_rows SET blob = CAST(substr(blob, 1, 30) || x'ffffffff' || substr(blob, 35) AS BLOB) WHERE first = 2")
        .unwrap();
    let records = read_all(machine.log()).await;
    assert_eq!(
        records.iter().map(|r| (r.position, r.count, r.damaged)).collect::<Vec<_>>()[2..5],
        [(2, 10, true), (3, 20, false), (4, 10, false)]
    );
    machine.tamper("UPDATE record_rows SET blob = CAST(x'ff' || substr(blob, 2) AS BLOB) WHERE first = 2").unwrap();
    let records = read_all(machine.log()).await;
    assert_eq!(
        records.iter().map(|r| (r.position, r.count, r.damaged)).collect::<Vec<_>>()[2..5],
        [(2, 30, true), (3, 0, true), (4, 10, false)]
    );
    assert_eq!((records[2].payload.len(), records[3].payload.len()), (2 * 128, 0));
    // A position behind a record whose checksum is lost is believed.
    let position = Position { log: machine.log().identity(), partition: 0, next: 4, crc: Some(17) };
    let mut tail = join(machine.log(), "reader", Some(position)).await;
    assert_eq!(rest(machine.log(), &mut *tail, 4).await.len(), 2);
}

#[tokio::test]
async fn rows_that_were_removed_by_hand_are_noticed() {
    let mut machine = Machine::new(Config::default());
    for _ in 0..4 {
        within(machine.log().append(vec![record(1, 1, "x")])).await.unwrap();
    }
    machine.tamper("DELETE FROM record_rows WHERE first = 1").unwrap();
    let mut tail = join(machine.log(), "reader", None).await;
    let refused = within(tail.next()).await.unwrap_err();
    assert!(matches!(&refused, LogError::Corrupt(words) if words.contains("record 1 is missing")), "{refused}");
    let refused = machine.tamper("DELETE FROM record_rows WHERE first = 3").unwrap_err().to_string();
    assert!(refused.contains("should hold records 0 to 4, but its rows hold 0 to 3"), "{refused}");
}

#[tokio::test]
async fn a_log_at_its_size_limit_is_busy_until_it_is_trimmed() {
    let machine = Machine::new(Config { max_unapplied_bytes: 1000, ..Config::default() });
    let log = machine.log();
    for _ in 0..5 {
        within(log.append(vec![record(1, 1, vec![0; 200])])).await.unwrap();
    }
    let refused = within(log.append(vec![record(1, 1, vec![0; 200])])).await.unwrap_err();
    assert!(matches!(&refused, LogError::Busy(words) if words.contains("1140 bytes are not applied yet, of at most 1000")), "{refused}");
    assert!(within(log.writable()).await.unwrap_err().is_transient());
    within(log.trim_to(&[(0, 2)])).await.unwrap();
    within(log.writable()).await.unwrap();
    within(log.append(vec![record(1, 1, vec![0; 200])])).await.unwrap();
    assert_eq!(edges(log).await, (0, 6), "what is applied is kept for a while");
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_takes_no_appends_and_can_still_be_trimmed() {
    let mut machine = Machine::new(Config { keep_bytes: 0, ..Config::default() });
    within(machine.log().append(vec![record(1, 1, "x")])).await.unwrap();
    machine.close();
    let directory = Directory::open(machine.dir.path(), Timestamp(0)).unwrap();
    let log = Log::open(
        &directory,
        &machine.config,
        Arc::new(ManualClock::default()),
        Space::with_reserve(machine.dir.path(), u64::MAX),
        Metrics::default(),
    )
    .unwrap();
    machine.log = Some((log, directory));
    let log = machine.log();
    assert!(matches!(within(log.append(vec![record(1, 1, "x")])).await, Err(LogError::Busy(words)) if words.contains("bytes are free")));
    assert!(matches!(within(log.writable()).await, Err(LogError::Busy(_))));
    within(log.trim_to(&[(0, 1)])).await.unwrap();
    assert_eq!(edges(log).await, (1, 1));
}

#[tokio::test]
async fn applied_records_go_when_they_are_old() {
    let machine = Machine::new(Config { keep_age: Duration::from_secs(3600), ..Config::default() });
    let log = machine.log();
    for n in 0..4 {
        machine.clock.set(Timestamp(n * HOUR / 2));
        within(log.append(vec![record(1, 1, "x")])).await.unwrap();
    }
    within(log.trim_to(&[(0, 3)])).await.unwrap();
    assert_eq!(edges(log).await, (2, 4), "those of the last hour stay");
    machine.clock.set(Timestamp(10 * HOUR));
    within(log.trim_to(&[(0, 3)])).await.unwrap();
    assert_eq!(edges(log).await, (3, 4), "what is not applied stays");
}

#[tokio::test]
async fn a_store_that_was_put_back_can_catch_up_after_a_restart() {
    let mut machine = Machine::new(Config { keep_age: Duration::from_secs(3600), ..Config::default() });
    for _ in 0..4 {
        within(machine.log().append(vec![record(1, 1, "x")])).await.unwrap();
    }
    within(machine.log().trim_to(&[(0, 4)])).await.unwrap();
    machine.clock.set(Timestamp(10 * HOUR));
    machine.open().unwrap();
    within(machine.log().append(vec![record(1, 1, "x")])).await.unwrap();
    assert_eq!(edges(machine.log()).await, (0, 5), "old as they are, records stay until this store has said that it has them");
    within(machine.log().trim_to(&[(0, 2)])).await.unwrap();
    assert_eq!(edges(machine.log()).await, (2, 5));
}

#[tokio::test]
async fn applied_records_go_when_they_are_many_and_the_file_shrinks() {
    const PAYLOAD: usize = 500_000;
    let mut machine = Machine::new(Config { keep_bytes: 1 << 20, ..Config::default() });
    let log = machine.log();
    for _ in 0..4 {
        within(log.append((0..8).map(|_| record(1, 1, vec![7; PAYLOAD])).collect())).await.unwrap();
    }
    // Puts all in one place: the writer moves the write-ahead log into the file when it closes.
    machine.open().unwrap();
    let full = std::fs::metadata(machine.file()).unwrap().len();
    assert!(full > 32 * PAYLOAD as u64);
    let log = machine.log();
    within(log.trim_to(&[(0, 32)])).await.unwrap();
    assert_eq!(edges(log).await, (32, 32), "whole rows go while more than the limit is kept");
    within(log.append(vec![record(1, 1, "x")])).await.unwrap();
    let file = machine.file();
    machine.open().unwrap();
    let left = std::fs::metadata(file).unwrap().len();
    assert!(left < 4 << 20, "{full} bytes became {left}");
    assert_eq!(read_all(machine.log()).await.len(), 1);
}

#[tokio::test]
async fn the_second_subscription_of_a_group_waits_for_the_first() {
    let machine = Machine::new(Config::default());
    let log = machine.log();
    let first = join(log, "ingest", None).await;
    let _other_group = join(log, "other", None).await;
    let mut second = log.subscribe("ingest").await.unwrap();
    time::timeout(Duration::from_millis(50), second.next()).await.unwrap_err();
    let refused = within(second.resume(vec![(0, None)])).await.unwrap_err();
    assert!(matches!(refused, LogError::Unavailable(_)));
    drop(first);
    assert_eq!(within(second.next()).await.unwrap(), Delivery::Assigned(vec![0]));
}

#[tokio::test]
async fn records_that_go_before_they_are_read_are_an_error_and_no_hole() {
    let machine = Machine::new(Config { keep_bytes: 0, ..Config::default() });
    let log = machine.log();
    within(log.append(vec![record(1, 1, "x")])).await.unwrap();
    let mut tail = join(log, "slow", None).await;
    within(log.append(vec![record(1, 1, "x")])).await.unwrap();
    within(log.trim_to(&[(0, 2)])).await.unwrap();
    within(log.append(vec![record(1, 1, "x")])).await.unwrap();
    let refused = within(tail.next()).await.unwrap_err();
    assert!(matches!(&refused, LogError::Corrupt(words) if words.contains("record 0 is missing")), "{refused}");
}

#[tokio::test]
async fn what_is_no_record_of_this_log_is_refused() {
    let machine = Machine::new(Config::default());
    let log = machine.log();
    let long = vec![0; headwater_core::log::MAX_RECORD_BYTES + 1];
    assert!(matches!(within(log.append(vec![record(1, 1, long)])).await, Err(LogError::Corrupt(_))));
    assert!(matches!(within(log.append(vec![Record { partition: 1, ..record(1, 1, "x") }])).await, Err(LogError::Corrupt(_))));
    let refused = within(log.trim_to(&[(0, 9)])).await.unwrap_err().to_string();
    assert!(refused.contains("record 9") && refused.contains("ends at 0"), "{refused}");
    assert_eq!(edges(log).await, (0, 0));
}

#[tokio::test]
async fn a_closed_log_says_so_and_wakes_whoever_waits() {
    let machine = Machine::new(Config::default());
    let log = machine.log();
    let mut tail = join(log, "reader", None).await;
    let waiting = tokio::spawn(async move { tail.next().await });
    within(log.append(vec![record(1, 1, "x")])).await.unwrap();
    log.close();
    // The record that was appended before may be delivered first.
    within(waiting).await.unwrap().ok();
    assert!(matches!(within(log.append(vec![record(1, 1, "x")])).await, Err(LogError::Stopped(_))));
    assert!(matches!(within(log.writable()).await, Err(LogError::Stopped(_))));
    assert!(matches!(log.subscribe("reader").await.map(drop), Err(LogError::Stopped(_))));
}

/// Records as the writer gets them.
async fn batch(payload: usize) -> append::Batch {
    let (reply, _) = oneshot::channel();
    let room = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
    append::Batch::of(Append { records: vec![record(1, 1, vec![0; payload])], bytes: payload as u64, reply, _room: room })
}

#[tokio::test]
async fn a_full_disk_makes_the_log_busy_and_it_heals() {
    let dir = tempfile::tempdir().unwrap();
    let mut appender = appender(dir.path());
    let limit = |appender: &Appender, pages: i64| appender.conn.pragma_update(None, "max_page_count", pages).ok();
    limit(&appender, 20);
    appender.write(&batch(1000).await).unwrap();
    let refused = appender.write(&batch(200_000).await).unwrap_err();
    assert!(matches!(&refused, LogError::Busy(words) if words.contains("full")), "{refused}");
    limit(&appender, 10_000);
    appender.write(&batch(200_000).await).unwrap();
    assert_eq!(appender.shared.end(), 2, "the refused record took no number");
}

#[tokio::test]
async fn a_failed_sync_stops_the_log_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let appender = appender(dir.path());
    let shared = Arc::clone(&appender.shared);
    let mut tail = super::subscription::Tail::new(Arc::clone(&shared), Arc::new(Semaphore::new(1)));
    tail.next().await.unwrap();
    tail.resume(vec![(0, None)]).await.unwrap();
    let waiting = tokio::spawn(async move { tail.next().await });
    let failed = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC), None);
    assert!(matches!(appender.on_write(Fault::Sql(failed)), LogError::Stopped(_)));
    assert!(matches!(within(waiting).await.unwrap(), Err(LogError::Stopped(_))));
    assert!(matches!(shared.running(), Err(LogError::Stopped(_))));
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<(u8, u16)>),
    Trim(prop::sample::Index),
    Reopen,
    Resume(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = prop::collection::vec((any::<u8>(), 0u16..3000), 1..6);
    let step = prop_oneof![
        4 => append.prop_map(Step::Append),
        2 => any::<prop::sample::Index>().prop_map(Step::Trim),
        1 => Just(Step::Reopen),
        2 => any::<prop::sample::Index>().prop_map(Step::Resume),
    ];
    prop::collection::vec(step, 1..16)
}

/// The log beside a list of everything that was ever appended.
async fn follow_the_model(steps: Vec<Step>) {
    let mut machine = Machine::new(Config { keep_bytes: 4000, ..Config::default() });
    let (mut model, mut applied) = (Vec::<Record>::new(), 0);
    for step in steps {
        match step {
            Step::Append(records) => {
                let records: Vec<_> = records.into_iter().map(|(n, len)| record(n.into(), n.into(), vec![n; len.into()])).collect();
                within(machine.log().append(records.clone())).await.unwrap();
                model.extend(records);
            }
            Step::Trim(at) => {
                let next = at.index(model.len() + 1) as u64;
                within(machine.log().trim_to(&[(0, next)])).await.unwrap();
                applied = next.max(applied);
            }
            Step::Reopen => machine.open().unwrap(),
            Step::Resume(at) => resume_as_the_model(machine.log(), &model, at.index(model.len() + 1)).await,
        }
        let (start, end) = edges(machine.log()).await;
        assert!(start <= applied && end == model.len() as u64, "{start}..{end}, applied {applied}");
        let kept: usize = model[start as usize..applied as usize].iter().map(|record| record.payload.len()).sum();
        assert!(kept <= 4000 + 6 * 3000, "{kept} bytes are kept");
        let oldest = within(machine.log().oldest_from(0, applied)).await.unwrap();
        let truth = model[applied as usize..].iter().map(|record| record.received_at).min();
        assert!(oldest.is_some() == truth.is_some() && oldest <= truth);
    }
}

async fn resume_as_the_model(log: &Log, model: &[Record], next: usize) {
    let crc = next.checked_sub(1).map(|last| crc32fast::hash(&model[last].payload));
    let position = Position { log: log.identity(), partition: 0, next: next as u64, crc };
    let start = edges(log).await.0;
    let mut tail = within(log.subscribe("reader")).await.unwrap();
    within(tail.next()).await.unwrap();
    let gaps = within(tail.resume(vec![(0, Some(position))])).await.unwrap();
    assert_eq!(
        gaps.iter().map(|gap| (gap.from, gap.to)).collect::<Vec<_>>(),
        if (next as u64) < start { vec![(next as u64, start)] } else { vec![] }
    );
    let from = start.max(next as u64);
    let delivered = rest(log, &mut *tail, from).await;
    let expected = model[from as usize..].iter().zip(from..);
    assert!(delivered.len() == model.len() - from as usize);
    for (stored, (record, position)) in delivered.iter().zip(expected) {
        assert_eq!(
            (stored.position, stored.received_at, stored.count, &stored.payload),
            (position, record.received_at, record.count, &record.payload)
        );
        assert!(!stored.damaged && stored.crc == crc32fast::hash(&record.payload));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_a_list_whose_applied_beginning_goes(steps in steps()) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(follow_the_model(steps));
    }
}
