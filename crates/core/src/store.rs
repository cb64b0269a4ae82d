//! The second seam: the store, as one narrow trait for each of its users.
//!
//! Owns: [`Ingestion`], [`Sealing`], [`Queries`] with [`Snapshot`], [`DeadLetters`], and their words. Does not know: SQL, pools, which database.
//!
//! # Rules for implementers
//!
//! * Every method is one transaction. Absence is `Ok(None)` or an empty list, never an error.
//! * [`Ingestion::commit`] is all or nothing: blocks, dead letters, gaps and positions together; it returns when durable.
//!   Positions move by compare-and-set on the old value, last and in the order of partitions; one mismatch undoes everything
//!   and names the partition.
//! * Batch ids rise in the order of commits; blocks of a shard are read in the order of their batches.
//! * A [`Snapshot`] sees one state of everything, whatever is committed meanwhile, until its deadline; after that its calls say
//!   [`StoreError::Deadline`].
//! * [`Sealing::load`] reads one snapshot and holds nothing; [`Sealing::replace`] first moves the shard's version by compare-and-set,
//!   deletes exactly the rows that were loaded, by key, checks how many went, writes the new ones and adds the outcomes; where the
//!   version or a number is another, it changes nothing and says [`Replaced::Lost`]. Ingest never touches that version.
//! * A dead letter that comes again (part 0 of an id that is kept) is kept once: its count is added, its history says so
//!   ([`History::seen_again`](crate::dead_letter::History::seen_again)), its bytes stay as they are. What becomes of letters moves no count of readings.
//! * No counter row is shared by writers: `received` and `dead` live with the position and are added by the compare-and-set.

use crate::BoxFuture;
use crate::block::{BlockStats, OpenBlock};
use crate::dead_letter::{Attempt, DeadLetter, History, KeptLetter, LetterState, Reason};
use crate::filter::SeriesFilter;
use crate::log::{Gap, Position};
use crate::seal::{ChunkKey, Level, Loaded, Outcomes, Replacement, RollupKey, StoredChunk};
use crate::series::{Series, SeriesId, SeriesKey, Shard};
use crate::summary::Summary;
use crate::time::{TimeRange, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Why the store did not do what it was asked; the kinds are what a caller acts on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// A position was not where the writer believed; nothing was changed. Re-read the positions and resume.
    #[error("partition {partition} was moved by another writer: expected {expected:?}, found {found:?}")]
    Fenced {
        /// The first partition that did not match.
        partition: u32,
        /// What the writer believed (`None` = no stored position).
        expected: Option<u64>,
        /// What is stored.
        found: Option<u64>,
    },
    /// Another server or another copy answers than the one that gave the ids of series, and it may have gone back to an earlier state; nothing was
    /// changed. Forget all ids ([`Ingestion::forget_ids`]), re-read the positions and resume.
    #[error("the store may have gone back to an earlier state: {0}")]
    Restored(String),
    /// Whether the transaction took effect is not known. Re-read the positions: they tell.
    #[error("the outcome of a commit is not known: {0}")]
    Unknown(String),
    /// No room at the moment (disk full, too many readers): wait and try again.
    #[error("the store is busy: {0}")]
    Busy(String),
    /// Cannot be reached at the moment: wait and try again.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The snapshot's deadline has passed.
    #[error("the query took longer than its deadline")]
    Deadline,
    /// Stored bytes are not what was written: a person must look.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// The store can no longer promise durability and has stopped; only a restart helps.
    #[error("the store has stopped: {0}")]
    Stopped(String),
}

impl StoreError {
    /// Whether waiting and trying again can help.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Unavailable(_))
    }
}

/// A result of the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The number of a batch; rises in commit order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// A series that a batch names and the writer does not know yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSeries {
    /// Its identity.
    pub key: SeriesKey,
    /// The unit that came with it; `None` leaves a stored one alone, another one replaces it.
    pub unit: Option<String>,
}

/// How many series there may be; existing ones never count as new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesLimits {
    /// Of one device.
    pub per_device: u64,
    /// Of all devices together.
    pub total: u64,
}

/// What became of a series that was to be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// It has this id, newly or already.
    As(SeriesId),
    /// It is new and beyond the limit of its device.
    DeviceLimit,
    /// It is new and beyond the limit of all.
    TotalLimit,
}

