//! `cargo xtask check`: everything that is wrong without running a test.

use crate::metadata::Metadata;
use crate::{rules, run_with, tidy, watched};
use std::path::Path;
use std::process::Command;

/// Format, lints, documentation, licences and bans, the rule of dependencies, tidiness, what is shipped for Prometheus and Grafana.
pub(crate) fn run() -> anyhow::Result<()> {
    let cargo = |args: &str| run_with(Command::new("cargo").args(args.split(' ')).env("RUSTDOCFLAGS", "-D warnings"));
    cargo("fmt --all --check")?;
    cargo("clippy --workspace --all-targets --features headwater/failpoints,headwater/otlp --locked -- -D warnings")?;
    // The binary as it is by default: what is only in it with a feature is not there to be looked at above.
    cargo("clippy --package headwater --bins --locked -- -D warnings")?;
    cargo("doc --workspace --no-deps --locked --quiet")?;
    let metadata = Metadata::read()?;
    let mut problems = rules::edges(&metadata);
    problems.extend(rules::supply(&metadata));
    problems.extend(tidy::problems()?);
    problems.extend(watched::problems(Path::new("."))?);
    for problem in &problems {
        println!("{problem}");
    }
    anyhow::ensure!(problems.is_empty(), "{} problems", problems.len());
    println!("check: {} crates of ours, {} packages in all, no problems", metadata.members().count(), metadata.packages.len());
    Ok(())
}
