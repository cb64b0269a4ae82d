//! What the engine promises, by its functions and through the router.

mod cached;
mod counting;
mod part;
mod sealed;

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn leaping_visits_every_wanted_run(ids in prop::collection::vec(0u32..40, 0..60), wanted in prop::collection::btree_set(0u32..40, 0..20)) {
        let ids: Vec<SeriesId> = ids.into_iter().map(|id| SeriesId(id * 64)).collect();
        let blocks = headwater_core::block::cut(&ids, &vec![0; ids.len()], &vec![0.0; ids.len()]);
        let wanted: Vec<Wanted> = wanted.into_iter().enumerate().map(|(index, id)| Wanted { id: SeriesId(id * 64), index }).collect();
        for block in &blocks {
            let mut visited = Vec::new();
            visit_runs(block, &wanted, |place, run| visited.push((wanted[place].id, run)));
            let expected: Vec<_> = wanted.iter().map(|w| (w.id, block.run(w.id))).filter(|(_, run)| !run.is_empty()).collect();
            prop_assert_eq!(visited, expected);
        }
    }

    #[test]
    fn a_cut_is_smaller_and_loses_nothing(times in prop::collection::vec(0i64..4, 1..50), n_series in 1usize..4) {
        let range = TimeRange::new(Timestamp(0), Timestamp(4));
        let wanted: Vec<Wanted> = (0..n_series).map(|index| Wanted { id: SeriesId(index as u32), index }).collect();
        let readings = vec![SeriesReadings { values: vec![0.0; times.len()], times: times.clone() }; n_series];
        let mut parts = vec![(range, wanted)];
        let mut covered = 0;
        while let Some((range, wanted)) = parts.pop() {
            match cut(range, &wanted, &readings) {
                Some(smaller) => parts.extend(smaller),
                None => covered += wanted.len() * (range.to.0 - range.from.0) as usize,
            }
        }
        prop_assert_eq!(covered, 4 * n_series);
    }
}
