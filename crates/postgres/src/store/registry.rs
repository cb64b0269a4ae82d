//! Inserting or finding series.
//!
//! Owns: the limits. Does not know: how ingest caches ids.
//! Invariants: ids rise from 0 without holes and are never used again; existing series never count as new; a question without anything new
//! writes nothing and waits for nobody; whoever writes holds the row `counters.series` to the end of the transaction, so that several processes
//! count right; an id is told only after its commit.

use super::rows::{self, escaped, unescaped};
use super::{int, uint};
use crate::error::Done;
use crate::pool::Session;
use headwater_core::failpoint;
use headwater_core::series::{Parts, SeriesId};
use headwater_core::store::{NewSeries, Registered, SeriesLimits};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

const FIND: &str = include_str!("../sql/store/find_series.sql");
const LOCK: &str = include_str!("../sql/store/lock_series.sql");
pub(super) const MOVE: &str = include_str!("../sql/store/move_series.sql");
const COUNT: &str = include_str!("../sql/store/count_of_devices.sql");
const INSERT: &str = include_str!("../sql/store/insert_series.sql");
const SET_UNITS: &str = include_str!("../sql/store/set_units.sql");

/// Open blocks keep ids in four bytes with a sign.
const MOST_SERIES: u64 = i32::MAX as u64;

/// What is stored of a series: its id and its unit.
type Found = (SeriesId, Option<String>);

pub(super) async fn register(session: &Session, series: &[NewSeries], limits: SeriesLimits) -> Done<Vec<Registered>> {
    let mut known = find(session, series.iter()).await?;
    if let Some(answers) = answers_without_writing(series, &known) {
        return Ok(answers);
    }
    session.begin().await?;
    let next = uint(session.query_one(LOCK, &[]).await?.try_get(0)?);
    // What another process has inserted since, before this one had the lock.
    let missing = series.iter().filter(|new| !known.contains_key(new.key.as_str()));
    let found_since = find(session, missing).await?;
    known.extend(found_since);
    let missing = || series.iter().filter(|new| !known.contains_key(new.key.as_str()));
    let counts = count_of_devices(session, missing()).await?;
    let mut plan = Plan { limits, next, counts, new: Vec::new(), units: BTreeMap::new(), refused: HashMap::new(), ids: HashMap::new() };
    let answers = series.iter().map(|new| plan.answer(new, known.get(new.key.as_str()))).collect();
    plan.write(session).await?;
    failpoint::reach("store.register");
    session.commit().await?;
    Ok(answers)
}

/// What is known of these series. In the order of keys: neighbours are read together.
async fn find<'a>(session: &Session, series: impl Iterator<Item = &'a NewSeries>) -> Done<HashMap<&'a str, Found>> {
    let mut keys: Vec<&'a str> = series.map(|new| new.key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let bytes: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
    let mut found = HashMap::with_capacity(keys.len());
    for row in session.query(FIND, &[&bytes]).await? {
        let (place, id): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let unit = row.try_get::<_, Option<&str>>(2)?.map(unescaped);
        found.insert(keys[place as usize - 1], (rows::series_id(id)?, unit));
    }
    Ok(found)
}

/// The answer, when there is nothing to write.
fn answers_without_writing(series: &[NewSeries], known: &HashMap<&str, Found>) -> Option<Vec<Registered>> {
    let answer = |new: &NewSeries| match known.get(new.key.as_str()) {
        Some((id, unit)) if new.unit.is_none() || new.unit == *unit => Some(Registered::As(*id)),
        _ => None,
    };
    series.iter().map(answer).collect()
}

/// How many series the devices of new ones have.
async fn count_of_devices<'a>(session: &Session, series: impl Iterator<Item = &'a NewSeries>) -> Done<HashMap<&'a str, u64>> {
    let mut devices: Vec<&'a str> = series.map(|new| new.key.parts().device).collect();
    devices.sort_unstable();
    devices.dedup();
    let rows = session.query(COUNT, &[&devices]).await?;
    let count = |row: &tokio_postgres::Row| {
        let (place, count): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok((devices[place as usize - 1], uint(count)))
    };
    rows.iter().map(count).collect()
}

