//! The configuration: defaults < file < environment < flags.
//!
//! Owns: the sections, where their values come from, and whether together they can work. Does not know: what a role does with
//! its section (each role's `Config` says that and validates itself).
//!
//! Invariants: an unknown key is a problem, never ignored; all problems are reported at once, each with its path; what the
//! wiring gets has been through [`Settings::checked`].

mod auth;
mod backends;
mod sections;
mod topology;
mod tree;

#[cfg(test)]
mod tests;

pub(crate) use auth::Auth;
pub(crate) use backends::{Log, Store};
pub(crate) use sections::{DeadLetters, Logging, Role};
pub(crate) use tree::Flags;

use crate::environment::Environment;
use sections::{Retention, Top};
use std::fmt;
use std::path::{Path, PathBuf};
use tree::{Keys, Tree};

/// Every section, read and each valid by itself.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where everything is kept.
    pub(crate) data_dir: PathBuf,
    /// What runs in this process.
    pub(crate) roles: Vec<Role>,
    /// `[log]`.
    pub(crate) log: Log,
    /// `[store]`.
    pub(crate) store: Store,
    /// `[dead_letters]`.
    pub(crate) dead_letters: DeadLetters,
    /// `[http]`.
    pub(crate) http: headwater_web::Config,
    /// `[gateway]`.
    pub(crate) gateway: headwater_gateway::Config,
    /// `[ingest]`.
    pub(crate) ingest: headwater_ingest::Config,
    /// `[rollup]`.
    pub(crate) rollup: headwater_rollup::Config,
    /// `[api]`.
    pub(crate) api: headwater_api::Config,
    /// `[auth]`.
    pub(crate) auth: Auth,
    /// `[logging]`.
    pub(crate) logging: Logging,
}

/// Settings that work together: the only ones that a server starts with.
#[derive(Debug, Clone)]
pub(crate) struct Checked(Settings);

impl std::ops::Deref for Checked {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.0
    }
}

/// Everything that is wrong, a line each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}

/// Reads the configuration: `file` (or the one that `HEADWATER_CONFIG` names; there is none by default), the environment, flags.
///
/// # Errors
/// All problems at once.
pub(crate) fn load(file: Option<&Path>, environment: &Environment, flags: Flags) -> Result<Settings, Problems> {
    let mut tree = Tree::gather(file.or(environment.config().map(Path::new)), environment, flags)?;
    let settings = read(&mut tree);
    tree.finish().map(|()| settings)
}

fn read(tree: &mut Tree) -> Settings {
    let top: Top = tree.read("", Keys::Only(Top::KEYS));
    let (log, problems_of_log) = Log::of(tree.read("log", Keys::All));
    let (store, problems_of_store) = Store::of(tree.read("store", Keys::All));
    let retention: Retention = tree.read("retention", Keys::All);
    let settings = Settings {
        data_dir: top.data_dir.clone(),
        roles: top.roles(),
        log,
        store,
        dead_letters: tree.read("dead_letters", Keys::All),
        http: tree.read("http", Keys::All),
        gateway: tree.read("gateway", Keys::All),
        ingest: tree.read("ingest", Keys::All),
        rollup: tree.read("rollup", Keys::All),
        api: tree.read("api", Keys::All),
        auth: tree.read("auth", Keys::All),
        logging: tree.read("logging", Keys::All),
    };
    tree.note("", top.validate());
    tree.note("log", problems_of_log);
    tree.note("store", problems_of_store);
    tree.note("retention", retention.validate());
    tree.note("dead_letters", settings.dead_letters.validate());
    tree.note("http", settings.http.validate());
    tree.note("gateway", settings.gateway.validate());
    tree.note("ingest", settings.ingest.validate());
    tree.note("rollup", settings.rollup.validate());
    tree.note("api", settings.api.validate());
    tree.note("auth", settings.auth.validate());
    tree.note("logging", settings.logging.validate());
    settings
}

impl Settings {
    /// Looks at the sections together. `insecure` allows a listener that others can reach without TLS.
    ///
    /// # Errors
    /// A sentence for each thing that cannot work.
    pub(crate) fn checked(self, insecure: bool) -> Result<Checked, Problems> {
        let problems = topology::problems(&self, insecure);
        if problems.is_empty() { Ok(Checked(self)) } else { Err(Problems(problems)) }
    }

    /// Whether `role` runs in this process.
    pub(crate) fn runs(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Where the key of the built-in issuer is.
    pub(crate) fn key_file(&self) -> PathBuf {
        match self.auth.key_file() {
            Some(file) => file.to_owned(),
            None => self.data_dir.join(DEFAULT_KEY_FILE),
        }
    }
}

/// The name of the key that is made in the data directory.
const DEFAULT_KEY_FILE: &str = "token-key.pem";
