//! What `stats` promises, through the router or by its functions.

mod oracle;
mod tags;

use crate::Config;
use crate::testing::{Reading, Stack, at, reading};
use axum::http::{StatusCode, header};
use headwater_contract::{FaultyStore, MemoryStore, StoreCall};
use headwater_core::store::StoreError;
use serde_json::{Value, json};
use std::sync::Arc;

/// `n` readings of a series, a second apart, the last a second before [`START`], with values 0.5, 1.5, ….
fn steady(device: &str, metric: &str, n: i64) -> Vec<Reading> {
    (0..n).map(|i| reading(device, metric).at(at(i - n)).value(i as f64 + 0.5)).collect()
}

fn small(gather_readings: usize, block_bytes: usize) -> Config {
    Config { gather_readings, block_bytes, ..Config::default() }
}

#[tokio::test]
async fn a_row_looks_as_promised() {
    let stack = Stack::new();
    stack.commit(&[reading("plant-a/press-7", "temperature").unit("Cel").at(at(-30)).value(21.5)]).await;
    stack.commit(&[reading("plant-a/press-7", "temperature").unit("Cel").at(at(-20)).value(23.0)]).await;
    let got = stack.get("/v1/stats?step=1m").await.ok();
    let expected = concat!(
        r#"{"from":"2025-11-23T14:00:00Z","to":"2025-11-23T15:00:00Z","step":"1m","rows":[{"time":"2025-11-23T14:59:00Z","#,
        r#""device":"plant-a/press-7","metric":"temperature","tags":{},"unit":"Cel","count":2,"avg":22.25,"min":21.5,"max":23.0,"#,
        r#""p50":21.5,"p95":23.0,"p99":23.0,"percentile_error":0.0}],"next_cursor":null}"#,
        "\n"
    );
    assert_eq!(got.text(), expected);
    assert_eq!(got.header(header::CONTENT_TYPE), "application/json");
    assert_eq!(got.header(header::CACHE_CONTROL), "private, no-cache");
    assert_eq!(got.header(header::VARY), "Authorization, Accept, Accept-Encoding");
}

