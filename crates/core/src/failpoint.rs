//! Named instants at which a test may stop the process.
//!
//! Owns: the names' single meeting point. Does not know: what happens there; the binary installs a handler when it is built
//! for fault tests, and without one a failpoint costs one atomic load.

use std::sync::OnceLock;

static HANDLER: OnceLock<fn(&'static str)> = OnceLock::new();

/// Says that the code has come to the instant `name`, such as `log.append.before_commit`.
pub fn reach(name: &'static str) {
    if let Some(handler) = HANDLER.get() {
        handler(name);
    }
}

/// Installs what happens at failpoints; the first call wins.
pub fn install(handler: fn(&'static str)) {
    HANDLER.get_or_init(|| handler);
}
