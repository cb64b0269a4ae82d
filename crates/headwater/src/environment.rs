//! The environment of the process, read once.
//!
//! Owns: which variables mean something to Headwater. Does not know: what the configuration's keys are.
//! Invariant: nothing else in the binary looks at the environment; tests make one from pairs.

use std::collections::BTreeMap;

const PREFIX: &str = "HEADWATER_";

/// Names and values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// What the process was started with; names and values that are not UTF-8 are made so.
    pub(crate) fn of_process() -> Self {
        std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())).collect()
    }

    /// The address of the server that client commands talk to.
    pub(crate) fn url(&self) -> Option<&str> {
        self.set("HEADWATER_URL")
    }

    /// The token that client commands send.
    pub(crate) fn token(&self) -> Option<&str> {
        self.set("HEADWATER_TOKEN")
    }

    /// The certificate of an authority that client commands trust beside the system's.
    pub(crate) fn ca_cert(&self) -> Option<&str> {
        self.set("HEADWATER_CA_CERT")
    }

    /// The program that a person edits texts with, and its arguments.
    pub(crate) fn editor(&self) -> &str {
        self.set("VISUAL").or(self.set("EDITOR")).unwrap_or("vi")
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> Option<&str> {
        self.set("HEADWATER_CONFIG")
    }

    /// Where the service manager listens.
    pub(crate) fn notify_socket(&self) -> Option<&str> {
        self.set("NOTIFY_SOCKET")
    }

    /// Within how many microseconds it wants to hear of a process, and which one.
    pub(crate) fn watchdog(&self) -> (Option<&str>, Option<&str>) {
        (self.set("WATCHDOG_USEC"), self.set("WATCHDOG_PID"))
    }

    /// Where a fault test wants the process to die.
    #[cfg(feature = "failpoints")]
    pub(crate) fn failpoint(&self) -> Option<&str> {
        self.set("HEADWATER_FAILPOINT")
    }

    /// The bug that a test of the tests wants.
    #[cfg(feature = "failpoints")]
    pub(crate) fn planted_bug(&self) -> Option<&str> {
        self.set("HEADWATER_PLANTED_BUG")
    }

    /// Whether colours are unwanted (<https://no-color.org>: set and not empty), or the terminal cannot show them.
    pub(crate) fn no_color(&self) -> bool {
        self.set("NO_COLOR").is_some() || self.set("TERM") == Some("dumb")
    }

    /// The variables that are configuration, as (name, the part after the prefix): those with a double underscore. Every other
    /// `HEADWATER_*` is somebody else's, such as the `HEADWATER_PORT` that Kubernetes makes for a service of that name.
    pub(crate) fn configuration(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.0.iter().filter_map(|(name, value)| {
            let rest = name.strip_prefix(PREFIX)?;
            // `HEADWATER__DATA_DIR`: the prefix has taken one of the two.
            (rest.starts_with('_') || rest.contains("__")).then_some((name.as_str(), rest, value.as_str()))
        })
    }

    fn set(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}
