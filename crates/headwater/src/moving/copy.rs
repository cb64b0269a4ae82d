//! Carrying a store: series, then shard after shard in slices, then dead letters; each slice is read back and compared.
//!
//! Owns: the slices, the sums. Does not know: how a store keeps things, the counts (the end of the move compares those).
//!
//! Invariants: nobody else writes to either store meanwhile, so snapshots of the source may be taken anew between slices; memory is bounded by a
//! page of chunks, the rollups of a slice and the ids of all series (4 bytes each); what is there already is compared, not carried again.

use super::report::Report;
use crate::wiring::Entering;
use anyhow::{Context, bail};
use headwater_core::codec;
use headwater_core::dead_letter::{DeadLetter, KeptLetter};
use headwater_core::filter::SeriesFilter;
use headwater_core::seal::{ChunkKey, Level, RollupKey, StoredChunk};
use headwater_core::series::{SHARDS, Series, SeriesId, SeriesKey, Shard};
use headwater_core::store::{DeadLetterQuery, Queries, Result, Snapshot, StoreError};
use headwater_core::summary::Summary;
use headwater_core::time::{DAY, TimeRange, Timestamp};
use std::time::Duration;

/// Series of a page.
const NAMES: usize = 5_000;
/// Series of a slice at most.
const SLICE_SERIES: usize = 1_024;
/// Readings of a slice, but for a single day of a single series: at most so many per 64 have a rollup.
const SLICE_READINGS: u64 = 2_000_000;
/// Bytes of a page of chunks: ten times as much as arrays.
const PAGE: usize = 4 << 20;
/// Rollups that are put at a time.
const ROLLUPS: usize = 10_000;
/// Dead letters of a page, and their bytes.
const LETTERS: usize = 1_000;
const LETTER_BYTES: usize = 8 << 20;
/// Every step ends long before this.
const LIFETIME: Duration = Duration::from_secs(120);
/// A step is tried so often while a store is busy.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// Carries everything but the counts. `again` says that a part may be there.
pub(super) async fn everything(from: &dyn Queries, to: &Entering, again: bool, report: &mut Report) -> anyhow::Result<()> {
    let catalog = series(from, to, report).await.context("move the series")?;
    for (shard, ids) in (0..SHARDS).map(Shard).zip(catalog) {
        for slice in ids.chunks(SLICE_SERIES) {
            let parts = patiently(async |_| parts(from, shard, slice).await).await?;
            for part in parts {
                let moved = one(from, to, &part, again).await.with_context(|| format!("move {part}"))?;
                report.chunks += moved.chunks;
                report.readings += moved.readings;
                report.rollups += moved.rollups;
                report.progressed();
            }
        }
    }
    letters(from, to, report).await.context("move the dead letters")
}

/// Tries again what a busy store did not answer; tells which try it is.
async fn patiently<T>(mut attempt: impl AsyncFnMut(u32) -> Result<T>) -> Result<T> {
    let mut tries = 0;
    loop {
        match attempt(tries).await {
            Err(why) if tries + 1 < TRIES && (why.is_transient() || matches!(why, StoreError::Deadline | StoreError::Unknown(_))) => {
                tries += 1;
                tokio::time::sleep(PAUSE * tries).await;
            }
            done => return done,
        }
    }
}

/// How much there is, and a checksum over all of it in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sum {
    items: u64,
    chunks: u64,
    readings: u64,
    rollups: u64,
    crc: u32,
}

impl Sum {
    /// Adds an item: the sum of the sum before it and its bytes.
    fn add(&mut self, bytes: &mut Vec<u8>) {
        self.items += 1;
        bytes.extend_from_slice(&self.crc.to_le_bytes());
        codec::put_crc(bytes, 0);
        self.crc = bytes.last_chunk().map_or(0, |crc| u32::from_le_bytes(*crc));
    }

    fn chunk(&mut self, key: ChunkKey, chunk: &StoredChunk) {
        let mut bytes = Vec::with_capacity(chunk.bytes.len() + 32);
        codec::put_varint(&mut bytes, u64::from(key.series.0));
        codec::put_signed(&mut bytes, key.first);
        codec::put_signed(&mut bytes, chunk.last);
        codec::put_bytes(&mut bytes, &chunk.bytes);
        self.add(&mut bytes);
        self.chunks += 1;
        self.readings += chunk.readings;
    }

    fn rollup(&mut self, key: RollupKey, summary: &Summary) {
        let mut bytes = Vec::new();
        codec::put_varint(&mut bytes, u64::from(key.series.0));
        codec::put_signed(&mut bytes, key.level.width());
        codec::put_signed(&mut bytes, key.start);
        summary.encode(&mut bytes);
        self.add(&mut bytes);
        self.rollups += 1;
    }

