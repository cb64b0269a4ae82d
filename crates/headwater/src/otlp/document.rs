//! Spans as OTLP writes them in JSON: `ExportTraceServiceRequest` of opentelemetry-proto 1.x. Ids are hexadecimal, 64-bit numbers are
//! texts, enumerations are numbers.
//!
//! Owns: the names of the protocol. Does not know: how it is sent.

use headwater_core::time::Timestamp;
use headwater_core::trace::{Context, Ended, Kind, Value as Told};
use serde_json::{Value, json};

/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

/// The request that exports these spans.
pub(super) fn of(spans: &[Ended], service: &str) -> Value {
    let resource =
        [("service.name", json!({ "stringValue": service })), ("service.version", json!({ "stringValue": env!("CARGO_PKG_VERSION") }))];
    let attributes: Vec<Value> = resource.into_iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    let spans: Vec<Value> = spans.iter().map(span).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": attributes },
        "scopeSpans": [{ "scope": { "name": "headwater", "version": env!("CARGO_PKG_VERSION") }, "spans": spans }],
    }] })
}

fn span(span: &Ended) -> Value {
    let mut document = json!({
        "traceId": format!("{:032x}", span.context.trace_id),
        "spanId": format!("{:016x}", span.context.span_id),
        "name": name(span),
        "kind": kind(span.kind),
        "startTimeUnixNano": nanos(span.began),
        "endTimeUnixNano": nanos(span.ended),
        "flags": 1,
        "attributes": span.attributes.iter().map(attribute).collect::<Vec<_>>(),
        "links": span.links.iter().map(link).collect::<Vec<_>>(),
    });
    if span.parent_id != 0 {
        document["parentSpanId"] = format!("{:016x}", span.parent_id).into();
    }
    if span.failed {
        document["status"] = json!({ "code": ERROR });
    }
    document
}

/// Of a request its method and route, as the conventions ask; else what it is called.
fn name(span: &Ended) -> String {
    let of = |wanted: &str| {
        span.attributes.iter().find_map(|(name, value)| match value {
            Told::Text(text) if *name == wanted => Some(text.as_ref()),
            _ => None,
        })
    };
    match of("http.request.method").zip(of("http.route")) {
        Some((method, route)) => format!("{method} {route}"),
        None => span.name.to_owned(),
    }
}

const fn kind(kind: Kind) -> u8 {
    match kind {
        Kind::Internal => 1,
        Kind::Server => 2,
        Kind::Producer => 4,
        Kind::Consumer => 5,
    }
}

fn nanos(time: Timestamp) -> String {
    i128::from(time.micros()).max(0).saturating_mul(1_000).to_string()
}

fn link(context: &Context) -> Value {
    json!({ "traceId": format!("{:032x}", context.trace_id), "spanId": format!("{:016x}", context.span_id), "flags": 1 })
}

fn attribute((name, value): &(&'static str, Told)) -> Value {
    let value = match value {
        Told::Text(text) => json!({ "stringValue": text }),
        Told::Number(number) => json!({ "intValue": number.to_string() }),
    };
    json!({ "key": name, "value": value })
}
