//! Stories of rollup over the in-memory store, with faults on order.

use crate::role::{DAMAGED, Role, WAITING};
use crate::work::{Sealer, Step, settled};
use crate::{Config, Deps, Metrics, Turn, face, run};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use headwater_contract::builders::{Reading, START, at, reading, seal_all, store_readings};
use headwater_contract::{FaultyStore, MemoryStore, StoreCall, eventually, within};
use headwater_core::chunk::Chunk;
use headwater_core::clock::ManualClock;
use headwater_core::dead_letter::{KeptLetter, Reason};
use headwater_core::filter::SeriesFilter;
use headwater_core::health::Health;
use headwater_core::series::Shard;
use headwater_core::store::{DeadLetterQuery, LoadBudget, Queries, Sealing, Snapshot, StoreError, Totals};
use headwater_core::time::{DAY, HOUR, TimeRange};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// A store, and a clock that is a day after all that is committed: everything is due.
struct Stage {
    memory: MemoryStore,
    store: Arc<FaultyStore>,
    clock: Arc<ManualClock>,
    health: Health,
    stop: CancellationToken,
    turn: Turn,
}

fn quick() -> Config {
    Config { interval_ms: 2, ..Config::default() }
}

fn busy() -> StoreError {
    StoreError::Busy("of the test".to_owned())
}

fn corrupt() -> StoreError {
    StoreError::Corrupt("of the test".to_owned())
}

impl Stage {
    fn new() -> Self {
        let memory = MemoryStore::new();
        let (health, stop) = (Health::default(), CancellationToken::new());
        let clock = Arc::new(ManualClock::at(START.plus(DAY)));
        Self { store: Arc::new(FaultyStore::new(memory.clone())), memory, clock, health, stop, turn: Turn::default() }
    }

    /// Nothing is old.
    fn young() -> Self {
        let stage = Self::new();
        stage.clock.set(START);
        stage
    }

    fn deps(&self) -> Deps {
        Deps {
            store: self.store.clone(),
            clock: self.clock.clone(),
            health: self.health.clone(),
            turn: self.turn.clone(),
            metrics: Metrics::default(),
        }
    }

    fn start(&self, config: Config) -> JoinHandle<anyhow::Result<()>> {
        tokio::spawn(run(config, self.deps(), self.stop.clone()))
    }

    async fn commit(&self, readings: &[Reading]) {
        store_readings(&self.memory, readings).await;
    }

    async fn snapshot(&self) -> Box<dyn Snapshot> {
        self.memory.snapshot(Duration::from_secs(10)).await.unwrap()
    }

    /// The counts, which have to add up.
    async fn totals(&self) -> Totals {
        let totals = self.snapshot().await.totals().await.unwrap();
        assert_eq!(totals.received, totals.stored + totals.duplicate + totals.conflict + totals.dead + totals.unsealed, "{totals:?}");
        totals
    }

    async fn until_open(&self, readings: u64) -> Totals {
        eventually("the open readings to be few", async || Some(self.totals().await).filter(|totals| totals.unsealed == readings)).await
    }

    async fn open_blocks(&self, shard: Shard) -> usize {
        self.snapshot().await.blocks(shard, TimeRange::ALL, None, usize::MAX).await.unwrap().len()
    }

    /// Every sealed reading.
    async fn sealed(&self) -> BTreeMap<(String, i64), f64> {
        let mut snapshot = self.snapshot().await;
        let mut all = BTreeMap::new();
        for series in snapshot.series(&SeriesFilter::default(), None, usize::MAX).await.unwrap() {
            let chunks = snapshot.chunks(series.id.shard(), &[series.id], TimeRange::ALL, None, usize::MAX).await.unwrap();
            for (_, stored) in chunks {
                let chunk = Chunk::decode(&stored.bytes).unwrap();
                all.extend(chunk.times.iter().zip(&chunk.values).map(|(&time, &value)| ((series.key.as_str().to_owned(), time), value)));
            }
        }
        all
    }

