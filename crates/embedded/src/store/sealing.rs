//! What the sealer reads: each call is one snapshot that ends with it.
//!
//! Owns: the backlog, and which blocks, chunks and rollups are loaded together. Does not know: what becomes of them.
//! Invariants: what is loaded stays within the budget, but for the first block and its first series; chunks of a series are
//! loaded for a whole day or not at all.

use super::history::{self, CHUNKS_BETWEEN, ROLLUPS_BETWEEN};
use super::readers::View;
use super::{keys, rows};
use crate::error::Fault;
use crate::sqlite::{int, uint};
use headwater_core::failpoint;
use headwater_core::seal::{ChunkKey, Level, Loaded, RollupKey, StoredChunk, Touched, touched};
use headwater_core::series::{SeriesId, SeriesKey, Shard};
use headwater_core::store::{Backlog, BatchId, Blocks, LoadBudget, StoreError, Version};
use headwater_core::time::HOUR;
use rusqlite::OptionalExtension;
use std::ops::ControlFlow;

pub(super) const BACKLOG: &str = include_str!("../sql/store/backlog.sql");
pub(super) const VERSION: &str = include_str!("../sql/store/version.sql");
pub(super) const OLDEST: &str = include_str!("../sql/store/oldest_blocks.sql");
pub(super) const UNMERGED: &str = include_str!("../sql/store/unmerged_blocks.sql");
pub(super) const KEY: &str = include_str!("../sql/store/key_of_series.sql");

type Result<T> = std::result::Result<T, Fault<StoreError>>;

