//! Bodies that are broken, huge or hostile: refused in words, in bounded memory, and nothing of them is stored.

use crate::both::on_both;
use crate::client::{Answer, Ask, Client};
use crate::main_job::counts;
use crate::oracle::{MONDAY, Reading, as_json, gzip, zstd};
use crate::stack::{Builder, Stack};
use serde_json::json;
use std::io::Write;

on_both! {
    a_body_that_cannot_be_read_is_refused_whole_and_kept_as_a_dead_letter,
}

const MIB: usize = 1 << 20;
const GOOD: &str = r#"{"device": "a", "metric": "m", "ts": 1767571200, "value": 1}"#;

fn rows(stack: &Stack) -> usize {
    stack.settled();
    stack.rows("/v1/latest", &[]).len()
}

fn a_body_that_cannot_be_read_is_refused_whole_and_kept_as_a_dead_letter(builder: Builder) {
    let stack = builder.env("HEADWATER_INGEST__BATCH_MS", "20").start();
    let json = "application/json";
    let bad: Vec<(&str, &str, Vec<u8>)> = vec![
        (json, "", format!("[{GOOD},{{\"device\": \"b\", \"metr").into()),
        (json, "", format!("[{GOOD}] {GOOD}").into()),
        (json, "", "garbage".into()),
        (json, "", b"[\xff\xfe]".to_vec()),
        (json, "", [GOOD.as_bytes(), b"\x00"].concat()),
        (json, "", "[".repeat(10_000).into()),
        (json, "", format!("{{\"device\": \"a\", \"metrics\": {}}}", "{\"a\":".repeat(10_000)).into()),
        (json, "", "17".into()),
        (json, "gzip", gzip(GOOD.as_bytes())[..20].to_vec()),
        (json, "gzip", GOOD.into()),
        (json, "zstd", zstd(GOOD.as_bytes())[..12].to_vec()),
        ("text/csv", "", "when,who,what\n1,2,3\n".into()),
        ("text/csv", "", "device,device,ts,m\na,a,1767571200,1\n".into()),
    ];
    for (n, (kind, encoding, body)) in bad.iter().enumerate() {
        let ask = Ask::post("/v1/readings", kind, body.clone());
        let answer = stack.ask(&if encoding.is_empty() { ask } else { ask.header("Content-Encoding", encoding) });
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
        answer.problem();
        assert_eq!(rows(&stack), 0, "something of {shown} was stored");
        let letters = stack.rows("/v1/dead-letters", &[("reason", "malformed")]);
        assert_eq!(letters.len(), n + 1, "{shown}");
    }
    let counts = counts(&stack.status());
    assert_eq!((counts["received"], counts["dead"]), (bad.len() as u64, bad.len() as u64));
    // The bytes are there as they came, text or not.
    let newest_first = stack.rows("/v1/dead-letters", &[]);
    assert_eq!(newest_first[0]["text"], String::from_utf8_lossy(&bad[bad.len() - 1].2).as_ref());
    assert!(newest_first.iter().any(|letter| letter["bytes_base64"] == "W//+XQ=="), "not UTF-8: [\\xff\\xfe]");
}

#[test]
fn an_empty_body_is_refused_and_is_no_dead_letter() {
    let stack = Stack::embedded();
    for kind in ["application/json", "application/x-ndjson", "text/csv"] {
        stack.post("/v1/readings", kind, "").expect(400).problem();
    }
    stack.settled();
    assert_eq!((counts(&stack.status())["received"], stack.rows("/v1/dead-letters", &[]).len()), (0, 0));
    let nothing = stack.post("/v1/readings", "application/json", "[]").json();
    assert_eq!((&nothing["received"], &nothing["accepted"]), (&json!(0), &json!(0)), "a list of nothing can be read");
}

