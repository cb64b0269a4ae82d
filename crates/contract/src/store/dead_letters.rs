//! Refused input, shown and listed.
#![expect(missing_docs, reason = "a property's name is its claim")]

use super::view::{MANY_BYTES, commit, snapshot, totals};
use super::{Store, StoreHarness};
use crate::builders::{at, batch, letter};
use crate::within;
use headwater_core::dead_letter::{DeadLetter, Origin, PART_BYTES, Reason};
use headwater_core::glob::{DevicePatterns, Glob};
use headwater_core::log::LogId;
use headwater_core::store::DeadLetterQuery;
use uuid::Uuid;

async fn show(store: &dyn Store, id: Uuid) -> Option<DeadLetter> {
    within(snapshot(store).await.dead_letter(id)).await.expect("ask for a dead letter").map(|kept| kept.letter)
}

/// The letters that a query means, without what became of them.
async fn letters(store: &dyn Store, query: DeadLetterQuery) -> Vec<DeadLetter> {
    super::view::letters(store, query).await.into_iter().map(|kept| kept.letter).collect()
}

/// Commits each group of letters as a batch.
async fn commit_letters(store: &dyn Store, groups: impl IntoIterator<Item = Vec<DeadLetter>>) {
    for (group, n) in groups.into_iter().zip(0u64..) {
        let batch = group.into_iter().fold(batch(), crate::builders::BatchBuilder::dead);
        commit(store, batch.moved(0, n.checked_sub(1), n).build()).await;
    }
}

pub async fn a_dead_letter_is_shown_as_it_was_committed(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let full = DeadLetter {
        id: Uuid::from_u128(u128::MAX - 5),
        received_at: at(3).plus(123_456),
        reason: Reason::TooManyMetrics,
        detail: "“257” metrics,\n256 are allowed \0".to_owned(),
        device: Some("plant-a/é".to_owned()),
        format: "json+gzip".to_owned(),
        count: 257,
        bytes: (0..=255).collect(),
        part: 0,
        parts: 1,
        origin: Some(Origin { log: LogId("another log".into()), partition: 9, position: 1 << 50 }),
    };
    let bare = DeadLetter { bytes: vec![], count: 0, ..letter(2) };
    commit_letters(&*store, [vec![full.clone(), bare.clone()]]).await;
    assert_eq!(show(&*store, full.id).await, Some(full.clone()));
    assert_eq!(show(&*store, bare.id).await, Some(bare.clone()));
    assert_eq!(letters(&*store, DeadLetterQuery::default()).await, [full, bare], "and listed so");
    for (&reason, n) in Reason::ALL.iter().zip(10..) {
        let letter = DeadLetter { reason, ..letter(n) };
        let last = totals(&*store).await.positions[0].next;
        commit(&*store, batch().dead(letter.clone()).moved(0, Some(last), last + 1).build()).await;
        assert_eq!(show(&*store, letter.id).await, Some(letter));
    }
}

pub async fn a_dead_letter_is_put_together_from_its_parts(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let bytes: Vec<u8> = (0..PART_BYTES * 2 + 17).map(|i| (i % 253) as u8).collect();
    let parts: Vec<DeadLetter> = bytes
        .chunks(PART_BYTES)
        .zip(0..)
        .map(|(bytes, part)| DeadLetter { bytes: bytes.to_vec(), part, parts: 3, count: 5, device: Some("d".into()), ..letter(1) })
        .collect();
    // Two parts in one commit, the third in a later one, another letter in between.
    commit_letters(&*store, [parts[..2].to_vec(), vec![letter(2)], parts[2..].to_vec()]).await;
    let shown = show(&*store, parts[0].id).await.expect("a letter of which all parts are there");
    assert!(shown.bytes == bytes, "{} bytes are put together to {}", bytes.len(), shown.bytes.len());
    let head =
        |letter: &DeadLetter| DeadLetter { bytes: vec![], part: 0, parts: 0, origin: crate::builders::letter(0).origin, ..letter.clone() };
    assert_eq!(head(&shown), head(&parts[0]));
    let listed = letters(&*store, DeadLetterQuery::default()).await;
    assert_eq!(listed.iter().map(|letter| letter.id).collect::<Vec<_>>(), [letter(2).id, letter(1).id], "it is one letter");
    assert!(listed[1].bytes == bytes);
    let totals = totals(&*store).await;
    assert_eq!((totals.dead_letters, totals.dead), (2, 6));
}

