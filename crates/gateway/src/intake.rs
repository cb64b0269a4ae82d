//! From the bytes of a body to records in the log, the same for every door.
//!
//! Owns: [`Intake`]: decode, dead letters, records, one append, and the [`Outcome`] that answers report. [`Intake::take_again`] is the
//! same way for what was refused before. Does not know: HTTP's words for an outcome.
//!
//! Invariants: readings and the dead letters of their neighbours travel in one append, so one acknowledgement covers both;
//! an outcome exists only after the append is durable; what a body turns into is reserved before it is made; bodies above a few
//! KiB are decoded off the async workers, a few at a time.
//!
//! A reading without a time gets the instant at which its body was complete and decoding began: the latest instant that is
//! certainly before the acknowledgement, and the same one for the whole body. What is taken in again keeps the instant of its first receipt,
//! so that it is the same reading however often that is done.

use crate::append::Appender;
use crate::body::Body;
use crate::clock_watch::ClockWatch;
use crate::config::Config;
use crate::content::{Coding, Format, letter_name};
use crate::estimate;
use crate::metrics::{Metrics, Rejected};
use crate::refusals::{self, Ids, Reported};
use bytes::Bytes;
use headwater_core::dead_letter::{Readmitted, Reason};
use headwater_core::glob::DevicePatterns;
use headwater_core::log::{EventLog, Record};
use headwater_core::time::Timestamp;
use headwater_core::trace::{self, Kind, Span};
use headwater_web::{Budget, Caller, Error, Reservation};
use headwater_wire::record::{RefusedItem, carrying, encode_readings, encode_refused};
use headwater_wire::{Context, Decoded, Precision, Unreadable, csv, json, line, ndjson, senml};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Smaller bodies are decoded where they are: it takes less time than handing them over.
const SMALL: usize = 64 * 1024;

/// The way from a body to the log.
pub(crate) struct Intake {
    pub(crate) config: Arc<Config>,
    pub(crate) clock: ClockWatch,
    pub(crate) budget: Arc<Budget>,
    pub(crate) appender: Appender,
    pub(crate) metrics: Metrics,
    /// How many large bodies are decoded at once; more would not be faster.
    pub(crate) decoders: Semaphore,
}

/// A body, what it is, and who sent it.
pub(crate) struct Parcel {
    pub(crate) format: Format,
    pub(crate) body: Body,
    pub(crate) sender: Sender,
}

/// Who sent it and what that says about the device; the last two are line protocol's.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) devices: DevicePatterns,
    /// The device of items that name none, where the credential is none device's.
    pub(crate) own_device: Option<String>,
    pub(crate) fallback_device: Option<String>,
    pub(crate) precision: Precision,
    /// Where its request is in a trace.
    pub(crate) trace: Option<trace::Context>,
}

impl From<Caller> for Sender {
    fn from(caller: Caller) -> Self {
        Self { devices: caller.devices, own_device: None, fallback_device: None, precision: Precision::default(), trace: None }
    }
}

/// What became of a body; everything in it is durable.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) accepted: u64,
    pub(crate) skipped: u64,
    pub(crate) rejected: u64,
    /// How many items were refused, whatever they count as.
    pub(crate) n_refused: u64,
    /// Whether one of them is not even what its format says.
    pub(crate) any_malformed: bool,
    /// The first of them.
    pub(crate) reported: Vec<Reported>,
}

