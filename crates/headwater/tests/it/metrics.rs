//! `/metrics` of real servers: clean for promtool, complete, adding up, and there when the database is not.

mod scraped;

use crate::apart::Apart;
use crate::backends::Backends;
use crate::client::Ask;
use crate::oracle::{MONDAY, Reading, as_json};
use crate::stack::{Builder, SOON, Stack, wait_for};
use headwater_core::dead_letter::Reason;
use headwater_web::ROUTES;
use scraped::{Scraped, documented, lint, scrape};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A name that must be nowhere in what is scraped, nor any part of it.
const DEVICE: &str = "zyxgryph-7";

/// Readings of every outcome, through every format, and questions.
fn load(stack: &Stack) {
    write(stack);
    stack.get("/v1/latest").ok();
    stack.get(&format!("/v1/stats?device={DEVICE}")).ok();
    stack.get("/v1/stats?limit=0").expect(400);
    stack.ask(&Ask::new("GET", &format!("/nothing/{DEVICE}")).anonymous()).expect(404);
    stack.ask(&Ask::new("GET", "/v1/latest").anonymous()).expect(401);
    stack.settled();
}

fn write(stack: &Stack) {
    let readings: Vec<_> = (0..40).map(|n| Reading::new(DEVICE, "wvuttemp", MONDAY + n * 1_000_000, n as f64)).collect();
    for _ in 0..2 {
        stack.send(&as_json(&readings));
    }
    // The same keys with other values.
    stack.send(&as_json(&[Reading::new(DEVICE, "wvuttemp", MONDAY, 77.0)]));
    let mixed =
        json!([{"device": DEVICE, "metric": "m", "ts": MONDAY / 1000, "value": "hot"}, {"device": DEVICE, "metrics": {"a": null, "b": 1}}]);
    stack.post("/v1/readings", "application/json", mixed.to_string()).ok();
    stack.post("/v1/readings", "application/json", "{\"broken").expect(400);
    stack.post("/v1/readings", "text/csv", format!("device,metric,ts,value\n{DEVICE},m2,2026-01-05T08:00:00Z,1\n")).ok();
    stack.post("/v1/readings", "application/x-ndjson", format!("{{\"device\":\"{DEVICE}\",\"metric\":\"m3\",\"value\":1}}\n")).ok();
    stack.post("/api/v2/write?bucket=b", "", format!("m4,device={DEVICE} value=1\nm4,device={DEVICE} \n")).expect(400);
}

/// The heartbeat is off in other tests, which count records.
fn beating(builder: Builder) -> Builder {
    builder.env("HEADWATER_GATEWAY__HEARTBEAT", "100ms")
}

/// A scrape as soon as ingest has its partitions: until then nobody knows how far behind it is.
fn first(stack: &Stack) -> Scraped {
    wait_for("ingest to have its partitions", SOON, || {
        Some(scrape(stack)).filter(|scraped| scraped.text.contains("headwater_ingest_lag_records"))
    })
}

/// Waits until the look at the store, which may be some seconds old, sees all that was received.
fn scraped_when_seen(stack: &Stack, received: f64) -> Scraped {
    wait_for("the look at the store", SOON, || {
        Some(scrape(stack)).filter(|scraped| scraped.value("headwater_store_received_readings") == received)
    })
}

#[test]
fn what_an_embedded_server_counts_is_clean_complete_and_adds_up() {
    let stack = beating(Builder::default()).start();
    let before = first(&stack);
    load(&stack);
    stack.output(&["seal"]);
    let status = stack.status();
    let of_status = |name: &str| status[name].as_f64().unwrap();
    let scraped = scraped_when_seen(&stack, of_status("received"));
    lint(&scraped.text);

    // Gateway: received = accepted + skipped + rejected, by every format; what is accepted or rejected is what the store has received.
    let gateway = |what: &str| scraped.sum(&format!("headwater_gateway_readings_{what}_total"));
    for protocol in ["json", "ndjson", "csv", "line"] {
        let of = |what: &str| scraped.sum_of(&format!("headwater_gateway_readings_{what}_total"), &format!("protocol=\"{protocol}\""));
        assert!(of("received") > 0.0 && of("received") == of("accepted") + of("skipped") + of("rejected"), "{protocol}");
    }
    assert_eq!(gateway("accepted") + gateway("rejected"), of_status("received"));
    // Ingest: everything is open or dead at first.
    assert_eq!(scraped.sum("headwater_ingest_readings_total"), of_status("received"));
    // Store: the outcomes are those of the status, and their sum is what was received.
    for outcome in ["stored", "duplicate", "conflict", "dead", "unsealed"] {
        assert_eq!(scraped.value(&format!("headwater_store_readings{{outcome=\"{outcome}\"}}")), of_status(outcome), "{outcome}");
    }
    assert_eq!(scraped.sum("headwater_store_readings"), of_status("received"));
    assert!(of_status("duplicate") > 0.0 && of_status("conflict") > 0.0 && of_status("dead") > 0.0);
    assert_eq!(scraped.value("headwater_rollup_sealed_readings_total"), of_status("received") - of_status("dead"));

    // Log: every record was appended and applied, heartbeats included.
    let records = scraped.value("headwater_log_appended_records_total");
    assert!(records > 5.0 && (scraped.value("headwater_log_append_records_sum") - records).abs() <= 1.0, "one may be under way");
    assert!(scraped.value("headwater_log_fsync_duration_seconds_count") > 5.0 && scraped.value("headwater_log_bytes") > 4096.0);

    // Nothing of any device or metric, and no path that was asked for.
    for foreign in ["zyxgryph", "wvut", "/nothing"] {
        assert!(!scraped.text.contains(foreign), "{foreign}");
    }
    // What there is was there before, so sets of labels are closed; and counters only rise.
    assert_eq!(before.series(), scraped.series());
    for (series, value) in before.counters() {
        assert!(scraped.value(&series) >= value, "{series} fell");
    }
    assert_eq!(scraped.value("headwater_http_requests_total{route=\"other\",method=\"other\",status=\"4xx\"}"), 1.0);
    assert_eq!(scraped.value("headwater_http_refused_total{reason=\"unauthorized\"}"), 1.0);
    assert!(scraped.value("headwater_api_query_rows_count{route=\"/v1/stats\"}") >= 1.0);
    assert_eq!((scraped.value("headwater_http_connections") > 0.0, scraped.value("headwater_store_up")), (true, 1.0));
}

