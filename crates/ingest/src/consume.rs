//! The loop: what the subscription delivers becomes batches, one being built while one commits.
//!
//! Owns: assignment, revocation, resuming, back-pressure (a full batch stops reading), stopping.
//! Does not know: what is in a record. Invariant: the expected position of a batch is the end of the one before it, or what was
//! read from the store at the last resume.

use crate::batch::Pending;
use crate::commit::{self, Outcome};
use crate::decode::{self, Decoded, Decoder};
use crate::foreign;
use crate::registry::{Known, Registry};
use crate::{Config, Deps, GROUP};
use anyhow::Context;
use headwater_core::log::{Bounds, Delivery, LogError, LogId, Position, StoredRecord, Subscription};
use headwater_core::series::SeriesKey;
use headwater_core::store::StoreError;
use headwater_core::time::Timestamp;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Names of conditions.
pub(crate) const COMMIT: &str = "ingest";
pub(crate) const OPEN: &str = "ingest-open";
const LOG: &str = "ingest-log";

/// How long a stop may take to commit what the log holds.
const DRAIN: Duration = Duration::from_secs(10);

type Committing = JoinHandle<anyhow::Result<Outcome>>;

pub(crate) struct Consumer {
    config: Config,
    deps: Deps,
    log_id: LogId,
    decoder: Arc<Decoder>,
    registry: Registry,
    /// The partitions that are ours, and where the store's position of each will be once the running commit is done.
    owned: BTreeMap<u32, Option<u64>>,
    /// Delivered and not yet in a batch: the rest of one delivery at most.
    backlog: VecDeque<(u32, u64, StoredRecord)>,
    pending: Pending,
    committing: Option<Committing>,
    /// When the oldest record of the running commit was received.
    committing_oldest: Option<Timestamp>,
    /// The store may have gone back to an earlier state: ids that are remembered may be another's by now.
    restored: bool,
    over_limit: bool,
    /// That the log is away.
    away: Told,
}

/// What the loop does next.
enum Event {
    Stop,
    Committed(anyhow::Result<Outcome>),
    Close,
    Delivered(Result<Delivery, LogError>),
}

