//! Processes: which are ours, which are alive, and how they end.
//!
//! Owns: /proc, signals, the log of a server and the guard that outlives its parent. Does not know: which server it is.
//!
//! Invariants: a pid is signalled only while it is the process that was started (pid *and* start time); a process that was
//! started with a guard dies with the one that started it, even when that is killed with SIGKILL.

use crate::system;
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A process, told apart from a later one that got its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// Clock ticks from the boot of the machine to its start.
    pub(crate) started: u64,
}

/// What /proc says of a process.
struct Stat {
    state: char,
    parent: u32,
    started: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name, in brackets, may hold anything, also brackets and spaces; numbers begin after the last one.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self { state: fields.first()?.chars().next()?, parent: u32::try_from(number(1)?).ok()?, started: number(19)? })
    }

    /// A zombie has ended; only its parent has not looked yet.
    fn runs(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }
}

impl Identity {
    /// Of a running process.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Stat::of(pid).filter(Stat::runs).map(|stat| Self { pid, started: stat.started })
    }

    /// Whether it still runs.
    pub(crate) fn runs(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Its children that run.
    pub(crate) fn children(self) -> Vec<Self> {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(|pid: u32| {
            let stat = Stat::of(pid)?;
            (stat.parent == self.pid && stat.runs()).then_some(Self { pid, started: stat.started })
        })
        .collect()
    }

    /// Sends a signal; to a process that has ended, none.
    pub(crate) fn signal(self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(pid) = pid.filter(|_| self.runs()) else { return Ok(()) };
        match rustix::process::kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("send {signal:?} to process {}", self.pid)),
        }
    }

    /// Asks it to end by `signal` and waits; after `grace` it is killed.
    pub(crate) fn end(self, signal: Signal, grace: Duration) -> anyhow::Result<()> {
        self.signal(signal)?;
        // One that was paused would not hear it.
        self.signal(Signal::CONT)?;
        if self.gone(grace)? {
            return Ok(());
        }
        self.signal(Signal::KILL)?;
        if !self.gone(Duration::from_secs(20))? {
            bail!("process {} does not die", self.pid);
        }
        Ok(())
    }

    /// Waits until it has ended; whether it has.
    pub(crate) fn gone(self, limit: Duration) -> anyhow::Result<bool> {
        Ok(system::wait(limit, || Ok((!self.runs()).then_some(())))?.is_some())
    }
}

/// A server as a child of this process.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    identity: Identity,
    log: Log,
    guard: Option<Guard>,
    /// Whether it runs on when this handle is gone.
    left: bool,
}

impl Process {
    /// Starts it in a process group of its own (Ctrl-C at a terminal is not for servers), with its output appended to `log`.
    pub(crate) fn spawn(mut command: Command, log: &Path, guarded: bool) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let log = Log::append(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.writer()?)
            .stderr(log.writer()?)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        // A child cannot vanish before its parent has asked for its status, so /proc knows it.
        let started =
            Stat::of(child.id()).map(|stat| stat.started).with_context(|| format!("look for {name} in /proc (is this Linux?)"))?;
        let identity = Identity { pid: child.id(), started };
        let guard = if guarded { Some(Guard::over(identity)?) } else { None };
        Ok(Self { child, identity, log, guard, left: false })
    }

    /// Pid and start time.
    pub(crate) const fn identity(&self) -> Identity {
        self.identity
    }

    /// What it has written.
    pub(crate) const fn log(&self) -> &Log {
        &self.log
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().context("ask whether a server has ended")
    }

    /// Asks it to end and waits, at most `grace`; then it is killed.
    pub(crate) fn end(mut self, signal: Signal, grace: Duration) -> anyhow::Result<()> {
        self.identity.signal(signal)?;
        self.identity.signal(Signal::CONT)?;
        let ended = system::wait(grace, || self.ended())?;
        if ended.is_none() {
            self.identity.signal(Signal::KILL)?;
            self.child.wait().context("wait for a server to end")?;
        }
        Ok(())
    }

    /// Lets it run on without this handle.
    pub(crate) fn leave(mut self) -> Identity {
        debug_assert!(self.guard.is_none(), "what runs on cannot die with us");
        self.left = true;
        self.identity
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.left && matches!(self.ended(), Ok(None)) {
            drop(self.identity.signal(Signal::KILL));
            drop(self.child.wait());
        }
    }
}

