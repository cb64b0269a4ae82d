//! Real servers, really killed: what the fault tests of the other crates rely on.
//!
//! They install what is missing, which takes root on Debian, and a network.
#![expect(clippy::unwrap_used, reason = "a test's harness: a panic is how it fails")]

use headwater_servers::postgres::Replication;
use headwater_servers::{Folder, Kafka, Postgres, kafka, postgres};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

fn postgres_in(folder: &Folder, name: &str) -> Postgres {
    Postgres::start(&folder.path().join(name), &postgres::Options::default()).unwrap()
}

fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_killed_postgresql_comes_back_on_its_port_with_what_was_committed() {
    let folder = Folder::new("it").unwrap();
    let mut server = postgres_in(&folder, "pg");
    let settings = "show fsync; show data_checksums; show max_connections; show default_toast_compression";
    assert_eq!(server.psql(settings).unwrap(), "on\non\n200\nlz4");
    server.psql("create table t (n int); insert into t values (7);").unwrap();
    let (url, killed) = (server.url(), server.pid().unwrap());

    server.kill().unwrap();
    assert!(!runs(killed) && server.pid().is_none());
    assert!(TcpStream::connect(("127.0.0.1", server.port())).is_err());
    server.restart().unwrap();

    assert_eq!(server.url(), url);
    assert_eq!(server.psql("select n from t").unwrap(), "7");
    let failed = server.psql("select 1; select nothing from nowhere; select 2").unwrap_err().to_string();
    assert!(failed.contains("nowhere"), "{failed}");
    let pid = server.pid().unwrap();
    drop(server);
    assert!(!runs(pid));
}

#[test]
fn a_paused_postgresql_does_not_answer_until_it_goes_on() {
    let folder = Folder::new("it").unwrap();
    let mut server = postgres_in(&folder, "pg");
    server.pause().unwrap();
    let waited = Instant::now();
    assert!(!server.answers().unwrap());
    assert!(waited.elapsed().as_secs() >= 4, "it was refused, not left waiting");
    server.resume().unwrap();
    assert!(server.answers().unwrap());
    server.pause().unwrap();
    let pid = server.pid().unwrap();
    server.kill().unwrap();
    assert!(!runs(pid));
    server.restart().unwrap();
    assert_eq!(server.psql("select 1").unwrap(), "1");
}

#[test]
fn a_restored_backup_knows_nothing_of_what_came_later() {
    let folder = Folder::new("it").unwrap();
    let mut server = postgres_in(&folder, "pg");
    server.psql("create table t (n int); insert into t values (1)").unwrap();
    let backup = folder.path().join("backup");
    server.base_backup(&backup).unwrap();
    server.psql("insert into t values (2)").unwrap();
    server.restart_from(&backup).unwrap();
    assert_eq!(server.psql("select n from t").unwrap(), "1");
}

#[test]
fn a_synchronous_standby_has_every_commit_and_takes_over() {
    let folder = Folder::new("it").unwrap();
    let mut primary = postgres_in(&folder, "primary");
    let mut standby = Postgres::standby_of(&folder.path().join("standby"), &mut primary, Replication::Synchronous).unwrap();
    primary.psql("create table t (n int); insert into t select generate_series(1, 1000)").unwrap();
    assert!(standby.psql("insert into t values (0)").unwrap_err().to_string().contains("read-only"));

    primary.kill().unwrap();
    standby.promote().unwrap();

    // It must not wait for a standby of its own: that was a setting of the primary.
    assert_eq!(standby.psql("insert into t values (0); select count(*) from t").unwrap(), "1001");
}

#[test]
fn an_asynchronous_standby_follows_without_holding_the_primary_up() {
    let folder = Folder::new("it").unwrap();
    let mut primary = postgres_in(&folder, "primary");
    let mut standby = Postgres::standby_of(&folder.path().join("standby"), &mut primary, Replication::Asynchronous).unwrap();
    standby.pause().unwrap();
    primary.psql("create table t (n int); insert into t values (1)").unwrap();
    standby.resume().unwrap();
    let deadline = Instant::now() + std::time::Duration::from_secs(30);
    while standby.psql("select to_regclass('t') is not null").unwrap() != "t" {
        assert!(Instant::now() < deadline, "the standby did not follow");
    }
    standby.promote().unwrap();
    standby.psql("insert into t values (2)").unwrap();
}

#[test]
fn a_killed_kafka_comes_back_on_its_port_with_its_name() {
    let folder = Folder::new("it").unwrap();
    let mut kafka = Kafka::start(folder.path(), 1, &kafka::Options::default()).unwrap();
    let meta = || std::fs::read_to_string(folder.path().join("n1/data/meta.properties")).unwrap();
    let (brokers, before) = (kafka.brokers(), meta());
    assert!(kafka.answers(1).unwrap());

    kafka.kill(1).unwrap();
    assert!(TcpStream::connect(&brokers).is_err());
    kafka.restart(1).unwrap();

    assert_eq!((kafka.brokers(), meta()), (brokers, before));
    assert!(kafka.answers(1).unwrap());
    kafka.pause(1).unwrap();
    assert!(!kafka.answers(1).unwrap());
    kafka.resume(1).unwrap();
    assert!(kafka.answers(1).unwrap());
    let pid = kafka.pid(1).unwrap().unwrap();
    drop(kafka);
    assert!(!runs(pid));
}

#[test]
fn of_three_kafkas_one_can_be_killed_and_come_back() {
    let folder = Folder::new("it").unwrap();
    let mut kafka = Kafka::start(folder.path(), 3, &kafka::Options::default()).unwrap();
    assert_eq!(kafka.brokers().split(',').count(), 3);
    kafka.kill(2).unwrap();
    assert_eq!([1, 2, 3].map(|n| kafka.answers(n).unwrap()), [true, false, true]);
    kafka.restart(2).unwrap();
    assert!(kafka.answers(2).unwrap());
    kafka.restart_all().unwrap();
    assert_eq!([1, 2, 3].map(|n| kafka.answers(n).unwrap()), [true; 3]);
    assert!(kafka.kill(4).unwrap_err().to_string().contains("no number 4"));
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let folder = Folder::new("it").unwrap();
    let wrong = postgres::Options { config: vec!["shared_buffers = 'plenty'".to_owned()] };
    let refused = Postgres::start(&folder.path().join("pg"), &wrong).unwrap_err().to_string();
    assert!(refused.contains("shared_buffers"), "{refused}");
    let wrong = kafka::Options { properties: vec![("num.io.threads".to_owned(), "many".to_owned())], ..kafka::Options::default() };
    let refused = Kafka::start(&folder.path().join("kafka"), 1, &wrong).unwrap_err().to_string();
    assert!(refused.contains("num.io.threads"), "{refused}");
}
