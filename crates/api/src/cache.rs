//! Decoded rollups that were read before, in a bounded number of bytes.
//!
//! Owns: [`Cache`] (pages of rollups and which of them go), [`Rollups`] (what a question takes of pages). Does not know: the store, questions.
//!
//! A rollup does change under its key, whenever late readings of its window are sealed. So a page holds the mark of what was sealed in its shard when
//! it was read (see [`SealMark`]), and is taken only by a snapshot with the same mark: an answer is byte for byte what it is without the cache.
//!
//! Invariants: no more than the given bytes are held; the lock is held for a look and never while something is read; a page is whole: it holds every
//! rollup that the series has in it, and none where it has none.

use headwater_core::seal::{Level, RollupKey};
use headwater_core::series::SeriesId;
use headwater_core::store::SealMark;
use headwater_core::summary::Summary;
use headwater_core::time::{DAY, TimeRange, Timestamp};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Memory of a page beside its rollups: its places in the table, its mark, its vector.
const BYTES_PER_PAGE: usize = 192;

/// Rollups of one series, by the starts of their windows.
type Leaves = Arc<Vec<(i64, Summary)>>;

/// Which page: a day of hours, or sixteen days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PageKey {
    series: SeriesId,
    level: Level,
    number: i64,
}

struct Page {
    mark: SealMark,
    leaves: Leaves,
    bytes: usize,
}

/// Two shelves: what is asked for comes to the young one; when that holds half of the bytes, the old one is cleared and they change places. So what
/// was not asked for during a whole turn is gone, and no list has to be kept in order.
#[derive(Default)]
struct Shelves {
    young: HashMap<PageKey, Page>,
    old: HashMap<PageKey, Page>,
    young_bytes: usize,
    old_bytes: usize,
}

/// What the cache has done so far.
#[derive(Debug, Default)]
pub struct CacheCounts {
    hits: AtomicU64,
    misses: AtomicU64,
    bytes: AtomicU64,
}

impl CacheCounts {
    /// Pages that were there.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Pages that had to be read.
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// Bytes that are held now.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// The cache; see the module.
pub(crate) struct Cache {
    most_bytes: usize,
    shelves: Mutex<Shelves>,
    counts: Arc<CacheCounts>,
}

/// How many windows of a level a page has.
const fn windows(level: Level) -> i64 {
    match level {
        Level::Hour => DAY / Level::Hour.width(),
        Level::Day => 16,
    }
}

const fn page_width(level: Level) -> i64 {
    windows(level) * level.width()
}

/// Some pages, by their numbers.
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    level: Level,
    numbers: Range<i64>,
}

impl Pages {
    /// Those with windows that start within `range`.
    pub(crate) const fn of(level: Level, range: TimeRange) -> Self {
        let width = page_width(level);
        let end = if range.is_empty() { range.from.0 } else { range.to.0 - 1 };
        Self { level, numbers: range.from.0.div_euclid(width)..end.div_euclid(width) + if range.is_empty() { 0 } else { 1 } }
    }

    /// Of which level they are.
    pub(crate) const fn level(&self) -> Level {
        self.level
    }

    /// How many windows they have.
    pub(crate) fn n_windows(&self) -> usize {
        usize::try_from((self.numbers.end - self.numbers.start).saturating_mul(windows(self.level))).unwrap_or(usize::MAX)
    }

    /// All of their time.
    pub(crate) fn range(&self) -> TimeRange {
        let start = |number: i64| Timestamp(number.saturating_mul(page_width(self.level)));
        TimeRange::new(start(self.numbers.start), start(self.numbers.end))
    }
}

/// What is known of some pages of some series: by series, each with its pages in order.
pub(crate) struct Looked {
    found: Vec<Option<Leaves>>,
    per_series: usize,
}

impl Looked {
    /// The series of which a page is missing.
    pub(crate) fn missing(&self, series: &[SeriesId]) -> Vec<SeriesId> {
        let is_missing = |pages: &&[Option<Leaves>]| pages.iter().any(Option::is_none);
        let pages = self.found.chunks(self.per_series.max(1));
        series.iter().zip(pages).filter(|(_, pages)| is_missing(pages)).map(|(series, _)| *series).collect()
    }
}

impl Cache {
    /// A cache of at most `bytes`, which tells `counts` what it does; none where that is 0.
    pub(crate) fn new(bytes: usize, counts: Arc<CacheCounts>) -> Option<Self> {
        (bytes > 0).then(|| Self { most_bytes: bytes, shelves: Mutex::default(), counts })
    }

    /// What there is of some pages with this mark.
    pub(crate) fn look(&self, mark: SealMark, series: &[SeriesId], pages: &Pages) -> Looked {
        let per_series = usize::try_from(pages.numbers.end - pages.numbers.start).unwrap_or(0);
        let mut found = Vec::with_capacity(series.len() * per_series);
        let mut gone = Vec::new();
        let mut shelves = self.lock();
        for &series in series {
            for number in pages.numbers.clone() {
                found.push(shelves.take(PageKey { series, level: pages.level, number }, mark));
                gone.extend(shelves.turn(self.most_bytes));
            }
        }
        self.note_bytes(&shelves);
        drop(shelves);
        let hits = found.iter().flatten().count() as u64;
        self.counts.hits.fetch_add(hits, Ordering::Relaxed);
        self.counts.misses.fetch_add(found.len() as u64 - hits, Ordering::Relaxed);
        Looked { found, per_series }
    }

