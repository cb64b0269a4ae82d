//! Letters as people see them.
//!
//! Owns: which members make a column, and a letter in full. Invariant: nothing of a letter reaches a terminal unsanitised.

use super::PATH;
use super::letter::{self, Letter};
use crate::cli::{List, Printed, Show};
use crate::client::Client;
use crate::environment::Environment;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::query::pages::{Members, Pages};
use crate::query::{json, table};
use anyhow::{Context, anyhow};
use headwater_web::Scope;
use serde_json::value::RawValue;
use std::io::Write;

/// What a table shows of a letter.
const COLUMNS: [&str; 9] = ["id", "received_at", "reason", "device", "format", "count", "state", "attempts", "detail"];
/// A detail in a table has so many characters at most.
const DETAIL_CHARS: usize = 70;

pub(super) fn list(args: &List, environment: &Environment) -> Outcome {
    let mut client = Client::new(&args.remote, environment, Scope::ReadDeadLetters)?;
    let mut parameters = args.filters.parameters();
    parameters.extend(args.state.iter().map(|state| ("state".to_owned(), state.clone())));
    let mut pages = Pages::new(&mut client, PATH, parameters, args.limit);
    let mut out = output::data();
    match args.form.output() {
        Printed::Table => table::print_as(&mut pages, columns, &mut out)?,
        Printed::Json => json::print(&mut pages, &mut out)?,
    }
    Ok(out.flush()?)
}

/// The members that are columns, with the detail cut.
fn columns(mut row: Members) -> Members {
    let mut take = |name: &str| {
        let at = row.0.iter().position(|(member, _)| member == name)?;
        let (name, value) = row.0.swap_remove(at);
        Some(if name == "detail" { (name, short(value)) } else { (name, value) })
    };
    Members(COLUMNS.iter().filter_map(|name| take(name)).collect())
}

pub(super) fn short(value: Box<RawValue>) -> Box<RawValue> {
    let Ok(text) = serde_json::from_str::<String>(value.get()) else { return value };
    match text.char_indices().nth(DETAIL_CHARS) {
        Some((at, _)) => serde_json::value::to_raw_value(&format!("{}…", &text[..at])).unwrap_or(value),
        None => value,
    }
}

pub(super) fn show(args: &Show, environment: &Environment) -> Outcome {
    let mut client = Client::new(&args.remote, environment, Scope::ReadDeadLetters)?;
    let (letter, json) = letter::fetch(&mut client, &args.id)?;
    let mut out = output::data();
    if args.raw {
        let gone = || Failure::Failed(anyhow!("the letter was discarded, and its bytes are gone"));
        out.write_all(&letter.bytes()?.ok_or_else(gone)?)?;
    } else {
        match args.form.output() {
            Printed::Json => out.write_all(&json)?,
            Printed::Table => in_full(&letter, &json, &mut out)?,
        }
    }
    Ok(out.flush()?)
}

/// Every member on a line of its own, then the bytes.
fn in_full(letter: &Letter, json: &[u8], out: &mut impl Write) -> anyhow::Result<()> {
    let members: Members = serde_json::from_slice(json).context("read the server's answer")?;
    for (name, value) in members.0.iter().filter(|(name, _)| name != "text" && name != "bytes_base64") {
        writeln!(out, "{:<14}{}", output::sanitised(name), told(value))?;
    }
    match (letter.text(), letter.bytes()?) {
        (Some(text), _) => {
            writeln!(out)?;
            text.lines().try_for_each(|line| writeln!(out, "{}", output::sanitised(line)))?;
        }
        (None, Some(bytes)) => writeln!(out, "\n{} bytes that are no text; --raw writes them", bytes.len())?,
        (None, None) => writeln!(out, "\nits bytes were discarded")?,
    }
    Ok(())
}

/// A value on a line; the last attempt in words.
fn told(value: &RawValue) -> String {
    match serde_json::from_str::<Members>(value.get()) {
        Ok(members) => {
            let parts: Vec<String> = members.0.iter().map(|(_, value)| table::shown(value)).filter(|part| !part.is_empty()).collect();
            parts.join(", ")
        }
        Err(_) => table::shown(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_what_fits_a_line() {
        let json =
            format!(r#"{{"text":"x","detail":"{}","id":"1","log":null,"reason":"malformed","device":null,"count":2}}"#, "d".repeat(100));
        let row = columns(serde_json::from_str(&json).unwrap());
        let names: Vec<&str> = row.0.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["id", "reason", "device", "count", "detail"]);
        assert_eq!(row.0[4].1.get(), format!("\"{}…\"", "d".repeat(70)));
    }

    #[test]
    fn a_letter_in_full_cannot_steer_the_terminal() {
        let json = br#"{"id":"1","device":"\u001b[31m","last_attempt":{"at":"T","outcome":"rejected","detail":""},"format":"json","text":"a\u0007\nb\r"}"#;
        let (letter, mut out) = (serde_json::from_slice(json).unwrap(), Vec::new());
        in_full(&letter, json, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "id            1\ndevice        \u{fffd}[31m\nlast_attempt  T, rejected\nformat        json\n\na\u{fffd}\nb\u{fffd}\n"
        );
    }
}
