//! `GET /v1/latest`: the newest reading of each series.
//!
//! Owns: the search backwards in time and the page. Does not know: how blocks and chunks are found.
//! Invariants: of a key that came several times the first value counts, as everywhere, so a sealed reading before an open one of its time; a
//! chunk is read only where nothing open is newer than its last reading.

use crate::Api;
use crate::answer::{Answer, Json, Out};
use crate::engine::{Engine, Room, Wanted, by_shard, last_value, off_the_workers, visit_runs};
use crate::failure::{self, Result};
use crate::params::{Format, Page, Params, check_devices};
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use headwater_core::filter::SeriesFilter;
use headwater_core::plan;
use headwater_core::seal::{ChunkKey, StoredChunk};
use headwater_core::series::{SeriesId, SeriesKey, Shard};
use headwater_core::store::StoreError;
use headwater_core::time::{HOUR, TimeRange, Timestamp};
use headwater_web::Caller;

/// Memory of a row: its series, and its text.
const BYTES_PER_ROW: usize = 1_536;
/// Bytes of a row's text beside its series.
const TEXT_PER_ROW: usize = 112;
/// At least so many series are looked at together, and at most. (Tests walk several slices with a few series.)
const SMALLEST_SLICE: usize = if cfg!(test) { 2 } else { 256 };
const LARGEST_SLICE: usize = 32_768;

/// Finding the last reading of a chunk is about the work that decoding so many readings is.
const READINGS_PER_CHUNK: usize = 256;

/// The newest reading of a series.
type Newest = (SeriesKey, i64, f64);

/// The newest reading as far as it is known.
#[derive(Debug, Clone, Copy)]
struct Known {
    time: i64,
    /// None while it is in a chunk that was not read.
    value: Option<f64>,
}

/// The handler.
pub(crate) async fn latest(State(api): State<Api>, caller: Caller, RawQuery(raw): RawQuery, headers: HeaderMap) -> Result<Response> {
    let mut params = Params::decode("/v1/latest", raw.as_deref());
    let filter = params.series(&caller);
    let page = params.page(&caller, api.config.default_limit);
    let after = page.after_series(&mut params);
    params.finish()?;
    check_devices(&filter.devices, &caller.devices)?;
    let mut room = api.room().await?;
    let rows = find(&api, &mut room, &filter, after, page.limit).await?;
    answer(rows, &page).into_response(&headers, room).await
}

/// The rows of a page, and at least one more when there are more. The snapshot is gone on return.
async fn find(api: &Api, room: &mut Room, filter: &SeriesFilter, mut after: Option<SeriesKey>, limit: usize) -> Result<Vec<Newest>> {
    let mut engine = api.engine(room).await?;
    let mut rows: Vec<Newest> = Vec::new();
    let mut size = SMALLEST_SLICE / 2;
    while rows.len() <= limit {
        size = (limit + 1 - rows.len()).max(size * 2).min(LARGEST_SLICE);
        engine.hold((rows.len() + size) * BYTES_PER_ROW + api.config.block_bytes).await?;
        let slice = engine.slice(filter, after.as_ref(), size).await?;
        let Some(last) = slice.last() else { break };
        after = Some(last.key.clone());
        let mut newest = vec![None; slice.len()];
        for (shard, wanted) in by_shard(&slice) {
            for (place, _, last) in engine.edges(shard, &wanted).await? {
                newest[wanted[place].index] = Some(Known { time: last, value: None });
            }
            search(&mut engine, shard, wanted.clone(), &mut newest).await?;
            read_chunks(&mut engine, shard, &wanted, &mut newest).await?;
        }
        let found = slice.into_iter().zip(newest).filter_map(|(series, newest)| {
            let Known { time, value } = newest?;
            Some((series.key, time, value?))
        });
        rows.extend(found);
    }
    Ok(rows)
}

/// Finds the newest open reading of every wanted series of a shard, if it is newer than what is known, in ever longer spans of time before the
/// shard's last: most series sent something lately, and only the blocks of the rest are read.
async fn search(engine: &mut Engine<'_>, shard: Shard, mut wanted: Vec<Wanted>, newest: &mut [Option<Known>]) -> Result<()> {
    let stats = engine.snapshot.block_stats(shard, TimeRange::ALL).await.map_err(failure::of_store)?;
    let Some(earliest) = stats.iter().map(|(_, stats)| stats.min_time).min() else { return Ok(()) };
    let mut end = stats.iter().map(|(_, stats)| stats.max_time).max().unwrap_or(earliest).saturating_add(1);
    let mut span = HOUR;
    wanted.retain(|wanted| newest[wanted.index].is_none_or(|known| known.time < end));
    while !wanted.is_empty() && earliest < end {
        let range = TimeRange::new(Timestamp(end.saturating_sub(span)), Timestamp(end));
        let touched = stats.iter().filter(|(_, stats)| range.touches(stats.min_time, stats.max_time));
        engine.spend(touched.map(|(_, stats)| stats.readings).sum())?;
        look(engine, shard, range, &wanted, newest).await?;
        wanted.retain(|wanted| newest[wanted.index].is_none_or(|known| known.time < range.from.0));
        (end, span) = (range.from.0, span.saturating_mul(4));
    }
    Ok(())
}

