//! `headwater move`: everything from a data directory into a new database, for whoever has outgrown the embedded store.
//!
//! Owns: flags → what is moved where, the order of things. [`copy`] carries and compares slice by slice, [`report`] tells. Does not know: which
//! stores these are.
//!
//! Invariants: the data directory is held for as long as it takes, so no server runs on it; nothing changes in it but that what was acknowledged is
//! applied and what is open is sealed; everything that was carried is read back and compared before the move is complete, and positions come last; it
//! may be cut short anywhere and run again.

mod copy;
mod report;

use crate::cli::Move;
use crate::config::{self, Flags, Settings};
use crate::environment::Environment;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::wiring::{self, Begun, Entering, Leaving, Source};
use anyhow::Context;
use headwater_core::store::{Account, Queries, Totals};
use report::Report;
use std::path::Path;
use std::time::Duration;

/// For the counts.
const LIFETIME: Duration = Duration::from_secs(600);

pub(crate) fn run(args: &Move, environment: &Environment) -> Outcome {
    let dir = source_dir(&args.from).map_err(Failure::Usage)?;
    let target = wiring::entering(&args.to, args.password_file.clone(), args.tls_ca.clone());
    let target = target.map_err(|problems| Failure::Usage(format!("--to: {problems}")))?;
    let flags = Flags::default().with("data_dir", "--from", Some(dir.to_string_lossy()));
    let settings = config::load(args.config.as_deref(), environment, flags)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let moved: anyhow::Result<Report> = runtime.block_on(async {
        let leaving = wiring::open_leaving(&settings).await?;
        let moved = match wiring::open_entering(target).await {
            Ok(entering) => all(&leaving, &entering, &settings, args).await,
            Err(error) => Err(error),
        };
        tokio::task::spawn_blocking(move || leaving.close()).await.context("close the data directory")?;
        moved
    });
    Ok(moved?.finish(args.json)?)
}

/// The directory of `sqlite:DIR`.
fn source_dir(from: &str) -> Result<&Path, String> {
    let dir = from.strip_prefix("sqlite:").filter(|dir| !dir.is_empty() && !dir.starts_with("//"));
    dir.map(Path::new).ok_or_else(|| "--from: is written sqlite:DIR, with the data directory of a stopped server".to_owned())
}

async fn all(leaving: &Leaving, entering: &Entering, settings: &Settings, args: &Move) -> anyhow::Result<Report> {
    wiring::bring_to_rest(leaving, settings).await.context("apply and seal what is in the data directory")?;
    let mut account = leaving.store.account().await.context("read the counts")?;
    let mut totals = leaving.store.snapshot(LIFETIME).await?.totals().await.context("read the counts")?;
    if args.new_log {
        retire(&mut account, &mut totals);
    }
    let source =
        Source { place: args.from.clone(), identity: leaving.log.identity().0, state: state_of(&totals), next_series: account.next_series };
    let begun = entering.begin(&source).await?;
    let mut report = Report::new(&totals);
    if begun == Begun::Complete {
        output::message("this move was completed before; there is nothing to do");
        return Ok(report);
    }
    if begun == Begun::Resumed {
        output::message("going on with a move that was cut short");
    }
    let work = async {
        copy::everything(&*leaving.store, entering, begun == Begun::Resumed, &mut report).await?;
        entering.finish(&account, &totals).await.context("complete the move")
    };
    work.await.inspect_err(|_| output::message("nothing is lost: the same command goes on where this one ended"))?;
    Ok(report)
}

/// Keeps the counts of the logs that were read, under identities that no other log is measured by.
fn retire(account: &mut Account, totals: &mut Totals) {
    account.positions.iter_mut().for_each(|applied| applied.position.log = applied.position.log.retired());
    totals.positions.iter_mut().for_each(|position| position.log = position.log.retired());
}

/// Everything that changes when a store takes something in, or seals.
fn state_of(totals: &Totals) -> String {
    let Totals { received, stored, duplicate, conflict, dead, unsealed, positions, gaps, .. } = totals;
    let letters = [totals.dead_letters, totals.dead_letters_open, totals.dead_letters_dropped, totals.dead_letters_discarded];
    let positions: Vec<String> = positions.iter().map(|p| format!("{}/{}@{}", p.log, p.partition, p.next)).collect();
    format!(
        "received {received}, stored {stored}, duplicate {duplicate}, conflict {conflict}, dead {dead}, unsealed {unsealed}, \
         letters {letters:?}, gaps {gaps}, at {}",
        positions.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_data_directory_is_moved() {
        assert_eq!(source_dir("sqlite:a/b"), Ok(Path::new("a/b")));
        for other in ["sqlite:", "sqlite://a", "a/b", "postgres://h/d", "kafka://h/t"] {
            assert!(source_dir(other).unwrap_err().contains("sqlite:DIR"), "{other}");
        }
    }
}
