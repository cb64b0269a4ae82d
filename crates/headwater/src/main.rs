//! The binary `headwater`: command line, configuration, wiring, lifecycle.
//!
//! Owns: what a person types and reads. Of the crates of the project only this one knows both roles and backends, and only
//! [`wiring`] in it names a backend. Invariant: standard output carries data, standard error messages.

mod backup;
mod cli;
mod client;
mod completions;
mod config;
mod config_command;
mod dead_letters;
mod demo;
mod doctor;
mod environment;
#[cfg(feature = "failpoints")]
mod failpoints;
mod failure;
mod import;
mod keys;
mod lifecycle;
mod logging;
mod moving;
mod notify;
mod opening;
#[cfg(feature = "otlp")]
mod otlp;
mod output;
mod process_metrics;
mod query;
mod ready;
mod run;
mod seal;
mod simulate;
mod token;
mod up;
mod verify;
mod wiring;

use clap::Parser;
use cli::{Cli, Command};
use environment::Environment;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let environment = Environment::of_process();
    #[cfg(feature = "failpoints")]
    failpoints::install(&environment);
    failure::exit_code(match cli.command {
        Command::Up(args) => up::run(&args, &environment),
        Command::Run(args) => run::run(&args, &environment),
        Command::Token(cli::Token::Issue(args)) => token::issue(&args, &environment),
        Command::Token(cli::Token::RotateKey(args)) => token::rotate_key(&args, &environment),
        Command::Import(args) => import::run(&args, &environment),
        Command::Stats(args) => query::stats(&args, &environment),
        Command::Readings(args) => query::readings(&args, &environment),
        Command::Latest(args) => query::latest(&args, &environment),
        Command::Series(args) => query::series(&args, &environment),
        Command::DeadLetters(command) => dead_letters::run(&command, &environment),
        Command::Verify(args) => verify::run(&args, &environment),
        Command::Move(args) => moving::run(&args, &environment),
        Command::Backup(args) => backup::run(&args, &environment),
        Command::Restore(args) => backup::restore::run(&args, &environment),
        Command::Config(command) => config_command::run(&command, &environment),
        Command::Doctor(args) => doctor::run(&args, &environment),
        Command::Completions(args) => completions::run(&args),
        Command::Seal(args) => seal::run(&args, &environment),
        Command::Simulate(args) => simulate::run(&args, &environment),
    })
}
