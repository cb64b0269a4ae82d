//! The store: what ingest commits, what is sealed, and what questions are answered from.
//!
//! Owns: [`Store`], the seam's [`Ingestion`], [`Sealing`], [`Queries`] and (in [`attempts`]) `DeadLetters`. Does not know: how connections are made, what sealing is.
//! Files: [`ingestion`] commits, [`registry`] new series, [`letters`] dead letters and their quota, [`attempts`] what people do about them; [`sealing`] what the sealer reads,
//! [`replace`] what it writes; [`moving`] filling a new store from another one; [`snapshot`] the seam's calls on one state, [`queries`] and [`history`] the statements behind them; [`blocks`]
//! and [`chunks`] rows of arrays, [`rows`] other columns as words.
//! Invariants: see [`crate`]. Nothing of this process is state: any number of processes may do the same.

mod attempts;
mod blocks;
mod chunks;
mod history;
mod ingestion;
mod letters;
mod moving;
mod queries;
mod registry;
mod replace;
mod rows;
mod sealing;
mod snapshot;

use crate::config::{Config, Target};
use crate::error::{Done, corrupt, is_locked, on_read, on_write};
use crate::migrations;
use crate::pool::{Life, Pool};
use headwater_core::BoxFuture;
use headwater_core::clock::Clock;
use headwater_core::failpoint;
use headwater_core::log::Position;
use headwater_core::seal::{Loaded, Replacement};
use headwater_core::series::{SeriesId, SeriesKey, Shard};
use headwater_core::store::{
    Backlog, Batch, Blocks, Committed, Ingestion, LoadBudget, NewSeries, Queries, Registered, Replaced, Result, Sealing, SeriesLimits,
    Snapshot, StoreError, Version, Vitals,
};
use letters::Quota;
pub use moving::{Begun, Mover, Source};
use snapshot::Snapshots;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{self, Instant};

const OLDEST_SNAPSHOT: &str = include_str!("../sql/store/oldest_snapshot.sql");
const DATABASE_BYTES: &str = include_str!("../sql/store/database_bytes.sql");
const END_STALLED_WRITERS: &str = include_str!("../sql/store/end_stalled_writers.sql");

/// Connections that no snapshot takes: a commit, a registration, a look, a replacement.
const KEPT: usize = 4;
/// How long a writer waits for a free connection.
const WAIT: Duration = Duration::from_secs(5);
/// How often writers that do not live any more are looked for.
const LOOK_FOR_STALLED: Duration = Duration::from_secs(30);

/// The store in a database.
pub struct Store {
    pool: Pool,
    snapshots: Snapshots,
    quota: Quota,
    /// The life of the database in which all ids of series were given that whoever writes may still hold; none was given yet where it is `None`.
    ids_of: Mutex<Option<Life>>,
    commit_timeout: Duration,
    statement_timeout: Duration,
    opened: Instant,
    /// When stalled writers were looked for, in milliseconds since `opened`.
    looked_ms: AtomicU64,
}

/// Connects to the database of `config.url` and brings it to the schema that this program knows.
///
/// # Errors
/// [`StoreError::Unavailable`] when the server cannot be reached within `connect_timeout_ms`; [`StoreError::Stopped`], in words, when the
/// configuration, the credentials, the server, a newer schema or a move that is not finished forbid it.
pub async fn open(config: Config, clock: Arc<dyn Clock>) -> Result<Arc<Store>> {
    let store = Store::connect(&config, false).await?;
    let session = store.pool.get(WAIT).await?;
    let done = async {
        migrations::run(&session, migrations::ALL, clock.now()).await?;
        moving::refuse_unfinished(&session).await
    };
    let done = done.await;
    session.settle(done, on_write).await?;
    Ok(Arc::new(store))
}

/// Connects to a database that is to be filled from another store, and brings it to the schema that this program knows.
///
/// # Errors
/// As [`open`], but for a move that is not finished.
pub async fn open_for_moving(config: Config, clock: Arc<dyn Clock>) -> Result<Mover> {
    let store = Store::connect(&config, false).await?;
    let session = store.pool.get(WAIT).await?;
    let done = migrations::run(&session, migrations::ALL, clock.now()).await;
    session.settle(done, on_write).await?;
    Ok(Mover::new(store))
}

/// Connects to a database for nothing but questions, a standby too, and changes nothing.
///
/// # Errors
/// As [`open`], and when its schema is older.
pub async fn open_for_reading(config: Config) -> Result<Arc<dyn Queries>> {
    let store = Store::connect(&config, true).await?;
    let session = store.pool.get(WAIT).await?;
    let done = async {
        migrations::check(&session, migrations::ALL).await?;
        moving::refuse_unfinished(&session).await
    };
    let done = done.await;
    session.settle(done, on_write).await?;
    Ok(Arc::new(store))
}

