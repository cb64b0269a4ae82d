//! Rows as the words of the core.
//!
//! Owns: the mapping of columns that are no arrays, and how texts from outside are kept. Does not know: statements.
//! Invariant: what does not fit is `Corrupt` and names the row.

use super::uint;
use crate::error::{Done, corrupt};
use headwater_core::dead_letter::{Attempt, DeadLetter, History, KeptLetter, LetterState, Origin, Reason, RetryOutcome};
use headwater_core::log::{LogId, Position};
use headwater_core::seal::{Level, RollupKey};
use headwater_core::series::{Series, SeriesId, SeriesKey, Shard};
use headwater_core::store::Backlog;
use headwater_core::summary::Summary;
use headwater_core::time::Timestamp;
use std::borrow::Cow;
use tokio_postgres::Row;
use uuid::Uuid;

/// `log, partition, next, crc`
pub(super) fn position(row: &Row) -> Done<Position> {
    let (partition, next, crc): (i64, i64, Option<i64>) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    Ok(Position { log: LogId(row.try_get(0)?), partition: partition as u32, next: uint(next), crc: crc.map(|crc| crc as u32) })
}

/// A series' key from its bytes.
pub(super) fn key(bytes: &[u8], id: i64) -> Done<SeriesKey> {
    let key = std::str::from_utf8(bytes).ok().and_then(|text| SeriesKey::parse(text).ok());
    key.ok_or_else(|| corrupt(format!("series {id} has a key that is none")))
}

pub(super) fn series_id(id: i64) -> Done<SeriesId> {
    u32::try_from(id).map(SeriesId).map_err(|_| corrupt(format!("{id} is no id of a series")))
}

/// `id, key, unit`
pub(super) fn series(row: &Row) -> Done<Series> {
    let (id, bytes, unit): (i64, &[u8], Option<&str>) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok(Series { id: series_id(id)?, key: key(bytes, id)?, unit: unit.map(unescaped) })
}

/// `shard, readings, unmerged, widest, oldest`
pub(super) fn backlog(row: &Row) -> Done<Backlog> {
    let (shard, widest): (i16, i32) = (row.try_get(0)?, row.try_get(3)?);
    Ok(Backlog {
        shard: Shard(shard as u8),
        readings: uint(row.try_get(1)?),
        unmerged: uint(row.try_get(2)?),
        widest: uint(widest.into()),
        oldest: Timestamp(row.try_get(4)?),
    })
}

pub(super) const fn level(level: Level) -> i16 {
    match level {
        Level::Hour => 0,
        Level::Day => 1,
    }
}

/// `series, level, start, summary`
pub(super) fn rollup(row: &Row) -> Done<(RollupKey, Summary)> {
    let (series, level, start): (i64, i16, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let level = if level == 0 { Level::Hour } else { Level::Day };
    let summary = Summary::decode(row.try_get(3)?)
        .map_err(|damaged| corrupt(format!("the rollup of series {series} from {}: {damaged}", Timestamp(start))))?;
    Ok((RollupKey { series: series_id(series)?, level, start }, summary))
}

/// A letter without its bytes, and how many its parts have.
pub(super) struct LetterRow {
    pub(super) bytes: u64,
    pub(super) kept: KeptLetter,
}

/// `id, received_at, reason, detail, device, format, count, parts, bytes, log, partition, position`, then what [`history`] reads
pub(super) fn letter(row: &Row) -> Done<LetterRow> {
    let id: Uuid = row.try_get(0)?;
    let (reason, parts): (&str, i32) = (row.try_get(2)?, row.try_get(7)?);
    let (log, partition, position): (Option<&str>, Option<i64>, Option<i64>) = (row.try_get(9)?, row.try_get(10)?, row.try_get(11)?);
    let origin = log.map(|log| Origin {
        log: LogId(log.to_owned()),
        partition: partition.unwrap_or_default() as u32,
        position: uint(position.unwrap_or_default()),
    });
    let letter = DeadLetter {
        id,
        received_at: Timestamp(row.try_get(1)?),
        reason: Reason::parse(reason).ok_or_else(|| corrupt(format!("dead letter {id} has the unknown reason {reason:?}")))?,
        detail: unescaped(row.try_get(3)?),
        device: row.try_get::<_, Option<&str>>(4)?.map(unescaped),
        format: unescaped(row.try_get(5)?),
        count: uint(row.try_get(6)?),
        bytes: Vec::new(),
        part: 0,
        parts: parts as u32,
        origin,
    };
    Ok(LetterRow { bytes: uint(row.try_get(8)?), kept: KeptLetter { history: history(row, 12, id, letter.received_at)?, letter } })
}

/// `last_seen, seen, state, attempts, attempted_at, outcome, attempt_detail` from `column` on
pub(super) fn history(row: &Row, column: usize, id: Uuid, received_at: Timestamp) -> Done<History> {
    let unknown = |what: &str, word: &str| corrupt(format!("dead letter {id} has the unknown {what} {word:?}"));
    let state: &str = row.try_get(column + 2)?;
    let last_attempt = match (row.try_get::<_, Option<i64>>(column + 4)?, row.try_get::<_, Option<&str>>(column + 5)?) {
        (Some(at), Some(outcome)) => Some(Attempt {
            at: Timestamp(at),
            outcome: RetryOutcome::parse(outcome).ok_or_else(|| unknown("outcome", outcome))?,
            detail: row.try_get::<_, Option<&str>>(column + 6)?.map(unescaped).unwrap_or_default(),
        }),
        _ => None,
    };
    Ok(History {
        last_seen: row.try_get::<_, Option<i64>>(column)?.map_or(received_at, Timestamp),
        seen: uint(row.try_get(column + 1)?),
        state: LetterState::parse(state).ok_or_else(|| unknown("state", state))?,
        attempts: uint(row.try_get(column + 3)?),
        last_attempt,
    })
}

/// A text that may hold NUL, as one that PostgreSQL can keep: a backslash stands as two, NUL as backslash and 0.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if text.contains(['\\', '\0']) { Cow::Owned(text.replace('\\', "\\\\").replace('\0', "\\0")) } else { Cow::Borrowed(text) }
}

/// The text again.
pub(super) fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' if chars.next() == Some('0') => '\0',
            c => c,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn texts_come_back_and_hold_no_nul(text in "[\\\\0\0a\\PC]{0,12}") {
            let kept = escaped(&text);
            prop_assert!(!kept.contains('\0'));
            prop_assert_eq!(unescaped(&kept), text);
        }
    }
}
