//! What the log deletes, and when: applied rows that nobody needs to read again, in small steps.
//!
//! Owns: the rules of keeping, giving room back to the file system. Does not know: transactions (it runs inside one).
//! Invariants: never beyond what is applied, nor beyond what was said to be since the log was opened; whole rows only, the oldest first; a step is bounded in rows and bytes, so that
//! appends do not wait long.

use super::append::State;
use crate::Config;
use crate::sqlite::{PAGE_BYTES, int, uint};
use headwater_core::time::Timestamp;
use rusqlite::Connection;

pub(super) const OLDEST_ROWS: &str = include_str!("../sql/log/oldest_rows.sql");
pub(super) const TRIM: &str = include_str!("../sql/log/trim.sql");

/// A step deletes at most so many rows and ends with the one that reaches so many bytes.
const STEP_ROWS: u64 = 1024;
const STEP_BYTES: u64 = 32 << 20;
const SLACK_BYTES: u64 = if cfg!(test) { 2 << 20 } else { 64 << 20 };
/// How much the file shrinks in a step.
const SHRINK: &str = "PRAGMA incremental_vacuum(1024)";

/// How long applied rows are kept, so that a restored store can catch up.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    keep_micros: i64,
    keep_bytes: u64,
    /// Bytes of free pages that stay in the file for the next appends; beyond it the file shrinks.
    slack_bytes: u64,
}

impl Rules {
    /// For a disk that is short of room.
    pub(super) const KEEP_NOTHING: Self = Self { keep_micros: 0, keep_bytes: 0, slack_bytes: 0 };

    pub(super) fn new(config: &Config) -> Self {
        let keep_micros = i64::try_from(config.keep_age.as_micros()).unwrap_or(i64::MAX);
        Self { keep_micros, keep_bytes: config.keep_bytes, slack_bytes: SLACK_BYTES }
    }
}

/// One step, in the transaction at hand; says whether there may be more to do.
pub(super) fn step(conn: &Connection, state: &mut State, told: u64, rules: &Rules, now: Timestamp) -> rusqlite::Result<bool> {
    let applied = state.applied.min(told);
    if state.start >= applied {
        return shrink(conn, rules);
    }
    let old = now.plus(rules.keep_micros.saturating_neg()).0;
    let (mut rows_done, mut freed, mut start) = (0, 0, state.start);
    {
        let mut statement = conn.prepare_cached(OLDEST_ROWS)?;
        let mut rows = statement.query([])?;
        while rows_done < STEP_ROWS
            && freed < STEP_BYTES
            && let Some(row) = rows.next()?
        {
            let end = uint(row.get(0)?) + uint(row.get(1)?);
            let expired = row.get::<_, i64>(2)? <= old || state.kept_bytes().saturating_sub(freed) > rules.keep_bytes;
            if end > applied || !expired {
                break;
            }
            start = end;
            freed += uint(row.get(3)?);
            rows_done += 1;
        }
    }
    if rows_done > 0 {
        conn.prepare_cached(TRIM)?.execute([int(start)])?;
        state.start = start;
        state.bytes_before_start += freed;
    }
    let full_step = rows_done == STEP_ROWS || freed >= STEP_BYTES;
    Ok(shrink(conn, rules)? || full_step)
}

/// Gives a few free pages at the end of the file back, where there are many; says whether there still are.
fn shrink(conn: &Connection, rules: &Rules) -> rusqlite::Result<bool> {
    let too_many = || -> rusqlite::Result<bool> {
        let free: i64 = conn.prepare_cached("PRAGMA freelist_count")?.query_row([], |row| row.get(0))?;
        Ok(uint(free) * PAGE_BYTES > rules.slack_bytes)
    };
    if !too_many()? {
        return Ok(false);
    }
    {
        // It answers with a row for each page, and stops when nobody asks for the next one.
        let mut statement = conn.prepare_cached(SHRINK)?;
        let mut pages = statement.query([])?;
        while pages.next()?.is_some() {}
    }
    too_many()
}
