//! What clients may rely on, as a list of lines, against the list that is committed: the API does not change in silence.
//!
//! `openapi/promises.txt` holds a line for every operation, parameter, answer and member. Two rules:
//!
//! - What the document says and the list does not has to be added to the list. The test writes the list that it wants; the
//!   difference is what a reviewer reads.
//! - A line of the list that the document does not bear out any more is a breach, and so is a demand that is new (a parameter or
//!   member that has to be there) of an operation or schema that was there before. It needs a line in the topmost section of
//!   CHANGELOG.md that begins with `- Breaking:` and names the operation (`GET /v1/stats`) or the schema. Lines that were given
//!   up are taken out of the list with the release that gives them up.

use crate::documentation::{document, operations, resolved};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

const LIST: &str = include_str!("../../openapi/promises.txt");
const CHANGES: &str = include_str!("../../../../CHANGELOG.md");
const HEAD: &str = "# What clients may rely on; tests/kit/promises.rs says how this list is kept.\n";

/// A schema in a few words, the same for the same schema. What is only told to people is left out.
fn shape(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        return name.rsplit('/').next().unwrap().to_owned();
    }
    if !schema.is_object() {
        return schema.to_string();
    }
    let mut words = Vec::new();
    match &schema["type"] {
        Value::Null => {}
        Value::Array(types) => words.push(types.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("|")),
        kind => words.push(kind.as_str().unwrap().to_owned()),
    }
    for keyword in
        ["const", "enum", "format", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties"]
    {
        if !schema[keyword].is_null() {
            words.push(format!("{keyword} {}", schema[keyword]));
        }
    }
    for keyword in ["items", "additionalProperties", "propertyNames"] {
        if !schema[keyword].is_null() {
            words.push(format!("{keyword} ({})", shape(&schema[keyword])));
        }
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for (n, one) in schema[keyword].as_array().into_iter().flatten().enumerate() {
            words.push(format!("{keyword} {n} ({})", shape(one)));
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        words.push(format!("{}{name} ({})", if is_required(schema, name) { "" } else { "?" }, shape(property)));
    }
    for (pattern, property) in schema["patternProperties"].as_object().into_iter().flatten() {
        words.push(format!("/{pattern}/ ({})", shape(property)));
    }
    words.join(", ")
}

fn is_required(schema: &Value, name: &str) -> bool {
    schema["required"].as_array().is_some_and(|names| names.iter().any(|required| required == name))
}

/// Every line.
fn promises(document: &Value) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for (method, path, operation) in operations(document) {
        promises_of(document, &format!("{method} {path}"), operation, &mut lines);
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let mut rest = schema.clone();
        for (property, value) in schema["properties"].as_object().into_iter().flatten() {
            let verb = if is_required(schema, property) { "has" } else { "may have" };
            lines.insert(format!("{name} {verb} {property}: {}", shape(value)));
        }
        rest.as_object_mut().unwrap().remove("properties");
        lines.insert(format!("{name} is {}", shape(&rest)));
    }
    lines
}

fn promises_of(document: &Value, what: &str, operation: &Value, lines: &mut BTreeSet<String>) {
    lines.insert(format!("{what} is {}", operation["operationId"].as_str().unwrap()));
    for way in operation["security"].as_array().unwrap() {
        lines.insert(format!("{what} lets in {way}"));
    }
    for parameter in operation["parameters"].as_array().into_iter().flatten().map(|parameter| resolved(document, parameter)) {
        let verb = if parameter["required"] == true { "demands" } else { "takes" };
        let default = if parameter["schema"]["default"].is_null() {
            String::new()
        } else {
            format!(", by default {}", parameter["schema"]["default"])
        };
        let text = |member: &str| parameter[member].as_str().unwrap();
        lines.insert(format!("{what} {verb} {} {}: {}{default}", text("in"), text("name"), shape(&parameter["schema"])));
    }
    let body = resolved(document, &operation["requestBody"]);
    for (media, content) in body["content"].as_object().into_iter().flatten() {
        lines.insert(format!("{what} takes body {media}: {}", shape(&content["schema"])));
    }
    for (status, answer) in operation["responses"].as_object().unwrap() {
        let answer = resolved(document, answer);
        lines.insert(format!("{what} answers {status}"));
        for (media, content) in answer["content"].as_object().into_iter().flatten() {
            lines.insert(format!("{what} answers {status} {media}: {}", shape(&content["schema"])));
        }
        for (name, header) in answer["headers"].as_object().into_iter().flatten() {
            let header = resolved(document, header);
            let verb = if header["required"] == true { "with" } else { "perhaps with" };
            lines.insert(format!("{what} answers {status} {verb} {name}"));
        }
    }
}

