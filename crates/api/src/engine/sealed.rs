//! From a part of time to its rollups and chunks: few calls for many series.
//!
//! Owns: which calls are made of the snapshot for what is sealed, and how much comes with each. Does not know: what is done with it ([`super::part`]).
//!
//! Invariants: a call brings a bounded number of rollups or bytes of chunks, however much is stored; a call is made for all series of a
//! shard that need the same times, never for one alone; cost is counted before what was read is decoded.

use super::part::Work;
use super::{BYTES_PER_READING, Engine, Sink, off_the_workers};
use crate::cache::{Cache, Pages, Rollups};
use crate::failure::{self, Result};
use headwater_core::merge::SeriesReadings;
use headwater_core::plan::{self, Buckets, Walk};
use headwater_core::seal::{ChunkKey, Level, RollupKey, StoredChunk};
use headwater_core::series::{Series, SeriesId, Shard};
use headwater_core::store::{ChunkStats, SealMark};
use headwater_core::summary::{MAX_EXACT, Summary};
use headwater_core::time::{TimeRange, Timestamp};
use std::sync::Arc;

use super::Wanted;

/// Most rollups that one call may bring, and most series that it may ask for. (Tests make many calls with few rollups.)
const MOST_ROLLUPS: u64 = if cfg!(test) { 40 } else { 8_192 };
const MOST_SERIES: usize = if cfg!(test) { 20 } else { 2_048 };
/// Most rollups that are read for the sake of whole pages; where it would be more, what is asked for is read alone.
const MOST_PAGED: usize = 2 * MOST_ROLLUPS as usize;
/// Memory of a rollup before it is known.
const BYTES_PER_ROLLUP: usize = 768;
/// Work on a rollup is about that on so many readings.
const READINGS_PER_ROLLUP: usize = 16;
/// Bytes of the first page of chunks: a short answer reads little.
const FIRST_PAGE_BYTES: usize = 128 << 10;

