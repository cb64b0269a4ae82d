//! What sealing writes passes; each planted difference is found, and found alone.

use super::*;
use crate::block::cut;
use crate::chunk::encode;
use crate::series::SHARDS;
use crate::time::HOUR;
use proptest::prelude::*;

const SERIES: SeriesId = SeriesId(3);
const MINUTE: i64 = 60_000_000;

/// Chunks and rollups of one series.
#[derive(Debug, Clone, Default)]
struct Content {
    chunks: Vec<(ChunkKey, StoredChunk)>,
    rollups: BTreeMap<RollupKey, Summary>,
}

impl Content {
    /// Readings by time, cut into chunks of `size` within a day, with the rollups that they must have.
    fn of(readings: &BTreeMap<i64, f64>, size: usize) -> Self {
        let mut content = Self::default();
        let all: Vec<_> = readings.iter().map(|(time, value)| (*time, *value)).collect();
        for day in all.chunk_by(|a, b| a.0.div_euclid(DAY) == b.0.div_euclid(DAY)) {
            day.chunks(size).for_each(|part| content.chunks.push(chunk_of(part)));
        }
        for (time, value) in all {
            for level in Level::ALL {
                let key = RollupKey { series: SERIES, level, start: level.start_of(time) };
                content.rollups.entry(key).or_default().add(time, value);
            }
        }
        content.rollups.retain(|_, summary| summary.count() > MAX_EXACT as u64);
        content
    }

    fn differences(&self) -> Vec<Difference> {
        let mut sealed = Sealed::default();
        self.chunks.iter().for_each(|(key, chunk)| sealed.chunk(*key, chunk));
        sealed.end_of_chunks();
        self.rollups.iter().for_each(|(key, summary)| sealed.rollup(*key, summary));
        sealed.end_of_rollups();
        assert_eq!(sealed.looked.chunks, self.chunks.len() as u64);
        assert_eq!(sealed.looked.rollups, self.rollups.len() as u64);
        sealed.differences
    }

    /// The only difference that there is.
    fn only(&self) -> Difference {
        let differences = self.differences();
        assert_eq!(differences.len(), 1, "{differences:?}");
        differences[0].clone()
    }
}

fn chunk_of(readings: &[(i64, f64)]) -> (ChunkKey, StoredChunk) {
    let (times, values): (Vec<_>, Vec<_>) = readings.iter().copied().unzip();
    let mut bytes = Vec::new();
    encode(&times, &values, &mut bytes);
    let (first, last, readings) = (times[0], times[times.len() - 1], times.len() as u64);
    (ChunkKey { series: SERIES, first }, StoredChunk { last, readings, bytes })
}

/// Dense in some hours, sparse in others, over three days.
fn readings() -> impl Strategy<Value = BTreeMap<i64, f64>> {
    let time = prop_oneof![4 => 0i64..200, 1 => 0i64..3 * 24 * 60].prop_map(|minute| minute * MINUTE / 2 + DAY - HOUR);
    prop::collection::btree_map(time, (-50i32..50).prop_map(|n| f64::from(n) / 4.0), 0..300)
}

/// Two days with enough for rollups in each.
fn steady() -> Content {
    Content::of(&(0..48 * 90).map(|n| (n * 40 * 1_000_000, n as f64)).collect(), 500)
}

