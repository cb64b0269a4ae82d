//! Traces: a request's place in one is found again in the commit of what it sent, through whichever log.
//!
//! Of the binary with the feature `otlp`. The collector is of the test: it takes what any collector takes over HTTP.

use crate::both::on_both;
use crate::client::{Ask, target};
use crate::oracle::{MONDAY, Reading, as_json};
use crate::stack::{Builder, SOON, Stack, wait_for};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

on_both! {
    a_request_is_found_again_in_the_commit_of_what_it_sent,
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Keeps the spans that are sent to it.
struct CollectorOfTest {
    endpoint: String,
    spans: Arc<Mutex<Vec<Value>>>,
}

impl CollectorOfTest {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let spans = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&spans);
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || take(connection, &kept));
            }
        });
        Self { endpoint, spans }
    }

    fn find(&self, name: &str) -> Option<Value> {
        self.spans.lock().unwrap().iter().find(|span| span["name"] == name).cloned()
    }

    fn wait_for(&self, name: &str) -> Value {
        wait_for(name, SOON, || self.find(name))
    }
}

/// Requests of one connection, until it ends.
fn take(connection: TcpStream, kept: &Mutex<Vec<Value>>) {
    let mut reader = BufReader::new(connection);
    loop {
        let (mut length, mut first, mut line) = (0, String::new(), String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let lower = line.trim_end().to_ascii_lowercase();
            if first.is_empty() {
                first.clone_from(&lower);
            }
            if lower.is_empty() {
                break;
            }
            length = lower.strip_prefix("content-length: ").map_or(length, |length| length.parse().unwrap());
        }
        assert_eq!(first, "post /v1/traces http/1.1");
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let document: Value = serde_json::from_slice(&body).unwrap();
        for resource in document["resourceSpans"].as_array().unwrap() {
            for scope in resource["scopeSpans"].as_array().unwrap() {
                kept.lock().unwrap().extend(scope["spans"].as_array().unwrap().iter().cloned());
            }
        }
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}").unwrap();
    }
}

fn sent_by(stack: &Stack, ask: Ask, sampled: bool) {
    let flags = if sampled { "01" } else { "00" };
    stack.ask(&ask.header("traceparent", &format!("00-{TRACE}-{CALLER}-{flags}"))).ok();
}

fn a_request_is_found_again_in_the_commit_of_what_it_sent(builder: Builder) {
    let collector = CollectorOfTest::start();
    // Nobody samples by himself: what is told is what the caller wanted told.
    let mut stack = builder.env("HEADWATER_OTLP__ENDPOINT", &collector.endpoint).env("HEADWATER_OTLP__SAMPLING", "0").start();
    let body = |n: i64| as_json(&[Reading::new("a", "m", MONDAY + n, 1.0)]).to_string();
    stack.post("/v1/readings", "application/json", body(1)).ok();
    sent_by(&stack, Ask::post("/v1/readings", "application/json", body(2)), false);
    sent_by(&stack, Ask::post("/v1/readings", "application/json", body(3)), true);
    stack.settled();
    sent_by(&stack, Ask::new("GET", &target("/v1/readings", &[("from", "1990-01-01T00:00:00Z")])), true);

    let request = collector.wait_for("POST /v1/readings");
    assert_eq!((&request["traceId"], &request["parentSpanId"], &request["kind"]), (&TRACE.into(), &CALLER.into(), &2.into()), "{request}");
    let append = collector.wait_for("append");
    assert_eq!((&append["traceId"], &append["parentSpanId"]), (&request["traceId"], &request["spanId"]), "{append}");
    let batch = collector.wait_for("ingest batch");
    let links = batch["links"].as_array().unwrap();
    assert_eq!(links.len(), 1, "{batch}");
    assert_eq!((&links[0]["traceId"], &links[0]["spanId"]), (&append["traceId"], &append["spanId"]), "{batch}");
    assert_ne!(batch["traceId"], request["traceId"], "a batch is of many requests, so its trace is its own");
    let commit = collector.wait_for("commit");
    assert_eq!((&commit["traceId"], &commit["parentSpanId"]), (&batch["traceId"], &batch["spanId"]), "{commit}");
    let question = collector.wait_for("GET /v1/readings");
    let query = collector.wait_for("query");
    assert_eq!((&query["traceId"], &query["parentSpanId"]), (&TRACE.into(), &question["spanId"]), "{query}");
    let nanos = |span: &Value, name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
    for span in [&request, &append, &batch, &commit, &query] {
        assert!(nanos(span, "startTimeUnixNano") <= nanos(span, "endTimeUnixNano"), "{span}");
    }
    assert_eq!(stack.stop(), 0);
    let told = collector.spans.lock().unwrap().clone();
    assert_eq!(told.iter().filter(|span| span["name"] == "POST /v1/readings").count(), 1, "what is not sampled is not told: {told:?}");
    assert!(!serde_json::to_string(&told).unwrap().contains("\"a\""), "nothing of what was sent is told");
}

#[test]
fn a_collector_that_is_away_costs_a_warning_and_nothing_else() {
    let nowhere = format!("http://127.0.0.1:{}", crate::stack::free_port());
    let mut stack = Builder::default().env("HEADWATER_OTLP__ENDPOINT", &nowhere).env("HEADWATER_OTLP__SAMPLING", "1").start();
    (0..20).for_each(|n| drop(stack.send(&as_json(&[Reading::new("a", "m", MONDAY + n, 1.0)]))));
    stack.settled();
    wait_for("a warning", SOON, || stack.said().contains("the collector of traces does not take spans").then_some(()));
    assert_eq!(stack.rows("/v1/readings", &[("from", "1990-01-01T00:00:00Z")]).len(), 20);
    assert_eq!(stack.stop(), 0);
    assert_eq!(stack.said().matches("the collector of traces").count(), 1, "it is told once a minute");
}
