//! `GET /metrics`.
//!
//! Owns: looking up what has to be looked up before a scrape, and which text format is answered. Does not know: what is counted.
//! Invariants: a scrape is answered within [`PATIENCE`], whatever is slow: what did not come in time shows what was known before,
//! or what it said itself; however often it is asked (anyone may ask), a source runs once at a time, and not while it is fresh.

use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use headwater_core::metrics::{Format, Registry, Source};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a scrape waits for what has to be looked up. Sources give up after a second.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// All metrics of the process, and what is known of their sources.
pub(crate) struct Scrape {
    registry: Registry,
    /// When each source was last looked up, and held while it is.
    looked: Vec<Arc<Mutex<Option<Instant>>>>,
}

impl Scrape {
    pub(crate) fn new(registry: Registry) -> Self {
        let looked = registry.sources().iter().map(|_| Arc::default()).collect();
        Self { registry, looked }
    }

    /// Looks everything up that is not fresh, all at once.
    async fn refresh(&self) {
        let until = Instant::now() + PATIENCE;
        let running: Vec<_> = self
            .registry
            .sources()
            .iter()
            .zip(&self.looked)
            .map(|(source, looked)| tokio::spawn(look(source.clone(), Arc::clone(looked))))
            .collect();
        for task in running {
            // One that is late, or broke, ends or is told of elsewhere; it holds up no other scrape than this one.
            drop(timeout_at(until, task).await);
        }
    }
}

async fn look(source: Source, looked: Arc<Mutex<Option<Instant>>>) {
    // Whoever asks while it runs waits for the same outcome: that is what the lock is held for.
    let Ok(mut looked) = timeout(PATIENCE, looked.lock()).await else { return };
    if looked.is_none_or(|at| at.elapsed() >= source.fresh_for) {
        (source.refresh)().await;
        *looked = Some(Instant::now());
    }
}

/// The handler.
pub(crate) async fn metrics(State(scrape): State<Arc<Scrape>>, headers: HeaderMap) -> Response {
    scrape.refresh().await;
    let format = accepted(&headers);
    let head: [(HeaderName, &str); 3] = [(CONTENT_TYPE, format.media_type()), (CACHE_CONTROL, "no-store"), (VARY, "Accept")];
    (head, scrape.registry.write(format)).into_response()
}

/// The format that is liked better; the older one where both are liked alike or nothing is said.
fn accepted(headers: &HeaderMap) -> Format {
    let lists = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (mut plain, mut open) = (0.0f32, 0.0f32);
    for range in lists.flat_map(|list| list.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        match essence.as_str() {
            "application/openmetrics-text" => open = open.max(quality),
            "text/plain" | "text/*" => plain = plain.max(quality),
            _ => {}
        }
    }
    if open > plain { Format::OpenMetrics } else { Format::Plain }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use headwater_core::metrics::Gauge;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn headers(accept: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))])
    }

    #[test]
    fn the_format_is_the_one_that_is_liked_better() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for accept in [prometheus_2, prometheus_3, "application/openmetrics-text"] {
            assert_eq!(accepted(&headers(accept)), Format::OpenMetrics, "{accept}");
        }
        for accept in
            ["", "*/*", "text/plain", "application/openmetrics-text;q=0", "text/plain, application/openmetrics-text;q=0.9", "text/html"]
        {
            assert_eq!(accepted(&headers(accept)), Format::Plain, "{accept}");
        }
        assert_eq!(accepted(&HeaderMap::new()), Format::Plain);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_hangs_holds_a_scrape_up_for_a_moment_and_no_longer() {
        let mut registry = Registry::default();
        let quick: Gauge = registry.gauge("x_quick", "Quick");
        registry.source(Duration::ZERO, std::future::pending);
        registry.source(Duration::ZERO, move || {
            quick.add(1.0);
            std::future::ready(())
        });
        let scrape = Scrape::new(registry);
        for scrapes in 1..=2 {
            let started = Instant::now();
            scrape.refresh().await;
            assert_eq!(started.elapsed(), PATIENCE);
            assert!(scrape.registry.write(Format::Plain).contains(&format!("x_quick {scrapes}")));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_fresh_is_not_looked_up_again_however_many_ask() {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let mut registry = Registry::default();
        registry.source(Duration::from_secs(5), move || {
            counted.fetch_add(1, Ordering::SeqCst);
            std::future::ready(())
        });
        let scrape = Arc::new(Scrape::new(registry));
        for _ in 0..20 {
            scrape.refresh().await;
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        tokio::time::advance(Duration::from_secs(5)).await;
        scrape.refresh().await;
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }
}
