//! Loads of writing: the agent's (`write`) and the slow million (`slow`).

use super::server::{Connection, Server};
use super::{baseline, numbers};
use anyhow::ensure;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Series of the agent's load.
pub(super) const SERIES: usize = 10_000;
/// 2026-01-01T00:00:00Z in milliseconds.
pub(super) const START_MS: u64 = 1_767_225_600_000;

/// What `bench write` is told.
pub(super) struct Load {
    readings: usize,
    pub(super) lines: usize,
    connections: usize,
    series: usize,
    /// Readings a second of the open loop; 0 = closed.
    rate: u64,
    json: bool,
}

impl Load {
    pub(super) fn parse(args: &[String]) -> anyhow::Result<Self> {
        let json = args.first().is_some_and(|arg| arg == "json");
        let args = if args.first().is_some_and(|arg| arg == "json" || arg == "line") { &args[1..] } else { args };
        let names = ["--readings", "--lines", "--connections", "--rate"];
        let [readings, lines, connections, rate] = numbers(args, names, [5_000_000, 5_000, 2, 0])?;
        Ok(Self { readings: readings as usize, lines: lines as usize, connections: connections as usize, series: SERIES, rate, json })
    }

    /// Line protocol in a closed loop.
    pub(super) const fn closed(readings: usize, lines: usize, connections: usize, series: usize) -> Self {
        Self { readings, lines, connections, series, rate: 0, json: false }
    }

    /// This load for so many seconds at so many readings a second, in an open loop.
    pub(super) const fn paced(self, rate: u64, seconds: u64) -> Self {
        Self { readings: (rate * seconds) as usize, rate, ..self }
    }

    /// Readings a second of the open loop.
    pub(super) const fn rate(&self) -> u64 {
        self.rate
    }

    const fn path(&self) -> &'static str {
        if self.json { "/v1/readings" } else { "/api/v2/write?bucket=bench&precision=ms" }
    }
}

/// A small generator (xorshift): the same load at every run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) const fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Each series walks in steps of a few hundredths.
pub(super) fn bodies(load: &Load) -> Vec<Vec<u8>> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut walk = vec![2_150i64; load.series];
    let mut n = 0usize;
    let mut body = |lines: usize| {
        let mut text = String::with_capacity(lines * 80);
        for i in 0..lines {
            let (series, round) = (n % load.series, (n / load.series) as u64);
            let ms = START_MS + round * 10_000 + random.below(101);
            walk[series] += random.below(11) as i64 - 5;
            let value = walk[series] as f64 / 100.0;
            // Writing to a string cannot fail.
            let _written = if load.json {
                let (open, close) = (if i == 0 { "[" } else { "," }, if i + 1 == lines { "]" } else { "" });
                write!(text, "{open}{{\"device\":\"dev-{series:05}\",\"metric\":\"temperature\",\"ts\":{ms},\"value\":{value}}}{close}")
            } else {
                writeln!(text, "temperature,device=dev-{series:05} value={value} {ms}")
            };
            n += 1;
        }
        text.into_bytes()
    };
    (0..load.readings / load.lines).map(|_| body(load.lines)).collect()
}

