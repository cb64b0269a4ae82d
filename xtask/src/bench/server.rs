//! A release binary started as a user would, on a port and a data directory of its own, and a keep-alive connection to it.
//!
//! Owns: starting, asking, measuring the process from outside (/proc), cleaning up. Does not know: loads.

use anyhow::{Context, ensure};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A running release binary on a port and a data directory of its own.
pub(super) struct Server {
    child: Child,
    address: SocketAddr,
    token: String,
    dir: PathBuf,
    ready: Duration,
}

impl Server {
    /// `headwater up`, everything embedded.
    pub(super) fn start() -> anyhow::Result<Self> {
        Self::launch(&["up"], &[], None)
    }

    /// `headwater run ROLE`, with variables that say where the log and the store are. Those that run apart trust the key of `first`.
    pub(super) fn run(role: &str, environment: &[(String, String)], first: Option<&Self>) -> anyhow::Result<Self> {
        Self::launch(&["run", role], environment, first)
    }

    /// `headwater up` on a copy of the data of another one, which has been stopped.
    pub(super) fn copy_of(stopped: &Self, environment: &[(String, String)]) -> anyhow::Result<Self> {
        let dir = new_dir()?;
        let data = dir.join("data");
        fs::create_dir_all(&data)?;
        for entry in fs::read_dir(&stopped.dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), data.join(entry.file_name()))?;
            }
        }
        Self::launch_in(dir, &["up"], environment, None)
    }

    /// Stops it as a user would; its data stays until it is dropped.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        ensure!(told.success(), "the server could not be told to stop");
        let status = self.child.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    fn launch(words: &[&str], environment: &[(String, String)], first: Option<&Self>) -> anyhow::Result<Self> {
        Self::launch_in(new_dir()?, words, environment, first)
    }

    fn launch_in(dir: PathBuf, words: &[&str], environment: &[(String, String)], first: Option<&Self>) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        drop(listener);
        let data = dir.join("data");
        let mut command = Command::new("target/release/headwater");
        command.args(words).args(["--listen", &address.to_string(), "--data-dir"]).arg(&data);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        if let Some(first) = first {
            command.env("HEADWATER_AUTH__KEY_FILE", first.dir.join("token-key.pem"));
        }
        let child = command.stderr(fs::File::create(dir.join("stderr"))?).spawn().context("start target/release/headwater")?;
        let mut server = Self { child, address, token: String::new(), dir: data, ready: Duration::ZERO };
        let started = Instant::now();
        server.wait_until_ready(started)?;
        server.ready = started.elapsed();
        server.token = match first {
            Some(first) => first.token.clone(),
            None => server.issue()?,
        };
        Ok(server)
    }

    fn wait_until_ready(&mut self, started: Instant) -> anyhow::Result<()> {
        while !matches!(Connection::open(self).and_then(|mut c| c.request("GET", "/readyz", b"")), Ok((200, _))) {
            let said = || fs::read_to_string(self.dir.with_file_name("stderr")).unwrap_or_default();
            ensure!(self.child.try_wait()?.is_none(), "the server ended before it was ready: {}", said());
            ensure!(started.elapsed() < Duration::from_secs(60), "the server was not ready within 60 s: {}", said());
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn issue(&self) -> anyhow::Result<String> {
        let mut command = Command::new("target/release/headwater");
        let token = command.args(["token", "issue", "--scope", "admin", "--data-dir"]).arg(&self.dir).stdin(Stdio::null()).output()?;
        ensure!(token.status.success(), "issue a token: {}", String::from_utf8_lossy(&token.stderr));
        Ok(String::from_utf8(token.stdout)?.trim().to_owned())
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn wait(&self, what: &str, done: impl Fn(&Self) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(300);
        while !done(self)? {
            ensure!(Instant::now() < deadline, "waited 300 s for {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// From the start of the process until `/readyz` was 200.
    pub(super) const fn ready(&self) -> Duration {
        self.ready
    }

    /// One request on a connection of its own; fails unless it is answered 200.
    pub(super) fn ask(&self, method: &str, path: &str) -> anyhow::Result<String> {
        let (status, answer) = Connection::open(self)?.request(method, path, b"")?;
        ensure!(status == 200, "{path} was answered {status}: {answer}");
        Ok(answer)
    }

    pub(super) fn status(&self) -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.ask("GET", "/v1/status")?)?)
    }

    pub(super) fn wait_until_applied(&self) -> anyhow::Result<()> {
        self.wait("everything to be applied", |server| Ok(server.status()?["in_flight"] == 0))
    }

    /// A number of `/v1/status`.
    pub(super) fn count(&self, name: &str) -> anyhow::Result<u64> {
        self.status()?[name].as_u64().with_context(|| format!("{name} in /v1/status"))
    }

    /// User and system time so far.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_of(self.pid(), 11..13)
    }

    /// Bytes that the process has caused to be written to storage, from /proc/PID/io.
    pub(super) fn written(&self) -> anyhow::Result<u64> {
        let io = fs::read_to_string(format!("/proc/{}/io", self.child.id()))?;
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:")).context("write_bytes")?;
        Ok(line.trim().parse()?)
    }

    pub(super) fn resident(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
    }

    /// Bytes of a database's pages that hold something (the file keeps free pages for what comes next).
    pub(super) fn bytes_in_use(&self, name: &str) -> anyhow::Result<u64> {
        let conn = rusqlite::Connection::open_with_flags(self.dir.join(name), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let pragma = |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let pages = pragma("page_count")? - pragma("freelist_count")?;
        Ok(u64::try_from(pages * pragma("page_size")?)?)
    }

    pub(super) fn bytes(&self, name: &str) -> anyhow::Result<u64> {
        let size = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
        Ok(size(&self.dir.join(name)) + size(&self.dir.join(format!("{name}-wal"))))
    }
}

/// A directory that nobody has.
fn new_dir() -> anyhow::Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("headwater-bench-{}-{n}", std::process::id()));
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// The sum of some fields of /proc/PID/stat, counted from the one after the name, in ticks of 10 ms: 11 and 12 are the user and system time of
/// the process, 13 and 14 those of its children that have ended.
pub(super) fn cpu_of(pid: u32, fields: std::ops::Range<usize>) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let all: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks =
        all.get(fields).context("CPU times")?.iter().try_fold(0u64, |sum, field| Ok::<_, anyhow::Error>(sum + field.parse::<u64>()?))?;
    Ok(Duration::from_millis(ticks * 10))
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
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
    token: String,
}

