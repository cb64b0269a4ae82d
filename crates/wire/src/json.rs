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

pub(crate) use item::Items;

use crate::{Context, Decoded, Place, Unreadable};
use serde::Deserializer as _;
use serde::de::{Deserialize, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

const BOM: &str = "\u{feff}";

/// Reads a body.
///
/// # Errors
/// When the body as a whole is not an object or an array: broken or cut JSON, no UTF-8, nothing at all, another type.
pub fn decode(body: &[u8], context: &Context<'_>) -> Result<Decoded, Unreadable> {
    let text = std::str::from_utf8(body).map_err(|e| Unreadable::new(format!("the body is not UTF-8 at byte {}", e.valid_up_to())))?;
    let json = text.strip_prefix(BOM).unwrap_or(text);
    let mut items = Items::new(body, context);
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let mut index = 0;
    let read = match json.trim_ascii_start().as_bytes().first() {
        None => return Err(Unreadable::new("the body is empty")),
        Some(b'[') => deserializer.deserialize_seq(Array { items: &mut items, index: &mut index }),
        Some(b'{') => <&RawValue>::deserialize(&mut deserializer).map(|raw| items.item(raw.get(), Place::Index(0))),
        Some(_) => return Err(Unreadable::new("the body is neither an object nor an array of objects")),
    };
    read.map_err(|e| broken(&e, json, index))?;
    deserializer.end().map_err(|e| Unreadable { pointer: None, ..broken(&e, json, index) })?;
    Ok(items.finish())
}

/// The items of an array, one by one.
struct Array<'a, 'i, 'c> {
    items: &'i mut Items<'a, 'c>,
    index: &'i mut u64,
}

impl<'a> Visitor<'a> for Array<'a, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut array: A) -> Result<(), A::Error> {
        while let Some(raw) = array.next_element::<&'a RawValue>()? {
            self.items.item(raw.get(), Place::Index(*self.index));
            *self.index += 1;
        }
        Ok(())
    }
}

/// The words for a body that is no JSON, with the item that reading had come to.
fn broken(e: &serde_json::Error, json: &str, index: u64) -> Unreadable {
    let pointer = json.trim_ascii_start().starts_with('[').then(|| format!("/{index}"));
    Unreadable { detail: format!("the body is not JSON: {e}"), pointer }
}

#[cfg(test)]
mod tests;
