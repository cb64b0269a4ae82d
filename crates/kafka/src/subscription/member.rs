//! Reading as a member of a group: the thread that polls librdkafka, and the callback in which partitions come and go.
//!
//! Owns: every call on the consumer. Does not know: positions and their checks (they come compared), the runtime.
//!
//! The callback blocks: in ASSIGN until the reader has resumed, so that fetching begins at exact places; in REVOKE until the reader
//! has released, so that its running commit ends before another begins. Both end after [`CALLBACK_WAIT`], far below
//! `max.poll.interval.ms`: a partition that was not resumed by then is assigned without being fetched, and begins when it is.
//! Partitions that are lost already (the session has timed out) are not waited for: somebody else may have them.
//!
//! Two things that librdkafka does make a partition fall silent without a word: pausing throws away the error that its place is gone
//! if that is still queued, and a topic that is made again quickly enough gives none. So a partition goes on by a seek to the place
//! where it stands, and one that does not move for [`STILL`] is looked at.
//!
//! Invariants: polling never stops for long, whatever the reader does, so that a store that is down for minutes costs no
//! membership: a full inbox pauses the partitions instead. Nothing of a partition is put in before it was begun.

use super::inbox::{Inbox, Taken};
use crate::clients::Clients;
use crate::context::Words;
use crate::{error, record};
use headwater_core::log::{LogError, StoredRecord};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tracing::{debug, info};

/// The longest that the callback waits for the reader.
const CALLBACK_WAIT: Duration = Duration::from_secs(45);
/// How long one poll waits for a message: also how long a command may lie.
const POLL: Duration = Duration::from_millis(20);
/// How long a seek may wait for the running fetch.
const SEEK_WAIT: Duration = Duration::from_secs(5);
/// After how long without a record a partition is looked at: longer than a fetch takes on a slow network.
const STILL: Duration = Duration::from_secs(15);
/// How long after offsets could not be written it is tried again.
const COMMIT_AGAIN: Duration = Duration::from_secs(1);

/// What the reader wants of the thread.
pub(crate) enum Command {
    /// Begin these partitions at these places. Those that are not ours are left out.
    Resume {
        /// By partition, the number of the first record.
        starts: Vec<(u32, u64)>,
        /// Told when nothing of an earlier place can come any more.
        done: oneshot::Sender<Result<(), LogError>>,
    },
    /// These are free.
    Released(Vec<u32>),
    /// Go on at these places, where they are still the ones that were looked at.
    Restart(Vec<(u32, u64)>),
    /// Take these back and give them anew, where they still stand there.
    Hold(Vec<(u32, u64)>),
    /// Write these offsets of the group, where the partition is ours.
    Commit(Vec<(u32, u64)>),
    /// Leave.
    Stop,
}

/// The context of the consumer: what the callback needs.
pub(super) struct Member {
    clients: Arc<Clients>,
    inbox: Arc<Inbox>,
    words: Words,
    /// Taken by the polling thread alone.
    commands: Mutex<Receiver<Command>>,
    /// Mirrors librdkafka, which keeps a partition paused over assignments.
    paused: Mutex<BTreeSet<u32>>,
    full: AtomicBool,
    stopping: AtomicBool,
    offsets: Mutex<Offsets>,
}

/// The group's offsets that are to be written, for lag gauges.
#[derive(Default)]
struct Offsets {
    wanted: BTreeMap<u32, u64>,
    failed_at: Option<Instant>,
}

/// Joins and starts the thread. `ended` is dropped when it has left.
pub(super) fn start(
    config: &ClientConfig,
    clients: &Arc<Clients>,
    inbox: Arc<Inbox>,
    commands: Receiver<Command>,
    ended: oneshot::Sender<()>,
) -> Result<(), LogError> {
    let member = Member {
        clients: Arc::clone(clients),
        inbox,
        words: Words::default(),
        commands: Mutex::new(commands),
        paused: Mutex::default(),
        full: AtomicBool::new(false),
        stopping: AtomicBool::new(false),
        offsets: Mutex::default(),
    };
    let doing = format!("subscribe to topic {}", clients.topic);
    let consumer: BaseConsumer<Member> =
        config.create_with_context(member).map_err(|failure| LogError::Corrupt(format!("{doing}: {failure}")))?;
    consumer.subscribe(&[&clients.topic]).map_err(|failure| error::of(&doing, &failure))?;
    let started = std::thread::Builder::new().name("kafka-reader".to_owned()).spawn(move || run(consumer, ended));
    started.map(drop).map_err(|failure| LogError::Unavailable(format!("{doing}: start a thread: {failure}")))
}

