//! What is this store's own of sealing: where rows lie, days and their parts, blocks that are taken and swept, damage, migration.

use super::super::readers::View;
use super::super::{history, keys};
use super::{LONG, Machine, batch, begin, commit_letters, letter, within};
use crate::error::Fault;
use crate::{migrations, sqlite};
use headwater_core::block;
use headwater_core::chunk;
use headwater_core::dead_letter::{DeadLetter, History, KeptLetter};
use headwater_core::seal::{self, ChunkKey, Level, Replacement, RollupKey, StoredChunk};
use headwater_core::series::{SHARDS, SeriesId, Shard};
use headwater_core::store::{Backlog, Batch, BatchId, Blocks, Ingestion, LoadBudget, Queries, Replaced, Sealing, StoreError, Version};
use headwater_core::summary::Summary;
use headwater_core::time::{DAY, HOUR, SECOND, TimeRange, Timestamp};
use std::fs;
use std::sync::Arc;

const SERIES: SeriesId = SeriesId(3);
const NO_BUDGET: LoadBudget = LoadBudget { readings: u64::MAX, bytes: u64::MAX };

/// A chunk of readings that follow each other by a microsecond.
fn chunk_at(series: SeriesId, first: i64, readings: usize) -> (ChunkKey, StoredChunk) {
    let times: Vec<i64> = (0..readings as i64).map(|i| first + i).collect();
    let values: Vec<f64> = times.iter().map(|&time| (time % 1000) as f64 / 4.0).collect();
    let mut bytes = Vec::new();
    chunk::encode(&times, &values, &mut bytes);
    (ChunkKey { series, first }, StoredChunk { last: first + readings as i64 - 1, readings: readings as u64, bytes })
}

async fn replace(machine: &Machine, shard: Shard, version: u64, replacement: Replacement) -> Result<Replaced, StoreError> {
    within(machine.store.replace(shard, Version(version), Arc::new(replacement))).await
}

async fn put(machine: &Machine, version: u64, new_chunks: Vec<(ChunkKey, StoredChunk)>) {
    let shard = new_chunks[0].0.series.shard();
    let done = replace(machine, shard, version, Replacement { new_chunks, ..Replacement::default() }).await.unwrap();
    assert!(matches!(done, Replaced::Done { .. }), "{done:?}");
}

async fn chunks(machine: &Machine, range: TimeRange, after: Option<ChunkKey>, max_bytes: usize) -> Vec<(ChunkKey, StoredChunk)> {
    let mut snapshot = within(machine.store.snapshot(LONG)).await.unwrap();
    within(snapshot.chunks(SERIES.shard(), &[SERIES], range, after, max_bytes)).await.unwrap()
}

/// Seals what is open of a shard.
async fn seal_shard(machine: &Machine, shard: Shard) {
    let (version, loaded) = within(machine.store.load(shard, NO_BUDGET)).await.unwrap().unwrap();
    let sealed = seal::seal(shard, &loaded, usize::MAX).unwrap();
    assert!(matches!(replace(machine, shard, version.0, sealed).await, Ok(Replaced::Done { .. })));
}

async fn merge(machine: &Machine, shard: Shard, most: usize) {
    let (version, blocks) = within(machine.store.unmerged(shard, most, u64::MAX)).await.unwrap();
    let merged = seal::merge_blocks(shard, &blocks).unwrap();
    assert!(matches!(replace(machine, shard, version.0, merged).await, Ok(Replaced::Done { .. })));
}

async fn blocks(machine: &Machine, shard: Shard) -> Blocks {
    let mut snapshot = within(machine.store.snapshot(LONG)).await.unwrap();
    within(snapshot.blocks(shard, TimeRange::ALL, None, usize::MAX)).await.unwrap()
}

