//! Golden cases of CSV.

use crate::tests::{check_invariants, context, device_context, readings, refusals};
use crate::{Context, Decoded};

fn decode(body: &str) -> Decoded {
    let decoded = super::decode(body.as_bytes(), &context()).unwrap_or_else(|e| panic!("{body:?}: {e}"));
    check_invariants(body.as_bytes(), &decoded, &context());
    decoded
}

#[test]
fn both_forms_are_read() {
    let cases = [
        ("device,metric,ts,value\nd,m,1763910000.5,21.5\n", vec!["d m 500000 21.5"]),
        ("device,ts,temperature,pressure\nd,2025-11-23T15:00:01Z,21.5,1.02", vec!["d temperature 1000000 21.5", "d pressure 1000000 1.02"]),
        ("\u{feff}value,unit,tag.b,time,metric,tag.a,device\r\n1,Cel,x,1763910000123,m,y,d\r\n", vec!["d m{a=y,b=x} 123000 1 Cel"]),
        ("device,metric,value\nd,m,1\n\n\r\nd,m,2\n\n", vec!["d m 0 1", "d m 0 2"]),
        ("device,metric,ts,value,unit,tag.a\nd,m,,1,,\n", vec!["d m 0 1"]),
        ("\"device\",\"metric\",\"value\"\n\"d,1\",\"say \"\"m\"\"\",\"1\"\n", vec!["d,1 say \"m\" 0 1"]),
        ("device,metric,value,note\nd,m,1,\"two\nlines\"\nd,m,2,5\" pipe\n", vec!["d m 0 1", "d m 0 2"]),
        (
            "device,temp\nd,-1.5e3\nd,+1\nd,.5\nd,1.\nd,-0\nd,9007199254740993\n",
            vec!["d temp 0 -1500", "d temp 0 1", "d temp 0 0.5", "d temp 0 1", "d temp 0 0", "d temp 0 9007199254740992"],
        ),
        ("device,°C\nd-é,1\n", vec!["d-é °C 0 1"]),
        ("device,a,unit\nd,1,V", vec!["d a 0 1 V"]),
    ];
    for (body, expected) in cases {
        let decoded = decode(body);
        assert_eq!(readings(&decoded), expected, "{body}");
        assert_eq!((refusals(&decoded).len(), decoded.skipped), (0, 0), "{body}");
    }
}

#[test]
fn empty_cells_are_skipped() {
    let decoded = decode("device,a,b\nd,,1\nd,\"\",\nd,2,3\n");
    assert_eq!((readings(&decoded), decoded.skipped), (vec!["d b 0 1".to_owned(), "d a 0 2".to_owned(), "d b 0 3".to_owned()], 3));
    let decoded = decode("device,metric,value\nd,m,\nd,m,1\n");
    assert_eq!((decoded.batch.len(), decoded.skipped, decoded.refused.len()), (1, 1, 0));
}

#[test]
fn lines_are_refused_alone_and_with_their_reason() {
    let long = "x".repeat(129);
    let cases = [
        ("d,m,0,1", "timestamp_too_old 1"),
        ("d,m,1763910600.000001,1", "timestamp_too_far_ahead 1"),
        ("d,m,9e99,1", "timestamp_too_far_ahead 1"),
        ("d,m,yesterday,1", "invalid_timestamp 1"),
        ("d,m,2025-11-23 15:00:00,1", "invalid_timestamp 1"),
        (",m,,1", "invalid_device 1"),
        ("d*,m,,1", "invalid_device 1"),
        (&format!("{long},m,,1"), "invalid_device 1"),
        ("\"a\nb\",m,,1", "invalid_device 1"),
        ("d,,,1", "invalid_metric 1"),
        ("d,m?,,1", "invalid_metric 1"),
        ("d,m,,NaN", "not_finite 1"),
        ("d,m,,-inf", "not_finite 1"),
        ("d,m,,Infinity", "not_finite 1"),
        ("d,m,,1e999", "not_finite 1"),
        ("d,m,,abc", "not_numeric 1"),
        ("d,m,,0x10", "not_numeric 1"),
        ("d,m,, 1", "not_numeric 1"),
        ("d,m,,true", "not_numeric 1"),
        ("d,m,,null", "not_numeric 1"),
        ("d,m,,\"1,5\"", "not_numeric 1"),
        ("d,m,,1_000", "not_numeric 1"),
        ("d,m,1", "malformed 1"),
        ("d,m,,1,", "malformed 1"),
        ("d", "malformed 1"),
        ("d,m,,\"1\"x", "malformed 1"),
        ("d,\"m,,1", "malformed 1"),
        (" ", "malformed 1"),
    ];
    for (line, expected) in cases {
        let body = format!("device,metric,ts,value\nd,m,,1\n{line}\r\nd,m,,2");
        let decoded = decode(&body);
        assert_eq!(refusals(&decoded), [format!("line 3 {expected}")], "{line}");
        assert_eq!(readings(&decoded), ["d m 0 1", "d m 0 2"], "{line}");
        assert_eq!(&body[decoded.refused[0].span.clone()], line);
    }
}

