//! A fleet of sensors with faults on order, and the open-loop load tool.
//!
//! Owns: what a fleet measures ([`fleet`]), what goes wrong on the way ([`faults`], [`stream`]), how it is written ([`encode`]),
//! sending it at its time and counting what became of it ([`load`], [`report`]), and the [`journal`] from which a checker that
//! trusts nothing can say what a server has to hold. Does not know: logs, stores, roles, how tokens are made.
//!
//! Invariants: everything that is sent, and every fault, is a function of the seed and the fleet's start; a request stands in
//! the journal before its first byte is sent; a request is sent again with the same bytes; latency counts from the instant at
//! which a request was due, so that waiting is counted.

pub mod encode;
pub mod faults;
pub mod fleet;
pub mod histogram;
pub mod http;
pub mod journal;
pub mod load;
mod random;
pub mod report;
pub mod stream;

#[cfg(test)]
mod tests;
