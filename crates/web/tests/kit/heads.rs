//! Heads that two readers could read in two ways, heads that are too large, and requests sent ahead of their answers.

use crate::support::{DEADLINE, Server, busy_face, send, to_end, token};
use headwater_web::Config;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

async fn server() -> Server {
    Server::start(busy_face(Arc::default()), Config::default()).await
}

/// All that is answered to these bytes, when nothing follows them.
async fn answered(server: &Server, bytes: &[u8]) -> String {
    let mut stream = server.connect().await;
    // A server that has refused the beginning may not take the rest.
    drop(timeout(DEADLINE, stream.write_all(bytes)).await.expect("the server takes or refuses what is sent"));
    drop(stream.shutdown().await);
    to_end(&mut stream).await
}

fn statuses(answers: &str) -> Vec<&str> {
    answers.split("HTTP/1.1 ").skip(1).map(|answer| answer.get(..3).unwrap_or_default()).collect()
}

/// What a proxy in front could have taken for the body of another request: it has an effect that can be seen in the answers.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn a_body_whose_length_is_in_doubt_is_refused_and_nothing_behind_it_is_a_request() {
    let server = server().await;
    let bearer = token("write:readings");
    let lengths: Vec<(&str, String)> = vec![
        ("content-length: 5\r\ncontent-length: 6", format!("12345{SMUGGLED}")),
        ("content-length: 0\r\ncontent-length: 37", SMUGGLED.to_owned()),
        ("content-length: 5, 5", format!("12345{SMUGGLED}")),
        ("content-length: +5", format!("12345{SMUGGLED}")),
        ("content-length: -1", SMUGGLED.to_owned()),
        ("content-length: 0x5", format!("12345{SMUGGLED}")),
        ("content-length: 5 5", format!("12345{SMUGGLED}")),
        ("content-length:", SMUGGLED.to_owned()),
        ("content-length: 18446744073709551616", SMUGGLED.to_owned()),
        ("content-length : 5", format!("12345{SMUGGLED}")),
        ("x: y\r\n content-length: 5", format!("12345{SMUGGLED}")),
        ("content-length: 5\r\n transfer-encoding: chunked", format!("12345{SMUGGLED}")),
        ("transfer-encoding: identity", SMUGGLED.to_owned()),
        ("transfer-encoding: chunked, identity", format!("0\r\n\r\n{SMUGGLED}")),
        ("transfer-encoding: chunked\r\ntransfer-encoding: identity", format!("0\r\n\r\n{SMUGGLED}")),
        ("transfer-encoding: xchunked", format!("0\r\n\r\n{SMUGGLED}")),
        ("transfer-encoding : chunked", format!("0\r\n\r\n{SMUGGLED}")),
        ("transfer-encoding: \x0bchunked", format!("0\r\n\r\n{SMUGGLED}")),
        ("transfer-encoding: gzip, chunked", format!("0\r\n\r\n{SMUGGLED}")),
        ("transfer-encoding: gzip\r\ntransfer-encoding: chunked", format!("0\r\n\r\n{SMUGGLED}")),
        ("transfer-encoding: chunked, chunked", format!("0\r\n\r\n{SMUGGLED}")),
    ];
    for (length, rest) in lengths {
        let request = format!("POST /v1/readings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {bearer}\r\n{length}\r\n\r\n{rest}");
        let answers = answered(&server, request.as_bytes()).await;
        assert_eq!(statuses(&answers), ["400"], "{length:?}: {answers}");
    }
}

#[tokio::test]
async fn where_both_lengths_are_sent_chunks_count_and_the_connection_ends() {
    let server = server().await;
    let bearer = token("write:readings");
    for lengths in ["content-length: 4\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 4"] {
        let body = format!("5\r\n12345\r\n0\r\n\r\n{SMUGGLED}");
        let request = format!("POST /v1/readings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {bearer}\r\n{lengths}\r\n\r\n{body}");
        let answers = answered(&server, request.as_bytes()).await;
        assert_eq!(statuses(&answers), ["200"], "{answers}");
        assert!(answers.ends_with("tester sent 5"), "{answers}");
    }
    // HTTP/1.0 has no chunks.
    let old = format!("POST /v1/readings HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}");
    assert_eq!(statuses(&answered(&server, old.as_bytes()).await.replace("HTTP/1.0 ", "HTTP/1.1 ")), ["400"]);
}

