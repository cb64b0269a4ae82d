//! Roles that start and serve while another one, or the database, is down.

use super::{Load, World, rounds};

#[test]
fn the_api_serves_without_ingest_and_a_gateway_starts_without_the_database() {
    rounds("starts", |mut random| {
        let (mut world, load) = (World::new("starts"), Load::new(&mut random));
        let gateway = world.gateway();
        load.during(&gateway, || {
            load.more(20 + random.below(40) as usize);
            world.caught_up();
            world.apart.ingests[0].kill9();
            load.more(20);
            world.apart.api.restart();
            let (before, behind) = (world.api().status()["received"].clone(), world.api().status()["in_flight"].as_u64());
            assert!(behind > Some(0), "{behind:?} in flight");
            world.api().get("/v1/latest").ok();
            load.more(20);
            assert_eq!(world.api().status()["received"], before, "nobody applies anything");
        });
        world.postgres.kill().unwrap();
        let second = world.apart.role("gateway", &[]);
        load.during(&second, || load.more(40));
        world.apart.gateways.push(second);
        world.postgres.restart().unwrap();
        world.heal();
        world.apart.ingests[0].start();
        load.during(&gateway, || load.more(20));
        world.ends_well(&load);
    });
}
