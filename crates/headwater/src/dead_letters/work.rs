//! Retrying and discarding letters, one or many.
//!
//! Owns: asking before many are changed, page after page, waiting while the server pushes back, what is told. Does not know: why a letter is refused.
//! Invariants: an order that was cut short can be given again (what was taken in is a duplicate then, what was discarded stays so); what was refused
//! again is told, and makes the exit code 1.

use super::letter::path;
use super::{PATH, listing, to_look_and_change};
use crate::cli::{Chosen, Discard, NO_CHOICE, Printed, Retry};
use crate::client::{Answer, Client};
use crate::environment::Environment;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::query::pages::{Members, Page};
use crate::query::table::Table;
use anyhow::{Context, anyhow};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::io::{self, BufRead, IsTerminal, Write};
use std::thread::sleep;
use std::time::Duration;

/// Letters of a request.
const PAGE: &str = "100";
/// Letters that are counted before a person is asked.
const COUNTED: &str = "1000";
/// A server that pushes back is asked so often in a row.
const TRIES: u32 = 20;
const LONGEST_PAUSE_S: u64 = 30;
const UNPROCESSABLE: u16 = 422;
/// What a table shows of a retry.
const COLUMNS: [&str; 6] = ["id", "outcome", "accepted", "rejected", "state", "detail"];

/// How letters fared.
#[derive(Debug, Default)]
struct Told {
    letters: u64,
    accepted: u64,
    refused: u64,
}

pub(super) fn retry(args: &Retry, environment: &Environment) -> Outcome {
    let mut client = Client::new(&args.remote, environment, to_look_and_change())?;
    let mut printer = Printer::new(args.form.output());
    agree(&mut client, &args.chosen, "take in again")?;
    if args.chosen.ids.is_empty() {
        retry_many(&mut client, &args.chosen, &mut printer)?;
    }
    for id in &args.chosen.ids {
        let answer = patiently(|| client.post(&format!("{}/retry", path(id)?), "application/json", b""))?;
        printer.rows(&[outcome(&answer)?])?;
    }
    printer.end()
}

fn retry_many(client: &mut Client, chosen: &Chosen, printer: &mut Printer) -> Outcome {
    let mut cursor: Option<String> = None;
    loop {
        let mut parameters = chosen.filters.parameters();
        parameters.push(("limit".to_owned(), PAGE.to_owned()));
        parameters.extend(cursor.map(|cursor| ("cursor".to_owned(), cursor)));
        let path = format!("{PATH}/retry?{}", query(&parameters));
        let answer = patiently(|| client.post(&path, "application/json", b""))?;
        let page = Page::read(&answer.succeeded()?.body).context("read the server's answer")?;
        printer.rows(&page.rows)?;
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

/// What a retry of one letter is answered, as a row among many. A letter that was refused again is an answer, not a failure.
pub(super) fn outcome(answer: &Answer) -> Result<Box<RawValue>, Failure> {
    #[derive(Deserialize)]
    struct Retried {
        id: String,
        state: String,
        attempts: u64,
        received: u64,
        accepted: u64,
        skipped: u64,
        rejected: u64,
        errors: Vec<Refused>,
    }
    #[derive(Deserialize)]
    struct Refused {
        detail: String,
    }
    if !answer.is_success() && answer.status != UNPROCESSABLE {
        return Err(Failure::Failed(anyhow!("{}", answer.refusal())));
    }
    let Ok(told) = serde_json::from_slice::<Retried>(&answer.body) else { return Err(Failure::Failed(anyhow!("{}", answer.refusal()))) };
    let Retried { id, state, attempts, received, accepted, skipped, rejected, errors } = told;
    let outcome = match (accepted, rejected) {
        (0, _) => "rejected",
        (_, 0) => "accepted",
        _ => "partly",
    };
    let detail: Vec<String> = errors.into_iter().map(|refused| refused.detail).collect();
    let row = serde_json::json!({
        "id": id, "outcome": outcome, "state": state, "attempts": attempts, "received": received, "accepted": accepted, "skipped": skipped,
        "rejected": rejected, "detail": detail.join("; "),
    });
    Ok(serde_json::value::to_raw_value(&row).context("write a row")?)
}

pub(super) fn discard(args: &Discard, environment: &Environment) -> Outcome {
    let mut client = Client::new(&args.remote, environment, to_look_and_change())?;
    agree(&mut client, &args.chosen, "discard")?;
    let (mut n, mut ids, mut cursor) = (0_u64, args.chosen.ids.clone(), None);
    let by_filters = ids.is_empty();
    loop {
        if by_filters {
            (ids, cursor) = page_of_ids(&mut client, &args.chosen, cursor)?;
        }
        for id in &ids {
            patiently(|| client.delete(&path(id)?))?.succeeded()?;
            n += 1;
        }
        live(&format!("discarded {n} letters"));
        if cursor.is_none() {
            break;
        }
    }
    output::end_live();
    output::message(&format!("discarded {n} {}", letters(n)));
    Ok(())
}

fn page_of_ids(client: &mut Client, chosen: &Chosen, cursor: Option<String>) -> anyhow::Result<(Vec<String>, Option<String>)> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    let mut parameters = chosen.filters.parameters();
    parameters.push(("limit".to_owned(), COUNTED.to_owned()));
    parameters.extend(cursor.map(|cursor| ("cursor".to_owned(), cursor)));
    let answer = patiently(|| client.get(PATH, &parameters))?.succeeded()?;
    let page = Page::read(&answer.body).context("read the server's answer")?;
    let ids = page.rows.iter().map(|row| serde_json::from_str::<Named>(row.get()).map(|named| named.id));
    Ok((ids.collect::<Result<_, _>>().context("read the server's answer")?, page.next_cursor))
}

/// Asks a person before letters are changed that were not named one by one.
fn agree(client: &mut Client, chosen: &Chosen, verb: &str) -> Result<(), Failure> {
    if chosen.is_empty() {
        return Err(Failure::Usage(NO_CHOICE.to_owned()));
    }
    if !chosen.ids.is_empty() || chosen.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("to {verb} many letters without being asked, say --yes")));
    }
    let (ids, more) = page_of_ids(client, chosen, None)?;
    let n = ids.len() as u64;
    let many = if more.is_some() { format!("more than {n} letters") } else { format!("{n} {}", letters(n)) };
    if n == 0 {
        output::message("there is no such letter that is open");
        return Ok(());
    }
    output::message(&format!("{verb} {many}? [y/N]"));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failure::Failed(anyhow!("nothing was changed"))) }
}

