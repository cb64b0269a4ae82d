//! The embedded log and store keep what both seams promise.
#![expect(clippy::expect_used, reason = "a test's harness: a panic is how it fails")]

use headwater_contract::event_log::LogHarness;
use headwater_contract::store::{Store, StoreHarness};
use headwater_core::BoxFuture;
use headwater_core::clock::SystemClock;
use headwater_core::log::EventLog;
use headwater_embedded::{Config, Embedded};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A data directory that is opened again and again, and others beside it.
struct Machine {
    dir: TempDir,
    open: Option<Embedded>,
    others: Vec<(Embedded, TempDir)>,
}

impl Machine {
    fn new() -> Self {
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
