//! What the kit counts: requests by route, refusals, connections, budgets.
//!
//! Owns: requests by route, [`Connections`], [`budget`]. Does not know: who scrapes.
//! Invariants: a route is named by its line of the table, never by a path that was asked for; everything is counted when it ends.

use crate::access::Route;
use crate::budget::Budget;
use crate::error::Error;
use axum::http::StatusCode;
use axum::response::Response;
use headwater_core::metrics::{Counter, Gauge, Histogram, Label, Registry, SECONDS};
use std::sync::Arc;
use std::time::Duration;

const REQUESTS: &str = "headwater_http_requests_total";
const REQUESTS_HELP: &str = "Requests that were answered, by the line of the table of routes (other: none) and the class of the status";
const DURATION: &str = "headwater_http_request_duration_seconds";
const DURATION_HELP: &str = "Time from the head of a request until its answer was ready to be sent";
/// Where no line of the table fits: unknown paths, and methods that a path does not take.
const OTHER: &str = "other";
const STATUSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// Why a request was refused before anything was looked at, or put off: a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Unauthorized,
    Forbidden,
    TooLarge,
    UnsupportedMedia,
    RateLimited,
    Busy,
    Timeout,
}

impl Refusal {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Unauthorized, "unauthorized"),
        (Self::Forbidden, "forbidden"),
        (Self::TooLarge, "too_large"),
        (Self::UnsupportedMedia, "unsupported_media"),
        (Self::RateLimited, "rate_limited"),
        (Self::Busy, "busy"),
        (Self::Timeout, "timeout"),
    ];

    /// What an answer refuses, if it refuses. Probes that say "not ready" refuse nothing: they carry no error.
    fn of(response: &Response) -> Option<Self> {
        let error = response.extensions().get::<Error>()?;
        match response.status() {
            StatusCode::UNAUTHORIZED => Some(Self::Unauthorized),
            StatusCode::FORBIDDEN => Some(Self::Forbidden),
            StatusCode::PAYLOAD_TOO_LARGE => Some(Self::TooLarge),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Some(Self::UnsupportedMedia),
            StatusCode::TOO_MANY_REQUESTS => Some(Self::RateLimited),
            StatusCode::REQUEST_TIMEOUT => Some(Self::Timeout),
            StatusCode::SERVICE_UNAVAILABLE if error.code() == "timed_out" => Some(Self::Timeout),
            StatusCode::SERVICE_UNAVAILABLE => Some(Self::Busy),
            _ => None,
        }
    }
}

/// The handles of one line of the table.
struct Line {
    statuses: [Counter; 4],
    duration: Histogram,
}

impl Line {
    fn new(registry: &mut Registry, route: &'static str, method: &'static str) -> Self {
        let of: [Label; 2] = [("route", route), ("method", method)];
        let statuses = STATUSES.map(|status| registry.counter_of(REQUESTS, REQUESTS_HELP, &[of[0], of[1], ("status", status)]));
        Self { statuses, duration: registry.histogram_of(DURATION, DURATION_HELP, SECONDS, &of) }
    }
}

/// Requests by route.
pub(crate) struct Requests {
    lines: Vec<Line>,
    other: Line,
    refused: [Counter; 7],
}

impl Requests {
    /// Handles for these lines, in their order.
    pub(crate) fn new(registry: &mut Registry, routes: &[Route]) -> Self {
        let lines = routes.iter().map(|route| Line::new(registry, route.path, route.method)).collect();
        let refused = Refusal::ALL.map(|(_, reason)| {
            let help = "Requests that were refused before anything was done for them, or put off, by reason";
            registry.counter_of("headwater_http_refused_total", help, &[("reason", reason)])
        });
        Self { lines, other: Line::new(registry, OTHER, OTHER), refused }
    }

    /// A request has ended with this answer, of the line at `place` of the table, if of any.
    pub(crate) fn ended(&self, place: Option<usize>, response: &Response, took: Duration) {
        let line = place.and_then(|place| self.lines.get(place)).unwrap_or(&self.other);
        let class = usize::from(response.status().as_u16() / 100).saturating_sub(2).min(STATUSES.len() - 1);
        line.statuses[class].inc();
        line.duration.observe(took.as_secs_f64());
        if let Some(refusal) = Refusal::of(response)
            && let Some(place) = Refusal::ALL.iter().position(|(of, _)| *of == refusal)
        {
            self.refused[place].inc();
        }
    }
}

