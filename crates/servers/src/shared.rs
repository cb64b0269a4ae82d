//! One Kafka and one PostgreSQL for everybody who tests: left running, written down in `run.json`, found again.
//!
//! Owns: the record of what runs, and that only one process changes it at a time. Does not know: how a server starts.
//!
//! Invariants: `KAFKA_BROKERS` and `POSTGRES_URL` come first, and then nothing is started for that server; what is recorded
//! but does not run or answer is replaced; nothing is recorded that was not started here.

use crate::process::Identity;
use crate::{Folder, Kafka, Postgres, kafka, places, postgres};
use anyhow::{Context, bail};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Where the servers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// What `KAFKA_BROKERS` should say: `host:port,…`.
    pub kafka_brokers: String,
    /// What `POSTGRES_URL` should say: `postgres://…`, as a superuser.
    pub postgres_url: String,
}

impl Addresses {
    /// Names and values of the environment variables that tests read.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, &str); 2] {
        [(places::KAFKA_BROKERS, &self.kafka_brokers), (places::POSTGRES_URL, &self.postgres_url)]
    }
}

/// What is written down.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    kafka: Option<Entry>,
    postgres: Option<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    address: String,
    port: u16,
    folder: PathBuf,
    processes: Vec<Identity>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Kafka,
    Postgres,
}

/// Servers that are there for as long as this is: those that run already, otherwise its own.
#[derive(Debug)]
pub struct Lent {
    addresses: Addresses,
    kafka: Option<Kafka>,
    postgres: Option<Postgres>,
    // After the servers, whose files are in it.
    _folder: Option<Folder>,
}

/// Starts what is not running, and leaves it running.
///
/// # Errors
/// When a server cannot be installed or started.
pub fn start() -> anyhow::Result<Addresses> {
    let _lock = places::lock("run.lock")?;
    let record = Record::read()?;
    // Together: Kafka takes some seconds, most of them waiting.
    let (kafka, postgres) = std::thread::scope(|scope| {
        let kafka = scope.spawn(|| found_or_started(Kind::Kafka, record.kafka));
        let postgres = found_or_started(Kind::Postgres, record.postgres);
        (kafka.join().unwrap_or_else(|_panic| bail!("starting Kafka panicked")), postgres)
    });
    // What did start is written down also where the other did not.
    let entry = |found: &anyhow::Result<Found>| found.as_ref().ok().and_then(|found| found.1.clone());
    Record { kafka: entry(&kafka), postgres: entry(&postgres) }.write()?;
    Ok(Addresses { kafka_brokers: kafka?.0, postgres_url: postgres?.0 })
}

/// Where the servers are that run; nothing is started.
///
/// # Errors
/// When one does not run; with the command that starts it.
pub fn addresses() -> anyhow::Result<Addresses> {
    let record = Record::read()?;
    let running = |kind: Kind, entry: Option<Entry>| {
        let address = kind.existing().or_else(|| Some(entry.filter(|entry| entry.serves(kind))?.address));
        address.with_context(|| format!("{} does not run; `cargo xtask servers start` starts it", kind.name()))
    };
    Ok(Addresses { kafka_brokers: running(Kind::Kafka, record.kafka)?, postgres_url: running(Kind::Postgres, record.postgres)? })
}

/// A line about each server.
///
/// # Errors
/// When the record cannot be read.
pub fn status() -> anyhow::Result<[String; 2]> {
    let record = Record::read()?;
    let line = |kind: Kind, entry: Option<Entry>| {
        let name = kind.name();
        match (kind.existing(), entry) {
            (Some(address), _) => format!("{name}: {address}, from {}", kind.variable()),
            (None, Some(entry)) if entry.serves(kind) => {
                let pids: Vec<String> = entry.processes.iter().map(|process| process.pid.to_string()).collect();
                format!("{name}: {}, pid {}, in {}", entry.address, pids.join(" "), entry.folder.display())
            }
            (None, Some(entry)) => format!("{name}: was started at {}, and does not answer", entry.address),
            (None, None) => format!("{name}: not started"),
        }
    };
    Ok([line(Kind::Kafka, record.kafka), line(Kind::Postgres, record.postgres)])
}

/// Stops what [`start`] has left running, and removes its files.
///
/// # Errors
/// When a process does not end.
pub fn stop() -> anyhow::Result<()> {
    let _lock = places::lock("run.lock")?;
    let record = Record::read()?;
    let kafka = record.kafka.map_or(Ok(()), |entry| entry.end(Kind::Kafka));
    let postgres = record.postgres.map_or(Ok(()), |entry| entry.end(Kind::Postgres));
    kafka.and(postgres)?;
    Record::default().write()
}

/// For a run of tests: what [`start`] has left running is used and stays; what does not run is started, and ends with the
/// handle or with this process, however that dies.
///
/// # Errors
/// When a server cannot be installed or started.
pub fn lend() -> anyhow::Result<Lent> {
    let record = Record::read()?;
    let there = |kind: Kind, entry: Option<Entry>| kind.existing().or_else(|| Some(entry.filter(|entry| entry.serves(kind))?.address));
    let kafka_there = there(Kind::Kafka, record.kafka);
    let postgres_there = there(Kind::Postgres, record.postgres);
    let folder = Folder::new("tests")?;
    let dir = folder.path();
    let start_kafka = || Kafka::start(&dir.join("kafka"), 1, &kafka::Options::default());
    let (kafka, postgres) = std::thread::scope(|scope| {
        let kafka = scope.spawn(|| kafka_there.is_none().then(start_kafka).transpose());
        let postgres = postgres_there.is_none().then(|| Postgres::start(&dir.join("postgres"), &postgres::Options::default())).transpose();
        (kafka.join().unwrap_or_else(|_panic| bail!("starting Kafka panicked")), postgres)
    });
    let (kafka, postgres) = (kafka?, postgres?);
    let kafka_brokers = kafka_there.or_else(|| Some(kafka.as_ref()?.brokers())).context("Kafka's address")?;
    let postgres_url = postgres_there.or_else(|| Some(postgres.as_ref()?.url())).context("PostgreSQL's address")?;
    Ok(Lent { addresses: Addresses { kafka_brokers, postgres_url }, kafka, postgres, _folder: Some(folder) })
}

