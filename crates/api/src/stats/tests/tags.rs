//! Entity tags of every list, through the router: equal exactly where the answers are, sealed or not.

use crate::testing::{Got, Reading, Stack, at, reading};
use axum::http::{StatusCode, header};
use proptest::prelude::*;

const QUESTIONS: [&str; 9] = [
    "/v1/stats?step=20s",
    "/v1/stats?step=20s&format=csv&stats=count,first,stddev,p50",
    "/v1/stats?step=20s&format=csv&limit=1",
    "/v1/stats?group_by=tag.x&fill=null&step=30m",
    "/v1/readings?",
    "/v1/readings?format=csv",
    "/v1/readings?format=csv&limit=2",
    "/v1/latest?limit=2",
    "/v1/series?",
];

/// Few series, times and values: two states often answer alike.
fn some_readings() -> impl Strategy<Value = Vec<Reading>> {
    let tag = prop::option::of(prop::sample::select(vec!["1", "=1"]).prop_map(|value| ("x", value)));
    let one =
        (prop::sample::select(vec!["a", "-b"]), tag, 1i64..4, 0i32..2, any::<bool>()).prop_map(|(device, tag, second, value, has_unit)| {
            let base = reading(device, "m").at(at(-20 * second)).value(f64::from(value) / 2.0);
            let base = if has_unit { base.unit("Cel") } else { base };
            tag.into_iter().fold(base, |reading, (name, value)| reading.tag(name, value))
        });
    prop::collection::vec(one, 0..5)
}

/// What a client that keeps the answer keeps.
fn kept(got: &Got) -> (Vec<u8>, Option<header::HeaderValue>) {
    (got.bytes.clone(), got.headers.get(header::LINK).cloned())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn two_states_have_one_tag_exactly_where_they_have_one_answer(mut readings in some_readings(), more in some_readings(), apart in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (one, other) = (Stack::new(), Stack::new());
            one.commit(&readings).await;
            if apart {
                readings = more;
            } else {
                // The same in more batches, and a little more; sealed.
                readings.extend(more.into_iter().take(1));
            }
            for reading in &readings {
                other.commit(std::slice::from_ref(reading)).await;
            }
            other.seal().await;
            for question in QUESTIONS {
                let (a, b) = (one.get(question).await.ok(), other.get(question).await.ok());
                let is_known = other.get_with(question, &[(header::IF_NONE_MATCH, a.header(header::ETAG))]).await.status == StatusCode::NOT_MODIFIED;
                let says = (a.header(header::ETAG) == b.header(header::ETAG), is_known);
                prop_assert_eq!(says, (kept(&a) == kept(&b), kept(&a) == kept(&b)), "{}: {} and {}", question, a.text(), b.text());
            }
            Ok(())
        })?;
    }
}
