//! `GET /v1/logging` and `PUT /v1/logging`: which messages the process writes, changed while it runs.
//!
//! Owns: the route, and going back by itself after the time that was asked for. Does not know: how a filter is written or set
//! ([`Switch`] does).
//! Invariant: what was configured is in force again after a restart, and after the time that a change was asked for.

use crate::body::read_body;
use crate::budget::Budget;
use crate::caller::Caller;
use crate::error::Error;
use crate::face::Face;
use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A filter has some ten words.
const MOST_BYTES: usize = 8 * 1024;
const BUDGET_BYTES: usize = 1 << 20;
const WAIT: Duration = Duration::from_secs(1);
/// Longer than this is what the configuration is for.
const LONGEST: Duration = Duration::from_hours(24);

/// Sets the filter of the process's messages.
pub trait Switch: Send + Sync {
    /// Puts a filter in force.
    ///
    /// # Errors
    /// It cannot be read; in words for whoever wrote it. Nothing has changed then.
    fn set(&self, filter: &str) -> Result<(), String>;
}

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    filter: String,
    #[serde(rename = "for", default, with = "optional")]
    time: Option<Duration>,
}

mod optional {
    use serde::{Deserialize, Deserializer, de::Error};
    use std::time::Duration;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| crate::duration::parse(&text).map_err(D::Error::custom)).transpose()
    }
}

/// What is in force.
#[derive(Debug, Serialize)]
struct Told {
    /// The filter.
    filter: String,
    /// What it is after a restart.
    configured: String,
    /// For how many more seconds, where it goes back by itself.
    #[serde(rename = "for_s")]
    seconds: Option<u64>,
}

struct Desk {
    switch: Arc<dyn Switch>,
    configured: String,
    budget: Arc<Budget>,
    state: Mutex<InForce>,
}

struct InForce {
    filter: String,
    until: Option<Instant>,
    /// Which change it was: an earlier one does not take a later one back.
    change: u64,
}

/// The face of the process itself. `configured` is the filter that it began with.
pub fn face(switch: Arc<dyn Switch>, configured: String) -> Face {
    let state = Mutex::new(InForce { filter: configured.clone(), until: None, change: 0 });
    let desk = Arc::new(Desk { switch, configured, budget: Budget::new(BUDGET_BYTES, "settings"), state });
    Face { role: "process", router: Router::new().route("/v1/logging", get(show).put(change)).with_state(desk), probes: vec![] }
}

async fn show(State(desk): State<Arc<Desk>>) -> Json<Told> {
    Json(desk.told())
}