/// What a statement answers that nobody else asks.
fn number(machine: &Machine, sql: &str) -> i64 {
    let conn = rusqlite::Connection::open(machine.file("store.db")).unwrap();
    conn.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn chunks_that_begin_in_one_place_are_kept_apart_and_come_in_the_order_of_time() {
    let mut machine = Machine::new(crate::Config::default());
    // Within one second, not in the order of time; and around them.
    let mut all: Vec<_> =
        [SECOND, 5, DAY + 7, SECOND / 2, 10 * SECOND, 3 * HOUR].map(|offset| chunk_at(SERIES, 20_000 * DAY + offset, 100)).into();
    put(&machine, 0, all.clone()).await;
    all.sort_by_key(|(key, _)| *key);
    assert_eq!(number(&machine, "SELECT count(*) FROM days"), 4, "three chunks in one place, so three parts, and another day");
    machine.reopen();
    assert_eq!(chunks(&machine, TimeRange::ALL, None, usize::MAX).await, all);
    let some = TimeRange::new(Timestamp(all[1].0.first + 50), Timestamp(all[4].0.first));
    assert_eq!(chunks(&machine, some, None, usize::MAX).await, all[1..4]);
    for (i, (key, _)) in all.iter().enumerate() {
        let page = chunks(&machine, TimeRange::ALL, Some(*key), all[0].1.bytes.len() * 5 / 2).await;
        assert_eq!(page, all[i + 1..all.len().min(i + 3)], "after {i}");
    }
    // What sealing needs of the day, and what it puts there instead.
    within(machine.store.commit(Arc::new(Batch { blocks: block::cut(&[SERIES], &[20_000 * DAY + 9], &[1.0]), ..Batch::default() })))
        .await
        .unwrap();
    let (version, loaded) = within(machine.store.load(SERIES.shard(), NO_BUDGET)).await.unwrap().unwrap();
    assert_eq!(loaded.chunks.into_iter().collect::<Vec<_>>(), all[..5]);
    let longer = chunk_at(SERIES, all[1].0.first, 200);
    let change = Replacement {
        old_chunks: vec![all[0].0, all[1].0, all[2].0],
        new_chunks: vec![longer.clone(), chunk_at(SERIES, all[0].0.first + 1, 9)],
        ..Replacement::default()
    };
    assert!(matches!(replace(&machine, SERIES.shard(), version.0, change).await, Ok(Replaced::Done { .. })));
    let expected = [&[chunk_at(SERIES, all[0].0.first + 1, 9), longer][..], &all[3..]].concat();
    assert_eq!(chunks(&machine, TimeRange::ALL, None, usize::MAX).await, expected);
    assert_eq!(number(&machine, "SELECT count(*) FROM days"), 4, "parts are used again");
}

#[tokio::test]
async fn times_at_both_ends_are_kept() {
    let machine = Machine::new(crate::Config::default());
    let all: Vec<_> = [i64::MIN, -1, 0, i64::MAX - 9].map(|first| chunk_at(SERIES, first, 1)).into();
    put(&machine, 0, all.clone()).await;
    assert_eq!(chunks(&machine, TimeRange::ALL, None, usize::MAX).await, all);
    assert_eq!(chunks(&machine, TimeRange::new(Timestamp(i64::MIN), Timestamp(0)), None, usize::MAX).await, all[..2]);
}

#[tokio::test]
async fn only_days_that_exist_are_walked() {
    let machine = Machine::new(crate::Config::default());
    put(&machine, 0, [7i64, 11_000, 24_000].map(|day| chunk_at(SERIES, day * DAY + HOUR, 3)).into()).await;
    let snapshot = begin(&machine.store, LONG).await;
    let found = within(snapshot.ask(|view| history::days(view.conn, TimeRange::ALL))).await.unwrap();
    assert_eq!(found.iter().map(|s| (s.day, s.from, s.to)).collect::<Vec<_>>(), [7, 11_000, 24_000].map(|day| (day, 0, DAY)));
    let range = TimeRange::new(Timestamp(11_000 * DAY + 5), Timestamp(24_000 * DAY));
    let found = within(snapshot.ask(move |view| history::days(view.conn, range))).await.unwrap();
    assert_eq!(found.iter().map(|s| (s.day, s.from, s.to)).collect::<Vec<_>>(), [(11_000, 5, DAY)]);
}

#[tokio::test]
async fn a_walk_finds_what_is_wanted_and_nothing_else() {
    let machine = Machine::new(crate::Config::default());
    let conn = rusqlite::Connection::open(machine.file("store.db")).unwrap();
    let present: Vec<i64> = (0..4_000).filter(|i| i * i % 7 < 3 && !(1_000..2_000).contains(i)).collect();
    for id in &present {
        conn.execute("INSERT INTO rollups VALUES (?1, x'00')", [id]).unwrap();
    }
    let wanted = |step: i64, len: i64| (0..4_200 / step).map(|i| (i * step, i * step + len - 1)).collect::<Vec<_>>();
    let snapshot = begin(&machine.store, LONG).await;
    for wanted in [wanted(1, 1), wanted(2, 1), wanted(10, 3), wanted(500, 1), wanted(700, 90), vec![(1_200, 1_300)], vec![]] {
        let expected: Vec<i64> = present.iter().copied().filter(|id| wanted.iter().any(|w| w.0 <= *id && *id <= w.1)).collect();
        let found = snapshot.ask(move |view: &View<'_>| {
            let mut found = Vec::new();
            let all = history::walk(view, history::ROLLUPS_BETWEEN, &wanted, |row| {
                found.push(row.get(0)?);
                Ok(true)
            })?;
            Ok((all, found))
        });
        assert_eq!(within(found).await.unwrap(), (true, expected));
    }
}

