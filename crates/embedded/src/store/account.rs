//! What the counts are made of, for whoever carries the store elsewhere.
//!
//! Owns: the statements that read it. Does not know: where it goes.

use super::ingestion::LOAD_STATE;
use super::readers::View;
use super::rows;
use crate::error::Fault;
use crate::sqlite::uint;
use headwater_core::log::{Gap, LogId};
use headwater_core::seal::Outcomes;
use headwater_core::series::Shard;
use headwater_core::store::{Account, Applied, StoreError};

pub(super) const POSITIONS: &str = include_str!("../sql/store/account_positions.sql");
pub(super) const SHARDS: &str = include_str!("../sql/store/account_shards.sql");
pub(super) const GAPS: &str = include_str!("../sql/store/account_gaps.sql");

pub(super) fn account(view: &View<'_>) -> Result<Account, Fault<StoreError>> {
    let numbers = |row: &rusqlite::Row<'_>| Ok((uint(row.get(1)?), uint(row.get(3)?), uint(row.get(6)?)));
    let (next_series, dead_letters_dropped, dead_letters_discarded) = view.conn.prepare_cached(LOAD_STATE)?.query_row([], numbers)?;
    let position =
        |row: &rusqlite::Row<'_>| Ok(Applied { position: rows::position(row)?, received: uint(row.get(4)?), dead: uint(row.get(5)?) });
    let shard = |row: &rusqlite::Row<'_>| {
        let outcomes = Outcomes { stored: uint(row.get(1)?), duplicate: uint(row.get(2)?), conflict: uint(row.get(3)?) };
        Ok((Shard(row.get(0)?), outcomes))
    };
    let gap = |row: &rusqlite::Row<'_>| {
        Ok(Gap { log: LogId(row.get(0)?), partition: row.get(1)?, from: uint(row.get(2)?), to: uint(row.get(3)?) })
    };
    Ok(Account {
        positions: view.conn.prepare_cached(POSITIONS)?.query_map([], position)?.collect::<rusqlite::Result<_>>()?,
        outcomes: view.conn.prepare_cached(SHARDS)?.query_map([], shard)?.collect::<rusqlite::Result<_>>()?,
        gaps: view.conn.prepare_cached(GAPS)?.query_map([], gap)?.collect::<rusqlite::Result<_>>()?,
        next_series,
        dead_letters_dropped,
        dead_letters_discarded,
    })
}
