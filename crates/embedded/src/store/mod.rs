//! The store: what ingest commits and what questions are answered from.
//!
//! Owns: [`Store`], the seam's [`Ingestion`], [`Sealing`], [`Queries`] and [`DeadLetters`] over `store.db`. Does not know: the log's file, how
//! answers are made, what sealing is.
//! Files: [`ingestion`] the writer thread's work, [`prepared`] what is done before it is queued, [`registry`] new series,
//! [`letters`] dead letters and their quota, [`attempts`] what people do about them, [`replace`] what was sealed; [`readers`] the threads that snapshots run on, [`gate`]
//! who may begin one, [`snapshot`] the seam's calls, [`queries`] and [`history`] the statements behind them, [`sealing`] what the
//! sealer reads, [`reading`] the store beside another process, [`keys`] where chunks and rollups lie, [`rows`] columns as words,
//! [`errors`], [`account`] what the counts are made of.
//! Invariants: a commit is one transaction that moves positions last, by compare-and-set; a replacement is one that moves its
//! shard's version first; after an I/O error nothing is written until a restart; a snapshot is a read transaction that ends at its
//! deadline.

mod account;
mod attempts;
mod errors;
mod gate;
mod history;
mod ingestion;
mod keys;
mod letters;
mod prepared;
mod queries;
mod readers;
mod reading;
mod registry;
mod replace;
mod rows;
mod sealing;
mod snapshot;
#[cfg(test)]
mod tests;

pub use reading::open_for_reading;

use crate::Config;
use crate::directory::Directory;
use crate::error::{Fault, OpenError};
use crate::space::Space;
use crate::writer::Writer;
use gate::Gate;
use headwater_core::BoxFuture;
use headwater_core::dead_letter::{Attempt, History};
use headwater_core::log::Position;
use headwater_core::seal::{Loaded, Replacement};
use headwater_core::series::{SeriesId, SeriesKey, Shard};
use headwater_core::store::{
    Account, Backlog, Batch, Blocks, Committed, DeadLetters, Ingestion, LoadBudget, NewSeries, Queries, Registered, Replaced, Result,
    Sealing, SeriesLimits, Snapshot, StoreError, Version, Vitals,
};
use headwater_core::time::Timestamp;
use ingestion::{Job, Keeper, Reply};
use prepared::{Commit, Replace};
use readers::{Readers, View};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use uuid::Uuid;

/// At most so many requests wait for the writer: a commit, a registration, a replacement, a look at the positions, something about dead
/// letters, a hint. Whoever comes then waits for a place.
const QUEUE: usize = 6;
/// The sealer has one reader, for one call at a time, so that it never waits for those who ask.
const SEALERS: usize = 1;
/// No call of the sealer takes longer: a few megabytes from a slow disk.
const LONGEST_LOAD: Duration = Duration::from_secs(60);

/// The store of a data directory. See [`crate::open`].
pub struct Store {
    writer: Writer<Job>,
    readers: Arc<Readers>,
    sealers: Arc<Readers>,
    open_readings: Arc<AtomicU64>,
    file: PathBuf,
}

impl Store {
    pub(crate) fn open(directory: &Directory, config: &Config, space: Space, now: Timestamp) -> std::result::Result<Self, OpenError> {
        let path = directory.file(crate::STORE_FILE);
        let gate = Arc::new(Gate::default());
        let keeper = Keeper::open(&path, config, Arc::clone(&gate), space, now)?;
        let open_readings = keeper.open_readings();
        let writer = Writer::start("store-writer", QUEUE, keeper).map_err(OpenError::doing("cannot start the store's writer thread"))?;
        let hint = || {
            let hint = writer.hinter();
            Box::new(move || hint(Job::Checkpoint))
        };
        let readers = Readers::open(&path, "store-reader", config.readers, Arc::clone(&gate), hint())?;
        let sealers = Readers::open(&path, "store-sealer", SEALERS, gate, hint())?;
        Ok(Self { writer, readers, sealers, open_readings, file: path })
    }

    /// Ends the snapshots that are open and the writer after what is queued.
    pub(crate) fn close(&self) {
        self.readers.close();
        self.sealers.close();
        self.writer.close();
    }

    async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.writer.send(job(reply)).await.map_err(|_| StoreError::Stopped("it was closed".to_owned()))?;
        // The thread has ended in the middle: only the positions tell what happened.
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the writer ended before it answered".to_owned())))
    }
}

impl Store {
    /// What the counts are made of, to be carried into another store.
    ///
    /// # Errors
    /// As every question.
    pub async fn account(&self) -> Result<Account> {
        self.look(account::account).await
    }

    /// Asks a snapshot of its own, which ends with the answer.
    async fn look<T: Send + 'static>(
        &self,
        question: impl FnOnce(&View<'_>) -> std::result::Result<T, Fault<StoreError>> + Send + 'static,
    ) -> Result<T> {
        Arc::clone(&self.sealers).begin(LONGEST_LOAD).await?.ask(question).await
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
        Box::pin(async move {
            let commit = prepared::aside(move || Commit::of(batch)).await?;
            self.ask(move |reply| Job::Commit(commit, reply)).await
        })
    }
}

impl Sealing for Store {
    fn backlog(&self) -> BoxFuture<'_, Result<Vec<Backlog>>> {
        Box::pin(self.look(sealing::backlog))
    }

    fn load(&self, shard: Shard, budget: LoadBudget) -> BoxFuture<'_, Result<Option<(Version, Loaded)>>> {
        Box::pin(self.look(move |view| sealing::load(view, shard, budget)))
    }

    fn unmerged(&self, shard: Shard, most: usize, readings: u64) -> BoxFuture<'_, Result<(Version, Blocks)>> {
        Box::pin(self.look(move |view| sealing::unmerged(view, shard, most, readings)))
    }

    fn keys<'a>(&'a self, ids: &'a [SeriesId]) -> BoxFuture<'a, Result<Vec<SeriesKey>>> {
        let ids = ids.to_vec();
        Box::pin(self.look(move |view| sealing::keys(view, &ids)))
    }

    fn replace(&self, shard: Shard, version: Version, replacement: Arc<Replacement>) -> BoxFuture<'_, Result<Replaced>> {
        Box::pin(async move {
            let replace = prepared::aside(move || Replace::of(replacement)).await?;
            self.ask(move |reply| Job::Replace(shard, version, replace, reply)).await
        })
    }
}

impl DeadLetters for Store {
    fn attempted(&self, attempts: Vec<(Uuid, Attempt)>) -> BoxFuture<'_, Result<Vec<Option<History>>>> {
        Box::pin(self.ask(move |reply| Job::Attempted(attempts, reply)))
    }

    fn discard(&self, id: Uuid) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.ask(move |reply| Job::Discard(id, reply)))
    }

    fn expire(&self, before: Timestamp, most: u64) -> BoxFuture<'_, Result<u64>> {
        Box::pin(self.ask(move |reply| Job::Expire(before, most, reply)))
    }
}

impl Queries for Store {
    fn snapshot(&self, lifetime: Duration) -> BoxFuture<'_, Result<Box<dyn Snapshot>>> {
        let readers = Arc::clone(&self.readers);
        Box::pin(async move { Ok(Box::new(readers.begin(lifetime).await?) as Box<dyn Snapshot>) })
    }

    fn vitals(&self) -> BoxFuture<'_, Result<Vitals>> {
        let file = self.file.clone();
        Box::pin(async move {
            let bytes = prepared::aside(move || crate::metrics::database_bytes(&file)).await?;
            Ok(Vitals { bytes: Some(bytes), oldest_snapshot: None })
        })
    }
}
