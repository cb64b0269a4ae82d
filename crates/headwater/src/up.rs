//! `headwater up`: every role of the configuration (by default all) in this process.

use crate::cli::Server;
use crate::environment::Environment;
use crate::failure::Outcome;
use crate::run;

pub(crate) fn run(args: &Server, environment: &Environment) -> Outcome {
    run::serve(args, args.flags(), environment)
}
