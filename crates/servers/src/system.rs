//! Debian's packages and one-off commands.
//!
//! Owns: how a command is run and how its failure is told; when packages may be installed. Does not know: what for.

use crate::places;
use anyhow::{Context, bail, ensure};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Runs to the end and returns what was written to standard output; a failure tells the command and the end of what it said.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let line = line_of(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run `{line}`"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "`{line}` failed ({}):\n{}", output.status, last_lines(&said, 20));
    Ok(text)
}

/// The last `n` lines.
pub(crate) fn last_lines(text: &str, n: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(n)..].join("\n")
}

/// Looks again and again until there is an answer; `None` when `limit` has passed.
///
/// # Errors
/// Those of looking.
pub(crate) fn wait<T>(limit: Duration, mut look: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<Option<T>> {
    let deadline = std::time::Instant::now() + limit;
    loop {
        if let Some(answer) = look()? {
            return Ok(Some(answer));
        }
        if std::time::Instant::now() > deadline {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(15));
    }
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Installs packages of Debian. `why` names what is missing, `instead` what else would do.
///
/// # Errors
/// With what to install by hand where this process cannot: it is not root, or the system has no apt.
pub(crate) fn apt_install(packages: &[&str], why: &str, instead: &str) -> anyhow::Result<()> {
    let by_hand = format!("{why}; install it with `apt-get install {}` (or your system's packages), or {instead}", packages.join(" "));
    if !is_root() || places::program("apt-get").is_none() {
        bail!("{by_hand}");
    }
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["--yes", "-o", "DPkg::Lock::Timeout=300"]).args(args);
        output(&mut command).with_context(|| by_hand.clone())
    };
    apt(&["update"])?;
    let mut install = vec!["install", "--no-install-recommends"];
    install.extend(packages);
    apt(&install)?;
    Ok(())
}

fn line_of(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_the_command_and_what_it_said() {
        let failed = output(Command::new("sh").args(["-c", "echo some; echo trouble >&2; exit 3"])).unwrap_err().to_string();
        assert!(failed.contains("`sh -c echo some; echo trouble >&2; exit 3` failed"), "{failed}");
        assert!(failed.ends_with("some\ntrouble"), "{failed}");
    }

    #[test]
    fn waiting_ends_with_an_answer_or_with_the_limit() {
        let mut looks = 0;
        let third = |looks: &mut i32| {
            *looks += 1;
            Ok((*looks == 3).then_some("there"))
        };
        assert_eq!(wait(Duration::from_secs(10), || third(&mut looks)).unwrap(), Some("there"));
        assert_eq!(wait(Duration::from_millis(1), || Ok(None::<()>)).unwrap(), None);
    }
}
