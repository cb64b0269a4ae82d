//! PostgreSQL's programs: finding them, installing them, running them as a user that they accept.

use crate::{places, system};
use anyhow::{Context, ensure};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The oldest version with everything that our settings name.
const OLDEST: u32 = 15;
const INSTEAD: &str = "set POSTGRES_URL to a PostgreSQL that runs";

/// Where the programs are and as whom they run.
#[derive(Debug, Clone)]
pub struct Programs {
    bin: PathBuf,
    /// The user and the group that servers run as, where this process is root: they refuse to run as root.
    user: Option<(u32, u32)>,
}

/// Installs PostgreSQL where it is missing (Debian's packages, without their own cluster) and says where its programs are.
///
/// # Errors
/// With what to install by hand, where that cannot be done.
pub fn install() -> anyhow::Result<Programs> {
    let _lock = places::lock("install-postgres.lock")?;
    if find().is_none() {
        let missing = "PostgreSQL's server programs are missing";
        system::apt_install(&["postgresql-common"], missing, INSTEAD)?;
        without_main_cluster()?;
        system::apt_install(&["postgresql"], missing, INSTEAD)?;
    }
    let bin = find().context("PostgreSQL was installed, but there is no initdb in /usr/lib/postgresql or on the path")?;
    let version = system::output(Command::new(bin.join("postgres")).arg("--version"))?;
    let major = major(&version).with_context(|| format!("read the version of PostgreSQL in {version:?}"))?;
    ensure!(major >= OLDEST, "PostgreSQL {OLDEST} or later is needed, and {} has {major}; or {INSTEAD}", bin.display());
    let user = if system::is_root() { Some(user_postgres()?) } else { None };
    Ok(Programs { bin, user })
}

/// `pg_config --bindir`, the newest of Debian's versions, or the path.
fn find() -> Option<PathBuf> {
    let asked = places::program("pg_config").and_then(|pg_config| system::output(Command::new(pg_config).arg("--bindir")).ok());
    let asked = asked.map(|text| PathBuf::from(text.trim()));
    let mut debian: Vec<PathBuf> =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin")).collect();
    debian.sort_by_key(|bin| bin.parent().and_then(|dir| dir.file_name()?.to_str()?.parse::<u32>().ok()));
    let on_path = places::program("initdb").and_then(|initdb| Some(initdb.parent()?.to_owned()));
    let complete =
        |bin: &PathBuf| ["initdb", "postgres", "psql", "pg_basebackup", "pg_isready"].iter().all(|name| bin.join(name).is_file());
    asked.into_iter().chain(debian.into_iter().rev()).chain(on_path).find(complete)
}

/// Otherwise Debian's package makes a cluster on port 5432 and starts it.
fn without_main_cluster() -> anyhow::Result<()> {
    let path = Path::new("/etc/postgresql-common/createcluster.conf");
    let text = fs::read_to_string(path).unwrap_or_default();
    let said = |line: &str| line.trim_start_matches(['#', ' ']).starts_with("create_main_cluster");
    let mut lines: Vec<&str> = text.lines().filter(|line| !said(line)).collect();
    lines.push("create_main_cluster = false\n");
    fs::write(path, lines.join("\n")).with_context(|| format!("write {}", path.display()))
}

/// `postgres (PostgreSQL) 15.18 (Debian …)` → 15.
fn major(version: &str) -> Option<u32> {
    let number = version.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn user_postgres() -> anyhow::Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    let line =
        users.lines().find(|line| line.starts_with("postgres:")).context("there is no user postgres, and PostgreSQL refuses root")?;
    let mut fields = line.split(':').skip(2);
    let mut number = || fields.next().and_then(|field| field.parse().ok()).with_context(|| format!("read `{line}` of /etc/passwd"));
    Ok((number()?, number()?))
}

impl Programs {
    /// One of them.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// A command that runs one of them as a user that it accepts, in a folder that this user can read.
    pub(super) fn as_postgres(&self, name: &str, dir: &Path) -> Command {
        let program = self.file(name);
        let mut command = if self.user.is_some() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(dir).env("LC_ALL", "C.UTF-8");
        command
    }

    /// Gives a file or folder to that user, and looks whether it can be reached.
    pub(super) fn hand_over(&self, path: &Path) -> anyhow::Result<()> {
        let Some((user, group)) = self.user else { return Ok(()) };
        chown(path, Some(user), Some(group)).with_context(|| format!("give {} to postgres", path.display()))?;
        for above in path.ancestors().skip(1) {
            let metadata = fs::metadata(above).with_context(|| format!("look at {}", above.display()))?;
            let mode = metadata.permissions().mode();
            ensure!(
                mode & 0o001 != 0 || metadata.uid() == user,
                "the user postgres cannot enter {} (mode {:o}), so not reach {}; use headwater_servers::Folder, or a folder in /tmp",
                above.display(),
                mode & 0o7777,
                path.display()
            );
        }
        Ok(())
    }

    /// Whether a server on that port takes connections.
    pub(crate) fn ready(&self, port: u16) -> anyhow::Result<bool> {
        let mut ready = Command::new(self.file("pg_isready"));
        ready.args(["--quiet", "--host=127.0.0.1", "--timeout=5", "--port", &port.to_string()]);
        let status = ready.stdin(Stdio::null()).status().context("run pg_isready")?;
        Ok(status.success())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major("postgres"), None);
    }
}
