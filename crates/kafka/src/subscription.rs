//! Reading as a member of a group: the half that the reader calls.
//!
//! Owns: [`start`], [`KafkaSubscription`]. Does not know: librdkafka's calls (`member` makes them, on its own thread), stores.
//!
//! ```text
//!   reader's task                                   thread "kafka-reader"
//!   next ◀── Inbox: events, then records ◀───────── poll: records; rebalance callback: Assigned, Revoked
//!   resume: ask the cluster, compare ── Command ──▶ in the callback: where to begin; at other times: seek
//!   released ───────────────────────── Command ──▶ ends the callback's waiting
//! ```
//!
//! # Records of another topic of the same name
//!
//! Where a topic is deleted and made again within a moment, Kafka goes on with the new one at the old place, and nothing in a record
//! says of which it is. So a record is delivered only when the topic was still the one that was opened *after* the record had
//! come ([`vouch`]): an id never comes back. That the broker that is asked knows of the new topic is all that this relies on; among
//! several brokers one may learn of it a moment later than the one that is read from.
//!
//! # A partition whose records are gone
//!
//! When Kafka says that an offset is out of range (or does not know the topic), it does not say of which partition, and a partition
//! that it concerns falls silent; sometimes it says nothing (`member`). So all of them are looked at: another topic id is
//! [`LogError::Corrupt`], naming both; so is an end before our place. Where retention has overtaken a partition, the seam has one way
//! to record the gap exactly, `resume` with the stored position; so the partition is delivered as `Revoked` and then `Assigned`
//! again, while the group knows nothing of it.
//!
//! Invariants: `next` takes something only when it returns; nothing of a partition is delivered between `Assigned` and `resume`;
//! a position is compared with the log before anything is fetched from there; no record of another topic is delivered.

mod inbox;
mod member;

use crate::clients::{Clients, ask};
use crate::log::Shared;
use headwater_core::BoxFuture;
use headwater_core::log::{Bounds, Delivery, Gap, LogError, Position, Subscription};
use inbox::Inbox;
pub(crate) use member::Command;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tracing::debug;

/// How long the thread may take to begin at other places: a seek and what it waits for.
const RESUME_WAIT: Duration = Duration::from_secs(30);
/// How long after an offset was out of range the partitions are looked at: several are usually told of at once.
const INSPECT_PAUSE: Duration = Duration::from_millis(200);
/// How long after a look that failed.
const INSPECT_AGAIN: Duration = Duration::from_secs(1);

/// How often the topic is asked for its id while records arrive: each answer vouches for all that had arrived.
const VOUCH_PAUSE: Duration = Duration::from_millis(20);

type Inspection = JoinHandle<Result<Vec<Verdict>, LogError>>;

/// One reader's end.
pub(crate) struct KafkaSubscription {
    log: Arc<Shared>,
    inbox: Arc<Inbox>,
    commands: Sender<Command>,
    left: Option<oneshot::Receiver<()>>,
    over: watch::Receiver<Option<LogError>>,
    inspection: Option<Inspection>,
    vouching: JoinHandle<()>,
}

/// What a look at a partition that may have fallen silent says; `at` is where it stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It has been read to the end.
    AtEnd,
    /// Its place exists, and records behind it: go on there.
    GoOn { partition: u32, at: u64 },
    /// Its place is gone: the reader has to resume.
    Overtaken { partition: u32, at: u64 },
}

/// Joins a group. Partitions come as deliveries.
pub(crate) async fn start(log: &Arc<Shared>, group: String) -> Result<KafkaSubscription, LogError> {
    let inbox = Inbox::new(log.buffer_bytes);
    let (commands, receiver) = channel();
    let (ended, left) = oneshot::channel();
    let (config, clients, shared_inbox) = (log.settings.member(&group), Arc::clone(&log.clients), Arc::clone(&inbox));
    let joined = move || member::start(&config, &clients, shared_inbox, receiver, ended);
    let joined = tokio::task::spawn_blocking(joined).await;
    joined.unwrap_or_else(|_| Err(LogError::Stopped(format!("joining group {group} has panicked"))))?;
    let over = log.status.over();
    let vouching = tokio::spawn(vouch(Arc::clone(log), Arc::clone(&inbox)));
    Ok(KafkaSubscription { log: Arc::clone(log), inbox, commands, left: Some(left), over, inspection: None, vouching })
}

impl KafkaSubscription {
    /// Where its thread takes commands.
    pub(crate) fn commands(&self) -> Sender<Command> {
        self.commands.clone()
    }

    fn command(&self, command: Command) -> Result<(), LogError> {
        self.commands.send(command).map_err(|_| LogError::Stopped("the reader's thread has ended".to_owned()))
    }

    async fn next_delivery(&mut self) -> Result<Delivery, LogError> {
        loop {
            self.log.status.check()?;
            if let Some(delivery) = self.inbox.take()? {
                return Ok(delivery);
            }
            if self.inspection.is_none() && self.inbox.is_suspect() {
                self.inspection = Some(tokio::spawn(inspect(Arc::clone(&self.log), Arc::clone(&self.inbox))));
            }
            tokio::select! {
                () = self.inbox.news() => {}
                _ = self.over.changed() => {}
                verdicts = inspected(&mut self.inspection) => {
                    self.inspection = None;
                    self.apply(verdicts)?;
                }
            }
        }
    }

