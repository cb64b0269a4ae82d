//! What becomes of dead letters by people's hands: retries are recorded, letters are discarded.
//!
//! Owns: both changes of a row. Does not know: transactions' ends (the writer runs this inside one), how a letter is retried.
//! Invariants: what a retry does to a letter's state is [`History::attempted`]; the counts of the state are those of the rows.

use super::ingestion::State;
use super::letters::DROP_PARTS_OF_ONE;
use super::queries::DEAD_LETTER;
use super::rows;
use crate::error::Fault;
use crate::sqlite::int;
use headwater_core::dead_letter::{Attempt, History, LetterState};
use headwater_core::store::StoreError;
use rusqlite::Connection;
use uuid::Uuid;

pub(super) const SAVE: &str = include_str!("../sql/store/save_attempt.sql");
pub(super) const DISCARD: &str = include_str!("../sql/store/discard_letter.sql");

type Result<T> = std::result::Result<T, Fault<StoreError>>;

fn find(conn: &Connection, id: Uuid) -> Result<Option<rows::LetterRow>> {
    let mut statement = conn.prepare_cached(DEAD_LETTER)?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(rows::letter).transpose()
}

/// Records a retry; what the letter's history is then.
pub(super) fn record(conn: &Connection, id: Uuid, attempt: Attempt, state: &mut State) -> Result<Option<History>> {
    let Some(found) = find(conn, id)? else { return Ok(None) };
    let mut history = found.kept.history;
    let was_open = history.state == LetterState::Open;
    let (at, outcome, detail) = (attempt.at.0, attempt.outcome.as_str(), attempt.detail.clone());
    history.attempted(attempt);
    conn.prepare_cached(SAVE)?.execute((found.batch, found.number, history.state.as_str(), int(history.attempts), at, outcome, detail))?;
    state.letters_settled += u64::from(was_open && history.state != LetterState::Open);
    Ok(Some(history))
}

/// Takes a letter's bytes away and keeps its account; `false` where there is none.
pub(super) fn discard(conn: &Connection, id: Uuid, state: &mut State) -> Result<bool> {
    let Some(found) = find(conn, id)? else { return Ok(false) };
    let before = found.kept.history.state;
    if before == LetterState::Discarded {
        return Ok(true);
    }
    let key = (found.batch, found.number);
    conn.prepare_cached(DISCARD)?.execute(key)?;
    conn.prepare_cached(DROP_PARTS_OF_ONE)?.execute(key)?;
    state.letter_bytes = state.letter_bytes.saturating_sub(found.bytes);
    state.letters_settled += u64::from(before == LetterState::Open);
    state.letters_discarded += 1;
    Ok(true)
}
