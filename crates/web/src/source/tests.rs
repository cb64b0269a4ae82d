//! When keys are fetched, who waits, and what stays.

use super::*;
use crate::key::{SigningKey, VerifyingKey};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

const PACE: Pace = Pace {
    between: Duration::from_secs(30),
    patience: Duration::from_secs(2),
    while_empty: Duration::from_secs(5),
    after_failure: Duration::from_secs(60),
};

fn key() -> VerifyingKey {
    let directory = tempfile::tempdir().unwrap();
    SigningKey::open_or_create(&directory.path().join("key.pem")).unwrap().verifying_key()
}

/// Fetches what it holds; counts how often.
#[derive(Clone, Default)]
struct Shelf {
    keys: Arc<Mutex<Option<KeySet>>>,
    fetches: Arc<AtomicUsize>,
    /// Where set, a fetch waits for a word.
    held: Arc<Mutex<Option<mpsc::Receiver<()>>>>,
}

impl Fetch for Shelf {
    fn fetch(&self) -> Result<Fetched> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        if let Some(held) = &*self.held.lock().unwrap() {
            held.recv().unwrap();
        }
        let keys = self.keys.lock().unwrap().clone();
        Ok(Fetched { keys: keys.ok_or_else(|| anyhow::anyhow!("it is down"))?, again_in: Duration::from_secs(600) })
    }
}

impl Shelf {
    fn put(&self, keys: Option<KeySet>) {
        *self.keys.lock().unwrap() = keys;
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    fn source(&self) -> Arc<Source> {
        Source::new("https://issuer.test", Box::new(self.clone()), PACE)
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_not_there_is_looked_for_at_most_every_half_minute() {
    let shelf = Shelf::default();
    shelf.put(Some(KeySet::default().with(&key(), None)));
    let source = shelf.source();
    assert!(source.look_again(0).await, "the first look brings keys");
    for _ in 0..100 {
        assert!(!source.look_again(1).await, "there is nothing newer");
    }
    assert_eq!(shelf.fetches(), 1);
    tokio::time::advance(Duration::from_secs(27)).await;
    assert!(!source.look_again(1).await);
    shelf.put(Some(KeySet::default().with(&key(), None)));
    // When it is nearly time, it is worth waiting for.
    tokio::time::advance(Duration::from_secs(2)).await;
    let looking = Instant::now();
    assert!(source.look_again(1).await);
    assert_eq!((shelf.fetches(), looking.elapsed().as_millis()), (2, 1_000));
}

#[tokio::test]
async fn many_who_look_at_once_wait_for_one_fetch() {
    let shelf = Shelf::default();
    shelf.put(Some(KeySet::default().with(&key(), None)));
    let (release, held) = mpsc::channel();
    *shelf.held.lock().unwrap() = Some(held);
    let source = shelf.source();
    let lookers: Vec<_> = (0..50)
        .map(|_| {
            let source = Arc::clone(&source);
            tokio::spawn(async move { source.look_again(0).await })
        })
        .collect();
    tokio::task::yield_now().await;
    release.send(()).unwrap();
    for looker in lookers {
        assert!(looker.await.unwrap());
    }
    assert_eq!(shelf.fetches(), 1);
}

#[tokio::test]
async fn nobody_waits_longer_than_patience_for_a_fetch_that_hangs() {
    let shelf = Shelf::default();
    shelf.put(Some(KeySet::default().with(&key(), None)));
    let (release, held) = mpsc::channel();
    *shelf.held.lock().unwrap() = Some(held);
    let source = Source::new("x", Box::new(shelf.clone()), Pace { patience: Duration::from_millis(50), ..PACE });
    assert!(!source.look_again(0).await);
    // What was begun is finished all the same.
    let mut ended = source.ended.subscribe();
    release.send(()).unwrap();
    ended.changed().await.unwrap();
    assert_eq!(source.current().1, 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_keys_outlive_an_outage_and_new_ones_come_by_themselves() {
    let shelf = Shelf::default();
    let source = shelf.source();
    let keeping = tokio::spawn(Arc::clone(&source).keep_fresh());
    let until = async |generation: u64| {
        while source.current().1 < generation {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    // Down from the start: tried again soon.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!((8..=13).contains(&shelf.fetches()), "{}", shelf.fetches());
    shelf.put(Some(KeySet::default().with(&key(), None)));
    until(1).await;
    let first = source.current().0;
    // Down again: what is there stays, and the tries are rarer.
    shelf.put(None);
    let before = shelf.fetches();
    tokio::time::sleep(Duration::from_secs(1200)).await;
    assert!(source.current().0.same(&first) && source.current().1 == 1);
    assert!((8..=12).contains(&(shelf.fetches() - before)), "{}", shelf.fetches() - before);
    shelf.put(Some(KeySet::default().with(&key(), None)));
    until(2).await;
    assert!(!source.current().0.same(&first));
    keeping.abort();
}

#[tokio::test(start_paused = true)]
async fn the_same_keys_again_are_no_other_set() {
    let shelf = Shelf::default();
    shelf.put(Some(KeySet::default().with(&key(), None)));
    let source = shelf.source();
    let keeping = tokio::spawn(Arc::clone(&source).keep_fresh());
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(shelf.fetches() >= 5 && source.current().1 == 1);
    keeping.abort();
}
