//! The query string of every `/v1` route, read strictly.
//!
//! Owns: [`Params`] (percent-decoding, repeats, unknown names, every problem reported at once) and the readers of what several
//! routes share: series, range, page, format. Does not know: what a route does with them.
//! Invariants: a parameter that nobody asked for is a problem; a value is never guessed at; the caller's device patterns are
//! in every filter and in the identity that cursors carry.

pub(crate) mod time;

use crate::cursor::{self, Cursor};
use crate::failure::Result;
use axum::http::{HeaderMap, StatusCode, header::ACCEPT};
use headwater_core::filter::SeriesFilter;
use headwater_core::glob::{DevicePatterns, Glob};
use headwater_core::series::SeriesKey;
use headwater_core::time::{TimeRange, Timestamp};
use headwater_web::{Caller, Error};
use sha2::{Digest, Sha256};

/// Most rows of a page.
pub(crate) const MOST_ROWS: usize = 100_000;
/// How much of a wrong value is told back.
const SHOWN_CHARS: usize = 60;
/// Parameters that choose how an answer is cut and written, not what it is about: a cursor outlives their change.
const NOT_IDENTITY: [&str; 5] = ["cursor", "limit", "format", "from", "to"];

/// The decoded parameters of one request, and what is wrong with them so far.
pub(crate) struct Params {
    route: &'static str,
    pairs: Vec<Pair>,
    problems: Vec<(String, String)>,
}

struct Pair {
    name: String,
    value: String,
    taken: bool,
}

/// Where a page begins and how long it is.
pub(crate) struct Page {
    /// Most rows.
    pub(crate) limit: usize,
    /// Where it goes on, with the range that was resolved at the first page.
    pub(crate) cursor: Option<Cursor>,
    identity: cursor::Identity,
    /// How this request, or the first page, wrote its range.
    texts: cursor::RangeTexts,
    /// The path and query of this request without its cursor.
    link: String,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `application/json`.
    Json,
    /// `text/csv`.
    Csv,
}

impl Page {
    /// The cursor of the page after this one, whose last row has `key` and `time`.
    pub(crate) fn cursor_after(&self, from: Option<Timestamp>, to: Option<Timestamp>, key: String, time: Option<Timestamp>) -> String {
        Cursor { from, to, texts: self.texts, key, time }.encode(self.identity)
    }

    /// The address of the page that begins at `cursor`.
    pub(crate) fn link_to(&self, cursor: &str) -> String {
        format!("{}cursor={cursor}", self.link)
    }

    /// The series that a cursor of a list of series stands at.
    pub(crate) fn after_series(&self, params: &mut Params) -> Option<SeriesKey> {
        let cursor = self.cursor.as_ref()?;
        let key = SeriesKey::parse(&cursor.key).ok();
        if key.is_none() {
            params.wrong("cursor", "is not a cursor of this route");
        }
        key
    }
}