impl Lent {
    /// Where the servers are.
    #[must_use]
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Whether both were there before.
    #[must_use]
    pub const fn was_there(&self) -> bool {
        self.kafka.is_none() && self.postgres.is_none()
    }
}

/// An address, and what is to be written down about it.
type Found = (String, Option<Entry>);

fn found_or_started(kind: Kind, entry: Option<Entry>) -> anyhow::Result<Found> {
    if let Some(address) = kind.existing() {
        return Ok((address, entry));
    }
    if let Some(entry) = entry {
        if entry.serves(kind) {
            return Ok((entry.address.clone(), Some(entry)));
        }
        entry.end(kind)?;
    }
    let entry = kind.start()?;
    Ok((entry.address.clone(), Some(entry)))
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Kafka => "Kafka",
            Self::Postgres => "PostgreSQL",
        }
    }

    const fn variable(self) -> &'static str {
        match self {
            Self::Kafka => places::KAFKA_BROKERS,
            Self::Postgres => places::POSTGRES_URL,
        }
    }

    fn existing(self) -> Option<String> {
        places::existing(self.variable())
    }

    fn start(self) -> anyhow::Result<Entry> {
        match self {
            Self::Kafka => {
                let folder = Folder::new("kafka")?;
                let kafka = Kafka::start_with(folder.path(), 1, &kafka::Options::default(), false)?;
                let (address, port) = (kafka.brokers(), kafka.port(1)?);
                Ok(Entry { address, port, processes: kafka.leave(), folder: folder.keep() })
            }
            Self::Postgres => {
                let folder = Folder::new("postgres")?;
                let postgres = Postgres::start_with(&folder.path().join("cluster"), &postgres::Options::default(), false)?;
                let (address, port) = (postgres.url(), postgres.port());
                Ok(Entry { address, port, processes: postgres.leave().into_iter().collect(), folder: folder.keep() })
            }
        }
    }
}

impl Entry {
    /// Whether its processes run and answer.
    fn serves(&self, kind: Kind) -> bool {
        let run = !self.processes.is_empty() && self.processes.iter().all(|process| process.runs());
        run && match kind {
            Kind::Kafka => kafka::answers(self.port),
            Kind::Postgres => postgres::install::install().and_then(|programs| programs.ready(self.port)).unwrap_or(false),
        }
    }

    fn end(&self, kind: Kind) -> anyhow::Result<()> {
        let (signal, grace) = match kind {
            Kind::Kafka => (Signal::TERM, Duration::from_secs(30)),
            Kind::Postgres => (Signal::INT, Duration::from_secs(30)),
        };
        self.processes.iter().try_for_each(|process| process.end(signal, grace))?;
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", self.folder.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Record {
    fn path() -> PathBuf {
        places::cache().join("run.json")
    }

    fn read() -> anyhow::Result<Self> {
        let path = Self::path();
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("read {}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Whole or not at all: it is read without the lock.
    fn write(&self) -> anyhow::Result<()> {
        let path = Self::path();
        let beside = path.with_extension("json.tmp");
        fs::write(&beside, serde_json::to_vec_pretty(self)?).with_context(|| format!("write {}", beside.display()))?;
        fs::rename(&beside, &path).with_context(|| format!("write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(processes: Vec<Identity>) -> Entry {
        Entry { address: "127.0.0.1:20001".to_owned(), port: 1, folder: PathBuf::from("/nowhere/at/all"), processes }
    }

    #[test]
    fn the_record_says_what_runs() {
        let kafka = entry(vec![Identity { pid: 7, started: 99 }]);
        let text = serde_json::to_string(&Record { kafka: Some(kafka.clone()), postgres: None }).unwrap();
        assert_eq!(
            text,
            r#"{"kafka":{"address":"127.0.0.1:20001","port":1,"folder":"/nowhere/at/all","processes":[{"pid":7,"started":99}]},"postgres":null}"#
        );
        let read: Record = serde_json::from_str(&text).unwrap();
        assert_eq!((read.kafka, read.postgres), (Some(kafka), None));
    }

    #[test]
    fn a_server_whose_pid_is_somebody_elses_does_not_serve_and_is_not_killed() {
        let own = Identity::of(std::process::id()).unwrap();
        let stale = entry(vec![Identity { started: own.started + 1, ..own }]);
        assert!(!stale.serves(Kind::Kafka));
        stale.end(Kind::Kafka).unwrap();
    }

    #[test]
    fn a_server_that_runs_and_does_not_answer_does_not_serve() {
        // Port 1 of this machine: nobody is there.
        let silent = entry(vec![Identity::of(std::process::id()).unwrap()]);
        assert!(!silent.serves(Kind::Kafka));
    }
}
