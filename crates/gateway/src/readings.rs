//! `POST /v1/readings`: JSON, NDJSON and CSV.
//!
//! Owns: the route. Does not know: how bodies are read, decoded or kept.

use crate::answer;
use crate::content::{Coding, Format};
use crate::door::Door;
use crate::intake::{Outcome, Refusal, Sender};
use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;
use headwater_web::{Caller, Error, Traced};
use headwater_wire::Precision;
use std::sync::Arc;

pub(crate) fn routes() -> Router<Arc<Door>> {
    Router::new().route("/v1/readings", post(write))
}

async fn write(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Traced(trace): Traced,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    answer::of_readings(take(&door, Sender { trace, ..caller.into() }, query.as_deref(), &headers, body).await)
}

async fn take(door: &Door, sender: Sender, query: Option<&str>, headers: &HeaderMap, body: Body) -> Result<Outcome, Refusal> {
    let _begun = door.admit()?;
    no_parameters(query)?;
    let (format, coding) = (Format::of(headers)?, Coding::of(headers)?);
    let body = door.receive(format, Precision::default(), coding, body).await?;
    if body.bytes.trim_ascii().is_empty() {
        return Err(Error::bad_request("empty_body", "the body is empty").into());
    }
    door.take(format, body, sender).await
}

/// This route has none; one that is given would be ignored, and that is never what its sender meant.
fn no_parameters(query: Option<&str>) -> Result<(), Error> {
    match query.and_then(|query| query.split('&').find(|pair| !pair.is_empty())) {
        None => Ok(()),
        Some(pair) => {
            let name = pair.split('=').next().unwrap_or_default();
            Err(Error::bad_request("unknown_parameter", "this route takes no parameters").parameter(name, "unknown"))
        }
    }
}