/// What a line is about: `GET /v1/stats`, or the name of a schema.
fn subject(line: &str) -> &str {
    let words = if line.contains(" /") && line.split(' ').next().is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_uppercase())) {
        2
    } else {
        1
    };
    line.match_indices(' ').nth(words - 1).map_or(line, |(at, _)| &line[..at])
}

/// The topmost section of the change log.
fn newest_changes() -> &'static str {
    CHANGES.split("\n## ").nth(1).unwrap()
}

/// The lines that break a promise without a word in the change log.
fn breaches<'a>(listed: &'a BTreeSet<String>, now: &'a BTreeSet<String>, changes: &str) -> Vec<&'a str> {
    let was_there = |line: &str| listed.iter().any(|listed| subject(listed) == subject(line));
    let gone = listed.difference(now);
    // A member that answers have anew costs nobody anything; one that a request needs does, and nothing tells them apart here.
    let demands = now.difference(listed).filter(|line| line.contains(" demands ") && was_there(line));
    let is_told =
        |line: &str| changes.lines().any(|change| change.starts_with("- Breaking:") && change.contains(&format!("`{}`", subject(line))));
    gone.chain(demands).map(String::as_str).filter(|line| !is_told(line)).collect()
}

#[tokio::test]
async fn the_api_changes_in_nothing_that_is_not_written_down() {
    let now = promises(&document().await);
    let listed: BTreeSet<String> = LIST.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let broken = breaches(&listed, &now, newest_changes());
    let wanted: String = std::iter::once(HEAD.to_owned()).chain(listed.union(&now).map(|line| format!("{line}\n"))).collect();
    if wanted != LIST {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("promises.txt");
        std::fs::write(&path, &wanted).unwrap();
        let new: Vec<&String> = now.difference(&listed).collect();
        panic!("new: {new:#?}\nbroken: {broken:#?}\nthe list that is wanted: cp {} crates/web/openapi/promises.txt", path.display());
    }
    assert!(
        broken.is_empty(),
        "these lines of crates/web/openapi/promises.txt hold no more, and CHANGELOG.md does not say so: {broken:#?}"
    );
}

#[test]
fn a_breach_needs_its_line_in_the_change_log() {
    let set = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<BTreeSet<String>>();
    let before = set(&["GET /v1/x is x", "GET /v1/x takes query a: string", "Row has time: Time"]);
    let added = set(&[
        "GET /v1/x is x",
        "GET /v1/x takes query a: string",
        "GET /v1/y demands query b: string",
        "Row has time: Time",
        "Row may have unit: string",
    ]);
    assert!(breaches(&before, &added, "").is_empty(), "more is no breach");
    let demanding = set(&["GET /v1/x is x", "GET /v1/x demands query a: string", "Row has time: string"]);
    let broken = ["GET /v1/x takes query a: string", "Row has time: Time", "GET /v1/x demands query a: string"];
    assert_eq!(breaches(&before, &demanding, "- Breaking: `GET /v1/y`"), broken);
    assert_eq!(breaches(&before, &demanding, "- Breaking: `GET /v1/x` needs `a`."), ["Row has time: Time"]);
    assert!(breaches(&before, &demanding, "- Breaking: `GET /v1/x` needs `a`, and times of a `Row` are text.").is_empty());
}