/// Why nothing of a body was taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The body cannot be read as a whole; it is a dead letter, and durable as one.
    Unreadable(Unreadable),
    /// Anything else; nothing was kept.
    Error(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Intake {
    /// Whether the clock is right enough to receive anything.
    ///
    /// # Errors
    /// 503.
    pub(crate) fn now(&self) -> Result<Timestamp, Error> {
        self.clock.now().map_err(|problem| Error::busy("clock_not_set", problem, 30))
    }

    /// Takes a body in.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub(crate) async fn take(&self, parcel: Parcel) -> Result<Outcome, Refusal> {
        let received_at = self.now()?;
        let (format, parent) = (parcel.format, parcel.sender.trace);
        let name = letter_name(format, Coding::Identity, parcel.sender.precision);
        let (body, decoded) = self.decode(parcel, received_at, received_at).await?;
        let decoded = match decoded {
            Ok(decoded) => decoded,
            Err(unreadable) => {
                self.bury(format, name, body, &unreadable.detail, received_at).await?;
                return Err(Refusal::Unreadable(unreadable));
            }
        };
        let Body { bytes, mut reservation } = body;
        self.charge(&mut reservation, bytes.len() + estimate::after_decoding(&decoded.batch, &decoded.refused)).await?;

        let by_reason = Rejected::of(&decoded.refused);
        let (log, most_bytes) = (Arc::clone(&self.appender.log), self.config.max_decoded_bytes);
        let (records, outcome) =
            self.work(bytes.len() > SMALL, move || pack(&*log, &name, &bytes, decoded, received_at, most_bytes)).await?;
        self.append(records, reservation, parent, outcome.accepted).await?;
        let Outcome { accepted, skipped, rejected, .. } = outcome;
        self.metrics.settled(format, accepted, skipped, &by_reason);
        tracing::debug!(format = format.as_str(), accepted, skipped, rejected, "took a body in");
        Ok(outcome)
    }

    /// Takes in again what was received, and refused, at `received_at`. What is refused once more becomes no dead letter: it is one.
    ///
    /// # Errors
    /// When it could not be tried; nothing was kept.
    pub(crate) async fn take_again(&self, parcel: Parcel, received_at: Timestamp) -> Result<Readmitted, Error> {
        let at = self.now()?;
        let (body, decoded) = self.decode(parcel, received_at, at).await?;
        let Body { bytes, mut reservation } = body;
        match decoded {
            Err(unreadable) => Ok(Readmitted::nothing(at, Reason::Malformed, unreadable.detail)),
            Ok(decoded) => {
                self.charge(&mut reservation, bytes.len() + estimate::after_decoding(&decoded.batch, &decoded.refused)).await?;
                self.append_again(decoded, at, reservation).await
            }
        }
    }

    /// Appends what was decoded anew.
    ///
    /// # Errors
    /// 503.
    pub(crate) async fn append_again(&self, decoded: Decoded, at: Timestamp, reservation: Reservation) -> Result<Readmitted, Error> {
        let readmitted = Readmitted {
            at,
            accepted: decoded.batch.len() as u64,
            skipped: decoded.skipped,
            rejected: decoded.rejected(),
            refused: decoded.refused.iter().take(refusals::MOST_REPORTED).map(refusals::again).collect(),
        };
        if !decoded.batch.is_empty() {
            let (log, large) = (Arc::clone(&self.appender.log), decoded.batch.len() > SMALL);
            let records = self.work(large, move || encode_readings(&decoded.batch, at, &|device| log.partition_of(device))).await?;
            self.append(records, reservation, None, readmitted.accepted).await?;
        }
        Ok(readmitted)
    }

    /// Decodes a body, within its share of the memory.
    async fn decode(&self, parcel: Parcel, received_at: Timestamp, now: Timestamp) -> Result<(Body, Result<Decoded, Unreadable>), Error> {
        let Parcel { format, body, sender } = parcel;
        let Body { bytes, mut reservation } = body;
        let large = bytes.len() > SMALL;
        let input = bytes.clone();
        let expected = self.work(large, move || estimate::before_decoding(format, &input)).await?;
        self.charge(&mut reservation, bytes.len() + expected).await?;
        let (config, input) = (Arc::clone(&self.config), bytes.clone());
        let decoded = self.work(large, move || decode(&config, format, &input, &sender, received_at, now)).await?;
        Ok((Body { bytes, reservation }, decoded))
    }

    /// Appends records, as part of what `parent` is a place in.
    async fn append(
        &self,
        records: Vec<Record>,
        mut reservation: Reservation,
        parent: Option<trace::Context>,
        n_readings: u64,
    ) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        let mut span = Span::child("append", Kind::Producer, parent);
        span.set("headwater.records", records.len());
        span.set("headwater.readings", n_readings);
        let records = carrying(records, span.context());
        reservation.shrink_to(records.iter().map(|record| record.payload.len()).sum());
        self.appender.append(records, reservation).await
    }

    /// Keeps a whole body as one dead letter. `kept_as` says what it was meant to be, with its coding if that is still on it.
    ///
    /// # Errors
    /// 503 when it could not be kept; the body may be sent again.
    pub(crate) async fn bury(
        &self,
        format: Format,
        kept_as: String,
        body: Body,
        detail: &str,
        received_at: Timestamp,
    ) -> Result<(), Error> {
        let Body { bytes, mut reservation } = body;
        self.charge(&mut reservation, 3 * bytes.len()).await?;
        let item = refusals::of_body(kept_as, bytes.to_vec(), detail.to_owned(), &Ids::at(received_at));
        let partition = self.appender.log.partition_of("");
        let records = self.work(bytes.len() > SMALL, move || encode_refused(vec![item], received_at, partition)).await?;
        self.appender.append(records, reservation).await?;
        self.metrics.settled(format, 0, 0, &Rejected::whole());
        Ok(())
    }

    /// Reserves what a request needs in all, or gives back what it does not.
    async fn charge(&self, reservation: &mut Reservation, needed: usize) -> Result<(), Error> {
        if needed > self.config.max_request_bytes() {
            return Err(too_much(needed));
        }
        reservation.shrink_to(needed);
        reservation.grow_to(needed, self.config.append_wait).await
    }

    /// Runs work on a whole body: here when the body is small, else on a thread that may take its time.
    async fn work<T: Send + 'static>(&self, large: bool, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        if !large {
            return Ok(work());
        }
        let _turn = self.decoders.acquire().await.map_err(Error::internal)?;
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)
    }
}

