//! A face on a store and a log in memory, and requests to it.

use crate::{Config, Deps, Metrics, Readmission, face};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use headwater_contract::builders::{START, store_readings};
use headwater_contract::{FaultyStore, MemoryLog, MemoryStore};
use headwater_core::BoxFuture;
use headwater_core::clock::{Clock, ManualClock};
use headwater_core::dead_letter::{DeadLetter, Readmitted, Reason};
use headwater_core::glob::{DevicePatterns, Glob};
use headwater_core::health::Health;
use headwater_core::metrics::{Format, Registry};
use headwater_core::seal;
use headwater_core::series::{SHARDS, Shard};
use headwater_core::store::{LoadBudget, Queries, Replaced, Sealing};
use headwater_web::{Budget, Caller, Error, Scope, Scopes, Sent};
use http_body_util::BodyExt;
use serde_json::Value;
use std::sync::{Arc, Mutex};
use tower::ServiceExt;

pub(crate) use headwater_contract::builders::{Reading, at, reading};

/// Memory for all answers of a test.
const BUDGET: usize = 256 << 20;

/// The role at work. It is [`START`] until the clock is set.
pub(crate) struct Stack {
    pub(crate) store: MemoryStore,
    pub(crate) log: MemoryLog,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) health: Health,
    pub(crate) budget: Arc<Budget>,
    pub(crate) deps: Deps,
    pub(crate) registry: Registry,
    /// What was taken in again.
    pub(crate) way_back: Arc<WayBack>,
    /// The store, as far as dead letters are changed in it.
    pub(crate) letters: Arc<FaultyStore>,
    router: Router,
}

/// A way back that takes in what says `good`, half of what says `half`, nothing else, and is busy for what says `busy`.
pub(crate) struct WayBack {
    clock: Arc<ManualClock>,
    /// The bytes that came, with the devices of whoever sent them.
    pub(crate) came: Mutex<Vec<(String, DevicePatterns)>>,
}

impl Readmission for WayBack {
    fn readmit<'a>(&'a self, letter: &'a DeadLetter, sent: Sent, devices: DevicePatterns) -> BoxFuture<'a, Result<Readmitted, Error>> {
        Box::pin(async move {
            let edited = sent.body.collect().await.unwrap().to_bytes();
            let bytes = if edited.is_empty() { letter.bytes.clone() } else { edited.to_vec() };
            let text = String::from_utf8_lossy(&bytes).into_owned();
            self.came.lock().unwrap().push((text.clone(), devices));
            let nothing = Readmitted::nothing(self.clock.now(), Reason::NotNumeric, "still no number");
            match text {
                text if text.contains("busy") => Err(Error::busy("log_busy", "the log is full", 5)),
                text if text.contains("large") => Err(Error::too_large(7)),
                text if text.contains("good") => Ok(Readmitted { accepted: 1, rejected: 0, refused: vec![], ..nothing }),
                text if text.contains("half") => Ok(Readmitted { accepted: 1, ..nothing }),
                _ => Ok(nothing),
            }
        })
    }
}

