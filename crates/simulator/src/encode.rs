//! Readings as bodies: JSON of `POST /v1/readings` and InfluxDB line protocol.
//!
//! Owns: how a reading is written, broken ones too. Does not know: what is sent when.
//! Invariant: a body as a whole can always be read; each bad reading is refused alone and counts one.

use crate::fleet::Fleet;
use crate::stream::{Form, Reading};
use headwater_core::dead_letter::Reason;
use headwater_core::time::EARLIEST;
use std::io::Write;

/// What a body is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON of `POST /v1/readings`.
    Json,
    /// InfluxDB line protocol.
    Line,
}

impl Format {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Line => "line",
        }
    }

    /// Where its bodies go.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Json => "/v1/readings",
            Self::Line => "/api/v2/write?bucket=simulator&precision=us",
        }
    }

    /// Their media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Line => "text/plain; charset=utf-8",
        }
    }

    /// A body.
    pub fn encode(self, fleet: &Fleet, readings: &[Reading]) -> Vec<u8> {
        let mut body = Vec::with_capacity(readings.len() * 80 + 2);
        match self {
            Self::Json => json(fleet, readings, &mut body),
            Self::Line => lines(fleet, readings, &mut body),
        }
        body
    }

    /// Why a server refuses a reading; `None` = it takes it.
    pub fn refusal(self, reading: &Reading) -> Option<Reason> {
        match (reading.form, self) {
            (Form::Malformed, _) | (Form::Nan, Self::Line) => Some(Reason::Malformed),
            (Form::Nan, Self::Json) => Some(Reason::NotFinite),
            (Form::Good, _) if reading.is_good() => None,
            (Form::Good, _) if reading.time < EARLIEST => Some(Reason::TimestampTooOld),
            (Form::Good, _) => Some(Reason::TimestampTooFarAhead),
        }
    }
}

/// Writing to memory does not fail.
macro_rules! put {
    ($to:expr, $($what:tt)*) => { drop(write!($to, $($what)*)) };
}

/// The metrics of one sample share an item, as devices send them.
fn json(fleet: &Fleet, readings: &[Reading], body: &mut Vec<u8>) {
    let mut open: Option<&Reading> = None;
    body.push(b'[');
    for reading in readings {
        let name = fleet.metrics()[reading.metric].name;
        let goes_on = open.is_some_and(|last| {
            reading.form != Form::Malformed && last.device == reading.device && last.time == reading.time && last.metric < reading.metric
        });
        if goes_on {
            put!(body, ",");
        } else {
            close(&mut open, body);
            if body.len() > 1 {
                body.push(b',');
            }
            if reading.form == Form::Malformed {
                put!(body, "\"{} {name}: no reading\"", fleet.device(reading.device));
                continue;
            }
            put!(body, "{{\"device\":\"{}\",\"ts\":\"{}\",\"metrics\":{{", fleet.device(reading.device), reading.time);
        }
        match reading.form {
            // JSON knows no NaN: a body with one cannot be read at all. A number that no f64 can hold is as useless.
            Form::Nan => put!(body, "\"{name}\":1e999"),
            _ => put!(body, "\"{name}\":{}", reading.value),
        }
        open = Some(reading);
    }
    close(&mut open, body);
    body.push(b']');
}

fn close(open: &mut Option<&Reading>, body: &mut Vec<u8>) {
    if open.take().is_some() {
        body.extend_from_slice(b"}}");
    }
}

fn lines(fleet: &Fleet, readings: &[Reading], body: &mut Vec<u8>) {
    for reading in readings {
        let (device, name, time) = (fleet.device(reading.device), fleet.metrics()[reading.metric].name, reading.time.0);
        match reading.form {
            Form::Good => put!(body, "{name},device={device} value={} {time}\n", reading.value),
            Form::Malformed => put!(body, "{name},device={device} value= {time}\n"),
            Form::Nan => put!(body, "{name},device={device} value=NaN {time}\n"),
        }
    }
}
