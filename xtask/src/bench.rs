//! `cargo xtask bench write | query | dashboard | slow | scaled`: speed, size and freshness, end to end over HTTP, with fsync.
//!
//! Owns: which loads there are and what is printed. Does not know: the crates' insides; the server is the release binary with
//! its defaults. Every figure of writing stands beside a baseline of the same run: one row a reading into SQLite.
//!
//! The load of `write` is what an agent sends: 10,000 series, one reading of each per round (consecutive lines are different
//! series), two decimals, times with a jitter of ±50 ms; a closed loop over a few keep-alive connections for the peak, or an
//! open loop at `--rate` readings a second.

mod baseline;
mod dashboard;
mod load;
mod query;
mod scaled;
mod server;

use anyhow::Context;
use load::Load;

/// The task: runs itself again in a release build, so that the load generator and the baseline are as fast as the server.
pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        crate::run("cargo", &["build", "--release", "--locked", "--bin", "headwater"])?;
        let mut command = std::process::Command::new("cargo");
        return crate::run_with(command.args(["run", "--release", "--locked", "--quiet", "--package", "xtask", "--", "bench"]).args(args));
    }
    let (what, options) = args.split_first().context("say what: bench write, query, dashboard, slow or scaled")?;
    match what.as_str() {
        "write" => load::write(&Load::parse(options)?),
        "slow" => load::slow(options),
        "query" => query::run(options),
        "dashboard" => dashboard::run(options),
        "scaled" => scaled::run(options),
        other => anyhow::bail!("there is no bench {other}; there are write, query, dashboard, slow and scaled"),
    }
}

/// The numbers of `--name value` pairs; unknown names are errors.
fn numbers<const N: usize>(args: &[String], names: [&str; N], defaults: [u64; N]) -> anyhow::Result<[u64; N]> {
    let mut values = defaults;
    for pair in args.chunks(2) {
        let [name, value] = pair else { anyhow::bail!("{} needs a value", pair[0]) };
        let at = names
            .iter()
            .position(|known| known == name)
            .with_context(|| format!("unknown option {name}; there are {}", names.join(" ")))?;
        values[at] = value.parse().with_context(|| format!("{name} {value}"))?;
    }
    Ok(values)
}
