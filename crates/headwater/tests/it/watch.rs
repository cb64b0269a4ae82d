//! What is shipped for Prometheus and Grafana, against the real things: Debian's Prometheus watches running servers.
//!
//! Owns: the claims. Does not know: names, links and the linter's rules (`cargo xtask check`), what an alert should do in every case
//! (`promtool test rules`, run here).
//!
//! Grafana itself does not run here; each panel's query is filled in as Grafana would and put to its real source: PromQL to
//! Prometheus ([`panels`]), the JSON API's and SQL to Headwater and its PostgreSQL ([`sensors`]). Nobody waits an hour for an
//! alert either: rules are loaded from a quickened copy ([`eye`]), whose differences are listed there.

mod eye;
mod panels;
mod sensors;

use crate::durability::on_small_disk;
use crate::oracle::{Random, Reading, SECOND, as_json};
use crate::pg_faults::{Load, World};
use crate::stack::{Builder, SOON, Stack, wait_for};
use eye::{Eye, none_left};
use headwater_core::clock::{Clock, SystemClock};
use std::path::{Path, PathBuf};

/// Other tests have none: they count records. Quicker than the usual 5 s, as everything here.
const HEARTBEAT: (&str, &str) = ("HEADWATER_GATEWAY__HEARTBEAT", "1s");

/// Of the checkout.
fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(path)
}

/// The files of a shipped folder, in order.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(shipped(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder} is empty");
    files
}

fn now() -> i64 {
    SystemClock.now().0
}

#[test]
fn promtool_takes_the_files_and_every_alert_fires_and_rests_as_its_tests_say() {
    let programs = headwater_servers::install_prometheus().unwrap();
    let promtool = &|words: &[&str], files: &[PathBuf]| {
        let files = files.iter().map(|file| file.to_str().unwrap());
        programs.promtool(&words.iter().copied().chain(files).collect::<Vec<_>>()).unwrap();
    };
    promtool(&["check", "config"], &[shipped("prometheus/prometheus.yml"), shipped("prometheus/compose.yml")]);
    promtool(&["check", "rules", "--lint=all", "--lint-fatal"], &files("prometheus/rules"));
    // One process a file: each takes seconds.
    std::thread::scope(|scope| {
        for file in files("prometheus/tests") {
            scope.spawn(move || promtool(&["test", "rules"], &[file]));
        }
    });
}

/// All that a person sees who follows the README, and what a small disk and a bad firmware make of it.
#[test]
fn a_demo_fills_every_panel_and_a_full_disk_and_dead_letters_raise_alarm_until_they_are_gone() {
    let stack = on_small_disk(Builder::default().argument("--demo").env(HEARTBEAT.0, HEARTBEAT.1), 512);
    let eye = Eye::over(std::slice::from_ref(&stack.base));
    eye.every_rule_is_sound();
    let viewer = sensors::viewer(&stack);
    wait_for("readings and refusals", SOON, || {
        let has = |path: &str| !viewer.get(path).ok().json()["rows"].as_array().unwrap().is_empty();
        (has("/v1/latest?limit=1") && has("/v1/dead-letters?limit=1")).then_some(())
    });
    none_left("empty panels", SOON * 2, || {
        // A dashboard that is looked at asks again and again.
        sensors::every_question_has_rows(&viewer);
        panels::empty(&eye)
    });
    eye.every_metric_of_the_rules_is_known(&["headwater_store_oldest_snapshot_seconds"]);
    eye.is_calm();

    fill_the_disk(&stack, &eye);
    stack.post("/v1/readings", "application/x-ndjson", "no reading\n".repeat(20_000)).expect(422);
    eye.fires(&["DiskNearlyFull", "DeadLettersRising"]);
    std::fs::remove_file(filler(&stack)).unwrap();
    eye.is_calm();
}

fn filler(stack: &Stack) -> PathBuf {
    stack.data_seen().parent().unwrap().join("filler")
}

/// To 8 %: the alert is at 10, Headwater itself refuses at 5.
fn fill_the_disk(stack: &Stack, eye: &Eye) {
    let [size, free] = ["size", "free"].map(|what| eye.value(&format!("headwater_disk_{what}_bytes")));
    assert!(free > size / 2.0, "{free} of {size} bytes are free");
    std::fs::write(filler(stack), vec![b'x'; (free - size * 0.08) as usize]).unwrap();
}

/// The faults that one process cannot have alone. While they last devices go on sending.
#[test]
fn a_stopped_ingest_commits_that_hang_and_a_lost_store_raise_alarm_until_they_are_gone() {
    let mut world = World::new("watched");
    world.apart.gateways[0] = world.apart.role("gateway", &[HEARTBEAT]);
    let eye = Eye::over(&addresses(&world));
    let gateway = world.gateway();
    // Two hours of one sensor, so that an hour is rolled up.
    let start = now() - 2 * 3_600 * SECOND;
    let readings: Vec<Reading> = (0..700).map(|n| Reading::new("a-sensor", "temperature", start + n * 10 * SECOND, n as f64)).collect();
    gateway.send(&as_json(&readings));
    world.caught_up();
    world.seal();
    sensors::every_statement_has_rows(&world);
    Load::new(&mut Random(6)).during(&gateway, || {
        none_left("empty panels", SOON * 2, || {
            world.api().get("/v1/latest").ok();
            panels::empty(&eye).into_iter().filter(|panel| !panels::of_one_process(panel)).collect()
        });
        eye.is_calm();
        ingest_stops(&mut world, &eye);
        commits_hang(&world, &eye);
        the_store_is_lost(&mut world, &eye);
    });
}

/// Where all processes are to be asked.
fn addresses(world: &World) -> Vec<String> {
    let apart = &world.apart;
    let all = [&apart.api].into_iter().chain(&apart.gateways).chain(&apart.ingests).chain(&apart.rollups);
    all.map(|stack| stack.base.clone()).collect()
}

/// In order, so that its partitions are free at once.
fn ingest_stops(world: &mut World, eye: &Eye) {
    assert_eq!(world.apart.ingests[0].stop(), 0);
    eye.fires(&["IngestStopped", "HeadwaterDown", "RoleMissing", "EndToEndDelay"]);
    eye.rests(&["StoreDown", "HeartbeatStale"]);
    world.apart.ingests[0].start();
    // It has another port now.
    eye.watch(&addresses(world));
    eye.is_calm();
}

/// Somebody holds a lock: the store answers questions, and commits wait.
fn commits_hang(world: &World, eye: &Eye) {
    let mut session = world.session();
    session.run("BEGIN; LOCK TABLE positions IN EXCLUSIVE MODE");
    eye.fires(&["LagRising"]);
    eye.rests(&["StoreDown", "HeadwaterDown"]);
    session.run("COMMIT");
    eye.is_calm();
}

fn the_store_is_lost(world: &mut World, eye: &Eye) {
    world.postgres.stop().unwrap();
    eye.fires(&["StoreDown", "LagRising"]);
    eye.rests(&["HeadwaterDown", "HeartbeatStale"]);
    world.postgres.restart().unwrap();
    eye.is_calm();
}
