//! Dead letters: putting them away part by part, and letting the oldest go when there are too many.
//!
//! Owns: the quota. Does not know: transactions' ends; a commit or a replacement runs this inside one.
//! Invariants: an id is kept once, however often it comes (a log that is replayed after a failover brings them again); a letter counts when it has
//! all its parts; what goes is counted; rows are written in the order of ids, so that two writers of the same letters wait for each other and never in a
//! circle.

use super::rows::escaped;
use super::{Store, WAIT, int};
use crate::error::{Done, on_write};
use crate::pool::Session;
use headwater_core::dead_letter::{DeadLetter, KeptLetter};
use headwater_core::store::Result;
use std::borrow::Cow;
use uuid::Uuid;

const INSERT: &str = include_str!("../sql/store/insert_letters.sql");
const SET_HISTORIES: &str = include_str!("../sql/store/moving_letters.sql");
const DROP_OLDEST: &str = include_str!("../sql/store/drop_oldest_letters.sql");

/// The most that one statement is given.
const MOST_LETTERS: usize = 4_096;
const MOST_BYTES: usize = 8 << 20;
/// How often a thousand letters go after one commit.
const MOST_ROUNDS: usize = 16;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quota {
    pub(super) letters: u64,
    pub(super) bytes: u64,
}

/// Puts letters away. Those of one id and part stay in their order.
pub(super) async fn keep(session: &Session, letters: &[DeadLetter]) -> Done<()> {
    let mut sorted: Vec<&DeadLetter> = letters.iter().collect();
    sorted.sort_by_key(|letter| (letter.id, letter.part));
    let mut rest = &sorted[..];
    while !rest.is_empty() {
        let (group, later) = rest.split_at(group_len(rest));
        insert(session, group).await?;
        rest = later;
    }
    Ok(())
}

fn group_len(letters: &[&DeadLetter]) -> usize {
    let mut bytes = 0;
    let fits = letters.iter().take(MOST_LETTERS).take_while(|letter| {
        let first = bytes == 0;
        bytes += letter.bytes.len().max(1);
        first || bytes <= MOST_BYTES
    });
    fits.count()
}

async fn insert(session: &Session, letters: &[&DeadLetter]) -> Done<()> {
    fn column<'a, T>(letters: &[&'a DeadLetter], of: impl Fn(&'a DeadLetter) -> T) -> Vec<T> {
        letters.iter().map(|letter| of(letter)).collect()
    }
    let ids: Vec<Uuid> = column(letters, |letter| letter.id);
    let part: Vec<i32> = column(letters, |letter| letter.part as i32);
    let bytes: Vec<&[u8]> = column(letters, |letter| &letter.bytes[..]);
    let parts: Vec<i32> = column(letters, |letter| letter.parts.max(1) as i32);
    let received: Vec<i64> = column(letters, |letter| letter.received_at.0);
    let counts: Vec<i64> = column(letters, |letter| int(letter.count));
    let reasons: Vec<&str> = column(letters, |letter| letter.reason.as_str());
    let details: Vec<Cow<'_, str>> = column(letters, |letter| escaped(&letter.detail));
    let devices: Vec<Option<Cow<'_, str>>> = column(letters, |letter| letter.device.as_deref().map(escaped));
    let formats: Vec<Cow<'_, str>> = column(letters, |letter| escaped(&letter.format));
    let logs: Vec<Option<&str>> = column(letters, |letter| letter.origin.as_ref().map(|origin| origin.log.0.as_str()));
    let partitions: Vec<Option<i64>> = column(letters, |letter| letter.origin.as_ref().map(|origin| i64::from(origin.partition)));
    let positions: Vec<Option<i64>> = column(letters, |letter| letter.origin.as_ref().map(|origin| int(origin.position)));
    session
        .execute(
            INSERT,
            &[&ids, &part, &bytes, &parts, &received, &counts, &reasons, &details, &devices, &formats, &logs, &partitions, &positions],
        )
        .await
        .map(drop)
}

/// Says what became of letters that were put, as it was where they come from.
pub(super) async fn set_histories(session: &Session, letters: &[KeptLetter]) -> Done<()> {
    fn column<'a, T>(letters: &'a [KeptLetter], of: impl Fn(&'a KeptLetter) -> T) -> Vec<T> {
        letters.iter().map(of).collect()
    }
    let ids: Vec<Uuid> = column(letters, |kept| kept.id);
    let counts: Vec<i64> = column(letters, |kept| int(kept.count));
    let last_seen: Vec<i64> = column(letters, |kept| kept.history.last_seen.0);
    let seen: Vec<i64> = column(letters, |kept| int(kept.history.seen));
    let states: Vec<&str> = column(letters, |kept| kept.history.state.as_str());
    let attempts: Vec<i64> = column(letters, |kept| int(kept.history.attempts));
    let last = |kept: &'_ KeptLetter| kept.history.last_attempt.clone();
    let times: Vec<Option<i64>> = column(letters, |kept| last(kept).map(|attempt| attempt.at.0));
    let outcomes: Vec<Option<&str>> = column(letters, |kept| last(kept).map(|attempt| attempt.outcome.as_str()));
    let details: Vec<Option<String>> = column(letters, |kept| last(kept).map(|attempt| escaped(&attempt.detail).into_owned()));
    session.execute(SET_HISTORIES, &[&ids, &counts, &last_seen, &seen, &states, &attempts, &times, &outcomes, &details]).await.map(drop)
}

/// Keeps the quota, after a commit. What fails here is tried again after the next one with letters.
pub(super) async fn keep_quota(store: &Store) {
    for _ in 0..MOST_ROUNDS {
        match drop_oldest(store).await {
            Ok(0) => return,
            Ok(n) => tracing::debug!(n, "the oldest dead letters went: there are more than are kept"),
            Err(error) => return tracing::warn!(%error, "could not keep the quota of dead letters"),
        }
    }
}

async fn drop_oldest(store: &Store) -> Result<i64> {
    let session = store.pool.get(WAIT).await?;
    let quota = store.quota;
    let done =
        store.in_time(async { Ok(session.query_one(DROP_OLDEST, &[&int(quota.letters), &int(quota.bytes)]).await?.try_get(0)?) }).await;
    session.settle(done, on_write).await
}
