//! Posts one body and reads what became of its rows.
//!
//! Owns: waiting where the server asks for it. Does not know: files.
//! Invariant: a body is sent again only after the server has said that it took nothing of it (429, 503); a repeat would be
//! harmless in any case.

use super::Stopped;
use super::chunks::Chunk;
use super::report::{Counts, Reject, Report};
use crate::cli::Format;
use crate::client::{Answer, Client};
use anyhow::{Context, bail};
use serde::Deserialize;
use std::time::Duration;

/// What to wait where the server does not say, and the most that is waited before asking again.
const DEFAULT_WAIT: u64 = 1;
const LONGEST_WAIT: u64 = 60;

/// The answer of `POST /v1/readings`, and the members of its 422.
#[derive(Deserialize)]
struct Written {
    received: u64,
    accepted: u64,
    skipped: u64,
    rejected: u64,
    #[serde(default)]
    errors: Vec<Refused>,
}

#[derive(Deserialize)]
struct Refused {
    index: Option<u64>,
    line: Option<u64>,
    reason: String,
    detail: String,
}

/// Influx's form of a refusal.
#[derive(Deserialize)]
struct InfluxRefusal {
    message: String,
}

/// Sends `chunk` and notes in `report` what became of it.
pub(super) fn chunk(client: &mut Client, format: Format, chunk: &Chunk, report: &mut Report) -> Result<(), Stopped> {
    let (path, content_type) = match format {
        Format::Csv => ("/v1/readings", "text/csv"),
        Format::Ndjson => ("/v1/readings", "application/x-ndjson"),
        Format::Line => ("/api/v2/write?bucket=import", "text/plain; charset=utf-8"),
    };
    let answer = loop {
        let answer = client.post(path, content_type, &chunk.body).map_err(Stopped::ByServer)?;
        if !answer.is_transient() {
            break answer;
        }
        let seconds = answer.retry_after.unwrap_or(DEFAULT_WAIT).clamp(1, LONGEST_WAIT);
        report.say(&format!("{}; trying again in {seconds} s", answer.refusal()));
        std::thread::sleep(Duration::from_secs(seconds));
    };
    let read = if format == Format::Line { of_influx(&answer, chunk) } else { of_readings(&answer, chunk) };
    let (counts, rejects) = read.map_err(|why| {
        let why = why.context(format!("lines {} to {}", chunk.lines.0, chunk.lines.1));
        // What is wrong with this body says nothing of other files.
        if matches!(answer.status, 400 | 413 | 415 | 422) { Stopped::ByFile(why) } else { Stopped::ByServer(why) }
    })?;
    report.sent(counts, &rejects);
    Ok(())
}

fn of_readings(answer: &Answer, chunk: &Chunk) -> anyhow::Result<(Counts, Vec<Reject>)> {
    // Where nothing was accepted the same counts come in a 422; any other refusal has none.
    let written = match (answer.status, serde_json::from_slice::<Written>(&answer.body)) {
        (200 | 422, Ok(written)) => written,
        (200, Err(why)) => return Err(why).context("read the server's answer"),
        _ => bail!("{}", answer.refusal()),
    };
    let Written { received, accepted, skipped, rejected, errors } = written;
    let rejects = errors.into_iter().map(|refused| {
        let line = match (refused.line, refused.index) {
            (Some(line), _) => Some(chunk.line_of(line)),
            (None, Some(index)) => chunk.line_of_item(index),
            (None, None) => None,
        };
        Reject { line, text: format!("{}: {}", refused.reason, refused.detail) }
    });
    Ok((Counts { received, accepted, skipped, rejected }, rejects.collect()))
}

/// An Influx route does not count what it took when it took everything; then every field that is no string was.
fn of_influx(answer: &Answer, chunk: &Chunk) -> anyhow::Result<(Counts, Vec<Reject>)> {
    if answer.is_success() {
        let (received, skipped) = (chunk.fields.all, chunk.fields.strings);
        return Ok((Counts { received, accepted: received - skipped, skipped, rejected: 0 }, Vec::new()));
    }
    let message = serde_json::from_slice::<InfluxRefusal>(&answer.body).map(|refusal| refusal.message).unwrap_or_default();
    let Some((accepted, rejected, details)) = partial(&message) else { bail!("{}", answer.refusal()) };
    let skipped = chunk.fields.all.saturating_sub(accepted + rejected).min(chunk.fields.strings);
    let rejects = rejects_of(details).into_iter().map(|(line, text)| Reject { line: Some(chunk.line_of(line)), text: text.to_owned() });
    Ok((Counts { received: accepted + skipped + rejected, accepted, skipped, rejected }, rejects.collect()))
}

