//! `headwater dead-letters …`: flags and their help.

use super::Remote;
use clap::{Args, Subcommand, ValueEnum};

/// `headwater dead-letters`.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// What was refused, newest first.
    List(List),
    /// One letter, with its original bytes.
    Show(Show),
    /// Take letters in again, as they are: those that are named, or all open ones that the filters mean.
    #[command(
        after_help = "Exit code 0: everything was taken in. 1: something was refused again, or it could not be done. 2: usage.\nExample: headwater dead-letters retry --reason timestamp_too_far_ahead --device 'plant-a/*' --yes"
    )]
    Retry(Retry),
    /// Change a letter's bytes in $VISUAL or $EDITOR, and take that in.
    Edit(Edit),
    /// Decide against letters: their bytes go, their account stays. Those that are named, or all open ones that the filters mean.
    Discard(Discard),
}

/// How letters are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Printed {
    /// For people
    Table,
    /// The API's JSON
    Json,
}

/// How to print.
#[derive(Debug, Args)]
pub(crate) struct Form {
    /// How to print
    #[arg(short, long, value_enum, default_value = "table")]
    output: Printed,
    /// The same as -o json
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

impl Form {
    /// How to print.
    pub(crate) const fn output(&self) -> Printed {
        if self.json { Printed::Json } else { self.output }
    }
}

/// Which letters.
#[derive(Debug, Args)]
pub(crate) struct Filters {
    /// Only this reason, such as not_numeric or conflict
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Only of this device, or a pattern with `*`; repeatable [default: all, and those of none]
    #[arg(long, value_name = "GLOB")]
    pub(crate) device: Vec<String>,
    /// Received from here on: RFC 3339, an epoch, or relative such as now-1h or now-7d/d [default: ever]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) from: Option<String>,
    /// Received up to here, exclusive [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) to: Option<String>,
}

impl Filters {
    /// As parameters of the API.
    pub(crate) fn parameters(&self) -> Vec<(String, String)> {
        let one = |name: &str, value: &Option<String>| value.as_ref().map(|value| (name.to_owned(), value.clone()));
        let devices = self.device.iter().map(|device| ("device".to_owned(), device.clone()));
        one("reason", &self.reason).into_iter().chain(devices).chain(one("from", &self.from)).chain(one("to", &self.to)).collect()
    }
}

/// `headwater dead-letters list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) filters: Filters,
    /// Only letters of this state: open, retried, discarded or all [default: open]
    #[arg(long)]
    pub(crate) state: Option<String>,
    /// At most this many letters [default: all]
    #[arg(long, value_name = "LETTERS")]
    pub(crate) limit: Option<u64>,
    #[command(flatten)]
    pub(crate) form: Form,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// `headwater dead-letters show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The letter's id
    pub(crate) id: String,
    /// Write nothing but the original bytes to standard output
    #[arg(long, conflicts_with_all = ["output", "json"])]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) form: Form,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// Letters by their ids, or by filters.
#[derive(Debug, Args)]
pub(crate) struct Chosen {
    /// Ids of letters
    #[arg(value_name = "ID", conflicts_with_all = ["reason", "device", "from", "to", "all"])]
    pub(crate) ids: Vec<String>,
    #[command(flatten)]
    pub(crate) filters: Filters,
    /// All that are open
    #[arg(long)]
    pub(crate) all: bool,
    /// Do not ask before many letters are changed
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// `headwater dead-letters retry`.
#[derive(Debug, Args)]
pub(crate) struct Retry {
    #[command(flatten)]
    pub(crate) chosen: Chosen,
    #[command(flatten)]
    pub(crate) form: Form,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// `headwater dead-letters edit`.
#[derive(Debug, Args)]
pub(crate) struct Edit {
    /// The letter's id
    pub(crate) id: String,
    /// What the edited bytes are [default: the letter's own format]
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
    #[command(flatten)]
    pub(crate) form: Form,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// `headwater dead-letters discard`.
#[derive(Debug, Args)]
pub(crate) struct Discard {
    #[command(flatten)]
    pub(crate) chosen: Chosen,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// Names what a command without a choice would have meant.
pub(crate) const NO_CHOICE: &str = "name letters by their ids, or choose them by --reason, --device, --from and --to, or say --all";

impl Chosen {
    /// Whether anything was chosen.
    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty() && !self.all && self.filters.parameters().is_empty()
    }
}
