//! What a snapshot is asked of series, open blocks, counts and dead letters.
//!
//! Owns: the reading statements. Does not know: deadlines; whoever asks bounds the time.
//! Invariants: every list is bounded by its limit; memory is bounded by `max_bytes` and one block or letter.

use super::rows::{self, LetterRow};
use super::{aside, blocks, int, shard_of, uint};
use crate::error::Done;
use crate::pool::{Params, Session};
use headwater_core::block::BlockStats;
use headwater_core::dead_letter::KeptLetter;
use headwater_core::filter::SeriesFilter;
use headwater_core::glob::DevicePatterns;
use headwater_core::log::Position;
use headwater_core::series::{Series, SeriesKey, Shard};
use headwater_core::store::{BatchId, Blocks, DeadLetterQuery, Totals};
use headwater_core::time::TimeRange;
use std::collections::HashMap;
use tokio_postgres::Row;
use uuid::Uuid;

const POSITIONS: &str = include_str!("../sql/store/positions.sql");
const OPEN_READINGS: &str = include_str!("../sql/store/open_readings.sql");
const TOTALS: &str = include_str!("../sql/store/totals.sql");
const SERIES: &str = include_str!("../sql/store/series.sql");
const BLOCK_STATS: &str = include_str!("../sql/store/block_stats.sql");
const BLOCKS: &str = include_str!("../sql/store/blocks.sql");
const DEAD_LETTERS: &str = include_str!("../sql/store/dead_letters.sql");
const DEAD_LETTER: &str = include_str!("../sql/store/dead_letter.sql");
const LETTER_PARTS: &str = include_str!("../sql/store/letter_parts.sql");

/// What a decoded reading takes of memory, as the seam counts it.
const READING_BYTES: u64 = 20;
/// Rows that are asked for at a time where a filter decides afterwards.
const LEAST_ROWS: usize = 64;
const MOST_ROWS: usize = 2_048;

pub(super) async fn positions(session: &Session) -> Done<Vec<Position>> {
    session.query(POSITIONS, &[]).await?.iter().map(rows::position).collect()
}

pub(super) async fn open_readings(session: &Session) -> Done<u64> {
    Ok(uint(session.query_one(OPEN_READINGS, &[]).await?.try_get(0)?))
}

pub(super) async fn totals(session: &Session) -> Done<Totals> {
    let row = session.query_one(TOTALS, &[]).await?;
    let number = |column: usize| row.try_get(column).map(uint);
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
        positions: positions(session).await?,
    })
}

pub(super) async fn series(session: &Session, filter: &SeriesFilter, after: Option<&SeriesKey>, limit: usize) -> Done<Vec<Series>> {
    let mut found = Vec::new();
    // The least text after `after`.
    let after = after.map(|after| format!("{}\0", after.as_str()));
    for (from, to) in filter.key_ranges() {
        let mut from = after.as_ref().filter(|after| **after > from).unwrap_or(&from).clone().into_bytes();
        let mut asked = limit.clamp(LEAST_ROWS, MOST_ROWS);
        while found.len() < limit && to.as_ref().is_none_or(|to| from.as_slice() < to.as_bytes()) {
            let end = to.as_ref().map(String::as_bytes);
            let page = session.query(SERIES, &[&from, &end, &(asked as i64)]).await?;
            for row in &page {
                let series = rows::series(row)?;
                if found.len() < limit && filter.matches(series.key.as_str()) {
                    found.push(series);
                }
            }
            let Some(last) = page.last().filter(|_| page.len() == asked) else { break };
            from = last.try_get::<_, &[u8]>(1)?.to_vec();
            from.push(0);
            asked = MOST_ROWS;
        }
    }
    Ok(found)
}

