//! The parts of a server and how they hang together: the only place that names backends (here and in [`examine`]).
//!
//! Owns: which backend stands behind each seam, how it is opened and closed. Does not know: what roles and backends do; how a process runs and
//! stops is in [`process`].

pub(crate) mod examine;
mod process;
mod pulse;

pub(crate) use process::Process;
use process::{DRAIN_INGEST, INGEST, ROLLUP};

use crate::config::{self, Checked, Settings};
use crate::lifecycle::Tasks;
use crate::process_metrics;
use anyhow::Context;
use headwater_core::clock::{Clock, SystemClock};
use headwater_core::health::Health;
use headwater_core::log::EventLog;
use headwater_core::metrics::{Appends, Registry};
use headwater_core::store::{DeadLetters, Ingestion, Queries, Sealing};
use headwater_core::time::{SECOND, Timestamp};
use headwater_embedded::Embedded;
use headwater_ingest as ingest;
use headwater_kafka::KafkaLog;
use headwater_rollup as rollup;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Usually a moment; a cluster that does not answer is not waited for.
const LEAVE_KAFKA: Duration = Duration::from_millis(500);
/// How often is looked at what is in flight.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The log and the store, opened as far as the roles of this process need them.
pub(crate) struct Backends {
    /// What of them is in the data directory.
    embedded: Option<Embedded>,
    /// The log, where it is Kafka's.
    kafka: Option<Arc<KafkaLog>>,
    log: Option<Arc<dyn EventLog>>,
    store: Option<StoreSeams>,
    /// What the process counts, until the listener shows it.
    registry: Registry,
}

/// One store, as each of its users sees it.
struct StoreSeams {
    ingestion: Arc<dyn Ingestion>,
    sealing: Arc<dyn Sealing>,
    queries: Arc<dyn Queries>,
    letters: Arc<dyn DeadLetters>,
}

impl StoreSeams {
    fn of<S: Ingestion + Sealing + Queries + DeadLetters + 'static>(store: &Arc<S>) -> Self {
        Self {
            ingestion: Arc::clone(store) as _,
            sealing: Arc::clone(store) as _,
            queries: Arc::clone(store) as _,
            letters: Arc::clone(store) as _,
        }
    }
}

/// Opens what the configuration names and the roles need; takes the data directory's lock where something of it is there.
pub(crate) async fn open(settings: &Checked) -> anyhow::Result<Backends> {
    let roles = &settings.roles;
    let (needs_log, needs_store) = (roles.iter().any(|role| role.needs_log()), roles.iter().any(|role| role.needs_store()));
    let mut backends = Backends { embedded: None, kafka: None, log: None, store: None, registry: Registry::default() };
    process_metrics::register(&mut backends.registry, roles);
    let has_log = needs_log && matches!(settings.log, config::Log::Embedded);
    if has_log || needs_store && matches!(settings.store, config::Store::Sqlite) {
        let (registry, dir) = (&mut backends.registry, &settings.data_dir);
        let metrics =
            if has_log { headwater_embedded::Metrics::new(registry, dir) } else { headwater_embedded::Metrics::of_store(registry, dir) };
        let embedded = open_embedded(settings, metrics).await?;
        (backends.log, backends.store) = (Some(Arc::clone(&embedded.log)), Some(StoreSeams::of(&embedded.store)));
        backends.embedded = Some(embedded);
    }
    if let config::Store::Postgres(config) = &settings.store
        && needs_store
    {
        let letters = &settings.dead_letters;
        let mut config = *config.clone();
        config.dead_letter_count = letters.quota_letters;
        config.dead_letter_bytes = letters.quota_bytes.unwrap_or(config.dead_letter_bytes);
        backends.store = Some(StoreSeams::of(&headwater_postgres::open(config, clock()).await?));
    }
    if let config::Log::Kafka(config) = &settings.log
        && needs_log
    {
        let appends = Appends::new(&mut backends.registry);
        let kafka = headwater_kafka::open_with(*config.clone(), clock(), appends).await?;
        backends.log = Some(Arc::clone(&kafka) as _);
        backends.kafka = Some(kafka);
    }
    Ok(backends)
}

async fn open_embedded(settings: &Settings, metrics: headwater_embedded::Metrics) -> anyhow::Result<Embedded> {
    let (dir, letters) = (settings.data_dir.clone(), &settings.dead_letters);
    let mut limits = headwater_embedded::Config { dead_letter_count: letters.quota_letters, ..headwater_embedded::Config::default() };
    limits.dead_letter_bytes = letters.quota_bytes.unwrap_or(limits.dead_letter_bytes);
    let opening = tokio::task::spawn_blocking(move || headwater_embedded::open_with(&dir, limits, clock(), metrics));
    Ok(opening.await.context("open the data directory")??)
}

/// Opens the store that the configuration names for nothing but questions, beside a server or without one.
pub(crate) async fn open_for_reading(settings: &Settings) -> anyhow::Result<Arc<dyn Queries>> {
    match &settings.store {
        config::Store::Sqlite => Ok(headwater_embedded::open_for_reading(&settings.data_dir)?),
        config::Store::Postgres(config) => Ok(headwater_postgres::open_for_reading(*config.clone()).await? as Arc<dyn Queries>),
    }
}