/// Connections of a listener. Clones count together.
#[derive(Debug, Clone)]
pub struct Connections {
    open: Gauge,
    accepted: Counter,
    refused: Counter,
}

impl Connections {
    /// Makes the handles.
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            open: registry.gauge("headwater_http_connections", "Connections that are open"),
            accepted: registry.counter("headwater_http_connections_accepted_total", "Connections that were accepted"),
            refused: registry.counter(
                "headwater_http_connections_refused_total",
                "Connections that were closed at once because their address has too many",
            ),
        }
    }

    /// A connection that is open until this is dropped.
    pub(crate) fn accepted(&self) -> Counted {
        self.accepted.inc();
        self.open.add(1.0);
        Counted(self.open.clone())
    }

    pub(crate) fn refused(&self) {
        self.refused.inc();
    }
}

impl Default for Connections {
    /// Counted for nobody.
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

/// One open connection.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.add(-1.0);
    }
}

/// Tells how much of a budget is used; `name` is its label.
pub fn budget(registry: &mut Registry, name: &'static str, budget: &Arc<Budget>) {
    let labels: [Label; 1] = [("budget", name)];
    let used = registry.gauge_of("headwater_budget_used_bytes", "Memory that is held of a budget of the process", &labels);
    registry.gauge_of("headwater_budget_limit_bytes", "Memory that there is for a purpose", &labels).set_count(budget.bytes() as u64);
    let budget = Arc::clone(budget);
    registry.source(Duration::ZERO, move || {
        used.set_count(budget.bytes().saturating_sub(budget.free_bytes()) as u64);
        std::future::ready(())
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::ROUTES;
    use axum::response::IntoResponse;
    use headwater_core::metrics::Format;

    #[test]
    fn every_line_of_the_table_is_there_from_the_start_and_unknown_paths_are_one() {
        let mut registry = Registry::default();
        let requests = Requests::new(&mut registry, ROUTES);
        let text = registry.write(Format::Plain);
        assert_eq!(text.matches("\nheadwater_http_requests_total{").count(), (ROUTES.len() + 1) * 4, "{text}");
        requests.ended(None, &StatusCode::NOT_FOUND.into_response(), Duration::ZERO);
        requests.ended(Some(0), &StatusCode::OK.into_response(), Duration::ZERO);
        requests.ended(Some(usize::MAX), &StatusCode::OK.into_response(), Duration::ZERO);
        let text = registry.write(Format::Plain);
        for line in [
            r#"headwater_http_requests_total{route="other",method="other",status="4xx"} 1"#,
            r#"headwater_http_requests_total{route="/v1/readings",method="POST",status="2xx"} 1"#,
            r#"headwater_http_requests_total{route="other",method="other",status="2xx"} 1"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_refusal_is_told_by_its_status_and_a_probe_that_is_not_ready_is_none() {
        let of = |error: Error| Refusal::of(&error.into_response());
        assert_eq!(of(Error::no_credentials()), Some(Refusal::Unauthorized));
        assert_eq!(of(Error::too_large(1)), Some(Refusal::TooLarge));
        assert_eq!(of(Error::busy("log_busy", "full", 1)), Some(Refusal::Busy));
        assert_eq!(of(Error::busy("timed_out", "slow", 1)), Some(Refusal::Timeout));
        assert_eq!(of(Error::bad_request("malformed", "no")), None);
        assert_eq!(Refusal::of(&StatusCode::SERVICE_UNAVAILABLE.into_response()), None);
    }

    #[test]
    fn connections_are_open_until_they_are_dropped() {
        let mut registry = Registry::default();
        let connections = Connections::new(&mut registry);
        let (one, other) = (connections.accepted(), connections.accepted());
        connections.refused();
        drop(one);
        assert_eq!((connections.open.get(), connections.accepted.get(), connections.refused.get()), (Some(1.0), 2, 1));
        drop(other);
        assert_eq!(connections.open.get(), Some(0.0));
    }
}
