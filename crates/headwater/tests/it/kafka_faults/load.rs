//! A fleet at work while things break, and when what it sends arrives.
//!
//! Owns: the fleet with its journal, the instants at which a count moved. Does not know: what breaks.

use super::ground::{Ground, HEALED};
use crate::client::Client;
use crate::crash::seed;
use crate::stack::wait_for;
use headwater_core::clock::{Clock as _, SystemClock};
use headwater_simulator::faults::Faults;
use headwater_simulator::fleet::Fleet;
use headwater_simulator::http::Target;
use headwater_simulator::journal::{Account, Journal};
use headwater_simulator::load::{Config, Deps, run};
use headwater_simulator::report::{Counts, Progress, Report};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const DEVICES: u32 = 40;
const RATE: f64 = 600.0;
const METRICS: usize = 2;
/// Readings to a request: thirty requests a second.
const BATCH: usize = 20;

/// Devices that send until they are told to stop.
pub(crate) struct Load {
    journal: PathBuf,
    progress: Arc<Progress>,
    stop: CancellationToken,
    thread: Option<JoinHandle<anyhow::Result<Report>>>,
}

impl Load {
    /// Returns when something is acknowledged. One for each test.
    pub(crate) fn begin(ground: &Ground, faults: &str) -> Self {
        let (seed, home) = (seed(), ground.apart.api.home.path());
        println!("HEADWATER_SEED={seed}");
        let interval = Fleet::interval_for(RATE, DEVICES, METRICS);
        let fleet = Fleet { seed, devices: DEVICES, metrics: METRICS, start: SystemClock.now(), interval };
        let (journal, progress, stop) = (home.join("journal"), Arc::<Progress>::default(), CancellationToken::new());
        let faults = Faults::parse(faults).unwrap();
        let config = Config { faults, batch: BATCH, patience: HEALED, journal: Some(journal.clone()), ..Config::new(fleet) };
        let Client { base, token, .. } = ground.apart.gateway().client();
        let bearer = Arc::new(move || Ok(format!("Bearer {token}")));
        let deps = Deps { target: Target::parse(&base).unwrap(), bearer, progress: Arc::clone(&progress) };
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run(config, deps, stopped))
        });
        let load = Self { journal, progress, stop, thread: Some(thread) };
        load.until("the first acknowledgement", |counts| counts.acked > 0);
        load
    }

    pub(crate) fn counts(&self) -> Counts {
        self.progress.counts()
    }

    /// Waits until the counts say so.
    pub(crate) fn until(&self, what: &str, says_so: impl Fn(&Counts) -> bool) -> Counts {
        wait_for(what, HEALED, || Some(self.counts()).filter(|counts| says_so(counts)))
    }

    /// Waits until so many requests were acknowledged that some of them were sent after this call.
    pub(crate) fn goes_on(&self) {
        let before = self.counts();
        self.until("requests to be acknowledged", |counts| counts.acked_requests > before.acked_requests + before.in_flight + 10);
    }

    /// Answers that did not come or said to try again, other than those that the fleet lost on purpose.
    pub(crate) fn n_sent_again(&self) -> u64 {
        let counts = self.counts();
        counts.unknown - counts.lost
    }

    /// When requests are acknowledged.
    pub(crate) fn acks(&self) -> Flow {
        let progress = Arc::downgrade(&self.progress);
        Flow::of(move || {
            std::thread::sleep(Duration::from_millis(5));
            progress.upgrade().map(|progress| progress.counts().acked_requests)
        })
    }

    /// Sends no more; waits until everything is acknowledged, and gives the journal.
    pub(crate) fn end(mut self) -> Account {
        self.stop.cancel();
        let report = self.thread.take().expect("a fleet").join().unwrap().unwrap();
        assert!(report.is_clean() && report.unresolved() == 0, "{report}");
        Journal::read(&self.journal).unwrap()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// When a count moved.
pub(crate) struct Flow(Arc<Mutex<Vec<Instant>>>);

impl Flow {
    /// Looks at a count until there is none any more.
    pub(crate) fn of(mut look: impl FnMut() -> Option<u64> + Send + 'static) -> Self {
        let moves = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::downgrade(&moves);
        std::thread::spawn(move || {
            let mut last = None;
            while let (Some(count), Some(moves)) = (look(), seen.upgrade()) {
                if last.replace(count) != Some(count) {
                    moves.lock().unwrap().push(Instant::now());
                }
            }
        });
        Self(moves)
    }

    /// The longest time from `since` until now in which it did not move.
    pub(crate) fn stood_still(&self, since: Instant) -> Duration {
        let moves = self.0.lock().unwrap();
        let instants: Vec<Instant> =
            [since].into_iter().chain(moves.iter().copied().filter(|at| *at > since)).chain([Instant::now()]).collect();
        instants.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// How long after `since` it moved for the first time; waits for that.
    pub(crate) fn moved_after(&self, since: Instant) -> Duration {
        wait_for("it to move on", HEALED, || self.0.lock().unwrap().iter().find(|at| **at > since).map(|at| *at - since))
    }
}
