//! What was refused, taken in again: every format, as it is and edited, now and later.

use super::*;
use crate::Readmission;
use headwater_contract::LogCall;
use headwater_contract::builders::{at, reading_batch};
use headwater_core::dead_letter::{DeadLetter, Readmitted, Reason, RetryOutcome};
use headwater_core::log::LogError;
use headwater_web::{Error, Sent};
use headwater_wire::record::encode_readings;
use uuid::Uuid;

/// The way back into the log of a site.
fn way_back(site: &Site, stop: &CancellationToken) -> Readmission {
    let deps = Deps {
        log: site.faulty.clone(),
        clock: site.clock.clone(),
        decode_budget: Arc::clone(&site.budget),
        clock_floor: START.plus(-1),
        health: site.health.clone(),
        metrics: crate::Metrics::default(),
    };
    let config = Config { append_wait: Duration::from_millis(100), ..Config::default() };
    Readmission::new(config, deps, stop.clone())
}

/// What the site's dead letter number `n` is once it is kept.
fn kept(site: &Site, n: usize, received_at: Timestamp) -> DeadLetter {
    let RefusedItem { id, reason, detail, device, format, count, bytes, part, parts } = site.letters().remove(n);
    DeadLetter { id, received_at, reason, detail, device, format, count, bytes, part, parts, origin: None }
}

fn letter(format: &str, reason: Reason, device: Option<&str>, bytes: impl Into<Vec<u8>>) -> DeadLetter {
    DeadLetter {
        id: Uuid::nil(),
        received_at: START,
        reason,
        detail: "the value 1.5 came first and stays".to_owned(),
        device: device.map(str::to_owned),
        format: format.to_owned(),
        count: 1,
        bytes: bytes.into(),
        part: 0,
        parts: 1,
        origin: None,
    }
}

async fn retry(site: &Site, letter: &DeadLetter) -> Result<Readmitted, Error> {
    way_back(site, &CancellationToken::new()).readmit(letter, Sent::default(), DevicePatterns::All).await
}

fn sent(headers: &[(&str, &str)], body: impl Into<Body>) -> Sent {
    let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    Sent { headers, body: body.into() }
}

async fn edit(site: &Site, letter: &DeadLetter, headers: &[(&str, &str)], body: impl Into<Body>) -> Result<Readmitted, Error> {
    way_back(site, &CancellationToken::new()).readmit(letter, sent(headers, body), DevicePatterns::All).await
}

