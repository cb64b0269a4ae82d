//! What was meant to be sent, and what was answered: an append-only file from which a checker can say what a server must hold.
//!
//! Owns: the file's lines (NDJSON), written before a request's first byte and after each of its answers. `read` turns them
//! into what must and what may be in a store. Does not know: the server.
//!
//! ```text
//! {"journal":1,"seed":7,"devices":100,"metrics":2,"start":1767571200000000,"interval":10000000,"format":"json","faults":"late=0.01"}
//! {"id":0,"readings":[["plant-a/sensor-00000","temperature",0,1767571203001234,4626322717216342016]],"refused":1}
//! {"id":0,"outcome":"unknown","status":503}
//! {"id":0,"outcome":"ack","status":200}
//! ```
//!
//! A reading is device, metric, number of the sample, time in microseconds, and the bits of its f64; `refused` counts what the
//! server has to refuse. Invariant: a line is handed to the operating system before the request is: a killed simulator leaves
//! no request that is not in its journal. A last line that was cut is of a request that was never sent, or of an answer that
//! nobody acted upon.

mod read;

pub use read::{Account, Expectation, Expected, Key, Outcome, Request, Row};

use crate::encode::Format;
use crate::faults::Faults;
use crate::fleet::Fleet;
use crate::stream::Batch;
use anyhow::{Context, bail};
use headwater_core::time::Timestamp;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;

/// The version of the lines.
const VERSION: u64 = 1;

/// Who sent what is in a journal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// The fleet; its values can be worked out again.
    pub fleet: Fleet,
    /// What went wrong.
    pub faults: Faults,
    /// How it was written.
    pub format: Format,
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {
    file: BufWriter<File>,
}

impl Journal {
    /// Appends a run to a journal; makes the file where there is none.
    ///
    /// # Errors
    /// Those of the file.
    pub fn open(path: &Path, run: &Run) -> anyhow::Result<Self> {
        let opened = OpenOptions::new().create(true).append(true).open(path);
        let file = opened.with_context(|| format!("open the journal {}", path.display()))?;
        let begun = file.metadata().with_context(|| format!("look at the journal {}", path.display()))?.len() > 0;
        let mut journal = Self { file: BufWriter::new(file) };
        let Fleet { seed, devices, metrics, start, interval } = run.fleet;
        let head = json!({
            "journal": VERSION, "seed": seed, "devices": devices, "metrics": metrics, "start": start.0, "interval": interval,
            "format": run.format.as_str(), "faults": run.faults.to_string(),
        });
        // A blank line ends an earlier run, and with it a line that was cut.
        journal.line(&format!("{}{head}", if begun { "\n\n" } else { "" })).with_context(|| format!("write {}", path.display()))?;
        Ok(journal)
    }

    /// Notes a request that is about to be sent.
    ///
    /// # Errors
    /// Those of the file; the request must not be sent then.
    pub fn intend(&mut self, fleet: &Fleet, batch: &Batch) -> anyhow::Result<()> {
        let refused = batch.readings.len() - batch.good().count();
        let mut line = format!("{{\"id\":{},\"readings\":[", batch.number);
        for (i, reading) in batch.good().enumerate() {
            let between = if i == 0 { "" } else { "," };
            let (device, metric) = (fleet.device(reading.device), fleet.metrics()[reading.metric].name);
            let bits = reading.value.value().to_bits();
            line += &format!("{between}[\"{device}\",\"{metric}\",{},{},{bits}]", reading.sample, reading.time.0);
        }
        line += &format!("],\"refused\":{refused}}}");
        self.line(&line).context("write what is about to be sent to the journal")
    }

    /// Notes what became of sending a request.
    ///
    /// # Errors
    /// Those of the file.
    pub fn outcome(&mut self, request: u64, outcome: Outcome, status: Option<u16>) -> anyhow::Result<()> {
        let status = status.map_or_else(|| "null".to_owned(), |status| status.to_string());
        let line = format!("{{\"id\":{request},\"outcome\":\"{}\",\"status\":{status}}}", outcome.as_str());
        self.line(&line).context("write an answer to the journal")
    }

    fn line(&mut self, line: &str) -> std::io::Result<()> {
        self.file.write_all(line.as_bytes())?;
        self.file.write_all(b"\n")?;
        self.file.flush()
    }

    /// Reads a journal.
    ///
    /// # Errors
    /// A file that cannot be read; a line that cannot be, other than a last one that was cut.
    pub fn read(path: &Path) -> anyhow::Result<Account> {
        let bytes = std::fs::read(path).with_context(|| format!("read the journal {}", path.display()))?;
        Account::of(&bytes).with_context(|| format!("read the journal {}", path.display()))
    }
}

impl Run {
    fn of(line: &Value) -> anyhow::Result<Self> {
        let number = |name: &str| line[name].as_i64().with_context(|| format!("the head of a run has no number `{name}`"));
        let version = line["journal"].as_u64();
        if version != Some(VERSION) {
            bail!("the journal is of version {version:?}, which is not {VERSION}");
        }
        let fleet = Fleet {
            seed: line["seed"].as_u64().context("the head of a run has no seed")?,
            devices: u32::try_from(number("devices")?)?,
            metrics: usize::try_from(number("metrics")?)?,
            start: Timestamp(number("start")?),
            interval: number("interval")?,
        };
        let format = match line["format"].as_str() {
            Some("json") => Format::Json,
            Some("line") => Format::Line,
            other => bail!("there is no format {other:?}"),
        };
        let faults = Faults::parse(line["faults"].as_str().unwrap_or_default()).map_err(anyhow::Error::msg)?;
        Ok(Self { fleet, faults, format })
    }
}