#[tokio::test]
async fn a_seal_writes_neighbouring_rows() {
    const OF_SHARD: u32 = 100;
    let machine = Machine::new(crate::Config::default());
    let chunks = |shard: u8, day: i64, readings| {
        let of = move |i: u32| chunk_at(SeriesId(i * u32::from(SHARDS) + u32::from(shard)), day * DAY + i64::from(i) * HOUR / 10, readings);
        (0..OF_SHARD).map(of).collect::<Vec<_>>()
    };
    for (version, day) in [(0, 20_000), (1, 20_001)] {
        for shard in 0..SHARDS {
            put(&machine, version, chunks(shard, day, 40)).await;
        }
    }
    let bytes: usize = chunks(9, 20_000, 60).iter().map(|(_, chunk)| chunk.bytes.len()).sum();
    let written = || fs::metadata(machine.file("store.db-wal")).unwrap().len();
    let before = written();
    let (old, new) = (chunks(9, 20_000, 40), chunks(9, 20_000, 60));
    let change = Replacement { old_chunks: old.iter().map(|(key, _)| *key).collect(), new_chunks: new, ..Replacement::default() };
    assert!(matches!(replace(&machine, Shard(9), 2, change).await, Ok(Replaced::Done { .. })));
    let pages = (written() - before) / sqlite::PAGE_BYTES;
    assert!(pages > 0 && pages <= bytes as u64 / sqlite::PAGE_BYTES * 3 / 2 + 8, "{pages} pages for {bytes} bytes");
    // A day goes by one range of ids.
    let day = |slot: u16| (keys::chunk_ids(slot, SeriesId(0)).0, keys::chunk_ids(slot, SeriesId(u32::MAX)).1);
    let (least, greatest) = day(0);
    let of_day = format!("SELECT count(*) FROM chunks WHERE id BETWEEN {least} AND {greatest}");
    assert_eq!(number(&machine, &of_day), i64::from(OF_SHARD) * i64::from(SHARDS));
}

#[tokio::test]
async fn what_was_taken_is_not_there_before_it_is_swept_nor_after() {
    const BLOCKS: u64 = 12;
    let mut machine = Machine::new(crate::Config::default());
    for n in 0..BLOCKS {
        within(machine.store.commit(batch(n, 10))).await.unwrap();
    }
    let rows = |machine: &Machine| number(machine, "SELECT count(*) FROM open_blocks");
    merge(&machine, Shard(3), 5).await;
    assert_eq!(rows(&machine), BLOCKS as i64, "the merged one is in the place of the last, the others are still to be swept");
    for reopened in [false, true] {
        if reopened {
            machine.reopen();
        }
        let open: Vec<_> = blocks(&machine, Shard(3)).await.iter().map(|(batch, block)| (batch.0, block.len())).collect();
        assert_eq!(open, [&[(5, 50)][..], &(6..=BLOCKS).map(|batch| (batch, 10)).collect::<Vec<_>>()].concat());
        assert_eq!(within(machine.store.open_readings()).await.unwrap(), BLOCKS * 10);
        let backlog = Backlog { shard: Shard(3), readings: 120, unmerged: 7, widest: 1, oldest: Timestamp(0) };
        assert_eq!(within(machine.store.backlog()).await.unwrap(), [backlog]);
        let totals = within(within(machine.store.snapshot(LONG)).await.unwrap().totals()).await.unwrap();
        assert_eq!((totals.received, totals.unsealed), (120, 120));
    }
    // One that is not the oldest goes at once.
    let middle = Replacement { sealed_blocks: vec![BatchId(8)], ..Replacement::default() };
    assert_eq!(replace(&machine, Shard(3), 1, middle.clone()).await.unwrap(), Replaced::Done { open_readings: 110 });
    assert_eq!(rows(&machine), BLOCKS as i64 - 1);
    let twice = Replacement { sealed_blocks: vec![BatchId(6), BatchId(6)], ..Replacement::default() };
    for lost in [middle, twice] {
        assert_eq!(replace(&machine, Shard(3), 2, lost).await.unwrap(), Replaced::Lost);
    }
    assert_eq!(within(machine.store.open_readings()).await.unwrap(), 110, "what is lost changes nothing");
    let conn = rusqlite::Connection::open(machine.file("store.db")).unwrap();
    conn.execute_batch(super::super::replace::SWEEP_BLOCKS).unwrap();
    assert_eq!((rows(&machine), blocks(&machine, Shard(3)).await.len()), (7, 7), "what is swept was not there");
}

