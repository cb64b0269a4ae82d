//! `POST /v1/seal`: seals everything now.
//!
//! Owns: the handler, one request at a time, its words. Does not know: how sealing works; who may ask (the kit in `web` checks that).

use crate::everything::{End, Everything, Limit};
use crate::work::Sealer;
use crate::{Config, Deps};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use headwater_core::seal::Outcomes;
use headwater_core::series::Shard;
use headwater_web::{Error, Face};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// When to come back after an answer that came too early, in seconds: the work goes on where it was.
const RETRY_AFTER_S: u32 = 1;

struct Door {
    sealer: Sealer,
    /// Requests come one after the other: more of them would only share the same work.
    one: Semaphore,
    timeout: Duration,
    stop: CancellationToken,
}

/// What a request did.
#[derive(Debug, Serialize)]
struct Answer {
    stored: u64,
    duplicate: u64,
    conflict: u64,
    unsealed: u64,
}

/// The role's route. After `stop` is cancelled it answers 503.
pub fn face(config: &Config, deps: Deps, stop: CancellationToken) -> Face {
    let door = Door { sealer: Sealer::new(deps, config.budget()), one: Semaphore::new(1), timeout: config.seal_timeout, stop };
    Face { role: "rollup", router: Router::new().route("/v1/seal", post(seal)).with_state(Arc::new(door)), probes: Vec::new() }
}

async fn seal(State(door): State<Arc<Door>>) -> Result<Json<Answer>, Error> {
    let limit = Limit { deadline: Instant::now() + door.timeout, stop: door.stop.clone() };
    let mut everything = Everything::default();
    let Some(_one) = limit.within(door.one.acquire()).await else { return Err(unfinished(&door, everything.outcomes)) };
    let end = everything.seal(&door.sealer, &limit).await.map_err(Error::internal)?;
    let Outcomes { stored, duplicate, conflict } = everything.outcomes;
    match end {
        End::Unfinished => Err(unfinished(&door, everything.outcomes)),
        End::Sealed(_) if !everything.damaged.is_empty() => Err(damaged(&everything.damaged, everything.outcomes)),
        End::Sealed(unsealed) => {
            info!(stored, duplicate, conflict, unsealed, "sealed everything that was open");
            Ok(Json(Answer { stored, duplicate, conflict, unsealed }))
        }
    }
}

fn unfinished(door: &Door, outcomes: Outcomes) -> Error {
    if door.stop.is_cancelled() {
        return counted(Error::busy("stopping", "the server is stopping; what is left is sealed later", RETRY_AFTER_S), outcomes);
    }
    let detail = format!("not everything could be sealed within {} s; ask again to go on", door.timeout.as_secs());
    counted(Error::busy("seal_unfinished", detail, RETRY_AFTER_S), outcomes)
}

fn damaged(shards: &[Shard], outcomes: Outcomes) -> Error {
    let names: Vec<String> = shards.iter().map(|shard| shard.0.to_string()).collect();
    let detail = format!("stored bytes of the shards {} are damaged (the log says where); everything else is sealed", names.join(", "));
    counted(Error::new(StatusCode::INTERNAL_SERVER_ERROR, "damaged", detail), outcomes)
}

/// With what was settled all the same.
fn counted(error: Error, Outcomes { stored, duplicate, conflict }: Outcomes) -> Error {
    error.member("stored", stored).member("duplicate", duplicate).member("conflict", conflict)
}
