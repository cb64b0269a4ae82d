//! A writer that stops in the middle of a transaction: another one takes over without waiting for it, and when it goes on it changes nothing.

use super::{HEALED, Load, OURS, World, rounds};
use crate::oracle::Random;
use crate::stack::{signal, wait_for};

/// Stops the first ingest in a statement on `table` that begins so, and inside its transaction; gives the process of the server that waits for it.
fn stall(world: &World, table: &str, statement: &str) -> String {
    let mut holder = world.session();
    // Every statement that writes to the table waits from here on; who had begun has ended.
    holder.run(&format!("BEGIN; LOCK TABLE {table} IN SHARE MODE"));
    let waiting = format!("SELECT pid FROM pg_stat_activity WHERE {OURS} AND wait_event_type = 'Lock' AND query ILIKE '{statement}%'");
    let pid = wait_for("a writer that waits", HEALED, || {
        holder.run(&format!("SELECT pg_stat_clear_snapshot(); {waiting}")).lines().nth(1).map(str::to_owned)
    });
    signal(world.ingest().pid(), "STOP");
    holder.run("COMMIT");
    pid
}

/// Waits until the server's process is in that state, or gone.
fn is_in_state(world: &World, pid: &str, state: &str) {
    let mut session = world.session();
    let question = format!("SELECT state || ' ' || coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = {pid}");
    wait_for(&format!("the connection to be {state:?}"), HEALED, || (session.run(&question) == state).then_some(()));
}

/// Another ingest takes over under load; then the first goes on.
fn takes_over(world: &mut World, load: &Load, pid: &str, ends_by_itself: bool) {
    world.apart.add_ingest(&[("HEADWATER_INGEST__BATCH_MS", "50")]);
    load.more(20);
    world.caught_up();
    if ends_by_itself {
        is_in_state(world, pid, "");
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
            let pid = stall(&world, "blocks", "COPY");
            is_in_state(&world, &pid, "active ClientRead");
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
            let pid = stall(&world, "dead_letters", "%INSERT INTO dead_letters");
            is_in_state(&world, &pid, "idle in transaction ClientRead");
            takes_over(&mut world, &load, &pid, true);
        });
        world.ends_well(&load);
    });
}
