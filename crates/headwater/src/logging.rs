//! Messages of a server, on standard error: for people on a terminal, JSON lines elsewhere.

use crate::config::Logging;
use crate::environment::Environment;
use crate::output;
use std::io;

/// Begins to write messages.
pub(crate) fn start(logging: &Logging, environment: &Environment) -> anyhow::Result<()> {
    let builder = tracing_subscriber::fmt().with_env_filter(logging.filter()?).with_writer(io::stderr);
    let begun = if output::messages_on_terminal() {
        builder.with_ansi(!environment.no_color()).with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
    begun.map_err(|why| anyhow::anyhow!("begin to log: {why}"))
}
