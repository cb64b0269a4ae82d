//! The threads that snapshots run on: each has a connection, and at most one snapshot at a time.
//!
//! Owns: [`Readers`] and [`View`], a pinned state. Does not know: what is asked of it.
//! Invariants: a snapshot has its reader alone; it ends when it is dropped and at its deadline at the latest, even in the middle
//! of a statement, so that the write-ahead log can start over; nobody waits for a reader longer than the snapshot was to live.

use super::errors::on_read;
use super::gate::Gate;
use super::ingestion::LOAD_STATE;
use super::snapshot::Pinned;
use crate::error::{Fault, OpenError};
use crate::sqlite::{self, Use};
use headwater_core::store::{Result, StoreError};
use rusqlite::Connection;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time;

/// No snapshot lives longer, whatever was asked for: the write-ahead log grows meanwhile.
const LONGEST: Duration = Duration::from_secs(600);
/// A running statement looks at its deadline every so many instructions of SQLite's machine.
const PROGRESS_STEPS: i32 = 2_000;

/// A question to a pinned state, with its answer's way back inside.
pub(super) type Question = Box<dyn FnOnce(&View<'_>) + Send>;

/// What a reader's thread is told while it has a snapshot.
pub(super) enum Request {
    Ask(Question),
    End,
}

/// Until when a snapshot lives, and whether anybody still wants it.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) deadline: Instant,
    dropped: AtomicBool,
}

impl Life {
    fn is_over(&self) -> bool {
        self.dropped.load(Ordering::Relaxed) || Instant::now() >= self.deadline
    }

    /// Nobody wants it any more.
    pub(super) fn end(&self) {
        self.dropped.store(true, Ordering::Relaxed);
    }
}

/// A pinned state, on the thread that has it.
pub(super) struct View<'a> {
    pub(super) conn: &'a Connection,
    life: &'a Life,
}

impl View<'_> {
    /// For work between statements: an error past the deadline.
    pub(super) fn check_deadline(&self) -> Result<()> {
        if self.life.is_over() { Err(StoreError::Deadline) } else { Ok(()) }
    }
}

/// A snapshot for a thread to run.
struct Session {
    life: Arc<Life>,
    requests: mpsc::Receiver<Request>,
    /// Says that the state is pinned.
    begun: oneshot::Sender<Result<()>>,
    _permit: OwnedSemaphorePermit,
}

/// One thread.
struct Slot {
    sessions: Option<mpsc::SyncSender<Session>>,
    thread: Option<JoinHandle<()>>,
    /// The snapshot that it runs, to end it when the store closes.
    running: Option<(Arc<Life>, mpsc::SyncSender<Request>)>,
    free: bool,
}

/// All reader threads.
pub(super) struct Readers {
    slots: Mutex<Vec<Slot>>,
    permits: Arc<Semaphore>,
    gate: Arc<Gate>,
    /// Tells the writer that a reader has ended which it waits for.
    ended: Box<dyn Fn() + Send + Sync>,
}

impl Readers {
    /// `name` is for their threads.
    pub(super) fn open(
        path: &Path,
        name: &str,
        threads: usize,
        gate: Arc<Gate>,
        ended: Box<dyn Fn() + Send + Sync>,
    ) -> std::result::Result<Arc<Self>, OpenError> {
        let threads = threads.clamp(1, 64);
        let readers = Arc::new(Self { slots: Mutex::default(), permits: Arc::new(Semaphore::new(threads)), gate, ended });
        for index in 0..threads {
            let conn = sqlite::open(path, Use::Read)?;
            // One at a time: the permit of the one before is given back after its slot.
            let (sessions, queue) = mpsc::sync_channel(1);
            let pool = Arc::downgrade(&readers);
            let serve = move || {
                let mut conn = conn;
                while let Ok(session) = queue.recv() {
                    let Some(pool) = pool.upgrade() else { return };
                    run(&mut conn, session, || pool.give_back(index));
                }
            };
            let thread = thread::Builder::new()
                .name(format!("{name}-{index}"))
                .spawn(serve)
                .map_err(OpenError::doing("cannot start a reader thread of the store"))?;
            readers.slots().push(Slot { sessions: Some(sessions), thread: Some(thread), running: None, free: true });
        }
        Ok(readers)
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pins a state, when the gate is open and a reader is free.
    pub(super) async fn begin(self: Arc<Self>, lifetime: Duration) -> Result<Pinned> {
        let deadline = Instant::now() + lifetime.min(LONGEST);
        let busy = |_| StoreError::Busy(format!("no reader was free for {lifetime:?}"));
        let permit = time::timeout_at(deadline.into(), self.enter()).await.map_err(busy)??;
        let life = Arc::new(Life { deadline, dropped: AtomicBool::new(false) });
        // One question and the end: there is never more than one question under way.
        let (requests, queue) = mpsc::sync_channel(2);
        let (begun, pinned) = oneshot::channel();
        let session = Session { life: Arc::clone(&life), requests: queue, begun, _permit: permit };
        self.hand_over(session, (Arc::clone(&life), requests.clone()))?;
        let pinned_state = Pinned::new(life, requests);
        pinned.await.unwrap_or_else(|_| Err(closed()))?;
        Ok(pinned_state)
    }

    async fn enter(&self) -> Result<OwnedSemaphorePermit> {
        loop {
            self.gate.opened().await;
            let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| closed())?;
            if self.gate.is_open() {
                return Ok(permit);
            }
        }
    }