/// A position to move, and what is counted with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Where it goes: log, partition, next record, CRC of the last record of the batch.
    pub to: Position,
    /// Where it must be: the stored `next`, or `None` where none is stored.
    pub expected: Option<u64>,
    /// Readings that the batch's records of this partition count as, by the records' own counts.
    pub received: u64,
    /// Readings of them that became dead letters.
    pub dead: u64,
}

/// One batch of ingest.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// The least receive time of its records: the age of its blocks.
    pub received_at: Timestamp,
    /// At most one block for each shard, in the order of shards.
    pub blocks: Vec<OpenBlock>,
    /// What was refused.
    pub dead_letters: Vec<DeadLetter>,
    /// What the log no longer had.
    pub gaps: Vec<Gap>,
    /// The positions of all partitions of the batch, in the order of partitions.
    pub moves: Vec<Move>,
}

/// What a commit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The batch's number.
    pub batch: BatchId,
    /// Readings that are open now, over all shards (the gauge `unsealed`).
    pub open_readings: u64,
}

/// What ingest needs.
pub trait Ingestion: Send + Sync {
    /// All stored positions.
    fn positions(&self) -> BoxFuture<'_, Result<Vec<Position>>>;

    /// Readings that are open now.
    fn open_readings(&self) -> BoxFuture<'_, Result<u64>>;

    /// Inserts or finds series in one short transaction of its own, durable on return; the answers are in the order of the
    /// question. Limits are counted in the transaction.
    fn register(&self, series: Vec<NewSeries>, limits: SeriesLimits) -> BoxFuture<'_, Result<Vec<Registered>>>;

    /// The caller has forgotten every id that it was told, and holds no batch with any. Only after this does a store that said
    /// [`StoreError::Restored`] register and commit again. A store that cannot go back under a running process has nothing to do.
    fn forget_ids(&self) {}

    /// Commits a batch. See the module for the rules. The batch is shared, so that it can be committed again where the
    /// outcome was not known.
    fn commit(&self, batch: Arc<Batch>) -> BoxFuture<'_, Result<Committed>>;
}

/// What of a shard is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// The shard.
    pub shard: Shard,
    /// Open readings, repeats included.
    pub readings: u64,
    /// Open blocks that are neither merged nor the rest of a seal.
    pub unmerged: u64,
    /// Series in its widest block.
    pub widest: u64,
    /// The least receive time of its blocks.
    pub oldest: Timestamp,
}

/// The version of a shard: every replacement moves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// How much [`Sealing::load`] reads at a time. The first block is always loaded, however large; when its chunks alone go beyond
/// the budget, they are loaded for its first series only (at least one) and [`Loaded::through`] says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadBudget {
    /// Open readings of the blocks together.
    pub readings: u64,
    /// Bytes of stored chunks and rollups.
    pub bytes: u64,
}

/// A mark of what is sealed in a shard: while it is the same, so is every chunk and every rollup of the shard. (The version is none: it moves with
/// every merge of open blocks, too.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealMark {
    /// Tells one life of a store that can go back to an earlier state from the next.
    pub life: u64,
    /// Readings that are sealed in the shard.
    pub stored: u64,
}

/// What became of a replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// It is in the store.
    Done {
        /// Readings that are open now, over all shards.
        open_readings: u64,
    },
    /// Another one came first; nothing was changed. Load again.
    Lost,
}

/// What the rollup role needs.
pub trait Sealing: Send + Sync {
    /// The shards that have open blocks, in the order of shards.
    fn backlog(&self) -> BoxFuture<'_, Result<Vec<Backlog>>>;

    /// The oldest blocks of a shard within the budget, and the chunks and rollups that they touch, in one snapshot; `None` where
    /// nothing is open.
    fn load(&self, shard: Shard, budget: LoadBudget) -> BoxFuture<'_, Result<Option<(Version, Loaded)>>>;

    /// The oldest unmerged blocks of a shard, at most `most` blocks and `readings` readings (at least one block).
    fn unmerged(&self, shard: Shard, most: usize, readings: u64) -> BoxFuture<'_, Result<(Version, Blocks)>>;

    /// The identities of series, in the order of the question.
    ///
    /// An id that the store does not have is [`StoreError::Corrupt`].
    fn keys<'a>(&'a self, ids: &'a [SeriesId]) -> BoxFuture<'a, Result<Vec<SeriesKey>>>;

    /// Replaces what was loaded. See the module for the rules.
    fn replace(&self, shard: Shard, version: Version, replacement: Arc<Replacement>) -> BoxFuture<'_, Result<Replaced>>;
}

