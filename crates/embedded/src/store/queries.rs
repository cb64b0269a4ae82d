//! What a snapshot is asked, as statements on its pinned state.
//!
//! Owns: the reading statements. Does not know: threads, deadlines (a statement past it fails, loops ask the view).
//! Invariants: every list is bounded by its limit; memory is bounded by `max_bytes` and one block or letter.

use super::ingestion::POSITIONS;
use super::readers::View;
use super::rows;
use crate::error::Fault;
use crate::sqlite::{int, uint};
use headwater_core::block::{BlockStats, OpenBlock};
use headwater_core::dead_letter::KeptLetter;
use headwater_core::filter::SeriesFilter;
use headwater_core::glob::DevicePatterns;
use headwater_core::log::Position;
use headwater_core::series::{Series, SeriesKey, Shard};
use headwater_core::store::{BatchId, DeadLetterQuery, StoreError, Totals};
use headwater_core::time::TimeRange;
use uuid::Uuid;

pub(super) const TOTALS: &str = include_str!("../sql/store/totals.sql");
pub(super) const SERIES: &str = include_str!("../sql/store/series.sql");
pub(super) const BLOCK_STATS: &str = include_str!("../sql/store/block_stats.sql");
pub(super) const BLOCKS: &str = include_str!("../sql/store/blocks.sql");
pub(super) const DEAD_LETTERS: &str = include_str!("../sql/store/dead_letters.sql");
pub(super) const DEAD_LETTER: &str = include_str!("../sql/store/dead_letter.sql");
pub(super) const LETTER_PARTS: &str = include_str!("../sql/store/letter_parts.sql");

/// What a decoded reading takes of memory, as the seam counts it.
const READING_BYTES: u64 = 20;

type Result<T> = std::result::Result<T, Fault<StoreError>>;

pub(super) fn totals(view: &View<'_>) -> Result<Totals> {
    let mut totals = view.conn.prepare_cached(TOTALS)?.query_row([], |row| {
        let number = |column: usize| row.get::<_, i64>(column).map(uint);
        Ok(Totals {
            received: number(0)?,
            dead: number(1)?,
            stored: number(2)?,
            duplicate: number(3)?,
            conflict: number(4)?,
            unsealed: number(5)?,
            dead_letters: number(6)?,
            dead_letters_open: number(7)?,
            dead_letters_dropped: number(8)?,
            dead_letters_discarded: number(9)?,
            gaps: number(10)?,
            positions: Vec::new(),
        })
    })?;
    totals.positions = positions(view)?;
    Ok(totals)
}

