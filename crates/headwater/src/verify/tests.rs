//! Flags, and the walk over a store in memory.

use super::report::Report;
use super::walk::{self, Slices};
use super::*;
use headwater_contract::builders::{START, at, reading, seal_all, store_readings};
use headwater_contract::{FaultyStore, MemoryStore, StoreCall};
use headwater_core::store::{Queries, StoreError};
use headwater_core::time::SECOND;
use headwater_core::verify::Looked;
use proptest::prelude::*;

const SMALL: Slices = Slices { readings: 100, series: 2, page: 1 };

/// Whether nothing was found, and what was looked at.
fn walked(store: &dyn Queries, range: TimeRange, slices: Slices) -> (bool, Looked) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut report = Report::new(range, true);
    runtime.block_on(walk::run(store, range, slices, &mut report)).unwrap();
    (report.is_clean(), report.seen())
}

/// Series and minutes of a batch, and whether all is sealed after it.
type Step = (Vec<(usize, i64)>, bool);

fn filled(steps: &[Step]) -> MemoryStore {
    let store = MemoryStore::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        for (n, (rows, seal)) in steps.iter().enumerate() {
            let readings: Vec<_> = rows
                .iter()
                .map(|(series, minute)| reading(&format!("d{series}"), "m").at(at(minute * 60)).value((minute * 7 + n as i64) as f64))
                .collect();
            store_readings(&store, &readings).await;
            if *seal {
                seal_all(&store).await;
            }
        }
    });
    store
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let time = prop_oneof![3 => 0i64..100, 1 => 0i64..4 * 24 * 60];
    let series = prop_oneof![3 => 0usize..2, 1 => 0usize..200];
    prop::collection::vec((prop::collection::vec((series, time), 1..200), any::<bool>()), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_was_sealed_is_clean_in_any_slices(steps in steps()) {
        let store = filled(&steps);
        let (clean, looked) = walked(&store, TimeRange::ALL, SMALL);
        prop_assert!(clean);
        prop_assert_eq!(walked(&store, TimeRange::ALL, Slices::default()), (true, looked));
        let day = super::range(Some(&at(26 * 3600).to_string()), Some(&at(30 * 3600).to_string())).unwrap();
        prop_assert!(walked(&store, day, SMALL).0);
    }
}

#[test]
fn all_readings_are_looked_at_once() {
    let rows: Vec<_> = (0..5).flat_map(|series| (0..3 * 24 * 60).step_by(10).map(move |minute| (series * 64, minute))).collect();
    let store = filled(&[(rows.clone(), true), (vec![(0, 1), (1, 1)], false)]);
    let (clean, looked) = walked(&store, TimeRange::ALL, SMALL);
    assert!(clean);
    assert_eq!((looked.readings, looked.open), (rows.len() as u64, 2));
    assert!(looked.rollups > 0 && looked.blocks == 2);
}

#[test]
fn a_busy_store_is_asked_again_and_a_stopped_one_ends_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let store = FaultyStore::new(filled(&[((0..100).map(|n| (0, n)).collect(), true)]));
    runtime.block_on(async {
        let mut report = Report::new(TimeRange::ALL, true);
        store.faults.fail(StoreCall::Snapshot, 1, StoreError::Busy("full".to_owned()));
        store.faults.fail(StoreCall::Question, 1, StoreError::Deadline);
        walk::run(&store, TimeRange::ALL, SMALL, &mut report).await.unwrap();
        assert!(report.is_clean() && report.seen().readings == 100);
        store.faults.fail(StoreCall::Question, 1, StoreError::Stopped("closed".to_owned()));
        assert!(matches!(walk::run(&store, TimeRange::ALL, SMALL, &mut report).await, Err(StoreError::Stopped(_))));
    });
}

#[test]
fn times_are_read_as_the_api_reads_them_and_widened_to_days() {
    assert_eq!(super::range(None, None), Ok(TimeRange::ALL));
    let day = TimeRange::new(START.floor_to(DAY), START.floor_to(DAY).plus(DAY));
    for (from, to) in [
        (START.to_string(), START.plus(1).to_string()),
        ((START.0 / SECOND).to_string(), (START.0 / 1_000 + 1).to_string()),
        (day.from.to_string(), day.to.to_string()),
    ] {
        assert_eq!(super::range(Some(&from), Some(&to)), Ok(day));
    }
    for (from, to) in [(Some("yesterday"), None), (Some("5"), Some("5")), (None, Some("2026-13-01T00:00:00Z"))] {
        assert!(super::range(from, to).is_err(), "{from:?} {to:?}");
    }
}
