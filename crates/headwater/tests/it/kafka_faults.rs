//! Faults of Kafka and of those who read from it, on real servers: brokers and ingests that are killed, paused, added and taken away,
//! topics that change under them. Every one ends with nothing acknowledged lost, nothing doubled, counts that add up, a clean
//! `headwater verify`, and no lag.
//!
//! Brokers that are harmed are private; the others are one, private too, so that members are missed after two seconds instead of six.
//! The long loop is one command: `HEADWATER_ROUNDS=50 cargo test -p headwater --features failpoints --test it kafka_faults`; a seed
//! that is printed is given back as `HEADWATER_SEED`. How long readings stood still is printed (`--nocapture`), never judged.

pub(crate) mod admin;
mod brokers;
mod cluster;
mod foreign;
mod ground;
mod load;
mod members;
mod topics;
