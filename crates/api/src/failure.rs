//! What a failed store or log means to a client.
//!
//! Owns: the mapping of the seams' errors to answers. Does not know: routes. Invariant: what is transient answers 503 with
//! `Retry-After`; what would happen again with the same question never does.

use headwater_core::log::LogError;
use headwater_core::store::StoreError;
use headwater_web::Error;

/// A result whose error is an answer.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// When to come back after a transient failure, in seconds.
const RETRY_AFTER_S: u32 = 1;

/// The answer for a failed store.
pub(crate) fn of_store(error: StoreError) -> Error {
    match error {
        StoreError::Busy(_) => Error::busy("store_busy", "the store is busy", RETRY_AFTER_S).source(error),
        StoreError::Unavailable(_) => Error::busy("store_unavailable", "the store cannot be reached", RETRY_AFTER_S).source(error),
        // Not 503: the same question would take as long again.
        StoreError::Deadline => Error::unprocessable(
            "query_timeout",
            "the query took longer than the limit `query_deadline`: ask for less time, fewer series or a smaller page",
        )
        .member("limit", "query_deadline"),
        StoreError::Fenced { .. } | StoreError::Restored(_) | StoreError::Unknown(_) | StoreError::Corrupt(_) | StoreError::Stopped(_) => {
            Error::internal(error)
        }
    }
}

/// The answer for a change of the store that failed. One whose outcome is not known may be made again.
pub(crate) fn of_change(error: StoreError) -> Error {
    match error {
        StoreError::Unknown(_) | StoreError::Restored(_) => {
            Error::busy("store_unavailable", "the store cannot be reached", RETRY_AFTER_S).source(error)
        }
        error => of_store(error),
    }
}

/// The answer for a failed log.
pub(crate) fn of_log(error: LogError) -> Error {
    if error.is_transient() {
        Error::busy("log_unavailable", "the log cannot be reached", RETRY_AFTER_S).source(error)
    } else {
        Error::internal(error)
    }
}

/// 422 for a question that would cost too much: which limit, how large it is, and how much was asked for.
pub(crate) fn too_expensive(limit: &'static str, allowed: u64, asked: u64, what: &str) -> Error {
    let detail = format!("the query would cost too much: {asked} {what}, and the limit `{limit}` is {allowed}");
    Error::unprocessable("query_too_expensive", detail).member("limit", limit).member("allowed", allowed).member("asked", asked)
}
