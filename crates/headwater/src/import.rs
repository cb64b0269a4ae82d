//! `headwater import`: files of readings to a server.
//!
//! Owns: the order of things. [`source`] opens a file, [`rows`] and [`chunks`] cut it at the borders of rows, [`send`] posts one request after
//! the other, [`report`] says what became of it.
//!
//! Does not know: what a reading is; the server looks at every row. Invariant: a file's requests go one after the other, so
//! that the first reading of a key in the file is the first in the log. The next request is prepared while one is on its way.
//! To resume is to run it again: what is there already is a duplicate.

mod chunks;
mod line;
mod report;
mod rows;
mod send;
mod source;

use crate::cli::{Format, Import};
use crate::client::Client;
use crate::environment::Environment;
use crate::failure::{Failure, Outcome};
use crate::output;
use chunks::{Chunk, Chunks};
use headwater_web::Scope;
use report::{Report, Totals};
use source::Source;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

/// Requests that are prepared ahead: one on its way, one waiting, one being cut.
const AHEAD: usize = 1;

pub(crate) fn run(args: &Import, environment: &Environment) -> Outcome {
    let files = formats(&args.files, args.format).map_err(Failure::Usage)?;
    let mut client = Client::new(&args.remote, environment, Scope::WriteReadings)?;
    let started = Instant::now();
    let mut totals = Totals::default();
    let outcome = all(&files, &mut client, &mut totals);
    if outcome.is_ok() || totals.any_received() || args.json {
        report::summary(&totals, started.elapsed(), args.json)?;
    }
    outcome
}

/// Sends file after file. One that cannot be read does not keep the others; a server that refuses does.
fn all(files: &[(&Path, Format)], client: &mut Client, totals: &mut Totals) -> Outcome {
    let mut outcome = Ok(());
    for (path, format) in files {
        let mut report = Report::of(path);
        let sent = one(path, *format, client, &mut report);
        report.finish();
        totals.add(report.totals());
        match sent {
            Ok(()) => {}
            Err(Stopped::ByFile(why)) => {
                output::message(&format!("headwater: {}: {why:#}", report.name()));
                outcome = Err(Failure::Told);
            }
            Err(Stopped::ByServer(why)) => {
                output::message(&format!("headwater: {}: {why:#}", report.name()));
                if totals.any_received() {
                    output::message("what was accepted is safe; run the same command again to resume (repeats are duplicates)");
                }
                return Err(Failure::Told);
            }
        }
    }
    outcome
}

/// Why a file was not sent to its end.
enum Stopped {
    /// It cannot be read, here or by the server.
    ByFile(anyhow::Error),
    /// The server cannot be reached or refuses.
    ByServer(anyhow::Error),
}

fn one(path: &Path, format: Format, client: &mut Client, report: &mut Report) -> Result<(), Stopped> {
    let source = Source::open(path).map_err(Stopped::ByFile)?;
    report.expect(source.bytes());
    let progress = source.progress();
    let chunks = Chunks::new(source.into_reader(), format);
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(AHEAD);
        scope.spawn(move || {
            for chunk in chunks {
                // Nobody receives any more: the sending has failed and tells why.
                if sender.send(chunk.map(|chunk| (chunk, progress.bytes()))).is_err() {
                    return;
                }
            }
        });
        send_all(receiver, format, client, report)
    })
}

type Prepared = anyhow::Result<(Chunk, u64)>;

fn send_all(chunks: Receiver<Prepared>, format: Format, client: &mut Client, report: &mut Report) -> Result<(), Stopped> {
    for chunk in chunks {
        let (chunk, bytes) = chunk.map_err(Stopped::ByFile)?;
        send::chunk(client, format, &chunk, report)?;
        report.progressed(bytes);
    }
    Ok(())
}

/// What each file is written in; told before anything is sent.
fn formats(files: &[PathBuf], format: Option<Format>) -> Result<Vec<(&Path, Format)>, String> {
    let of = |path| match format {
        Some(format) => Ok((path, format)),
        None => source::format_of(path).map(|format| (path, format)),
    };
    files.iter().map(|path| of(path.as_path())).collect()
}
