//! A log with one fault, and the property that must notice it.

use crate::event_log::{self, LogHarness};
use crate::{MemoryLog, run};
use headwater_core::BoxFuture;
use headwater_core::log::{Bounds, Delivery, EventLog, Gap, LogError, LogId, Position, Record, StoredRecord, Subscription};
use headwater_core::time::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    AppendsTwice,
    ReversesCalls,
    CutsPayloads,
    CountsCrcWrongly,
    LeavesHolesInNumbers,
    EndLags,
    OldestIsTheFirst,
    TellsALaterTime,
    PartitionOfNone,
    SkipsOnResume,
    KeepsPlaceOnResume,
    DeliversBeforeResume,
    LosesDroppedNext,
    CallsTheStartAGap,
    SwallowsGaps,
    TakesAnyPosition,
    RefusesWithoutNames,
    TrimsOneFurther,
    TrimsBackwards,
    ForgetsOnRestart,
    OneIdentityForAll,
}

macro_rules! notices {
    ($($test:ident: $bug:ident, $property:ident, $words:literal;)*) => {$(
        #[test]
        #[should_panic(expected = $words)]
        fn $test() {
            run(async { event_log::$property(&mut Harness { log: MemoryLog::new(1), bug: Bug::$bug, opened: 0 }).await });
        }
    )*};
}

notices! {
    a_log_that_appends_twice: AppendsTwice, records_appended_from_many_tasks_are_there_once_and_in_each_callers_order, "of caller 0";
    a_log_that_reverses_a_call: ReversesCalls, records_of_one_call_keep_their_order, "left == right";
    a_log_that_cuts_payloads: CutsPayloads, a_record_of_the_greatest_size_goes_through, "the bytes come back as they were";
    a_log_that_counts_crcs_wrongly: CountsCrcWrongly, an_acknowledged_record_is_read_back_as_it_was_appended, "the crc is CRC-32";
    a_log_with_holes_in_its_numbers: LeavesHolesInNumbers, numbering_is_dense_from_0, "left == right";
    a_log_whose_end_lags: EndLags, the_end_covers_every_append_that_has_returned, "left == right";
    a_log_that_takes_the_first_time_for_the_oldest: OldestIsTheFirst, the_oldest_time_is_not_later_than_any_record_from_there_on, "is later than";
    a_log_that_tells_the_time_of_a_later_record: TellsALaterTime, the_receive_time_of_a_record_is_told_while_it_is_kept, "what is not kept any more";
    a_log_that_sends_devices_nowhere: PartitionOfNone, a_device_keeps_its_partition, "partitions of devices have bounds";
    a_log_that_skips_on_resume: SkipsOnResume, resume_redelivers_every_record_from_a_position, "left == right";
    a_log_that_keeps_its_place_on_resume: KeepsPlaceOnResume, resume_may_skip_forward_while_reading, "is delivered without holes";
    a_log_that_does_not_wait_for_resume: DeliversBeforeResume, nothing_is_delivered_before_resume, "the log delivered Ok(Records";
    a_log_that_loses_what_a_dropped_next_took: LosesDroppedNext, a_dropped_next_loses_nothing, "is delivered without holes";
    a_log_that_calls_the_start_a_gap: CallsTheStartAGap, without_a_position_reading_begins_at_the_start_and_that_is_no_gap, "the start is no gap";
    a_log_that_swallows_gaps: SwallowsGaps, a_position_before_the_start_is_a_gap_with_its_exact_range, "left == right";
    a_log_that_takes_a_position_beyond_its_end: TakesAnyPosition, a_position_beyond_the_end_is_refused_naming_both, "a position that is not this log's";
    a_log_that_takes_a_position_of_another_log: TakesAnyPosition, a_position_of_another_log_is_refused_naming_both, "a position that is not this log's";
    a_log_that_takes_another_crc: TakesAnyPosition, a_position_with_another_crc_is_refused_naming_both, "a position that is not this log's";
    a_log_that_refuses_without_names: RefusesWithoutNames, a_position_beyond_the_end_is_refused_naming_both, "names one of";
    a_log_that_trims_what_is_not_applied: TrimsOneFurther, trimming_never_deletes_what_is_not_applied, "the log begins at";
    a_log_that_trims_backwards: TrimsBackwards, trimming_backwards_changes_nothing, "the start does not come back";
    a_log_that_forgets_its_numbering: ForgetsOnRestart, a_log_trimmed_to_empty_keeps_its_numbering_over_a_restart, "keeps its numbering";
    a_log_that_forgets_its_contents: ForgetsOnRestart, identity_and_contents_survive_a_restart, "left == right";
    logs_with_one_identity: OneIdentityForAll, two_logs_have_two_identities, "left != right";
}

struct Harness {
    log: MemoryLog,
    bug: Bug,
    opened: u32,
}

impl LogHarness for Harness {
    fn open(&mut self) -> BoxFuture<'_, Arc<dyn EventLog>> {
        self.opened += 1;
        if self.bug == Bug::ForgetsOnRestart && self.opened > 1 {
            self.log = MemoryLog::new(1);
        }
        Box::pin(async { Broken::opened(self.log.clone(), self.bug) })
    }

    fn other(&mut self) -> BoxFuture<'_, Arc<dyn EventLog>> {
        Box::pin(async { Broken::opened(MemoryLog::new(1), self.bug) })
    }
}

#[derive(Clone)]
struct Broken {
    log: MemoryLog,
    bug: Bug,
    /// What `trim_to` was told last.
    trimmed: Arc<AtomicU64>,
}

