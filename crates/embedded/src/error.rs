//! Why a data directory could not be opened, and what went wrong inside a transaction.
//!
//! Owns: [`OpenError`], [`Fault`] and the kinds of SQLite's failures. Does not know: what the transaction was for; the log and
//! the store turn a [`Fault`] into their seam's error.

use headwater_core::log::LogError;
use headwater_core::store::StoreError;
use rusqlite::ErrorCode;
use std::error::Error;
use std::path::PathBuf;

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process (or another handle of this one) works in it.
    #[error("the data directory {} is in use by {holder}", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// Who holds it, in the holder's own words.
        holder: String,
    },
    /// It was written by a newer program.
    #[error("{0}; use the newer program that wrote it, or another data directory")]
    Newer(String),
    /// It is not what a data directory must be.
    #[error("{0}")]
    Damaged(String),
    /// The system or the database said no.
    #[error("{doing}: {source}")]
    Failed {
        /// What was being done, to what.
        doing: String,
        /// What was answered.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl OpenError {
    /// For `map_err`: what was being done when the system or the database said no.
    pub(crate) fn doing<E: Into<Box<dyn Error + Send + Sync>>>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |source| Self::Failed { doing: doing.into(), source: source.into() }
    }
}

/// What went wrong in a transaction: the database, or a rule of the seam.
#[derive(Debug)]
pub(crate) enum Fault<E> {
    Sql(rusqlite::Error),
    Said(E),
}

impl<E> From<rusqlite::Error> for Fault<E> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<LogError> for Fault<LogError> {
    fn from(error: LogError) -> Self {
        Self::Said(error)
    }
}

impl From<StoreError> for Fault<StoreError> {
    fn from(error: StoreError) -> Self {
        Self::Said(error)
    }
}

/// What a failure of SQLite means for whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No room: nothing was changed, and room may come.
    Full,
    /// A read, write or sync failed: what is durable is no longer known.
    Io,
    /// The file is not a sound database.
    Corrupt,
    /// Past the deadline of the one who asked.
    Interrupted,
    /// Somebody else holds a lock, or a resource of the system is short.
    Busy,
    /// A mistake in this program, or a schema that somebody changed.
    Other,
}

/// Growing the shared-memory index on a full disk is told as an I/O error, but nothing was written or synced.
const IOERR_SHMSIZE: i32 = rusqlite::ffi::SQLITE_IOERR_SHMSIZE;

impl Failure {
    pub(crate) fn of(error: &rusqlite::Error) -> Self {
        if error.sqlite_extended_error_code() == Some(IOERR_SHMSIZE) {
            return Self::Full;
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::SystemIoFailure) => Self::Io,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt,
            Some(ErrorCode::OperationInterrupted) => Self::Interrupted,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OutOfMemory | ErrorCode::CannotOpen) => Self::Busy,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart() {
        let of = |code| Failure::of(&rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None));
        assert_eq!(of(rusqlite::ffi::SQLITE_FULL), Failure::Full);
        assert_eq!(of(rusqlite::ffi::SQLITE_IOERR_FSYNC), Failure::Io);
        assert_eq!(of(IOERR_SHMSIZE), Failure::Full);
        assert_eq!(of(rusqlite::ffi::SQLITE_CORRUPT), Failure::Corrupt);
        assert_eq!(of(rusqlite::ffi::SQLITE_INTERRUPT), Failure::Interrupted);
        assert_eq!(of(rusqlite::ffi::SQLITE_CANTOPEN), Failure::Busy);
        assert_eq!(of(rusqlite::ffi::SQLITE_MISUSE), Failure::Other);
    }
}