impl Connection {
    pub(super) fn open(server: &Server) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(server.address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), token: server.token.clone() })
    }

    pub(super) fn request(&mut self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<(u16, String)> {
        let answer = self.exchange(method, path, "", body)?;
        Ok((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
    }

    /// Asks for a page, and for nothing where the client has it already.
    pub(super) fn get(&mut self, path: &str, known: Option<&str>) -> anyhow::Result<Answer> {
        let header = known.map_or_else(String::new, |tag| format!("if-none-match: {tag}\r\n"));
        self.exchange("GET", path, &header, b"")
    }

    fn exchange(&mut self, method: &str, path: &str, more_headers: &str, body: &[u8]) -> anyhow::Result<Answer> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\nauthorization: Bearer {}\r\n{more_headers}content-length: {}\r\n\r\n",
            self.token,
            body.len()
        );
        self.stream.get_mut().write_all(head.as_bytes())?;
        self.stream.get_mut().write_all(body)?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let mut answer = Answer { status: line.split(' ').nth(1).context("a status line")?.parse()?, tag: None, body: Vec::new() };
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => answer.body.resize(value.trim().parse()?, 0),
                "etag" => answer.tag = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        // A 304 tells the length of what it does not send, if it tells one.
        if answer.status == 304 {
            answer.body.clear();
        }
        self.stream.read_exact(&mut answer.body)?;
        Ok(answer)
    }
}

/// What a server answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) tag: Option<String>,
    pub(super) body: Vec<u8>,
}
