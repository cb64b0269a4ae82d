//! A part of time of some series of one shard while its readings and rollups go into a sink.
//!
//! Owns: [`Work`]: open readings that wait for sealed ones of their time, and what rollups have not covered. Does not know: the store.
//!
//! Invariants: readings of a series reach the sink in the order of time, each key once, a sealed one before an open one of its key; a window
//! whose rollup was taken is not read, and nothing in it is open.

use super::{BYTES_PER_READING, Sink, Wanted};
use crate::cache::Rollups;
use headwater_core::chunk::{self, Chunk};
use headwater_core::codec::Damaged;
use headwater_core::failpoint;
use headwater_core::merge::SeriesReadings;
use headwater_core::plan::{Buckets, Rest, Walk};
use headwater_core::seal::{ChunkKey, Level, StoredChunk};
use headwater_core::series::{Series, SeriesId};
use headwater_core::store::StoreError;
use headwater_core::time::{TimeRange, Timestamp};
use std::iter::Peekable;
use std::sync::Arc;

/// Memory of a series of a part beside its readings.
const BYTES_PER_PLACE: usize = 192;

/// A stored chunk and the place of its series.
pub(super) type Picked = (usize, ChunkKey, StoredChunk);

/// A sink, and what is to go into it. Series are called by their places in the list of those wanted.
pub(super) struct Work<S> {
    pub(super) sink: S,
    slice: Arc<[Series]>,
    places: Vec<Place>,
}

/// One series.
struct Place {
    wanted: Wanted,
    /// Open readings, settled among themselves once [`Work::settle`] has run.
    open: SeriesReadings,
    /// How many of them are in the sink.
    n_taken: usize,
    rest: Rest,
    /// Starts of the day rollups that exist, taken or not.
    days: Vec<i64>,
}

impl<S: Sink> Work<S> {
    pub(super) fn new(sink: S, slice: Arc<[Series]>, range: TimeRange, wanted: Vec<Wanted>, open: Vec<SeriesReadings>) -> Self {
        let place = |(wanted, open)| Place { wanted, open, n_taken: 0, rest: Rest::of(range), days: Vec::new() };
        Self { sink, slice, places: wanted.into_iter().zip(open).map(place).collect() }
    }

    /// All places.
    pub(super) fn places(&self) -> Vec<usize> {
        (0..self.places.len()).collect()
    }

    /// The numbers of series.
    pub(super) fn ids(&self, places: &[usize]) -> Vec<SeriesId> {
        places.iter().map(|&place| self.places[place].wanted.id).collect()
    }

    pub(super) fn place_of(&self, id: SeriesId) -> Option<usize> {
        self.places.binary_search_by_key(&id, |place| place.wanted.id).ok()
    }

    /// Whether readings of a series at or after `from` can still change the answer.
    pub(super) fn wants(&mut self, place: usize, from: Timestamp) -> bool {
        self.sink.wants(&self.slice[self.places[place].wanted.index], from)
    }

    /// Open readings that are not in the sink.
    pub(super) fn n_open(&self) -> usize {
        self.places.iter().map(|place| place.open.len() - place.n_taken).sum()
    }

