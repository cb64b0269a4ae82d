//! The way over a store: counts first, then shard after shard, each in slices of its series, then its open blocks.
//!
//! Owns: the slices, the snapshots, isolating what cannot be read. Does not know: what must hold, what is printed.
//!
//! Invariants: a snapshot is given back after [`FRESH`] at the next border between slices, so that a running server's write-ahead log can start
//! over; nothing is compared that two snapshots have seen; memory is bounded by a slice, a page and the ids of all series (4 bytes each); what is damaged is named and the walk goes on.

use super::report::Report;
use headwater_core::filter::SeriesFilter;
use headwater_core::seal::{ChunkKey, Level};
use headwater_core::series::{SHARDS, Series, SeriesId, SeriesKey, Shard};
use headwater_core::store::{BatchId, Queries, Result, Snapshot, StoreError, Totals};
use headwater_core::time::{DAY, TimeRange, Timestamp};
use headwater_core::verify::{self, Difference, Looked, Place, Sealed};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How much is looked at at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slices {
    /// Readings, after which a slice ends at the next border of a series or a day.
    pub(super) readings: u64,
    /// Series at most.
    pub(super) series: usize,
    /// Bytes of a page of chunks.
    pub(super) page: usize,
}

impl Default for Slices {
    fn default() -> Self {
        Self { readings: 500_000, series: 1_024, page: 4 << 20 }
    }
}

/// Series of a page.
const NAMES: usize = 10_000;
/// A snapshot that is older is given back.
const FRESH: Duration = Duration::from_secs(2);
/// Each step ends long before this.
const LIFETIME: Duration = Duration::from_secs(60);
/// Counting everything is one snapshot.
const COUNTING: Duration = Duration::from_secs(600);
/// A step is tried so often while the store is busy.
const TRIES: u32 = 5;
/// Between two tries, times their number.
const PAUSE: Duration = Duration::from_millis(200);
/// Failed questions for damaged rollups, of a slice and level, before the rest is reported as one: where a whole table is gone, nobody wants
/// to see it window by window.
const NARROWINGS: u32 = 4_000;

/// Looks at everything within `range`.
pub(super) async fn run(store: &dyn Queries, range: TimeRange, slices: Slices, report: &mut Report) -> Result<()> {
    let counted = patiently(async || count(store, range, slices.series).await).await?;
    report.begin(counted.totals, counted.catalog.len());
    let mut walk = Walk { store, range, slices, report, catalog: counted.catalog, pinned: None };
    walk.tell(counted.differences).await;
    for shard in (0..SHARDS).map(Shard) {
        walk.sealed(shard).await?;
        let (differences, looked) = patiently(async || walk.blocks(shard).await).await?;
        walk.report.looked(looked);
        walk.tell(differences).await;
    }
    Ok(())
}

/// Tries again what a busy store did not answer.
async fn patiently<T>(mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let mut tries = 0;
    loop {
        tries += 1;
        match attempt().await {
            Err(why) if tries < TRIES && (why.is_transient() || matches!(why, StoreError::Deadline)) => {
                tokio::time::sleep(PAUSE * tries).await;
            }
            done => return done,
        }
    }
}

/// The ids of all series, by shard and sorted.
struct Catalog(Vec<Vec<SeriesId>>);

impl Catalog {
    /// Reads them; those after one that is damaged cannot be.
    async fn load(snapshot: &mut dyn Snapshot) -> Result<(Self, Option<Difference>)> {
        let mut ids = vec![Vec::new(); usize::from(SHARDS)];
        let damaged = each_series(snapshot, |series| {
            ids[usize::from(series.id.shard().0)].push(series.id);
            true
        })
        .await?;
        ids.iter_mut().for_each(|ids| ids.sort_unstable());
        Ok((Self(ids), damaged))
    }

    fn of(&self, shard: Shard) -> &[SeriesId] {
        &self.0[usize::from(shard.0)]
    }

    fn has(&self, series: SeriesId) -> bool {
        self.of(series.shard()).binary_search(&series).is_ok()
    }

    fn len(&self) -> u64 {
        self.0.iter().map(|ids| ids.len() as u64).sum()
    }
}

