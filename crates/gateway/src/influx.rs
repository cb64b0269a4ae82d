//! `POST /api/v2/write` and `POST /write`: line protocol, as InfluxDB's clients send it.
//!
//! Owns: both routes and their parameters. Does not know: line protocol, how lines are kept.
//!
//! `Content-Type` is ignored, because clients differ; so are `org`, `rp`, `consistency` and the like, which mean nothing here.
//! An empty body is a success: Home Assistant checks its configuration by sending one.

use crate::answer;
use crate::content::{Coding, Format};
use crate::door::Door;
use crate::intake::{Outcome, Refusal, Sender};
use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::post;
use headwater_web::{Caller, Error, Traced};
use headwater_wire::Precision;
use std::sync::Arc;

pub(crate) fn routes() -> Router<Arc<Door>> {
    Router::new().route("/api/v2/write", post(write_v2)).route("/write", post(write_v1))
}

type Who = (Caller, Traced);

async fn write_v2(State(door): State<Arc<Door>>, who: Who, uri: Uri, headers: HeaderMap, body: Body) -> Result<StatusCode, Error> {
    answer::of_lines(take(&door, who, "bucket", &uri, &headers, body).await)
}

async fn write_v1(State(door): State<Arc<Door>>, who: Who, uri: Uri, headers: HeaderMap, body: Body) -> Result<StatusCode, Error> {
    answer::of_lines(take(&door, who, "db", &uri, &headers, body).await)
}

/// `place` is the parameter that names where the lines go; here it names the device of lines that name none.
async fn take(
    door: &Door,
    (caller, Traced(trace)): Who,
    place: &'static str,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<Outcome, Refusal> {
    let _begun = door.admit()?;
    let parameters = Parameters::of(uri)?;
    let fallback_device = parameters.required(place)?;
    let sender = Sender { fallback_device: Some(fallback_device), precision: parameters.precision()?, trace, ..caller.into() };
    let body = door.receive(Format::Line, sender.precision, Coding::of(headers)?, body).await?;
    if body.bytes.trim_ascii().is_empty() {
        return Ok(Outcome::default());
    }
    door.take(Format::Line, body, sender).await
}

/// The parameters of a request, in their order.
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads them.
    ///
    /// # Errors
    /// 400 when the query is no list of parameters.
    pub(crate) fn of(uri: &Uri) -> Result<Self, Error> {
        match Query::try_from_uri(uri) {
            Ok(Query(pairs)) => Ok(Self(pairs)),
            Err(_) => Err(Error::bad_request("invalid_query", "the query cannot be read")),
        }
    }

    /// Reads them from a form. Bytes that its sender should have escaped are taken as they stand.
    ///
    /// # Errors
    /// 400 when the form is no list of parameters.
    pub(crate) fn of_form(form: &[u8]) -> Result<Self, Error> {
        let mut query = String::from("/?");
        for &byte in form.trim_ascii() {
            match byte {
                b'%' | b'&' | b'+' | b'=' | b'-' | b'.' | b'_' | b'~' => query.push(char::from(byte)),
                _ if byte.is_ascii_alphanumeric() => query.push(char::from(byte)),
                _ => query.push_str(&format!("%{byte:02X}")),
            }
        }
        let uri = query.parse().map_err(|_| Error::bad_request("invalid_form", "the form cannot be read"))?;
        Self::of(&uri)
    }

    /// The first value of a name, unless it is empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, value)| n == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    fn required(&self, name: &'static str) -> Result<String, Error> {
        let missing = || Error::bad_request("missing_parameter", format!("{name} is required")).parameter(name, "required");
        self.get(name).map(str::to_owned).ok_or_else(missing)
    }

    fn precision(&self) -> Result<Precision, Error> {
        let Some(text) = self.get("precision") else {
            return Ok(Precision::default());
        };
        let unknown = || Error::bad_request("invalid_parameter", "precision must be one of n, ns, u, us, ms, s, m, h");
        Precision::parse(text).ok_or_else(|| unknown().parameter("precision", "unknown"))
    }
}
