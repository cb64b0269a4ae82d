//! The command line: names, flags and their help.
//!
//! Owns: how a command is written; those for whoever runs a server are in [`operating`]. Does not know: what it does.

mod operating;

pub(crate) use operating::{Backup, Completions, ConfigCommand, ConfigWanted, Doctor, Restore};

mod dead_letters;

pub(crate) use dead_letters::{Chosen, DeadLetters, Discard, Edit, List, NO_CHOICE, Printed, Retry, Show};

use crate::config::{Flags, Role};
use clap::{Args, Parser, Subcommand, ValueEnum};
use headwater_simulator::faults::Faults;
use std::path::PathBuf;
use std::time::Duration;

/// A store for sensor readings with exact statistics.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true, max_term_width = 120)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What there is to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run every role in this process, on nothing but a data directory.
    Up(Up),
    /// Run some roles in this process.
    Run(Run),
    /// Tokens of the built-in issuer.
    #[command(subcommand)]
    Token(Token),
    /// Send files of readings to a server; run it again to resume (repeats are duplicates).
    Import(Import),
    /// Statistics of readings: count, average, percentiles and more, for any range.
    Stats(Stats),
    /// Raw readings.
    Readings(Readings),
    /// The newest reading of each series.
    Latest(Series),
    /// The series that there are.
    Series(Series),
    /// What was refused, and the way back for it.
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Look at everything that is stored: counts, checksums, rollups against readings; beside a running server or without one.
    Verify(Verify),
    /// Move everything from a stopped server's data directory into a new PostgreSQL database; run it again to resume.
    Move(Move),
    /// Copy a data directory while its server runs, or without one; the copy is one state of everything, and nothing is written over.
    Backup(Backup),
    /// Make a data directory out of a copy, after comparing every checksum.
    Restore(Restore),
    /// The configuration as it is, and what is wrong with it.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at everything that a server needs here: directory, disk, limits, certificate, log, store.
    Doctor(Doctor),
    /// Print a script that completes commands and flags in a shell.
    Completions(Completions),
    /// Seal everything that is open now; it would be sealed by itself sooner or later.
    Seal(Seal),
    /// Send what a fleet of sensors measures, with faults on order, and tell how it went.
    Simulate(Simulate),
}

/// Flags of a server; each beats the environment, which beats the file.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// Where everything is kept [default: headwater-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// A configuration file in TOML [env: HEADWATER_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Listen where others can reach it, although there is no TLS (http.tls_cert and http.tls_key)
    #[arg(long)]
    pub(crate) insecure: bool,
}

/// `headwater up`.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Use headwater-demo/ and run a fleet of 1,000 sensors that sends to it, with faults
    #[arg(long)]
    pub(crate) demo: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

/// `headwater run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Which roles
    #[arg(required = true, value_name = "ROLE")]
    pub(crate) roles: Vec<Role>,
    #[command(flatten)]
    pub(crate) server: Server,
}

impl Server {
    /// What the flags say to the configuration.
    pub(crate) fn flags(&self) -> Flags {
        Flags::default().with("data_dir", "--data-dir", self.data_dir.as_ref().map(|dir| dir.to_string_lossy())).with(
            "http.listen",
            "--listen",
            self.listen.as_deref(),
        )
    }
}

/// `headwater token`.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Sign a token with the key in the data directory; it alone is printed on standard output.
    #[command(after_help = "Example: headwater token issue --scope 'read:stats read:readings' --devices 'plant-a/*' --ttl 30d")]
    Issue(Issue),
    /// Make another key, which signs from now on; tokens of the one before stay good until they expire. Its id is printed.
    RotateKey(RotateKey),
}

