//! The document of the protocol, and what the section allows.

use super::*;
use headwater_core::time::Timestamp;
use headwater_core::trace::{Context, Kind};
use serde_json::json;

#[test]
fn a_span_is_written_as_the_protocol_has_it() {
    let context = Context { trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, span_id: 0x00f0_67aa_0ba9_02b7 };
    let span = Ended {
        name: "request",
        kind: Kind::Server,
        context,
        parent_id: 5,
        links: vec![Context { trace_id: 1, span_id: 2 }],
        attributes: vec![
            ("http.request.method", "GET".into()),
            ("http.route", "/v1/stats".into()),
            ("http.response.status_code", 500usize.into()),
        ],
        began: Timestamp(1_763_910_000_123_456),
        ended: Timestamp(1_763_910_000_223_456),
        failed: true,
    };
    let document = document::of(&[span], "headwater");
    assert_eq!(
        document["resourceSpans"][0]["resource"]["attributes"][0],
        json!({ "key": "service.name", "value": { "stringValue": "headwater" } })
    );
    let expected = json!({
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": "00f067aa0ba902b7", "parentSpanId": "0000000000000005", "flags": 1,
        "name": "GET /v1/stats", "kind": 2, "startTimeUnixNano": "1763910000123456000", "endTimeUnixNano": "1763910000223456000",
        "attributes": [
            { "key": "http.request.method", "value": { "stringValue": "GET" } },
            { "key": "http.route", "value": { "stringValue": "/v1/stats" } },
            { "key": "http.response.status_code", "value": { "intValue": "500" } },
        ],
        "links": [{ "traceId": "00000000000000000000000000000001", "spanId": "0000000000000002", "flags": 1 }],
        "status": { "code": 2 },
    });
    assert_eq!(document["resourceSpans"][0]["scopeSpans"][0]["spans"], json!([expected]));
}

#[test]
fn a_part_of_all_traces_is_kept() {
    let kept = |sampling: f64| {
        let below = (sampling * (1u64 << RANDOM_BITS) as f64) as u64;
        let queue = Queue { jobs: sync_channel(1).0, below, dropped: Arc::default() };
        (0..10_000u128).filter(|n| queue.samples((n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))).count()
    };
    assert_eq!((kept(0.0), kept(1.0)), (0, 10_000));
    assert!((900..1_100).contains(&kept(0.1)), "{}", kept(0.1));
}

#[test]
fn an_endpoint_is_the_address_of_a_collector() {
    let url = |endpoint: &str| Otlp { endpoint: endpoint.to_owned(), ..Otlp::default() }.url();
    assert_eq!(url("http://c:4318").as_deref(), Some("http://c:4318/v1/traces"));
    assert_eq!(url("https://c/otlp/").as_deref(), Some("https://c/otlp/v1/traces"));
    for endpoint in ["", "c:4318", "ftp://c", "http://", "http://c/?x=1", "grpc://c:4317"] {
        assert_eq!(url(endpoint), None, "{endpoint}");
    }
    let wrong = Otlp { endpoint: "c".to_owned(), sampling: 2.0, ..Otlp::default() };
    assert_eq!(wrong.validate().len(), 2);
    assert_eq!(Otlp::default().validate(), Vec::<String>::new());
}

#[test]
fn who_does_not_fit_is_dropped_and_counted_and_nobody_waits() {
    let (jobs, _received) = sync_channel(2);
    let queue = Queue { jobs, below: 0, dropped: Arc::default() };
    let span = || Ended {
        name: "x",
        kind: Kind::Internal,
        context: Context { trace_id: 1, span_id: 1 },
        parent_id: 0,
        links: vec![],
        attributes: vec![],
        began: Timestamp(0),
        ended: Timestamp(0),
        failed: false,
    };
    (0..5).for_each(|_| queue.take(span()));
    assert_eq!(queue.dropped.load(Ordering::Relaxed), 3);
}