/// Looks for newer readings within `range`.
async fn look(engine: &mut Engine<'_>, shard: Shard, range: TimeRange, wanted: &[Wanted], newest: &mut [Option<Known>]) -> Result<()> {
    let mut at = None;
    loop {
        let blocks = engine.blocks(shard, range, &mut at).await?;
        if blocks.is_empty() {
            return Ok(());
        }
        for block in &blocks {
            visit_runs(block, wanted, |place, run| {
                let times = &block.times[run.clone()];
                let inside = times.partition_point(|&time| time < range.to.0);
                let Some(&time) = times[..inside].last().filter(|&&time| time >= range.from.0) else { return };
                // The first of the readings with this time.
                let value = block.values[run.start + times.partition_point(|&earlier| earlier < time)];
                let known = &mut newest[wanted[place].index];
                if known.is_none_or(|known| time > known.time) {
                    *known = Some(Known { time, value: Some(value) });
                }
            });
        }
    }
}

/// Reads the values of the newest readings that are sealed.
async fn read_chunks(engine: &mut Engine<'_>, shard: Shard, wanted: &[Wanted], newest: &mut [Option<Known>]) -> Result<()> {
    let need = |(place, wanted)| unread_time(newest, wanted).map(|time| (place, TimeRange::new(Timestamp(time), Timestamp(time).plus(1))));
    for walk in plan::walks(wanted.iter().enumerate().filter_map(need).collect()) {
        let ids: Vec<SeriesId> = walk.series().iter().map(|&place| wanted[place].id).collect();
        let mut after = None;
        loop {
            let page = engine.chunks(shard, &ids, walk.range, &mut after, engine.limits.block_bytes).await?;
            if page.is_empty() {
                break;
            }
            let place = |id: SeriesId| wanted.binary_search_by_key(&id, |wanted| wanted.id).ok();
            let is_last =
                |(place, _, chunk): &(usize, _, StoredChunk)| walk.needs_of(*place).iter().any(|(_, need)| need.contains(chunk.last));
            let picked: Vec<_> =
                page.into_iter().filter_map(|(key, chunk)| Some((place(key.series)?, key, chunk))).filter(is_last).collect();
            engine.spend(picked.iter().map(|(_, _, chunk)| chunk.readings).sum())?;
            let work = picked.len() * READINGS_PER_CHUNK;
            let values = off_the_workers(work, move || last_values(&picked)).await?;
            for (place, value) in values.map_err(failure::of_store)? {
                if let Some(known) = &mut newest[wanted[place].index] {
                    known.value = Some(value);
                }
            }
        }
    }
    if let Some(lost) = wanted.iter().find(|wanted| unread_time(newest, wanted).is_some()) {
        return Err(failure::of_store(StoreError::Corrupt(format!("the last chunk of series {} is missing", lost.id.0))));
    }
    Ok(())
}

/// When the newest reading of a series is, while its value is not known.
fn unread_time(newest: &[Option<Known>], wanted: &Wanted) -> Option<i64> {
    newest[wanted.index].filter(|known| known.value.is_none()).map(|known| known.time)
}

/// The values of the last readings of chunks.
fn last_values(picked: &[(usize, ChunkKey, StoredChunk)]) -> std::result::Result<Vec<(usize, f64)>, StoreError> {
    picked.iter().map(|(place, key, stored)| Ok((*place, last_value(*key, stored)?))).collect()
}

fn answer(rows: Vec<Newest>, page: &Page) -> Answer<impl Fn(Out<'_>) + Send + 'static> {
    let n_rows = rows.len().min(page.limit);
    let last = rows[..n_rows].last().filter(|_| rows.len() > n_rows);
    let cursor = last.map(|(key, ..)| page.cursor_after(None, None, key.as_str().to_owned(), None));
    let next = cursor.as_ref().map(|cursor| page.link_to(cursor));
    let key_bytes: usize = rows.iter().map(|(key, ..)| key.as_str().len()).sum();
    let (held_bytes, text_bytes) = (rows.len() * size_of::<Newest>() + key_bytes, 64 + rows.len() * TEXT_PER_ROW + 2 * key_bytes);
    let write = move |out: Out<'_>| write(&rows[..n_rows], Json::on(out), cursor.as_deref());
    Answer { write, format: Format::Json, n_rows, held_bytes, text_bytes, next }
}

fn write(rows: &[Newest], mut json: Json<'_>, next: Option<&str>) {
    json.open(b'{');
    json.name("rows");
    json.open(b'[');
    for (key, time, value) in rows {
        let parts = key.parts();
        json.open(b'{');
        json.time("time", Timestamp(*time));
        json.member("device", parts.device);
        json.member("metric", parts.metric);
        json.tags(parts.tags().map(|(name, value)| (name, Some(value))));
        json.member("value", value);
        json.close(b'}');
    }
    json.end_of_rows(next);
}

#[cfg(test)]
mod tests;
