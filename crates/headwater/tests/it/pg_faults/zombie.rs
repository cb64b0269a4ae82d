//! A writer that stops in the middle of a transaction: another one takes over without waiting for it, and when it goes on it changes nothing.

use super::{HEALED, Load, OURS, World, rounds};
use crate::oracle::Random;
use crate::stack::{signal, wait_for};
use std::time::{Duration, Instant};

/// Stops the first ingest in a statement on `table` that begins so, when it has left the server's process in this state; gives that process.
fn stall(world: &World, table: &str, statement: &str, state: &str) -> String {
    let begun = Instant::now();
    loop {
        let pid = stopped_in(world, table, statement);
        let is_stalled = || (state_of(world, &pid) == state).then_some(());
        if within(Duration::from_secs(3), is_stalled) {
            return pid;
        }
        // On a busy machine it may have waited too long already, and given up.
        println!("{}: the connection is {:?} where {state:?} is wanted", world.name, state_of(world, &pid));
        signal(world.ingest().pid(), "CONT");
        assert!(begun.elapsed() < HEALED, "it does not come to be {state:?}");
    }
}

fn stopped_in(world: &World, table: &str, statement: &str) -> String {
    let mut holder = world.session();
    // Every statement that writes to the table waits from here on; who had begun has ended.
    holder.run(&format!("BEGIN; LOCK TABLE {table} IN SHARE MODE"));
    let waiting = format!(
        "SELECT pg_stat_clear_snapshot(); \
         SELECT pid FROM pg_stat_activity WHERE {OURS} AND wait_event_type = 'Lock' AND query ILIKE '{statement}%'"
    );
    let pid = wait_for("a writer that waits", HEALED, || holder.run(&waiting).lines().nth(1).map(str::to_owned));
    stop(world.ingest().pid());
    holder.run("COMMIT");
    pid
}

/// Stops a process; returns when every thread of it stands still, which takes a while where processors are busy.
fn stop(pid: u32) {
    signal(pid, "STOP");
    let status = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
    let stands = |status: &str| status.lines().any(|line| line.starts_with("State:") && line.contains('T'));
    let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map_while(Result::ok);
    wait_for("the process to stand still", HEALED, || threads().all(|thread| stands(&status(thread))).then_some(()));
}

/// What the server's process is at; nothing where it is gone.
fn state_of(world: &World, pid: &str) -> String {
    world.session().run(&format!("SELECT state || ' ' || coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = {pid}"))
}

/// Whether something comes to be in that time.
fn within(limit: Duration, mut look: impl FnMut() -> Option<()>) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        if look().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// Another ingest takes over under load; then the first goes on.
fn takes_over(world: &mut World, load: &Load, pid: &str, ends_by_itself: bool) {
    world.apart.add_ingest(&[("HEADWATER_INGEST__BATCH_MS", "50")]);
    load.more(20);
    world.caught_up();
    if ends_by_itself {
        wait_for("the connection to be ended", HEALED, || state_of(world, pid).is_empty().then_some(()));
    }
    signal(world.ingest().pid(), "CONT");
    world.heal();
    world.hears(world.ingest(), "dropped a batch: ");
    load.more(20);
}

#[test]
fn a_writer_that_stalls_inside_copy_is_fenced_by_the_one_that_took_over() {
    rounds("zombie in copy", |mut random: Random| {
        let (mut world, load) = (World::new("copy"), Load::new(&mut random));
        let gateway = world.gateway();
        load.during(&gateway, || {
            load.more(20 + random.below(20) as usize);
            let pid = stall(&world, "blocks", "COPY", "active ClientRead");
            takes_over(&mut world, &load, &pid, false);
        });
        world.ends_well(&load);
    });
}

#[test]
fn a_writer_that_stalls_between_statements_is_ended_by_the_server_and_then_fenced() {
    rounds("zombie in transaction", |mut random: Random| {
        let (mut world, load) = (World::new("idle"), Load::new(&mut random));
        let gateway = world.gateway();
        load.during(&gateway, || {
            load.more(20 + random.below(20) as usize);
            // It holds the ids of dead letters that the other one is going to write.
            let pid = stall(&world, "dead_letters", "%WITH sent AS", "idle in transaction ClientRead");
            takes_over(&mut world, &load, &pid, true);
        });
        world.ends_well(&load);
    });
}
