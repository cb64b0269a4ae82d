//! `headwater seal`: seals everything that is open now.
//!
//! Owns: asking again until it is done, and what is printed. Does not know: how sealing works.

use crate::cli::{self, Output};
use crate::client::{Answer, Client};
use crate::environment::Environment;
use crate::failure::Outcome;
use crate::output;
use anyhow::{Context, anyhow};
use headwater_web::Scope;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::time::Duration;

/// Between two requests, where the server does not say how long.
const PAUSE_S: u64 = 1;
const NOT_FOUND: u16 = 404;
/// No server may keep the command waiting for longer than this.
const LONGEST_PAUSE_S: u64 = 30;

/// The members of the answer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Sealed {
    stored: u64,
    duplicate: u64,
    conflict: u64,
    /// Not told where there is more to do.
    #[serde(default)]
    unsealed: u64,
}

impl Sealed {
    const fn and(self, later: Self) -> Self {
        Self {
            stored: self.stored + later.stored,
            duplicate: self.duplicate + later.duplicate,
            conflict: self.conflict + later.conflict,
            unsealed: later.unsealed,
        }
    }
}

/// `headwater seal`.
pub(crate) fn run(args: &cli::Seal, environment: &Environment) -> Outcome {
    let mut client = Client::new(&args.remote, environment, Scope::Admin)?;
    let mut sealed = Sealed::default();
    loop {
        let answer = client.post("/v1/seal", "application/json", b"")?;
        let Some(part) = unfinished(&answer) else {
            if answer.status == NOT_FOUND {
                return Err(anyhow!("nothing can be sealed there: the role rollup does not run in that server").into());
            }
            let last = serde_json::from_slice(&answer.succeeded()?.body).context("read the server's answer")?;
            sealed = sealed.and(last);
            break;
        };
        sealed = sealed.and(part);
        output::message("there is more to seal; going on");
        std::thread::sleep(Duration::from_secs(answer.retry_after.unwrap_or(PAUSE_S).min(LONGEST_PAUSE_S)));
    }
    let mut out = output::data();
    write!(out, "{}", printed(&sealed, args.output())?)?;
    Ok(out.flush()?)
}

/// What was settled so far, where the server says that there is more to do.
fn unfinished(answer: &Answer) -> Option<Sealed> {
    #[derive(Deserialize)]
    struct Problem<'a> {
        code: &'a str,
        #[serde(flatten)]
        sealed: Sealed,
    }
    let problem: Problem<'_> = answer.is_transient().then(|| serde_json::from_slice(&answer.body).ok())??;
    (problem.code == "seal_unfinished").then_some(problem.sealed)
}

fn printed(sealed: &Sealed, output: Output) -> anyhow::Result<String> {
    let Sealed { stored, duplicate, conflict, unsealed } = sealed;
    Ok(match output {
        Output::Json => serde_json::to_string(sealed)? + "\n",
        Output::Csv => format!("stored,duplicate,conflict,unsealed\r\n{stored},{duplicate},{conflict},{unsealed}\r\n"),
        Output::Table => {
            let names = ["STORED", "DUPLICATE", "CONFLICT", "UNSEALED"];
            let numbers = [stored, duplicate, conflict, unsealed].map(u64::to_string);
            let widths: Vec<usize> = names.iter().zip(&numbers).map(|(name, number)| name.len().max(number.len())).collect();
            let line = |cells: [&str; 4]| {
                let cells: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
                cells.join("  ")
            };
            format!("{}\n{}\n", line(names), line([&numbers[0], &numbers[1], &numbers[2], &numbers[3]]))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_work_add_up_and_the_last_says_what_is_open() {
        let problem = r#"{"type":"about:blank","status":503,"code":"seal_unfinished","stored":5,"duplicate":2,"conflict":1}"#;
        let part = unfinished(&Answer::made(503, problem)).unwrap();
        assert_eq!(part, Sealed { stored: 5, duplicate: 2, conflict: 1, unsealed: 0 });
        let last = Sealed { stored: 1, duplicate: 0, conflict: 0, unsealed: 9 };
        assert_eq!(part.and(last), Sealed { stored: 6, duplicate: 2, conflict: 1, unsealed: 9 });
    }

    #[test]
    fn other_refusals_are_the_end() {
        for (status, body) in [(503, r#"{"code":"stopping","stored":5,"duplicate":2,"conflict":1}"#), (503, "<html>"), (403, "{}")] {
            assert_eq!(unfinished(&Answer::made(status, body)), None, "{body}");
        }
    }

    #[test]
    fn the_answer_is_printed_as_it_is_wanted() {
        let sealed = Sealed { stored: 1_234_567, duplicate: 2, conflict: 0, unsealed: 3 };
        assert_eq!(printed(&sealed, Output::Json).unwrap(), "{\"stored\":1234567,\"duplicate\":2,\"conflict\":0,\"unsealed\":3}\n");
        assert_eq!(
            printed(&sealed, Output::Table).unwrap(),
            " STORED  DUPLICATE  CONFLICT  UNSEALED\n1234567          2         0         3\n"
        );
        assert_eq!(printed(&sealed, Output::Csv).unwrap(), "stored,duplicate,conflict,unsealed\r\n1234567,2,0,3\r\n");
    }
}
