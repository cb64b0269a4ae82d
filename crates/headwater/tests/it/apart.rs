//! Headwater with its roles in processes of their own, as many of each as a test wants, on one topic and one database.
//!
//! Owns: starting them so that they trust one key, and waiting for all of them together. Does not know: what is asked of them.

use crate::backends::Backends;
use crate::stack::{Builder, Stack, wait_for};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Processes on one topic and one database. The `api` is there always: the key is its own, and it is who is asked.
pub(crate) struct Apart {
    pub(crate) api: Stack,
    pub(crate) gateways: Vec<Stack>,
    pub(crate) ingests: Vec<Stack>,
    pub(crate) rollups: Vec<Stack>,
    backends: Arc<Backends>,
}

impl Apart {
    /// One api and one gateway, and nothing behind them yet.
    pub(crate) fn front(backends: &Arc<Backends>) -> Self {
        let api = Builder::default().run(&["api"]).on(backends).start();
        let (gateways, ingests, rollups) = (Vec::new(), Vec::new(), Vec::new());
        let mut apart = Self { api, gateways, ingests, rollups, backends: Arc::clone(backends) };
        apart.gateways.push(apart.role("gateway", &[]));
        apart
    }

    /// One of each.
    pub(crate) fn one_of_each(backends: &Arc<Backends>) -> Self {
        let mut apart = Self::front(backends);
        apart.add_ingest(&[]);
        apart.rollups.push(apart.role("rollup", &[]));
        apart
    }

    /// Two of each, and one api.
    pub(crate) fn two_of_each(backends: &Arc<Backends>) -> Self {
        let mut apart = Self::one_of_each(backends);
        apart.gateways.push(apart.role("gateway", &[]));
        apart.add_ingest(&[]);
        apart.rollups.push(apart.role("rollup", &[]));
        apart
    }

    /// One more ingest, with more in its environment.
    pub(crate) fn add_ingest(&mut self, environment: &[(&str, &str)]) {
        let ingest = self.role("ingest", environment);
        self.ingests.push(ingest);
    }

    /// A process with one role.
    pub(crate) fn role(&self, role: &str, environment: &[(&str, &str)]) -> Stack {
        let builder = Builder::default().run(&[role]).on(&self.backends).env("HEADWATER_AUTH__KEY_FILE", self.key_file().to_str().unwrap());
        environment.iter().fold(builder, |builder, (name, value)| builder.env(name, value)).start()
    }

    fn key_file(&self) -> PathBuf {
        self.api.data.join("token-key.pem")
    }

    /// The first gateway.
    pub(crate) fn gateway(&self) -> &Stack {
        &self.gateways[0]
    }

    /// Waits until everything that is acknowledged is in every answer.
    pub(crate) fn settled(&self, deadline: Duration) {
        wait_for("nothing in flight", deadline, || (self.api.status()["in_flight"] == 0).then_some(()));
    }

    /// Seals everything, by all rollups at the same time.
    pub(crate) fn seal(&self) {
        std::thread::scope(|scope| {
            self.rollups.iter().for_each(|rollup| drop(scope.spawn(|| rollup.output(&["seal"]))));
        });
        assert_eq!(self.api.status()["unsealed"], 0);
    }
}
