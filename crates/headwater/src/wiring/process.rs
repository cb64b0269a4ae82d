//! A running process: what each role is given, and the order in which everything stops.
//!
//! Owns: [`Process`]. Does not know: which backends stand behind the seams.
//!
//! The order of a stop: `/readyz` says so, and for `http.drain_delay` everything goes on → the gateway takes no more writes → what was being appended is durable → ingest commits what is in the
//! log → rollup stops sealing → the listener finishes its answers and closes → the store closes. Each step has an end, and whatever is cut short is
//! only work that the next start does again.

use super::{Backends, built_at, clock};
use crate::config::{Checked, Role};
use crate::keys::Keys;
use crate::lifecycle::{Stop, Tasks};
use headwater_api as api;
use headwater_core::BoxFuture;
use headwater_core::dead_letter::{DeadLetter, Readmitted};
use headwater_core::glob::DevicePatterns;
use headwater_core::health::Health;
use headwater_core::metrics::Registry;
use headwater_gateway::{self as gateway, Gateway};
use headwater_ingest as ingest;
use headwater_rollup as rollup;
use headwater_web::metrics::Connections;
use headwater_web::{Budget, Error, Face, Probe, Sent, Tls};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The memory for bodies that are being decoded, over the whole process.
const DECODE_BUDGET_BYTES: usize = 256 << 20;
/// The memory for answers that are being built and sent, over the whole process.
const ANSWER_BUDGET_BYTES: usize = 256 << 20;
/// How long each step of a stop may take: together less than the 30 s after which Kubernetes kills.
const DRAIN_GATEWAY: Duration = Duration::from_secs(11);
/// Ingest itself gives up after 10 s.
pub(super) const DRAIN_INGEST: Duration = Duration::from_secs(12);
/// It stops at once: a step that is cut short has changed nothing, or all that it wanted.
const DRAIN_ROLLUP: Duration = Duration::from_secs(1);
const DRAIN_LISTENER: Duration = Duration::from_secs(4);
const CUT_LISTENER: Duration = Duration::from_secs(1);
pub(super) const INGEST: &str = "ingest";
pub(super) const ROLLUP: &str = "rollup";
const LISTENER: &str = "the listener";
const KEYS: &str = "the keeper of keys";
const HEARTBEAT: &str = "the heartbeat";
const FRESHNESS: &str = "the watch over freshness";

/// The gateway's way back for dead letters, as the api takes it.
struct WayBack(Arc<gateway::Readmission>);

impl api::Readmission for WayBack {
    fn readmit<'a>(&'a self, letter: &'a DeadLetter, sent: Sent, devices: DevicePatterns) -> BoxFuture<'a, Result<Readmitted, Error>> {
        Box::pin(self.0.readmit(letter, sent, devices))
    }
}

/// Everything that runs.
pub(crate) struct Process {
    tasks: Tasks,
    gateway: Option<Gateway>,
    readmission: Option<Arc<gateway::Readmission>>,
    gateway_stop: CancellationToken,
    ingest_stop: CancellationToken,
    rollup_stop: CancellationToken,
    listener_soft: CancellationToken,
    listener_hard: CancellationToken,
    health: Health,
    probes: Vec<Probe>,
    registry: Registry,
}

impl Process {
    /// Starts the roles of the configuration, with their faces on `listener`.
    /// `own` is the face of the process itself.
    pub(crate) fn start(
        settings: &Checked,
        backends: &mut Backends,
        keys: &Keys,
        own: Face,
        listener: TcpListener,
        stop: &Stop,
    ) -> anyhow::Result<Self> {
        let mut process = Self {
            tasks: Tasks::default(),
            gateway: None,
            readmission: None,
            gateway_stop: CancellationToken::new(),
            ingest_stop: CancellationToken::new(),
            rollup_stop: CancellationToken::new(),
            listener_soft: CancellationToken::new(),
            // A second signal cuts the listener too.
            listener_hard: stop.hard.child_token(),
            health: Health::default(),
            probes: Vec::new(),
            registry: std::mem::take(&mut backends.registry),
        };
        if settings.runs(Role::Ingest) {
            process.start_ingest(settings, backends)?;
        }
        let mut faces = process.faces(settings, backends)?;
        faces.push(own);
        process.probes = faces.iter().flat_map(|face| face.probes.iter().cloned()).collect();
        process.start_listener(settings, keys, faces, listener)?;
        Ok(process)
    }

