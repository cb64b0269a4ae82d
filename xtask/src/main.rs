//! `cargo xtask check | test | bench | servers`: the project's own tasks, so that nothing lives only in a CI script.
//!
//! Owns: which checks there are and in which order. Does not know: the crates' insides (it reads `cargo metadata`).
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool prints")]

mod bench;
mod check;
mod metadata;
mod rules;
mod servers;
mod test;
mod tidy;
mod watched;

use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask check | test | bench | servers [options]

  check    format, lints, documentation, licences and bans, the rule of dependencies, tidiness of sources,
           what is shipped for Prometheus and Grafana
  test     check, then every test of the workspace; installs (on Debian) and starts what the tests need
  bench    speed, size and freshness: bench write | query | dashboard | slow | scaled (docs/performance.md)
  servers  install | start | status | env | stop: Kafka and PostgreSQL for tests, without containers";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.first().map(String::as_str) {
        Some("check") => check::run(),
        Some("test") => test::run(),
        Some("bench") => bench::run(&args[1..]),
        Some("servers") => servers::run(&args[1..]),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a program and fails when it does, naming the command.
fn run(program: &str, args: &[&str]) -> anyhow::Result<()> {
    run_with(Command::new(program).args(args))
}

fn run_with(command: &mut Command) -> anyhow::Result<()> {
    let words: Vec<String> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(|w| w.to_string_lossy().into_owned()).collect();
    let line = words.join(" ");
    eprintln!("$ {line}");
    let status = command.status().map_err(|error| anyhow::anyhow!("run `{line}`: {error}"))?;
    anyhow::ensure!(status.success(), "`{line}` failed ({status})");
    Ok(())
}
