//! Cuts a CSV into rows and fields.
//!
//! Owns: quotes, line ends, line numbers. Does not know: what the fields mean.
//! Invariants: a field is borrowed from the body unless doubled quotes must be undone; no more fields are kept than asked for,
//! whatever the line holds; the time is linear in the body.
//!
//! A row that cannot be read ends at its first line end, so that a stray quote costs one line and not the rest of the body.

use std::borrow::Cow;
use std::ops::Range;

/// A row: where it is, and how many fields it has.
#[derive(Debug)]
pub(super) struct Row {
    /// The line on which it begins, from 1.
    pub(super) line: u64,
    /// Its bytes, without the line end.
    pub(super) span: Range<usize>,
    /// The number of fields, or why it has none.
    pub(super) read: Result<usize, &'static str>,
}

/// Goes through the rows that are not blank.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    body: &'a [u8],
    /// The part of the body that is known to be UTF-8.
    text: &'a str,
    at: usize,
    line: u64,
    /// Where the first quote at or behind `at` is, or the end.
    quote: usize,
}

impl<'a> Rows<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        let at = if body.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let text = match std::str::from_utf8(body) {
            Ok(text) => text,
            Err(e) => std::str::from_utf8(&body[..e.valid_up_to()]).unwrap_or_default(),
        };
        Self { body, text, at, line: 1, quote: memchr::memchr(b'"', body).unwrap_or(body.len()) }
    }

    /// The next row; its fields replace those in `fields`, at most `most` and one more.
    pub(super) fn next(&mut self, fields: &mut Vec<Cow<'a, str>>, most: usize) -> Option<Row> {
        fields.clear();
        loop {
            let rest = self.body.get(self.at..).filter(|rest| !rest.is_empty())?;
            let end = self.at + memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = without_cr(&self.body[self.at..end]);
            if !line.is_empty() {
                let is_plain = end <= self.quote;
                return Some(if is_plain { self.plain(fields, most, line, end) } else { self.quoted(fields, most, end) });
            }
            self.go_to(end, 1);
        }
    }

    fn go_to(&mut self, line_end: usize, n_lines: u64) {
        self.at = line_end + 1;
        self.line += n_lines;
        if self.at > self.quote {
            let rest = self.body.get(self.at..).unwrap_or_default();
            self.quote = self.at + memchr::memchr(b'"', rest).unwrap_or(rest.len());
        }
    }

    /// A line without a quote: commas are all there is.
    fn plain(&mut self, fields: &mut Vec<Cow<'a, str>>, most: usize, line: &'a [u8], end: usize) -> Row {
        let span = self.at..self.at + line.len();
        let text = self.text.get(span.clone()).or_else(|| std::str::from_utf8(line).ok());
        let row = Row { line: self.line, span, read: text.map(|text| split(text, fields, most)).ok_or(NOT_UTF_8) };
        self.go_to(end, 1);
        row
    }

    /// A line with a quote, which may go on over several lines.
    #[cold]
    fn quoted(&mut self, fields: &mut Vec<Cow<'a, str>>, most: usize, first_end: usize) -> Row {
        let (line, start) = (self.line, self.at);
        match self.quoted_fields(fields, most) {
            Ok((end, n_fields)) => {
                let span = start..start + without_cr(&self.body[start..end]).len();
                let n_lines = memchr::memchr_iter(b'\n', &self.body[start..end]).count() as u64 + 1;
                self.go_to(end, n_lines);
                Row { line, span, read: Ok(n_fields) }
            }
            Err(detail) => {
                self.go_to(first_end, 1);
                let span = start..start + without_cr(&self.body[start..first_end]).len();
                Row { line, span, read: Err(detail) }
            }
        }
    }

    /// The fields from `self.at` on: where the row ends, and how many they are.
    fn quoted_fields(&self, fields: &mut Vec<Cow<'a, str>>, most: usize) -> Result<(usize, usize), &'static str> {
        let (mut at, mut n_fields) = (self.at, 0);
        loop {
            let (field, end) = if self.body.get(at) == Some(&b'"') { quoted_field(self.body, at)? } else { plain_field(self.body, at)? };
            n_fields += 1;
            if fields.len() <= most {
                fields.push(field);
            }
            match self.body.get(end) {
                Some(b',') => at = end + 1,
                Some(b'\r') => return Ok((end + 1, n_fields)),
                _ => return Ok((end, n_fields)),
            }
        }
    }
}

fn split<'a>(text: &'a str, fields: &mut Vec<Cow<'a, str>>, most: usize) -> usize {
    let (mut start, mut n_fields) = (0, 1);
    for comma in memchr::memchr_iter(b',', text.as_bytes()) {
        n_fields += 1;
        if fields.len() <= most {
            fields.push(Cow::Borrowed(&text[start..comma]));
        }
        start = comma + 1;
    }
    fields.push(Cow::Borrowed(&text[start..]));
    n_fields
}

const NOT_UTF_8: &str = "the line is not UTF-8";

fn plain_field(body: &[u8], start: usize) -> Result<(Cow<'_, str>, usize), &'static str> {
    let rest = &body[start..];
    let n = memchr::memchr2(b',', b'\n', rest).unwrap_or(rest.len());
    let field = if rest.get(n) == Some(&b',') { &rest[..n] } else { without_cr(&rest[..n]) };
    Ok((Cow::Borrowed(std::str::from_utf8(field).map_err(|_| NOT_UTF_8)?), start + field.len()))
}

/// The field whose opening quote is at `start`, and where it ends.
fn quoted_field(body: &[u8], start: usize) -> Result<(Cow<'_, str>, usize), &'static str> {
    let (mut at, mut doubled) = (start + 1, false);
    let close = loop {
        let quote = at + memchr::memchr(b'"', &body[at..]).ok_or("a quote is not closed")?;
        if body.get(quote + 1) != Some(&b'"') {
            break quote;
        }
        doubled = true;
        at = quote + 2;
    };
    if !matches!(&body[close + 1..], [] | [b',' | b'\n', ..] | [b'\r'] | [b'\r', b'\n', ..]) {
        return Err("a closing quote is followed by text");
    }
    let inner = std::str::from_utf8(&body[start + 1..close]).map_err(|_| NOT_UTF_8)?;
    Ok((if doubled { Cow::Owned(inner.replace("\"\"", "\"")) } else { Cow::Borrowed(inner) }, close + 1))
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
