//! Golden cases of line protocol: its grammar, its corner cases, what a point means.

use crate::tests::{check_invariants, context, device_context, readings, refusals};
use crate::{Context, Decoded, Precision};

fn decode(body: &str) -> Decoded {
    let context = Context { fallback_device: Some("db"), ..context() };
    let decoded = super::decode(body.as_bytes(), &context);
    check_invariants(body.as_bytes(), &decoded, &context);
    decoded
}

#[test]
fn points_are_read() {
    let cases = [
        ("m value=1", "db m 0 1"),
        ("m f=1", "db m_f 0 1"),
        ("m value=1 1763910000123456789", "db m 123456 1"),
        ("  m  value=1   1763910000123456789  \r", "db m 123456 1"),
        ("m value=1 \r\n", "db m 0 1"),
        ("\u{feff}m value=1", "db m 0 1"),
        ("m,b=2,a=1 value=1", "db m{a=1,b=2} 0 1"),
        // Escapes: n backslashes before a separator are n − 1 and the separator, before anything else they stay.
        (r"we\,at\ her,t\ ag=v\=a\,l f\=i\ eld=1", "db we,at her_f=i eld{t ag=v=a,l} 0 1"),
        (r"m,t=two\\\ words value=1", r"db m{t=two\\ words} 0 1"),
        (r"m,t=two\\ words value=1", r"db m{t=two\ words} 0 1"),
        (r"m,t=eas\t value=1", r"db m{t=eas\t} 0 1"),
        (r"m,t=\a\\b value=1", r"db m{t=\a\\b} 0 1"),
        (r"a=b\=c value=1", r"db a=b\=c 0 1"),
        (r#"m,t="quoted" "f"=1"#, r#"db m_"f"{t="quoted"} 0 1"#),
        ("m,t=é value=1", "db m{t=é} 0 1"),
        ("_m,_t=1 _f=1", "db _m__f{_t=1} 0 1"),
        ("9 value=-7 ", "db 9 0 -7"),
        // Types.
        ("m value=1.0", "db m 0 1"),
        ("m value=.5", "db m 0 0.5"),
        ("m value=1.", "db m 0 1"),
        ("m value=-.5e-1", "db m 0 -0.05"),
        ("m value=-1.2e+78", "db m 0 -1200000000000000000000000000000000000000000000000000000000000000000000000000000"),
        ("m value=1E3", "db m 0 1000"),
        ("m value=-0", "db m 0 0"),
        ("m value=123i", "db m 0 123"),
        ("m value=-9223372036854775808i", "db m 0 -9223372036854776000"),
        ("m value=9223372036854775807i", "db m 0 9223372036854776000"),
        ("m value=18446744073709551615u", "db m 0 18446744073709552000"),
        ("m value=007i", "db m 0 7"),
        // The device.
        ("m,host=a,line=3 value=1", "a m{line=3} 0 1"),
        ("m,host=a,device=b value=1", "b m{host=a} 0 1"),
        ("m,entity_id=a,dev_eui=c value=1", "a m{dev_eui=c} 0 1"),
        (r"°C,domain=sensor,entity_id=living\ room value=21.5", "living room °C{domain=sensor} 0 21.5"),
    ];
    for (body, expected) in cases {
        let decoded = decode(body);
        assert_eq!(refusals(&decoded), [""; 0], "{body}");
        assert_eq!(readings(&decoded), [expected], "{body}");
    }
    for (spellings, expected) in [("t T true True TRUE", "db m 0 1"), ("f F false False FALSE", "db m 0 0")] {
        for spelling in spellings.split(' ') {
            assert_eq!(readings(&decode(&format!("m value={spelling}"))), [expected]);
        }
    }
}

#[test]
fn lines_that_are_no_points_are_skipped() {
    let decoded = decode("\n# comment\r\n   # m value=1\n\r\n  \nm value=1\n#\ttab \x01\n#");
    assert_eq!((readings(&decoded), decoded.received()), (vec!["db m 0 1".to_owned()], 1));
    for empty in ["", "\n", "# only", "\r\n", "\r", "  "] {
        assert_eq!(decode(empty).received(), 0);
    }
}

#[test]
fn texts_are_skipped_whatever_they_hold() {
    let body = "m,host=d a=\"x\",b=1,c=\"say \\\"m value=2\\\"\n# no comment\n,=\\\\\",e=\"\" 1763910000000000000\nm,host=d value=x\n";
    let decoded = decode(body);
    assert_eq!((readings(&decoded), decoded.skipped), (vec!["d m_b 0 1".to_owned()], 3));
    // The text holds two line ends.
    assert_eq!(refusals(&decoded), ["line 4 malformed 1"]);
    let decoded = decode("m,host=d state=\"on\"");
    assert_eq!((decoded.received(), decoded.skipped), (1, 1));
}

#[test]
fn bad_lines_are_refused_alone() {
    let cases = [
        "m",
        "m ",
        "m,",
        "m, value=1",
        "m,t value=1",
        "m,t= value=1",
        "m,=v value=1",
        "m,t=v",
        "m,t=v,",
        "m,t=v, value=1",
        "m,t=v=w value=1",
        "m,t=1,t=2 value=1",
        "m,t=1,s=2,t=1 value=1",
        ",t=v value=1",
        "=1",
        "\tm value=1",
        "m\tvalue=1",
        "m value=1\t",
        "m\u{b}value=1",
        "m,t=a\u{7f}b value=1",
        "m f\u{1}=1",
        "m value",
        "m value=",
        "m =1",
        "m value=1,",
        "m value=1,,b=2",
        "m value=NaN",
        "m value=nan",
        "m value=Inf",
        "m value=-inf",
        "m value=.",
        "m value=-",
        "m value=+1",
        "m value=1e",
        "m value=1.2.3",
        "m value=0x10",
        "m value=1.0i",
        "m value=i",
        "m value=-i",
        "m value=-1u",
        "m value=9223372036854775808i",
        "m value=-9223372036854775809i",
        "m value=18446744073709551616u",
        "m value=tr",
        "m value=tRUE",
        "m value=Happy",
        "m value=é",
        "m value=\"open",
        "m value=\"closed\"x",
        "m value=\"closed\\\"",
        "m value=1 12x",
        "m value=1 x",
        "m value=1 -",
        "m value=1 1.5",
        "m value=1 +1",
        "m value=1 1 2",
        "m value=1 b=2",
        "m value=1\r b=2",
        "#\\",
    ];
    for line in &cases[..cases.len() - 1] {
        let body = format!("m,host=d value=1\n{line}\nm,host=d value=2\r\n");
        let decoded = decode(&body);
        assert_eq!(refusals(&decoded), ["line 2 malformed 1"], "{line:?}");
        assert_eq!(readings(&decoded), ["d m 0 1", "d m 0 2"], "{line:?}");
        assert_eq!(&body[decoded.refused[0].span.clone()], *line);
    }
}

#[test]
fn a_line_that_is_not_utf_8_costs_that_line() {
    let body = b"m,host=d value=1\nm\xff,host=d value=2\nm,host=\xff value=2\nm,host=d v\xff=2\nm,host=d value=\xff\nm,host=d text=\"\xff\",value=3\n";
    let decoded = super::decode(body, &context());
    assert_eq!(readings(&decoded), ["d m 0 1", "d m 0 3"]);
    assert_eq!(refusals(&decoded), ["line 2 malformed 1", "line 3 malformed 1", "line 4 malformed 1", "line 5 malformed 1"]);
}

#[test]
fn points_that_break_a_rule_are_refused_with_their_reason() {
    let cases = [
        ("m,host=a* x=1,y=2,z=\"t\"", "invalid_device 2"),
        ("m+,host=a value=1", "invalid_metric 1"),
        ("m,host=a value=1 0", "timestamp_too_old 1"),
        ("m,host=a x=1,y=2 1763910600000001000", "timestamp_too_far_ahead 2"),
        ("m,host=a value=1 99999999999999999999", "invalid_timestamp 1"),
        ("m,host=a value=1e999", "not_finite 1"),
        (&format!("m,host=a,t={} value=1", "x".repeat(257)), "invalid_tags 1"),
        (&format!("m,host=a{} value=1", (0..33).map(|i| format!(",t{i}=1")).collect::<String>()), "invalid_tags 1"),
    ];
    for (line, expected) in cases {
        let decoded = decode(line);
        assert_eq!(refusals(&decoded), [format!("line 1 {expected}")], "{line}");
        assert_eq!(decoded.batch.len(), 0);
    }
    assert_eq!(readings(&decode("m,host=a x=1,y=1e999,z=3")), ["a m_x 0 1", "a m_z 0 3"]);
    let context = Context { max_metrics: 2, ..context() };
    assert_eq!(refusals(&super::decode(b"m,host=d a=1,b=2,c=3\nm,host=d a=1,s=\"x\",b=2", &context)), ["line 1 too_many_metrics 3"]);
    assert_eq!(refusals(&super::decode(b"m value=1", &context)), ["line 1 invalid_device 1"]);
}

#[test]
fn a_device_writes_as_itself_only() {
    let context = Context { fallback_device: Some("db"), ..device_context() };
    let decoded = super::decode(b"m value=1\nm,host=press-7 value=2\nm,host=press-8 a=3,b=4", &context);
    assert_eq!(readings(&decoded), ["press-7 m 0 1", "press-7 m 0 2"]);
    assert_eq!(refusals(&decoded), ["line 3 forbidden_device 2"]);
}

#[test]
fn times_are_in_the_precision_told() {
    let cases = [
        (Precision::Nanoseconds, "1763910000123456789", 123_456),
        (Precision::Microseconds, "1763910000123456", 123_456),
        (Precision::Milliseconds, "1763910000123", 123_000),
        (Precision::Seconds, "1763910001", 1_000_000),
        (Precision::Minutes, "29398500", 0),
        (Precision::Hours, "489975", 0),
        (Precision::Auto, "1763910000123", 123_000),
    ];
    for (precision, time, expected) in cases {
        let decoded = super::decode(format!("m,host=d value=1 {time}").as_bytes(), &Context { precision, ..context() });
        assert_eq!(readings(&decoded), [format!("d m {expected} 1")], "{precision:?}");
    }
}

#[test]
fn stray_quotes_cost_linear_time() {
    for line in ["m f=\"\n", "m f=\"\\\n", "m \"=\"\\\"\n", "m f=\",g=\n"] {
        assert!(decode(&line.repeat(200_000)).received() > 0);
    }
}
