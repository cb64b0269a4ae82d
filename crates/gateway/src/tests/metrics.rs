//! What is counted of bodies, as a scraper sees it.

use super::*;

fn value(site: &Site, series: &str) -> u64 {
    let text = site.registry.write(TextFormat::Plain);
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
}

fn readings_of(site: &Site, protocol: &str) -> [u64; 4] {
    let of = |what: &str| value(site, &format!("headwater_gateway_readings_{what}_total{{protocol=\"{protocol}\"}}"));
    let text = site.registry.write(TextFormat::Plain);
    let rejected =
        text.lines().filter(|line| line.starts_with(&format!("headwater_gateway_readings_rejected_total{{protocol=\"{protocol}\"")));
    let rejected = rejected.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum();
    [of("received"), of("accepted"), of("skipped"), rejected]
}

#[tokio::test]
async fn readings_are_counted_by_format_and_outcome_once_their_fate_is_durable() {
    let site = Site::new();
    let body = format!(r#"[{},{{"device":"a","ts":1,"metrics":{{"x":null,"y":"z"}}}}]"#, item("a", 1.0));
    let answer = site.send(JSON, body.clone()).await;
    assert_eq!(readings_of(&site, "json"), answer.counts());
    assert_eq!(value(&site, "headwater_gateway_received_bytes_total{protocol=\"json\"}"), body.len() as u64);
    assert_eq!(readings_of(&site, "csv"), [0; 4]);
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_one_malformed_thing_as_in_the_store() {
    let site = Site::new();
    assert_eq!(site.send(JSON, "[1").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(site.ask(encoded(CSV, "gzip", "no gzip")).await.status, StatusCode::BAD_REQUEST);
    for protocol in ["json", "csv"] {
        assert_eq!(readings_of(&site, protocol), [1, 0, 0, 1]);
        let series = format!("headwater_gateway_readings_rejected_total{{protocol=\"{protocol}\",reason=\"malformed\"}}");
        assert_eq!(value(&site, &series), 1);
    }
    assert_eq!(site.counted(), 2);
}

#[tokio::test]
async fn what_was_put_off_is_counted_when_it_is_sent_again() {
    let site = Site::hasty();
    site.faulty.faults.fail(headwater_contract::LogCall::Append, u32::MAX, headwater_core::log::LogError::Busy("full".to_owned()));
    assert!(site.send(JSON, item("a", 1.0)).await.says_come_back());
    assert_eq!(readings_of(&site, "json"), [0; 4]);
}
