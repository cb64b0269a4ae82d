//! One state of everything: a REPEATABLE READ transaction on a connection of its own, until its deadline.
//!
//! Owns: [`Snapshots`] (how many there may be), [`Pinned`]. Does not know: SQL but that of the transaction.
//! Invariants:
//! * the state is that of the moment in which it was taken;
//! * at the deadline, or when it is dropped, the transaction ends, whoever holds the snapshot: old ones keep dead rows from being swept;
//! * a call that is dropped before it is answered is cancelled on the server, and its connection is closed; the snapshot has ended then;
//! * no call lasts beyond the deadline; the server ends what a process that has stopped left behind.

use super::{history, queries};
use crate::error::{Done, Fault, on_read};
use crate::pool::{Pool, Session};
use headwater_core::BoxFuture;
use headwater_core::block::BlockStats;
use headwater_core::dead_letter::KeptLetter;
use headwater_core::filter::SeriesFilter;
use headwater_core::log::Position;
use headwater_core::seal::{ChunkKey, Level, RollupKey, StoredChunk};
use headwater_core::series::{Series, SeriesId, SeriesKey, Shard};
use headwater_core::store::{BatchId, Blocks, ChunkStats, DeadLetterQuery, Result, SealMark, Snapshot, StoreError, Totals};
use headwater_core::summary::Summary;
use headwater_core::time::TimeRange;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{self, Instant};
use uuid::Uuid;

const LIMITS: &str = include_str!("../sql/store/snapshot_limits.sql");

/// The server's own limits are this much behind the deadline, for processes that cannot keep it themselves.
const GRACE: Duration = Duration::from_secs(2);

/// All snapshots of a store.
pub(super) struct Snapshots {
    pool: Pool,
    free: Arc<Semaphore>,
}

impl Snapshots {
    pub(super) fn new(pool: Pool, most: usize) -> Self {
        Self { pool, free: Arc::new(Semaphore::new(most)) }
    }

    /// The state of now.
    pub(super) async fn begin(&self, lifetime: Duration) -> Result<Pinned> {
        let deadline = Instant::now() + lifetime;
        let busy = || StoreError::Busy("too many snapshots are open".to_owned());
        let permit = time::timeout_at(deadline, Arc::clone(&self.free).acquire_owned()).await;
        let permit = permit.map_err(|_| busy())?.map_err(|_| busy())?;
        let session = self.pool.get(deadline.saturating_duration_since(Instant::now())).await?;
        match time::timeout_at(deadline, take(&session, lifetime)).await {
            Ok(Ok(())) => Ok(Pinned::new(Lent { session, permit }, deadline)),
            Ok(Err(fault)) => Err(on_read(fault)),
            Err(_) => Err(StoreError::Deadline),
        }
    }
}

async fn take(session: &Session, lifetime: Duration) -> Done<()> {
    let milliseconds = (lifetime + GRACE).as_millis().min(i32::MAX as u128).to_string();
    let statement = session.prepare(LIMITS).await?;
    session.client()?.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    session.client()?.query_one(&statement, &[&milliseconds, &milliseconds]).await?;
    Ok(())
}

/// A connection with a snapshot on it, and the right to have one.
struct Lent {
    session: Session,
    permit: OwnedSemaphorePermit,
}

impl Lent {
    async fn end(self) {
        self.session.roll_back().await;
        drop(self.permit);
    }
}

/// Where the connection lies while nothing is asked.
type Slot = Arc<Mutex<Option<Lent>>>;

/// A snapshot.
pub(super) struct Pinned {
    slot: Slot,
    deadline: Instant,
    /// Dropped with it, which its guard notices.
    _alive: oneshot::Sender<()>,
}

impl Pinned {
    fn new(lent: Lent, deadline: Instant) -> Self {
        let slot = Arc::new(Mutex::new(Some(lent)));
        let (alive, dropped) = oneshot::channel();
        tokio::spawn(guard(Arc::clone(&slot), deadline, dropped));
        Self { slot, deadline, _alive: alive }
    }

    /// Takes the connection for one call. A call that is dropped closes it.
    fn lend(&self) -> Result<Lent> {
        if Instant::now() >= self.deadline {
            return Err(StoreError::Deadline);
        }
        let ended = || StoreError::Unavailable("the snapshot has ended: a call was given up, or failed".to_owned());
        taken(&self.slot).ok_or_else(ended)
    }

    async fn in_time<T>(&self, question: impl Future<Output = Done<T>>) -> Result<Done<T>> {
        time::timeout_at(self.deadline, question).await.map_err(|_| StoreError::Deadline)
    }

    /// Puts the connection back after an answer. A statement that failed has spoilt the transaction: then it is closed. Rows that came and cannot be
    /// read have not: whoever looks for damage asks on.
    fn back<T>(&self, lent: Lent, answered: Result<Done<T>>) -> Result<T> {
        let answer = match answered? {
            Ok(answer) => Ok(answer),
            Err(Fault::Said(damaged @ StoreError::Corrupt(_))) => Err(damaged),
            Err(fault) => return Err(on_read(fault)),
        };
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(lent);
        // The guard may have come by while the slot was empty.
        if Instant::now() >= self.deadline
            && let Some(lent) = taken(&self.slot)
        {
            tokio::spawn(lent.end());
        }
        answer
    }
}

