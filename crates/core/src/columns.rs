//! Readings as they travel from a decoder to the log: columns, and a dictionary of the series that they name.
//!
//! Owns: [`ReadingBatch`] and its [`Dictionary`]. Does not know: formats, ids of the store.
//! Invariants: the three columns have one length; every number in `series` is an index of the dictionary; every text of the
//! dictionary is a checked canonical text; values are finite and never −0.0.
//!
//! A batch whose every reading is of another series is the normal case (an agent sends one line a device), so the dictionary
//! keeps all texts in one string and allocates nothing per series. Its hash is std's SipHash: names come from strangers.

use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

/// Texts of series, each once, numbered in the order of their first appearance.
#[derive(Debug, Default)]
pub struct Dictionary {
    text: String,
    ends: Vec<u32>,
    units: Vec<(u32, Box<str>)>,
    /// Numbers by hash of their text: of the first `table.len()` texts, see [`Dictionary::push`].
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
        text_of(&self.text, &self.ends, index)
    }

    /// All texts in the order of their numbers.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        (0..self.ends.len() as u32).map(|i| self.key(i))
    }

    /// The number of `key`, added when it is new. The caller vouches that `key` is a checked canonical text.
    pub fn insert(&mut self, key: &str) -> u32 {
        self.index_all();
        let hash = self.hasher.hash_one(key);
        if let Some(&found) = self.table.find(hash, |&i| self.key(i) == key) {
            return found;
        }
        let index = self.push(key);
        self.index(hash, index);
        index
    }

    /// Adds `key` without looking whether it is there, and without a place in the table of hashes until somebody inserts: for
    /// whoever only reads the texts back. The caller vouches that `key` is a checked canonical text.
    pub fn push(&mut self, key: &str) -> u32 {
        let index = self.ends.len() as u32;
        self.text.push_str(key);
        self.ends.push(self.text.len() as u32);
        index
    }

    /// Makes room for `n` more texts, so that a dictionary that grows by thousands does not hash its texts again and again.
    pub fn reserve(&mut self, n: usize) {
        let Self { text, ends, table, hasher, .. } = self;
        ends.reserve(n);
        table.reserve(n, |&i| hasher.hash_one(text_of(text, ends, i)));
    }

    fn index_all(&mut self) {
        for index in self.table.len()..self.ends.len() {
            let hash = self.hasher.hash_one(self.key(index as u32));
            self.index(hash, index as u32);
        }
    }

    fn index(&mut self, hash: u64, index: u32) {
        let Self { text, ends, table, hasher, .. } = self;
        table.insert_unique(hash, index, |&i| hasher.hash_one(text_of(text, ends, i)));
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

fn text_of<'t>(text: &'t str, ends: &[u32], index: u32) -> &'t str {
    let i = index as usize;
    let start = if i == 0 { 0 } else { ends.get(i - 1).map_or(0, |&end| end as usize) };
    ends.get(i).map_or("", |&end| &text[start..end as usize])
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

    /// Bytes of heap that it holds, roughly.
    pub fn memory_bytes(&self) -> usize {
        self.dictionary.memory_bytes() + 20 * self.times.capacity()
    }
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
    fn a_negative_zero_becomes_zero() {
        let mut batch = ReadingBatch::default();
        let series = batch.dictionary.insert("d\0m\0");
        batch.push(series, 5, -0.0);
        assert_eq!(batch.values[0].to_bits(), 0);
    }

    #[test]
    fn texts_that_were_pushed_are_found_when_somebody_inserts() {
        let mut dictionary = Dictionary::default();
        assert_eq!((dictionary.push("a"), dictionary.push("b")), (0, 1));
        dictionary.reserve(100);
        assert_eq!((dictionary.insert("b"), dictionary.insert("c"), dictionary.insert("a")), (1, 2, 0));
        assert_eq!(dictionary.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
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
