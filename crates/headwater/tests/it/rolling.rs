//! A rolling restart under load, by clients that choose servers as a load balancer does: nothing is lost or doubled, and nobody sees an error.

use crate::apart::Apart;
use crate::backends::Backends;
use crate::client::{Ask, Client};
use crate::journal::{Journal, check};
use crate::main_job::counts;
use crate::stack::{Builder, SOON, Stack, signal, wait_for};
use crate::verify::verified;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// How long a server that is being stopped goes on: many looks at `/readyz`.
const DELAY: &str = "600ms";
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// The servers that were ready at the last look, as whoever balances load sees them.
struct Balancer(Mutex<Vec<Client>>);

impl Balancer {
    fn of(servers: &[&Stack]) -> Self {
        Self(Mutex::new(servers.iter().map(|server| server.client()).collect()))
    }

    /// Looks again, and leaves out whoever is not ready.
    fn look(&self, servers: &Mutex<Vec<Client>>) {
        let ready: Vec<Client> = servers.lock().unwrap().iter().filter(|server| server.without_keep_alive().is_ready()).cloned().collect();
        *self.0.lock().unwrap() = ready;
    }

    /// A server that is ready, in its turn; its connections are kept, as balancers do.
    fn nth(&self, turn: usize) -> Client {
        wait_for("a server that is ready", SOON, || {
            let ready = self.0.lock().unwrap();
            (!ready.is_empty()).then(|| ready[turn % ready.len()].clone())
        })
    }
}

/// Everything that runs beside the restarts.
struct Load<'a> {
    gateways: (&'a Balancer, &'a Mutex<Vec<Client>>),
    apis: (&'a Balancer, &'a Mutex<Vec<Client>>),
    journals: &'a [Mutex<Journal>],
    acknowledged: &'a AtomicUsize,
    looks: &'a AtomicUsize,
    errors: &'a Mutex<Vec<String>>,
    stop: &'a AtomicBool,
}

