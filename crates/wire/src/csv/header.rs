//! The first line of a CSV: which column is what.
//!
//! Owns: the reserved names and the two forms. Does not know: the lines under it.
//! Invariant: every column number of a [`Header`] is below its `n_columns`; tags are sorted by name.

use crate::Unreadable;
use crate::sink::{check_tag, quoted};
use std::borrow::Cow;
use std::collections::HashSet;

/// The most columns that a CSV may have.
pub(super) const MAX_COLUMNS: usize = 10_000;

/// What the columns are.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) n_columns: usize,
    pub(super) device: Option<usize>,
    pub(super) ts: Option<usize>,
    pub(super) unit: Option<usize>,
    pub(super) tags: Vec<(String, usize)>,
    pub(super) form: Form,
}

/// Where the metrics are.
#[derive(Debug)]
pub(super) enum Form {
    /// One a line: the columns of its name and its value.
    Long { metric: usize, value: usize },
    /// A column each: name and column.
    Wide(Vec<(String, usize)>),
}

impl Header {
    /// Reads the names. A column `device` may be missing only where the sender is a device itself.
    pub(super) fn read(names: &[Cow<'_, str>], own_device: bool) -> Result<Self, Unreadable> {
        if names.len() > MAX_COLUMNS {
            return Err(unusable(format!("it has more than {MAX_COLUMNS} columns")));
        }
        let mut seen = HashSet::new();
        let (mut device, mut ts, mut unit, mut metric, mut value) = (None, None, None, None, None);
        let (mut tags, mut others) = (Vec::new(), Vec::new());
        for (at, name) in names.iter().enumerate() {
            let name = if *name == "time" { "ts" } else { &**name };
            if !seen.insert(name) {
                return Err(unusable(format!("the column {} stands twice", quoted(name))));
            }
            match name {
                "device" => device = Some(at),
                "ts" => ts = Some(at),
                "unit" => unit = Some(at),
                "metric" => metric = Some(at),
                "value" => value = Some(at),
                _ => match name.strip_prefix("tag.") {
                    Some(tag) => tags.push((tag_name(tag)?, at)),
                    None => others.push((name.to_owned(), at)),
                },
            }
        }
        if device.is_none() && !own_device {
            return Err(unusable("it has no column \"device\""));
        }
        tags.sort_unstable();
        let form = form(metric, value, others)?;
        Ok(Self { n_columns: names.len(), device, ts, unit, tags, form })
    }
}

fn form(metric: Option<usize>, value: Option<usize>, others: Vec<(String, usize)>) -> Result<Form, Unreadable> {
    match (metric, value) {
        (Some(metric), Some(value)) => Ok(Form::Long { metric, value }),
        (Some(_), None) => Err(unusable("it has \"metric\" without \"value\"")),
        (None, Some(_)) => Err(unusable("it has \"value\" without \"metric\"")),
        (None, None) if others.is_empty() => Err(unusable("it names no metric")),
        (None, None) => Ok(Form::Wide(others)),
    }
}

fn tag_name(name: &str) -> Result<String, Unreadable> {
    check_tag(name, "-").map_err(|problem| unusable(format!("the tag {}: {problem}", quoted(name))))?;
    Ok(name.to_owned())
}

fn unusable(why: impl std::fmt::Display) -> Unreadable {
    Unreadable::new(format!("the header cannot be used: {why}"))
}