    fn series(&mut self, series: &Series) {
        let mut bytes = Vec::new();
        codec::put_varint(&mut bytes, u64::from(series.id.0));
        codec::put_bytes(&mut bytes, series.key.as_str().as_bytes());
        codec::put_bytes(&mut bytes, format!("{:?}", series.unit).as_bytes());
        self.add(&mut bytes);
    }

    fn letter(&mut self, KeptLetter { letter, history }: &KeptLetter) {
        let DeadLetter { id, received_at, reason, detail, device, format, count, bytes: original, part, parts, origin } = letter;
        let mut bytes = original.clone();
        let rest =
            format!("{id} {received_at:?} {reason:?} {detail:?} {device:?} {format:?} {count} {part} {parts} {origin:?} {history:?}");
        codec::put_bytes(&mut bytes, rest.as_bytes());
        self.add(&mut bytes);
    }

    /// Whether what was read back is what was read.
    fn check(self, what: &str, found: Self) -> anyhow::Result<()> {
        if self == found {
            return Ok(());
        }
        bail!("the {what} are others in the database: {found:?} and not {self:?}; this is a mistake of Headwater, please report it")
    }
}

/// Carries all series; their ids, by shard and sorted.
async fn series(from: &dyn Queries, to: &Entering, report: &mut Report) -> anyhow::Result<Vec<Vec<SeriesId>>> {
    let mut ids = vec![Vec::new(); usize::from(SHARDS)];
    let (mut after, mut read) = (None, Sum::default());
    loop {
        let page = page_of_series(from, after.as_ref()).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        patiently(async |_| to.put_series(&page).await).await?;
        for series in &page {
            read.series(series);
            ids[usize::from(series.id.shard().0)].push(series.id);
        }
        report.series += page.len() as u64;
        report.progressed();
    }
    let (mut after, mut found) = (None, Sum::default());
    loop {
        let page = page_of_series(to.queries(), after.as_ref()).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        page.iter().for_each(|series| found.series(series));
    }
    read.check("series", found)?;
    ids.iter_mut().for_each(|ids| ids.sort_unstable());
    Ok(ids)
}

async fn page_of_series(store: &dyn Queries, after: Option<&SeriesKey>) -> Result<Vec<Series>> {
    patiently(async |_| store.snapshot(LIFETIME).await?.series(&SeriesFilter::default(), after, NAMES).await).await
}

/// A slice of a shard: whole days of some series.
struct Part<'a> {
    shard: Shard,
    ids: &'a [SeriesId],
    range: TimeRange,
}

impl std::fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (first, last) = (self.ids.first().map_or(0, |id| id.0), self.ids.last().map_or(0, |id| id.0));
        write!(f, "the series {first} to {last} of shard {}", self.shard.0)
    }
}

/// Parts of a slice that are not too large, in order.
async fn parts<'a>(from: &dyn Queries, shard: Shard, ids: &'a [SeriesId]) -> Result<Vec<Part<'a>>> {
    let mut snapshot = from.snapshot(LIFETIME).await?;
    let (mut left, mut parts) = (vec![(ids, TimeRange::ALL)], Vec::new());
    while let Some((ids, range)) = left.pop() {
        let readings = snapshot.chunk_stats(shard, ids, range).await?.readings;
        if readings == 0 {
            continue;
        }
        if readings <= SLICE_READINGS {
            parts.push(Part { shard, ids, range });
        } else if ids.len() > 1 {
            let (low, high) = ids.split_at(ids.len() / 2);
            left.extend([(high, range), (low, range)]);
        } else if let Some(middle) = middle(&mut *snapshot, shard, ids, range).await? {
            left.extend([(ids, TimeRange::new(middle, range.to)), (ids, TimeRange::new(range.from, middle))]);
        } else {
            parts.push(Part { shard, ids, range });
        }
    }
    Ok(parts)
}

/// The start of a day in the middle of what a series has within `range`; `None` where that is one day.
async fn middle(snapshot: &mut dyn Snapshot, shard: Shard, ids: &[SeriesId], range: TimeRange) -> Result<Option<Timestamp>> {
    let Some((_, first, last)) = snapshot.edges(shard, ids).await?.first().copied() else { return Ok(None) };
    let (first, last) = (first.max(range.from.0).div_euclid(DAY), last.min(range.to.0.saturating_sub(1)).div_euclid(DAY));
    Ok((first < last).then(|| Timestamp((first + last + 1).div_euclid(2) * DAY)))
}

