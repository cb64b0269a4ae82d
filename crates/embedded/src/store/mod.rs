//! The store: what ingest commits and what questions are answered from.
//!
//! Owns: [`Store`], the seam's [`Ingestion`] and [`Queries`] over `store.db`. Does not know: the log's file, how answers are made.
//! Files: [`ingestion`] the writer thread's work, [`registry`] new series, [`letters`] dead letters and their quota,
//! [`readers`] the threads that snapshots run on, [`gate`] who may begin one, [`snapshot`] the seam's calls, [`queries`] the
//! statements behind them, [`rows`] columns as words, [`errors`].
//! Invariants: a commit is one transaction that moves positions last, by compare-and-set; after an I/O error nothing is written
//! until a restart; a snapshot is a read transaction that ends at its deadline.

mod errors;
mod gate;
mod ingestion;
mod letters;
mod queries;
mod readers;
mod registry;
mod rows;
mod snapshot;
#[cfg(test)]
mod tests;

use crate::Config;
use crate::directory::Directory;
use crate::error::OpenError;
use crate::space::Space;
use crate::writer::Writer;
use gate::Gate;
use headwater_core::BoxFuture;
use headwater_core::log::Position;
use headwater_core::store::{Batch, Committed, Ingestion, NewSeries, Queries, Registered, Result, SeriesLimits, Snapshot, StoreError};
use headwater_core::time::Timestamp;
use ingestion::{Job, Keeper, Reply};
use readers::Readers;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// At most so many requests wait for the writer: a commit, a registration, a look at the positions, a hint.
const QUEUE: usize = 4;

/// The store of a data directory. See [`crate::open`].
pub struct Store {
    writer: Writer<Job>,
    readers: Arc<Readers>,
    open_readings: Arc<AtomicU64>,
}

impl Store {
    pub(crate) fn open(directory: &Directory, config: &Config, space: Space, now: Timestamp) -> std::result::Result<Self, OpenError> {
        let path = directory.file(crate::STORE_FILE);
        let gate = Arc::new(Gate::default());
        let keeper = Keeper::open(&path, config, Arc::clone(&gate), space, now)?;
        let open_readings = keeper.open_readings();
        let writer = Writer::start("store-writer", QUEUE, keeper).map_err(OpenError::doing("cannot start the store's writer thread"))?;
        let hint = writer.hinter();
        let readers = Readers::open(&path, config.readers, gate, Box::new(move || hint(Job::Checkpoint)))?;
        Ok(Self { writer, readers, open_readings })
    }

    /// Ends the snapshots that are open and the writer after what is queued.
    pub(crate) fn close(&self) {
        self.readers.close();
        self.writer.close();
    }

    async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.writer.send(job(reply)).await.map_err(|_| StoreError::Stopped("it was closed".to_owned()))?;
        // The thread has ended in the middle: only the positions tell what happened.
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the writer ended before it answered".to_owned())))
    }
}

impl Ingestion for Store {
    fn positions(&self) -> BoxFuture<'_, Result<Vec<Position>>> {
        Box::pin(self.ask(Job::Positions))
    }

    fn open_readings(&self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async { Ok(self.open_readings.load(Ordering::Acquire)) })
    }

    fn register(&self, series: Vec<NewSeries>, limits: SeriesLimits) -> BoxFuture<'_, Result<Vec<Registered>>> {
        Box::pin(self.ask(move |reply| Job::Register(series, limits, reply)))
    }

    fn commit(&self, batch: Arc<Batch>) -> BoxFuture<'_, Result<Committed>> {
        Box::pin(self.ask(move |reply| Job::Commit(batch, reply)))
    }
}

impl Queries for Store {
    fn snapshot(&self, lifetime: Duration) -> BoxFuture<'_, Result<Box<dyn Snapshot>>> {
        let readers = Arc::clone(&self.readers);
        Box::pin(async move { Ok(Box::new(readers.begin(lifetime).await?) as Box<dyn Snapshot>) })
    }
}
