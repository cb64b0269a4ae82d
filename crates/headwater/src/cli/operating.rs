//! Commands for whoever runs a server: copies, configuration, looking around, completions.
//!
//! Owns: their flags. Does not know: what they do.

use super::Server;
use crate::config::{Flags, Role};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `headwater backup`.
#[derive(Debug, Args)]
#[command(
    after_help = "DIR must not exist, or be empty. The key that signs tokens is in the copy, readable by its owner alone.\nExample: headwater backup /var/lib/headwater/copies/today --data-dir /var/lib/headwater/data"
)]
pub(crate) struct Backup {
    /// Where the copy goes
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Leave out the key that signs tokens
    #[arg(long)]
    pub(crate) no_keys: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Where the server keeps everything [default: headwater-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The server's configuration file [env: HEADWATER_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// `headwater restore`.
#[derive(Debug, Args)]
#[command(
    after_help = "The data directory must not exist, or be empty; the server is started on it afterwards.\nExample: headwater restore /var/lib/headwater/copies/today --data-dir /var/lib/headwater/data"
)]
pub(crate) struct Restore {
    /// The copy
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Print the summary as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The data directory to make [default: headwater-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The server's configuration file [env: HEADWATER_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// `headwater config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every value as it counts, in TOML, and where it comes from; secrets are hidden.
    Print(ConfigWanted),
    /// Say everything that is wrong with it, or that nothing is: as `up` would, or `run` with these roles. Exit code 1 where something is.
    Check(ConfigWanted),
}

/// Which configuration.
#[derive(Debug, Args)]
pub(crate) struct ConfigWanted {
    /// As `headwater run` with these roles [default: those of the configuration]
    #[arg(value_name = "ROLE")]
    pub(crate) roles: Vec<Role>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

/// `headwater doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 0: nothing failed (warnings may be there). 1: something did. It changes nothing, and works beside a server."
)]
pub(crate) struct Doctor {
    /// As `headwater run` with these roles [default: those of the configuration]
    #[arg(value_name = "ROLE")]
    pub(crate) roles: Vec<Role>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

/// `headwater completions`.
#[derive(Debug, Args)]
#[command(after_help = "Example: headwater completions bash > /etc/bash_completion.d/headwater")]
pub(crate) struct Completions {
    /// Which shell
    #[arg(value_enum, value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

impl ConfigWanted {
    /// What the flags say to the configuration.
    pub(crate) fn flags(&self) -> Flags {
        of_roles(&self.server, &self.roles)
    }
}

impl Doctor {
    /// What the flags say to the configuration.
    pub(crate) fn flags(&self) -> Flags {
        of_roles(&self.server, &self.roles)
    }
}

fn of_roles(server: &Server, roles: &[Role]) -> Flags {
    let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    server.flags().with("roles", "ROLE", (!roles.is_empty()).then(|| roles.join(",")))
}
