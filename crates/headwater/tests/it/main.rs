//! Headwater as its users meet it: the real binary, its HTTP face, its command line, its death and its return.
//!
//! Run with the failpoints in the binary: `cargo test -p headwater --features failpoints --test it`.
//! Tests are black-box: they know the contract (docs/) and nothing of the crates, but for the printing of times and the table
//! of routes. They run in parallel, each on servers and directories of its own.

// `cfg(test)` tells clippy that these are tests, where unwrap is the assertion.
#[cfg(test)]
mod apart;
#[cfg(test)]
mod backends;
#[cfg(test)]
mod backup;
#[cfg(test)]
mod both;
#[cfg(test)]
mod client;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod config_cli;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod dead_letters;
#[cfg(test)]
mod deploy;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod doors;
#[cfg(test)]
mod durability;
#[cfg(test)]
mod exhaustion;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod influx;
#[cfg(test)]
mod injection;
#[cfg(test)]
mod issuer;
#[cfg(test)]
mod journal;
#[cfg(test)]
mod kafka_faults;
#[cfg(test)]
mod logging;
#[cfg(test)]
mod main_job;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod moving;
#[cfg(test)]
mod notify;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod openid;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod outcomes;
#[cfg(test)]
mod pg_faults;
#[cfg(test)]
mod planted;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod rolling;
#[cfg(test)]
mod rounds;
#[cfg(test)]
mod sealing;
#[cfg(test)]
mod secure;
#[cfg(test)]
mod simulate;
#[cfg(test)]
mod stack;
#[cfg(test)]
mod start;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod tour;
#[cfg(test)]
#[cfg(feature = "otlp")]
mod traces;
#[cfg(test)]
mod verify;
#[cfg(test)]
mod watch;