impl Consumer {
    pub(crate) fn new(config: Config, deps: Deps) -> Self {
        let log_id = deps.log.identity();
        let decoder = Arc::new(Decoder { log: log_id.clone(), device_tags: config.device_tags.clone() });
        Self {
            config,
            deps,
            log_id,
            decoder,
            registry: Registry::default(),
            owned: BTreeMap::new(),
            backlog: VecDeque::new(),
            pending: Pending::default(),
            committing: None,
            committing_oldest: None,
            restored: false,
            over_limit: false,
            away: Told::default(),
        }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut subscription = subscribe(&self.deps).await?;
        let open = self.deps.store.open_readings().await.unwrap_or(0);
        self.over_limit = open >= self.config.open_readings;
        loop {
            if self.over_limit && self.committing.is_none() {
                warn!(open, "waiting for sealing: the limit of {} open readings is reached", self.config.open_readings);
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    room = commit::wait_for_room(&self.deps, self.config.open_readings) => room?,
                }
                self.over_limit = false;
            }
            match self.event(subscription.as_mut(), &stop).await {
                Event::Stop => return self.drain(subscription.as_mut()).await,
                event => self.handle(event, subscription.as_mut()).await?,
            }
            self.tell_in_hand();
        }
    }

    /// Says how old the oldest record is that was delivered and is not applied.
    fn tell_in_hand(&self) {
        let committing = self.committing.as_ref().and(self.committing_oldest);
        let delivered = self.backlog.front().map(|(_, _, record)| record.received_at);
        self.deps.metrics.in_hand([committing, self.pending.oldest(), delivered].into_iter().flatten().min());
    }

    /// The next thing to do. A full batch takes no delivery, and waits for the running commit: that is the back-pressure.
    async fn event(&mut self, subscription: &mut dyn Subscription, stop: &CancellationToken) -> Event {
        let full = self.pending.is_full(self.config.batch_readings) || !self.backlog.is_empty();
        let due = self.pending.first_at().map(|at| if full { at } else { at + self.config.batch_age() });
        let idle = self.committing.is_none();
        tokio::select! {
            biased;
            () = stop.cancelled() => Event::Stop,
            outcome = joined(&mut self.committing), if !idle => Event::Committed(outcome),
            () = until(due), if idle && due.is_some() => Event::Close,
            delivery = subscription.next(), if !full => Event::Delivered(delivery),
        }
    }

    async fn handle(&mut self, event: Event, subscription: &mut dyn Subscription) -> anyhow::Result<()> {
        match event {
            Event::Stop => {}
            Event::Committed(outcome) => {
                self.committing = None;
                let outcome = outcome?;
                self.note(&outcome);
                if matches!(outcome, Outcome::Fenced) {
                    self.start_again(subscription).await?;
                }
                self.fill().await?;
            }
            Event::Close => {
                self.start_commit();
                self.fill().await?;
            }
            Event::Delivered(Ok(Delivery::Assigned(partitions))) => self.begin(partitions, subscription).await?,
            Event::Delivered(Ok(Delivery::Revoked(partitions))) => self.give_up(&partitions, subscription).await?,
            Event::Delivered(Ok(Delivery::Records { partition, next, records, .. })) => self.take(partition, next, records).await?,
            Event::Delivered(Err(error)) => self.wait_for_log(error).await?,
        }
        if self.restored {
            self.start_again(subscription).await?;
        }
        Ok(())
    }

    async fn wait_for_log(&mut self, error: LogError) -> anyhow::Result<()> {
        if !error.is_transient() {
            return Err(error).context("read the log");
        }
        self.deps.health.waiting(LOG, error.to_string());
        if self.away.is_due() {
            warn!("waiting for the log: {error}");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(())
    }

    fn log_works(&mut self) {
        self.deps.health.working(LOG);
        if self.away.is_over() {
            info!("the log can be read again");
        }
    }

    /// Reads the stored positions and resumes from them; what was in hand of these partitions is dropped.
    async fn begin(&mut self, partitions: Vec<u32>, subscription: &mut dyn Subscription) -> anyhow::Result<()> {
        let stored = positions(&self.deps).await?;
        // Where only another log's position is stored, it is handed on, so that the log refuses it by name; unless that log was retired.
        let of = |partition: u32| {
            let mut of_partition = stored.iter().filter(|p| p.partition == partition && !p.log.is_retired());
            of_partition.clone().find(|p| p.log == self.log_id).or_else(|| of_partition.next()).cloned()
        };
        let resume: Vec<(u32, Option<Position>)> = partitions.iter().map(|&p| (p, of(p))).collect();
        let gaps = loop {
            match subscription.resume(resume.clone()).await {
                Ok(gaps) => break gaps,
                Err(error) => self.wait_for_log(error).await.context("resume from the stored positions")?,
            }
        };
        let applied: Vec<(u32, u64)> =
            resume.iter().filter_map(|(partition, position)| position.as_ref().map(|p| (*partition, p.next))).collect();
        for (partition, position) in resume {
            let next = position.map(|p| p.next);
            self.owned.insert(partition, next);
            self.deps.metrics.begins(partition, next);
        }
        // A process that died between its commit and this word would leave a full log full for ever.
        if let Err(error) = self.deps.log.trim_to(&applied).await {
            warn!(%error, "could not tell the log what is applied: {error}");
        }
        info!(?partitions, "reading partitions {partitions:?} of log {}", self.log_id);
        for gap in gaps {
            warn!(
                partition = gap.partition,
                "records {}..{} of partition {} are gone from log {}", gap.from, gap.to, gap.partition, gap.log
            );
            self.pending.advance(&self.log_id, gap.partition, Some(gap.from), gap.to, None);
            self.pending.record(gap);
        }
        self.log_works();
        Ok(())
    }

    /// Ends the running commit, drops what was decoded, and says that the partitions are free.
    async fn give_up(&mut self, partitions: &[u32], subscription: &mut dyn Subscription) -> anyhow::Result<()> {
        self.end_commit().await?;
        let others: Vec<u32> = self.owned.keys().copied().filter(|p| !partitions.contains(p)).collect();
        self.drop_in_hand();
        self.owned.clear();
        self.deps.metrics.owns_nothing();
        subscription.released(partitions).await.context("give partitions back")?;
        // The batch in hand held records of the other partitions too: they are read again.
        if !others.is_empty() {
            self.begin(others, subscription).await?;
        }
        Ok(())
    }

    fn drop_in_hand(&mut self) {
        self.backlog.clear();
        self.pending = Pending::default();
    }

    async fn take(&mut self, partition: u32, next: u64, records: Vec<StoredRecord>) -> anyhow::Result<()> {
        if !self.owned.contains_key(&partition) {
            return Ok(());
        }
        self.log_works();
        let last = records.len().saturating_sub(1);
        for (i, record) in records.into_iter().enumerate() {
            let after = if i == last { next } else { record.position + 1 };
            self.backlog.push_back((partition, after, record));
        }
        self.fill().await
    }

    /// Moves records from the backlog into the batch while it has room.
    async fn fill(&mut self) -> anyhow::Result<()> {
        while !self.backlog.is_empty() && !self.pending.is_full(self.config.batch_readings) {
            let mut records = self.decode_some().await?;
            let unknown = decode::look_up(&mut records, &self.registry);
            let Some(registered) = self.register(unknown).await? else {
                // What was taken from the backlog comes again with the rest.
                self.restored = true;
                return Ok(());
            };
            let owned = &self.owned;
            let expected = |partition| owned.get(&partition).copied().flatten();
            decode::absorb(&mut self.pending, &self.log_id, expected, records, &registered);
        }
        Ok(())
    }

    /// Takes as many records from the backlog as the batch has room for, at least one, and decodes them off the runtime.
    async fn decode_some(&mut self) -> anyhow::Result<Vec<Decoded>> {
        let room = self.pending.room(self.config.batch_readings) as u64;
        let (mut taken, mut readings) = (Vec::<(u32, u64, StoredRecord)>::new(), 0);
        while let Some((_, _, record)) = self.backlog.front() {
            let most = most_readings(record);
            if !taken.is_empty() && readings + most > room {
                break;
            }
            readings += most;
            taken.extend(self.backlog.pop_front());
        }
        let decoder = Arc::clone(&self.decoder);
        let decode = move || taken.iter().map(|(partition, next, record)| decoder.decode(*partition, *next, record)).collect();
        tokio::task::spawn_blocking(decode).await.context("decode records")
    }

    /// The ids of series; `None` where those that are remembered do not count any more.
    async fn register(&mut self, unknown: Vec<headwater_core::store::NewSeries>) -> anyhow::Result<Option<HashMap<SeriesKey, Known>>> {
        if unknown.is_empty() {
            return Ok(Some(HashMap::new()));
        }
        let mut pause = Pause::new();
        loop {
            let keys = unknown.iter().map(|series| series.key.clone());
            match self.registry.register(self.deps.store.as_ref(), unknown.clone(), self.config.limits()).await {
                Ok(answers) => {
                    self.deps.health.working(COMMIT);
                    return Ok(Some(keys.zip(answers).collect()));
                }
                Err(error @ StoreError::Restored(_)) => {
                    warn!("dropped what was read: {error}");
                    return Ok(None);
                }
                // Whether it took effect does not matter: registering is insert-or-find.
                Err(error) if error.is_transient() || matches!(error, StoreError::Unknown(_)) => {
                    self.deps.health.waiting(COMMIT, format!("cannot register series: {error}"));
                    if pause.told.is_due() {
                        warn!("waiting to register {} series: {error}", unknown.len());
                    }
                }
                Err(error) => return Err(error).context("register series"),
            }
            pause.wait().await;
        }
    }

    fn start_commit(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        self.committing_oldest = pending.oldest();
        for (partition, next) in pending.ends() {
            self.owned.insert(partition, Some(next));
        }
        self.committing = Some(tokio::spawn(commit::commit(self.deps.clone(), pending)));
    }

    fn note(&mut self, outcome: &Outcome) {
        if let Outcome::Applied(Some(committed)) = outcome {
            self.over_limit = committed.open_readings >= self.config.open_readings;
        }
    }

    /// After a position was not where it should be: the store knows better, and may have gone back to an earlier state, where an id that is
    /// remembered is nobody's or another's. Every batch in hand is dropped and every id forgotten; the positions are read again, and everything
    /// is delivered from there.
    async fn start_again(&mut self, subscription: &mut dyn Subscription) -> anyhow::Result<()> {
        self.end_commit().await?;
        self.drop_in_hand();
        self.registry = Registry::default();
        self.deps.store.forget_ids();
        self.restored = false;
        let partitions: Vec<u32> = self.owned.keys().copied().collect();
        if partitions.is_empty() {
            return Ok(());
        }
        self.begin(partitions, subscription).await
    }

    /// Waits until no commit is running.
    async fn end_commit(&mut self) -> anyhow::Result<()> {
        if self.committing.is_some() {
            let outcome = joined(&mut self.committing).await?;
            self.committing = None;
            self.note(&outcome);
            self.restored |= matches!(outcome, Outcome::Fenced);
        }
        Ok(())
    }

    /// Whether records of a partition below its end are ours to commit. Before the first assignment every partition may be.
    fn is_behind(&self, bounds: &Bounds) -> bool {
        match self.owned.get(&bounds.partition) {
            Some(next) => next.unwrap_or(bounds.start) < bounds.end,
            None => self.owned.is_empty() && bounds.start < bounds.end,
        }
    }

    /// Commits what the log holds now, then ends. What does not fit the time stays in the log.
    async fn drain(mut self, subscription: &mut dyn Subscription) -> anyhow::Result<()> {
        let deadline = Instant::now() + DRAIN;
        let ends = match self.deps.log.bounds().await {
            Ok(bounds) => bounds,
            Err(error) => {
                warn!(%error, "stopping without looking at the end of the log: {error}");
                Vec::new()
            }
        };
        let never = CancellationToken::new();
        self.config.batch_ms = 0;
        while Instant::now() < deadline && !self.over_limit {
            let behind = ends.iter().any(|b| self.is_behind(b));
            if self.committing.is_none() && self.pending.is_empty() && self.backlog.is_empty() && !behind {
                break;
            }
            match tokio::time::timeout_at(deadline, self.event(subscription, &never)).await {
                Ok(event) => self.handle(event, subscription).await?,
                Err(_late) => break,
            }
        }
        if let Some(committing) = self.committing.take() {
            committing.await.context("end the last commit")??;
        }
        info!("ingest has stopped");
        Ok(())
    }
}

