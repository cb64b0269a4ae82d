//! `POST /v1/readings`: what is answered and what reaches the log.

use super::*;

#[tokio::test]
async fn readings_of_every_format_reach_the_log() {
    let micros = START.micros();
    let seconds = micros / 1_000_000;
    let cases = [
        (JSON, format!(r#"{{"device":"a","ts":{seconds},"metrics":{{"t":1.5}}}}"#)),
        ("application/json; charset=utf-8", format!(r#"[{{"device":"a","ts":{seconds},"metric":"t","value":1.5}}]"#)),
        (NDJSON, format!("{{\"device\":\"a\",\"ts\":{seconds},\"metrics\":{{\"t\":1.5}}}}\n")),
        ("application/jsonl", format!("{{\"device\":\"a\",\"ts\":{seconds},\"metrics\":{{\"t\":1.5}}}}")),
        (CSV, format!("device,ts,metric,value\na,{seconds},t,1.5\n")),
        (CSV, format!("device,ts,t\na,{seconds},1.5\n")),
    ];
    for (content_type, body) in cases {
        let site = Site::new();
        let answer = site.send(content_type, body.clone()).await;
        assert_eq!((answer.status, answer.counts()), (StatusCode::OK, [1, 1, 0, 0]), "{body}: {answer:?}");
        assert_eq!(answer.json()["errors"], serde_json::json!([]));
        assert_eq!((site.readings(), site.counted()), (vec![format!("a t {micros} 1.5")], 1), "{body}");
    }
}

#[tokio::test]
async fn compressed_bodies_are_the_same_readings() {
    let body = format!("[{}]", (0..5000).map(|n| item(&format!("d{n}"), 1.0)).collect::<Vec<_>>().join(","));
    let plain = Site::new();
    assert_eq!(plain.send(JSON, body.clone()).await.counts(), [5000, 5000, 0, 0]);
    for (coding, bytes) in [("gzip", gzip(body.as_bytes())), ("zstd", zstd(body.as_bytes())), ("identity", body.clone().into_bytes())] {
        let site = Site::new();
        let answer = site.ask(encoded(JSON, coding, bytes)).await;
        assert_eq!(answer.counts(), [5000, 5000, 0, 0], "{coding}");
        assert_eq!(site.readings(), plain.readings(), "{coding}");
        assert_eq!(site.budget.free_bytes(), site.budget.bytes(), "{coding}: everything reserved is given back");
    }
}

#[tokio::test]
async fn refused_items_are_reported_and_travel_with_the_good_ones() {
    let site = Site::new();
    let bad = format!(r#"{{"device":"b", "ts":{}, "metrics":{{"t":true,"u":"warm","v":null}}}}"#, START.micros());
    let ahead = format!(r#"{{"device":"c","ts":{},"metrics":{{"t":1,"u":2}}}}"#, after(601).micros());
    let body = format!("[{},{bad},{ahead},7]", item("a", 1.0));
    let answer = site.send(JSON, body).await;
    assert_eq!((answer.status, answer.counts()), (StatusCode::OK, [7, 2, 1, 4]), "{answer:?}");
    let letters = site.letters();
    let reasons: Vec<_> = letters.iter().map(|letter| (letter.reason.as_str(), letter.count, letter.device.as_deref())).collect();
    assert_eq!(reasons, [("not_numeric", 1, Some("b")), ("timestamp_too_far_ahead", 2, Some("c")), ("malformed", 1, None)]);
    let bytes: Vec<_> = letters.iter().map(|letter| String::from_utf8(letter.bytes.clone()).unwrap()).collect();
    assert_eq!(bytes, [bad, ahead, "7".to_owned()]);
    assert!(letters.iter().all(|letter| letter.format == "json"));
    let errors = answer.json()["errors"].clone();
    for ((error, letter), index) in errors.as_array().unwrap().iter().zip(&letters).zip([1, 2, 3]) {
        assert_eq!((error["index"].as_u64(), &error["line"]), (Some(index), &Value::Null));
        assert_eq!(error["reason"], letter.reason.as_str());
        assert_eq!(error["dead_letter"], letter.id.to_string());
        assert!(error["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    }
    // Everything received but what was skipped is counted by the records.
    assert_eq!(site.counted(), 6);
    assert_eq!(site.faulty.faults.calls(headwater_contract::LogCall::Append), 1, "one append covers both");
}

#[tokio::test]
async fn nothing_accepted_is_a_422_with_the_same_members() {
    let site = Site::new();
    let answer = site.send(NDJSON, "{\"device\":\"a\",\"metric\":\"t\",\"value\":\"x\"}\n\nnonsense\n").await;
    assert_eq!((answer.status, answer.counts()), (StatusCode::UNPROCESSABLE_ENTITY, [2, 0, 0, 2]));
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let json = answer.json();
    assert_eq!((json["status"].as_u64(), json["code"].as_str()), (Some(422), Some("nothing_accepted")));
    assert_eq!(json["errors"].as_array().map(Vec::len), Some(2));
    assert_eq!(site.letters().len(), 2);
}

#[tokio::test]
async fn skipped_readings_leave_nothing_behind() {
    let site = Site::new();
    let answer = site.send(JSON, r#"{"device":"a","metrics":{"t":null,"u":null}}"#).await;
    assert_eq!((answer.status, answer.counts()), (StatusCode::OK, [2, 0, 2, 0]));
    let empty = site.send(JSON, "[]").await;
    assert_eq!((empty.status, empty.counts()), (StatusCode::OK, [0, 0, 0, 0]));
    assert!(site.log.records(0).is_empty());
}

#[tokio::test]
async fn an_answer_names_the_first_hundred_in_input_order() {
    let site = Site::new();
    let body = item("a", 1.0) + "\n" + &"{\n".repeat(250);
    let answer = site.send(NDJSON, body).await;
    assert_eq!(answer.counts(), [251, 1, 0, 250]);
    let indices: Vec<_> = answer.json()["errors"].as_array().unwrap().iter().map(|error| error["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, (1..=100).collect::<Vec<_>>());
    assert_eq!(site.letters().len(), 250);
}

#[tokio::test]
async fn a_refused_line_of_csv_can_be_read_on_its_own() {
    let site = Site::new();
    let body = format!("\u{feff}device,ts,t\r\na,{},1\r\na,{},warm\r\n", START.micros(), START.micros());
    let answer = site.send(CSV, body).await;
    assert_eq!(answer.counts(), [2, 1, 0, 1]);
    let errors = answer.json()["errors"].clone();
    assert_eq!((errors[0]["line"].as_u64(), &errors[0]["index"]), (Some(3), &Value::Null));
    let letter = site.letters().remove(0);
    assert_eq!((letter.format.as_str(), letter.reason.as_str()), ("csv+header", "not_numeric"));
    assert_eq!(String::from_utf8_lossy(&letter.bytes).trim_end(), format!("device,ts,t\na,{},warm", START.micros()));
    let again = site.send(CSV, letter.bytes).await;
    assert_eq!((again.status, again.counts()), (StatusCode::UNPROCESSABLE_ENTITY, [1, 0, 0, 1]));
}

#[tokio::test]
async fn metrics_of_one_item_refused_for_one_reason_share_a_dead_letter() {
    let site = Site::new();
    let answer = site.send(JSON, r#"{"device":"a","metrics":{"t":"x","u":"y","v":[],"w":1e999,"x":1}}"#).await;
    assert_eq!(answer.counts(), [5, 1, 0, 4]);
    let letters: Vec<_> = site.letters().iter().map(|letter| (letter.reason.as_str(), letter.count)).collect();
    assert_eq!(letters, [("not_numeric", 3), ("not_finite", 1)]);
    let errors = answer.json()["errors"].clone();
    assert_eq!(errors.as_array().map(Vec::len), Some(4));
    assert_eq!(errors[0]["dead_letter"], errors[2]["dead_letter"]);
}

#[tokio::test]
async fn a_device_writes_as_itself_and_as_nobody_else() {
    let site = Site::new();
    let body = format!("[{},{},{}]", item("press-7", 1.0), item("press-8", 2.0), r#"{"metric":"t","value":3}"#);
    let answer = site.ask(super::readings(JSON, &["press-7"], body)).await;
    assert_eq!(answer.counts(), [3, 2, 0, 1]);
    assert_eq!(answer.json()["errors"][0]["reason"], "forbidden_device");
    assert_eq!(site.readings(), [stored("press-7", 1.0), stored("press-7", 3.0)]);
    let letter = site.letters().remove(0);
    assert_eq!((letter.device.as_deref(), letter.bytes), (Some("press-8"), item("press-8", 2.0).into_bytes()));
}

#[tokio::test]
async fn a_pattern_is_no_device_and_limits_all_the_same() {
    let site = Site::new();
    let body = format!("[{},{},{}]", item("plant-a/1", 1.0), item("plant-b/1", 2.0), r#"{"metric":"t","value":3}"#);
    let answer = site.ask(super::readings(JSON, &["plant-a/*"], body)).await;
    assert_eq!(answer.counts(), [3, 1, 0, 2]);
    let reasons: Vec<_> = site.letters().iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(reasons, ["forbidden_device", "invalid_device"]);
}

#[tokio::test]
async fn a_reading_without_a_time_gets_the_time_of_receipt() {
    let site = Site::new();
    site.clock.set(after(7));
    site.send(JSON, r#"{"device":"a","metric":"t","value":1}"#).await;
    assert_eq!(site.readings(), [format!("a t {} 1", after(7).micros())]);
    assert_eq!(site.log.records(0)[0].received_at, after(7));
}

#[tokio::test]
async fn what_is_refused_of_a_device_travels_in_its_partition() {
    let site = Site::with(Config::default(), 4);
    let body: Vec<_> = (0..40).map(|n| format!(r#"{{"device":"d{n}","metrics":{{"t":1,"u":"x"}}}}"#)).collect();
    let answer = site.send(JSON, format!("[{},3]", body.join(","))).await;
    assert_eq!(answer.counts(), [81, 40, 0, 41]);
    for partition in 0..4 {
        for stored in site.log.records(partition) {
            if let Content::Refused(items) = record::decode(&stored.payload).unwrap().content {
                let partitions = items.iter().map(|item| {
                    use headwater_core::log::EventLog;
                    site.log.partition_of(item.device.as_deref().unwrap_or_default())
                });
                assert!(partitions.into_iter().all(|found| found == partition));
            }
        }
    }
    assert_eq!(site.counted(), 81);
}

#[tokio::test]
async fn a_parameter_is_refused_because_there_is_none() {
    let site = Site::new();
    let answer = site.ask(post("/v1/readings?precision=ms", &[("content-type", JSON)], &[], item("a", 1.0))).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json()["errors"][0]["parameter"], "precision");
    assert!(site.log.records(0).is_empty());
}