/// Carries a part, unless it is there, and compares.
async fn one(from: &dyn Queries, to: &Entering, part: &Part<'_>, again: bool) -> anyhow::Result<Sum> {
    let mut is_there = false;
    if again {
        let found = sum(to.queries(), part).await?;
        is_there = found.items > 0;
        if is_there && found == sum(from, part).await? {
            return Ok(found);
        }
    }
    let read = carry(from, to, part, is_there).await?;
    read.check("chunks and rollups", sum(to.queries(), part).await?)?;
    Ok(read)
}

async fn carry(from: &dyn Queries, to: &Entering, part: &Part<'_>, is_there: bool) -> Result<Sum> {
    let (mut read, mut after) = (Sum::default(), None);
    let mut pin = Pinned { store: from, snapshot: None };
    while let Some(page) = pin.chunks(part, after).await? {
        after = page.last().map(|(key, _)| *key);
        page.iter().for_each(|(key, chunk)| read.chunk(*key, chunk));
        patiently(async |tries| to.put_history(part.shard, page.clone(), Vec::new(), is_there || tries > 0).await).await?;
    }
    for level in Level::ALL {
        let rollups = pin.rollups(part, level).await?;
        rollups.iter().for_each(|(key, summary)| read.rollup(*key, summary));
        for group in rollups.chunks(ROLLUPS) {
            patiently(async |_| to.put_history(part.shard, Vec::new(), group.to_vec(), false).await).await?;
        }
    }
    Ok(read)
}

/// What a store has of a part.
async fn sum(store: &dyn Queries, part: &Part<'_>) -> Result<Sum> {
    let (mut found, mut after) = (Sum::default(), None);
    let mut pin = Pinned { store, snapshot: None };
    while let Some(page) = pin.chunks(part, after).await? {
        after = page.last().map(|(key, _)| *key);
        page.iter().for_each(|(key, chunk)| found.chunk(*key, chunk));
    }
    for level in Level::ALL {
        pin.rollups(part, level).await?.iter().for_each(|(key, summary)| found.rollup(*key, summary));
    }
    Ok(found)
}

/// A store with a snapshot of it, taken anew where that has come to its deadline.
struct Pinned<'a> {
    store: &'a dyn Queries,
    snapshot: Option<Box<dyn Snapshot>>,
}

impl Pinned<'_> {
    /// The next page of a part's chunks; `None` after the last.
    async fn chunks(&mut self, part: &Part<'_>, after: Option<ChunkKey>) -> Result<Option<Vec<(ChunkKey, StoredChunk)>>> {
        let page = patiently(async |tries| self.get(tries).await?.chunks(part.shard, part.ids, part.range, after, PAGE).await).await?;
        Ok((!page.is_empty()).then_some(page))
    }

    async fn rollups(&mut self, part: &Part<'_>, level: Level) -> Result<Vec<(RollupKey, Summary)>> {
        patiently(async |tries| self.get(tries).await?.rollups(part.shard, level, part.ids, part.range).await).await
    }

    async fn get(&mut self, tries: u32) -> Result<&mut dyn Snapshot> {
        let held = self.snapshot.take().filter(|_| tries == 0);
        let snapshot = match held {
            Some(held) => held,
            None => self.store.snapshot(LIFETIME).await?,
        };
        Ok(&mut **self.snapshot.insert(snapshot))
    }
}

/// Carries all dead letters, newest first, and compares them.
async fn letters(from: &dyn Queries, to: &Entering, report: &mut Report) -> anyhow::Result<()> {
    let (mut query, mut read) = (every_letter(), Sum::default());
    loop {
        let (page, more) = page_of_letters(from, &query).await?;
        patiently(async |_| to.put_dead_letters(&page).await).await?;
        page.iter().for_each(|letter| read.letter(letter));
        report.letters += page.len() as u64;
        if !next(&mut query, &page, more) {
            break;
        }
    }
    let (mut query, mut found) = (every_letter(), Sum::default());
    loop {
        let (page, more) = page_of_letters(to.queries(), &query).await?;
        page.iter().for_each(|letter| found.letter(letter));
        if !next(&mut query, &page, more) {
            return read.check("dead letters", found);
        }
    }
}

fn every_letter() -> DeadLetterQuery {
    DeadLetterQuery { allowed: headwater_core::glob::DevicePatterns::All, limit: LETTERS, ..DeadLetterQuery::default() }
}

async fn page_of_letters(store: &dyn Queries, query: &DeadLetterQuery) -> Result<(Vec<KeptLetter>, bool)> {
    patiently(async |_| store.snapshot(LIFETIME).await?.dead_letters(query, LETTER_BYTES).await).await
}

/// Goes on after a page; `false` after the last.
fn next(query: &mut DeadLetterQuery, page: &[KeptLetter], more: bool) -> bool {
    query.after = page.last().map(|letter| (letter.received_at, letter.id));
    more && query.after.is_some()
}
