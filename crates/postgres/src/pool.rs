//! Connections: made with this store's settings, lent for one transaction, and never lent again unless clean.
//!
//! Owns: [`Pool`], [`Session`]. Does not know: statements but its own.
//! Invariants:
//! * a [`Session`] that is dropped without [`Session::give_back`] (a cancelled future, a timeout, an error that could not be rolled back) leaves the
//!   pool: what it runs on the server is cancelled and it is closed;
//! * waits are bounded: for a connection, for making one, for a lock;
//! * a session commits durably (`synchronous_commit` is never off), finds rows by keys (statistics of tables that churn are wrong most of the time,
//!   and a plan made while a table was small would read all of it later), and ends by itself when it stands still inside a transaction.

use crate::config::{Config, Target};
use crate::error::{Done, Fault, words};
use crate::tls;
use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, PoolError, RecyclingMethod, Runtime, TimeoutType, Timeouts,
};
use headwater_core::store::{Result, StoreError};
use std::time::Duration;
use tokio::time;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{CancelToken, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

const SETTINGS: &str = include_str!("sql/session.sql");
const LIFE: &str = include_str!("sql/store/life.sql");

/// How long cancelling and rolling back may take before a connection is closed as it is.
const CLEANING: Duration = Duration::from_secs(5);

/// What a statement is given.
pub(crate) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// All connections of a store.
#[derive(Clone)]
pub(crate) struct Pool {
    pool: deadpool_postgres::Pool,
    tls: MakeRustlsConnect,
    create: Duration,
}

impl Pool {
    /// Connects to nothing yet.
    pub(crate) fn new(config: &Config, target: &Target, read_only: bool) -> Result<Self> {
        let tls = tls::connector(config, target.sslmode)?;
        let manager = Manager::from_config(target.pg.clone(), tls.clone(), ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let create = config.connect_timeout();
        let pool = deadpool_postgres::Pool::builder(manager)
            .max_size(config.max_connections)
            .runtime(Runtime::Tokio1)
            .post_create(prepare_session(config, read_only))
            .build()
            .map_err(|error| StoreError::Stopped(format!("cannot make a pool of connections: {error}")))?;
        Ok(Self { pool, tls, create })
    }

    /// A connection, waited for no longer than `wait` while all are lent.
    pub(crate) async fn get(&self, wait: Duration) -> Result<Session> {
        let timeouts = Timeouts { wait: Some(wait), create: Some(self.create), recycle: Some(CLEANING) };
        match self.pool.timeout_get(&timeouts).await {
            Ok(client) => Ok(Session { client: Some(client), tls: self.tls.clone() }),
            Err(PoolError::Timeout(TimeoutType::Wait)) => Err(StoreError::Busy("all connections to the database are in use".to_owned())),
            Err(PoolError::Timeout(_)) => Err(StoreError::Unavailable("the database does not answer in time".to_owned())),
            Err(PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error))) => Err(not_connected(error)),
            Err(error) => Err(StoreError::Unavailable(format!("cannot connect to the database: {error}"))),
        }
    }
}

fn not_connected(error: tokio_postgres::Error) -> StoreError {
    let said = words(&error);
    match crate::error::on_write(error.into()) {
        StoreError::Stopped(why) => StoreError::Stopped(why),
        StoreError::Busy(why) => StoreError::Busy(why),
        // Whatever else keeps a connection from being made, another try may get it.
        _ => StoreError::Unavailable(format!("cannot connect to the database: {said}")),
    }
}

/// What every connection is told once.
fn prepare_session(config: &Config, read_only: bool) -> Hook {
    let milliseconds = |ms: u64| ms.to_string();
    // A transaction that stands still may hold what others need: no longer than they wait for it.
    let settings = [
        milliseconds(config.statement_timeout_ms.max(config.commit_timeout_ms)),
        milliseconds(config.lock_timeout_ms),
        milliseconds(config.lock_timeout_ms.saturating_mul(2)),
        (if read_only { "on" } else { "off" }).to_owned(),
    ];
    Hook::async_fn(move |client, _| {
        let settings = settings.clone();
        Box::pin(async move {
            let params = settings.each_ref().map(|value| (value as &(dyn ToSql + Sync), Type::TEXT));
            client.query_typed(SETTINGS, &params).await.map(drop).map_err(HookError::Backend)
        })
    })
}