    async fn letters(&self) -> Vec<KeptLetter> {
        let query = DeadLetterQuery { limit: 1000, ..DeadLetterQuery::default() };
        self.snapshot().await.dead_letters(&query, usize::MAX).await.unwrap().0
    }

    fn condition(&self, name: &str) -> Option<String> {
        self.health.conditions().into_iter().find(|(known, _)| *known == name).map(|(_, reason)| reason)
    }

    fn face(&self, config: &Config) -> Router {
        face(config, self.deps(), self.stop.clone()).router
    }
}

/// `POST /v1/seal`: the status, `Retry-After`, the body.
async fn post(app: Router) -> (u16, Option<String>, Value) {
    let response = within(app.oneshot(Request::post("/v1/seal").body(Body::empty()).unwrap())).await.unwrap();
    let (status, retry) = (response.status().as_u16(), response.headers().get(header::RETRY_AFTER).cloned());
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, retry.map(|value| value.to_str().unwrap().to_owned()), serde_json::from_slice(&body).unwrap())
}

/// Readings of many series, in a few days, with repeats and contradictions; what is first of a key is the truth.
fn mixed(n: u64, seed: u64) -> Vec<Reading> {
    let mut state = seed;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let one = |_| {
        let time = START.plus(random(3) as i64 * DAY + random(40) as i64 * HOUR / 40);
        reading(&format!("d{}", random(9)), "m").at(time).value(random(2) as f64)
    };
    (0..n).map(one).collect()
}

fn learn(truth: &mut BTreeMap<(String, i64), f64>, readings: &[Reading]) {
    for reading in readings {
        truth.entry((reading.key().as_str().to_owned(), reading.time.0)).or_insert(reading.value);
    }
}

#[tokio::test]
async fn due_shards_are_sealed_and_others_are_left() {
    let stage = Stage::young();
    let large: Vec<_> = (0..65_536).map(|i| reading("large", "m").at(at(i))).collect();
    let small: Vec<_> = (0..10).map(|i| reading("small", "m").at(at(i))).collect();
    stage.commit(&large).await;
    stage.commit(&small).await;
    let running = stage.start(quick());
    assert_eq!(stage.until_open(10).await.stored, 65_536);
    stage.store.faults.called(StoreCall::Backlog, stage.store.faults.calls(StoreCall::Backlog) + 3).await;
    assert_eq!(stage.totals().await.unsealed, 10, "it is neither large nor old");
    stage.clock.set(START.plus(DAY));
    assert_eq!(stage.until_open(0).await.stored, 65_546);
    stage.stop.cancel();
    within(running).await.unwrap().unwrap();
    assert_eq!(stage.health.conditions(), []);
}

