//! Golden cases of JSON and NDJSON.

use crate::tests::{check_invariants, context, device_context, readings, refusals};
use crate::{Context, Decoded, Unreadable};

fn decode(body: &str) -> Decoded {
    let decoded = super::decode(body.as_bytes(), &context()).unwrap();
    check_invariants(body.as_bytes(), &decoded, &context());
    decoded
}

fn unreadable(body: &[u8]) -> Unreadable {
    super::decode(body, &context()).unwrap_err()
}

#[test]
fn both_forms_are_read() {
    let cases = [
        (
            r#"{"device": "plant-a/press-7", "ts": 1763910000123, "metrics": {"temperature": 21.5, "pressure": 1.02}, "tags": {"line": "3"}}"#,
            vec!["plant-a/press-7 temperature{line=3} 123000 21.5", "plant-a/press-7 pressure{line=3} 123000 1.02"],
        ),
        (
            r#"{"device": "plant-a/press-7", "metric": "temperature", "ts": "2025-11-23T15:00:00.123Z", "value": 21.5, "unit": "Cel"}"#,
            vec!["plant-a/press-7 temperature 123000 21.5 Cel"],
        ),
        (r#"[{"value":1,"metric":"m","device":"d"},{"metrics":{"m":2},"device":"d"}]"#, vec!["d m 0 1", "d m 0 2"]),
        (
            r#"{"device":"d","metrics":{"a":true,"b":false,"c":-0.0,"d":1E3,"e":9007199254740993}}"#,
            vec!["d a 0 1", "d b 0 0", "d c 0 0", "d d 0 1000", "d e 0 9007199254740992"],
        ),
        (r#"{"device":"d","metric":"m","value":1,"ts":1763910000.123456789}"#, vec!["d m 123456 1"]),
        (r#"{"device":"d","metric":"m","value":1,"time":1763910000.5}"#, vec!["d m 500000 1"]),
        (r#"{"device":"d","metric":"m","value":1,"ts":1763910001,"time":"whenever"}"#, vec!["d m 1000000 1"]),
        (r#"{"d\u0065vice":"d\u00e9","metrics":{"\u00b0C":1},"tags":{"b":"\"","a":"\/"}}"#, vec!["dé °C{a=/,b=\"} 0 1"]),
        (r#"{"device":"d","metric":"m","value":1,"location":{"lat":[1,2]},"quality":null}"#, vec!["d m 0 1"]),
        (r#"{"device":"d","metric":"m","value":1,"tags":{},"unit":null}"#, vec!["d m 0 1"]),
        (r#"{"device":"d","metrics":{"a":1,"b":2},"unit":"V"}"#, vec!["d a 0 1 V", "d b 0 2 V"]),
        (r#"{"device":"d","metrics":{"a":1,"a":2}}"#, vec!["d a 0 1", "d a 0 2"]),
        ("\u{feff} [ ] ", vec![]),
        (r#"{"device":"d","metrics":{}}"#, vec![]),
    ];
    for (body, expected) in cases {
        let decoded = decode(body);
        assert_eq!(readings(&decoded), expected, "{body}");
        assert_eq!((refusals(&decoded).len(), decoded.skipped), (0, 0), "{body}");
    }
}

#[test]
fn null_is_skipped() {
    let decoded = decode(r#"[{"device":"d","metrics":{"a":null,"b":1,"c":null}},{"device":"d","metric":"m","value":null}]"#);
    assert_eq!((readings(&decoded), decoded.skipped), (vec!["d b 0 1".to_owned()], 3));
    assert!(decoded.refused.is_empty());
}

#[test]
fn items_are_refused_alone_and_with_their_reason() {
    let long = "x".repeat(129);
    let cases = [
        ("1", "malformed 1"),
        ("\"text\"", "malformed 1"),
        ("null", "malformed 1"),
        ("[]", "malformed 1"),
        ("{}", "malformed 1"),
        (r#"{"device":"d"}"#, "malformed 1"),
        (r#"{"device":"d","metrics":5}"#, "malformed 1"),
        (r#"{"device":"d","metrics":null}"#, "malformed 1"),
        (r#"{"device":"d","metric":"m"}"#, "malformed 1"),
        (r#"{"device":"d","value":1}"#, "malformed 1"),
        (r#"{"device":"d","metric":"m","value":1,"metrics":{"a":1,"b":2}}"#, "malformed 2"),
        (r#"{"device":"d","value":1,"metrics":{"a":1}}"#, "malformed 1"),
        (r#"{"device":"d","device":"d","metric":"m","value":1}"#, "malformed 1"),
        (r#"{"device":"d","metrics":{"a":1},"metrics":{"b":1}}"#, "malformed 2"),
        (r#"{"metric":"m","value":1}"#, "invalid_device 1"),
        (r#"{"device":"","metric":"m","value":1}"#, "invalid_device 1"),
        (r#"{"device":null,"metric":"m","value":1}"#, "invalid_device 1"),
        (r#"{"device":7,"metrics":{"a":1,"b":2,"c":3}}"#, "invalid_device 3"),
        (r#"{"device":"a\nb","metric":"m","value":1}"#, "invalid_device 1"),
        (r#"{"device":"\ud800","metric":"m","value":1}"#, "invalid_device 1"),
        (r#"{"device":"a#","metric":"m","value":1}"#, "invalid_device 1"),
        (&format!(r#"{{"device":"{long}","metric":"m","value":1}}"#), "invalid_device 1"),
        (r#"{"device":"d","metric":"","value":1}"#, "invalid_metric 1"),
        (r#"{"device":"d","metric":7,"value":1}"#, "invalid_metric 1"),
        (r#"{"device":"d","metrics":{"a+":1}}"#, "invalid_metric 1"),
        (&format!(r#"{{"device":"d","metric":"m","value":1,"unit":"{}"}}"#, "u".repeat(65)), "invalid_metric 1"),
        (r#"{"device":"d","metric":"m","value":1,"unit":7}"#, "invalid_metric 1"),
        (r#"{"device":"d","metrics":{"a":1,"b":2},"tags":[]}"#, "invalid_tags 2"),
        (r#"{"device":"d","metrics":{"a":1},"tags":null}"#, "invalid_tags 1"),
        (r#"{"device":"d","metrics":{"a":1},"tags":{"x":1}}"#, "invalid_tags 1"),
        (r#"{"device":"d","metrics":{"a":1},"tags":{"x":""}}"#, "invalid_tags 1"),
        (r#"{"device":"d","metrics":{"a":1},"tags":{"x":"1","x":"2"}}"#, "invalid_tags 1"),
        (r#"{"device":"d","metric":"m","value":1,"ts":"yesterday"}"#, "invalid_timestamp 1"),
        (r#"{"device":"d","metric":"m","value":1,"ts":"1763910000"}"#, "invalid_timestamp 1"),
        (r#"{"device":"d","metric":"m","value":1,"ts":null}"#, "invalid_timestamp 1"),
        (r#"{"device":"d","metric":"m","value":1,"ts":true}"#, "invalid_timestamp 1"),
        (r#"{"device":"d","metric":"m","value":1,"ts":[1]}"#, "invalid_timestamp 1"),
        (r#"{"device":"d","metric":"m","value":1,"ts":1763910600.000001}"#, "timestamp_too_far_ahead 1"),
        (r#"{"device":"d","metric":"m","value":1,"ts":1e300}"#, "timestamp_too_far_ahead 1"),
        (r#"{"device":"d","metric":"m","value":1,"ts":0}"#, "timestamp_too_old 1"),
        (r#"{"device":"d","metric":"m","value":1,"ts":"1989-12-31T23:59:59.999999Z"}"#, "timestamp_too_old 1"),
        (r#"{"device":"d","metric":"m","value":1e999}"#, "not_finite 1"),
        (r#"{"device":"d","metric":"m","value":-1e999}"#, "not_finite 1"),
        (r#"{"device":"d","metric":"m","value":"21.5"}"#, "not_numeric 1"),
        (r#"{"device":"d","metric":"m","value":[1]}"#, "not_numeric 1"),
        (r#"{"device":"d","metric":"m","value":{"v":1}}"#, "not_numeric 1"),
    ];
    let good = r#"{"device":"g","metric":"m","value":1}"#;
    for (item, expected) in cases {
        let body = format!("[{good}, {item} ,{good}]");
        let decoded = decode(&body);
        assert_eq!(refusals(&decoded), [format!("item 1 {expected}")], "{item}");
        assert_eq!(readings(&decoded), ["g m 0 1", "g m 0 1"], "{item}");
        assert_eq!(&body[decoded.refused[0].span.clone()], item);
        let lines = format!("{good}\n \n{item} \r\n{good}");
        let decoded = crate::ndjson::decode(lines.as_bytes(), &context()).unwrap();
        assert_eq!(refusals(&decoded), [format!("item 1 {expected}")], "{item}");
        assert_eq!((&lines[decoded.refused[0].span.clone()], decoded.batch.len()), (item, 2));
    }
    // At the borders.
    assert_eq!(readings(&decode(r#"{"device":"d","metric":"m","value":1,"ts":1763910600}"#)), ["d m 600000000 1"]);
    assert_eq!(decode(r#"{"device":"d","metric":"m","value":1,"ts":"1990-01-01T00:00:00Z"}"#).batch.len(), 1);
}

#[test]
fn a_bad_metric_is_refused_without_its_neighbours() {
    let body = r#"{"device":"d","metrics":{"a":1,"b":"x","c*":2,"d":1e999,"e":null,"f":3}}"#;
    let decoded = decode(body);
    assert_eq!(readings(&decoded), ["d a 0 1", "d f 0 3"]);
    assert_eq!(refusals(&decoded), ["item 0 not_numeric 1", "item 0 invalid_metric 1", "item 0 not_finite 1"]);
    assert!(decoded.refused.iter().all(|refused| refused.span == (0..body.len()) && refused.device.as_deref() == Some("d")));
    assert_eq!((decoded.received(), decoded.skipped), (6, 1));
}

#[test]
fn an_item_with_too_many_metrics_is_refused_whole() {
    let context = Context { max_metrics: 2, ..context() };
    let of =
        |n: usize| format!(r#"{{"device":"d","metrics":{{{}}}}}"#, (0..n).map(|i| format!(r#""m{i}":{i}"#)).collect::<Vec<_>>().join(","));
    assert_eq!(super::decode(of(2).as_bytes(), &context).unwrap().batch.len(), 2);
    let decoded = super::decode(of(3).as_bytes(), &context).unwrap();
    assert_eq!((refusals(&decoded), decoded.batch.len()), (vec!["item 0 too_many_metrics 3".to_owned()], 0));
}

#[test]
fn a_device_writes_as_itself_only() {
    let body = br#"[{"metric":"m","value":1},{"device":"press-7","metric":"m","value":2},{"device":"press-8","metrics":{"a":1,"b":2}}]"#;
    let decoded = super::decode(body, &device_context()).unwrap();
    assert_eq!(readings(&decoded), ["press-7 m 0 1", "press-7 m 0 2"]);
    assert_eq!(refusals(&decoded), ["item 2 forbidden_device 2"]);
    assert_eq!(decoded.refused[0].device.as_deref(), Some("press-8"));
}

#[test]
fn what_is_no_json_is_refused_whole() {
    for (body, pointer) in [
        ("", None),
        (" \n", None),
        ("5", None),
        ("\"device\"", None),
        ("null", None),
        ("device,ts", None),
        (r#"{"device":"d","metric":"m","value":1"#, None),
        (r#"{"device":"d","metric":"m","value":NaN}"#, None),
        (r#"{"device":"d","metric":"m","value":01}"#, None),
        (r#"{"device":"d","metric":"m","value":1} x"#, None),
        (r#"{"device":"d","metric":"m","value":1}{"device":"d"}"#, None),
        (r#"[{"device":"d","metric":"m","value":1},{"device":"#, Some("/1")),
        (r#"[{"device":"d","metric":"m","value":1},]"#, Some("/1")),
        (r#"[{"device":"d","metric":"m","value":1}"#, Some("/1")),
        ("[{\"device\":\"a\tb\"}]", Some("/0")),
        (r#"[{"device":"d"}] ]"#, None),
    ] {
        let unreadable = unreadable(body.as_bytes());
        assert_eq!(unreadable.pointer.as_deref(), pointer, "{body}: {unreadable}");
    }
    assert!(unreadable(b"[{\"device\":\"d\xff\"}]").detail.ends_with("at byte 13"));
    assert!(unreadable(b"[\n{},\n{]").detail.contains("line 3 column 2"));
}

#[test]
fn depth_costs_no_stack() {
    for depth in [200, 10_000, 1_000_000] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(decode(&format!(r#"{{"device":"d","metrics":{{"a":{deep},"b":1}},"x":{deep}}}"#)).batch.len(), 1);
        assert_eq!(refusals(&decode(&format!("[{deep}]"))), ["item 0 malformed 1"]);
        unreadable("[{\"a\":".repeat(depth).as_bytes());
        unreadable("[".repeat(depth).as_bytes());
    }
}

#[test]
fn a_broken_line_of_ndjson_costs_that_line() {
    let body = b"\xef\xbb\xbf{\"device\":\"d\",\"metric\":\"m\",\"value\":1}\n{\"device\":\n{\"device\":\"d\xff\"}\n{\"device\":\"d\",\"metric\":\"m\",\"value\":2} {}\n{\"device\":\"d\",\"metric\":\"m\",\"value\":3}";
    let decoded = crate::ndjson::decode(body, &context()).unwrap();
    assert_eq!(readings(&decoded), ["d m 0 1", "d m 0 3"]);
    assert_eq!(refusals(&decoded), ["item 1 malformed 1", "item 2 malformed 1", "item 3 malformed 1"]);
    for empty in ["", "\n \r\n", "\u{feff}\n"] {
        assert!(crate::ndjson::decode(empty.as_bytes(), &context()).is_err());
    }
}

#[test]
fn details_are_short_and_harmless() {
    let decoded = decode(&format!(r#"{{"device":"{}\u001b[31m\r\nadmin","metric":"m","value":1}}"#, "é".repeat(500)));
    let refused = &decoded.refused[0];
    assert!(refused.detail.len() < 300 && refused.device.as_ref().unwrap().len() <= 128);
    let decoded = decode(r#"{"device":"\u001b[31m\r\nadmin","metric":"m","value":1}"#);
    assert_eq!(decoded.refused[0].device.as_deref(), Some("\u{fffd}[31m\u{fffd}\u{fffd}admin"));
    assert_eq!(decoded.refused[0].detail, r#"the device "\u{1b}[31m\r\nadmin": it holds a control character"#);
}