impl Broken {
    fn opened(log: MemoryLog, bug: Bug) -> Arc<dyn EventLog> {
        Arc::new(Self { log, bug, trimmed: Arc::default() })
    }
}

impl EventLog for Broken {
    fn identity(&self) -> LogId {
        if self.bug == Bug::OneIdentityForAll { LogId("the log".into()) } else { self.log.identity() }
    }

    fn durability(&self) -> &'static str {
        self.log.durability()
    }

    fn partition_of(&self, device: &str) -> u32 {
        self.log.partition_of(device) + u32::from(self.bug == Bug::PartitionOfNone)
    }

    fn bounds(&self) -> BoxFuture<'_, Result<Vec<Bounds>, LogError>> {
        Box::pin(async {
            let mut bounds = self.log.bounds().await?;
            for bounds in &mut bounds {
                match self.bug {
                    Bug::EndLags => bounds.end = bounds.end.saturating_sub(1),
                    Bug::TrimsBackwards => bounds.start = bounds.start.min(self.trimmed.load(Ordering::SeqCst)),
                    _ => {}
                }
            }
            Ok(bounds)
        })
    }

    fn oldest_from(&self, partition: u32, next: u64) -> BoxFuture<'_, Result<Option<Timestamp>, LogError>> {
        Box::pin(async move {
            if self.bug == Bug::OldestIsTheFirst {
                return Ok(self.log.records(partition).iter().find(|record| record.position >= next).map(|record| record.received_at));
            }
            self.log.oldest_from(partition, next).await
        })
    }

    fn received_at(&self, partition: u32, position: u64) -> BoxFuture<'_, Result<Option<Timestamp>, LogError>> {
        if self.bug == Bug::TellsALaterTime {
            return self.log.oldest_from(partition, position);
        }
        self.log.received_at(partition, position)
    }

    fn append(&self, mut records: Vec<Record>) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move {
            match self.bug {
                Bug::AppendsTwice => self.log.append(records.clone()).await?,
                Bug::ReversesCalls => records.reverse(),
                Bug::CutsPayloads => records.iter_mut().for_each(|record| record.payload.truncate(65_535)),
                _ => {}
            }
            self.log.append(records).await
        })
    }

    fn writable(&self) -> BoxFuture<'_, Result<(), LogError>> {
        self.log.writable()
    }

    fn subscribe(&self, group: &str) -> BoxFuture<'_, Result<Box<dyn Subscription>, LogError>> {
        let group = group.to_owned();
        Box::pin(async move {
            let mut subscription = self.log.subscribe(&group).await?;
            if self.bug == Bug::DeliversBeforeResume {
                subscription.resume(vec![(0, None)]).await?;
            }
            Ok(Box::new(BrokenSubscription { subscription, broken: self.clone(), resumed: false, fresh: false }) as Box<dyn Subscription>)
        })
    }

    fn trim_to(&self, applied: &[(u32, u64)]) -> BoxFuture<'_, Result<(), LogError>> {
        let further = u64::from(self.bug == Bug::TrimsOneFurther);
        let applied: Vec<_> = applied.iter().map(|&(partition, next)| (partition, next + further)).collect();
        self.trimmed.store(applied.first().map_or(0, |applied| applied.1), Ordering::SeqCst);
        Box::pin(async move { self.log.trim_to(&applied).await })
    }
}

struct BrokenSubscription {
    subscription: Box<dyn Subscription>,
    broken: Broken,
    /// Whether it was resumed at all, and whether nothing was delivered since.
    resumed: bool,
    fresh: bool,
}

impl BrokenSubscription {
    fn spoil(&mut self, records: &mut Vec<StoredRecord>) {
        match self.broken.bug {
            Bug::SkipsOnResume if self.fresh => drop(records.remove(0)),
            Bug::CountsCrcWrongly => records.iter_mut().for_each(|record| record.crc ^= 1),
            Bug::LeavesHolesInNumbers => records.retain(|record| record.position != 5),
            _ => {}
        }
        self.fresh = false;
    }
}

impl Subscription for BrokenSubscription {
    fn next(&mut self) -> BoxFuture<'_, Result<Delivery, LogError>> {
        Box::pin(async {
            let mut delivery = self.subscription.next().await?;
            if self.broken.bug == Bug::LosesDroppedNext {
                tokio::task::yield_now().await;
            }
            if let Delivery::Records { records, .. } = &mut delivery {
                self.spoil(records);
            }
            Ok(delivery)
        })
    }

    fn resume(&mut self, positions: Vec<(u32, Option<Position>)>) -> BoxFuture<'_, Result<Vec<Gap>, LogError>> {
        Box::pin(async move {
            let again = std::mem::replace(&mut self.resumed, true);
            self.fresh = true;
            let from_start: Vec<_> = positions.iter().map(|(partition, _)| (*partition, None)).collect();
            let bug = self.broken.bug;
            if bug == Bug::KeepsPlaceOnResume && again {
                return Ok(vec![]);
            }
            match self.subscription.resume(positions).await {
                Ok(_) if bug == Bug::SwallowsGaps => Ok(vec![]),
                Ok(_) if bug == Bug::CallsTheStartAGap => Ok(vec![Gap { log: self.broken.identity(), partition: 0, from: 0, to: 5 }]),
                Err(_) if bug == Bug::TakesAnyPosition => self.subscription.resume(from_start).await,
                Err(LogError::Corrupt(_)) if bug == Bug::RefusesWithoutNames => Err(LogError::Corrupt("not my position".into())),
                outcome => outcome,
            }
        })
    }

    fn released(&mut self, partitions: &[u32]) -> BoxFuture<'_, Result<(), LogError>> {
        self.subscription.released(partitions)
    }
}
