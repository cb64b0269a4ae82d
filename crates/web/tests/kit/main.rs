//! The kit as a role meets it: dummy faces built from the table of routes, through the application and through real sockets.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test fails its test")]

mod application;
mod connections;
mod documentation;
mod floods;
mod heads;
mod promises;
mod providers;
mod support;
mod tls;
