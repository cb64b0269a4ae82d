//! Roles in processes of their own: two of each that share the work answer as one process does, go one after the other and come back, and
//! what is not embedded ties nobody to a directory.

use crate::apart::Apart;
use crate::backends::Backends;
use crate::client::{Ask, Client};
use crate::journal::{Journal, all_bytes, check};
use crate::main_job::counts;
use crate::oracle::{MONDAY, Reading, as_json};
use crate::sealing::{a_plant, answers_to, late, same};
use crate::simulate::{ALL_FAULTS, Door, account_of, check as check_fleet, simulator};
use crate::stack::{Builder, SOON, Stack, wait_for};
use crate::verify::verified;
use headwater_simulator::journal::Journal as FleetJournal;
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// A member of the group that says goodbye is not missed; one that does not is, after the six seconds of its session.
const BEFORE_THE_SESSION_ENDS: Duration = Duration::from_secs(5);

#[test]
fn roles_apart_give_the_bytes_of_one_process() {
    let (mut apart, one) = (Apart::two_of_each(&Backends::shared()), Stack::embedded());
    for (part, readings) in [a_plant(7), late(8)].iter().enumerate() {
        for (n, chunk) in readings.chunks(1000).enumerate() {
            let body = as_json(chunk);
            [&apart.gateways[n % 2], &one].iter().for_each(|to| drop(to.send(&body)));
        }
        apart.settled(SOON);
        one.settled();
        same(&answers_to(&apart.api, 3), &answers_to(&one, 3), &format!("part {part}, open"));
        apart.seal();
        one.output(&["seal"]);
        same(&answers_to(&apart.api, 3), &answers_to(&one, 3), &format!("part {part}, sealed"));
        assert_eq!(counts(&apart.api.status()), counts(&one.status()));
    }
    let said = |stacks: &[Stack], words: &str| stacks.iter().map(|stack| stack.said().matches(words).count()).collect::<Vec<_>>();
    assert!(!said(&apart.ingests, "reading partitions").contains(&0), "both ingests had a part of the log");

    // The other takes all partitions over at once.
    assert_eq!(apart.ingests.remove(0).stop(), 0);
    for n in 0..20 {
        apart.gateway().send(&as_json(&[Reading::new(&format!("device-{n}"), "m", MONDAY, 1.0)]));
    }
    apart.settled(BEFORE_THE_SESSION_ENDS);
}

#[test]
fn a_fleet_that_sends_to_two_gateways_while_every_role_is_killed_is_stored_as_its_journal_says() {
    let mut apart = Apart::two_of_each(&Backends::shared());
    let door = Door::to_all(&apart.gateways);
    let fixed = ["--devices", "60", "--rate", "1500/s", "--duration", "6s", "--batch", "20", "--journal", "journal"];
    let chosen = ["--format", "json", "--seed", "21", "--faults", ALL_FAULTS];
    let fleet = simulator(&apart.api, &door.url, &[&fixed[..], &chosen].concat()).spawn().unwrap();
    for n in 0..2 {
        wait_for("readings to arrive", SOON, || (apart.api.status()["received"].as_u64()? > 1_000 + 1_500 * n as u64).then_some(()));
        apart.rollups[1 - n].post("/v1/seal", "application/json", "").ok();
        for stacks in [&mut apart.gateways, &mut apart.ingests, &mut apart.rollups] {
            stacks[n].kill9();
        }
        for stacks in [&mut apart.gateways, &mut apart.ingests, &mut apart.rollups] {
            stacks[n].start();
        }
        door.moved_all(&apart.gateways);
    }
    let told = account_of(fleet);
    assert_eq!((&told["requests"]["unresolved"], &told["problems"]), (&json!(0), &json!(0)), "{told}");
    apart.settled(SOON);
    let account = FleetJournal::read(&apart.api.home.path().join("journal")).unwrap();
    check_fleet(&apart.api, &account);
    apart.seal();
    check_fleet(&apart.api, &account);
    assert_eq!(verified(&apart.api, &[]).0, 0);
}

/// Where the gateways are now, for devices that try another one where one does not answer.
struct Gateways(Mutex<Vec<Client>>);

impl Gateways {
    /// The address of one in its turn.
    fn nth(&self, turn: usize) -> Client {
        let clients = self.0.lock().unwrap();
        clients[turn % clients.len()].clone()
    }

    /// Each request on a connection of its own: a kept one may be closed while the next request is on its way, which says nothing of us.
    fn moved(&self, stacks: &[Stack]) {
        *self.0.lock().unwrap() = stacks.iter().map(|stack| stack.client().without_keep_alive()).collect();
    }
}

