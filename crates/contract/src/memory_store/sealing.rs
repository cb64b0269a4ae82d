//! What the rollup role asks of a [`MemoryStore`].
//!
//! Owns: the budget of a load, the compare-and-set of a replacement. Does not know: how readings are sealed.
//! Invariant: a replacement is tried on a copy of the state, so that one that is lost changes nothing.

use super::{Block, MemoryStore, ShardRow, State};
use headwater_core::BoxFuture;
use headwater_core::block::OpenBlock;
use headwater_core::seal::{ChunkKey, Level, Loaded, Outcomes, Replacement, RollupKey};
use headwater_core::series::{SeriesId, SeriesKey, Shard};
use headwater_core::store::{Backlog, BatchId, Blocks, LoadBudget, Replaced, Result, Sealing, StoreError, Version};
use headwater_core::time::DAY;
use std::collections::BTreeSet;
use std::sync::Arc;

impl State {
    fn of_shard(&self, shard: Shard) -> impl Iterator<Item = (BatchId, &Block)> {
        self.blocks.range((shard, BatchId(0))..=(shard, BatchId(u64::MAX))).map(|((_, batch), open)| (*batch, open))
    }

    fn version(&self, shard: Shard) -> Version {
        Version(self.shards.get(&shard).map_or(0, |row| row.version))
    }

    fn backlog(&self) -> Vec<Backlog> {
        let mut shards: Vec<Backlog> = Vec::new();
        for ((shard, _), Block { block, received_at, merged }) in &self.blocks {
            let stats = block.stats();
            if shards.last().is_none_or(|last| last.shard != *shard) {
                shards.push(Backlog { shard: *shard, readings: 0, unmerged: 0, widest: 0, oldest: *received_at });
            }
            if let Some(last) = shards.last_mut() {
                last.readings += stats.readings;
                last.unmerged += u64::from(!merged);
                last.widest = last.widest.max(stats.series);
                last.oldest = last.oldest.min(*received_at);
            }
        }
        shards
    }

    /// Takes block after block as long as all of them, and what they touch, fit.
    fn load(&self, shard: Shard, budget: LoadBudget) -> Option<(Version, Loaded)> {
        let mut touched = Touched::default();
        let (mut blocks, mut readings): (Blocks, u64) = (Vec::new(), 0);
        for (batch, Block { block, .. }) in self.of_shard(shard) {
            let with = touched.with(block, 0..block.len());
            readings += block.len() as u64;
            if !blocks.is_empty() && (readings > budget.readings || with.bytes(self) > budget.bytes) {
                break;
            }
            touched = with;
            blocks.push((batch, OpenBlock::clone(block)));
        }
        let (_, first) = blocks.first()?;
        let mut through = None;
        if touched.bytes(self) > budget.bytes {
            (touched, through) = self.first_series_of(first, budget.bytes);
        }
        let chunks = touched.chunks(self).into_iter().map(|key| (key, (*self.chunks[&key]).clone())).collect();
        let rollups = touched.rollups(self).into_iter().map(|key| (key, (*self.rollups[&key]).clone())).collect();
        Some((self.version(shard), Loaded { blocks, chunks, rollups, through }))
    }

    /// What the first series of a block touch, as many as fit, at least one; and the last of them.
    fn first_series_of(&self, block: &OpenBlock, bytes: u64) -> (Touched, Option<SeriesId>) {
        let (mut touched, mut through, mut at) = (Touched::default(), None, 0);
        for run in block.series.chunk_by(|a, b| a == b) {
            let with = touched.with(block, at..at + run.len());
            if through.is_some() && with.bytes(self) > bytes {
                break;
            }
            touched = with;
            through = Some(run[0]);
            at += run.len();
        }
        (touched, through)
    }

    fn unmerged(&self, shard: Shard, most: usize, readings: u64) -> (Version, Blocks) {
        let (mut blocks, mut taken): (Blocks, u64) = (Vec::new(), 0);
        for (batch, open) in self.of_shard(shard).filter(|(_, open)| !open.merged).take(most.max(1)) {
            taken += open.block.len() as u64;
            if !blocks.is_empty() && taken > readings {
                break;
            }
            blocks.push((batch, OpenBlock::clone(&open.block)));
        }
        (self.version(shard), blocks)
    }

    fn key(&self, id: SeriesId) -> Result<SeriesKey> {
        let series = self.series.get(id.0 as usize);
        series.map(|series| series.key.clone()).ok_or_else(|| StoreError::Corrupt(format!("there is no series {}", id.0)))
    }