    fn hand_over(&self, session: Session, running: (Arc<Life>, mpsc::SyncSender<Request>)) -> Result<()> {
        let mut slots = self.slots();
        let slot = slots.iter_mut().find(|slot| slot.free && slot.sessions.is_some()).ok_or_else(closed)?;
        let sessions = slot.sessions.as_ref().ok_or_else(closed)?;
        self.gate.enter();
        if sessions.try_send(session).is_err() {
            self.gate.leave();
            return Err(closed());
        }
        (slot.free, slot.running) = (false, Some(running));
        Ok(())
    }

    fn give_back(&self, index: usize) {
        if let Some(slot) = self.slots().get_mut(index) {
            (slot.free, slot.running) = (true, None);
        }
        if self.gate.leave() {
            (self.ended)();
        }
    }

    /// Ends every snapshot and every thread.
    pub(super) fn close(&self) {
        self.permits.close();
        let mut threads = Vec::new();
        for slot in self.slots().iter_mut() {
            slot.sessions = None;
            threads.extend(slot.thread.take());
            if let Some((life, requests)) = &slot.running {
                life.end();
                requests.try_send(Request::End).ok();
            }
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a reader thread of the store has panicked");
            }
        }
    }
}

fn closed() -> StoreError {
    StoreError::Stopped("it was closed".to_owned())
}

/// One snapshot, from BEGIN to ROLLBACK.
fn run(conn: &mut Connection, session: Session, give_back: impl FnOnce()) {
    let Session { life, requests, begun, _permit } = session;
    let watched = Arc::clone(&life);
    let pinned = conn
        .progress_handler(PROGRESS_STEPS, Some(move || watched.is_over()))
        .and_then(|()| pin(conn))
        .map_err(|error| on_read(Fault::Sql(error)));
    let is_pinned = pinned.is_ok();
    // Whoever asked may have gone; then the life is over or ends by its deadline.
    if begun.send(pinned).is_ok() && is_pinned {
        answer(&View { conn, life: &life }, &requests);
    }
    // Ends the read transaction whatever it did; past the deadline an interrupt must not hinder that.
    let unwatched = conn.progress_handler(0, None::<fn() -> bool>);
    let ended = if conn.is_autocommit() { Ok(()) } else { conn.execute_batch("ROLLBACK") };
    if let Err(error) = unwatched.and(ended) {
        tracing::error!(%error, "a snapshot of the store did not end");
    }
    give_back();
}

/// Begins and reads once: only a read pins the state.
fn pin(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch("BEGIN DEFERRED")?;
    conn.prepare_cached(LOAD_STATE)?.query_row([], |_| Ok(()))
}

fn answer(view: &View<'_>, requests: &mpsc::Receiver<Request>) {
    while !view.life.is_over() {
        match requests.recv_timeout(view.life.deadline.saturating_duration_since(Instant::now())) {
            Ok(Request::Ask(question)) => question(view),
            Ok(Request::End) | Err(_) => return,
        }
    }
}
