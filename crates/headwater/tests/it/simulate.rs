//! `headwater simulate` and `headwater up --demo`: a fleet with every fault, and what a server makes of it.
//!
//! The journal of the simulator is the oracle: by key, time and value it says what must be there and what may be.

use crate::both::on_both;
use crate::client::Client;
use crate::oracle::rfc3339;
use crate::stack::{HEADWATER, SOON, Stack, clean, signal, wait_for};
use headwater_simulator::faults::Fault;
use headwater_simulator::journal::{Account, Expected, Journal, Row};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

on_both! {
    a_fleet_with_every_fault_and_two_kills_is_stored_as_its_journal_says_in_json,
    a_fleet_with_every_fault_and_two_kills_is_stored_as_its_journal_says_in_line_protocol,
}

const EVER: [(&str, &str); 3] = [("from", "1990-01-01T00:00:00Z"), ("to", "2040-01-01T00:00:00Z"), ("limit", "100000")];
/// Everything goes wrong, and often enough to be met in a few seconds.
pub(crate) const ALL_FAULTS: &str =
    "duplicates=3%,retries=5%,late=3%,out_of_order=3%,future=1%,malformed=1%,nan=1%,clock_jump=4%,offline=4%";

/// One address for servers that come back on other ports: bytes to and fro, and a cut where the server is cut.
pub(crate) struct Door {
    /// Where it is.
    pub(crate) url: String,
    behind: Arc<Mutex<Vec<String>>>,
}

impl Door {
    /// In front of a stack.
    pub(crate) fn to(stack: &Stack) -> Self {
        Self::to_all(std::slice::from_ref(stack))
    }

    /// In front of several, which take turns.
    pub(crate) fn to_all(stacks: &[Stack]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let behind = Arc::new(Mutex::new(stacks.iter().map(|stack| stack.base.clone()).collect::<Vec<_>>()));
        let addresses = Arc::clone(&behind);
        std::thread::spawn(move || {
            for (turn, device) in listener.incoming().map_while(Result::ok).enumerate() {
                let mut addresses = addresses.lock().unwrap().clone();
                let first = turn % addresses.len();
                addresses.rotate_left(first);
                // Nobody is behind it: the connection closes.
                if let Some(server) = addresses.iter().find_map(|address| TcpStream::connect(address.trim_start_matches("http://")).ok()) {
                    pass(&device, &server);
                    pass(&server, &device);
                }
            }
        });
        Self { url, behind }
    }

    /// The server is on another port now.
    pub(crate) fn moved(&self, stack: &Stack) {
        self.moved_all(std::slice::from_ref(stack));
    }

    /// The servers are on other ports now.
    pub(crate) fn moved_all(&self, stacks: &[Stack]) {
        *self.behind.lock().unwrap() = stacks.iter().map(|stack| stack.base.clone()).collect();
    }
}

fn pass(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    std::thread::spawn(move || {
        drop(std::io::copy(&mut from, &mut to));
        drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
    });
}

/// `headwater simulate` with the stack's token, in the directory of its files.
pub(crate) fn simulator(stack: &Stack, url: &str, arguments: &[&str]) -> Command {
    let mut command = clean(HEADWATER);
    command.arg("simulate").args(arguments).args(["--json", "--url", url]).env("HEADWATER_TOKEN", &stack.token);
    command.current_dir(stack.home.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits for a simulator, which has to be content; gives its account.
pub(crate) fn account_of(simulator: Child) -> Value {
    let output = simulator.wait_with_output().unwrap();
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {told}{said}", output.status);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why} in {told}"))
}

/// What the server holds. A time that was never sent stays unread, and with it the row is one that was never sent.
fn held(stack: &Stack, expected: &Expected) -> Vec<Row> {
    let times: HashMap<String, i64> = expected.keys.keys().map(|(_, _, time)| (rfc3339(*time), *time)).collect();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let row = |row: &Value| Row {
        device: text(&row["device"]),
        metric: text(&row["metric"]),
        time: times.get(row["time"].as_str().unwrap()).copied().unwrap_or(i64::MIN),
        value: row["value"].as_f64().unwrap(),
    };
    stack.rows("/v1/readings", &EVER).iter().map(row).collect()
}

/// Every acknowledged reading once with its first value, nothing that was not sent, and the totals.
pub(crate) fn check(stack: &Stack, account: &Account) {
    let expected = account.expected();
    let differences = expected.differences(held(stack, &expected));
    assert!(differences.is_empty(), "{} differences, first: {differences:#?}", differences.len());
    let status = stack.status();
    let count = |name: &str| status[name].as_u64().unwrap();
    let (received, dead) = (count("received"), count("dead"));
    assert!((expected.received.0..=expected.received.1).contains(&received), "{received} received of {:?}", expected.received);
    assert!((expected.dead.0..=expected.dead.1).contains(&dead), "{dead} dead of {:?}", expected.dead);
    let settled: u64 = ["stored", "duplicate", "conflict", "dead", "unsealed"].into_iter().map(count).sum();
    assert_eq!(received, settled, "{status}");
}

/// Keys for which several values were sent.
fn n_contested(account: &Account) -> usize {
    let mut values: HashMap<(&str, &str, i64), HashSet<u64>> = HashMap::new();
    for (_, row) in account.requests.iter().flat_map(|request| &request.readings) {
        values.entry((&row.device, &row.metric, row.time)).or_default().insert(row.value.to_bits());
    }
    values.values().filter(|values| values.len() > 1).count()
}

