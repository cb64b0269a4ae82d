//! `headwater dead-letters`: what was refused, and the way back for it, from a shell.
//!
//! Owns: which command asks what. [`listing`] prints letters, [`letter`] is one of them, [`work`] retries and discards many, [`edit`] brings one
//! into an editor. Does not know: how a letter is taken in again; the server decides.
//! Invariant: many letters are changed only after a person, or `--yes`, has said so.

mod edit;
mod letter;
mod listing;
mod work;

use crate::cli::DeadLetters;
use crate::environment::Environment;
use crate::failure::Outcome;
use headwater_web::{Scope, Scopes};

const PATH: &str = "/v1/dead-letters";

/// `headwater dead-letters …`.
pub(crate) fn run(command: &DeadLetters, environment: &Environment) -> Outcome {
    match command {
        DeadLetters::List(args) => listing::list(args, environment),
        DeadLetters::Show(args) => listing::show(args, environment),
        DeadLetters::Retry(args) => work::retry(args, environment),
        DeadLetters::Edit(args) => edit::edit(args, environment),
        DeadLetters::Discard(args) => work::discard(args, environment),
    }
}

/// What a command needs that looks before it changes something.
fn to_look_and_change() -> Scopes {
    Scopes::from(Scope::ReadDeadLetters).with(Scope::WriteDeadLetters)
}
