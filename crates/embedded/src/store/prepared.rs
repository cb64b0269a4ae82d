//! What is to be written, made ready before it is queued: the writer's transaction is for writing.
//!
//! Owns: the bytes of blocks and rollups, the order of chunks. Does not know: the database.

use headwater_core::block::{BlockStats, OpenBlock};
use headwater_core::seal::{ChunkKey, Replacement, RollupKey};
use headwater_core::series::Shard;
use headwater_core::store::{Batch, BatchId, StoreError};
use std::sync::Arc;
use tokio::task;

/// A block, as it is written.
pub(super) struct Block {
    pub(super) shard: Shard,
    pub(super) stats: BlockStats,
    pub(super) bytes: Vec<u8>,
}

impl Block {
    /// `None` for one without readings.
    fn of(block: &OpenBlock) -> Option<Self> {
        (!block.is_empty()).then(|| Self { shard: block.shard, stats: block.stats(), bytes: block.encode() })
    }
}

/// A batch to commit.
pub(super) struct Commit {
    pub(super) batch: Arc<Batch>,
    pub(super) blocks: Vec<Block>,
}

impl Commit {
    pub(super) fn of(batch: Arc<Batch>) -> Self {
        let blocks = batch.blocks.iter().filter_map(Block::of).collect();
        Self { batch, blocks }
    }
}

/// What is done to a chunk's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Delete(ChunkKey),
    /// The new chunk of this place in the list takes the place of an old one.
    Update(usize),
    /// The new chunk of this place in the list.
    Insert(usize),
}

/// A replacement to make.
pub(super) struct Replace {
    pub(super) replacement: Arc<Replacement>,
    pub(super) rest: Option<(BatchId, Block)>,
    /// By day and key, so that rows are written in their own order; all that goes before all that comes.
    pub(super) changes: Vec<Change>,
    pub(super) rollups: Vec<(RollupKey, Vec<u8>)>,
}

impl Replace {
    pub(super) fn of(replacement: Arc<Replacement>) -> Self {
        let rest = replacement.rest.as_ref().and_then(|(batch, block)| Some((*batch, Block::of(block)?)));
        let encoded = replacement.rollups.iter().map(|(key, summary)| {
            let mut bytes = Vec::new();
            summary.encode(&mut bytes);
            (*key, bytes)
        });
        Self { rest, changes: changes(&replacement), rollups: encoded.collect(), replacement }
    }
}

fn changes(replacement: &Replacement) -> Vec<Change> {
    let Replacement { old_chunks, new_chunks, .. } = replacement;
    let mut old = old_chunks.clone();
    old.sort_unstable();
    let mut new: Vec<ChunkKey> = new_chunks.iter().map(|(key, _)| *key).collect();
    let mut order: Vec<usize> = (0..new.len()).collect();
    order.sort_by_key(|&i| (new[i].day(), new[i]));
    let writes = order.into_iter().map(|i| if old.binary_search(&new[i]).is_ok() { Change::Update(i) } else { Change::Insert(i) });
    let writes: Vec<Change> = writes.collect();
    new.sort_unstable();
    old.retain(|key| new.binary_search(key).is_err());
    old.sort_by_key(|key| (key.day(), *key));
    old.into_iter().map(Change::Delete).chain(writes).collect()
}

/// Runs `work` where it hinders no other task.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    // It ends early only with the runtime, before anything is queued.
    task::spawn_blocking(work)
        .await
        .map_err(|error| StoreError::Stopped(format!("what was to be written could not be made ready: {error}")))
}
