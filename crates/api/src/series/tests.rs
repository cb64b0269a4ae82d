//! What `series` promises, through the router or by its functions.

use crate::testing::{Stack, at, reading};
use headwater_contract::builders::{NO_LIMITS, new_series};
use headwater_core::store::Ingestion;
use serde_json::json;

#[tokio::test]
async fn series_come_with_unit_and_times_and_without_where_nothing_was_committed() {
    let stack = Stack::new();
    stack.commit(&[reading("a", "m").tag("x", "1").unit("Cel").at(at(-90)), reading("a", "m").tag("x", "1").at(at(-9))]).await;
    stack.store.register(vec![new_series("b", "m")], NO_LIMITS).await.unwrap();
    let expected = [
        json!({"device": "a", "metric": "m", "tags": {"x": "1"}, "unit": "Cel", "first_time": "2025-11-23T14:58:30Z", "last_time": "2025-11-23T14:59:51Z"}),
        json!({"device": "b", "metric": "m", "tags": {}, "unit": null, "first_time": null, "last_time": null}),
    ];
    assert_eq!(stack.get("/v1/series").await.ok().rows(), expected);
    assert_eq!(stack.get("/v1/latest").await.ok().rows().len(), 1, "a series without readings has no latest one");
    assert_eq!(stack.get("/v1/stats?fill=null").await.ok().rows().len(), 1);
}
