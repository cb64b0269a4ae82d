//! How long a write-ahead log may get, and when its pages go into the database file.
//!
//! Owns: [`Wal`], a writer's view of it. Does not know: who reads; whoever keeps readers out lets them in again when told so.
//! Invariants: only the writer checkpoints; a failed sync in a checkpoint is an error that stops the writer.

use crate::error::Failure;
use crate::sqlite::{BUSY_TIMEOUT, PAGE_BYTES, int};
use rusqlite::Connection;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A frame is a page and its header.
const FRAME_BYTES: u64 = PAGE_BYTES + 24;

/// The write-ahead log of one database.
pub(crate) struct Wal {
    /// Frames in it, as the last commit found.
    frames: Arc<AtomicU64>,
    /// Frames in it at the last checkpoint.
    checked: u64,
    every: u64,
    most: u64,
}

impl Wal {
    /// Watches the commits of `conn`. Checkpoints are due every `every` bytes; past `most` it is too long. When it starts over,
    /// its file shrinks to what it usually has.
    pub(crate) fn watch(conn: &mut Connection, every: u64, most: u64) -> rusqlite::Result<Self> {
        conn.pragma_update(None, "journal_size_limit", int(every.saturating_mul(2)))?;
        let frames = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&frames);
        conn.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            seen.store(u64::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self { frames, checked: 0, every: every / FRAME_BYTES, most: most / FRAME_BYTES })
    }

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> u64 {
        self.frames.load(Ordering::Relaxed) * FRAME_BYTES
    }

    /// Whether it is longer than it may be.
    pub(crate) fn is_too_long(&self) -> bool {
        self.frames.load(Ordering::Relaxed) > self.most
    }

    /// Whether enough was written since the last checkpoint.
    pub(crate) fn is_due(&self) -> bool {
        let frames = self.frames.load(Ordering::Relaxed);
        // Fewer than at the last checkpoint: it has started over since.
        frames.checked_sub(self.checked).unwrap_or(frames) >= self.every
    }

    /// Moves pages into the database file as far as readers allow, without waiting for them. The log starts over at the next
    /// commit when all are moved and nobody reads from it.
    pub(crate) fn checkpoint(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        self.run(conn, "PRAGMA wal_checkpoint(PASSIVE)").map(drop)
    }

    /// Moves all pages into the database file and empties the log; `false` where a reader is in the way.
    pub(crate) fn truncate(&mut self, conn: &Connection) -> rusqlite::Result<bool> {
        conn.busy_timeout(Duration::ZERO)?;
        let done = self.run(conn, "PRAGMA wal_checkpoint(TRUNCATE)");
        conn.busy_timeout(BUSY_TIMEOUT)?;
        done
    }

    /// Whether the checkpoint was complete.
    fn run(&mut self, conn: &Connection, sql: &str) -> rusqlite::Result<bool> {
        let answer =
            conn.prepare_cached(sql)?.query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)));
        match answer {
            Ok((busy, frames, moved)) => {
                let frames = u64::try_from(frames).unwrap_or(0);
                self.frames.store(frames, Ordering::Relaxed);
                self.checked = frames;
                Ok(busy == 0 && u64::try_from(moved).unwrap_or(0) == frames)
            }
            // Nothing is lost where there is no room for the database file to grow: the pages stay here.
            Err(error) if matches!(Failure::of(&error), Failure::Full | Failure::Busy) => {
                tracing::warn!(%error, "a checkpoint has to wait");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}
