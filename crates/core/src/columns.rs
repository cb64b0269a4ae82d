//! Readings as they travel from a decoder to the log: columns, and a dictionary of the series that they name.
//!
//! Owns: [`ReadingBatch`] and its [`Dictionary`]. Does not know: formats, ids of the store.
//! Invariants: the three columns have one length; every number in `series` is an index of the dictionary; every text of the
//! dictionary is a checked canonical text; values are finite and never −0.0.
//!
//! A batch whose every reading is of another series is the normal case (an agent sends one line a device), so the dictionary
//! keeps all texts in one string and allocates nothing per series. Its hash is std's SipHash: names come from strangers.

use crate::series::{self, IdProblem};
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

/// Texts of series, each once, numbered in the order of their first appearance.
#[derive(Debug, Default)]
pub struct Dictionary {
    text: String,
    ends: Vec<u32>,
    units: Vec<(u32, Box<str>)>,
    table: HashTable<u32>,
    hasher: RandomState,
}

impl Dictionary {
    /// How many series it holds.
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it holds none.
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The canonical text of series number `index`; empty for a number that it does not hold.
    pub fn key(&self, index: u32) -> &str {
        let i = index as usize;
        let start = if i == 0 { 0 } else { self.ends.get(i - 1).map_or(0, |&end| end as usize) };
        self.ends.get(i).map_or("", |&end| &self.text[start..end as usize])
    }

    /// All texts in the order of their numbers.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        (0..self.ends.len() as u32).map(|i| self.key(i))
    }

    /// The number of a canonical text that is known.
    pub fn find(&self, key: &str) -> Option<u32> {
        self.table.find(self.hasher.hash_one(key), |&i| self.key(i) == key).copied()
    }

    /// The number of `key`, added when it is new. The caller vouches that `key` is a checked canonical text.
    pub fn insert(&mut self, key: &str) -> u32 {
        let hash = self.hasher.hash_one(key);
        if let Some(&found) = self.table.find(hash, |&i| self.key(i) == key) {
            return found;
        }
        let index = self.ends.len() as u32;
        self.text.push_str(key);
        self.ends.push(self.text.len() as u32);
        let Self { text, ends, table, hasher, .. } = self;
        let key_of = |i: u32| {
            let start = if i == 0 { 0 } else { ends[i as usize - 1] as usize };
            &text[start..ends[i as usize] as usize]
        };
        table.insert_unique(hash, index, |&i| hasher.hash_one(key_of(i)));
        index
    }

    /// Says the unit of a series; the last word counts.
    pub fn set_unit(&mut self, index: u32, unit: &str) {
        match self.units.binary_search_by_key(&index, |(i, _)| *i) {
            Ok(at) if *self.units[at].1 == *unit => {}
            Ok(at) => self.units[at].1 = unit.into(),
            Err(at) => self.units.insert(at, (index, unit.into())),
        }
    }

    /// The unit of a series, when one was sent.
    pub fn unit(&self, index: u32) -> Option<&str> {
        let at = self.units.binary_search_by_key(&index, |(i, _)| *i).ok()?;
        Some(&self.units[at].1)
    }

    /// Bytes of heap that it holds, roughly.
    pub fn memory_bytes(&self) -> usize {
        self.text.capacity() + 4 * self.ends.capacity() + 5 * self.table.capacity() + 40 * self.units.len()
    }
}

/// Readings in the order in which they came.
#[derive(Debug, Default)]
pub struct ReadingBatch {
    /// The series that the readings name.
    pub dictionary: Dictionary,
    /// For each reading the number of its series in the dictionary.
    pub series: Vec<u32>,
    /// Microseconds since the epoch.
    pub times: Vec<i64>,
    /// Finite, never −0.0.
    pub values: Vec<f64>,
}

impl ReadingBatch {
    /// How many readings it holds.
    pub const fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether it holds none.
    pub const fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Adds a reading of a series that the dictionary numbers. The caller vouches that `value` is finite; −0.0 becomes 0.0.
    #[inline]
    pub fn push(&mut self, series: u32, time: i64, value: f64) {
        debug_assert!((series as usize) < self.dictionary.len() && value.is_finite());
        self.series.push(series);
        self.times.push(time);
        self.values.push(value + 0.0);
    }

    /// The number of a series by its parts, checked when it is new. `tags` must be sorted by name, without repeats;
    /// `scratch` is any string, reused from call to call.
    ///
    /// # Errors
    /// Which part breaks which rule.
    pub fn intern(&mut self, scratch: &mut String, device: &str, metric: &str, tags: &[(&str, &str)]) -> Result<u32, PartProblem> {
        series::write_key(scratch, device, metric, tags.iter().copied());
        if let Some(found) = self.dictionary.find(scratch) {
            return Ok(found);
        }
        series::check_id(device).map_err(PartProblem::Device)?;
        series::check_id(metric).map_err(PartProblem::Metric)?;
        if tags.len() > series::MAX_TAGS {
            return Err(PartProblem::Tags(IdProblem::TooLong(series::MAX_TAGS)));
        }
        for (name, value) in tags {
            series::check_tag(name, value).map_err(PartProblem::Tags)?;
        }
        Ok(self.dictionary.insert(scratch))
    }

    /// Bytes of heap that it holds, roughly.
    pub fn memory_bytes(&self) -> usize {
        self.dictionary.memory_bytes() + 20 * self.times.capacity()
    }
}

/// Which part of a series' identity breaks which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartProblem {
    /// The device.
    Device(IdProblem),
    /// The metric.
    Metric(IdProblem),
    /// A tag, or their number.
    Tags(IdProblem),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_dictionary_numbers_texts_in_order_of_appearance(words in prop::collection::vec("[a-c]{1,3}", 0..100)) {
            let mut dictionary = Dictionary::default();
            let mut model: Vec<String> = Vec::new();
            for word in &words {
                let index = dictionary.insert(word);
                let expected = model.iter().position(|w| w == word).unwrap_or_else(|| { model.push(word.clone()); model.len() - 1 });
                prop_assert_eq!(index as usize, expected);
            }
            prop_assert_eq!(dictionary.keys().collect::<Vec<_>>(), model);
        }
    }

    #[test]
    fn interning_checks_what_is_new() {
        let mut batch = ReadingBatch::default();
        let mut scratch = String::new();
        assert_eq!(batch.intern(&mut scratch, "d", "m", &[("a", "1")]), Ok(0));
        assert_eq!(batch.intern(&mut scratch, "d", "m", &[("a", "1")]), Ok(0));
        assert_eq!(batch.intern(&mut scratch, "d*", "m", &[]), Err(PartProblem::Device(IdProblem::Wildcard)));
        assert_eq!(batch.intern(&mut scratch, "d", "", &[]), Err(PartProblem::Metric(IdProblem::Empty)));
        assert_eq!(batch.intern(&mut scratch, "d", "m", &[("a", "\n")]), Err(PartProblem::Tags(IdProblem::Control)));
        assert_eq!(batch.dictionary.len(), 1);
        batch.push(0, 5, -0.0);
        assert_eq!(batch.values[0].to_bits(), 0);
    }

    #[test]
    fn the_last_unit_counts() {
        let mut dictionary = Dictionary::default();
        let (a, b) = (dictionary.insert("a"), dictionary.insert("b"));
        dictionary.set_unit(b, "Pa");
        dictionary.set_unit(b, "hPa");
        assert_eq!((dictionary.unit(a), dictionary.unit(b)), (None, Some("hPa")));
    }
}
