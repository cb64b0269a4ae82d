//! Test support for both seams: suites that every backend must pass, and doubles that role tests stand on.
//!
//! Owns: the contract suites [`event_log`] and [`store`] (one async function per property, listed once by
//! [`event_log_suite!`] and [`store_suite!`]), [`builders`], the in-memory [`MemoryLog`] and [`MemoryStore`], and the
//! wrappers [`FaultyLog`] and [`FaultyStore`] that fail when told to.
//!
//! Does not know: any real backend, any role. Backends and roles have it as a dev-dependency; nothing else may.
//!
//! Invariants: a property panics or holds, it never returns early; a property that a backend cannot meet is named with a
//! reason and shown as ignored, never absent; the doubles pass the suites that the backends pass.
//!
//! A backend's test file is one line for each suite:
//!
//! ```text
//! headwater_contract::event_log_suite!(Harness::new);
//! headwater_contract::store_suite!(Harness::new, except: [everything_survives_a_restart = "kept in memory only"]);
//! ```
#![expect(clippy::expect_used, reason = "test support: a panic is how a property fails")]

pub mod builders;
pub mod event_log;
pub mod faulty;
mod memory_log;
mod memory_store;
pub mod store;
mod suite;
#[cfg(test)]
mod tests;

pub use faulty::{FaultyLog, FaultyStore, LogCall, StoreCall};
pub use memory_log::MemoryLog;
pub use memory_store::MemoryStore;
#[doc(hidden)]
pub use suite::made;
pub use suite::{eventually, run, within};