impl Params {
    /// Decodes a raw query string as forms write it (`+` is a space). Pairs that cannot be decoded are problems.
    pub(crate) fn decode(route: &'static str, raw: Option<&str>) -> Self {
        let mut params = Self { route, pairs: Vec::new(), problems: Vec::new() };
        for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (percent_decoded(name), percent_decoded(value)) {
                (Some(name), Some(value)) => params.pairs.push(Pair { name, value, taken: false }),
                (name, _) => params.wrong(name.as_deref().unwrap_or(name_shown(pair)), "is not percent-encoded UTF-8"),
            }
        }
        params
    }

    /// The value of a parameter that may come once.
    pub(crate) fn one(&mut self, name: &str) -> Option<String> {
        let mut values = self.many(name);
        if values.len() > 1 {
            self.wrong(name, "is given more than once");
        }
        values.drain(..).next()
    }

    /// The values of a parameter that may come any number of times.
    pub(crate) fn many(&mut self, name: &str) -> Vec<String> {
        let of_name = self.pairs.iter_mut().filter(|pair| pair.name == name);
        of_name
            .map(|pair| {
                pair.taken = true;
                pair.value.clone()
            })
            .collect()
    }

    /// Notes that a parameter is wrong.
    pub(crate) fn wrong(&mut self, name: &str, detail: impl Into<String>) {
        self.problems.push((name.to_owned(), detail.into()));
    }

    /// Reads a parameter that may come once with `read`; a value that it refuses is a problem, told as `expected`.
    pub(crate) fn read<T>(&mut self, name: &str, expected: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.one(name)?;
        let value = read(&text);
        if value.is_none() {
            self.wrong(name, format!("`{}` is not {expected}", shown(&text)));
        }
        value
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// 400 with everything that is wrong, parameters that nobody asked for included.
    pub(crate) fn finish(mut self) -> Result<()> {
        let unknown: Vec<String> = self.pairs.iter().filter(|pair| !pair.taken).map(|pair| shown(&pair.name)).collect();
        for name in unknown {
            self.wrong(&name, "is not a parameter of this route");
        }
        let [first, ..] = &self.problems[..] else { return Ok(()) };
        let detail = match self.problems.len() {
            1 => format!("the parameter `{}` {}", first.0, first.1),
            n => format!("{n} parameters are wrong, first `{}`: it {}", first.0, first.1),
        };
        let error = Error::bad_request("invalid_parameter", detail);
        Err(self.problems.into_iter().fold(error, |error, (name, detail)| error.parameter(name, detail)))
    }

    /// `device`, `metric` and `tag.<name>`, with what the caller may see.
    pub(crate) fn series(&mut self, caller: &Caller) -> SeriesFilter {
        let tags = self.tags();
        SeriesFilter { devices: self.globs("device"), metrics: self.globs("metric"), tags, allowed: caller.devices.clone() }
    }

    /// The patterns of a repeatable parameter.
    pub(crate) fn globs(&mut self, name: &str) -> Vec<Glob> {
        let values = self.many(name);
        if values.iter().any(String::is_empty) {
            self.wrong(name, "is empty");
        }
        values.into_iter().map(Glob::new).collect()
    }

    fn tags(&mut self) -> Vec<(String, Glob)> {
        let mut names: Vec<String> = self.pairs.iter().filter(|pair| pair.name.starts_with("tag.")).map(|pair| pair.name.clone()).collect();
        names.sort();
        names.dedup();
        let mut tags = Vec::new();
        for name in names {
            let tag = name.strip_prefix("tag.").unwrap_or_default().to_owned();
            if tag.is_empty() {
                self.wrong(&name, "does not name a tag");
            }
            if let Some(value) = self.one(&name) {
                if value.is_empty() {
                    self.wrong(&name, "is empty");
                }
                tags.push((tag, Glob::new(value)));
            }
        }
        tags
    }

    /// `limit` and `cursor`. Must be called before [`Params::range`].
    pub(crate) fn page(&mut self, caller: &Caller, default_limit: usize) -> Page {
        let limit = self.read("limit", "a number from 1 to 100000", |text| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|limit| digits && (1..=MOST_ROWS).contains(limit))
        });
        let identity = self.identity(&caller.devices);
        let cursor = self.one("cursor").and_then(|text| match Cursor::decode(&text, identity) {
            Ok(cursor) => Some(cursor),
            Err(why) => {
                self.wrong("cursor", why);
                None
            }
        });
        let texts = cursor.as_ref().map_or_else(|| self.given_range(), |cursor| cursor.texts);
        Page { limit: limit.unwrap_or(default_limit), cursor, identity, texts, link: self.link() }
    }

    /// `from` and `to`, by default the last hour; with a cursor the range that it holds.
    pub(crate) fn range(&mut self, now: Timestamp, page: &Page) -> TimeRange {
        let range = self.bounds(now, page);
        let hour_ago = now.plus(-headwater_core::time::HOUR);
        let range = TimeRange::new(range.0.unwrap_or(hour_ago), range.1.unwrap_or(now));
        if range.is_empty() {
            self.wrong("from", format!("must be before `to`, which is {}, and is {}", range.to, range.from));
        }
        range
    }

    /// `from` and `to`, `None` where they are not given; with a cursor those that it holds.
    pub(crate) fn bounds(&mut self, now: Timestamp, page: &Page) -> (Option<Timestamp>, Option<Timestamp>) {
        const EXPECTED: &str = "a time: RFC 3339, seconds, ms, µs or ns since the epoch, or relative such as now-1h or now-7d/d";
        let given = self.given_range();
        let from = self.read("from", EXPECTED, |text| time::parse_time(text, now));
        let to = self.read("to", EXPECTED, |text| time::parse_time(text, now));
        let Some(cursor) = &page.cursor else { return (from, to) };
        let same_time = |given: Option<Timestamp>, held: Option<Timestamp>| given.is_none_or(|given| Some(given) == held);
        let is_same = given == cursor.texts || (same_time(from, cursor.from) && same_time(to, cursor.to));
        if !is_same {
            self.wrong("cursor", "belongs to another range: leave `from` and `to` as they were, or out");
        }
        (cursor.from, cursor.to)
    }

    /// A hash of the texts of `from` and `to`.
    fn given_range(&self) -> cursor::RangeTexts {
        let value = |name| self.pairs.iter().find(|pair| pair.name == name).map_or("", |pair| pair.value.as_str());
        cursor::range_texts(value("from"), value("to"))
    }

    /// `format`, or what `Accept` prefers.
    pub(crate) fn format(&mut self, headers: &HeaderMap) -> Result<Format> {
        let asked = self.read("format", "json or csv", |text| match text {
            "json" => Some(Format::Json),
            "csv" => Some(Format::Csv),
            _ => None,
        });
        match asked {
            Some(format) => Ok(format),
            None => accepted(headers),
        }
    }

    /// What two requests share exactly when they are pages of one query: the route, its parameters and whose eyes see it.
    fn identity(&self, devices: &DevicePatterns) -> cursor::Identity {
        let mut texts: Vec<(&str, &str)> = self.pairs.iter().map(|pair| (pair.name.as_str(), pair.value.as_str())).collect();
        texts.retain(|(name, _)| !NOT_IDENTITY.contains(name));
        texts.sort_unstable();
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        add(self.route);
        texts.iter().for_each(|(name, value)| {
            add(name);
            add(value)
        });
        match devices {
            DevicePatterns::All => add("all"),
            DevicePatterns::Some(globs) => globs.iter().for_each(|glob| add(glob.as_str())),
        }
        cursor::identity(&hash.finalize())
    }

    fn link(&self) -> String {
        let mut link = format!("{}?", self.route);
        for pair in self.pairs.iter().filter(|pair| pair.name != "cursor") {
            percent_encode(&mut link, &pair.name);
            link.push('=');
            percent_encode(&mut link, &pair.value);
            link.push('&');
        }
        link
    }
}

