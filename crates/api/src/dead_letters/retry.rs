//! `POST /v1/dead-letters/{id}/retry`, `POST /v1/dead-letters/retry` and `DELETE /v1/dead-letters/{id}`: what is done about dead letters.
//!
//! Owns: the order of a retry (taken in, then recorded), pages of many, their answers. Does not know: how a letter is taken in again
//! ([`Readmission`] does), how its history is kept.
//!
//! Invariants: what was accepted is durable in the log before anything says so. The append comes first and the record of it second: a process
//! that dies between them leaves a letter that can be retried again, and its readings are duplicates then. A retry that has begun goes on
//! without whoever asked for it.

use super::{GivenId, PAGE_BYTES, find, none, read_filter};
use crate::Api;
use crate::failure::{self, Result};
use crate::params::{Page, Params};
use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use headwater_core::BoxFuture;
use headwater_core::dead_letter::{DeadLetter, History, KeptLetter, LetterState, Readmitted, RefusedAgain};
use headwater_core::failpoint;
use headwater_core::glob::DevicePatterns;
use headwater_core::store::DeadLetterQuery;
use headwater_web::{Caller, Error, Sent};
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// Letters of one request, where it does not say.
const SOME: usize = 100;
/// … and at most.
const MOST: usize = 1_000;
/// After this a request for many begins with no further letter.
const LONGEST: Duration = Duration::from_secs(20);
/// More than the nothing that is expected.
const NO_BODY_BYTES: usize = 64;

/// Takes dead letters in again: the way into the log, as this role sees it.
pub trait Readmission: Send + Sync {
    /// Takes the request's body in, an edited letter, or the letter as it is where that is empty, as every write is, for a caller of these devices.
    fn readmit<'a>(
        &'a self,
        letter: &'a DeadLetter,
        sent: Sent,
        devices: DevicePatterns,
    ) -> BoxFuture<'a, std::result::Result<Readmitted, Error>>;
}

/// The handler for one letter.
pub(crate) async fn one(
    State(api): State<Api>,
    caller: Caller,
    id: GivenId,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    Params::decode("/v1/dead-letters/{id}/retry", raw.as_deref()).finish()?;
    let mut room = api.room().await?;
    room.hold(PAGE_BYTES).await?;
    let letter = find(&api, id, &caller.devices).await?;
    if letter.history.state == LetterState::Discarded {
        return Err(Error::new(StatusCode::CONFLICT, "dead_letter_discarded", "the letter was discarded, and its bytes are gone"));
    }
    let task = tokio::spawn(async move {
        let _room = room;
        let readmitted = api.readmission.readmit(&letter, Sent { headers, body }, caller.devices).await?;
        let history = record(&api, std::slice::from_ref(&letter), std::slice::from_ref(&readmitted)).await?.pop();
        tracing::info!(
            letter = %letter.id, subject = caller.subject, outcome = readmitted.outcome().as_str(), accepted = readmitted.accepted,
            "retried a dead letter"
        );
        answer(&letter, history.as_ref().unwrap_or(&letter.history), &readmitted)
    });
    task.await.map_err(Error::internal)?
}

/// The handler for many letters.
pub(crate) async fn many(State(api): State<Api>, caller: Caller, RawQuery(raw): RawQuery, body: Body) -> Result<Response> {
    let (query, page) = read(&api, raw.as_deref(), &caller)?;
    refuse_body(body).await?;
    let mut room = api.room().await?;
    room.hold(PAGE_BYTES).await?;
    let (letters, mut has_more) = {
        let mut snapshot = api.snapshot().await?;
        snapshot.dead_letters(&query, PAGE_BYTES).await.map_err(failure::of_store)?
    };
    let task = tokio::spawn(async move {
        let _room = room;
        let (tried, failure) = take_in(&api, &letters, &caller.devices).await;
        let histories = record(&api, &letters[..tried.len()], &tried).await?;
        match failure {
            Some(failure) if tried.is_empty() => return Err(failure),
            _ => has_more |= tried.len() < letters.len(),
        }
        let last = letters[..tried.len()].last().filter(|_| has_more);
        let next = last.map(|last| page.cursor_after(query.from, query.to, last.id.to_string(), Some(last.received_at)));
        let rows: Vec<Value> =
            letters.iter().zip(histories).zip(&tried).map(|((letter, history), tried)| row(letter, &history, tried)).collect();
        tracing::info!(letters = rows.len(), subject = caller.subject, "retried {} dead letters", rows.len());
        Ok(Json(json!({ "rows": rows, "next_cursor": next })).into_response())
    });
    task.await.map_err(Error::internal)?
}

