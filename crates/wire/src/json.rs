//! JSON: an object or an array of objects, each an item.
//!
//! ```json
//! {"device": "plant-a/press-7", "ts": 1763910000123, "metrics": {"temperature": 21.5, "pressure": 1.02}, "tags": {"line": "3"}}
//! {"device": "plant-a/press-7", "metric": "temperature", "ts": "2026-11-23T15:00:00.123Z", "value": 21.5, "unit": "Cel"}
//! ```
//!
//! `tags` and `unit` belong to both forms. `time` is read as `ts` where there is no `ts`, as in CSV. A null `value` or metric is
//! skipped and a null `unit` is none; any other null is a wrong type. Members of other names are ignored.
//!
//! Owns: the array around the items and the errors of a body; the items themselves are in `item`. Does not know: which
//! readings are taken (the sink does).
//! Invariants: a body that is no JSON is refused whole, whatever its first items were; a well-formed item of a wrong shape is
//! refused alone.
//!
//! `serde_json` finds the items as raw texts (its skipping keeps one byte a level and does not recurse), so an item's bytes are
//! known before anything of it is judged.

mod item;

pub(crate) use item::{Items, read_value, string};

use crate::{Context, Decoded, Place, Unreadable};
use serde::Deserializer as _;
use serde::de::{Deserialize, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::ops::Range;

const BOM: &str = "\u{feff}";

/// Reads a body.
///
/// # Errors
/// When the body as a whole is not an object or an array: broken or cut JSON, no UTF-8, nothing at all, another type.
pub fn decode(body: &[u8], context: &Context<'_>) -> Result<Decoded, Unreadable> {
    let json = text(body)?;
    let mut items = Items::new(body, context);
    match first(json) {
        None => return Err(Unreadable::new("the body is empty")),
        Some(b'[') => array(json, |raw, index| items.item(raw, Place::Index(index)))?,
        Some(b'{') => items.item(object(json)?, Place::Index(0)),
        Some(_) => return Err(Unreadable::new("the body is neither an object nor an array of objects")),
    }
    Ok(items.finish())
}

/// The text of a body, without a byte order mark.
pub(crate) fn text(body: &[u8]) -> Result<&str, Unreadable> {
    let text = std::str::from_utf8(body).map_err(|e| Unreadable::new(format!("the body is not UTF-8 at byte {}", e.valid_up_to())))?;
    Ok(text.strip_prefix(BOM).unwrap_or(text))
}

/// The first byte that is not blank.
pub(crate) fn first(json: &str) -> Option<u8> {
    json.trim_ascii_start().as_bytes().first().copied()
}

/// Where `part` lies in `body`, which it must be a part of.
pub(crate) fn span(body: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr() as usize - body.as_ptr() as usize;
    start..start + part.len()
}

fn object(json: &str) -> Result<&str, Unreadable> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let raw = <&RawValue>::deserialize(&mut deserializer).map_err(|e| broken(&e, None))?;
    deserializer.end().map_err(|e| broken(&e, None))?;
    Ok(raw.get())
}

/// Reads an array and hands over the text of every element with its number.
pub(crate) fn array<'a>(json: &'a str, each: impl FnMut(&'a str, u64)) -> Result<(), Unreadable> {
    let mut array = Array { each, index: 0 };
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let read = deserializer.deserialize_seq(&mut array);
    read.map_err(|e| broken(&e, Some(array.index)))?;
    deserializer.end().map_err(|e| broken(&e, None))
}

/// The elements of an array, one by one.
struct Array<F> {
    each: F,
    index: u64,
}

impl<'a, F: FnMut(&'a str, u64)> Visitor<'a> for &mut Array<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut array: A) -> Result<(), A::Error> {
        while let Some(raw) = array.next_element::<&'a RawValue>()? {
            (self.each)(raw.get(), self.index);
            self.index += 1;
        }
        Ok(())
    }
}

/// The words for a body that is no JSON, with the element that reading had come to.
fn broken(e: &serde_json::Error, index: Option<u64>) -> Unreadable {
    Unreadable { detail: format!("the body is not JSON: {e}"), pointer: index.map(|index| format!("/{index}")) }
}

#[cfg(test)]
mod tests;
