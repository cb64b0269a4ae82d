//! SenML in JSON (RFC 8428): an array of records, each a measurement.
//!
//! ```json
//! [{"bn": "urn:dev:ow:10e2073a0108006:", "bt": 1276020076.001, "bu": "A", "n": "voltage", "u": "V", "v": 120.1},
//!  {"n": "current", "t": -5, "v": 1.2}]
//! ```
//!
//! Owns: what a record means under the base fields before it (`bases`): its name, unit, time and value. The fields are read in
//! `fields`, names taken apart in `name`, times added up in `seconds`. Does not know: which readings are taken (the sink does).
//! Invariants: a record counts as one reading, or as none where it has nothing but base fields. A record that is refused costs
//! no other one, except where a base field itself cannot be read: then every record that needs it is refused, never resolved
//! with an older one.
//!
//! # What is decided here
//!
//! * **Name.** `bn`, less a `:` or `/` at its end, is the device and `n` the metric. Without `bn` the name is cut at its last
//!   `:` or `/`, unless it is a URN that ends with its own id (`urn:dev:ow:10e2073a01080063`) or an IPv6 address, which are
//!   devices; a name without either is a metric of the sender's own device. Without a metric the unit names it (`%RH`, `lon`),
//!   else it is `value`: records of one name that differ by their unit must not meet in one series.
//! * **Value.** `v` plus `bv`, added as f64; `vb` is 1 or 0. Either may be a number or a boolean, as in JSON, and anything else
//!   is `not_numeric`. Texts (`vs`), data (`vd`) and records that have only a sum (`s`) are skipped, as is null.
//!   No value at all is `bv` where there is one, else `malformed`, as are two of them. A sum beside a value is ignored.
//! * **Time.** `bt` plus `t`; below 2^28 seconds it counts from the receipt, else from 1970. It is added up exactly to 18
//!   decimals and floored to the microsecond.
//! * **Version and extensions.** A `bver` that is no integer from 1 to 10 refuses the body. A label that ends in `_` and is none
//!   of ours refuses its record, and one that also begins with `b` every record from there on. Other labels are ignored.

mod bases;
mod fields;
mod name;
mod seconds;

use crate::json;
use crate::sink::{self, Item, Problem, Shared, Sink};
use crate::{Context, Decoded, Place, Unreadable, number};
use bases::{Bases, read};
use fields::{Field, Fields, Measured};
use headwater_core::dead_letter::Reason;
use name::Named;
use std::borrow::Cow;

/// The latest version of SenML, which is also what a pack without one is of.
const VERSION: f64 = 10.0;
/// The metric of a record that names neither one nor a unit.
const NO_METRIC: &str = "value";

/// Reads a body.
///
/// # Errors
/// When the body as a whole is not an array (broken or cut JSON, no UTF-8, nothing at all, another type), or is of a later
/// version.
pub fn decode(body: &[u8], context: &Context<'_>) -> Result<Decoded, Unreadable> {
    let text = json::text(body)?;
    let mut pack =
        Pack { body, sink: Sink::new(context, body.len()), fields: Fields::default(), bases: Bases::default(), unreadable: None };
    match json::first(text) {
        None => return Err(Unreadable::new("the body is empty")),
        Some(b'[') => json::array(text, |raw, index| pack.record(raw, index))?,
        Some(_) => return Err(Unreadable::new("the body is not an array of SenML records")),
    }
    pack.unreadable.map_or_else(|| Ok(pack.sink.finish()), Err)
}

/// A body on its way, with what holds for the records to come.
struct Pack<'a, 'c> {
    body: &'a [u8],
    sink: Sink<'c>,
    fields: Fields<'a>,
    bases: Bases<'a>,
    unreadable: Option<Unreadable>,
}

