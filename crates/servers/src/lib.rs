//! Real Apache Kafka, PostgreSQL and Prometheus for tests and benchmarks, installed and run on this machine without containers.
//!
//! Owns: installing what is missing (Debian's packages, Kafka's archives from Maven), starting private servers on ports of
//! 127.0.0.1, killing, pausing, restarting and stopping them, and the pair that `cargo xtask servers` leaves running.
//! Does not know: Headwater (no crate of ours), topics, databases; whoever tests makes those.
//!
//! Invariants: a server that was started here ends with its handle, and with the process that holds the handle, however that
//! dies; only [`shared::start`] leaves servers running, and writes down which. Nothing but the pids started here is signalled.
//!
//! ```no_run
//! use headwater_servers::{Folder, Kafka, Postgres, kafka, postgres};
//!
//! # fn main() -> anyhow::Result<()> {
//! let folder = Folder::new("faults")?;
//! let mut kafka = Kafka::start(&folder.path().join("kafka"), 3, &kafka::Options::default())?;
//! let mut primary = Postgres::start(&folder.path().join("primary"), &postgres::Options::default())?;
//! kafka.kill(2)?;
//! primary.restart()?;
//! # Ok(())
//! # }
//! ```

#[cfg(test)]
mod compose_tests;
mod folder;
pub mod kafka;
mod places;
mod ports;
pub mod postgres;
mod process;
pub mod prometheus;
pub mod shared;
mod system;

pub use folder::Folder;
pub use kafka::Kafka;
pub use kafka::install::install as install_kafka;
pub use postgres::Postgres;
pub use postgres::install::install as install_postgres;
pub use prometheus::Prometheus;
pub use prometheus::install as install_prometheus;
