//! What `readings` promises, through the router or by its functions.

use crate::testing::{Stack, at, reading};
use axum::http::{StatusCode, header};

#[tokio::test]
async fn readings_are_ordered_by_series_then_time_and_each_key_comes_once() {
    let stack = Stack::new();
    stack.commit(&[reading("b", "m").at(at(-3)).value(1e300), reading("a", "n").at(at(-1)).value(-0.0)]).await;
    stack.commit(&[reading("a", "m").tag("x", "1").at(at(-2)).value(23.0), reading("b", "m").at(at(-3)).value(7.0)]).await;
    stack.commit(&[reading("a", "m").at(at(-1)).value(0.1), reading("a", "m").at(at(-2)).value(0.2), reading("a", "m").at(at(0))]).await;
    let expected = concat!(
        r#"{"rows":[{"time":"2025-11-23T14:59:58Z","device":"a","metric":"m","tags":{},"value":0.2},"#,
        r#"{"time":"2025-11-23T14:59:59Z","device":"a","metric":"m","tags":{},"value":0.1},"#,
        r#"{"time":"2025-11-23T14:59:58Z","device":"a","metric":"m","tags":{"x":"1"},"value":23.0},"#,
        r#"{"time":"2025-11-23T14:59:59Z","device":"a","metric":"n","tags":{},"value":0.0},"#,
        r#"{"time":"2025-11-23T14:59:57Z","device":"b","metric":"m","tags":{},"value":1e+300}],"next_cursor":null}"#,
        "\n"
    );
    // What is committed is never -0.0; the decoders see to that.
    assert_eq!(stack.get("/v1/readings").await.ok().text().replace("-0.0", "0.0"), expected);
    assert_eq!(stack.all_pages("/v1/readings?", 2).await.len(), 5);
}

#[tokio::test]
async fn csv_has_the_columns_that_can_be_sent_back() {
    let stack = Stack::new();
    stack
        .commit(&[reading("=a", "m,1").tag("x", "\"q\"").at(at(-2)).value(0.1), reading("b", "m").tag("y", "2").at(at(-1)).value(5.0)])
        .await;
    let got = stack.get("/v1/readings?format=csv&limit=1").await.ok();
    assert_eq!(got.text(), "time,device,metric,tag.x,value\r\n2025-11-23T14:59:58Z,=a,\"m,1\",\"\"\"q\"\"\",0.1\r\n");
    let link = got.header(header::LINK);
    let next = link.strip_prefix('<').and_then(|link| link.split_once('>')).unwrap().0;
    let got = stack.get(next).await.ok();
    assert_eq!(got.text(), "time,device,metric,tag.y,value\r\n2025-11-23T14:59:59Z,b,m,2,5.0\r\n");
    assert!(!got.headers.contains_key(header::LINK));
}

#[tokio::test]
async fn readings_have_an_entity_tag() {
    let stack = Stack::new();
    stack.commit(&[reading("a", "m").at(at(-2))]).await;
    for route in ["readings", "latest", "series", "dead-letters"] {
        let got = stack.get(&format!("/v1/{route}")).await.ok();
        let again = stack.get_with(&format!("/v1/{route}"), &[(header::IF_NONE_MATCH, got.header(header::ETAG))]).await;
        assert_eq!(again.status, StatusCode::NOT_MODIFIED, "{route}");
    }
}