    fn start_ingest(&mut self, settings: &Checked, backends: &Backends) -> anyhow::Result<()> {
        let (log, store) = (backends.log()?, Arc::clone(&backends.store()?.ingestion));
        let metrics = ingest::Metrics::new(&mut self.registry, Arc::clone(&log), clock());
        let deps = ingest::Deps { log, store, health: self.health.clone(), metrics };
        self.tasks.start(INGEST, ingest::run(settings.ingest.clone(), deps, self.ingest_stop.clone()));
        Ok(())
    }

    /// Starts the role; its face takes turns with it.
    fn start_rollup(&mut self, settings: &Checked, backends: &Backends) -> anyhow::Result<Face> {
        let (store, turn) = (Arc::clone(&backends.store()?.sealing), rollup::Turn::default());
        let metrics = rollup::Metrics::new(&mut self.registry);
        let deps = rollup::Deps { store, clock: clock(), health: self.health.clone(), turn, metrics };
        let (config, stop) = (&settings.rollup, &self.rollup_stop);
        let sealing = rollup::run(config.clone(), deps.clone(), stop.clone());
        let letters = Arc::clone(&backends.store()?.letters);
        let old = settings.dead_letters.retention().map(|retention| rollup::Letters { store: letters, clock: clock(), retention });
        let keeping = stop.clone();
        self.tasks.start(ROLLUP, async {
            let keeping = async {
                if let Some(letters) = old {
                    rollup::keep_letters(letters, keeping).await;
                }
                Ok(())
            };
            tokio::try_join!(sealing, keeping).map(drop)
        });
        Ok(rollup::face(config, deps, stop.clone()))
    }

    /// Makes the role's face, and starts its heartbeat.
    fn start_gateway(&mut self, settings: &Checked, deps: gateway::Deps) -> Face {
        let (config, stop) = (&settings.gateway, &self.gateway_stop);
        if config.heartbeat.is_some() {
            let beating = gateway::send_heartbeats(config.clone(), deps.clone(), stop.clone());
            self.tasks.start(HEARTBEAT, async {
                beating.await;
                Ok(())
            });
        }
        let gateway = gateway::face(config.clone(), deps, stop.clone());
        let Face { role, router, probes } = &gateway.face;
        let face = Face { role, router: router.clone(), probes: probes.clone() };
        self.gateway = Some(gateway);
        face
    }

