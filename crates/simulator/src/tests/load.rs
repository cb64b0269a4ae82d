//! The open loop against servers that stall, refuse and vanish.

use super::{START, fleet};
use crate::encode::Format;
use crate::faults::{Fault, Faults};
use crate::fleet::Fleet;
use crate::http::{Answer, Target};
use crate::journal::{Journal, Outcome};
use crate::load::{Config, Deps, Verdict, run, verdict};
use crate::report::{Progress, Report};
use bytes::Bytes;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// What a server does with its nth request: `None` closes the connection.
type Behaviour = Arc<dyn Fn(usize) -> Option<(Duration, &'static str)> + Send + Sync>;
/// What it was sent, in order.
type Bodies = Arc<Mutex<Vec<Vec<u8>>>>;

const TAKEN: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n";

async fn server(behaviour: Behaviour) -> (Target, Bodies) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let bodies = Bodies::default();
    let seen = Arc::clone(&bodies);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&behaviour), Arc::clone(&seen)));
        }
    });
    (target, bodies)
}

async fn serve(mut stream: TcpStream, behaviour: Behaviour, seen: Bodies) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 65_536];
    loop {
        while let Some((body, rest)) = request(&bytes) {
            bytes = rest;
            let n = {
                let mut seen = seen.lock().unwrap();
                seen.push(body);
                seen.len() - 1
            };
            let Some((wait, answer)) = behaviour(n) else { return };
            sleep(wait).await;
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
        match stream.read(&mut buffer).await {
            Ok(n) if n > 0 => bytes.extend_from_slice(&buffer[..n]),
            _ => return,
        }
    }
}

/// The body of a request that is there as a whole, and what follows it.
fn request(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap();
    let body = bytes.get(end..end + length)?;
    Some((body.to_vec(), bytes[end + length..].to_vec()))
}

fn config(fleet: Fleet) -> Config {
    Config { format: Format::Line, batch: 2, duration: Some(Duration::from_secs(1)), ..Config::new(fleet) }
}

async fn sent(config: Config, target: Target) -> anyhow::Result<Report> {
    let deps = Deps { target, bearer: Arc::new(|| Ok("Bearer x".to_owned())), progress: Arc::new(Progress::default()) };
    run(config, deps, CancellationToken::new()).await
}

#[tokio::test]
async fn everything_that_is_due_is_sent_and_counted() {
    let (target, bodies) = server(Arc::new(|_| Some((Duration::ZERO, TAKEN)))).await;
    let report = sent(config(fleet(20, 200_000)), target).await.unwrap();
    // Twenty devices, each five times a second; those of the last round are due or not by their phase.
    assert!((80..=100).contains(&report.counts.requests), "{report}");
    assert_eq!((report.counts.acked, report.counts.acked_requests), (2 * report.counts.requests, report.counts.requests));
    assert_eq!(bodies.lock().unwrap().len() as u64, report.counts.requests);
    assert!(report.is_clean() && report.unresolved() == 0 && report.latency.count() == report.counts.requests);
}

#[tokio::test]
async fn latency_counts_the_waiting_behind_a_server_that_stalls() {
    // Only the 20th request is slow; with one request at a time those after it wait, and a closed loop would not count that.
    let stall = Duration::from_millis(500);
    let (target, _) = server(Arc::new(move |n| Some((if n == 20 { stall } else { Duration::ZERO }, TAKEN)))).await;
    let report = sent(Config { in_flight: 1, ..config(fleet(20, 200_000)) }, target).await.unwrap();
    assert!(report.latency.percentile(990) >= Duration::from_millis(450), "{report}");
    // Half a second of a second is a good part of all requests, of which on average each waits half of it.
    assert!(report.latency.percentile(800) >= Duration::from_millis(100), "{report}");
}

#[tokio::test]
async fn a_request_that_was_refused_for_now_is_sent_again_with_the_same_bytes() {
    let (target, bodies) = server(Arc::new(|n| match n {
        3 | 4 => Some((Duration::ZERO, BUSY)),
        5 => None,
        _ => Some((Duration::ZERO, TAKEN)),
    }))
    .await;
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let config = Config { in_flight: 1, journal: Some(journal.clone()), ..config(fleet(4, 200_000)) };
    let report = sent(config, target).await.unwrap();
    let bodies = bodies.lock().unwrap();
    assert!(bodies[3] == bodies[4] && bodies[4] == bodies[5] && bodies[5] == bodies[6], "the fourth is sent four times");
    assert_eq!(bodies.len() as u64, report.counts.requests + 3);
    assert_eq!((report.counts.unknown, report.counts.lost), (3, 0));
    let account = Journal::read(&journal).unwrap();
    let of = |n: usize| account.requests[n].outcomes.as_slice();
    assert_eq!(of(3), [Outcome::Unknown, Outcome::Unknown, Outcome::Unknown, Outcome::Ack]);
    assert_eq!(of(4), [Outcome::Ack]);
}

