//! Who may begin to read while the write-ahead log is too long.
//!
//! Owns: [`Gate`]. Does not know: the log, connections.
//!
//! SQLite starts its write-ahead log over only when no reader needs it. Readers that overlap without a pause would keep it
//! growing for ever, so the writer shuts the gate when it is too long: nobody begins, those who read end by their deadline, the
//! writer empties the log and opens the gate again.

use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;

/// The gate in front of the readers.
#[derive(Debug)]
pub(super) struct Gate {
    open: watch::Sender<bool>,
    /// How many read.
    inside: AtomicUsize,
}

impl Default for Gate {
    fn default() -> Self {
        Self { open: watch::Sender::new(true), inside: AtomicUsize::new(0) }
    }
}

impl Gate {
    pub(super) fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    pub(super) fn set_open(&self, open: bool) {
        self.open.send_if_modified(|was| std::mem::replace(was, open) != open);
    }

    /// Waits until it is open. It may shut again at once.
    pub(super) async fn opened(&self) {
        // The sender is here, so the channel cannot close.
        self.open.subscribe().wait_for(|open| *open).await.ok();
    }

    /// Somebody reads from now on.
    pub(super) fn enter(&self) {
        self.inside.fetch_add(1, Ordering::SeqCst);
    }

    /// Somebody has ended; whether the writer waits for that.
    pub(super) fn leave(&self) -> bool {
        self.inside.fetch_sub(1, Ordering::SeqCst);
        !self.is_open()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inside.load(Ordering::SeqCst) == 0
    }
}
