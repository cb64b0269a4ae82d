//! Sealing: open readings become chunks and rollups, and every reading gets its outcome. Pure: load → [`seal`] → replace.
//!
//! Owns: what is loaded ([`Loaded`]), what is written ([`Replacement`]), the cutting of chunks, the settling of duplicates and conflicts, the
//! invariant of rollups. Does not know: the store, time, which shard is due.
//!
//! Invariants:
//! * sealed first, then batch id, then place in the batch: the first of a key wins; the same value again is a duplicate, another one a conflict;
//! * the rollup of a window exists exactly where the window holds more than [`MAX_EXACT`] sealed readings of the series, and equals the summary
//!   of all of them;
//! * chunks of a series never overlap and lie within one UTC day;
//! * stored + duplicate + conflict of the outcomes = the readings that the replacement takes from the blocks.

mod touched;

pub use touched::{Touched, touched};

use crate::block::{self, OpenBlock};
use crate::chunk::{self, Chunk};
use crate::dead_letter::{DeadLetter, Reason};
use crate::failpoint;
use crate::series::{SeriesId, SeriesKey, Shard};
use crate::store::BatchId;
use crate::summary::{MAX_EXACT, Summary};
use crate::time::{DAY, HOUR, Timestamp};
use std::collections::BTreeMap;
use uuid::Uuid;

/// A chunk is closed at the next border of an hour once it holds this many readings: so appending rewrites little, and the keys of chunks stay
/// small beside them.
pub const GOOD_READINGS: usize = 1_024;

/// The width of a rollup's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// One hour, aligned to the epoch.
    Hour,
    /// One UTC day.
    Day,
}

impl Level {
    /// Both, the narrow one first.
    pub const ALL: [Self; 2] = [Self::Hour, Self::Day];

    /// The width in microseconds.
    pub const fn width(self) -> i64 {
        match self {
            Self::Hour => HOUR,
            Self::Day => DAY,
        }
    }

    /// The start of the window that holds `time`.
    pub const fn start_of(self, time: i64) -> i64 {
        time - time.rem_euclid(self.width())
    }
}

/// Which rollup of which series; sorts by series, level, window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RollupKey {
    /// The series.
    pub series: SeriesId,
    /// The width.
    pub level: Level,
    /// The start of the window in microseconds.
    pub start: i64,
}

/// Which chunk of which series; sorts by series, then time. The day follows from the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkKey {
    /// The series.
    pub series: SeriesId,
    /// The time of the first reading.
    pub first: i64,
}

impl ChunkKey {
    /// The UTC day that the chunk lies in, as days since the epoch.
    pub const fn day(self) -> i64 {
        self.first.div_euclid(DAY)
    }
}

/// A chunk as it is kept: its bytes, and beside them what need not be decoded to be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChunk {
    /// The time of the last reading.
    pub last: i64,
    /// How many readings it holds.
    pub readings: u64,
    /// As [`chunk::encode`] wrote them.
    pub bytes: Vec<u8>,
}

/// What was read of a shard, in one snapshot.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The oldest blocks, in the order of their batches.
    pub blocks: Vec<(BatchId, OpenBlock)>,
    /// Every chunk of every (series, day) that the blocks touch.
    pub chunks: BTreeMap<ChunkKey, StoredChunk>,
    /// Every rollup of a window that the blocks touch.
    pub rollups: BTreeMap<RollupKey, Summary>,
    /// The last series whose chunks and rollups were loaded, where they did not fit for all (only with a single block).
    pub through: Option<SeriesId>,
}

/// A value that lost against another one of its key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conflict {
    /// The series.
    pub series: SeriesId,
    /// The time of both.
    pub time: i64,
    /// The value that stays.
    pub kept: f64,
    /// The value that came later.
    pub lost: f64,
}

/// What became of the readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcomes {
    /// Sealed now.
    pub stored: u64,
    /// Known already with the same value.
    pub duplicate: u64,
    /// Known already with another value.
    pub conflict: u64,
}

