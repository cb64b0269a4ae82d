//! Answers are the same with the cache and without it, whatever happens to what is sealed.

use super::counting::{Counting, Counts};
use crate::Config;
use crate::testing::{Reading, Stack, at, reading};
use axum::http::header;
use headwater_contract::MemoryStore;
use headwater_core::BoxFuture;
use headwater_core::series::Shard;
use headwater_core::store::{Queries, Result, Snapshot};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const BUDGET: usize = 256 << 20;
/// Midnight before the start, in seconds from it.
const MIDNIGHT: i64 = -15 * 3600;

/// What happens between questions.
#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Reading>),
    SealAll,
    Seal(u8, usize),
    Merge(u8),
    Ask(usize),
}

/// Dense hours of two days, so that there are rollups of hours and of days; late and repeated readings are common.
fn some_readings() -> impl Strategy<Value = Vec<Reading>> {
    let one = (0u8..3, prop::sample::select(vec![-45i64, -40, -20, -3]), 0i64..80, 0i32..3)
        .prop_map(|(device, hour, n, value)| reading(&format!("d{device}"), "m").at(at(hour * 3600 + n * 45)).value(f64::from(value)));
    prop::collection::vec(one, 0..400)
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => some_readings().prop_map(Step::Commit),
        2 => Just(Step::SealAll),
        1 => (0u8..3, 1usize..300).prop_map(|(shard, most)| Step::Seal(shard, most)),
        1 => (0u8..3).prop_map(Step::Merge),
        4 => (0usize..5).prop_map(Step::Ask),
    ]
}

fn question(n: usize) -> String {
    let day = 86_400;
    let (route, from, to) = [
        ("step=1h", MIDNIGHT - 2 * day, MIDNIGHT + day),
        ("step=1d&group_by=none", MIDNIGHT - 2 * day, MIDNIGHT + day),
        ("step=6h&group_by=device", MIDNIGHT - day + 100, MIDNIGHT + 5_000),
        ("device=d1", -50 * 3600 + 7, -1),
        ("step=2h&fill=null", -46 * 3600, -19 * 3600),
    ][n];
    format!("/v1/stats?stats=count,sum,min,max,first,last,p50,p99&{route}&from={}&to={}", at(from), at(to))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]
    #[test]
    fn answers_have_the_same_bytes_with_the_cache_and_without(
        steps in prop::collection::vec(a_step(), 1..30), cache_bytes in prop::sample::select(vec![1usize, 30_000, 64 << 20]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let store = MemoryStore::new();
            let without = Stack::on(store.clone(), Config { cache_bytes: 0, ..Config::default() }, BUDGET);
            let with = Stack::on(store, Config { cache_bytes, ..Config::default() }, BUDGET);
            for step in steps.into_iter().chain((0..5).map(Step::Ask)) {
                match step {
                    Step::Commit(readings) => with.commit(&readings).await,
                    Step::SealAll => with.seal().await,
                    Step::Seal(shard, most) => with.seal_some(Shard(shard), most).await,
                    Step::Merge(shard) => with.merge(Shard(shard), 5).await,
                    Step::Ask(n) => {
                        let (a, b) = (with.get(&question(n)).await.ok(), without.get(&question(n)).await.ok());
                        prop_assert_eq!(a.text(), b.text());
                        prop_assert_eq!(a.header(header::ETAG), b.header(header::ETAG));
                    }
                }
            }
            Ok(())
        })?;
    }
}

/// `n` readings of a series from a time on, 40 seconds apart.
fn steady(device: &str, from: i64, n: i64) -> Vec<Reading> {
    (0..n).map(|i| reading(device, "m").at(at(from + i * 40)).value((i * 37 % 100) as f64)).collect()
}

#[tokio::test]
async fn rollups_are_read_once_until_something_of_their_shard_is_sealed() {
    let store = MemoryStore::new();
    let counting = Counting::new(store.clone());
    let stack = Stack::behind(Arc::new(counting.clone()), store, Config::default(), BUDGET);
    stack.commit(&steady("d0", MIDNIGHT - 86_400, 2_160)).await;
    stack.seal().await;
    let question = format!("/v1/stats?step=1h&from={}&to={}", at(MIDNIGHT - 86_400), at(MIDNIGHT));
    let ask = async |calls: usize| {
        let got = stack.get(&question).await.ok().text();
        let Counts { rollup_calls, .. } = counting.counts();
        assert_eq!(rollup_calls, calls);
        got
    };
    let first = ask(1).await;
    assert_eq!(ask(0).await, first);
    // Open blocks come and are merged: nothing of it is in a rollup.
    for n in 0..3 {
        stack.commit(&steady("d0", n * 40, 1)).await;
    }
    stack.merge(Shard(0), 3).await;
    assert_eq!(ask(0).await, first);
    stack.seal().await;
    assert_eq!(ask(1).await, first, "what was sealed lies after the range");
    stack.commit(&[reading("d0", "m").at(at(MIDNIGHT - 86_399)).value(-9.0)]).await;
    let late = ask(0).await;
    assert_ne!(late, first);
    stack.seal().await;
    assert_eq!(ask(1).await, late);
}

/// Two states of one store, of which the second is an earlier one that was put back under a running process.
struct Restorable {
    before: MemoryStore,
    after: MemoryStore,
    is_restored: Arc<AtomicBool>,
}

impl Queries for Restorable {
    fn snapshot(&self, lifetime: Duration) -> BoxFuture<'_, Result<Box<dyn Snapshot>>> {
        if self.is_restored.load(Ordering::Relaxed) { self.after.snapshot(lifetime) } else { self.before.snapshot(lifetime) }
    }
}

#[tokio::test]
async fn a_store_that_went_back_answers_from_what_it_has() {
    let (before, after, is_restored) = (MemoryStore::new(), MemoryStore::new(), Arc::new(AtomicBool::new(false)));
    let store = Restorable { before: before.clone(), after: after.clone(), is_restored: Arc::clone(&is_restored) };
    let with = Stack::behind(Arc::new(store), before, Config::default(), BUDGET);
    let without = Stack::on(after, Config { cache_bytes: 0, ..Config::default() }, BUDGET);
    // As many readings of the same series, other values.
    with.commit(&steady("d0", MIDNIGHT - 86_400, 500)).await;
    with.seal().await;
    without.commit(&steady("d0", MIDNIGHT - 86_400, 500).into_iter().map(|reading| reading.value(1.0)).collect::<Vec<_>>()).await;
    without.seal().await;
    let lost = with.get(&question(0)).await.ok().text();
    is_restored.store(true, Ordering::Relaxed);
    let restored = with.get(&question(0)).await.ok().text();
    assert_ne!(restored, lost);
    assert_eq!(restored, without.get(&question(0)).await.ok().text());
}
