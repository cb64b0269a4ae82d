//! The role api: store → people.
//!
//! Owns: the `GET /v1/…` routes that answer questions: statistics, readings, latest, series, status, dead letters; their
//! parameters, pages, cursors, entity tags, and the limits on what a query may cost; and what people do about dead letters.
//!
//! Does not know: which store and which log (it sees [`Queries`], [`DeadLetters`] and [`EventLog`]), how input is decoded and appended
//! ([`Readmission`] takes dead letters in again), credentials and scopes (`web` has checked them
//! before a handler runs), how readings came in.
//!
//! Invariants: memory is bounded for any data and any question (see the modules `engine` and `groups`); the same question about the same
//! data has the same bytes, however it was batched and stored; a snapshot is gone before the first byte of its answer is
//! sent; a caller never sees a device outside his patterns.
//!
//! The way of a question: `params` → `engine` (slices of series, shards, open blocks, then rollups and chunks) → a sink (`groups` for
//! statistics, a page for readings) → `answer` (bytes, entity tag).

mod answer;
mod cache;
mod config;
mod cursor;
mod dead_letters;
mod engine;
mod failure;
mod figures;
mod freshness;
mod groups;
mod latest;
mod metrics;
mod params;
mod readings;
mod series;
mod stats;
mod status;
mod tags;
#[cfg(test)]
mod testing;

pub use cache::CacheCounts;
pub use config::Config;
pub use dead_letters::retry::Readmission;
pub use freshness::follow as follow_freshness;
pub use metrics::Metrics;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use cache::Cache;
use dead_letters::{Tried, retry};
use engine::{Engine, Room};
use failure::Result;
use headwater_core::clock::Clock;
use headwater_core::health::Health;
use headwater_core::log::EventLog;
use headwater_core::store::{DeadLetters, Queries, Snapshot};
use headwater_core::trace::{Kind, Span};
use headwater_web::{Budget, Face, Probe, Traced};
use std::sync::Arc;
use std::time::Duration;

/// What every answer holds of the budget from the start; small answers need no more.
const FIRST_ROOM_BYTES: usize = 64 * 1024;
/// How long the readiness probe waits for the store.
const PROBE_WAIT: Duration = Duration::from_secs(2);

/// What the role works with.
#[derive(Clone)]
pub struct Deps {
    /// Where answers come from.
    pub store: Arc<dyn Queries>,
    /// Where it is kept what becomes of dead letters.
    pub letters: Arc<dyn DeadLetters>,
    /// The way back for them.
    pub readmission: Arc<dyn Readmission>,
    /// What the store follows, for `in_flight` and `applied_to`.
    pub log: Arc<dyn EventLog>,
    /// The time of day, for times relative to now.
    pub clock: Arc<dyn Clock>,
    /// The memory that all answers together may take while they are built and sent.
    pub answer_budget: Arc<Budget>,
    /// What the cache of rollups counts; see [`Config::cache_bytes`].
    pub cache_counts: Arc<CacheCounts>,
    /// What other roles of the process wait for.
    pub health: Health,
    /// The roles of the process, by name.
    pub roles: Vec<String>,
    /// The version of the program.
    pub version: String,
    /// What it counts.
    pub metrics: Metrics,
}

/// What handlers share.
#[derive(Clone)]
struct Api {
    config: Arc<Config>,
    store: Arc<dyn Queries>,
    letters: Arc<dyn DeadLetters>,
    readmission: Arc<dyn Readmission>,
    tried: Tried,
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    answer_budget: Arc<Budget>,
    cache: Option<Arc<Cache>>,
    health: Health,
    roles: Arc<[String]>,
    version: Arc<str>,
}

impl Api {
    /// The room of one answer.
    async fn room(&self) -> Result<Room> {
        let reservation = self.answer_budget.reserve(FIRST_ROOM_BYTES, self.config.memory_wait).await?;
        Ok(Room::new(reservation, Arc::clone(&self.config)))
    }

    /// A query on the store as it is now.
    async fn engine<'a>(&'a self, room: &'a mut Room) -> Result<Engine<'a>> {
        Ok(Engine::new(self.snapshot().await?, &self.config, self.cache.as_deref(), room))
    }

    /// The store as it is now.
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        self.store.snapshot(self.config.query_deadline).await.map_err(failure::of_store)
    }
}

/// The routes of the role and its probe.
pub fn face(config: Config, deps: Deps) -> Face {
    let probe = probe(Arc::clone(&deps.store));
    let api = Api {
        cache: Cache::new(config.cache_bytes, deps.cache_counts).map(Arc::new),
        config: Arc::new(config),
        store: deps.store,
        letters: deps.letters,
        readmission: deps.readmission,
        tried: deps.metrics.tried.clone(),
        log: deps.log,
        clock: deps.clock,
        answer_budget: deps.answer_budget,
        health: deps.health,
        roles: deps.roles.into(),
        version: deps.version.into(),
    };
    let router = Router::new()
        .route("/v1/stats", get(stats::stats))
        .route("/v1/readings", get(readings::readings))
        .route("/v1/latest", get(latest::latest))
        .route("/v1/series", get(series::series))
        .route("/v1/status", get(status::status))
        .route("/v1/dead-letters", get(dead_letters::list))
        .route("/v1/dead-letters/retry", post(retry::many))
        .route("/v1/dead-letters/{id}", get(dead_letters::show).delete(retry::discard))
        .route("/v1/dead-letters/{id}/retry", post(retry::one))
        .with_state(api)
        .route_layer(from_fn_with_state(deps.metrics, metrics::measure))
        .layer(from_fn(traced));
    Face { role: "api", router, probes: vec![probe] }
}

/// A span for what a question takes, inside of its request's.
async fn traced(Traced(request_span): Traced, request: Request, next: Next) -> Response {
    let mut span = Span::child("query", Kind::Internal, request_span);
    let response = next.run(request).await;
    if response.status().is_server_error() {
        span.fail();
    }
    response
}

/// Queries work when a snapshot can be read.
fn probe(store: Arc<dyn Queries>) -> Probe {
    Probe::new("store", move || {
        let store = Arc::clone(&store);
        async move {
            let answer = async { store.snapshot(PROBE_WAIT).await?.totals().await };
            answer.await.map(drop).map_err(|error| {
                tracing::warn!(%error, "the store does not answer the readiness probe");
                "the store does not answer".to_owned()
            })
        }
    })
}