/// A response that has been read.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Stack {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        Self::on(MemoryStore::new(), config, BUDGET)
    }

    pub(crate) fn on(store: MemoryStore, config: Config, budget_bytes: usize) -> Self {
        Self::behind(Arc::new(store.clone()), store, config, budget_bytes)
    }

    /// Asks `queries`, which stands before `store`.
    pub(crate) fn behind(queries: Arc<dyn Queries>, store: MemoryStore, config: Config, budget_bytes: usize) -> Self {
        let (log, clock, health) = (MemoryLog::new(2), Arc::new(ManualClock::at(START)), Health::default());
        let budget = Budget::new(budget_bytes, "answers");
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry, Arc::clone(&queries), Arc::new(log.clone()), Arc::clone(&clock) as _, Arc::default());
        let way_back = Arc::new(WayBack { clock: Arc::clone(&clock), came: Mutex::default() });
        let letters = Arc::new(FaultyStore::new(store.clone()));
        let deps = Deps {
            store: queries,
            letters: Arc::clone(&letters) as _,
            readmission: Arc::clone(&way_back) as _,
            log: Arc::new(log.clone()),
            clock: Arc::clone(&clock) as _,
            answer_budget: Arc::clone(&budget),
            cache_counts: Arc::default(),
            health: health.clone(),
            roles: vec!["ingest".into(), "api".into()],
            version: "1.2.3".into(),
            metrics,
        };
        let router = face(config, deps.clone()).router;
        Self { store, log, clock, health, budget, way_back, letters, deps, registry, router }
    }

    /// Commits readings as one batch.
    pub(crate) async fn commit(&self, readings: &[Reading]) {
        store_readings(&self.store, readings).await;
    }

    /// Seals up to `readings` of what a shard has open.
    pub(crate) async fn seal_some(&self, shard: Shard, readings: usize) {
        let budget = LoadBudget { readings: readings as u64, bytes: u64::MAX };
        let Some((version, loaded)) = self.store.load(shard, budget).await.unwrap() else { return };
        let mut sealed = seal::seal(shard, &loaded, readings).unwrap();
        let ids: Vec<_> = sealed.conflicts.iter().map(|conflict| conflict.series).collect();
        let keys = ids.iter().copied().zip(self.store.keys(&ids).await.unwrap()).collect();
        sealed.dead_letters = seal::letters(&sealed.conflicts, &keys, START);
        assert!(matches!(self.store.replace(shard, version, Arc::new(sealed)).await.unwrap(), Replaced::Done { .. }));
    }

    /// Merges the oldest blocks of a shard.
    pub(crate) async fn merge(&self, shard: Shard, most: usize) {
        let (version, blocks) = self.store.unmerged(shard, most, u64::MAX).await.unwrap();
        let Some(merged) = seal::merge_blocks(shard, &blocks) else { return };
        assert!(matches!(self.store.replace(shard, version, Arc::new(merged)).await.unwrap(), Replaced::Done { .. }));
    }

    /// Seals everything.
    pub(crate) async fn seal(&self) {
        for shard in (0..SHARDS).map(Shard) {
            self.seal_some(shard, usize::MAX).await;
        }
        assert_eq!(self.store.backlog().await.unwrap(), []);
    }

    /// Asks as a caller who may see everything.
    pub(crate) async fn get(&self, uri: &str) -> Got {
        self.ask(uri, caller(DevicePatterns::All), &[]).await
    }

    /// Asks as a caller who is narrowed to devices.
    pub(crate) async fn get_as(&self, devices: &[&str], uri: &str) -> Got {
        let devices = DevicePatterns::Some(devices.iter().map(|device| Glob::new(*device)).collect());
        self.ask(uri, caller(devices), &[]).await
    }

    /// Asks with headers.
    pub(crate) async fn get_with(&self, uri: &str, headers: &[(header::HeaderName, &str)]) -> Got {
        self.ask(uri, caller(DevicePatterns::All), headers).await
    }

    /// Changes something, as a caller of these devices (none: of all).
    pub(crate) async fn change(&self, method: &str, devices: &[&str], uri: &str, body: impl Into<Body>) -> Got {
        let devices = match devices {
            [] => DevicePatterns::All,
            globs => DevicePatterns::Some(globs.iter().map(|glob| Glob::new(*glob)).collect()),
        };
        let request = Request::builder().method(method).uri(uri).extension(caller(devices)).body(body.into()).unwrap();
        self.answer(request).await
    }

    async fn ask(&self, uri: &str, caller: Caller, headers: &[(header::HeaderName, &str)]) -> Got {
        let mut request = Request::get(uri).body(Body::empty()).unwrap();
        request.extensions_mut().insert(caller);
        request.headers_mut().extend(headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())));
        self.answer(request).await
    }

    async fn answer(&self, request: Request<Body>) -> Got {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Got { status: parts.status, headers: parts.headers, bytes: body.collect().await.unwrap().to_bytes().to_vec() }
    }

    /// The value of a series of `/metrics`, looked up now.
    pub(crate) async fn scraped(&self, series: &str) -> Option<f64> {
        for source in self.registry.sources() {
            (source.refresh)().await;
        }
        let text = self.registry.write(Format::Plain);
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')).map(|value| value.parse().unwrap())
    }

    /// All rows of a list, by pages of `limit`; checks that no page is empty or too long.
    pub(crate) async fn all_pages(&self, uri: &str, limit: usize) -> Vec<Value> {
        let mut rows = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("{uri}&limit={limit}{cursor}")).await.ok().json();
            let of_page = page["rows"].as_array().unwrap();
            assert!(of_page.len() <= limit, "{page}");
            rows.extend(of_page.iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => {
                    assert_eq!(of_page.len(), limit, "a page before the last is full");
                    cursor = format!("&cursor={next}");
                }
                None => return rows,
            }
        }
    }
}

impl Got {
    /// Asserts that it is a 200.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        self
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn rows(&self) -> Vec<Value> {
        self.json()["rows"].as_array().unwrap().clone()
    }

    pub(crate) fn header(&self, name: header::HeaderName) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// The status, the code, and the parameters that an error points at, sorted.
    pub(crate) fn problem(&self) -> (u16, String, Vec<String>) {
        assert_eq!(self.header(header::CONTENT_TYPE), "application/problem+json", "{}", self.text());
        let problem = self.json();
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        let mut parameters: Vec<String> = errors.iter().map(|error| error["parameter"].as_str().unwrap().to_owned()).collect();
        parameters.sort();
        (self.status.as_u16(), problem["code"].as_str().unwrap().to_owned(), parameters)
    }
}

fn caller(devices: DevicePatterns) -> Caller {
    Caller { subject: "test".into(), scopes: Scopes::from(Scope::Admin), devices }
}
