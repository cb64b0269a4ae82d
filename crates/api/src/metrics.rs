//! What the role api counts of its questions, and what it shows of the store.
//!
//! Owns: [`Metrics`], [`measure`]. Does not know: who scrapes.
//! Invariants: the store is looked at for a scrape, in one snapshot, at most every [`FRESH`] and for no longer than [`LOOK`]; a store that does
//! not answer in that time is down and everything else of it is left out, so that nobody takes old figures for new ones.

use crate::cache::CacheCounts;
use crate::dead_letters::Tried;
use crate::status;
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use headwater_core::clock::Clock;
use headwater_core::log::EventLog;
use headwater_core::metrics::{Counter, Gauge, Histogram, NUMBERS, Registry, SECONDS, Total};
use headwater_core::store::{Queries, Totals, Vitals};
use headwater_core::time::{SECOND, Timestamp};
use headwater_web::{Error, ROUTES};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// For how long a look at the store is good enough.
const FRESH: Duration = Duration::from_secs(5);
/// How long a look may take.
const LOOK: Duration = Duration::from_secs(1);

/// Bounds for how long something takes on its whole way, in seconds.
const DELAYS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

const QUERIES_HELP: &str = "Time from a question until its answer was ready to be sent, of questions that were answered";
const ROWS_HELP: &str = "Rows of an answer; a document that is no list counts as one";
const REFUSED_HELP: &str = "Questions that would cost too much, took too long, or found no room";

/// Says in a response how many rows it has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows(pub(crate) usize);

/// The handles of one route.
#[derive(Debug)]
struct Route {
    path: &'static str,
    duration: Histogram,
    rows: Histogram,
}

/// The role's handles. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    routes: Arc<[Route]>,
    cost: Counter,
    deadline: Counter,
    busy: Counter,
    pub(crate) tried: Tried,
    pub(crate) queryable: Gauge,
    pub(crate) delay: Histogram,
}

impl Metrics {
    /// Makes the handles, and follows how `store` and the cache are.
    pub fn new(
        registry: &mut Registry,
        store: Arc<dyn Queries>,
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
        cache: Arc<CacheCounts>,
    ) -> Self {
        follow_cache(registry, cache);
        let shown = Shown::new(registry);
        registry.source(FRESH, move || {
            let (store, log, clock, shown) = (Arc::clone(&store), Arc::clone(&log), Arc::clone(&clock), shown.clone());
            async move { shown.look(store.as_ref(), log.as_ref(), clock.as_ref()).await }
        });
        Self::counted(registry)
    }

    fn counted(registry: &mut Registry) -> Self {
        let of = |registry: &mut Registry, path| Route {
            path,
            duration: registry.histogram_of("headwater_api_query_duration_seconds", QUERIES_HELP, SECONDS, &[("route", path)]),
            rows: registry.histogram_of("headwater_api_query_rows", ROWS_HELP, NUMBERS, &[("route", path)]),
        };
        let refused = |registry: &mut Registry, reason| {
            registry.counter_of("headwater_api_refused_queries_total", REFUSED_HELP, &[("reason", reason)])
        };
        let asked = ROUTES.iter().filter(|route| route.role == "api" && route.method == "GET");
        Self {
            routes: asked.map(|route| of(registry, route.path)).collect(),
            cost: refused(registry, "cost"),
            deadline: refused(registry, "deadline"),
            busy: refused(registry, "busy"),
            tried: Tried::new(registry),
            queryable: registry.heartbeat("queryable"),
            delay: registry.histogram(
                "headwater_heartbeat_delay_seconds",
                "Time from the receipt of a record until questions were seen to see it, for the newest record of every look",
                DELAYS,
            ),
        }
    }

    fn answered(&self, path: &str, response: &Response, took: Duration) {
        let refused = match response.extensions().get::<Error>().map(Error::code) {
            Some("query_too_expensive" | "exceeds_budget") => Some(&self.cost),
            Some("query_timeout") => Some(&self.deadline),
            Some(_) if response.status() == StatusCode::SERVICE_UNAVAILABLE => Some(&self.busy),
            _ => None,
        };
        if let Some(refused) = refused {
            refused.inc();
        }
        let Some(route) = self.routes.iter().find(|route| route.path == path) else { return };
        if response.status().is_client_error() || response.status().is_server_error() {
            return;
        }
        route.duration.observe(took.as_secs_f64());
        if response.status().is_success() {
            route.rows.observe(response.extensions().get::<Rows>().map_or(1.0, |rows| rows.0 as f64));
        }
    }
}

impl Default for Metrics {
    /// Counted for nobody.
    fn default() -> Self {
        Self::counted(&mut Registry::default())
    }
}

fn follow_cache(registry: &mut Registry, cache: Arc<CacheCounts>) {
    let hits = registry.total("headwater_api_cache_hits_total", "Pages of decoded rollups that were in the cache");
    let misses = registry.total("headwater_api_cache_misses_total", "Pages of decoded rollups that had to be read from the store");
    let bytes = registry.gauge("headwater_api_cache_bytes", "Memory of the decoded rollups in the cache");
    registry.source(Duration::ZERO, move || {
        hits.set(cache.hits() as f64);
        misses.set(cache.misses() as f64);
        bytes.set_count(cache.bytes());
        async {}
    });
}