/// The journal's values are those that the seed makes.
fn true_to_its_seed(account: &Account) {
    let fleet = &account.runs[0].fleet;
    for (sample, row) in account.requests.iter().flat_map(|request| &request.readings) {
        let device = fleet.device_number(&row.device).unwrap();
        let metric = fleet.metrics().iter().position(|metric| metric.name == row.metric).unwrap();
        assert_eq!(fleet.value(device, metric, *sample).value().to_bits(), row.value.to_bits(), "{row:?}");
    }
}

fn survives(mut stack: Stack, format: &str, seed: &str) {
    let door = Door::to(&stack);
    let arguments = [
        "--devices",
        "50",
        "--rate",
        "2000/s",
        "--duration",
        "6s",
        "--batch",
        "20",
        "--journal",
        "journal",
        "--format",
        format,
        "--seed",
        seed,
        "--faults",
        ALL_FAULTS,
    ];
    let simulator = simulator(&stack, &door.url, &arguments).spawn().unwrap();
    for n in 1..=2 {
        wait_for("readings to arrive", SOON, || (stack.status()["received"].as_u64()? > n * 2_000).then_some(()));
        stack.kill9();
        stack.start();
        door.moved(&stack);
    }
    let told = account_of(simulator);
    stack.settled();
    let account = Journal::read(&stack.home.path().join("journal")).unwrap();
    check(&stack, &account);
    true_to_its_seed(&account);
    for fault in Fault::ALL {
        assert!(told["faults"][fault.as_str()].as_u64() > Some(0), "{} in {told}", fault.as_str());
    }
    let requests = &told["requests"];
    assert!(requests["repeated"].as_u64() > requests["answers_lost_on_purpose"].as_u64(), "the kills were felt: {told}");
    assert_eq!((&requests["unresolved"], &told["problems"]), (&json!(0), &json!(0)), "{told}");
    assert!(n_contested(&account) > 0, "some first value has held against another");
    assert!(account.requests.iter().all(|request| request.is_acked()), "in the end everything was acknowledged");
    assert!(told["readings"]["rejected"].as_u64() > Some(0), "{told}");
}

fn a_fleet_with_every_fault_and_two_kills_is_stored_as_its_journal_says_in_json(stack: Stack) {
    survives(stack, "json", "11");
}

fn a_fleet_with_every_fault_and_two_kills_is_stored_as_its_journal_says_in_line_protocol(stack: Stack) {
    survives(stack, "line", "12");
}

#[test]
fn simulate_without_a_server_or_a_token_fails_in_words() {
    let stack = Stack::embedded();
    let failed = |mut command: Command| {
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = failed(simulator(&stack, "http://127.0.0.1:1", &["--duration", "1s"]));
    assert!(code == Some(1) && said.contains("no server answers"), "{said}");
    let mut wrong = simulator(&stack, &stack.base, &["--duration", "1s"]);
    wrong.env("HEADWATER_TOKEN", "wrong");
    let (code, said) = failed(wrong);
    assert!(code == Some(1) && said.contains("401"), "{said}");
    let mut cannot_write = simulator(&stack, &stack.base, &["--duration", "1s"]);
    cannot_write.env("HEADWATER_TOKEN", stack.issue(&["--scope", "read:stats"]));
    let (code, said) = failed(cannot_write);
    assert!(code == Some(1) && said.contains("403"), "{said}");
    let (code, said) = failed(simulator(&stack, &stack.base, &["--rate", "1000000/s", "--devices", "1"]));
    assert!(code == Some(2) && said.contains("more devices"), "{said}");
}

/// A demonstration in a directory of its own, until it is dropped.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}

/// The address in the block that a server writes, and the rest of what it says.
fn address_of(said: impl Read + Send + 'static) -> (String, std::thread::JoinHandle<String>) {
    let mut lines = BufReader::new(said).lines().map_while(Result::ok);
    let line = lines.find(|line| line.trim_start().starts_with("address ")).expect("an address");
    let rest = std::thread::spawn(move || lines.collect::<Vec<_>>().join("\n"));
    (line.split_whitespace().last().unwrap().to_owned(), rest)
}

fn admin_token(data: &Path) -> String {
    let issued = clean(HEADWATER).args(["token", "issue", "--scope", "admin", "--data-dir"]).arg(data).output().unwrap();
    String::from_utf8(issued.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_demonstration_fills_a_directory_of_its_own_and_stops_when_told() {
    let home = tempfile::tempdir().unwrap();
    let mut command = clean(HEADWATER);
    command.args(["up", "--demo", "--listen", "127.0.0.1:0"]).current_dir(home.path()).stderr(Stdio::piped());
    let mut demo = Demo(command.spawn().unwrap());
    let (address, said) = address_of(demo.0.stderr.take().unwrap());
    let mut client = Client::nowhere();
    (client.base, client.token) = (address, admin_token(&home.path().join("headwater-demo")));
    wait_for("sensors to be heard", SOON, || {
        let status = client.get("/v1/status").ok().json();
        (status["received"].as_u64()? > 300).then_some(())
    });
    wait_for("both metrics", SOON, || {
        let rows = client.get("/v1/stats?group_by=none&stats=count&from=now-2d&to=now%2B1m").ok().json();
        let metrics: Vec<_> = rows["rows"].as_array()?.iter().map(|row| row["metric"].as_str().unwrap().to_owned()).collect();
        (metrics == ["humidity", "temperature"]).then_some(())
    });
    signal(demo.0.id(), "TERM");
    let status = wait_for("the demonstration to end", SOON, || demo.0.try_wait().unwrap());
    let said = said.join().unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("1000 sensors measure temperature and humidity every 10 s"), "{said}");
}
