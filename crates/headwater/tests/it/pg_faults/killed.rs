//! The server is gone, stands still, or cuts connections: what was sent waits in the log, and is applied once.

use super::{HEALED, Load, OURS, World, rounds};
use crate::crash::given;
use crate::oracle::Random;
use crate::stack::wait_for;
use std::time::{Duration, Instant};

#[test]
fn a_server_that_is_killed_under_load_costs_time_and_nothing_else() {
    rounds("killed", |mut random| {
        let (mut world, load) = (World::new("killed"), Load::new(&mut random));
        let gateway = world.gateway();
        load.during(&gateway, || {
            load.more(20 + random.below(40) as usize);
            world.postgres.kill().unwrap();
            load.more(40);
            world.refuses_questions();
            world.hears(world.ingest(), "waiting to ");
            world.postgres.restart().unwrap();
            world.heal();
            load.more(20);
        });
        world.ends_well(&load);
    });
}

/// Ten seconds, and a minute where there is time.
fn standstill() -> Duration {
    Duration::from_secs(if given("HEADWATER_ROUNDS").is_some() { 60 } else { 10 })
}

/// Mebibytes of a process in memory.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.expect("VmRSS") / 1024
}

#[test]
fn a_server_that_stands_still_is_waited_for_in_bounded_memory() {
    rounds("stopped", |mut random| {
        // Less patience than the server stands still: what was given up goes on in it when it goes on.
        let impatient = [("HEADWATER_STORE__COMMIT_TIMEOUT_MS", "3000"), ("HEADWATER_STORE__STATEMENT_TIMEOUT_MS", "3000")];
        let mut world = World::with("stopped", &Default::default(), &impatient);
        let (load, gateway) = (Load::new(&mut random), world.gateway());
        load.during(&gateway, || {
            load.more(20 + random.below(40) as usize);
            let before = resident(world.ingest().pid());
            world.postgres.pause().unwrap();
            let until = Instant::now() + standstill();
            wait_for("the standstill to be over", HEALED, || (Instant::now() >= until).then_some(()));
            let after = resident(world.ingest().pid());
            println!("stopped: ingest had {before} MiB before and {after} MiB after {:?}", standstill());
            assert!(after <= before + 96, "{before} MiB have become {after} MiB");
            world.postgres.resume().unwrap();
            world.heal();
            load.more(20);
        });
        world.ends_well(&load);
    });
}

#[test]
fn connections_that_are_cut_again_and_again_lose_and_double_nothing() {
    rounds("cut", |mut random| {
        let (mut world, load) = (World::new("cut"), Load::new(&mut random));
        let gateway = world.gateway();
        load.during(&gateway, || {
            load.more(20);
            cut_at_random(&world, &mut random);
            cut_while_committing(&world);
            world.heal();
            load.more(20);
        });
        // Both kinds have come: of some commits the answer was lost.
        world.hears(world.ingest(), "looking at the positions");
        world.ends_well(&load);
    });
}

/// Some seconds of all connections being cut every few milliseconds, wherever they are; the sealer works all the while.
fn cut_at_random(world: &World, random: &mut Random) {
    let mut session = world.session();
    let (mut n_cut, client) = (0, world.apart.rollups[0].client());
    std::thread::scope(|scope| {
        scope.spawn(|| drop(client.try_ask(&crate::client::Ask::post("/v1/seal", "application/json", ""))));
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            let all = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {OURS} AND random() < 0.5");
            n_cut += session.run(&all).parse::<u64>().unwrap();
            std::thread::sleep(Duration::from_micros(2_000 + random.below(40_000)));
        }
    });
    println!("cut: {n_cut} connections");
    assert!(n_cut > 20, "only {n_cut} connections were cut");
}

/// COMMIT waits for a standby that does not exist; by then it has committed. Cutting it there loses its answer and nothing else.
fn cut_while_committing(world: &World) {
    let mut session = world.session();
    for _ in 0..4 {
        waits_for_nobody(&mut session, "'nobody'");
        let waiting = format!("SELECT pid FROM pg_stat_activity WHERE {OURS} AND wait_event = 'SyncRep' AND query LIKE '%COMMIT%'");
        let pid = wait_for("a commit that waits", HEALED, || session.run(&waiting).lines().next().map(str::to_owned));
        session.run(&format!("SELECT pg_terminate_backend({pid})"));
        let gone = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
        wait_for("the connection to be cut", HEALED, || (session.run(&gone) == "0").then_some(()));
        waits_for_nobody(&mut session, "''");
        world.caught_up();
    }
}

fn waits_for_nobody(session: &mut super::Session, whom: &str) {
    // Not for itself.
    session.run("SET synchronous_commit = local");
    session.run(&format!("ALTER SYSTEM SET synchronous_standby_names = {whom}"));
    session.run("SELECT pg_reload_conf()");
}
