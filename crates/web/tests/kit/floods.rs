//! HTTP/2 as an attacker speaks it: frames that cost their sender nothing. The connection is ended or held back, and nobody
//! else notices.

use crate::support::{DEADLINE, Server, busy_face, token};
use headwater_web::Config;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SHORT: Duration = Duration::from_millis(400);

// Types of frames, and flags.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a server says when it has had enough.
const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header as a literal that is not kept: both texts shorter than 127 bytes.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

fn request(method: &str, path: &str) -> Vec<u8> {
    [literal(":method", method), literal(":path", path), literal(":scheme", "http"), literal(":authority", "x")].concat()
}

/// A connection that has shaken hands and takes whatever comes as it comes.
async fn begun(server: &Server, settings: &[u8]) -> TcpStream {
    let mut stream = server.connect().await;
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await.unwrap();
    stream
}

/// Sends `bytes` again and again until the server closes, reading (or not) what it says: the code of its last GOAWAY, and how
/// much was sent.
async fn flooded(stream: TcpStream, bytes: Vec<u8>, reads: bool) -> (Option<u32>, usize) {
    let (mut read, mut write) = stream.into_split();
    let mut sent = 0;
    let sending = async {
        while write.write_all(&bytes).await.is_ok() {
            sent += bytes.len();
        }
    };
    let mut said = Vec::new();
    let reading = async {
        if reads {
            drop(read.read_to_end(&mut said).await);
        }
    };
    timeout(DEADLINE * 2, async { tokio::join!(sending, reading) }).await.expect("the server ends the connection");
    (goaway(&said), sent)
}

/// The code of the last GOAWAY among the frames.
fn goaway(mut frames: &[u8]) -> Option<u32> {
    let mut code = None;
    while let [a, b, c, kind, rest @ ..] = frames {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let payload = rest.get(5..5 + length)?;
        if *kind == GOAWAY {
            code = Some(u32::from_be_bytes(payload.get(4..8)?.try_into().ok()?));
        }
        frames = &rest[5 + length..];
    }
    code
}

async fn server(config: Config) -> Server {
    Server::start(busy_face(Arc::default()), config).await
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_at_once_end_the_connection() {
    let server = server(Config::default()).await;
    let stream = begun(&server, &[]).await;
    let (mut read, mut write) = stream.into_split();
    let sending = async {
        // As many as there can be numbers for, unless somebody says stop.
        for first in (1..1 << 20).step_by(400) {
            let mut burst = Vec::new();
            for stream in (first..first + 400).step_by(2) {
                burst.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &request("GET", "/livez")));
                burst.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
            }
            if write.write_all(&burst).await.is_err() {
                return first;
            }
        }
        1 << 20
    };
    let mut said = Vec::new();
    let reading = async { drop(read.read_to_end(&mut said).await) };
    let (sent, ()) = timeout(DEADLINE, async { tokio::join!(sending, reading) }).await.expect("the server ends the connection");
    assert_eq!(goaway(&said), Some(ENHANCE_YOUR_CALM));
    assert!(sent < 200_000, "{sent} streams");
    assert!(server.answers().await);
}

#[tokio::test]
async fn a_head_that_goes_on_in_ever_more_frames_ends_the_connection() {
    let server = server(Config::default()).await;
    for piece in [vec![], literal("a", "b")] {
        let mut stream = begun(&server, &[]).await;
        stream.write_all(&frame(HEADERS, END_STREAM, 1, &request("GET", "/livez"))).await.unwrap();
        let (code, sent) = flooded(stream, frame(CONTINUATION, 0, 1, &piece).repeat(100), true).await;
        assert!(code.is_some_and(|code| code != 0), "{code:?}");
        assert!(sent < 16 << 20, "{sent} bytes were taken");
    }
    assert!(server.answers().await);
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_431_or_no_request() {
    let server = server(Config::default()).await;
    let mut stream = begun(&server, &[]).await;
    let block = [request("GET", "/livez"), literal("name", &"x".repeat(120)).repeat(400)].concat();
    let mut pieces = block.chunks(16_000).peekable();
    stream.write_all(&frame(HEADERS, END_STREAM, 1, pieces.next().unwrap())).await.unwrap();
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        drop(stream.write_all(&frame(CONTINUATION, flags, 1, piece)).await);
    }
    // Then a ping whose answer comes after everything else.
    drop(stream.write_all(&frame(PING, 0, 0, b"lastping")).await);
    let mut said = Vec::new();
    let reading = async {
        let mut piece = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut piece).await {
            said.extend_from_slice(&piece[..n]);
            if said.windows(8).any(|bytes| bytes == b"lastping") {
                break;
            }
        }
    };
    timeout(DEADLINE, reading).await.expect("the server answers or ends the connection");
    assert!(!String::from_utf8_lossy(&said).contains("ok\n"), "it was answered as if nothing were wrong");
    assert!(server.answers().await);
}