/// Passes a question on and measures its answer.
pub(crate) async fn measure(State(metrics): State<Metrics>, path: MatchedPath, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let response = next.run(request).await;
    metrics.answered(path.as_str(), &response, began.elapsed());
    response
}

/// What is shown of the store.
#[derive(Debug, Clone)]
struct Shown {
    up: Gauge,
    received: Gauge,
    outcomes: [Gauge; 5],
    dead_letters: Gauge,
    dropped: Total,
    gaps: Total,
    bytes: Gauge,
    oldest_snapshot: Gauge,
    in_flight: Gauge,
    applied_to: Gauge,
}

impl Shown {
    fn new(registry: &mut Registry) -> Self {
        let readings = "Readings of all applied records, by what became of them; together they are those received";
        Self {
            up: registry.gauge("headwater_store_up", "1 when the store answered within a second when it was last looked at, else 0"),
            received: registry.gauge(
                "headwater_store_received_readings",
                "Readings of all applied records, by the records' own counts, over the store's life",
            ),
            outcomes: ["stored", "duplicate", "conflict", "dead", "unsealed"]
                .map(|outcome| registry.gauge_of("headwater_store_readings", readings, &[("outcome", outcome)])),
            dead_letters: registry.gauge("headwater_store_dead_letters", "Dead letters that are kept"),
            dropped: registry.total("headwater_store_dead_letters_dropped_total", "Dead letters that had to go because of the quota"),
            gaps: registry.total("headwater_store_gaps_total", "Stretches of the log that were gone before they were applied"),
            bytes: registry.gauge("headwater_store_bytes", "Bytes that the store takes on its disk"),
            oldest_snapshot: registry.gauge(
                "headwater_store_oldest_snapshot_seconds",
                "Age of the oldest snapshot or transaction in the database (PostgreSQL); dead rows that are younger cannot be swept",
            ),
            in_flight: registry.gauge("headwater_store_in_flight_records", "Records in the log that are not applied"),
            applied_to: registry.gauge("headwater_store_applied_to_timestamp_seconds", "Everything received before this time is applied"),
        }
    }

    async fn look(&self, store: &dyn Queries, log: &dyn EventLog, clock: &dyn Clock) {
        let until = Instant::now() + LOOK;
        let totals = async { store.snapshot(LOOK).await?.totals().await };
        let (totals, vitals, bounds) = tokio::join!(timeout(LOOK, totals), timeout(LOOK, store.vitals()), timeout(LOOK, log.bounds()));
        let totals = match totals {
            Ok(Ok(totals)) => Some(totals),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the store cannot be looked at for a scrape");
                None
            }
            Err(_) => None,
        };
        self.show_totals(totals.as_ref());
        self.show_vitals(vitals.ok().and_then(Result::ok).unwrap_or_default());
        let progress = totals.zip(bounds.ok().and_then(Result::ok));
        let progress = progress.map(|(totals, bounds)| status::progress(&log.identity(), &bounds, &totals.positions));
        let Some(progress) = progress else {
            self.in_flight.forget();
            return self.applied_to.forget();
        };
        self.in_flight.set_count(progress.iter().map(|partition| partition.in_flight()).sum());
        match timeout_at(until, status::applied_to(log, &progress, clock.now())).await {
            Ok(Ok(applied_to)) => self.applied_to.set(seconds(applied_to)),
            Ok(Err(_)) | Err(_) => self.applied_to.forget(),
        }
    }

    fn show_totals(&self, totals: Option<&Totals>) {
        self.up.set(f64::from(u8::from(totals.is_some())));
        let Some(totals) = totals else {
            [&self.received, &self.dead_letters].into_iter().chain(&self.outcomes).for_each(Gauge::forget);
            self.dropped.forget();
            return self.gaps.forget();
        };
        self.received.set_count(totals.received);
        let outcomes = [totals.stored, totals.duplicate, totals.conflict, totals.dead, totals.unsealed];
        self.outcomes.iter().zip(outcomes).for_each(|(gauge, n)| gauge.set_count(n));
        self.dead_letters.set_count(totals.dead_letters);
        self.dropped.set(totals.dead_letters_dropped as f64);
        self.gaps.set(totals.gaps as f64);
    }

    fn show_vitals(&self, vitals: Vitals) {
        vitals.bytes.map_or_else(|| self.bytes.forget(), |bytes| self.bytes.set_count(bytes));
        vitals.oldest_snapshot.map_or_else(|| self.oldest_snapshot.forget(), |age| self.oldest_snapshot.set(age.as_secs_f64()));
    }
}

/// A time as Prometheus has it.
pub(crate) fn seconds(at: Timestamp) -> f64 {
    at.micros() as f64 / SECOND as f64
}

#[cfg(test)]
mod tests;
