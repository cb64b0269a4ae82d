//! A private PostgreSQL cluster: listens on 127.0.0.1 only, trusts everybody there, and loses nothing that was committed.
//!
//! Owns: making, starting, killing, pausing, copying and promoting clusters. Does not know: what is in them.
//! Invariants: the port stays the same over restarts; `fsync` is on and pages have checksums, as in production; settings are
//! in one file of ours (`headwater.conf`), so that a copy of a cluster never inherits settings that were not meant for it.

pub(crate) mod install;

mod conf;
mod standby;

pub use standby::Replication;

use crate::ports;
use crate::process::{Identity, Process};
use crate::system::{self, output};
use anyhow::{Context, bail, ensure};
use install::Programs;
use rustix::process::Signal;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a start may take, recovery of what a kill left included.
const START: Duration = Duration::from_secs(120);

/// How a cluster is set up.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Lines of postgresql.conf that come after ours, such as `shared_buffers = '512MB'`; the last one of a name counts.
    pub config: Vec<String>,
}

/// A cluster; it is stopped with the handle.
#[derive(Debug)]
pub struct Postgres {
    dir: PathBuf,
    port: u16,
    config: Vec<String>,
    programs: Programs,
    process: Option<Process>,
    /// Backends that were stopped by [`Postgres::pause`].
    paused: Vec<Identity>,
    guarded: bool,
}

impl Postgres {
    /// Makes a cluster in `dir` (or takes the one that is there) and starts it; returns when it answers.
    ///
    /// `dir` is made when missing. Where this process is root the server runs as the user postgres, who must be able to enter
    /// every folder above `dir`: [`Folder`](crate::Folder) makes one that will do.
    ///
    /// # Errors
    /// When PostgreSQL is not installed and cannot be, or the server does not start; with the end of its log.
    pub fn start(dir: &Path, options: &Options) -> anyhow::Result<Self> {
        Self::start_with(dir, options, true)
    }

    pub(crate) fn start_with(dir: &Path, options: &Options, guarded: bool) -> anyhow::Result<Self> {
        let mut postgres = Self::prepared(dir, options, guarded)?;
        if !postgres.data().join("PG_VERSION").exists() {
            postgres.init()?;
        }
        postgres.launch()?;
        Ok(postgres)
    }

    /// Everything but the cluster itself.
    fn prepared(dir: &Path, options: &Options, guarded: bool) -> anyhow::Result<Self> {
        let programs = install::install()?;
        let dir = std::path::absolute(dir)?;
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        programs.hand_over(&dir)?;
        let [port] = ports::free()?;
        Ok(Self { dir, port, config: options.config.clone(), programs, process: None, paused: Vec::new(), guarded })
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// As the superuser, to the database `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// The pid of the postmaster; `None` while it is down.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.identity().pid)
    }

    /// Where the cluster's files are.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Runs statements, each in a transaction of its own, as the superuser in the database `postgres`; returns what they
    /// print, without headers and alignment.
    ///
    /// # Errors
    /// The server's words about the first statement that fails.
    pub fn psql(&self, sql: &str) -> anyhow::Result<String> {
        let mut child = Command::new(self.programs.file("psql"))
            .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1", "--dbname", &self.url()])
            .env("PGCONNECT_TIMEOUT", "10")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("run psql")?;
        let mut stdin = child.stdin.take().context("psql's input")?;
        stdin.write_all(sql.as_bytes()).context("hand statements to psql")?;
        drop(stdin);
        let output = child.wait_with_output().context("wait for psql")?;
        ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Kills the postmaster (SIGKILL) and waits until its children have seen it.
    ///
    /// # Errors
    /// When one of them does not end.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let Some(process) = self.process.take() else { return Ok(()) };
        // Their parent is init afterwards: they are found now or never.
        let children = process.identity().children();
        process.end(Signal::KILL, Duration::from_secs(20))?;
        self.let_go()?;
        for child in children {
            if !child.gone(Duration::from_secs(10))? {
                child.end(Signal::KILL, Duration::ZERO)?;
            }
        }
        Ok(())
    }

