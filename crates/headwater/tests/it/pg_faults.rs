//! Faults of PostgreSQL under a running Headwater: every one ends with nothing lost, nothing doubled, and no lag.
//!
//! Owns: [`World`], Headwater apart on a cluster of its own that may be killed, stopped, restored and replaced; [`Load`], devices that go on
//! sending meanwhile and keep a diary. Does not know: Kafka, which stands still here (its faults are in `kafka_faults`).
//!
//! The gateway writes to Kafka alone, so whatever happens to the database it goes on acknowledging, and every diary says so.
//!
//! `HEADWATER_ROUNDS` says how often each fault comes, on a new cluster each time; with it PostgreSQL stands still for a minute instead of ten
//! seconds. The long loop, with the seed that each round prints:
//!
//! ```text
//! HEADWATER_ROUNDS=20 cargo test -p headwater --features failpoints --test it pg_faults -- --nocapture
//! ```

mod failover;
mod killed;
mod refused;
mod sealers;
mod session;
mod starts;
mod zombie;

use crate::apart::Apart;
use crate::backends::Backends;
use crate::client::Client;
use crate::crash::{given, seed};
use crate::journal::{Journal, check};
use crate::oracle::Random;
use crate::rounds::answers;
use crate::stack::{HEADWATER, Stack, clean, wait_for};
use headwater_servers::{Folder, Postgres, postgres};
use serde_json::{Value, json};
use session::Session;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

/// Longer than any wait of Headwater's own: a statement given up after a minute, a pause of five seconds, and a busy machine.
const HEALED: Duration = Duration::from_secs(120);
/// Between two requests of a device.
const PACE: Duration = Duration::from_millis(25);
/// What Headwater calls itself at the server.
const OURS: &str = "application_name = 'headwater'";

/// Meets a fault as often as whoever runs the tests wants, each time with another seed.
fn rounds(name: &str, fault: impl Fn(Random)) {
    let first = seed();
    for round in 0..given("HEADWATER_ROUNDS").unwrap_or(1) {
        println!("{name}: HEADWATER_SEED={}", first.wrapping_add(round));
        fault(Random(first.wrapping_add(round)));
    }
}

/// A cluster in `folder`. All are copies of one, which takes a moment; to make one takes seconds.
fn cluster(folder: &Folder, options: &postgres::Options) -> Postgres {
    static FIRST: LazyLock<Folder> = LazyLock::new(|| {
        let folder = Folder::new("cluster").unwrap();
        Postgres::start(folder.path(), &postgres::Options::default()).unwrap().stop().unwrap();
        folder
    });
    let dir = folder.path().join("postgres");
    std::fs::create_dir(&dir).unwrap();
    let copied = clean("cp").arg("--archive").arg(FIRST.path().join("data")).arg(&dir).status().unwrap();
    assert!(copied.success(), "copy the cluster at {}", FIRST.path().display());
    Postgres::start(&dir, options).unwrap()
}

/// Headwater apart, on a cluster that is nobody else's.
pub(crate) struct World {
    name: &'static str,
    pub(crate) apart: Apart,
    pub(crate) postgres: Postgres,
    folder: Folder,
    /// When the last fault was over.
    healed: Instant,
}

impl World {
    /// One of each, on one server.
    pub(crate) fn new(name: &'static str) -> Self {
        Self::with(name, &postgres::Options::default(), &[])
    }

    /// One of each, on a server with these options; ingest with more in its environment.
    fn with(name: &'static str, options: &postgres::Options, environment: &[(&str, &str)]) -> Self {
        let folder = Folder::new(name).unwrap();
        let postgres = cluster(&folder, options);
        let url = postgres.url();
        Self::on(name, folder, postgres, &url, environment)
    }

    /// One of each, where `url` leads.
    fn on(name: &'static str, folder: Folder, postgres: Postgres, url: &str, environment: &[(&str, &str)]) -> Self {
        let mut apart = Apart::front(&Backends::with_postgres(url));
        // Commits and steps come often, so that more of them are hit.
        apart.add_ingest(&[&[("HEADWATER_INGEST__BATCH_MS", "50")], environment].concat());
        apart.rollups.push(apart.role("rollup", &[("HEADWATER_ROLLUP__INTERVAL_MS", "50")]));
        Self { name, apart, postgres, folder, healed: Instant::now() }
    }

    pub(crate) fn api(&self) -> &Stack {
        &self.apart.api
    }

    fn ingest(&self) -> &Stack {
        &self.apart.ingests[0]
    }

    pub(crate) fn gateway(&self) -> Client {
        self.apart.gateway().client()
    }

    pub(crate) fn backends(&self) -> &Backends {
        self.api().backends().expect("a database")
    }

    /// A conversation in Headwater's database.
    pub(crate) fn session(&self) -> Session {
        Session::open(self.postgres.port(), &self.backends().name).unwrap()
    }

    /// The fault is over now: from here on the time until there is no lag is taken.
    fn heal(&mut self) {
        self.healed = Instant::now();
    }