#[test]
fn a_wrong_item_refuses_itself_and_not_the_body() {
    let stack = Stack::embedded();
    let items = json!([
        17, null, "text", [1],
        { "device": "a" },
        { "metric": "m", "value": 1 },
        { "device": 5, "metric": "m", "value": 1 },
        { "device": "a", "metric": 5, "value": 1 },
        { "device": "a+b", "metric": "m", "value": 1 },
        { "device": "x".repeat(129), "metric": "m", "value": 1 },
        { "device": "a", "metric": "m", "value": 1, "tags": ["x"] },
        { "device": "a", "metric": "m", "value": 1, "tags": { "x": 1 } },
        { "device": "a", "metrics": { "t": "hot", "u": null, "v": 4 }, "ts": 1_767_571_200 },
        { "device": "a", "metric": "m", "value": 1, "ts": true },
    ]);
    let answer = stack.post("/v1/readings", "application/json", items.to_string()).ok().json();
    let told = ["received", "accepted", "skipped", "rejected"].map(|name| answer[name].as_u64().unwrap());
    assert_eq!(told, [16, 1, 1, 14], "{answer}");
    let errors: Vec<_> = answer["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["index"].as_u64().unwrap(), error["reason"].as_str().unwrap()))
        .collect();
    let expected = [
        (0, "malformed"),
        (1, "malformed"),
        (2, "malformed"),
        (3, "malformed"),
        (4, "malformed"),
        (5, "invalid_device"),
        (6, "invalid_device"),
        (7, "invalid_metric"),
        (8, "invalid_device"),
        (9, "invalid_device"),
        (10, "invalid_tags"),
        (11, "invalid_tags"),
        (12, "not_numeric"),
        (13, "invalid_timestamp"),
    ];
    assert_eq!(errors, expected);
    assert_eq!(rows(&stack), 1);
}

#[test]
fn the_first_hundred_errors_are_told_and_all_of_them_are_kept() {
    let stack = Stack::embedded();
    let body: String = (0..250).map(|n| format!("{{\"device\": \"a\", \"metric\": \"m\", \"value\": \"bad {n}\"}}\n{GOOD}\n")).collect();
    let answer = stack.post("/v1/readings", "application/x-ndjson", body).ok().json();
    let told: Vec<_> = answer["errors"].as_array().unwrap().iter().map(|error| error["index"].as_u64().unwrap()).collect();
    assert_eq!(told, (0..100).map(|n| 2 * n).collect::<Vec<_>>(), "in the order of the input");
    stack.settled();
    let letters = stack.rows("/v1/dead-letters", &[("limit", "77")]);
    let mut texts: Vec<_> = letters.iter().map(|letter| letter["text"].as_str().unwrap().to_owned()).collect();
    texts.sort();
    texts.dedup();
    assert_eq!((letters.len(), texts.len()), (250, 250), "over all pages, each once");
}

#[test]
fn an_item_as_deep_as_the_sea_refuses_itself_alone() {
    let stack = Stack::embedded();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
        let answer = stack.post(
            "/v1/readings",
            "application/json",
            format!("[{GOOD},{deep},{{\"device\":\"b\",\"metric\":\"m\",\"value\":{deep}}}]"),
        );
        let answer = answer.ok().json();
        assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(1), &json!(2)), "{answer}");
    }
    assert_eq!(rows(&stack), 1);
}

#[test]
fn a_bomb_is_stopped_by_the_decompressed_size() {
    let stack = Stack::embedded();
    let zeros = |write: &mut dyn Write| (0..65).for_each(|_| write.write_all(&vec![b' '; MIB]).unwrap());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    zeros(&mut gzip);
    let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
    zeros(&mut zstd);
    for (coding, bomb) in [("gzip", gzip.finish().unwrap()), ("zstd", zstd.finish().unwrap())] {
        assert!(bomb.len() < MIB, "{coding} makes it small");
        for path in ["/v1/readings", "/api/v2/write?bucket=b"] {
            stack.ask(&Ask::post(path, "application/json", bomb.clone()).header("Content-Encoding", coding)).expect(413);
        }
    }
    stack.settled();
    assert_eq!(counts(&stack.status())["received"], 0, "413 is only counted in metrics");
    assert!(peak_memory(&stack) < 400 * MIB as u64, "the server grew to {} bytes", peak_memory(&stack));
}