/// Tells one life of the database from another. What was read in one life says nothing in the next, where rows may have gone back to an earlier
/// state, and numbers that were given once may be given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life(pub(crate) i64);

/// A connection that is lent.
pub(crate) struct Session {
    /// Taken by giving it back, or by dropping it.
    client: Option<Object>,
    tls: MakeRustlsConnect,
}

impl Session {
    pub(crate) fn client(&self) -> Done<&ClientWrapper> {
        let gone = || StoreError::Unavailable("the connection was given back".to_owned()).into();
        self.client.as_deref().ok_or_else(gone)
    }

    /// Back to the pool; only when nothing is under way and no transaction is open.
    pub(crate) fn give_back(mut self) {
        drop(self.client.take());
    }

    /// Ends whatever transaction is open and gives the connection back, or closes it where that does not work.
    pub(crate) async fn roll_back(self) {
        let Ok(client) = self.client() else { return };
        if let Ok(Ok(())) = time::timeout(CLEANING, client.batch_execute("ROLLBACK")).await {
            self.give_back();
        }
    }

    /// Gives the connection back in the state in which `done` left it.
    pub(crate) async fn settle<T>(self, done: Done<T>, translate: fn(Fault) -> StoreError) -> Result<T> {
        match done {
            Ok(value) => {
                self.give_back();
                Ok(value)
            }
            Err(fault) => {
                let error = translate(fault);
                if !matches!(error, StoreError::Unavailable(_) | StoreError::Unknown(_)) {
                    self.roll_back().await;
                }
                Err(error)
            }
        }
    }

    pub(crate) async fn begin(&self) -> Done<Life> {
        self.begin_by("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await
    }

    /// A snapshot for nothing but reading.
    pub(crate) async fn begin_reading(&self) -> Done<Life> {
        // Only a query takes the snapshot; BEGIN alone would leave that to the first question.
        self.begin_by("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }

    async fn begin_by(&self, begin: &str) -> Done<Life> {
        let (client, statement) = (self.client()?, self.prepare(LIFE).await?);
        // Polled in this order, both are sent before the first answer comes.
        let (begun, life) = tokio::join!(biased; client.batch_execute(begin), client.query_one(&statement, &[]));
        begun?;
        Ok(Life(life?.try_get(0)?))
    }

    /// Which life of the database this connection leads to.
    pub(crate) async fn life(&self) -> Done<Life> {
        Ok(Life(self.query_one(LIFE, &[]).await?.try_get(0)?))
    }

    pub(crate) async fn commit(&self) -> Done<()> {
        Ok(self.client()?.batch_execute("COMMIT").await?)
    }

    pub(crate) async fn prepare(&self, sql: &str) -> Done<Statement> {
        Ok(self.client()?.prepare_cached(sql).await?)
    }

    pub(crate) async fn query(&self, sql: &str, params: Params<'_>) -> Done<Vec<Row>> {
        let statement = self.prepare(sql).await?;
        Ok(self.client()?.query(&statement, params).await?)
    }

    pub(crate) async fn query_one(&self, sql: &str, params: Params<'_>) -> Done<Row> {
        let statement = self.prepare(sql).await?;
        Ok(self.client()?.query_one(&statement, params).await?)
    }

    pub(crate) async fn query_opt(&self, sql: &str, params: Params<'_>) -> Done<Option<Row>> {
        let statement = self.prepare(sql).await?;
        Ok(self.client()?.query_opt(&statement, params).await?)
    }

    pub(crate) async fn execute(&self, sql: &str, params: Params<'_>) -> Done<u64> {
        let statement = self.prepare(sql).await?;
        Ok(self.client()?.execute(&statement, params).await?)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let (token, tls) = (client.cancel_token(), self.tls.clone());
        let client = Object::take(client);
        if client.is_closed() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(cancel(token, tls, client));
        }
    }
}

/// Closing a connection does not end what it runs: PostgreSQL looks at the socket only when it has something to say.
async fn cancel(token: CancelToken, tls: MakeRustlsConnect, client: ClientWrapper) {
    if let Ok(Err(error)) = time::timeout(CLEANING, token.cancel_query(tls)).await {
        tracing::debug!(error = words(&error), "could not cancel what a connection ran that was given up");
    }
    drop(client);
}