#[tokio::test]
async fn many_that_were_taken_are_swept() {
    let machine = Machine::new(crate::Config::default());
    for n in 0..4 {
        within(machine.store.commit(batch(n, 150_000))).await.unwrap();
    }
    let rows = || number(&machine, "SELECT count(*) FROM open_blocks");
    seal_shard(&machine, Shard(3)).await;
    assert_eq!(rows(), 4);
    for n in 4..7 {
        within(machine.store.commit(batch(n, 150_000))).await.unwrap();
    }
    seal_shard(&machine, Shard(3)).await;
    assert_eq!(rows(), 0, "a million readings were taken");
}

#[tokio::test]
async fn what_a_process_leaves_that_was_killed_after_a_replacement_is_all_of_it() {
    let machine = Machine::new(crate::Config::default());
    for n in 0..3 {
        within(machine.store.commit(batch(n, 100))).await.unwrap();
    }
    let copy = tempfile::tempdir().unwrap();
    for (sealed, open, stored) in [(false, 300, 0), (true, 0, 300)] {
        if sealed {
            seal_shard(&machine, Shard(3)).await;
        }
        for file in ["store.db", "store.db-wal"] {
            fs::copy(machine.file(file), copy.path().join(file)).unwrap();
        }
        let conn = sqlite::open(&copy.path().join("store.db"), sqlite::Use::Write).unwrap();
        let get = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(get(super::super::ingestion::OPEN_READINGS), open);
        assert_eq!(get("SELECT sum(stored) FROM shards"), stored);
        assert_eq!(get("SELECT coalesce(sum(readings), 0) FROM chunks"), stored);
        drop(conn);
        fs::remove_file(copy.path().join("store.db")).unwrap();
    }
}

#[tokio::test]
async fn a_replacement_that_does_not_fit_what_is_stored_changes_nothing() {
    let machine = Machine::new(crate::Config::default());
    let known = chunk_at(SERIES, 20_000 * DAY, 10);
    put(&machine, 0, vec![known.clone()]).await;
    let again = Replacement { new_chunks: vec![chunk_at(SERIES, known.0.first, 20)], ..Replacement::default() };
    let refused = replace(&machine, SERIES.shard(), 1, again).await.unwrap_err().to_string();
    assert!(refused.contains("the chunk of series 3 from 2024-10-04T00:00:00Z is there already"), "{refused}");
    // No number is left for another day.
    let conn = rusqlite::Connection::open(machine.file("store.db")).unwrap();
    conn.execute_batch("INSERT INTO days VALUES (30000, 0, 65535)").unwrap();
    let rollups = vec![(RollupKey { series: SERIES, level: Level::Day, start: 25_000 * DAY }, Summary::new())];
    let more = Replacement { old_chunks: vec![known.0], rollups, ..Replacement::default() };
    assert!(matches!(replace(&machine, SERIES.shard(), 1, more.clone()).await, Err(StoreError::Corrupt(_))));
    assert_eq!(chunks(&machine, TimeRange::ALL, None, usize::MAX).await, [known]);
    conn.execute_batch("DELETE FROM days WHERE day = 30000").unwrap();
    assert!(matches!(replace(&machine, SERIES.shard(), 1, more).await, Ok(Replaced::Done { .. })));
}

