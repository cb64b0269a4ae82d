//! The shell around every request: what all routes have in common.
//!
//! Owns: request ids, the span of a request, the guard around bodies and its draining, the deadline of a request, panics, the wording of errors in the
//! form of their route, the one line of log for a request that failed, the one for every request where those are wanted, and the counting of requests.
//! Does not know: credentials (the gate is inside), handlers.
//! Invariants: every answer carries `X-Request-Id`; an answer to a body that nobody read goes out when the client can read it;
//! the source of an error stays here.

use crate::access::{Access, Errors, Route};
use crate::body::{self, Patience};
use crate::caller::{RequestId, Subject, Traced};
use crate::config::Config;
use crate::error::Error;
use crate::gate::allowed;
use crate::metrics::Requests;
use crate::panics::caught;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, Method, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use headwater_core::health::Health;
use headwater_core::trace::{Kind, Parent, Span};
use http_body::Body as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

/// The header of request ids.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The name under which every request is told, at the level debug: `headwater_web::requests=debug` in a filter.
const REQUESTS: &str = "headwater_web::requests";
/// The longest id that is taken from a client.
const LONGEST_ID: usize = 64;

pub(crate) struct Shell {
    routes: Arc<[Route]>,
    requests: Requests,
    patience: Patience,
    request_timeout: Duration,
    drain_bytes: usize,
    drain_timeout: Duration,
    /// Whether clients are asked to go elsewhere.
    health: Health,
}

/// What is kept of a request while its handler has it.
struct Asked {
    began: Instant,
    id: String,
    method: Method,
    version: Version,
    path: Option<MatchedPath>,
    awaits_continue: bool,
    since: Instant,
    span: Span,
}

/// Passes a request on and makes its answer fit to be sent.
pub(crate) async fn wrap(State(shell): State<Arc<Shell>>, mut request: Request, next: Next) -> Response {
    let mut asked = Asked::of(&request);
    asked.span = shell.span(&asked, request.headers());
    request.extensions_mut().insert(RequestId(asked.id.clone()));
    request.extensions_mut().insert(Traced(asked.span.context()));
    let (parts, body) = request.into_parts();
    let (body, remainder) = body::guard(body, shell.patience);
    let response = if is_framed(&parts.headers) {
        shell.answer(Request::from_parts(parts, body), next).await
    } else {
        drop(body);
        Error::bad_request("transfer_encoding", "the only Transfer-Encoding that is read here is `chunked`, once").closing().into_response()
    };
    let kept = remainder.drain(asked.awaits_continue, shell.drain_bytes, shell.drain_timeout).await;
    shell.finish(asked, response, kept)
}

impl Shell {
    /// `requests` counts those of `routes`, by their places.
    pub(crate) fn new(routes: Arc<[Route]>, requests: Requests, config: &Config, health: Health) -> Self {
        Self {
            routes,
            requests,
            patience: Patience::of(config),
            request_timeout: config.request_timeout,
            drain_bytes: config.drain_bytes,
            drain_timeout: config.drain_timeout,
            health,
        }
    }

