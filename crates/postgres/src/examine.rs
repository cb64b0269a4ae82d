//! A look at a database server, for a person.
//!
//! Owns: [`examine`]. Does not know: what is to be thought of it. Invariant: nothing is changed, and nothing is made.

use crate::config::Config;
use crate::error::{Done, on_read};
use crate::migrations;
use crate::pool::{Pool, Session};
use crate::store;
use headwater_core::store::{Result, StoreError};
use std::time::Duration;

const EXAMINE: &str = include_str!("sql/examine.sql");
const OLDEST_SNAPSHOT: &str = include_str!("sql/store/oldest_snapshot.sql");

/// How long may be waited for a connection.
const WAIT: Duration = Duration::from_secs(5);

/// What was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Examined {
    /// `host:port/database`.
    pub place: String,
    /// The server's version, as it says it.
    pub version: String,
    /// The same as a number: 150004 is 15.4.
    pub version_number: i32,
    /// `fsync`: `on`, or `off`.
    pub fsync: String,
    /// `synchronous_commit` as sessions find it.
    pub synchronous_commit: String,
    /// `full_page_writes`.
    pub full_page_writes: String,
    /// `autovacuum`.
    pub autovacuum: String,
    /// Connections that the server has for all.
    pub max_connections: i32,
    /// Whether it is a standby.
    pub is_standby: bool,
    /// The server's clock, in seconds since 1970.
    pub clock_s: f64,
    /// The version of our schema there, and the one that this program knows; `None` where there is none yet.
    pub schema: Option<(i64, i64)>,
    /// The age of the oldest snapshot of anybody, in seconds.
    pub oldest_snapshot_s: Option<f64>,
}

/// Looks at the server of `config.url`, a standby too.
///
/// # Errors
/// As [`crate::open`].
pub async fn examine(config: &Config) -> Result<Examined> {
    let target = store::target(config).await?;
    let place = target.place();
    let session = Pool::new(config, &target, true)?.get(WAIT).await?;
    let done = tokio::time::timeout(config.statement_timeout(), seen(&session, place)).await;
    let late = |_| Err(StoreError::Unavailable("the server did not answer in time".to_owned()).into());
    session.settle(done.unwrap_or_else(late), on_read).await
}

async fn seen(session: &Session, place: String) -> Done<Examined> {
    let row = session.query_one(EXAMINE, &[]).await?;
    let has_schema: bool = row.try_get(9)?;
    Ok(Examined {
        place,
        version: row.try_get(0)?,
        version_number: row.try_get(1)?,
        fsync: row.try_get(2)?,
        synchronous_commit: row.try_get::<_, Option<String>>(3)?.unwrap_or_default(),
        full_page_writes: row.try_get(4)?,
        autovacuum: row.try_get(5)?,
        max_connections: row.try_get(6)?,
        is_standby: row.try_get(7)?,
        clock_s: row.try_get(8)?,
        schema: if has_schema { Some(migrations::versions(session).await?) } else { None },
        oldest_snapshot_s: session.query_one(OLDEST_SNAPSHOT, &[]).await?.try_get(0)?,
    })
}