pub(super) fn positions(view: &View<'_>) -> Result<Vec<Position>> {
    Ok(view.conn.prepare_cached(POSITIONS)?.query_map([], rows::position)?.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn series(view: &View<'_>, filter: &SeriesFilter, after: Option<&SeriesKey>, limit: usize) -> Result<Vec<Series>> {
    let mut found = Vec::new();
    let mut statement = view.conn.prepare_cached(SERIES)?;
    // The least text after `after`.
    let after = after.map(|after| format!("{}\0", after.as_str()));
    for (from, to) in filter.key_ranges() {
        view.check_deadline()?;
        let from = after.as_ref().filter(|after| **after > from).unwrap_or(&from);
        if to.as_ref().is_some_and(|to| to <= from) {
            continue;
        }
        let mut rows = statement.query([from.as_bytes()])?;
        while found.len() < limit
            && let Some(row) = rows.next()?
        {
            let key = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            if to.as_ref().is_some_and(|to| key >= to.as_bytes()) {
                break;
            }
            let key = std::str::from_utf8(key).map_err(|_| StoreError::Corrupt("a series has a key that is not UTF-8".to_owned()))?;
            if filter.matches(key) {
                found.push(rows::series(row, key)?);
            }
        }
        if found.len() >= limit {
            break;
        }
    }
    Ok(found)
}

pub(super) fn block_stats(view: &View<'_>, shard: Shard, range: TimeRange) -> Result<Vec<(BatchId, BlockStats)>> {
    let mut statement = view.conn.prepare_cached(BLOCK_STATS)?;
    let found = statement.query_map((shard.0, range.to.0, range.from.0), rows::block_stats)?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn blocks(
    view: &View<'_>,
    shard: Shard,
    range: TimeRange,
    after: Option<BatchId>,
    max_bytes: usize,
) -> Result<Vec<(BatchId, OpenBlock)>> {
    let mut statement = view.conn.prepare_cached(BLOCKS)?;
    let mut rows = statement.query((shard.0, after.map_or(-1, |after| int(after.0)), range.to.0, range.from.0))?;
    let (mut found, mut taken) = (Vec::new(), 0u64);
    while let Some(row) = rows.next()? {
        let (batch, readings) = (BatchId(uint(row.get(0)?)), uint(row.get(1)?));
        taken = taken.saturating_add(readings.saturating_mul(READING_BYTES));
        if !found.is_empty() && taken > max_bytes as u64 {
            break;
        }
        view.check_deadline()?;
        let bytes = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
        found.push((batch, rows::block(bytes, batch, shard, readings)?));
    }
    Ok(found)
}

pub(super) fn dead_letters(view: &View<'_>, query: &DeadLetterQuery, max_bytes: usize) -> Result<(Vec<KeptLetter>, bool)> {
    let (time, id) = before(query);
    let (reason, state) = (query.reason.map(|reason| reason.as_str()), query.state.map(|state| state.as_str()));
    let from = query.from.map_or(i64::MIN, |from| from.0);
    let mut statement = view.conn.prepare_cached(DEAD_LETTERS)?;
    let mut rows = statement.query((time, id, from, reason, state))?;
    let (mut page, mut taken) = (Vec::new(), 0u64);
    while let Some(row) = rows.next()? {
        let found = rows::letter(row)?;
        if !may_see(query, found.kept.device.as_deref()) {
            continue;
        }
        taken = taken.saturating_add(found.bytes);
        if page.len() >= query.limit || (!page.is_empty() && taken > max_bytes as u64) {
            return Ok((page, true));
        }
        view.check_deadline()?;
        page.push(with_bytes(view, found)?);
    }
    Ok((page, false))
}

/// The place in the order (received_at, id) before which the page lies: the lesser of `to` and `after`.
fn before(query: &DeadLetterQuery) -> (i64, Vec<u8>) {
    // An empty id is less than every id, and one of 17 bytes of 0xff greater.
    let to = query.to.map_or((i64::MAX, vec![0xff; 17]), |to| (to.0, Vec::new()));
    match query.after {
        Some((time, id)) => to.min((time.0, id.as_bytes().to_vec())),
        None => to,
    }
}

fn may_see(query: &DeadLetterQuery, device: Option<&str>) -> bool {
    let allowed = match &query.allowed {
        DevicePatterns::All => true,
        allowed => device.is_some_and(|device| allowed.allow(device)),
    };
    allowed && (query.devices.is_empty() || device.is_some_and(|device| query.devices.iter().any(|glob| glob.matches(device))))
}

pub(super) fn dead_letter(view: &View<'_>, id: Uuid) -> Result<Option<KeptLetter>> {
    let mut statement = view.conn.prepare_cached(DEAD_LETTER)?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(|row| with_bytes(view, rows::letter(row)?)).transpose()
}

fn with_bytes(view: &View<'_>, found: rows::LetterRow) -> Result<KeptLetter> {
    let mut kept = found.kept;
    // Dead letters are bounded by their quota, so the number from the row may be trusted only up to what its parts hold.
    let mut statement = view.conn.prepare_cached(LETTER_PARTS)?;
    let mut parts = statement.query([found.batch, found.number])?;
    while let Some(part) = parts.next()? {
        kept.letter.bytes.extend_from_slice(part.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?);
    }
    Ok(kept)
}