    /// What comes of a request within its time, whatever its handler does.
    async fn answer(&self, request: Request, next: Next) -> Response {
        match caught(timeout(self.request_timeout, next.run(request))).await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => Error::busy("timed_out", "the request took too long", 1).into_response(),
            Err(panic) => Error::internal(panic).into_response(),
        }
    }

    /// The route of a request, or one with the same path where the method has none.
    fn route(&self, asked: &Asked) -> Option<&Route> {
        let path = asked.path.as_ref()?.as_str();
        let mut same_path = self.routes.iter().filter(|route| route.path == path).peekable();
        let first = same_path.peek().copied();
        same_path.find(|route| route.takes(asked.method.as_str())).or(first)
    }

    /// The place of a request's own line in the table.
    fn place(&self, asked: &Asked) -> Option<usize> {
        let path = asked.path.as_ref()?.as_str();
        self.routes.iter().position(|route| route.path == path && route.takes(asked.method.as_str()))
    }

    /// The span of a request, as part of what it says that it is part of. What anyone may ask (probes) is nobody's work.
    fn span(&self, asked: &Asked, headers: &HeaderMap) -> Span {
        let Some(route) = self.route(asked).filter(|route| route.access != Access::Public) else { return Span::default() };
        let parent = headers.get("traceparent").and_then(|text| Parent::parse(text.to_str().ok()?));
        let mut span = Span::of_parent("request", Kind::Server, parent);
        span.set("http.request.method", route.method);
        span.set("http.route", route.path);
        span
    }

    fn finish(&self, mut asked: Asked, response: Response, kept: bool) -> Response {
        let route = self.route(&asked).copied();
        let form = route.map_or(Errors::Problem, |route| route.errors);
        let response = self.own_words(&asked, response);
        self.requests.ended(self.place(&asked), &response, asked.began.elapsed());
        asked.span.set("http.response.status_code", usize::from(response.status().as_u16()));
        if response.status().is_server_error() {
            asked.span.fail();
        }
        log(&asked, route.as_ref(), &response);
        let asked = &asked;
        let closes = !kept || self.health.is_stopping() || response.extensions().get::<Error>().is_some_and(Error::closes);
        let mut response = in_form(response, form);
        if form.are_influx() {
            response.headers_mut().insert("x-influxdb-version", HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
            response.headers_mut().insert("x-influxdb-build", HeaderValue::from_static("Headwater"));
        }
        if let Ok(id) = HeaderValue::from_str(&asked.id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        // What devices sent is data wherever it is shown, and never a page.
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if closes && asked.version < Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if asked.method == Method::HEAD { without_body(response) } else { response }
    }

    /// The router's own 405, for a route of the table that a face does not have, in our words.
    fn own_words(&self, asked: &Asked, response: Response) -> Response {
        if response.status() != StatusCode::METHOD_NOT_ALLOWED || response.extensions().get::<Error>().is_some() {
            return response;
        }
        let path = asked.path.as_ref().map_or("", MatchedPath::as_str);
        Error::method_not_allowed(&allowed(&self.routes, path)).into_response()
    }
}

impl Asked {
    fn of(request: &Request) -> Self {
        Self {
            began: Instant::now(),
            id: request_id(request.headers()),
            method: request.method().clone(),
            version: request.version(),
            path: request.extensions().get::<MatchedPath>().cloned(),
            since: Instant::now(),
            span: Span::default(),
            awaits_continue: request.headers().get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")),
        }
    }
}

/// Whether the body came in no other coding than the chunks that the listener has taken off: what is under another one would be
/// taken for something else by whoever stands in front.
fn is_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// The client's id where it is sane: it goes into the log and back out.
fn request_id(headers: &HeaderMap) -> String {
    let sent = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| is_sane(id));
    sent.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

fn is_sane(id: &str) -> bool {
    (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// An error in the words of its route.
fn in_form(response: Response, form: Errors) -> Response {
    match response.extensions().get::<Error>() {
        Some(error) if form != Errors::Problem => error.worded(form),
        _ => response,
    }
}

/// One line for each request that failed. Probes that say "not ready" did not fail.
fn log(asked: &Asked, route: Option<&Route>, response: &Response) {
    let status = response.status();
    let error = response.extensions().get::<Error>();
    if are_told() {
        tell(asked, route, response);
    }
    let public = route.is_none_or(|route| route.access == Access::Public);
    if !status.is_server_error() || (public && error.is_none()) {
        return;
    }
    let (id, method, status) = (asked.id.as_str(), asked.method.as_str(), status.as_u16());
    let path = route.map_or("", |route| route.path);
    let cause = error.map(ToString::to_string).unwrap_or_default();
    if status == 503 {
        // Busy is a state that passes; the client was told to come again.
        tracing::warn!(request.id = id, method, path, status, cause, "put off a request");
    } else {
        tracing::error!(request.id = id, method, path, status, cause, "could not answer a request");
    }
}

/// Whether every request is told.
pub(crate) fn are_told() -> bool {
    tracing::enabled!(target: REQUESTS, tracing::Level::DEBUG)
}

/// One line for a request. The template of its route and never its path or query: those hold names, and InfluxDB's tokens.
fn tell(asked: &Asked, route: Option<&Route>, response: &Response) {
    let took = asked.since.elapsed().as_secs_f64() * 1000.0;
    let trace = asked.span.context().map(|context| format!("{:032x}", context.trace_id));
    let subject = response.extensions().get::<Subject>().map(|subject| subject.0.as_str());
    tracing::debug!(
        target: REQUESTS,
        {
            request.id = asked.id,
            method = asked.method.as_str(),
            path = route.map(|route| route.path),
            status = response.status().as_u16(),
            took_ms = (took * 1000.0).round() / 1000.0,
            subject,
            trace.id = trace,
        },
        "answered a request"
    );
}

/// The answer to HEAD: the head of GET's.
fn without_body(mut response: Response) -> Response {
    let length = response.body().size_hint().exact();
    if let Some(length) = length.filter(|length| *length > 0 && !response.headers().contains_key(CONTENT_LENGTH)) {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    *response.body_mut() = Body::empty();
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_request_id_is_kept_and_another_replaced() {
        let kept = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(id).unwrap());
            request_id(&headers) == id
        };
        assert!(kept("a") && kept("b7ad6b71-6920.x_Y") && kept(&"a".repeat(64)));
        for id in ["", " ", "a b", "a/b", "a\tb", "<a>", &"a".repeat(65)] {
            assert!(!kept(id), "{id:?}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
