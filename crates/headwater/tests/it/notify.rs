//! The service manager hears how the server is doing: over a real socket, by path and by abstract name.

use crate::backends::Backends;
use crate::client::Ask;
use crate::stack::{Builder, HEADWATER, SOON, clean, free_port, signal, wait_for};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// What would be systemd.
struct Manager(UnixDatagram);

impl Manager {
    fn at(address: &SocketAddr) -> Self {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self(socket)
    }

    fn hears(&self) -> String {
        let mut buffer = [0; 4096];
        let n = self.0.recv(&mut buffer).expect("the server says something");
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    }

    /// Everything up to the message that has this line.
    fn hears_until(&self, line: &str) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            heard.push(self.hears());
            if heard.last().unwrap().lines().any(|said| said == line) {
                return heard;
            }
        }
    }
}

fn abstract_name(what: &str) -> (String, SocketAddr) {
    let name = format!("headwater-it-{}-{what}", std::process::id());
    (format!("@{name}"), SocketAddr::from_abstract_name(name).unwrap())
}

#[test]
fn a_server_says_when_it_is_ready_alive_and_stopping() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let manager = Manager::at(&SocketAddr::from_pathname(&path).unwrap());
    let notify = ("NOTIFY_SOCKET", path.to_str().unwrap());
    let mut stack = Builder::default().env(notify.0, notify.1).env("WATCHDOG_USEC", "400000").start();
    let before = manager.hears_until("READY=1");
    assert!(before[0].starts_with("EXTEND_TIMEOUT_USEC="), "{before:?}");
    // The watchdog counts from now on: twice in its time.
    let began = Instant::now();
    for _ in 0..4 {
        manager.hears_until("WATCHDOG=1");
    }
    assert!(began.elapsed() < Duration::from_millis(400) * 4, "{:?}", began.elapsed());
    assert_eq!(stack.stop(), 0);
    let end = manager.hears_until("STOPPING=1");
    assert!(end.iter().all(|said| !said.contains("READY=1")), "{end:?}");
}

#[test]
fn a_server_without_a_watchdog_only_says_what_it_waits_for() {
    let (name, address) = abstract_name("plain");
    let manager = Manager::at(&address);
    // A watchdog of another process is none of ours.
    let mut stack = Builder::default().env("NOTIFY_SOCKET", &name).env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1").start();
    manager.hears_until("READY=1");
    stack.settled();
    assert_eq!(stack.stop(), 0);
    let heard = manager.hears_until("STOPPING=1");
    assert!(heard.iter().all(|said| !said.contains("WATCHDOG")), "{heard:?}");
}

#[test]
fn a_server_whose_threads_stand_still_leaves_the_watchdog_waiting() {
    let (name, address) = abstract_name("ill");
    let manager = Manager::at(&address);
    let mut stack = Builder::default().env("NOTIFY_SOCKET", &name).env("WATCHDOG_USEC", "200000").start();
    manager.hears_until("WATCHDOG=1");
    // Not a thread of it runs: nobody says anything for it.
    signal(stack.pid(), "STOP");
    manager.0.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    wait_for("silence", SOON, || {
        let mut buffer = [0; 64];
        manager.0.recv(&mut buffer).is_err().then_some(())
    });
    signal(stack.pid(), "CONT");
    manager.0.set_read_timeout(Some(SOON)).unwrap();
    manager.hears_until("WATCHDOG=1");
    assert_eq!(stack.stop(), 0);
}

#[test]
fn a_database_that_is_away_at_the_start_is_waited_for_and_clients_are_told_to_come_again() {
    let backends = Backends::shared();
    let port = free_port();
    // Nobody listens there yet.
    let store = backends.store_url();
    let (user, rest) = store.trim_start_matches("postgres://").rsplit_once('@').unwrap_or(("postgres", ""));
    let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
    let away = format!("postgres://{user}@127.0.0.1:{port}/{database}");
    let (name, address) = abstract_name("away");
    let (manager, listen) = (Manager::at(&address), free_port());
    let home = tempfile::tempdir().unwrap();
    let mut child = clean(HEADWATER)
        .args(["run", "ingest", "rollup", "api", "--listen", &format!("127.0.0.1:{listen}"), "--data-dir"])
        .arg(home.path().join("data"))
        .envs([("HEADWATER_LOG__URL", backends.log_url().as_str()), ("HEADWATER_STORE__URL", &away), ("NOTIFY_SOCKET", &name)])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut client = crate::client::Client::nowhere();
    client.base = format!("http://127.0.0.1:{listen}");
    let ask = |target: &str| client.try_ask(&Ask::new("GET", target).anonymous()).ok();
    wait_for("the server to listen", SOON, || ask("/livez").filter(|answer| answer.status == 200));
    let ready = ask("/readyz").unwrap();
    assert!(ready.status == 503 && ready.text().contains("cannot connect to the database"), "{}", ready.text());
    let status = ask("/v1/status").unwrap().expect(503);
    assert_eq!((status.problem()["code"].as_str(), status.header("retry-after")), (Some("starting"), Some("2")));
    assert!(manager.hears().starts_with("EXTEND_TIMEOUT_USEC="));

    // The database comes back: a proxy to the real one.
    let door = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let place = place.to_owned();
    std::thread::spawn(move || {
        for near in door.incoming().map_while(Result::ok) {
            let far = std::net::TcpStream::connect(&place).unwrap();
            for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                std::thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
            }
        }
    });
    manager.hears_until("READY=1");
    assert_eq!(ask("/readyz").unwrap().status, 200);
    signal(child.id(), "TERM");
    let status = wait_for("the server to end", SOON, || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_broker_that_is_away_at_the_start_is_waited_for_until_the_server_is_told_to_stop() {
    let home = tempfile::tempdir().unwrap();
    let log = format!("kafka://127.0.0.1:{}/readings", free_port());
    let listen = free_port();
    let mut child = clean(HEADWATER)
        .args(["run", "gateway", "--listen", &format!("127.0.0.1:{listen}"), "--data-dir"])
        .arg(home.path().join("data"))
        .envs([("HEADWATER_LOG__URL", log.as_str()), ("HEADWATER_LOG__CONNECT_WAIT_MS", "300")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut client = crate::client::Client::nowhere();
    client.base = format!("http://127.0.0.1:{listen}");
    let write = Ask::post("/v1/readings", "application/json", r#"{"device":"a","metric":"m","value":1}"#).anonymous();
    let answer = wait_for("the server to listen", SOON, || client.try_ask(&write).ok());
    assert_eq!(answer.expect(503).problem()["code"], "starting");
    signal(child.id(), "TERM");
    let status = wait_for("the server to end", SOON, || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}