impl Engine<'_> {
    /// Feeds `sink` with a part of time: rollups, then chunks and the open readings given.
    pub(super) async fn feed_part<S: Sink>(
        &mut self,
        shard: Shard,
        range: TimeRange,
        (slice, wanted): (&Arc<[Series]>, Vec<Wanted>),
        open: Vec<SeriesReadings>,
        sink: S,
    ) -> Result<S> {
        let buckets = sink.buckets().map(|buckets| Buckets { range, ..buckets });
        let work = Work::new(sink, Arc::clone(slice), range, wanted, open);
        self.hold(work.memory_bytes()).await?;
        let mut work = off_the_workers(work.n_open(), move || work.settle()).await?;
        if let Some(buckets) = buckets {
            work = self.take_days_and_hours(shard, &buckets, work).await?;
        }
        for walk in plan::walks(work.needs()) {
            work = self.walk(shard, walk, work).await?;
        }
        let n_open = work.n_open();
        self.hold(work.memory_bytes() + work.sink.growth_bytes(n_open)).await?;
        let sink = off_the_workers(n_open, move || work.finish()).await?;
        sink.check(self.limits)?;
        Ok(sink)
    }

    async fn take_days_and_hours<S: Sink>(&mut self, shard: Shard, buckets: &Buckets, mut work: Work<S>) -> Result<Work<S>> {
        let mut asked = TimeRange::new(buckets.range.from, buckets.range.from);
        if buckets.takes(Level::Day) {
            asked = plan::windows(Level::Day, buckets.range);
            let places = work.places();
            work = self.take_level(shard, Level::Day, asked, &places, buckets, work).await?;
        }
        if buckets.takes(Level::Hour) {
            let whole = |(place, range)| Some((place, plan::windows(Level::Hour, range))).filter(|(_, range)| !range.is_empty());
            let hours = work.hours(asked).into_iter().filter_map(whole).collect();
            for walk in plan::walks(hours) {
                work = self.take_level(shard, Level::Hour, walk.range, &walk.series(), buckets, work).await?;
            }
        }
        Ok(work)
    }

    /// Takes rollups of one level whose windows start within `range`, of some places, in bounded calls.
    async fn take_level<S: Sink>(
        &mut self,
        shard: Shard,
        level: Level,
        range: TimeRange,
        places: &[usize],
        buckets: &Buckets,
        mut work: Work<S>,
    ) -> Result<Work<S>> {
        for places in places.chunks(MOST_SERIES) {
            let mut places = places.to_vec();
            let windows = i64::try_from(MOST_ROLLUPS / places.len() as u64).unwrap_or(1).max(1);
            let (base, mut at) = (windows * level.width(), range.from);
            let mut span = base;
            loop {
                places.retain(|&place| work.wants(place, at));
                if places.is_empty() || at >= range.to {
                    break;
                }
                let ids = work.ids(&places);
                let mut part = TimeRange::new(at, at.plus(span).min(range.to));
                if part.to > at.plus(base) && most_rollups(level, self.chunk_stats(shard, &ids, part).await?) > MOST_ROLLUPS {
                    part.to = at.plus(base);
                }
                let n_rollups;
                (work, n_rollups) = self.take_call(shard, level, part, &ids, buckets, work).await?;
                // Where little is stored, wide ranges are few calls.
                span = if (n_rollups as u64) < MOST_ROLLUPS / 16 { span.saturating_mul(4) } else { base };
                at = part.to;
            }
        }
        Ok(work)
    }

    /// One call for rollups; and how many came.
    async fn take_call<S: Sink>(
        &mut self,
        shard: Shard,
        level: Level,
        range: TimeRange,
        ids: &[SeriesId],
        buckets: &Buckets,
        work: Work<S>,
    ) -> Result<(Work<S>, usize)> {
        let pages = Pages::of(level, range);
        let expected = ids.len().saturating_mul(pages.n_windows());
        self.hold(work.memory_bytes() + expected.min(MOST_PAGED) * BYTES_PER_ROLLUP).await?;
        // The cost is what the question needs, wherever it comes from.
        let rollups = match self.cache {
            Some(cache) if expected <= MOST_PAGED => self.cached(cache, shard, ids, &pages, range).await?,
            _ => self.read_rollups(shard, level, ids, range).await.map(Rollups::of)?,
        };
        let n_rollups = rollups.len();
        self.spend(n_rollups as u64)?;
        // Merged, they take at most as much again.
        self.hold(work.memory_bytes() + 2 * rollups.bytes() + work.sink.growth_bytes(n_rollups)).await?;
        let buckets = *buckets;
        let work = off_the_workers(n_rollups * READINGS_PER_ROLLUP, move || work.take_rollups(&buckets, level, &rollups)).await?;
        work.sink.check(self.limits)?;
        Ok((work, n_rollups))
    }

    /// Rollups whose windows start within `range`, by way of whole pages.
    async fn cached(&mut self, cache: &Cache, shard: Shard, ids: &[SeriesId], pages: &Pages, range: TimeRange) -> Result<Rollups> {
        let Some(mark) = self.mark(shard).await? else {
            return self.read_rollups(shard, pages.level(), ids, range).await.map(Rollups::of);
        };
        let mut looked = cache.look(mark, ids, pages);
        let missing = looked.missing(ids);
        if !missing.is_empty() {
            let read = self.read_rollups(shard, pages.level(), &missing, pages.range()).await?;
            cache.keep(mark, (ids, &missing), pages, read, &mut looked);
        }
        Ok(Rollups::within(range, ids, looked))
    }

    /// The mark of what is sealed in a shard, where the store can tell.
    async fn mark(&mut self, shard: Shard) -> Result<Option<SealMark>> {
        if self.marks.is_none() {
            self.marks = Some(self.snapshot.seal_marks().await.map_err(failure::of_store)?.unwrap_or_default());
        }
        Ok(self.marks.as_ref().and_then(|marks| marks.get(usize::from(shard.0)).copied()))
    }

    async fn read_rollups(&mut self, shard: Shard, level: Level, ids: &[SeriesId], range: TimeRange) -> Result<Vec<(RollupKey, Summary)>> {
        self.snapshot.rollups(shard, level, ids, range).await.map_err(failure::of_store)
    }

    /// The numbers of the chunks of series of a shard within `range`.
    async fn chunk_stats(&mut self, shard: Shard, ids: &[SeriesId], range: TimeRange) -> Result<ChunkStats> {
        self.snapshot.chunk_stats(shard, ids, range).await.map_err(failure::of_store)
    }

    /// The next chunks of series of a shard that touch `range`; `after` moves on. Empty at the end.
    ///
    /// # Errors
    /// As the store's failure says.
    pub(crate) async fn chunks(
        &mut self,
        shard: Shard,
        ids: &[SeriesId],
        range: TimeRange,
        after: &mut Option<ChunkKey>,
        max_bytes: usize,
    ) -> Result<Vec<(ChunkKey, StoredChunk)>> {
        let page = self.snapshot.chunks(shard, ids, range, *after, max_bytes).await.map_err(failure::of_store)?;
        *after = page.last().map_or(*after, |(key, _)| Some(*key));
        Ok(page)
    }

    /// Reads what is needed of chunks; a series that is not wanted any more is left out.
    async fn walk<S: Sink>(&mut self, shard: Shard, walk: Walk, mut work: Work<S>) -> Result<Work<S>> {
        let (ids, walk) = (work.ids(&walk.series()), Arc::new(walk));
        let mut page_bytes = FIRST_PAGE_BYTES.min(self.limits.block_bytes);
        let mut after = None;
        loop {
            self.hold(work.memory_bytes() + page_bytes).await?;
            let page = self.chunks(shard, &ids, walk.range, &mut after, page_bytes).await?;
            let Some(last) = page.last().map(|(key, chunk)| (key.series, chunk.last)) else { return Ok(work) };
            let mut page = page.into_iter().peekable();
            while page.peek().is_some() {
                let (picked, n_readings) = work.pick(&walk, &mut page, self.limits.gather_readings);
                self.spend(n_readings as u64)?;
                let bytes = page_bytes + n_readings * BYTES_PER_READING + work.sink.growth_bytes(n_readings);
                self.hold(work.memory_bytes() + bytes).await?;
                let walk = Arc::clone(&walk);
                let taken = off_the_workers(n_readings, move || work.take_chunks(&walk, &picked)).await?;
                work = taken.map_err(failure::of_store)?;
                work.sink.check(self.limits)?;
            }
            let (series, end) = last;
            if ids.last() == Some(&series) && end >= walk.range.to.0 - 1 {
                return Ok(work);
            }
            if work.place_of(series).is_some_and(|place| !work.wants(place, Timestamp(end).plus(1))) {
                after = Some(ChunkKey { series, first: i64::MAX });
            }
            page_bytes = (page_bytes * 4).min(self.limits.block_bytes);
        }
    }
}

/// How many rollups there can be of windows that hold these chunks: a day's rollup has a chunk in its day, and each has more than 64 readings.
const fn most_rollups(level: Level, stats: ChunkStats) -> u64 {
    match level {
        Level::Day => stats.chunks,
        Level::Hour => stats.readings / (MAX_EXACT as u64 + 1),
    }
}