#[test]
fn a_rolling_restart_of_every_role_loses_and_doubles_nothing_and_shows_only_503_and_closed_doors() {
    let mut apart = Apart::two_of_each(&Backends::shared());
    let (gateways, api) = (Gateways(Mutex::default()), Gateways(Mutex::default()));
    gateways.moved(&apart.gateways);
    api.moved(std::slice::from_ref(&apart.api));
    let journals: Vec<_> = (0..3).map(|n| Mutex::new(Journal::new(&format!("device-{n}"), 70 + n, 10))).collect();
    let (acknowledged, looks, stop) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let unanswered = std::thread::scope(|scope| {
        // Also when an assertion fails.
        let _stops = Stops(&stop);
        for journal in &journals {
            let (gateways, acknowledged, stop) = (&gateways, &acknowledged, &stop);
            scope.spawn(move || {
                let mut journal = journal.lock().unwrap();
                for turn in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    match journal.send(&gateways.nth(turn)) {
                        true => drop(acknowledged.fetch_add(1, Ordering::SeqCst)),
                        // As devices do, if not for as long.
                        false => std::thread::sleep(Duration::from_millis(5)),
                    }
                }
            });
        }
        let reader = scope.spawn(|| look_again_and_again(&api, &looks, &stop));
        let goes_on = || {
            let before = (acknowledged.load(Ordering::SeqCst), looks.load(Ordering::SeqCst));
            wait_for("readers and writers to go on", SOON, || {
                let now = (acknowledged.load(Ordering::SeqCst), looks.load(Ordering::SeqCst));
                (now.0 >= before.0 + 20 && now.1 >= before.1 + 2).then_some(())
            });
        };
        goes_on();
        for n in 0..2 {
            for role in ["gateway", "ingest", "rollup"] {
                let stack = match role {
                    "gateway" => &mut apart.gateways[n],
                    "ingest" => &mut apart.ingests[n],
                    _ => &mut apart.rollups[n],
                };
                assert_eq!(stack.stop(), 0, "{role} {n}");
                goes_on();
                stack.start();
                gateways.moved(&apart.gateways);
                goes_on();
            }
        }
        assert_eq!(apart.api.stop(), 0);
        apart.api.start();
        api.moved(std::slice::from_ref(&apart.api));
        goes_on();
        stop.store(true, Ordering::SeqCst);
        reader.join().unwrap()
    });
    apart.settled(SOON);
    let journals: Vec<_> = journals.into_iter().map(|journal| journal.into_inner().unwrap()).collect();
    check(&journals.iter().collect::<Vec<_>>(), &apart.api);
    apart.seal();
    check(&journals.iter().collect::<Vec<_>>(), &apart.api);
    assert_eq!(verified(&apart.api, &[]).0, 0);
    for why in journals.iter().flat_map(Journal::failures).chain(&unanswered) {
        assert!(is_closed_door(why), "{why}");
    }
}

/// Nobody listens, or does not any more: the connection was closed before anything was answered.
fn is_closed_door(why: &str) -> bool {
    ["Connection refused", "Connection reset", "Broken pipe", "Peer disconnected"].iter().any(|words| why.contains(words))
}

/// Asks the api until told to end: it adds up at every look, and never falls. Gives why there was no answer, where there was none.
fn look_again_and_again(api: &Gateways, looks: &AtomicUsize, stop: &AtomicBool) -> Vec<String> {
    let (mut unanswered, mut last) = (Vec::new(), 0);
    while !stop.load(Ordering::SeqCst) {
        match api.nth(0).try_ask(&Ask::new("GET", "/v1/status")) {
            Ok(answer) if answer.status == 503 => drop(answer.problem()),
            Ok(answer) => {
                let received = counts(&answer.ok().json())["received"];
                assert!(received >= last, "a counter fell from {last} to {received}");
                last = received;
                looks.fetch_add(1, Ordering::SeqCst);
            }
            Err(why) => unanswered.push(why.to_string()),
        }
    }
    unanswered
}

/// Says that it is time to stop when it goes.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_gateway_alone_is_ready_and_what_nothing_is_embedded_in_is_not_locked() {
    let backends = Backends::shared();
    // Where the store is, is nothing to a gateway.
    let gateway = Builder::default().run(&["gateway"]).env("HEADWATER_LOG__URL", &backends.log_url()).start();
    for probe in ["/livez", "/readyz"] {
        gateway.ask(&Ask::new("GET", probe).anonymous()).ok();
    }
    let said = gateway.said();
    assert!(said.contains("acks=all") && said.contains(&format!("/{}\n", backends.name)), "{said}");
    gateway.send(&as_json(&[Reading::new("a", "m", MONDAY, 1.0)]));
    gateway.get("/v1/status").expect(404).problem();
    let files = || std::fs::read_dir(&gateway.data).unwrap().map(|file| file.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(files(), ["token-key.pem"]);

    // In the same directory, so with the same key.
    let home = tempfile::tempdir().unwrap();
    let rest = Builder::default().run(&["ingest", "api"]).on(&backends).start_in(home, gateway.data.to_str().unwrap());
    assert_eq!(rest.data, gateway.data);
    rest.settled();
    assert_eq!(rest.ask(&Ask::new("GET", "/v1/latest").token(&gateway.token)).ok().json()["rows"][0]["value"], 1.0);
    let status = rest.status();
    assert_eq!((&status["durability"], &status["roles"], &status["received"]), (&json!("acks=all"), &json!(["ingest", "api"]), &json!(1)));
    assert_eq!(files(), ["token-key.pem"]);
}

#[test]
fn an_embedded_log_goes_with_postgresql() {
    mixed(|backends| ("HEADWATER_STORE__URL", backends.store_url()), "fsync", ["log.db"]);
}

#[test]
fn kafka_goes_with_an_embedded_store() {
    mixed(|backends| ("HEADWATER_LOG__URL", backends.log_url()), "acks=all", ["store.db"]);
}

/// One process with one backend of each kind: it works, keeps every byte, and is refused in parts where that cannot work.
fn mixed(url: impl Fn(&Backends) -> (&'static str, String), durability: &str, files: [&str; 1]) {
    let backends = Backends::shared();
    let (name, url) = url(&backends);
    let mut stack = Builder::default().env(name, &url).start();
    let mut journal = Journal::new("device", 80, 20);
    assert!((0..10).all(|_| journal.send(&stack)));
    stack.settled();
    stack.output(&["seal"]);
    assert!((0..10).all(|_| journal.send(&stack)));
    stack.settled();
    check(&[&journal], &stack);
    let before = all_bytes(&stack);
    stack.restart();
    stack.settled();
    assert!(all_bytes(&stack) == before, "kill -9 changed an answer");
    let status: Value = stack.status();
    assert_eq!(status["durability"], durability);
    assert!(files.iter().all(|file| stack.data.join(file).exists()), "{files:?} in {}", stack.data.display());
}