/// `batch, readings, n_series, first, last`
fn stats(row: &Row) -> Done<(BatchId, BlockStats)> {
    let (readings, series): (i32, i32) = (row.try_get(1)?, row.try_get(2)?);
    let stats =
        BlockStats { readings: uint(readings.into()), series: uint(series.into()), min_time: row.try_get(3)?, max_time: row.try_get(4)? };
    Ok((BatchId(uint(row.try_get(0)?)), stats))
}

pub(super) async fn block_stats(session: &Session, shard: Shard, range: TimeRange) -> Done<Vec<(BatchId, BlockStats)>> {
    session.query(BLOCK_STATS, &[&shard_of(shard), &range.from.0, &range.to.0]).await?.iter().map(stats).collect()
}

pub(super) async fn blocks(session: &Session, shard: Shard, range: TimeRange, after: Option<BatchId>, max_bytes: usize) -> Done<Blocks> {
    let most = int(max_bytes as u64 / READING_BYTES);
    let after = after.map_or(-1, |after| int(after.0));
    let params: Params<'_> = &[&shard_of(shard), &after, &range.from.0, &range.to.0, &most];
    let rows = session.query(BLOCKS, params).await?;
    aside(move || blocks::decode_all(&rows, shard)).await
}

/// A page of letters, and whether there are more.
pub(super) async fn dead_letters(session: &Session, query: &DeadLetterQuery, max_bytes: usize) -> Done<(Vec<KeptLetter>, bool)> {
    let (mut page, mut taken) = (Vec::new(), 0u64);
    let mut before = query.after.map_or((i64::MAX, Uuid::max()), |(time, id)| (time.0, id));
    let (to, from) = (query.to.map_or(i64::MAX, |to| to.0), query.from.map_or(i64::MIN, |from| from.0));
    let (reason, state) = (query.reason.map(|reason| reason.as_str()), query.state.map(|state| state.as_str()));
    let asked = query.limit.saturating_add(1).clamp(LEAST_ROWS, MOST_ROWS);
    loop {
        let rows = session.query(DEAD_LETTERS, &[&before.0, &before.1, &to, &from, &reason, &state, &(asked as i64)]).await?;
        for row in &rows {
            let LetterRow { bytes, kept: letter } = rows::letter(row)?;
            before = (letter.received_at.0, letter.id);
            if !may_see(query, letter.device.as_deref()) {
                continue;
            }
            taken = taken.saturating_add(bytes);
            if page.len() >= query.limit || (!page.is_empty() && taken > max_bytes as u64) {
                return Ok((with_bytes(session, page).await?, true));
            }
            page.push(letter);
        }
        if rows.len() < asked {
            return Ok((with_bytes(session, page).await?, false));
        }
    }
}

fn may_see(query: &DeadLetterQuery, device: Option<&str>) -> bool {
    let allowed = match &query.allowed {
        DevicePatterns::All => true,
        allowed => device.is_some_and(|device| allowed.allow(device)),
    };
    allowed && (query.devices.is_empty() || device.is_some_and(|device| query.devices.iter().any(|glob| glob.matches(device))))
}

pub(super) async fn dead_letter(session: &Session, id: Uuid) -> Done<Option<KeptLetter>> {
    let Some(row) = session.query_opt(DEAD_LETTER, &[&id]).await? else { return Ok(None) };
    let letters = with_bytes(session, vec![rows::letter(&row)?.kept]).await?;
    Ok(letters.into_iter().next())
}

/// Letters put together from their parts.
async fn with_bytes(session: &Session, mut letters: Vec<KeptLetter>) -> Done<Vec<KeptLetter>> {
    let ids: Vec<Uuid> = letters.iter().map(|letter| letter.id).collect();
    let places: HashMap<Uuid, usize> = ids.iter().copied().zip(0..).collect();
    for row in session.query(LETTER_PARTS, &[&ids]).await? {
        if let Some(&place) = places.get(&row.try_get(0)?) {
            letters[place].letter.bytes.extend_from_slice(row.try_get(1)?);
        }
    }
    Ok(letters)
}
