//! A whole Headwater under test: the real binary on a data directory of its own.
//!
//! Owns: starting, killing, stopping and restarting the server, its data directory, its admin token. Does not know: what is
//! asked of it ([`crate::client`]).
//! Invariants: stacks of one test run never share a port or a directory; a server never outlives its stack; what the server
//! said is shown when the test fails.

use crate::backends::Backends;
use crate::client::{Client, target};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::ops::Deref;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The binary under test.
pub(crate) const HEADWATER: &str = env!("CARGO_BIN_EXE_headwater");
/// What the contract promises: ready within ten seconds, after a kill -9 too.
const READY: Duration = Duration::from_secs(10);
/// For everything that takes a moment by itself; generous, because the machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A command with an environment that holds nothing of the developer's.
pub(crate) fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    command
}

/// Looks again and again until there is something, at most for `deadline`.
pub(crate) fn wait_for<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < deadline, "waited {deadline:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The `http://…` of the block that a server writes once it is ready.
pub(crate) fn address_in(said: &str) -> Option<String> {
    let line = said.lines().find(|line| line.trim_start().starts_with("address "))?;
    line.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned)
}

/// How a stack is to be started.
#[derive(Default)]
pub(crate) struct Builder {
    wrapper: Vec<String>,
    environment: Vec<(String, String)>,
    roles: Vec<String>,
    arguments: Vec<String>,
    backends: Option<Arc<Backends>>,
}

impl Builder {
    /// Runs only these roles (`headwater run ROLE…`), not all of them (`headwater up`).
    pub(crate) fn run(mut self, roles: &[&str]) -> Self {
        self.roles = roles.iter().map(|role| (*role).to_owned()).collect();
        self
    }

    /// On a topic of Kafka and a database of PostgreSQL, which are there as long as any stack on them.
    pub(crate) fn on(mut self, backends: &Arc<Backends>) -> Self {
        self.environment.extend(backends.environment());
        self.backends = Some(Arc::clone(backends));
        self
    }

    /// Sets a variable of the server's environment, at this start and every later one.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it with one more argument, at this start and every later one.
    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Runs the server under another program, at the first start only. It has to keep the process id (`exec`).
    pub(crate) fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|part| (*part).to_owned()).collect();
        self
    }

    /// Starts on an empty data directory.
    pub(crate) fn start(self) -> Stack {
        let home = tempfile::Builder::new().prefix("headwater-it-").tempdir().unwrap();
        self.start_in(home, "data")
    }

    /// Starts on `data`, a path below `home`.
    pub(crate) fn start_in(self, home: TempDir, data: &str) -> Stack {
        let data = home.path().join(data);
        let mut stack = Stack {
            home,
            data,
            environment: self.environment,
            wrapper: self.wrapper,
            roles: self.roles,
            arguments: self.arguments,
            server: None,
            client: Client::nowhere(),
            fallen: Vec::new(),
            backends: self.backends,
        };
        stack.start_or_die(&[]).unwrap_or_else(|status| panic!("the server ended with {status} before it was ready"));
        stack.wrapper.clear();
        stack.client.token = stack.issue(&["--scope", "admin"]);
        stack
    }
}

/// A running (or killed) server and everything that belongs to it.
pub(crate) struct Stack {
    /// Files of the test; gone with the stack.
    pub(crate) home: TempDir,
    /// The server's data directory.
    pub(crate) data: PathBuf,
    environment: Vec<(String, String)>,
    wrapper: Vec<String>,
    roles: Vec<String>,
    arguments: Vec<String>,
    server: Option<Server>,
    client: Client,
    /// What earlier servers of this stack said.
    fallen: Vec<String>,
    /// Where it keeps things that are not in its directory; held until the server is gone.
    backends: Option<Arc<Backends>>,
}

struct Server {
    child: Child,
    said: Arc<Mutex<String>>,
    listener: Option<JoinHandle<()>>,
}

