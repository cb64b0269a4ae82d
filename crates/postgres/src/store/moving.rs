//! Filling a new store from another one (`headwater move`).
//!
//! Owns: [`Mover`], the row of `moves`. Does not know: where the other store is, how it is read.
//!
//! Invariants:
//! * only a store with nothing in it, or with an unfinished move of the same source, is filled; one process at a time does it;
//! * while a move is unfinished no role opens the store, so nobody sees a part of it;
//! * everything that is put can be put again, so a move that was cut short anywhere goes on; where the source has changed since, what was moved is
//!   thrown away first;
//! * the counts and, last, the positions are written in the transaction that completes the move, and only where all counts are the source's.

use super::ingestion::write_gaps;
use super::replace::{Ready, delete_chunks};
use super::{Store, WAIT, aside, int, letters, queries, registry, within};
use crate::error::{Done, on_commit, on_write};
use crate::pool::Session;
use headwater_core::dead_letter::{DeadLetter, KeptLetter};
use headwater_core::failpoint;
use headwater_core::seal::{ChunkKey, RollupKey, StoredChunk};
use headwater_core::series::{Series, Shard};
use headwater_core::store::{Account, Applied, Queries, Result, StoreError, Totals};
use headwater_core::summary::Summary;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::time;

const LOCK: &str = include_str!("../sql/store/moving_lock.sql");
const FIND: &str = include_str!("../sql/store/moving_find.sql");
const CONTENTS: &str = include_str!("../sql/store/moving_contents.sql");
const CLEAR: &str = include_str!("../sql/store/moving_clear.sql");
const BEGIN: &str = include_str!("../sql/store/moving_begin.sql");
const SERIES: &str = include_str!("../sql/store/moving_series.sql");
/// No statement that could be prepared.
const WRITERS: &str = "LOCK TABLE positions, blocks, gaps, shards IN SHARE ROW EXCLUSIVE MODE";
const SHARDS: &str = include_str!("../sql/store/moving_shards.sql");
const DROPPED: &str = include_str!("../sql/store/moving_dropped.sql");
const POSITIONS: &str = include_str!("../sql/store/moving_positions.sql");
const COMPLETE: &str = include_str!("../sql/store/moving_complete.sql");
const UNFINISHED: &str = include_str!("../sql/store/moving_unfinished.sql");

/// Which store is moved, in which state.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where it is, for people.
    pub place: String,
    /// Which one it is, wherever it lies.
    pub identity: String,
    /// What it holds; equal where it has not changed.
    pub state: String,
    /// The id of its next new series.
    pub next_series: u64,
}

/// What was found when a move began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Nothing.
    Fresh,
    /// A part of this move.
    Resumed,
    /// All of it: there is nothing to do.
    Complete,
}

/// A store that is being filled.
pub struct Mover {
    store: Arc<Store>,
    /// Holds the lock that only one mover has.
    guard: Mutex<Option<Session>>,
}

/// Nobody may work on a store that is only partly there.
pub(super) async fn refuse_unfinished(session: &Session) -> Done<()> {
    let Some(row) = session.query_opt(UNFINISHED, &[]).await? else { return Ok(()) };
    let source: String = row.try_get(0)?;
    Err(StoreError::Stopped(format!("a move from {source} into this database is not finished; run `headwater move` again")).into())
}

impl Mover {
    pub(super) fn new(store: Store) -> Self {
        Self { store: Arc::new(store), guard: Mutex::new(None) }
    }

    /// What is there, to be compared with the source.
    pub fn queries(&self) -> &dyn Queries {
        &*self.store
    }

    /// Begins, or goes on with, a move.
    ///
    /// # Errors
    /// [`StoreError::Stopped`], in words, when another process moves into this database, or when it holds something else.
    pub async fn begin(&self, source: &Source) -> Result<Begun> {
        self.take_lock().await?;
        let session = self.store.pool.get(WAIT).await?;
        let done = within(self.store.statement_timeout, begin(&session, source)).await;
        session.settle(done, on_write).await
    }

    async fn take_lock(&self) -> Result<()> {
        let mut guard = self.guard.lock().await;
        if guard.is_some() {
            return Ok(());
        }
        let session = self.store.pool.get(WAIT).await?;
        let done = async {
            let is_ours: bool = session.query_one(LOCK, &[]).await?.try_get(0)?;
            let taken = || StoreError::Stopped("another process is moving into this database".to_owned());
            if is_ours { Ok(()) } else { Err(taken().into()) }
        };
        match done.await {
            Ok(()) => *guard = Some(session),
            Err(fault) => return session.settle(Err(fault), on_write).await,
        }
        Ok(())
    }

