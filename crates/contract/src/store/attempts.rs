//! What becomes of refused input: it comes again, is retried, is discarded, grows old.
#![expect(missing_docs, reason = "a property's name is its claim")]

use super::view::{commit, letters, totals, view};
use super::{Store, StoreHarness};
use crate::builders::{at, batch, letter};
use crate::within;
use headwater_core::dead_letter::{Attempt, DeadLetter, History, KeptLetter, LetterState, RetryOutcome};
use headwater_core::store::{DeadLetterQuery, Totals};
use headwater_core::time::Timestamp;
use uuid::Uuid;

/// Commits letters behind the position of partition 0.
async fn arrive(store: &dyn Store, letters: impl IntoIterator<Item = DeadLetter>) {
    let last = totals(store).await.positions.first().map(|position| position.next);
    let batch = letters.into_iter().fold(batch(), crate::builders::BatchBuilder::dead);
    commit(store, batch.moved(0, last, last.unwrap_or(0) + 1).build()).await;
}

async fn shown(store: &dyn Store, n: u128) -> Option<KeptLetter> {
    within(super::view::snapshot(store).await.dead_letter(Uuid::from_u128(n))).await.expect("ask for a dead letter")
}

async fn history(store: &dyn Store, n: u128) -> History {
    shown(store, n).await.expect("a letter that is there").history
}

fn attempt(second: i64, outcome: RetryOutcome) -> Attempt {
    let detail = if outcome == RetryOutcome::Accepted { "" } else { "“hot” is no number \0" };
    Attempt { at: at(second), outcome, detail: detail.to_owned() }
}

/// Records a retry; what the letter's history is then.
async fn retried(store: &dyn Store, n: u128, attempt: Attempt) -> Option<History> {
    let answers = within(store.attempted(vec![(Uuid::from_u128(n), attempt)])).await.expect("record a retry");
    let [answer] = <[_; 1]>::try_from(answers).expect("one answer to one question");
    answer
}

async fn discarded(store: &dyn Store, n: u128) -> bool {
    within(store.discard(Uuid::from_u128(n))).await.expect("discard a dead letter")
}

async fn listed(store: &dyn Store, state: Option<LetterState>) -> Vec<u128> {
    let query = DeadLetterQuery { state, ..DeadLetterQuery::default() };
    letters(store, query).await.iter().map(|letter| letter.id.as_u128()).collect()
}

/// Kept, open, dropped, discarded.
fn tally(totals: &Totals) -> [u64; 4] {
    [totals.dead_letters, totals.dead_letters_open, totals.dead_letters_dropped, totals.dead_letters_discarded]
}

pub async fn a_dead_letter_begins_open_and_seen_once(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    arrive(&*store, [DeadLetter { received_at: at(3), ..letter(1) }, letter(2)]).await;
    assert_eq!(history(&*store, 1).await, History::new(at(3)));
    assert_eq!(tally(&totals(&*store).await), [2, 2, 0, 0]);
}

pub async fn a_dead_letter_that_comes_again_is_counted_and_seen_again(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let of = |n, seconds| DeadLetter { received_at: at(seconds), count: 3, ..letter(n) };
    arrive(&*store, [of(1, 1)]).await;
    arrive(&*store, [of(1, 5), DeadLetter { bytes: b"other".to_vec(), ..of(1, 7) }]).await;
    let kept = shown(&*store, 1).await.expect("it is there");
    assert_eq!((kept.history.seen, kept.history.last_seen, kept.history.state), (3, at(7), LetterState::Open));
    assert_eq!((kept.count, kept.received_at, &kept.bytes), (9, at(1), &of(1, 1).bytes), "the first stays, and counts for all");
    // In parts: the first one tells that it comes again.
    let part = |part, seconds| DeadLetter { part, parts: 2, bytes: vec![part as u8], ..of(2, seconds) };
    arrive(&*store, [part(1, 1)]).await;
    arrive(&*store, [part(0, 1)]).await;
    assert_eq!((history(&*store, 2).await.seen, shown(&*store, 2).await.expect("whole").count), (1, 3));
    arrive(&*store, [part(0, 9), part(1, 9)]).await;
    let kept = shown(&*store, 2).await.expect("it is there");
    assert_eq!((kept.history.seen, kept.history.last_seen, kept.count, &kept.bytes[..]), (2, at(9), 6, &[0, 1][..]));
    let totals = totals(&*store).await;
    assert_eq!((tally(&totals), totals.dead), ([2, 2, 0, 0], 15), "what the letters count as is what is dead");
}

