//! A store in memory, for tests of roles: [`Ingestion`], [`Sealing`](headwater_core::store::Sealing), [`Queries`] and
//! [`DeadLetters`](headwater_core::store::DeadLetters).
//!
//! Owns: [`MemoryStore`]. Does not know: who asks. Clones share one store; a clone is what a restart finds again.
//! Invariants: it passes the suite that the backends pass; a snapshot is a shared copy of the whole state, so no later commit
//! can be seen by it. One lock, never held across an await. It seals nothing by itself.

mod letters;
mod sealing;
mod snapshot;

use headwater_core::BoxFuture;
use headwater_core::block::OpenBlock;
use headwater_core::log::{Gap, LogId, Position};
use headwater_core::seal::{ChunkKey, Outcomes, RollupKey, StoredChunk};
use headwater_core::series::{Series, SeriesId, SeriesKey, Shard};
use headwater_core::store::{
    Batch, BatchId, Committed, Ingestion, Move, NewSeries, Queries, Registered, Result, SeriesLimits, Snapshot, StoreError, Totals,
};
use headwater_core::summary::Summary;
use headwater_core::time::Timestamp;
use letters::Letter;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// A store in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Arc<State>>>);

/// Everything; shared with snapshots and copied before it is changed.
#[derive(Debug, Clone, Default)]
struct State {
    /// Tells it from every other one of the process.
    life: u64,
    batches: u64,
    positions: BTreeMap<(LogId, u32), Applied>,
    blocks: BTreeMap<(Shard, BatchId), Block>,
    chunks: BTreeMap<ChunkKey, Arc<StoredChunk>>,
    rollups: BTreeMap<RollupKey, Arc<Summary>>,
    shards: BTreeMap<Shard, ShardRow>,
    letters: BTreeMap<Uuid, Letter>,
    letters_dropped: u64,
    letters_discarded: u64,
    gaps: Vec<Gap>,
    series: Vec<Series>,
    ids: BTreeMap<SeriesKey, SeriesId>,
}

/// An open block and what stands beside it.
#[derive(Debug, Clone)]
struct Block {
    block: Arc<OpenBlock>,
    received_at: Timestamp,
    /// Merged, or the rest of a seal: not to be merged again.
    merged: bool,
}

/// What sealing counts of a shard.
#[derive(Debug, Clone, Copy, Default)]
struct ShardRow {
    version: u64,
    outcomes: Outcomes,
}

/// A position and what was counted with it.
#[derive(Debug, Clone)]
struct Applied {
    position: Position,
    received: u64,
    dead: u64,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        static LIVES: AtomicU64 = AtomicU64::new(0);
        let store = Self::default();
        store.change(|state| state.life = LIVES.fetch_add(1, Ordering::Relaxed));
        store
    }

    /// The gaps that were recorded, in the order of their commits.
    pub fn gaps(&self) -> Vec<Gap> {
        self.state().gaps.clone()
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut state))
    }
}

impl State {
    fn open_readings(&self) -> u64 {
        self.blocks.values().map(|open| open.block.len() as u64).sum()
    }

    fn totals(&self) -> Totals {
        let sealed = |count: fn(&Outcomes) -> u64| self.shards.values().map(|row| count(&row.outcomes)).sum();
        Totals {
            stored: sealed(|outcomes| outcomes.stored),
            duplicate: sealed(|outcomes| outcomes.duplicate),
            conflict: sealed(|outcomes| outcomes.conflict),
            received: self.positions.values().map(|applied| applied.received).sum(),
            dead: self.positions.values().map(|applied| applied.dead).sum(),
            unsealed: self.open_readings(),
            positions: self.positions.values().map(|applied| applied.position.clone()).collect(),
            dead_letters: self.whole_letters().count() as u64,
            dead_letters_open: self.whole_letters().filter(|letter| letter.is_open()).count() as u64,
            dead_letters_dropped: self.letters_dropped,
            dead_letters_discarded: self.letters_discarded,
            gaps: self.gaps.len() as u64,
        }
    }

    /// Looks at every position before it changes anything.
    fn commit(&mut self, batch: &Batch) -> Result<Committed> {
        for Move { to, expected, .. } in &batch.moves {
            let found = self.positions.get(&(to.log.clone(), to.partition)).map(|applied| applied.position.next);
            if found != *expected {
                return Err(StoreError::Fenced { partition: to.partition, expected: *expected, found });
            }
        }
        self.batches += 1;
        let id = BatchId(self.batches);
        for block in &batch.blocks {
            let open = Block { block: Arc::new(block.clone()), received_at: batch.received_at, merged: false };
            self.blocks.insert((block.shard, id), open);
        }
        batch.dead_letters.iter().for_each(|letter| self.keep(letter.clone()));
        self.gaps.extend_from_slice(&batch.gaps);
        for Move { to, received, dead, .. } in &batch.moves {
            let applied = self.positions.entry((to.log.clone(), to.partition));
            let applied = applied.or_insert(Applied { position: to.clone(), received: 0, dead: 0 });
            applied.position = to.clone();
            applied.received += received;
            applied.dead += dead;
        }
        Ok(Committed { batch: id, open_readings: self.open_readings() })
    }

    fn register(&mut self, NewSeries { key, unit }: NewSeries, limits: SeriesLimits) -> Registered {
        if let Some(&id) = self.ids.get(&key) {
            if unit.is_some() {
                self.series[id.0 as usize].unit = unit;
            }
            return Registered::As(id);
        }
        let of_device = self.series.iter().filter(|known| known.key.parts().device == key.parts().device).count() as u64;
        if of_device >= limits.per_device {
            return Registered::DeviceLimit;
        }
        if self.series.len() as u64 >= limits.total {
            return Registered::TotalLimit;
        }
        let id = SeriesId(self.series.len() as u32);
        self.ids.insert(key.clone(), id);
        self.series.push(Series { id, key, unit });
        Registered::As(id)
    }
}

impl Ingestion for MemoryStore {
    fn positions(&self) -> BoxFuture<'_, Result<Vec<Position>>> {
        Box::pin(async { Ok(self.state().totals().positions) })
    }

    fn open_readings(&self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async { Ok(self.state().open_readings()) })
    }

    fn register(&self, series: Vec<NewSeries>, limits: SeriesLimits) -> BoxFuture<'_, Result<Vec<Registered>>> {
        Box::pin(async move { Ok(self.change(|state| series.into_iter().map(|new| state.register(new, limits)).collect())) })
    }

    fn commit(&self, batch: Arc<Batch>) -> BoxFuture<'_, Result<Committed>> {
        Box::pin(async move { self.change(|state| state.commit(&batch)) })
    }
}

impl Queries for MemoryStore {
    fn snapshot(&self, lifetime: Duration) -> BoxFuture<'_, Result<Box<dyn Snapshot>>> {
        Box::pin(async move {
            let snapshot = snapshot::MemorySnapshot { state: self.state(), deadline: Instant::now() + lifetime };
            Ok(Box::new(snapshot) as Box<dyn Snapshot>)
        })
    }
}
