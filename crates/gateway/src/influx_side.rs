//! What InfluxDB's clients ask beside writing: `/ping`, `/health`, `/ready`, `/query`.
//!
//! Owns: those routes. Does not know: how anything is kept; the headers `X-Influxdb-…`, which the kit adds to every answer of
//! these routes. Nothing here reads or writes a reading.
//! Invariant: nothing is said to be done that is not: a statement that asks for data or for a deletion is answered with an
//! error in InfluxDB's form.

use crate::door::Door;
use crate::influx::Parameters;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use headwater_web::Error;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The largest form that `/query` reads.
const MOST_FORM_BYTES: usize = 16 * 1024;

pub(crate) fn routes() -> Router<Arc<Door>> {
    Router::new()
        .route("/ping", get(ping))
        .route("/health", get(health))
        .route("/api/v2/health", get(health))
        .route("/ready", get(ready))
        .route("/api/v2/ready", get(ready))
        .route("/query", get(query).post(query_form))
}

/// 204; with `verbose` 200 and a version, as the Arduino client wants it.
async fn ping(uri: Uri) -> Response {
    let verbose =
        Parameters::of(&uri).is_ok_and(|parameters| parameters.get("verbose").is_some_and(|value| value != "0" && value != "false"));
    if verbose { Json(json!({ "version": VERSION })).into_response() } else { StatusCode::NO_CONTENT.into_response() }
}

/// 200 when a write would be taken now, else 503.
async fn health(State(door): State<Arc<Door>>) -> Response {
    let (code, status, message) = match door.check().await {
        Ok(()) => (StatusCode::OK, "pass", "ready for queries and writes".to_owned()),
        Err(problem) => (StatusCode::SERVICE_UNAVAILABLE, "fail", problem),
    };
    let body = json!({ "name": "headwater", "message": message, "status": status, "checks": [], "version": VERSION });
    (code, Json(body)).into_response()
}

/// That the process has started, and when.
async fn ready(State(door): State<Arc<Door>>) -> Response {
    let body = json!({ "status": "ready", "started": door.started.to_string(), "up": up(door.since.elapsed()) });
    Json(body).into_response()
}

/// A duration as InfluxDB writes it: `1h2m3s`.
fn up(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

async fn query(uri: Uri) -> Result<Response, Error> {
    answer(Parameters::of(&uri)?.get("q"))
}

/// The statement stands in the query or in a form; the form is read whole first, within its limit.
async fn query_form(State(door): State<Arc<Door>>, uri: Uri, body: Body) -> Result<Response, Error> {
    let mut reservation = door.intake.budget.reserve(0, door.intake.config.append_wait).await?;
    let form = headwater_web::read_body(body, MOST_FORM_BYTES, &mut reservation).await?;
    let in_form = Parameters::of_form(&form)?;
    answer(Parameters::of(&uri)?.get("q").or_else(|| in_form.get("q")))
}

fn answer(statements: Option<&str>) -> Result<Response, Error> {
    let statements = statements.ok_or_else(|| Error::bad_request("missing_parameter", "missing required parameter \"q\""))?;
    let results: Vec<Value> = statements.split(';').map(str::trim).filter(|text| !text.is_empty()).zip(0..).map(result).collect();
    Ok(Json(json!({ "results": results })).into_response())
}

/// Creating is done by writing here, and there is nothing to show; everything else would have to do something.
fn result((statement, id): (&str, usize)) -> Value {
    let mut words = statement.split_ascii_whitespace().map(str::to_ascii_uppercase);
    let (verb, object) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if matches!((verb.as_str(), object.as_str()), ("SHOW", _) | ("CREATE", "DATABASE" | "RETENTION")) {
        return json!({ "statement_id": id });
    }
    json!({ "statement_id": id, "error": "this statement is not supported here; ask GET /v1/stats or GET /v1/readings" })
}
