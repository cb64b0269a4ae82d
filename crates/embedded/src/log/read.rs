//! Reading rows back, in short reads on a connection of its own.
//!
//! Owns: [`Reader`]. Does not know: subscriptions, the writer.
//! Invariants: no read holds the database for longer than one call, so the write-ahead log can always start over; a row whose
//! bytes have changed is named in a log line and delivered as damaged records.

use super::PARTITION;
use super::frames::{Contents, ROW_RECORDS, Row};
use crate::error::{Failure, Fault, OpenError};
use crate::sqlite::{self, Use, int, uint};
use bytes::Bytes;
use headwater_core::log::{Delivery, LogError, StoredRecord};
use headwater_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) const READ: &str = include_str!("../sql/log/read.sql");
pub(super) const OLDEST_FROM: &str = include_str!("../sql/log/oldest_from.sql");
pub(super) const RECEIVED_AT: &str = include_str!("../sql/log/received_at.sql");

/// A delivery ends with the row that reaches so many bytes.
const DELIVERY_BYTES: usize = 8 << 20;

/// A connection that only reads.
pub(super) struct Reader(Mutex<Option<Connection>>);

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self(Mutex::new(Some(sqlite::open(path, Use::Read)?))))
    }

    /// Ends the connection, after the read that is running.
    pub(super) fn close(&self) {
        self.held().take();
    }

    /// Keeps reads out while it is held.
    pub(super) fn held(&self) -> MutexGuard<'_, Option<Connection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T, Fault<LogError>>) -> Result<T, LogError> {
        match &*self.held() {
            Some(conn) => read(conn).map_err(on_read),
            None => Err(super::closed()),
        }
    }

    /// The records from `from` on, whole rows of them. The caller knows that there is one at least.
    pub(super) fn delivery(&self, from: u64) -> Result<Delivery, LogError> {
        self.with(|conn| {
            let mut statement = conn.prepare_cached(READ)?;
            let mut rows = statement.query([int(from)])?;
            let (mut next, mut bytes, mut records) = (from, 0, Vec::new());
            while bytes < DELIVERY_BYTES {
                let Some(row) = rows.next()? else { break };
                let row = to_row(row)?;
                follows(&row, next, from)?;
                bytes += row.blob.len();
                next = row.first + row.records;
                records.append(&mut contents(&row).records);
            }
            if next <= from {
                return Err(LogError::Corrupt(format!("record {from} is missing in the log, which goes on beyond it")).into());
            }
            records.retain(|record: &StoredRecord| record.position >= from);
            Ok(Delivery::Records { partition: PARTITION, from, next, records })
        })
    }

    /// The CRC of a record that is kept; `None` where it is not, or where its bytes no longer tell.
    pub(super) fn crc_of(&self, position: u64) -> Result<Option<u32>, LogError> {
        self.with(|conn| {
            let row = conn.prepare_cached(READ)?.query_row([int(position)], to_row).optional()?;
            let Some(row) = row.filter(|row| row.first <= position && position < row.first.saturating_add(row.records)) else {
                return Ok(None);
            };
            follows(&row, row.first, row.first)?;
            let Contents { records, lost_from } = contents(&row);
            let told = records.iter().find(|record| record.position == position && lost_from.is_none_or(|lost| position < lost));
            Ok(told.map(|record| record.crc))
        })
    }

    pub(super) fn oldest_from(&self, next: u64) -> Result<Option<Timestamp>, LogError> {
        self.with(|conn| Ok(conn.prepare_cached(OLDEST_FROM)?.query_row([int(next)], |row| row.get::<_, Option<i64>>(0))?.map(Timestamp)))
    }

    /// When the row of a record was received at the earliest; `None` where it is not kept.
    pub(super) fn received_at(&self, position: u64) -> Result<Option<Timestamp>, LogError> {
        self.with(|conn| {
            let found = conn.prepare_cached(RECEIVED_AT)?.query_row([int(position)], |row| row.get(0).map(Timestamp));
            Ok(found.optional()?)
        })
    }
}

fn to_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        first: uint(row.get(0)?),
        records: uint(row.get(1)?),
        count: uint(row.get(2)?),
        received: row.get(3)?,
        crc: row.get::<_, i64>(4)? as u32,
        blob: Bytes::from(row.get::<_, Vec<u8>>(5)?),
    })
}

/// Whether the row goes on where the one before ended; the first one may begin before what was asked for.
fn follows(row: &Row, next: u64, asked: u64) -> Result<(), LogError> {
    let begins = row.first == next || (next == asked && row.first < asked);
    if !begins || row.records == 0 || row.records > ROW_RECORDS || row.first.saturating_add(row.records) <= asked {
        return Err(LogError::Corrupt(format!(
            "record {next} is missing in the log: after it comes a row of records {} to {}",
            row.first,
            row.first.saturating_add(row.records)
        )));
    }
    Ok(())
}

fn contents(row: &Row) -> Contents {
    let contents = row.contents();
    if !row.is_sound() {
        let damaged = contents.records.iter().filter(|record| record.damaged).count();
        tracing::error!(
            from = row.first,
            to = row.first + row.records,
            damaged,
            "a row of the log has changed on the disk: its damaged records become dead letters"
        );
    }
    contents
}

fn on_read(fault: Fault<LogError>) -> LogError {
    match fault {
        Fault::Said(error) => error,
        Fault::Sql(error) => match Failure::of(&error) {
            Failure::Corrupt => LogError::Corrupt(format!("the log cannot be read: {error}")),
            _ => LogError::Unavailable(format!("the log cannot be read: {error}")),
        },
    }
}

/// Runs what may wait for the disk away from the runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, LogError> + Send + 'static) -> Result<T, LogError> {
    joined(tokio::task::spawn_blocking(work).await)
}

pub(super) fn joined<T>(ended: Result<Result<T, LogError>, tokio::task::JoinError>) -> Result<T, LogError> {
    ended.unwrap_or_else(|error| Err(LogError::Unavailable(format!("a read of the log did not end: {error}"))))
}