/// Refuses a question for one certain device that the caller may not see.
///
/// # Errors
/// 403.
pub(crate) fn check_devices(devices: &[Glob], allowed: &DevicePatterns) -> Result<()> {
    match devices.iter().filter_map(Glob::exact).find(|device| !allowed.allow(device)) {
        Some(device) => Err(Error::forbidden("forbidden_device", format!("this token does not cover the device `{}`", shown(device)))),
        None => Ok(()),
    }
}

/// The format that `Accept` prefers, JSON where it does not care.
fn accepted(headers: &HeaderMap) -> Result<Format> {
    let texts: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let accept = texts.join(",");
    if accept.trim().is_empty() {
        return Ok(Format::Json);
    }
    let (json, csv) = (quality(&accept, "application", "json"), quality(&accept, "text", "csv"));
    if json.max(csv) <= 0.0 {
        return Err(Error::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", "answers come as application/json or text/csv"));
    }
    Ok(if csv > json { Format::Csv } else { Format::Json })
}

/// How much `accept` wants a media type: the `q` of the most specific range that covers it, 0 where none does.
fn quality(accept: &str, kind: &str, subtype: &str) -> f32 {
    let mut best = (0, 0.0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let (range_kind, range_subtype) = parts.next().unwrap_or_default().split_once('/').unwrap_or_default();
        let rank = match (range_kind, range_subtype) {
            ("*", "*") => 1,
            (k, "*") if k.eq_ignore_ascii_case(kind) => 2,
            (k, s) if k.eq_ignore_ascii_case(kind) && s.eq_ignore_ascii_case(subtype) => 3,
            _ => continue,
        };
        let q = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q="))).map_or(Some(1.0), |q| q.parse().ok());
        if rank > best.0 {
            best = (rank, q.filter(|q: &f32| (0.0..=1.0).contains(q)).unwrap_or(0.0));
        }
    }
    best.1
}

/// A text as an error tells it back: bounded, without control characters.
pub(crate) fn shown(text: &str) -> String {
    let short: String = text.chars().take(SHOWN_CHARS).collect();
    let cut = if short.len() < text.len() { "…" } else { "" };
    format!("{}{cut}", short.escape_debug())
}

/// The undecodable name of a pair as far as it is plain.
fn name_shown(pair: &str) -> &str {
    let name = pair.split('=').next().unwrap_or_default();
    if name.len() <= SHOWN_CHARS && name.bytes().all(|b| b.is_ascii_graphic()) { name } else { "?" }
}

fn percent_decoded(text: &str) -> Option<String> {
    let hex = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => hex(bytes.next())? << 4 | hex(bytes.next())?,
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn percent_encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b'*') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests;
