//! Dead letters: putting them away part by part, and letting the oldest go when there are too many, or they are too old.
//!
//! Owns: the quota, and what coming again means to a row. Does not know: transactions' ends (the writer runs this inside one), retries.
//! Invariants: an id is kept once, however often it comes; a letter counts when it has all its parts; what goes is counted.

use super::ingestion::State;
use crate::error::Fault;
use crate::sqlite::{int, uint};
use headwater_core::dead_letter::{DeadLetter, LetterState};
use headwater_core::store::StoreError;
use headwater_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension};

pub(super) const FIND: &str = include_str!("../sql/store/find_letter.sql");
pub(super) const INSERT: &str = include_str!("../sql/store/insert_letter.sql");
pub(super) const INSERT_PART: &str = include_str!("../sql/store/insert_letter_part.sql");
pub(super) const EXTEND: &str = include_str!("../sql/store/extend_letter.sql");
pub(super) const OLDEST: &str = include_str!("../sql/store/oldest_letters.sql");
pub(super) const DROP: &str = include_str!("../sql/store/drop_letters.sql");
pub(super) const DROP_PARTS: &str = include_str!("../sql/store/drop_letter_parts.sql");
pub(super) const FIND_PART: &str = include_str!("../sql/store/find_letter_part.sql");
pub(super) const SEE_AGAIN: &str = include_str!("../sql/store/see_letter_again.sql");
pub(super) const OLD: &str = include_str!("../sql/store/old_letters.sql");
pub(super) const DROP_ONE: &str = include_str!("../sql/store/drop_letter.sql");
pub(super) const DROP_PARTS_OF_ONE: &str = include_str!("../sql/store/drop_parts_of_letter.sql");

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

/// What is there of a letter.
struct Found {
    key: (i64, i64),
    parts: u32,
    have: u32,
    state: String,
}

fn keep_one(conn: &Connection, key: (i64, i64), letter: &DeadLetter, state: &mut State) -> Result<()> {
    let found =
        |row: &rusqlite::Row<'_>| Ok(Found { key: (row.get(0)?, row.get(1)?), parts: row.get(2)?, have: row.get(3)?, state: row.get(4)? });
    let found = conn.prepare_cached(FIND)?.query_row([letter.id.as_bytes()], found).optional()?;
    let bytes = letter.bytes.len() as u64;
    let Some(found) = found else {
        insert(conn, key, letter)?;
        conn.prepare_cached(INSERT_PART)?.execute((key.0, key.1, letter.part, &letter.bytes))?;
        state.letters += u64::from(letter.parts <= 1);
        state.letter_bytes += bytes;
        return Ok(());
    };
    let key = found.key;
    if found.have >= found.parts || conn.prepare_cached(FIND_PART)?.exists((key.0, key.1, letter.part))? {
        return if letter.part == 0 { see_again(conn, &found, letter, state) } else { Ok(()) };
    }
    conn.prepare_cached(INSERT_PART)?.execute((key.0, key.1, letter.part, &letter.bytes))?;
    conn.prepare_cached(EXTEND)?.execute((key.0, key.1, int(bytes), int(letter.count)))?;
    state.letters += u64::from(found.have + 1 == found.parts);
    state.letter_bytes += bytes;
    Ok(())
}

/// It was sent again: it counts once more, and what was retried is open again.
fn see_again(conn: &Connection, found: &Found, letter: &DeadLetter, state: &mut State) -> Result<()> {
    let was_retried = found.state == LetterState::Retried.as_str();
    let now = if was_retried { LetterState::Open.as_str() } else { &found.state };
    conn.prepare_cached(SEE_AGAIN)?.execute((found.key.0, found.key.1, letter.received_at.0, int(letter.count), now))?;
    state.letters_settled = state.letters_settled.saturating_sub(u64::from(was_retried));
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

/// A row that goes.
struct Going {
    key: (i64, i64),
    bytes: u64,
    is_whole: bool,
    state: String,
}

impl Going {
    /// `batch, number, bytes, have = parts, state`
    fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { key: (row.get(0)?, row.get(1)?), bytes: uint(row.get(2)?), is_whole: row.get(3)?, state: row.get(4)? })
    }

    fn count(&self, state: &mut State) {
        let is_open = self.state == LetterState::Open.as_str();
        state.letter_bytes = state.letter_bytes.saturating_sub(self.bytes);
        state.letters = state.letters.saturating_sub(u64::from(self.is_whole));
        state.letters_settled = state.letters_settled.saturating_sub(u64::from(!is_open));
        state.letters_dropped += u64::from(self.state != LetterState::Discarded.as_str());
    }
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
            let going = Going::of(row)?;
            going.count(state);
            last = Some(going.key);
        }
    }
    if let Some(last) = last {
        conn.prepare_cached(DROP)?.execute(last)?;
        conn.prepare_cached(DROP_PARTS)?.execute(last)?;
    }
    Ok(())
}

/// The oldest of those that were received before `before` go, at most `most`.
pub(super) fn expire(conn: &Connection, before: Timestamp, most: u64, state: &mut State) -> Result<u64> {
    let going: Vec<Going> = conn.prepare_cached(OLD)?.query_map((before.0, int(most)), Going::of)?.collect::<rusqlite::Result<_>>()?;
    for one in &going {
        conn.prepare_cached(DROP_ONE)?.execute(one.key)?;
        conn.prepare_cached(DROP_PARTS_OF_ONE)?.execute(one.key)?;
        one.count(state);
    }
    Ok(going.len() as u64)
}
