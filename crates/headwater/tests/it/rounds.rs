//! Rounds of kill -9 against a fleet with every fault while everything is sealed again and again: at every failpoint, and at random
//! instants. After each the journal, `headwater verify`, the counts and the bytes of answers say whether anything was lost,
//! doubled or invented.
//!
//! `HEADWATER_ROUNDS` says how many rounds there are. A life is a few rounds of one server; each has a seed, which is printed, and
//! `HEADWATER_SEED=… HEADWATER_ROUNDS=6` lives the first of them again (the instants are the machine's own).

use crate::both::{Kind, on_both};
use crate::client::{Ask, Client, target};
use crate::crash::{given, seed};
use crate::oracle::Random;
use crate::simulate::{ALL_FAULTS, Door, account_of, check, simulator};
use crate::stack::{SOON, Stack, wait_for};
use crate::verify::verified;
use headwater_simulator::journal::Journal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Child;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

on_both! {
    a_fleet_that_is_killed_under_again_and_again_is_stored_as_its_journal_says,
}

/// After so many, what is stored is so much that looking at it takes most of the time.
const ROUNDS_OF_A_LIFE: u64 = 6;
/// Servers that live at the same time: they wait more than they work.
const LANES: usize = 3;
/// How long a fleet sends.
const SENDING: &str = "1200ms";
/// A random instant lies within this of the first request.
const INSTANTS_MICROS: u64 = 1_400_000;
/// Every stage, and at which of the times that it is reached, at most.
const FAILPOINTS: [(&str, u64); 14] = [
    ("gateway.before_append", 40),
    ("gateway.before_ack", 40),
    ("log.append.begin", 30),
    ("log.append.before_commit", 30),
    ("log.append.after_commit", 30),
    ("log.trim", 8),
    ("store.register", 2),
    ("store.commit.begin", 12),
    ("store.commit.before_commit", 12),
    ("store.commit.after_commit", 12),
    ("store.load", 60),
    ("store.replace.before_commit", 60),
    ("store.replace.after_commit", 60),
    ("store.checkpoint", 1),
];

/// How often it was killed where.
type Kills = BTreeMap<String, u64>;

fn a_fleet_that_is_killed_under_again_and_again_is_stored_as_its_journal_says(kind: Kind) {
    let unless_given = if kind == Kind::Embedded { 12 } else { 4 };
    let (rounds, first) = (given("HEADWATER_ROUNDS").unwrap_or(unless_given), seed());
    let (next, kills, began) = (AtomicU64::new(0), Mutex::new(Kills::new()), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                loop {
                    let life = next.fetch_add(1, Ordering::SeqCst);
                    let left = rounds.saturating_sub(life * ROUNDS_OF_A_LIFE);
                    if left == 0 {
                        return;
                    }
                    let of_life = Life::new(kind, first.wrapping_add(life)).live(left.min(ROUNDS_OF_A_LIFE));
                    for (place, n) in of_life {
                        *kills.lock().unwrap().entry(place).or_default() += n;
                    }
                }
            });
        }
    });
    let kills = kills.into_inner().unwrap();
    println!("{kind:?}: {rounds} rounds from seed {first} on in {:?}: {kills:?}", began.elapsed());
    assert_eq!(kills.values().sum::<u64>(), rounds);
    if rounds >= 200 {
        let missed: Vec<_> = failpoints(kind).filter(|(name, _)| !kills.contains_key(*name)).collect();
        assert!(missed.is_empty(), "never killed at {missed:?}");
    }
}

/// Those that a stack has. What happens inside of Kafka is not ours.
fn failpoints(kind: Kind) -> impl Iterator<Item = (&'static str, u64)> {
    let is_of_files = |name: &str| name.starts_with("log.") || name == "store.checkpoint";
    FAILPOINTS.into_iter().filter(move |(name, _)| kind == Kind::Embedded || !is_of_files(name))
}

/// One data directory or topic and database, and all that was ever sent to it.
struct Life {
    kind: Kind,
    seed: u64,
    random: Random,
    stack: Stack,
    door: Door,
    kills: Kills,
}

impl Life {
    fn new(kind: Kind, seed: u64) -> Self {
        println!("{kind:?} HEADWATER_SEED={seed}");
        // Small commits and early ones, so that more of them are hit.
        let stack = kind.builder().env("HEADWATER_INGEST__BATCH_MS", "50").env("HEADWATER_ROLLUP__INTERVAL_MS", "50").start();
        Self { kind, seed, random: Random(seed), door: Door::to(&stack), stack, kills: Kills::new() }
    }

    fn live(mut self, rounds: u64) -> Kills {
        for round in 1..=rounds {
            self.round(round);
        }
        assert_eq!(self.stack.post("/v1/seal", "application/json", "").ok().json()["unsealed"], 0);
        self.look();
        assert_eq!(self.stack.stop(), 0);
        std::mem::take(&mut self.kills)
    }

    fn round(&mut self, round: u64) {
        let places: Vec<_> = failpoints(self.kind).collect();
        let order = self.random.below(places.len() as u64 + 4) as usize;
        let order = places.get(order).map(|(name, most)| (*name, 1 + self.random.below(*most)));
        let place = self.killed(order, round);
        *self.kills.entry(place).or_default() += 1;
        self.look();
        let before = answers(&self.stack);
        self.stack.restart();
        self.door.moved(&self.stack);
        assert!(answers(&self.stack) == before, "another kill -9 has changed an answer");
        if self.random.below(2) == 0 {
            assert_eq!(self.stack.post("/v1/seal", "application/json", "").ok().json()["unsealed"], 0);
            assert!(answers(&self.stack) == before, "sealing has changed an answer");
            assert_eq!(verified(&self.stack, &[]).0, 0);
        }
    }