/// Kills a server when the process that started it is gone: it waits for the end of a pipe that only that process holds.
#[derive(Debug)]
struct Guard(Child);

impl Guard {
    /// Children too: those of a PostgreSQL that was paused would not see by themselves that it is gone.
    const SCRIPT: &str = r#"read -r _
kids=$(grep -ls "^PPid:[[:space:]]*$1\$" /proc/[0-9]*/status)
kill -9 "$1"
for kid in $kids; do kid=${kid#/proc/}; kill -9 "${kid%/status}"; done"#;

    fn over(server: Identity) -> anyhow::Result<Self> {
        let child = Command::new("sh")
            .args(["-c", Self::SCRIPT, "headwater-servers-guard", &server.pid.to_string()])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("start the guard of a server")?;
        Ok(Self(child))
    }
}

impl Drop for Guard {
    /// The server has ended by now, or is about to: its number must not be shot at later.
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What a server writes, from one start on.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    path: PathBuf,
    from: usize,
}

impl Log {
    fn append(path: &Path) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(path).with_context(|| format!("open {}", path.display()))?;
        let from = usize::try_from(file.metadata()?.len()).unwrap_or(0);
        Ok(Self { path: path.to_owned(), from })
    }

    fn writer(&self) -> anyhow::Result<File> {
        File::options().append(true).open(&self.path).with_context(|| format!("open {}", self.path.display()))
    }

    /// All of it since that start.
    pub(crate) fn text(&self) -> String {
        let bytes = fs::read(&self.path).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(self.from..).unwrap_or_default()).into_owned()
    }

    /// Its last lines, for a message.
    pub(crate) fn tail(&self) -> String {
        format!("the last lines of {}:\n{}", self.path.display(), system::last_lines(&self.text(), 25))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(dir: &Path, guarded: bool) -> Process {
        let mut command = Command::new("sleep");
        command.arg("600");
        Process::spawn(command, &dir.join("log"), guarded).unwrap()
    }

    #[test]
    fn names_with_brackets_do_not_shift_the_fields() {
        let text = "42 (a) b) (c)) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 1000";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.state, stat.parent, stat.started), ('S', 7, 9876));
    }

    #[test]
    fn a_pid_that_was_given_to_another_process_is_not_ours() {
        let own = Identity::of(std::process::id()).unwrap();
        assert!(own.runs());
        let earlier = Identity { started: own.started - 1, ..own };
        assert!(!earlier.runs());
        // Not sent, otherwise this test would end here.
        earlier.signal(Signal::KILL).unwrap();
    }

    #[test]
    fn a_paused_process_can_be_ended() {
        let folder = crate::Folder::new("unit").unwrap();
        let process = sleeper(folder.path(), false);
        let identity = process.identity();
        identity.signal(Signal::STOP).unwrap();
        process.end(Signal::TERM, Duration::from_secs(20)).unwrap();
        assert!(!identity.runs());
    }

    #[test]
    fn a_guard_kills_what_its_parent_leaves() {
        let folder = crate::Folder::new("unit").unwrap();
        let mut process = sleeper(folder.path(), true);
        let identity = process.identity();
        // The end of the pipe is what a killed parent would leave.
        let mut guard = process.guard.take().unwrap();
        drop(guard.0.stdin.take());
        assert!(system::wait(Duration::from_secs(20), || process.ended()).unwrap().is_some());
        assert!(!identity.runs());
        assert!(system::wait(Duration::from_secs(20), || Ok(guard.0.try_wait()?)).unwrap().is_some());
    }

    #[test]
    fn children_are_found() {
        let folder = crate::Folder::new("unit").unwrap();
        let process = sleeper(folder.path(), true);
        let own = Identity::of(std::process::id()).unwrap();
        assert!(own.children().contains(&process.identity()));
        process.end(Signal::KILL, Duration::from_secs(20)).unwrap();
    }
}
