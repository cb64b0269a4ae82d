//! Reading chunks and rollups: for answers, and the ways over their rows that sealing shares.
//!
//! Owns: the statements that read them, [`days`], [`walk`]. Does not know: why they are read.
//! Invariants: only days that exist are looked at, however wide a range is; memory is bounded by `max_bytes` and one chunk; rows
//! of one series come in the order of time.

use super::keys;
use super::readers::View;
use super::rows::{self, Head};
use crate::error::Fault;
use crate::sqlite::uint;
use headwater_core::seal::{ChunkKey, Level, RollupKey, StoredChunk};
use headwater_core::series::SeriesId;
use headwater_core::store::{ChunkStats, SealMark, StoreError};
use headwater_core::summary::Summary;
use headwater_core::time::{DAY, TimeRange};
use rusqlite::{Connection, Row};

pub(super) const DAYS: &str = include_str!("../sql/store/days.sql");
pub(super) const CHUNKS: &str = include_str!("../sql/store/chunks.sql");
pub(super) const CHUNK_HEADS: &str = include_str!("../sql/store/chunk_heads.sql");
pub(super) const CHUNK_BYTES: &str = include_str!("../sql/store/chunk_bytes.sql");
pub(super) const CHUNKS_BETWEEN: &str = include_str!("../sql/store/chunks_between.sql");
pub(super) const CHUNK_HEADS_BETWEEN: &str = include_str!("../sql/store/chunk_heads_between.sql");
pub(super) const SEAL_MARKS: &str = include_str!("../sql/store/seal_marks.sql");
pub(super) const ROLLUPS_BETWEEN: &str = include_str!("../sql/store/rollups_between.sql");

type Result<T> = std::result::Result<T, Fault<StoreError>>;

/// So many rows that nobody wants are stepped over before the next wanted one is sought: a step costs about a fifth of a seek.
const STEPS: u32 = 5;

/// One part of a day, as far as a range touches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) day: i64,
    pub(super) slot: u16,
    pub(super) part: u32,
    /// Microseconds into the day: from here, and to before there.
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Stretch {
    fn of(day: i64, slot: u16, part: u32, range: TimeRange) -> Self {
        let start = i128::from(day) * i128::from(DAY);
        // Between 0 and a day, so it fits.
        let within = |time: i64| (i128::from(time) - start).clamp(0, i128::from(DAY)) as i64;
        Self { day, slot, part, from: within(range.from.0), to: within(range.to.0) }
    }

    /// The ids of a series that lie in it, so far as ids tell.
    fn ids(&self, series: SeriesId) -> (i64, i64) {
        (keys::chunk_ids(self.slot, series).0, keys::chunk_id(self.slot, series, self.to - 1))
    }
}

/// The parts of the days that exist and that `range` touches, by day and part.
pub(super) fn days(conn: &Connection, range: TimeRange) -> Result<Vec<Stretch>> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let mut statement = conn.prepare_cached(DAYS)?;
    let found = statement.query_map((range.from.0.div_euclid(DAY), (range.to.0 - 1).div_euclid(DAY)), |row| {
        Ok(Stretch::of(row.get(0)?, row.get(1)?, row.get(2)?, range))
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// The slots of one day, with the numbers of its parts.
pub(super) fn slots(conn: &Connection, day: i64) -> Result<Vec<(u16, u32)>> {
    let mut statement = conn.prepare_cached(DAYS)?;
    let found = statement.query_map((day, day), |row| Ok((row.get(1)?, row.get(2)?)))?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// Visits the rows whose ids lie in one of `wanted`, closed ranges that rise, until `visit` says `false`; says whether it came to
/// the end. `sql` gives rows between two ids, the id first. It seeks no more often than there are ranges, nor than there are rows:
/// so it suits few wanted rows among many, many among many, and many among none.
pub(super) fn walk(view: &View<'_>, sql: &str, wanted: &[(i64, i64)], mut visit: impl FnMut(&Row<'_>) -> Result<bool>) -> Result<bool> {
    let Some(&(_, end)) = wanted.last() else { return Ok(true) };
    let mut statement = view.conn.prepare_cached(sql)?;
    let mut next = 0;
    'seek: while next < wanted.len() {
        view.check_deadline()?;
        let mut rows = statement.query((wanted[next].0, end))?;
        let mut unwanted = 0;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            while next < wanted.len() && wanted[next].1 < id {
                next += 1;
            }
            if next == wanted.len() {
                break;
            }
            if wanted[next].0 <= id {
                unwanted = 0;
                if !visit(row)? {
                    return Ok(false);
                }
            } else {
                unwanted += 1;
                if unwanted > STEPS {
                    continue 'seek;
                }
            }
        }
        break;
    }
    Ok(true)
}

