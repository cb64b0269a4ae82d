//! Looks at the topic again and again: is it still the same one, how many partitions has it, does the cluster answer.
//!
//! Owns: [`Status`] and the thread that keeps it. Does not know: what is done about it.
//! Invariants: a topic that was made again is noticed within [`PAUSE`] (Kafka itself may say nothing), once and for good. The
//! thread is the clients' last owner, so that ending them, which blocks, happens on it.

use crate::clients::Clients;
use headwater_core::log::{LogError, LogId};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tracing::{info, warn};

/// How often the topic is looked at.
pub(crate) const PAUSE: Duration = Duration::from_secs(5);

/// The log as it was last seen.
pub(crate) struct Status {
    /// The log that was opened.
    pub(crate) id: LogId,
    partitions: AtomicU32,
    /// Why the last look saw nothing.
    trouble: Mutex<Option<LogError>>,
    /// Why this log is no longer the one that was opened.
    over: watch::Sender<Option<LogError>>,
}

impl Status {
    pub(crate) fn new(id: LogId, partitions: u32) -> Arc<Self> {
        Arc::new(Self { id, partitions: AtomicU32::new(partitions), trouble: Mutex::new(None), over: watch::Sender::new(None) })
    }

    /// How many partitions the topic has.
    pub(crate) fn partitions(&self) -> u32 {
        self.partitions.load(Ordering::Relaxed)
    }

    /// Fails once the topic was made again.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        self.over.borrow().clone().map_or(Ok(()), Err)
    }

    /// Tells when [`Status::check`] begins to fail.
    pub(crate) fn over(&self) -> watch::Receiver<Option<LogError>> {
        self.over.subscribe()
    }

    /// Fails where the cluster did not answer the last time.
    pub(crate) fn answers(&self) -> Result<(), LogError> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }

    /// Takes note of a failure that says something about the log itself.
    pub(crate) fn note(&self, failure: &LogError) {
        if matches!(failure, LogError::Corrupt(_)) {
            self.over.send_if_modified(|over| {
                let is_news = over.is_none();
                over.get_or_insert_with(|| failure.clone());
                is_news
            });
        }
    }

    fn look(&self, clients: &Clients) {
        let seen = clients.check_identity(&self.id).and_then(|()| clients.partitions());
        let trouble = match seen {
            Ok(Some(partitions)) => {
                let before = self.partitions.fetch_max(partitions, Ordering::Relaxed);
                if partitions > before {
                    info!(before, partitions, "topic {} has {partitions} partitions now: devices may move to others", clients.topic);
                }
                None
            }
            Ok(None) => Some(LogError::Unavailable(format!("topic {} has no partitions", clients.topic))),
            Err(failure) => {
                self.note(&failure);
                Some(failure)
            }
        };
        let mut last = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*last, &trouble) {
            (None, Some(failure)) => warn!(%failure, "cannot see topic {}: {failure}", clients.topic),
            (Some(_), None) => info!("topic {} is seen again", clients.topic),
            _ => {}
        }
        *last = trouble;
    }
}

/// Keeps a thread looking until it is dropped.
pub(crate) struct Watch {
    _stop: Sender<()>,
}

/// Begins to look.
pub(crate) fn start(clients: Arc<Clients>, status: Arc<Status>) -> Result<Watch, LogError> {
    let (stop, stopped) = channel();
    let thread = std::thread::Builder::new().name("kafka-watch".to_owned());
    let started = thread.spawn(move || run(clients, &status, &stopped));
    started.map_err(|failure| LogError::Unavailable(format!("start a thread: {failure}")))?;
    Ok(Watch { _stop: stop })
}

fn run(clients: Arc<Clients>, status: &Status, stopped: &Receiver<()>) {
    while matches!(stopped.recv_timeout(PAUSE), Err(RecvTimeoutError::Timeout)) {
        status.look(&clients);
    }
    // Others that ask something right now own the clients for a moment longer, on threads where ending them may block.
    drop(clients);
}
