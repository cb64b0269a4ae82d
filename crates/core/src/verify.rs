//! What must hold of a store's content, and the first places where it does not.
//!
//! Owns: [`Difference`] and the checks of chunks, rollups ([`Sealed`]), open blocks ([`block`]) and counts ([`conservation`], [`sum`]).
//! Does not know: how the content is read, in which slices, what is printed.
//!
//! Invariants: pure; every check looks at content and never at how it came to be (no sealing code is used, only [`Summary`]); what cannot be
//! decoded is one difference, and nothing is said about what would have to be known of it; memory is bounded by what was fed.

use crate::block::{BlockStats, OpenBlock};
use crate::chunk::Chunk;
use crate::seal::{ChunkKey, Level, RollupKey, StoredChunk};
use crate::series::{SeriesId, Shard};
use crate::store::{BatchId, Totals};
use crate::summary::{MAX_EXACT, Summary};
use crate::time::{DAY, TimeRange, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Where something is not as it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The counts over everything.
    Store,
    /// All of a shard.
    Shard(Shard),
    /// All chunks of a series.
    Series(SeriesId),
    /// One chunk.
    Chunk(ChunkKey),
    /// One rollup.
    Rollup(RollupKey),
    /// The rollups of a series whose windows start in a range.
    Rollups(SeriesId, Level, TimeRange),
    /// One open block.
    Block(Shard, BatchId),
}

impl Place {
    /// The rollups of a series whose windows start in `range`, or the one, where only one can.
    pub fn rollups(series: SeriesId, level: Level, range: TimeRange) -> Self {
        let last = level.start_of(range.to.0.saturating_sub(1));
        let is_one = range.from.0 <= last && range.from.0 > last.saturating_sub(level.width());
        if is_one { Self::Rollup(RollupKey { series, level, start: last }) } else { Self::Rollups(series, level, range) }
    }

    /// The series, where it is of one.
    pub const fn series(&self) -> Option<SeriesId> {
        match self {
            Self::Series(series) | Self::Rollups(series, ..) => Some(*series),
            Self::Chunk(key) => Some(key.series),
            Self::Rollup(key) => Some(key.series),
            Self::Store | Self::Shard(_) | Self::Block(..) => None,
        }
    }

    /// The shard, where it is of one.
    pub const fn shard(&self) -> Option<Shard> {
        match (self, self.series()) {
            (_, Some(series)) => Some(series.shard()),
            (Self::Shard(shard) | Self::Block(shard, _), _) => Some(*shard),
            _ => None,
        }
    }
}

/// Without the shard and the series.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store => f.write_str("counts"),
            Self::Shard(_) => f.write_str("shard"),
            Self::Series(_) => f.write_str("chunks"),
            Self::Chunk(key) => write!(f, "chunk from {}", Timestamp(key.first)),
            Self::Rollup(key) => write!(f, "{} rollup of {}", level_text(key.level), Timestamp(key.start)),
            Self::Rollups(_, level, range) => write!(f, "{} rollups from {} to {}", level_text(*level), range.from, range.to),
            Self::Block(_, batch) => write!(f, "open block of batch {}", batch.0),
        }
    }
}

const fn level_text(level: Level) -> &'static str {
    match level {
        Level::Hour => "hour",
        Level::Day => "day",
    }
}

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub place: Place,
    /// Which rule is broken.
    pub rule: &'static str,
    /// What would be right.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl Difference {
    /// A rule that is broken at a place, with both values.
    pub fn new(place: Place, rule: &'static str, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self { place, rule, expected: expected.to_string(), found: found.to_string() }
    }
}

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Looked {
    /// Chunks.
    pub chunks: u64,
    /// Readings in them.
    pub readings: u64,
    /// Rollups.
    pub rollups: u64,
    /// Open blocks.
    pub blocks: u64,
    /// Readings in them.
    pub open: u64,
}

impl Looked {
    /// Adds what else was looked at.
    pub const fn add(&mut self, other: Self) {
        self.chunks += other.chunks;
        self.readings += other.readings;
        self.rollups += other.rollups;
        self.blocks += other.blocks;
        self.open += other.open;
    }
}

/// The window that is being filled, of one level.
#[derive(Debug)]
struct Window {
    key: RollupKey,
    summary: Summary,
}

/// Checks the chunks of some series of a shard, fed in the order of their keys and whole days at a time, then their rollups.
#[derive(Debug, Default)]
pub struct Sealed {
    /// The chunk before: its key and the time of its last reading.
    before: Option<(ChunkKey, i64)>,
    windows: [Option<Window>; Level::ALL.len()],
    /// The rollups that must exist and were not seen yet.
    expected: BTreeMap<RollupKey, Summary>,
    /// Windows of which nothing can be said: a chunk in them cannot be decoded.
    unknown: BTreeSet<RollupKey>,
    /// What was found.
    pub differences: Vec<Difference>,
    /// What was looked at.
    pub looked: Looked,
}

