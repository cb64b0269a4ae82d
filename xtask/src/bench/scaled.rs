//! `bench scaled`: roles apart, on Kafka and PostgreSQL that are started for it: log → store, and the whole path from HTTP until sealed.
//!
//! Owns: the two runs and their ratios to COPY of one row a reading. Does not know: how servers are started.
//!
//! 1. The load of `bench write` goes to a gateway while no ingest runs; then ingest starts, and the time until everything is applied is that of
//!    log → store alone (burst); then a rollup seals all of it, and sizes are read.
//! 2. On another topic and database the same load with ingest and rollup running, until all is applied and sealed.
//!
//! With `--hold SECONDS --rate READINGS` instead: a load of that rate while somebody's transaction keeps one snapshot of the database open for that
//! long, then two more minutes; what the tables take is told every minute.

use super::load::{self, Load, SERIES, START_MS};
use super::numbers;
use super::server::{Server, cpu_of};
use anyhow::{Context, ensure};
use headwater_servers::{Folder, Kafka, Postgres, kafka, postgres};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Rows of the baselines.
const ROWS: usize = 3_000_000;
/// How long the load goes on after a held snapshot is gone.
const AFTER_HOLD: Duration = Duration::from_secs(120);

/// What `bench scaled` is told.
struct Setting {
    load: Load,
    partitions: u64,
    n_ingests: u64,
}

/// The task.
pub(super) fn run(args: &[String]) -> anyhow::Result<()> {
    let names = ["--readings", "--lines", "--connections", "--partitions", "--ingests", "--series", "--hold", "--rate"];
    let defaults = [10_000_000, 5_000, 4, 12, 1, SERIES as u64, 0, 100_000];
    let [readings, lines, connections, partitions, n_ingests, series, hold, rate] = numbers(args, names, defaults)?;
    let load = Load::closed(readings as usize, lines as usize, connections as usize, series as usize);
    let load = if hold > 0 { load.paced(rate, hold + AFTER_HOLD.as_secs()) } else { load };
    let setting = Setting { load, partitions, n_ingests };
    let folder = Folder::new("scaled")?;
    let options = kafka::Options { speed: kafka::Speed::Run, ..kafka::Options::default() };
    let kafka = Kafka::start(&folder.path().join("kafka"), 1, &options)?;
    let postgres = Postgres::start(&folder.path().join("postgres"), &settings_of_postgres())?;
    println!(
        "{series} series, {lines} lines a request, {connections} connections, {partitions} partitions, {n_ingests} ingest, {readings} readings; durability: Kafka acks=all on one broker, \
         PostgreSQL fsync"
    );
    let plain = copy(&postgres, folder.path(), "")?;
    let keyed = copy(&postgres, folder.path(), ", PRIMARY KEY (series, time)")?;
    println!("  COPY, a row a reading        {plain:>10.0} rows/s without an index, {keyed:.0} under a primary key");
    let bodies = load::bodies(&setting.load);
    let world = World { kafka: &kafka, postgres: &postgres, setting: &setting, plain };
    if hold > 0 {
        return world.held(&bodies, Duration::from_secs(hold));
    }
    world.log_to_store(&bodies)?;
    world.whole_path(&bodies)
}

/// What an administrator sets on such a machine (docs/operating.md); what matters for durability stays as it is.
fn settings_of_postgres() -> postgres::Options {
    let config = ["shared_buffers = 1GB", "max_wal_size = 4GB", "wal_buffers = 16MB", "checkpoint_timeout = 15min"];
    postgres::Options { config: config.map(String::from).to_vec() }
}

struct World<'a> {
    kafka: &'a Kafka,
    postgres: &'a Postgres,
    setting: &'a Setting,
    /// COPY without an index, rows a second.
    plain: f64,
}