/// Visits series until `visit` says `false`; a difference where one is damaged.
async fn each_series(snapshot: &mut dyn Snapshot, mut visit: impl FnMut(Series) -> bool) -> Result<Option<Difference>> {
    let (filter, mut after) = (SeriesFilter::default(), None::<SeriesKey>);
    loop {
        let page = match snapshot.series(&filter, after.as_ref(), NAMES).await {
            Ok(page) => page,
            Err(StoreError::Corrupt(why)) => {
                return Ok(Some(Difference::new(Place::Store, "all series can be read", "series with their keys", why)));
            }
            Err(error) => return Err(error),
        };
        let Some(last) = page.last() else { return Ok(None) };
        after = Some(last.key.clone());
        for series in page {
            if !visit(series) {
                return Ok(None);
            }
        }
    }
}

/// What one snapshot says of everything.
struct Counted {
    totals: Totals,
    catalog: Catalog,
    differences: Vec<Difference>,
}

async fn count(store: &dyn Queries, range: TimeRange, slice: usize) -> Result<Counted> {
    let mut snapshot = store.snapshot(COUNTING).await?;
    let (catalog, damaged) = Catalog::load(&mut *snapshot).await?;
    let mut differences: Vec<_> = damaged.into_iter().collect();
    let totals = match snapshot.totals().await {
        Ok(totals) => totals,
        Err(StoreError::Corrupt(why)) => {
            differences.push(Difference::new(Place::Store, "the counts can be read", "counts", why));
            return Ok(Counted { totals: Totals::default(), catalog, differences });
        }
        Err(error) => return Err(error),
    };
    differences.extend(verify::conservation(&totals));
    // Of series that cannot be named, nothing can be counted.
    if range == TimeRange::ALL && differences.iter().all(|difference| !difference.rule.contains("series")) {
        if let Some(stored) = damage_aside(rows_sealed(&mut *snapshot, &catalog, slice).await)? {
            differences.extend(verify::sum("the chunks hold as many readings as are stored", totals.stored, stored));
        }
        if let Some(open) = damage_aside(rows_open(&mut *snapshot).await)? {
            differences.extend(verify::sum("the open blocks hold as many readings as are unsealed", totals.unsealed, open));
        }
    }
    Ok(Counted { totals, catalog, differences })
}

