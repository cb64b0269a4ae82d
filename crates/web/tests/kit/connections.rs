//! What clients do to connections, and what becomes of them.

use crate::support::{DEADLINE, Held, Server, answer, busy_face, send, to_end, token};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use headwater_web::{Config, Face};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

const SHORT: Duration = Duration::from_millis(250);

async fn server(config: Config) -> Server {
    Server::start(busy_face(Arc::default()), config).await
}

fn post(path: &str, headers: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n{headers}\r\n\r\n", token("write:readings"))
}

#[tokio::test]
async fn a_connection_that_sends_no_request_is_closed() {
    let server = server(Config { header_timeout: SHORT, ..Config::default() }).await;
    // Silence; the byte with which both HTTP/1 and HTTP/2 begin; half a head; HTTP/2 without a request.
    for begun in ["", "P", "GET /livez HTTP/1.1\r\nhost: ", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = server.connect().await;
        send(&mut stream, begun).await;
        let answered = to_end(&mut stream).await;
        assert!(!answered.contains("200 OK"), "{begun:?}");
    }
    assert!(server.answers().await);
}

#[tokio::test]
async fn a_head_that_drips_is_closed_first_or_not() {
    let config = Config { header_timeout: SHORT, ..Config::default() };
    let server = server(config).await;
    for requests_before in [0, 1] {
        let mut stream = server.connect().await;
        for _ in 0..requests_before {
            send(&mut stream, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
            assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
        }
        let started = Instant::now();
        let dripping = async {
            let mut every = tokio::time::interval(Duration::from_millis(20));
            let (mut read, mut write) = stream.split();
            let mut closed = [0; 1];
            loop {
                tokio::select! {
                    read = read.read(&mut closed) => break read.unwrap_or(0),
                    _ = every.tick() => drop(write.write_all(b"G").await),
                }
            }
        };
        timeout(DEADLINE, dripping).await.expect("the server closes the connection");
        assert!(started.elapsed() < SHORT * 8, "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = server(Config { idle_timeout: SHORT, ..Config::default() }).await;
    let mut stream = server.connect().await;
    send(&mut stream, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    assert_eq!(to_end(&mut stream).await, "");
}

#[tokio::test]
async fn a_body_that_stops_is_408_and_the_connection_is_closed() {
    let server = server(Config { body_idle_timeout: SHORT, ..Config::default() }).await;
    for headers in ["content-length: 100", "transfer-encoding: chunked"] {
        let mut stream = server.connect().await;
        send(&mut stream, &post("/v1/readings", headers)).await;
        let answered = to_end(&mut stream).await;
        assert!(answered.starts_with("HTTP/1.1 408") && answered.contains("connection: close"), "{answered}");
    }
}

#[tokio::test]
async fn a_body_is_read_and_its_caller_known() {
    let server = server(Config::default()).await;
    let mut stream = server.connect().await;
    for size in [0, 1, 70_000, 1 << 20] {
        send(&mut stream, &post("/v1/readings", &format!("content-length: {size}"))).await;
        send(&mut stream, &"x".repeat(size)).await;
        assert!(answer(&mut stream).await.ends_with(&format!("tester sent {size}")));
    }
    let mut chunked = post("/v1/readings", "transfer-encoding: chunked");
    for _ in 0..50 {
        chunked.push_str(&format!("3e8\r\n{}\r\n", "x".repeat(1000)));
    }
    send(&mut stream, &(chunked + "0\r\n\r\n")).await;
    assert!(answer(&mut stream).await.ends_with("tester sent 50000"));
}

#[tokio::test]
async fn a_body_too_large_is_413_announced_or_not() {
    let server = server(Config::default()).await;
    let mut stream = server.connect().await;
    let size = (1 << 20) + 1;
    send(&mut stream, &post("/v1/readings", &format!("content-length: {size}"))).await;
    send(&mut stream, &"x".repeat(size)).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 413"));

    send(&mut stream, &post("/v1/readings", "transfer-encoding: chunked")).await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
    for _ in 0..32 {
        send(&mut stream, &chunk).await;
    }
    send(&mut stream, "0\r\n\r\n").await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn a_refused_body_is_drained_so_that_the_answer_can_be_read() {
    let server = server(Config::default()).await;
    let mut stream = server.connect().await;
    // Nothing is read before all is sent: without draining this ends in a reset. The connection stays usable.
    for path in ["/v1/readings", "/nothing", "/livez"] {
        let size = 4 << 20;
        send(&mut stream, &format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n")).await;
        send(&mut stream, &"x".repeat(size)).await;
        let answered = answer(&mut stream).await;
        assert!(["401", "404", "405"].iter().any(|status| answered.starts_with(&format!("HTTP/1.1 {status}"))), "{answered}");
        assert!(!answered.contains("connection: close"));
    }
}

#[tokio::test]
async fn draining_ends_and_then_the_connection_does_too() {
    let server = server(Config { drain_bytes: 100_000, drain_timeout: SHORT, ..Config::default() }).await;
    for sent in [10, 200_000] {
        let mut stream = server.connect().await;
        send(&mut stream, "POST /v1/readings HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n").await;
        send(&mut stream, &"x".repeat(sent)).await;
        let answered = to_end(&mut stream).await;
        // Beyond what is drained a reset may overtake the answer.
        assert!(sent > 100_000 || (answered.starts_with("HTTP/1.1 401") && answered.contains("connection: close")), "{answered}");
    }
}

#[tokio::test]
async fn who_awaits_100_continue_is_refused_at_once_or_told_to_go_on() {
    let server = server(Config::default()).await;
    let started = Instant::now();
    let mut stream = server.connect().await;
    send(&mut stream, "POST /v1/readings HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\nexpect: 100-continue\r\n\r\n").await;
    let answered = to_end(&mut stream).await;
    assert!(answered.starts_with("HTTP/1.1 401") && answered.contains("connection: close"), "{answered}");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());

    let mut stream = server.connect().await;
    send(&mut stream, &post("/v1/readings", "content-length: 5\r\nexpect: 100-continue")).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 100"));
    send(&mut stream, "12345").await;
    assert!(answer(&mut stream).await.ends_with("tester sent 5"));
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up() {
    struct Dropped(Arc<Notify>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let dropped = Arc::new(Notify::new());
    let told = Arc::clone(&dropped);
    let endless = move || async move {
        let held = Dropped(told);
        let piece = bytes::Bytes::from(vec![b'x'; 1 << 16]);
        let frames = std::iter::repeat_with(move || {
            let _held = &held;
            piece.clone()
        });
        Body::new(Endless(Box::new(frames)))
    };
    let router = Router::new().route("/ping", get(endless));
    let face = Face { role: "gateway", router, probes: vec![] };
    let server = Server::start(face, Config { write_timeout: SHORT, ..Config::default() }).await;
    let mut stream = server.connect().await;
    send(&mut stream, "GET /ping HTTP/1.1\r\nhost: x\r\n\r\n").await;
    timeout(DEADLINE, dropped.notified()).await.expect("the answer is given up");
    assert!(server.answers().await);
}

struct Endless(Box<dyn Iterator<Item = bytes::Bytes> + Send>);

impl http_body::Body for Endless {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        std::task::Poll::Ready(self.0.next().map(|piece| Ok(http_body::Frame::data(piece))))
    }
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_for_a_place() {
    let server = server(Config { max_connections: 2, ..Config::default() }).await;
    let mut held = [server.connect().await, server.connect().await];
    for stream in &mut held {
        send(stream, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(answer(stream).await.starts_with("HTTP/1.1 200"));
    }
    let mut waiting = server.connect().await;
    send(&mut waiting, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(timeout(SHORT, waiting.read_u8()).await.is_err(), "there is no place for it");
    drop(held);
    assert!(answer(&mut waiting).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn one_address_cannot_take_every_place() {
    let server = server(Config { max_connections_per_address: 1, ..Config::default() }).await;
    let mut held = server.connect().await;
    send(&mut held, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer(&mut held).await.starts_with("HTTP/1.1 200"));
    let mut more = server.connect().await;
    assert_eq!(to_end(&mut more).await, "");
}

#[tokio::test]
async fn a_stop_finishes_what_has_begun_and_takes_nothing_new() {
    let held = Arc::new(Held::default());
    let server = Server::start(busy_face(Arc::clone(&held)), Config::default()).await;
    let (mut busy, mut idle, mut half) = (server.connect().await, server.connect().await, server.connect().await);
    for stream in [&mut idle, &mut half] {
        send(stream, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
        answer(stream).await;
    }
    send(&mut half, "GET /livez HTTP/1.1\r\n").await;
    send(&mut busy, "POST /query HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
    timeout(DEADLINE, held.begun.notified()).await.unwrap();
    server.soft.cancel();
    assert_eq!(to_end(&mut idle).await, "");
    assert_eq!(to_end(&mut half).await, "");
    assert!(TcpStream::connect(server.address).await.is_err(), "nothing new is taken");
    held.release.notify_one();
    let answered = to_end(&mut busy).await;
    assert!(answered.starts_with("HTTP/1.1 200") && answered.ends_with("released"), "{answered}");
    server.stopped().await;
}

#[tokio::test]
async fn a_hard_stop_cuts_what_has_begun() {
    let held = Arc::new(Held::default());
    let server = Server::start(busy_face(Arc::clone(&held)), Config::default()).await;
    let mut busy = server.connect().await;
    send(&mut busy, "POST /query HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
    timeout(DEADLINE, held.begun.notified()).await.unwrap();
    server.soft.cancel();
    server.hard.cancel();
    assert_eq!(to_end(&mut busy).await, "");
    server.stopped().await;
}

#[tokio::test]
async fn http_2_without_tls_works_for_who_knows() {
    let server = server(Config::default()).await;
    let io = TokioIo::new(server.connect().await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let driving = tokio::spawn(connection);
    let bearer = format!("Bearer {}", token("write:readings"));
    for (path, expected) in [("/v1/readings", 200), ("/nothing", 404), ("/v1/stats", 404)] {
        let request = Request::post(format!("http://x{path}")).header("authorization", &bearer).body(Body::from(vec![1; 300_000])).unwrap();
        let response = timeout(DEADLINE, sender.send_request(request)).await.unwrap().unwrap();
        assert_eq!(response.status().as_u16(), expected, "{path}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(expected != 200 || body == "tester sent 300000");
    }
    server.soft.cancel();
    timeout(DEADLINE, driving).await.expect("the connection ends").unwrap().unwrap();
    server.stopped().await;
}
