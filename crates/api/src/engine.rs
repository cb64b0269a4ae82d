//! From a question about series and time to settled readings and rollups: slices of series, their shards, the shards' blocks, then what is
//! sealed.
//!
//! Owns: [`Engine`] (one snapshot, what it has cost, how much memory it holds) and the walk that feeds a [`Sink`]. Does not
//! know: statistics, rows, formats.
//!
//! Invariants: memory is bounded for any data. A slice of series is bounded; of a shard's blocks a few megabytes are decoded
//! at once; when more open readings of a part of time are gathered than the limit, the part is cut near the median of what was
//! gathered, if it can be where a day or an hour begins, and each half is read again (blocks are local in time, so this reads little twice).
//! Only when a part is small enough anything of it reaches the sink: so its rollups are taken once, and its chunks stream by. Readings of a
//! series reach the sink settled, each exactly once, in the order of time. Cost is what is stored: each shard's blocks that touch the
//! range, once, before they are read; the rollups and the readings of the chunks that are read, before they are decoded.

mod part;
mod sealed;

pub(crate) use part::last_value;

use crate::cache::Cache;
use crate::config::Config;
use crate::failure::{self, Result};
use headwater_core::block::OpenBlock;
use headwater_core::filter::SeriesFilter;
use headwater_core::glob::Glob;
use headwater_core::merge::SeriesReadings;
use headwater_core::plan::Buckets;
use headwater_core::seal::Level;
use headwater_core::series::{SHARDS, Series, SeriesId, SeriesKey, Shard};
use headwater_core::store::{BatchId, SealMark, Snapshot};
use headwater_core::summary::Summary;
use headwater_core::time::{TimeRange, Timestamp};
use headwater_web::{Error, Reservation};
use std::ops::Range;
use std::sync::Arc;

/// Memory for each gathered reading: time, value, and the copies that settling makes.
pub(crate) const BYTES_PER_READING: usize = 40;
/// Memory for each series of a slice: its key, and its place in the lists.
const BYTES_PER_SERIES: usize = 512;
/// The first slice is small, so that a short page reads little; later ones grow, so that many series read blocks seldom.
/// (Tests walk several slices with a few series.)
const FIRST_SLICE: usize = if cfg!(test) { 3 } else { 1_024 };
const LARGEST_SLICE: usize = if cfg!(test) { 48 } else { 32_768 };
/// How many times larger each slice is than the one before.
const SLICE_GROWTH: usize = 4;
/// Fewer readings than this are worked off in place (a millisecond at most); more go to a thread for long work.
const SHORT_WORK: usize = 10_000;

/// What readings are gathered for.
pub(crate) trait Sink: Send + 'static {
    /// The buckets that it wants summaries of; none where only readings will do.
    fn buckets(&self) -> Option<Buckets>;
    /// Takes the summaries of all readings of a series in windows that start at these times; each lies within one bucket.
    fn merge(&mut self, series: &Series, windows: &[(Timestamp, &Summary)]);
    /// Whether readings of `series` at or after `from` can still change the answer.
    fn wants(&mut self, series: &Series, from: Timestamp) -> bool;
    /// Takes settled readings of a series; of one series in the order of time, of several in any order.
    fn take(&mut self, series: &Series, readings: &SeriesReadings);
    /// Says that `series` had rows on an earlier page, and that only readings after those come.
    fn resumed(&mut self, series: &Series);
    /// Says that all readings of the series of one shard have come, as far as the slice goes.
    fn shard_is_done(&mut self);
    /// Whether no series after all those seen can change the answer.
    fn is_complete(&self) -> bool;
    /// Memory that it holds, in bytes.
    fn memory_bytes(&self) -> usize;
    /// Memory that `n_readings` more can add at most, in bytes.
    fn growth_bytes(&self, n_readings: usize) -> usize;
    /// Whether the answer has become larger than it may be.
    ///
    /// # Errors
    /// 422 with the limit.
    fn check(&self, limits: &Config) -> Result<()>;
}

/// Which readings.
pub(crate) struct Question<'a> {
    /// Of these series.
    pub(crate) filter: &'a SeriesFilter,
    /// In this range.
    pub(crate) range: TimeRange,
    /// Not before this series, and of this series not before this time.
    pub(crate) resume: Option<(SeriesKey, Timestamp)>,
}

