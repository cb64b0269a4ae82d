//! Putting what was sealed or merged in the place of what was loaded.
//!
//! Owns: the statements that write chunks, rollups and days. Does not know: transactions' ends; the writer runs this inside one.
//! Invariants: the shard's version moves first, by compare-and-set; every row that goes is one that was loaded, and there; `false`
//! means that another replacement came first and all must be undone. Blocks that are not merged go by the shard's mark `taken`;
//! their rows are swept now and then.

use super::ingestion::{State, block_id, write_block};
use super::keys;
use super::letters::{self, Quota};
use super::prepared::{Change, Replace};
use crate::error::Fault;
use crate::sqlite::{int, uint};
use headwater_core::seal::{ChunkKey, StoredChunk};
use headwater_core::series::Shard;
use headwater_core::store::{BatchId, StoreError, Version};
use headwater_core::time::{DAY, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

pub(super) const MOVE_SHARD: &str = include_str!("../sql/store/move_shard.sql");
pub(super) const BLOCK_AGE: &str = include_str!("../sql/store/block_age.sql");
pub(super) const DELETE_BLOCK: &str = include_str!("../sql/store/delete_block.sql");
pub(super) const COUNT_FRESH: &str = include_str!("../sql/store/count_fresh.sql");
pub(super) const TAKE_BLOCKS: &str = include_str!("../sql/store/take_blocks.sql");
pub(super) const SWEEP_BLOCKS: &str = include_str!("../sql/store/sweep_blocks.sql");
pub(super) const INSERT_DAY: &str = include_str!("../sql/store/insert_day.sql");
pub(super) const FIND_CHUNK: &str = include_str!("../sql/store/find_chunk.sql");
pub(super) const INSERT_CHUNK: &str = include_str!("../sql/store/insert_chunk.sql");
pub(super) const UPDATE_CHUNK: &str = include_str!("../sql/store/update_chunk.sql");
pub(super) const DELETE_CHUNK: &str = include_str!("../sql/store/delete_chunk.sql");
pub(super) const PUT_ROLLUP: &str = include_str!("../sql/store/put_rollup.sql");

/// So many blocks, or readings in them, may be taken and not swept: some 4 MB.
const MOST_TAKEN_BLOCKS: u64 = 4_096;
const MOST_TAKEN_READINGS: u64 = 1_000_000;

type Result<T> = std::result::Result<T, Fault<StoreError>>;

pub(super) fn write(conn: &Connection, shard: Shard, version: Version, replace: &Replace, quota: Quota, state: &mut State) -> Result<bool> {
    let outcomes = replace.replacement.outcomes;
    let counts = [outcomes.stored, outcomes.duplicate, outcomes.conflict].map(int);
    let moved = conn.prepare_cached(MOVE_SHARD)?.execute((shard.0, int(version.0), counts[0], counts[1], counts[2]))?;
    if moved != 1 || !write_blocks(conn, shard, replace, state)? {
        return Ok(false);
    }
    let mut slots = Slots { conn, known: HashMap::new() };
    for change in &replace.changes {
        if !write_chunk(&mut slots, replace, *change)? {
            return Ok(false);
        }
    }
    write_rollups(&mut slots, replace)?;
    if !replace.replacement.dead_letters.is_empty() {
        // Letters are kept by the order in which they came, so they need a number of their own.
        let number = state.next_batch;
        state.next_batch += 1;
        letters::keep(conn, number, &replace.replacement.dead_letters, quota, state)?;
    }
    Ok(true)
}

/// Deletes the blocks, and puts the rest in the place of the last.
fn write_blocks(conn: &Connection, shard: Shard, replace: &Replace, state: &mut State) -> Result<bool> {
    let mut oldest: Option<i64> = None;
    let mut fresh = Vec::new();
    for &BatchId(batch) in &replace.replacement.sealed_blocks {
        let age = |row: &Row<'_>| Ok((uint(row.get(0)?), row.get::<_, i64>(1)?, row.get(2)?));
        let found = conn.prepare_cached(BLOCK_AGE)?.query_row((shard.0, int(batch)), age).optional()?;
        let Some((readings, received_at, merged)) = found else { return Ok(false) };
        if merged {
            conn.prepare_cached(DELETE_BLOCK)?.execute([block_id(batch, shard)])?;
        } else {
            fresh.push((batch, readings));
        }
        state.open_readings = state.open_readings.saturating_sub(readings);
        oldest = Some(oldest.map_or(received_at, |oldest| oldest.min(received_at)));
    }
    if !take_fresh(conn, shard, fresh, state)? {
        return Ok(false);
    }
    if let Some((batch, block)) = &replace.rest {
        write_block(conn, batch.0, block, Timestamp(oldest.unwrap_or(0)), true)?;
        state.open_readings += block.stats.readings;
    }
    if state.taken_blocks >= MOST_TAKEN_BLOCKS || state.taken_readings >= MOST_TAKEN_READINGS {
        conn.prepare_cached(SWEEP_BLOCKS)?.execute([])?;
        (state.taken_blocks, state.taken_readings) = (0, 0);
    }
    Ok(true)
}

/// Takes blocks that are not merged, which are there: as a rule the oldest, so that their rows can be swept later with those of other shards.
fn take_fresh(conn: &Connection, shard: Shard, mut fresh: Vec<(u64, u64)>, state: &mut State) -> Result<bool> {
    fresh.sort_unstable();
    let Some(&(last, _)) = fresh.last() else { return Ok(true) };
    if fresh.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Ok(false); // One block cannot go twice.
    }
    let up_to: i64 = conn.prepare_cached(COUNT_FRESH)?.query_row((shard.0, int(last)), |row| row.get(0))?;
    if uint(up_to) == fresh.len() as u64 {
        conn.prepare_cached(TAKE_BLOCKS)?.execute((shard.0, int(last)))?;
        state.taken_blocks += fresh.len() as u64;
        state.taken_readings += fresh.iter().map(|(_, readings)| readings).sum::<u64>();
        return Ok(true);
    }
    for (batch, _) in fresh {
        conn.prepare_cached(DELETE_BLOCK)?.execute([block_id(batch, shard)])?;
    }
    Ok(true)
}