impl<'a> Pack<'a, '_> {
    fn record(&mut self, text: &'a str, index: u64) {
        let item = Item { place: Place::Index(index), span: json::span(self.body, text.as_bytes()) };
        let Self { sink, fields, bases, .. } = self;
        let known = sink.n_refused();
        if let Err(problem) = fields.read(text) {
            // What is no object says nothing of the records behind it; an object that cannot be read may have.
            if text.starts_with('{') {
                bases.lose(format!("item {index}, which may hold base fields, cannot be read"));
            }
            return sink.refuse(&item, problem, None, 1);
        }
        bases.take(fields, index);
        let own_name = fields.text(Field::Name, Reason::InvalidMetric);
        let named = named(bases, &own_name);
        let device = named.as_ref().ok().and_then(|named| named.device).or(sink.context.own_device);
        if let Err(problem) = reading(sink, fields, bases, &item, named) {
            sink.refuse(&item, problem, device, 1);
        }
        sink.need(known, || bases.needed());
        self.check_version(index);
    }

    fn check_version(&mut self, index: u64) {
        let Some(raw) = self.fields.get(Field::BaseVersion) else { return };
        if !number::decimal(raw).is_some_and(|version| version.fract() == 0.0 && (1.0..=VERSION).contains(&version)) {
            let detail = format!("version {} of SenML is not known here, {VERSION} is the latest", sink::cut(raw, 32));
            let unreadable = Unreadable { detail: sink::printable(&detail).into_owned(), pointer: Some(format!("/{index}/bver")) };
            self.unreadable.get_or_insert(unreadable);
        }
    }
}

fn named<'n>(bases: &'n Bases<'_>, own: &'n Result<Cow<'_, str>, Problem>) -> Result<Named<'n>, Problem> {
    Ok(name::of(read(&bases.name)?, read(own)?))
}

/// Keeps what a record measured, or says why not.
fn reading(
    sink: &mut Sink<'_>,
    fields: &Fields<'_>,
    bases: &Bases<'_>,
    item: &Item,
    named: Result<Named<'_>, Problem>,
) -> Result<(), Problem> {
    fields.check()?;
    bases.check()?;
    let measured = fields.measured()?;
    match measured {
        Measured::Nothing => return Ok(()),
        Measured::NoNumber => {
            sink.skip(1);
            return Ok(());
        }
        Measured::Number(_) | Measured::Boolean(_) | Measured::BaseValue => {}
    }
    let named = named?;
    let device = named.device.or(sink.context.own_device).ok_or_else(sink::no_device)?;
    sink.check_device(device)?;
    let time = time(sink, fields, bases)?;
    let own_unit = fields.unit()?;
    let unit = match &own_unit {
        Some(unit) => unit,
        None => read(&bases.unit)?,
    };
    let unit = Sink::check_unit(unit)?;
    let metric = named.metric.or(unit).unwrap_or(NO_METRIC);
    let value = value(&measured, bases, metric)?;
    sink.reading(item, &Shared { device, time, unit }, metric, std::iter::empty(), value);
    Ok(())
}

fn time(sink: &Sink<'_>, fields: &Fields<'_>, bases: &Bases<'_>) -> Result<i64, Problem> {
    let own = match fields.get(Field::Time) {
        None => 0,
        Some(raw) => seconds::read(raw).ok_or_else(|| bases::no_seconds("the time", raw))?,
    };
    match read(&bases.time)? + own {
        0 => Ok(sink.context.received_at.micros()),
        sum => sink.check_time(seconds::time(sum, sink.context.received_at)),
    }
}

/// The number that was measured (infinite beyond f64): its own and the base, each where there is one.
fn value(measured: &Measured<'_>, bases: &Bases<'_>, metric: &str) -> Result<f64, Problem> {
    let number = |raw: &str| json::read_value(raw).map_err(|what| sink::not_numeric(metric, what));
    match measured {
        Measured::Number(raw) => {
            let (own, base) = (number(raw)?, *read(&bases.value)?);
            Ok(base.map_or(own, |base| base + own))
        }
        Measured::Boolean(raw) => number(raw),
        Measured::Nothing | Measured::NoNumber | Measured::BaseValue => {
            read(&bases.value)?.ok_or_else(|| Problem::malformed("the record has no value"))
        }
    }
}

#[cfg(test)]
mod tests;