#[tokio::test]
async fn readings_are_conserved_after_every_step() {
    let stage = Stage::new();
    let (mut truth, mut settled_so_far, mut received) = (BTreeMap::new(), 0, 0);
    let sealer = Sealer::new(stage.deps(), LoadBudget { readings: 40, bytes: 300 });
    for round in 0..12 {
        let readings = mixed(1 + round * 17 % 150, round);
        stage.commit(&readings).await;
        learn(&mut truth, &readings);
        received += readings.len() as u64;
        let last = round == 11;
        loop {
            let mut steps = 0;
            for backlog in stage.store.backlog().await.unwrap() {
                if let Step::Done(outcomes) = within(sealer.seal(backlog.shard)).await.unwrap() {
                    settled_so_far += settled(outcomes);
                    steps += 1;
                }
                let totals = stage.totals().await;
                assert_eq!(received - totals.unsealed, settled_so_far);
            }
            if !last || steps == 0 {
                break;
            }
        }
    }
    assert_eq!(stage.totals().await.unsealed, 0);
    assert_eq!(stage.sealed().await, truth);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_sealers_share_the_work_and_lose_nothing() {
    let stage = Stage::new();
    // Each has a turn of its own, as processes have.
    let sealers: Vec<_> = (0..4)
        .map(|_| {
            let deps = Deps { turn: Turn::default(), ..stage.deps() };
            let config = Config { step_readings: 100, step_bytes: 2_000, ..quick() };
            tokio::spawn(run(config, deps, stage.stop.clone()))
        })
        .collect();
    let (mut truth, mut received) = (BTreeMap::new(), 0);
    for round in 0..60 {
        let readings = mixed(100, round);
        stage.commit(&readings).await;
        learn(&mut truth, &readings);
        received += 100;
    }
    let totals = stage.until_open(0).await;
    assert_eq!((totals.received, totals.stored), (received, truth.len() as u64));
    assert_eq!(stage.sealed().await, truth);
    stage.stop.cancel();
    for sealer in sealers {
        within(sealer).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn who_comes_second_loads_again() {
    let stage = Stage::new();
    stage.commit(&[reading("a", "m").value(1.0)]).await;
    let held = stage.store.faults.hold(StoreCall::Replace);
    let running = stage.start(quick());
    stage.store.faults.called(StoreCall::Replace, 1).await;
    // Another process seals the same shard first, and more comes.
    seal_all(&stage.memory).await;
    stage.commit(&[reading("a", "m").value(1.0), reading("a", "m").at(at(1)).value(2.0)]).await;
    drop(held);
    let totals = stage.until_open(0).await;
    assert_eq!((totals.stored, totals.duplicate, totals.conflict), (2, 1, 0));
    assert!(stage.store.faults.calls(StoreCall::Replace) >= 2);
    assert!(!running.is_finished());
    assert_eq!(stage.condition(DAMAGED), None);
}

#[tokio::test]
async fn transient_faults_are_waited_for() {
    let stage = Stage::new();
    stage.commit(&[reading("a", "m").value(1.0), reading("a", "m").value(2.0)]).await;
    let unavailable = StoreError::Unavailable("of the test".to_owned());
    stage.store.faults.fail(StoreCall::Backlog, 1, unavailable.clone());
    stage.store.faults.fail(StoreCall::Load, 1, busy());
    stage.store.faults.fail(StoreCall::Keys, 1, unavailable);
    stage.store.faults.fail(StoreCall::Replace, 1, busy());
    let running = stage.start(quick());
    eventually("it to say what it waits for", async || stage.condition(WAITING)).await;
    let totals = stage.until_open(0).await;
    assert_eq!((totals.stored, totals.conflict, totals.dead_letters), (1, 1, 1));
    eventually("it to say that all is well", async || stage.health.conditions().is_empty().then_some(())).await;
    assert!(!running.is_finished());
}

#[tokio::test]
async fn a_replacement_whose_answer_was_lost_is_not_made_twice() {
    let stage = Stage::new();
    stage.commit(&[reading("a", "m").value(1.0), reading("a", "m").value(1.0)]).await;
    stage.store.faults.fail_after(StoreCall::Replace, 1, StoreError::Unknown("of the test".to_owned()));
    let _running = stage.start(quick());
    let totals = stage.until_open(0).await;
    eventually("it to go on", async || stage.condition(WAITING).is_none().then_some(())).await;
    assert_eq!(stage.totals().await, totals);
    assert_eq!((totals.stored, totals.duplicate), (1, 1));
}

#[tokio::test]
async fn a_conflict_becomes_one_dead_letter_however_often_it_comes() {
    let stage = Stage::new();
    let losing = reading("a", "m").value(2.5);
    stage.commit(&[reading("a", "m").value(1.0), losing.clone(), losing.clone()]).await;
    let _running = stage.start(quick());
    stage.until_open(0).await;
    stage.commit(std::slice::from_ref(&losing)).await;
    let totals = stage.until_open(0).await;
    assert_eq!((totals.stored, totals.conflict, totals.dead_letters, totals.dead), (1, 3, 1, 0));
    let letter = stage.letters().await.remove(0);
    assert_eq!((letter.reason, letter.device.as_deref(), letter.received_at), (Reason::Conflict, Some("a"), START.plus(DAY)));
    let body: Value = serde_json::from_slice(&letter.bytes).unwrap();
    assert_eq!((&body["value"], &body["kept"]), (&json!(2.5), &json!(1.0)));
    assert_eq!((letter.count, letter.history.seen), (3, 2), "it counts as often as it lost, and sealing found it twice");
}

#[tokio::test]
async fn sealing_everything_leaves_only_what_arrives_since() {
    let stage = Stage::young();
    let (first, second) = (mixed(200, 1), mixed(70, 2));
    stage.commit(&first).await;
    let held = stage.store.faults.hold(StoreCall::Replace);
    let sealing = tokio::spawn(post(stage.face(&Config { step_readings: 7, ..quick() })));
    stage.store.faults.called(StoreCall::Replace, 1).await;
    stage.commit(&second).await;
    drop(held);
    let (status, _, answer) = within(sealing).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    let totals = stage.totals().await;
    let expected =
        json!({ "stored": totals.stored, "duplicate": totals.duplicate, "conflict": totals.conflict, "unsealed": totals.unsealed });
    assert_eq!(answer, expected);
    assert!(totals.unsealed <= 70, "of what was there nothing is left");
    assert!(totals.stored + totals.duplicate + totals.conflict >= 200);
    // What is left is sealed by the next.
    assert_eq!(post(stage.face(&quick())).await.2["unsealed"], 0);
    let mut truth = BTreeMap::new();
    learn(&mut truth, &first);
    learn(&mut truth, &second);
    assert_eq!(stage.sealed().await, truth);
    assert_eq!(post(stage.face(&quick())).await.2, json!({ "stored": 0, "duplicate": 0, "conflict": 0, "unsealed": 0 }));
}

#[tokio::test]
async fn sealing_that_takes_too_long_says_so_and_goes_on_where_it_was() {
    let stage = Stage::young();
    stage.commit(&mixed(50, 1)).await;
    stage.store.faults.fail(StoreCall::Load, u32::MAX, busy());
    let hasty = Config { seal_timeout: Duration::from_millis(80), ..quick() };
    let (status, retry, problem) = post(stage.face(&hasty)).await;
    assert_eq!((status, retry.as_deref(), &problem["code"]), (503, Some("1"), &json!("seal_unfinished")));
    assert_eq!(problem["stored"], 0);
    stage.store.faults.heal();
    let (status, _, answer) = post(stage.face(&quick())).await;
    assert_eq!((status, &answer["unsealed"]), (200, &json!(0)));
}

#[tokio::test]
async fn requests_to_seal_come_one_after_the_other() {
    let stage = Stage::young();
    stage.commit(&[reading("a", "m")]).await;
    let held = stage.store.faults.hold(StoreCall::Load);
    let app = stage.face(&quick());
    let first = tokio::spawn(post(app.clone()));
    stage.store.faults.called(StoreCall::Load, 1).await;
    let second = tokio::spawn(post(app.clone()));
    assert_eq!(stage.store.faults.calls(StoreCall::Backlog), 1);
    drop(held);
    let answers = [within(first).await.unwrap().2, within(second).await.unwrap().2];
    assert_eq!(answers.map(|answer| answer["stored"].as_u64()), [Some(1), Some(0)]);
    // Who waits when the server stops is told so.
    stage.stop.cancel();
    assert_eq!(post(app).await.2["code"], "stopping");
}

#[tokio::test]
async fn sixty_four_blocks_are_merged_once() {
    let stage = Stage::young();
    for i in 0..64 {
        stage.commit(&[reading("a", "m").at(at(i)).value(1.0), reading("a", "m").at(at(0)).value(i as f64)]).await;
    }
    assert_eq!(stage.open_blocks(Shard(0)).await, 64);
    let running = stage.start(quick());
    eventually("the blocks to be merged", async || (stage.open_blocks(Shard(0)).await == 1).then_some(())).await;
    for i in 64..127 {
        stage.commit(&[reading("a", "m").at(at(i)).value(1.0)]).await;
    }
    stage.store.faults.called(StoreCall::Backlog, stage.store.faults.calls(StoreCall::Backlog) + 3).await;
    assert_eq!((stage.open_blocks(Shard(0)).await, stage.store.faults.calls(StoreCall::Unmerged)), (64, 1), "63 are too few");
    let totals = stage.totals().await;
    assert_eq!((totals.unsealed, totals.stored), (128 + 63, 0), "merging settles nothing");
    // The first of a key is still the first.
    stage.clock.set(START.plus(DAY));
    let totals = stage.until_open(0).await;
    assert_eq!((totals.stored, totals.duplicate, totals.conflict), (127, 1, 63));
    assert!(!running.is_finished());
}

#[tokio::test]
async fn a_damaged_shard_is_named_and_stops_no_other() {
    let stage = Stage::new();
    stage.commit(&[reading("a", "m"), reading("b", "m"), reading("c", "m")]).await;
    stage.store.faults.fail(StoreCall::Load, 1, corrupt());
    let mut role = Role::new(&quick(), stage.deps());
    role.damaged_pause = Duration::ZERO;
    let held = stage.store.faults.hold(StoreCall::Replace);
    let running = tokio::spawn(role.work());
    stage.store.faults.called(StoreCall::Replace, 1).await;
    let told = stage.condition(DAMAGED).expect("the damage is told");
    assert_eq!(told, "shard 0 cannot be sealed: the store is damaged: of the test");
    drop(held);
    stage.until_open(0).await;
    eventually("the shard to be well again", async || stage.condition(DAMAGED).is_none().then_some(())).await;
    assert!(!running.is_finished());
}

#[tokio::test]
async fn a_damaged_shard_is_left_alone_for_a_while() {
    let stage = Stage::new();
    stage.commit(&[reading("a", "m"), reading("b", "m")]).await;
    stage.store.faults.fail(StoreCall::Load, 1, corrupt());
    let _running = stage.start(quick());
    stage.until_open(1).await;
    stage.store.faults.called(StoreCall::Backlog, stage.store.faults.calls(StoreCall::Backlog) + 3).await;
    assert_eq!(stage.store.faults.calls(StoreCall::Load), 2);
    assert!(stage.condition(DAMAGED).is_some() && stage.condition(WAITING).is_none());
}

#[tokio::test]
async fn sealing_everything_names_damaged_shards_and_seals_the_others() {
    let stage = Stage::young();
    stage.commit(&[reading("a", "m"), reading("b", "m"), reading("c", "m")]).await;
    stage.store.faults.fail(StoreCall::Load, 1, corrupt());
    let (status, _, problem) = post(stage.face(&quick())).await;
    assert_eq!((status, &problem["code"], &problem["stored"]), (500, &json!("damaged"), &json!(2)));
    assert!(problem["detail"].as_str().unwrap().contains("shards 0 are damaged"), "{problem}");
    assert_eq!(stage.totals().await.unsealed, 1);
}

#[tokio::test]
async fn a_store_that_has_stopped_ends_the_role() {
    let stage = Stage::new();
    stage.commit(&[reading("a", "m")]).await;
    stage.store.faults.fail(StoreCall::Replace, 1, StoreError::Stopped("fsync failed".to_owned()));
    let why = within(stage.start(quick())).await.unwrap().unwrap_err();
    assert_eq!(format!("{why:#}"), "seal what is open: the store has stopped: fsync failed");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_the_store() {
    let stage = Stage::new();
    stage.commit(&[reading("a", "m")]).await;
    let _held = stage.store.faults.hold(StoreCall::Replace);
    let running = stage.start(quick());
    stage.store.faults.called(StoreCall::Replace, 1).await;
    stage.stop.cancel();
    within(running).await.unwrap().unwrap();
    assert_eq!(stage.totals().await.unsealed, 1);
}

#[test]
fn what_cannot_work_is_refused_with_its_key() {
    let wrong = Config { interval_ms: 0, step_readings: 1, step_bytes: 0, seal_timeout: Duration::ZERO };
    let problems = wrong.validate();
    for (problem, key) in problems.iter().zip(["interval_ms", "step_readings", "step_bytes", "seal_timeout"]) {
        assert!(problem.starts_with(key), "{problem}");
    }
    assert_eq!((problems.len(), Config::default().validate().len()), (4, 0));
}
