//! Starting: what is told, what is refused, and in which words.

use crate::client::Ask;
use crate::stack::{Builder, HEADWATER, Stack, clean, refused_start, signal};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

#[test]
fn a_server_that_is_ready_says_so_in_one_block_without_secrets() {
    let stack = Stack::embedded();
    let said = stack.said();
    for fact in [stack.base.as_str(), stack.data.to_str().unwrap(), "fsync", "headwater token issue"] {
        assert!(said.contains(fact), "{fact} in {said}");
    }
    assert!(!said.contains("eyJ"), "no token goes to a journal: {said}");
    let key = std::fs::metadata(stack.data.join("token-key.pem")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_second_server_on_the_same_data_exits_at_once_naming_the_holder() {
    let stack = Stack::embedded();
    let started = Instant::now();
    let (status, said) = refused_start(&stack.data, &["--listen", "127.0.0.1:0"]);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("process {}", stack.pid())), "{said}");
    assert!(started.elapsed() < Duration::from_secs(5), "at once");
    stack.settled();
}

#[test]
fn a_killed_server_leaves_no_lock() {
    let mut stack = Stack::embedded();
    stack.kill9();
    stack.start();
    stack.settled();
}

#[test]
fn a_port_that_is_taken_is_named_with_the_flag_that_changes_it() {
    let home = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, said) = refused_start(&home.path().join("data"), &["--listen", &address]);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&address) && said.contains("--listen"), "{said}");
}

#[test]
fn a_newer_data_format_is_refused_in_words_and_left_alone() {
    let mut stack = Stack::embedded();
    assert_eq!(stack.stop(), 0);
    let format = stack.data.join("format");
    let ours = std::fs::read_to_string(&format).unwrap();
    let newer = ours.replace('1', "2");
    assert_ne!(newer, ours, "the format of today is 1");
    std::fs::write(&format, &newer).unwrap();
    let (status, said) = refused_start(&stack.data, &["--listen", "127.0.0.1:0"]);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("format 2"), "{said}");
    assert_eq!(std::fs::read_to_string(&format).unwrap(), newer);
    std::fs::write(&format, ours).unwrap();
    stack.start();
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_made() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let file = home.path().join("headwater.toml");
    std::fs::write(&file, "rolls = [\"gateway\"]\n[http]\nlisten = \"nowhere\"\n[store]\nurl = \"mysql://db\"\n").unwrap();
    let (status, said) = refused_start(&data, &["--config", file.to_str().unwrap()]);
    assert_eq!(status.code(), Some(2), "{said}");
    for problem in ["rolls", "http.listen", "store.url"] {
        assert!(said.contains(problem), "all problems at once, with their paths: {said}");
    }
    let (status, said) = refused_start(&data, &["--listen", "0.0.0.0:0"]);
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("--insecure"), "{said}");
    let apart = clean(HEADWATER).args(["run", "gateway", "--data-dir"]).arg(&data).output().unwrap();
    let said = String::from_utf8_lossy(&apart.stderr).into_owned();
    assert_eq!(apart.status.code(), Some(2), "{said}");
    assert!(said.contains("embedded:") && said.contains("gateway"), "{said}");
    assert!(!data.exists(), "nothing was made");
}

#[test]
fn the_environment_configures_and_a_misspelt_key_in_it_is_an_error() {
    let stack = Builder::default().env("HEADWATER_GATEWAY__MAX_BODY_BYTES", "2048").env("HEADWATER_PORT", "tcp://10.0.0.1:80").start();
    let body = vec![b' '; 3000];
    stack.ask(&Ask::post("/v1/readings", "application/json", body)).expect(413);
    let refused = clean(HEADWATER)
        .arg("up")
        .arg("--data-dir")
        .arg(stack.home.path().join("other"))
        .env("HEADWATER_GATEWAY__MAX_BODY_BITES", "1")
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("HEADWATER_GATEWAY__MAX_BODY_BITES"));
}

#[test]
fn a_stop_finishes_what_has_begun_and_tokens_outlive_it() {
    let mut stack = Stack::embedded();
    let client = stack.client();
    let acknowledged = std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let one = |n: u64| {
                Ask::post(
                    "/v1/readings",
                    "application/json",
                    format!(r#"{{"device":"a","metric":"m","ts":{},"value":1}}"#, 1_767_571_200 + n),
                )
            };
            (0..).take_while(|n| client.try_ask(&one(*n)).is_ok_and(|answer| answer.status == 200)).count()
        });
        crate::stack::wait_for("something to be stored", crate::stack::SOON, || (stack.status()["received"] != 0).then_some(()));
        assert_eq!(stack.stop(), 0);
        writer.join().unwrap()
    });
    stack.start();
    // The token is of the first start.
    stack.settled();
    let received = stack.status()["received"].as_u64().unwrap();
    assert!(received >= acknowledged as u64, "{received} of {acknowledged} acknowledged readings");
}

#[test]
fn readiness_names_what_it_looks_at_and_is_public() {
    let stack = Stack::embedded();
    stack.ask(&Ask::new("GET", "/livez").anonymous()).ok();
    stack.ask(&Ask::new("GET", "/readyz").anonymous()).ok();
    let verbose = stack.ask(&Ask::new("GET", "/readyz?verbose").anonymous()).ok().text();
    assert!(verbose.contains("log") && verbose.contains("store"), "{verbose}");
}

#[test]
fn the_second_signal_stops_at_once() {
    let mut stack = Stack::embedded();
    // A client that never ends its request keeps a soft stop waiting.
    let mut connection = std::net::TcpStream::connect(stack.base.trim_start_matches("http://")).unwrap();
    let head = format!(
        "POST /v1/readings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\nAuthorization: Bearer {}\r\n\r\n[",
        stack.token
    );
    std::io::Write::write_all(&mut connection, head.as_bytes()).unwrap();
    signal(stack.pid(), "TERM");
    crate::stack::wait_for("the first signal to be noticed", crate::stack::SOON, || stack.said().contains("SIGTERM").then_some(()));
    let second = Instant::now();
    signal(stack.pid(), "INT");
    let status = stack.ended();
    assert!(second.elapsed() < Duration::from_secs(3), "at once");
    assert!(status.code().is_some(), "it ends by itself: {status}");
}
