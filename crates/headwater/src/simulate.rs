//! `headwater simulate`: a fleet of sensors that sends to a server.
//!
//! Owns: flags into a fleet, the progress line, the account at the end. Does not know: what a fleet measures or what goes wrong
//! (the crate `simulator` does).
//! Invariant: progress goes to standard error, the account to standard output; an answer that was not what it had to be makes
//! the exit code 1.

use crate::cli::Simulate;
use crate::client::Client;
use crate::environment::Environment;
use crate::failure::{Failure, Outcome};
use crate::lifecycle::Stop;
use crate::output;
use anyhow::Context;
use headwater_core::clock::{Clock, SystemClock};
use headwater_core::time::Timestamp;
use headwater_simulator::encode::Format;
use headwater_simulator::fleet::Fleet;
use headwater_simulator::load::{self, Config, Deps};
use headwater_simulator::report::{Counts, Progress, Report};
use headwater_web::Scope;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, interval};

const NOT_FOUND: u16 = 404;
/// Temperature and humidity.
const METRICS: usize = 2;
/// Where there is no terminal, a line this often.
const EVERY: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &Simulate, environment: &Environment) -> Outcome {
    let config = config(args, SystemClock.now());
    config.validate().map_err(Failure::Usage)?;
    let mut client = Client::new(&args.remote, environment, Scope::WriteReadings)?;
    let target = client.target()?;
    // Who cannot be reached, or does not know the token, is told before anything is sent. A gateway alone does not have the route.
    let status = client.get("/v1/status", &[])?;
    if status.status != NOT_FOUND {
        status.succeeded()?;
    }
    let client = Mutex::new(client);
    let bearer = Arc::new(move || client.lock().unwrap_or_else(PoisonError::into_inner).bearer());
    let deps = Deps { target, bearer, progress: Arc::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let report = runtime.block_on(watched(config, deps))?;
    told(&report, args.json)?;
    if report.is_clean() { Ok(()) } else { Err(Failure::Told) }
}

fn config(args: &Simulate, start: Timestamp) -> Config {
    let interval = match args.rate {
        Some(rate) => Fleet::interval_for(rate, args.devices, METRICS),
        None => i64::try_from(args.interval.as_micros()).unwrap_or(i64::MAX),
    };
    let fleet = Fleet { seed: args.seed, devices: args.devices, metrics: METRICS, start, interval };
    Config {
        faults: args.faults,
        format: match args.format {
            crate::cli::Written::Json => Format::Json,
            crate::cli::Written::Line => Format::Line,
        },
        batch: args.batch,
        duration: args.duration,
        journal: args.journal.clone(),
        ..Config::new(fleet)
    }
}

/// Runs until the end or the first signal; the second signal ends it at once.
async fn watched(config: Config, deps: Deps) -> anyhow::Result<Report> {
    let stop = Stop::on_signals()?;
    let progress = Arc::clone(&deps.progress);
    tokio::select! {
        report = load::run(config, deps, stop.soft.clone()) => { output::end_live(); report }
        () = stop.hard.cancelled() => { output::end_live(); Err(anyhow::anyhow!("stopped at once by a second signal")) }
        () = show(&progress) => Err(anyhow::anyhow!("the progress ended")),
    }
}

/// The progress line, for ever.
async fn show(progress: &Progress) {
    let (mut second, mut last, mut told) = (interval(Duration::from_secs(1)), Counts::default(), Instant::now());
    second.tick().await;
    loop {
        second.tick().await;
        let counts = progress.counts();
        let line = line(&counts, &last);
        last = counts;
        if output::messages_on_terminal() {
            output::live(&line);
        } else if told.elapsed() >= EVERY {
            told = Instant::now();
            output::message(&line);
        }
    }
}

fn line(counts: &Counts, before: &Counts) -> String {
    let rate = counts.acked - before.acked;
    let again = if counts.unknown > counts.lost { format!(", {} sent again", counts.unknown - counts.lost) } else { String::new() };
    format!("{rate} readings/s, {} accepted, {} rejected, {} in flight{again}", counts.acked, counts.refused, counts.in_flight)
}

fn told(report: &Report, json: bool) -> anyhow::Result<()> {
    let mut out = output::data();
    if json {
        writeln!(out, "{}", report.json())?;
    } else {
        writeln!(out, "{report}")?;
    }
    Ok(out.flush()?)
}

/// `--rate 5000/s`.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    match number.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err(format!("`{text}` is no rate of readings; write it like 5000/s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_with_and_without_their_unit() {
        assert_eq!((rate("5000/s"), rate("0.5"), rate("1e3/s")), (Ok(5000.0), Ok(0.5), Ok(1000.0)));
        for text in ["", "/s", "0/s", "-1/s", "NaN", "inf", "5/m"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_progress_line_counts_what_came_since() {
        let before = Counts { acked: 100, ..Counts::default() };
        let counts = Counts { acked: 350, refused: 2, in_flight: 3, unknown: 5, lost: 4, ..Counts::default() };
        assert_eq!(line(&counts, &before), "250 readings/s, 350 accepted, 2 rejected, 3 in flight, 1 sent again");
    }
}
