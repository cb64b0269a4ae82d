//! Answers as bytes: JSON and CSV written straight into a buffer, their entity tag and headers, 304.
//!
//! Owns: [`Json`] and [`Csv`] (small writers), [`Answer`] and how it is sent. Does not know: what is in a row.
//!
//! Invariants: the entity tag is a hash of the bytes; an answer's memory stays reserved until its last byte is sent; numbers
//! are the shortest decimals that read as the same f64; what cannot be a number is null (JSON) or empty (CSV).

use crate::engine::Room;
use crate::failure::Result;
use crate::metrics::Rows;
use crate::params::Format;
use axum::Extension;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use headwater_core::time::Timestamp;
use headwater_web::Error;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// Who may keep an answer, and what it depends on besides the address.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("private, no-cache");
const VARY: HeaderValue = HeaderValue::from_static("Authorization, Accept, Accept-Encoding");

/// An answer that is written in full.
pub(crate) struct Answer {
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// How they are written.
    pub(crate) format: Format,
    /// How many rows it has.
    pub(crate) n_rows: usize,
    /// Where the next page is.
    pub(crate) next: Option<String>,
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

impl Answer {
    /// The response: 200, or 304 when the client has these bytes already.
    pub(crate) fn into_response(self, request: &HeaderMap, mut room: Room) -> Result<Response> {
        let hash = Sha256::digest(&self.bytes);
        let mut tag = String::from("\"");
        for byte in &hash[..16] {
            write!(tag, "{byte:02x}").map_err(Error::internal)?;
        }
        tag.push('"');
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
        headers.insert(header::VARY, VARY);
        headers.insert(header::ETAG, HeaderValue::try_from(tag.as_str()).map_err(Error::internal)?);
        if is_known(request, &tag) {
            return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
        }
        headers.insert(header::CONTENT_TYPE, self.format.media_type());
        if let Some(next) = &self.next {
            let link = format!("<{next}>; rel=\"next\"");
            headers.insert(header::LINK, HeaderValue::try_from(link).map_err(Error::internal)?);
        }
        room.shrink_to(self.bytes.capacity());
        let body = Bytes::from_owner(Held { bytes: self.bytes, _room: room });
        Ok((headers, Extension(Rows(self.n_rows)), Body::from(body)).into_response())
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

/// Writes JSON member by member; the writer of a row says what stands where.
#[derive(Debug, Default)]
pub(crate) struct Json {
    out: Vec<u8>,
    /// Whether the next member or item needs a comma before it.
    needs_comma: bool,
}

impl Json {
    /// An empty text with room for `bytes`.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes), needs_comma: false }
    }

    /// Opens an object or a list.
    pub(crate) fn open(&mut self, bracket: u8) {
        self.comma();
        self.out.push(bracket);
        self.needs_comma = false;
    }

    /// Closes an object or a list.
    pub(crate) fn close(&mut self, bracket: u8) {
        self.out.push(bracket);
        self.needs_comma = true;
    }

    /// The name of the next member.
    pub(crate) fn name(&mut self, name: &str) {
        self.value(name);
        self.out.push(b':');
        self.needs_comma = false;
    }

    /// A value: the next member's or the next item.
    pub(crate) fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        self.comma();
        put_json(&mut self.out, value);
        self.needs_comma = true;
    }

    /// A member.
    pub(crate) fn member<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        self.name(name);
        self.value(value);
    }

    /// A member that is a time, which needs no escaping.
    pub(crate) fn time(&mut self, name: &str, time: Timestamp) {
        self.name(name);
        self.out.extend_from_slice(format!("\"{time}\"").as_bytes());
        self.needs_comma = true;
    }

    /// A member that is a time, or null.
    pub(crate) fn time_or_null(&mut self, name: &str, time: Option<Timestamp>) {
        match time {
            Some(time) => self.time(name, time),
            None => self.member(name, &None::<&str>),
        }
    }

    /// A member that is an object of tags.
    pub(crate) fn tags<'a>(&mut self, tags: impl Iterator<Item = (&'a str, Option<&'a str>)>) {
        self.name("tags");
        self.open(b'{');
        tags.for_each(|(name, value)| self.member(name, &value));
        self.close(b'}');
    }

    /// Closes the list `rows` and the document, with the cursor of the next page.
    pub(crate) fn end_of_rows(mut self, next: Option<&str>) -> Vec<u8> {
        self.close(b']');
        self.member("next_cursor", &next);
        self.close(b'}');
        self.out.push(b'\n');
        self.out
    }

    /// Its bytes.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.out.push(b'\n');
        self.out
    }

    fn comma(&mut self) {
        if std::mem::take(&mut self.needs_comma) {
            self.out.push(b',');
        }
    }
}

