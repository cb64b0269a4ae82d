//! Inserting or finding series.
//!
//! Owns: the limits. Does not know: transactions' ends; the writer runs this inside one.
//! Invariants: ids rise from 0 without holes and are never used again; existing series never count as new; a question without
//! anything new writes nothing.

use crate::error::Fault;
use crate::sqlite::{int, uint};
use headwater_core::series::SeriesId;
use headwater_core::store::{NewSeries, Registered, SeriesLimits, StoreError};
use rusqlite::{Connection, OptionalExtension};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

pub(super) const FIND: &str = include_str!("../sql/store/find_series.sql");
pub(super) const INSERT: &str = include_str!("../sql/store/insert_series.sql");
pub(super) const SET_UNIT: &str = include_str!("../sql/store/set_unit.sql");
pub(super) const OF_DEVICE: &str = include_str!("../sql/store/series_of_device.sql");

type Result<T> = std::result::Result<T, Fault<StoreError>>;

/// What is stored of a series: its id and its unit.
type Found = (SeriesId, Option<String>);

/// A question, looked up.
pub(super) struct Lookup<'a> {
    series: &'a [NewSeries],
    found: Vec<Option<Found>>,
}

impl<'a> Lookup<'a> {
    /// Looks in the order of the keys: neighbours are read together, and their pages are at hand when they are written.
    pub(super) fn new(conn: &Connection, series: &'a [NewSeries]) -> Result<Self> {
        let mut order: Vec<usize> = (0..series.len()).collect();
        order.sort_unstable_by(|&a, &b| series[a].key.cmp(&series[b].key));
        let mut found = vec![None; series.len()];
        let mut find = conn.prepare_cached(FIND)?;
        for i in order {
            let id_and_unit = |row: &rusqlite::Row<'_>| Ok((SeriesId(row.get(0)?), row.get(1)?));
            found[i] = find.query_row([series[i].key.as_str().as_bytes()], id_and_unit).optional()?;
        }
        Ok(Self { series, found })
    }

    /// The answer, when there is nothing to write.
    pub(super) fn known(&self) -> Option<Vec<Registered>> {
        let known = |(new, found): (&NewSeries, &Option<Found>)| match found {
            Some((id, unit)) if new.unit.is_none() || new.unit == *unit => Some(Registered::As(*id)),
            _ => None,
        };
        self.series.iter().zip(&self.found).map(known).collect()
    }

    /// Writes what is new, ids in the order of the question. `next` is the id of the next series and, while none is ever
    /// deleted, how many there are.
    pub(super) fn write(&self, conn: &Connection, limits: SeriesLimits, next: &mut u64) -> Result<Vec<Registered>> {
        let mut devices = HashMap::new();
        let mut inserted: HashMap<&str, Registered> = HashMap::new();
        let mut answers = Vec::with_capacity(self.series.len());
        for (new, found) in self.series.iter().zip(&self.found) {
            let answer = match (found, inserted.get(new.key.as_str())) {
                (Some((id, _)), _) => set_unit(conn, *id, new)?,
                (None, Some(Registered::As(id))) => set_unit(conn, *id, new)?,
                (None, Some(refused)) => *refused,
                (None, None) => insert(conn, new, limits, next, &mut devices)?,
            };
            if found.is_none() {
                inserted.insert(new.key.as_str(), answer);
            }
            answers.push(answer);
        }
        Ok(answers)
    }
}

/// How many series a device has, counted once for each registration.
fn of_device<'c, 'a>(conn: &Connection, counts: &'c mut HashMap<&'a str, u64>, device: &'a str) -> Result<&'c mut u64> {
    match counts.entry(device) {
        Entry::Occupied(known) => Ok(known.into_mut()),
        Entry::Vacant(new) => {
            // A device's keys begin with its id and NUL, which no id holds.
            let (from, to) = (format!("{device}\0"), format!("{device}\u{1}"));
            let count: i64 = conn.prepare_cached(OF_DEVICE)?.query_row([from.as_bytes(), to.as_bytes()], |row| row.get(0))?;
            Ok(new.insert(uint(count)))
        }
    }
}

fn insert<'a>(
    conn: &Connection,
    new: &'a NewSeries,
    limits: SeriesLimits,
    next: &mut u64,
    devices: &mut HashMap<&'a str, u64>,
) -> Result<Registered> {
    let of_device = of_device(conn, devices, new.key.parts().device)?;
    if *of_device >= limits.per_device {
        return Ok(Registered::DeviceLimit);
    }
    let Some(id) = u32::try_from(*next).ok().filter(|_| *next < limits.total) else {
        return Ok(Registered::TotalLimit);
    };
    conn.prepare_cached(INSERT)?.execute((int(*next), new.key.as_str().as_bytes(), new.unit.as_deref()))?;
    *next += 1;
    *of_device += 1;
    Ok(Registered::As(SeriesId(id)))
}

fn set_unit(conn: &Connection, id: SeriesId, new: &NewSeries) -> Result<Registered> {
    if let Some(unit) = &new.unit {
        conn.prepare_cached(SET_UNIT)?.execute((id.0, unit))?;
    }
    Ok(Registered::As(id))
}