    /// The state after the replacement; none where it is lost.
    fn replaced(&self, shard: Shard, version: Version, replacement: &Replacement) -> Result<Option<Self>> {
        if self.version(shard) != version {
            return Ok(None);
        }
        let mut next = self.clone();
        let mut oldest = None;
        for batch in &replacement.sealed_blocks {
            let Some(gone) = next.blocks.remove(&(shard, *batch)) else { return Ok(None) };
            oldest = Some(oldest.map_or(gone.received_at, |oldest| gone.received_at.min(oldest)));
        }
        if replacement.old_chunks.iter().any(|key| next.chunks.remove(key).is_none()) {
            return Ok(None);
        }
        if let Some((batch, block)) = &replacement.rest {
            let rest = Block { block: Arc::new(block.clone()), received_at: oldest.unwrap_or_default(), merged: true };
            if next.blocks.insert((shard, *batch), rest).is_some() {
                return Err(StoreError::Corrupt(format!("block {} of shard {} is there already", batch.0, shard.0)));
            }
        }
        for (key, chunk) in &replacement.new_chunks {
            if next.chunks.insert(*key, Arc::new(chunk.clone())).is_some() {
                return Err(StoreError::Corrupt(format!("the chunk of series {} from {} is there already", key.series.0, key.first)));
            }
        }
        next.rollups.extend(replacement.rollups.iter().map(|(key, summary)| (*key, Arc::new(summary.clone()))));
        replacement.dead_letters.iter().for_each(|letter| next.keep(letter.clone()));
        next.shards.entry(shard).or_default().settle(&replacement.outcomes);
        Ok(Some(next))
    }
}

impl ShardRow {
    const fn settle(&mut self, outcomes: &Outcomes) {
        self.version += 1;
        self.outcomes.stored += outcomes.stored;
        self.outcomes.duplicate += outcomes.duplicate;
        self.outcomes.conflict += outcomes.conflict;
    }
}

/// The days and windows that readings lie in.
#[derive(Clone, Default)]
struct Touched {
    days: BTreeSet<(SeriesId, i64)>,
    windows: BTreeSet<RollupKey>,
}

impl Touched {
    /// And what these readings of a block touch.
    fn with(&self, block: &OpenBlock, readings: std::ops::Range<usize>) -> Self {
        let mut with = self.clone();
        for (&series, &time) in block.series[readings.clone()].iter().zip(&block.times[readings]) {
            with.days.insert((series, Level::Day.start_of(time)));
            with.windows.extend(Level::ALL.map(|level| RollupKey { series, level, start: level.start_of(time) }));
        }
        with
    }

    fn chunks(&self, state: &State) -> Vec<ChunkKey> {
        let of_day = |&(series, first): &(SeriesId, i64)| {
            let day = ChunkKey { series, first }..ChunkKey { series, first: first.saturating_add(DAY) };
            state.chunks.range(day).map(|(key, _)| *key)
        };
        self.days.iter().flat_map(of_day).collect()
    }

    fn rollups(&self, state: &State) -> Vec<RollupKey> {
        self.windows.iter().copied().filter(|key| state.rollups.contains_key(key)).collect()
    }

    /// What is stored of them.
    fn bytes(&self, state: &State) -> u64 {
        let chunks: usize = self.chunks(state).iter().map(|key| state.chunks[key].bytes.len()).sum();
        let mut rollups = Vec::new();
        self.rollups(state).iter().for_each(|key| state.rollups[key].encode(&mut rollups));
        (chunks + rollups.len()) as u64
    }
}

impl Sealing for MemoryStore {
    fn backlog(&self) -> BoxFuture<'_, Result<Vec<Backlog>>> {
        Box::pin(async { Ok(self.state().backlog()) })
    }

    fn load(&self, shard: Shard, budget: LoadBudget) -> BoxFuture<'_, Result<Option<(Version, Loaded)>>> {
        Box::pin(async move { Ok(self.state().load(shard, budget)) })
    }

    fn unmerged(&self, shard: Shard, most: usize, readings: u64) -> BoxFuture<'_, Result<(Version, Blocks)>> {
        Box::pin(async move { Ok(self.state().unmerged(shard, most, readings)) })
    }

    fn keys<'a>(&'a self, ids: &'a [SeriesId]) -> BoxFuture<'a, Result<Vec<SeriesKey>>> {
        Box::pin(async move {
            let state = self.state();
            ids.iter().map(|id| state.key(*id)).collect()
        })
    }

    fn replace(&self, shard: Shard, version: Version, replacement: Arc<Replacement>) -> BoxFuture<'_, Result<Replaced>> {
        Box::pin(async move {
            self.change(|state| {
                let Some(next) = state.replaced(shard, version, &replacement)? else { return Ok(Replaced::Lost) };
                *state = next;
                Ok(Replaced::Done { open_readings: state.open_readings() })
            })
        })
    }
}