    /// Sends and seals until the server is killed at a failpoint, or else at a random instant; starts it again. Gives the place.
    fn killed(&mut self, order: Option<(&str, u64)>, round: u64) -> String {
        let place = order.map_or("a random instant", |(name, _)| name).to_owned();
        if let Some((name, nth)) = order {
            self.stack.kill9();
            if let Err(status) = self.stack.start_or_die(&[("HEADWATER_FAILPOINT", &format!("{name}:{nth}"))]) {
                // It came there as it started.
                assert_eq!(status.signal(), Some(9), "it dies at {name}, of nothing else");
                self.stack.start();
                return place;
            }
            self.door.moved(&self.stack);
        }
        let mut fleet = Fleet::set_out(&self.stack, &self.door, &mut self.random, round);
        let instant = Instant::now() + Duration::from_micros(self.random.below(INSTANTS_MICROS));
        let at_instant = order.is_none();
        let died = sealing(self.client(), || {
            wait_for("the server to die", SOON, || {
                let is_over = if at_instant { Instant::now() >= instant } else { fleet.is_home() };
                self.stack.has_ended().map(Some).or_else(|| is_over.then_some(None))
            })
        });
        let place = match died {
            Some(status) => {
                assert_eq!(status.signal(), Some(9), "it dies at {place}, of nothing else");
                place
            }
            None => {
                self.stack.kill9();
                if at_instant { place } else { "nowhere before the end".to_owned() }
            }
        };
        let is_retrying = self.random.below(3) > 0;
        if !is_retrying {
            fleet.kill();
        }
        self.stack.start();
        self.door.moved(&self.stack);
        if is_retrying {
            fleet.come_home();
        }
        place
    }

    /// A client that finds the server wherever it is.
    fn client(&self) -> Client {
        let mut client = self.stack.client();
        client.base.clone_from(&self.door.url);
        client
    }

    /// Everything that can be checked.
    fn look(&self) {
        self.stack.settled();
        check(&self.stack, &Journal::read(&journal(&self.stack)).unwrap());
        let (code, report) = verified(&self.stack, &[]);
        assert_eq!((code, &report["differences"]), (0, &json!(0)), "{report}");
    }
}

/// Which of the lives it was that ended badly.
impl Drop for Life {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("failed: {:?} HEADWATER_SEED={} after {:?}", self.kind, self.seed, self.kills);
        }
    }
}

fn journal(stack: &Stack) -> PathBuf {
    stack.home.path().join("journal")
}

/// Questions whose answers are the same before and after, sealed or not. (Sealing adds dead letters.)
pub(crate) fn answers(stack: &Stack) -> Vec<Vec<u8>> {
    let range = [("from", "1990-01-01T00:00:00Z"), ("to", "2040-01-01T00:00:00Z"), ("limit", "100000")];
    let ask = |path: &str, more: &[(&str, &str)]| target(path, &[&range[..], more].concat());
    let statistics = ("stats", "count,sum,min,max,avg,stddev,first,last,p50,p99");
    let questions = [
        ask("/v1/stats", &[("step", "1h"), statistics]),
        ask("/v1/stats", &[("step", "1d"), ("group_by", "none"), statistics]),
        ask("/v1/stats", &[statistics]),
        ask("/v1/readings", &[]),
        "/v1/latest".to_owned(),
        "/v1/series".to_owned(),
    ];
    questions.iter().map(|question| stack.get(question).ok().body).collect()
}

/// Works while somebody asks again and again that everything be sealed, of a server that may be dead or dying.
fn sealing<T>(client: Client, work: impl FnOnce() -> T) -> T {
    struct Stops<'a>(&'a AtomicBool);
    impl Drop for Stops<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also when the work panics.
        let _stops = Stops(&done);
        scope.spawn(|| {
            let seal = Ask::post("/v1/seal", "application/json", "");
            while !done.load(Ordering::Relaxed) {
                drop(client.try_ask(&seal));
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        work()
    })
}

/// A simulator at work; it does not outlive its test.
struct Fleet {
    child: Option<Child>,
    /// Whether it has sent anything: the server may have died before.
    has_begun: bool,
}

impl Fleet {
    /// Another fleet every time, with more sensors: some series are new. Returns when it has begun to send.
    fn set_out(stack: &Stack, door: &Door, random: &mut Random, round: u64) -> Self {
        let length = || std::fs::metadata(journal(stack)).map_or(0, |file| file.len());
        let (before, devices, seed) = (length(), (10 * round).to_string(), random.next().to_string());
        let format = ["json", "line"][random.below(2) as usize];
        let fixed = ["--rate", "1500/s", "--batch", "20", "--duration", SENDING, "--journal", "journal", "--faults", ALL_FAULTS];
        let chosen = ["--devices", &devices, "--seed", &seed, "--format", format];
        let child = simulator(stack, &door.url, &[&fixed[..], &chosen].concat()).spawn().unwrap();
        let mut fleet = Self { child: Some(child), has_begun: false };
        wait_for("the fleet to begin", SOON, || (length() > before || fleet.is_home()).then_some(()));
        fleet.has_begun = length() > before;
        fleet
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("a fleet")
    }

    /// Whether it has ended.
    fn is_home(&mut self) -> bool {
        self.child().try_wait().unwrap().is_some()
    }

    /// It is gone from one instant to the next, and knows no answer to what it has sent.
    fn kill(&mut self) {
        drop((self.child().kill(), self.child().wait()));
    }

    /// Waits until it has sent everything again that had no answer.
    fn come_home(mut self) {
        if !self.has_begun {
            return;
        }
        let told: Value = account_of(self.child.take().expect("a fleet"));
        assert_eq!((&told["requests"]["unresolved"], &told["problems"]), (&json!(0), &json!(0)), "{told}");
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