    /// Makes the role's face, and starts to follow how fresh answers are.
    fn start_api(&mut self, settings: &Checked, backends: &Backends, incoming: gateway::Deps) -> anyhow::Result<Face> {
        let answer_budget = Budget::new(ANSWER_BUDGET_BYTES, "answers");
        headwater_web::metrics::budget(&mut self.registry, "answers", &answer_budget);
        let readmission = Arc::new(gateway::Readmission::new(settings.gateway.clone(), incoming, self.gateway_stop.clone()));
        let (store, log) = (Arc::clone(&backends.store()?.queries), backends.log()?);
        let cache_counts = Arc::default();
        let deps = api::Deps {
            metrics: api::Metrics::new(&mut self.registry, Arc::clone(&store), Arc::clone(&log), clock(), Arc::clone(&cache_counts)),
            cache_counts,
            store,
            letters: Arc::clone(&backends.store()?.letters),
            readmission: Arc::new(WayBack(Arc::clone(&readmission))),
            log,
            clock: clock(),
            answer_budget,
            health: self.health.clone(),
            roles: settings.roles.iter().map(ToString::to_string).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.readmission = Some(readmission);
        let (following, stop) = (api::follow_freshness(deps.clone()), self.listener_soft.clone());
        self.tasks.start(FRESHNESS, async move {
            stop.run_until_cancelled(following).await;
            Ok(())
        });
        Ok(api::face(settings.api.clone(), deps))
    }

    fn faces(&mut self, settings: &Checked, backends: &Backends) -> anyhow::Result<Vec<Face>> {
        let mut faces = Vec::new();
        let decode_budget = Budget::new(DECODE_BUDGET_BYTES, "decode");
        if settings.runs(Role::Gateway) || settings.runs(Role::Api) {
            headwater_web::metrics::budget(&mut self.registry, "decode", &decode_budget);
        }
        let health = self.health.clone();
        let incoming = |metrics| {
            let (log, clock_floor, health) = (backends.log()?, built_at()?, health.clone());
            anyhow::Ok(gateway::Deps { log, clock: clock(), decode_budget: Arc::clone(&decode_budget), clock_floor, health, metrics })
        };
        if settings.runs(Role::Gateway) {
            let deps = incoming(gateway::Metrics::new(&mut self.registry))?;
            faces.push(self.start_gateway(settings, deps));
        }
        if settings.runs(Role::Api) {
            // What is taken in again is counted by its letters, not as what devices sent.
            let deps = incoming(gateway::Metrics::default())?;
            faces.push(self.start_api(settings, backends, deps)?);
        }
        if settings.runs(Role::Rollup) {
            faces.push(self.start_rollup(settings, backends)?);
        }
        Ok(faces)
    }

    fn start_listener(&mut self, settings: &Checked, keys: &Keys, mut faces: Vec<Face>, listener: TcpListener) -> anyhow::Result<()> {
        faces.push(keys.face(settings, clock())?);
        let verifier = Arc::new(keys.verifier(settings, clock())?);
        let tls = Tls::of(&settings.http)?;
        let connections = Connections::new(&mut self.registry);
        verifier.measure(&mut self.registry);
        if let Some(tls) = &tls {
            tls.measure(&mut self.registry);
        }
        let registry = std::mem::take(&mut self.registry);
        let app = headwater_web::app_with(faces, Arc::clone(&verifier), self.health.clone(), &settings.http, registry);
        let (soft, hard) = (self.listener_soft.clone(), self.listener_hard.clone());
        let keeping = verifier.keep_fresh(soft.clone());
        self.tasks.start(KEYS, async {
            keeping.await;
            Ok(())
        });
        let serving = headwater_web::serve_counted(listener, app, settings.http.clone(), tls, connections, (soft, hard));
        self.tasks.start(LISTENER, async {
            serving.await;
            Ok(())
        });
        Ok(())
    }

    /// What the roles wait for.
    pub(crate) fn health(&self) -> Health {
        self.health.clone()
    }

    /// What must work for the server to be ready.
    pub(crate) fn probes(&self) -> Vec<Probe> {
        self.probes.clone()
    }

    /// What runs.
    pub(crate) const fn tasks(&mut self) -> &mut Tasks {
        &mut self.tasks
    }

    /// Stops everything in the order of the module's head, `delay` after it was said.
    ///
    /// # Errors
    /// The first step that did not end well; the others are made all the same.
    pub(crate) async fn stop(mut self, delay: Duration) -> anyhow::Result<()> {
        self.health.stopping();
        tokio::time::sleep(delay).await;
        self.gateway_stop.cancel();
        if timeout(DRAIN_GATEWAY, self.appended()).await.is_err() {
            warn!("some requests were still being sent after {} s; they were not acknowledged", DRAIN_GATEWAY.as_secs());
        }
        self.ingest_stop.cancel();
        let ingest = self.tasks.ended(INGEST, DRAIN_INGEST).await;
        self.rollup_stop.cancel();
        let rollup = self.tasks.ended(ROLLUP, DRAIN_ROLLUP).await;
        self.listener_soft.cancel();
        ingest.and(rollup).and(self.close_listener().await)
    }

    /// Waits until nothing is on its way into the log.
    async fn appended(&self) {
        if let Some(gateway) = &self.gateway {
            gateway.drained().await;
        }
        if let Some(readmission) = &self.readmission {
            readmission.drained().await;
        }
    }

    async fn close_listener(&mut self) -> anyhow::Result<()> {
        let Err(why) = self.tasks.ended(LISTENER, DRAIN_LISTENER).await else { return Ok(()) };
        if !self.tasks.runs(LISTENER) {
            return Err(why);
        }
        warn!("some answers were still being read after {} s; they are cut", DRAIN_LISTENER.as_secs());
        self.listener_hard.cancel();
        self.tasks.ended(LISTENER, CUT_LISTENER).await
    }
}
