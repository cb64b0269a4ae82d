//! Errors as clients see them: RFC 9457, or InfluxDB's and OAuth's forms on their routes.
//!
//! Owns: [`Error`] and its wording in each form. Does not know: which route it is on (the shell does, and words it anew where
//! the route is InfluxDB's).
//! Invariant: the source of an error is logged by the shell, once, and never sent.

use crate::access::Errors;
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::fmt;
use std::sync::Arc;

/// How many errors of one input are listed; the rest would only repeat them.
const MOST_LISTED: usize = 100;
/// The most of a message that goes into a header; proxies refuse large heads.
const HEADER_MESSAGE_BYTES: usize = 512;

/// An answer that says why not.
///
/// It is cheap to pass on (one pointer) and clones share the source.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<Pointed>,
    members: Map<String, Value>,
    line: Option<u64>,
    headers: HeaderMap,
    source: Option<Arc<anyhow::Error>>,
    closes: bool,
}

/// One thing wrong with the input, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointed {
    /// Where it is.
    pub at: At,
    /// What is wrong there.
    pub detail: String,
}

/// A place in the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// A JSON pointer into the body.
    Pointer(String),
    /// A parameter of the query.
    Parameter(String),
}

impl Error {
    /// An error of any status; the constructors below are the usual ones. `code` is part of the contract: it never changes.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            status,
            code,
            detail: detail.into(),
            errors: Vec::new(),
            members: Map::new(),
            line: None,
            headers: HeaderMap::new(),
            source: None,
            closes: false,
        }))
    }

    /// 400: the request cannot be read as it stands.
    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 403: the caller is known and may not. (A missing scope is refused by the gate before any handler.)
    pub fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// 413: the body is larger than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("the body is larger than {limit} bytes"))
    }

    /// 415: a media type or content coding that is not read here.
    pub fn unsupported_media(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, code, detail)
    }

    /// 422: readable, and refused for what it says.
    pub fn unprocessable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// 503: not now; the client may come back after `retry_after_s` seconds.
    pub fn busy(code: &'static str, detail: impl Into<String>, retry_after_s: u32) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(retry_after_s)
    }

    /// 500: our mistake or the machine's. `source` is logged with the request's id and never sent.
    pub fn internal(source: impl Into<anyhow::Error>) -> Self {
        let detail = "the server could not answer; its log says why under this X-Request-Id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).source(source)
    }

    /// 401 without a word on why, as RFC 6750 asks where no credentials were sent.
    pub fn no_credentials() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "this needs a token: `Authorization: Bearer …`")
            .header(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="headwater""#))
    }

    /// 401 for every credential that is not good, in the same words: what is wrong with it helps only whoever forges it.
    pub fn invalid_token() -> Self {
        let challenge = r#"Bearer realm="headwater", error="invalid_token", error_description="the token is not valid here""#;
        Self::new(StatusCode::UNAUTHORIZED, "invalid_token", "the token is not valid here (malformed, expired, or signed by another key)")
            .header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// 403: a good token that lacks `scope`.
    pub fn insufficient_scope(scope: crate::Scope) -> Self {
        let challenge = format!(r#"Bearer realm="headwater", error="insufficient_scope", scope="{scope}""#);
        let error = Self::new(StatusCode::FORBIDDEN, "insufficient_scope", format!("this needs a token with the scope {scope}"));
        match HeaderValue::try_from(challenge) {
            Ok(challenge) => error.header(WWW_AUTHENTICATE, challenge),
            Err(_) => error,
        }
    }

    /// 405, with the methods that there are.
    pub fn method_not_allowed(allowed: &str) -> Self {
        let error = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", format!("this path takes {allowed}"));
        match HeaderValue::try_from(allowed) {
            Ok(allowed) => error.header(ALLOW, allowed),
            Err(_) => error,
        }
    }

    /// Says what is wrong with a parameter of the query. Beyond the first 100 places nothing is added.
    #[must_use]
    pub fn parameter(self, name: impl Into<String>, detail: impl Into<String>) -> Self {
        self.pointed(Pointed { at: At::Parameter(name.into()), detail: detail.into() })
    }

    /// Says what is wrong at a JSON pointer into the body, such as `/0/ts`. Beyond the first 100 places nothing is added.
    #[must_use]
    pub fn pointer(self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.pointed(Pointed { at: At::Pointer(pointer.into()), detail: detail.into() })
    }

    fn pointed(mut self, pointed: Pointed) -> Self {
        if self.0.errors.len() < MOST_LISTED {
            self.0.errors.push(pointed);
        }
        self
    }

    /// Adds a member to the problem document; it may not be one of the standard ones, except `errors`, which it replaces.
    #[must_use]
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(name.to_owned(), value.into());
        self
    }

    /// The line that InfluxDB's form points at.
    #[must_use]
    pub fn line(mut self, line: u64) -> Self {
        self.0.line = Some(line);
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// When to come back, in seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// What caused it, for the log alone.
    #[must_use]
    pub fn source(mut self, source: impl Into<anyhow::Error>) -> Self {
        self.0.source = Some(Arc::new(source.into()));
        self
    }

    /// The connection is not worth keeping: the rest of the request will not come.
    #[must_use]
    pub(crate) fn closing(mut self) -> Self {
        self.0.closes = true;
        self
    }

    /// Whether the connection is not worth keeping.
    pub(crate) fn closes(&self) -> bool {
        self.0.closes
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// What it tells the client.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The places it points at.
    pub fn errors(&self) -> &[Pointed] {
        &self.0.errors
    }

    /// What caused it.
    pub fn cause(&self) -> Option<&anyhow::Error> {
        self.0.source.as_deref()
    }

    /// The answer in a form.
    pub(crate) fn worded(&self, form: Errors) -> Response {
        let (media, body) = match form {
            Errors::Problem => ("application/problem+json", self.problem()),
            Errors::InfluxV1 => ("application/json", json!({ "error": self.0.detail })),
            Errors::InfluxV2 => ("application/json", self.influx_v2()),
            Errors::OAuth => ("application/json", json!({ "error": self.0.code, "error_description": self.0.detail })),
        };
        let mut response = (self.0.status, [(CONTENT_TYPE, media)], body.to_string()).into_response();
        response.headers_mut().extend(self.0.headers.clone());
        if form.are_influx() {
            response.headers_mut().insert("x-influxdb-error", header_text(&self.0.detail));
        }
        response.extensions_mut().insert(self.clone());
        response
    }

    fn problem(&self) -> Value {
        let mut problem = json!({
            "type": "about:blank",
            "title": self.0.status.canonical_reason().unwrap_or("Error"),
            "status": self.0.status.as_u16(),
            "detail": self.0.detail,
            "code": self.0.code,
        });
        if !self.0.errors.is_empty() {
            problem["errors"] = self.0.errors.iter().map(Pointed::to_json).collect();
        }
        for (name, value) in &self.0.members {
            problem[name] = value.clone();
        }
        problem
    }

    fn influx_v2(&self) -> Value {
        let mut body = json!({ "code": influx_code(self.0.status), "message": self.0.detail });
        if let Some(line) = self.0.line {
            body["line"] = line.into();
        }
        body
    }
}

impl Pointed {
    fn to_json(&self) -> Value {
        match &self.at {
            At::Pointer(pointer) => json!({ "pointer": pointer, "detail": self.detail }),
            At::Parameter(name) => json!({ "parameter": name, "detail": self.detail }),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        self.worded(Errors::Problem)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.0.status.as_u16(), self.0.code, self.0.detail)?;
        match &self.0.source {
            Some(source) => write!(f, ": {source:#}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// The word of InfluxDB 2 for a status.
fn influx_code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not found",
        405 => "method not allowed",
        409 => "conflict",
        413 => "request too large",
        422 => "unprocessable entity",
        429 => "too many requests",
        503 => "unavailable",
        500.. => "internal error",
        _ => "invalid",
    }
}

/// A message as a header can carry it: visible ASCII, bounded.
fn header_text(message: &str) -> HeaderValue {
    let text: String = message.chars().take(HEADER_MESSAGE_BYTES).map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect();
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("error"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_and_where_and_never_why_it_broke() {
        let error = Error::bad_request("invalid_parameter", "a parameter cannot be read")
            .parameter("step", "not a duration")
            .source(anyhow::anyhow!("secret of the house"));
        let problem = error.problem();
        assert_eq!(problem["status"], 400);
        assert_eq!(problem["title"], "Bad Request");
        assert_eq!(problem["errors"], json!([{ "parameter": "step", "detail": "not a duration" }]));
        assert!(!problem.to_string().contains("secret") && error.to_string().contains("secret"));
    }

    #[test]
    fn members_are_added_to_a_problem() {
        let problem = Error::unprocessable("all_rejected", "nothing was accepted").member("received", 3).problem();
        assert_eq!((problem["received"].as_u64(), problem["status"].as_u64()), (Some(3), Some(422)));
    }

    #[test]
    fn only_the_first_hundred_places_are_listed() {
        let error = (0..1000).fold(Error::bad_request("x", "y"), |error, n| error.pointer(format!("/{n}"), "bad"));
        assert_eq!(error.errors().len(), MOST_LISTED);
    }

    #[test]
    fn influx_gets_its_own_form_with_an_integer_line() {
        let error = Error::bad_request("partial_write", "partial write: accepted 1, rejected 1: line 3: é\r\nbad").line(3);
        assert_eq!(error.influx_v2()["line"], 3);
        assert_eq!(error.influx_v2()["code"], "invalid");
        let response = error.worded(Errors::InfluxV1);
        assert_eq!(response.headers()["x-influxdb-error"], "partial write: accepted 1, rejected 1: line 3: ???bad");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    }

    #[test]
    fn a_header_takes_any_message() {
        let text: String = (0..2000u32).filter_map(char::from_u32).collect();
        assert_eq!(header_text(&text).len(), HEADER_MESSAGE_BYTES);
    }

    #[test]
    fn a_challenge_names_the_missing_scope() {
        let response = Error::insufficient_scope(crate::Scope::ReadStats).into_response();
        let challenge = response.headers()[WWW_AUTHENTICATE].to_str().unwrap();
        assert!(challenge.contains(r#"error="insufficient_scope", scope="read:stats""#));
        let silent = Error::no_credentials().into_response();
        assert_eq!(silent.headers()[WWW_AUTHENTICATE], r#"Bearer realm="headwater""#);
    }
}