pub async fn a_dead_letter_that_does_not_exist_is_none(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    commit_letters(&*store, [vec![letter(1)]]).await;
    assert_eq!(show(&*store, Uuid::from_u128(2)).await, None);
    assert_eq!(show(&*store, Uuid::nil()).await, None);
}

pub async fn a_dead_letter_committed_twice_is_kept_once(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let part = |part, bytes: &[u8]| DeadLetter { part, parts: 2, bytes: bytes.to_vec(), ..letter(2) };
    // A body that was sent to the log twice because its first answer was lost: same ids, other positions.
    let again = DeadLetter { origin: letter(1).origin.map(|origin| Origin { position: 9, ..origin }), ..letter(1) };
    commit_letters(&*store, [vec![letter(1), part(0, b"ab"), part(1, b"cd")], vec![again, part(0, b"ab"), part(1, b"cd")]]).await;
    assert_eq!(totals(&*store).await.dead_letters, 2);
    assert_eq!(letters(&*store, DeadLetterQuery::default()).await.len(), 2);
    assert_eq!(show(&*store, letter(2).id).await.expect("it is there").bytes, b"abcd");
}

/// Letters `n` with their seconds, in an order of their own.
fn spread() -> Vec<DeadLetter> {
    let times = [(3, 30), (1, 10), (4, 30), (6, 20), (2, 10), (5, 30), (7, -10)];
    times.map(|(n, seconds)| DeadLetter { received_at: at(seconds), ..letter(n) }).into()
}

fn numbers(letters: &[DeadLetter]) -> Vec<u128> {
    letters.iter().map(|letter| letter.id.as_u128()).collect()
}

pub async fn dead_letters_are_listed_newest_first(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    commit_letters(&*store, spread().chunks(3).map(<[_]>::to_vec)).await;
    let listed = letters(&*store, DeadLetterQuery::default()).await;
    assert_eq!(numbers(&listed), [5, 4, 3, 6, 2, 1, 7], "newest first, then by id from the greatest");
}

pub async fn dead_letters_are_filtered_by_reason_device_and_time(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let of = |n, seconds, reason, device: Option<&str>| DeadLetter {
        received_at: at(seconds),
        reason,
        device: device.map(Into::into),
        ..letter(n)
    };
    commit_letters(
        &*store,
        [vec![
            of(1, 10, Reason::Malformed, None),
            of(2, 20, Reason::NotFinite, Some("plant-a/press-1")),
            of(3, 30, Reason::Malformed, Some("plant-a/press-2")),
            of(4, 40, Reason::NotFinite, Some("plant-b/press-1")),
            of(5, 50, Reason::SeriesLimit, Some("x")),
        ]],
    )
    .await;
    let all = DeadLetterQuery::default;
    let globs = |patterns: &[&str]| patterns.iter().map(|pattern| Glob::new(*pattern)).collect::<Vec<_>>();
    let cases: [(DeadLetterQuery, &[u128]); 11] = [
        (all(), &[5, 4, 3, 2, 1]),
        (DeadLetterQuery { reason: Some(Reason::NotFinite), ..all() }, &[4, 2]),
        (DeadLetterQuery { reason: Some(Reason::Undecodable), ..all() }, &[]),
        (DeadLetterQuery { devices: globs(&["plant-a/*", "x"]), ..all() }, &[5, 3, 2]),
        (DeadLetterQuery { devices: globs(&["*"]), ..all() }, &[5, 4, 3, 2]),
        (DeadLetterQuery { devices: globs(&["*/press-1"]), ..all() }, &[4, 2]),
        (DeadLetterQuery { from: Some(at(30)), ..all() }, &[5, 4, 3]),
        (DeadLetterQuery { to: Some(at(30)), ..all() }, &[2, 1]),
        (DeadLetterQuery { from: Some(at(20)), to: Some(at(50)), ..all() }, &[4, 3, 2]),
        (DeadLetterQuery { from: Some(at(20)), reason: Some(Reason::Malformed), devices: globs(&["plant*"]), ..all() }, &[3]),
        (DeadLetterQuery { after: Some((at(30), letter(3).id)), ..all() }, &[2, 1]),
    ];
    for (query, expected) in cases {
        assert_eq!(numbers(&letters(&*store, query.clone()).await), expected, "of {query:?}");
    }
}