/// What the api role needs.
pub trait Queries: Send + Sync {
    /// One state of everything, for at most `lifetime` from now. Waits for a free reader no longer than that.
    fn snapshot(&self, lifetime: Duration) -> BoxFuture<'_, Result<Box<dyn Snapshot>>>;

    /// What whoever watches the store wants to know beside answers.
    fn vitals(&self) -> BoxFuture<'_, Result<Vitals>> {
        Box::pin(async { Ok(Vitals::default()) })
    }
}

/// How a store is, as far as it can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vitals {
    /// Bytes that it takes on its disk.
    pub bytes: Option<u64>,
    /// The age of the oldest snapshot or transaction, of any process, where old ones keep something from being given back.
    pub oldest_snapshot: Option<Duration>,
}

/// The conservation counts and the positions they belong to. `received = stored + duplicate + conflict + dead + unsealed`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// Readings of all applied records, by the records' own counts.
    pub received: u64,
    /// Readings that are sealed, each key once.
    pub stored: u64,
    /// Repeats with the same value.
    pub duplicate: u64,
    /// Repeats with another value.
    pub conflict: u64,
    /// Readings that became dead letters on the way.
    pub dead: u64,
    /// Readings that are open.
    pub unsealed: u64,
    /// All stored positions, in the order of (log, partition).
    pub positions: Vec<Position>,
    /// Dead letters that are kept, whatever their state.
    pub dead_letters: u64,
    /// Those of them that are open.
    pub dead_letters_open: u64,
    /// Dead letters, not discarded before, that had to go because of the quota or their age.
    pub dead_letters_dropped: u64,
    /// Dead letters that were ever discarded.
    pub dead_letters_discarded: u64,
    /// Gaps that were recorded.
    pub gaps: u64,
}

/// A position with the counts that move with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// How far a partition has been applied.
    pub position: Position,
    /// Readings received up to there.
    pub received: u64,
    /// Readings of them that became dead letters.
    pub dead: u64,
}

/// What the counts of a store are made of, to be carried into another one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// Every position, in the order of (log, partition).
    pub positions: Vec<Applied>,
    /// What sealing has settled, in the order of shards.
    pub outcomes: Vec<(Shard, Outcomes)>,
    /// Every gap, in the order in which they were found.
    pub gaps: Vec<Gap>,
    /// The id of the next new series.
    pub next_series: u64,
    /// Dead letters, not discarded before, that had to go because of the quota or their age.
    pub dead_letters_dropped: u64,
    /// Dead letters that were ever discarded.
    pub dead_letters_discarded: u64,
}

/// Blocks of one shard, in the order of their batches.
pub type Blocks = Vec<(BatchId, OpenBlock)>;

/// Which block of a shard.
pub type BlockKey = (BatchId, Shard);

/// How much there is in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChunkStats {
    /// Chunks.
    pub chunks: u64,
    /// Readings in them.
    pub readings: u64,
}

/// A page of dead letters to list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterQuery {
    /// Only this reason.
    pub reason: Option<Reason>,
    /// Only this state.
    pub state: Option<LetterState>,
    /// Only devices that match one of these; empty = all, those without a device included.
    pub devices: Vec<crate::glob::Glob>,
    /// What the caller may see; unless it is all, letters without a device are not seen.
    pub allowed: crate::glob::DevicePatterns,
    /// Bounds of `received_at`.
    pub from: Option<Timestamp>,
    /// Bounds of `received_at`, exclusive.
    pub to: Option<Timestamp>,
    /// Only those after this one in the order of the list: (received_at, id) descending.
    pub after: Option<(Timestamp, Uuid)>,
    /// At most this many.
    pub limit: usize,
}

/// One state of the store. Calls come one after the other.
pub trait Snapshot: Send {
    /// The counts and positions.
    fn totals(&mut self) -> BoxFuture<'_, Result<Totals>>;

