//! Registering and listing series.
#![expect(missing_docs, reason = "a property's name is its claim")]

use super::view::{MANY, snapshot, some_series, view};
use super::{Store, StoreHarness};
use crate::builders::{NO_LIMITS, id_of, new_series, reading};
use crate::within;
use headwater_core::filter::SeriesFilter;
use headwater_core::glob::{DevicePatterns, Glob};
use headwater_core::series::{Series, SeriesId, SeriesKey};
use headwater_core::store::{NewSeries, Registered, SeriesLimits};
use std::sync::Arc;

async fn register(store: &dyn Store, series: &[NewSeries], limits: SeriesLimits) -> Vec<Registered> {
    let registered = within(store.register(series.to_vec(), limits)).await.expect("register");
    assert_eq!(registered.len(), series.len(), "one answer for each");
    registered
}

async fn ids(store: &dyn Store, series: &[NewSeries]) -> Vec<SeriesId> {
    register(store, series, NO_LIMITS).await.into_iter().map(id_of).collect()
}

fn of_device(device: &str, metrics: &[&str]) -> Vec<NewSeries> {
    metrics.iter().map(|metric| new_series(device, metric)).collect()
}

async fn list(store: &dyn Store, filter: SeriesFilter) -> Vec<Series> {
    within(snapshot(store).await.series(&filter, None, MANY)).await.expect("ask for series")
}

pub async fn registering_inserts_or_finds(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let tagged = NewSeries { key: reading("d", "a").tag("site", "1").key(), unit: None };
    let some = [new_series("d", "a"), new_series("d", "b"), tagged];
    let first = ids(&*store, &some).await;
    assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2], "series with other parts are others: {first:?}");
    assert_eq!(ids(&*store, &some).await, first);
    let more = ids(&*store, &[new_series("d", "c"), some[1].clone()]).await;
    assert_eq!(more[1], first[1]);
    assert!(!first.contains(&more[0]));
    let listed: Vec<_> = view(&*store).await.series.into_iter().map(|series| (series.id, series.key)).collect();
    assert_eq!(listed.len(), 4);
    for (id, new) in first.iter().zip(&some) {
        assert!(listed.contains(&(*id, new.key.clone())), "{:?} has id {id:?}", new.key);
    }
}

pub async fn ids_are_dense_and_survive_a_restart(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let mut all = ids(&*store, &of_device("d", &["a", "b", "c"])).await;
    // Finding and refusing use up no ids.
    ids(&*store, &of_device("d", &["a", "b", "c"])).await;
    register(&*store, &of_device("d", &["x", "y"]), SeriesLimits { per_device: 3, total: 100 }).await;
    all.extend(ids(&*store, &of_device("d", &["b", "d", "e"])).await[1..].iter());
    drop(store);
    let store = harness.open().await;
    // In another order, so that a store that has forgotten them does not give the same ids again.
    let backwards = ids(&*store, &of_device("d", &["e", "d", "c", "b", "a"])).await;
    assert!(backwards.iter().eq(all.iter().rev()), "{all:?} became {backwards:?} after a restart");
    all.extend(ids(&*store, &of_device("other", &["a", "b"])).await);
    all.sort();
    let first = all[0].0;
    assert_eq!(all, (first..first + 7).map(SeriesId).collect::<Vec<_>>());
}

pub async fn answers_come_in_the_order_of_the_question(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let known = ids(&*store, &of_device("d", &["m", "k"])).await;
    let asked = ["z", "k", "a", "z", "m", "a", "z", "k"];
    let answers = ids(&*store, &of_device("d", &asked)).await;
    for (i, j) in (0..asked.len()).flat_map(|i| (0..asked.len()).map(move |j| (i, j))) {
        assert_eq!(asked[i] == asked[j], answers[i] == answers[j], "{asked:?} is answered by {answers:?}");
    }
    assert_eq!((answers[4], answers[1]), (known[0], known[1]));
    let sorted = ["a", "k", "m", "z"];
    assert_eq!(ids(&*store, &of_device("d", &sorted)).await, [answers[2], known[1], known[0], answers[0]]);
}

