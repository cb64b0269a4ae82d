//! A look at the log and the store, for `headwater doctor`.
//!
//! Owns: which backends are looked at, and what is thought of what they say. Invariant: nothing is changed and nothing is made.

use crate::config::{Log, Role, Settings, Store};
use crate::doctor::Line;
use headwater_core::clock::{Clock, SystemClock};
use headwater_core::store::{Queries, Totals};
use headwater_core::time::SECOND;
use headwater_embedded::CopiedLog;
use headwater_kafka::Topic;
use headwater_postgres::Examined as Database;
use std::time::Duration;

/// For the counts of a store.
const LIFETIME: Duration = Duration::from_secs(20);
/// How long is waited for a broker.
const PATIENCE: Duration = Duration::from_secs(5);
/// A clock that is further off makes ages and lags wrong.
const CLOCKS_APART_S: f64 = 2.0;
/// An older snapshot keeps tables from being swept.
const OLD_SNAPSHOT_S: f64 = 600.0;
/// A gap says how much is lost, and only this says why.
const ABOUT_GAPS: &str =
    "what they held was acknowledged and is lost: the table gaps has their ranges; keep the log for longer than outages last";

/// Whether anything of this process is in the data directory, but for the key.
pub(crate) fn has_directory(settings: &Settings) -> bool {
    needs_log(settings) && matches!(settings.log, Log::Embedded) || needs_store(settings) && matches!(settings.store, Store::Sqlite)
}

/// Who holds the data directory.
pub(crate) fn holder(settings: &Settings) -> Option<String> {
    has_directory(settings).then(|| headwater_embedded::holder_of(&settings.data_dir)).flatten()
}

fn needs_log(settings: &Settings) -> bool {
    settings.roles.iter().any(|role: &Role| role.needs_log())
}

fn needs_store(settings: &Settings) -> bool {
    settings.roles.iter().any(|role: &Role| role.needs_store())
}

/// Looks at what the roles of this configuration need.
pub(crate) async fn look(settings: &Settings) -> Vec<Line> {
    let mut lines = Vec::new();
    let is_new = has_directory(settings) && !settings.data_dir.join("format").exists();
    if is_new {
        return vec![Line::ok("store", "there is none yet; the first start makes it")];
    }
    if needs_store(settings) {
        lines.extend(match &settings.store {
            Store::Sqlite => embedded_store(settings).await,
            Store::Postgres(config) => postgres(config).await,
        });
    }
    if needs_log(settings) {
        lines.extend(match &settings.log {
            Log::Embedded => vec![embedded_log(settings)],
            Log::Kafka(config) => kafka(config).await,
        });
    }
    lines
}

async fn embedded_store(settings: &Settings) -> Vec<Line> {
    match headwater_embedded::open_for_reading(&settings.data_dir) {
        Ok(store) => counts(&*store).await,
        Err(why) => {
            vec![Line::fail("store", why.to_string(), "start the server once, use the version that wrote it, or put back a copy (restore)")]
        }
    }
}

/// What the counts say.
async fn counts(store: &dyn Queries) -> Vec<Line> {
    let read = async { store.snapshot(LIFETIME).await?.totals().await };
    let totals = match read.await {
        Ok(totals) => totals,
        Err(why) => {
            return vec![Line::fail("store", format!("it cannot be read: {why}"), "look at the messages of the server; headwater verify")];
        }
    };
    let Totals { received, stored, duplicate, conflict, dead, unsealed, gaps, dead_letters, .. } = totals;
    let sum = stored + duplicate + conflict + dead + unsealed;
    let seen = format!(
        "{received} readings received: {stored} stored, {duplicate} duplicate, {conflict} conflict, {dead} dead, {unsealed} open; {dead_letters} dead letters"
    );
    let mut lines = vec![if sum == received {
        Line::ok("store", seen)
    } else {
        Line::fail("store", format!("{seen}; that does not add up ({sum})"), "headwater verify says where")
    }];
    if gaps > 0 {
        lines.push(Line::warn("gaps", format!("{gaps} stretches of the log were gone before they were applied"), ABOUT_GAPS));
    }
    lines
}