    /// Stops it in order: sessions are cut, a checkpoint is written.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.end(Signal::INT, Duration::from_secs(60))
    }

    fn end(&mut self, signal: Signal, grace: Duration) -> anyhow::Result<()> {
        self.let_go()?;
        self.process.take().map_or(Ok(()), |process| process.end(signal, grace))
    }

    /// Stops every process of it where it stands (SIGSTOP): the server neither answers nor refuses.
    ///
    /// # Errors
    /// When a signal cannot be sent.
    pub fn pause(&mut self) -> anyhow::Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        // The postmaster first: nobody starts new ones then.
        process.identity().signal(Signal::STOP)?;
        self.paused = process.identity().children();
        self.paused.iter().try_for_each(|child| child.signal(Signal::STOP))
    }

    /// Lets it go on after [`Postgres::pause`].
    ///
    /// # Errors
    /// When a signal cannot be sent.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        self.let_go()?;
        self.process.as_ref().map_or(Ok(()), |process| process.identity().signal(Signal::CONT))
    }

    fn let_go(&mut self) -> anyhow::Result<()> {
        std::mem::take(&mut self.paused).into_iter().try_for_each(|child| child.signal(Signal::CONT))
    }

    /// Stops it if it runs, and starts it again on the same port; returns when it answers.
    ///
    /// # Errors
    /// As for [`Postgres::start`].
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        self.launch()
    }

    /// Lets it run on without this handle.
    pub(crate) fn leave(mut self) -> Option<Identity> {
        self.process.take().map(Process::leave)
    }

    fn init(&self) -> anyhow::Result<()> {
        let mut initdb = self.programs.as_postgres("initdb", &self.dir);
        initdb.arg("--pgdata").arg(self.data());
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums", "--no-sync"]);
        output(&mut initdb)?;
        let path = self.data().join("postgresql.conf");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        fs::write(&path, format!("{text}\ninclude = '{}'\n", conf::NAME)).with_context(|| format!("write {}", path.display()))
    }

    fn configure(&self) -> anyhow::Result<()> {
        let path = self.data().join(conf::NAME);
        fs::write(&path, conf::text(self.port, &self.config)).with_context(|| format!("write {}", path.display()))?;
        self.programs.hand_over(&path)
    }

    /// Adds settings that can change while it runs, and makes it read them.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn reload(&mut self, config: &[&str]) -> anyhow::Result<()> {
        self.config.extend(config.iter().map(|&line| line.to_owned()));
        self.configure()?;
        self.process.as_ref().map_or(Ok(()), |process| process.identity().signal(Signal::HUP))
    }

    fn launch(&mut self) -> anyhow::Result<()> {
        self.configure()?;
        let deadline = Instant::now() + START;
        loop {
            let mut process = Process::spawn(self.server(), &self.dir.join("log"), self.guarded)?;
            let waited = system::wait(deadline.saturating_duration_since(Instant::now()), || {
                if process.ended()?.is_some() {
                    return Ok(Some(false));
                }
                Ok(self.answers()?.then_some(true))
            })?;
            match waited {
                Some(true) => {
                    self.process = Some(process);
                    return Ok(());
                }
                // Processes of a killed postmaster may still be about, in particular one that was busy.
                Some(false) if leftovers(&process.log().text()) && Instant::now() < deadline => {}
                Some(false) => bail!("PostgreSQL did not start; {}", process.log().tail()),
                None => bail!("PostgreSQL did not answer within {} s; {}", START.as_secs(), process.log().tail()),
            }
        }
    }

    fn server(&self) -> Command {
        let mut server = self.programs.as_postgres("postgres", &self.dir);
        server.arg("-D").arg(self.data());
        server
    }

    /// Whether it takes connections now: no while it recovers.
    ///
    /// # Errors
    /// When pg_isready cannot be run.
    pub fn answers(&self) -> anyhow::Result<bool> {
        self.programs.ready(self.port)
    }
}

/// Whether a start failed because of processes that an earlier one has left.
fn leftovers(log: &str) -> bool {
    log.contains("lock file \"postmaster.pid\" already exists") || log.contains("pre-existing shared memory block")
}

impl Drop for Postgres {
    /// At once and without a checkpoint (SIGQUIT): whoever wants more says [`Postgres::stop`].
    fn drop(&mut self) {
        drop(self.end(Signal::QUIT, Duration::from_secs(10)));
    }
}