/// Writes a value as serde_json does. Texts, numbers and options of them cannot fail, and memory does not either.
fn put_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    if let Err(error) = serde_json::to_writer(out, value) {
        tracing::error!(%error, "cannot write a value as JSON");
    }
}

/// Whether cells are meant for a spreadsheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// A text that a spreadsheet would take for a formula gets an apostrophe before it.
    Formulas,
    /// Texts stay as they are, so that they can be sent back.
    Nothing,
}

/// Writes CSV (RFC 4180: comma, CRLF, quotes where needed, UTF-8) cell by cell.
#[derive(Debug)]
pub(crate) struct Csv {
    out: Vec<u8>,
    guard: Guard,
    needs_comma: bool,
}

impl Csv {
    /// An empty text with room for `bytes`.
    pub(crate) fn with_capacity(bytes: usize, guard: Guard) -> Self {
        Self { out: Vec::with_capacity(bytes), guard, needs_comma: false }
    }

    /// A cell with a text.
    pub(crate) fn text(&mut self, text: &str) {
        self.comma();
        let guard = self.guard == Guard::Formulas && text.starts_with(['=', '+', '-', '@', '\t', '\r']);
        let quotes = text.contains([',', '"', '\r', '\n']) || text.starts_with(' ') || text.ends_with(' ');
        if quotes {
            self.out.push(b'"');
        }
        if guard {
            self.out.push(b'\'');
        }
        for byte in text.bytes() {
            self.out.push(byte);
            if byte == b'"' {
                self.out.push(byte);
            }
        }
        if quotes {
            self.out.push(b'"');
        }
    }

    /// A cell with a number.
    pub(crate) fn number<T: Serialize>(&mut self, number: T) {
        self.comma();
        put_json(&mut self.out, &number);
    }

    /// A cell with a number, or an empty one.
    pub(crate) fn number_or_empty(&mut self, number: Option<f64>) {
        match number {
            Some(number) => self.number(number),
            None => self.empty(),
        }
    }

    /// A cell with a time.
    pub(crate) fn time(&mut self, time: Timestamp) {
        self.comma();
        self.out.extend_from_slice(time.to_string().as_bytes());
    }

    /// An empty cell.
    pub(crate) fn empty(&mut self) {
        self.comma();
    }

    /// Ends the line.
    pub(crate) fn end_line(&mut self) {
        self.out.extend_from_slice(b"\r\n");
        self.needs_comma = false;
    }

    /// Its bytes.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    fn comma(&mut self) {
        if std::mem::replace(&mut self.needs_comma, true) {
            self.out.push(b',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_in_lists_weak_and_strong() {
        let cases = [("\"a\"", true), ("W/\"a\"", true), ("\"b\", \"a\"", true), ("*", true), ("\"b\"", false), ("a", false), ("", false)];
        for (known, expected) in cases {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(known))]);
            assert_eq!(is_known(&headers, "\"a\""), expected, "{known}");
        }
    }

    #[test]
    fn cells_are_quoted_and_guarded() {
        let line = |guard| {
            let mut csv = Csv::with_capacity(0, guard);
            ["a", "a,b", "say \"x\"", "=1+2", "-4", "@x", " y", "2\n3"].iter().for_each(|text| csv.text(text));
            csv.empty();
            csv.number(-23.0);
            csv.end_line();
            String::from_utf8(csv.into_bytes()).unwrap()
        };
        assert_eq!(line(Guard::Formulas), "a,\"a,b\",\"say \"\"x\"\"\",'=1+2,'-4,'@x,\" y\",\"2\n3\",,-23.0\r\n");
        assert_eq!(line(Guard::Nothing), "a,\"a,b\",\"say \"\"x\"\"\",=1+2,-4,@x,\" y\",\"2\n3\",,-23.0\r\n");
    }

    #[test]
    fn json_has_commas_where_they_belong() {
        let mut json = Json::default();
        json.open(b'{');
        json.time("from", Timestamp(0));
        json.name("rows");
        json.open(b'[');
        for value in [1.0, f64::NAN, 1e300] {
            json.open(b'{');
            json.member("v", &value);
            json.tags([("a\"", Some("1")), ("b", None)].into_iter());
            json.close(b'}');
        }
        let bytes = json.end_of_rows(Some("x"));
        let tags = r#""tags":{"a\"":"1","b":null}"#;
        let rows = format!(r#"{{"v":1.0,{tags}}},{{"v":null,{tags}}},{{"v":1e+300,{tags}}}"#);
        let expected = format!("{{\"from\":\"1970-01-01T00:00:00Z\",\"rows\":[{rows}],\"next_cursor\":\"x\"}}\n");
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }
}