proptest! {
    #[test]
    fn right_content_has_no_difference(readings in readings(), size in 1usize..200) {
        prop_assert_eq!(Content::of(&readings, size).differences(), vec![]);
    }

    #[test]
    fn a_lost_a_foreign_and_a_changed_rollup_are_each_found(readings in readings(), at in any::<prop::sample::Index>()) {
        let right = Content::of(&readings, 100);
        prop_assume!(!right.rollups.is_empty());
        let (&key, summary) = right.rollups.iter().nth(at.index(right.rollups.len())).unwrap();
        let mut lost = right.clone();
        lost.rollups.remove(&key);
        prop_assert_eq!(lost.only().place, Place::Rollup(key));
        let mut changed = right.clone();
        let mut other = summary.clone();
        other.add(key.start, 1.0);
        changed.rollups.insert(key, other);
        let found = changed.only();
        prop_assert!(found.place == Place::Rollup(key) && found.expected == format!("count {}", summary.count()), "{:?}", found);
        let foreign = RollupKey { start: key.start + 400 * DAY, ..key };
        let mut more = right.clone();
        more.rollups.insert(foreign, summary.clone());
        prop_assert_eq!(more.only().place, Place::Rollup(foreign));
    }

    #[test]
    fn a_flipped_bit_of_a_chunk_is_one_difference(readings in readings(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut content = Content::of(&readings, 100);
        prop_assume!(!content.chunks.is_empty());
        let n = content.chunks.len();
        let (key, chunk) = &mut content.chunks[at.index(n)];
        let place = Place::Chunk(*key);
        let byte = at.index(chunk.bytes.len());
        chunk.bytes[byte] ^= 1 << bit;
        prop_assert_eq!(content.only().place, place);
    }
}

#[test]
fn a_rollup_that_differs_in_one_value_only_is_told_by_it() {
    let mut content = steady();
    let (key, right) = content.rollups.iter().next().map(|(key, summary)| (*key, summary.clone())).unwrap();
    // The same count: one value is another, in the middle of the window.
    let mut wrong = Summary::new();
    (0..right.count() as i64).for_each(|n| wrong.add(n * 40 * 1_000_000, if n == 20 { 20.5 } else { n as f64 }));
    content.rollups.insert(key, wrong.clone());
    let found = content.only();
    assert_eq!((found.expected, found.found), both(&right, &wrong));
    assert!(both(&right, &wrong).0.starts_with("sum "));
}

#[test]
fn chunks_whose_numbers_lie_are_found() {
    for (lie, text) in [(1i64, "499 readings"), (0, "500 readings")] {
        let mut content = steady();
        let (_, chunk) = &mut content.chunks[1];
        match lie {
            1 => chunk.readings -= 1,
            _ => chunk.last -= 1,
        }
        let found = content.only();
        assert!(found.rule.contains("key and numbers") && found.found.starts_with(text), "{found:?}");
    }
}

#[test]
fn chunks_that_overlap_or_leave_their_day_are_found() {
    let mut content = Content::default();
    content.chunks.push(chunk_of(&[(5, 1.0), (9, 1.0)]));
    content.chunks.push(chunk_of(&[(9, 2.0), (12, 1.0)]));
    assert!(content.only().rule.contains("overlap"));
    let leaves = Content { chunks: vec![chunk_of(&[(DAY - 1, 1.0), (DAY, 1.0)])], ..Content::default() };
    assert!(leaves.only().rule.contains("one UTC day"));
}

#[test]
fn a_lost_chunk_shows_in_the_rollups_of_its_windows() {
    let mut content = steady();
    let (key, _) = content.chunks.remove(2);
    let found = content.differences();
    assert!(
        found
            .iter()
            .any(|d| d.place == Place::Rollup(RollupKey { series: SERIES, level: Level::Day, start: Level::Day.start_of(key.first) }))
    );
}

#[test]
fn rollups_that_cannot_be_read_are_not_missing_too() {
    let content = steady();
    let mut sealed = Sealed::default();
    content.chunks.iter().for_each(|(key, chunk)| sealed.chunk(*key, chunk));
    sealed.end_of_chunks();
    let hours = TimeRange::new(Timestamp(0), Timestamp(2 * DAY));
    sealed.unreadable(Place::Rollups(SERIES, Level::Hour, hours), "why");
    for start in [0, DAY] {
        sealed.unreadable(Place::Rollup(RollupKey { series: SERIES, level: Level::Day, start }), "why");
    }
    sealed.end_of_rollups();
    assert_eq!(sealed.differences.len(), 3);
}

#[test]
fn blocks_are_checked_against_their_numbers_their_shard_and_the_series() {
    let rows = [(3u32, 7i64), (3, 5), (3 + u32::from(SHARDS), 6)];
    let series: Vec<_> = rows.iter().map(|row| SeriesId(row.0)).collect();
    let times: Vec<_> = rows.iter().map(|row| row.1).collect();
    let right = cut(&series, &times, &[1.0, 2.0, 3.0]).remove(0);
    let check = |beside, block: &OpenBlock, last: u32| super::block(Shard(3), BatchId(1), beside, block, |series| series.0 <= last);
    assert_eq!(check(right.stats(), &right, 99), vec![]);
    let rule = |differences: Vec<Difference>| {
        assert_eq!(differences.len(), 1, "{differences:?}");
        differences[0].rule
    };
    assert!(rule(check(BlockStats { readings: 4, ..right.stats() }, &right, 99)).contains("numbers"));
    assert!(rule(check(BlockStats { max_time: 8, ..right.stats() }, &right, 99)).contains("numbers"));
    assert!(rule(check(right.stats(), &right, 3)).contains("registered"));
    assert!(rule(check(right.stats(), &OpenBlock { shard: Shard(4), ..right.clone() }, 99)).contains("shard"));
    let mut unsorted = right.clone();
    unsorted.times.swap(0, 1);
    assert!(rule(check(unsorted.stats(), &unsorted, 99)).contains("sorted"));
}

#[test]
fn rollups_of_a_single_window_are_named_by_it() {
    let place = |from, to| Place::rollups(SERIES, Level::Hour, TimeRange::new(Timestamp(from), Timestamp(to)));
    let one = Place::Rollup(RollupKey { series: SERIES, level: Level::Hour, start: HOUR });
    assert_eq!([place(HOUR, 2 * HOUR), place(1, 2 * HOUR), place(HOUR, HOUR + 1)], [one; 3]);
    for (from, to) in [(0, 2 * HOUR), (HOUR + 1, 2 * HOUR), (i64::MIN, i64::MAX)] {
        assert!(matches!(place(from, to), Place::Rollups(..)), "{from} {to}");
    }
}

#[test]
fn counts_must_add_up() {
    let totals = Totals { received: 15, stored: 5, duplicate: 4, conflict: 3, dead: 2, unsealed: 1, ..Totals::default() };
    assert_eq!(conservation(&totals), None);
    let lost = conservation(&Totals { received: 16, ..totals.clone() }).unwrap();
    assert!(lost.expected == "received 16" && lost.found.ends_with("= 15"), "{lost:?}");
    assert!(conservation(&Totals { stored: u64::MAX, ..totals }).is_some());
    assert_eq!(sum("stored", 3, 3), None);
    assert!(sum("stored", 3, 2).is_some());
}
