//! Clients that want more than there is: connections, memory, series, work. The server stays within its budgets (measured), says
//! no in words, and goes on for everybody else.
//!
//! The million of distinct series is run by `HEADWATER_SERIES=1000000 cargo test … exhaustion::distinct`; without it, fewer.

use crate::client::{Ask, target};
use crate::crash::given;
use crate::main_job::counts;
use crate::oracle::{MONDAY, Reading, as_json, gzip, rfc3339, zstd};
use crate::stack::{Builder, SOON, Stack, wait_for};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// For what is long work on a busy machine.
const LONG: Duration = Duration::from_secs(120);
/// The two budgets of 256 MiB, and what a server has besides: code, pages of SQLite, buffers of connections, the allocator's slack.
const ONE_BUDGET: u64 = (256 + 144) * MIB;

/// A figure of `/proc/…/status` in bytes: `VmRSS`, or `VmHWM` for the most there ever was.
fn memory(stack: &Stack, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", stack.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn told(stack: &Stack, what: &str) -> u64 {
    let most = memory(stack, "VmHWM");
    println!("{what}: at most {} MiB resident", most / MIB);
    most
}

/// Sockets of clients at an address of the loopback network.
fn connect_from(last: u8, to: SocketAddr) -> std::io::Result<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0)))?;
        socket.connect(to).await
    })?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn address(stack: &Stack) -> SocketAddr {
    stack.base.trim_start_matches("http://").parse().unwrap()
}

#[test]
fn a_flood_of_connections_from_many_addresses_costs_little_and_passes() {
    const MOST: usize = 1_000;
    let stack = Builder::default()
        .env("HEADWATER_HTTP__MAX_CONNECTIONS", &MOST.to_string())
        .env("HEADWATER_HTTP__MAX_CONNECTIONS_PER_ADDRESS", "300")
        .env("HEADWATER_HTTP__HEADER_TIMEOUT", "3s")
        .start();
    let before = memory(&stack, "VmRSS");
    // Half of them say nothing, half have begun a head.
    let flood: Vec<TcpStream> = (0..1_500_u32)
        .filter_map(|n| {
            let mut stream = connect_from(2 + (n % 5) as u8, address(&stack)).ok()?;
            drop((n % 2 == 0).then(|| stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nX: ")));
            Some(stream)
        })
        .collect();
    let each = memory(&stack, "VmRSS").saturating_sub(before) / MOST as u64;
    println!("{} connections, {MOST} of them taken: {} KiB each", flood.len(), each / 1024);
    assert!(each < 100 * 1024, "{each} bytes for each connection");
    // They are cut by the time for a head, and whoever is honest gets in.
    let honest = stack.client().without_keep_alive();
    wait_for("the flood to pass", SOON, || honest.is_ready().then_some(()));
    drop(flood);
    stack.send(&as_json(&[Reading::new("a", "m", MONDAY, 1.0)]));
    assert!(told(&stack, "1,500 connections") < 250 * MIB);
}

#[test]
fn bombs_beside_each_other_stay_within_the_budget() {
    let stack = Stack::embedded();
    // Under the limit, so that each is unpacked to its end and looked through; together more than there is memory for.
    let plain = [&b"["[..], &vec![b' '; 56 * MIB as usize], b"]"].concat();
    let bombs = [("gzip", gzip(&plain)), ("zstd", zstd(&plain))];
    drop(plain);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let bombing: Vec<_> = (0..5)
            .map(|n| {
                let (coding, bomb) = &bombs[n % 2];
                let ask = Ask::post("/v1/readings", "application/json", bomb.clone()).header("Content-Encoding", coding);
                let client = stack.client().patient();
                scope.spawn(move || {
                    let answer = client.ask(&ask);
                    assert!(answer.status == 200 || (answer.status == 503 && answer.header("retry-after").is_some()), "{answer:?}");
                })
            })
            .collect();
        // Small requests of others go on: they wait for memory in line, and get it.
        let honest = scope.spawn(|| {
            let client = stack.client().patient();
            let mut sent = 0;
            while !done.load(Ordering::SeqCst) {
                let reading = as_json(&[Reading::new("a", "m", MONDAY + sent, 1.0)]).to_string();
                let answer = client.post("/v1/readings", "application/json", reading);
                assert!([200, 503].contains(&answer.status), "{answer:?}");
                sent += 1;
            }
            sent
        });
        bombing.into_iter().for_each(|bomb| bomb.join().unwrap());
        done.store(true, Ordering::SeqCst);
        println!("{} small requests were answered beside five bombs", honest.join().unwrap());
    });
    assert!(told(&stack, "5 bodies of 56 MiB each, compressed") < ONE_BUDGET);
    stack.settled();
    assert_eq!(counts(&stack.status())["dead"], 0);
}

/// Series whose names alone make 7.5 kB each of an answer.
fn with_long_names(stack: &Stack, n_series: usize) {
    let tags: Vec<(String, String)> = (0..30).map(|n| (format!("t{n}"), "x".repeat(250))).collect();
    for from in (0..n_series).step_by(200) {
        let readings: Vec<_> = (from..from + 200)
            .map(|n| tags.iter().fold(Reading::new(&format!("d{n:05}"), "m", MONDAY, n as f64), |reading, (k, v)| reading.tag(k, v)))
            .collect();
        stack.send(&as_json(&readings));
    }
    stack.settled();
}

