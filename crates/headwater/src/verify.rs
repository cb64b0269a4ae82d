//! `headwater verify`: whether the store holds what it must, beside a running server or without one.
//!
//! Owns: flags → what is looked at. [`walk`] reads and checks slice by slice, [`report`] counts and tells. Does not know: what must hold (the
//! core's `verify` does), which store it is.
//! Invariants: it only reads; exit code 0 = no difference, 1 = some, or it could not be done, 2 = usage.

mod report;
#[cfg(test)]
mod tests;
mod walk;

use crate::cli::Verify;
use crate::config::{self, Flags};
use crate::environment::Environment;
use crate::failure::{Failure, Outcome};
use crate::wiring;
use anyhow::Context;
use headwater_core::time::{DAY, TimeRange, Timestamp};
use headwater_wire::time;
use report::Report;
use walk::Slices;

pub(crate) fn run(args: &Verify, environment: &Environment) -> Outcome {
    let range = range(args.from.as_deref(), args.to.as_deref()).map_err(Failure::Usage)?;
    let flags = Flags::default().with("data_dir", "--data-dir", args.data_dir.as_ref().map(|dir| dir.to_string_lossy()));
    let settings = config::load(args.config.as_deref(), environment, flags)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let store = runtime.block_on(wiring::open_for_reading(&settings))?;
    let mut report = Report::new(range, args.json);
    let walked = runtime.block_on(walk::run(&*store, range, Slices::default(), &mut report)).context("read the store");
    // What was found until then is told, too. That nobody reads it is no reason to call the store clean.
    let (clean, told) = (report.is_clean(), report.finish(walked.is_ok()));
    walked?;
    if !clean {
        return Err(Failure::Told);
    }
    Ok(told?)
}

/// Whole UTC days: rollups of days can only be checked whole.
fn range(from: Option<&str>, to: Option<&str>) -> Result<TimeRange, String> {
    let read = |flag: &str, text: Option<&str>| match text.map(|text| (text, time::parse(text))) {
        None => Ok(None),
        Some((_, Some(time))) => Ok(Some(time)),
        Some((text, None)) => Err(format!("{flag} {text}: a time is RFC 3339, such as 2026-11-23T15:00:00Z, or a number since 1970")),
    };
    let (from, to) = (read("--from", from)?, read("--to", to)?);
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        return Err(format!("--from {from} is not before --to {to}"));
    }
    let TimeRange { from: least, to: greatest } = TimeRange::ALL;
    Ok(TimeRange {
        from: from.map_or(least, |from| from.floor_to(DAY)),
        to: to.map_or(greatest, |to| Timestamp(to.0.saturating_add(DAY - 1)).floor_to(DAY)),
    })
}
