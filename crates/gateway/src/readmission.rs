//! The way back in: what was refused, as it is or edited, taken in as every write is.
//!
//! Owns: [`Readmission`], and what a dead letter's format says about its bytes. Does not know: where letters are kept, who is answered.
//!
//! Invariants: the same decoding and the same rules as for every write, for the devices of whoever retries; accepted means durable in
//! the log; a reading without a time keeps the letter's receipt, so that taking it in twice stores it once; nothing here makes a dead letter.

use crate::body::{self, Body, BodyError};
use crate::content::{Coding, Format};
use crate::door::Door;
use crate::intake::{Parcel, Sender};
use crate::{Config, Deps};
use headwater_core::dead_letter::{DeadLetter, Form, Readmitted, Reason};
use headwater_core::glob::DevicePatterns;
use headwater_core::time::Timestamp;
use headwater_web::{Error, Sent};
use headwater_wire::record::{self, Content};
use headwater_wire::{Decoded, Precision, letters};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The format of a record of the log that could not be decoded.
const RECORD: &str = "record";

/// Takes dead letters in again.
pub struct Readmission {
    door: Door,
    tasks: TaskTracker,
}

impl Readmission {
    /// The way back into `deps.log`. After `stop` is cancelled new tries are answered 503; those that had begun finish.
    pub fn new(config: Config, deps: Deps, stop: CancellationToken) -> Self {
        let tasks = TaskTracker::new();
        Self { door: Door::new(config, deps, tasks.clone(), stop), tasks }
    }

    /// Takes the request's body in, an edited letter, or the letter itself where that is empty. A body without `Content-Type` is of the
    /// letter's own format.
    ///
    /// # Errors
    /// When it could not be tried: 415, 413, 408 and 400 for the body as for every write, 503 for everything transient.
    pub async fn readmit(&self, letter: &DeadLetter, sent: Sent, devices: DevicePatterns) -> Result<Readmitted, Error> {
        let _begun = self.door.admit()?;
        let form = Form::of(&letter.format);
        let sender = Sender {
            own_device: letter.device.clone(),
            fallback_device: None,
            precision: form.precision.and_then(Precision::parse).unwrap_or_default(),
            trace: None,
            devices,
        };
        match self.edited(sent, Format::of_letter(form.name)).await? {
            Some(Ok((format, body))) => self.take(Parcel { format, body, sender }, letter).await,
            Some(Err(broken)) => Err(Error::bad_request("malformed", format!("the body cannot be read: {broken}"))),
            None => self.as_it_is(letter, form, sender).await,
        }
    }

    /// Waits until every try that came before the stop has ended.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// A body that is not empty, or why its coding cannot be taken off.
    async fn edited(&self, Sent { headers, body }: Sent, own: Option<Format>) -> Result<Option<Result<(Format, Body), String>>, Error> {
        let intake = &self.door.intake;
        let coding = Coding::of(&headers)?;
        let body = match body::read(&intake.config, &intake.budget, coding, body, |_| ()).await {
            Ok(body) => body,
            Err(BodyError::Refused(error)) => return Err(error),
            Err(BodyError::Broken { detail, .. }) => return Ok(Some(Err(detail))),
        };
        if body.bytes.trim_ascii().is_empty() {
            return Ok(None);
        }
        Ok(Some(Ok((Format::of_edited(&headers, own)?, body))))
    }

    async fn as_it_is(&self, letter: &DeadLetter, form: Form<'_>, sender: Sender) -> Result<Readmitted, Error> {
        let at = self.door.intake.now()?;
        let nothing = |reason, detail: &str| Ok(Readmitted::nothing(at, reason, detail));
        if letter.reason == Reason::Conflict {
            let detail = format!("as it is it would be a conflict again: {}; send it edited, or discard it", letter.detail);
            return nothing(Reason::Conflict, &detail);
        }
        if form.name == RECORD {
            return self.record(letter, &sender.devices, at).await;
        }
        let Some(format) = Format::of_letter(form.name) else {
            return nothing(letter.reason, unreadable_as_it_is(form.name));
        };
        match self.bytes_of(letter, format, Coding::of_letter(form.coding)).await {
            Ok(body) => self.take(Parcel { format, body, sender }, letter).await,
            Err(BodyError::Refused(error)) => Err(error),
            Err(BodyError::Broken { detail, .. }) => nothing(Reason::Malformed, &detail),
        }
    }

    /// The letter's bytes, without their coding, as a body of their format.
    async fn bytes_of(&self, letter: &DeadLetter, format: Format, coding: Coding) -> Result<Body, BodyError> {
        let intake = &self.door.intake;
        let mut reservation = intake.budget.reserve(letter.bytes.len(), intake.config.append_wait).await?;
        let bytes = as_body(letter, format);
        reservation.grow_to(bytes.len(), intake.config.append_wait).await?;
        body::decoded(&intake.config, coding, Body { bytes: bytes.into(), reservation }).await
    }

    /// As a task of its own, which whoever asked may leave without changing anything.
    async fn take(&self, parcel: Parcel, letter: &DeadLetter) -> Result<Readmitted, Error> {
        let (intake, received_at) = (std::sync::Arc::clone(&self.door.intake), letter.received_at);
        self.tasks.spawn(async move { intake.take_again(parcel, received_at).await }).await.map_err(Error::internal)?
    }

    /// A record that could not be decoded once: another version may be able to.
    async fn record(&self, letter: &DeadLetter, devices: &DevicePatterns, at: Timestamp) -> Result<Readmitted, Error> {
        let intake = &self.door.intake;
        if *devices != DevicePatterns::All {
            return Ok(Readmitted::nothing(
                at,
                Reason::ForbiddenDevice,
                "a record of the log may be of any device; this token covers some",
            ));
        }
        match record::decode(&letter.bytes).map(|decoded| decoded.content) {
            Ok(Content::Readings(batch)) => {
                let reservation = intake.budget.reserve(2 * batch.memory_bytes(), intake.config.append_wait).await?;
                intake.append_again(Decoded { batch, ..Decoded::default() }, at, reservation).await
            }
            Ok(Content::Heartbeat) => Ok(Readmitted::nothing(at, Reason::Undecodable, "it is a heartbeat and holds no reading")),
            Ok(Content::Refused(_)) => Ok(Readmitted::nothing(at, Reason::Undecodable, "it holds nothing but what was refused before")),
            Err(damaged) => Ok(Readmitted::nothing(at, Reason::Undecodable, format!("it still cannot be decoded: {damaged}"))),
        }
    }
}

/// A refused item, or several neighbours, of a JSON body in the array that they came in.
fn as_body(letter: &DeadLetter, format: Format) -> Vec<u8> {
    let is_item = match format {
        Format::Json => letter.reason != Reason::Malformed,
        Format::Senml => true,
        Format::Ndjson | Format::Csv | Format::Line => false,
    };
    if is_item && letter.bytes.starts_with(b"{") { [b"[", &letter.bytes[..], b"]"].concat() } else { letter.bytes.clone() }
}

fn unreadable_as_it_is(name: &str) -> &'static str {
    match name {
        letters::SENML_WITHOUT_BASE => "the base fields of the record are not known; send it edited, with them",
        _ => "nobody can tell what it is; send it edited, with a Content-Type",
    }
}