#[tokio::test]
async fn chunks_that_are_no_chunks_are_refused_and_nothing_behind_them_is_a_request() {
    let server = server().await;
    let bearer = token("write:readings");
    let head = format!("POST /v1/readings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {bearer}\r\ntransfer-encoding: chunked\r\n\r\n");
    for chunks in
        ["5x\r\n12345\r\n", "-5\r\n12345\r\n", "+5\r\n12345\r\n", "0x5\r\n12345\r\n", "\r\n12345\r\n", "fffffffffffffffff\r\n12345\r\n"]
    {
        let answers = answered(&server, format!("{head}{chunks}0\r\n\r\n{SMUGGLED}").as_bytes()).await;
        assert_eq!(statuses(&answers), ["400"], "{chunks:?}: {answers}");
    }
    // Extensions without an end are no way to send for ever.
    let endless = format!("{head}5;{}", "x".repeat(100_000));
    assert_eq!(statuses(&answered(&server, endless.as_bytes()).await), ["400"]);
    // And trailers are as bounded as heads.
    let trailers = format!("{head}0\r\n{}\r\n", "a: b\r\n".repeat(20_000));
    let answers = answered(&server, trailers.as_bytes()).await;
    assert!(!answers.starts_with("HTTP/1.1 200"), "{answers}");
    assert!(server.answers().await);
}

#[tokio::test]
async fn characters_that_end_a_line_elsewhere_are_refused_in_heads() {
    let server = server().await;
    for head in [
        "GET /livez HTTP/1.1\r\nhost: x\r\na: b\rc: d\r\n\r\n",
        "GET /livez HTTP/1.1\r\nhost: x\r\na: b\0c\r\n\r\n",
        "GET /livez HTTP/1.1\r\nhost: x\r\na\tb: c\r\n\r\n",
        "GET /livez HTTP/1.1\r\nhost: x\r\n: c\r\n\r\n",
        "GET /livez\x0bHTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /livez  HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /li\0vez HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /livez HTTP/1.2\r\nhost: x\r\n\r\n",
        "GET /livez HTTP/9.9\r\nhost: x\r\n\r\n",
        "GET  HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        let answers = answered(&server, head.as_bytes()).await;
        let refused = answers.is_empty() || answers.starts_with("HTTP/1.1 4") || answers.starts_with("HTTP/1.1 505");
        assert!(refused && statuses(&answers).len() <= 1, "{head:?}: {answers}");
    }
    assert!(server.answers().await);
}

#[tokio::test]
async fn a_head_is_limited_in_bytes_and_in_lines() {
    let server = server().await;
    let head = |headers: &str| format!("GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    let large = |bytes: usize| head(&format!("a: {}\r\n", "x".repeat(bytes)));
    let many = |lines: usize| head(&"a: b\r\n".repeat(lines));
    let path = |bytes: usize| format!("GET /{} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "x".repeat(bytes));
    for (request, expected) in [
        (large(30_000), &["200"][..]),
        (many(90), &["200"]),
        (path(30_000), &["404"]),
        (large(40_000), &["431"]),
        (many(200), &["431"]),
        (path(40_000), &["431", "414"]),
    ] {
        let answers = answered(&server, request.as_bytes()).await;
        let told = statuses(&answers);
        assert!(told.len() == 1 && expected.contains(&told[0]), "{} bytes: {told:?} and not one of {expected:?}", request.len());
    }
    // A head without an end is cut at the limit, not when the sender has had enough.
    let mut endless = server.connect().await;
    send(&mut endless, "GET /livez HTTP/1.1\r\nhost: x\r\n").await;
    let line = "a: b\r\n".repeat(1_000);
    let flooding = async { while endless.write_all(line.as_bytes()).await.is_ok() {} };
    timeout(DEADLINE, flooding).await.expect("the server closes the connection");
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_their_order() {
    let server = server().await;
    let bearer = token("write:readings");
    let mut requests = String::new();
    for n in 0..50 {
        let body = "x".repeat(n);
        requests.push_str(&format!(
            "POST /v1/readings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {bearer}\r\ncontent-length: {n}\r\n\r\n{body}"
        ));
        requests.push_str("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n");
    }
    let mut stream = server.connect().await;
    send(&mut stream, &requests).await;
    stream.shutdown().await.unwrap();
    let answers = to_end(&mut stream).await;
    let sent: Vec<usize> =
        answers.split("tester sent ").skip(1).map(|rest| rest.split('H').next().unwrap().trim().parse().unwrap()).collect();
    assert_eq!(sent, (0..50).collect::<Vec<_>>());
    assert_eq!(statuses(&answers).len(), 100);
}

#[tokio::test]
async fn who_sends_ahead_without_end_and_reads_nothing_is_cut() {
    let config = Config { write_timeout: std::time::Duration::from_millis(300), ..Config::default() };
    let server = Server::start(busy_face(Arc::default()), config).await;
    let mut stream = server.connect().await;
    let requests = "GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1_000);
    let mut sent = 0usize;
    let flooding = async {
        while stream.write_all(requests.as_bytes()).await.is_ok() {
            sent += requests.len();
        }
    };
    timeout(DEADLINE * 3, flooding).await.expect("the server closes the connection");
    // It was taken as fast as it was answered: what waits is in the buffers of the system.
    assert!(sent < 64 << 20, "{sent} bytes were taken");
    assert_eq!(timeout(DEADLINE, stream.read(&mut [0; 1])).await.map(|read| read.is_ok_and(|n| n > 0)), Ok(true), "some were answered");
}
