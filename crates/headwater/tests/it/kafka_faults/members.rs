//! Ingests that die, stand still, come and go under load.

use super::cluster::Cluster;
use super::ground::{Ground, HEALED, n_assignments, rounds};
use super::load::Load;
use crate::simulate::ALL_FAULTS;
use crate::stack::{Stack, signal, wait_for};
use std::time::Instant;

/// What an ingest says when somebody else has moved a position that its batch would have moved.
const FENCED: &str = "dropped a batch";
const REBALANCES: u64 = 30;

#[test]
fn ingests_killed_again_and_again_under_load_take_over_from_each_other() {
    let kafka = Cluster::shared();
    let mut ground = Ground::hasty(&kafka);
    ground.join(&[]);
    ground.join(&[]);
    let (load, applied) = (Load::begin(&ground, ALL_FAULTS), ground.applied());
    for round in 0..rounds(2) {
        let victim = (round % 2) as usize;
        load.goes_on();
        let killed = Instant::now();
        ground.apart.ingests[victim].kill9();
        ground.catches_up();
        println!(
            "one of two ingests killed: applying stood still for {:?}, caught up after {:?}",
            applied.stood_still(killed),
            killed.elapsed()
        );
        comes_back(&mut ground.apart.ingests[victim]);
    }
    ground.holds(load);
}

fn comes_back(ingest: &mut Stack) {
    let before = n_assignments(ingest);
    ingest.start();
    wait_for("the ingest to be given partitions", HEALED, || (n_assignments(ingest) > before).then_some(()));
}

/// It stands still with a batch in hand, is missed, and goes on with a commit of what somebody else has committed. Sometimes it hears
/// that it was missed before it commits, which is as good; so it is tried until it was fenced.
#[test]
fn an_ingest_that_stood_still_while_another_took_over_is_fenced() {
    // There is always a batch in hand, and it is due when the ingest goes on.
    const SLOW: [(&str, &str); 1] = [("HEADWATER_INGEST__BATCH_MS", "1000")];
    let kafka = Cluster::shared();
    let mut ground = Ground::hasty(&kafka);
    ground.join(&SLOW);
    let load = Load::begin(&ground, ALL_FAULTS);
    let (mut n_tried, mut n_fenced) = (0, 0);
    while n_fenced < rounds(1) {
        ground.catches_up();
        load.goes_on();
        let mut zombie = ground.apart.ingests.remove(0);
        let assigned = n_assignments(&zombie);
        signal(zombie.pid(), "STOP");
        let stopped = Instant::now();
        ground.join(&SLOW);
        ground.catches_up();
        println!("an ingest stands still: another has caught up after {:?}", stopped.elapsed());
        signal(zombie.pid(), "CONT");
        wait_for("it to be a member again", HEALED, || (n_assignments(&zombie) > assigned).then_some(()));
        load.goes_on();
        ground.catches_up();
        n_tried += 1;
        n_fenced += u64::from(zombie.said().contains(FENCED));
        assert!(n_tried < 8 * (n_fenced + 1), "{n_fenced} of {n_tried} were fenced");
        // It goes, and the next one to stand still is the one that took over.
        assert_eq!(zombie.stop(), 0);
    }
    println!("{n_fenced} of {n_tried} that stood still were fenced");
    ground.holds(load);
}

#[test]
fn thirty_rebalances_in_a_row_lose_and_double_nothing() {
    let kafka = Cluster::shared();
    let mut ground = Ground::hasty(&kafka);
    ground.join(&[]);
    let (load, applied) = (Load::begin(&ground, ALL_FAULTS), ground.applied());
    let began = Instant::now();
    let rebalances = rounds(REBALANCES).max(REBALANCES);
    // One comes and one goes: two rebalances at least, for partitions are given up before they are given away.
    for round in 0..rebalances / 2 {
        ground.join(&[]);
        let leaving = if round % 3 == 0 { 0 } else { 1 };
        assert_eq!(ground.apart.ingests.remove(leaving).stop(), 0);
        ground.catches_up();
    }
    println!("{rebalances} rebalances in {:?}: applying stood still for {:?} at most", began.elapsed(), applied.stood_still(began));
    ground.holds(load);
}
