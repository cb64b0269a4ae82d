//! Brokers that are killed under load.

use super::admin::Admin;
use super::cluster::Cluster;
use super::ground::{Ground, HEALED, rounds};
use super::load::Load;
use crate::crash::seed;
use crate::oracle::Random;
use crate::simulate::ALL_FAULTS;
use crate::stack::wait_for;
use std::time::Instant;

/// Also what static membership is for: the second reader has it.
#[test]
fn the_only_broker_killed_under_load_costs_time_and_nothing_else() {
    let mut kafka = Cluster::of(1);
    let mut ground = Ground::patient(&kafka);
    ground.apart.gateways = vec![ground.apart.role("gateway", &[("HEADWATER_GATEWAY__APPEND_WAIT", "1s")])];
    ground.join(&[]);
    let load = Load::begin(&ground, ALL_FAULTS);
    let applied = ground.applied();
    for round in 0..rounds(2) {
        load.goes_on();
        ground.catches_up();
        let killed = Instant::now();
        kafka.kill(1).unwrap();
        nobody_is_told_yes(&load);
        kafka.restart(1).unwrap();
        let back = Instant::now();
        load.goes_on();
        let flow = applied.moved_after(back);
        ground.catches_up();
        let (member, away) = (if round == 0 { "a dynamic" } else { "a static" }, back - killed);
        println!("broker away {away:?}; {member} member applies again {flow:?} after it is back, {:?} after the kill", flow + away);
        if round == 0 {
            assert_eq!(ground.apart.ingests.remove(0).stop(), 0);
            ground.join(&[("HEADWATER_LOG__GROUP_INSTANCE_ID", "ingest-1")]);
        }
    }
    ground.holds(load);
}

/// While nobody is there to keep it, nothing is acknowledged: requests are answered 503, and sent again.
fn nobody_is_told_yes(load: &Load) {
    let refused = |n: u64| {
        let before = load.n_sent_again();
        wait_for("answers that say to come back", HEALED, || (load.n_sent_again() >= before + n).then_some(()));
        load.counts().acked_requests
    };
    // What was kept a moment before the end has been told by the time that some have waited in vain.
    let (told, still) = (refused(5), refused(30));
    assert_eq!(told, still, "acknowledged while no broker ran");
}

#[test]
fn one_of_three_brokers_killed_under_load_and_writes_go_on() {
    let mut kafka = Cluster::of(3);
    let mut ground = Ground::patient(&kafka);
    let admin = Admin::of(&ground.backends);
    ground.join(&[]);
    let (load, mut random) = (Load::begin(&ground, ALL_FAULTS), Random(seed()));
    let (acks, applied) = (load.acks(), ground.applied());
    for _ in 0..rounds(1) {
        load.goes_on();
        wait_for("three copies in step", HEALED, || (admin.n_in_sync() == 3).then_some(()));
        let node = 1 + random.below(3) as usize;
        let killed = Instant::now();
        kafka.kill(node).unwrap();
        load.goes_on();
        ground.catches_up();
        let (told, read) = (acks.stood_still(killed), applied.stood_still(killed));
        println!(
            "without broker {node}: acknowledging stood still for {told:?}, applying for {read:?}; {} sent again",
            load.n_sent_again()
        );
        kafka.restart(node).unwrap();
    }
    ground.holds(load);
}