/// A series of the slice at hand, by its number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Its number.
    pub(crate) id: SeriesId,
    /// Its place in the slice.
    pub(crate) index: usize,
}

/// Memory of one answer: its share of the process-wide budget.
pub(crate) struct Room {
    reservation: Reservation,
    limits: Arc<Config>,
}

impl Room {
    /// The room of one answer, as yet `reservation`.
    pub(crate) const fn new(reservation: Reservation, limits: Arc<Config>) -> Self {
        Self { reservation, limits }
    }

    /// Holds at least `bytes` from here on.
    ///
    /// # Errors
    /// 422 beyond what one answer may take, 503 when the budget stays taken.
    pub(crate) async fn hold(&mut self, bytes: usize) -> Result<()> {
        let most = self.limits.max_answer_bytes;
        if bytes > most {
            return Err(failure::too_expensive("max_answer_bytes", most as u64, bytes as u64, "bytes of memory"));
        }
        self.reservation.grow_to(bytes, self.limits.memory_wait).await
    }

    /// Gives back what exceeds `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        self.reservation.shrink_to(bytes);
    }
}

/// One query at work.
pub(crate) struct Engine<'a> {
    /// The state that it sees.
    pub(crate) snapshot: Box<dyn Snapshot>,
    pub(crate) limits: &'a Config,
    room: &'a mut Room,
    cache: Option<&'a Cache>,
    /// The marks of all shards, once they were asked for; empty where there are none.
    marks: Option<Vec<SealMark>>,
    n_read: u64,
    /// Shards whose cost is counted, a bit each, and those of them that have open readings.
    priced: u64,
    open: u64,
    /// Memory of the slice at hand.
    slice_bytes: usize,
}

/// What became of the open readings of a part of time.
enum Gathered {
    /// All of them, by their place in the list of series wanted.
    Whole(Vec<SeriesReadings>),
    /// Too many: take these parts instead, the earlier first.
    Parts(Vec<(TimeRange, Vec<Wanted>)>),
}

impl<'a> Engine<'a> {
    /// A query on `snapshot`.
    pub(crate) const fn new(snapshot: Box<dyn Snapshot>, limits: &'a Config, cache: Option<&'a Cache>, room: &'a mut Room) -> Self {
        Self { snapshot, limits, room, cache, marks: None, n_read: 0, priced: 0, open: 0, slice_bytes: 0 }
    }

    /// Feeds `sink` with what is asked for.
    ///
    /// # Errors
    /// 422 beyond a limit, else as the store's failure says.
    pub(crate) async fn feed<S: Sink>(&mut self, question: &Question<'_>, mut sink: S) -> Result<S> {
        let mut after = None;
        if let Some((key, from)) = &question.resume {
            let rest = TimeRange::new((*from).max(question.range.from), question.range.to);
            if !rest.is_empty()
                && let Some(series) = self.find(key).await?
            {
                sink.resumed(&series);
                sink = self.feed_slice(question, vec![series].into(), rest, sink).await?;
            }
            after = Some(key.clone());
        }
        let mut size = FIRST_SLICE;
        while !sink.is_complete() {
            let slice = self.slice(question.filter, after.as_ref(), size).await?;
            let Some(last) = slice.last() else { break };
            after = Some(last.key.clone());
            sink = self.feed_slice(question, slice.into(), question.range, sink).await?;
            size = (size * SLICE_GROWTH).min(LARGEST_SLICE);
        }
        Ok(sink)
    }

    /// Holds at least `bytes` beside the slice at hand from here on; see [`Room::hold`].
    ///
    /// # Errors
    /// 422 or 503.
    pub(crate) async fn hold(&mut self, bytes: usize) -> Result<()> {
        self.room.hold(self.slice_bytes + bytes).await
    }

    /// The next series that match.
    ///
    /// # Errors
    /// As the store's failure says.
    pub(crate) async fn slice(&mut self, filter: &SeriesFilter, after: Option<&SeriesKey>, size: usize) -> Result<Vec<Series>> {
        self.slice_bytes = size * BYTES_PER_SERIES;
        self.hold(0).await?;
        self.snapshot.series(filter, after, size).await.map_err(failure::of_store)
    }