/// The handler that discards a letter.
pub(crate) async fn discard(State(api): State<Api>, caller: Caller, id: GivenId, RawQuery(raw): RawQuery) -> Result<StatusCode> {
    Params::decode("/v1/dead-letters/{id}", raw.as_deref()).finish()?;
    let mut room = api.room().await?;
    room.hold(PAGE_BYTES).await?;
    let letter = find(&api, id, &caller.devices).await?;
    if !api.letters.discard(letter.id).await.map_err(failure::of_change)? {
        return Err(none());
    }
    tracing::info!(letter = %letter.id, subject = caller.subject, reason = letter.reason.as_str(), "discarded a dead letter");
    Ok(StatusCode::NO_CONTENT)
}

/// Only what is open is retried; what was refused again is passed by the cursor.
fn read(api: &Api, raw: Option<&str>, caller: &Caller) -> Result<(DeadLetterQuery, Page)> {
    let mut params = Params::decode("/v1/dead-letters/retry", raw);
    let page = params.page(caller, SOME);
    if page.limit > MOST {
        params.wrong("limit", format!("is {}, and at most {MOST} letters are retried by one request", page.limit));
    }
    read_filter(api, params, page, Some(LetterState::Open), caller)
}

/// A body here would be meant as something, and that is nowhere said.
async fn refuse_body(body: Body) -> Result<()> {
    match axum::body::to_bytes(body, NO_BODY_BYTES).await {
        Ok(bytes) if bytes.trim_ascii().is_empty() => Ok(()),
        _ => Err(Error::bad_request("unexpected_body", "this route takes parameters and no body; an edited letter goes to its own retry")),
    }
}

/// Takes letters in, one after the other and as they are, until one could not be tried: then also why.
async fn take_in(api: &Api, letters: &[KeptLetter], devices: &DevicePatterns) -> (Vec<Readmitted>, Option<Error>) {
    let (until, mut tried) = (Instant::now() + LONGEST, Vec::new());
    for letter in letters {
        if Instant::now() >= until {
            break;
        }
        match api.readmission.readmit(letter, Sent::default(), devices.clone()).await {
            Ok(readmitted) => tried.push(readmitted),
            // It would be the same the next time.
            Err(error) if error.status().is_client_error() => {
                tried.push(Readmitted::nothing(api.clock.now(), letter.reason, error.detail()));
            }
            Err(error) => return (tried, Some(error)),
        }
    }
    (tried, None)
}

/// Records what came of retries. A letter that is gone meanwhile has the history that it would have.
async fn record(api: &Api, letters: &[KeptLetter], tried: &[Readmitted]) -> Result<Vec<History>> {
    if tried.is_empty() {
        return Ok(Vec::new());
    }
    failpoint::reach("letters.before_mark");
    let attempts = letters.iter().zip(tried).map(|(letter, tried)| (letter.id, tried.attempt())).collect();
    let histories = api.letters.attempted(attempts).await.map_err(failure::of_change)?;
    tried.iter().for_each(|tried| api.tried.count(tried.outcome()));
    let or_else = |(history, (letter, tried)): (Option<History>, (&KeptLetter, &Readmitted))| {
        history.unwrap_or_else(|| {
            let mut history = letter.history.clone();
            history.attempted(tried.attempt());
            history
        })
    };
    Ok(histories.into_iter().zip(letters.iter().zip(tried)).map(or_else).collect())
}

/// The members of an answer that are those of every write, and what became of the letter.
fn members(letter: &KeptLetter, history: &History, tried: &Readmitted) -> Map<String, Value> {
    let members = json!({
        "id": letter.id.to_string(),
        "state": history.state.as_str(),
        "attempts": history.attempts,
        "received": tried.accepted + tried.skipped + tried.rejected,
        "accepted": tried.accepted,
        "skipped": tried.skipped,
        "rejected": tried.rejected,
        "errors": tried.refused.iter().map(named).collect::<Value>(),
    });
    match members {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn named(refused: &RefusedAgain) -> Value {
    let mut named = json!({ "reason": refused.reason.as_str(), "detail": refused.detail });
    if let Some((place, number)) = refused.place {
        named[place] = number.into();
    }
    named
}

/// 200 where something was accepted, else 422 with the same members.
fn answer(letter: &KeptLetter, history: &History, tried: &Readmitted) -> Result<Response> {
    let members = members(letter, history, tried);
    if tried.accepted > 0 {
        return Ok(Json(members).into_response());
    }
    let error = Error::unprocessable("nothing_accepted", format!("nothing of the letter was accepted: {}", tried.detail()));
    Err(members.into_iter().fold(error, |error, (name, value)| error.member(&name, value)))
}

/// A letter among many.
fn row(letter: &KeptLetter, history: &History, tried: &Readmitted) -> Value {
    let mut row = members(letter, history, tried);
    row.insert("reason".to_owned(), letter.reason.as_str().into());
    row.insert("device".to_owned(), letter.device.clone().into());
    row.insert("outcome".to_owned(), tried.outcome().as_str().into());
    row.insert("detail".to_owned(), tried.detail().into());
    row.remove("errors");
    row.into()
}

#[cfg(test)]
mod tests;