/// The most memory that the server has had, in bytes.
fn peak_memory(stack: &Stack) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", stack.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn a_body_over_the_limit_is_413_by_its_length_and_by_its_chunks() {
    let stack = Stack::embedded();
    let head =
        format!("POST /v1/readings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer {}\r\n", stack.token);
    let by_length = format!("{head}Content-Length: {}\r\n\r\n", 9 * MIB);
    let mebibyte = vec![b' '; MIB];
    let pieces: Vec<&[u8]> = std::iter::once(by_length.as_bytes()).chain(std::iter::repeat_n(mebibyte.as_slice(), 9)).collect();
    stack.raw(&pieces).expect(413).problem();
    // Without a length the limit is on what came.
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    let chunk = [b"100000\r\n".as_slice(), &mebibyte, b"\r\n"].concat();
    let pieces: Vec<&[u8]> =
        std::iter::once(chunked.as_bytes()).chain(std::iter::repeat_n(chunk.as_slice(), 9)).chain([b"0\r\n\r\n".as_slice()]).collect();
    stack.raw(&pieces).expect(413).problem();
    // A body of a length that nobody will ever send is refused from its head.
    let never = format!("{head}Content-Length: 99999999999\r\n\r\n");
    stack.raw(&[never.as_bytes()]).expect(413).problem();
    // And 8 MiB are still taken.
    let most = format!("[{GOOD}{}]", " ".repeat(8 * MIB - GOOD.len() - 2));
    stack.post("/v1/readings", "application/json", most).ok();
    assert_eq!(rows(&stack), 1);
}

#[test]
fn what_is_not_read_here_is_415() {
    let stack = Stack::embedded();
    for kind in ["", "text/plain", "application/xml", "application/senml+json", "application/json; charset=latin1"] {
        stack.post("/v1/readings", kind, GOOD).expect(415).problem();
    }
    for coding in ["br", "deflate", "snappy", "gzip, gzip"] {
        stack.ask(&Ask::post("/v1/readings", "application/json", GOOD).header("Content-Encoding", coding)).expect(415).problem();
    }
    assert_eq!(rows(&stack), 0);
}

#[test]
fn every_answer_carries_a_request_id_and_every_error_its_form() {
    let stack = Stack::embedded();
    let cases: Vec<(Answer, u16)> = vec![
        (stack.get("/livez"), 200),
        (stack.get("/v1/status"), 200),
        (stack.get("/no/such/route"), 404),
        (stack.ask(&Ask::new("GET", "/no/such/route").anonymous()), 404),
        (stack.ask(&Ask::new("GET", "/v1/nothing").token("garbage")), 404),
        (stack.ask(&Ask::new("DELETE", "/v1/readings")), 405),
        (stack.get("/v1/stats?nosuch=1"), 400),
        (stack.ask(&Ask::new("GET", "/v1/stats").anonymous()), 401),
        (stack.post("/v1/readings", "text/plain", "x"), 415),
        (stack.post("/v1/readings", "application/json", "x"), 400),
        (stack.post("/api/v2/write?bucket=b", "", "x"), 400),
        (stack.raw(&[b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"]), 200),
    ];
    let mut ids = Vec::new();
    for (answer, status) in cases {
        let answer = answer.expect(status);
        ids.push(answer.header("x-request-id").unwrap_or_else(|| panic!("no X-Request-Id on {answer:?}")).to_owned());
        if status >= 400 && answer.header("x-influxdb-version").is_none() {
            answer.problem();
        }
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 12, "no id comes twice");
    assert!(
        stack.ask(&Ask::new("DELETE", "/v1/readings")).header("allow").is_some_and(|allow| allow.contains("GET") && allow.contains("POST"))
    );
}

#[test]
fn an_answer_is_given_although_the_body_was_refused_unread() {
    let stack = Stack::embedded();
    // Refused by the credentials alone, with megabytes still coming: the client can read why.
    let body = vec![b' '; 7 * MIB];
    let client: Client = stack.client();
    client.ask(&Ask::post("/v1/readings", "application/json", body.clone()).token("garbage")).expect(401).problem();
    client.ask(&Ask::post("/v1/readings", "text/plain", body)).expect(415).problem();
    client.send(&as_json(&[Reading::new("a", "m", MONDAY, 1.0)]));
}
