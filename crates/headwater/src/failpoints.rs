//! Dying and erring on order, for fault tests; only in a binary built with the feature `failpoints`.
//!
//! `HEADWATER_FAILPOINT=log.append.before_commit:3` kills the process with SIGKILL the third time it comes there: no
//! destructor runs, no buffer is flushed, as when the power of a process goes. `HEADWATER_PLANTED_BUG=last-value-wins` plants one of the bugs that the checks have
//! to find.

use crate::environment::Environment;
use headwater_core::failpoint;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Ordered {
    name: String,
    nth: u64,
    reached: AtomicU64,
}

static ORDERED: OnceLock<Ordered> = OnceLock::new();

/// Plants the bug and arms the failpoint that the environment names, if any.
pub(crate) fn install(environment: &Environment) {
    if let Some(bug) = environment.planted_bug() {
        failpoint::plant(bug);
    }
    let Some(order) = environment.failpoint() else { return };
    let (name, nth) = match order.rsplit_once(':').and_then(|(name, nth)| Some((name, nth.parse().ok()?))) {
        Some((name, nth)) => (name, nth),
        None => (order, 1),
    };
    ORDERED.get_or_init(|| Ordered { name: name.to_owned(), nth, reached: AtomicU64::new(0) });
    failpoint::install(reached);
}

fn reached(name: &'static str) {
    let Some(ordered) = ORDERED.get().filter(|ordered| ordered.name == name) else { return };
    if ordered.reached.fetch_add(1, Ordering::SeqCst) + 1 == ordered.nth {
        // Nothing goes on here, whatever comes of the signal: an abort runs no destructor either.
        if rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).is_err() {
            std::process::abort();
        }
        std::thread::park();
    }
}