/// The slots of the days that a replacement touches.
struct Slots<'a> {
    conn: &'a Connection,
    known: HashMap<i64, Vec<u16>>,
}

impl Slots<'_> {
    /// Those that the day has, by part.
    fn of(&mut self, day: i64) -> Result<&mut Vec<u16>> {
        match self.known.entry(day) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => {
                let slots = super::history::slots(self.conn, day)?;
                Ok(new.insert(slots.into_iter().map(|(slot, _)| slot).collect()))
            }
        }
    }

    /// The slot of a part that the day has, or gets now as its next.
    fn part(&mut self, day: i64, part: usize) -> Result<u16> {
        let conn = self.conn;
        let slots = self.of(day)?;
        if let Some(&slot) = slots.get(part) {
            return Ok(slot);
        }
        // The table refuses more slots than ids have room for.
        let slot = conn.prepare_cached(INSERT_DAY)?.query_row((day, int(slots.len() as u64)), |row| row.get(0))?;
        slots.push(slot);
        Ok(slot)
    }
}

fn write_chunk(slots: &mut Slots<'_>, replace: &Replace, change: Change) -> Result<bool> {
    let new = &replace.replacement.new_chunks;
    match change {
        Change::Delete(key) => in_a_part(slots, key, |conn, id, first| Ok(conn.prepare_cached(DELETE_CHUNK)?.execute((id, first))?)),
        Change::Update(i) => {
            let (key, StoredChunk { last, readings, bytes }) = &new[i];
            in_a_part(slots, *key, |conn, id, first| {
                Ok(conn.prepare_cached(UPDATE_CHUNK)?.execute((id, first, last.wrapping_sub(key.first), int(*readings), bytes))?)
            })
        }
        Change::Insert(i) => insert_chunk(slots, new[i].0, &new[i].1).map(|()| true),
    }
}

/// Changes the one chunk that has this key; `false` where there is none.
fn in_a_part(slots: &mut Slots<'_>, key: ChunkKey, change: impl Fn(&Connection, i64, i64) -> Result<usize>) -> Result<bool> {
    let offset = key.first.rem_euclid(DAY);
    let conn = slots.conn;
    for &mut slot in slots.of(key.day())? {
        if change(conn, keys::chunk_id(slot, key.series, offset), keys::into_place(offset))? == 1 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Inserts a chunk into the first part of its day that has no other in its place.
fn insert_chunk(slots: &mut Slots<'_>, key: ChunkKey, chunk: &StoredChunk) -> Result<()> {
    let offset = key.first.rem_euclid(DAY);
    let first = keys::into_place(offset);
    let conn = slots.conn;
    for part in 0.. {
        let id = keys::chunk_id(slots.part(key.day(), part)?, key.series, offset);
        let row = (id, first, chunk.last.wrapping_sub(key.first), int(chunk.readings), &chunk.bytes);
        if conn.prepare_cached(INSERT_CHUNK)?.execute(row)? == 1 {
            return Ok(());
        }
        if conn.prepare_cached(FIND_CHUNK)?.query_row([id], |row| row.get::<_, i64>(0))? == first {
            let words = format!("the chunk of series {} from {} is there already", key.series.0, Timestamp(key.first));
            return Err(StoreError::Corrupt(words).into());
        }
    }
    Ok(())
}

fn write_rollups(slots: &mut Slots<'_>, replace: &Replace) -> Result<()> {
    let mut rows = Vec::with_capacity(replace.rollups.len());
    for (key, bytes) in &replace.rollups {
        let (day, offset) = (key.start.div_euclid(DAY), key.start.rem_euclid(DAY));
        rows.push((keys::rollup_id(key.level, slots.part(day, 0)?, key.series, offset), bytes));
    }
    rows.sort_unstable_by_key(|(id, _)| *id);
    let mut put = slots.conn.prepare_cached(PUT_ROLLUP)?;
    for row in rows {
        put.execute(row)?;
    }
    Ok(())
}