pub async fn a_retry_is_recorded_and_settles_the_letter_when_all_was_accepted(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    arrive(&*store, [letter(1), letter(2)]).await;
    let mut expected = History::new(letter(1).received_at);
    for (n, outcome) in (1..).zip([RetryOutcome::Rejected, RetryOutcome::Partly, RetryOutcome::Accepted, RetryOutcome::Rejected]) {
        let answer = retried(&*store, 1, attempt(n, outcome)).await.expect("the letter is there");
        expected.attempted(attempt(n, outcome));
        assert_eq!(answer, expected, "attempt {n}");
        assert_eq!(history(&*store, 1).await, expected, "attempt {n}, read back");
        let is_open = expected.state == LetterState::Open;
        assert_eq!(tally(&totals(&*store).await), [2, 1 + u64::from(is_open), 0, 0], "attempt {n}");
    }
    assert_eq!((expected.state, expected.attempts), (LetterState::Retried, 4), "what was accepted stays so");
    assert_eq!(history(&*store, 2).await, History::new(letter(2).received_at), "the other is left alone");
    assert_eq!(shown(&*store, 1).await.expect("it is there").letter, letter(1), "the letter itself is as it was");
}

pub async fn retries_are_recorded_together_and_unknown_letters_are_none(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    arrive(&*store, (1..=5).map(letter)).await;
    let attempts = [4, 9, 1, 4].map(|n| (Uuid::from_u128(n), attempt(n as i64, RetryOutcome::Accepted))).to_vec();
    let answers = within(store.attempted(attempts)).await.expect("record retries");
    let told: Vec<_> = answers.iter().map(|answer| answer.as_ref().map(|history| (history.state, history.attempts))).collect();
    let retried = LetterState::Retried;
    assert_eq!(told, [Some((retried, 1)), None, Some((retried, 1)), Some((retried, 2))]);
    assert_eq!(tally(&totals(&*store).await), [5, 3, 0, 0]);
    assert_eq!(within(store.attempted(vec![])).await.expect("record nothing"), []);
}

pub async fn a_letter_that_comes_again_after_its_retry_is_open_again(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    arrive(&*store, [letter(1)]).await;
    retried(&*store, 1, attempt(5, RetryOutcome::Accepted)).await;
    assert_eq!(tally(&totals(&*store).await), [1, 0, 0, 0]);
    arrive(&*store, [DeadLetter { received_at: at(5), ..letter(1) }]).await;
    let history = history(&*store, 1).await;
    assert_eq!((history.state, history.seen, history.attempts), (LetterState::Open, 2, 1));
    assert_eq!(tally(&totals(&*store).await), [1, 1, 0, 0]);
}

pub async fn a_retry_that_was_refused_before_it_was_recorded_leaves_the_letter_open(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    // Its clock was ahead when it came first.
    arrive(&*store, [DeadLetter { received_at: at(500), ..letter(1) }]).await;
    arrive(&*store, [DeadLetter { received_at: at(5), ..letter(1) }]).await;
    let answer = retried(&*store, 1, attempt(5, RetryOutcome::Accepted)).await.expect("it is there");
    assert_eq!((answer.state, answer.attempts, answer.last_seen), (LetterState::Open, 1, at(5)));
    let answer = retried(&*store, 1, attempt(6, RetryOutcome::Accepted)).await.expect("it is there");
    assert_eq!((answer.state, answer.attempts), (LetterState::Retried, 2));
}

pub async fn a_discarded_letter_keeps_its_account_and_loses_its_bytes(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let parts = (0..2).map(|part| DeadLetter { part, parts: 2, bytes: vec![7; 300], ..letter(1) });
    arrive(&*store, parts.chain([letter(2), letter(3)])).await;
    retried(&*store, 2, attempt(1, RetryOutcome::Accepted)).await;
    assert!(discarded(&*store, 1).await && discarded(&*store, 2).await && discarded(&*store, 1).await);
    assert!(!discarded(&*store, 9).await, "there is none");
    let kept = shown(&*store, 1).await.expect("its account is kept");
    assert_eq!((kept.history.state, kept.bytes.len(), kept.count, kept.parts), (LetterState::Discarded, 0, 1, 2));
    assert_eq!(tally(&totals(&*store).await), [3, 1, 0, 2], "each is counted once");
    // It comes again, and is retried by somebody who did not know.
    arrive(&*store, (0..2).map(|part| DeadLetter { part, parts: 2, bytes: vec![7; 300], ..letter(1) })).await;
    retried(&*store, 1, attempt(9, RetryOutcome::Accepted)).await;
    let kept = shown(&*store, 1).await.expect("its account is kept");
    assert_eq!((kept.history.state, kept.history.seen, kept.bytes.len(), kept.count), (LetterState::Discarded, 2, 0, 2));
    assert_eq!(tally(&totals(&*store).await), [3, 1, 0, 2]);
}