    /// The positions alone, in their order.
    fn positions(&mut self) -> BoxFuture<'_, Result<Vec<Position>>> {
        Box::pin(async { Ok(self.totals().await?.positions) })
    }

    /// Up to `limit` series that match, by the bytes of their keys, after `after`.
    fn series<'a>(&'a mut self, filter: &'a SeriesFilter, after: Option<&'a SeriesKey>, limit: usize)
    -> BoxFuture<'a, Result<Vec<Series>>>;

    /// The numbers of the shard's blocks that touch `range`, in the order of batches: what an answer would cost.
    fn block_stats(&mut self, shard: Shard, range: TimeRange) -> BoxFuture<'_, Result<Vec<(BatchId, BlockStats)>>>;

    /// The shard's blocks that touch `range`, in the order of batches, from after `after` on: as many as fit `max_bytes` of
    /// memory when decoded (20 bytes a reading), at least one. An empty list is the end.
    fn blocks(&mut self, shard: Shard, range: TimeRange, after: Option<BatchId>, max_bytes: usize) -> BoxFuture<'_, Result<Blocks>>;

    /// The marks of all shards in this state, by their number; `None` where the backend cannot tell. Whatever writes or deletes a chunk or a
    /// rollup moves its shard's mark, and no mark comes again with other contents while the process lives, even where the store goes back to an
    /// earlier state under it.
    fn seal_marks(&mut self) -> BoxFuture<'_, Result<Option<Vec<SealMark>>>> {
        Box::pin(async { Ok(None) })
    }

    /// Rollups of these series (sorted, of one shard) whose windows start within `range`, in the order of their keys.
    fn rollups<'a>(
        &'a mut self,
        shard: Shard,
        level: Level,
        series: &'a [SeriesId],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<(RollupKey, Summary)>>>;

    /// The numbers of the chunks of these series (sorted, of one shard) that touch `range`, in the order of their keys: what an
    /// answer would cost.
    fn chunk_stats<'a>(&'a mut self, shard: Shard, series: &'a [SeriesId], range: TimeRange) -> BoxFuture<'a, Result<ChunkStats>>;

    /// The chunks of these series (sorted, of one shard) that touch `range`, in the order of (series, time), from after `after` on:
    /// as many as fit `max_bytes` of their own bytes, at least one. An empty list is the end.
    fn chunks<'a>(
        &'a mut self,
        shard: Shard,
        series: &'a [SeriesId],
        range: TimeRange,
        after: Option<ChunkKey>,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<(ChunkKey, StoredChunk)>>>;

    /// (series, time of its first sealed reading, of its last) for each of these series (sorted, of one shard) that has any, in the order of
    /// series. This walks over all their chunks: a backend that knows a shorter way goes it.
    fn edges<'a>(&'a mut self, shard: Shard, series: &'a [SeriesId]) -> BoxFuture<'a, Result<Vec<(SeriesId, i64, i64)>>> {
        const PAGE_BYTES: usize = 1 << 20;
        Box::pin(async move {
            let mut edges: Vec<(SeriesId, i64, i64)> = Vec::new();
            let mut after = None;
            loop {
                let page = self.chunks(shard, series, TimeRange::ALL, after, PAGE_BYTES).await?;
                let Some((last, _)) = page.last() else { return Ok(edges) };
                after = Some(*last);
                for (key, chunk) in page {
                    match edges.last_mut().filter(|known| known.0 == key.series) {
                        Some(known) => known.2 = chunk.last,
                        None => edges.push((key.series, key.first, chunk.last)),
                    }
                }
            }
        })
    }

    /// A page of dead letters, each put together from its parts, newest first. The bytes of all together stay under
    /// `max_bytes` (at least one is returned), so a page may be shorter than asked for: `true` says that more follow.
    fn dead_letters<'a>(&'a mut self, query: &'a DeadLetterQuery, max_bytes: usize) -> BoxFuture<'a, Result<(Vec<KeptLetter>, bool)>>;

    /// One dead letter.
    fn dead_letter(&mut self, id: Uuid) -> BoxFuture<'_, Result<Option<KeptLetter>>>;
}

/// What whoever works on dead letters needs. Letters that are not whole yet do not exist here.
pub trait DeadLetters: Send + Sync {
    /// Records tries to take letters in again, each as [`History::attempted`] says, all in one transaction; the answers are in the order
    /// of the question, `None` where there is no such letter. Durable on return.
    fn attempted(&self, attempts: Vec<(Uuid, Attempt)>) -> BoxFuture<'_, Result<Vec<Option<History>>>>;

    /// Discards a letter: its account stays until it is the oldest, its bytes go at once. `false` where there is no such letter;
    /// one that is discarded already is left as it is.
    fn discard(&self, id: Uuid) -> BoxFuture<'_, Result<bool>>;

    /// Lets letters go that were received before `before`, the oldest first and at most `most`; how many went. They are counted as dropped,
    /// unless they were discarded.
    fn expire(&self, before: Timestamp, most: u64) -> BoxFuture<'_, Result<u64>>;
}
