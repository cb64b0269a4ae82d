//! The grammar of line protocol: bytes to points.
//!
//! Owns: escapes, quotes, types, line ends. Does not know: devices, metrics, which times are taken.
//! Invariants: texts are borrowed from the body unless an escape must be undone; no more tags and fields are kept than may be;
//! the time is linear in the body.
//!
//! A line is cut by its grammar, not by its line end, because a quoted text may hold line ends. After an error the next line begins
//! at the first line end behind the place of the error; behind a quote that is never closed, at the end of the quote's own line.

use crate::number;
use crate::sink::{KEPT_TAGS, quoted};
use std::borrow::Cow;

/// What a point says.
#[derive(Debug)]
pub(super) struct Point<'a> {
    pub(super) measurement: Cow<'a, str>,
    pub(super) tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The fields that are numbers (infinite beyond f64), no more than `most`; all are counted.
    pub(super) fields: Vec<(Cow<'a, str>, f64)>,
    pub(super) n_numbers: u64,
    /// How many fields are texts.
    pub(super) n_texts: u64,
    /// The digits of its time.
    pub(super) time: Option<&'a str>,
    most: usize,
}

impl<'a> Point<'a> {
    pub(super) const fn new(most: usize) -> Self {
        Self { measurement: Cow::Borrowed(""), tags: Vec::new(), fields: Vec::new(), n_numbers: 0, n_texts: 0, time: None, most }
    }

    fn clear(&mut self) {
        self.tags.clear();
        self.fields.clear();
        (self.n_numbers, self.n_texts, self.time) = (0, 0, None);
    }

    /// Sorts the tags by name and refuses repeated ones.
    pub(super) fn sort_tags(&mut self) -> std::result::Result<(), String> {
        if self.tags.is_sorted_by(|a, b| a.0 < b.0) {
            return Ok(());
        }
        self.tags.sort_unstable();
        match self.tags.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(format!("the tag {} stands twice", quoted(&pair[0].0))),
            None => Ok(()),
        }
    }

    /// Takes the first of `names` that is a tag out of the tags.
    pub(super) fn take_tag(&mut self, names: &[String]) -> Option<Cow<'a, str>> {
        let at = names.iter().find_map(|name| self.tags.iter().position(|(tag, _)| tag == name))?;
        Some(self.tags.remove(at).1)
    }

    fn field(&mut self, name: Cow<'a, str>, value: Option<f64>) {
        let Some(value) = value else {
            self.n_texts += 1;
            return;
        };
        self.n_numbers += 1;
        if self.fields.len() < self.most {
            self.fields.push((name, value));
        }
    }
}

/// Why a line cannot be read, and where that shows.
#[derive(Debug)]
pub(super) struct Bad {
    pub(super) detail: String,
    at: usize,
}

/// Boxed, so that the results of the many small steps stay in registers.
pub(super) type Result<T> = std::result::Result<T, Box<Bad>>;

/// What a byte means within a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    Backslash,
    /// Ends a name, and can be part of it behind a backslash.
    Separator,
    /// Ends a name always.
    Control,
}

const fn classes(separators: &[u8]) -> [Class; 256] {
    let mut classes = [Class::Plain; 256];
    let mut byte = 0;
    while byte < 0x20 {
        classes[byte] = Class::Control;
        byte += 1;
    }
    classes[0x7f] = Class::Control;
    classes[b'\\' as usize] = Class::Backslash;
    let mut i = 0;
    while i < separators.len() {
        classes[separators[i] as usize] = Class::Separator;
        i += 1;
    }
    classes
}

const IN_MEASUREMENT: &[Class; 256] = &classes(b", ");
const IN_NAME: &[Class; 256] = &classes(b",= ");

