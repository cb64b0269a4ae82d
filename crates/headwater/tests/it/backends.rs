//! A topic of a real Kafka and a database of a real PostgreSQL, for one test.
//!
//! Owns: their names, making and removing them, the environment that points a server at them. Does not know: servers of Headwater.
//! Invariants: no two tests share a topic or a database; both are removed with the last stack on them; a missing server is a failure that
//! names the command which starts one, never a skipped test.

use crate::stack::clean;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use std::hash::{BuildHasher, RandomState};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Partitions of a test's topic: several, so that partitions matter, and few, so that topics are made quickly.
const PARTITIONS: u32 = 4;

/// Where a scaled stack keeps things.
pub(crate) struct Backends {
    /// `host:port,…`.
    pub(crate) brokers: String,
    /// The superuser's URL of the cluster.
    pub(crate) admin_url: String,
    /// The topic and the database are called so.
    pub(crate) name: String,
    partitions: u32,
}

impl Backends {
    /// On the servers that all tests share.
    pub(crate) fn shared() -> Arc<Self> {
        Self::on(&variable("KAFKA_BROKERS"), &variable("POSTGRES_URL"))
    }

    /// On the Kafka that all tests share, and a PostgreSQL of the test's own.
    pub(crate) fn with_postgres(admin_url: &str) -> Arc<Self> {
        Self::on(&variable("KAFKA_BROKERS"), admin_url)
    }

    /// On a Kafka of the test's own, and the PostgreSQL that all tests share.
    pub(crate) fn on_kafka(brokers: &str) -> Arc<Self> {
        Self::on(brokers, &variable("POSTGRES_URL"))
    }

    /// On these servers.
    pub(crate) fn on(brokers: &str, admin_url: &str) -> Arc<Self> {
        // Process ids come again, and the servers may have outlived a run that was killed.
        static RUN: LazyLock<u32> = LazyLock::new(|| RandomState::new().hash_one(0) as u32);
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("it_{:08x}_{}", *RUN, NEXT.fetch_add(1, Ordering::Relaxed));
        let backends = Self { brokers: brokers.to_owned(), admin_url: admin_url.to_owned(), name, partitions: PARTITIONS };
        backends.admin(&format!("CREATE DATABASE {}", backends.name));
        Arc::new(backends)
    }

    /// What points a server here.
    pub(crate) fn environment(&self) -> [(String, String); 2] {
        [("HEADWATER_LOG__URL".to_owned(), self.log_url()), ("HEADWATER_STORE__URL".to_owned(), self.store_url())]
    }

    pub(crate) fn log_url(&self) -> String {
        format!("kafka://{}/{}?partitions={}", self.brokers, self.name, self.partitions)
    }

    pub(crate) fn store_url(&self) -> String {
        let (server, _) = self.admin_url.rsplit_once('/').expect("postgres://…/database");
        format!("{server}/{}", self.name)
    }

    /// Runs SQL in the test's database and gives what it prints, without headings.
    pub(crate) fn sql(&self, sql: &str) -> String {
        printed(&mut psql(&self.store_url(), sql))
    }

    /// Runs SQL in the cluster's own database.
    pub(crate) fn admin(&self, sql: &str) -> String {
        printed(&mut psql(&self.admin_url, sql))
    }

    fn delete_topic(&self) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", &self.brokers).create()?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(2)));
        runtime.block_on(admin.delete_topics(&[&self.name], &options))?;
        Ok(())
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        // A cluster that a test has killed has nothing to be removed.
        drop(self.delete_topic());
        drop(psql(&self.admin_url, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)).output());
    }
}

fn variable(name: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
    let given = std::env::var(name);
    given.unwrap_or_else(|_| {
        panic!("this test needs real servers: `cargo xtask servers start`, then `eval \"$(cargo xtask servers env)\"` sets {name}")
    })
}

fn psql(url: &str, sql: &str) -> Command {
    let mut psql = clean("psql");
    psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "-v", "ON_ERROR_STOP=1", url, "-c", sql]);
    psql
}

fn printed(psql: &mut Command) -> String {
    let output = psql.output().unwrap_or_else(|why| panic!("{psql:?}: {why}"));
    assert!(output.status.success(), "{psql:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