/// `headwater token rotate-key`.
#[derive(Debug, Args)]
pub(crate) struct RotateKey {
    /// Make everything worthless that was signed before, as when the key has leaked
    #[arg(long)]
    pub(crate) revoke: bool,
    /// Where the server keeps its key [default: headwater-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The server's configuration file [env: HEADWATER_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// `headwater token issue`.
#[derive(Debug, Args)]
pub(crate) struct Issue {
    /// What it allows, separated by spaces: write:readings read:stats read:readings read:devices read:dead-letters write:dead-letters, or admin for all
    #[arg(long, required = true, value_name = "SCOPES")]
    pub(crate) scope: Vec<String>,
    /// Only these devices; `*` is any run of characters; repeatable [default: all]
    #[arg(long, value_name = "GLOB")]
    pub(crate) devices: Vec<String>,
    /// How long it is valid; at most auth.max_ttl
    #[arg(long, default_value = "24h", value_parser = headwater_web::duration::parse)]
    pub(crate) ttl: Duration,
    /// Whom it is for; stands in the server's log
    #[arg(long, value_name = "NAME", default_value = "operator")]
    pub(crate) subject: String,
    /// Where the server keeps its key [default: headwater-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The server's configuration file [env: HEADWATER_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Which server, and as whom.
#[derive(Debug, Args)]
pub(crate) struct Remote {
    /// The server [env: HEADWATER_URL] [default: http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// For https://: the certificate of an authority to trust beside the system's, in PEM [env: HEADWATER_CA_CERT]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_cert: Option<PathBuf>,
    /// A file that holds a token [env: HEADWATER_TOKEN, the token itself]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// With no token: where the key is that signs a short-lived one [default: headwater-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// With no token: the server's configuration file [env: HEADWATER_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// `headwater import`.
#[derive(Debug, Args)]
#[command(after_help = "Files end in .csv, .ndjson, .jsonl, .lp or .line, each also with .gz or .zst.")]
pub(crate) struct Import {
    /// The files; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// What is in them [default: by the file's name]
    #[arg(long)]
    pub(crate) format: Option<Format>,
    /// Print the summary as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// What a file of readings is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Comma-separated, long or wide
    Csv,
    /// One JSON object a line
    Ndjson,
    /// InfluxDB line protocol
    Line,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Columns for people
    Table,
    /// The API's JSON
    Json,
    /// The API's CSV
    Csv,
}

/// Flags that all questions have.
#[derive(Debug, Args)]
pub(crate) struct Asking {
    /// A device, or a pattern with `*`; repeatable [default: all]
    #[arg(long, value_name = "GLOB")]
    pub(crate) device: Vec<String>,
    /// A metric, or a pattern with `*`; repeatable [default: all]
    #[arg(long, value_name = "GLOB")]
    pub(crate) metric: Vec<String>,
    /// Only series with this tag; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = tag)]
    pub(crate) tag: Vec<(String, String)>,
    /// At most this many rows [default: all]
    #[arg(long, value_name = "ROWS")]
    pub(crate) limit: Option<u64>,
    /// How to print
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Output,
    /// The same as -o json
    #[arg(long, conflicts_with = "output")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

impl Asking {
    /// How to print.
    pub(crate) const fn output(&self) -> Output {
        if self.json { Output::Json } else { self.output }
    }
}

/// A range of time.
#[derive(Debug, Args)]
pub(crate) struct Range {
    /// From here on: RFC 3339, an epoch, or relative such as now-1h or now-7d/d [default: now-1h]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) from: Option<String>,
    /// Up to here, exclusive [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) to: Option<String>,
}

/// `headwater stats`.
#[derive(Debug, Args)]
#[command(after_help = "Example: headwater stats --device 'plant-a/*' --metric temperature --from now-1d --step 1h --stats count,avg,p99")]
pub(crate) struct Stats {
    #[command(flatten)]
    pub(crate) asking: Asking,
    #[command(flatten)]
    pub(crate) range: Range,
    /// Width of a bucket, such as 15m, 1h or 1d [default: one bucket]
    #[arg(long)]
    pub(crate) step: Option<String>,
    /// Of count,sum,avg,min,max,range,stddev,stddev_pop,first,last,p0…p100 [default: count,avg,min,max,p50,p95,p99]
    #[arg(long, value_name = "LIST")]
    pub(crate) stats: Option<String>,
    /// A list of device and tag.NAME, or none [default: each series]
    #[arg(long, value_name = "LIST")]
    pub(crate) group_by: Option<String>,
    /// Buckets without data: none or null [default: none]
    #[arg(long)]
    pub(crate) fill: Option<String>,
}

/// `headwater readings`.
#[derive(Debug, Args)]
pub(crate) struct Readings {
    #[command(flatten)]
    pub(crate) asking: Asking,
    #[command(flatten)]
    pub(crate) range: Range,
}

/// `headwater latest` and `headwater series`.
#[derive(Debug, Args)]
pub(crate) struct Series {
    #[command(flatten)]
    pub(crate) asking: Asking,
}

/// `headwater verify`.
#[derive(Debug, Args)]
#[command(after_help = "Exit code 0: no difference. 1: differences (the first 20 are printed), or it could not be done. 2: usage.")]
pub(crate) struct Verify {
    /// Only from the UTC day of this time on: RFC 3339 or an epoch [default: everything]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) from: Option<String>,
    /// Only up to this time, exclusive, and the rest of its UTC day [default: everything]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) to: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Where the server keeps everything [default: headwater-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The server's configuration file [env: HEADWATER_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// `headwater move`.
#[derive(Debug, Args)]
#[command(
    after_help = "The server is stopped first. What is open is sealed; nothing else changes in the data directory.\nExample: headwater move --from sqlite:headwater-data --to postgres://headwater@db-1/headwater --password-file pw"
)]
pub(crate) struct Move {
    /// The data directory, as sqlite:DIR
    #[arg(long, value_name = "sqlite:DIR")]
    pub(crate) from: String,
    /// A database with nothing in it, or with a part of this move
    #[arg(long, value_name = "postgres://…")]
    pub(crate) to: String,
    /// A file with the database's password
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// The authorities that may have signed the database's certificate, in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Another log comes next, such as Kafka: it is read from its beginning (by default ingest goes on in the log that is there)
    #[arg(long)]
    pub(crate) new_log: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The server's configuration file: its sections `ingest` and `rollup` are kept to [env: HEADWATER_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// `headwater seal`.
#[derive(Debug, Args)]
pub(crate) struct Seal {
    /// How to print
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Output,
    /// The same as -o json
    #[arg(long, conflicts_with = "output")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

impl Seal {
    /// How to print.
    pub(crate) const fn output(&self) -> Output {
        if self.json { Output::Json } else { self.output }
    }
}

/// `headwater simulate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Faults: duplicates, retries, late, out_of_order, future, malformed, nan, clock_jump, offline.\nExample: headwater simulate --devices 500 --rate 5000/s --faults duplicates=1%,late=2%,malformed=0.1% --duration 60s"
)]
pub(crate) struct Simulate {
    /// How many sensors; each measures temperature and humidity
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) devices: u32,
    /// How often each of them measures
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = headwater_web::duration::parse)]
    pub(crate) interval: Duration,
    /// Readings a second of the whole fleet, such as 5000/s, instead of --interval
    #[arg(long, value_name = "N/s", value_parser = crate::simulate::rate, conflicts_with = "interval")]
    pub(crate) rate: Option<f64>,
    /// What goes wrong and how often, such as duplicates=1%,late=2%,malformed=0.1% [default: nothing]
    #[arg(long, value_name = "FAULT=RATE,…", default_value = "", hide_default_value = true, value_parser = Faults::parse)]
    pub(crate) faults: Faults,
    /// The same seed at the same time measures the same and fails in the same way
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Append what is sent and what is answered to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,
    /// How long to send [default: until interrupted]
    #[arg(long, value_name = "DURATION", value_parser = headwater_web::duration::parse)]
    pub(crate) duration: Option<Duration>,
    /// How readings are written
    #[arg(long, value_enum, default_value = "json")]
    pub(crate) format: Written,
    /// Readings to a request; fewer where fewer are due within a second
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) batch: usize,
    /// Print the account as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// What a fleet writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Written {
    /// JSON of /v1/readings
    Json,
    /// InfluxDB line protocol
    Line,
}

fn tag(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("a tag is written NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests;