impl Store {
    async fn connect(config: &Config, read_only: bool) -> Result<Self> {
        let problems = config.validate();
        if !problems.is_empty() {
            return Err(StoreError::Stopped(format!("the configuration of the store is wrong: {}", problems.join("; "))));
        }
        let target = target(config).await?;
        tracing::info!(place = target.place(), "the store is in PostgreSQL at {}", target.place());
        let target = if read_only { target } else { target.for_writing() };
        let pool = Pool::new(config, &target, read_only)?;
        Ok(Self {
            snapshots: Snapshots::new(pool.clone(), config.max_connections - KEPT),
            pool,
            quota: Quota { letters: config.dead_letter_count, bytes: config.dead_letter_bytes },
            ids_of: Mutex::new(None),
            commit_timeout: config.commit_timeout(),
            statement_timeout: config.statement_timeout(),
            opened: Instant::now(),
            looked_ms: AtomicU64::new(0),
        })
    }

    /// The age of the oldest snapshot or transaction in the database, of any process: dead rows that are younger cannot be swept, so the tables of
    /// open blocks grow while it lasts. `None` where there is none.
    ///
    /// # Errors
    /// As every question.
    pub async fn oldest_snapshot_age(&self) -> Result<Option<Duration>> {
        let session = self.pool.get(WAIT).await?;
        let done = self.in_time(async { Ok(session.query_one(OLDEST_SNAPSHOT, &[]).await?.try_get(0)?) }).await;
        let seconds: Option<f64> = session.settle(done, on_read).await?;
        Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
    }

    /// What `work` does, if it does not take longer than a statement may.
    async fn in_time<T>(&self, work: impl Future<Output = Done<T>>) -> Done<T> {
        within(self.statement_timeout, work).await
    }

    /// Whether ids that were given are still those of the series that they were given to. In another life of the database they may be another's:
    /// a failover or a restore can take back a registration, and the id is given again.
    fn check_ids(&self, life: Life) -> Done<()> {
        match *self.ids_of.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(of) if of != life && !failpoint::planted("ids-outlive-the-database") => {
                Err(StoreError::Restored("the server was started or replaced since series were registered".to_owned()).into())
            }
            _ => Ok(()),
        }
    }

    /// Ids are going to be given in this life.
    fn give_ids(&self, life: Life) -> Done<()> {
        self.check_ids(life)?;
        *self.ids_of.lock().unwrap_or_else(PoisonError::into_inner) = Some(life);
        Ok(())
    }

    /// Whoever stood in the way of this one may not live any more.
    async fn after_lock<T>(&self, done: Result<T>) -> Result<T> {
        if done.as_ref().is_err_and(is_locked) {
            self.end_stalled_writers().await;
        }
        done
    }

    async fn end_stalled_writers_now_and_then(&self) {
        let (now, every) = (self.opened.elapsed().as_millis() as u64, LOOK_FOR_STALLED.as_millis() as u64);
        let last = self.looked_ms.load(Ordering::Relaxed);
        if now >= last + every && self.looked_ms.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.end_stalled_writers().await;
        }
    }

    /// Ends sessions whose writer stopped in the middle of a COPY, for longer than a writer that lives would wait.
    async fn end_stalled_writers(&self) {
        let seconds = self.commit_timeout.as_secs_f64() + WAIT.as_secs_f64();
        let ended: Result<i64> = async {
            let session = self.pool.get(WAIT).await?;
            let done = self.in_time(async { Ok(session.query_one(END_STALLED_WRITERS, &[&seconds]).await?.try_get(0)?) }).await;
            session.settle(done, on_write).await
        }
        .await;
        match ended {
            Ok(0) => {}
            Ok(n) => tracing::warn!(n, "ended {n} sessions whose writer had stopped in the middle of a COPY"),
            Err(error) => tracing::warn!(%error, "could not look for writers that have stopped"),
        }
    }
}

/// Where the database is, with the password.
pub(crate) async fn target(config: &Config) -> Result<Target> {
    config.target(password(config).await?).map_err(|problem| StoreError::Stopped(format!("url: {problem}")))
}