fn embedded_log(settings: &Settings) -> Line {
    match headwater_embedded::look_at_log(&settings.data_dir) {
        Ok(CopiedLog { id, start, end }) => Line::ok("log", format!("{id} holds records {start} to {end}")),
        Err(why) => {
            Line::fail("log", why.to_string(), "start the server once, use the version that wrote it, or put back a copy (restore)")
        }
    }
}

async fn postgres(config: &headwater_postgres::Config) -> Vec<Line> {
    let seen = match headwater_postgres::examine(config).await {
        Ok(seen) => seen,
        Err(why) => return vec![Line::fail("store", why.to_string(), "look at store.url, the password, the network and the server")],
    };
    let mut lines = of_postgres(&seen, config.max_connections);
    if seen.schema.is_some()
        && let Ok(store) = headwater_postgres::open_for_reading(config.clone()).await
    {
        lines.extend(counts(&*store).await);
    }
    lines
}

fn of_postgres(seen: &Database, wanted: usize) -> Vec<Line> {
    const NAME: &str = "postgresql";
    let mut lines = vec![if seen.version_number < 150_000 {
        Line::fail(NAME, format!("{} at {}", seen.version, seen.place), "15 or later is needed")
    } else {
        Line::ok(NAME, format!("{} at {}", seen.version, seen.place))
    }];
    match seen.schema {
        None => lines.push(Line::ok("schema", "there is none yet; the first start makes it")),
        Some((found, known)) if found > known => {
            lines.push(Line::fail("schema", format!("version {found}, and this program knows {known}"), "use the newer program"));
        }
        Some((found, known)) => lines.push(Line::ok("schema", format!("version {found} of {known}"))),
    }
    lines.extend(durability(seen));
    if seen.is_standby {
        lines.push(Line::fail(NAME, "the server is a standby: nothing can be written", "name the primary in store.url, or all servers"));
    }
    if usize::try_from(seen.max_connections).is_ok_and(|all| all < wanted) {
        let seen = format!("max_connections is {}, and store.max_connections is {wanted} for each process", seen.max_connections);
        lines.push(Line::warn(NAME, seen, "allow more on the server, or set store.max_connections lower"));
    }
    if let Some(age) = seen.oldest_snapshot_s.filter(|age| *age > OLD_SNAPSHOT_S) {
        let seen = format!("a snapshot is open for {age:.0} s: the table of open blocks grows while it is");
        lines.push(Line::warn(NAME, seen, "SELECT pid, query FROM pg_stat_activity ORDER BY backend_xmin says whose; end that session"));
    }
    let ours = SystemClock.now().0 as f64 / SECOND as f64;
    let apart = (seen.clock_s - ours).abs();
    if apart > CLOCKS_APART_S {
        lines.push(Line::warn("clock", format!("the database's is {apart:.1} s apart from this one"), "let both be kept right (NTP)"));
    }
    lines
}

/// Whether what was acknowledged outlives the server's machine.
fn durability(seen: &Database) -> Vec<Line> {
    const NAME: &str = "durability";
    let mut lines = Vec::new();
    let mut off = |setting: &str, value: &str, advice: &str| {
        if value == "off" {
            lines.push(Line::fail(NAME, format!("{setting} = off: what was acknowledged is lost when the server's machine stops"), advice));
        }
    };
    off("fsync", &seen.fsync, "set it to on");
    off("full_page_writes", &seen.full_page_writes, "set it to on, unless the file system writes pages whole");
    if seen.synchronous_commit == "off" {
        lines.push(Line::warn(NAME, "synchronous_commit = off (headwater sets it to on for itself)", "set it to on for everybody"));
    }
    if seen.autovacuum == "off" {
        lines.push(Line::warn("autovacuum", "it is off: the table of open blocks grows for ever", "set autovacuum to on"));
    }
    if lines.is_empty() {
        lines.push(Line::ok(NAME, format!("fsync = on, synchronous_commit = {}", seen.synchronous_commit)));
    }
    lines
}

