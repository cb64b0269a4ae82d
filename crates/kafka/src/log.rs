//! The log: opening it, and the seam's calls.
//!
//! Owns: [`open`], [`KafkaLog`]. Does not know: how librdkafka is asked (`clients`), how reading works (`subscription`).
//! Invariants: what blocks is asked off the runtime; once the topic was made again, every call says so.

use crate::clients::{Clients, ask};
use crate::settings::Settings;
use crate::subscription::{self, Command};
use crate::url::Url;
use crate::watch::{self, Status, Watch};
use crate::{Config, murmur2, topic};
use headwater_core::BoxFuture;
use headwater_core::clock::Clock;
use headwater_core::log::{Bounds, EventLog, LogError, LogId, Record, Subscription};
use headwater_core::metrics::Appends;
use headwater_core::time::Timestamp;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tracing::info;

/// How long a new subscription waits for an earlier one of this process to have left the group.
const LEAVE_WAIT: Duration = Duration::from_secs(10);

/// A topic as a log, and what is counted of it.
pub struct KafkaLog(Arc<Shared>, Appends);

/// What the log and its subscriptions share. The fields are dropped in this order: the clients are then the watch's alone.
pub(crate) struct Shared {
    pub(crate) clients: Arc<Clients>,
    pub(crate) status: Arc<Status>,
    pub(crate) settings: Settings,
    pub(crate) buffer_bytes: u64,
    members: Mutex<Members>,
    _watch: Watch,
}

/// The readers of this process.
#[derive(Default)]
struct Members {
    /// Where the threads of subscriptions take commands.
    commands: Vec<Sender<Command>>,
    /// Ends when the thread of a dropped subscription has left its group.
    leaving: Vec<oneshot::Receiver<()>>,
}

/// Connects to the cluster, makes the topic or checks the one that exists, and reads its identity.
///
/// # Errors
/// [`LogError::Corrupt`] where the configuration or an existing topic cannot work, in words; [`LogError::Unavailable`] where the
/// cluster does not answer within `connect_wait_ms`.
pub async fn open(config: Config, clock: Arc<dyn Clock>) -> Result<Arc<KafkaLog>, LogError> {
    open_with(config, clock, Appends::default()).await
}

/// [`open`], with what is appended counted.
///
/// # Errors
/// As [`open`].
pub async fn open_with(config: Config, clock: Arc<dyn Clock>, appends: Appends) -> Result<Arc<KafkaLog>, LogError> {
    let problems = config.validate();
    if !problems.is_empty() {
        return Err(LogError::Corrupt(problems.join("; ")));
    }
    let url = Url::parse(&config.url).map_err(|problem| LogError::Corrupt(format!("log.url: {problem}")))?;
    let instance = format!("{:x}-{:x}", clock.now().micros(), RandomState::new().build_hasher().finish());
    let buffer_bytes = config.buffer_bytes;
    let connecting = tokio::task::spawn_blocking(move || connect(&config, &url, instance));
    let connected = connecting.await.unwrap_or_else(|_| Err(LogError::Stopped("connecting to kafka has panicked".to_owned())));
    let (clients, settings, status) = connected?;
    let watch = watch::start(Arc::clone(&clients), Arc::clone(&status))?;
    let members = Mutex::default();
    let shared = Shared { clients, status, settings, buffer_bytes, members, _watch: watch };
    Ok(Arc::new(KafkaLog(Arc::new(shared), appends)))
}

/// Makes the clients, waits until the cluster answers, and opens the topic. Blocks.
fn connect(config: &Config, url: &Url, instance: String) -> Result<(Arc<Clients>, Settings, Arc<Status>), LogError> {
    let settings = Settings::new(config, url)?;
    let clients = Clients::new(config, url, &settings, instance)?;
    let cluster = clients.cluster_id(url, config.connect_wait())?;
    let partitions = topic::open(&clients, url, config.connect_wait())?;
    let id = clients.identity(&cluster)?;
    info!(partitions, "opened log {id}: topic {} with {partitions} partitions", url.topic);
    Ok((Arc::new(clients), settings, Status::new(id, partitions)))
}

impl KafkaLog {
    /// Waits, not for long, until the subscriptions that were dropped have left their groups. For the end of a process: a member
    /// that does not leave is only missed when its session times out, and its partitions lie still until then.
    pub async fn close(&self) {
        self.0.others_have_left().await;
    }
}

impl Shared {
    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A subscription was dropped: its thread ends when `left` does.
    pub(crate) fn leaving(&self, left: oneshot::Receiver<()>) {
        self.members().leaving.push(left);
    }