/// What is to be written in one transaction.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Replacement {
    /// Blocks to delete.
    pub sealed_blocks: Vec<BatchId>,
    /// What was not reached of a block that exceeded the budget alone, or several blocks merged into one: it takes the place of
    /// the last of them, keeps the receive time of the oldest, and is not merged again.
    pub rest: Option<(BatchId, OpenBlock)>,
    /// Chunks to delete.
    pub old_chunks: Vec<ChunkKey>,
    /// Chunks to write; none of them has a key that stays.
    pub new_chunks: Vec<(ChunkKey, StoredChunk)>,
    /// Rollups to insert or replace.
    pub rollups: Vec<(RollupKey, Summary)>,
    /// What became of the readings.
    pub outcomes: Outcomes,
    /// One for each losing value that came, in the order of series and time.
    pub conflicts: Vec<Conflict>,
    /// The conflicts as dead letters (see [`letters`]); a letter that is kept already is not kept twice.
    pub dead_letters: Vec<DeadLetter>,
}

/// Why a shard cannot be sealed: stored bytes that are not what was written, or an invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A chunk's bytes.
    #[error("the chunk of series {series} from {first} is damaged: {why}")]
    Chunk {
        /// The series' id.
        series: u32,
        /// The chunk's first time in microseconds.
        first: i64,
        /// What is wrong.
        why: crate::codec::Damaged,
    },
    /// A window with more than 64 sealed readings and no rollup.
    #[error("the rollup of series {series} from {start} is missing: {readings} readings are sealed in its window")]
    Rollup {
        /// The series' id.
        series: u32,
        /// The window's start in microseconds.
        start: i64,
        /// Sealed readings in it.
        readings: usize,
    },
}

/// Seals what was loaded. `most` is how many readings may be taken: whole series are taken until it is reached, at least one, and what is left of
/// the blocks becomes the rest (only where one block was loaded; several are always taken whole).
///
/// # Errors
/// When stored chunks or rollups are not what sealing wrote; nothing is to be replaced then.
pub fn seal(shard: Shard, loaded: &Loaded, most: usize) -> Result<Replacement, Broken> {
    let mut out = Replacement { sealed_blocks: loaded.blocks.iter().map(|(batch, _)| *batch).collect(), ..Replacement::default() };
    let mut readings = Readings::default();
    let mut taken = 0;
    let mut cursors = vec![0usize; loaded.blocks.len()];
    if failpoint::planted("drop-block-at-seal") {
        cursors.iter_mut().zip(&loaded.blocks).skip(1).for_each(|(cursor, (_, block))| *cursor = block.len());
    }
    while let Some(series) = next_series(loaded, &cursors) {
        let beyond = loaded.through.is_some_and(|through| series > through);
        if (taken >= most || beyond) && loaded.blocks.len() == 1 {
            let (batch, block) = &loaded.blocks[0];
            out.rest = Some((*batch, rest_of(shard, block, cursors[0])));
            break;
        }
        readings.gather(loaded, &mut cursors, series);
        taken += readings.times.len();
        for day in readings.days() {
            seal_day(series, loaded, &readings.times[day.clone()], &readings.values[day], &mut out)?;
        }
    }
    Ok(out)
}

/// Merges blocks of one shard into one, in the order of their batches; `None` for fewer than two. Settles nothing: every reading stays,
/// those of one key in the order of their arrival.
pub fn merge_blocks(shard: Shard, blocks: &[(BatchId, OpenBlock)]) -> Option<Replacement> {
    let (last, _) = blocks.last().filter(|_| blocks.len() > 1)?;
    let concat = |column: fn(&OpenBlock) -> &[i64]| blocks.iter().flat_map(|(_, block)| column(block)).copied().collect::<Vec<_>>();
    let series: Vec<SeriesId> = blocks.iter().flat_map(|(_, block)| &block.series).copied().collect();
    let values: Vec<f64> = blocks.iter().flat_map(|(_, block)| &block.values).copied().collect();
    let merged = block::cut(&series, &concat(|block| &block.times), &values);
    let merged = merged.into_iter().next().unwrap_or(OpenBlock { shard, series: vec![], times: vec![], values: vec![] });
    let sealed_blocks = blocks.iter().map(|(batch, _)| *batch).collect();
    Some(Replacement { sealed_blocks, rest: Some((*last, merged)), ..Replacement::default() })
}

