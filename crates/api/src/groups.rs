//! Summaries by group and bucket, as many as a page needs.
//!
//! Owns: [`Grouping`] (which series are pooled), [`Groups`] (the sink that keeps the first rows of an answer). Does not know:
//! stores, formats.
//!
//! A group's key is the canonical text of a series, cut down to what is grouped by: its byte order is the order of rows by
//! (device, metric, tags), a missing label is absent from it and so comes first.
//!
//! A series is of one shard, so when its shard is done its summaries are turned into figures, which are much smaller.
//!
//! Invariants: at most about twice the page's rows are held, however many groups and buckets there are: a row beyond the
//! page's last can only be pushed further back by what comes later, so it is dropped. What is held does not depend on the order
//! in which series come.

use crate::config::Config;
use crate::engine::Sink;
use crate::failure::{self, Result};
use crate::figures::{Figures, Stat};
use headwater_core::merge::SeriesReadings;
use headwater_core::plan::Buckets;
use headwater_core::series::{self, Series};
use headwater_core::summary::Summary;
use headwater_core::time::Timestamp;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Memory of a row beside its summary or figures, and the most that a new summary takes.
const BYTES_PER_ROW: usize = 64;
const BYTES_PER_NEW_SUMMARY: usize = 448;
/// Memory of a group beside its key.
const BYTES_PER_GROUP: usize = 192;
/// The most that one more reading adds to a summary.
const BYTES_PER_ADDED: usize = 16;

/// Which series are pooled. The metric is always part of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Grouping {
    /// Each series is a group.
    Series,
    /// By the device, if `true`, and by these tags.
    By(bool, BTreeSet<String>),
}

impl Grouping {
    /// Whether rows are of one device each.
    pub(crate) const fn has_device(&self) -> bool {
        matches!(self, Self::Series | Self::By(true, _))
    }

    /// Writes the key of the group of `series` into `out`.
    pub(crate) fn write_key(&self, series: &Series, out: &mut String) {
        match self {
            Self::Series => {
                out.clear();
                out.push_str(series.key.as_str());
            }
            Self::By(by_device, tags) => {
                let parts = series.key.parts();
                let device = if *by_device { parts.device } else { "" };
                series::write_key(out, device, parts.metric, parts.tags().filter(|(name, _)| tags.contains(*name)));
            }
        }
    }
}

/// The unit of a group's series that have readings in the range.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unit {
    One(Option<String>),
    Differs,
}

#[derive(Debug)]
struct Group {
    unit: Unit,
    buckets: BTreeMap<Timestamp, Bucket>,
}

#[derive(Debug)]
enum Bucket {
    /// More readings may come.
    Open(Summary),
    /// All readings have come.
    Done(Figures),
}

impl Bucket {
    fn memory_bytes(&self) -> usize {
        match self {
            Self::Open(summary) => summary.memory_bytes(),
            Self::Done(figures) => figures.memory_bytes(),
        }
    }

    /// Keeps only the figures; `held_bytes` is the memory of all buckets.
    fn finish(&mut self, stats: &[Stat], held_bytes: &mut usize) {
        if let Self::Open(summary) = self {
            let done = Self::Done(Figures::of(summary, stats));
            *held_bytes = (*held_bytes + done.memory_bytes()).saturating_sub(summary.memory_bytes());
            *self = done;
        }
    }
}

/// One row of an answer.
pub(crate) struct Row<'a> {
    /// The bucket's start.
    pub(crate) time: Timestamp,
    /// The group's key.
    pub(crate) key: &'a str,
    /// Its unit, where all its series agree.
    pub(crate) unit: Option<&'a str>,
    /// What the bucket holds; `None` where `fill=null` shows an empty one.
    pub(crate) figures: Option<Cow<'a, Figures>>,
}

/// The first rows after some row, in the order of (group, time).
pub(crate) struct Groups {
    grouping: Grouping,
    buckets: Buckets,
    stats: Vec<Stat>,
    fill: bool,
    /// The last row of the page before.
    after: Option<(String, Timestamp)>,
    /// How many rows are needed: those of the page, and one that tells whether there is another page.
    needed: usize,
    groups: BTreeMap<String, Group>,
    /// Groups with open buckets, where each series is a group.
    open: Vec<String>,
    n_buckets: usize,
    bucket_bytes: usize,
    key_bytes: usize,
    scratch: String,
}

impl Groups {
    /// Nothing yet of the `limit` rows after `after`.
    pub(crate) fn new(
        grouping: Grouping,
        buckets: Buckets,
        stats: Vec<Stat>,
        fill: bool,
        after: Option<(String, Timestamp)>,
        limit: usize,
    ) -> Self {
        Self {
            grouping,
            buckets,
            stats,
            fill,
            after,
            needed: limit + 1,
            groups: BTreeMap::new(),
            open: Vec::new(),
            n_buckets: 0,
            bucket_bytes: 0,
            key_bytes: 0,
            scratch: String::new(),
        }
    }

    /// How many buckets are held.
    pub(crate) const fn n_buckets(&self) -> usize {
        self.n_buckets
    }

