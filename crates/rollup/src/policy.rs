//! What there is to do for a shard, from its numbers and the time alone.
//!
//! Owns: when a shard is due, when its blocks are merged, and what comes first. Does not know: the store, how sealing works.
//!
//! Invariants: more readings or more age never make a due shard wait; a shard that is due is not merged.

use headwater_core::block;
use headwater_core::series::Shard;
use headwater_core::store::Backlog;
use headwater_core::time::{DAY, Timestamp};
use std::cmp::Reverse;

/// Fewer open readings are not worth rewriting chunks for.
pub(crate) const LEAST_READINGS: u64 = 65_536;
/// … nor are fewer for each series of the widest block: a seal costs by the series that it touches.
pub(crate) const READINGS_PER_SERIES: u64 = 16;
/// The age of the oldest block at which a shard is sealed however little is open, in microseconds.
pub(crate) const OLDEST: i64 = DAY;
/// So many blocks are merged into one, so that an answer looks at few.
pub(crate) const MERGE_BLOCKS: u64 = 64;
/// The most readings of a merged block: 20 bytes each in memory.
pub(crate) const MERGE_READINGS: u64 = 1_000_000;
const _: () = assert!(MERGE_READINGS <= block::MAX_READINGS as u64);

/// What is to be done for a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// It is due; once so many readings are settled it is no more.
    Seal(u64),
    /// It is not due, and its oldest unmerged blocks become one.
    Merge,
}

/// What is to be done for one shard, if anything.
pub(crate) fn work(backlog: &Backlog, now: Timestamp) -> Option<Work> {
    let least = LEAST_READINGS.max(backlog.widest.saturating_mul(READINGS_PER_SERIES));
    if is_old(backlog, now) {
        return Some(Work::Seal(backlog.readings));
    }
    if backlog.readings >= least {
        return Some(Work::Seal(backlog.readings - least + 1));
    }
    (backlog.unmerged >= MERGE_BLOCKS).then_some(Work::Merge)
}

fn is_old(backlog: &Backlog, now: Timestamp) -> bool {
    now.0.saturating_sub(backlog.oldest.0) >= OLDEST
}

/// What is to be done for all shards, in the order of its urgency: old ones, the oldest first; large ones, the largest first; merges.
pub(crate) fn plan(backlogs: &[Backlog], now: Timestamp) -> Vec<(Shard, Work)> {
    let mut wanted: Vec<(&Backlog, Work)> = backlogs.iter().filter_map(|backlog| Some((backlog, work(backlog, now)?))).collect();
    wanted.sort_by_key(|(backlog, work)| match work {
        Work::Seal(_) if is_old(backlog, now) => (0, backlog.oldest, Reverse(backlog.readings)),
        Work::Seal(_) => (1, Timestamp(0), Reverse(backlog.readings)),
        Work::Merge => (2, Timestamp(0), Reverse(backlog.unmerged)),
    });
    wanted.into_iter().map(|(backlog, work)| (backlog.shard, work)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_763_910_000_000_000);

    fn any_backlog() -> impl Strategy<Value = Backlog> {
        let readings = prop_oneof![1u64..200, 65_000u64..66_000, 1u64..5_000_000];
        let age = prop_oneof![0i64..DAY / 2, DAY - 5..DAY + 5, -DAY..3 * DAY];
        (0u8..64, readings, 0u64..200, prop_oneof![1u64..100, 4_000u64..4_200, 1u64..50_000], age).prop_map(
            |(shard, readings, unmerged, widest, age)| Backlog {
                shard: Shard(shard),
                readings,
                unmerged,
                widest,
                oldest: Timestamp(NOW.0 - age),
            },
        )
    }

    fn is_due(backlog: &Backlog) -> bool {
        matches!(work(backlog, NOW), Some(Work::Seal(_)))
    }

    proptest! {
        #[test]
        fn a_shard_is_due_by_its_readings_or_its_age_and_by_nothing_else(backlog in any_backlog()) {
            let (large, wide) = (backlog.readings >= 65_536, backlog.readings >= 16 * backlog.widest);
            let old = NOW.0 - backlog.oldest.0 >= DAY;
            prop_assert_eq!(is_due(&backlog), (large && wide) || old);
        }

        #[test]
        fn what_is_to_be_settled_is_just_enough(backlog in any_backlog()) {
            if let Some(Work::Seal(readings)) = work(&backlog, NOW) {
                prop_assert!((1..=backlog.readings).contains(&readings));
                let young = Backlog { oldest: NOW, ..backlog };
                let after = |settled: u64| is_due(&Backlog { readings: backlog.readings - settled, ..young });
                prop_assert!(!after(readings));
                if is_due(&young) {
                    let Some(Work::Seal(least)) = work(&young, NOW) else { unreachable!() };
                    prop_assert!(after(least - 1) && !after(least));
                }
            }
        }

        #[test]
        fn blocks_are_merged_while_a_shard_waits_and_only_then(backlog in any_backlog()) {
            prop_assert_eq!(work(&backlog, NOW) == Some(Work::Merge), !is_due(&backlog) && backlog.unmerged >= 64);
        }

        #[test]
        fn more_readings_and_more_age_never_make_a_due_shard_wait(backlog in any_backlog(), more in 0u64..1_000_000, older in 0i64..DAY) {
            let grown = Backlog { readings: backlog.readings + more, oldest: Timestamp(backlog.oldest.0 - older), ..backlog };
            prop_assert!(!is_due(&backlog) || is_due(&grown));
        }

        #[test]
        fn a_plan_names_every_shard_with_work_once_and_seals_before_it_merges(backlogs in prop::collection::vec(any_backlog(), 0..20)) {
            let backlogs: Vec<Backlog> = (0u8..).zip(backlogs).map(|(n, backlog)| Backlog { shard: Shard(n), ..backlog }).collect();
            let plan = plan(&backlogs, NOW);
            let of = |shard: Shard| &backlogs[usize::from(shard.0)];
            prop_assert_eq!(plan.len(), backlogs.iter().filter(|backlog| work(backlog, NOW).is_some()).count());
            for (shard, wanted) in &plan {
                prop_assert_eq!(Some(*wanted), work(of(*shard), NOW));
            }
            for pair in plan.windows(2) {
                let (first, then) = (of(pair[0].0), of(pair[1].0));
                match (pair[0].1, pair[1].1) {
                    (Work::Merge, next) => prop_assert_eq!(next, Work::Merge),
                    (Work::Seal(_), Work::Merge) => {}
                    _ if is_old(first, NOW) && is_old(then, NOW) => prop_assert!(first.oldest <= then.oldest),
                    _ => prop_assert!(is_old(first, NOW) || (!is_old(then, NOW) && first.readings >= then.readings)),
                }
            }
        }
    }

    #[test]
    fn a_clock_that_steps_back_makes_nothing_old() {
        let backlog = Backlog { shard: Shard(0), readings: 10, unmerged: 0, widest: 1, oldest: Timestamp(i64::MAX) };
        assert_eq!(work(&backlog, Timestamp(i64::MIN)), None);
    }
}