/// Copies what of the log and the store is in the data directory into `to`, beside a server or without one.
pub(crate) fn copy_embedded(settings: &Settings, to: &Path, told: &mut dyn FnMut(u64, u64)) -> anyhow::Result<Copied> {
    let files = match settings.log {
        config::Log::Embedded => headwater_embedded::Files::StoreAndLog,
        config::Log::Kafka(_) => headwater_embedded::Files::Store,
    };
    Ok(headwater_embedded::copy(&settings.data_dir, to, files, told)?)
}

/// The store of a data directory that is to be moved, with its log.
pub(crate) type Leaving = Embedded;
/// The store that it is moved into.
pub(crate) type Entering = headwater_postgres::Mover;
pub(crate) use headwater_embedded::Copied;
pub(crate) use headwater_postgres::{Begun, Source};

/// Opens a data directory that is to be moved, and takes its lock. It is made nowhere.
pub(crate) async fn open_leaving(settings: &Settings) -> anyhow::Result<Leaving> {
    drop(headwater_embedded::open_for_reading(&settings.data_dir)?);
    open_embedded(settings, headwater_embedded::Metrics::default()).await
}

/// What reads the database of a move, or what is wrong with it.
pub(crate) fn entering(url: &str, password_file: Option<PathBuf>, tls_ca: Option<PathBuf>) -> Result<headwater_postgres::Config, String> {
    let config = headwater_postgres::Config { url: url.to_owned(), password_file, tls_ca, ..headwater_postgres::Config::default() };
    let problems = config.validate();
    if problems.is_empty() { Ok(config) } else { Err(problems.join("; ")) }
}

/// Connects to the database of a move, and prepares it.
pub(crate) async fn open_entering(config: headwater_postgres::Config) -> anyhow::Result<Entering> {
    Ok(headwater_postgres::open_for_moving(config, clock()).await?)
}

/// Applies what is in the log of a data directory, then seals what is open.
pub(crate) async fn bring_to_rest(leaving: &Leaving, settings: &Settings) -> anyhow::Result<()> {
    let (health, turn, stop) = (Health::default(), rollup::Turn::default(), CancellationToken::new());
    let sealing = rollup::Deps {
        store: Arc::clone(&leaving.store) as _,
        clock: clock(),
        health: health.clone(),
        turn,
        metrics: rollup::Metrics::default(),
    };
    if in_flight(leaving).await? > 0 {
        let deps = ingest::Deps {
            log: Arc::clone(&leaving.log),
            store: Arc::clone(&leaving.store) as _,
            health,
            metrics: ingest::Metrics::default(),
        };
        // Ingest waits for sealing where much is open. A stop of both is clean.
        let mut tasks = Tasks::default();
        tasks.start(INGEST, ingest::run(settings.ingest.clone(), deps, stop.clone()));
        tasks.start(ROLLUP, rollup::run(settings.rollup.clone(), sealing.clone(), stop.clone()));
        let drained = async {
            while in_flight(leaving).await? > 0 {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            anyhow::Ok(())
        };
        let drained = tokio::select! {
            drained = drained => drained,
            ended = tasks.next_end() => match ended {
                Some(ended) => ended.result.with_context(|| format!("{} has ended", ended.name)).and_then(|()| anyhow::bail!("it ended too early")),
                None => anyhow::bail!("nothing runs any more"),
            },
        };
        stop.cancel();
        drained?;
        tasks.ended(INGEST, DRAIN_INGEST).await?;
        tasks.ended(ROLLUP, DRAIN_INGEST).await?;
    }
    rollup::seal_everything(&settings.rollup, sealing, CancellationToken::new()).await?;
    Ok(())
}

/// Records of a data directory's log that are not applied yet.
async fn in_flight(leaving: &Leaving) -> anyhow::Result<u64> {
    let (id, positions) = (leaving.log.identity(), leaving.store.positions().await?);
    let next = |partition| positions.iter().find(|p| p.log == id && p.partition == partition).map(|p| p.next);
    let bounds = leaving.log.bounds().await?;
    Ok(bounds.iter().map(|bounds| bounds.end.saturating_sub(next(bounds.partition).unwrap_or(bounds.start))).sum())
}

impl Backends {
    /// What an acknowledgement means, where the log is used here.
    pub(crate) fn durability(&self) -> Option<&'static str> {
        self.log.as_ref().map(|log| log.durability())
    }

    fn log(&self) -> anyhow::Result<Arc<dyn EventLog>> {
        self.log.clone().context("no role here was said to need the log (Role::needs_log)")
    }

    fn store(&self) -> anyhow::Result<&StoreSeams> {
        self.store.as_ref().context("no role here was said to need the store (Role::needs_store)")
    }

    /// Ends the writers; everything committed is on disk already. Leaves the groups of readers, so that others take over at once.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        if let Some(kafka) = &self.kafka
            && timeout(LEAVE_KAFKA, kafka.close()).await.is_err()
        {
            warn!("still in a group of readers after {} ms; its partitions lie still until the session times out", LEAVE_KAFKA.as_millis());
        }
        let Some(embedded) = self.embedded else { return Ok(()) };
        tokio::task::spawn_blocking(move || embedded.close()).await.context("close the data directory")
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// The time before which no clock can be right.
pub(crate) fn built_at() -> anyhow::Result<Timestamp> {
    let seconds: i64 = env!("HEADWATER_BUILT_AT").parse()?;
    Ok(Timestamp(seconds.saturating_mul(SECOND)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_not_before_the_build() {
        let built = built_at().unwrap();
        assert!(built <= SystemClock.now());
    }
}