async fn change(State(desk): State<Arc<Desk>>, caller: Caller, body: Body) -> Result<Json<Told>, Error> {
    let mut reservation = desk.budget.reserve(MOST_BYTES, WAIT).await?;
    let body = read_body(body, MOST_BYTES, &mut reservation).await?;
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|why| {
        let detail = r#"the body must be {"filter": "info,headwater_ingest=debug", "for": "10m"}; `for` may be left out"#;
        Error::bad_request("malformed", format!("{detail}: {why}"))
    })?;
    if wanted.time.is_some_and(|time| time.is_zero() || time > LONGEST) {
        return Err(Error::bad_request("malformed", "`for` must be more than 0s and at most 24h").pointer("/for", "out of range"));
    }
    desk.set(&wanted.filter, wanted.time).map_err(|why| {
        let detail = format!("the filter cannot be read: {why}");
        Error::bad_request("malformed", detail.clone()).pointer("/filter", detail)
    })?;
    tracing::info!(subject = caller.subject, filter = wanted.filter, "changed which messages are written");
    if let Some(until) = wanted.time.map(|time| Instant::now() + time) {
        desk.go_back_at(until);
    }
    Ok(Json(desk.told()))
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, InForce> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> Told {
        let state = self.state();
        let seconds = state.until.map(|until| until.saturating_duration_since(Instant::now()).as_secs());
        Told { filter: state.filter.clone(), configured: self.configured.clone(), seconds }
    }

    fn set(&self, filter: &str, time: Option<Duration>) -> Result<(), String> {
        let mut state = self.state();
        self.switch.set(filter)?;
        filter.clone_into(&mut state.filter);
        state.until = time.map(|time| Instant::now() + time);
        state.change += 1;
        Ok(())
    }

    /// Puts what was configured in force again at `until`, unless there is another change before.
    fn go_back_at(self: &Arc<Self>, until: Instant) {
        let (desk, change) = (Arc::clone(self), self.state().change);
        // Nobody waits for it: at the end of the process it goes with the runtime.
        drop(tokio::spawn(async move {
            sleep_until(until).await;
            if desk.state().change != change {
                return;
            }
            match desk.set(&desk.configured, None) {
                Ok(()) => tracing::info!(filter = desk.configured, "wrote other messages for a while; back to the configured ones"),
                Err(why) => tracing::error!(why, "cannot go back to the configured filter of messages"),
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scope, Scopes};
    use axum::extract::Request;
    use headwater_core::glob::DevicePatterns;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};
    use tower::ServiceExt;

    /// Takes filters that begin with a letter.
    #[derive(Default)]
    struct Noted(Mutex<Vec<String>>);

    impl Switch for Noted {
        fn set(&self, filter: &str) -> Result<(), String> {
            if !filter.starts_with(char::is_alphabetic) {
                return Err("it does not begin with a letter".to_owned());
            }
            self.0.lock().unwrap().push(filter.to_owned());
            Ok(())
        }
    }

    async fn ask(router: &Router, method: &str, body: &str) -> (u16, Value) {
        let caller = Caller { subject: "tester".to_owned(), scopes: Scopes::from(Scope::Admin), devices: DevicePatterns::All };
        let request = Request::builder().method(method).uri("/v1/logging").extension(caller).body(Body::from(body.to_owned())).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_filter_is_in_force_for_as_long_as_was_asked() {
        let noted = Arc::new(Noted::default());
        let router = face(Arc::clone(&noted) as _, "info".to_owned()).router;
        let told = |filter: &str, seconds: Value| json!({ "filter": filter, "configured": "info", "for_s": seconds });
        assert_eq!(ask(&router, "GET", "").await, (200, told("info", Value::Null)));
        assert_eq!(ask(&router, "PUT", r#"{"filter": "debug", "for": "10m"}"#).await, (200, told("debug", json!(600))));
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(ask(&router, "GET", "").await.1["for_s"], 300);
        tokio::time::sleep(Duration::from_secs(301)).await;
        assert_eq!(ask(&router, "GET", "").await, (200, told("info", Value::Null)));
        // A later change without an end is not taken back by the end of an earlier one.
        assert_eq!(ask(&router, "PUT", r#"{"filter": "debug", "for": "10m"}"#).await.0, 200);
        assert_eq!(ask(&router, "PUT", r#"{"filter": "warn"}"#).await.0, 200);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(ask(&router, "GET", "").await, (200, told("warn", Value::Null)));
        assert_eq!(*noted.0.lock().unwrap(), ["debug", "info", "debug", "warn"]);
    }

    #[tokio::test]
    async fn what_cannot_be_read_changes_nothing() {
        let noted = Arc::new(Noted::default());
        let router = face(Arc::clone(&noted) as _, "info".to_owned()).router;
        for body in ["", "x", "{}", r#"{"filter": 1}"#, r#"{"filter": "debug", "level": 1}"#, r#"{"filter": "debug", "for": "0s"}"#] {
            assert_eq!(ask(&router, "PUT", body).await.0, 400, "{body}");
        }
        assert_eq!(ask(&router, "PUT", r#"{"filter": "debug", "for": "25h"}"#).await.1["errors"][0]["pointer"], "/for");
        assert_eq!(ask(&router, "PUT", r#"{"filter": "=x"}"#).await.1["errors"][0]["pointer"], "/filter");
        assert_eq!(ask(&router, "PUT", &" ".repeat(10_000)).await.0, 413);
        assert!(noted.0.lock().unwrap().is_empty());
    }
}
