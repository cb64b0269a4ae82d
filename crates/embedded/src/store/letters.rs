//! Dead letters: putting them away part by part, and letting the oldest go when there are too many.
//!
//! Owns: the quota. Does not know: transactions' ends; the writer runs this inside one.
//! Invariants: an id is kept once, however often it comes; a letter counts when it has all its parts; what goes is counted.

use super::ingestion::State;
use crate::error::Fault;
use crate::sqlite::{int, uint};
use headwater_core::dead_letter::DeadLetter;
use headwater_core::store::StoreError;
use rusqlite::{Connection, OptionalExtension};

pub(super) const FIND: &str = include_str!("../sql/store/find_letter.sql");
pub(super) const INSERT: &str = include_str!("../sql/store/insert_letter.sql");
pub(super) const INSERT_PART: &str = include_str!("../sql/store/insert_letter_part.sql");
pub(super) const EXTEND: &str = include_str!("../sql/store/extend_letter.sql");
pub(super) const OLDEST: &str = include_str!("../sql/store/oldest_letters.sql");
pub(super) const DROP: &str = include_str!("../sql/store/drop_letters.sql");
pub(super) const DROP_PARTS: &str = include_str!("../sql/store/drop_letter_parts.sql");

type Result<T> = std::result::Result<T, Fault<StoreError>>;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quota {
    pub(super) letters: u64,
    pub(super) bytes: u64,
}

/// Puts the letters of a batch away, then keeps the quota.
pub(super) fn keep(conn: &Connection, batch: u64, letters: &[DeadLetter], quota: Quota, state: &mut State) -> Result<()> {
    for (number, letter) in letters.iter().enumerate() {
        keep_one(conn, (int(batch), int(number as u64)), letter, state)?;
    }
    if state.letters > quota.letters || state.letter_bytes > quota.bytes {
        drop_oldest(conn, quota, state)?;
    }
    Ok(())
}

fn keep_one(conn: &Connection, key: (i64, i64), letter: &DeadLetter, state: &mut State) -> Result<()> {
    let known =
        |row: &rusqlite::Row<'_>| Ok(((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?), row.get::<_, u32>(2)?, row.get::<_, u32>(3)?));
    let found = conn.prepare_cached(FIND)?.query_row([letter.id.as_bytes()], known).optional()?;
    let bytes = letter.bytes.len() as u64;
    match found {
        None => {
            insert(conn, key, letter)?;
            conn.prepare_cached(INSERT_PART)?.execute((key.0, key.1, letter.part, &letter.bytes))?;
            state.letters += u64::from(letter.parts <= 1);
        }
        Some((key, parts, have)) => {
            if have >= parts || conn.prepare_cached(INSERT_PART)?.execute((key.0, key.1, letter.part, &letter.bytes))? == 0 {
                return Ok(()); // It was sent again.
            }
            conn.prepare_cached(EXTEND)?.execute((key.0, key.1, int(bytes), int(letter.count)))?;
            state.letters += u64::from(have + 1 == parts);
        }
    }
    state.letter_bytes += bytes;
    Ok(())
}

fn insert(conn: &Connection, key: (i64, i64), letter: &DeadLetter) -> Result<()> {
    let parts = letter.parts.max(1);
    let (log, partition, position) = match &letter.origin {
        Some(origin) => (origin.log.0.as_str(), origin.partition, origin.position),
        None => ("", 0, 0),
    };
    conn.prepare_cached(INSERT)?.execute((
        key.0,
        key.1,
        letter.id.as_bytes(),
        letter.received_at.0,
        letter.reason.as_str(),
        &letter.detail,
        &letter.device,
        &letter.format,
        int(letter.count),
        parts,
        int(letter.bytes.len() as u64),
        log,
        partition,
        int(position),
    ))?;
    Ok(())
}

/// The oldest go, in the order in which they came, until the rest fits.
fn drop_oldest(conn: &Connection, quota: Quota, state: &mut State) -> Result<()> {
    let mut last: Option<(i64, i64)> = None;
    {
        let mut statement = conn.prepare_cached(OLDEST)?;
        let mut rows = statement.query([])?;
        while (state.letters > quota.letters || state.letter_bytes > quota.bytes)
            && let Some(row) = rows.next()?
        {
            last = Some((row.get(0)?, row.get(1)?));
            state.letter_bytes = state.letter_bytes.saturating_sub(uint(row.get(2)?));
            state.letters = state.letters.saturating_sub(u64::from(row.get::<_, bool>(3)?));
            state.letters_dropped += 1;
        }
    }
    if let Some(last) = last {
        conn.prepare_cached(DROP)?.execute(last)?;
        conn.prepare_cached(DROP_PARTS)?.execute(last)?;
    }
    Ok(())
}