impl World<'_> {
    fn environment(&self, name: &str) -> anyhow::Result<Vec<(String, String)>> {
        self.postgres.psql(&format!("CREATE DATABASE {name}"))?;
        let log = format!("kafka://{}/{name}?partitions={}", self.kafka.brokers(), self.setting.partitions);
        Ok(vec![("HEADWATER_LOG__URL".to_owned(), log), ("HEADWATER_STORE__URL".to_owned(), self.database(name)?)])
    }

    fn log_to_store(&self, bodies: &[Vec<u8>]) -> anyhow::Result<()> {
        let environment = self.environment("burst")?;
        let api = Server::run("api", &environment, None)?;
        let gateway = Server::run("gateway", &environment, Some(&api))?;
        let cpus = Cpus::now(&[("gateway", &gateway)], self)?;
        let started = Instant::now();
        load::send(&gateway, &self.setting.load, bodies)?;
        self.tell("gateway → log, acknowledged", started.elapsed(), bodies);
        cpus.tell(self.sent(bodies), self)?;
        let before = self.wal()?;
        let started = Instant::now();
        let ingests =
            (0..self.setting.n_ingests).map(|_| Server::run("ingest", &environment, Some(&api))).collect::<anyhow::Result<Vec<_>>>()?;
        let ready = started.elapsed();
        let named: Vec<_> = ingests.iter().map(|ingest| ("ingest", ingest)).collect();
        let cpus = Cpus::now(&named, self)?;
        api.wait_until_applied()?;
        let took = started.elapsed();
        ensure!(api.count("received")? == self.sent(bodies) as u64, "the store counted {}", api.count("received")?);
        self.tell("log → store, burst", took, bodies);
        println!("    (of which {:.2} s until ingest was ready and in its group)", ready.as_secs_f64());
        cpus.tell(self.sent(bodies), self)?;
        println!("    WAL {:.1} bytes a reading; tables {}", self.per_reading(self.wal()? - before, bodies), self.sizes("burst")?);
        let rollup = Server::run("rollup", &environment, Some(&api))?;
        let cpus = Cpus::now(&[("rollup", &rollup)], self)?;
        let (before, started) = (self.wal()?, Instant::now());
        rollup.ask("POST", "/v1/seal")?;
        self.tell("sealing all of it", started.elapsed(), bodies);
        cpus.tell(self.sent(bodies), self)?;
        println!("    WAL {:.1} bytes a reading; tables {}", self.per_reading(self.wal()? - before, bodies), self.sizes("burst")?);
        Ok(())
    }

    fn whole_path(&self, bodies: &[Vec<u8>]) -> anyhow::Result<()> {
        let environment = self.environment("whole")?;
        let api = Server::run("api", &environment, None)?;
        let gateway = Server::run("gateway", &environment, Some(&api))?;
        let rollup = Server::run("rollup", &environment, Some(&api))?;
        let ingests =
            (0..self.setting.n_ingests).map(|_| Server::run("ingest", &environment, Some(&api))).collect::<anyhow::Result<Vec<_>>>()?;
        let named: Vec<_> = [("gateway", &gateway), ("rollup", &rollup), ("api", &api)]
            .into_iter()
            .chain(ingests.iter().map(|ingest| ("ingest", ingest)))
            .collect();
        let cpus = Cpus::now(&named, self)?;
        let started = Instant::now();
        load::send(&gateway, &self.setting.load, bodies)?;
        self.tell("whole path, acknowledged", started.elapsed(), bodies);
        api.wait_until_applied()?;
        self.tell("whole path, queryable", started.elapsed(), bodies);
        let open = api.count("unsealed")?;
        rollup.ask("POST", "/v1/seal")?;
        self.tell("whole path, all sealed", started.elapsed(), bodies);
        println!("    ({open} readings were open before the last seal)");
        cpus.tell(self.sent(bodies), self)?;
        println!("    tables {}", self.sizes("whole")?);
        Ok(())
    }

    /// A paced load beside a transaction that sees the state of its start until `hold` has passed.
    fn held(&self, bodies: &[Vec<u8>], hold: Duration) -> anyhow::Result<()> {
        let environment = self.environment("held")?;
        let api = Server::run("api", &environment, None)?;
        let gateway = Server::run("gateway", &environment, Some(&api))?;
        let rollup = Server::run("rollup", &environment, Some(&api))?;
        let ingest = Server::run("ingest", &environment, Some(&api))?;
        let cpus = Cpus::now(&[("gateway", &gateway), ("ingest", &ingest), ("rollup", &rollup)], self)?;
        let script = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class; SET idle_in_transaction_session_timeout = 0; SELECT pg_sleep({}); COMMIT",
            hold.as_secs()
        );
        let mut holder = Command::new("psql").args(["-XAtqo", "/dev/null", &self.database("held")?, "-c", &script]).spawn()?;
        let started = Instant::now();
        println!(
            "  a snapshot is held for {} s, at {} readings/s; seconds, in flight (records), unsealed, dead rows, tables:",
            hold.as_secs(),
            self.setting.load.rate()
        );
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| load::send(&gateway, &self.setting.load, bodies));
            while !sender.is_finished() {
                let next = (started.elapsed().as_secs() / 60 + 1) * 60;
                while started.elapsed().as_secs() < next && !sender.is_finished() {
                    std::thread::sleep(Duration::from_millis(100));
                }
                let status = api.status()?;
                let (at, dead) = (started.elapsed().as_secs(), self.dead_rows("held")?);
                println!("    {at:>4} {} {} {dead}; {}", status["in_flight"], status["unsealed"], self.sizes("held")?);
            }
            sender.join().map_err(|_panic| anyhow::anyhow!("the sender panicked"))?
        })?;
        ensure!(holder.wait()?.success(), "the transaction that holds the snapshot failed");
        api.wait_until_applied()?;
        ensure!(api.count("received")? == self.sent(bodies) as u64, "the store counted {}", api.count("received")?);
        self.tell("sent, applied", started.elapsed(), bodies);
        cpus.tell(self.sent(bodies), self)
    }

    fn database(&self, name: &str) -> anyhow::Result<String> {
        let url = self.postgres.url();
        let (server, _) = url.rsplit_once('/').context("a database URL")?;
        Ok(format!("{server}/{name}"))
    }

    fn dead_rows(&self, database: &str) -> anyhow::Result<String> {
        let sql = "SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_user_tables";
        let output = Command::new("psql").args(["-XAtq", &self.database(database)?, "-c", sql]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    const fn sent(&self, bodies: &[Vec<u8>]) -> usize {
        bodies.len() * self.setting.load.lines
    }

    fn per_reading(&self, amount: f64, bodies: &[Vec<u8>]) -> f64 {
        amount / self.sent(bodies) as f64
    }

    fn tell(&self, what: &str, took: Duration, bodies: &[Vec<u8>]) {
        let speed = self.sent(bodies) as f64 / took.as_secs_f64();
        println!("  {what:<28} {speed:>10.0} readings/s  ({:.2} x COPY without an index)", speed / self.plain);
    }

    /// Bytes of WAL that were ever written.
    fn wal(&self) -> anyhow::Result<f64> {
        Ok(self.postgres.psql("SELECT pg_current_wal_lsn() - '0/0'")?.trim().parse()?)
    }

    /// Bytes of each larger table with its indexes and TOAST.
    fn sizes(&self, database: &str) -> anyhow::Result<String> {
        let sql = "SELECT string_agg(relname || ' ' || pg_size_pretty(pg_total_relation_size(oid)), ', ' ORDER BY pg_total_relation_size(oid) DESC) \
                   FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND pg_total_relation_size(oid) > 1000000";
        let output = Command::new("psql").args(["-XAtq", &self.database(database)?, "-c", sql]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// CPU times at a moment, of processes of ours, of Kafka and of all of PostgreSQL.
struct Cpus<'a> {
    ours: Vec<(&'a str, &'a Server, Duration)>,
    kafka: Duration,
    postgres: Duration,
}

impl<'a> Cpus<'a> {
    fn now(servers: &[(&'a str, &'a Server)], world: &World<'_>) -> anyhow::Result<Self> {
        let ours = servers.iter().map(|(name, server)| Ok((*name, *server, server.cpu()?))).collect::<anyhow::Result<_>>()?;
        Ok(Self { ours, kafka: of_kafka(world)?, postgres: of_postgres(world)? })
    }

    fn tell(&self, sent: usize, world: &World<'_>) -> anyhow::Result<()> {
        let micros = |took: Duration| took.as_secs_f64() * 1e6 / sent as f64;
        let mut line = String::from("    CPU µs a reading:");
        for (name, server, before) in &self.ours {
            line.push_str(&format!(" {name} {:.2},", micros(server.cpu()?.saturating_sub(*before))));
        }
        let (kafka, postgres) = (of_kafka(world)?.saturating_sub(self.kafka), of_postgres(world)?.saturating_sub(self.postgres));
        println!("{line} Kafka {:.2}, PostgreSQL {:.2}", micros(kafka), micros(postgres));
        Ok(())
    }
}

fn of_kafka(world: &World<'_>) -> anyhow::Result<Duration> {
    cpu_of(world.kafka.pid(1)?.context("Kafka's pid")?, 11..13)
}

/// The postmaster, its children, and those of them that have ended.
fn of_postgres(world: &World<'_>) -> anyhow::Result<Duration> {
    let postmaster = world.postgres.pid().context("PostgreSQL's pid")?;
    let mut sum = cpu_of(postmaster, 11..15)?;
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().unwrap_or_default().split_whitespace().nth(1).and_then(|parent| parent.parse::<u32>().ok());
        if parent == Some(postmaster) {
            // It may end meanwhile; then the postmaster has its times.
            sum += cpu_of(pid, 11..13).unwrap_or_default();
        }
    }
    Ok(sum)
}

/// Rows a second of COPY, a row a reading: (series, time, value) of 10,000 interleaved series, binary, from a file.
fn copy(postgres: &Postgres, folder: &Path, key: &str) -> anyhow::Result<f64> {
    let file = folder.join("rows");
    let mut bytes = Vec::with_capacity(ROWS * 34 + 32);
    bytes.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    for n in 0..ROWS as i64 {
        let (series, time) = (n % SERIES as i64, (START_MS as i64 + n / SERIES as i64 * 10_000) * 1_000);
        bytes.extend_from_slice(&3i16.to_be_bytes());
        for field in [series.to_be_bytes(), time.to_be_bytes(), (((2_000 + n % 500) as f64) / 100.0).to_be_bytes()] {
            bytes.extend_from_slice(&8i32.to_be_bytes());
            bytes.extend_from_slice(&field);
        }
    }
    bytes.extend_from_slice(&(-1i16).to_be_bytes());
    fs::File::create(&file)?.write_all(&bytes)?;
    postgres.psql(&format!("CREATE TABLE plain_rows (series bigint, time bigint, value float8{key})"))?;
    postgres.psql("CHECKPOINT")?;
    let mut psql = Command::new("psql");
    psql.args(["-Xq", &postgres.url(), "-c", "COPY plain_rows FROM STDIN (FORMAT binary)"]).stdin(Stdio::from(fs::File::open(&file)?));
    let started = Instant::now();
    ensure!(psql.status()?.success(), "COPY failed");
    let took = started.elapsed();
    postgres.psql("DROP TABLE plain_rows")?;
    fs::remove_file(&file)?;
    Ok(ROWS as f64 / took.as_secs_f64())
}