impl Load<'_> {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    fn balance(&self) {
        while self.goes_on() {
            self.gateways.0.look(self.gateways.1);
            self.apis.0.look(self.apis.1);
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }

    fn write(&self, n: usize) {
        let mut journal = self.journals[n].lock().unwrap();
        for turn in n.. {
            if !self.goes_on() {
                return;
            }
            match journal.send(&self.gateways.0.nth(turn)) {
                true => drop(self.acknowledged.fetch_add(1, Ordering::SeqCst)),
                false => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn read(&self) {
        let mut last = 0;
        for turn in 0.. {
            if !self.goes_on() {
                return;
            }
            match self.apis.0.nth(turn).try_ask(&Ask::new("GET", "/v1/status")) {
                Ok(answer) if answer.status == 503 => {}
                Ok(answer) => {
                    let received = counts(&answer.ok().json())["received"];
                    assert!(received >= last, "a counter fell from {last} to {received}");
                    last = received;
                    self.looks.fetch_add(1, Ordering::SeqCst);
                }
                Err(why) => self.errors.lock().unwrap().push(format!("a question: {why}")),
            }
        }
    }

    fn wait(&self) {
        let now = || (self.acknowledged.load(Ordering::SeqCst), self.looks.load(Ordering::SeqCst));
        let before = now();
        wait_for("readers and writers to go on", SOON, || (now().0 >= before.0 + 20 && now().1 >= before.1 + 5).then_some(()));
    }
}

/// Says that it is time to stop when it goes.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn clients(servers: &[&Stack]) -> Vec<Client> {
    servers.iter().map(|server| server.client()).collect()
}

#[test]
fn a_rolling_restart_of_every_role_shows_no_error_to_clients_behind_a_load_balancer() {
    let mut apart = Apart::two_of_each(&Backends::shared());
    let delayed = [("HEADWATER_HTTP__DRAIN_DELAY", DELAY)];
    // Those that are balanced go on for a while when they are stopped.
    apart.gateways = (0..2).map(|_| apart.role("gateway", &delayed)).collect();
    let mut apis: Vec<Stack> = (0..2).map(|_| apart.role("api", &delayed)).collect();
    let journals: Vec<_> = (0..3).map(|n| Mutex::new(Journal::new(&format!("device-{n}"), 90 + n, 10))).collect();
    let servers = (Mutex::new(clients(&[&apart.gateways[0], &apart.gateways[1]])), Mutex::new(clients(&[&apis[0], &apis[1]])));
    let balancers = (Balancer::of(&[&apart.gateways[0], &apart.gateways[1]]), Balancer::of(&[&apis[0], &apis[1]]));
    let (acknowledged, looks, stop, errors) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(Vec::new()));
    let load = Load {
        gateways: (&balancers.0, &servers.0),
        apis: (&balancers.1, &servers.1),
        journals: &journals,
        acknowledged: &acknowledged,
        looks: &looks,
        errors: &errors,
        stop: &stop,
    };
    std::thread::scope(|scope| {
        let _stops = Stops(&stop);
        let load = &load;
        scope.spawn(|| load.balance());
        scope.spawn(|| load.read());
        (0..journals.len()).for_each(|n| drop(scope.spawn(move || load.write(n))));
        load.wait();
        for n in 0..2 {
            for role in ["gateway", "api", "ingest", "rollup"] {
                let stack = match role {
                    "gateway" => &mut apart.gateways[n],
                    "api" => &mut apis[n],
                    "ingest" => &mut apart.ingests[n],
                    _ => &mut apart.rollups[n],
                };
                assert_eq!(stack.stop(), 0, "{role} {n}");
                load.wait();
                stack.start();
                *servers.0.lock().unwrap() = clients(&[&apart.gateways[0], &apart.gateways[1]]);
                *servers.1.lock().unwrap() = clients(&[&apis[0], &apis[1]]);
                load.wait();
            }
        }
    });
    let journals: Vec<_> = journals.into_iter().map(|journal| journal.into_inner().unwrap()).collect();
    let errors: Vec<String> =
        errors.into_inner().unwrap().into_iter().chain(journals.iter().flat_map(|journal| journal.failures().to_vec())).collect();
    assert_eq!(errors, [""; 0], "whoever chooses by /readyz sees no error");
    apart.settled(SOON);
    check(&journals.iter().collect::<Vec<_>>(), &apart.api);
    apart.seal();
    check(&journals.iter().collect::<Vec<_>>(), &apart.api);
    assert_eq!(verified(&apart.api, &[]).0, 0);
}

#[test]
fn a_server_that_is_stopped_says_so_first_goes_on_for_a_while_and_closes_connections_with_their_answers() {
    let mut stack = Builder::default().env("HEADWATER_HTTP__DRAIN_DELAY", "1500ms").start();
    let client = stack.client();
    let write = |n: i64| {
        Ask::post("/v1/readings", "application/json", format!(r#"{{"device":"a","metric":"m","ts":{},"value":1}}"#, 1_767_571_200 + n))
    };
    let before = client.ask(&write(0)).ok();
    assert_eq!(before.header("connection"), None);
    signal(stack.pid(), "TERM");
    let not_ready = wait_for("/readyz to say so", SOON, || {
        client.try_ask(&Ask::new("GET", "/readyz").anonymous()).ok().filter(|answer| answer.status == 503)
    });
    assert!(not_ready.text().contains("it is stopping"), "{}", not_ready.text());
    for n in 1..4 {
        let answer = client.ask(&write(n)).ok();
        assert_eq!(answer.header("connection"), Some("close"));
    }
    client.ask(&Ask::new("GET", "/livez").anonymous()).ok();
    assert_eq!(stack.ended().code(), Some(0));
    stack.start();
    stack.settled();
    assert_eq!(stack.status()["received"], 4);
}
