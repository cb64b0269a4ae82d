//! What PostgreSQL and the connection say, in the store's words.
//!
//! Owns: [`Fault`], the classes of SQLSTATE and the three translations. Does not know: what was being done.
//! Invariant: whatever waiting can heal is transient; only damage and mistakes of a person are not.

use headwater_core::store::StoreError;
use std::error::Error as _;
use std::fmt::Write as _;
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};

/// What the function `commit_batch` raises where a position is not where the writer believed.
pub(crate) const FENCED: &str = "HWF01";

/// What went wrong inside a transaction: something of the store's, or something that PostgreSQL says.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Already in the store's words.
    Said(StoreError),
    /// Not yet.
    Pg(Error),
}

/// The result of a statement, or of several.
pub(crate) type Done<T> = Result<T, Fault>;

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Pg(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Said(error)
    }
}

/// Stored bytes that are not what was written.
pub(crate) fn corrupt(words: String) -> Fault {
    Fault::Said(StoreError::Corrupt(words))
}

/// The kinds of failure that something is done about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The connection or the server is gone, or going.
    Lost,
    /// No room, or too many.
    Full,
    /// Another transaction holds what is needed.
    Locked,
    /// It lost against another transaction.
    Again,
    /// It was cancelled: a deadline of ours, or an administrator.
    Cancelled,
    /// Stored bytes are damaged.
    Damaged,
    /// Credentials, rights or the database are not what they must be.
    Refused,
    /// A statement that this program should not have sent, or rows that should not be.
    Wrong,
}

impl Kind {
    fn of(error: &Error) -> Self {
        match error.as_db_error() {
            Some(said) => Self::of_code(said.code()),
            None if is_decoding(error) => Self::Wrong,
            None => Self::Lost,
        }
    }

    /// By class, as in appendix A of PostgreSQL's documentation.
    fn of_code(code: &SqlState) -> Self {
        match code.code() {
            "55P03" => Self::Locked,
            "57014" => Self::Cancelled,
            "40001" | "40P01" => Self::Again,
            // A server that has become a standby: the connection goes to the new primary when it is made again.
            "25006" | "25P03" => Self::Lost,
            "XX001" | "XX002" => Self::Damaged,
            "3D000" | "42501" => Self::Refused,
            code => match &code[..2] {
                "08" | "57" | "58" => Self::Lost,
                "53" => Self::Full,
                "40" => Self::Again,
                "28" => Self::Refused,
                _ => Self::Wrong,
            },
        }
    }
}

/// Whether a value that came back could not be taken for what it should be.
fn is_decoding(error: &Error) -> bool {
    // The crate tells kinds by their words only.
    let words = error.to_string();
    ["serializing", "invalid column", "unexpected number", "parameters"].iter().any(|part| words.contains(part))
}

/// The words of an error: what the server said, or the chain of causes. Never a statement's parameters.
pub(crate) fn words(error: &Error) -> String {
    if let Some(said) = error.as_db_error() {
        return of_server(said);
    }
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        write!(words, ": {next}").ok();
        cause = next.source();
    }
    words
}

fn of_server(said: &DbError) -> String {
    format!("{} (SQLSTATE {})", said.message(), said.code().code())
}

/// For everything that writes, before COMMIT was sent.
pub(crate) fn on_write(fault: Fault) -> StoreError {
    match fault {
        Fault::Said(error) => error,
        Fault::Pg(error) => of_kind(Kind::of(&error), "write to the database", words(&error)),
    }
}

/// For a snapshot.
pub(crate) fn on_read(fault: Fault) -> StoreError {
    match fault {
        Fault::Said(error) => error,
        // Only a deadline ends a statement of a snapshot, or a session that holds one and asks nothing.
        Fault::Pg(error) if Kind::of(&error) == Kind::Cancelled || error.code().is_some_and(|code| code.code() == "25P03") => {
            StoreError::Deadline
        }
        Fault::Pg(error) => of_kind(Kind::of(&error), "read the database", words(&error)),
    }
}

fn of_kind(kind: Kind, doing: &str, words: String) -> StoreError {
    match kind {
        Kind::Lost => StoreError::Unavailable(format!("cannot {doing}: {words}")),
        Kind::Again => StoreError::Unavailable(format!("cannot {doing} now, another transaction came first: {words}")),
        Kind::Cancelled => StoreError::Unavailable(format!("cannot {doing}, the statement was cancelled: {words}")),
        Kind::Full => StoreError::Busy(format!("the server has no room: {words}")),
        Kind::Locked => StoreError::Busy(format!("another writer holds what is needed: {words}")),
        Kind::Damaged => StoreError::Corrupt(format!("the server found damaged data: {words}")),
        Kind::Refused => StoreError::Stopped(format!("the server refuses this user or database: {words}")),
        Kind::Wrong => StoreError::Corrupt(format!("cannot {doing}: {words}")),
    }
}

/// Of a COMMIT that was sent. Only an ERROR says for sure that nothing was committed; whatever ends the connection leaves it open.
pub(crate) fn on_commit(error: Error) -> StoreError {
    let refused = error.as_db_error().is_some_and(|said| said.parsed_severity() == Some(Severity::Error));
    if refused { on_write(error.into()) } else { StoreError::Unknown(words(&error)) }
}

/// Of the statement in front of a COMMIT that was sent with it: whatever the server says means that it did not commit.
pub(crate) fn before_commit(error: Error) -> StoreError {
    if error.as_db_error().is_some() || is_decoding(&error) { on_write(error.into()) } else { StoreError::Unknown(words(&error)) }
}

/// Whether somebody else held a lock for too long.
pub(crate) fn is_locked(error: &StoreError) -> bool {
    matches!(error, StoreError::Busy(words) if words.contains("SQLSTATE 55P03"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waiting_can_heal_is_transient() {
        for (code, transient) in [
            ("53100", true),
            ("53300", true),
            ("57P01", true),
            ("57P03", true),
            ("08006", true),
            ("25006", true),
            ("40001", true),
            ("40P01", true),
            ("55P03", true),
            ("57014", true),
            ("58030", true),
            ("XX001", false),
            ("28P01", false),
            ("3D000", false),
            ("42P01", false),
            ("23505", false),
        ] {
            let error = of_kind(Kind::of_code(&SqlState::from_code(code)), "write", String::new());
            assert_eq!(error.is_transient(), transient, "{code} is {error:?}");
        }
    }
}
