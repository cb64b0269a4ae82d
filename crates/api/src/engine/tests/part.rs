//! What a part of time promises, by its functions.

use crate::cache::Rollups;
use crate::config::Config;
use crate::engine::part::Work;
use crate::engine::{Sink, Wanted};
use crate::failure::Result;
use headwater_core::chunk;
use headwater_core::merge::SeriesReadings;
use headwater_core::plan::{Buckets, Walk};
use headwater_core::seal::{ChunkKey, Level, RollupKey, StoredChunk};
use headwater_core::series::{Series, SeriesId, SeriesKey};
use headwater_core::summary::Summary;
use headwater_core::time::{HOUR, TimeRange, Timestamp};

/// A sink that keeps what comes.
#[derive(Default)]
struct Kept {
    readings: Vec<(i64, f64)>,
    windows: Vec<i64>,
}

impl Sink for Kept {
    fn buckets(&self) -> Option<Buckets> {
        None
    }
    fn merge(&mut self, _: &Series, windows: &[(Timestamp, &Summary)]) {
        self.windows.extend(windows.iter().map(|(start, _)| start.0));
    }
    fn wants(&mut self, _: &Series, _: Timestamp) -> bool {
        true
    }
    fn take(&mut self, _: &Series, readings: &SeriesReadings) {
        self.readings.extend(readings.times.iter().copied().zip(readings.values.iter().copied()));
    }
    fn resumed(&mut self, _: &Series) {}
    fn shard_is_done(&mut self) {}
    fn is_complete(&self) -> bool {
        false
    }
    fn memory_bytes(&self) -> usize {
        0
    }
    fn growth_bytes(&self, _: usize) -> usize {
        0
    }
    fn check(&self, _: &Config) -> Result<()> {
        Ok(())
    }
}

fn range(from: i64, to: i64) -> TimeRange {
    TimeRange::new(Timestamp(from), Timestamp(to))
}

#[test]
fn a_chunk_that_two_walks_pass_gives_each_what_it_needs() {
    // A chunk of three hours, the second of which is covered by its rollup; in the third, open readings repeat sealed ones.
    let times: Vec<i64> = (0..300).map(|i| i * HOUR / 100).collect();
    let values: Vec<f64> = (0..300).map(f64::from).collect();
    let mut bytes = Vec::new();
    chunk::encode(&times, &values, &mut bytes);
    let id = SeriesId(0);
    let picked = [(0, ChunkKey { series: id, first: 0 }, StoredChunk { last: times[299], readings: 300, bytes })];
    let open = SeriesReadings { times: vec![1, times[200], times[210] + 1, times[299] + 1], values: vec![-1.0; 4] };
    let series = Series { id, key: SeriesKey::new("a", "m", &[]).unwrap(), unit: None };

    let whole = range(0, 3 * HOUR);
    let work = Work::new(Kept::default(), vec![series].into(), whole, vec![Wanted { id, index: 0 }], vec![open]).settle();
    let mut summary = Summary::new();
    summary.add_run(&times[100..200], &values[100..200]);
    let rollup = (RollupKey { series: id, level: Level::Hour, start: HOUR }, summary);
    let mut work = work.take_rollups(&Buckets { range: whole, step: None }, Level::Hour, &Rollups::of(vec![rollup]));
    let (first, third) = (range(0, HOUR), range(2 * HOUR, 3 * HOUR));
    assert_eq!(work.needs(), [(0, first), (0, third)]);
    // The first walk passes over all of it, for the sake of other series.
    for walk in [Walk { range: whole, needs: vec![(0, first)] }, Walk { range: third, needs: vec![(0, third)] }] {
        work = work.take_chunks(&walk, &picked).unwrap();
    }
    let kept = work.finish();

    let sealed = times.iter().copied().zip(values).filter(|(time, _)| !range(HOUR, 2 * HOUR).contains(*time));
    let mut expected: Vec<(i64, f64)> = sealed.chain([1, times[210] + 1, times[299] + 1].map(|time| (time, -1.0))).collect();
    expected.sort_by_key(|reading| reading.0);
    assert_eq!((kept.windows, kept.readings), (vec![HOUR], expected));
}
