//! What a failure of SQLite is in the store's words.
//!
//! Owns: the two translations. Does not know: what was being done.

use crate::error::{Failure, Fault};
use headwater_core::store::StoreError;

/// For the writer; [`StoreError::Stopped`] means that it must never write again.
pub(super) fn on_write(fault: Fault<StoreError>) -> StoreError {
    let error = match fault {
        Fault::Said(error) => return error,
        Fault::Sql(error) => error,
    };
    match Failure::of(&error) {
        Failure::Full => StoreError::Busy(format!("the disk is full: {error}")),
        Failure::Busy | Failure::Interrupted => StoreError::Unavailable(format!("cannot write to the store: {error}")),
        Failure::Io | Failure::Corrupt => StoreError::Stopped(format!("a write failed ({error}); restart it")),
        Failure::Other => StoreError::Corrupt(format!("cannot write to the store: {error}")),
    }
}

/// For a snapshot.
pub(super) fn on_read(fault: Fault<StoreError>) -> StoreError {
    let error = match fault {
        Fault::Said(error) => return error,
        Fault::Sql(error) => error,
    };
    match Failure::of(&error) {
        // Only a deadline interrupts a statement.
        Failure::Interrupted => StoreError::Deadline,
        Failure::Corrupt | Failure::Other => StoreError::Corrupt(format!("cannot read the store: {error}")),
        Failure::Full | Failure::Io | Failure::Busy => StoreError::Unavailable(format!("cannot read the store: {error}")),
    }
}