impl Sealed {
    /// The next chunk.
    pub fn chunk(&mut self, key: ChunkKey, stored: &StoredChunk) {
        self.looked.chunks += 1;
        let place = Place::Chunk(key);
        self.follows(key, stored.last);
        let chunk = match Chunk::decode(&stored.bytes) {
            Ok(chunk) => chunk,
            Err(why) => {
                self.differ(place, "its bytes are as they were written", "a chunk that can be decoded", why);
                self.forget(key, stored.last);
                return;
            }
        };
        self.looked.readings += chunk.times.len() as u64;
        let ((Some(&first), Some(&last)), readings) = ((chunk.times.first(), chunk.times.last()), chunk.times.len() as u64) else {
            return;
        };
        let (beside, inside) = ((key.first, stored.last, stored.readings), (first, last, readings));
        if beside != inside {
            let text = |(first, last, readings)| format!("{readings} readings from {} to {}", Timestamp(first), Timestamp(last));
            self.differ(place, "its key and numbers equal its content", text(inside), text(beside));
        }
        if !chunk.times.is_sorted_by(|a, b| a < b) {
            self.differ(place, "its times rise strictly", "rising times", "times that do not rise");
        }
        if first.div_euclid(DAY) != last.div_euclid(DAY) {
            self.differ(place, "it lies within one UTC day", Timestamp(Level::Day.start_of(first)), Timestamp(last));
        }
        for (at, level) in Level::ALL.into_iter().enumerate() {
            self.fill(at, level, key.series, &chunk);
        }
    }

    /// All chunks of what is asked next were fed.
    pub fn end_of_chunks(&mut self) {
        for at in 0..self.windows.len() {
            self.close(at);
        }
    }

    /// A rollup that is stored; each once, after [`Sealed::end_of_chunks`].
    pub fn rollup(&mut self, key: RollupKey, found: &Summary) {
        self.looked.rollups += 1;
        let place = Place::Rollup(key);
        match self.expected.remove(&key) {
            // Equal exactly when the encodings are, see `Summary`.
            Some(expected) if expected == *found => {}
            Some(expected) => {
                let (expected, found) = both(&expected, found);
                self.differ(place, "it equals the summary of its readings", expected, found);
            }
            None if self.unknown.contains(&key) => {}
            None => self.differ(
                place,
                "it has more than 64 sealed readings in its window",
                "no rollup",
                format_args!("a rollup of {} readings", found.count()),
            ),
        }
    }

    /// Rollups that are there and cannot be read: `why`. With [`Place::Rollup`] or [`Place::Rollups`].
    pub fn unreadable(&mut self, place: Place, why: impl fmt::Display) {
        self.differ(place, "its bytes are as they were written", "a rollup that can be decoded", why);
        match place {
            Place::Rollup(key) => drop(self.expected.remove(&key)),
            Place::Rollups(series, level, range) => {
                self.expected.retain(|key, _| key.series != series || key.level != level || !range.contains(key.start));
            }
            _ => {}
        }
    }

    /// All rollups were seen: what is still expected is missing.
    pub fn end_of_rollups(&mut self) {
        for (key, expected) in std::mem::take(&mut self.expected) {
            self.differ(
                Place::Rollup(key),
                "a window of more than 64 sealed readings has a rollup",
                format_args!("a rollup of {} readings", expected.count()),
                "no rollup",
            );
        }
    }

    fn differ(&mut self, place: Place, rule: &'static str, expected: impl fmt::Display, found: impl fmt::Display) {
        self.differences.push(Difference::new(place, rule, expected, found));
    }

    fn follows(&mut self, key: ChunkKey, last: i64) {
        let before = self.before.replace((key, last));
        let Some((before, end)) = before.filter(|(before, end)| before.series == key.series && *end >= key.first || *before >= key) else {
            return;
        };
        let place = Place::Chunk(key);
        let found = format!("one from {} to {} before one from {}", Timestamp(before.first), Timestamp(end), Timestamp(key.first));
        self.differ(place, "chunks of a series do not overlap", "a chunk after the one before", found);
    }

    /// The windows that a chunk lies in cannot be checked. Its numbers are taken as far as they are possible.
    fn forget(&mut self, key: ChunkKey, last: i64) {
        let last = last.clamp(key.first, Level::Day.start_of(key.first) + DAY - 1);
        for level in Level::ALL {
            let mut start = level.start_of(key.first);
            while start <= last {
                self.unknown.insert(RollupKey { series: key.series, level, start });
                start += level.width();
            }
        }
    }

    fn fill(&mut self, at: usize, level: Level, series: SeriesId, chunk: &Chunk) {
        let mut from = 0;
        while let Some(&time) = chunk.times.get(from) {
            let key = RollupKey { series, level, start: level.start_of(time) };
            let rest = &chunk.times[from..];
            // At least one, so that this ends whatever the times are.
            let len = rest.iter().take_while(|time| level.start_of(**time) == key.start).count();
            if self.windows[at].as_ref().is_none_or(|window| window.key != key) {
                self.close(at);
            }
            let window = self.windows[at].get_or_insert_with(|| Window { key, summary: Summary::new() });
            window.summary.add_run(&rest[..len], &chunk.values[from..from + len]);
            from += len;
        }
    }

