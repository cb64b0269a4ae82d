//! The OpenAPI document, put together from its parts in `crates/web/openapi/`.
//!
//! The parts are the document, written by hand: a person who changes a route changes them too, and sees in review what clients
//! will see. `tests/kit/documentation.rs` holds them against the table of routes, both ways, and against the codes of the
//! sources; `headwater/tests/it/openapi.rs` against a running server.
//!
//! Owns: the list of parts, and merging. Does not know: what they say.

use serde_json::Value;

/// By subject, so that what changes together stands together.
const PARTS: &[&str] = &[
    include_str!("../../openapi/document.json"),
    include_str!("../../openapi/write.json"),
    include_str!("../../openapi/influx.json"),
    include_str!("../../openapi/query.json"),
    include_str!("../../openapi/dead-letters.json"),
    include_str!("../../openapi/operation.json"),
    include_str!("../../openapi/metrics.json"),
    include_str!("../../openapi/logging.json"),
    include_str!("../../openapi/tokens.json"),
    include_str!("../../openapi/documentation.json"),
    include_str!("../../openapi/parameters.json"),
    include_str!("../../openapi/answers.json"),
    include_str!("../../openapi/forms.json"),
    include_str!("../../openapi/rows.json"),
    include_str!("../../openapi/letters.json"),
    include_str!("../../openapi/schemas.json"),
];

/// The whole document, of this version.
///
/// # Errors
/// A part is no JSON: a mistake in the program, which a test finds.
pub(super) fn assembled() -> serde_json::Result<Value> {
    let mut document = Value::Null;
    for part in PARTS {
        merge(&mut document, serde_json::from_str(part)?);
    }
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    Ok(document)
}

/// Puts the members of `part` into `whole`, and into its members where both have them. What both have and is no object is
/// `part`'s; a test finds that none is.
fn merge(whole: &mut Value, part: Value) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (name, value) in part {
                merge(whole.entry(name).or_insert(Value::Null), value);
            }
        }
        (whole, part) => *whole = part,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many values stand in it that are neither objects nor members of one.
    fn leaves(value: &Value) -> usize {
        value.as_object().map_or(1, |members| members.values().map(leaves).sum())
    }

    #[test]
    fn the_parts_are_json_and_none_covers_another() {
        let parts: usize = PARTS.iter().map(|part| leaves(&serde_json::from_str(part).unwrap())).sum();
        assert_eq!(leaves(&assembled().unwrap()), parts);
    }

    #[test]
    fn members_of_both_are_merged() {
        let mut whole = serde_json::json!({ "a": { "b": 1 }, "c": [1] });
        merge(&mut whole, serde_json::json!({ "a": { "d": 2 }, "e": null }));
        assert_eq!(whole, serde_json::json!({ "a": { "b": 1, "d": 2 }, "c": [1], "e": null }));
    }
}
