//! The store on a real PostgreSQL server: the contract, and what only this backend promises.
#![expect(clippy::expect_used, reason = "a test's harness: a panic is how it fails")]

mod database;
mod faults;
mod migrating;
mod moving;
mod proxy;
mod sql;

use database::Machine;

headwater_contract::store_suite!(Machine::default);