#[tokio::test]
async fn an_answer_that_is_lost_on_purpose_brings_the_same_request_again() {
    let (target, bodies) = server(Arc::new(|_| Some((Duration::ZERO, TAKEN)))).await;
    let config = Config { faults: Faults::NONE.with(Fault::Retries, 1.0), in_flight: 1, ..config(fleet(20, 200_000)) };
    let report = sent(config, target).await.unwrap();
    assert_eq!(report.counts.lost, report.counts.requests);
    let bodies = bodies.lock().unwrap();
    // One that was cut may not have come the first time.
    assert!(bodies.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64 > report.counts.requests / 3, "{report}");
    assert_eq!(report.counts.acked_requests, report.counts.requests);
}

#[tokio::test]
async fn a_server_that_will_never_take_it_ends_the_run_in_its_words() {
    let (target, _) = server(Arc::new(|_| Some((Duration::ZERO, "HTTP/1.1 403 F\r\ncontent-length: 2\r\n\r\nno")))).await;
    let why = sent(config(fleet(20, 200_000)), target).await.unwrap_err().to_string();
    assert_eq!(why, "the server answered 403: no");
}

#[tokio::test]
async fn a_server_that_is_gone_leaves_requests_without_an_answer() {
    let (target, _) = server(Arc::new(|_| None)).await;
    let config = Config { patience: Duration::from_millis(100), in_flight: 3, ..config(fleet(20, 20_000)) };
    let stop = CancellationToken::new();
    let deps = Deps { target, bearer: Arc::new(|| Ok(String::from("x"))), progress: Arc::default() };
    let running = tokio::spawn(run(config, deps.clone(), stop.clone()));
    while deps.progress.counts().unknown < 3 {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    let report = running.await.unwrap().unwrap();
    assert_eq!((report.unresolved(), report.counts.acked), (3, 0));
}

#[test]
fn answers_mean_what_the_contract_says() {
    let answer = |status: u16, body: &'static str| Answer { status, retry_after: Some(7), body: Bytes::from_static(body.as_bytes()) };
    let told = r#"{"received":5,"accepted":3,"skipped":0,"rejected":2,"errors":[]}"#;
    let partial = r#"{"code":"invalid","message":"partial write: accepted 3, rejected 2: line 4: \"x\""}"#;
    let (json, line) = (Format::Json, Format::Line);
    assert_eq!(verdict(json, &answer(200, told), 3, 2), Verdict::Taken(3, 2));
    assert_eq!(verdict(json, &answer(422, told), 3, 2), Verdict::Taken(3, 2));
    assert_eq!(verdict(line, &answer(204, ""), 5, 0), Verdict::Taken(5, 0));
    assert_eq!(verdict(line, &answer(204, ""), 3, 2), Verdict::Taken(5, 0));
    for status in [400, 422] {
        assert_eq!(verdict(line, &answer(status, partial), 3, 2), Verdict::Taken(3, 2));
    }
    for status in [429, 500, 502, 503] {
        assert_eq!(verdict(json, &answer(status, ""), 1, 0), Verdict::Again(Duration::from_secs(7)));
    }
    for (format, status) in [(json, 400), (json, 413), (line, 400), (json, 200)] {
        assert!(matches!(verdict(format, &answer(status, "{}"), 1, 0), Verdict::Refused(_)), "{status}");
    }
    for status in [301, 401, 403, 404, 415] {
        assert!(matches!(verdict(json, &answer(status, ""), 1, 0), Verdict::Never(_)), "{status}");
    }
}

#[test]
fn a_configuration_that_cannot_be_is_refused_in_words() {
    let base = config(fleet(1, 1_000));
    assert!(base.validate().is_ok());
    assert!(Config { batch: 0, ..base.clone() }.validate().unwrap_err().contains("1 to 20000"));
    assert!(Config { fleet: Fleet { interval: 1, start: START, ..base.fleet }, ..base }.validate().is_err());
}
