//! Named instants at which a test may stop the process, and named bugs that a test may have planted in it.
//!
//! Owns: the names' single meeting point. Does not know: what happens there; the binary installs a handler, and plants a bug, when
//! it is built for fault tests. Without them a failpoint costs one atomic load, and so does asking for a bug.
//!
//! A planted bug is there to show that the checks find it: each is one line where the right thing would be done.

use std::sync::OnceLock;

static HANDLER: OnceLock<fn(&'static str)> = OnceLock::new();
static PLANTED: OnceLock<String> = OnceLock::new();

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

/// Whether the bug `name`, such as `last-value-wins`, was planted in this process.
pub fn planted(name: &'static str) -> bool {
    PLANTED.get().is_some_and(|planted| planted == name)
}

/// Plants a bug in this process, for good; the first call wins.
pub fn plant(name: &str) {
    PLANTED.get_or_init(|| name.to_owned());
}