    /// Keeps what was read of the pages of the series that were missing, and adds it to what is known. `read` is in the order of its keys.
    pub(crate) fn keep(
        &self,
        mark: SealMark,
        (all, missing): (&[SeriesId], &[SeriesId]),
        pages: &Pages,
        read: Vec<(RollupKey, Summary)>,
        looked: &mut Looked,
    ) {
        let mut read = read.into_iter().peekable();
        let mut fresh = Vec::with_capacity(missing.len() * looked.per_series);
        for &series in missing {
            let Ok(place) = all.binary_search(&series) else { continue };
            for (n, number) in pages.numbers.clone().enumerate() {
                let end = (number + 1).saturating_mul(page_width(pages.level));
                let mut leaves = Vec::new();
                while let Some((key, summary)) = read.next_if(|(key, _)| (key.series, key.start) < (series, end)) {
                    leaves.push((key.start, summary));
                }
                leaves.shrink_to_fit();
                let leaves = Arc::new(leaves);
                looked.found[place * looked.per_series + n] = Some(Arc::clone(&leaves));
                fresh.push((PageKey { series, level: pages.level, number }, leaves));
            }
        }
        let fresh: Vec<(PageKey, Page)> =
            fresh.into_iter().map(|(key, leaves)| (key, Page { mark, bytes: bytes_of(&leaves), leaves })).collect();
        let mut gone = Vec::new();
        let mut shelves = self.lock();
        for (key, page) in fresh {
            shelves.put(key, page);
            gone.extend(shelves.turn(self.most_bytes));
        }
        self.note_bytes(&shelves);
    }

    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_bytes(&self, shelves: &Shelves) {
        self.counts.bytes.store((shelves.young_bytes + shelves.old_bytes) as u64, Ordering::Relaxed);
    }
}

fn bytes_of(leaves: &[(i64, Summary)]) -> usize {
    BYTES_PER_PAGE + leaves.iter().map(|(_, summary)| size_of::<i64>() + summary.memory_bytes()).sum::<usize>()
}

impl Shelves {
    /// A page with this mark, which is young from now on.
    fn take(&mut self, key: PageKey, mark: SealMark) -> Option<Leaves> {
        if let Some(page) = self.young.get(&key) {
            return (page.mark == mark).then(|| Arc::clone(&page.leaves));
        }
        let page = self.old.remove(&key)?;
        self.old_bytes -= page.bytes;
        let leaves = (page.mark == mark).then(|| Arc::clone(&page.leaves));
        self.put(key, page);
        leaves
    }

    fn put(&mut self, key: PageKey, page: Page) {
        self.young_bytes += page.bytes;
        self.young_bytes -= self.young.insert(key, page).map_or(0, |before| before.bytes);
        self.old_bytes -= self.old.remove(&key).map_or(0, |before| before.bytes);
    }

    /// Turns the shelves when the young one is full; what is gone, to be dropped where nobody waits.
    fn turn(&mut self, most_bytes: usize) -> Option<HashMap<PageKey, Page>> {
        if self.young_bytes <= most_bytes / 2 {
            return None;
        }
        self.old_bytes = std::mem::take(&mut self.young_bytes);
        let young = std::mem::take(&mut self.young);
        Some(std::mem::replace(&mut self.old, young))
    }
}

/// Rollups of one level whose windows start within a range, by series and window.
pub(crate) struct Rollups {
    parts: Vec<Part>,
    n_rollups: usize,
    bytes: usize,
}

/// What is taken of one page.
struct Part {
    series: SeriesId,
    leaves: Leaves,
    run: Range<usize>,
}

impl Rollups {
    /// Those that were read, in the order of their keys.
    pub(crate) fn of(read: Vec<(RollupKey, Summary)>) -> Self {
        let mut rollups = Self { parts: Vec::new(), n_rollups: 0, bytes: 0 };
        let mut read = read.into_iter().peekable();
        while let Some((RollupKey { series, start, .. }, summary)) = read.next() {
            let mut leaves = vec![(start, summary)];
            while let Some((key, summary)) = read.next_if(|(key, _)| key.series == series) {
                leaves.push((key.start, summary));
            }
            let run = 0..leaves.len();
            rollups.push(Part { series, leaves: Arc::new(leaves), run });
        }
        rollups
    }

    /// Those of pages that are all known.
    pub(crate) fn within(range: TimeRange, series: &[SeriesId], looked: Looked) -> Self {
        let mut rollups = Self { parts: Vec::new(), n_rollups: 0, bytes: 0 };
        for (n, leaves) in looked.found.into_iter().enumerate() {
            let (Some(leaves), Some(&series)) = (leaves, series.get(n / looked.per_series.max(1))) else { continue };
            let from = leaves.partition_point(|(start, _)| *start < range.from.0);
            let to = leaves.partition_point(|(start, _)| *start < range.to.0);
            rollups.push(Part { series, run: from..to.max(from), leaves });
        }
        rollups
    }

    fn push(&mut self, part: Part) {
        if part.run.is_empty() {
            return;
        }
        self.n_rollups += part.run.len();
        self.bytes += part.leaves[part.run.clone()].iter().map(|(_, summary)| summary.memory_bytes()).sum::<usize>();
        self.parts.push(part);
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.n_rollups
    }

    /// About how much memory they take, in bytes.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Calls `each` with every series that has any, and with its rollups in order.
    pub(crate) fn by_series<'a>(&'a self, mut each: impl FnMut(SeriesId, &[&'a (i64, Summary)])) {
        let mut of_series = Vec::new();
        for parts in self.parts.chunk_by(|a, b| a.series == b.series) {
            of_series.clear();
            of_series.extend(parts.iter().flat_map(|part| &part.leaves[part.run.clone()]));
            each(parts[0].series, &of_series);
        }
    }
}

#[cfg(test)]
mod tests;