/// Goes through a body point by point.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    body: &'a [u8],
    /// The part of the body that is known to be UTF-8.
    text: &'a str,
    at: usize,
    line: u64,
    /// Whether the line being read holds line ends within quotes.
    has_line_ends: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        let text = match std::str::from_utf8(body) {
            Ok(text) => text,
            Err(e) => std::str::from_utf8(&body[..e.valid_up_to()]).unwrap_or_default(),
        };
        // A byte order mark is what an editor leaves, never part of a measurement.
        let at = if body.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        Self { body, text, at, line: 1, has_line_ends: false }
    }

    /// The number of the line that is read, from 1.
    pub(super) const fn line(&self) -> u64 {
        self.line
    }

    /// Goes to the next line that is neither blank nor a comment, and says where it begins.
    pub(super) fn next_point(&mut self) -> Option<usize> {
        while self.at < self.body.len() {
            let start = self.at;
            self.spaces();
            if self.at_line_end() || self.peek() == Some(b'#') {
                self.finish_line(start, None);
            } else {
                return Some(start);
            }
        }
        None
    }

    /// Goes behind the end of the line that began at `start`, and says where that end is.
    pub(super) fn finish_line(&mut self, start: usize, bad: Option<&Bad>) -> usize {
        if let Some(bad) = bad {
            self.at = bad.at;
        }
        let rest = &self.body[self.at..];
        let end = self.at + memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        if std::mem::take(&mut self.has_line_ends) {
            self.line += memchr::memchr_iter(b'\n', &self.body[start..end]).count() as u64;
        }
        self.line += 1;
        self.at = (end + 1).min(self.body.len());
        if self.body[start..end].ends_with(b"\r") { end - 1 } else { end }
    }

    /// Reads the point that begins here, up to the end of its line.
    pub(super) fn read(&mut self, point: &mut Point<'a>) -> Result<()> {
        point.clear();
        point.measurement = self.name(IN_MEASUREMENT, "measurement")?;
        while self.take(b',') {
            let name = self.name(IN_NAME, "tag")?;
            self.equals_sign(&name)?;
            let value = self.name(IN_NAME, "tag value")?;
            if point.tags.len() < KEPT_TAGS {
                point.tags.push((name, value));
            }
        }
        if !self.spaces() {
            return Err(self.bad("no field behind the measurement and its tags"));
        }
        loop {
            let name = self.name(IN_NAME, "field")?;
            self.equals_sign(&name)?;
            let value = self.value(&name)?;
            point.field(name, value);
            if !self.take(b',') {
                break;
            }
        }
        if self.spaces() && !self.at_line_end() {
            point.time = Some(self.time()?);
            self.spaces();
        }
        if self.at_line_end() { Ok(()) } else { Err(self.bad("unexpected text behind the point")) }
    }

    /// A measurement, the name or the value of a tag, or the name of a field.
    #[inline(always)]
    fn name(&mut self, classes: &[Class; 256], what: &str) -> Result<Cow<'a, str>> {
        let (start, mut escaped) = (self.at, false);
        loop {
            self.run(|byte| classes[usize::from(byte)] == Class::Plain);
            if self.peek() != Some(b'\\') {
                break;
            }
            escaped |= self.backslashes(classes);
        }
        if self.at == start {
            return Err(self.bad(&format!("a {what} is empty")));
        }
        let Some(text) = self.text_from(start) else {
            return Err(self.bad(&format!("a {what} is not UTF-8")));
        };
        Ok(if escaped { Cow::Owned(unescaped(text, classes)) } else { Cow::Borrowed(text) })
    }

    /// Goes over a run of backslashes, and over the separator that it escapes; says whether there is one.
    fn backslashes(&mut self, classes: &[Class; 256]) -> bool {
        self.run(|byte| byte == b'\\');
        let escapes = self.peek().is_some_and(|byte| classes[usize::from(byte)] == Class::Separator);
        self.at += usize::from(escapes);
        escapes
    }

    /// The value of a field; `None` for a text.
    fn value(&mut self, field: &str) -> Result<Option<f64>> {
        if self.take(b'"') {
            self.quoted_text()?;
            return Ok(None);
        }
        let start = self.at;
        self.run(|byte| byte != b',' && byte > b' ');
        let text = self.text_from(start).unwrap_or_default();
        match unquoted(text) {
            Some(value) => Ok(Some(value)),
            None => Err(self.bad(&format!("the value {} of the field {} cannot be read", quoted(text), quoted(field)))),
        }
    }

    /// The text from `start` to here, where it is UTF-8.
    #[inline]
    fn text_from(&self, start: usize) -> Option<&'a str> {
        self.text.get(start..self.at).or_else(|| std::str::from_utf8(self.body.get(start..self.at)?).ok())
    }

    /// Goes behind the closing quote.
    fn quoted_text(&mut self) -> Result<()> {
        let start = self.at;
        loop {
            let rest = self.body.get(self.at..).unwrap_or_default();
            match memchr::memchr2(b'"', b'\\', rest) {
                Some(n) if rest[n] == b'"' => {
                    self.at += n + 1;
                    break;
                }
                Some(n) => self.at += n + 2,
                None => {
                    self.at = start;
                    return Err(self.bad("a quote is not closed"));
                }
            }
        }
        self.has_line_ends |= memchr::memchr(b'\n', &self.body[start..self.at]).is_some();
        Ok(())
    }

    fn time(&mut self) -> Result<&'a str> {
        let start = self.at;
        self.take(b'-');
        let digits = self.at;
        self.run(|byte| byte.is_ascii_digit());
        if self.at == digits || !(self.at_line_end() || self.peek() == Some(b' ')) {
            return Err(self.bad("the time is not an integer"));
        }
        self.text_from(start).ok_or_else(|| self.bad("the time is not an integer"))
    }

    /// Goes over the bytes that `within` takes.
    #[inline]
    fn run(&mut self, within: impl Fn(u8) -> bool) {
        let rest = self.body.get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(|&byte| !within(byte)).unwrap_or(rest.len());
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    #[inline]
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn spaces(&mut self) -> bool {
        let start = self.at;
        while self.take(b' ') {}
        self.at > start
    }

    fn at_line_end(&self) -> bool {
        matches!(&self.body[self.at..], [] | [b'\n', ..] | [b'\r'] | [b'\r', b'\n', ..])
    }

    #[inline]
    fn equals_sign(&mut self, behind: &str) -> Result<()> {
        if self.take(b'=') { Ok(()) } else { Err(self.bad(&format!("no = behind {}", quoted(behind)))) }
    }

    #[cold]
    fn bad(&self, detail: &str) -> Box<Bad> {
        Box::new(Bad { detail: detail.to_owned(), at: self.at })
    }
}

/// A run of n backslashes before a separator is n − 1 of them and the separator; any other backslash is itself.
fn unescaped(text: &str, classes: &[Class; 256]) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() && classes[c as usize] == Class::Separator {
            out.pop();
        }
        out.push(c);
    }
    out
}

/// A number or a boolean.
fn unquoted(text: &str) -> Option<f64> {
    let (first, last) = (*text.as_bytes().first()?, *text.as_bytes().last()?);
    match (first, last) {
        (b't' | b'T' | b'f' | b'F', _) => boolean(text),
        (b'-' | b'.' | b'0'..=b'9', b'i') => number::integer(&text[..text.len() - 1]).map(|n| n as f64),
        (b'0'..=b'9', b'u') => text[..text.len() - 1].parse::<u64>().ok().map(|n| n as f64),
        (b'-' | b'.' | b'0'..=b'9', _) => number::decimal(text),
        _ => None,
    }
}

fn boolean(text: &str) -> Option<f64> {
    match text {
        "t" | "T" | "true" | "True" | "TRUE" => Some(1.0),
        "f" | "F" | "false" | "False" | "FALSE" => Some(0.0),
        _ => None,
    }
}