#[test]
fn every_closed_set_of_labels_is_there_from_the_first_scrape() {
    let stack = Stack::embedded();
    let first = first(&stack);
    lint(&first.text);
    for route in ROUTES {
        for status in ["2xx", "3xx", "4xx", "5xx"] {
            let series =
                format!("headwater_http_requests_total{{route=\"{}\",method=\"{}\",status=\"{status}\"}}", route.path, route.method);
            first.value(&series);
        }
    }
    let found_later = [Reason::SeriesLimit, Reason::Conflict, Reason::Undecodable];
    for reason in Reason::ALL {
        assert_eq!(first.value(&format!("headwater_ingest_dead_letters_total{{reason=\"{}\"}}", reason.as_str())), 0.0);
        for protocol in ["json", "ndjson", "csv", "line"].iter().filter(|_| !found_later.contains(reason)) {
            let labels = format!("protocol=\"{protocol}\",reason=\"{}\"", reason.as_str());
            assert_eq!(first.value(&format!("headwater_gateway_readings_rejected_total{{{labels}}}")), 0.0);
        }
    }
    for (name, label, values) in [
        (
            "headwater_http_refused_total",
            "reason",
            &["unauthorized", "forbidden", "too_large", "unsupported_media", "rate_limited", "busy", "timeout"][..],
        ),
        ("headwater_ingest_commit_retries_total", "reason", &["busy", "unavailable", "unknown", "fenced", "restored", "other"]),
        ("headwater_rollup_replacements_total", "outcome", &["done", "lost", "failed"]),
        ("headwater_api_refused_queries_total", "reason", &["cost", "deadline", "busy"]),
        ("headwater_heartbeat_timestamp_seconds", "stage", &["sent", "applied", "queryable"]),
    ] {
        values.iter().for_each(|value| assert_eq!(first.value(&format!("{name}{{{label}=\"{value}\"}}")), 0.0, "{name} {value}"));
    }
    assert_eq!(first.value(&format!("headwater_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))), 1.0);
    assert_eq!(first.sum("headwater_role_info"), 4.0);
}

#[test]
fn the_heartbeat_reaches_the_answers_leaves_nothing_in_flight_and_counts_nothing() {
    let stack = beating(Builder::default()).start();
    let of = |scraped: &Scraped, stage: &str| scraped.value(&format!("headwater_heartbeat_timestamp_seconds{{stage=\"{stage}\"}}"));
    let first = wait_for("a heartbeat in the answers", SOON, || Some(scrape(&stack)).filter(|scraped| of(scraped, "queryable") > 0.0));
    for stage in ["sent", "applied", "queryable"] {
        wait_for("a later heartbeat", SOON, || (of(&scrape(&stack), stage) > of(&first, stage)).then_some(()));
    }
    let scraped =
        wait_for("delays", SOON, || Some(scrape(&stack)).filter(|scraped| scraped.value("headwater_heartbeat_delay_seconds_count") > 1.0));
    let (sum, count) = (scraped.value("headwater_heartbeat_delay_seconds_sum"), scraped.value("headwater_heartbeat_delay_seconds_count"));
    assert!(sum / count > 0.0 && sum / count < 20.0, "{sum} in {count}");
    // Between two heartbeats nothing is in flight, and no reading was ever counted.
    stack.settled();
    assert_eq!((&stack.status()["received"], &stack.status()["dead"]), (&json!(0), &json!(0)));
    assert_eq!(stack.rows("/v1/dead-letters", &[]).len(), 0);
}

#[test]
fn each_format_is_answered_to_who_asks_for_it() {
    let stack = Stack::embedded();
    let open = stack
        .ask(&Ask::new("GET", "/metrics").anonymous().header("Accept", "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5"))
        .ok();
    assert_eq!(open.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(open.text().ends_with("# EOF\n") && open.text().contains("\n# TYPE headwater_http_requests counter\n"));
    let plain = stack.ask(&Ask::new("GET", "/metrics").anonymous()).ok();
    assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(plain.text().contains("\n# TYPE headwater_http_requests_total counter\n") && !plain.text().contains("# EOF"));
    // In OpenMetrics a family has one name: that of a counter without its ending.
    let families: Vec<_> =
        open.text().lines().filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned())).collect();
    assert_eq!(families.iter().collect::<BTreeSet<_>>().len(), families.len(), "{families:?}");
}

#[test]
fn roles_apart_show_their_own_and_scrapes_work_while_the_database_is_away() {
    let servers = headwater_servers::Folder::new("metrics").unwrap();
    let options = headwater_servers::postgres::Options::default();
    let mut postgres = headwater_servers::Postgres::start(&servers.path().join("pg"), &options).unwrap();
    let backends = Backends::with_postgres(&postgres.url());
    let apart = Apart::one_of_each(&backends);
    write(apart.gateway());
    apart.settled(SOON);
    apart.seal();
    let received = apart.api.status()["received"].as_f64().unwrap();
    let api = scraped_when_seen(&apart.api, received);
    let (gateway, ingest, rollup) = (scrape(apart.gateway()), scrape(&apart.ingests[0]), scrape(&apart.rollups[0]));
    for scraped in [&api, &gateway, &ingest, &rollup] {
        lint(&scraped.text);
    }
    assert_eq!(
        gateway.sum("headwater_gateway_readings_accepted_total") + gateway.sum("headwater_gateway_readings_rejected_total"),
        received
    );
    assert_eq!(ingest.sum("headwater_ingest_readings_total"), received);
    assert_eq!(api.sum("headwater_store_readings"), received);
    assert!(api.value("headwater_store_bytes") > 1e6 && api.value("headwater_store_oldest_snapshot_seconds") >= 0.0);
    // Each shows what is its own, and no table row is missing in all of them.
    assert!(
        !gateway.text.contains("headwater_store_")
            && !gateway.text.contains("headwater_ingest_")
            && !api.text.contains("headwater_gateway_")
    );

    postgres.kill().unwrap();
    let began = Instant::now();
    let down = wait_for("the look that finds it away", SOON, || {
        Some(scrape(&apart.api)).filter(|scraped| scraped.value("headwater_store_up") == 0.0)
    });
    assert!(!down.text.contains("headwater_store_received_readings") && !down.text.contains("headwater_store_readings{"), "{}", down.text);
    lint(&down.text);
    let answered = Instant::now();
    for stack in [&apart.api, apart.gateway(), &apart.ingests[0], &apart.rollups[0]] {
        scrape(stack);
    }
    assert!(answered.elapsed() < Duration::from_secs(10), "a dead database holds up a scrape: {:?} since {:?}", answered.elapsed(), began);
    // What devices send meanwhile waits, and its age is told.
    apart.gateway().send(&as_json(&[Reading::new(DEVICE, "m", MONDAY, 1.0)]));
    wait_for("the lag to grow", SOON, || {
        let scraped = scrape(&apart.ingests[0]);
        (scraped.value("headwater_ingest_lag_records") >= 1.0 && scraped.value("headwater_ingest_lag_seconds") > 1.0).then_some(())
    });
    postgres.restart().unwrap();
    wait_for("the store to be up again", Duration::from_secs(60), || (scrape(&apart.api).value("headwater_store_up") == 1.0).then_some(()));
    wait_for("the lag to be gone", Duration::from_secs(60), || {
        (scrape(&apart.ingests[0]).value("headwater_ingest_lag_records") == 0.0).then_some(())
    });
}

#[test]
fn the_table_of_the_documentation_is_what_is_exported() {
    let embedded = beating(Builder::default()).start();
    load(&embedded);
    let scaled = Builder::default().run(&["api"]).on(&Backends::shared()).start();
    let mut exported = scrape(&embedded).families();
    exported.extend(scrape(&scaled).families());
    // What takes more than a server to be there; each says so in the table.
    let elsewhere = ["headwater_tls_certificate_expiry_timestamp_seconds", "headwater_jwks_refresh_failures_total"];
    let documented = documented();
    for (name, of) in &exported {
        let said = documented.get(name).unwrap_or_else(|| panic!("{name} is not in docs/metrics.md"));
        assert_eq!((&said.kind, &said.labels), (&of.kind, &of.labels), "{name}");
    }
    let missing: Vec<_> = documented.keys().filter(|name| !exported.contains_key(*name) && !elsewhere.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "in docs/metrics.md and not exported: {missing:?}");
}
