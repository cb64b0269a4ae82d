//! How a command ends: exit codes 0 (done), 1 (failed), 2 (usage).
//!
//! Owns: what a person reads of a failure. Does not know: which command it was.

use crate::config::Problems;
use crate::output;
use std::process::ExitCode;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was asked wrongly; nothing was done.
    Usage(String),
    /// It failed.
    Failed(anyhow::Error),
    /// It failed and has said so already.
    Told,
}

/// What a command ends with.
pub(crate) type Outcome = Result<(), Failure>;

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(failed: E) -> Self {
        let failed = failed.into();
        match failed.downcast::<Problems>() {
            Ok(problems) => Self::Usage(problems.to_string()),
            Err(failed) => Self::Failed(failed),
        }
    }
}

/// Says what went wrong, and with which code the process ends.
pub(crate) fn exit_code(outcome: Outcome) -> ExitCode {
    let (text, code) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Failed(failed)) if output::is_broken_pipe(&failed) => return ExitCode::SUCCESS,
        Err(Failure::Told) => return ExitCode::from(1),
        Err(Failure::Usage(text)) => (text, 2),
        Err(Failure::Failed(failed)) => (format!("{failed:#}"), 1),
    };
    // It may hold what a person has pasted or a server has said; only the ends of lines are our own.
    let lines: Vec<_> = text.split('\n').map(output::sanitised).collect();
    output::message(&format!("headwater: {}", lines.join("\n")));
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_configuration_that_cannot_be_used_is_a_usage_error() {
        assert!(matches!(Failure::from(Problems::default()), Failure::Usage(_)));
        assert!(matches!(Failure::from(anyhow::anyhow!("other")), Failure::Failed(_)));
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let gone = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("write the answer");
        assert_eq!(format!("{:?}", exit_code(Err(Failure::Failed(gone)))), format!("{:?}", ExitCode::SUCCESS));
    }
}
