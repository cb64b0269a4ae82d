//! The embedded log and store keep what both seams promise.
#![expect(clippy::expect_used, reason = "a test's harness: a panic is how it fails")]

use headwater_contract::event_log::LogHarness;
use headwater_contract::store::{Store, StoreHarness};
use headwater_core::BoxFuture;
use headwater_core::clock::SystemClock;
use headwater_core::failpoint;
use headwater_core::log::EventLog;
use headwater_embedded::{Config, Embedded};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Names a bug that is planted in this process: the contract has to find it.
const PLANTED_BUG: &str = "HEADWATER_PLANTED_BUG";

/// A data directory that is opened again and again, and others beside it.
struct Machine {
    dir: TempDir,
    open: Option<Embedded>,
    others: Vec<(Embedded, TempDir)>,
}

impl Machine {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
        if let Ok(bug) = std::env::var(PLANTED_BUG) {
            failpoint::plant(&bug);
        }
        Self { dir: tempfile::tempdir().expect("make a directory"), open: None, others: Vec::new() }
    }

    fn restart(&mut self) -> &Embedded {
        self.open = None;
        self.open.insert(open(&self.dir))
    }
}

/// Nothing is kept that is applied, as the suite asks.
fn open(dir: &TempDir) -> Embedded {
    let config = Config { keep_age: Duration::ZERO, ..Config::default() };
    headwater_embedded::open(dir.path(), config, Arc::new(SystemClock)).expect("open a data directory")
}

impl LogHarness for Machine {
    fn open(&mut self) -> BoxFuture<'_, Arc<dyn EventLog>> {
        Box::pin(async { Arc::clone(&self.restart().log) })
    }

    fn other(&mut self) -> BoxFuture<'_, Arc<dyn EventLog>> {
        Box::pin(async {
            let dir = tempfile::tempdir().expect("make a directory");
            let other = open(&dir);
            let log = Arc::clone(&other.log);
            self.others.push((other, dir));
            log
        })
    }
}

impl StoreHarness for Machine {
    fn open(&mut self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async { Arc::clone(&self.restart().store) as Arc<dyn Store> })
    }
}

headwater_contract::event_log_suite!(Machine::new);
headwater_contract::store_suite!(Machine::new);

/// Runs one property in a process of its own; whether it holds, and what was said.
fn holds(property: &str, bug: &str) -> (bool, String) {
    let mut alone = Command::new(std::env::current_exe().expect("find this program"));
    let output = alone.args(["--exact", property]).env(PLANTED_BUG, bug).output().expect("run this program");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("running 1 test"), "{property} is no test: {said}");
    (output.status.success(), said)
}

#[test]
fn a_store_that_skips_the_compare_and_set_is_found() {
    for property in ["a_fenced_commit_changes_nothing_and_names_the_partition", "a_batch_committed_again_is_fenced"] {
        let property = format!("store::{property}");
        let (is_kept, said) = holds(&property, "no-bug");
        assert!(is_kept, "{said}");
        let (is_kept, said) = holds(&property, "skip-compare-and-set");
        assert!(!is_kept && said.contains("the commit is fenced, not"), "{property}: {said}");
    }
}
