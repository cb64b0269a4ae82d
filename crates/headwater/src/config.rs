//! The configuration: defaults < file < environment < flags.
//!
//! Owns: the sections, where their values come from, and whether together they can work. Does not know: what a role does with
//! its section (each role's `Config` says that and validates itself).
//!
//! Invariants: an unknown key is a problem, never ignored; all problems are reported at once, each with its path; what the
//! wiring gets has been through [`Settings::checked`].

mod auth;
mod backends;
mod effective;
mod sections;
mod topology;
mod tree;

#[cfg(test)]
mod tests;

pub(crate) use auth::Auth;
pub(crate) use backends::{Log, Store};
pub(crate) use effective::Section;
pub(crate) use sections::{DeadLetters, Logging, Role};
pub(crate) use tree::Flags;

use crate::environment::Environment;
use sections::{Retention, Top};
use std::fmt;
use std::path::{Path, PathBuf};
use tree::{Keys, Origins, Tree};

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
    /// `[retention]`.
    pub(crate) retention: Retention,
    /// `[logging]`.
    pub(crate) logging: Logging,
    /// `[otlp]`.
    #[cfg(feature = "otlp")]
    pub(crate) otlp: crate::otlp::Otlp,
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

impl Problems {
    /// Each of them.
    pub(crate) fn lines(&self) -> &[String] {
        &self.0
    }
}

/// The configuration, everything that is wrong with it, and where its values come from.
pub(crate) struct Looked {
    /// What it says; a value that cannot be read counts as its default.
    pub(crate) settings: Settings,
    /// What is wrong, with each section and with all together.
    pub(crate) problems: Problems,
    origins: Origins,
}

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
    let (settings, problems, _) = gather(file, environment, flags)?;
    if problems.is_empty() { Ok(settings) } else { Err(Problems(problems)) }
}

/// Reads the configuration and looks for everything that is wrong with it, as a server would at its start; see [`Settings::checked`].
///
/// # Errors
/// The file cannot be read at all.
pub(crate) fn look(file: Option<&Path>, environment: &Environment, flags: Flags, insecure: bool) -> Result<Looked, Problems> {
    let (settings, mut problems, origins) = gather(file, environment, flags)?;
    problems.extend(topology::problems(&settings, insecure));
    Ok(Looked { settings, problems: Problems(problems), origins })
}

fn gather(file: Option<&Path>, environment: &Environment, flags: Flags) -> Result<(Settings, Vec<String>, Origins), Problems> {
    let mut tree = Tree::gather(file.or(environment.config().map(Path::new)), environment, flags)?;
    let settings = read(&mut tree);
    let (problems, origins) = tree.finish();
    Ok((settings, problems, origins))
}

fn read(tree: &mut Tree) -> Settings {
    let top: Top = tree.read("", Keys::Only(Top::KEYS));
    let (log, problems_of_log) = Log::of(tree.read("log", Keys::All));
    let (store, problems_of_store) = Store::of(tree.read("store", Keys::All));
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
        retention: tree.read("retention", Keys::All),
        logging: tree.read("logging", Keys::All),
        #[cfg(feature = "otlp")]
        otlp: tree.read("otlp", Keys::All),
    };
    #[cfg(feature = "otlp")]
    tree.note("otlp", settings.otlp.validate());
    #[cfg(not(feature = "otlp"))]
    tree.refuse("otlp", "this binary was built without traces; build it with `--features otlp`");
    tree.note("", top.validate());
    tree.note("log", problems_of_log);
    tree.note("store", problems_of_store);
    tree.note("retention", settings.retention.validate());
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
pub(crate) const DEFAULT_KEY_FILE: &str = "token-key.pem";