#[tokio::test]
async fn statistics_come_in_the_order_asked_for() {
    let stack = Stack::new();
    stack.commit(&steady("d", "m", 3)).await;
    let text = stack.get("/v1/stats?stats=p99.9,last,count,sum,stddev,stddev_pop,range,first,count").await.ok().text();
    let wanted = r#""unit":null,"p99.9":2.5,"last":2.5,"count":3,"sum":4.5,"stddev":1.0,"stddev_pop":0.816496580927726,"range":2.0,"first":0.5,"percentile_error":0.0}"#;
    assert!(text.contains(wanted), "{text}");
    let text = stack.get("/v1/stats?stats=avg").await.ok().text();
    assert!(text.contains(r#""unit":null,"avg":1.5}"#), "{text}");
}

#[tokio::test]
async fn a_single_reading_has_no_sample_deviation_and_more_than_64_have_an_error_bound() {
    let stack = Stack::new();
    stack.commit(&steady("a", "m", 1)).await;
    stack.commit(&steady("b", "m", 64)).await;
    stack.commit(&steady("c", "m", 65)).await;
    let rows = stack.get("/v1/stats?stats=stddev,p50").await.ok().rows();
    assert_eq!(rows[0]["stddev"], Value::Null);
    let errors: Vec<_> = rows.iter().map(|row| row["percentile_error"].as_f64().unwrap()).collect();
    assert_eq!(errors, [0.0, 0.0, 0.01]);
    let p50 = rows[2]["p50"].as_f64().unwrap();
    assert!((p50 - 32.5).abs() <= 0.01 * 32.5);
}

#[tokio::test]
async fn a_first_bucket_may_start_before_the_range_but_holds_only_the_range() {
    let stack = Stack::new();
    stack.commit(&steady("d", "m", 120)).await;
    let rows = stack.get("/v1/stats?from=now-90s&to=now-10s&step=1m&stats=count").await.ok().rows();
    let seen: Vec<_> = rows.iter().map(|row| (row["time"].as_str().unwrap(), row["count"].as_u64().unwrap())).collect();
    assert_eq!(seen, [("2025-11-23T14:58:00Z", 30), ("2025-11-23T14:59:00Z", 50)]);
    let rows = stack.get("/v1/stats?from=now-90s&to=now-10s&stats=count").await.ok().rows();
    assert_eq!((&rows[0]["time"], &rows[0]["count"]), (&json!("2025-11-23T14:58:30Z"), &json!(80)));
}

#[tokio::test]
async fn grouping_pools_series_and_carries_its_labels() {
    let stack = Stack::new();
    let series = [
        reading("a", "t").tag("line", "1").unit("Cel"),
        reading("a", "t").tag("line", "2").unit("Cel"),
        reading("b", "t").unit("Cel"),
        reading("b", "h").tag("line", "1").unit("%"),
        reading("c", "t").tag("line", "1").unit("K"),
    ];
    stack.commit(&series.map(|reading| reading.at(at(-60)))).await;
    let rows = async |by: &str| {
        let rows = stack.get(&format!("/v1/stats?stats=count&group_by={by}")).await.ok().rows();
        rows.into_iter()
            .map(|mut row| {
                row.as_object_mut().unwrap().remove("time");
                row
            })
            .collect::<Vec<_>>()
    };
    let none = [json!({"metric": "h", "unit": "%", "count": 1}), json!({"metric": "t", "unit": null, "count": 4})];
    assert_eq!(rows("none").await, none);
    let by_device = [
        json!({"device": "a", "metric": "t", "unit": "Cel", "count": 2}),
        json!({"device": "b", "metric": "h", "unit": "%", "count": 1}),
        json!({"device": "b", "metric": "t", "unit": "Cel", "count": 1}),
        json!({"device": "c", "metric": "t", "unit": "K", "count": 1}),
    ];
    assert_eq!(rows("device").await, by_device);
    let by_line = [
        json!({"metric": "h", "tags": {"line": "1"}, "unit": "%", "count": 1}),
        json!({"metric": "t", "tags": {"line": null}, "unit": "Cel", "count": 1}),
        json!({"metric": "t", "tags": {"line": "1"}, "unit": null, "count": 2}),
        json!({"metric": "t", "tags": {"line": "2"}, "unit": "Cel", "count": 1}),
    ];
    assert_eq!(rows("tag.line").await, by_line);
    assert_eq!(rows("tag.line,device,tag.site").await.len(), 5);
    assert_eq!(rows("device,tag.site").await[0], json!({"device": "a", "metric": "t", "tags": {"site": null}, "unit": "Cel", "count": 2}));
}

#[tokio::test]
async fn a_unit_counts_where_its_series_has_readings_in_the_range() {
    let stack = Stack::new();
    stack.commit(&[reading("a", "t").unit("Cel").at(at(-60)), reading("b", "t").unit("K").at(at(-7200))]).await;
    let rows = stack.get("/v1/stats?group_by=none").await.ok().rows();
    assert_eq!(rows[0]["unit"], "Cel");
    for limit in [1, 2, 100] {
        let rows = stack.all_pages("/v1/stats?group_by=none&from=now-3h&step=1m", limit).await;
        assert!(rows.iter().all(|row| row["unit"].is_null()), "limit {limit}: {rows:?}");
    }
}

#[tokio::test]
async fn ties_of_pooled_series_are_settled_by_value() {
    let stack = Stack::new();
    stack.commit(&["a", "b", "c"].map(|device| reading(device, "t").at(at(-60)).value(f64::from(device.as_bytes()[0])))).await;
    let row = &stack.get("/v1/stats?group_by=none&stats=first,last").await.ok().rows()[0];
    assert_eq!((&row["first"], &row["last"]), (&json!(97.0), &json!(99.0)));
}

#[tokio::test]
async fn filling_shows_every_bucket_of_series_with_data_alone() {
    let stack = Stack::new();
    stack.commit(&[reading("a", "m").at(at(-150)), reading("b", "m").at(at(-9999))]).await;
    let rows = stack.get("/v1/stats?from=now-4m&step=1m&fill=null&stats=count,avg,p50").await.ok().rows();
    let counts: Vec<_> = rows.iter().map(|row| row["count"].as_u64().unwrap()).collect();
    assert_eq!(counts, [0, 1, 0, 0]);
    assert_eq!((&rows[0]["avg"], &rows[0]["p50"], &rows[0]["percentile_error"]), (&Value::Null, &Value::Null, &Value::Null));
    assert_eq!((&rows[0]["device"], &rows[0]["time"]), (&json!("a"), &json!("2025-11-23T14:56:00Z")));
    assert_eq!(stack.get("/v1/stats?from=now-4m&step=1m&fill=none").await.ok().rows().len(), 1);
}

#[tokio::test]
async fn csv_has_tags_as_columns_and_no_formulas() {
    let stack = Stack::new();
    let readings = [reading("=cmd|' /C calc'!A0", "m,\"x\"").tag("line", "@1").unit("-x"), reading("b", "m").tag("site", "s")];
    stack.commit(&readings.map(|reading| reading.at(at(-60)).value(1.5))).await;
    let got = stack.get("/v1/stats?format=csv&stats=count,avg,stddev,p50").await.ok();
    let expected = concat!(
        "time,device,metric,tag.line,tag.site,unit,count,avg,stddev,p50,percentile_error\r\n",
        "2025-11-23T14:00:00Z,'=cmd|' /C calc'!A0,\"m,\"\"x\"\"\",'@1,,'-x,1,1.5,,1.5,0.0\r\n",
        "2025-11-23T14:00:00Z,b,m,,s,,1,1.5,,1.5,0.0\r\n",
    );
    assert_eq!(got.text(), expected);
    assert_eq!(got.header(header::CONTENT_TYPE), "text/csv; charset=utf-8; header=present");
    let accepted = stack.get_with("/v1/stats?stats=count,avg,stddev,p50", &[(header::ACCEPT, "text/csv")]).await.ok();
    assert_eq!(accepted.text(), expected);
    let by_site = stack.get("/v1/stats?format=csv&stats=count&group_by=tag.site").await.ok().text();
    assert!(by_site.starts_with("time,metric,tag.site,unit,count\r\n2025-11-23T14:00:00Z,m,s,,1\r\n"), "{by_site}");
    let refused = stack.get_with("/v1/stats", &[(header::ACCEPT, "application/x-ndjson")]).await;
    assert_eq!(refused.problem(), (406, "not_acceptable".into(), vec![]));
}

#[tokio::test]
async fn an_unchanged_answer_is_not_sent_again_and_a_late_reading_changes_it() {
    let stack = Stack::new();
    stack.commit(&steady("d", "m", 100)).await;
    let uri = "/v1/stats?from=2025-11-23T14:00:00Z&to=2025-11-23T15:00:00Z";
    let first = stack.get(uri).await.ok();
    let tag = first.header(header::ETAG).to_owned();
    assert!(tag.starts_with('"') && tag.len() == 34);
    for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".into()] {
        let again = stack.get_with(uri, &[(header::IF_NONE_MATCH, &known)]).await;
        assert_eq!((again.status, again.bytes.len()), (StatusCode::NOT_MODIFIED, 0));
        assert_eq!((again.header(header::ETAG), again.header(header::CACHE_CONTROL)), (tag.as_str(), "private, no-cache"));
        assert_eq!(again.header(header::VARY), first.header(header::VARY));
    }
    stack.commit(&steady("d", "m", 100)).await;
    assert_eq!(stack.get(uri).await.ok().bytes, first.bytes, "repeats change nothing");
    stack.commit(&[reading("d", "m").at(at(-1800))]).await;
    let changed = stack.get_with(uri, &[(header::IF_NONE_MATCH, &tag)]).await.ok();
    assert_ne!(changed.header(header::ETAG), tag);
}

#[tokio::test]
async fn a_cursor_belongs_to_its_query_and_its_range() {
    let stack = Stack::new();
    stack.commit(&steady("d", "m", 100)).await;
    let first = stack.get("/v1/stats?step=10s&limit=4").await.ok().json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let link = stack.get("/v1/stats?step=10s&limit=4&tag.x=a%26b").await.ok();
    assert!(!link.headers.contains_key(header::LINK), "there is no next page");
    let link = stack.get("/v1/stats?step=10s&limit=4").await.ok().header(header::LINK).to_owned();
    assert_eq!(link, format!("</v1/stats?step=10s&limit=4&cursor={cursor}>; rel=\"next\""));
    stack.clock.set(at(3600));
    let second = stack.get(&format!("/v1/stats?limit=2&step=10s&cursor={cursor}")).await.ok().json();
    assert_eq!((&second["from"], &second["to"]), (&first["from"], &first["to"]), "the range is that of the first page");
    assert_eq!(second["rows"][0]["time"], "2025-11-23T14:59:00Z");
    for (query, is_same) in [
        ("step=10s&from=2025-11-23T14:00:00Z&to=2025-11-23T15:00:00Z", true),
        ("step=10s&format=csv", true),
        ("step=10s&from=now-1h", false),
        ("step=20s", false),
        ("step=10s&device=d", false),
        ("step=10s&group_by=none", false),
        ("", false),
    ] {
        let got = stack.get(&format!("/v1/stats?{query}&cursor={cursor}")).await;
        assert_eq!(got.status == StatusCode::OK, is_same, "{query}: {}", got.text());
        assert!(is_same || got.problem() == (400, "invalid_parameter".into(), vec!["cursor".into()]));
    }
    let narrowed = stack.get_as(&["d"], &format!("/v1/stats?step=10s&cursor={cursor}")).await;
    assert_eq!(narrowed.status, StatusCode::BAD_REQUEST, "a cursor is for the eyes that it was made for");
    let relative = stack.get("/v1/stats?step=10s&limit=4&from=now-2h&to=now").await.ok().json();
    let cursor = relative["next_cursor"].as_str().unwrap();
    stack.clock.set(at(7200));
    let next = stack.get(&format!("/v1/stats?step=10s&from=now-2h&to=now&cursor={cursor}")).await.ok().json();
    assert_eq!(next["from"], relative["from"], "the same words mean the same range on the next page");
}

#[tokio::test]
async fn a_query_that_looks_at_too_much_is_refused_with_its_limit() {
    let stack = Stack::with(Config { max_readings: 99, ..Config::default() });
    stack.commit(&steady("d", "m", 99)).await;
    stack.get("/v1/stats").await.ok();
    stack.commit(&[reading("d", "m").at(at(-1))]).await;
    for route in ["stats", "readings", "latest", "series"] {
        let got = stack.get(&format!("/v1/{route}")).await;
        assert_eq!(got.problem(), (422, "query_too_expensive".into(), vec![]), "{route}");
        let problem = got.json();
        assert_eq!((&problem["limit"], &problem["allowed"], &problem["asked"]), (&json!("max_readings"), &json!(99), &json!(100)));
        assert!(problem["detail"].as_str().unwrap().contains("max_readings"));
    }
}

#[tokio::test]
async fn the_width_of_a_range_costs_nothing() {
    let stack = Stack::with(Config { max_readings: 10, max_rows: 1000, ..Config::default() });
    stack.commit(&steady("d", "m", 10)).await;
    let ten_years = "from=2016-01-01T00:00:00Z&to=2026-01-01T00:00:00Z&stats=count";
    assert_eq!(stack.get(&format!("/v1/stats?{ten_years}")).await.ok().rows()[0]["count"], 10);
    assert_eq!(stack.get(&format!("/v1/stats?{ten_years}&step=1s")).await.ok().rows().len(), 10);
    let filled = stack.get(&format!("/v1/stats?{ten_years}&step=1s&fill=null")).await;
    assert_eq!(filled.problem(), (422, "query_too_expensive".into(), vec![]));
    assert_eq!(filled.json()["limit"], "max_rows");
    assert_eq!(stack.get(&format!("/v1/stats?{ten_years}&step=1s&fill=null&device=nobody")).await.ok().rows().len(), 0);
    assert_eq!(stack.get(&format!("/v1/stats?{ten_years}&step=10d&fill=null")).await.ok().rows().len(), 366);
}

#[tokio::test]
async fn more_readings_than_fit_are_taken_in_parts_with_the_same_bytes() {
    let store = MemoryStore::new();
    let whole = Stack::on(store.clone(), Config::default(), 64 << 20);
    // Late and repeated readings in later batches, many series at one instant, one series with far more than the limit.
    whole.commit(&steady("long", "m", 500)).await;
    whole.commit(&(0..100).map(|i| reading(&format!("d{i}"), "m").at(at(-60)).value(f64::from(i))).collect::<Vec<_>>()).await;
    whole.commit(&(0..200).map(|i| reading("long", "m").at(at(-i * 3 - 1)).value(-1.0)).collect::<Vec<_>>()).await;
    whole.commit(&steady("long", "m", 600)).await;
    for uri in [
        "/v1/stats?",
        "/v1/stats?step=7s",
        "/v1/stats?step=1m&group_by=none",
        "/v1/stats?step=5m&fill=null&limit=100000",
        "/v1/readings?limit=5000",
        "/v1/latest?",
    ] {
        let expected = whole.get(uri).await.ok().bytes;
        for (gather, block) in [(5, 1), (100, 1 << 16), (700, 500)] {
            let parts = Stack::on(store.clone(), small(gather, block), 64 << 20);
            assert!(parts.get(uri).await.ok().bytes == expected, "{uri} with {gather} readings and {block} bytes");
        }
    }
}

#[tokio::test]
async fn long_work_leaves_the_workers_and_gives_the_memory_back() {
    let stack = Stack::new();
    stack.commit(&steady("d", "m", 30_000)).await;
    let free = stack.budget.free_bytes();
    let rows = stack.get("/v1/stats?from=now-1d&step=1s&limit=20000&stats=count").await.ok().rows();
    assert_eq!(rows.len(), 20_000);
    assert_eq!(stack.get("/v1/stats?from=now-1d&stats=count").await.ok().rows()[0]["count"], 30_000);
    assert_eq!(stack.budget.free_bytes(), free);
}

#[tokio::test]
async fn an_answer_without_room_is_told_to_come_back() {
    let config = Config { memory_wait: std::time::Duration::from_millis(1), ..Config::default() };
    let stack = Stack::on(MemoryStore::new(), config, 32 << 20);
    let held = stack.budget.reserve(stack.budget.free_bytes(), std::time::Duration::ZERO).await.unwrap();
    let refused = stack.get("/v1/stats").await;
    assert_eq!((refused.status.as_u16(), refused.header(header::RETRY_AFTER)), (503, "1"));
    drop(held);
    stack.get("/v1/stats").await.ok();
    let tiny = Stack::on(stack.store.clone(), Config { max_answer_bytes: 1_000, ..Config::default() }, 32 << 20);
    assert_eq!(tiny.get("/v1/stats").await.json()["limit"], "max_answer_bytes");
}

#[tokio::test]
async fn a_failing_store_is_told_apart_by_what_the_client_can_do() {
    let memory = MemoryStore::new();
    let faulty = Arc::new(FaultyStore::new(memory.clone()));
    let stack = Stack::behind(Arc::clone(&faulty) as _, memory, Config::default(), 64 << 20);
    let cases = [
        (StoreError::Busy("x".into()), 503, "store_busy"),
        (StoreError::Unavailable("x".into()), 503, "store_unavailable"),
        (StoreError::Deadline, 422, "query_timeout"),
        (StoreError::Corrupt("secret".into()), 500, "internal"),
    ];
    for (error, status, code) in cases {
        faulty.faults.fail(StoreCall::Snapshot, 1, error);
        let got = stack.get("/v1/stats").await;
        assert_eq!(got.problem(), (status, code.to_owned(), vec![]));
        assert_eq!(got.headers.contains_key(header::RETRY_AFTER), status == 503);
        assert!(!got.text().contains("secret"));
    }
    stack.get("/v1/stats").await.ok();
}