const fn letters(n: u64) -> &'static str {
    if n == 1 { "letter" } else { "letters" }
}

/// Asks again while the server pushes back.
fn patiently(mut ask: impl FnMut() -> anyhow::Result<Answer>) -> anyhow::Result<Answer> {
    for _ in 1..TRIES {
        let answer = ask()?;
        if !answer.is_transient() {
            return Ok(answer);
        }
        sleep(Duration::from_secs(answer.retry_after.unwrap_or(1).min(LONGEST_PAUSE_S)));
    }
    ask()
}

fn live(text: &str) {
    if output::messages_on_terminal() {
        output::live(text);
    }
}

/// Parameters as a query.
fn query(parameters: &[(String, String)]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let encoded = |text: &str| -> String {
        text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
    };
    parameters.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect::<Vec<_>>().join("&")
}

/// Prints what became of letters: in a table those that were refused again and, of few, all; as JSON one document.
pub(super) struct Printer {
    output: Printed,
    table: Table,
    told: Told,
}

impl Printer {
    pub(super) fn new(output: Printed) -> Self {
        Self { output, table: Table::default(), told: Told::default() }
    }

    pub(super) fn rows(&mut self, rows: &[Box<RawValue>]) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Row<'a> {
            outcome: &'a str,
        }
        let mut out = output::data();
        for row in rows {
            let is_first = self.told.letters == 0;
            let taken = serde_json::from_str::<Row<'_>>(row.get()).context("read a row")?.outcome == "accepted";
            self.told.letters += 1;
            self.told.accepted += u64::from(taken);
            self.told.refused += u64::from(!taken);
            if self.output == Printed::Json {
                write!(out, "{}{}", if is_first { "{\"rows\":[\n" } else { ",\n" }, row.get())?;
            }
        }
        if self.output == Printed::Table {
            output::end_live();
            self.table.page(rows, columns, &mut out)?;
        }
        out.flush()?;
        let Told { letters, accepted, refused } = &self.told;
        live(&format!("retried {letters}: {accepted} taken in, {refused} refused again"));
        Ok(())
    }

    /// Ends the document, and says how it went.
    pub(super) fn end(self) -> Outcome {
        let Told { letters: n, accepted, refused } = self.told;
        if self.output == Printed::Json {
            let mut out = output::data();
            writeln!(out, "{}],\"next_cursor\":null}}", if n == 0 { "{\"rows\":[" } else { "\n" })?;
            out.flush()?;
        }
        output::end_live();
        output::message(&format!("retried {n} {}: {accepted} taken in, {refused} refused again", letters(n)));
        if refused == 0 { Ok(()) } else { Err(Failure::Told) }
    }
}

fn columns(mut row: Members) -> Members {
    let mut take = |name: &str| {
        let at = row.0.iter().position(|(member, _)| member == name)?;
        let (name, value) = row.0.swap_remove(at);
        Some(if name == "detail" { (name, listing::short(value)) } else { (name, value) })
    };
    Members(COLUMNS.iter().filter_map(|name| take(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_that_was_refused_again_is_an_answer() {
        let body = r#"{"title":"x","status":422,"code":"nothing_accepted","id":"1","state":"open","attempts":2,"received":1,"accepted":0,"skipped":0,"rejected":1,"errors":[{"reason":"not_numeric","detail":"`hot`"}]}"#;
        let row = outcome(&Answer::made(422, body)).unwrap();
        assert!(row.get().contains(r#""outcome":"rejected""#) && row.get().contains("`hot`"), "{row}");
        for (status, body) in [(404, r#"{"detail":"there is none"}"#), (422, r#"{"detail":"too costly"}"#), (500, "")] {
            assert!(matches!(outcome(&Answer::made(status, body)), Err(Failure::Failed(_))), "{status}");
        }
    }

    #[test]
    fn parameters_are_encoded() {
        let pairs = [("device", "plant-a/*"), ("from", "now+1m")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(query(&pairs), "device=plant-a%2F%2A&from=now%2B1m");
    }
}
