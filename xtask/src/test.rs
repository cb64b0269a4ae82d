//! `cargo xtask test`: the checks, then every test, with the counts at the end.
//!
//! Installs what the tests need and the machine lacks (Debian: strace, npm, systemd, python3-venv; Prometheus is unpacked, not installed), and starts Kafka and PostgreSQL unless they are there
//! (`KAFKA_BROKERS`, `POSTGRES_URL`, `cargo xtask servers start`). A missing tool or server makes its test fail, never skip.
//! Invariant: what was started here is gone at the end, whatever the end is.

use crate::check;
use anyhow::Context;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// The task.
pub(crate) fn run() -> anyhow::Result<()> {
    install("strace", "strace")?;
    install("npm", "npm")?;
    install("systemd-analyze", "systemd")?;
    install_python()?;
    headwater_servers::install_prometheus()?;
    check::run()?;
    // The fault tests kill the server at named instants, and a test follows a trace through it, so it is built with both; neither
    // adds a crate, and nothing else differs.
    let args = ["test", "--workspace", "--features", "headwater/failpoints,headwater/otlp", "--locked", "--no-fail-fast"];
    let servers = headwater_servers::shared::lend().context("start Kafka and PostgreSQL for the tests")?;
    for (name, value) in servers.addresses().variables() {
        println!("{name}={value}{}", if servers.was_there() { " (left running)" } else { "" });
    }
    let (counts, green) = counted(Command::new("cargo").args(args).envs(servers.addresses().variables()))?;
    drop(servers);
    println!("\n{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.ignored);
    anyhow::ensure!(green && counts.failed == 0, "tests failed");
    anyhow::ensure!(counts.passed > 0, "no test ran");
    Ok(())
}

#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// Runs cargo test, passes its output on and adds up its closing lines.
fn counted(command: &mut Command) -> anyhow::Result<(Counts, bool)> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("run cargo test")?;
    let mut counts = Counts::default();
    for line in BufReader::new(child.stdout.take().context("cargo's output")?).lines() {
        let line = line?;
        println!("{line}");
        counts.add(&line);
    }
    Ok((counts, child.wait()?.success()))
}

impl Counts {
    /// Adds a line such as `test result: ok. 12 passed; 0 failed; 0 ignored; …`; other lines say nothing.
    fn add(&mut self, line: &str) {
        let Some((_, figures)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else { return };
        for part in figures.split("; ") {
            let Some((n, what)) = part.split_once(' ') else { continue };
            let n = n.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += n,
                "failed" => self.failed += n,
                "ignored" => self.ignored += n,
                _ => {}
            }
        }
    }
}

/// Installs the Debian package of a program that is missing.
fn install(program: &str, package: &str) -> anyhow::Result<()> {
    if Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok() {
        return Ok(());
    }
    from_debian(package)
}

/// Installs what makes Python environments: the tests put schemathesis into one.
fn install_python() -> anyhow::Result<()> {
    let has_venv = Command::new("python3").args(["-c", "import ensurepip, venv"]).stderr(Stdio::null()).status();
    if has_venv.is_ok_and(|status| status.success()) { Ok(()) } else { from_debian("python3-venv") }
}

fn from_debian(package: &str) -> anyhow::Result<()> {
    let hint = || format!("the tests need {package}; install it with `apt-get install {package}` (or your system's packages)");
    crate::run("apt-get", &["update"]).with_context(hint)?;
    crate::run("apt-get", &["install", "--yes", "--no-install-recommends", package]).with_context(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_add_up() {
        let mut counts = Counts::default();
        counts.add("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s");
        counts.add("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s");
        counts.add("test a_test ... ok");
        assert_eq!((counts.passed, counts.failed, counts.ignored), (15, 2, 1));
    }
}
