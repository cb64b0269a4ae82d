//! What a reading belongs to: ids of devices and metrics, tags, the canonical text of a series, series ids and shards.
//!
//! Owns: the rules for ids, [`SeriesKey`] and its text, [`SeriesId`], [`Shard`]. Does not know: where ids come from.
//!
//! The canonical text of a series is `device NUL metric NUL tags`, where tags are sorted by name and written as
//! `name US value`, joined by RS (U+0000, U+001F, U+001E: all control characters, which no id may hold). So one string
//! compares, sorts and hashes as the series does: its byte order is the order of (device, metric, tags).

use std::borrow::Borrow;
use std::fmt;

/// Longest id of a device or a metric, and longest name of a tag, in bytes.
pub const MAX_ID_BYTES: usize = 128;
/// Longest value of a tag, in bytes.
pub const MAX_TAG_VALUE_BYTES: usize = 256;
/// Most tags that a series may have.
pub const MAX_TAGS: usize = 32;
/// Longest unit, in bytes; a longer one is cut by nobody and refused as `invalid_metric`.
pub const MAX_UNIT_BYTES: usize = 64;
/// The number of groups of series that are stored and sealed together.
pub const SHARDS: u8 = 64;

const FIELD: char = '\0';
const TAG_VALUE: char = '\u{1f}';
const NEXT_TAG: char = '\u{1e}';

/// Why a text is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdProblem {
    /// No characters at all.
    #[error("it is empty")]
    Empty,
    /// More bytes than the limit.
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    /// A control character.
    #[error("it holds a control character")]
    Control,
    /// One of the characters that patterns and topics use.
    #[error("it holds one of + # * ?")]
    Wildcard,
}

/// Whether `text` is the id of a device or a metric: 1 to 128 bytes, no control characters, none of `+ # * ?`.
///
/// # Errors
/// The first rule that is broken.
pub fn check_id(text: &str) -> Result<(), IdProblem> {
    check_text(text, MAX_ID_BYTES)?;
    if text.bytes().any(|b| matches!(b, b'+' | b'#' | b'*' | b'?')) {
        return Err(IdProblem::Wildcard);
    }
    Ok(())
}

/// Whether `name` and `value` make a tag: a name of 1 to 128 bytes, a value of 1 to 256, no control characters.
///
/// # Errors
/// The first rule that is broken.
pub fn check_tag(name: &str, value: &str) -> Result<(), IdProblem> {
    check_text(name, MAX_ID_BYTES)?;
    check_text(value, MAX_TAG_VALUE_BYTES)
}

fn check_text(text: &str, most: usize) -> Result<(), IdProblem> {
    if text.is_empty() {
        return Err(IdProblem::Empty);
    }
    if text.len() > most {
        return Err(IdProblem::TooLong(most));
    }
    if text.chars().any(char::is_control) {
        return Err(IdProblem::Control);
    }
    Ok(())
}

/// Writes the canonical text of a series into `out` (cleared first). `tags` must be sorted by name, without repeats.
pub fn write_key<'a>(out: &mut String, device: &str, metric: &str, tags: impl IntoIterator<Item = (&'a str, &'a str)>) {
    out.clear();
    out.push_str(device);
    out.push(FIELD);
    out.push_str(metric);
    out.push(FIELD);
    for (i, (name, value)) in tags.into_iter().enumerate() {
        if i > 0 {
            out.push(NEXT_TAG);
        }
        out.push_str(name);
        out.push(TAG_VALUE);
        out.push_str(value);
    }
}

/// The parts of a canonical text, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The device.
    pub device: &'a str,
    /// The metric.
    pub metric: &'a str,
    tags: &'a str,
}

impl<'a> Parts<'a> {
    /// Takes a canonical text apart; a text that is none gives empty parts where something is missing.
    pub fn of(key: &'a str) -> Self {
        let (device, rest) = split_at_field(key);
        let (metric, tags) = split_at_field(rest);
        Self { device, metric, tags }
    }

    /// The tags, sorted by name.
    pub fn tags(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.tags.split(NEXT_TAG).filter(|tag| !tag.is_empty()).map(|tag| tag.split_once(TAG_VALUE).unwrap_or((tag, "")))
    }

    /// The value of one tag.
    pub fn tag(self, name: &str) -> Option<&'a str> {
        self.tags().find_map(|(n, value)| (n == name).then_some(value))
    }

    /// Whether there are no tags.
    pub const fn has_no_tags(self) -> bool {
        self.tags.is_empty()
    }
}

/// Before and after the first separator of fields. Keys are short: looking at bytes is faster than a search for a character.
fn split_at_field(text: &str) -> (&str, &str) {
    let at = text.bytes().position(|b| b == FIELD as u8);
    at.map_or((text, ""), |at| (&text[..at], &text[at + 1..]))
}

