//! Connections that are slow, many, or silent: they are ended or refused, and nobody else notices.

use crate::client::Ask;
use crate::oracle::{MONDAY, Reading, as_json};
use crate::stack::{Builder, SOON, Stack, wait_for};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn connect(stack: &Stack) -> TcpStream {
    let connection = TcpStream::connect(stack.base.trim_start_matches("http://")).unwrap();
    connection.set_read_timeout(Some(SOON)).unwrap();
    connection
}

/// What comes until the server closes; it has to.
fn until_closed(mut connection: TcpStream) -> String {
    let mut bytes = Vec::new();
    match connection.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(why) => assert_eq!(why.kind(), std::io::ErrorKind::ConnectionReset, "closed by the server, not by our patience"),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Timers short enough to be waited for.
fn impatient() -> Stack {
    let timers = ["HEADER_TIMEOUT", "BODY_IDLE_TIMEOUT", "IDLE_TIMEOUT"];
    timers.iter().fold(Builder::default(), |builder, timer| builder.env(&format!("HEADWATER_HTTP__{timer}"), "1s")).start()
}

#[test]
fn slow_heads_and_bodies_are_ended_by_a_timer_and_others_go_on() {
    let stack = impatient();
    let post = format!(
        "POST /v1/readings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n[",
        stack.token
    );
    let half_said = ["", "GET /livez HT", "GET /livez HTTP/1.1\r\nHost: x\r\nX-A: ", post.as_str()];
    let started = Instant::now();
    let slow: Vec<TcpStream> = (0..200)
        .map(|n| {
            let mut connection = connect(&stack);
            connection.write_all(half_said[n % half_said.len()].as_bytes()).unwrap();
            connection
        })
        .collect();
    stack.send(&as_json(&[Reading::new("a", "m", MONDAY, 1.0)]));
    let answers: Vec<String> = slow.into_iter().map(until_closed).collect();
    assert!(started.elapsed() < Duration::from_secs(15), "they were kept for {:?}", started.elapsed());
    let of_body = answers.iter().skip(3).step_by(4);
    of_body.for_each(|answer| assert!(answer.starts_with("HTTP/1.1 408"), "{answer:?}"));
    stack.settled();
    assert_eq!(stack.rows("/v1/latest", &[]).len(), 1);
}

#[test]
fn a_connection_without_a_next_request_is_closed() {
    let stack = impatient();
    let mut connection = connect(&stack);
    connection.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let answer = until_closed(connection);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_flood_of_connections_is_capped_for_each_address() {
    let stack = Builder::default().env("HEADWATER_HTTP__MAX_CONNECTIONS_PER_ADDRESS", "20").start();
    let flood: Vec<TcpStream> = (0..100).map(|_| connect(&stack)).collect();
    // Some of them are closed at once; those that are not can be used.
    let closed = flood.iter().filter(|connection| is_closed(connection)).count();
    assert!(closed >= 79, "{closed} of 100 were closed");
    drop(flood);
    wait_for("the places to be free again", SOON, || stack.is_ready().then_some(()));
}

/// Whether the server has closed it, within a moment.
fn is_closed(connection: &TcpStream) -> bool {
    connection.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut connection = connection;
    match connection.read(&mut [0; 1]) {
        Ok(n) => n == 0,
        Err(why) => why.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn without_descriptors_accepting_pauses_and_work_goes_on() {
    let mut stack = Builder::default().under(&["sh", "-c", r#"ulimit -n 64 && exec "$0" "$@""#]).start();
    stack.send(&as_json(&[Reading::new("a", "m", MONDAY, 1.0)]));
    let flood: Vec<TcpStream> = (0..100).map(|_| connect(&stack)).collect();
    // The client's connection was there before the flood and is kept alive.
    for n in 1..4 {
        stack.send(&as_json(&[Reading::new("a", "m", MONDAY + n, 1.0)]));
    }
    stack.settled();
    drop(flood);
    let fresh = stack.client();
    wait_for("new connections to be taken", SOON, || {
        fresh.try_ask(&Ask::new("GET", "/readyz")).is_ok_and(|answer| answer.status == 200).then_some(())
    });
    assert_eq!(stack.rows("/v1/readings", &[("from", "1990-01-01T00:00:00Z")]).len(), 4);
    assert_eq!(stack.stop(), 0);
}

#[test]
fn what_is_no_http_is_answered_or_closed() {
    let stack = Stack::embedded();
    for bytes in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"SSH-2.0-x\r\n\r\n", b"GET\r\n\r\n", b"\0\0\0\0\r\n\r\n", &[b'A'; 100_000]]
    {
        let mut connection = connect(&stack);
        drop(connection.write_all(bytes));
        drop(connection.shutdown(std::net::Shutdown::Write));
        let answer = until_closed(connection);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert!(stack.is_ready());
}