#[tokio::test]
async fn a_damaged_rollup_is_named() {
    let machine = Machine::new(crate::Config::default());
    within(machine.store.commit(batch(0, 100))).await.unwrap();
    seal_shard(&machine, Shard(3)).await;
    within(machine.store.commit(batch(1, 100))).await.unwrap();
    let conn = rusqlite::Connection::open(machine.file("store.db")).unwrap();
    assert_eq!(conn.execute("UPDATE rollups SET bytes = x'00'", []).unwrap(), 2);
    let mut snapshot = within(machine.store.snapshot(LONG)).await.unwrap();
    let asked = within(snapshot.rollups(Shard(3), Level::Day, &[SERIES], TimeRange::ALL)).await.map(drop);
    let loaded = within(machine.store.load(Shard(3), NO_BUDGET)).await.map(drop);
    for refused in [asked, loaded] {
        let refused = refused.unwrap_err();
        assert!(matches!(&refused, StoreError::Corrupt(words) if words.contains("series 3 from 1970-01-01T00:00:00Z")), "{refused}");
    }
}

#[tokio::test]
async fn a_store_from_before_sealing_keeps_what_it_has() {
    let mut machine = Machine::new(crate::Config::default());
    machine.store.close();
    for file in ["store.db", "store.db-wal", "store.db-shm"] {
        fs::remove_file(machine.file(file)).ok();
    }
    let mut conn = sqlite::open(&machine.file("store.db"), sqlite::Use::Write).unwrap();
    migrations::run(&mut conn, "store.db", &migrations::STORE[..1], Timestamp(0)).unwrap();
    let committed = batch(0, 100);
    let block = &committed.blocks[0];
    conn.execute(
        "INSERT INTO open_blocks (id, batch, shard, readings, series, min_time, max_time, bytes) VALUES (67, 1, 3, 100, 1, 0, 99, ?1)",
        [block.encode()],
    )
    .unwrap();
    conn.execute_batch(
        "UPDATE state SET next_batch = 2, next_series = 4, letters = 1, letter_bytes = 2;
         INSERT INTO positions VALUES ('log', 0, 100, 1, 100, 0);
         INSERT INTO dead_letters VALUES (1, 0, x'00000000000000000000000000000007', 7, 'malformed', 'it is no object', NULL, 'json', 1, 1, 1, 2,
             'log', 0, 7);
         INSERT INTO dead_letter_parts VALUES (1, 0, 0, x'0707');",
    )
    .unwrap();
    drop(conn);
    machine.reopen();
    let backlog = Backlog { shard: Shard(3), readings: 100, unmerged: 1, widest: 1, oldest: Timestamp(0) };
    assert_eq!(within(machine.store.backlog()).await.unwrap(), [backlog], "it is due");
    assert_eq!(blocks(&machine, Shard(3)).await, [(BatchId(1), block.clone())]);
    commit_letters(&machine.store, vec![DeadLetter { origin: None, ..letter(8, 2) }]).await;
    let mut snapshot = within(machine.store.snapshot(LONG)).await.unwrap();
    for expected in [letter(7, 2), DeadLetter { origin: None, ..letter(8, 2) }] {
        let history = History::new(expected.received_at);
        let kept = within(snapshot.dead_letter(expected.id)).await.unwrap();
        assert_eq!(kept, Some(KeptLetter { letter: expected, history }), "open, and seen once");
    }
    seal_shard(&machine, Shard(3)).await;
    let totals = within(within(machine.store.snapshot(LONG)).await.unwrap().totals()).await.unwrap();
    assert_eq!((totals.received, totals.stored, totals.unsealed, totals.dead_letters, totals.dead_letters_open), (100, 100, 0, 2, 2));
}

#[tokio::test]
async fn a_load_past_its_deadline_says_so() {
    let machine = Machine::new(crate::Config::default());
    let snapshot = begin(&machine.store, std::time::Duration::from_millis(30)).await;
    let endless = |view: &View<'_>| -> Result<(), Fault<StoreError>> {
        loop {
            history::walk(view, history::ROLLUPS_BETWEEN, &[(0, 1)], |_| Ok(true))?;
        }
    };
    assert!(matches!(within(snapshot.ask(endless)).await, Err(StoreError::Deadline)));
}
