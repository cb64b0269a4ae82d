//! The API as a document, and the page that shows it: `/openapi.json`, `/docs` and what the page loads.
//!
//! Owns: those routes, the entity tags of what never changes while the process runs. Does not know: what is in the document (its
//! parts lie in `openapi/`, put together by `openapi`) or on the page (`page/`).
//! Invariants: every process sends the same bytes, whatever roles run in it; the page loads nothing from anywhere else, and its
//! policy lets no other script run.

mod openapi;

use crate::error::Error;
use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use std::fmt::Write as _;
use std::sync::LazyLock;

/// Always asked for again, and mostly answered 304: another version of the program has another page at the same place.
const CACHED: &str = "no-cache";
/// What the page may do: load and ask this server, nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

static OPENAPI: LazyLock<Option<Document>> = LazyLock::new(|| match openapi::assembled() {
    Ok(document) => Some(Document::new("application/json", document.to_string())),
    Err(error) => {
        tracing::error!(%error, "a part of the API's document is no JSON");
        None
    }
});
static PAGE: LazyLock<Document> = LazyLock::new(|| Document::new("text/html; charset=utf-8", include_str!("../page/page.html")));
static STYLE: LazyLock<Document> = LazyLock::new(|| Document::new("text/css; charset=utf-8", include_str!("../page/page.css")));
static SCRIPT: LazyLock<Document> = LazyLock::new(|| Document::new("text/javascript; charset=utf-8", include_str!("../page/page.js")));

/// The routes, the same in every process.
pub(crate) fn routes() -> Router {
    Router::new()
        .route("/openapi.json", get(openapi))
        .route("/docs", get(page))
        .route("/docs/page.css", get(|headers: HeaderMap| async move { STYLE.answer(&headers) }))
        .route("/docs/page.js", get(|headers: HeaderMap| async move { SCRIPT.answer(&headers) }))
}

async fn openapi(headers: HeaderMap) -> Result<Response, Error> {
    let document = OPENAPI.as_ref().ok_or_else(|| Error::internal(anyhow::anyhow!("the API's document could not be put together")))?;
    Ok(document.answer(&headers))
}

async fn page(headers: HeaderMap) -> Response {
    let policies = [(CONTENT_SECURITY_POLICY, POLICY), (REFERRER_POLICY, "no-referrer")];
    (policies, PAGE.answer(&headers)).into_response()
}

/// Bytes that stay the same while the process runs.
struct Document {
    media: &'static str,
    bytes: Bytes,
    /// With its quotes.
    tag: String,
}

impl Document {
    fn new(media: &'static str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let mut tag = String::from("\"");
        for byte in &digest(&SHA256, &bytes).as_ref()[..16] {
            // Writing to a String does not fail.
            let written = write!(tag, "{byte:02x}");
            debug_assert!(written.is_ok());
        }
        tag.push('"');
        Self { media, bytes, tag }
    }

    /// 200, or 304 when the client has it.
    fn answer(&self, request: &HeaderMap) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(CACHED));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(tag) = HeaderValue::try_from(&self.tag) {
            headers.insert(ETAG, tag);
        }
        if self.is_known(request) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.media));
        (headers, self.bytes.clone()).into_response()
    }

    /// Whether `If-None-Match` names it (weakly compared, RFC 9110 §13.1.2) or is `*`.
    fn is_known(&self, request: &HeaderMap) -> bool {
        let lists = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
        tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.tag)
    }
}