/// Conflicts as dead letters: the reading as JSON with both values. Their ids follow from series, time and lost value, so that the same one is
/// kept once however often it comes. `keys` holds the identity of every series among them.
pub fn letters(conflicts: &[Conflict], keys: &BTreeMap<SeriesId, SeriesKey>, now: Timestamp) -> Vec<DeadLetter> {
    let letter = |conflict: &Conflict| {
        let key = keys.get(&conflict.series)?;
        let parts = key.parts();
        let name = format!("headwater:conflict:{}:{}:{:016x}", key.as_str(), conflict.time, conflict.lost.to_bits());
        Some(DeadLetter {
            id: Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()),
            received_at: now,
            reason: Reason::Conflict,
            detail: format!("the value {:?} came first and stays", conflict.kept),
            device: Some(parts.device.to_owned()),
            format: "json".to_owned(),
            count: 1,
            bytes: conflict_json(key, conflict).into_bytes(),
            part: 0,
            parts: 1,
            origin: None,
        })
    };
    conflicts.iter().filter_map(letter).collect()
}

/// A reading as `POST /v1/readings` takes it, with the value that stays beside the one that lost.
fn conflict_json(key: &SeriesKey, conflict: &Conflict) -> String {
    let parts = key.parts();
    let mut tags = String::new();
    for (name, value) in parts.tags() {
        let comma = if tags.is_empty() { "" } else { "," };
        tags += &format!("{comma}{}:{}", quoted(name), quoted(value));
    }
    let tags = if tags.is_empty() { tags } else { format!("\"tags\":{{{tags}}},") };
    format!(
        "{{\"device\":{},\"metric\":{},{tags}\"ts\":\"{}\",\"value\":{:?},\"kept\":{:?}}}",
        quoted(parts.device),
        quoted(parts.metric),
        Timestamp(conflict.time),
        conflict.lost,
        conflict.kept
    )
}

/// A JSON string. Ids and tags hold no control characters, so only two characters need an escape (RFC 8259, §7).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn next_series(loaded: &Loaded, cursors: &[usize]) -> Option<SeriesId> {
    loaded.blocks.iter().zip(cursors).filter_map(|((_, block), &at)| block.series.get(at).copied()).min()
}

fn rest_of(shard: Shard, block: &OpenBlock, from: usize) -> OpenBlock {
    OpenBlock { shard, series: block.series[from..].to_vec(), times: block.times[from..].to_vec(), values: block.values[from..].to_vec() }
}

/// The open readings of one series by time, in the order of their arrival within a key.
#[derive(Default)]
struct Readings {
    times: Vec<i64>,
    values: Vec<f64>,
}

impl Readings {
    fn gather(&mut self, loaded: &Loaded, cursors: &mut [usize], series: SeriesId) {
        self.times.clear();
        self.values.clear();
        for ((_, block), at) in loaded.blocks.iter().zip(cursors) {
            let len = block.series[*at..].partition_point(|&s| s == series);
            let run = *at..*at + len;
            self.times.extend_from_slice(&block.times[run.clone()]);
            self.values.extend_from_slice(&block.values[run]);
            *at += len;
        }
        if !self.times.is_sorted() {
            let mut order: Vec<u32> = (0..self.times.len() as u32).collect();
            order.sort_by_key(|&i| self.times[i as usize]);
            self.times = order.iter().map(|&i| self.times[i as usize]).collect();
            self.values = order.iter().map(|&i| self.values[i as usize]).collect();
        }
    }

    /// The places of the readings of each UTC day.
    fn days(&self) -> Vec<std::ops::Range<usize>> {
        let mut days = Vec::new();
        let mut from = 0;
        while from < self.times.len() {
            let end = Level::Day.start_of(self.times[from]) + DAY;
            let len = self.times[from..].partition_point(|&t| t < end);
            days.push(from..from + len);
            from += len;
        }
        days
    }
}

/// The stored chunks of one series and day, decoded where they are looked at.
struct Day<'a> {
    series: SeriesId,
    stored: Vec<(ChunkKey, &'a StoredChunk)>,
    decoded: Vec<Option<Chunk>>,
}

impl<'a> Day<'a> {
    fn of(series: SeriesId, loaded: &'a Loaded, time: i64) -> Self {
        let start = Level::Day.start_of(time);
        let keys = ChunkKey { series, first: start }..ChunkKey { series, first: start + DAY };
        let stored: Vec<_> = loaded.chunks.range(keys).map(|(key, chunk)| (*key, chunk)).collect();
        let decoded = stored.iter().map(|_| None).collect();
        Self { series, stored, decoded }
    }