    fn apply(&self, verdicts: Result<Vec<Verdict>, LogError>) -> Result<(), LogError> {
        let verdicts = verdicts.inspect_err(|failure| self.log.status.note(failure))?;
        let (mut go_on, mut overtaken) = (Vec::new(), Vec::new());
        for verdict in verdicts {
            match verdict {
                Verdict::AtEnd => {}
                Verdict::GoOn { partition, at } => go_on.push((partition, at)),
                Verdict::Overtaken { partition, at } => overtaken.push((partition, at)),
            }
        }
        self.command(Command::Restart(go_on))?;
        self.command(Command::Hold(overtaken))
    }

    async fn resume_from(&mut self, positions: Vec<(u32, Option<Position>)>) -> Result<Vec<Gap>, LogError> {
        self.log.status.check()?;
        let id = self.log.status.id.clone();
        let checked = ask(Arc::clone(&self.log.clients), move |clients| clients.check(&id, &positions)).await?;
        let (done, answer) = oneshot::channel();
        self.command(Command::Resume { starts: checked.starts, done })?;
        match tokio::time::timeout(RESUME_WAIT, answer).await {
            Ok(Ok(begun)) => begun.map(|()| checked.gaps),
            Ok(Err(_)) => Err(LogError::Stopped("the reader's thread has ended".to_owned())),
            Err(_late) => Err(LogError::Unavailable("the reader's thread is busy".to_owned())),
        }
    }
}

impl Subscription for KafkaSubscription {
    fn next(&mut self) -> BoxFuture<'_, Result<Delivery, LogError>> {
        Box::pin(self.next_delivery())
    }

    fn resume(&mut self, positions: Vec<(u32, Option<Position>)>) -> BoxFuture<'_, Result<Vec<Gap>, LogError>> {
        Box::pin(self.resume_from(positions))
    }

    fn released(&mut self, partitions: &[u32]) -> BoxFuture<'_, Result<(), LogError>> {
        let sent = self.command(Command::Released(partitions.to_vec()));
        Box::pin(async { sent })
    }
}

/// Leaves the group: the thread does, in the background. A static member (`group_instance_id`) stays in it until the session times
/// out, as is its point.
impl Drop for KafkaSubscription {
    fn drop(&mut self) {
        if let Some(inspection) = self.inspection.take() {
            inspection.abort();
        }
        self.vouching.abort();
        if self.command(Command::Stop).is_ok()
            && let Some(left) = self.left.take()
        {
            self.log.leaving(left);
        }
    }
}

/// Waits for a running look; never without one.
async fn inspected(inspection: &mut Option<Inspection>) -> Result<Vec<Verdict>, LogError> {
    match inspection {
        Some(running) => running.await.unwrap_or_else(|_| Err(LogError::Stopped("looking at the partitions has panicked".to_owned()))),
        None => std::future::pending().await,
    }
}

/// Lets records through to the reader while the topic is the one that was opened; ends when it is another.
async fn vouch(log: Arc<Shared>, inbox: Arc<Inbox>) {
    loop {
        let (arrived, id) = (inbox.arrived().await, log.status.id.clone());
        match ask(Arc::clone(&log.clients), move |clients| clients.check_identity(&id)).await {
            Ok(()) => inbox.vouched(arrived),
            Err(failure) if failure.is_transient() => {
                debug!(%failure, "records wait: {failure}");
                tokio::time::sleep(INSPECT_AGAIN).await;
            }
            Err(failure) => {
                log.status.note(&failure);
                return inbox.fail(failure);
            }
        }
        tokio::time::sleep(VOUCH_PAUSE).await;
    }
}

/// Looks at every partition until an answer is there.
async fn inspect(log: Arc<Shared>, inbox: Arc<Inbox>) -> Result<Vec<Verdict>, LogError> {
    tokio::time::sleep(INSPECT_PAUSE).await;
    loop {
        inbox.inspecting();
        let (id, places) = (log.status.id.clone(), inbox.places());
        let looked = ask(Arc::clone(&log.clients), move |clients| {
            clients.check_identity(&id)?;
            places.into_iter().map(|(partition, at)| look(clients, partition, at)).collect()
        });
        match looked.await {
            Err(failure) if failure.is_transient() => debug!(%failure, "cannot look at the partitions yet: {failure}"),
            decided => return decided,
        }
        tokio::time::sleep(INSPECT_AGAIN).await;
    }
}

fn look(clients: &Clients, partition: u32, at: u64) -> Result<Verdict, LogError> {
    judge(clients.bounds_of(partition)?, at, &clients.topic)
}

fn judge(bounds: Bounds, at: u64, topic: &str) -> Result<Verdict, LogError> {
    let Bounds { partition, start, end } = bounds;
    if at > end {
        return Err(LogError::Corrupt(format!(
            "partition {partition} of topic {topic} was read to {at} and ends at {end} now: the log has lost records"
        )));
    }
    Ok(match at {
        _ if at < start => Verdict::Overtaken { partition, at },
        _ if at == end => Verdict::AtEnd,
        _ => Verdict::GoOn { partition, at },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_gone_only_where_the_log_begins_behind_it() {
        let bounds = Bounds { partition: 1, start: 10, end: 20 };
        assert_eq!(judge(bounds, 9, "t").unwrap(), Verdict::Overtaken { partition: 1, at: 9 });
        for at in [10, 19] {
            assert_eq!(judge(bounds, at, "t").unwrap(), Verdict::GoOn { partition: 1, at });
        }
        assert_eq!(judge(bounds, 20, "t").unwrap(), Verdict::AtEnd);
        let words = judge(bounds, 21, "t").unwrap_err().to_string();
        assert!(words.contains("21") && words.contains("20"), "{words}");
    }
}