/// Sends every body and gives the moments of their acknowledgement. With a rate, body `n` is due at its place in time; when
/// the server is late, the next ones are not sent earlier but at once.
pub(super) fn send(server: &Server, load: &Load, bodies: &[Vec<u8>]) -> anyhow::Result<Vec<Instant>> {
    let acked = Mutex::new(Vec::with_capacity(bodies.len()));
    let started = Instant::now();
    std::thread::scope(|scope| {
        let sender = |n: usize| {
            let acked = &acked;
            move || -> anyhow::Result<()> {
                let mut connection = Connection::open(server)?;
                for (i, body) in bodies.iter().enumerate().skip(n).step_by(load.connections) {
                    if load.rate > 0 {
                        let due = started + Duration::from_secs_f64((i * load.lines) as f64 / load.rate as f64);
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    }
                    let (status, answer) = connection.request("POST", load.path(), body)?;
                    ensure!(status == 204 || status == 200, "a write was answered {status}: {answer}");
                    acked.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(Instant::now());
                }
                Ok(())
            }
        };
        let senders: Vec<_> = (0..load.connections).map(|n| scope.spawn(sender(n))).collect();
        senders.into_iter().try_for_each(|sender| sender.join().map_err(|_panic| anyhow::anyhow!("a sender panicked"))?)
    })?;
    Ok(acked.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// `bench write`.
pub(super) fn write(load: &Load) -> anyhow::Result<()> {
    let baseline = baseline::rows_per_second(1_000_000)?;
    let server = Server::start()?;
    let idle = server.resident()?;
    let bodies = bodies(load);
    let sent = bodies.len() * load.lines;
    let cpu = server.cpu()?;
    let started = Instant::now();
    let failed = AtomicBool::new(false);
    let fresh = std::thread::scope(|scope| {
        let watch = scope.spawn(|| watch(&server, bodies.len(), &failed));
        let acked = send(&server, load, &bodies).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
        let seen = watch.join().map_err(|_panic| anyhow::anyhow!("the watcher panicked"))??;
        Ok::<_, anyhow::Error>((acked, seen))
    })?;
    let acked = fresh.0.iter().max().map_or(Duration::ZERO, |last| *last - started);
    server.wait_until_applied()?;
    let queryable = started.elapsed();
    let cpu_applied = server.cpu()? - cpu;
    let open = server.count("unsealed")?;
    server.ask("POST", "/v1/seal")?;
    let sealed = started.elapsed();
    let cpu_sealed = server.cpu()? - cpu;
    ensure!(server.count("received")? == sent as u64, "the server counted {} of {sent} readings", server.count("received")?);
    let per_second = |took: Duration| sent as f64 / took.as_secs_f64();
    let micros = |took: Duration| took.as_secs_f64() * 1e6 / sent as f64;
    let bytes = |name: &str| Ok::<_, anyhow::Error>(server.bytes(name)? as f64 / sent as f64);
    let (format, loop_) = (if load.json { "JSON" } else { "line protocol" }, if load.rate > 0 { "open" } else { "closed" });
    println!(
        "{format}, {SERIES} series, {} lines a request, {} connections, {loop_} loop, durability fsync, {sent} readings",
        load.lines, load.connections
    );
    println!("  baseline, a row a reading   {baseline:>10.0} rows/s");
    println!("  until acknowledged          {:>10.0} readings/s", per_second(acked));
    println!(
        "  until queryable             {:>10.0} readings/s  ({:.1} x the baseline)",
        per_second(queryable),
        per_second(queryable) / baseline
    );
    println!(
        "  until all is sealed         {:>10.0} readings/s  ({:.1} x the baseline; {open} were open before)",
        per_second(sealed),
        per_second(sealed) / baseline
    );
    println!("  CPU until queryable, sealed {:>10.2} and {:.2} µs a reading", micros(cpu_applied), micros(cpu_sealed));
    let in_use = server.bytes_in_use("store.db")? as f64 / sent as f64;
    println!(
        "  log, store (with WALs)      {:>10.1} and {:.1} bytes a reading; {in_use:.2} in use, sealed",
        bytes("log.db")?,
        bytes("store.db")?
    );
    print_freshness(&fresh.0, &fresh.1);
    println!(
        "  resident idle, at the end   {:>10.0} and {:.0} MB; ready after {:.2} s",
        idle as f64 / 1e6,
        server.resident()? as f64 / 1e6,
        server.ready().as_secs_f64()
    );
    Ok(())
}

/// Looks at `/v1/status` all the time until everything is applied or sending has failed: (when, positions' records applied so far).
fn watch(server: &Server, records: usize, failed: &AtomicBool) -> anyhow::Result<Vec<(Instant, u64)>> {
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(600);
    loop {
        let status = server.status()?;
        let next = status["positions"][0]["next"].as_u64().unwrap_or(0);
        seen.push((Instant::now(), next));
        if failed.load(Ordering::Relaxed) || (status["in_flight"] == 0 && next >= records as u64) {
            return Ok(seen);
        }
        ensure!(Instant::now() < deadline, "waited 600 s for everything to be applied");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// From the n-th acknowledgement to the first look that found so many records applied (a request of up to 4,096 lines is one
/// record, of 5,000 two: then the look counts twice as many).
fn print_freshness(acked: &[Instant], seen: &[(Instant, u64)]) {
    let mut acked = acked.to_vec();
    acked.sort_unstable();
    let records = seen.last().map_or(0, |(_, next)| *next);
    let each = records as f64 / acked.len().max(1) as f64;
    let mut waits: Vec<Duration> = acked
        .iter()
        .enumerate()
        .filter_map(|(i, at)| {
            let needed = ((i + 1) as f64 * each).floor() as u64;
            seen.iter().find(|(when, next)| *next >= needed && when >= at).map(|(when, _)| *when - *at)
        })
        .collect();
    waits.sort_unstable();
    let rank =
        |p: f64| waits.get(((waits.len() as f64 * p) as usize).min(waits.len().saturating_sub(1))).map_or(0.0, Duration::as_secs_f64);
    println!("  ack to queryable            {:>10.2} s p50, {:.2} s p99 (seen every 20 ms)", rank(0.5), rank(0.99));
}

/// `bench slow`: a million series, one reading each a round, as every 15 minutes would bring them; store bytes written per reading.
pub(super) fn slow(args: &[String]) -> anyhow::Result<()> {
    let [series, rounds, lines] = numbers(args, ["--series", "--rounds", "--lines"], [1_000_000, 16, 5_000])?;
    let server = Server::start()?;
    let (written, cpu) = (server.written()?, server.cpu()?);
    let started = Instant::now();
    let mut random = Random(7);
    let mut connection = Connection::open(&server)?;
    for round in 0..rounds {
        for from in (0..series).step_by(lines as usize) {
            let mut text = String::new();
            for n in from..(from + lines).min(series) {
                let ms = START_MS + round * 900_000 + n * 900 / 1000 + random.below(101);
                let _written = writeln!(text, "temperature,device=dev-{n:07} value={} {ms}", (2_000 + random.below(500)) as f64 / 100.0);
            }
            let (status, answer) = connection.request("POST", "/api/v2/write?bucket=bench&precision=ms", text.as_bytes())?;
            ensure!(status == 204, "a write was answered {status}: {answer}");
        }
    }
    server.wait_until_applied()?;
    let applied = started.elapsed();
    let open = server.count("unsealed")?;
    server.ask("POST", "/v1/seal")?;
    let sent = (series * rounds) as f64;
    let cpu = (server.cpu()? - cpu).as_secs_f64() * 1e6 / sent;
    println!("{series} slow series, {rounds} readings each, {lines} lines a request, durability fsync");
    println!(
        "  until queryable, sealed     {:>10.0} and {:.0} readings/s ({open} were open)",
        sent / applied.as_secs_f64(),
        sent / started.elapsed().as_secs_f64()
    );
    println!("  CPU until sealed            {cpu:>10.2} µs a reading");
    println!(
        "  written by the server       {:>10.0} bytes a reading (log and store, WAL and checkpoints)",
        (server.written()? - written) as f64 / sent
    );
    println!(
        "  log, store (with WALs)      {:>10.1} and {:.1} bytes a reading",
        server.bytes("log.db")? as f64 / sent,
        server.bytes("store.db")? as f64 / sent
    );
    println!("  resident at the end         {:>10.0} MB", server.resident()? as f64 / 1e6);
    Ok(())
}