pub async fn a_letter_that_is_not_whole_is_neither_retried_nor_discarded(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    arrive(&*store, [DeadLetter { parts: 2, ..letter(1) }]).await;
    assert_eq!(retried(&*store, 1, attempt(1, RetryOutcome::Accepted)).await, None);
    assert!(!discarded(&*store, 1).await);
    assert_eq!(tally(&totals(&*store).await), [0, 0, 0, 0]);
}

pub async fn dead_letters_are_filtered_by_state(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    arrive(&*store, (1..=6).map(letter)).await;
    for n in [2, 4] {
        retried(&*store, n, attempt(1, RetryOutcome::Accepted)).await;
    }
    discarded(&*store, 5).await;
    assert_eq!(listed(&*store, None).await, [6, 5, 4, 3, 2, 1]);
    assert_eq!(listed(&*store, Some(LetterState::Open)).await, [6, 3, 1]);
    assert_eq!(listed(&*store, Some(LetterState::Retried)).await, [4, 2]);
    assert_eq!(listed(&*store, Some(LetterState::Discarded)).await, [5]);
}

pub async fn what_becomes_of_letters_moves_no_count_of_readings(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    arrive(&*store, (1..=4).map(|n| DeadLetter { count: 10, ..letter(n) })).await;
    let counts = |totals: Totals| (totals.received, totals.stored, totals.duplicate, totals.conflict, totals.dead, totals.unsealed);
    let before = counts(totals(&*store).await);
    assert_eq!((before.0, before.4), (40, 40));
    retried(&*store, 1, attempt(1, RetryOutcome::Accepted)).await;
    discarded(&*store, 2).await;
    assert_eq!(within(store.expire(Timestamp(i64::MAX), 2)).await.expect("let letters go"), 2);
    assert_eq!(counts(totals(&*store).await), before);
}

pub async fn dead_letters_that_are_too_old_go_the_oldest_first_and_are_counted(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    let of = |n, seconds| DeadLetter { received_at: at(seconds), bytes: vec![7; 50], ..letter(n) };
    arrive(&*store, [of(1, 40), of(2, 10), of(3, 30), of(4, 20), of(5, 20)]).await;
    retried(&*store, 4, attempt(50, RetryOutcome::Accepted)).await;
    discarded(&*store, 2).await;
    let expire = async |before, most| within(store.expire(at(before), most)).await.expect("let letters go");
    assert_eq!(expire(10, 100).await, 0, "the bound itself is not too old");
    assert_eq!(expire(30, 2).await, 2);
    assert_eq!(
        (listed(&*store, None).await, tally(&totals(&*store).await)),
        (vec![1, 3, 5], [3, 3, 1, 1]),
        "what was discarded is not dropped"
    );
    assert_eq!(expire(30, 2).await, 1);
    assert_eq!(expire(30, 2).await, 0);
    assert_eq!((listed(&*store, None).await, tally(&totals(&*store).await)), (vec![1, 3], [2, 2, 2, 1]));
    assert_eq!(shown(&*store, 5).await, None);
    // One that went and comes again is a new one.
    arrive(&*store, [of(5, 60)]).await;
    assert_eq!((history(&*store, 5).await, tally(&totals(&*store).await)), (History::new(at(60)), [3, 3, 2, 1]));
}

pub async fn what_became_of_letters_survives_a_restart(harness: &mut dyn StoreHarness) {
    let store = harness.open().await;
    arrive(&*store, (1..=5).map(letter)).await;
    arrive(&*store, [DeadLetter { received_at: at(3), ..letter(1) }]).await;
    retried(&*store, 2, attempt(1, RetryOutcome::Partly)).await;
    retried(&*store, 3, attempt(2, RetryOutcome::Accepted)).await;
    discarded(&*store, 4).await;
    let before = view(&*store).await;
    drop(store);
    let store = harness.open().await;
    assert_eq!(view(&*store).await, before);
    // And it goes on from there.
    arrive(&*store, [letter(3)]).await;
    assert_eq!(tally(&totals(&*store).await), [5, 4, 0, 1]);
}
