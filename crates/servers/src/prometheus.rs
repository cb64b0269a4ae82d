//! A private Prometheus: listens on 127.0.0.1 only, forgets everything with its folder.
//!
//! Owns: finding or fetching `prometheus` and `promtool`, starting and stopping the server. Does not know: what it watches.
//! Invariant: no service of the machine is installed or touched: where the programs are not on the path, Debian's package is
//! unpacked into our cache, not installed (its own installation would start a server on port 9090).

use crate::places;
use crate::ports;
use crate::process::Process;
use crate::system::{self, output};
use anyhow::{Context, bail};
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const START: Duration = Duration::from_secs(60);
const BY_HAND: &str = "the tests need Prometheus: `apt-get install prometheus` (or put prometheus and promtool on the path)";

/// The two programs.
#[derive(Debug, Clone)]
pub struct Programs {
    prometheus: PathBuf,
    promtool: PathBuf,
}

/// Says where the programs are: on the path, otherwise in our cache, where Debian's package is unpacked the first time.
///
/// # Errors
/// With what to install by hand, where it cannot be fetched.
pub fn install() -> anyhow::Result<Programs> {
    if let (Some(prometheus), Some(promtool)) = (places::program("prometheus"), places::program("promtool")) {
        return Ok(Programs { prometheus, promtool });
    }
    let _lock = places::lock("install-prometheus.lock")?;
    let dir = places::cache().join("prometheus");
    let programs = Programs { prometheus: dir.join("usr/bin/prometheus"), promtool: dir.join("usr/bin/promtool") };
    if !dir.exists() {
        unpack(&dir).context(BY_HAND)?;
    }
    output(Command::new(&programs.promtool).arg("--version")).context(BY_HAND)?;
    Ok(programs)
}

/// Filled under another name first, so that a folder of that name is complete.
fn unpack(dir: &Path) -> anyhow::Result<()> {
    let beside = dir.with_extension("tmp");
    drop(fs::remove_dir_all(&beside));
    fs::create_dir_all(&beside).with_context(|| format!("make {}", beside.display()))?;
    let fetch = || output(Command::new("apt-get").args(["download", "prometheus"]).current_dir(&beside));
    // The list of packages may be missing or old; bringing it up to date takes root, and is tried only then.
    if fetch().is_err() {
        output(Command::new("apt-get").args(["-o", "DPkg::Lock::Timeout=300", "update"]))?;
        fetch()?;
    }
    let mut files = fs::read_dir(&beside)?.flatten().map(|entry| entry.path());
    let package = files.find(|path| path.extension().is_some_and(|extension| extension == "deb")).context("look for the package")?;
    output(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&beside))?;
    fs::remove_file(&package).with_context(|| format!("remove {}", package.display()))?;
    fs::rename(&beside, dir).with_context(|| format!("make {}", dir.display()))
}

impl Programs {
    /// Where `promtool` is.
    pub fn promtool_path(&self) -> &Path {
        &self.promtool
    }

    /// Runs promtool; gives what it printed.
    ///
    /// # Errors
    /// Its words where it fails.
    pub fn promtool(&self, arguments: &[&str]) -> anyhow::Result<String> {
        output(Command::new(&self.promtool).args(arguments))
    }
}

/// A running Prometheus; it is stopped with the handle.
#[derive(Debug)]
pub struct Prometheus {
    port: u16,
    process: Option<Process>,
}

impl Prometheus {
    /// Starts one with this configuration; data and log lie in `dir`. Returns when it answers.
    ///
    /// # Errors
    /// When it cannot be had or does not start; with the end of its log.
    pub fn start(dir: &Path, config: &Path) -> anyhow::Result<Self> {
        let programs = install()?;
        let [port] = ports::free()?;
        let mut command = Command::new(&programs.prometheus);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(dir);
        let mut process = Process::spawn(command, &dir.join("prometheus.log"), true)?;
        let ready = system::wait(START, || {
            if let Some(status) = process.ended()? {
                bail!("Prometheus ended ({status}); {}", process.log().tail());
            }
            Ok(is_ready(port).then_some(()))
        })?;
        if ready.is_none() {
            bail!("Prometheus did not answer within {} s; {}", START.as_secs(), process.log().tail());
        }
        Ok(Self { port, process: Some(process) })
    }

    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Nothing of it is kept, so it need not write anything down.
        drop(self.process.take().map(|process| process.end(Signal::KILL, Duration::from_secs(10))));
    }
}

/// Whether it has loaded everything and answers.
fn is_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut connection = TcpStream::connect(("127.0.0.1", port))?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        connection.write_all(b"GET /-/ready HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = [0; 12];
        connection.read_exact(&mut answer)?;
        Ok(answer.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}
