//! Messages of a server, on standard error: for people on a terminal, JSON lines elsewhere; which ones can be changed while it runs.
//!
//! Owns: the two forms, and that no form lets foreign text steer whoever reads it: on a terminal control characters are replaced, in
//! JSON they are escaped. Does not know: who asks for another filter ([`headwater_web::logging`]).

mod clean;

use crate::config::Logging;
use crate::environment::Environment;
use crate::output;
use clean::Clean;
use headwater_web::logging::Switch;
use std::io;
use std::sync::Arc;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::prelude::*;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::{Registry, registry};

/// Whether the layer complains where a message cannot be written: its complaint would be a panic where standard error is closed
/// (whoever read it has gone), of the task that had something to say, such as the one that hears SIGTERM.
const COMPLAIN: bool = false;

/// Changes the filter of the messages that are written.
struct Reload(Handle<EnvFilter, Registry>);

impl Switch for Reload {
    fn set(&self, filter: &str) -> Result<(), String> {
        let filter = Logging::parse(filter).map_err(|why| why.to_string())?;
        self.0.reload(filter).map_err(|why| why.to_string())
    }
}

/// Begins to write messages; gives what changes which.
pub(crate) fn start(logging: &Logging, environment: &Environment) -> anyhow::Result<Arc<dyn Switch>> {
    let (filter, handle) = reload::Layer::new(logging.filter()?);
    let registry = registry().with(filter);
    let begun = if output::messages_on_terminal() {
        let fields = debug_fn(|writer, field, value| {
            let text = format!("{value:?}");
            let text = output::sanitised(&text);
            if field.name() == "message" { write!(writer, "{text}") } else { write!(writer, "{}={text}", field.name()) }
        });
        let fields = fields.delimited(" ");
        registry
            .with(
                layer()
                    .with_writer(io::stderr)
                    .with_ansi(!environment.no_color())
                    .with_target(false)
                    .fmt_fields(fields)
                    .log_internal_errors(COMPLAIN),
            )
            .try_init()
    } else {
        registry
            .with(layer().with_writer(|| Clean(io::stderr())).with_ansi(false).json().flatten_event(true).log_internal_errors(COMPLAIN))
            .try_init()
    };
    begun.map_err(|why| anyhow::anyhow!("begin to log: {why}"))?;
    Ok(Arc::new(Reload(handle)))
}
