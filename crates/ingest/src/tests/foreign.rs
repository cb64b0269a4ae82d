//! Stories of records that other programs have put into the log.

use super::{Stage, adds_up, quick};
use crate::Config;
use headwater_contract::builders::{START, at, reading};
use headwater_contract::{LogCall, MemoryLog, MemoryStore, StoreCall};
use headwater_core::dead_letter::{KeptLetter, PART_BYTES, Reason};
use headwater_core::log::{EventLog, Foreign, LogError};
use headwater_core::store::{StoreError, Totals};

fn said(content_type: &str, key: Option<&str>) -> Foreign {
    Foreign { content_type: content_type.to_owned(), key: key.map(str::to_owned) }
}

/// Records put into a log, and what ingest made of them.
struct Told {
    stage: Stage,
    totals: Totals,
}

impl Told {
    async fn of(records: &[(&str, Option<&str>, &[u8])]) -> Self {
        let log = MemoryLog::new(1);
        for (content_type, key, payload) in records {
            log.put_foreign(0, START, payload.to_vec(), said(content_type, *key));
        }
        let stage = Stage::over(quick(), log, MemoryStore::new());
        let totals = stage.settled().await;
        adds_up(&totals);
        Self { stage, totals }
    }

    async fn one(content_type: &str, key: Option<&str>, payload: &str) -> Self {
        Self::of(&[(content_type, key, payload.as_bytes())]).await
    }

    /// Received and dead.
    fn counts(&self) -> (u64, u64) {
        (self.totals.received, self.totals.dead)
    }

    /// In the order of the record.
    async fn letters(&self) -> Vec<KeptLetter> {
        let mut letters = self.stage.letters().await;
        letters.sort_by_key(|letter| letter.detail.clone());
        letters
    }

    async fn letter(&self) -> KeptLetter {
        let mut letters = self.letters().await;
        assert_eq!(letters.len(), 1, "{letters:?}");
        letters.remove(0)
    }
}