/// A stack is asked like the client that it holds.
impl Deref for Stack {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Stack {
    /// One process, everything embedded, nothing else.
    pub(crate) fn embedded() -> Self {
        Builder::default().start()
    }

    /// Where it keeps things, unless they are embedded.
    pub(crate) fn backends(&self) -> Option<&Arc<Backends>> {
        self.backends.as_ref()
    }

    /// The process id of the server.
    pub(crate) fn pid(&self) -> u32 {
        self.server.as_ref().expect("a running server").child.id()
    }

    /// A client of its own for another thread.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The server is gone from one instant to the next, as with a power cut of the process.
    pub(crate) fn kill9(&mut self) {
        let mut server = self.server.take().expect("a running server");
        server.child.kill().unwrap();
        let status = server.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "it had ended by itself with {status}");
        self.bury(server);
    }

    /// Stops it as a person does (SIGTERM) and gives its exit code.
    pub(crate) fn stop(&mut self) -> i32 {
        signal(self.pid(), "TERM");
        self.ended().code().expect("an exit code, not a signal")
    }

    /// How it has ended by itself, if it has.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        let status = self.server.as_mut().expect("a running server").child.try_wait().unwrap()?;
        Some(status).inspect(|_| {
            let server = self.server.take().expect("a running server");
            self.bury(server);
        })
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut server = self.server.take().expect("a running server");
        let status = wait_for("the server to end", SOON, || server.child.try_wait().unwrap());
        self.bury(server);
        status
    }

    /// Starts it again on the same data, as it was started the first time.
    pub(crate) fn start(&mut self) {
        self.start_or_die(&[]).unwrap_or_else(|status| panic!("the server ended with {status} before it was ready"));
    }

    /// Starts it again with more in its environment; `Err` when it ended before it was ready.
    pub(crate) fn start_or_die(&mut self, more: &[(&str, &str)]) -> Result<(), ExitStatus> {
        let mut server = self.launch(more);
        let outcome = self.until_ready(&mut server);
        match outcome {
            Ok(()) => self.server = Some(server),
            Err(_) => drop(self.bury(server)),
        }
        outcome
    }

    /// kill -9 and start again.
    pub(crate) fn restart(&mut self) {
        self.kill9();
        self.start();
    }

    fn launch(&self, more: &[(&str, &str)]) -> Server {
        let mut words = self.wrapper.iter().map(String::as_str).chain([HEADWATER]);
        let mut command = clean(words.next().unwrap());
        command.args(words);
        match self.roles.as_slice() {
            [] => command.arg("up"),
            roles => command.arg("run").args(roles),
        };
        command.arg("--data-dir").arg(&self.data).args(["--listen", "127.0.0.1:0"]).args(&self.arguments);
        // Tests count records; those that are about heartbeats switch them on.
        command.env("HEADWATER_GATEWAY__HEARTBEAT", "off");
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).envs(more.iter().copied());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap_or_else(|why| panic!("{command:?}: {why}"));
        let said = Arc::new(Mutex::new(String::new()));
        let (from, to) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&said));
        let listener = std::thread::spawn(move || {
            for line in from.split(b'\n').map_while(Result::ok) {
                let mut said = to.lock().unwrap();
                said.push_str(&String::from_utf8_lossy(&line));
                said.push('\n');
            }
        });
        Server { child, said, listener: Some(listener) }
    }

    fn until_ready(&mut self, server: &mut Server) -> Result<(), ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = server.child.try_wait().unwrap() {
                return Err(status);
            }
            // The port is its own choice; the block that it writes when it is ready names it.
            let address = address_in(&server.said.lock().unwrap());
            if let Some(address) = address {
                self.client.base = address;
                if self.client.is_ready() {
                    return Ok(());
                }
            }
            if started.elapsed() > READY {
                server.child.kill().unwrap();
                panic!("not ready after {READY:?}; it said:\n{}", server.said.lock().unwrap());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Keeps what a server that has ended said, and gives it.
    fn bury(&mut self, mut server: Server) -> String {
        if let Some(listener) = server.listener.take() {
            listener.join().unwrap();
        }
        let said = server.said.lock().unwrap().clone();
        self.fallen.push(said.clone());
        said
    }

    /// All that the servers of this stack have written to standard error.
    pub(crate) fn said(&self) -> String {
        let now = self.server.as_ref().map(|server| server.said.lock().unwrap().clone());
        self.fallen.iter().cloned().chain(now).collect()
    }

    /// A token of the built-in issuer, from the command line.
    pub(crate) fn issue(&self, arguments: &[&str]) -> String {
        let mut command = clean(HEADWATER);
        command.args(["token", "issue", "--data-dir"]).arg(self.data_seen()).args(arguments);
        let key_file = self.environment.iter().filter(|(name, _)| name == "HEADWATER_AUTH__KEY_FILE");
        let issued = command.envs(key_file.map(|(name, value)| (name, value))).output().unwrap();
        assert!(issued.status.success(), "token issue: {}", String::from_utf8_lossy(&issued.stderr));
        String::from_utf8(issued.stdout).unwrap().trim().to_owned()
    }

    /// The data directory as the server sees it, even where it lives in mounts of its own.
    pub(crate) fn data_seen(&self) -> PathBuf {
        let inside = PathBuf::from(format!("/proc/{}/root", self.pid())).join(self.data.strip_prefix("/").unwrap());
        if inside.exists() { inside } else { self.data.clone() }
    }

    /// A command that works on what the server keeps (`headwater verify`), not through it.
    pub(crate) fn beside(&self, command: &str) -> Command {
        let mut beside = clean(HEADWATER);
        beside.arg(command).arg("--data-dir").arg(&self.data);
        beside.envs(self.backends.iter().flat_map(|backends| backends.environment()));
        beside
    }

    /// Runs a client command against this server, with its admin token, in the directory of the test's files.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = clean(HEADWATER);
        command.args(arguments).env("HEADWATER_URL", &self.client.base).env("HEADWATER_TOKEN", &self.client.token);
        command.current_dir(self.home.path()).output().unwrap()
    }

    /// Standard output of a client command that succeeds.
    pub(crate) fn output(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Makes a file of the test.
    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Some(server) = self.server.as_mut() {
            drop(server.child.kill());
            drop(server.child.wait());
        }
        if std::thread::panicking() {
            eprintln!("--- what the server on {} said ---\n{}---", self.data.display(), self.said());
        }
    }
}