/// The parts of `partial write: accepted N, rejected M: line 3: …`.
fn partial(message: &str) -> Option<(u64, u64, &str)> {
    let (_, rest) = message.split_once("partial write: accepted ")?;
    let (accepted, rest) = rest.split_once(", rejected ")?;
    let (rejected, details) = rest.split_once(':').unwrap_or((rest, ""));
    Some((accepted.trim().parse().ok()?, rejected.trim().parse().ok()?, details.trim()))
}

/// The parts of `line 3: …; line 7: …`. A detail may hold what looks like a border; then it is printed as two lines.
fn rejects_of(details: &str) -> Vec<(u64, &str)> {
    let borders = details.match_indices("line ").filter(|(at, _)| *at == 0 || matches!(details.as_bytes()[at - 1], b' ' | b'\n' | b';'));
    let starts: Vec<usize> = borders.map(|(at, _)| at).filter(|at| numbered(&details[*at..]).is_some()).collect();
    let ends = starts.iter().skip(1).copied().chain([details.len()]);
    starts.iter().zip(ends).filter_map(|(start, end)| numbered(&details[*start..end])).collect()
}

fn numbered(text: &str) -> Option<(u64, &str)> {
    let (number, detail) = text.strip_prefix("line ")?.split_once(':')?;
    Some((number.parse().ok()?, detail.trim_matches([' ', ';', ',', '\n'])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::chunks::Chunks;

    fn second_chunk(row: &str, format: Format) -> Chunk {
        let text = format!("{}{}", if format == Format::Csv { "device,metric,ts,value\n" } else { "" }, row.repeat(6_000));
        Chunks::new(text.as_bytes(), format).nth(1).unwrap().unwrap()
    }

    #[test]
    fn places_of_rejects_are_lines_of_the_file() {
        let body = r#"{"received":1000,"accepted":999,"skipped":0,"rejected":1,"errors":[{"line":2,"reason":"not_numeric","detail":"`x`","dead_letter":"0"}]}"#;
        let (counts, rejects) = of_readings(&Answer::made(200, body), &second_chunk("a,b,1,2\n", Format::Csv)).unwrap();
        assert_eq!((counts.received, counts.accepted, counts.rejected), (1_000, 999, 1));
        assert_eq!(rejects, [Reject { line: Some(5_002), text: "not_numeric: `x`".to_owned() }]);
        let body = r#"{"received":1,"accepted":0,"skipped":0,"rejected":1,"errors":[{"index":9,"reason":"malformed","detail":"no"}]}"#;
        let (_, rejects) = of_readings(&Answer::made(422, body), &second_chunk("{}\n", Format::Ndjson)).unwrap();
        assert_eq!(rejects[0].line, Some(5_010));
    }

    #[test]
    fn a_refusal_without_counts_ends_the_import() {
        let chunk = second_chunk("a,b,1,2\n", Format::Csv);
        for (status, body) in
            [(400, r#"{"detail":"no header"}"#), (401, "{}"), (413, "{}"), (422, r#"{"detail":"x"}"#), (500, ""), (200, "<html>")]
        {
            assert!(of_readings(&Answer::made(status, body), &chunk).is_err(), "{status}");
        }
    }

    #[test]
    fn what_a_partial_write_says_is_counted() {
        let message = "partial write: accepted 4998, rejected 2: line 3: malformed: no fields; line 17: not_finite: too large";
        let body = serde_json::json!({"code": "invalid", "message": message}).to_string();
        let (counts, rejects) = of_influx(&Answer::made(400, &body), &second_chunk("m v=1\n", Format::Line)).unwrap();
        assert_eq!((counts.accepted, counts.rejected), (4_998, 2));
        let told: Vec<_> = rejects.iter().map(|reject| (reject.line, reject.text.as_str())).collect();
        assert_eq!(told, [(Some(5_003), "malformed: no fields"), (Some(5_017), "not_finite: too large")]);
    }

    #[test]
    fn all_fields_of_a_complete_write_were_accepted_but_strings() {
        let (counts, rejects) = of_influx(&Answer::made(204, ""), &second_chunk("m v=1,s=\"x\"\n", Format::Line)).unwrap();
        assert_eq!((counts.received, counts.accepted, counts.skipped, counts.rejected, rejects.len()), (2_000, 1_000, 1_000, 0, 0));
    }
}
