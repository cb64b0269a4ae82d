//! `GET /v1/dead-letters` and `/v1/dead-letters/{id}`: what was refused, with its original bytes.
//!
//! Owns: the filters and the rows. Does not know: how letters are kept.
//! Invariant: a caller who is narrowed to devices sees letters of those devices alone; others do not exist for him.

use crate::Api;
use crate::answer::{Answer, Json, Out};
use crate::failure::{self, Result};
use crate::params::{Format, Page, Params, check_devices};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headwater_core::dead_letter::{DeadLetter, Reason};
use headwater_core::glob::DevicePatterns;
use headwater_core::store::DeadLetterQuery;
use headwater_web::{Caller, Error};
use uuid::Uuid;

/// Original bytes of one page.
const PAGE_BYTES: usize = 8 << 20;

/// The handler of the list.
pub(crate) async fn list(State(api): State<Api>, caller: Caller, RawQuery(raw): RawQuery, headers: HeaderMap) -> Result<Response> {
    let (query, page) = read(&api, raw.as_deref(), &caller)?;
    let mut room = api.room().await?;
    room.hold(PAGE_BYTES).await?;
    let (letters, has_more) = {
        let mut snapshot = api.snapshot().await?;
        snapshot.dead_letters(&query, PAGE_BYTES).await.map_err(failure::of_store)?
    };
    answer(letters, has_more, &query, &page).into_response(&headers, room).await
}

/// The handler of one letter.
pub(crate) async fn show(
    State(api): State<Api>,
    caller: Caller,
    id: std::result::Result<Path<String>, PathRejection>,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> Result<Response> {
    Params::decode("/v1/dead-letters/{id}", raw.as_deref()).finish()?;
    let id = id.ok().and_then(|Path(id)| Uuid::try_parse(&id).ok());
    let id = id.ok_or_else(|| Error::bad_request("invalid_id", "the id of a dead letter is a UUID"))?;
    let mut room = api.room().await?;
    room.hold(PAGE_BYTES).await?;
    let letter = {
        let mut snapshot = api.snapshot().await?;
        snapshot.dead_letter(id).await.map_err(failure::of_store)?
    };
    let Some(letter) = letter.filter(|letter| is_visible(letter, &caller.devices)) else {
        return Err(Error::not_found("no_such_dead_letter", "there is no dead letter with this id"));
    };
    let text_bytes = text_bytes(std::slice::from_ref(&letter));
    let write = move |out: Out<'_>| {
        let mut json = Json::on(out);
        write_letter(&mut json, &letter);
        json.end();
    };
    let answer = Answer { write, format: Format::Json, n_rows: 1, held_bytes: PAGE_BYTES, text_bytes, next: None };
    answer.into_response(&headers, room).await
}

/// About what letters take when they are written.
fn text_bytes(letters: &[DeadLetter]) -> usize {
    letters.iter().map(|letter| 512 + 3 * (letter.bytes.len() + letter.detail.len()) / 2).sum()
}

fn is_visible(letter: &DeadLetter, devices: &DevicePatterns) -> bool {
    match (devices, &letter.device) {
        (DevicePatterns::All, _) => true,
        (DevicePatterns::Some(_), Some(device)) => devices.allow(device),
        (DevicePatterns::Some(_), None) => false,
    }
}

fn read(api: &Api, raw: Option<&str>, caller: &Caller) -> Result<(DeadLetterQuery, Page)> {
    let mut params = Params::decode("/v1/dead-letters", raw);
    let reason = params.read("reason", "one of the reasons for which input is refused", Reason::parse);
    let devices = params.globs("device");
    // Later states (retried, deleted) join here.
    params.read("state", "open", |text| (text == "open").then_some(()));
    let page = params.page(caller, api.config.default_limit);
    let (from, to) = params.bounds(api.clock.now(), &page);
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        params.wrong("from", format!("must be before `to`, which is {to}, and is {from}"));
    }
    let after = page.cursor.as_ref().map(|cursor| Uuid::try_parse(&cursor.key).ok().and_then(|id| Some((cursor.time?, id))));
    if after == Some(None) {
        params.wrong("cursor", "is not a cursor of this route");
    }
    params.finish()?;
    check_devices(&devices, &caller.devices)?;
    let allowed = caller.devices.clone();
    Ok((DeadLetterQuery { reason, devices, allowed, from, to, after: after.flatten(), limit: page.limit }, page))
}

fn answer(letters: Vec<DeadLetter>, has_more: bool, query: &DeadLetterQuery, page: &Page) -> Answer<impl Fn(Out<'_>) + Send + 'static> {
    let last = letters.last().filter(|_| has_more);
    let cursor = last.map(|last| page.cursor_after(query.from, query.to, last.id.to_string(), Some(last.received_at)));
    let next = cursor.as_ref().map(|cursor| page.link_to(cursor));
    let (n_rows, text_bytes) = (letters.len(), text_bytes(&letters));
    let write = move |out: Out<'_>| {
        let mut json = Json::on(out);
        json.open(b'{');
        json.name("rows");
        json.open(b'[');
        letters.iter().for_each(|letter| write_letter(&mut json, letter));
        json.end_of_rows(cursor.as_deref());
    };
    Answer { write, format: Format::Json, n_rows, held_bytes: PAGE_BYTES, text_bytes, next }
}

fn write_letter(json: &mut Json<'_>, letter: &DeadLetter) {
    json.open(b'{');
    json.member("id", &letter.id.to_string());
    json.time("received_at", letter.received_at);
    json.member("reason", letter.reason.as_str());
    json.member("detail", &letter.detail);
    json.member("device", &letter.device);
    json.member("format", &letter.format);
    json.member("count", &letter.count);
    let origin = letter.origin.as_ref();
    json.member("log", &origin.map(|origin| origin.log.0.as_str()));
    json.member("partition", &origin.map(|origin| origin.partition));
    json.member("position", &origin.map(|origin| origin.position));
    match std::str::from_utf8(&letter.bytes) {
        Ok(text) => json.member("text", text),
        Err(_) => json.member("bytes_base64", &STANDARD.encode(&letter.bytes)),
    }
    json.close(b'}');
}

#[cfg(test)]
mod tests;