/// Sends a signal by name.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = clean("sh").arg("-c").arg(format!("kill -{name} {pid}")).status().unwrap();
    assert!(sent.success(), "no process {pid} to signal");
}

/// Runs a server that is expected to end by itself: its status and what it said.
pub(crate) fn refused_start(data: &Path, arguments: &[&str]) -> (ExitStatus, String) {
    let mut child = clean(HEADWATER)
        .arg("up")
        .arg("--data-dir")
        .arg(data)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > SOON {
            child.kill().unwrap();
            panic!("a server that must not start on {} is still there", data.display());
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let said = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok).collect::<Vec<_>>().join("\n");
    (status, said)
}

/// What tests ask most.
impl Stack {
    /// `/v1/status`.
    pub(crate) fn status(&self) -> Value {
        self.get("/v1/status").ok().json()
    }

    /// Waits until everything acknowledged is in every answer.
    pub(crate) fn settled(&self) {
        wait_for("nothing in flight", SOON, || (self.status()["in_flight"] == 0).then_some(()));
    }

    /// All rows of a list, over all its pages.
    pub(crate) fn rows(&self, path: &str, parameters: &[(&str, &str)]) -> Vec<Value> {
        let (mut rows, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let cursor_parameter = cursor.as_deref().map(|cursor| ("cursor", cursor));
            let page = self.get(&target(path, &parameters.iter().copied().chain(cursor_parameter).collect::<Vec<_>>())).ok().json();
            rows.extend(page["rows"].as_array().expect("rows").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return rows,
            }
        }
    }
}