/// Tells the reader that nobody polls any more, however the thread ends.
struct End(Arc<Inbox>, Option<oneshot::Sender<()>>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.fail(LogError::Stopped("the reader's thread has ended".to_owned()));
        drop(self.1.take());
    }
}

fn run(consumer: BaseConsumer<Member>, ended: oneshot::Sender<()>) {
    let member = Arc::clone(consumer.context());
    // Declared first, so dropped last: when the group is left.
    let _end = End(Arc::clone(&member.inbox), Some(ended));
    let consumer = consumer;
    let mut looked_at = Instant::now();
    while !member.is_stopping() {
        while let Some(command) = member.command(Duration::ZERO) {
            member.obey(&consumer, command);
        }
        member.regulate(&consumer);
        member.commit_again(&consumer);
        if looked_at.elapsed() > STILL {
            looked_at = Instant::now();
            member.inbox.look_for_still_ones();
        }
        match consumer.poll(POLL) {
            Some(Ok(message)) => member.take_in(&consumer, &message),
            Some(Err(failure)) => member.failed(&failure),
            None => {}
        }
    }
    debug!("leaving the group of topic {}", member.clients.topic);
}

impl Member {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The next command, waited for as long as `wait`. A reader that is gone wants the thread to stop.
    fn command(&self, wait: Duration) -> Option<Command> {
        if self.is_stopping() {
            return None;
        }
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        match commands.recv_timeout(wait) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Command::Stop),
        }
    }

    fn obey(&self, consumer: &BaseConsumer<Self>, command: Command) {
        match command {
            Command::Resume { starts, done } => {
                // A caller that does not wait any more will ask again.
                drop(done.send(self.begin(consumer, &starts)));
            }
            Command::Released(partitions) => self.inbox.released(&partitions),
            Command::Restart(places) => {
                let standing: Vec<_> = places.into_iter().filter(|(p, at)| self.inbox.place(*p) == Some(*at)).collect();
                self.fetch_again(consumer, &standing);
            }
            Command::Hold(places) => {
                for (partition, at) in places {
                    info!(partition, at, "the log begins behind record {at} of partition {partition} now: resuming it");
                    self.inbox.hold(partition, at);
                }
            }
            Command::Commit(applied) => self.commit(consumer, &applied),
            Command::Stop => self.stopping.store(true, Ordering::Relaxed),
        }
    }

    /// Obeys until `enough` holds, or the time is over.
    fn obey_until(&self, consumer: &BaseConsumer<Self>, wait: Duration, enough: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + wait;
        while !enough() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_stopping() {
                return false;
            }
            if let Some(command) = self.command(left) {
                self.obey(consumer, command);
            }
        }
        true
    }

    /// Begins partitions at places. Those that are fetched already are moved there; the others are by the callback.
    fn begin(&self, consumer: &BaseConsumer<Self>, starts: &[(u32, u64)]) -> Result<(), LogError> {
        let attached: Vec<_> = starts.iter().copied().filter(|(p, at)| self.inbox.begin(*p, *at) == Some(true)).collect();
        let moved = self.go_to(consumer, &attached);
        if moved.is_err() {
            attached.iter().for_each(|(partition, _)| self.inbox.stop(*partition));
        }
        moved.map_err(|failure| error::of(&format!("go to the stored positions of topic {}", self.clients.topic), &failure))
    }

    /// Fetches again where partitions stand. What is queued of them stays: it lies before.
    fn fetch_again(&self, consumer: &BaseConsumer<Self>, places: &[(u32, u64)]) {
        let partitions: Vec<u32> = places.iter().map(|(partition, _)| *partition).collect();
        self.inbox.freshen(&partitions);
        if !self.said(self.go_to(consumer, places), "go on with") {
            self.inbox.suspect();
        }
    }

    /// Seeks. A partition that librdkafka has stopped (it does when an offset is out of range), or not started yet, cannot seek; it
    /// is unassigned and assigned again, which the group does not see.
    fn go_to(&self, consumer: &BaseConsumer<Self>, places: &[(u32, u64)]) -> KafkaResult<()> {
        if places.is_empty() {
            return Ok(());
        }
        let stuck = match consumer.seek_partitions(self.list(places)?, SEEK_WAIT) {
            Ok(sought) => sought.elements().iter().filter(|e| e.error().is_err()).map(|e| e.partition() as u32).collect(),
            Err(_) => places.iter().map(|(partition, _)| *partition).collect::<Vec<_>>(),
        };
        let stuck: Vec<_> = places.iter().copied().filter(|(partition, _)| stuck.contains(partition)).collect();
        if stuck.is_empty() {
            return Ok(());
        }
        debug!(?stuck, "assigning partitions again");
        let list = self.list(&stuck)?;
        consumer.incremental_unassign(&list)?;
        consumer.incremental_assign(&list)
    }

    fn list(&self, places: &[(u32, u64)]) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(places.len());
        for &(partition, at) in places {
            let offset = Offset::Offset(i64::try_from(at).unwrap_or(i64::MAX));
            list.add_partition_offset(&self.clients.topic, partition as i32, offset)?;
        }
        Ok(list)
    }

    /// Pauses what must not be fetched, and lets the rest go on.
    fn regulate(&self, consumer: &BaseConsumer<Self>) {
        let (full, partitions) = self.inbox.flow(self.full.load(Ordering::Relaxed));
        self.full.store(full, Ordering::Relaxed);
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut to_pause, mut to_go_on) = (Vec::new(), Vec::new());
        for (partition, may_flow) in partitions {
            match (may_flow, paused.contains(&partition)) {
                (false, false) => to_pause.push(partition),
                (true, true) => to_go_on.push(partition),
                _ => {}
            }
        }
        if !to_pause.is_empty() && self.said(consumer.pause(&self.partitions(&to_pause)), "pause") {
            paused.extend(to_pause);
        }
        let places: Vec<_> = to_go_on.iter().filter_map(|partition| Some((*partition, self.inbox.place(*partition)?))).collect();
        let go_on = || self.go_to(consumer, &places).and_then(|()| consumer.resume(&self.partitions(&to_go_on)));
        if !to_go_on.is_empty() && self.said(go_on(), "go on with") {
            paused.retain(|partition| !to_go_on.contains(partition));
            self.inbox.freshen(&to_go_on);
        }
    }

    fn partitions(&self, partitions: &[u32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for &partition in partitions {
            list.add_partition(&self.clients.topic, partition as i32);
        }
        list
    }

    fn said(&self, done: KafkaResult<()>, what: &str) -> bool {
        if let Err(failure) = &done {
            self.words.warn(what, &format!("cannot {what} partitions of topic {}: {failure}", self.clients.topic));
        }
        done.is_ok()
    }

    fn take_in(&self, consumer: &BaseConsumer<Self>, message: &BorrowedMessage<'_>) {
        let partition = message.partition() as u32;
        if let Taken::Skips { expected, record } = self.inbox.take_in(partition, record::stored(message), false) {
            self.prove(consumer, partition, expected, record);
        }
    }

    /// Records behind the expected number right after a start are only taken when nothing lies between: librdkafka has lost its
    /// place before, around pauses and seeks (its issue 3567), and a hole in the log looks the same.
    fn prove(&self, consumer: &BaseConsumer<Self>, partition: u32, expected: u64, record: StoredRecord) {
        let next = record.position;
        let is_hole = self.clients.read_back.first(partition, expected).map(|first| first.is_none_or(|first| first.position >= next));
        if let Ok(true) = is_hole {
            self.inbox.take_in(partition, record, true);
            return;
        }
        let words = format!("record {next} of partition {partition} came instead of {expected}: going back");
        self.words.warn("skipped", &words);
        self.fetch_again(consumer, &[(partition, expected)]);
    }

    /// Most errors of a consumer heal by polling on.
    fn failed(&self, failure: &KafkaError) {
        let doing = || format!("read topic {}", self.clients.topic);
        let code = failure.rdkafka_error_code();
        if matches!(failure, KafkaError::MessageConsumptionFatal(_)) || code.is_some_and(error::is_about_membership) {
            let hint = match code {
                Some(Code::FencedInstanceId) => "; another process has the same log.group_instance_id",
                Some(Code::InvalidSessionTimeout) => "; the brokers' group.min.session.timeout.ms and .max allow other session times",
                _ => "",
            };
            self.inbox.fail(LogError::Stopped(format!("{}: {failure}{hint}", doing())));
        } else if code.is_some_and(error::is_about_the_topic) {
            self.inbox.suspect();
        } else if code.is_some_and(error::is_about_rights) {
            self.inbox.trouble(error::of(&doing(), failure));
        }
        self.words.warn(&format!("{code:?}"), &format!("{}: {failure}", doing()));
    }

    fn offsets(&self) -> MutexGuard<'_, Offsets> {
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(&self, consumer: &BaseConsumer<Self>, applied: &[(u32, u64)]) {
        let mut offsets = self.offsets();
        offsets.wanted.extend(applied.iter().copied().filter(|(partition, _)| self.inbox.place(*partition).is_some()));
        let wanted: Vec<_> = offsets.wanted.iter().map(|(partition, next)| (*partition, *next)).collect();
        if !wanted.is_empty()
            && let Err(failure) = self.list(&wanted).and_then(|list| consumer.commit(&list, CommitMode::Async))
        {
            debug!(%failure, "cannot write the group's offsets of topic {}: {failure}", self.clients.topic);
            offsets.failed_at = Some(Instant::now());
        }
    }

    /// Nothing but lag gauges reads the offsets, but these should come to rest at the right ones.
    fn commit_again(&self, consumer: &BaseConsumer<Self>) {
        let is_due = self.offsets().failed_at.take_if(|at| at.elapsed() > COMMIT_AGAIN).is_some();
        if is_due {
            self.commit(consumer, &[]);
        }
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) -> KafkaResult<()> {
        let partitions = partitions_of(list);
        if !partitions.is_empty() && !self.is_stopping() {
            debug!(?partitions, "assigned partitions {partitions:?} of topic {}", self.clients.topic);
            self.inbox.assigned(&partitions);
            let resumed = || partitions.iter().all(|partition| self.inbox.place(*partition).is_some());
            if !self.obey_until(consumer, CALLBACK_WAIT, resumed) && !self.is_stopping() {
                let words = format!("partitions {partitions:?} were not resumed within {} s; they wait", CALLBACK_WAIT.as_secs());
                self.words.warn("not resumed", &words);
            }
        }
        for &partition in &partitions {
            // What was not resumed is paused before anything is fetched, and what came anyway would be dropped.
            let at = self.inbox.place(partition).map_or(Offset::End, |at| Offset::Offset(i64::try_from(at).unwrap_or(i64::MAX)));
            list.set_partition_offset(&self.clients.topic, partition as i32, at)?;
        }
        consumer.incremental_assign(list)?;
        partitions.iter().for_each(|partition| self.inbox.attach(*partition));
        self.regulate(consumer);
        Ok(())
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> KafkaResult<()> {
        let partitions = partitions_of(list);
        let is_lost = consumer.assignment_lost();
        if !partitions.is_empty() && !self.is_stopping() {
            debug!(?partitions, is_lost, "giving up partitions {partitions:?} of topic {}", self.clients.topic);
            self.inbox.revoked(&partitions);
            self.offsets().wanted.retain(|partition, _| !partitions.contains(partition));
            let wait = if is_lost { Duration::ZERO } else { CALLBACK_WAIT };
            if !self.obey_until(consumer, wait, || self.inbox.none_unreleased()) && !is_lost && !self.is_stopping() {
                let words = format!("partitions {partitions:?} were not released within {} s", CALLBACK_WAIT.as_secs());
                self.words.warn("not released", &words);
            }
            self.inbox.give_up_waiting();
        }
        consumer.incremental_unassign(list)
    }
}

fn partitions_of(list: &TopicPartitionList) -> Vec<u32> {
    list.elements().iter().filter_map(|element| u32::try_from(element.partition()).ok()).collect()
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.words.log(level, facility, message);
    }

    /// The same errors come out of `poll`.
    fn error(&self, error: KafkaError, reason: &str) {
        debug!("librdkafka: {error}: {reason}");
    }
}

impl ConsumerContext for Member {
    /// Replaces the default, which would begin at the group's offsets.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let done = match kind {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, list),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => self.revoke(consumer, list),
            _ => consumer.unassign(),
        };
        if let Err(failure) = done.or_else(|failure| if self.is_stopping() { Ok(()) } else { Err(failure) }) {
            // The group and librdkafka disagree on who has what; joining anew is all that helps.
            self.inbox.fail(LogError::Stopped(format!("take over partitions of topic {}: {failure}", self.clients.topic)));
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(failure) = result {
            debug!(%failure, "the group's offsets of topic {} were not written: {failure}", self.clients.topic);
            self.offsets().failed_at = Some(Instant::now());
        }
    }
}