/// The most readings that a record can hold, as far as can be told before it is decoded.
fn most_readings(record: &StoredRecord) -> u64 {
    if record.foreign.is_some() { foreign::most_readings(record.payload.len()) } else { record.count }
}

/// Joins the group, waiting out what is transient.
async fn subscribe(deps: &Deps) -> anyhow::Result<Box<dyn Subscription>> {
    let mut pause = Pause::new();
    loop {
        match deps.log.subscribe(GROUP).await {
            Ok(subscription) => return Ok(subscription),
            Err(error) if error.is_transient() && !pause.told.is_due() => {}
            Err(error) if error.is_transient() => warn!("waiting to subscribe: {error}"),
            Err(error) => return Err(error).context("subscribe to the log"),
        }
        pause.wait().await;
    }
}

/// All stored positions, waiting out what is transient.
pub(crate) async fn positions(deps: &Deps) -> anyhow::Result<Vec<Position>> {
    let mut pause = Pause::new();
    loop {
        match deps.store.positions().await {
            Ok(positions) => {
                deps.health.working(COMMIT);
                return Ok(positions);
            }
            Err(error) if error.is_transient() => {
                deps.health.waiting(COMMIT, format!("cannot read the positions: {error}"));
                if pause.told.is_due() {
                    warn!("waiting to read the positions: {error}");
                }
            }
            Err(error) => return Err(error).context("read the positions"),
        }
        pause.wait().await;
    }
}

/// Waits for the running commit; never without one.
async fn joined(committing: &mut Option<Committing>) -> anyhow::Result<Outcome> {
    match committing {
        Some(task) => task.await.context("the commit's task")?,
        None => std::future::pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Growing pauses between attempts: 50 ms, doubled up to 5 s.
pub(crate) struct Pause {
    next: Duration,
    pub(crate) told: Told,
}

impl Pause {
    pub(crate) const fn new() -> Self {
        Self { next: Duration::from_millis(50), told: Told(None) }
    }

    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(Duration::from_secs(5));
    }
}

/// Whether a trouble that lasts has been told: at once, and then once a minute.
#[derive(Debug, Default)]
pub(crate) struct Told(Option<Instant>);

impl Told {
    /// Whether it is to be told now.
    pub(crate) fn is_due(&mut self) -> bool {
        let is_due = self.0.is_none_or(|told| told.elapsed() >= Duration::from_secs(60));
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }

    /// It is over; whether it was told.
    pub(crate) const fn is_over(&mut self) -> bool {
        self.0.take().is_some()
    }
}
