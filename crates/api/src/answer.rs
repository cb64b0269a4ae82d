//! Answers: their entity tag, 304, and only then their bytes, JSON or CSV, with headers.
//!
//! Owns: [`Answer`] and how it is sent, [`Out`] (where it is written to). Does not know: what is in a row.
//!
//! Invariants: the entity tag is a hash of what the answer says and is known before a byte of it is written, so a 304 costs no encoding and no
//! memory for a text; the same answer has the same tag and the same bytes; its memory stays reserved until its last byte is sent.

mod csv;
mod json;
mod tag;
#[cfg(test)]
mod tests;

pub(crate) use csv::{Csv, Guard};
pub(crate) use json::Json;
pub(crate) use tag::Tag;

use crate::engine::{Room, off_the_workers};
use crate::failure::Result;
use crate::metrics::Rows;
use crate::params::Format;
use axum::Extension;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use headwater_web::Error;
use serde::Serialize;

/// Who may keep an answer, and what it depends on besides the address.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("private, no-cache");
const VARY: HeaderValue = HeaderValue::from_static("Authorization, Accept, Accept-Encoding");

/// An answer that is known in full and not written.
pub(crate) struct Answer<W> {
    /// Writes it, as often as it is called in the same way.
    pub(crate) write: W,
    /// What it is written as.
    pub(crate) format: Format,
    /// How much work writing it is.
    pub(crate) n_rows: usize,
    /// Memory of what it is written from, in bytes.
    pub(crate) held_bytes: usize,
    /// About how long its text becomes at most, in bytes.
    pub(crate) text_bytes: usize,
    /// The address of the next page.
    pub(crate) next: Option<String>,
}

/// Where an answer is written to.
#[derive(Debug)]
pub(crate) enum Out<'a> {
    /// Its text.
    Text(&'a mut Vec<u8>),
    /// Its tag alone.
    Tag(&'a mut Tag),
}

/// A value of an answer: serde writes its text, and [`Value::note`] its form in a tag. Two values of which one may stand in the place of the
/// other are noted alike exactly where they are written alike.
pub(crate) trait Value: Serialize {
    /// Notes it in a tag.
    fn note(&self, tag: &mut Tag);
}

impl Value for str {
    fn note(&self, tag: &mut Tag) {
        tag.text(self);
    }
}

impl Value for String {
    fn note(&self, tag: &mut Tag) {
        tag.text(self);
    }
}

impl Value for f64 {
    fn note(&self, tag: &mut Tag) {
        // JSON has no other numbers.
        if self.is_finite() { tag.float(*self) } else { tag.null() }
    }
}

impl Value for u64 {
    fn note(&self, tag: &mut Tag) {
        tag.whole(*self);
    }
}

impl Value for u32 {
    fn note(&self, tag: &mut Tag) {
        tag.whole(u64::from(*self));
    }
}

impl<T: Value> Value for Option<T> {
    fn note(&self, tag: &mut Tag) {
        match self {
            Some(value) => value.note(tag),
            None => tag.null(),
        }
    }
}

impl<T: Value + ?Sized> Value for &T {
    fn note(&self, tag: &mut Tag) {
        T::note(self, tag);
    }
}

impl<T: Value> Value for [T] {
    fn note(&self, tag: &mut Tag) {
        tag.mark(b'[');
        self.iter().for_each(|value| value.note(tag));
        tag.mark(b']');
    }
}

/// Writes a value as serde_json does. Texts, numbers and options of them cannot fail, and memory does not either.
fn put_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    if let Err(error) = serde_json::to_writer(out, value) {
        tracing::error!(%error, "cannot write a value as JSON");
    }
}

/// Bytes that hold their share of the budget until they are sent.
struct Held {
    bytes: Vec<u8>,
    _room: Room,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<W: Fn(Out<'_>) + Send + 'static> Answer<W> {
    /// The response: 304 when the client has this answer already, else 200 with its text.
    pub(crate) async fn into_response(self, request: &HeaderMap, mut room: Room) -> Result<Response> {
        room.hold(self.held_bytes).await?;
        let (answer, tag) = off_the_workers(self.n_rows, move || {
            let tag = self.tag();
            (self, tag)
        })
        .await?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
        headers.insert(header::VARY, VARY);
        headers.insert(header::ETAG, HeaderValue::try_from(tag.as_str()).map_err(Error::internal)?);
        if is_known(request, &tag) {
            return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
        }
        headers.insert(header::CONTENT_TYPE, answer.format.media_type());
        if let Some(next) = &answer.next {
            let link = format!("<{next}>; rel=\"next\"");
            headers.insert(header::LINK, HeaderValue::try_from(link).map_err(Error::internal)?);
        }
        room.hold(answer.held_bytes + answer.text_bytes).await?;
        let n_rows = answer.n_rows;
        let bytes = off_the_workers(n_rows, move || answer.text()).await?;
        room.shrink_to(bytes.capacity());
        let body = Bytes::from_owner(Held { bytes, _room: room });
        Ok((headers, Extension(Rows(n_rows)), Body::from(body)).into_response())
    }

    fn tag(&self) -> String {
        let mut tag = Tag::new(self.format);
        (self.write)(Out::Tag(&mut tag));
        tag.finish(self.next.as_deref())
    }

    /// Its bytes; what it was written from is gone.
    fn text(self) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.text_bytes);
        (self.write)(Out::Text(&mut text));
        text
    }
}

impl Format {
    const fn media_type(self) -> HeaderValue {
        match self {
            Self::Json => HeaderValue::from_static("application/json"),
            Self::Csv => HeaderValue::from_static("text/csv; charset=utf-8; header=present"),
        }
    }
}

/// Whether `If-None-Match` names the tag (weakly compared, as RFC 9110 §13.1.2 asks) or is `*`.
fn is_known(request: &HeaderMap, tag: &str) -> bool {
    let lists = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim).any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}
