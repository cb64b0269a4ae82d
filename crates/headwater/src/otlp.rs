//! Spans to an OpenTelemetry collector: OTLP over HTTP, in its JSON form.
//!
//! Owns: the section `[otlp]`, the queue of spans that have ended and the thread that sends them. Does not know: what is a span of
//! what ([`headwater_core::trace`] and whoever makes them).
//!
//! The protocol's JSON form needs nothing that is not here already: no Protocol Buffers, no second HTTP client, no second async runtime.
//! Every collector takes it on its HTTP port (4318).
//!
//! Invariants: nobody waits for a span; what does not fit the queue, or cannot be sent, is dropped and counted; a collector that is away
//! costs one warning a minute.

mod document;
#[cfg(test)]
mod tests;

use anyhow::Context as _;
use headwater_core::trace::{self, Collector, Ended};
use headwater_web::trust::Roots;
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use ureq::http::Uri;

/// Spans that wait to be sent, and how many go at once: some 300 bytes each.
const QUEUE: usize = 4_096;
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const AGE: Duration = Duration::from_secs(1);
/// How long one sending may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the end of the process waits for the last spans.
const LAST: Duration = Duration::from_secs(2);
/// How often the same trouble is told.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// `[otlp]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Otlp {
    /// The collector, such as `http://127.0.0.1:4318`; nothing: no span is made.
    endpoint: String,
    /// The part of traces that are kept where nobody upstream has decided, from 0 to 1.
    sampling: f64,
    /// What the process is called there.
    service_name: String,
}

impl Default for Otlp {
    fn default() -> Self {
        Self { endpoint: String::new(), sampling: 0.01, service_name: "headwater".to_owned() }
    }
}

impl Otlp {
    pub(crate) fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.endpoint.is_empty() && self.url().is_none() {
            problems.push(format!("endpoint: `{}` is no address of a collector, such as http://127.0.0.1:4318", self.endpoint));
        }
        if !(0.0..=1.0).contains(&self.sampling) {
            problems.push(format!("sampling: must be from 0 to 1, is {}", self.sampling));
        }
        problems
    }

    /// Where spans are sent; a path in the endpoint is kept in front, as the exporters of OpenTelemetry do.
    fn url(&self) -> Option<String> {
        let uri: Uri = self.endpoint.parse().ok()?;
        let is_http =
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty()) && uri.query().is_none();
        is_http.then(|| format!("{}/v1/traces", self.endpoint.trim_end_matches('/')))
    }
}

/// What the thread is told.
enum Job {
    Span(Box<Ended>),
    /// The process ends.
    End,
}

struct Queue {
    jobs: SyncSender<Job>,
    /// Traces whose lower 56 bits are less are kept.
    below: u64,
    dropped: Arc<AtomicU64>,
}

/// The bits of a trace's id that sampling looks at.
const RANDOM_BITS: u32 = 56;

impl Collector for Queue {
    fn samples(&self, trace_id: u128) -> bool {
        (trace_id as u64 & ((1 << RANDOM_BITS) - 1)) < self.below
    }

    fn take(&self, span: Ended) {
        if self.jobs.try_send(Job::Span(Box::new(span))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends spans for as long as it is there.
pub(crate) struct Sending {
    jobs: SyncSender<Job>,
    thread: JoinHandle<()>,
}

/// Begins to send spans where a collector is named.
pub(crate) fn start(config: &Otlp) -> anyhow::Result<Option<Sending>> {
    let Some(url) = config.url() else { return Ok(None) };
    let (jobs, received) = sync_channel(QUEUE);
    let dropped = Arc::new(AtomicU64::new(0));
    let sender = Sender::new(url, config.service_name.clone(), Arc::clone(&dropped))?;
    let thread = std::thread::Builder::new().name("otlp".to_owned()).spawn(move || sender.run(&received)).context("start a thread")?;
    let below = (config.sampling * (1u64 << RANDOM_BITS) as f64) as u64;
    trace::install(Box::new(Queue { jobs: jobs.clone(), below, dropped }));
    Ok(Some(Sending { jobs, thread }))
}

impl Sending {
    /// Sends what there still is, for a moment.
    pub(crate) fn end(self) {
        let until = Instant::now() + LAST;
        // A full queue is a collector that does not answer.
        if self.jobs.try_send(Job::End).is_err() {
            return;
        }
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

struct Sender {
    agent: ureq::Agent,
    url: String,
    service: String,
    dropped: Arc<AtomicU64>,
    said: Option<Instant>,
}

impl Sender {
    fn new(url: String, service: String, dropped: Arc<AtomicU64>) -> anyhow::Result<Self> {
        let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).max_redirects(0).proxy(None);
        let roots = url.starts_with("https://").then(|| Roots::load(None)).transpose().context("read the authorities to trust")?;
        let config = config.tls_config(roots.as_ref().map(Roots::ureq).unwrap_or_default()).build();
        Ok(Self { agent: config.into(), url, service, dropped, said: None })
    }

    fn run(mut self, jobs: &Receiver<Job>) {
        let mut spans = Vec::new();
        let mut due = None;
        loop {
            let wait = due.map_or(PATIENCE, |due: Instant| due.saturating_duration_since(Instant::now()));
            let ends = match jobs.recv_timeout(wait) {
                Ok(Job::Span(span)) => {
                    due.get_or_insert_with(|| Instant::now() + AGE);
                    spans.push(*span);
                    false
                }
                Ok(Job::End) | Err(RecvTimeoutError::Disconnected) => true,
                Err(RecvTimeoutError::Timeout) => false,
            };
            if !spans.is_empty() && (ends || spans.len() >= BATCH || due.is_some_and(|due| due <= Instant::now())) {
                self.send(&std::mem::take(&mut spans));
                due = None;
            }
            if ends {
                return;
            }
        }
    }

    fn send(&mut self, spans: &[Ended]) {
        let body = document::of(spans, &self.service).to_string();
        let sent = self.agent.post(&self.url).header("Content-Type", "application/json").send(body.as_str());
        let why = match sent {
            Ok(answer) if answer.status().is_success() => return,
            Ok(answer) => format!("it answered {}", answer.status()),
            Err(why) => why.to_string(),
        };
        self.dropped.fetch_add(spans.len() as u64, Ordering::Relaxed);
        if self.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            self.said = Some(Instant::now());
            let dropped = self.dropped.load(Ordering::Relaxed);
            tracing::warn!(url = self.url, dropped, "the collector of traces does not take spans, they are dropped: {why}");
        }
    }
}