pub(super) fn backlog(view: &View<'_>) -> Result<Vec<Backlog>> {
    Ok(view.conn.prepare_cached(BACKLOG)?.query_map([], rows::backlog)?.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn keys(view: &View<'_>, ids: &[SeriesId]) -> Result<Vec<SeriesKey>> {
    let mut statement = view.conn.prepare_cached(KEY)?;
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        let bytes: Option<Vec<u8>> = statement.query_row([id.0], |row| row.get(0)).optional()?;
        let key = bytes.as_deref().and_then(|bytes| SeriesKey::parse(std::str::from_utf8(bytes).ok()?).ok());
        found.push(key.ok_or_else(|| StoreError::Corrupt(format!("there is no series {}, or its key is none", id.0)))?);
    }
    Ok(found)
}

pub(super) fn unmerged(view: &View<'_>, shard: Shard, most: usize, readings: u64) -> Result<(Version, Blocks)> {
    let blocks = blocks(view, UNMERGED, &[i64::from(shard.0), int(most.max(1) as u64)], shard, readings)?;
    Ok((version(view, shard)?, blocks))
}

fn version(view: &View<'_>, shard: Shard) -> Result<Version> {
    Ok(Version(uint(view.conn.prepare_cached(VERSION)?.query_row([shard.0], |row| row.get(0))?)))
}

/// As many blocks as do not go beyond `most` readings together, at least one.
fn blocks(view: &View<'_>, sql: &str, parameters: &[i64], shard: Shard, most: u64) -> Result<Blocks> {
    let mut statement = view.conn.prepare_cached(sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(parameters))?;
    let (mut found, mut taken) = (Vec::new(), 0u64);
    while let Some(row) = rows.next()? {
        view.check_deadline()?;
        let (batch, readings) = (BatchId(uint(row.get(0)?)), uint(row.get(1)?));
        taken = taken.saturating_add(readings);
        if !found.is_empty() && taken > most {
            break;
        }
        found.push((batch, rows::block(rows::bytes(row, 2)?, batch, shard, readings)?));
    }
    Ok(found)
}

pub(super) fn load(view: &View<'_>, shard: Shard, budget: LoadBudget) -> Result<Option<(Version, Loaded)>> {
    failpoint::reach("store.load");
    let version = version(view, shard)?;
    let mut blocks = blocks(view, OLDEST, &[i64::from(shard.0)], shard, budget.readings)?;
    if blocks.is_empty() {
        return Ok(None);
    }
    loop {
        let touched = touched(&blocks);
        let mut history = History { budget: budget.bytes, taken: 0, loaded: Loaded::default() };
        let is_all = history.by_day(view, &touched)?;
        if !is_all && blocks.len() > 1 {
            blocks.truncate(blocks.len() / 2);
            continue;
        }
        if !is_all {
            history = History { budget: budget.bytes, taken: 0, loaded: Loaded::default() };
            history.by_series(view, touched)?;
        }
        return Ok(Some((version, Loaded { blocks, ..history.loaded })));
    }
}

/// Chunks and rollups, as they are gathered.
struct History {
    budget: u64,
    taken: u64,
    loaded: Loaded,
}

impl History {
    /// Day by day, each in few ways over its rows; `false` where the budget does not suffice.
    fn by_day(&mut self, view: &View<'_>, touched: &[Touched]) -> Result<bool> {
        for day in touched.chunk_by(|a, b| a.day == b.day) {
            if !self.of_day(view, day)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Series by series, as many as the budget suffices for, at least one.
    fn by_series(&mut self, view: &View<'_>, mut touched: Vec<Touched>) -> Result<()> {
        touched.sort_by_key(|touched| (touched.series, touched.day));
        let mut through = None;
        let mut is_all = true;
        for series in touched.chunk_by(|a, b| a.series == b.series) {
            let id = series[0].series;
            if through.is_none() {
                let budget = std::mem::replace(&mut self.budget, u64::MAX);
                self.by_day(view, series)?;
                self.budget = budget;
            } else if !self.by_day(view, series)? {
                // What there is of it already goes again.
                self.loaded.chunks.split_off(&ChunkKey { series: id, first: i64::MIN });
                self.loaded.rollups.split_off(&RollupKey { series: id, level: Level::Hour, start: i64::MIN });
                is_all = false;
                break;
            }
            through = Some(id);
        }
        self.loaded.through = through.filter(|_| !is_all);
        Ok(())
    }

    /// What there is of series of one day, in the order of series.
    fn of_day(&mut self, view: &View<'_>, touched: &[Touched]) -> Result<bool> {
        let Some(day) = touched.first().map(|touched| touched.day) else { return Ok(true) };
        for (slot, part) in history::slots(view.conn, day)? {
            let wanted: Vec<_> = touched.iter().map(|touched| keys::chunk_ids(slot, touched.series)).collect();
            if !self.chunks(view, day, &wanted)? {
                return Ok(false);
            }
            if part > 0 {
                continue;
            }
            let hour = |series, hour| keys::rollup_id(Level::Hour, slot, series, hour * HOUR);
            let hours: Vec<_> = touched.iter().flat_map(|touched| touched.hours().map(|h| hour(touched.series, h))).collect();
            let days: Vec<_> = touched.iter().map(|touched| keys::rollup_id(Level::Day, slot, touched.series, 0)).collect();
            if !self.rollups(view, Level::Hour, day, &hours)? || !self.rollups(view, Level::Day, day, &days)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn chunks(&mut self, view: &View<'_>, day: i64, wanted: &[(i64, i64)]) -> Result<bool> {
        history::walk(view, CHUNKS_BETWEEN, wanted, |row| {
            let (head, bytes) = (rows::chunk_head(row, day)?, rows::bytes(row, 4)?);
            if self.spend(bytes.len()).is_break() {
                return Ok(false);
            }
            let chunk = StoredChunk { last: head.last, readings: head.readings, bytes: bytes.to_vec() };
            self.loaded.chunks.insert(head.key, chunk);
            Ok(true)
        })
    }

    fn rollups(&mut self, view: &View<'_>, level: Level, day: i64, wanted: &[i64]) -> Result<bool> {
        let wanted: Vec<_> = wanted.iter().map(|&id| (id, id)).collect();
        history::walk(view, ROLLUPS_BETWEEN, &wanted, |row| {
            if self.spend(rows::bytes(row, 1)?.len()).is_break() {
                return Ok(false);
            }
            let (key, summary) = rows::rollup(row, level, day)?;
            self.loaded.rollups.insert(key, summary);
            Ok(true)
        })
    }

    fn spend(&mut self, bytes: usize) -> ControlFlow<()> {
        self.taken = self.taken.saturating_add(bytes as u64);
        if self.taken > self.budget { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