/// The first line of the password file, if there is one.
async fn password(config: &Config) -> Result<String> {
    let Some(path) = config.password_file.clone() else { return Ok(String::new()) };
    let read = aside(move || {
        std::fs::read_to_string(&path)
            .map_err(|error| StoreError::Stopped(format!("cannot read password_file {}: {error}", path.display())).into())
    });
    let text = read.await.map_err(on_write)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// What `work` does, if it does not take longer than `limit`.
async fn within<T>(limit: Duration, work: impl Future<Output = Done<T>>) -> Done<T> {
    let late = |_| Err(StoreError::Unavailable(format!("the database did not answer within {} s", limit.as_secs_f64())).into());
    time::timeout(limit, work).await.unwrap_or_else(late)
}

/// Work that would keep a thread of the runtime busy.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Done<T> + Send + 'static) -> Done<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(corrupt(format!("the work on rows ended early: {error}"))))
}

/// A number that PostgreSQL can hold; one beyond is as good as its greatest.
fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A number that PostgreSQL holds and that is never negative.
fn uint(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn shard_of(shard: Shard) -> i16 {
    i16::from(shard.0)
}

fn ids_of(series: &[SeriesId]) -> Vec<i64> {
    series.iter().map(|id| i64::from(id.0)).collect()
}

impl Ingestion for Store {
    fn positions(&self) -> BoxFuture<'_, Result<Vec<Position>>> {
        Box::pin(async {
            let session = self.pool.get(WAIT).await?;
            let done = self.in_time(queries::positions(&session)).await;
            session.settle(done, on_write).await
        })
    }

    fn open_readings(&self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async {
            let session = self.pool.get(WAIT).await?;
            let done = self.in_time(queries::open_readings(&session)).await;
            session.settle(done, on_write).await
        })
    }

    fn register(&self, series: Vec<NewSeries>, limits: SeriesLimits) -> BoxFuture<'_, Result<Vec<Registered>>> {
        Box::pin(async move {
            let session = self.pool.get(WAIT).await?;
            let done = self.in_time(async {
                self.give_ids(session.life().await?)?;
                registry::register(&session, &series, limits).await
            });
            let done = done.await;
            self.after_lock(session.settle(done, on_write).await).await
        })
    }

    fn forget_ids(&self) {
        *self.ids_of.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn commit(&self, batch: Arc<Batch>) -> BoxFuture<'_, Result<Committed>> {
        Box::pin(async move { self.after_lock(self.commit_batch(batch).await).await })
    }
}

impl Sealing for Store {
    fn backlog(&self) -> BoxFuture<'_, Result<Vec<Backlog>>> {
        Box::pin(async {
            self.end_stalled_writers_now_and_then().await;
            let session = self.pool.get(WAIT).await?;
            let done = self.in_time(sealing::backlog(&session)).await;
            session.settle(done, on_read).await
        })
    }

    fn load(&self, shard: Shard, budget: LoadBudget) -> BoxFuture<'_, Result<Option<(Version, Loaded)>>> {
        Box::pin(async move {
            let session = self.pool.get(WAIT).await?;
            let done = self.in_time(sealing::load(&session, shard, budget)).await;
            session.settle(done, on_read).await
        })
    }

    fn unmerged(&self, shard: Shard, most: usize, readings: u64) -> BoxFuture<'_, Result<(Version, Blocks)>> {
        Box::pin(async move {
            let session = self.pool.get(WAIT).await?;
            let done = self.in_time(sealing::unmerged(&session, shard, most, readings)).await;
            session.settle(done, on_read).await
        })
    }

    fn keys<'a>(&'a self, ids: &'a [SeriesId]) -> BoxFuture<'a, Result<Vec<SeriesKey>>> {
        Box::pin(async move {
            let session = self.pool.get(WAIT).await?;
            let done = self.in_time(sealing::keys(&session, ids)).await;
            session.settle(done, on_read).await
        })
    }

    fn replace(&self, shard: Shard, version: Version, replacement: Arc<Replacement>) -> BoxFuture<'_, Result<Replaced>> {
        Box::pin(async move { self.after_lock(self.replace_rows(shard, version, replacement).await).await })
    }
}

impl Queries for Store {
    fn snapshot(&self, lifetime: Duration) -> BoxFuture<'_, Result<Box<dyn Snapshot>>> {
        Box::pin(async move { Ok(Box::new(self.snapshots.begin(lifetime).await?) as Box<dyn Snapshot>) })
    }

    fn vitals(&self) -> BoxFuture<'_, Result<Vitals>> {
        Box::pin(async {
            let oldest_snapshot = self.oldest_snapshot_age().await?;
            let session = self.pool.get(WAIT).await?;
            let done = self.in_time(async { Ok(session.query_one(DATABASE_BYTES, &[]).await?.try_get(0)?) }).await;
            let bytes: i64 = session.settle(done, on_read).await?;
            Ok(Vitals { bytes: Some(uint(bytes)), oldest_snapshot: Some(oldest_snapshot.unwrap_or_default()) })
        })
    }
}
