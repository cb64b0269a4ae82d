//! Topics that change: more partitions, made again, records that are gone before they were read.

use super::admin::Admin;
use super::cluster::Cluster;
use super::ground::{Ground, HEALED};
use super::load::Load;
use crate::client::Ask;
use crate::oracle::{MONDAY, Reading, SECOND, as_json};
use crate::stack::{Stack, wait_for};
use serde_json::json;
use std::collections::BTreeSet;

/// Without clocks that are set back: of two values for one time of a device that has moved, either may come first.
const NO_CONFLICTS: &str = "duplicates=3%,retries=5%,late=3%,out_of_order=3%,future=1%,malformed=1%,nan=1%,offline=4%";

#[test]
fn partitions_that_are_added_under_load_are_filled_and_read() {
    let kafka = Cluster::shared();
    let mut ground = Ground::hasty(&kafka);
    ground.join(&[]);
    ground.join(&[]);
    let load = Load::begin(&ground, NO_CONFLICTS);
    load.goes_on();
    assert_eq!(ground.places().len(), 4);
    Admin::of(&ground.backends).add_partitions(7);
    wait_for("every partition to be read", HEALED, || {
        let places = ground.places();
        (places.len() == 7 && places.iter().all(|(next, _)| *next > 0)).then_some(())
    });
    load.goes_on();
    ground.holds(load);
}

/// `n` readings of a device, each in a request of its own, so that each is a record.
fn send(ground: &Ground, device: &str, times: std::ops::Range<i64>) {
    for n in times {
        let reading = Reading::new(device, "flow", MONDAY + n * SECOND, n as f64);
        ground.apart.gateway().send(&as_json(&[reading]));
    }
}

/// What a valid reading looks like to a topic that must not be read.
fn poison(admin: &Admin, records: usize) {
    for partition in 0..4 {
        for n in 0..records {
            let item = json!({ "device": "poison", "metric": "flow", "ts": MONDAY + (n as i64) * SECOND, "value": 1 });
            admin.produce_into(partition, &item.to_string());
        }
    }
}

/// Every log that a server has named; brokers' addresses are none.
fn logs_named(said: &str) -> BTreeSet<&str> {
    let is_of_id = |c: char| c.is_ascii_alphanumeric() || "-_/".contains(c);
    let named = said.split("kafka:").skip(1).map(|rest| rest.split(|c| !is_of_id(c)).next().unwrap_or_default());
    named.filter(|id| id.find('/').is_some_and(|at| at > 0)).collect()
}

/// It has ended by itself, with words that name the log that was and the log that is.
fn has_refused(ingest: &mut Stack, log: &str) {
    assert_eq!(ingest.ended().code(), Some(1), "{}", ingest.said());
    let said = ingest.said();
    let (named, log) = (logs_named(&said), log.trim_start_matches("kafka:"));
    assert!(named.len() == 2 && named.contains(log), "{named:?} are not {log} and another: {said}");
}

/// Nothing of another log is in the store.
fn nothing_has_come(ground: &Ground, log: &str, readings: usize) {
    assert_eq!(ground.backends.sql("SELECT DISTINCT log FROM positions"), log);
    assert_eq!(ground.n_readings(), readings);
    ground.is_clean();
}

#[test]
fn a_topic_made_again_under_a_running_system_is_refused_naming_both() {
    let kafka = Cluster::shared();
    let mut ground = Ground::hasty(&kafka);
    ground.join(&[]);
    send(&ground, "pump", 0..20);
    ground.settled();
    let log = ground.backends.sql("SELECT DISTINCT log FROM positions");
    let admin = Admin::of(&ground.backends);
    admin.make_again(4);
    poison(&admin, 30);
    has_refused(&mut ground.apart.ingests[0], &log);
    // The gateway takes nothing any more, and the api does not say that all is well; what is stored can be asked for.
    let reading = as_json(&[Reading::new("pump", "flow", MONDAY + 60 * SECOND, 1.0)]).to_string();
    wait_for("the gateway to refuse", HEALED, || {
        let answer = ground.apart.gateway().post("/v1/readings", "application/json", reading.clone());
        (answer.status == 503).then_some(())
    });
    wait_for("the api to say so", HEALED, || {
        let answer = ground.apart.api.ask(&Ask::new("GET", "/v1/status"));
        (answer.status >= 500).then_some(())
    });
    nothing_has_come(&ground, &log, 20);
    // Another try is another refusal.
    let ingest = &mut ground.apart.ingests[0];
    if ingest.start_or_die(&[]).is_ok() {
        assert_eq!(ingest.ended().code(), Some(1));
    }
    nothing_has_come(&ground, &log, 20);
}

/// The new one is longer than what was read of the old: going on there would skip in silence.
#[test]
fn a_topic_made_again_while_everything_is_stopped_is_refused_naming_both() {
    let kafka = Cluster::shared();
    let mut ground = Ground::hasty(&kafka);
    ground.join(&[]);
    send(&ground, "pump", 0..20);
    ground.settled();
    let log = ground.backends.sql("SELECT DISTINCT log FROM positions");
    assert_eq!(ground.apart.gateways[0].stop(), 0);
    assert_eq!(ground.apart.ingests[0].stop(), 0);
    assert_eq!(ground.apart.api.stop(), 0);
    let admin = Admin::of(&ground.backends);
    admin.make_again(4);
    poison(&admin, 30);
    let ingest = &mut ground.apart.ingests[0];
    match ingest.start_or_die(&[]) {
        Ok(()) => has_refused(ingest, &log),
        Err(status) => assert_eq!(status.code(), Some(1)),
    }
    ground.apart.api.start();
    nothing_has_come(&ground, &log, 20);
    assert!(ground.try_status().unwrap()["in_flight"].as_u64() > Some(0), "what is in the other log is not applied");
}