    fn close(&mut self, at: usize) {
        let Some(Window { key, summary }) = self.windows[at].take() else { return };
        if summary.count() > MAX_EXACT as u64 && !self.unknown.contains(&key) {
            self.expected.insert(key, summary);
        }
    }
}

/// A part of a summary as text.
type InWords = fn(&Summary) -> String;

/// Two summaries in words, by the first part in which they differ.
fn both(expected: &Summary, found: &Summary) -> (String, String) {
    let parts: [(&str, InWords); 6] = [
        ("count", |summary| summary.count().to_string()),
        ("sum", |summary| format!("{:?}", summary.sum().unwrap_or(f64::NAN))),
        ("min", |summary| format!("{:?}", summary.min().unwrap_or(f64::NAN))),
        ("max", |summary| format!("{:?}", summary.max().unwrap_or(f64::NAN))),
        ("first", |summary| end(summary.first())),
        ("last", |summary| end(summary.last())),
    ];
    for (name, part) in parts {
        let (expected, found) = (part(expected), part(found));
        if expected != found {
            return (format!("{name} {expected}"), format!("{name} {found}"));
        }
    }
    let hash = |summary: &Summary| {
        let mut bytes = Vec::new();
        summary.encode(&mut bytes);
        format!("bytes with CRC {:08x}", crc32fast::hash(&bytes))
    };
    (hash(expected), hash(found))
}

fn end(reading: Option<(i64, f64)>) -> String {
    reading.map_or_else(|| "none".to_owned(), |(time, value)| format!("{value:?} at {}", Timestamp(time)))
}

/// Checks an open block against what stands beside it. `is_known` tells which series there are.
pub fn block(shard: Shard, batch: BatchId, beside: BlockStats, block: &OpenBlock, is_known: impl Fn(SeriesId) -> bool) -> Vec<Difference> {
    let place = Place::Block(shard, batch);
    let mut differences = Vec::new();
    let mut differ = |rule, expected: String, found: String| differences.push(Difference::new(place, rule, expected, found));
    let inside = block.stats();
    if inside != beside {
        let text = |stats: BlockStats| {
            let (from, to) = (Timestamp(stats.min_time), Timestamp(stats.max_time));
            format!("{} readings of {} series from {from} to {to}", stats.readings, stats.series)
        };
        differ("its numbers equal its content", text(inside), text(beside));
    }
    let strange = block.series.iter().find(|series| series.shard() != shard);
    if block.shard != shard || strange.is_some() {
        let series = strange.map(|series| format!(" with series {}", series.0)).unwrap_or_default();
        differ(
            "all its series are of its shard",
            format!("a block of shard {}", shard.0),
            format!("one of shard {}{series}", block.shard.0),
        );
    }
    let is_sorted = (1..block.len()).all(|i| (block.series[i - 1], block.times[i - 1]) <= (block.series[i], block.times[i]));
    if !is_sorted {
        differ("it is sorted by series and time", "sorted readings".to_owned(), "readings out of order".to_owned());
    }
    let mut unknown: Vec<SeriesId> = block.series.chunk_by(|a, b| a == b).map(|run| run[0]).filter(|series| !is_known(*series)).collect();
    unknown.dedup();
    if let Some(first) = unknown.first() {
        differ("all its series are registered", "known series".to_owned(), format!("{} unknown ones, first {}", unknown.len(), first.0));
    }
    differences
}

/// An open block that cannot be read: `why`.
pub fn unreadable_block(shard: Shard, batch: BatchId, why: impl fmt::Display) -> Difference {
    Difference::new(Place::Block(shard, batch), "its bytes are as they were written", "a block that can be decoded", why)
}

/// Whether every received reading has become something.
pub fn conservation(totals: &Totals) -> Option<Difference> {
    let Totals { received, stored, duplicate, conflict, dead, unsealed, .. } = totals;
    let sum = [stored, duplicate, conflict, dead, unsealed].iter().fold(0u128, |sum, part| sum + u128::from(**part));
    (u128::from(*received) != sum).then(|| {
        let found = format!("stored {stored} + duplicate {duplicate} + conflict {conflict} + dead {dead} + unsealed {unsealed} = {sum}");
        Difference::new(
            Place::Store,
            "received = stored + duplicate + conflict + dead + unsealed",
            format_args!("received {received}"),
            found,
        )
    })
}

/// Whether what the rows hold adds up to a count of the same snapshot.
pub fn sum(rule: &'static str, counted: u64, rows: u64) -> Option<Difference> {
    (counted != rows).then(|| Difference::new(Place::Store, rule, counted, rows))
}

#[cfg(test)]
mod tests;
