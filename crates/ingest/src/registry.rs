//! Ids of series by their text: a cache, filled by the store's registration.
//!
//! Owns: [`Registry`]. Does not know: records, batches.
//! Invariant: an id is in the cache only after the transaction that registered it has committed, and series are never deleted
//! under a running ingest; so a cached id is right until the store says that it may have gone back to an earlier state. Then the
//! whole cache goes (`consume`).

use headwater_core::series::{SeriesId, SeriesKey};
use headwater_core::store::{Ingestion, NewSeries, Registered, SeriesLimits, StoreError};
use std::collections::HashMap;

/// What is known of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Its id.
    Id(SeriesId),
    /// It was refused: `device` or `total` names the limit.
    Refused(&'static str),
}

#[derive(Debug)]
struct Entry {
    id: SeriesId,
    unit: Option<Box<str>>,
}

/// The cache. It holds at most as many series as the limit of all allows.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    ids: HashMap<SeriesKey, Entry>,
}

impl Registry {
    /// The id of a series, when it is known and its unit is not news.
    pub(crate) fn find(&self, key: &str, unit: Option<&str>) -> Option<SeriesId> {
        let entry = self.ids.get(key)?;
        (unit.is_none() || unit == entry.unit.as_deref()).then_some(entry.id)
    }

    /// Registers `series` and remembers their ids; the answers are in the order of the question.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn register(
        &mut self,
        store: &dyn Ingestion,
        series: Vec<NewSeries>,
        limits: SeriesLimits,
    ) -> Result<Vec<Known>, StoreError> {
        let answers = store.register(series.clone(), limits).await?;
        if answers.len() != series.len() {
            return Err(StoreError::Corrupt(format!("asked to register {} series, {} answers came", series.len(), answers.len())));
        }
        Ok(series.into_iter().zip(answers).map(|(series, answer)| self.remember(series, answer)).collect())
    }

    fn remember(&mut self, series: NewSeries, answer: Registered) -> Known {
        match answer {
            Registered::As(id) => {
                let unit = series.unit.map(String::into_boxed_str);
                let entry = self.ids.entry(series.key).or_insert(Entry { id, unit: None });
                if unit.is_some() {
                    entry.unit = unit;
                }
                Known::Id(id)
            }
            // Not remembered: the limit may be raised, and refusals must not grow the cache.
            Registered::DeviceLimit => Known::Refused("of its device"),
            Registered::TotalLimit => Known::Refused("of all devices together"),
        }
    }
}
