//! `/v1/dead-letters`: what was refused, with its original bytes, and the way back for it.
//!
//! Owns: the filters and the rows; the routes that change something are in `retry`, what was tried is counted in `tried`. Does not know: how
//! letters are kept.
//! Invariant: a caller who is narrowed to devices sees letters of those devices alone; others do not exist for him.

pub(crate) mod retry;
mod tried;

pub(crate) use tried::Tried;

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
use headwater_core::dead_letter::{DeadLetter, Form, History, KeptLetter, LetterState, Reason};
use headwater_core::glob::DevicePatterns;
use headwater_core::store::DeadLetterQuery;
use headwater_web::{Caller, Error};
use uuid::Uuid;

/// Original bytes of one page.
const PAGE_BYTES: usize = 8 << 20;
/// Who asks for no state means what is left to do.
const EVERY_STATE: &str = "all";

type GivenId = std::result::Result<Path<String>, PathRejection>;

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
    id: GivenId,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> Result<Response> {
    Params::decode("/v1/dead-letters/{id}", raw.as_deref()).finish()?;
    let mut room = api.room().await?;
    room.hold(PAGE_BYTES).await?;
    let letter = find(&api, id, &caller.devices).await?;
    let text_bytes = text_bytes(std::slice::from_ref(&letter));
    let write = move |out: Out<'_>| {
        let mut json = Json::on(out);
        write_letter(&mut json, &letter);
        json.end();
    };
    let answer = Answer { write, format: Format::Json, n_rows: 1, held_bytes: PAGE_BYTES, text_bytes, next: None };
    answer.into_response(&headers, room).await
}

/// The letter of an id, if the caller may know of it.
///
/// # Errors
/// 400 for what is no id, 404.
async fn find(api: &Api, id: GivenId, devices: &DevicePatterns) -> Result<KeptLetter> {
    let id = id.ok().and_then(|Path(id)| Uuid::try_parse(&id).ok());
    let id = id.ok_or_else(|| Error::bad_request("invalid_id", "the id of a dead letter is a UUID"))?;
    let letter = api.snapshot().await?.dead_letter(id).await.map_err(failure::of_store)?;
    letter.filter(|letter| is_visible(letter, devices)).ok_or_else(none)
}

fn none() -> Error {
    Error::not_found("no_such_dead_letter", "there is no dead letter with this id")
}

/// About what letters take when they are written.
fn text_bytes(letters: &[KeptLetter]) -> usize {
    letters.iter().map(|letter| 1024 + 3 * (letter.bytes.len() + letter.detail.len()) / 2).sum()
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
    let state = params.read("state", "open, retried, discarded or all", |text| match text {
        EVERY_STATE => Some(None),
        state => LetterState::parse(state).map(Some),
    });
    let page = params.page(caller, api.config.default_limit);
    read_filter(api, params, page, state.unwrap_or(Some(LetterState::Open)), caller)
}

/// What is asked of letters in any state, and by whom.
fn read_filter(api: &Api, mut params: Params, page: Page, state: Option<LetterState>, caller: &Caller) -> Result<(DeadLetterQuery, Page)> {
    let reason = params.read("reason", "one of the reasons for which input is refused", Reason::parse);
    let devices = params.globs("device");
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
    Ok((DeadLetterQuery { reason, state, devices, allowed, from, to, after: after.flatten(), limit: page.limit }, page))
}

fn answer(letters: Vec<KeptLetter>, has_more: bool, query: &DeadLetterQuery, page: &Page) -> Answer<impl Fn(Out<'_>) + Send + 'static> {
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

fn write_letter(json: &mut Json<'_>, KeptLetter { letter, history }: &KeptLetter) {
    json.open(b'{');
    json.member("id", &letter.id.to_string());
    json.time("received_at", letter.received_at);
    json.member("reason", letter.reason.as_str());
    json.member("detail", &letter.detail);
    json.member("device", &letter.device);
    json.member("format", Form::shown(&letter.format));
    if let Some(precision) = Form::of(&letter.format).precision {
        json.member("precision", precision);
    }
    json.member("count", &letter.count);
    let origin = letter.origin.as_ref();
    json.member("log", &origin.map(|origin| origin.log.0.as_str()));
    json.member("partition", &origin.map(|origin| origin.partition));
    json.member("position", &origin.map(|origin| origin.position));
    write_history(json, letter, history);
    match std::str::from_utf8(&letter.bytes) {
        // There are none any more.
        _ if history.state == LetterState::Discarded => {}
        Ok(text) => json.member("text", text),
        Err(_) => json.member("bytes_base64", &STANDARD.encode(&letter.bytes)),
    }
    json.close(b'}');
}

fn write_history(json: &mut Json, letter: &DeadLetter, history: &History) {
    json.member("state", history.state.as_str());
    json.time("first_seen", letter.received_at);
    json.time("last_seen", history.last_seen);
    json.member("seen", &history.seen);
    json.member("attempts", &history.attempts);
    json.name("last_attempt");
    match &history.last_attempt {
        None => json.value(&None::<&str>),
        Some(attempt) => {
            json.open(b'{');
            json.time("at", attempt.at);
            json.member("outcome", attempt.outcome.as_str());
            json.member("detail", &attempt.detail);
            json.close(b'}');
        }
    }
}

#[cfg(test)]
mod tests;
