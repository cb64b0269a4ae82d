//! `GET /v1/status`: the counts of everything applied, and how far behind the log that is.
//!
//! Owns: the arithmetic of `in_flight`, `applied_to` and `lag_seconds`. Does not know: which log, which store.
//! Invariant: the log's bounds are read before the store's snapshot, so `in_flight` 0 means that every record acknowledged
//! before the request is applied.

use crate::Api;
use crate::answer::{Json, Out};
use crate::failure::{self, Result};
use crate::params::Params;
use axum::extract::{RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use headwater_core::log::{Bounds, EventLog, LogError, LogId, Position};
use headwater_core::store::Totals;
use headwater_core::time::{SECOND, Timestamp};
use headwater_web::Caller;

/// A partition of the log: what is applied and what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    partition: u32,
    next: u64,
    end: u64,
}

impl Progress {
    pub(crate) const fn in_flight(self) -> u64 {
        self.end.saturating_sub(self.next)
    }
}

/// The handler.
pub(crate) async fn status(State(api): State<Api>, _: Caller, RawQuery(raw): RawQuery) -> Result<Response> {
    Params::decode("/v1/status", raw.as_deref()).finish()?;
    let now = api.clock.now();
    let bounds = api.log.bounds().await.map_err(failure::of_log)?;
    let totals = api.snapshot().await?.totals().await.map_err(failure::of_store)?;
    let log = api.log.identity();
    let progress = progress(&log, &bounds, &totals.positions);
    let applied_to = applied_to(api.log.as_ref(), &progress, now).await.map_err(failure::of_log)?;
    let bytes = write(&api, &log, &totals, &progress, now, applied_to);
    Ok(([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], bytes).into_response())
}

/// Positions of another log say nothing about this one. Records that the log no longer has are in flight no more.
pub(crate) fn progress(log: &LogId, bounds: &[Bounds], positions: &[Position]) -> Vec<Progress> {
    let next = |bounds: &Bounds| {
        let stored = positions.iter().find(|position| position.log == *log && position.partition == bounds.partition);
        stored.map_or(bounds.start, |position| position.next.max(bounds.start))
    };
    bounds.iter().map(|bounds| Progress { partition: bounds.partition, next: next(bounds), end: bounds.end }).collect()
}

/// Everything received before this time is applied.
pub(crate) async fn applied_to(log: &dyn EventLog, progress: &[Progress], now: Timestamp) -> std::result::Result<Timestamp, LogError> {
    let mut applied_to = now;
    for partition in progress.iter().filter(|partition| partition.in_flight() > 0) {
        let oldest = log.oldest_from(partition.partition, partition.next).await?;
        applied_to = oldest.map_or(applied_to, |oldest| applied_to.min(oldest));
    }
    Ok(applied_to)
}

fn write(api: &Api, log: &LogId, totals: &Totals, progress: &[Progress], now: Timestamp, applied_to: Timestamp) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut json = Json::on(Out::Text(&mut bytes));
    json.open(b'{');
    json.member("version", &*api.version);
    json.member("roles", &*api.roles);
    json.member("durability", api.log.durability());
    let counts = [
        ("received", totals.received),
        ("stored", totals.stored),
        ("duplicate", totals.duplicate),
        ("conflict", totals.conflict),
        ("dead", totals.dead),
        ("unsealed", totals.unsealed),
        ("in_flight", progress.iter().map(|partition| partition.in_flight()).sum()),
    ];
    counts.iter().for_each(|(name, count)| json.member(name, count));
    json.time("applied_to", applied_to);
    json.member("lag_seconds", &(now.0.saturating_sub(applied_to.0).max(0) as f64 / SECOND as f64));
    json.name("positions");
    json.open(b'[');
    for partition in progress {
        json.open(b'{');
        json.member("log", &log.0);
        json.member("partition", &partition.partition);
        json.member("next", &partition.next);
        json.member("end", &partition.end);
        json.close(b'}');
    }
    json.close(b']');
    json.name("waiting");
    json.open(b'[');
    for (part, reason) in api.health.conditions() {
        json.open(b'{');
        json.member("part", part);
        json.member("reason", &reason);
        json.close(b'}');
    }
    json.close(b']');
    json.name("dead_letters");
    json.open(b'{');
    json.member("kept", &totals.dead_letters);
    json.member("open", &totals.dead_letters_open);
    json.member("dropped", &totals.dead_letters_dropped);
    json.member("discarded", &totals.dead_letters_discarded);
    json.close(b'}');
    json.close(b'}');
    json.end();
    bytes
}

#[cfg(test)]
mod tests;