#[tokio::test]
async fn what_a_wrong_clock_refused_is_taken_in_once_the_time_has_come() {
    let late = after(3_600);
    let seconds = late.micros() / 1_000_000;
    let micros = late.micros();
    let bodies = [
        (JSON, format!(r#"[{{"device":"a","ts":{seconds},"metrics":{{"t":1.5}}}}]"#)),
        (JSON, format!(r#"{{"device":"a","ts":{seconds},"metrics":{{"t":1.5}}}}"#)),
        (NDJSON, format!(r#"{{"device":"a","ts":{seconds},"metrics":{{"t":1.5}}}}"#)),
        (CSV, format!("device,ts,t\na,{seconds},1.5\n")),
        (CSV, format!("ts,value,metric,device\r\n{seconds},1.5,t,a\r\n")),
    ];
    for (kind, body) in bodies {
        let site = Site::new();
        assert_eq!(site.send(kind, body.clone()).await.counts(), [1, 0, 0, 1], "{body}");
        let letter = kept(&site, 0, START);
        let early = retry(&site, &letter).await.unwrap();
        assert_eq!((early.outcome(), early.refused[0].reason), (RetryOutcome::Rejected, Reason::TimestampTooFarAhead), "{body}");
        site.clock.set(late);
        let readmitted = retry(&site, &letter).await.unwrap();
        assert_eq!((readmitted.outcome(), readmitted.at, readmitted.accepted), (RetryOutcome::Accepted, late, 1), "{body}");
        assert_eq!(readmitted.detail(), "");
        assert_eq!(site.readings(), [format!("a t {micros} 1.5")], "{body}");
        assert_eq!(site.letters().len(), 1, "a retry makes no letter");
        assert_eq!(site.log.records(0).last().unwrap().received_at, late, "its record was received when it was retried");
        assert_eq!(site.budget.free_bytes(), site.budget.bytes(), "everything reserved is given back");
    }
}

#[tokio::test]
async fn line_protocol_keeps_what_its_times_count_and_whose_it_was() {
    let late = after(3_600);
    for (precision, factor) in [("s", 1_000_000), ("ms", 1_000), ("us", 1), ("m", 60_000_000), ("", 1)] {
        let site = Site::new();
        let time = if precision.is_empty() { late.micros() * 1_000 } else { late.micros() / factor };
        let uri = format!("/api/v2/write?bucket=plant&precision={precision}");
        site.ask(super::post(&uri, &[], &[], format!("t value=1.5 {time}"))).await;
        let letter = kept(&site, 0, START);
        let name = if matches!(precision, "") { "line".to_owned() } else { format!("line;precision={precision}") };
        assert_eq!((letter.format.as_str(), letter.device.as_deref()), (name.as_str(), Some("plant")));
        site.clock.set(late);
        assert_eq!(retry(&site, &letter).await.unwrap().outcome(), RetryOutcome::Accepted, "{precision}");
        assert_eq!(site.readings(), [format!("plant t {} 1.5", late.micros())], "{precision}");
        // An edited line counts its times as the letter does.
        let edited = format!("u,host=h value=2 {time}");
        assert_eq!(edit(&site, &letter, &[], edited).await.unwrap().accepted, 1);
        assert_eq!(site.readings()[0], format!("h u {} 2", late.micros()), "{precision}");
    }
}

#[tokio::test]
async fn a_reading_without_a_time_keeps_its_first_receipt_however_often_it_is_taken_in() {
    let site = Site::new();
    site.ask(super::readings(JSON, &["b"], r#"{"device":"a","metric":"t","value":1}"#)).await;
    let letter = kept(&site, 0, START);
    assert_eq!(letter.reason, Reason::ForbiddenDevice);
    for seconds in [10, 500, 90_000] {
        site.clock.set(after(seconds));
        assert_eq!(retry(&site, &letter).await.unwrap().accepted, 1);
    }
    assert_eq!(site.readings(), vec![format!("a t {} 1", START.micros()); 3], "one key and one value, three times");
}

#[tokio::test]
async fn what_is_still_wrong_is_told_item_by_item_and_the_rest_is_taken_in() {
    let site = Site::new();
    let body = format!(r#"{{"device":"a","ts":{},"metrics":{{"t":1,"u":"hot","v":null,"w":2}}}}"#, START.micros());
    site.send(JSON, body).await;
    let letter = kept(&site, 0, START);
    let readmitted = retry(&site, &letter).await.unwrap();
    assert_eq!((readmitted.accepted, readmitted.skipped, readmitted.rejected), (2, 1, 1));
    assert_eq!(
        (readmitted.outcome(), readmitted.refused[0].reason, readmitted.refused[0].place),
        (RetryOutcome::Partly, Reason::NotNumeric, Some(("index", 0)))
    );
    assert!(readmitted.detail().contains("\"u\""), "{}", readmitted.detail());
    assert_eq!(site.letters().len(), 1);
}

#[tokio::test]
async fn an_edited_letter_is_of_its_own_format_or_of_the_one_that_is_said() {
    let site = Site::new();
    let letter = letter("csv+header", Reason::NotNumeric, Some("a"), "device,ts,t\na,1763910000,hot");
    let cases: [(&[(&str, &str)], &str); 6] = [
        (&[], "device,ts,t\na,1763910000,1"),
        (&[("content-type", "text/csv; header=present")], "ts,t\n1763910000,1"),
        (&[("content-type", "application/json")], r#"{"ts":1763910000,"metric":"t","value":1}"#),
        (&[("content-type", "application/x-ndjson")], r#"{"device":"a","ts":1763910000,"metric":"t","value":1}"#),
        (&[("content-type", "text/plain")], "t value=1 1763910000000000000"),
        (&[("content-type", "application/senml+json")], r#"[{"n":"t","bt":1763910000,"v":1}]"#),
    ];
    for (headers, body) in cases {
        let readmitted = edit(&site, &letter, headers, body).await.unwrap();
        assert_eq!((readmitted.outcome(), readmitted.accepted), (RetryOutcome::Accepted, 1), "{body}");
    }
    assert_eq!(site.readings(), vec![format!("a t {} 1", START.micros()); 6], "of the letter's device, where none is named");
    let packed = gzip(b"device,ts,t\na,1763910000,7");
    assert_eq!(edit(&site, &letter, &[("content-encoding", "gzip")], packed).await.unwrap().accepted, 1);
    for (headers, body, status) in [
        (&[("content-type", "text/html")][..], "x", 415),
        (&[("content-encoding", "br")], "x", 415),
        (&[("content-encoding", "gzip")], "x", 400),
    ] {
        assert_eq!(edit(&site, &letter, headers, body).await.unwrap_err().status().as_u16(), status, "{headers:?}");
    }
    assert_eq!(site.letters().len(), 0);
    // Blank is nothing, and so the letter as it is.
    assert_eq!(edit(&site, &letter, &[], "\n ").await.unwrap().outcome(), RetryOutcome::Rejected);
    assert_eq!(edit(&site, &letter, &[], "device,ts,t\n").await.unwrap().detail(), "there is no reading in it");
}

#[tokio::test]
async fn a_caller_takes_in_for_his_devices_alone() {
    let site = Site::new();
    let only = DevicePatterns::Some(vec![Glob::new("plant-a/*")]);
    let way_back = way_back(&site, &CancellationToken::new());
    let letter = letter("json", Reason::NotNumeric, Some("plant-a/1"), r#"{"device":"plant-b/1","metric":"t","value":1}"#);
    let refused = way_back.readmit(&letter, Sent::default(), only.clone()).await.unwrap();
    assert_eq!(refused.refused[0].reason, Reason::ForbiddenDevice);
    let edited = sent(&[], r#"[{"metric":"t","value":1},{"device":"plant-b/2","metric":"t","value":1}]"#);
    let readmitted = way_back.readmit(&letter, edited, only.clone()).await.unwrap();
    assert_eq!((readmitted.accepted, readmitted.rejected), (1, 1));
    assert_eq!(site.readings(), [format!("plant-a/1 t {} 1", START.micros())]);
    let record = super::readmission::letter("record", Reason::Undecodable, None, "x");
    assert_eq!(way_back.readmit(&record, Sent::default(), only).await.unwrap().refused[0].reason, Reason::ForbiddenDevice);
}

#[tokio::test]
async fn what_cannot_be_taken_in_as_it_is_says_why_and_appends_nothing() {
    let site = Site::new();
    let cases = [
        (
            letter("json", Reason::Conflict, Some("a"), r#"{"device":"a","metric":"t","ts":1763910000,"value":2.0,"kept":1.5}"#),
            "a conflict again: the value 1.5 came first",
        ),
        (letter("json", Reason::Malformed, None, "[{"), "is not JSON"),
        (letter("json+gzip", Reason::Malformed, None, "no gzip"), "not valid gzip"),
        (letter("line+zstd;precision=s", Reason::Malformed, None, "no zstd"), "not valid zstd"),
        (letter("csv", Reason::Malformed, None, "when,what\n1,2\n"), "device"),
        (letter("ndjson", Reason::Malformed, None, "{\n"), "cannot be read"),
        (letter("line", Reason::Malformed, None, "x"), ""),
        (letter("unknown", Reason::Undecodable, None, b"\x08\x96".to_vec()), "nobody can tell"),
        (letter("senml+lost", Reason::Malformed, None, r#"{"n":"d/m","v":1}"#), "base fields"),
        (letter("record", Reason::Undecodable, None, "HWR1 damaged"), "still cannot be decoded"),
    ];
    for (letter, words) in cases {
        let readmitted = retry(&site, &letter).await.unwrap();
        assert_eq!(readmitted.outcome(), RetryOutcome::Rejected, "{letter:?}");
        assert!(readmitted.detail().contains(words) && !readmitted.detail().is_empty(), "{} of {letter:?}", readmitted.detail());
    }
    assert_eq!(site.log.records(0).len(), 0);
    // Edited, a conflict may pass.
    let conflict = letter("json", Reason::Conflict, Some("a"), "{}");
    assert_eq!(edit(&site, &conflict, &[], r#"{"device":"a","metric":"t","ts":1763910001,"value":2.0}"#).await.unwrap().accepted, 1);
}

#[tokio::test]
async fn letters_that_are_not_from_here_are_taken_in_too() {
    let site = Site::new();
    let seconds = START.micros() / 1_000_000;
    let own =
        encode_readings(&reading_batch(&[headwater_contract::builders::reading("r", "t").value(4.0)]), at(-5), &|_| 0).remove(0).payload;
    let letters = [
        letter("senml+base", Reason::TimestampTooFarAhead, Some("d"), format!(r#"[{{"bn":"d/","bt":{seconds}}},{{"n":"m","v":1}}]"#)),
        letter("senml", Reason::TimestampTooFarAhead, Some("d"), format!(r#"{{"n":"d/m","t":{seconds},"v":2}}"#)),
        letter("json", Reason::SeriesLimit, Some("s"), format!(r#"[{{"device":"s","metric":"m","ts":{seconds},"value":3.0}}]"#)),
        letter("record", Reason::Undecodable, None, own.to_vec()),
        // Neighbours that were refused for one reason, in one letter.
        letter(
            "json",
            Reason::ForbiddenDevice,
            Some("n"),
            format!(r#"{{"device":"n","ts":{seconds},"metrics":{{"a":5}}}}, {{"device":"n","ts":{seconds},"metrics":{{"b":6}}}}"#),
        ),
    ];
    for letter in &letters {
        assert_eq!(retry(&site, letter).await.unwrap().outcome(), RetryOutcome::Accepted, "{letter:?}");
    }
    let micros = START.micros();
    let expected = [("d m", 1), ("d m", 2), ("n a", 5), ("n b", 6), ("r t", 4), ("s m", 3)]
        .map(|(series, value)| format!("{series} {micros} {value}"));
    assert_eq!(site.readings(), expected);
}

#[tokio::test]
async fn a_log_that_pushes_back_is_a_503_and_a_stop_ends_what_has_begun() {
    let site = Site::new();
    let letter = letter("json", Reason::ForbiddenDevice, Some("a"), item("a", 1.0));
    site.faulty.faults.fail(LogCall::Append, 1_000, LogError::Busy("full".into()));
    let error = retry(&site, &letter).await.unwrap_err();
    assert_eq!((error.status().as_u16(), error.code()), (503, "log_busy"));
    site.faulty.faults.heal();
    let stop = CancellationToken::new();
    let way_back = Arc::new(way_back(&site, &stop));
    let held = site.faulty.faults.hold(LogCall::Append);
    let begun = {
        let (way_back, letter) = (Arc::clone(&way_back), letter.clone());
        tokio::spawn(async move { way_back.readmit(&letter, Sent::default(), DevicePatterns::All).await })
    };
    site.faulty.faults.called(LogCall::Append, site.faulty.faults.calls(LogCall::Append) + 1).await;
    stop.cancel();
    assert_eq!(way_back.readmit(&letter, Sent::default(), DevicePatterns::All).await.unwrap_err().code(), "stopping");
    drop(held);
    assert_eq!(begun.await.unwrap().unwrap().accepted, 1);
    headwater_contract::within(way_back.drained()).await;
}
