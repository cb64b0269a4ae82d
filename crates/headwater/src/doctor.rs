//! `headwater doctor`: what a server needs, looked at where it is going to run.
//!
//! Owns: the order of looking, and how it is told. [`machine`] looks at clock, limits and port, [`directory`] at the data directory, its disk and
//! the key, [`certificate`] at TLS; [`crate::wiring`] at log and store. Does not know: how to heal anything, but for the words that say so.
//!
//! Invariants: nothing is changed (a probe file of the speed of the disk comes and goes); it works beside a server; every line that is not `ok`
//! says what to do; one thing that cannot be looked at hides no other.

mod certificate;
mod directory;
mod machine;

use crate::cli;
use crate::config;
use crate::environment::Environment;
use crate::failure::{Failure, Outcome};
use crate::{output, wiring};
use anyhow::Context;
use serde_json::json;
use std::io::Write;

/// How well a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// It works, and a person should know.
    Warn,
    /// It does not work, or loses what was acknowledged.
    Fail,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// What.
    pub(crate) name: &'static str,
    /// How well it is.
    pub(crate) state: State,
    /// What was seen.
    pub(crate) seen: String,
    /// What to do; empty where nothing is.
    pub(crate) advice: String,
}

impl Line {
    /// As it should be.
    pub(crate) fn ok(name: &'static str, seen: impl Into<String>) -> Self {
        Self { name, state: State::Ok, seen: seen.into(), advice: String::new() }
    }

    /// It works, and a person should know.
    pub(crate) fn warn(name: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, state: State::Warn, seen: seen.into(), advice: advice.into() }
    }

    /// It does not work.
    pub(crate) fn fail(name: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, state: State::Fail, seen: seen.into(), advice: advice.into() }
    }
}

pub(crate) fn run(args: &cli::Doctor, environment: &Environment) -> Outcome {
    let lines = match config::look(args.server.config.as_deref(), environment, args.flags(), args.server.insecure) {
        Ok(looked) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
            let mut lines = of_configuration(&looked.problems);
            lines.extend(machine::look(&looked.settings));
            lines.extend(certificate::look(&looked.settings.http));
            lines.extend(directory::look(&looked.settings));
            lines.extend(runtime.block_on(wiring::examine::look(&looked.settings)));
            // A client of Kafka that nobody answers ends late; nothing depends on it.
            runtime.shutdown_background();
            lines
        }
        // Without it nobody knows what to look at.
        Err(problems) => of_configuration(&problems),
    };
    let worst = lines.iter().map(|line| line.state).max().unwrap_or(State::Ok);
    let mut out = output::data();
    out.write_all(if args.json { in_json(&lines, worst) } else { in_words(&lines, worst) }.as_bytes())?;
    out.flush()?;
    if worst == State::Fail { Err(Failure::Told) } else { Ok(()) }
}

fn of_configuration(problems: &config::Problems) -> Vec<Line> {
    const NAME: &str = "configuration";
    match problems.lines() {
        [] => vec![Line::ok(NAME, "nothing is wrong with it")],
        lines => {
            lines.iter().map(|line| Line::fail(NAME, line, "mend it; `headwater config print` shows where values come from")).collect()
        }
    }
}

fn in_words(lines: &[Line], worst: State) -> String {
    let width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Line { name, state, seen, advice } in lines {
        text.push_str(&format!("{:<4}  {name:<width$}  {}\n", state.as_str(), output::sanitised(seen)));
        if !advice.is_empty() {
            text.push_str(&format!("{:<4}  {:<width$}  → {}\n", "", "", output::sanitised(advice)));
        }
    }
    let count = |state: State| lines.iter().filter(|line| line.state == state).count();
    text.push_str(&match worst {
        State::Ok => "everything is as it should be\n".to_owned(),
        State::Warn => format!("it works; {} to know\n", things(count(State::Warn))),
        State::Fail => format!("{} to mend, {} to know\n", things(count(State::Fail)), things(count(State::Warn))),
    });
    text
}

fn things(n: usize) -> String {
    format!("{n} {}", if n == 1 { "thing" } else { "things" })
}

fn in_json(lines: &[Line], worst: State) -> String {
    let line = |line: &Line| json!({ "name": line.name, "state": line.state.as_str(), "seen": line.seen, "advice": line.advice });
    json!({ "state": worst.as_str(), "checks": lines.iter().map(line).collect::<Vec<_>>() }).to_string() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_well_says_what_to_do() {
        let lines = [
            Line::ok("clock", "right"),
            Line::warn("port", "taken", "choose another"),
            Line::fail("key", "world readable", "chmod 600 key"),
        ];
        let text = in_words(&lines, State::Fail);
        assert_eq!(
            text,
            "ok    clock  right\nwarn  port   taken\n             → choose another\nfail  key    world readable\n             → chmod 600 key\n1 thing to mend, 1 thing to know\n"
        );
        assert_eq!(in_words(&lines[..1], State::Ok).lines().last(), Some("everything is as it should be"));
    }
}
