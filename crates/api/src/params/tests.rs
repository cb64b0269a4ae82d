//! What `params` promises, through the router or by its functions.

use super::*;
use crate::testing::{Stack, at, reading};
use axum::http::HeaderValue;

/// Asserts that each query of `/v1/stats` is refused and points at exactly these parameters.
async fn assert_refused(cases: &[(&str, &[&str])]) {
    let stack = Stack::new();
    for (query, parameters) in cases {
        let problem = stack.get(&format!("/v1/stats?{query}")).await.problem();
        let expected: Vec<String> = parameters.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(problem, (400, "invalid_parameter".to_owned(), expected), "{query}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_and_named() {
    assert_refused(&[
        ("colour=red", &["colour"]),
        ("devices=a", &["devices"]),
        ("Device=a", &["Device"]),
        ("from=yesterday", &["from"]),
        ("to=2025-02-30T00:00:00Z", &["to"]),
        ("from=", &["from"]),
        ("from=now&to=now", &["from"]),
        ("from=now&to=now-1h", &["from"]),
        ("from=now-1h&from=now-2h", &["from"]),
        ("step=0s", &["step"]),
        ("step=60", &["step"]),
        ("stats=median", &["stats"]),
        ("stats=", &["stats"]),
        ("stats=count,,avg", &["stats"]),
        ("group_by=", &["group_by"]),
        ("group_by=metric", &["group_by"]),
        ("group_by=none,device", &["group_by"]),
        ("group_by=tag.", &["group_by"]),
        ("fill=previous", &["fill"]),
        ("format=ndjson", &["format"]),
        ("limit=0", &["limit"]),
        ("limit=100001", &["limit"]),
        ("limit=9223372036854775808", &["limit"]),
        ("limit=-1", &["limit"]),
        ("limit=%2B5", &["limit"]),
        ("limit=1e3", &["limit"]),
        ("cursor=", &["cursor"]),
        ("cursor=AAAA", &["cursor"]),
        ("cursor=../../etc", &["cursor"]),
        ("device=", &["device"]),
        ("device", &["device"]),
        ("device=%FF", &["device"]),
        ("device=%4", &["device"]),
        ("tag.=1", &["tag."]),
        ("tag.a=", &["tag.a"]),
        ("tag.a=1&tag.a=2", &["tag.a"]),
    ])
    .await;
}

#[tokio::test]
async fn all_problems_are_reported_at_once() {
    assert_refused(&[("x=1&step=q&limit=0&fill=zero&stats=p101&from=now&to=now", &["fill", "from", "limit", "stats", "step", "x"])]).await;
}

#[tokio::test]
async fn every_route_is_strict() {
    let stack = Stack::new();
    for route in ["stats", "readings", "latest", "series", "status", "dead-letters", "dead-letters/6ba7b810-9dad-11d1-80b4-00c04fd430c8"] {
        let got = stack.get(&format!("/v1/{route}?colour=red")).await;
        assert_eq!(got.problem(), (400, "invalid_parameter".into(), vec!["colour".into()]), "{route}");
    }
    for (route, query) in [
        ("latest", "from=now-1h"),
        ("latest", "format=csv"),
        ("series", "step=1m"),
        ("readings", "stats=avg"),
        ("status", "limit=1"),
        ("dead-letters", "metric=x"),
    ] {
        assert_eq!(stack.get(&format!("/v1/{route}?{query}")).await.status, StatusCode::BAD_REQUEST, "{route}?{query}");
    }
}

#[tokio::test]
async fn what_is_asked_is_echoed_resolved() {
    let stack = Stack::new();
    let cases = [
        ("", "2025-11-23T14:00:00Z", "2025-11-23T15:00:00Z", None),
        ("from=now-7d/d&to=now%2B1m&step=PT1H", "2025-11-16T00:00:00Z", "2025-11-23T15:01:00Z", Some("1h")),
        ("from=now-7d/d&to=now+1m&step=90s", "2025-11-16T00:00:00Z", "2025-11-23T15:01:00Z", Some("1m30s")),
        ("from=1763900000&to=1763910000123&", "2025-11-23T12:13:20Z", "2025-11-23T15:00:00.123Z", None),
        ("&&from=2025-11-23T00:00:00%2B01:00&to=2025-11-23T00:00:00Z", "2025-11-22T23:00:00Z", "2025-11-23T00:00:00Z", None),
        ("from=2025-11-23T00:00:00+01:00&to=2025-11-23T00:00:00Z", "2025-11-22T23:00:00Z", "2025-11-23T00:00:00Z", None),
    ];
    for (query, from, to, step) in cases {
        let answer = stack.get(&format!("/v1/stats?{query}")).await.ok().json();
        assert_eq!((answer["from"].as_str(), answer["to"].as_str(), answer["step"].as_str()), (Some(from), Some(to), step), "{query}");
        assert_eq!(answer["rows"].as_array().map(Vec::len), Some(0));
    }
}

#[tokio::test]
async fn patterns_choose_series() {
    let stack = Stack::new();
    let readings = [
        reading("plant-a/press-7", "temperature").tag("line", "3"),
        reading("plant-a/press-7", "pressure"),
        reading("plant-b/oven é", "temperature").tag("line", "4"),
    ];
    stack.commit(&readings.map(|reading| reading.at(at(-60)))).await;
    let cases = [
        ("", 3),
        ("device=plant-a*", 2),
        ("device=*/oven*", 1),
        ("device=plant-b/oven+%C3%A9", 1),
        ("device=plant-b%2Foven%20%C3%A9", 1),
        ("device=PLANT-A/press-7", 0),
        ("device=plant-a", 0),
        ("device=plant-a/press-?", 0),
        ("device=plant-a*&device=plant-b*", 3),
        ("metric=temp*", 2),
        ("metric=temperature&metric=pressure", 3),
        ("device=plant-a*&metric=temperature", 1),
        ("tag.line=3", 1),
        ("tag.line=*", 2),
        ("tag.line=3&tag.site=x", 0),
        ("device=a%00b", 0),
        ("device='%20OR%201=1--", 0),
    ];
    for (query, n_rows) in cases {
        assert_eq!(stack.get(&format!("/v1/stats?{query}")).await.ok().rows().len(), n_rows, "{query}");
        assert_eq!(stack.get(&format!("/v1/readings?{query}")).await.ok().rows().len(), n_rows, "{query}");
        assert_eq!(stack.get(&format!("/v1/latest?{query}")).await.ok().rows().len(), n_rows, "{query}");
        assert_eq!(stack.get(&format!("/v1/series?{query}")).await.ok().rows().len(), n_rows, "{query}");
    }
}

#[tokio::test]
async fn a_narrowed_caller_sees_the_intersection() {
    let stack = Stack::new();
    let readings = ["plant-a/1", "plant-a/2", "plant-b/1"].map(|device| reading(device, "m").at(at(-60)));
    stack.commit(&readings).await;
    let mine = &["plant-a/*"];
    for route in ["stats", "readings", "latest", "series"] {
        for (query, n_rows) in [("", 2), ("device=*/1", 1), ("device=plant-b/*", 0), ("device=plant-a/1", 1), ("device=plant-a/9", 0)] {
            assert_eq!(stack.get_as(mine, &format!("/v1/{route}?{query}")).await.ok().rows().len(), n_rows, "{route} {query}");
        }
        assert_eq!(stack.get_as(&[], &format!("/v1/{route}")).await.ok().rows().len(), 0, "{route}");
    }
    for route in ["stats", "readings", "latest", "series", "dead-letters"] {
        for query in ["device=plant-b/1", "device=plant-a/1&device=plant-b/1"] {
            let got = stack.get_as(mine, &format!("/v1/{route}?{query}")).await;
            assert_eq!(got.problem(), (403, "forbidden_device".into(), vec![]), "{route} {query}");
        }
    }
}

#[test]
fn accept_is_weighed() {
    let cases = [
        ("", Some(Format::Json)),
        ("*/*", Some(Format::Json)),
        ("text/html, */*;q=0.8", Some(Format::Json)),
        ("text/csv", Some(Format::Csv)),
        ("TEXT/*", Some(Format::Csv)),
        ("text/csv;q=0.5, application/json", Some(Format::Json)),
        ("application/json;q=0.5, text/csv", Some(Format::Csv)),
        ("text/csv; header=present", Some(Format::Csv)),
        ("text/csv;q=0, */*", Some(Format::Json)),
        ("application/x-ndjson", None),
        ("application/json;q=0", None),
        (",;/,", None),
    ];
    for (accept, expected) in cases {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
        assert_eq!(accepted(&headers).ok(), expected, "{accept}");
    }
}

#[test]
fn what_is_told_back_is_bounded_and_plain() {
    assert_eq!(shown("a\r\n\u{1b}[31m"), "a\\r\\n\\u{1b}[31m");
    assert!(shown(&"x".repeat(1000)).chars().count() <= SHOWN_CHARS + 1);
}