pub async fn series_registered_by_two_at_once_have_one_id(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    for round in 0..5 {
        let metrics: Vec<String> = (0..20).map(|n| format!("{round}-{n}")).collect();
        let forwards: Vec<_> = metrics.iter().map(|metric| new_series("d", metric)).collect();
        let backwards: Vec<_> = forwards.iter().rev().cloned().collect();
        let callers = [forwards, backwards].map(|series| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { ids(&*store, &series).await })
        });
        let [one, two] = callers;
        let (one, mut two) = (one.await.expect("a caller that did not panic"), two.await.expect("a caller that did not panic"));
        two.reverse();
        assert_eq!(one, two);
    }
    assert_eq!(view(&*store).await.series.len(), 100);
}

pub async fn registering_nothing_answers_nothing(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    assert_eq!(register(&*store, &[], NO_LIMITS).await, []);
}

pub async fn a_registration_is_seen_by_later_snapshots_only(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let mut earlier = snapshot(&*store).await;
    let new = NewSeries { key: reading("d", "m").tag("line", "3").key(), unit: Some("°C".into()) };
    let id = ids(&*store, std::slice::from_ref(&new)).await[0];
    let filter = SeriesFilter::default();
    assert_eq!(within(earlier.series(&filter, None, MANY)).await.expect("ask for series"), [], "it was not there yet");
    assert_eq!(list(&*store, filter).await, [Series { id, key: new.key, unit: new.unit }]);
}

pub async fn the_last_unit_wins_and_none_leaves_it(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let with = |unit: Option<&str>| NewSeries { unit: unit.map(Into::into), ..new_series("d", "m") };
    let steps: [(&[Option<&str>], Option<&str>); 6] = [
        (&[None], None),
        (&[Some("K")], Some("K")),
        (&[None], Some("K")),
        (&[Some("°C")], Some("°C")),
        (&[Some("°F"), None, Some("mK"), None], Some("mK")),
        (&[Some("mK")], Some("mK")),
    ];
    for (sent, expected) in steps {
        ids(&*store, &sent.iter().map(|unit| with(*unit)).collect::<Vec<_>>()).await;
        assert_eq!(list(&*store, SeriesFilter::default()).await[0].unit.as_deref(), expected, "after {sent:?}");
    }
}

pub async fn the_limit_of_a_device_refuses_new_series_only(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let limits = SeriesLimits { per_device: 2, total: 100 };
    let answers = register(&*store, &of_device("d", &["a", "b", "c", "a", "c"]), limits).await;
    assert!(matches!(answers[..2], [Registered::As(_), Registered::As(_)]));
    assert_eq!(answers[2..], [Registered::DeviceLimit, answers[0], Registered::DeviceLimit]);
    // The device's name is the beginning of another's, and the other way round; neither counts for the other.
    for other in ["d1", "e"] {
        assert!(matches!(
            register(&*store, &of_device(other, &["a", "b", "c"]), limits).await[..],
            [_, Registered::As(_), Registered::DeviceLimit]
        ));
    }
    let none = SeriesLimits { per_device: 0, total: 100 };
    assert_eq!(register(&*store, &of_device("d", &["b", "new", "a"]), none).await, [answers[1], Registered::DeviceLimit, answers[0]]);
    assert_eq!(view(&*store).await.series.len(), 6, "what was refused is not there");
}

pub async fn the_limit_of_all_refuses_new_series_only(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let limits = SeriesLimits { per_device: 100, total: 3 };
    let known = register(&*store, &[new_series("d", "a"), new_series("e", "a")], limits).await;
    let answers =
        register(&*store, &[new_series("f", "a"), new_series("d", "a"), new_series("g", "a"), new_series("f", "a")], limits).await;
    assert!(matches!(answers[0], Registered::As(_)));
    assert_eq!(answers[1..], [known[0], Registered::TotalLimit, answers[0]]);
    let none = SeriesLimits { per_device: 100, total: 0 };
    assert_eq!(register(&*store, &[new_series("e", "a"), new_series("h", "a")], none).await, [known[1], Registered::TotalLimit]);
    assert_eq!(view(&*store).await.series.len(), 3, "what was refused is not there");
}

/// Names whose order by bytes is not that of words, lengths or locales, in the order of their keys.
fn awkward() -> Vec<SeriesKey> {
    let mut keys: Vec<SeriesKey> = [
        reading("a", "m"),
        reading("a", "m").tag("x", "1"),
        reading("a", "m").tag("x", "1").tag("y", "2"),
        reading("a", "m").tag("x", "2"),
        reading("a", "m-2"),
        reading("a b", "m"),
        reading("a/b", "m"),
        reading("B", "m"),
        reading("ab", "m"),
        reading("É", "m"),
        reading("é", "m"),
        reading("\u{ffff}", "m"),
        reading("\u{10000}", "m"),
    ]
    .iter()
    .map(crate::builders::Reading::key)
    .collect();
    keys.sort();
    keys
}

