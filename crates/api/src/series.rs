//! `GET /v1/series`: which series there are, their units, first and last times.
//!
//! Owns: the page, and the fold over blocks that finds the times. Does not know: how blocks and the edges of what is sealed are found.

use crate::Api;
use crate::answer::{Answer, Json, Out};
use crate::engine::{Room, by_shard, visit_runs};
use crate::failure::Result;
use crate::params::{Format, Page, Params, check_devices};
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use headwater_core::filter::SeriesFilter;
use headwater_core::series::Series;
use headwater_core::time::{TimeRange, Timestamp};
use headwater_web::Caller;

/// Memory of a row: the series, its times, and its text.
const BYTES_PER_ROW: usize = 1_536;
/// Bytes of a row's text beside its series and its unit.
const TEXT_PER_ROW: usize = 160;

/// A page of series, one more than asked for when there are more, with the first and last time of each that has readings.
struct Found {
    series: Vec<Series>,
    times: Vec<Option<(i64, i64)>>,
}

/// The handler.
pub(crate) async fn series(State(api): State<Api>, caller: Caller, RawQuery(raw): RawQuery, headers: HeaderMap) -> Result<Response> {
    let mut params = Params::decode("/v1/series", raw.as_deref());
    let filter = params.series(&caller);
    let page = params.page(&caller, api.config.default_limit);
    let after = page.after_series(&mut params);
    params.finish()?;
    check_devices(&filter.devices, &caller.devices)?;
    let mut room = api.room().await?;
    let found = find(&api, &mut room, &filter, after, page.limit).await?;
    answer(found, &page).into_response(&headers, room).await
}

/// Asks the store; the snapshot is gone on return.
async fn find(
    api: &Api,
    room: &mut Room,
    filter: &SeriesFilter,
    after: Option<headwater_core::series::SeriesKey>,
    limit: usize,
) -> Result<Found> {
    room.hold(limit * BYTES_PER_ROW / 4).await?;
    let mut engine = api.engine(room).await?;
    let series = engine.slice(filter, after.as_ref(), limit + 1).await?;
    engine.hold(series.len() * BYTES_PER_ROW + api.config.block_bytes).await?;
    let mut times = vec![None; series.len()];
    for (shard, wanted) in by_shard(&series) {
        engine.price(shard, TimeRange::ALL).await?;
        for (place, first, last) in engine.edges(shard, &wanted).await? {
            times[wanted[place].index] = Some((first, last));
        }
        let mut at = None;
        loop {
            let blocks = engine.blocks(shard, TimeRange::ALL, &mut at).await?;
            if blocks.is_empty() {
                break;
            }
            for block in &blocks {
                visit_runs(block, &wanted, |place, run| {
                    let (first, last) = (block.times[run.start], block.times[run.end - 1]);
                    let known: &mut Option<(i64, i64)> = &mut times[wanted[place].index];
                    *known = Some(known.map_or((first, last), |(a, b)| (a.min(first), b.max(last))));
                });
            }
        }
    }
    Ok(Found { series, times })
}

fn answer(found: Found, page: &Page) -> Answer<impl Fn(Out<'_>) + Send + 'static> {
    let n_rows = found.series.len().min(page.limit);
    let last = found.series[..n_rows].last().filter(|_| found.series.len() > n_rows);
    let cursor = last.map(|last| page.cursor_after(None, None, last.key.as_str().to_owned(), None));
    let next = cursor.as_ref().map(|cursor| page.link_to(cursor));
    let id_bytes: usize = found.series.iter().map(|series| series.key.as_str().len() + series.unit.as_ref().map_or(0, String::len)).sum();
    let held_bytes = found.series.len() * (size_of::<Series>() + size_of::<Option<(i64, i64)>>()) + id_bytes;
    let text_bytes = 64 + found.series.len() * TEXT_PER_ROW + 2 * id_bytes;
    let write = move |out: Out<'_>| write(&found, n_rows, Json::on(out), cursor.as_deref());
    Answer { write, format: Format::Json, n_rows, held_bytes, text_bytes, next }
}

fn write(found: &Found, n_rows: usize, mut json: Json<'_>, next: Option<&str>) {
    json.open(b'{');
    json.name("rows");
    json.open(b'[');
    for (series, times) in found.series.iter().zip(&found.times).take(n_rows) {
        let parts = series.key.parts();
        json.open(b'{');
        json.member("device", parts.device);
        json.member("metric", parts.metric);
        json.tags(parts.tags().map(|(name, value)| (name, Some(value))));
        json.member("unit", &series.unit);
        json.time_or_null("first_time", times.map(|(first, _)| Timestamp(first)));
        json.time_or_null("last_time", times.map(|(_, last)| Timestamp(last)));
        json.close(b'}');
    }
    json.end_of_rows(next);
}

#[cfg(test)]
mod tests;