#[tokio::test]
async fn every_format_is_read_by_its_content_type() {
    let json = r#"{"device":"d","metric":"m","ts":1763910001,"value":21.5}"#;
    let cases = [
        ("application/json", json.to_owned()),
        ("Application/JSON; charset=UTF-8", format!("[{json}]")),
        ("application/x-ndjson", format!("{json}\n")),
        ("application/ndjson", json.to_owned()),
        ("application/jsonl;charset=utf-8", format!("\n{json}\n\n")),
        ("text/csv", "device,metric,ts,value\nd,m,1763910001,21.5\n".to_owned()),
        ("text/csv; header=present", "device,ts,m\nd,2025-11-23T15:00:01Z,21.5\n".to_owned()),
        ("text/plain", "m,host=d value=21.5 1763910001000000000\n".to_owned()),
        ("application/vnd.influx.line-protocol", "m,device=d value=21.5 1763910001000000000".to_owned()),
        ("application/senml+json", r#"[{"bn":"d/","bt":1763910000,"n":"m","t":1,"v":21.5}]"#.to_owned()),
        ("", json.to_owned()),
        ("", format!("\u{feff} \r\n[{json}]")),
        ("application/octet-stream", json.to_owned()),
    ];
    for (content_type, body) in cases {
        let told = Told::one(content_type, None, &body).await;
        assert_eq!(told.counts(), (1, 0), "{content_type}: {body}");
        assert_eq!(told.stage.series("d", "m").await, [(at(1).0, 21.5)], "{content_type}: {body}");
    }
}

#[tokio::test]
async fn the_key_is_the_device_of_items_that_name_none_and_limits_nothing() {
    let cases = [
        ("application/json", r#"[{"metric":"m","value":1},{"device":"other","metric":"m","value":2}]"#),
        ("application/x-ndjson", "{\"metrics\":{\"m\":1}}\n{\"device\":\"other\",\"metrics\":{\"m\":2}}"),
        ("text/csv", "device,m\n,1\nother,2\n"),
        ("text/plain", "m value=1\nm,device=other value=2"),
        ("application/senml+json", r#"[{"n":"m","v":1},{"n":"other/m","v":2}]"#),
    ];
    for (content_type, body) in cases {
        let told = Told::one(content_type, Some("press-7"), body).await;
        assert_eq!(told.counts(), (2, 0), "{content_type}");
        // Without a time of its own a reading has that of the receipt, which the log tells.
        assert_eq!(told.stage.series("press-7", "m").await, [(START.0, 1.0)], "{content_type}");
        assert_eq!(told.stage.series("other", "m").await, [(START.0, 2.0)], "{content_type}");
    }
    for key in [None, Some(""), Some("no/#/id")] {
        let told = Told::one("text/plain", key, "m value=1").await;
        assert_eq!((told.counts(), told.letter().await.reason), ((1, 1), Reason::InvalidDevice), "{key:?}");
    }
}

#[tokio::test]
async fn a_tag_of_the_configuration_names_the_device_of_line_protocol() {
    let log = MemoryLog::new(1);
    log.put_foreign(0, START, "m,sensor=s,host=h value=1", said("text/plain", None));
    let config = Config { device_tags: vec!["sensor".into()], ..quick() };
    let stage = Stage::over(config, log, MemoryStore::new());
    stage.settled().await;
    let mut snapshot = stage.snapshot().await;
    let series = snapshot.series(&headwater_core::filter::SeriesFilter::default(), None, 10).await.unwrap();
    assert_eq!(series[0].key, reading("s", "m").tag("host", "h").key());
}

#[tokio::test]
async fn good_and_bad_items_of_a_record_part_ways_and_nothing_is_lost() {
    let bad = r#"{"device":"d","metrics":{"a":1,"b":"x","c":"y","e":null}}"#;
    let body = format!(r#"[{{"device":"d","metric":"m","value":1}}, {bad} ,7,{{"device":"d","metric":"m","ts":1763910601,"value":2}}]"#);
    let told = Told::one("application/json", None, &body).await;
    // Kept: m and a. Dead: b, c, the 7, and the time that lies ahead. The null is skipped and not counted.
    assert_eq!(told.counts(), (6, 4));
    assert_eq!((told.totals.unsealed, told.totals.dead_letters), (2, 3));
    let letters = told.letters().await;
    let shown: Vec<_> = letters.iter().map(|l| (l.reason, l.count, &*l.format, String::from_utf8_lossy(&l.bytes).into_owned())).collect();
    let ahead = r#"{"device":"d","metric":"m","ts":1763910601,"value":2}"#;
    let expected = [
        (Reason::TimestampTooFarAhead, 1, "json", ahead.to_owned()),
        (Reason::Malformed, 1, "json", "7".to_owned()),
        (Reason::NotNumeric, 2, "json", bad.to_owned()),
    ];
    assert_eq!(shown, expected);
    assert!(letters.iter().all(|l| l.received_at == START && l.origin.as_ref().is_some_and(|o| o.position == 0)));
    assert_eq!(letters[2].device.as_deref(), Some("d"));
}

#[tokio::test]
async fn dead_letters_carry_the_format_and_the_bytes_of_their_item() {
    let cases = [
        ("application/x-ndjson", "{\"device\":\"d\",\"metric\":\"m\",\"value\":1}\n{\"device\n", "ndjson", "{\"device"),
        ("text/csv", "device,metric,value\nd,m,1\nd,m,x\n", "csv+header", "device,metric,value\nd,m,x"),
        ("text/plain", "m,device=d value=1\nm,device=d value=\n", "line", "m,device=d value="),
        ("application/senml+json", r#"[{"n":"d/m","v":1},{"n":"d/m","v":"x"}]"#, "senml", r#"{"n":"d/m","v":"x"}"#),
    ];
    for (content_type, body, format, bytes) in cases {
        let told = Told::one(content_type, None, body).await;
        assert_eq!(told.counts(), (2, 1), "{content_type}");
        let letter = told.letter().await;
        assert_eq!((&*letter.format, String::from_utf8_lossy(&letter.bytes)), (format, bytes.into()), "{content_type}");
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_as_a_whole_is_one_dead_letter_with_all_its_bytes() {
    let cases = [
        ("application/json", "{\"device\":", "json", Reason::Malformed),
        ("application/json", "21.5", "json", Reason::Malformed),
        ("text/csv", "a,b\n1,2\n3,4\n", "csv", Reason::Malformed),
        ("application/senml+json", r#"[{"bver":11,"n":"d/m","v":1},{"n":"d/m","v":1}]"#, "senml", Reason::Malformed),
        ("", "m,device=d value=1", "unknown", Reason::Undecodable),
        ("", "{\"device\":\"d\"", "json", Reason::Malformed),
        ("application/avro", "{\"device\":\"d\",\"metric\":\"m\",\"value\":1}", "unknown", Reason::Undecodable),
        ("text/csv;header=absent", "d,m,1\n", "unknown", Reason::Undecodable),
        ("\u{1b}[31m", "x", "unknown", Reason::Undecodable),
    ];
    for (content_type, body, format, reason) in cases {
        let told = Told::one(content_type, None, body).await;
        assert_eq!(told.counts(), (1, 1), "{content_type}: {body}");
        let letter = told.letter().await;
        assert_eq!((&*letter.format, letter.reason, letter.count), (format, reason, 1), "{content_type}: {body}");
        assert_eq!(String::from_utf8_lossy(&letter.bytes), body);
        assert!(letter.detail.starts_with("record 0 of partition 0") && !letter.detail.chars().any(char::is_control), "{}", letter.detail);
    }
}

#[tokio::test]
async fn long_bytes_are_kept_whole() {
    let long = "x".repeat(2 * PART_BYTES);
    let whole = Told::one("application/json", None, &format!("{{\"{long}\":")).await;
    assert_eq!((whole.counts(), whole.letter().await.bytes.len()), ((1, 1), 2 * PART_BYTES + 4));
    let item = format!(r#"{{"device":"d","metric":"m","value":"{long}"}}"#);
    let part = Told::one("application/json", None, &format!("[{item},{{\"device\":\"d\",\"metric\":\"m\",\"value\":1}}]")).await;
    assert_eq!((part.counts(), part.letter().await.letter.bytes), ((2, 1), item.into_bytes()));
    // Longer ones than will be decoded.
    let huge = Told::one("text/plain", None, &"m,device=d value=1\n".repeat(250_000)).await;
    let letter = huge.letter().await;
    assert_eq!((huge.counts(), letter.reason, letter.bytes.len()), ((1, 1), Reason::Undecodable, 4_750_000));
}

#[tokio::test]
async fn a_record_of_nothing_counts_nothing() {
    let told = Told::of(&[
        ("application/json", Some("d"), b""),
        ("text/plain", None, b"\n# a note\n"),
        ("", None, b" \n"),
        ("application/json", None, b"[]"),
        ("application/json", None, br#"{"device":"d","metric":"m","value":null}"#),
        ("application/senml+json", None, br#"[{"n":"d/m","vs":"on"}]"#),
    ])
    .await;
    assert_eq!((told.counts(), told.totals.dead_letters), ((0, 0), 0));
    assert_eq!(told.totals.positions[0].next, 6);
}

#[tokio::test]
async fn a_foreign_record_that_rotted_is_a_dead_letter_too() {
    let log = MemoryLog::new(1);
    log.put_foreign(0, START, "m,device=d value=1", said("text/plain", None));
    log.damage(0, 0);
    let stage = Stage::over(quick(), log, MemoryStore::new());
    let totals = stage.settled().await;
    adds_up(&totals);
    assert_eq!((totals.received, totals.dead, stage.letters().await[0].reason), (1, 1, Reason::Undecodable));
}

#[tokio::test]
async fn foreign_records_and_those_of_gateways_share_batches_and_limits() {
    let log = MemoryLog::new(1);
    let stage = Stage::over(Config { batch_readings: 3, series_per_device: 1, ..quick() }, log.clone(), MemoryStore::new());
    for i in 0..20 {
        stage.send(&[reading("a", "t").at(at(i)).value(i as f64)]).await;
        let line = format!("t,device=b value={i} {}000\nu,device=b value=1\nbroken\n", at(i).0);
        log.put_foreign(0, START, line, said("text/plain", None));
    }
    let totals = stage.settled().await;
    adds_up(&totals);
    assert_eq!((totals.received, totals.dead), (80, 40));
    for device in ["a", "b"] {
        assert_eq!(stage.series(device, "t").await, (0..20).map(|i| (at(i).0, i as f64)).collect::<Vec<_>>());
    }
    let letters = stage.letters().await;
    assert_eq!(letters.len(), 21, "each refused line has an id of its own, the one reading beyond the limit always the same");
    let beyond: Vec<_> = letters.iter().filter(|l| l.reason == Reason::SeriesLimit).map(|l| (l.count, l.history.seen)).collect();
    assert_eq!((beyond, letters.iter().map(|l| l.count).sum::<u64>()), (vec![(20, 20)], 40));
}

#[tokio::test]
async fn a_replay_makes_the_same_dead_letters_and_counts() {
    let log = MemoryLog::new(1);
    for _ in 0..3 {
        log.put_foreign(0, START, r#"[{"device":"d","metrics":{"a":1,"b":"x"}},7]"#, said("application/json", None));
        log.put_foreign(0, START, "what is this", said("", None));
    }
    let mut told = Vec::new();
    for _ in 0..2 {
        let stage = Stage::over(quick(), log.clone(), MemoryStore::new());
        // The log keeps what was applied, as Kafka does, and a store of an older backup reads it again.
        stage.log.faults.fail(LogCall::TrimTo, u32::MAX, LogError::Unavailable("not now".into()));
        stage.store.faults.fail(StoreCall::Commit, 1, StoreError::Unavailable("not now".into()));
        let totals = stage.settled().await;
        adds_up(&totals);
        let mut letters = stage.letters().await;
        letters.sort_by_key(|letter| letter.id);
        stage.stop.cancel();
        stage.ended().await.unwrap();
        told.push((totals.received, totals.dead, letters));
    }
    assert_eq!(log.bounds().await.unwrap()[0].start, 0);
    assert_eq!((told[0].0, told[0].1, told[0].2.len()), (12, 9, 9));
    assert_eq!(told[0], told[1]);
}

#[test]
fn tags_that_cannot_name_a_device_are_told_by_their_place() {
    assert_eq!(Config::default().validate(), Vec::<String>::new());
    let problems = Config { device_tags: vec!["host".into(), String::new(), "host".into()], ..Config::default() }.validate();
    assert_eq!(problems.len(), 2);
    assert!(problems[0].starts_with("device_tags[1]") && problems[1].starts_with("device_tags[2]"), "{problems:?}");
}