    /// The same when all readings have come: figures in the place of summaries.
    pub(crate) fn finished(mut self) -> Self {
        for group in self.groups.values_mut() {
            group.buckets.values_mut().for_each(|bucket| bucket.finish(&self.stats, &mut self.bucket_bytes));
        }
        self
    }

    /// Calls `each` with the rows of the page, in order; returns the last one's place when more follow.
    pub(crate) fn rows(&self, mut each: impl FnMut(&Row<'_>)) -> Option<(String, Timestamp)> {
        let mut last: Option<(&str, Timestamp)> = None;
        let mut left = self.needed - 1;
        for (key, group) in &self.groups {
            for (time, bucket) in self.times(key, group) {
                if left == 0 {
                    return last.map(|(key, time)| (key.to_owned(), time));
                }
                left -= 1;
                last = Some((key, time));
                each(&Row { time, key, unit: group.unit.text(), figures: bucket.map(|bucket| self.figures(bucket)) });
            }
        }
        None
    }

    /// The buckets of a group that are on this page or after it, with their starts, in order.
    fn times<'a>(&'a self, key: &str, group: &'a Group) -> Box<dyn Iterator<Item = (Timestamp, Option<&'a Bucket>)> + 'a> {
        if !self.fill {
            return Box::new(group.buckets.iter().map(|(time, bucket)| (*time, Some(bucket))));
        }
        let buckets = self.buckets;
        let first = self.last_shown(key).map_or(buckets.start_of(buckets.range.from.0), |time| buckets.after(time));
        let starts = std::iter::successors(Some(first), move |&start| Some(buckets.after(start)));
        Box::new(starts.take_while(move |start| *start < buckets.range.to).map(|start| (start, group.buckets.get(&start))))
    }

    fn figures<'a>(&self, bucket: &'a Bucket) -> Cow<'a, Figures> {
        match bucket {
            Bucket::Open(summary) => Cow::Owned(Figures::of(summary, &self.stats)),
            Bucket::Done(figures) => Cow::Borrowed(figures),
        }
    }

    /// Whether no row of the group `key` is on the page.
    fn is_beside(&self, key: &str) -> bool {
        let is_before = self.after.as_ref().is_some_and(|(after, _)| key < after.as_str());
        is_before || (self.is_full() && self.groups.last_key_value().is_some_and(|(last, _)| key > last.as_str()))
    }

    /// Whether enough rows are held, so that one after the last is not needed.
    fn is_full(&self) -> bool {
        let n_rows = if self.fill { self.n_filled(self.groups.len()) } else { self.n_buckets as u64 };
        n_rows >= self.needed as u64
    }

    /// How many rows the first `n_groups` groups have with `fill=null`.
    fn n_filled(&self, n_groups: usize) -> u64 {
        let n_shown = match &self.after {
            Some((key, time)) if self.groups.contains_key(key) => self.place(*time).saturating_add(1),
            _ => 0,
        };
        self.buckets.count().saturating_mul(n_groups as u64).saturating_sub(n_shown)
    }

    /// Which bucket of the range starts at `start`, from 0.
    fn place(&self, start: Timestamp) -> u64 {
        let since_first = i128::from(start.0) - i128::from(self.buckets.start_of(self.buckets.range.from.0).0);
        let step = self.buckets.step.map_or(i128::MAX, |step| i128::from(step.get()));
        u64::try_from(since_first / step).unwrap_or(0)
    }

    /// Whether the bucket at `start` of the group `key` comes after the last that is needed.
    fn is_past(&self, key: &str, start: Timestamp) -> bool {
        if self.fill {
            let first = self.last_shown(key).map_or(0, |time| self.place(time).saturating_add(1));
            return self.place(start) >= first.saturating_add(self.needed as u64);
        }
        let last = self.groups.last_key_value().and_then(|(key, group)| Some((key.as_str(), *group.buckets.last_key_value()?.0)));
        self.is_full() && last.is_some_and(|last| (key, start) > last)
    }

    /// The last bucket of a group that is on an earlier page.
    fn last_shown(&self, key: &str) -> Option<Timestamp> {
        self.after.as_ref().filter(|(after, _)| after == key).map(|(_, time)| *time)
    }

    /// Notes that a series of the group `key` has readings in the range.
    fn note(&mut self, key: &str, unit: Option<&str>) {
        match self.groups.get_mut(key) {
            Some(group) => group.unit.note(unit),
            None => {
                let unit = Unit::One(unit.map(str::to_owned));
                self.groups.insert(key.to_owned(), Group { unit, buckets: BTreeMap::new() });
                self.key_bytes += key.len();
            }
        }
        if self.grouping == Grouping::Series && self.open.last().is_none_or(|last| last != key) {
            self.open.push(key.to_owned());
        }
    }

    /// Adds to one bucket of a group that is held.
    fn add(&mut self, key: &str, start: Timestamp, add: impl FnOnce(&mut Summary)) {
        let Some(group) = self.groups.get_mut(key) else { return };
        let bucket = group.buckets.entry(start).or_insert_with(|| {
            self.n_buckets += 1;
            self.bucket_bytes += size_of::<Summary>();
            Bucket::Open(Summary::new())
        });
        if let Bucket::Open(summary) = bucket {
            let bytes_before = summary.memory_bytes();
            add(summary);
            self.bucket_bytes = (self.bucket_bytes + summary.memory_bytes()).saturating_sub(bytes_before);
        }
    }

    /// Drops what the page does not need.
    fn trim(&mut self) {
        while self.fill && self.groups.len() > 1 && self.n_filled(self.groups.len() - 1) >= self.needed as u64 {
            self.drop_last_group();
        }
        while !self.fill && self.n_buckets > self.needed {
            let Some(mut last) = self.groups.last_entry() else { return };
            if let Some((_, bucket)) = last.get_mut().buckets.pop_last() {
                self.n_buckets -= 1;
                self.bucket_bytes = self.bucket_bytes.saturating_sub(bucket.memory_bytes());
            }
            if last.get().buckets.is_empty() {
                self.drop_last_group();
            }
        }
    }

    fn drop_last_group(&mut self) {
        if let Some((key, group)) = self.groups.pop_last() {
            self.key_bytes -= key.len();
            self.n_buckets -= group.buckets.len();
            let bytes: usize = group.buckets.values().map(Bucket::memory_bytes).sum();
            self.bucket_bytes = self.bucket_bytes.saturating_sub(bytes);
        }
    }
}

