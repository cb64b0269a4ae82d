//! Several sealers on the same shards, under load: one of them comes first, the others have lost, and nothing is there twice.

use super::{Load, Stops, World, rounds};
use crate::client::Ask;
use crate::stack::wait_for;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn sealers_that_want_the_same_shard_seal_it_once() {
    rounds("sealers", |mut random| {
        let (mut world, load) = (World::new("sealers"), Load::new(&mut random));
        let talkative = [("HEADWATER_ROLLUP__INTERVAL_MS", "50"), ("HEADWATER_LOGGING__FILTER", "info,headwater_rollup=debug")];
        for _ in 0..3 {
            let rollup = world.apart.role("rollup", &talkative);
            world.apart.rollups.push(rollup);
        }
        let (gateway, done) = (world.gateway(), AtomicBool::new(false));
        let mut victim = world.apart.rollups.pop().unwrap();
        let clients: Vec<_> = world.apart.rollups.iter().map(|rollup| rollup.client()).chain([victim.client()]).collect();
        load.during(&gateway, || {
            std::thread::scope(|scope| {
                let _stops = Stops(&done);
                for client in &clients {
                    scope.spawn(|| {
                        while !done.load(Ordering::SeqCst) {
                            drop(client.try_ask(&Ask::post("/v1/seal", "application/json", "")));
                            std::thread::yield_now();
                        }
                    });
                }
                load.more(60 + random.below(60) as usize);
                victim.kill9();
                let lost = || world.apart.rollups.iter().any(|rollup| rollup.said().contains("another sealer came first"));
                wait_for("one that has lost", super::HEALED, || lost().then_some(()));
                load.more(60);
            });
            world.heal();
        });
        world.ends_well(&load);
    });
}
