//! `headwater completions`: a script that completes commands and flags.

use crate::cli::{Cli, Completions};
use crate::failure::Outcome;
use crate::output;
use clap::CommandFactory;
use std::io::Write;

pub(crate) fn run(args: &Completions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "headwater", &mut script);
    let mut out = output::data();
    out.write_all(&script)?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shell_has_a_script_that_names_the_commands() {
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "headwater", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["backup", "rotate-key", "data-dir"] {
                assert!(script.contains(word), "{word} for {shell}");
            }
        }
    }
}
