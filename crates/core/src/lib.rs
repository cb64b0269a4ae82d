//! The words of Headwater and everything that can be said about them without I/O.
//!
//! Owns: identities of series, columns of readings, open blocks and their bytes, summaries (count, sums, percentiles),
//! merging by time with the first of a key winning, the plan of a query, the clock, and the two seams: [`log::EventLog`] and
//! the traits of [`store`].
//!
//! Does not know: which log, which store, HTTP, formats of the outside world, an async runtime. Roles and backends know this
//! crate; only the binary knows both.
//!
//! Invariants: an answer depends only on the set of readings (never on their order of arrival, on batches or on the machine);
//! bytes are never trusted (every encoding carries a CRC-32, a decoder refuses and never panics or allocates more than the
//! bytes could justify).

pub mod block;
pub mod chunk;
pub mod clock;
pub mod codec;
pub mod columns;
pub mod dead_letter;
pub mod failpoint;
pub mod filter;
pub mod glob;
pub mod health;
pub mod log;
pub mod merge;
pub mod metrics;
pub mod plan;
pub mod seal;
pub mod series;
pub mod store;
pub mod summary;
pub mod time;
pub mod trace;
pub mod verify;

/// A boxed future, as both seams return them (object safety before style).
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
