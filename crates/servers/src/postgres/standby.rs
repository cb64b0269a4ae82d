//! Copies of a cluster: backups, and standbys that follow a primary.

use super::{Options, Postgres};
use crate::system::{self, output};
use anyhow::{Context, ensure};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Whether a commit on the primary waits for the standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// It does: nothing that was committed is lost when the standby is promoted.
    Synchronous,
    /// It does not: the last commits may be missing on the standby.
    Asynchronous,
}

/// How long a standby may take to follow, or to become a primary.
const FOLLOW: Duration = Duration::from_secs(60);

impl Postgres {
    /// Makes a standby of `primary` in `dir` and starts it; returns when it streams. It answers questions and takes no writes.
    ///
    /// # Errors
    /// As for [`Postgres::start`], or when it does not come to stream.
    pub fn standby_of(dir: &Path, primary: &mut Self, replication: Replication) -> anyhow::Result<Self> {
        let mut standby = Self::prepared(dir, &Options::default(), primary.guarded)?;
        let name = format!("standby_{}", standby.port);
        // A backup and its start take a moment; what is written meanwhile must still be there.
        primary.reload(&["wal_keep_size = '512MB'"])?;
        primary.copy_to(&standby.data(), &["--write-recovery-conf"], &name)?;
        standby.launch()?;
        if replication == Replication::Synchronous {
            primary.reload(&[&format!("synchronous_standby_names = '{name}'")])?;
        }
        let wanted = match replication {
            Replication::Synchronous => "streaming sync",
            Replication::Asynchronous => "streaming async",
        };
        let question = format!("select state || ' ' || sync_state from pg_stat_replication where application_name = '{name}'");
        let follows = system::wait(FOLLOW, || Ok((primary.psql(&question)? == wanted).then_some(())))?;
        follows.with_context(|| format!("the standby does not come to be {wanted}; see {}", standby.dir.join("log").display()))?;
        Ok(standby)
    }

    /// Makes a standby a primary; returns when it takes writes. The old primary must be gone by then: nothing here fences it.
    ///
    /// # Errors
    /// When it does not become one.
    pub fn promote(&mut self) -> anyhow::Result<()> {
        let promoted = self.psql(&format!("select pg_promote(true, {})", FOLLOW.as_secs()))?;
        ensure!(promoted == "t", "the standby did not become a primary within {} s", FOLLOW.as_secs());
        Ok(())
    }

    /// Copies the running cluster to the new folder `to`.
    ///
    /// # Errors
    /// What pg_basebackup says.
    pub fn base_backup(&self, to: &Path) -> anyhow::Result<()> {
        self.copy_to(to, &[], "backup")
    }

    /// Puts the copy at `backup` in the place of everything that this cluster holds, and starts it on the same port. The copy
    /// can be used again.
    ///
    /// # Errors
    /// As for [`Postgres::start`], or when files cannot be copied.
    pub fn restart_from(&mut self, backup: &Path) -> anyhow::Result<()> {
        self.kill()?;
        let data = self.data();
        fs::remove_dir_all(&data).with_context(|| format!("remove {}", data.display()))?;
        output(Command::new("cp").arg("--archive").arg(backup).arg(&data))?;
        self.launch()
    }

    fn copy_to(&self, to: &Path, more: &[&str], application: &str) -> anyhow::Result<()> {
        // A server refuses a folder that others may look into.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(to).with_context(|| format!("make {}", to.display()))?;
        self.programs.hand_over(to)?;
        let from = format!("host=127.0.0.1 port={} user=postgres application_name={application}", self.port);
        let mut command = self.programs.as_postgres("pg_basebackup", &self.dir);
        command.arg("--pgdata").arg(to).args(["--checkpoint=fast", "--wal-method=stream", "--no-sync", "--dbname", &from]).args(more);
        output(&mut command).map(drop)
    }
}
