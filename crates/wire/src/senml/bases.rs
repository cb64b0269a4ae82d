//! The base fields that hold for a record: its own, else those of the records before it.
//!
//! Owns: [`Bases`]. Does not know: what is done with them.
//! Invariant: what cannot be read stays what it is, a problem, until the field is given anew: no record is resolved with a base
//! field that was meant to be replaced.

use super::fields::{Field, Fields};
use super::seconds;
use crate::Base as Needed;
use crate::number;
use crate::sink::{Problem, quoted};
use headwater_core::dead_letter::Reason;
use std::borrow::Cow;

/// A base field, or why it cannot be read.
pub(super) type Base<T> = Result<T, Problem>;

/// What holds for the records to come.
#[derive(Debug)]
pub(super) struct Bases<'a> {
    pub(super) name: Base<Cow<'a, str>>,
    pub(super) time: Base<i128>,
    pub(super) unit: Base<Cow<'a, str>>,
    pub(super) value: Base<Option<f64>>,
    lost: Option<String>,
    /// The fields as they were written, in the order of [`RAW`].
    raw: [Option<&'a str>; RAW.len()],
}

/// The fields that hold for records to come.
const RAW: [Field; 4] = [Field::BaseName, Field::BaseTime, Field::BaseUnit, Field::BaseValue];
/// Longer base fields are not repeated for each record that is refused under them.
const MOST_REPEATED_BYTES: usize = 1024;

impl Default for Bases<'_> {
    fn default() -> Self {
        Self { name: Ok(Cow::Borrowed("")), time: Ok(0), unit: Ok(Cow::Borrowed("")), value: Ok(None), lost: None, raw: [None; RAW.len()] }
    }
}

impl<'a> Bases<'a> {
    /// Takes over the base fields of item number `index`.
    pub(super) fn take(&mut self, fields: &Fields<'a>, index: u64) {
        if let Some(label) = fields.spoilt_base() {
            self.lose(format!("the base field {} of item {index} cannot be relied on", quoted(label)));
        }
        let of = |problem: Problem| Problem { detail: format!("{} (of item {index})", problem.detail), ..problem };
        if fields.get(Field::BaseName).is_some() {
            self.name = fields.text(Field::BaseName, Reason::InvalidDevice).map_err(of);
        }
        if let Some(raw) = fields.get(Field::BaseTime) {
            self.time = seconds::read(raw).ok_or_else(|| of(no_seconds("the base time", raw)));
        }
        if let Some(raw) = fields.get(Field::BaseUnit) {
            self.unit = if raw == "null" { Ok(Cow::Borrowed("")) } else { fields.text(Field::BaseUnit, Reason::InvalidMetric).map_err(of) };
        }
        if let Some(raw) = fields.get(Field::BaseValue) {
            self.value = base_value(raw).map(Some).map_err(of);
        }
        for (kept, field) in self.raw.iter_mut().zip(RAW) {
            *kept = fields.get(field).or(*kept);
        }
    }

    /// What a record needs that is kept apart from those before it.
    pub(super) fn needed(&self) -> Needed {
        let given: Vec<_> = RAW.iter().zip(self.raw).filter_map(|(field, raw)| Some((field.label(), raw?))).collect();
        if self.lost.is_some() || given.iter().map(|(_, raw)| raw.len()).sum::<usize>() > MOST_REPEATED_BYTES {
            return Needed::Lost;
        }
        if given.is_empty() {
            return Needed::None;
        }
        let members: Vec<String> = given.iter().map(|(label, raw)| format!("{label:?}:{raw}")).collect();
        Needed::Fields(format!("{{{}}}", members.join(",")))
    }

    /// From here on nothing can be resolved; the first reason stays.
    pub(super) fn lose(&mut self, why: String) {
        self.lost.get_or_insert(why);
    }

    /// Whether records can be resolved at all.
    pub(super) fn check(&self) -> Result<(), Problem> {
        self.lost.as_ref().map_or(Ok(()), |why| Err(Problem::malformed(why.as_str())))
    }
}

/// What was read, or a copy of the problem.
pub(super) fn read<T>(result: &Result<T, Problem>) -> Result<&T, Problem> {
    result.as_ref().map_err(Clone::clone)
}

/// Something else where a number of seconds belongs.
pub(super) fn no_seconds(what: &str, raw: &str) -> Problem {
    Problem::new(Reason::InvalidTimestamp, format!("{what} {} is not a number of seconds", quoted(raw)))
}

fn base_value(raw: &str) -> Result<f64, Problem> {
    let value =
        number::decimal(raw).ok_or_else(|| Problem::new(Reason::NotNumeric, format!("the base value {} is not a number", quoted(raw))))?;
    if value.is_finite() { Ok(value) } else { Err(Problem::new(Reason::NotFinite, "the base value is not a finite number")) }
}
