//! `cargo xtask bench`: a first look at speed, end to end over HTTP until queryable.
//!
//! Owns: the load, the measuring of a server as a whole process (CPU from /proc, bytes from the data directory).
//! Does not know: the crates; it starts the release binary as a user would, with its default durability (fsync).
//!
//! The load is what an agent sends: line protocol, 10,000 series, one reading of each per round (consecutive lines are
//! different series), two decimals, times with jitter; a closed loop over a few keep-alive connections. It says how much the
//! machine does, not how it behaves at a given rate.

use anyhow::{Context, ensure};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SERIES: usize = 10_000;
/// 2026-01-01T00:00:00Z in milliseconds.
const START_MS: u64 = 1_767_225_600_000;

struct Options {
    readings: usize,
    lines: usize,
    connections: usize,
}

/// The task.
pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let mut options = Options { readings: 5_000_000, lines: 5_000, connections: 2 };
    for pair in args.chunks(2) {
        let [name, value] = pair else { anyhow::bail!("{} needs a value", pair[0]) };
        let value: usize = value.parse().with_context(|| format!("{name} {value}"))?;
        match name.as_str() {
            "--readings" => options.readings = value,
            "--lines" => options.lines = value,
            "--connections" => options.connections = value,
            _ => anyhow::bail!("unknown option {name}; there are --readings, --lines, --connections"),
        }
    }
    crate::run("cargo", &["build", "--release", "--locked", "--bin", "headwater"])?;
    let server = Server::start()?;
    let bodies = Arc::new(bodies(&options));
    let sent = options.readings / options.lines * options.lines;
    let cpu = server.cpu()?;
    let started = Instant::now();
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..options.connections)
            .map(|n| {
                let bodies = Arc::clone(&bodies);
                let server = &server;
                scope.spawn(move || send(server, bodies.iter().skip(n).step_by(options.connections)))
            })
            .collect();
        senders.into_iter().try_for_each(|sender| sender.join().map_err(|_panic| anyhow::anyhow!("a sender panicked"))?)
    })?;
    let acked = started.elapsed();
    server.wait_until_applied()?;
    let queryable = started.elapsed();
    let cpu = server.cpu()? - cpu;
    let (log, store) = (server.bytes("log.db")?, server.bytes("store.db")?);
    ensure!(server.received()? == sent as u64, "the server counted {} of {sent} readings", server.received()?);
    let per_reading = |n: u64| n as f64 / sent as f64;
    println!(
        "line protocol, {SERIES} series, {} lines a request, {} connections, durability fsync, {sent} readings",
        options.lines, options.connections
    );
    println!("  until acknowledged      {:>10.0} readings/s", sent as f64 / acked.as_secs_f64());
    println!("  until queryable         {:>10.0} readings/s", sent as f64 / queryable.as_secs_f64());
    println!("  CPU of the server       {:>10.2} µs a reading", cpu.as_secs_f64() * 1e6 / sent as f64);
    println!("  log (with its WAL)      {:>10.1} bytes a reading", per_reading(log));
    println!("  store (with its WAL)    {:>10.1} bytes a reading", per_reading(store));
    println!("  resident at the end     {:>10.0} MB", server.resident()? as f64 / 1e6);
    Ok(())
}

fn bodies(options: &Options) -> Vec<Vec<u8>> {
    // A small generator of its own (xorshift): the same load at every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut n = 0usize;
    (0..options.readings / options.lines)
        .map(|_| {
            let mut body = String::with_capacity(options.lines * 64);
            for _ in 0..options.lines {
                let (series, round) = (n % SERIES, (n / SERIES) as u64);
                let ms = START_MS + round * 10_000 + random() % 100;
                let value = 2_000 + (random() % 500) as i64;
                // Writing to a string cannot fail.
                let _written = writeln!(body, "temperature,device=dev-{series:05} value={}.{:02} {ms}", value / 100, value % 100);
                n += 1;
            }
            body.into_bytes()
        })
        .collect()
}

fn send<'a>(server: &Server, bodies: impl Iterator<Item = &'a Vec<u8>>) -> anyhow::Result<()> {
    let mut connection = Connection::open(server)?;
    for body in bodies {
        let (status, answer) = connection.request("POST", "/api/v2/write?bucket=bench&precision=ms", body)?;
        ensure!(status == 204, "a write was answered {status}: {answer}");
    }
    Ok(())
}

/// A running release binary on a port and a data directory of its own.
struct Server {
    child: Child,
    address: SocketAddr,
    token: String,
    dir: PathBuf,
}

impl Server {
    fn start() -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("headwater-bench-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        drop(listener);
        let data = dir.join("data");
        let child = Command::new("target/release/headwater")
            .args(["up", "--listen", &address.to_string(), "--data-dir"])
            .arg(&data)
            .stderr(fs::File::create(dir.join("stderr"))?)
            .spawn()
            .context("start target/release/headwater")?;
        let mut server = Self { child, address, token: String::new(), dir: data };
        server.wait("the server to be ready", |s| {
            Ok(matches!(Connection::open(s).and_then(|mut c| c.request("GET", "/readyz", b"")), Ok((200, _))))
        })?;
        let token = Command::new("target/release/headwater")
            .args(["token", "issue", "--scope", "admin", "--data-dir"])
            .arg(&server.dir)
            .stdin(Stdio::null())
            .output()?;
        ensure!(token.status.success(), "issue a token: {}", String::from_utf8_lossy(&token.stderr));
        server.token = String::from_utf8(token.stdout)?.trim().to_owned();
        Ok(server)
    }

    fn wait(&self, what: &str, done: impl Fn(&Self) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !done(self)? {
            ensure!(Instant::now() < deadline, "waited 120 s for {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn status(&self) -> anyhow::Result<serde_json::Value> {
        let (status, answer) = Connection::open(self)?.request("GET", "/v1/status", b"")?;
        ensure!(status == 200, "/v1/status was answered {status}: {answer}");
        Ok(serde_json::from_str(&answer)?)
    }

    fn wait_until_applied(&self) -> anyhow::Result<()> {
        self.wait("everything to be applied", |server| Ok(server.status()?["in_flight"] == 0))
    }

    fn received(&self) -> anyhow::Result<u64> {
        self.status()?["received"].as_u64().context("received in /v1/status")
    }

    /// User and system time so far, from /proc/PID/stat (fields 14 and 15, in ticks of 10 ms).
    fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields.get(11).context("utime")?.parse::<u64>()? + fields.get(12).context("stime")?.parse::<u64>()?;
        Ok(Duration::from_millis(ticks * 10))
    }

    fn resident(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
    }

    fn bytes(&self, name: &str) -> anyhow::Result<u64> {
        let size = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
        Ok(size(&self.dir.join(name)) + size(&self.dir.join(format!("{name}-wal"))))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        if let Some(parent) = self.dir.parent() {
            let _gone = fs::remove_dir_all(parent);
        }
    }
}

/// A keep-alive connection.
struct Connection {
    stream: BufReader<TcpStream>,
    token: String,
}

impl Connection {
    fn open(server: &Server) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(server.address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), token: server.token.clone() })
    }

    fn request(&mut self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<(u16, String)> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
            self.token,
            body.len()
        );
        self.stream.get_mut().write_all(head.as_bytes())?;
        self.stream.get_mut().write_all(body)?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).context("a status line")?.parse()?;
        let mut length = 0usize;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let header = line.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        Ok((status, String::from_utf8_lossy(&answer).into_owned()))
    }
}