#[test]
fn answers_that_nobody_reads_hold_the_budget_for_a_moment_and_no_longer() {
    let server = Builder::default().env("HEADWATER_HTTP__WRITE_TIMEOUT", "2s").env("HEADWATER_API__MEMORY_WAIT", "100ms");
    let stack = server.env("HEADWATER_API__QUERY_DEADLINE", "5m").start();
    with_long_names(&stack, 2_000);
    let (client, list) = (stack.client().patient(), target("/v1/latest", &[("limit", "100000")]));
    assert!(client.get(&list).ok().body.len() > 14_000_000);
    let head = format!("GET {list} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", stack.token);
    let unread: Vec<TcpStream> = (0..12)
        .map(|_| {
            let mut stream = TcpStream::connect(address(&stack)).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    // At some time there is no memory for another; that is said, with when to come back.
    let busy = wait_for("the budget of answers to be used up", LONG, || Some(client.get(&list)).filter(|answer| answer.status != 200));
    let busy = busy.expect(503);
    assert_eq!((busy.problem()["code"].as_str(), busy.header("retry-after")), (Some("busy"), Some("1")));
    // What needs little memory of its own goes on, writes above all.
    stack.send(&as_json(&[Reading::new("a", "m", MONDAY, 1.0)]));
    // Then they are cut, and what they held is there for others.
    wait_for("answers to be given up", LONG, || (client.get(&list).status == 200).then_some(()));
    // Who reads at last has all of an answer, or sees that it is cut.
    let cut = unread.into_iter().filter(|stream| !is_whole(stream)).count();
    println!("{cut} of 12 answers were cut because nobody read them");
    assert!(cut > 0);
    assert!(told(&stack, "12 unread answers of 15 MB") < ONE_BUDGET);
}

/// Whether what the server has sent is all that its head promises.
fn is_whole(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut bytes = Vec::new();
    drop(stream.read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let promised = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    promised.is_some_and(|promised: usize| body.len() >= promised)
}

#[test]
fn many_dear_questions_at_once_are_answered_or_put_off_and_never_too_much() {
    let stack = Builder::default().env("HEADWATER_API__MEMORY_WAIT", "100ms").env("HEADWATER_API__QUERY_DEADLINE", "5m").start();
    with_long_names(&stack, 600);
    let (from, to) = (rfc3339(MONDAY - 5 * 365 * crate::oracle::DAY), rfc3339(MONDAY + 5 * 365 * crate::oracle::DAY));
    let range = [("from", from.as_str()), ("to", to.as_str()), ("step", "1s"), ("limit", "100000")];
    // Ten years by the second are as dear as what is stored in them; every bucket of them is too much, whoever asks.
    let filled = target("/v1/stats", &[&range[..], &[("fill", "null")]].concat());
    let started = Instant::now();
    let problem = stack.get(&filled).expect(422).problem();
    assert_eq!((&problem["code"], &problem["limit"]), (&json!("query_too_expensive"), &json!("max_rows")), "{problem}");
    let one = target("/v1/stats", &[&range[..], &[("device", "d00007")]].concat());
    assert_eq!(stack.get(&one).ok().json()["rows"].as_array().unwrap().len(), 1);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let dear = target("/v1/stats", &[&range[..], &[("stats", "count,avg,stddev,p50,p99")]].concat());
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|_| {
                let client = stack.client().patient();
                let dear = &dear;
                scope.spawn(move || client.get(dear))
            })
            .collect();
        let answers: Vec<_> = asking.into_iter().map(|asked| asked.join().unwrap()).collect();
        for answer in &answers {
            let put_off = answer.status == 503 && answer.header("retry-after").is_some();
            assert!(answer.status == 200 || put_off, "{} {}", answer.status, answer.text());
        }
        let answered = answers.iter().filter(|answer| answer.status == 200).count();
        println!("of 8 dear questions at once {answered} were answered, the rest put off");
        assert!(answered > 0);
    });
    assert!(told(&stack, "8 dear questions at once") < ONE_BUDGET);
    stack.get(&one).ok();
}

#[test]
fn distinct_series_beyond_the_limit_are_dead_letters_and_memory_stays() {
    let n_series = given("HEADWATER_SERIES").unwrap_or(30_000);
    let limit = n_series / 2;
    let stack = Builder::default().env("HEADWATER_INGEST__SERIES_TOTAL", &limit.to_string()).start();
    let before = memory(&stack, "VmRSS");
    let started = Instant::now();
    for from in (0..n_series).step_by(5_000) {
        let lines: String =
            (from..n_series.min(from + 5_000)).map(|n| format!("m,device=d{n:07} value=1 {}\n", MONDAY + n as i64)).collect();
        let sent = wait_for("the lines to be taken", SOON, || Some(stack.send_line(&lines)).filter(|answer| answer.status != 503));
        assert_eq!(sent.status, 204, "{}", sent.text());
    }
    wait_for("nothing in flight", Duration::from_secs(600), || (stack.status()["in_flight"] == 0).then_some(()));
    let counted = counts(&stack.status());
    assert_eq!((counted["received"], counted["dead"]), (n_series, n_series - limit));
    let first = stack.get(&target("/v1/dead-letters", &[("reason", "series_limit"), ("limit", "1")])).ok().json();
    assert_eq!(first["rows"].as_array().unwrap().len(), 1, "{first}");
    let grown = memory(&stack, "VmHWM").saturating_sub(before);
    println!("{n_series} distinct series, {limit} allowed: {} MiB more than before, {:?}", grown / MIB, started.elapsed());
    // A known series is its text and some 100 bytes; a refused one is only on its way.
    assert!(grown < 150 * MIB + 600 * limit, "{grown} bytes");
    stack.send(&as_json(&[Reading::new("d0000001", "m", MONDAY, 1.0)]));
}