pub async fn dead_letters_without_a_device_are_seen_by_those_who_see_all(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let of = |n, device: &str| DeadLetter { device: Some(device.into()), ..letter(n) };
    commit_letters(&*store, [vec![letter(1), of(2, "plant-a/1"), of(3, "plant-b/1")]]).await;
    let seen = async |allowed: DevicePatterns, devices: &[&str]| {
        let devices = devices.iter().map(|pattern| Glob::new(*pattern)).collect();
        numbers(&letters(&*store, DeadLetterQuery { allowed, devices, ..DeadLetterQuery::default() }).await)
    };
    let some = |patterns: &[&str]| DevicePatterns::Some(patterns.iter().map(|pattern| Glob::new(*pattern)).collect());
    assert_eq!(seen(DevicePatterns::All, &[]).await, [3, 2, 1]);
    assert_eq!(seen(some(&["plant-a/*"]), &[]).await, [2]);
    assert_eq!(seen(some(&["*"]), &[]).await, [3, 2], "a letter without a device is nobody's");
    assert_eq!(seen(some(&["plant-a/*"]), &["plant-b/*"]).await, [0; 0], "asking does not widen it");
    assert_eq!(seen(some(&[]), &[]).await, [0; 0]);
}

/// Lists page after page as a caller does; checks what is said of more to come.
async fn page_through(store: &dyn Store, query: &DeadLetterQuery, max_bytes: usize) -> Vec<Vec<DeadLetter>> {
    let (mut snapshot, mut query, mut pages) = (snapshot(store).await, query.clone(), Vec::new());
    loop {
        let (page, more) = within(snapshot.dead_letters(&query, max_bytes)).await.expect("ask for dead letters");
        assert!(page.len() <= query.limit, "{} letters are more than {}", page.len(), query.limit);
        assert!(
            page.iter().all(|letter| query.after.is_none_or(|after| (letter.received_at, letter.id) < after)),
            "a page begins behind the one before"
        );
        let last = page.last().map(|letter| (letter.received_at, letter.id));
        pages.push(page.into_iter().map(|kept| kept.letter).collect());
        if !more {
            return pages;
        }
        assert!(last.is_some(), "a page with more to come holds at least one letter");
        query.after = last;
    }
}

pub async fn paging_dead_letters_gives_each_once(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    commit_letters(&*store, spread().chunks(2).map(<[_]>::to_vec)).await;
    for limit in 1..=8 {
        let pages = page_through(&*store, &DeadLetterQuery { limit, ..DeadLetterQuery::default() }, MANY_BYTES).await;
        assert_eq!(pages.len(), 7usize.div_ceil(limit), "pages of {limit} are full, and the last one says so");
        assert_eq!(numbers(&pages.concat()), [5, 4, 3, 6, 2, 1, 7], "in pages of {limit}");
        let some = DeadLetterQuery { limit, to: Some(at(30)), from: Some(at(0)), ..DeadLetterQuery::default() };
        assert_eq!(numbers(&page_through(&*store, &some, MANY_BYTES).await.concat()), [6, 2, 1], "filtered, in pages of {limit}");
    }
}

pub async fn pages_of_dead_letters_stay_under_their_bytes(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let sizes = [100, 400, 0, 50, 1_000, 30, 30];
    let sized = sizes.into_iter().zip(1..).map(|(size, n)| DeadLetter { bytes: vec![7; size], ..letter(n) });
    let parts = (0..2).map(|part| DeadLetter { part, parts: 2, bytes: vec![part as u8; 300], ..letter(8) });
    commit_letters(&*store, [sized.chain(parts).collect()]).await;
    let query = DeadLetterQuery { limit: 100, ..DeadLetterQuery::default() };
    for max_bytes in [1, 60, 200, 640, 5_000] {
        let pages = page_through(&*store, &query, max_bytes).await;
        for page in &pages {
            let bytes: usize = page.iter().map(|letter| letter.bytes.len()).sum();
            assert!(page.len() == 1 || bytes <= max_bytes, "{} letters have {bytes} bytes, more than {max_bytes}", page.len());
        }
        assert_eq!(numbers(&pages.concat()), [8, 7, 6, 5, 4, 3, 2, 1], "under {max_bytes} bytes");
    }
}