    /// Puts series under the ids that they have.
    ///
    /// # Errors
    /// As everything that writes.
    pub async fn put_series(&self, series: &[Series]) -> Result<()> {
        let rows: Vec<_> = series.iter().map(|series| (series.id, series.key.as_str(), series.unit.as_deref())).collect();
        let session = self.store.pool.get(WAIT).await?;
        let done = self.store.in_time(registry::write(&session, SERIES, &rows)).await;
        session.settle(done, on_write).await
    }

    /// Puts chunks and rollups of a shard. `again` says that some of them may be there already.
    ///
    /// # Errors
    /// As everything that writes; [`StoreError::Corrupt`] when a chunk does not hold what its key says.
    pub async fn put_history(
        &self,
        shard: Shard,
        chunks: Vec<(ChunkKey, StoredChunk)>,
        rollups: Vec<(RollupKey, Summary)>,
        again: bool,
    ) -> Result<()> {
        let old: Vec<ChunkKey> = if again { chunks.iter().map(|(key, _)| *key).collect() } else { Vec::new() };
        let ready = aside(move || Ready::of(shard, &chunks, &rollups)).await.map_err(on_write)?;
        let session = self.store.pool.get(WAIT).await?;
        let work = async {
            session.begin().await?;
            // How many there were does not matter here.
            delete_chunks(&session, shard, &old).await?;
            ready.write(&session, shard).await?;
            failpoint::reach("store.move.before_commit");
            session.commit().await
        };
        let done = within(self.store.commit_timeout, work).await;
        session.settle(done, on_write).await?;
        failpoint::reach("store.move.after_commit");
        Ok(())
    }

    /// Puts whole dead letters with what became of them; one that is there already changes nothing.
    ///
    /// # Errors
    /// As everything that writes.
    pub async fn put_dead_letters(&self, letters: &[KeptLetter]) -> Result<()> {
        let parts: Vec<DeadLetter> = letters.iter().flat_map(|kept| parts_of(&kept.letter)).collect();
        let session = self.store.pool.get(WAIT).await?;
        let work = async {
            session.begin().await?;
            letters::keep(&session, &parts).await?;
            letters::set_histories(&session, letters).await?;
            session.commit().await
        };
        let done = within(self.store.commit_timeout, work).await;
        session.settle(done, on_write).await
    }

    /// Writes the counts, the gaps and, last, the positions, and completes the move, where everything counts as `totals` says.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], naming both, when a count is another; nothing is changed then.
    pub async fn finish(&self, account: &Account, totals: &Totals) -> Result<()> {
        let session = self.store.pool.get(WAIT).await?;
        let written = within(self.store.commit_timeout, finish(&session, account, totals)).await;
        if let Err(fault) = written {
            return session.settle(Err(fault), on_write).await;
        }
        failpoint::reach("store.move.finish");
        let limit = self.store.commit_timeout;
        let late = || StoreError::Unknown(format!("COMMIT was not answered within {} s", limit.as_secs_f64()));
        let committing = session.client().map_err(on_write)?.batch_execute("COMMIT");
        time::timeout(limit, committing).await.map_err(|_| late())?.map_err(on_commit)?;
        session.give_back();
        Ok(())
    }
}

async fn begin(session: &Session, source: &Source) -> Done<Begun> {
    session.begin().await?;
    let found = session.query_opt(FIND, &[]).await?;
    let begun = match found {
        None => {
            refuse_contents(session).await?;
            start(session, source).await?;
            Begun::Fresh
        }
        Some(row) => {
            let (place, identity, state, complete): (String, String, String, bool) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            let is_same = (identity == source.identity, state == source.state);
            match (complete, is_same) {
                (false, (true, true)) => Begun::Resumed,
                (true, (true, true)) => Begun::Complete,
                (false, (true, false)) => {
                    session.execute(CLEAR, &[]).await?;
                    start(session, source).await?;
                    Begun::Fresh
                }
                (false, (false, _)) => return Err(refused(&format!("holds an unfinished move from {place}"))),
                (true, (true, false)) => {
                    return Err(refused(&format!("was filled from {place} before, and that store has taken in more since")));
                }
                (true, (false, _)) => return Err(refused(&format!("was filled from {place} before"))),
            }
        }
    };
    session.commit().await?;
    Ok(begun)
}