/// The mark of every shard. The directory is this process's alone as long as it lives, so there is one life.
pub(super) fn seal_marks(view: &View<'_>) -> Result<Vec<SealMark>> {
    let mut statement = view.conn.prepare_cached(SEAL_MARKS)?;
    let marks = statement.query_map([], |row| Ok(SealMark { life: 0, stored: uint(row.get(0)?) }))?;
    Ok(marks.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn rollups(view: &View<'_>, level: Level, series: &[SeriesId], range: TimeRange) -> Result<Vec<(RollupKey, Summary)>> {
    let width = level.width();
    let mut found = Vec::new();
    for stretch in days(view.conn, range)?.into_iter().filter(|stretch| stretch.part == 0) {
        // Windows that start within the stretch.
        let (first, end) = ((stretch.from + width - 1) / width, (stretch.to + width - 1) / width);
        if first >= end {
            continue;
        }
        let id = |series, window: i64| keys::rollup_id(level, stretch.slot, series, window * width);
        let wanted: Vec<_> = series.iter().map(|&series| (id(series, first), id(series, end - 1))).collect();
        walk(view, ROLLUPS_BETWEEN, &wanted, |row| {
            found.push(rows::rollup(row, level, stretch.day)?);
            Ok(true)
        })?;
    }
    found.sort_unstable_by_key(|(key, _)| *key);
    Ok(found)
}

pub(super) fn chunk_stats(view: &View<'_>, series: &[SeriesId], range: TimeRange) -> Result<ChunkStats> {
    let mut stats = ChunkStats::default();
    for stretch in days(view.conn, range)? {
        let count = |row: &Row<'_>| {
            let head = rows::chunk_head(row, stretch.day)?;
            if range.touches(head.key.first, head.last) {
                stats.chunks += 1;
                stats.readings += head.readings;
            }
            Ok(true)
        };
        if stretch.from == 0 {
            let wanted: Vec<_> = series.iter().map(|&series| stretch.ids(series)).collect();
            walk(view, CHUNK_HEADS_BETWEEN, &wanted, count)?;
        } else {
            let mut count = count;
            for &series in series {
                view.check_deadline()?;
                of_series(view, CHUNK_HEADS, stretch, series, stretch.from, &mut count)?;
            }
        }
    }
    Ok(stats)
}

/// (series, time of its first reading, of its last) for each of `series` (sorted) that has chunks. Days are walked forwards for first
/// readings, then backwards for last ones, each only for the series that are still looked for.
pub(super) fn edges(view: &View<'_>, series: &[SeriesId]) -> Result<Vec<(SeriesId, i64, i64)>> {
    let days = days(view.conn, TimeRange::ALL)?;
    let mut edges: Vec<Option<Edge>> = vec![None; series.len()];
    let mut left: Vec<usize> = (0..series.len()).collect();
    for parts in days.chunk_by(|a, b| a.day == b.day) {
        if left.is_empty() {
            break;
        }
        edges_of_day(view, parts, series, &left, |at, day| edges[at] = Some(day))?;
        left.retain(|&at| edges[at].is_none());
    }
    let mut left: Vec<usize> = (0..series.len()).filter(|&at| edges[at].is_some()).collect();
    for parts in days.chunk_by(|a, b| a.day == b.day).rev() {
        // The day of a first reading is known already.
        left.retain(|&at| edges[at].is_some_and(|edge| edge.last_day < parts[0].day));
        if left.is_empty() {
            break;
        }
        let mut found = vec![false; left.len()];
        edges_of_day(view, parts, series, &left, |at, day| {
            if let (Some(edge), Ok(place)) = (&mut edges[at], left.binary_search(&at)) {
                (edge.last, edge.last_day, found[place]) = (day.last, day.last_day, true);
            }
        })?;
        let mut found = found.into_iter();
        left.retain(|_| !found.next().unwrap_or(false));
    }
    Ok(series.iter().zip(edges).filter_map(|(&series, edge)| edge.map(|edge| (series, edge.first, edge.last))).collect())
}

/// The first and the last reading of a series, as far as they are known.
#[derive(Debug, Clone, Copy)]
struct Edge {
    first: i64,
    last: i64,
    last_day: i64,
}

/// Calls `found` with the edges that some series (their places, in order) have in one day.
fn edges_of_day(
    view: &View<'_>,
    parts: &[Stretch],
    series: &[SeriesId],
    places: &[usize],
    mut found: impl FnMut(usize, Edge),
) -> Result<()> {
    let mut of_day: Vec<Option<Edge>> = vec![None; places.len()];
    for stretch in parts {
        let wanted: Vec<_> = places.iter().map(|&at| stretch.ids(series[at])).collect();
        let mut place = 0;
        walk(view, CHUNK_HEADS_BETWEEN, &wanted, |row| {
            let head = rows::chunk_head(row, stretch.day)?;
            let id: i64 = row.get(0)?;
            while wanted.get(place).is_some_and(|wanted| wanted.1 < id) {
                place += 1;
            }
            let known = of_day[place].unwrap_or(Edge { first: i64::MAX, last: i64::MIN, last_day: stretch.day });
            of_day[place] = Some(Edge { first: known.first.min(head.key.first), last: known.last.max(head.last), ..known });
            Ok(true)
        })?;
    }
    places.iter().zip(of_day).for_each(|(&at, edge)| edge.into_iter().for_each(|edge| found(at, edge)));
    Ok(())
}

/// Visits the chunks of a series in a stretch, from the last one that begins before the place of `from` on, until `visit` says
/// `false`; says whether it came to the end.
fn of_series(
    view: &View<'_>,
    sql: &str,
    stretch: Stretch,
    series: SeriesId,
    from: i64,
    visit: &mut impl FnMut(&Row<'_>) -> Result<bool>,
) -> Result<bool> {
    let (least, greatest) = stretch.ids(series);
    let mut statement = view.conn.prepare_cached(sql)?;
    let mut rows = statement.query((least, keys::chunk_id(stretch.slot, series, from.min(DAY - 1)), greatest))?;
    while let Some(row) = rows.next()? {
        if !visit(row)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What is taken until it is full.
struct Page {
    found: Vec<(ChunkKey, StoredChunk)>,
    taken: u64,
    most: u64,
}

impl Page {
    /// Takes a chunk; `false` where it does not fit any more.
    fn take(&mut self, head: Head, bytes: &[u8]) -> bool {
        self.taken = self.taken.saturating_add(bytes.len() as u64);
        if !self.found.is_empty() && self.taken > self.most {
            return false;
        }
        self.found.push((head.key, StoredChunk { last: head.last, readings: head.readings, bytes: bytes.to_vec() }));
        true
    }
}

pub(super) fn chunks(
    view: &View<'_>,
    series: &[SeriesId],
    range: TimeRange,
    after: Option<ChunkKey>,
    max_bytes: usize,
) -> Result<Vec<(ChunkKey, StoredChunk)>> {
    let days = days(view.conn, range)?;
    let mut page = Page { found: Vec::new(), taken: 0, most: max_bytes as u64 };
    let begin = after.map_or(0, |after| series.partition_point(|&series| series < after.series));
    for &series in &series[begin..] {
        let after = after.filter(|after| after.series == series);
        let begin = after.map_or(0, |after| days.partition_point(|stretch| stretch.day < after.day()));
        for parts in days[begin..].chunk_by(|a, b| a.day == b.day) {
            view.check_deadline()?;
            let wanted = |head: &Head| range.touches(head.key.first, head.last) && after.is_none_or(|after| head.key.first > after.first);
            let more = match parts {
                [one] => of_part(view, *one, series, after, wanted, &mut page)?,
                parts => of_parts(view, parts, series, wanted, &mut page)?,
            };
            if !more {
                return Ok(page.found);
            }
        }
    }
    Ok(page.found)
}

/// Takes what is wanted of a day that has one part; says whether the page has room for more.
fn of_part(
    view: &View<'_>,
    stretch: Stretch,
    series: SeriesId,
    after: Option<ChunkKey>,
    wanted: impl Fn(&Head) -> bool,
    page: &mut Page,
) -> Result<bool> {
    // What was given before is not read again.
    let given = after.filter(|after| after.day() == stretch.day).map_or(0, |after| after.first.rem_euclid(DAY));
    of_series(view, CHUNKS, stretch, series, stretch.from.max(given), &mut |row| {
        let head = rows::chunk_head(row, stretch.day)?;
        Ok(!wanted(&head) || page.take(head, rows::bytes(row, 4)?))
    })
}

/// The same of a day that has several: their chunks are put in order before bytes are read.
fn of_parts(view: &View<'_>, parts: &[Stretch], series: SeriesId, wanted: impl Fn(&Head) -> bool, page: &mut Page) -> Result<bool> {
    let mut heads = Vec::new();
    for &stretch in parts {
        of_series(view, CHUNK_HEADS, stretch, series, stretch.from, &mut |row| {
            let head = rows::chunk_head(row, stretch.day)?;
            if wanted(&head) {
                heads.push((head.key.first, row.get::<_, i64>(0)?, head));
            }
            Ok(true)
        })?;
    }
    heads.sort_unstable_by_key(|&(first, ..)| first);
    let mut statement = view.conn.prepare_cached(CHUNK_BYTES)?;
    for (_, id, head) in heads {
        view.check_deadline()?;
        let mut rows = statement.query([id])?;
        if let Some(row) = rows.next()?
            && !page.take(head, rows::bytes(row, 0)?)
        {
            return Ok(false);
        }
    }
    Ok(true)
}
