//! Another state of the database than the one that was committed last: an older backup, or a standby that has not seen everything. Positions went
//! back with the rows, series and batch numbers too, and the log brings again what is missing.

use super::{HEALED, Load, Session, World, cluster, rounds};
use crate::oracle::{Random, as_json};
use crate::rounds::answers;
use crate::stack::{Stack, wait_for};
use headwater_servers::postgres::{Options, Replication};
use headwater_servers::{Folder, Postgres};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a stack answers that nothing has ever happened to.
fn undisturbed(load: &Load) -> Vec<Vec<u8>> {
    let stack = Stack::embedded();
    for journal in &load.journals {
        for readings in journal.lock().unwrap().requests() {
            stack.send(&as_json(readings));
        }
    }
    stack.settled();
    stack.post("/v1/seal", "application/json", "").ok();
    answers(&stack)
}

#[test]
fn a_backup_that_is_restored_under_load_is_brought_up_to_date_by_the_log() {
    rounds("restored", |mut random| {
        let (mut world, load) = (World::new("restored"), Load::new(&mut random));
        let (gateway, backup) = (world.gateway(), world.folder.path().join("backup"));
        load.during(&gateway, || {
            load.more(20 + random.below(40) as usize);
            world.seal();
            world.postgres.base_backup(&backup).unwrap();
            let series = n_series(&world);
            // New series, sealed readings and dead letters that the backup does not have.
            load.more(100 + random.below(40) as usize);
            world.seal();
            load.more(20);
            world.caught_up();
            assert!(n_series(&world) > series, "some series came later");
            world.postgres.restart_from(&backup).unwrap();
            world.heal();
            load.more(20);
        });
        world.ends_well(&load);
        assert!(answers(world.api()) == undisturbed(&load), "a stack that nothing has happened to answers something else");
    });
}

/// How many series are registered.
fn n_series(world: &World) -> u64 {
    world.backends().sql("SELECT count(*) FROM series").parse().unwrap()
}

/// How many records are applied, as this server sees it.
fn applied(world: &World, server: &Postgres) -> u64 {
    let mut session = Session::open(server.port(), &world.backends().name).unwrap();
    session.run("SELECT sum(next) FROM positions").parse().unwrap()
}

/// A primary, its standby, and Headwater, which knows both.
fn replicated(name: &'static str, replication: Replication, environment: &[(&str, &str)]) -> (World, Postgres) {
    let folder = Folder::new(name).unwrap();
    let mut primary = cluster(&folder, &Options::default());
    let standby = Postgres::standby_of(&folder.path().join("standby"), &mut primary, replication).unwrap();
    let url = format!("postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres", primary.port(), standby.port());
    (World::on(name, folder, primary, &url, environment), standby)
}

#[test]
fn a_synchronous_standby_that_takes_over_has_everything() {
    rounds("synchronous", |mut random| {
        let (mut world, mut standby) = replicated("synchronous", Replication::Synchronous, &[]);
        let (load, gateway) = (Load::new(&mut random), world.gateway());
        load.during(&gateway, || {
            load.more(20 + random.below(40) as usize);
            world.seal();
            load.more(random.below(20) as usize);
            let applied = applied(&world, &world.postgres);
            world.postgres.kill().unwrap();
            load.more(20);
            // It has everything, and may still be at work on it.
            wait_for("what was committed to be there", HEALED, || (self::applied(&world, &standby) >= applied).then_some(()));
            standby.promote().unwrap();
            world.heal();
            load.more(20);
        });
        world.ends_well(&load);
        assert!(!world.ingest().said().contains("was moved by another writer"), "no position went back");
    });
}

#[test]
fn what_an_asynchronous_standby_has_missed_comes_again_from_the_log() {
    rounds("asynchronous", |mut random| {
        let (mut world, mut standby) = replicated("asynchronous", Replication::Asynchronous, &[]);
        let (load, gateway) = (Load::new(&mut random), world.gateway());
        load.during(&gateway, || {
            load.more(20 + random.below(40) as usize);
            world.seal();
            falls_behind(&standby);
            // New series, sealed readings and dead letters that the standby does not have.
            load.more(100 + random.below(40) as usize);
            world.seal();
            load.more(20);
            world.caught_up();
            let applied = applied(&world, &world.postgres);
            world.postgres.kill().unwrap();
            assert!(self::applied(&world, &standby) < applied, "something is missing");
            standby.promote().unwrap();
            world.heal();
            load.more(20);
        });
        world.ends_well(&load);
        assert!(answers(world.api()) == undisturbed(&load), "a stack that nothing has happened to answers something else");
    });
}

/// The standby has missed the registration of series and nothing else: after the failover every position is where the writer believes.
fn registrations_are_missed(mut random: Random, environment: &[(&str, &str)]) {
    let (mut world, mut standby) = replicated("registered", Replication::Asynchronous, environment);
    let (load, gateway) = (Load::new(&mut random), world.gateway());
    load.during(&gateway, || load.more(20 + random.below(40) as usize));
    world.caught_up();
    falls_behind(&standby);
    load.during(&gateway, || {
        let mut holder = world.session();
        holder.run("BEGIN; LOCK TABLE positions IN ACCESS EXCLUSIVE MODE");
        let before = n_series(&world);
        wait_for("new series", HEALED, || (n_series(&world) > before).then_some(()));
        world.postgres.kill().unwrap();
        standby.promote().unwrap();
        world.heal();
        load.more(20);
    });
    world.ends_well(&load);
    world.hears(world.ingest(), "the store may have gone back to an earlier state");
}

#[test]
fn a_series_whose_registration_the_standby_has_missed_is_registered_again() {
    rounds("registered", |random| registrations_are_missed(random, &[]));
}

#[test]
fn ids_that_outlive_the_database_that_gave_them_are_found() {
    let bug = [("HEADWATER_PLANTED_BUG", "ids-outlive-the-database")];
    let panic = catch_unwind(AssertUnwindSafe(|| registrations_are_missed(Random(1), &bug))).expect_err("nothing was wrong");
    let words = panic.downcast::<String>().unwrap();
    assert!(words.contains("should be") || words.contains("is not there"), "{words}");
}

/// From here on it receives nothing more.
fn falls_behind(standby: &Postgres) {
    standby.psql("ALTER SYSTEM SET primary_conninfo = ''; SELECT pg_reload_conf();").unwrap();
    let receivers = || standby.psql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walreceiver'").unwrap();
    wait_for("the standby to receive nothing", HEALED, || (receivers() == "0").then_some(()));
}