async fn start(session: &Session, source: &Source) -> Done<()> {
    session.execute(registry::MOVE, &[&int(source.next_series)]).await?;
    session.execute(BEGIN, &[&source.place, &source.identity, &source.state]).await.map(drop)
}

fn refused(what: &str) -> crate::error::Fault {
    StoreError::Stopped(format!("the database {what}; a new one is needed")).into()
}

async fn refuse_contents(session: &Session) -> Done<()> {
    let row = session.query_one(CONTENTS, &[]).await?;
    let n: i64 = row.try_get(0)?;
    let mut held: Vec<String> = (n > 0).then(|| format!("{n} series")).into_iter().collect();
    for (column, name) in ["positions of a log", "chunks", "open blocks", "dead letters", "gaps"].into_iter().enumerate() {
        if row.try_get::<_, bool>(column + 1)? {
            held.push(name.to_owned());
        }
    }
    if held.is_empty() { Ok(()) } else { Err(refused(&format!("is not empty, it holds {}", held.join(", ")))) }
}

async fn finish(session: &Session, account: &Account, totals: &Totals) -> Done<()> {
    session.begin().await?;
    session.client()?.batch_execute(WRITERS).await?;
    let outcomes = &account.outcomes;
    let shards: Vec<i16> = outcomes.iter().map(|(shard, _)| super::shard_of(*shard)).collect();
    let stored: Vec<i64> = outcomes.iter().map(|(_, outcomes)| int(outcomes.stored)).collect();
    let duplicate: Vec<i64> = outcomes.iter().map(|(_, outcomes)| int(outcomes.duplicate)).collect();
    let conflict: Vec<i64> = outcomes.iter().map(|(_, outcomes)| int(outcomes.conflict)).collect();
    session.execute(SHARDS, &[&shards, &stored, &duplicate, &conflict]).await?;
    session.execute(DROPPED, &[&int(account.dead_letters_dropped), &int(account.dead_letters_discarded)]).await?;
    write_gaps(session, &account.gaps).await?;
    write_positions(session, &account.positions).await?;
    let found = queries::totals(session).await?;
    if found != *totals {
        let words = format!("the counts of what was moved are others than the source's: {found:?} and not {totals:?}");
        return Err(StoreError::Corrupt(words).into());
    }
    if session.execute(COMPLETE, &[]).await? != 1 {
        return Err(StoreError::Stopped("another process has completed this move".to_owned()).into());
    }
    Ok(())
}

async fn write_positions(session: &Session, positions: &[Applied]) -> Done<()> {
    let logs: Vec<&str> = positions.iter().map(|applied| applied.position.log.0.as_str()).collect();
    let partitions: Vec<i64> = positions.iter().map(|applied| i64::from(applied.position.partition)).collect();
    let nexts: Vec<i64> = positions.iter().map(|applied| int(applied.position.next)).collect();
    let crcs: Vec<Option<i64>> = positions.iter().map(|applied| applied.position.crc.map(i64::from)).collect();
    let received: Vec<i64> = positions.iter().map(|applied| int(applied.received)).collect();
    let dead: Vec<i64> = positions.iter().map(|applied| int(applied.dead)).collect();
    session.execute(POSITIONS, &[&logs, &partitions, &nexts, &crcs, &received, &dead]).await.map(drop)
}

/// A whole letter in as many parts as it came in.
fn parts_of(letter: &DeadLetter) -> impl Iterator<Item = DeadLetter> {
    let parts = letter.parts.max(1);
    let size = letter.bytes.len().div_ceil(parts as usize).max(1);
    let part = move |part: u32| {
        let at = |n: u32| (n as usize * size).min(letter.bytes.len());
        DeadLetter { part, parts, bytes: letter.bytes[at(part)..at(part + 1)].to_vec(), ..head_of(letter) }
    };
    (0..parts).map(part)
}

/// A letter without its bytes.
fn head_of(letter: &DeadLetter) -> DeadLetter {
    DeadLetter {
        bytes: Vec::new(),
        detail: letter.detail.clone(),
        device: letter.device.clone(),
        format: letter.format.clone(),
        origin: letter.origin.clone(),
        ..*letter
    }
}
