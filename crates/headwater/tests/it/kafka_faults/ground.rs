//! Headwater with its roles apart on a Kafka of the tests, and what has to hold of it after every fault.
//!
//! Owns: what is common to all tests here. Does not know: which fault it is.

use super::cluster::Cluster;
use super::load::{Flow, Load};
use crate::apart::Apart;
use crate::backends::Backends;
use crate::client::Ask;
use crate::crash::given;
use crate::simulate::check;
use crate::stack::{Stack, clean, wait_for};
use crate::verify::verified;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Longer than anything takes to heal by itself, on a machine that does ten other things.
pub(crate) const HEALED: Duration = Duration::from_secs(120);
/// What an ingest says when it begins to read partitions.
const READS: &str = "reading partitions";

/// One api, one gateway and one rollup that seals all the time; ingests come with the test.
pub(crate) struct Ground {
    pub(crate) apart: Apart,
    pub(crate) backends: Arc<Backends>,
    session_timeout_ms: &'static str,
}

impl Ground {
    /// Where a member is missed after six seconds, as by default.
    pub(crate) fn patient(cluster: &Cluster) -> Self {
        Self::on(cluster, "6000")
    }

    /// Where a member is missed after two seconds.
    pub(crate) fn hasty(cluster: &Cluster) -> Self {
        Self::on(cluster, "2000")
    }

    fn on(cluster: &Cluster, session_timeout_ms: &'static str) -> Self {
        let backends = Backends::on_kafka(&cluster.brokers());
        let mut apart = Apart::front(&backends);
        apart.rollups.push(apart.role("rollup", &[("HEADWATER_ROLLUP__INTERVAL_MS", "200")]));
        Self { apart, backends, session_timeout_ms }
    }

    /// One more ingest, of small and early commits; returns when it reads something.
    pub(crate) fn join(&mut self, environment: &[(&str, &str)]) {
        let common = [("HEADWATER_INGEST__BATCH_MS", "100"), ("HEADWATER_LOG__SESSION_TIMEOUT_MS", self.session_timeout_ms)];
        self.apart.add_ingest(&[&common, environment].concat());
        let ingest = self.apart.ingests.last().expect("an ingest");
        wait_for("the ingest to be given partitions", HEALED, || (n_assignments(ingest) > 0).then_some(()));
    }

    /// `/v1/status`, where the api can tell it.
    pub(crate) fn try_status(&self) -> Option<Value> {
        let answer = self.apart.api.try_ask(&Ask::new("GET", "/v1/status")).ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    /// By partition, what the store has applied and what the log has.
    pub(crate) fn places(&self) -> Vec<(u64, u64)> {
        let status = wait_for("the status", HEALED, || self.try_status());
        let places = status["positions"].as_array().unwrap().iter();
        places.map(|place| (place["next"].as_u64().unwrap(), place["end"].as_u64().unwrap())).collect()
    }

    /// Waits until everything that is in the log now is applied, in each partition.
    pub(crate) fn catches_up(&self) {
        let ends: Vec<u64> = self.places().iter().map(|(_, end)| *end).collect();
        wait_for("every partition to be read on", HEALED, || {
            let places = self.places();
            ends.iter().zip(&places).all(|(end, (next, _))| next >= end).then_some(())
        });
    }

    /// Waits until nothing is in flight.
    pub(crate) fn settled(&self) {
        wait_for("no lag", HEALED, || (self.try_status()?["in_flight"] == 0).then_some(()));
    }

    /// When the store's positions move, to a tenth of a second.
    pub(crate) fn applied(&self) -> Flow {
        let (psql, mut lines) = self.psql("SELECT coalesce(sum(next), 0) FROM positions \\watch 0.1\n");
        Flow::of(move || {
            // Moves with the closure, and ends with it.
            let _psql = &psql;
            lines.find_map(|line| line.trim().parse().ok())
        })
    }

    /// Nobody moves a position while this lives; whoever only reads is not kept waiting.
    pub(crate) fn positions_held(&self) -> Psql {
        let (psql, mut lines) = self.psql("BEGIN;\nLOCK TABLE positions IN EXCLUSIVE MODE;\nSELECT 'held';\n");
        assert!(lines.any(|line| line == "held"), "the lock");
        psql
    }

    /// A session in which this is run, and what it prints.
    fn psql(&self, sql: &str) -> (Psql, impl Iterator<Item = String> + Send + use<>) {
        let mut psql = clean("psql");
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", &self.backends.store_url()]);
        let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(sql.as_bytes()).unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        (Psql(child), lines)
    }

    /// Ends the load and checks everything that can be checked.
    pub(crate) fn holds(&self, load: Load) {
        let account = load.end();
        self.settled();
        assert_eq!(self.backends.sql("SELECT count(*) FROM gaps"), "0", "nothing of the log is missing");
        assert_eq!(self.apart.rollups[0].post("/v1/seal", "application/json", "").ok().json()["unsealed"], 0);
        check(&self.apart.api, &account);
        self.is_clean();
    }

    /// `headwater verify` finds nothing.
    pub(crate) fn is_clean(&self) {
        let (code, report) = verified(&self.apart.api, &[]);
        assert_eq!((code, &report["differences"]), (0, &json!(0)), "{report}");
    }

    /// How many readings can be asked for.
    pub(crate) fn n_readings(&self) -> usize {
        self.apart.api.rows("/v1/readings", &[("from", "1990-01-01T00:00:00Z"), ("to", "2040-01-01T00:00:00Z"), ("limit", "100000")]).len()
    }
}

/// How often an ingest was given partitions.
pub(crate) fn n_assignments(ingest: &Stack) -> usize {
    ingest.said().matches(READS).count()
}

/// How often a test does its harm: what is enough in CI, or what was asked for.
pub(crate) fn rounds(few: u64) -> u64 {
    given("HEADWATER_ROUNDS").unwrap_or(few)
}

/// A session of the database that ends with this.
pub(crate) struct Psql(Child);

impl Drop for Psql {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}