fn too_much(needed: usize) -> Error {
    let detail = format!("the body holds too many items for one request (they would take {needed} bytes of memory); send fewer at once");
    Error::new(axum::http::StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
}

fn decode(
    config: &Config,
    format: Format,
    body: &Bytes,
    sender: &Sender,
    received_at: Timestamp,
    now: Timestamp,
) -> Result<Decoded, Unreadable> {
    let context = Context {
        received_at,
        now,
        devices: &sender.devices,
        own_device: sender.devices.only().or(sender.own_device.as_deref()),
        device_tags: &config.device_tags,
        fallback_device: sender.fallback_device.as_deref(),
        precision: sender.precision,
        max_metrics: config.max_metrics,
    };
    match format {
        Format::Json => json::decode(body, &context),
        Format::Ndjson => ndjson::decode(body, &context),
        Format::Csv => csv::decode(body, &context),
        Format::Line => Ok(line::decode(body, &context)),
        Format::Senml => senml::decode(body, &context),
    }
}

/// The records of what was decoded, readings first, and what the answer will say of them.
fn pack(
    log: &dyn EventLog,
    letter_name: &str,
    body: &[u8],
    decoded: Decoded,
    received_at: Timestamp,
    most_bytes: usize,
) -> (Vec<Record>, Outcome) {
    let rejected = decoded.rejected();
    let Decoded { batch, skipped, refused } = decoded;
    let mut outcome = Outcome {
        accepted: batch.len() as u64,
        skipped,
        rejected,
        n_refused: refused.len() as u64,
        any_malformed: refused.iter().any(|item| item.reason == Reason::Malformed),
        reported: Vec::new(),
    };
    let mut records = if batch.is_empty() { Vec::new() } else { encode_readings(&batch, received_at, &|device| log.partition_of(device)) };
    let (letters, reported) = refusals::of_items(letter_name, body, &refused, &Ids::at(received_at), most_bytes);
    outcome.reported = reported;
    for (partition, letters) in by_partition(log, letters) {
        records.extend(encode_refused(letters, received_at, partition));
    }
    (records, outcome)
}

/// Dead letters travel where the readings of their device do.
fn by_partition(log: &dyn EventLog, letters: Vec<RefusedItem>) -> BTreeMap<u32, Vec<RefusedItem>> {
    let mut partitions: BTreeMap<u32, Vec<RefusedItem>> = BTreeMap::new();
    for letter in letters {
        let partition = log.partition_of(letter.device.as_deref().unwrap_or_default());
        partitions.entry(partition).or_default().push(letter);
    }
    partitions
}