    fn chunk(&mut self, i: usize) -> Result<&Chunk, Broken> {
        if self.decoded[i].is_none() {
            let (key, stored) = &self.stored[i];
            let chunk = Chunk::decode(&stored.bytes).map_err(|why| Broken::Chunk { series: self.series.0, first: key.first, why })?;
            self.decoded[i] = Some(chunk);
        }
        // Filled just above.
        Ok(self.decoded[i].get_or_insert_default())
    }

    /// The first chunk that ends at `time` or later.
    fn at_or_after(&self, time: i64) -> usize {
        self.stored.partition_point(|(_, chunk)| chunk.last < time)
    }

    /// The stored value of a key.
    fn value_at(&mut self, time: i64) -> Result<Option<f64>, Broken> {
        let i = self.at_or_after(time);
        if i == self.stored.len() || self.stored[i].0.first > time {
            return Ok(None);
        }
        let chunk = self.chunk(i)?;
        Ok(chunk.times.binary_search(&time).ok().map(|at| chunk.values[at]))
    }

    /// The sealed readings within `[start, end)`.
    fn within(&mut self, start: i64, end: i64) -> Result<Chunk, Broken> {
        let mut all = Chunk::default();
        for i in self.at_or_after(start)..self.stored.len() {
            if self.stored[i].0.first >= end {
                break;
            }
            let chunk = self.chunk(i)?;
            let (from, to) = (chunk.times.partition_point(|&t| t < start), chunk.times.partition_point(|&t| t < end));
            all.times.extend_from_slice(&chunk.times[from..to]);
            all.values.extend_from_slice(&chunk.values[from..to]);
        }
        Ok(all)
    }
}

/// Seals the readings of one series and UTC day: sorted by time, those of one key in the order of their arrival.
fn seal_day(series: SeriesId, loaded: &Loaded, times: &[i64], values: &[f64], out: &mut Replacement) -> Result<(), Broken> {
    let mut day = Day::of(series, loaded, times[0]);
    let accepted = settle(&mut day, times, values, out)?;
    if accepted.times.is_empty() {
        return Ok(());
    }
    out.outcomes.stored += accepted.times.len() as u64;
    for level in Level::ALL {
        roll_up(&mut day, level, &accepted, loaded, out)?;
    }
    rewrite(&mut day, &accepted, out)
}

/// Splits readings into those that are new and those that are known.
fn settle(day: &mut Day<'_>, times: &[i64], values: &[f64], out: &mut Replacement) -> Result<Chunk, Broken> {
    let mut accepted = Chunk::default();
    for (&time, &value) in times.iter().zip(values) {
        let kept = match accepted.times.last() {
            Some(&last) if last == time => accepted.values.last().copied(),
            _ => day.value_at(time)?,
        };
        match kept {
            None => {
                accepted.times.push(time);
                accepted.values.push(value);
            }
            Some(kept) if kept == value => out.outcomes.duplicate += 1,
            Some(kept) => {
                out.outcomes.conflict += 1;
                out.conflicts.push(Conflict { series: day.series, time, kept, lost: value });
            }
        }
    }
    Ok(accepted)
}

/// Keeps the invariant of the rollups of one level.
fn roll_up(day: &mut Day<'_>, level: Level, accepted: &Chunk, loaded: &Loaded, out: &mut Replacement) -> Result<(), Broken> {
    let mut from = 0;
    while from < accepted.times.len() {
        let start = level.start_of(accepted.times[from]);
        let end = start + level.width();
        let len = accepted.times[from..].partition_point(|&t| t < end);
        let (times, values) = (&accepted.times[from..from + len], &accepted.values[from..from + len]);
        from += len;
        let key = RollupKey { series: day.series, level, start };
        let mut summary = match loaded.rollups.get(&key) {
            Some(summary) => summary.clone(),
            None => {
                let sealed = day.within(start, end)?;
                if sealed.times.len() > MAX_EXACT {
                    return Err(Broken::Rollup { series: day.series.0, start, readings: sealed.times.len() });
                }
                if sealed.times.len() + len <= MAX_EXACT {
                    continue;
                }
                let mut summary = Summary::new();
                if !failpoint::planted("part-of-an-hour") {
                    summary.add_run(&sealed.times, &sealed.values);
                }
                summary
            }
        };
        summary.add_run(times, values);
        out.rollups.push((key, summary));
    }
    Ok(())
}

