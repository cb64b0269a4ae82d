//! What a write is answered, in the words of each door.
//!
//! Owns: the body of `POST /v1/readings`' answers and the text of InfluxDB's partial writes. Does not know: how an outcome came
//! about, and InfluxDB's envelope (the kit words errors for those routes).
//! Invariant: `received = accepted + skipped + rejected`.

use crate::intake::{Outcome, Refusal};
use crate::refusals::{self, Reported};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use headwater_web::Error;
use headwater_wire::{Place, Unreadable};

/// How many bad lines the text of a partial write names; agents log it whole.
const MOST_LINES: usize = 10;

/// The answer of `POST /v1/readings`.
///
/// # Errors
/// 400 for a body that cannot be read, 422 when something was rejected and nothing accepted, else what stopped it.
pub(crate) fn of_readings(result: Result<Outcome, Refusal>) -> Result<Response, Error> {
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(Refusal::Error(error)) => return Err(error),
        Err(Refusal::Unreadable(unreadable)) => return Err(unreadable_body(&unreadable)),
    };
    if outcome.rejected > 0 && outcome.accepted == 0 {
        let error = Error::unprocessable("nothing_accepted", "nothing of the body was accepted");
        return Err(members(&outcome).into_iter().fold(error, |error, (name, value)| error.member(&name, value)));
    }
    Ok(Json(members(&outcome)).into_response())
}

fn unreadable_body(unreadable: &Unreadable) -> Error {
    let error = Error::bad_request("malformed", format!("the body cannot be read: {}", unreadable.detail));
    match &unreadable.pointer {
        Some(pointer) => error.pointer(pointer, &unreadable.detail),
        None => error,
    }
}

fn members(outcome: &Outcome) -> serde_json::Map<String, serde_json::Value> {
    let counts = [
        ("received", outcome.accepted + outcome.skipped + outcome.rejected),
        ("accepted", outcome.accepted),
        ("skipped", outcome.skipped),
        ("rejected", outcome.rejected),
    ];
    let errors = outcome.reported.iter().map(named).collect();
    counts.into_iter().map(|(name, count)| (name.to_owned(), count.into())).chain([("errors".to_owned(), errors)]).collect()
}

fn named(reported: &Reported) -> serde_json::Value {
    let Reported { place, reason, detail, dead_letter } = reported;
    let (place, number) = refusals::place(*place);
    serde_json::json!({ place: number, "reason": reason, "detail": detail, "dead_letter": dead_letter.to_string() })
}

/// The answer of InfluxDB's write routes: exactly 204 when every line was taken.
///
/// # Errors
/// 400 when a line is malformed, 422 when lines are refused only for what they say; the good lines are durable all the same.
pub(crate) fn of_lines(result: Result<Outcome, Refusal>) -> Result<StatusCode, Error> {
    match result {
        Ok(outcome) if outcome.rejected == 0 => Ok(StatusCode::NO_CONTENT),
        Ok(outcome) => Err(partial_write(&outcome)),
        Err(Refusal::Error(error)) => Err(error),
        // InfluxDB's own words, by which agents know a body that will never be taken.
        Err(Refusal::Unreadable(unreadable)) => Err(Error::bad_request("malformed", format!("unable to parse: {}", unreadable.detail))),
    }
}

fn partial_write(outcome: &Outcome) -> Error {
    let mut text = format!("partial write: accepted {}, rejected {}: ", outcome.accepted, outcome.rejected);
    for (i, reported) in outcome.reported.iter().take(MOST_LINES).enumerate() {
        add_line(&mut text, i, reported);
    }
    let unnamed = outcome.n_refused.saturating_sub(MOST_LINES as u64);
    if unnamed > 0 {
        text.push_str(&format!("; and {unnamed} more"));
    }
    let status = if outcome.any_malformed { StatusCode::BAD_REQUEST } else { StatusCode::UNPROCESSABLE_ENTITY };
    let error = Error::new(status, "partial_write", text);
    match outcome.reported.first() {
        Some(Reported { place: Place::Line(line), .. }) => error.line(*line),
        _ => error,
    }
}

fn add_line(text: &mut String, i: usize, reported: &Reported) {
    let between = if i == 0 { "" } else { "; " };
    let (Place::Line(line) | Place::Index(line)) = reported.place;
    text.push_str(&format!("{between}line {line}: {}", reported.detail));
}
