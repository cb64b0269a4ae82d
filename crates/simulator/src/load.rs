//! Sends what a fleet has to say, each request at its time, whatever the server does.
//!
//! Owns: the open loop, what is sent again and when, what an answer means. Does not know: how tokens are made, what is told to
//! a person.
//!
//! Invariants: a request that is due does not wait for the ones before it, except that at most `in_flight` are under way; then
//! it waits, and its latency counts from the instant at which it was due. A request is sent again with the same bytes until it
//! has an answer that is final. Timers are as fine as a millisecond, and that much a latency may be too long.

mod deliver;

use crate::encode::Format;
use crate::faults::Faults;
use crate::fleet::Fleet;
use crate::http::{Answer, Connection, Target};
use crate::journal::{Journal, Run};
use crate::report::{Progress, Report};
use crate::stream::{Batch, Stream};
use anyhow::Context;
use bytes::Bytes;
use deliver::Delivery;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What is to be sent, and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who measures.
    pub fleet: Fleet,
    /// What goes wrong.
    pub faults: Faults,
    /// How readings are written.
    pub format: Format,
    /// Readings to a request (fewer where fewer are due within a second).
    pub batch: usize,
    /// Requests that are under way at most.
    pub in_flight: usize,
    /// How long to send; `None` = until told to stop.
    pub duration: Option<Duration>,
    /// How long to wait for the last answers.
    pub patience: Duration,
    /// Where to write down what is sent.
    pub journal: Option<PathBuf>,
}

impl Config {
    /// A fleet's readings as JSON without a fault, until told to stop.
    pub fn new(fleet: Fleet) -> Self {
        Self {
            fleet,
            faults: Faults::NONE,
            format: Format::Json,
            batch: 100,
            in_flight: 64,
            duration: None,
            patience: Duration::from_secs(30),
            journal: None,
        }
    }

    /// Looks at whether it can be done.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn validate(&self) -> Result<(), String> {
        self.fleet.validate()?;
        if self.batch == 0 || self.batch > 20_000 {
            return Err(format!("a request has 1 to 20000 readings, not {}", self.batch));
        }
        if self.in_flight == 0 {
            return Err("with no request under way nothing is sent".to_owned());
        }
        Ok(())
    }
}

/// Gives the value of `Authorization`, a fresh one when the last grows old.
pub type Bearer = Arc<dyn Fn() -> anyhow::Result<String> + Send + Sync>;

/// What sending needs.
#[derive(Clone)]
pub struct Deps {
    /// Where to.
    pub target: Target,
    /// As whom.
    pub bearer: Bearer,
    /// Where to count.
    pub progress: Arc<Progress>,
}

/// What all deliveries share.
struct Shared {
    config: Config,
    deps: Deps,
    journal: Option<Mutex<Journal>>,
    /// Connections that wait for work.
    idle: Mutex<Vec<Connection>>,
    began: Instant,
    /// Cancelled when nothing is to be waited for any more.
    give_up: CancellationToken,
    /// Why everything has to end.
    fatal: Mutex<Option<anyhow::Error>>,
}

/// Sends until the duration is over or `stop` is cancelled, then waits for the last answers.
///
/// # Errors
/// A configuration that cannot be used, a journal that cannot be written, a server that will never take such requests (401,
/// 403, 404 and the like).
pub async fn run(config: Config, deps: Deps, stop: CancellationToken) -> anyhow::Result<Report> {
    config.validate().map_err(anyhow::Error::msg)?;
    let of = Run { fleet: config.fleet, faults: config.faults, format: config.format };
    let journal = config.journal.as_ref().map(|path| Journal::open(path, &of)).transpose()?.map(Mutex::new);
    let shared = Arc::new(Shared {
        config,
        deps,
        journal,
        idle: Mutex::default(),
        began: Instant::now(),
        give_up: CancellationToken::new(),
        fatal: Mutex::default(),
    });
    let tasks = TaskTracker::new();
    let sent = offer(&shared, &tasks, &stop).await;
    tasks.close();
    if sent.is_err() || timeout(shared.config.patience, tasks.wait()).await.is_err() {
        shared.give_up.cancel();
        tasks.wait().await;
    }
    sent?;
    if let Some(why) = lock(&shared.fatal).take() {
        return Err(why);
    }
    Ok(shared.deps.progress.report(shared.began.elapsed(), shared.config.fleet.rate()))
}