fn taken(slot: &Slot) -> Option<Lent> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Ends the transaction when the snapshot is dropped, and at its deadline.
async fn guard(slot: Slot, deadline: Instant, dropped: oneshot::Receiver<()>) {
    // Either way it is over.
    drop(time::timeout_at(deadline, dropped).await);
    if let Some(lent) = taken(&slot) {
        lent.end().await;
    }
}

impl Snapshot for Pinned {
    fn totals(&mut self) -> BoxFuture<'_, Result<Totals>> {
        Box::pin(async move {
            let lent = self.lend()?;
            let answered = self.in_time(queries::totals(&lent.session)).await;
            self.back(lent, answered)
        })
    }

    fn positions(&mut self) -> BoxFuture<'_, Result<Vec<Position>>> {
        Box::pin(async move {
            let lent = self.lend()?;
            let answered = self.in_time(queries::positions(&lent.session)).await;
            self.back(lent, answered)
        })
    }

    fn series<'a>(
        &'a mut self,
        filter: &'a SeriesFilter,
        after: Option<&'a SeriesKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Series>>> {
        Box::pin(async move {
            let lent = self.lend()?;
            let answered = self.in_time(queries::series(&lent.session, filter, after, limit)).await;
            self.back(lent, answered)
        })
    }

    fn block_stats(&mut self, shard: Shard, range: TimeRange) -> BoxFuture<'_, Result<Vec<(BatchId, BlockStats)>>> {
        Box::pin(async move {
            let lent = self.lend()?;
            let answered = self.in_time(queries::block_stats(&lent.session, shard, range)).await;
            self.back(lent, answered)
        })
    }

    fn blocks(&mut self, shard: Shard, range: TimeRange, after: Option<BatchId>, max_bytes: usize) -> BoxFuture<'_, Result<Blocks>> {
        Box::pin(async move {
            let lent = self.lend()?;
            let answered = self.in_time(queries::blocks(&lent.session, shard, range, after, max_bytes)).await;
            self.back(lent, answered)
        })
    }

    fn seal_marks(&mut self) -> BoxFuture<'_, Result<Option<Vec<SealMark>>>> {
        Box::pin(async move {
            let lent = self.lend()?;
            let answered = self.in_time(history::seal_marks(&lent.session)).await;
            self.back(lent, answered).map(Some)
        })
    }

    fn rollups<'a>(
        &'a mut self,
        shard: Shard,
        level: Level,
        series: &'a [SeriesId],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<(RollupKey, Summary)>>> {
        Box::pin(async move {
            let lent = self.lend()?;
            let answered = self.in_time(history::rollups(&lent.session, shard, level, series, range)).await;
            self.back(lent, answered)
        })
    }

    fn chunk_stats<'a>(&'a mut self, shard: Shard, series: &'a [SeriesId], range: TimeRange) -> BoxFuture<'a, Result<ChunkStats>> {
        Box::pin(async move {
            let lent = self.lend()?;
            let answered = self.in_time(history::chunk_stats(&lent.session, shard, series, range)).await;
            self.back(lent, answered)
        })
    }

    fn chunks<'a>(
        &'a mut self,
        shard: Shard,
        series: &'a [SeriesId],
        range: TimeRange,
        after: Option<ChunkKey>,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<(ChunkKey, StoredChunk)>>> {
        Box::pin(async move {
            let lent = self.lend()?;
            let answered = self.in_time(history::chunks(&lent.session, shard, series, range, after, max_bytes)).await;
            self.back(lent, answered)
        })
    }

    fn edges<'a>(&'a mut self, shard: Shard, series: &'a [SeriesId]) -> BoxFuture<'a, Result<Vec<(SeriesId, i64, i64)>>> {
        Box::pin(async move {
            let lent = self.lend()?;
            let answered = self.in_time(history::edges(&lent.session, shard, series)).await;
            self.back(lent, answered)
        })
    }

    fn dead_letters<'a>(&'a mut self, query: &'a DeadLetterQuery, max_bytes: usize) -> BoxFuture<'a, Result<(Vec<KeptLetter>, bool)>> {
        Box::pin(async move {
            let lent = self.lend()?;
            let answered = self.in_time(queries::dead_letters(&lent.session, query, max_bytes)).await;
            self.back(lent, answered)
        })
    }

    fn dead_letter(&mut self, id: Uuid) -> BoxFuture<'_, Result<Option<KeptLetter>>> {
        Box::pin(async move {
            let lent = self.lend()?;
            let answered = self.in_time(queries::dead_letter(&lent.session, id)).await;
            self.back(lent, answered)
        })
    }
}
