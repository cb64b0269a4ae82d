//! The seam's calls on a pinned state: each is one way to the reader's thread and back.
//!
//! Owns: [`Pinned`]. Does not know: SQL.
//! Invariants: one question is under way at a time, even when a call was dropped before it was answered; no call lasts beyond
//! the deadline.

use super::readers::{Life, Request, View};
use super::{history, queries};
use crate::error::Fault;
use headwater_core::BoxFuture;
use headwater_core::block::{BlockStats, OpenBlock};
use headwater_core::dead_letter::KeptLetter;
use headwater_core::filter::SeriesFilter;
use headwater_core::log::Position;
use headwater_core::seal::{ChunkKey, Level, RollupKey, StoredChunk};
use headwater_core::series::{Series, SeriesId, SeriesKey, Shard};
use headwater_core::store::{BatchId, ChunkStats, DeadLetterQuery, Result, SealMark, Snapshot, StoreError, Totals};
use headwater_core::summary::Summary;
use headwater_core::time::TimeRange;
use std::sync::{Arc, mpsc};
use std::time::Instant;
use tokio::sync::{Semaphore, oneshot};
use tokio::time;
use uuid::Uuid;

/// A snapshot.
pub(super) struct Pinned {
    life: Arc<Life>,
    requests: mpsc::SyncSender<Request>,
    /// Held by the question that is under way.
    turn: Arc<Semaphore>,
}

impl Pinned {
    pub(super) fn new(life: Arc<Life>, requests: mpsc::SyncSender<Request>) -> Self {
        Self { life, requests, turn: Arc::new(Semaphore::new(1)) }
    }

    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&View<'_>) -> std::result::Result<T, Fault<StoreError>> + Send + 'static,
    ) -> Result<T> {
        let answered = time::timeout_at(self.life.deadline.into(), async {
            // A call that was dropped may still be under way.
            let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(|_| self.ended())?;
            let (reply, answer) = oneshot::channel();
            let question = move |view: &View<'_>| {
                let answer = view.check_deadline().map_err(Fault::from).and_then(|()| question(view));
                drop(turn);
                drop(reply.send(answer.map_err(super::errors::on_read)));
            };
            self.requests.try_send(Request::Ask(Box::new(question))).map_err(|_| self.ended())?;
            answer.await.unwrap_or_else(|_| Err(self.ended()))
        });
        answered.await.unwrap_or(Err(StoreError::Deadline))
    }

    /// The reader has let go: its deadline has passed, or the store was closed.
    fn ended(&self) -> StoreError {
        if Instant::now() >= self.life.deadline { StoreError::Deadline } else { StoreError::Stopped("it was closed".to_owned()) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.life.end();
        // Where there is no room, the thread is at work and looks at its life next.
        self.requests.try_send(Request::End).ok();
    }
}

impl Snapshot for Pinned {
    fn totals(&mut self) -> BoxFuture<'_, Result<Totals>> {
        Box::pin(self.ask(queries::totals))
    }

    fn positions(&mut self) -> BoxFuture<'_, Result<Vec<Position>>> {
        Box::pin(self.ask(queries::positions))
    }

    fn series<'a>(
        &'a mut self,
        filter: &'a SeriesFilter,
        after: Option<&'a SeriesKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Series>>> {
        let (filter, after) = (filter.clone(), after.cloned());
        Box::pin(self.ask(move |view| queries::series(view, &filter, after.as_ref(), limit)))
    }

    fn block_stats(&mut self, shard: Shard, range: TimeRange) -> BoxFuture<'_, Result<Vec<(BatchId, BlockStats)>>> {
        Box::pin(self.ask(move |view| queries::block_stats(view, shard, range)))
    }

    fn blocks(
        &mut self,
        shard: Shard,
        range: TimeRange,
        after: Option<BatchId>,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<(BatchId, OpenBlock)>>> {
        Box::pin(self.ask(move |view| queries::blocks(view, shard, range, after, max_bytes)))
    }

    fn seal_marks(&mut self) -> BoxFuture<'_, Result<Option<Vec<SealMark>>>> {
        Box::pin(self.ask(|view| history::seal_marks(view).map(Some)))
    }

    fn rollups<'a>(
        &'a mut self,
        _shard: Shard,
        level: Level,
        series: &'a [SeriesId],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<(RollupKey, Summary)>>> {
        let series = series.to_vec();
        Box::pin(self.ask(move |view| history::rollups(view, level, &series, range)))
    }

    fn chunk_stats<'a>(&'a mut self, _shard: Shard, series: &'a [SeriesId], range: TimeRange) -> BoxFuture<'a, Result<ChunkStats>> {
        let series = series.to_vec();
        Box::pin(self.ask(move |view| history::chunk_stats(view, &series, range)))
    }

    fn chunks<'a>(
        &'a mut self,
        _shard: Shard,
        series: &'a [SeriesId],
        range: TimeRange,
        after: Option<ChunkKey>,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<(ChunkKey, StoredChunk)>>> {
        let series = series.to_vec();
        Box::pin(self.ask(move |view| history::chunks(view, &series, range, after, max_bytes)))
    }

    fn edges<'a>(&'a mut self, _shard: Shard, series: &'a [SeriesId]) -> BoxFuture<'a, Result<Vec<(SeriesId, i64, i64)>>> {
        let series = series.to_vec();
        Box::pin(self.ask(move |view| history::edges(view, &series)))
    }

    fn dead_letters<'a>(&'a mut self, query: &'a DeadLetterQuery, max_bytes: usize) -> BoxFuture<'a, Result<(Vec<KeptLetter>, bool)>> {
        let query = query.clone();
        Box::pin(self.ask(move |view| queries::dead_letters(view, &query, max_bytes)))
    }

    fn dead_letter(&mut self, id: Uuid) -> BoxFuture<'_, Result<Option<KeptLetter>>> {
        Box::pin(self.ask(move |view| queries::dead_letter(view, id)))
    }
}