    /// The series with this key.
    async fn find(&mut self, key: &SeriesKey) -> Result<Option<Series>> {
        let parts = key.parts();
        let (devices, metrics) = (vec![Glob::new(parts.device)], vec![Glob::new(parts.metric)]);
        let filter = SeriesFilter { devices, metrics, ..SeriesFilter::default() };
        let mut after = None;
        loop {
            let slice = self.slice(&filter, after.as_ref(), FIRST_SLICE).await?;
            if let Some(found) = slice.iter().find(|series| series.key == *key) {
                return Ok(Some(found.clone()));
            }
            match slice.last() {
                Some(last) if last.key < *key => after = Some(last.key.clone()),
                _ => return Ok(None),
            }
        }
    }

    async fn feed_slice<S: Sink>(&mut self, question: &Question<'_>, slice: Arc<[Series]>, range: TimeRange, mut sink: S) -> Result<S> {
        for (shard, wanted) in by_shard(&slice) {
            self.price(shard, question.range).await?;
            let mut parts = vec![(range, wanted)];
            while let Some((range, mut wanted)) = parts.pop() {
                wanted.retain(|wanted| sink.wants(&slice[wanted.index], range.from));
                if wanted.is_empty() {
                    continue;
                }
                match self.gather(shard, range, &wanted, sink.memory_bytes()).await? {
                    Gathered::Whole(open) => sink = self.feed_part(shard, range, (&slice, wanted), open, sink).await?,
                    Gathered::Parts(smaller) => parts.extend(smaller.into_iter().rev()),
                }
            }
            sink.shard_is_done();
        }
        Ok(sink)
    }

    /// Counts the shard's blocks that touch `range` among the cost, the first time that the query comes to the shard.
    ///
    /// # Errors
    /// 422 beyond the limit.
    pub(crate) async fn price(&mut self, shard: Shard, range: TimeRange) -> Result<()> {
        let bit = 1u64 << (shard.0 % SHARDS);
        if self.priced & bit != 0 {
            return Ok(());
        }
        self.priced |= bit;
        let stats = self.snapshot.block_stats(shard, range).await.map_err(failure::of_store)?;
        if !stats.is_empty() {
            self.open |= bit;
        }
        self.spend(stats.iter().map(|(_, stats)| stats.readings).sum())
    }

    /// Counts readings that will be looked at among the cost.
    ///
    /// # Errors
    /// 422 beyond the limit.
    pub(crate) fn spend(&mut self, readings: u64) -> Result<()> {
        self.n_read = self.n_read.saturating_add(readings);
        if self.n_read > self.limits.max_readings {
            return Err(failure::too_expensive("max_readings", self.limits.max_readings, self.n_read, "stored readings to look at"));
        }
        Ok(())
    }

    /// The next few of the shard's blocks that touch `range`; `after` moves on. Empty at the end.
    ///
    /// # Errors
    /// As the store's failure says.
    pub(crate) async fn blocks(&mut self, shard: Shard, range: TimeRange, after: &mut Option<BatchId>) -> Result<Vec<OpenBlock>> {
        let blocks = self.snapshot.blocks(shard, range, *after, self.limits.block_bytes).await.map_err(failure::of_store)?;
        *after = blocks.last().map_or(*after, |(id, _)| Some(*id));
        Ok(blocks.into_iter().map(|(_, block)| block).collect())
    }

    /// (place in the list of series wanted, time of the first sealed reading, of the last) for each that has any.
    ///
    /// # Errors
    /// As the store's failure says.
    pub(crate) async fn edges(&mut self, shard: Shard, wanted: &[Wanted]) -> Result<Vec<(usize, i64, i64)>> {
        let ids: Vec<SeriesId> = wanted.iter().map(|wanted| wanted.id).collect();
        let edges = self.snapshot.edges(shard, &ids).await.map_err(failure::of_store)?;
        Ok(edges.into_iter().filter_map(|(id, first, last)| Some((ids.binary_search(&id).ok()?, first, last))).collect())
    }

