//! The gateway from request to log, through its router; the kit's shell (tokens, wording of InfluxDB's errors) is not in front.

mod append;
mod bodies;
mod extremes;
mod heartbeat;
mod influx;
mod metrics;
mod readings;
mod readmission;

use crate::{Config, Deps, Gateway, Metrics, face};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use headwater_contract::builders::START;
use headwater_contract::{FaultyLog, MemoryLog};
use headwater_core::clock::ManualClock;
use headwater_core::glob::{DevicePatterns, Glob};
use headwater_core::health::Health;
use headwater_core::metrics::{Format as TextFormat, Registry};
use headwater_core::time::Timestamp;
use headwater_web::{Budget, Caller, Scope, Scopes};
use headwater_wire::record::{self, Content, RefusedItem};
use http_body_util::BodyExt;
use serde_json::Value;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const MIB: usize = 1024 * 1024;

/// A gateway over a log in memory that fails when told to.
struct Site {
    gateway: Gateway,
    deps: Deps,
    registry: Registry,
    log: MemoryLog,
    faulty: Arc<FaultyLog>,
    clock: Arc<ManualClock>,
    health: Health,
    budget: Arc<Budget>,
    stop: CancellationToken,
}

impl Site {
    fn new() -> Self {
        Self::with(Config::default(), 1)
    }

    fn with(config: Config, partitions: u32) -> Self {
        let log = MemoryLog::new(partitions);
        let faulty = Arc::new(FaultyLog::new(log.clone()));
        let clock = Arc::new(ManualClock::at(START));
        let mut registry = Registry::default();
        let (budget, health, stop) = (Budget::new(256 * MIB, "tests"), Health::default(), CancellationToken::new());
        let deps = Deps {
            log: faulty.clone(),
            clock: clock.clone(),
            decode_budget: Arc::clone(&budget),
            clock_floor: START.plus(-1),
            health: health.clone(),
            metrics: Metrics::new(&mut registry),
        };
        let gateway = face(config, deps.clone(), stop.clone());
        Self { gateway, deps, registry, log, faulty, clock, health, budget, stop }
    }

    /// Requests wait for the log for as short a time as can be configured.
    fn hasty() -> Self {
        Self::with(Config { append_wait: Duration::from_millis(100), ..Config::default() }, 1)
    }

    fn router(&self) -> Router {
        self.gateway.face.router.clone()
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.router().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes().to_vec() }
    }

    async fn send(&self, content_type: &str, body: impl Into<Body>) -> Answer {
        self.ask(readings(content_type, &[], body)).await
    }

    /// The readings in the log as `device metric micros value`, sorted.
    fn readings(&self) -> Vec<String> {
        let mut readings = Vec::new();
        for content in self.contents() {
            if let Content::Readings(batch) = content {
                for ((&series, &time), &value) in batch.series.iter().zip(&batch.times).zip(&batch.values) {
                    let parts = headwater_core::series::Parts::of(batch.dictionary.key(series));
                    readings.push(format!("{} {} {time} {value}", parts.device, parts.metric));
                }
            }
        }
        readings.sort();
        readings
    }

    /// The dead letters in the log, in its order.
    fn letters(&self) -> Vec<RefusedItem> {
        let refused = self.contents().into_iter().filter_map(|content| match content {
            Content::Refused(items) => Some(items),
            Content::Readings(_) | Content::Heartbeat => None,
        });
        refused.flatten().collect()
    }

    fn contents(&self) -> Vec<Content> {
        let partitions = (0..).map(|partition| self.log.records(partition)).take(4);
        partitions.flatten().map(|record| record::decode(&record.payload).unwrap().content).collect()
    }

    /// The sum of what the records say that they count.
    fn counted(&self) -> u64 {
        (0..4).flat_map(|partition| self.log.records(partition)).map(|record| record.count).sum()
    }
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no json: {self:?}"))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// `received accepted skipped rejected` of an answer to readings.
    fn counts(&self) -> [u64; 4] {
        let json = self.json();
        ["received", "accepted", "skipped", "rejected"].map(|name| json[name].as_u64().unwrap_or_else(|| panic!("no {name}: {json}")))
    }

    /// A 503 that says when to come back, in whole seconds.
    fn says_come_back(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE && self.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0)
    }
}

fn caller(devices: &[&str]) -> Caller {
    let devices = match devices {
        [] => DevicePatterns::All,
        globs => DevicePatterns::Some(globs.iter().map(|glob| Glob::new(*glob)).collect()),
    };
    Caller { subject: "test".to_owned(), scopes: Scopes::from(Scope::WriteReadings), devices }
}

fn post(uri: &str, headers: &[(&str, &str)], devices: &[&str], body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::post(uri).extension(caller(devices));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

fn readings(content_type: &str, devices: &[&str], body: impl Into<Body>) -> Request<Body> {
    post("/v1/readings", &[("content-type", content_type)], devices, body)
}

fn encoded(content_type: &str, coding: &str, body: impl Into<Body>) -> Request<Body> {
    post("/v1/readings", &[("content-type", content_type), ("content-encoding", coding)], &[], body)
}

fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::empty()).unwrap()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(plain, 1).unwrap()
}

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
const CSV: &str = "text/csv";

/// A JSON object with one reading of `device` at [`START`].
fn item(device: &str, value: f64) -> String {
    format!(r#"{{"device":"{device}","metric":"t","ts":{},"value":{value}}}"#, START.micros() / 1000)
}

/// That reading as [`Site::readings`] prints it.
fn stored(device: &str, value: f64) -> String {
    format!("{device} t {} {value}", START.micros())
}

const fn after(seconds: i64) -> Timestamp {
    headwater_contract::builders::at(seconds)
}