/// What is to be written.
struct Plan<'a> {
    limits: SeriesLimits,
    /// The id of the next series and, while none is ever deleted, how many there are.
    next: u64,
    counts: HashMap<&'a str, u64>,
    new: Vec<(SeriesId, &'a str)>,
    units: BTreeMap<SeriesId, &'a str>,
    ids: HashMap<&'a str, SeriesId>,
    refused: HashMap<&'a str, Registered>,
}

impl<'a> Plan<'a> {
    fn answer(&mut self, new: &'a NewSeries, known: Option<&Found>) -> Registered {
        let key = new.key.as_str();
        let id = match (known, self.ids.get(key), self.refused.get(key)) {
            (Some((id, _)), ..) | (_, Some(id), _) => *id,
            (None, None, Some(refused)) => return *refused,
            (None, None, None) => match self.insert(key) {
                Registered::As(id) => id,
                refused => {
                    self.refused.insert(key, refused);
                    return refused;
                }
            },
        };
        if let Some(unit) = &new.unit {
            self.units.insert(id, unit);
        }
        Registered::As(id)
    }

    fn insert(&mut self, key: &'a str) -> Registered {
        let of_device = self.counts.entry(Parts::of(key).device).or_default();
        if *of_device >= self.limits.per_device {
            return Registered::DeviceLimit;
        }
        if self.next >= self.limits.total.min(MOST_SERIES) {
            return Registered::TotalLimit;
        }
        let id = SeriesId(self.next as u32);
        self.next += 1;
        *of_device += 1;
        self.new.push((id, key));
        self.ids.insert(key, id);
        Registered::As(id)
    }

    async fn write(&self, session: &Session) -> Done<()> {
        if !self.new.is_empty() {
            self.write_new(session).await?;
            session.execute(MOVE, &[&int(self.next)]).await?;
        }
        if !self.units.is_empty() {
            let ids: Vec<i64> = self.units.keys().map(|id| i64::from(id.0)).collect();
            let units: Vec<Cow<'_, str>> = self.units.values().map(|unit| escaped(unit)).collect();
            session.execute(SET_UNITS, &[&ids, &units]).await?;
        }
        Ok(())
    }

    async fn write_new(&self, session: &Session) -> Done<()> {
        let rows: Vec<NewRow<'_>> = self.new.iter().map(|(id, key)| (*id, *key, None)).collect();
        write(session, INSERT, &rows).await
    }
}

/// A series as it is inserted: id, key, unit.
pub(super) type NewRow<'a> = (SeriesId, &'a str, Option<&'a str>);

/// Inserts series by a statement with the parameters of `insert_series.sql`.
pub(super) async fn write(session: &Session, sql: &str, rows: &[NewRow<'_>]) -> Done<()> {
    let ids: Vec<i64> = rows.iter().map(|(id, ..)| i64::from(id.0)).collect();
    let keys: Vec<&[u8]> = rows.iter().map(|(_, key, _)| key.as_bytes()).collect();
    let parts: Vec<Parts<'_>> = rows.iter().map(|(_, key, _)| Parts::of(key)).collect();
    let devices: Vec<&str> = parts.iter().map(|parts| parts.device).collect();
    let metrics: Vec<&str> = parts.iter().map(|parts| parts.metric).collect();
    let tags: Vec<String> = parts.iter().map(|parts| tags_json(*parts)).collect();
    let units: Vec<Option<Cow<'_, str>>> = rows.iter().map(|(_, _, unit)| unit.map(escaped)).collect();
    session.execute(sql, &[&ids, &keys, &devices, &metrics, &tags, &units]).await.map(drop)
}

/// The tags as a JSON object. They hold no control characters, so only two characters need an escape (RFC 8259, §7).
fn tags_json(parts: Parts<'_>) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let pairs: Vec<String> = parts.tags().map(|(name, value)| format!("{}:{}", quoted(name), quoted(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::series::SeriesKey;

    #[test]
    fn tags_are_a_json_object() {
        let tags = |tags: &[(&str, &str)]| tags_json(SeriesKey::new("d", "m", tags).unwrap().parts());
        assert_eq!(tags(&[]), "{}");
        assert_eq!(tags(&[("b\"", "2\\"), ("a", "é")]), r#"{"a":"é","b\"":"2\\"}"#);
    }
}