#[test]
fn a_wide_line_is_refused_as_a_whole_or_cell_by_cell() {
    let decoded = decode("device,ts,a,b,c*,tag.t\nd,,1,x,2,\nd*,,1,,3,\nd,never,1,2,3,\nd,,,,,\n,,,,,\nd,,1,2,,\"\u{1}\"\n");
    assert_eq!(readings(&decoded), ["d a 0 1"]);
    let expected = [
        "line 2 not_numeric 1",
        "line 2 invalid_metric 1",
        "line 3 invalid_device 2",
        "line 4 invalid_timestamp 3",
        "line 6 invalid_device 1",
        "line 7 invalid_tags 2",
    ];
    assert_eq!(refusals(&decoded), expected);
    assert_eq!(decoded.skipped, 1 + 3 + 3 + 1);
    let context = Context { max_metrics: 2, ..context() };
    let decoded = super::decode(b"device,a,b,c\nd,1,2,3\nd,1,,3\n", &context).unwrap();
    assert_eq!((refusals(&decoded), decoded.batch.len()), (vec!["line 2 too_many_metrics 3".to_owned()], 2));
}

#[test]
fn lines_are_counted_as_an_editor_does() {
    let decoded = decode("\ndevice,metric,value\n\n\"d\",\"a\nb\",1\nd,m,x\n\"d\nd,m,y\nd,m,z");
    assert_eq!(
        refusals(&decoded),
        ["line 4 invalid_metric 1", "line 6 not_numeric 1", "line 7 malformed 1", "line 8 not_numeric 1", "line 9 not_numeric 1"]
    );
}

#[test]
fn a_header_that_cannot_be_used_refuses_the_body() {
    let many = format!("device{}", ",a".repeat(20_000));
    for body in [
        "",
        "\n\r\n",
        "\u{feff}",
        "device,ts",
        "device",
        "ts,temperature\n1763910000,1",
        "device,metric,ts\nd,m,1",
        "device,ts,value\nd,1,1",
        "device,device,a\n",
        "device,ts,time,a\n",
        "device,a,a\n",
        "device,metric,value,metric\n",
        "device,a,tag.\n",
        "device,\"a\n",
        &many,
    ] {
        assert!(super::decode(body.as_bytes(), &context()).is_err(), "{body}");
    }
    assert!(super::decode(b"device,\xff\nd,1", &context()).is_err());
    // Names are told by their exact spelling, so this one is a metric.
    assert_eq!(readings(&decode("device,Value\nd,1")), ["d Value 0 1"]);
}

#[test]
fn a_device_writes_as_itself_only() {
    let decoded = super::decode(b"ts,a\n,1\n", &device_context()).unwrap();
    assert_eq!(readings(&decoded), ["press-7 a 0 1"]);
    let decoded = super::decode(b"device,a\n,1\npress-7,2\npress-8,3\n", &device_context()).unwrap();
    assert_eq!((readings(&decoded).len(), refusals(&decoded)), (2, vec!["line 4 forbidden_device 1".to_owned()]));
}

#[test]
fn a_line_that_is_not_utf_8_costs_that_line() {
    let body = b"device,metric,value\nd,m,1\nd\xff,m,2\n\"d\xff\",m,3\nd,m\xe9,\"4\"\nd,m,5\n";
    let decoded = super::decode(body, &context()).unwrap();
    assert_eq!(readings(&decoded), ["d m 0 1", "d m 0 5"]);
    assert_eq!(refusals(&decoded), ["line 3 malformed 1", "line 4 malformed 1", "line 5 malformed 1"]);
}

#[test]
fn stray_quotes_cost_linear_time() {
    for line in ["\"\n", "\"x\n", "d,\"\n", "\"\"\"\n", "d,\"\"\",x\n", "\"\",\"\"x\n"] {
        let body = format!("device,metric,value\n{}", line.repeat(200_000));
        let decoded = super::decode(body.as_bytes(), &context()).unwrap();
        assert!(decoded.received() > 0);
    }
}