    /// The open readings of some series of a shard within `range`, or smaller parts when there are too many.
    async fn gather(&mut self, shard: Shard, range: TimeRange, wanted: &[Wanted], held: usize) -> Result<Gathered> {
        let mut readings = vec![SeriesReadings::default(); wanted.len()];
        if self.open & 1 << (shard.0 % SHARDS) == 0 {
            return Ok(Gathered::Whole(readings));
        }
        let mut after = None;
        let mut n_gathered = 0;
        loop {
            self.hold(held + self.limits.block_bytes + n_gathered * BYTES_PER_READING).await?;
            let blocks = self.blocks(shard, range, &mut after).await?;
            if blocks.is_empty() {
                return Ok(Gathered::Whole(readings));
            }
            for block in &blocks {
                n_gathered += gather_block(block, wanted, range, &mut readings);
            }
            if n_gathered > self.limits.gather_readings {
                // Repeats may be all that is too much; where half is left without them, more is to be expected.
                readings = off_the_workers(n_gathered, move || {
                    readings.iter_mut().for_each(SeriesReadings::settle);
                    readings
                })
                .await?;
                n_gathered = readings.iter().map(SeriesReadings::len).sum();
                if n_gathered > self.limits.gather_readings / 2
                    && let Some(parts) = cut(range, wanted, &readings)
                {
                    return Ok(Gathered::Parts(parts));
                }
            }
        }
    }
}

/// Does work on `n_readings` readings without holding up the runtime.
///
/// # Errors
/// 500 when it panics.
pub(crate) async fn off_the_workers<T: Send + 'static>(n_readings: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    if n_readings <= SHORT_WORK {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)
}

/// The series of a slice by their shards, sorted by number.
pub(crate) fn by_shard(slice: &[Series]) -> Vec<(Shard, Vec<Wanted>)> {
    let mut wanted: Vec<Wanted> = slice.iter().enumerate().map(|(index, series)| Wanted { id: series.id, index }).collect();
    wanted.sort_unstable_by_key(|wanted| (wanted.id.shard(), wanted.id));
    wanted.chunk_by(|a, b| a.id.shard() == b.id.shard()).map(|group| (group[0].id.shard(), group.to_vec())).collect()
}

/// Calls `visit` with every run of readings that a block has of the wanted series (sorted by number), and the series' place in
/// the list. Leaps over what is not wanted, on either side.
pub(crate) fn visit_runs(block: &OpenBlock, wanted: &[Wanted], mut visit: impl FnMut(usize, Range<usize>)) {
    let (mut at, mut next) = (0, 0);
    while at < block.len() && next < wanted.len() {
        let id = block.series[at];
        next += wanted[next..].partition_point(|wanted| wanted.id < id);
        let Some(found) = wanted.get(next) else { break };
        if found.id == id {
            let len = block.series[at..].partition_point(|&series| series == id);
            visit(next, at..at + len);
            at += len;
        } else {
            at += block.series[at..].partition_point(|&series| series < found.id);
        }
    }
}

/// Adds a block's readings of the wanted series within `range`; how many they are.
fn gather_block(block: &OpenBlock, wanted: &[Wanted], range: TimeRange, into: &mut [SeriesReadings]) -> usize {
    let mut n_added = 0;
    visit_runs(block, wanted, |place, _| {
        let before = into[place].len();
        into[place].gather(block, wanted[place].id, range);
        n_added += into[place].len() - before;
    });
    n_added
}

/// Cuts a part in two: where the day or the hour of the median time of what was gathered begins, or at that time, or, when all is at one
/// instant, by series. `None` when it is one series at one instant (which settles to one reading).
fn cut(range: TimeRange, wanted: &[Wanted], readings: &[SeriesReadings]) -> Option<Vec<(TimeRange, Vec<Wanted>)>> {
    let mut times: Vec<i64> = readings.iter().flat_map(|readings| readings.times.iter().copied()).collect();
    let middle = times.len() / 2;
    let (_, &mut median, _) = (!times.is_empty()).then(|| times.select_nth_unstable(middle))?;
    // A cut at the very start would leave nothing before it.
    let borders = [Level::Day, Level::Hour].map(|level| Timestamp(median).floor_to(level.width()));
    let border = borders.into_iter().find(|border| *border > range.from);
    let at = border.unwrap_or(Timestamp(median)).max(range.from.plus(1));
    if at < range.to {
        let halves = [TimeRange::new(range.from, at), TimeRange::new(at, range.to)];
        return Some(halves.map(|half| (half, wanted.to_vec())).into());
    }
    let (first, second) = wanted.split_at(wanted.len() / 2);
    (!first.is_empty()).then(|| vec![(range, first.to_vec()), (range, second.to_vec())])
}

#[cfg(test)]
mod tests;