/// What is damaged is named when the walk comes to it.
fn damage_aside<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(StoreError::Corrupt(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn rows_sealed(snapshot: &mut dyn Snapshot, catalog: &Catalog, slice: usize) -> Result<u64> {
    let mut readings = 0;
    for shard in (0..SHARDS).map(Shard) {
        for ids in catalog.of(shard).chunks(slice) {
            readings += snapshot.chunk_stats(shard, ids, TimeRange::ALL).await?.readings;
        }
    }
    Ok(readings)
}

async fn rows_open(snapshot: &mut dyn Snapshot) -> Result<u64> {
    let mut readings = 0;
    for shard in (0..SHARDS).map(Shard) {
        readings += snapshot.block_stats(shard, TimeRange::ALL).await?.iter().map(|(_, stats)| stats.readings).sum::<u64>();
    }
    Ok(readings)
}

/// A slice that was looked at.
struct Part {
    differences: Vec<Difference>,
    looked: Looked,
    /// Where the next one begins: so many of the series are done, and of the one after these everything before that time.
    done: usize,
    from: Timestamp,
}

struct Walk<'a> {
    store: &'a dyn Queries,
    range: TimeRange,
    slices: Slices,
    report: &'a mut Report,
    catalog: Catalog,
    pinned: Option<(Box<dyn Snapshot>, Instant)>,
}

impl Walk<'_> {
    /// The snapshot at hand, or a new one where that is old.
    async fn snapshot(&mut self) -> Result<&mut dyn Snapshot> {
        let (snapshot, since) = match self.pinned.take().filter(|(_, since)| since.elapsed() < FRESH) {
            Some(fresh) => fresh,
            None => (self.store.snapshot(LIFETIME).await?, Instant::now()),
        };
        let (snapshot, _) = self.pinned.insert((snapshot, since));
        Ok(&mut **snapshot)
    }

    /// Looks at the chunks and rollups of a shard.
    async fn sealed(&mut self, shard: Shard) -> Result<()> {
        let ids = self.catalog.of(shard).to_vec();
        let (mut at, mut from) = (0, self.range.from);
        // So many series are looked at one by one: the chunks of one of them cannot be read.
        let mut careful = 0usize;
        while at < ids.len() {
            let most = if careful > 0 || from > self.range.from { 1 } else { self.slices.series };
            let slice = &ids[at..ids.len().min(at + most)];
            let part = match patiently(async || self.part(shard, slice, from).await).await {
                Ok(part) => part,
                Err(StoreError::Corrupt(_)) if slice.len() > 1 => {
                    careful = slice.len();
                    continue;
                }
                Err(StoreError::Corrupt(why)) => Part {
                    differences: vec![Difference::new(Place::Series(slice[0]), "they can be read", "the chunks of the series", why)],
                    looked: Looked::default(),
                    done: 1,
                    from: self.range.from,
                },
                Err(error) => return Err(error),
            };
            careful = careful.saturating_sub(part.done);
            (at, from) = (at + part.done, part.from);
            self.report.looked(part.looked);
            self.report.progressed(part.done as u64);
            self.tell(part.differences).await;
        }
        Ok(())
    }

    /// Looks at a slice of series from `from` on; ends early where it is large.
    async fn part(&mut self, shard: Shard, ids: &[SeriesId], from: Timestamp) -> Result<Part> {
        let all = TimeRange::new(from, self.range.to);
        let slices = self.slices;
        let snapshot = self.snapshot().await?;
        let mut sealed = Sealed::default();
        let stopped = feed(snapshot, &mut sealed, (shard, ids), all, slices).await?;
        sealed.end_of_chunks();
        let (done, rest) = match stopped {
            None => (ids.len(), None),
            Some(Stop::Series(series)) => (ids.partition_point(|id| *id < series).max(1), None),
            Some(Stop::Day(series, day)) => (ids.partition_point(|id| *id < series), Some(day)),
        };
        for level in Level::ALL {
            rollups(snapshot, &mut sealed, (shard, level), &ids[..done], all).await?;
            if let Some(day) = rest {
                let begun = &ids[done..ids.len().min(done + 1)];
                rollups(snapshot, &mut sealed, (shard, level), begun, TimeRange::new(from, day)).await?;
            }
        }
        sealed.end_of_rollups();
        let from = rest.unwrap_or(self.range.from);
        Ok(Part { differences: sealed.differences, looked: sealed.looked, done, from })
    }

    /// Looks at the open blocks of a shard, one at a time, so that a damaged one hides no other.
    async fn blocks(&mut self, shard: Shard) -> Result<(Vec<Difference>, Looked)> {
        self.snapshot().await?;
        let Self { pinned: Some((snapshot, _)), catalog, range, .. } = self else { return Ok((Vec::new(), Looked::default())) };
        let (mut differences, mut looked, mut reloaded) = (Vec::new(), Looked::default(), false);
        let stats = match snapshot.block_stats(shard, *range).await {
            Err(StoreError::Corrupt(why)) => {
                let damaged = Difference::new(Place::Shard(shard), "its open blocks can be listed", "a list of open blocks", why);
                return Ok((vec![damaged], looked));
            }
            stats => stats?,
        };
        for (batch, beside) in stats {
            let block = match snapshot.blocks(shard, *range, batch.0.checked_sub(1).map(BatchId), 1).await {
                Err(StoreError::Corrupt(why)) => {
                    differences.push(verify::unreadable_block(shard, batch, why));
                    continue;
                }
                blocks => blocks?.into_iter().next().filter(|(found, _)| *found == batch),
            };
            let Some((_, block)) = block else {
                differences.push(verify::unreadable_block(shard, batch, "a block that is listed and is not there"));
                continue;
            };
            looked.add(Looked { blocks: 1, open: block.len() as u64, ..Looked::default() });
            // Series that came since the ids were read are known, too.
            if !reloaded && block.series.iter().any(|series| !catalog.has(*series)) {
                (*catalog, reloaded) = (Catalog::load(&mut **snapshot).await?.0, true);
            }
            differences.extend(verify::block(shard, batch, beside, &block, |series| catalog.has(series)));
        }
        Ok((differences, looked))
    }

    /// Tells what was found, with the names of the series as far as they are printed.
    async fn tell(&mut self, differences: Vec<Difference>) {
        let shown = &differences[..differences.len().min(self.report.room())];
        let mut wanted: BTreeSet<SeriesId> = shown.iter().filter_map(|difference| difference.place.series()).collect();
        let mut names = BTreeMap::new();
        if !wanted.is_empty()
            && let Ok(snapshot) = self.snapshot().await
        {
            let named = each_series(snapshot, |series| {
                if wanted.remove(&series.id) {
                    names.insert(series.id, series.key);
                }
                !wanted.is_empty()
            });
            // Without a name the number stands alone.
            named.await.ok();
        }
        for difference in differences {
            let name = difference.place.series().and_then(|series| names.get(&series));
            self.report.tell(difference, name);
        }
    }
}