    /// Waits until the store has as much as the log had when this was asked.
    pub(crate) fn caught_up(&self) {
        let status = || {
            let answer = self.api().try_ask(&crate::client::Ask::new("GET", "/v1/status")).ok()?;
            (answer.status == 200).then(|| answer.json())
        };
        let sum = |status: &Value, name: &str| -> u64 {
            status["positions"].as_array().unwrap().iter().map(|position| position[name].as_u64().unwrap()).sum()
        };
        let end = sum(&wait_for("a status", HEALED, status), "end");
        wait_for("the store to catch up with the log", HEALED, || (sum(&status()?, "next") >= end).then_some(()));
    }

    /// Seals all that is open, while readings may come.
    pub(crate) fn seal(&self) {
        self.apart.rollups[0].post("/v1/seal", "application/json", "").ok();
    }

    /// Waits until a process of this world says so.
    fn hears(&self, from: &Stack, words: &str) {
        wait_for(&format!("{}: {words:?} to be said", self.name), HEALED, || from.said().contains(words).then_some(()));
    }

    /// Every question is answered by 503, none by 500 and none by a part of the truth.
    fn refuses_questions(&self) {
        let ever = "from=1990-01-01T00:00:00Z&to=2040-01-01T00:00:00Z";
        for path in ["status", &format!("stats?{ever}"), &format!("readings?{ever}"), "latest", "series", "dead-letters"] {
            let answer = self.api().get(&format!("/v1/{path}")).expect(503);
            let code = answer.problem()["code"].clone();
            assert!(code == "store_unavailable" || code == "store_busy", "{path}: {code}");
            assert!(answer.header("retry-after").is_some(), "{path} says when to come again");
        }
        self.api().post("/v1/dead-letters/retry", "application/json", "").expect(503).problem();
    }

    /// `headwater verify` finds nothing.
    fn is_clean(&self) {
        let mut command = clean(HEADWATER);
        command.args(["verify", "--json", "--data-dir"]).arg(&self.api().data).envs(self.backends().environment());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {said}"));
        assert_eq!((output.status.code(), &report["clean"], &report["differences"]), (Some(0), &json!(true), &json!(0)), "{report}");
    }

    /// Everything that can be checked, open and sealed, once there is no lag.
    fn ends_well(&mut self, load: &Load) {
        self.caught_up();
        println!("{}: no lag {:.1} s after the fault, {} requests", self.name, self.healed.elapsed().as_secs_f64(), load.n_acknowledged());
        assert_eq!(load.n_refused.load(Ordering::SeqCst), 0, "the gateway goes on acknowledging");
        assert_eq!(self.api().status()["in_flight"], 0);
        load.is_stored(self.api());
        // A fault of the store makes no dead letters and no gaps: there are the devices' own, and what sealing had to choose from.
        let is_own = |letter: &Value| letter["reason"] == "not_numeric" || letter["reason"] == "conflict";
        assert!(self.api().rows("/v1/dead-letters", &[]).iter().all(is_own), "other dead letters than the devices' own");
        assert_eq!(self.backends().sql("SELECT count(*) FROM gaps"), "0");
        self.is_clean();
        let before = answers(self.api());
        let sealed = self.apart.rollups[0].post("/v1/seal", "application/json", "").ok().json();
        assert_eq!(sealed["unsealed"], 0, "{sealed}");
        assert!(answers(self.api()) == before, "sealing has changed an answer");
        load.is_stored(self.api());
        self.is_clean();
        let Apart { api, gateways, ingests, rollups, .. } = &mut self.apart;
        for stack in [api].into_iter().chain(gateways).chain(ingests).chain(rollups) {
            assert_eq!(stack.has_ended(), None, "nobody has given up");
        }
    }
}

impl Drop for World {
    /// Whoever tidies up after a failed test waits for no server that stands still.
    fn drop(&mut self) {
        drop(self.postgres.resume());
    }
}

/// Devices that send as long as it lasts, and write down what they are told.
pub(crate) struct Load {
    journals: Vec<Mutex<Journal>>,
    n_acknowledged: AtomicUsize,
    n_refused: AtomicUsize,
}

impl Load {
    pub(crate) fn new(random: &mut Random) -> Self {
        let journal = |n| Mutex::new(Journal::new(&format!("device-{n}"), random.next(), 5));
        Self { journals: (0..3).map(journal).collect(), n_acknowledged: AtomicUsize::new(0), n_refused: AtomicUsize::new(0) }
    }

    /// Works while the devices send.
    pub(crate) fn during<T>(&self, gateway: &Client, work: impl FnOnce() -> T) -> T {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Also when the work panics.
            let _stops = Stops(&done);
            for journal in &self.journals {
                scope.spawn(|| {
                    let mut journal = journal.lock().unwrap();
                    while !done.load(Ordering::SeqCst) {
                        let told = if journal.send(gateway) { &self.n_acknowledged } else { &self.n_refused };
                        told.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(PACE);
                    }
                });
            }
            work()
        })
    }

    fn n_acknowledged(&self) -> usize {
        self.n_acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until so many more requests are acknowledged.
    fn more(&self, n: usize) {
        let enough = self.n_acknowledged() + n;
        wait_for("requests to be acknowledged", HEALED, || (self.n_acknowledged() >= enough).then_some(()));
    }

    /// All of it is there, once, and nothing else.
    fn is_stored(&self, api: &Stack) {
        let journals: Vec<_> = self.journals.iter().map(|journal| journal.lock().unwrap()).collect();
        check(&journals.iter().map(|journal| &**journal).collect::<Vec<_>>(), api);
    }
}

/// Says that it is over when it goes.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
