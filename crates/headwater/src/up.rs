//! `headwater up`: every role of the configuration (by default all) in this process.

use crate::cli::Up;
use crate::demo;
use crate::environment::Environment;
use crate::failure::Outcome;
use crate::run;

pub(crate) fn run(args: &Up, environment: &Environment) -> Outcome {
    let mut flags = args.server.flags();
    if args.demo && args.server.data_dir.is_none() {
        flags = flags.with("data_dir", "--demo", Some(demo::DATA_DIR));
    }
    run::serve(&args.server, flags, args.demo, environment)
}
