//! What becomes of dead letters by people's hands and by their age: retries are recorded, letters are discarded, old ones go.
//!
//! Owns: the seam's [`DeadLetters`]. Does not know: how a letter is retried, the quota.
//! Invariants: what a retry does to a letter's state is [`History::attempted`], said in SQL; rows are locked in the order of ids, as ingest writes
//! them; each call is one transaction, and nothing else waits for it.

use super::rows::{self, escaped};
use super::{Store, WAIT, int, uint};
use crate::error::{Done, on_write};
use crate::pool::Session;
use headwater_core::BoxFuture;
use headwater_core::dead_letter::{Attempt, History};
use headwater_core::store::{DeadLetters, Result};
use headwater_core::time::Timestamp;
use std::borrow::Cow;
use std::collections::HashMap;
use uuid::Uuid;

const RECORD: &str = include_str!("../sql/store/record_attempts.sql");
const DISCARD: &str = include_str!("../sql/store/discard_letter.sql");
const EXPIRE: &str = include_str!("../sql/store/expire_letters.sql");

impl DeadLetters for Store {
    fn attempted(&self, attempts: Vec<(Uuid, Attempt)>) -> BoxFuture<'_, Result<Vec<Option<History>>>> {
        Box::pin(async move {
            if attempts.is_empty() {
                return Ok(Vec::new());
            }
            let session = self.pool.get(WAIT).await?;
            let done = self.in_time(record_all(&session, &attempts)).await;
            session.settle(done, on_write).await
        })
    }

    fn discard(&self, id: Uuid) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move {
            let session = self.pool.get(WAIT).await?;
            let done = self.in_time(async { Ok(session.query_one(DISCARD, &[&id]).await?.try_get(0)?) }).await;
            session.settle(done, on_write).await
        })
    }

    fn expire(&self, before: Timestamp, most: u64) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let session = self.pool.get(WAIT).await?;
            let done = self.in_time(async { Ok(session.query_one(EXPIRE, &[&before.0, &int(most)]).await?.try_get(0)?) }).await;
            session.settle(done, on_write).await.map(uint)
        })
    }
}

/// Records all tries in one transaction: several of one letter one after the other.
async fn record_all(session: &Session, attempts: &[(Uuid, Attempt)]) -> Done<Vec<Option<History>>> {
    session.begin().await?;
    let mut answers = vec![None; attempts.len()];
    let mut rest: Vec<usize> = (0..attempts.len()).collect();
    while !rest.is_empty() {
        let (mut now, mut later): (HashMap<Uuid, usize>, Vec<usize>) = (HashMap::new(), Vec::new());
        for at in rest {
            match now.contains_key(&attempts[at].0) {
                true => later.push(at),
                false => drop(now.insert(attempts[at].0, at)),
            }
        }
        record(session, attempts, &now, &mut answers).await?;
        rest = later;
    }
    session.commit().await?;
    Ok(answers)
}

/// Records tries of letters that are each named once.
async fn record(session: &Session, attempts: &[(Uuid, Attempt)], now: &HashMap<Uuid, usize>, answers: &mut [Option<History>]) -> Done<()> {
    let tried: Vec<&(Uuid, Attempt)> = now.values().map(|&at| &attempts[at]).collect();
    let ids: Vec<Uuid> = tried.iter().map(|(id, _)| *id).collect();
    let times: Vec<i64> = tried.iter().map(|(_, attempt)| attempt.at.0).collect();
    let outcomes: Vec<&str> = tried.iter().map(|(_, attempt)| attempt.outcome.as_str()).collect();
    let details: Vec<Cow<'_, str>> = tried.iter().map(|(_, attempt)| escaped(&attempt.detail)).collect();
    for row in session.query(RECORD, &[&ids, &times, &outcomes, &details]).await? {
        let (id, received_at): (Uuid, i64) = (row.try_get(0)?, row.try_get(1)?);
        let history = rows::history(&row, 2, id, Timestamp(received_at))?;
        if let Some(&at) = now.get(&id) {
            answers[at] = Some(history);
        }
    }
    Ok(())
}
