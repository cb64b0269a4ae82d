//! The server is there and does not do what it is asked: it has no connection left, or somebody holds what is needed. Both pass.

use super::{Load, OURS, Session, World, rounds};
use headwater_servers::postgres::Options;

/// More than this Headwater has, and soon taken.
const CONNECTIONS: usize = 40;

#[test]
fn a_server_without_a_free_connection_is_waited_for() {
    rounds("full", |mut random| {
        let options = Options { config: vec![format!("max_connections = {CONNECTIONS}")] };
        let (mut world, load) = (World::with("full", &options, &[]), Load::new(&mut random));
        let gateway = world.gateway();
        load.during(&gateway, || {
            load.more(20 + random.below(40) as usize);
            let taken = take_all(&world);
            load.more(40);
            world.refuses_questions();
            world.hears(world.ingest(), "too many clients");
            drop(taken);
            world.heal();
            load.more(20);
        });
        world.ends_well(&load);
    });
}

/// All connections that the server has.
fn take_all(world: &World) -> Vec<Session> {
    let (mut first, mut taken) = (world.session(), Vec::new());
    loop {
        first.run(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}"));
        while let Ok(session) = Session::open(world.postgres.port(), "postgres") {
            taken.push(session);
        }
        if first.run(&format!("SELECT count(*) FROM pg_stat_activity WHERE {OURS}")) == "0" {
            taken.push(first);
            return taken;
        }
    }
}

#[test]
fn somebody_who_holds_the_positions_is_waited_for() {
    rounds("locked", |mut random| {
        let (mut world, load) =
            (World::with("locked", &Options::default(), &[("HEADWATER_STORE__LOCK_TIMEOUT_MS", "500")]), Load::new(&mut random));
        let gateway = world.gateway();
        load.during(&gateway, || {
            load.more(20 + random.below(40) as usize);
            let mut holder = world.session();
            holder.run("BEGIN; LOCK TABLE positions IN ACCESS EXCLUSIVE MODE");
            load.more(40);
            world.hears(world.ingest(), "another writer holds what is needed");
            // A question that needs no position is answered; one that does says when to come again.
            world.api().get("/v1/series").ok();
            assert_eq!(world.api().get("/v1/status").expect(503).problem()["code"], "store_busy");
            holder.run("COMMIT");
            world.heal();
            load.more(20);
        });
        world.ends_well(&load);
    });
}
