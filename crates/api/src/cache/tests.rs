//! What the cache promises by itself: bounded, whole pages, nothing of another mark.

use super::*;
use headwater_core::time::HOUR;
use proptest::prelude::*;
use std::collections::BTreeMap;

const MARK: SealMark = SealMark { life: 7, stored: 100 };

fn id(n: u32) -> SeriesId {
    SeriesId(n * 64)
}

fn hours(from: i64, to: i64) -> TimeRange {
    TimeRange::new(Timestamp(from * HOUR), Timestamp(to * HOUR))
}

fn rollup(series: SeriesId, hour: i64, readings: i64) -> (RollupKey, Summary) {
    let mut summary = Summary::new();
    (0..readings).for_each(|n| summary.add(hour * HOUR + n, n as f64));
    (RollupKey { series, level: Level::Hour, start: hour * HOUR }, summary)
}

/// What a store would have: every hour of every series, with `readings` readings.
fn read(series: &[SeriesId], range: TimeRange, readings: i64) -> Vec<(RollupKey, Summary)> {
    let of = |&series: &SeriesId| (range.from.0 / HOUR..range.to.0 / HOUR).map(move |hour| rollup(series, hour, readings));
    series.iter().flat_map(of).collect()
}

/// Asks as the engine does; what came, and of which series it had to be read.
fn ask(cache: &Cache, mark: SealMark, series: &[SeriesId], range: TimeRange, readings: i64) -> (Vec<(SeriesId, i64, u64)>, Vec<SeriesId>) {
    let pages = Pages::of(Level::Hour, range);
    let mut looked = cache.look(mark, series, &pages);
    let missing = looked.missing(series);
    cache.keep(mark, (series, &missing), &pages, read(&missing, pages.range(), readings), &mut looked);
    let rollups = Rollups::within(range, series, looked);
    let mut found = Vec::new();
    rollups.by_series(|series, of| found.extend(of.iter().map(|(start, summary)| (series, start / HOUR, summary.count()))));
    assert_eq!(rollups.len(), found.len());
    (found, missing)
}

fn expected(series: &[SeriesId], range: TimeRange, readings: i64) -> Vec<(SeriesId, i64, u64)> {
    read(series, range, readings).into_iter().map(|(key, summary)| (key.series, key.start / HOUR, summary.count())).collect()
}

#[test]
fn what_was_read_is_not_read_again_while_the_mark_is_the_same() {
    let cache = Cache::new(10 << 20, Arc::default()).unwrap();
    let (all, some) = ([id(0), id(1), id(2)], [id(0), id(2)]);
    assert_eq!(ask(&cache, MARK, &some, hours(5, 30), 70), (expected(&some, hours(5, 30), 70), some.to_vec()));
    // Other hours of the same days, and one more series.
    assert_eq!(ask(&cache, MARK, &all, hours(0, 48), 70), (expected(&all, hours(0, 48), 70), vec![id(1)]));
    assert_eq!(ask(&cache, MARK, &all, hours(47, 48), 70).1, []);
    assert_eq!((cache.counts.hits(), cache.counts.misses()), (4 + 3, 4 + 2));
    for other in [SealMark { stored: 101, ..MARK }, SealMark { life: 8, ..MARK }] {
        assert_eq!(ask(&cache, other, &some, hours(5, 30), 71), (expected(&some, hours(5, 30), 71), some.to_vec()), "{other:?}");
    }
    // A snapshot that began before sees what it saw.
    assert_eq!(ask(&cache, MARK, &some, hours(5, 30), 70), (expected(&some, hours(5, 30), 70), some.to_vec()));
}

#[test]
fn that_there_is_nothing_is_kept_too() {
    let cache = Cache::new(10 << 20, Arc::default()).unwrap();
    let pages = Pages::of(Level::Day, hours(0, 24 * 40));
    assert_eq!((pages.n_windows(), pages.range()), (48, hours(0, 24 * 48)));
    let series = [id(3)];
    let mut looked = cache.look(MARK, &series, &pages);
    cache.keep(MARK, (&series, &looked.missing(&series)), &pages, vec![], &mut looked);
    let looked = cache.look(MARK, &series, &pages);
    assert_eq!(looked.missing(&series), []);
    assert_eq!(Rollups::within(hours(0, 24 * 40), &series, looked).len(), 0);
    assert_eq!(Pages::of(Level::Hour, hours(5, 5)).n_windows(), 0);
    assert_eq!(Pages::of(Level::Hour, hours(-1, 1)).range(), hours(-24, 24));
}

#[test]
fn no_bytes_are_no_cache() {
    assert!(Cache::new(0, Arc::default()).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_bytes_stay_within_their_limit_and_what_is_asked_for_again_stays(
        asked in prop::collection::vec((0u32..30, 0i64..10), 1..120), most_bytes in 1usize..200_000,
    ) {
        let cache = Cache::new(most_bytes, Arc::default()).unwrap();
        let favourite = [id(99)];
        let mut held: BTreeMap<u32, i64> = BTreeMap::new();
        for (series, day) in asked {
            let range = hours(24 * day, 24 * day + 24);
            let (found, _) = ask(&cache, MARK, &[id(series)], range, 66);
            prop_assert_eq!(found, expected(&[id(series)], range, 66));
            held.insert(series, day);
            ask(&cache, MARK, &favourite, hours(0, 24), 66);
            let shelves = cache.lock();
            let bytes = |shelf: &HashMap<PageKey, Page>| shelf.values().map(|page| page.bytes).sum::<usize>();
            prop_assert_eq!((bytes(&shelves.young), bytes(&shelves.old)), (shelves.young_bytes, shelves.old_bytes));
            // Each shelf holds half, and the page by which it went beyond.
            let page = bytes_of(&read(&favourite, hours(0, 24), 66).into_iter().map(|(key, summary)| (key.start, summary)).collect::<Vec<_>>());
            prop_assert!(shelves.young_bytes <= most_bytes / 2 && shelves.old_bytes <= most_bytes / 2 + page);
            prop_assert_eq!(cache.counts.bytes(), (shelves.young_bytes + shelves.old_bytes) as u64);
            drop(shelves);
            if most_bytes > 8 * page {
                prop_assert_eq!(ask(&cache, MARK, &favourite, hours(0, 24), 66).1, []);
            }
        }
    }
}