/// Two devices that are in different partitions, each with its partition.
fn apart(ground: &Ground) -> [(String, u64); 2] {
    let mut found: Vec<(String, u64)> = Vec::new();
    for n in 0.. {
        let (device, before) = (format!("pump-{n}"), ground.places());
        send(ground, &device, 0..1);
        let after = ground.places();
        let moved = before.iter().zip(&after).position(|(before, after)| before.1 < after.1).unwrap() as u64;
        if found.first().is_none_or(|(_, partition)| *partition != moved) {
            found.push((device, moved));
        }
        if found.len() == 2 {
            break;
        }
    }
    found.try_into().unwrap()
}

#[test]
fn records_deleted_before_they_were_read_are_gaps_exactly_so_wide() {
    let kafka = Cluster::shared();
    let mut ground = Ground::hasty(&kafka);
    ground.join(&[]);
    let [(some, of_some), (all, of_all)] = apart(&ground);
    ground.settled();
    let before = ground.n_readings();
    let next = |partition: u64| ground.places()[partition as usize].0;
    let (next_of_some, next_of_all) = (next(of_some), next(of_all));
    assert_eq!(ground.apart.ingests[0].stop(), 0);
    send(&ground, &some, 100..110);
    send(&ground, &all, 100..105);
    let admin = Admin::of(&ground.backends);
    admin.delete_before(of_some, next_of_some + 4);
    admin.delete_before(of_all, next_of_all + 5);
    ground.apart.ingests[0].start();
    let gaps = || ground.backends.sql("SELECT partition, first, next FROM gaps ORDER BY first, partition");
    let expected: BTreeSet<String> = [(of_some, next_of_some, 4), (of_all, next_of_all, 5)]
        .map(|(partition, from, n)| format!("{partition}|{from}|{}", from + n))
        .into();
    wait_for("the gaps to be recorded", HEALED, || (gaps().lines().count() == 2).then_some(()));
    assert_eq!(gaps().lines().map(str::to_owned).collect::<BTreeSet<_>>(), expected);
    ground.settled();
    // The rest is there, and the numbers of both partitions go on.
    assert_eq!(ground.n_readings(), before + 6);
    send(&ground, &some, 200..203);
    send(&ground, &all, 200..203);
    ground.settled();
    assert_eq!(ground.n_readings(), before + 12);
    assert_eq!(ground.apart.api.status()["received"], before + 12);
    ground.apart.ingests[0].restart();
    send(&ground, &some, 300..301);
    ground.settled();
    assert_eq!(gaps().lines().count(), 2, "each is recorded once");
    assert_eq!(ground.apart.rollups[0].post("/v1/seal", "application/json", "").ok().json()["unsealed"], 0);
    let status = ground.apart.api.status();
    assert_eq!((&status["received"], &status["stored"]), (&json!(before + 13), &json!(before + 13)));
    ground.is_clean();
}

/// The ingest holds what it has fetched, and cannot commit; what it has not fetched is deleted under it.
#[test]
fn retention_that_overtakes_an_ingest_at_work_is_a_gap_and_the_rest_is_there() {
    const RECORDS: u64 = 20;
    let kafka = Cluster::shared();
    let mut ground = Ground::hasty(&kafka);
    ground.join(&[("HEADWATER_LOG__BUFFER_BYTES", "2097152"), ("HEADWATER_INGEST__BATCH_READINGS", "1")]);
    send(&ground, "pump", 0..1);
    ground.settled();
    let partition = ground.places().iter().position(|(_, end)| *end > 0).unwrap() as u64;
    let admin = Admin::of(&ground.backends);
    let lock = ground.positions_held();
    for n in 1..=RECORDS {
        let item = json!({ "device": "pump", "metric": "flow", "ts": MONDAY + n as i64 * SECOND, "value": n }).to_string();
        admin.produce_into(partition as i32, &format!("{item}{}", " ".repeat(400 << 10)));
    }
    admin.delete_before(partition, RECORDS - 1);
    drop(lock);
    ground.settled();
    let gap = ground.backends.sql("SELECT partition, first, next FROM gaps");
    let numbers: Vec<u64> = gap.split('|').map(|number| number.parse().unwrap()).collect();
    let &[of, first, next] = numbers.as_slice() else { panic!("one gap, not {gap}") };
    assert_eq!((of, next), (partition, RECORDS - 1), "{gap}");
    println!("{first} of {next} records were read before retention came");
    // Number and value are the same: the first record was sent before.
    let rows =
        ground.apart.api.rows("/v1/readings", &[("device", "pump"), ("from", "2026-01-01T00:00:00Z"), ("to", "2026-02-01T00:00:00Z")]);
    let values: Vec<u64> = rows.iter().map(|row| row["value"].as_f64().unwrap() as u64).collect();
    assert_eq!(values, (0..first).chain(next..=RECORDS).collect::<Vec<_>>());
    assert_eq!(ground.apart.api.status()["received"], values.len());
    ground.is_clean();
}
