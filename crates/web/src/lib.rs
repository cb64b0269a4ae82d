//! The HTTP kit: everything about serving HTTP that is not a role's own.
//!
//! Owns: the table of route × scope ([`access::ROUTES`]), tokens, errors and their forms, the byte budgets, the gate and the shell
//! that every request passes ([`app`]), the probes `/livez` and `/readyz`, `/metrics`, the API as a document (`/openapi.json`, `/docs`),
//! and the listener with its limits ([`serve()`]).
//!
//! Does not know: what a handler does, readings, logs, stores, the configuration file. Roles hand in a [`Face`].
//!
//! Invariants: credentials and scope are checked before anything of a body is read; a path and method that are not in the table
//! reach no handler; no internal detail leaves; every response carries `X-Request-Id`; nothing that a client does (or leaves
//! undone) holds a connection, memory or a task for ever.

pub mod access;
pub mod body;
pub mod budget;
pub mod caller;
mod claims;
pub mod config;
mod documentation;
pub mod duration;
pub mod error;
pub mod face;
mod gate;
pub mod issuer;
mod key;
mod keyset;
mod listener;
pub mod logging;
pub mod metrics;
mod panics;
mod probes;
pub mod provider;
pub mod ring;
mod scrape;
pub mod serve;
mod shell;
mod source;
mod stream;
mod supervise;
pub mod tls;
pub mod token;
pub mod trust;
mod verifier;

pub use access::{Access, Errors, ROUTES, Route, Scope, Scopes};
pub use body::{Sent, read_body};
pub use budget::{Budget, Reservation};
pub use caller::{Caller, RequestId, Traced};
pub use config::Config;
pub use error::Error;
pub use face::{Face, Probe, app, app_with, waiting};
pub use provider::Provider;
pub use ring::Ring;
pub use serve::{serve, serve_counted, serve_with};
pub use tls::Tls;
pub use token::{Grant, SigningKey, Verifier, VerifyingKey};