impl Unit {
    fn note(&mut self, unit: Option<&str>) {
        if matches!(self, Self::One(known) if known.as_deref() != unit) {
            *self = Self::Differs;
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::One(unit) => unit.as_deref(),
            Self::Differs => None,
        }
    }
}

impl Sink for Groups {
    fn buckets(&self) -> Option<Buckets> {
        Some(self.buckets)
    }

    fn merge(&mut self, series: &Series, windows: &[(Timestamp, &Summary)]) {
        let mut key = std::mem::take(&mut self.scratch);
        self.grouping.write_key(series, &mut key);
        if !self.is_beside(&key) {
            self.note(&key, series.unit.as_deref());
            let shown = self.last_shown(&key);
            for (window, summary) in windows {
                let start = self.buckets.start_of(window.0);
                if shown.is_some_and(|shown| start <= shown) {
                    continue;
                }
                if self.is_past(&key, start) {
                    break;
                }
                self.add(&key, start, |bucket| bucket.merge(summary));
                self.trim();
            }
            self.trim();
        }
        self.scratch = key;
    }

    fn wants(&mut self, series: &Series, from: Timestamp) -> bool {
        self.grouping.write_key(series, &mut self.scratch);
        if self.is_beside(&self.scratch) {
            return false;
        }
        // A pooled unit depends on readings of any time, and so does whether there is a group at all.
        let is_settled = self.grouping == Grouping::Series && self.groups.contains_key(&self.scratch);
        !is_settled || !self.is_past(&self.scratch, self.buckets.start_of(from.0))
    }

    fn take(&mut self, series: &Series, readings: &SeriesReadings) {
        let mut key = std::mem::take(&mut self.scratch);
        self.grouping.write_key(series, &mut key);
        if !self.is_beside(&key) {
            self.note(&key, series.unit.as_deref());
            let (buckets, shown) = (self.buckets, self.last_shown(&key));
            for (start, run) in buckets.runs(readings) {
                if shown.is_some_and(|shown| start <= shown) {
                    continue;
                }
                if self.is_past(&key, start) {
                    break;
                }
                self.add(&key, start, |summary| summary.add_run(&readings.times[run.clone()], &readings.values[run]));
                self.trim();
            }
            self.trim();
        }
        self.scratch = key;
    }

    fn resumed(&mut self, series: &Series) {
        if self.fill {
            let mut key = std::mem::take(&mut self.scratch);
            self.grouping.write_key(series, &mut key);
            self.note(&key, series.unit.as_deref());
            self.scratch = key;
        }
    }

    fn shard_is_done(&mut self) {
        for key in std::mem::take(&mut self.open) {
            let Some(group) = self.groups.get_mut(&key) else { continue };
            group.buckets.values_mut().for_each(|bucket| bucket.finish(&self.stats, &mut self.bucket_bytes));
        }
    }

    fn is_complete(&self) -> bool {
        self.grouping == Grouping::Series && self.is_full()
    }

    fn memory_bytes(&self) -> usize {
        self.bucket_bytes + self.n_buckets * BYTES_PER_ROW + self.groups.len() * BYTES_PER_GROUP + self.key_bytes
    }

    fn growth_bytes(&self, n_readings: usize) -> usize {
        n_readings.min(self.needed) * BYTES_PER_NEW_SUMMARY + n_readings * BYTES_PER_ADDED
    }

    fn check(&self, limits: &Config) -> Result<()> {
        let n_filled = self.buckets.count().saturating_mul(self.groups.len() as u64);
        if self.fill && n_filled > limits.max_rows {
            return Err(failure::too_expensive("max_rows", limits.max_rows, n_filled, "rows with `fill=null`"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
