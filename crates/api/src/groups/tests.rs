//! What `groups` promises, through the router or by its functions.

use super::*;
use headwater_core::series::{Parts, SeriesId, SeriesKey};
use headwater_core::time::{SECOND, TimeRange};
use std::num::NonZeroU64;

fn series(n: u32) -> Series {
    Series { id: SeriesId(n), key: SeriesKey::new(&format!("d{n:03}"), "m", &[]).unwrap(), unit: None }
}

fn seconds(times: std::ops::Range<i64>) -> SeriesReadings {
    let times: Vec<i64> = times.map(|second| second * SECOND).collect();
    SeriesReadings { values: vec![1.0; times.len()], times }
}

/// A page of 10 rows of buckets of a second, and 100 series of 100 readings each, in an order that is none.
fn fed(grouping: Grouping, fill: bool, after: Option<(String, Timestamp)>) -> (Groups, usize) {
    let buckets = Buckets { range: TimeRange::new(Timestamp(0), Timestamp(100 * SECOND)), step: NonZeroU64::new(SECOND as u64) };
    let mut groups = Groups::new(grouping, buckets, vec![Stat::Avg], fill, after, 10);
    let mut most = 0;
    for n in (0..100).map(|i| i * 37 % 100) {
        if groups.wants(&series(n), Timestamp(0)) {
            groups.take(&series(n), &seconds(0..100));
        }
        most = most.max(groups.n_buckets);
    }
    (groups, most)
}

struct Shown {
    rows: Vec<(String, i64)>,
    next: Option<(String, Timestamp)>,
}

/// The page's rows as (device, second), and where the next page begins.
fn shown(groups: &Groups) -> Shown {
    let mut rows = Vec::new();
    let next = groups.rows(|row| rows.push((Parts::of(row.key).device.to_owned(), row.time.0 / SECOND)));
    Shown { rows, next }
}

#[test]
fn a_page_holds_little_more_than_its_rows() {
    for (fill, most_held) in [(false, 11), (true, 22)] {
        let (groups, most) = fed(Grouping::Series, fill, None);
        assert!(most <= most_held, "{most} with fill {fill}");
        let Shown { rows, next } = shown(&groups);
        assert_eq!(rows, (0..10).map(|second| ("d000".to_owned(), second)).collect::<Vec<_>>());
        assert_eq!(next, Some((series(0).key.as_str().to_owned(), Timestamp(9 * SECOND))));
    }
}

#[test]
fn a_later_page_begins_after_its_cursor_and_goes_over_to_the_next_group() {
    let after = (series(41).key.as_str().to_owned(), Timestamp(95 * SECOND));
    for fill in [false, true] {
        let (groups, _) = fed(Grouping::By(true, BTreeSet::new()), fill, Some(after.clone()));
        let expected: Vec<_> = (96..100).map(|s| ("d041".to_owned(), s)).chain((0..6).map(|s| ("d042".to_owned(), s))).collect();
        assert_eq!(shown(&groups).rows, expected, "fill {fill}");
    }
}

#[test]
fn memory_is_counted_and_given_back() {
    let (mut groups, _) = fed(Grouping::Series, false, None);
    let open = groups.memory_bytes();
    groups.shard_is_done();
    let done = groups.memory_bytes();
    assert!(done < open, "{done} of figures, {open} of summaries");
    let actual: usize = groups.groups.values().flat_map(|group| group.buckets.values()).map(Bucket::memory_bytes).sum();
    assert_eq!(groups.bucket_bytes, actual);
    assert_eq!(groups.key_bytes, groups.groups.keys().map(String::len).sum::<usize>());
}