    /// Waits for what has begun to leave. A member that joins while an earlier one of this process is still there would wait for
    /// it in the group, and with static membership throw it out.
    async fn others_have_left(&self) {
        let leaving = std::mem::take(&mut self.members().leaving);
        let all = async {
            for left in leaving {
                // The sender is dropped, never used: an error is what is waited for.
                drop(left.await);
            }
        };
        drop(tokio::time::timeout(LEAVE_WAIT, all).await);
    }

    /// Hands group offsets to the subscriptions; each commits those of its own partitions.
    fn commit(&self, applied: &[(u32, u64)]) {
        self.members().commands.retain(|commands| commands.send(Command::Commit(applied.to_vec())).is_ok());
    }
}

impl EventLog for KafkaLog {
    fn identity(&self) -> LogId {
        self.0.status.id.clone()
    }

    fn durability(&self) -> &'static str {
        "acks=all"
    }

    fn partition_of(&self, device: &str) -> u32 {
        murmur2::partition(device.as_bytes(), self.0.status.partitions())
    }

    fn bounds(&self) -> BoxFuture<'_, Result<Vec<Bounds>, LogError>> {
        Box::pin(async {
            self.0.status.check()?;
            let partitions = self.0.status.partitions();
            ask(Arc::clone(&self.0.clients), move |clients| clients.bounds(partitions)).await
        })
    }

    /// Looks at the first records from `next` on, not at all: clocks of gateways differ less than a few records span.
    fn oldest_from(&self, partition: u32, next: u64) -> BoxFuture<'_, Result<Option<Timestamp>, LogError>> {
        Box::pin(async move {
            self.0.status.check()?;
            let oldest = move |clients: &Clients| {
                let bounds = clients.bounds_of(partition)?;
                if next >= bounds.end {
                    return Ok(None);
                }
                let records = clients.read_back.firsts(partition, next.max(bounds.start))?;
                Ok(records.iter().map(|record| record.received_at).min())
            };
            ask(Arc::clone(&self.0.clients), oldest).await
        })
    }

    fn received_at(&self, partition: u32, position: u64) -> BoxFuture<'_, Result<Option<Timestamp>, LogError>> {
        Box::pin(async move {
            self.0.status.check()?;
            let received = move |clients: &Clients| {
                let bounds = clients.bounds_of(partition)?;
                if !(bounds.start..bounds.end).contains(&position) {
                    return Ok(None);
                }
                let record = clients.read_back.first(partition, position)?;
                Ok(record.filter(|record| record.position == position).map(|record| record.received_at))
            };
            ask(Arc::clone(&self.0.clients), received).await
        })
    }

    fn append(&self, records: Vec<Record>) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async {
            let (began, n_records) = (Instant::now(), records.len() as u64);
            let done = match self.0.status.check() {
                Ok(()) => self.0.clients.producer.append(records).await,
                Err(problem) => Err(problem),
            };
            self.1.ended(began.elapsed(), done.is_ok());
            if done.is_ok() {
                self.1.durable(n_records);
            }
            done
        })
    }

    /// Asks nobody: says what the last look at the topic saw, at most 5 s (`watch`) and a question ago.
    fn writable(&self) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async {
            self.0.status.check()?;
            if let Some(stopped) = self.0.clients.producer.fatal() {
                return Err(stopped);
            }
            self.0.status.answers()?;
            if !self.0.clients.producer.has_room() {
                return Err(LogError::Busy("the queue of records to be acknowledged is full".to_owned()));
            }
            Ok(())
        })
    }

    fn subscribe(&self, group: &str) -> BoxFuture<'_, Result<Box<dyn Subscription>, LogError>> {
        // Of this topic alone: two logs on one cluster would otherwise rebalance each other, and share the names of their members.
        let group = format!("{group}.{}", self.0.clients.topic);
        Box::pin(async move {
            self.0.status.check()?;
            self.0.others_have_left().await;
            let subscription = subscription::start(&self.0, group).await?;
            self.0.members().commands.push(subscription.commands());
            Ok(Box::new(subscription) as Box<dyn Subscription>)
        })
    }

    /// Writes the group's offsets in Kafka, where lag gauges look, in the background. Deletes nothing.
    fn trim_to(&self, applied: &[(u32, u64)]) -> BoxFuture<'_, Result<(), LogError>> {
        self.0.commit(applied);
        Box::pin(async { Ok(()) })
    }
}
