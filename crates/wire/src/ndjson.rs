//! NDJSON: a JSON object a line, each an item as in [`crate::json`].
//!
//! Owns: the lines. Does not know: what is in an item.
//! Invariants: a line that is no JSON is refused alone, because lines do not depend on each other; blank lines are no items and
//! do not count in the index.

use crate::json::Items;
use crate::{Context, Decoded, Place, Unreadable};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Reads a body.
///
/// # Errors
/// When it has no items.
pub fn decode(body: &[u8], context: &Context<'_>) -> Result<Decoded, Unreadable> {
    let mut items = Items::new(body, context);
    let mut start = if body.starts_with(BOM) { BOM.len() } else { 0 };
    let mut index = 0;
    while start < body.len() {
        let end = memchr::memchr(b'\n', &body[start..]).map_or(body.len(), |at| start + at);
        let line = body[start..end].trim_ascii();
        if !line.is_empty() {
            items.line(line, Place::Index(index));
            index += 1;
        }
        start = end + 1;
    }
    if index == 0 {
        return Err(Unreadable::new("the body is empty"));
    }
    Ok(items.finish())
}