async fn register_awkward(store: &dyn Store) -> Vec<SeriesKey> {
    let keys = awkward();
    let shuffled: Vec<_> = [5, 0, 12, 3, 9, 7, 1, 11, 4, 10, 2, 8, 6].map(|i: usize| NewSeries { key: keys[i].clone(), unit: None }).into();
    ids(store, &shuffled).await;
    keys
}

pub async fn series_are_listed_by_the_bytes_of_their_keys(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let keys = register_awkward(&*store).await;
    let listed: Vec<_> = list(&*store, SeriesFilter::default()).await.into_iter().map(|series| series.key).collect();
    assert_eq!(listed, keys);
}

fn globs(patterns: &[&str]) -> Vec<Glob> {
    patterns.iter().map(|pattern| Glob::new(*pattern)).collect()
}

pub async fn series_are_filtered_by_every_part(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let keys = register_awkward(&*store).await;
    let tag = |name: &str, pattern: &str| (name.to_owned(), Glob::new(pattern));
    let filters = [
        SeriesFilter { devices: globs(&["a"]), ..SeriesFilter::default() },
        SeriesFilter { devices: globs(&["a*"]), ..SeriesFilter::default() },
        SeriesFilter { devices: globs(&["*b", "a", "a*"]), ..SeriesFilter::default() },
        SeriesFilter { devices: globs(&["É", "\u{ffff}*"]), ..SeriesFilter::default() },
        SeriesFilter { devices: globs(&["nobody"]), ..SeriesFilter::default() },
        SeriesFilter { metrics: globs(&["m-*"]), ..SeriesFilter::default() },
        SeriesFilter { metrics: globs(&["m", "x"]), devices: globs(&["a"]), ..SeriesFilter::default() },
        SeriesFilter { tags: vec![tag("x", "1")], ..SeriesFilter::default() },
        SeriesFilter { tags: vec![tag("x", "*"), tag("y", "2")], ..SeriesFilter::default() },
        SeriesFilter { tags: vec![tag("y", "1")], ..SeriesFilter::default() },
    ];
    for filter in filters {
        let expected: Vec<_> = keys.iter().filter(|key| filter.matches(key.as_str())).cloned().collect();
        let listed: Vec<_> = list(&*store, filter.clone()).await.into_iter().map(|series| series.key).collect();
        assert_eq!(listed, expected, "of {filter:?}");
    }
}

pub async fn series_are_filtered_by_what_the_caller_may_see(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    register_awkward(&*store).await;
    let seen = async |devices: &[&str], allowed: &[&str]| {
        let filter = SeriesFilter { devices: globs(devices), allowed: DevicePatterns::Some(globs(allowed)), ..SeriesFilter::default() };
        let mut seen: Vec<_> = list(&*store, filter).await.into_iter().map(|series| series.key.parts().device.to_owned()).collect();
        seen.dedup();
        seen
    };
    assert_eq!(seen(&[], &["a/*", "B"]).await, ["B", "a/b"]);
    assert_eq!(seen(&["a*"], &["*b"]).await, ["a b", "a/b", "ab"]);
    assert_eq!(seen(&["B"], &["a*"]).await, [""; 0], "asking does not widen it");
    assert_eq!(seen(&[], &[]).await, [""; 0], "an empty list allows nothing");
}

pub async fn paging_series_gives_each_once(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let keys = register_awkward(&*store).await;
    some_series(&*store, 3).await;
    let filter = SeriesFilter { devices: globs(&["a*", "B", "\u{10000}"]), ..SeriesFilter::default() };
    let expected: Vec<_> = keys.into_iter().filter(|key| filter.matches(key.as_str())).collect();
    let mut snapshot = snapshot(&*store).await;
    for limit in [1, 2, 3, 7, 100] {
        let mut paged: Vec<SeriesKey> = Vec::new();
        loop {
            let page = within(snapshot.series(&filter, paged.last(), limit)).await.expect("ask for series");
            assert!(page.len() <= limit);
            assert!(page.first().is_none_or(|first| paged.last() < Some(&first.key)), "a page begins behind the one before");
            if page.is_empty() {
                break;
            }
            paged.extend(page.into_iter().map(|series| series.key));
        }
        assert_eq!(paged, expected, "in pages of {limit}");
    }
}