#[tokio::test]
async fn frames_that_want_an_answer_are_not_taken_from_who_reads_none() {
    // Every one of these is answered, and the answers are not read: what is not sent is not to pile up here.
    let ping = frame(PING, 0, 0, b"12345678").repeat(1_000);
    let settings = frame(SETTINGS, 0, 0, &[]).repeat(1_000);
    for flood in [ping, settings] {
        let server = server(Config { write_timeout: SHORT, header_timeout: SHORT * 10, ..Config::default() }).await;
        let started = Instant::now();
        let stream = begun(&server, &[]).await;
        let (_, sent) = flooded(stream, flood, false).await;
        assert!(sent < 64 << 20, "{sent} bytes were taken in {:?}", started.elapsed());
        assert!(server.answers().await);
    }
}

#[tokio::test]
async fn frames_that_mean_nothing_do_not_keep_a_connection() {
    let priority = [&1u32.to_be_bytes()[..], &[16]].concat();
    let floods = [
        frame(PING, 0, 0, b"12345678").repeat(100),
        frame(SETTINGS, 0, 0, &[]).repeat(100),
        frame(PRIORITY, 0, 3, &priority).repeat(100),
        frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()).repeat(1),
        frame(0x42, 0, 0, &[0; 100]).repeat(100),
    ];
    for flood in floods {
        // There never is a request: the time for its head goes on.
        let server = server(Config { header_timeout: SHORT, ..Config::default() }).await;
        let stream = begun(&server, &[]).await;
        let kind = flood[3];
        let started = Instant::now();
        flooded(stream, flood, true).await;
        assert!(started.elapsed() < SHORT * 10, "frames of type {kind} kept it for {:?}", started.elapsed());
        assert!(server.answers().await);
    }
}

#[tokio::test]
async fn empty_pieces_of_a_body_end_the_connection_or_the_body() {
    let server = server(Config { body_idle_timeout: SHORT, idle_timeout: SHORT, ..Config::default() }).await;
    let stream = begun(&server, &[]).await;
    let (mut read, mut write) = stream.into_split();
    let bearer = format!("Bearer {}", token("write:readings"));
    // A literal longer than 126 bytes: the rest of its length follows, 7 bits at a time.
    let rest = bearer.len() - 127;
    let more = [(rest & 127) as u8 | 128, (rest >> 7) as u8];
    let authorization = [&[0, 13][..], b"authorization", &[127], &more, bearer.as_bytes()].concat();
    let head = [request("POST", "/v1/readings"), authorization].concat();
    write.write_all(&frame(HEADERS, END_HEADERS, 1, &head)).await.unwrap();
    let empty = frame(DATA, 0, 1, &[]).repeat(100);
    let sending = async { while write.write_all(&empty).await.is_ok() {} };
    let reading = async { drop(read.read_to_end(&mut Vec::new()).await) };
    timeout(DEADLINE, async { tokio::join!(sending, reading) }).await.expect("the server ends the connection");
    assert!(server.answers().await);
}

#[tokio::test]
async fn more_streams_than_are_allowed_are_refused_and_those_before_go_on() {
    let server = server(Config { max_concurrent_streams: 4, ..Config::default() }).await;
    let mut stream = begun(&server, &[]).await;
    for number in (1..40).step_by(2) {
        // `POST /query` waits to be released, which nobody does.
        stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, number, &request("POST", "/query"))).await.unwrap();
    }
    let mut refused = 0;
    let counting = async {
        while refused < 16 {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            stream.read_exact(&mut payload).await.unwrap();
            // REFUSED_STREAM.
            refused += usize::from(head[3] == RST_STREAM && payload == 7u32.to_be_bytes());
        }
    };
    timeout(DEADLINE, counting).await.expect("the streams beyond the limit are refused");
    assert!(server.answers().await);
}