    /// Memory of everything, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        let place = |place: &Place| {
            BYTES_PER_PLACE + place.open.len() * BYTES_PER_READING + place.rest.heap_bytes() + place.days.capacity() * size_of::<i64>()
        };
        self.sink.memory_bytes() + self.places.iter().map(place).sum::<usize>()
    }

    /// Settles the open readings among themselves.
    pub(super) fn settle(mut self) -> Self {
        self.places.iter_mut().for_each(|place| place.open.settle());
        self
    }

    /// Takes rollups of one level that exist, in the order of their keys, as far as the plan allows it.
    pub(super) fn take_rollups(mut self, buckets: &Buckets, level: Level, rollups: &Rollups) -> Self {
        let mut starts = Vec::new();
        rollups.by_series(|series, of_series| {
            let Some(at) = self.place_of(series) else { return };
            let place = &mut self.places[at];
            starts.clear();
            starts.extend(of_series.iter().map(|(start, _)| *start));
            let mut windows = Vec::new();
            let open = if failpoint::planted("count-twice") { &[][..] } else { &place.open.times };
            place.rest.take(buckets, level, &starts, open, |i| windows.push((Timestamp(starts[i]), &of_series[i].1)));
            if level == Level::Day {
                place.days.extend_from_slice(&starts);
            }
            if !windows.is_empty() {
                self.sink.merge(&self.slice[place.wanted.index], &windows);
            }
        });
        self
    }

    /// Where rollups of hours may exist, once those of days were asked for within `asked`.
    pub(super) fn hours(&self, asked: TimeRange) -> Vec<(usize, TimeRange)> {
        let hours = |(at, place): (usize, &Place)| place.rest.hours(asked, &place.days).into_iter().map(move |range| (at, range));
        self.places.iter().enumerate().flat_map(hours).collect()
    }

    /// What is left to be read and still wanted.
    pub(super) fn needs(&mut self) -> Vec<(usize, TimeRange)> {
        let mut needs = Vec::new();
        for (at, place) in self.places.iter().enumerate() {
            let series = &self.slice[place.wanted.index];
            needs.extend(place.rest.ranges().iter().filter(|range| self.sink.wants(series, range.from)).map(|range| (at, *range)));
        }
        needs
    }

    /// The next chunks of a page that hold what the walk needs: as many as together have at most `most` readings, at least one; and how
    /// many readings they have.
    pub(super) fn pick(
        &mut self,
        walk: &Walk,
        page: &mut Peekable<impl Iterator<Item = (ChunkKey, StoredChunk)>>,
        most: usize,
    ) -> (Vec<Picked>, usize) {
        let mut picked: Vec<Picked> = Vec::new();
        let mut n_readings = 0;
        while let Some((key, chunk)) = page.next_if(|(_, chunk)| picked.is_empty() || n_readings + chunk.readings as usize <= most) {
            let Some(place) = self.place_of(key.series) else { continue };
            let is_needed = walk.needs_of(place).iter().any(|(_, need)| need.touches(key.first, chunk.last));
            if is_needed && self.wants(place, Timestamp(key.first)) {
                n_readings += chunk.readings as usize;
                picked.push((place, key, chunk));
            }
        }
        (picked, n_readings)
    }

    /// Takes what the walk needs of chunks, by series and time, with the open readings up to there.
    ///
    /// # Errors
    /// When a chunk is not what sealing wrote.
    pub(super) fn take_chunks(mut self, walk: &Walk, picked: &[Picked]) -> Result<Self, StoreError> {
        let (mut chunk, mut readings) = (Chunk::default(), SeriesReadings::default());
        for of_series in picked.chunk_by(|a, b| a.0 == b.0) {
            let at = of_series[0].0;
            readings.clear();
            // Up to here nothing more of the series comes.
            let mut end = i64::MIN;
            let needs = walk.needs_of(at);
            let hull = TimeRange::new(
                needs.first().map_or(walk.range.from, |need| need.1.from),
                needs.last().map_or(walk.range.to, |need| need.1.to),
            );
            for (_, key, stored) in of_series {
                decode_within(*key, stored, hull, &mut chunk)?;
                for (_, need) in needs.iter().filter(|(_, need)| need.touches(key.first, stored.last)) {
                    let from = chunk.times.partition_point(|&time| time < need.from.0);
                    let to = chunk.times.partition_point(|&time| time < need.to.0);
                    readings.times.extend_from_slice(&chunk.times[from..to]);
                    readings.values.extend_from_slice(&chunk.values[from..to]);
                    end = need.to.0.min(stored.last.saturating_add(1));
                }
            }
            self.take(at, &mut readings, end);
        }
        Ok(self)
    }

    /// Takes the open readings after the last chunk of each series.
    pub(super) fn finish(mut self) -> S {
        let mut readings = SeriesReadings::default();
        for at in 0..self.places.len() {
            self.take(at, &mut readings, i64::MAX);
            readings.clear();
        }
        self.sink
    }

    /// Takes sealed readings, and the open ones before `end`.
    fn take(&mut self, at: usize, readings: &mut SeriesReadings, end: i64) {
        let place = &mut self.places[at];
        let from = place.n_taken;
        let to = from + place.open.times[from..].partition_point(|&time| time < end);
        place.n_taken = to;
        // Sealed first: they came first.
        readings.times.extend_from_slice(&place.open.times[from..to]);
        readings.values.extend_from_slice(&place.open.values[from..to]);
        if !readings.is_empty() {
            readings.settle();
            self.sink.take(&self.slice[place.wanted.index], readings);
        }
    }
}

/// Decodes the readings of a chunk within `range` in the place of those of another one.
///
/// # Errors
/// When it is not what stands beside its bytes.
fn decode_within(key: ChunkKey, stored: &StoredChunk, range: TimeRange, into: &mut Chunk) -> Result<(), StoreError> {
    checked(key, stored, into.decode_within(&stored.bytes, range))?;
    // Where its last reading is within the range, it must be there.
    let is_right = !range.contains(stored.last) || into.times.last() == Some(&stored.last);
    if is_right { Ok(()) } else { Err(damaged(key, &OTHER)) }
}

/// The value of the last reading of a chunk.
///
/// # Errors
/// When it is not what stands beside its bytes.
pub(crate) fn last_value(key: ChunkKey, stored: &StoredChunk) -> Result<f64, StoreError> {
    let decoded = chunk::last_value(&stored.bytes);
    let mut last = f64::NAN;
    checked(
        key,
        stored,
        decoded.map(|(n, first, value)| {
            last = value;
            (n, first)
        }),
    )?;
    Ok(last)
}

const OTHER: Damaged = Damaged("it is not what its key says");

/// Compares how many readings a chunk has, and when the first is, to what stands beside its bytes.
fn checked(key: ChunkKey, stored: &StoredChunk, decoded: Result<(usize, i64), Damaged>) -> Result<(), StoreError> {
    match decoded {
        Ok((n, first)) if n as u64 == stored.readings && first == key.first => Ok(()),
        Ok(_) => Err(damaged(key, &OTHER)),
        Err(why) => Err(damaged(key, &why)),
    }
}

fn damaged(key: ChunkKey, why: &Damaged) -> StoreError {
    StoreError::Corrupt(format!("the chunk of series {} from {} is damaged: {why}", key.series.0, key.first))
}