async fn kafka(config: &headwater_kafka::Config) -> Vec<Line> {
    let seen = match headwater_kafka::examine(config.clone(), PATIENCE).await {
        Ok(seen) => seen,
        Err(why) => return vec![Line::fail("kafka", why.to_string(), "look at log.url, the network and the brokers")],
    };
    let mut lines = vec![Line::ok("kafka", format!("cluster {} of {} brokers at {}", seen.cluster, seen.brokers, seen.place))];
    match seen.topic {
        None => lines.push(Line::ok("topic", "there is none yet; the first start makes it")),
        Some(topic) => lines.extend(of_topic(topic, seen.brokers)),
    }
    lines
}

fn of_topic(topic: Topic, brokers: usize) -> Vec<Line> {
    const NAME: &str = "topic";
    let Topic { partitions, copies, refusals, doubts } = topic;
    let seen = format!("{partitions} partitions, {copies} copies");
    let mut lines = vec![if copies < 3 && copies < brokers {
        Line::warn(NAME, format!("{seen} on {brokers} brokers"), "give it three copies, so that one may be lost")
    } else {
        Line::ok(NAME, seen)
    }];
    lines.extend(refusals.into_iter().map(|refusal| Line::fail(NAME, refusal, "change that setting of the topic; a server refuses it")));
    lines.extend(doubts.into_iter().map(|doubt| Line::warn(NAME, doubt, "change that setting of the topic")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    fn database() -> Database {
        Database {
            place: "db:5432/d".to_owned(),
            version: "15.4".to_owned(),
            version_number: 150_004,
            fsync: "on".to_owned(),
            synchronous_commit: "on".to_owned(),
            full_page_writes: "on".to_owned(),
            autovacuum: "on".to_owned(),
            max_connections: 100,
            is_standby: false,
            clock_s: SystemClock.now().0 as f64 / SECOND as f64,
            schema: Some((3, 3)),
            oldest_snapshot_s: Some(1.0),
        }
    }

    fn worst(seen: &Database) -> State {
        of_postgres(seen, 16).iter().map(|line| line.state).max().unwrap()
    }

    #[test]
    fn a_database_that_can_lose_what_was_acknowledged_is_a_failure() {
        assert_eq!(worst(&database()), State::Ok);
        assert_eq!(worst(&Database { fsync: "off".to_owned(), ..database() }), State::Fail);
        assert_eq!(worst(&Database { full_page_writes: "off".to_owned(), ..database() }), State::Fail);
        assert_eq!(worst(&Database { synchronous_commit: "off".to_owned(), ..database() }), State::Warn);
    }

    #[test]
    fn a_database_that_is_old_newer_full_or_late_is_told() {
        assert_eq!(worst(&Database { version_number: 140_009, ..database() }), State::Fail);
        assert_eq!(worst(&Database { schema: Some((4, 3)), ..database() }), State::Fail);
        assert_eq!(worst(&Database { is_standby: true, ..database() }), State::Fail);
        assert_eq!(worst(&Database { max_connections: 10, ..database() }), State::Warn);
        assert_eq!(worst(&Database { clock_s: 0.0, ..database() }), State::Warn);
        assert_eq!(worst(&Database { oldest_snapshot_s: Some(4_000.0), ..database() }), State::Warn);
        assert_eq!(worst(&Database { autovacuum: "off".to_owned(), ..database() }), State::Warn);
    }

    #[test]
    fn what_a_topic_refuses_or_risks_is_told() {
        let topic = || Topic { partitions: 4, copies: 1, refusals: Vec::new(), doubts: Vec::new() };
        let worst = |topic: Topic, brokers| of_topic(topic, brokers).iter().map(|line| line.state).max().unwrap();
        assert_eq!((worst(topic(), 1), worst(topic(), 3)), (State::Ok, State::Warn));
        assert_eq!(worst(Topic { refusals: vec!["compaction".to_owned()], ..topic() }, 1), State::Fail);
        assert_eq!(worst(Topic { doubts: vec!["retention".to_owned()], ..topic() }, 1), State::Warn);
    }
}
