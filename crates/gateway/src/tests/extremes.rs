//! Bodies whose parts are huge: numbers, names, lines, items. Each is refused for what it is, its neighbours are kept.

use super::*;

/// The reasons of what was refused, and what was stored.
async fn outcome(site: &Site, content_type: &str, body: String) -> (Vec<String>, Vec<String>) {
    let answer = site.send(content_type, body).await;
    let errors = answer.json()["errors"].as_array().unwrap_or_else(|| panic!("{answer:?}")).clone();
    (errors.iter().map(|error| error["reason"].as_str().unwrap().to_owned()).collect(), site.readings())
}

#[tokio::test]
async fn numbers_of_any_length_are_numbers_or_not_finite() {
    let digits = |n: usize| "1".repeat(n);
    let cases = [
        (digits(100_000), "not_finite"),
        (format!("1e{}", digits(100_000)), "not_finite"),
        (format!("-{}.5", digits(100_000)), "not_finite"),
        ("1e999999999999999999999".to_owned(), "not_finite"),
    ];
    for (number, reason) in cases {
        let site = Site::new();
        let items = format!(r#"[{},{{"device":"b","metric":"t","value":{number}}}]"#, item("a", 1.0));
        let (reasons, stored_readings) = outcome(&site, JSON, items).await;
        assert_eq!((reasons, stored_readings), (vec![reason.to_owned()], vec![stored("a", 1.0)]), "{}", &number[..20]);
    }
    let small = format!("0.{}1", "0".repeat(100_000));
    for (number, value) in [(small.clone(), 0.0), (format!("-{small}"), 0.0), (format!("1{}e-100000", "0".repeat(100_000)), 1.0)] {
        let site = Site::new();
        let body = format!(r#"{{"device":"a","metric":"t","ts":{},"value":{number}}}"#, START.micros() / 1000);
        let (reasons, stored_readings) = outcome(&site, JSON, body).await;
        assert_eq!((reasons, stored_readings), (vec![], vec![stored("a", value)]), "{}", &number[..20]);
    }
}

#[tokio::test]
async fn times_of_any_length_are_times_or_invalid() {
    for time in ["1".repeat(100_000), "1e400".to_owned(), "-1e400".to_owned(), format!("\"{}\"", "2026-".repeat(20_000))] {
        let site = Site::new();
        let body = format!(r#"[{},{{"device":"b","metric":"t","ts":{time},"value":1}}]"#, item("a", 1.0));
        let (reasons, stored_readings) = outcome(&site, JSON, body).await;
        assert_eq!(stored_readings, [stored("a", 1.0)]);
        let of_time = ["invalid_timestamp", "timestamp_too_far_ahead", "timestamp_too_old"];
        assert!(matches!(&reasons[..], [reason] if of_time.contains(&reason.as_str())), "{reasons:?}");
    }
}

#[tokio::test]
async fn names_of_any_length_are_refused_and_told_shortly() {
    let long = "x".repeat(MIB);
    let site = Site::new();
    let items = format!(
        r#"[{},{{"device":"{long}","metric":"t","value":1}},{{"device":"b","metric":"{long}","value":1}},
            {{"device":"b","metric":"t","tags":{{"{long}":"x"}},"value":1}},{{"device":"b","metric":"t","tags":{{"x":"{long}"}},"value":1}},
            {{"device":"b","metric":"t","value":"{long}"}},{{"{long}":1}}]"#,
        item("a", 1.0)
    );
    let answer = site.send(JSON, items).await;
    let errors = answer.json()["errors"].clone();
    let reasons: Vec<_> = errors.as_array().unwrap().iter().map(|error| error["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons[..5], ["invalid_device", "invalid_metric", "invalid_tags", "invalid_tags", "not_numeric"]);
    assert!(answer.body.len() < 16 * 1024, "the answer has {} bytes", answer.body.len());
    assert_eq!(site.readings(), [stored("a", 1.0)]);
    let device = &site.letters()[0];
    assert!(device.bytes.len() <= headwater_core::dead_letter::PART_BYTES && device.parts > 1, "it is kept whole, in parts");
}

#[tokio::test]
async fn an_item_of_a_hundred_thousand_metrics_or_members_is_refused_alone() {
    let metrics: Vec<_> = (0..100_000).map(|n| format!("\"m{n}\":1")).collect();
    let metrics = metrics.join(",");
    let site = Site::new();
    let (reasons, stored_readings) =
        outcome(&site, JSON, format!(r#"[{},{{"device":"b","metrics":{{{metrics}}}}},{{{metrics}}}]"#, item("a", 1.0))).await;
    assert_eq!((reasons.len(), &reasons[0][..]), (2, "too_many_metrics"), "{reasons:?}");
    assert_eq!(stored_readings, [stored("a", 1.0)]);
    let fields: Vec<_> = (0..100_000).map(|n| format!("f{n}=1")).collect();
    let site = Site::new();
    let lines = format!("m,device=b {}\nm,device=a t=1 {}\n", fields.join(","), START.micros() * 1000);
    let answer = site.ask(post("/write?db=x", &[], &[], lines)).await;
    assert!((400..500).contains(&answer.status.as_u16()), "{answer:?}");
    assert_eq!(site.readings().len(), 1);
    assert_eq!(site.letters()[0].reason.as_str(), "too_many_metrics");
}

#[tokio::test]
async fn lines_without_an_end_are_refused_and_those_after_them_are_kept() {
    let long = "x".repeat(2 * MIB);
    let time = START.micros() * 1000;
    let site = Site::new();
    for line in [
        format!("m,device={long} v=1"),
        format!("{long},device=a v=1"),
        format!("m,device=a {long}=1"),
        format!("m,device=a v={long}"),
        long.clone(),
    ] {
        let before = site.readings().len();
        let answer = site.ask(post("/write?db=x", &[], &[], format!("{line}\nt,device=a value={before} {time}\n"))).await;
        assert!((400..500).contains(&answer.status.as_u16()), "{}: {answer:?}", &line[..20]);
        assert!(answer.body.len() < 4096 && answer.header("x-influxdb-error").len() < 1024);
        assert_eq!(site.readings().len(), before + 1, "{}", &line[..20]);
    }
    for csv in [
        format!("device,metric,value\na,t,{long}\na,t,1\n"),
        format!("device,metric,value\n\"{}\",t,1\na,t,1\n", "x of a long line\n".repeat(100_000)),
    ] {
        let site = Site::new();
        let answer = site.send(CSV, csv).await;
        assert_eq!((answer.status, answer.counts()[1]), (StatusCode::OK, 1));
    }
}

#[tokio::test]
async fn a_member_that_stands_twice_is_no_way_to_be_two_devices() {
    let site = Site::new();
    for body in [
        r#"{"device":"a","device":"b","metric":"t","value":1}"#,
        r#"{"device":"a","metric":"t","value":1,"value":2}"#,
        r#"{"device":"a","metric":"t","tags":{"x":"1","x":"2"},"value":1}"#,
    ] {
        let answer = site.ask(super::readings(JSON, &["a"], body)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {answer:?}");
    }
    assert!(site.readings().is_empty());
}