/// Before which chunk a slice ended.
enum Stop {
    /// The first one of a series.
    Series(SeriesId),
    /// The first one of a day, later than where the slice begins.
    Day(SeriesId, Timestamp),
}

/// Feeds chunks until there is enough; says where it stopped.
async fn feed(
    snapshot: &mut dyn Snapshot,
    sealed: &mut Sealed,
    (shard, ids): (Shard, &[SeriesId]),
    range: TimeRange,
    slices: Slices,
) -> Result<Option<Stop>> {
    let mut before = None::<ChunkKey>;
    loop {
        let page = snapshot.chunks(shard, ids, range, before, slices.page).await?;
        if page.is_empty() {
            return Ok(None);
        }
        for (key, chunk) in &page {
            if sealed.looked.readings >= slices.readings
                && let Some(before) = before
            {
                let day = Timestamp(key.day().saturating_mul(DAY));
                if before.series != key.series {
                    return Ok(Some(Stop::Series(key.series)));
                }
                if before.day() < key.day() && day > range.from {
                    return Ok(Some(Stop::Day(key.series, day)));
                }
            }
            sealed.chunk(*key, chunk);
            before = Some(*key);
        }
    }
}

/// Feeds the rollups of a level; those that cannot be read are narrowed down to the damaged ones.
async fn rollups(
    snapshot: &mut dyn Snapshot,
    sealed: &mut Sealed,
    (shard, level): (Shard, Level),
    ids: &[SeriesId],
    range: TimeRange,
) -> Result<()> {
    let mut left = vec![(ids, range)];
    let mut narrowings = 0;
    while let Some((ids, range)) = left.pop() {
        if ids.is_empty() || range.is_empty() {
            continue;
        }
        let why = match snapshot.rollups(shard, level, ids, range).await {
            Ok(found) => {
                found.iter().for_each(|(key, summary)| sealed.rollup(*key, summary));
                continue;
            }
            Err(StoreError::Corrupt(why)) => why,
            Err(error) => return Err(error),
        };
        narrowings += 1;
        if ids.len() > 1 {
            let (low, high) = ids.split_at(ids.len() / 2);
            left.extend([(high, range), (low, range)]);
        } else if let Some(middle) = middle(level, range).filter(|_| narrowings <= NARROWINGS) {
            left.extend([(ids, TimeRange::new(middle, range.to)), (ids, TimeRange::new(range.from, middle))]);
        } else {
            sealed.unreadable(Place::rollups(ids[0], level, range), why);
        }
    }
    Ok(())
}

/// The start of a window that parts those of `range` in two; `None` where there is but one.
fn middle(level: Level, range: TimeRange) -> Option<Timestamp> {
    let width = i128::from(level.width());
    let (from, to) = (i128::from(range.from.0), i128::from(range.to.0));
    let (first, last) = ((from + width - 1).div_euclid(width), (to - 1).div_euclid(width));
    let middle = (first + last + 1).div_euclid(2) * width;
    (first < last).then(|| i64::try_from(middle).ok()).flatten().map(Timestamp)
}