/// Writes the accepted readings into chunks, rewriting as few as it can.
fn rewrite(day: &mut Day<'_>, accepted: &Chunk, out: &mut Replacement) -> Result<(), Broken> {
    let n = day.stored.len();
    // For every reading the place where it goes: into chunk `i`, or before chunk `i` as a part of the gap there.
    let mut dirty = vec![false; n];
    let mut gap_has = vec![false; n + 1];
    for &time in &accepted.times {
        let i = day.at_or_after(time);
        if i < n && day.stored[i].0.first <= time {
            dirty[i] = true;
        } else {
            gap_has[i] = true;
        }
    }
    // Readings in a gap join the chunk before it while that is small, so that a steady series fills its chunks.
    for i in 1..=n {
        if gap_has[i] && (day.stored[i - 1].1.readings as usize) < GOOD_READINGS {
            dirty[i - 1] = true;
        }
    }
    // And the chunk after it, when that is small: late data does not leave crumbs.
    for i in 0..n {
        if gap_has[i] && (day.stored[i].1.readings as usize) < GOOD_READINGS / 2 {
            dirty[i] = true;
        }
    }
    let mut at = 0;
    let mut region = Chunk::default();
    for (i, dirty) in dirty.into_iter().enumerate() {
        let (key, stored) = day.stored[i];
        // The gap before this chunk.
        take(&mut region, accepted, &mut at, key.first);
        if dirty {
            let inside = accepted.times[at..].partition_point(|&t| t <= stored.last);
            let chunk = day.chunk(i)?;
            merge(&mut region, chunk, &accepted.times[at..at + inside], &accepted.values[at..at + inside]);
            at += inside;
            out.old_chunks.push(key);
        } else {
            cut(day.series, &region, out);
            region = Chunk::default();
        }
    }
    take(&mut region, accepted, &mut at, i64::MAX);
    cut(day.series, &region, out);
    Ok(())
}

/// Moves the accepted readings before `until` into the region.
fn take(region: &mut Chunk, accepted: &Chunk, at: &mut usize, until: i64) {
    let len = accepted.times[*at..].partition_point(|&t| t < until);
    region.times.extend_from_slice(&accepted.times[*at..*at + len]);
    region.values.extend_from_slice(&accepted.values[*at..*at + len]);
    *at += len;
}

/// Appends a chunk and the readings that fall into it, by time; no key is in both.
fn merge(region: &mut Chunk, chunk: &Chunk, times: &[i64], values: &[f64]) {
    let mut at = 0;
    for (&time, &value) in times.iter().zip(values) {
        let len = chunk.times[at..].partition_point(|&t| t < time);
        region.times.extend_from_slice(&chunk.times[at..at + len]);
        region.values.extend_from_slice(&chunk.values[at..at + len]);
        region.times.push(time);
        region.values.push(value);
        at += len;
    }
    region.times.extend_from_slice(&chunk.times[at..]);
    region.values.extend_from_slice(&chunk.values[at..]);
}

/// Cuts readings of one day into chunks: whole hours until there are enough; an hour of more than the most is cut by number.
fn cut(series: SeriesId, region: &Chunk, out: &mut Replacement) {
    let times = &region.times;
    let mut from = 0;
    while from < times.len() {
        let mut to = from;
        loop {
            let hour_end = Level::Hour.start_of(times[to]) + HOUR;
            let next = to + times[to..].partition_point(|&t| t < hour_end);
            if next - from > chunk::MAX_READINGS {
                if to == from {
                    to = from + chunk::MAX_READINGS;
                }
                break;
            }
            to = next;
            if to == times.len() || to - from >= GOOD_READINGS {
                break;
            }
        }
        let mut bytes = Vec::new();
        chunk::encode(&times[from..to], &region.values[from..to], &mut bytes);
        let key = ChunkKey { series, first: times[from] };
        out.new_chunks.push((key, StoredChunk { last: times[to - 1], readings: (to - from) as u64, bytes }));
        from = to;
    }
}

#[cfg(test)]
mod tests;