/// The canonical text of a series, owned and checked. Sorts by the bytes of (device, metric, tags).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey(Box<str>);

impl SeriesKey {
    /// Checks a canonical text that came from outside this process: every id and tag, and the order of the tags.
    ///
    /// # Errors
    /// When a rule of an id is broken, or tags are not sorted or too many (told as [`IdProblem::Control`], because only
    /// separators in the wrong place can do that).
    pub fn parse(text: &str) -> Result<Self, IdProblem> {
        let parts = Parts::of(text);
        check_id(parts.device)?;
        check_id(parts.metric)?;
        let mut last = None;
        let mut n_tags = 0;
        for (name, value) in parts.tags() {
            check_tag(name, value)?;
            n_tags += 1;
            if last.is_some_and(|last| last >= name) || n_tags > MAX_TAGS {
                return Err(IdProblem::Control);
            }
            last = Some(name);
        }
        let mut canonical = String::with_capacity(text.len());
        write_key(&mut canonical, parts.device, parts.metric, parts.tags());
        if canonical != text {
            return Err(IdProblem::Control);
        }
        Ok(Self(canonical.into()))
    }

    /// A series from its parts; `tags` in any order.
    ///
    /// # Errors
    /// When a rule of an id or a tag is broken; a repeated tag counts as [`IdProblem::Control`].
    pub fn new(device: &str, metric: &str, tags: &[(&str, &str)]) -> Result<Self, IdProblem> {
        let mut tags = tags.to_vec();
        tags.sort_unstable();
        let mut text = String::new();
        write_key(&mut text, device, metric, tags);
        Self::parse(&text)
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its parts.
    pub fn parts(&self) -> Parts<'_> {
        Parts::of(&self.0)
    }
}

impl Borrow<str> for SeriesKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SeriesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts();
        write!(f, "{} {}", parts.device, parts.metric)?;
        for (name, value) in parts.tags() {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

/// The number that stands for a series in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(pub u32);

impl SeriesId {
    /// The shard that the series belongs to: its id mod 64.
    pub const fn shard(self) -> Shard {
        Shard((self.0 % SHARDS as u32) as u8)
    }
}

/// One of 64 groups of series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u8);

/// A series as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Its number.
    pub id: SeriesId,
    /// Its identity.
    pub key: SeriesKey,
    /// The last unit that was sent with it.
    pub unit: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_follow_the_rules() {
        assert_eq!(check_id("plant-a/press-7"), Ok(()));
        assert_eq!(check_id("°C %"), Ok(()));
        assert_eq!(check_id(""), Err(IdProblem::Empty));
        assert_eq!(check_id(&"x".repeat(129)), Err(IdProblem::TooLong(128)));
        assert_eq!(check_id(&"x".repeat(128)), Ok(()));
        assert_eq!(check_id("a\nb"), Err(IdProblem::Control));
        for wild in ["a+", "#", "a*b", "?"] {
            assert_eq!(check_id(wild), Err(IdProblem::Wildcard));
        }
    }

    #[test]
    fn a_key_is_its_parts() {
        let key = SeriesKey::new("d", "m", &[("b", "2"), ("a", "1")]).unwrap();
        assert_eq!(key.parts().tags().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
        assert_eq!(key.parts().tag("b"), Some("2"));
        assert_eq!(SeriesKey::parse(key.as_str()), Ok(key.clone()));
        assert_eq!(format!("{key:?}"), "d m a=1 b=2");
        assert!(SeriesKey::new("d", "m", &[("a", "1"), ("a", "2")]).is_err());
        for broken in ["d", "d\0m", "d\0m\0\u{1e}", "d\0m\0a", "d\0m\0b\u{1f}1\u{1e}a\u{1f}1", "d\0m\0a\u{1f}1\u{1e}"] {
            assert!(SeriesKey::parse(broken).is_err(), "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn keys_sort_as_device_metric_tags(
            a in ("[ab -]{1,3}", "[ab]{1,2}", prop::collection::btree_map("[ab]{1,2}", "[ab]{1,2}", 0..3)),
            b in ("[ab -]{1,3}", "[ab]{1,2}", prop::collection::btree_map("[ab]{1,2}", "[ab]{1,2}", 0..3)),
        ) {
            let key = |(device, metric, tags): &(String, String, std::collections::BTreeMap<String, String>)| {
                let tags: Vec<_> = tags.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                SeriesKey::new(device, metric, &tags).unwrap()
            };
            prop_assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b));
        }

        #[test]
        fn any_text_parses_or_is_refused(text in ".{0,40}") {
            if let Ok(key) = SeriesKey::parse(&text) {
                prop_assert_eq!(key.as_str(), text);
            }
        }
    }
}