/// The open loop.
async fn offer(shared: &Arc<Shared>, tasks: &TaskTracker, stop: &CancellationToken) -> anyhow::Result<()> {
    let config = &shared.config;
    let mut stream = Stream::new(config.fleet, config.faults, config.batch);
    let room = Arc::new(Semaphore::new(config.in_flight));
    let until = config.duration.map_or(i64::MAX, |duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX));
    loop {
        let batch = stream.next_batch();
        if batch.due > until {
            break;
        }
        if !send(shared, tasks, &room, stop, batch).await? {
            return Ok(());
        }
    }
    for batch in stream.rest(until) {
        if !send(shared, tasks, &room, stop, batch).await? {
            break;
        }
    }
    Ok(())
}

/// Waits until a batch is due and there is room for it; `false` when it is not to be sent any more.
async fn send(
    shared: &Arc<Shared>,
    tasks: &TaskTracker,
    room: &Arc<Semaphore>,
    stop: &CancellationToken,
    batch: Batch,
) -> anyhow::Result<bool> {
    let due = shared.began + Duration::from_micros(batch.due.max(0).cast_unsigned());
    let turn = async {
        if due > Instant::now() {
            sleep_until(due).await;
        }
        Arc::clone(room).acquire_owned().await
    };
    let permit = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(false),
        () = shared.give_up.cancelled() => return Ok(false),
        permit = turn => permit.context("wait for room")?,
    };
    let body = Bytes::from(shared.config.format.encode(&shared.config.fleet, &batch.readings));
    shared.note(|journal| journal.intend(&shared.config.fleet, &batch))?;
    shared.deps.progress.begun(&batch);
    let delivery = Delivery { shared: Arc::clone(shared), batch, body, due };
    tasks.spawn(async move {
        delivery.run().await;
        drop(permit);
    });
    Ok(true)
}

impl Shared {
    fn note(&self, write: impl FnOnce(&mut Journal) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.journal.as_ref().map_or(Ok(()), |journal| write(&mut lock(journal)))
    }

    /// Ends everything.
    fn fail(&self, why: anyhow::Error) {
        lock(&self.fatal).get_or_insert(why);
        self.give_up.cancel();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Taken: so many readings accepted, so many rejected.
    Taken(u64, u64),
    /// To be sent again after a while.
    Again(Duration),
    /// Refused as a whole, with why.
    Refused(String),
    /// No request like this will ever be taken.
    Never(String),
}

/// How long to wait where a server does not say.
const A_WHILE: Duration = Duration::from_secs(1);
const LONGEST_WHILE: Duration = Duration::from_secs(60);

/// Reads an answer to a body of so many good and bad readings.
pub(crate) fn verdict(format: Format, answer: &Answer, good: u64, bad: u64) -> Verdict {
    let said = || String::from_utf8_lossy(&answer.body[..answer.body.len().min(300)]).into_owned();
    match (answer.status, format) {
        (204, Format::Line) => Verdict::Taken(good + bad, 0),
        (200 | 422, Format::Json) => {
            let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            match (told["accepted"].as_u64(), told["rejected"].as_u64()) {
                (Some(accepted), Some(rejected)) => Verdict::Taken(accepted, rejected),
                _ => Verdict::Refused(format!("{}: {}", answer.status, said())),
            }
        }
        (400 | 422, Format::Line) => match partial(&answer.body) {
            Some((accepted, rejected)) => Verdict::Taken(accepted, rejected),
            None => Verdict::Refused(format!("{}: {}", answer.status, said())),
        },
        (408 | 429 | 500..=599, _) => Verdict::Again(answer.retry_after.map_or(A_WHILE, Duration::from_secs).min(LONGEST_WHILE)),
        (400 | 413, _) => Verdict::Refused(format!("{}: {}", answer.status, said())),
        _ => Verdict::Never(format!("the server answered {}: {}", answer.status, said())),
    }
}

/// `partial write: accepted N, rejected M: …`, in whichever envelope.
fn partial(body: &[u8]) -> Option<(u64, u64)> {
    let text = String::from_utf8_lossy(body);
    let rest = text.split_once("partial write: accepted ")?.1;
    let (accepted, rest) = rest.split_once(", rejected ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((accepted.parse().ok()?, rest[..digits].parse().ok()?))
}
