//! Golden cases of SenML, the examples of RFC 8428 (section 5.1) among them.

use super::{Context, decode as try_decode, seconds};
use crate::tests::{NOW, check_invariants, context, device_context, readings, refusals};
use crate::{Decoded, time};
use headwater_core::time::Timestamp;
use proptest::prelude::*;

fn decode_at(received_at: Timestamp, body: &str) -> Decoded {
    let context = Context { received_at, now: received_at, ..context() };
    let decoded = try_decode(body.as_bytes(), &context).unwrap();
    check_invariants(body.as_bytes(), &decoded, &context);
    decoded
}

fn decode(body: &str) -> Decoded {
    decode_at(NOW, body)
}

/// `device metric seconds value[ unit]` of readings that were received at `received_at`, in seconds after 1970.
fn resolved(received_at: f64, body: &str) -> Vec<String> {
    let shift = |text: String| {
        let mut words: Vec<_> = text.split(' ').map(str::to_owned).collect();
        let micros: i64 = words[2].parse::<i64>().unwrap() + NOW.micros();
        words[2] = (micros as f64 / 1e6).to_string();
        words.join(" ")
    };
    let decoded = decode_at(Timestamp((received_at * 1e6) as i64), body);
    assert_eq!((refusals(&decoded).len(), decoded.skipped), (0, 0));
    readings(&decoded).into_iter().map(shift).collect()
}

#[test]
fn a_single_datapoint_is_read() {
    let decoded = decode(r#"[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]"#);
    assert_eq!(readings(&decoded), ["urn:dev:ow:10e2073a01080063 Cel 0 23.1 Cel"]);
}

#[test]
fn multiple_datapoints_are_read() {
    let body = r#"[{"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},
        {"n":"current","t":-5,"v":1.2},{"n":"current","t":-4,"v":1.3},{"n":"current","t":-3,"v":1.4},
        {"n":"current","t":-2,"v":1.5},{"n":"current","t":-1,"v":1.6},{"n":"current","v":1.7}]"#;
    let device = "urn:dev:ow:10e2073a0108006";
    let mut expected = vec![format!("{device} voltage 1276020076.001 120.1 V")];
    expected.extend((0..6).map(|i| format!("{device} current {}.001 1.{} A", 1_276_020_071 + i, 2 + i)));
    assert_eq!(resolved(1_276_020_080.0, body), expected);
}

#[test]
fn multiple_measurements_of_one_name_differ_by_their_unit() {
    let body = r#"[{"bn":"urn:dev:ow:10e2073a01080063","bt":1.320067464e+09,"bu":"%RH","v":20},{"u":"lon","v":24.30621},{"u":"lat","v":60.07965},
        {"t":60,"v":20.3},{"u":"lon","t":60,"v":24.30622},{"u":"lat","t":60,"v":60.07965},{"t":120,"v":20.7},{"u":"lon","t":120,"v":24.30623},
        {"u":"lat","t":120,"v":60.07966},{"u":"%EL","t":150,"v":98},{"t":180,"v":21.2},{"u":"lon","t":180,"v":24.30628},{"u":"lat","t":180,"v":60.07967}]"#;
    let found = resolved(1_320_067_700.0, body);
    assert_eq!(found.len(), 13);
    assert_eq!(found[0], "urn:dev:ow:10e2073a01080063 %RH 1320067464 20 %RH");
    assert_eq!(found[9], "urn:dev:ow:10e2073a01080063 %EL 1320067614 98 %EL");
    assert_eq!(found[12], "urn:dev:ow:10e2073a01080063 lat 1320067644 60.07967 lat");
}

#[test]
fn multiple_data_types_are_read_as_far_as_they_are_numbers() {
    let body = r#"[{"bn":"urn:dev:ow:10e2073a01080063:","n":"temp","u":"Cel","v":23.1},{"n":"label","vs":"Machine Room"},
        {"n":"open","vb":false},{"n":"nfc-reader","vd":"aGkgCg"}]"#;
    let decoded = decode(body);
    assert_eq!(readings(&decoded), ["urn:dev:ow:10e2073a01080063 temp 0 23.1 Cel", "urn:dev:ow:10e2073a01080063 open 0 0"]);
    assert_eq!((decoded.skipped, decoded.refused.len()), (2, 0));
}

#[test]
fn a_collection_of_resources_changes_its_base_name_on_the_way() {
    let body = r#"[{"bn":"2001:db8::2/","bt":1.320078429e+09,"n":"temperature","u":"Cel","v":25.2},{"n":"humidity","u":"%RH","v":30},
        {"bn":"2001:db8::1/","n":"temperature","u":"Cel","v":12.3},{"n":"humidity","u":"%RH","v":67}]"#;
    let expected = [
        "2001:db8::2 temperature 1320078429 25.2 Cel",
        "2001:db8::2 humidity 1320078429 30 %RH",
        "2001:db8::1 temperature 1320078429 12.3 Cel",
        "2001:db8::1 humidity 1320078429 67 %RH",
    ];
    assert_eq!(resolved(1_320_078_500.0, body), expected);
}

#[test]
fn lamps_are_named_by_their_address_and_dimmed_in_a_moment() {
    let body = r#"[{"bt":1.320078429e+09,"bu":"/","n":"2001:db8::3","v":0.5},{"n":"2001:db8::4","v":0.5},
        {"n":"2001:db8::3","t":0.1,"v":0},{"n":"2001:db8::4","t":0.1,"v":0}]"#;
    let expected = [
        "2001:db8::3 / 1320078429 0.5 /",
        "2001:db8::4 / 1320078429 0.5 /",
        "2001:db8::3 / 1320078429.1 0 /",
        "2001:db8::4 / 1320078429.1 0 /",
    ];
    assert_eq!(resolved(1_320_078_429.0, body), expected);
}

#[test]
fn names_become_devices_and_metrics() {
    let cases = [
        (r#""bn":"press-7/","n":"temperature""#, "press-7 temperature"),
        (r#""bn":"press-7","n":"temperature""#, "press-7 temperature"),
        (r#""bn":"press-7","n":"/a/b""#, "press-7 a/b"),
        (r#""bn":"plant/press-7:","n":"a:b""#, "plant/press-7 a:b"),
        (r#""bn":"press-7/""#, "press-7 value"),
        (r#""bn":"press-7","bu":"Cel""#, "press-7 Cel"),
        (r#""n":"plant/press-7/temperature""#, "plant/press-7 temperature"),
        (r#""n":"urn:dev:mac:0024befffe804ff1:temp""#, "urn:dev:mac:0024befffe804ff1 temp"),
        (r#""n":"URN:DEV:mac:0024befffe804ff1/temp""#, "URN:DEV:mac:0024befffe804ff1 temp"),
        (r#""n":"urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6""#, "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6 value"),
        (r#""n":"urn:uuid:f81d4fae:temp""#, "urn:uuid:f81d4fae temp"),
        (r#""n":"d\u00e9/m""#, "dé m"),
    ];
    for (fields, expected) in cases {
        let found = readings(&decode(&format!(r#"[{{{fields},"v":1}}]"#)));
        assert_eq!(found.len(), 1, "{fields}");
        assert!(found[0].starts_with(&format!("{expected} 0 1")), "{fields}: {found:?}");
    }
}

#[test]
fn a_name_without_a_device_is_the_senders_own() {
    let own =
        try_decode(br#"[{"n":"temperature","v":1},{"v":2},{"n":"press-7/x","v":3},{"n":"press-8/x","v":4}]"#, &device_context()).unwrap();
    assert_eq!(readings(&own), ["press-7 temperature 0 1", "press-7 value 0 2", "press-7 x 0 3"]);
    assert_eq!(refusals(&own), ["item 3 forbidden_device 1"]);
    assert_eq!(refusals(&decode(r#"[{"n":"temperature","v":1}]"#)), ["item 0 invalid_device 1"]);
}

#[test]
fn times_are_added_up_and_count_from_the_receipt_or_from_1970() {
    let cases = [
        ("", 0),
        (r#""t":0"#, 0),
        (r#""t":-10"#, -10_000_000),
        (r#""t":599.9999999"#, 599_999_999),
        (r#""t":-0.0000001"#, -1),
        (r#""bt":-100,"t":1.5e1"#, -85_000_000),
        (r#""t":-268435455"#, -268_435_455_000_000i64),
        (r#""t":-268435457"#, -268_435_457_000_000),
        (r#""t":1763910001"#, 1_000_000),
        (r#""bt":1763910000,"t":0.1"#, 100_000),
        (r#""bt":1763910000.1,"t":0.2"#, 300_000),
        (r#""bt":1763910000.0000004,"t":0.0000006"#, 1),
        (r#""bt":1.763910000E9,"t":-0.000000000000000001"#, -1),
        (r#""bt":268435456,"t":1495474544"#, 0),
    ];
    for (fields, expected) in cases {
        let comma = if fields.is_empty() { "" } else { "," };
        let decoded = decode(&format!(r#"[{{"n":"d/m","v":1{comma}{fields}}}]"#));
        assert_eq!(readings(&decoded), [format!("d m {expected} 1")], "{fields}: {:?}", decoded.refused);
    }
}

#[test]
fn values_are_added_to_their_base() {
    let body = r#"[{"bn":"d/","bv":10,"n":"a","v":1.5},{"n":"b","v":-20},{"n":"c"},{"n":"d","vb":true},{"bv":0.5,"n":"e","v":1},{"n":"f","v":1,"s":9}]"#;
    assert_eq!(readings(&decode(body)), ["d a 0 11.5", "d b 0 -10", "d c 0 10", "d d 0 1", "d e 0 1.5", "d f 0 1.5"]);
}

#[test]
fn what_is_no_number_is_skipped_and_base_fields_alone_are_no_reading() {
    let body = r#"[{"bn":"d/","bt":-1,"bver":10,"bx":1,"bs":3},{"n":"a","vs":"x"},{"n":"a","vd":"aGk"},{"n":"a","s":5},{"n":"a","v":null},{"n":"a","vb":null},{"n":"a","v":1,"ut":30,"l":"x"}]"#;
    let decoded = decode(body);
    assert_eq!((readings(&decoded), decoded.skipped, decoded.refused.len()), (vec!["d a -1000000 1".to_owned()], 5, 0));
}

#[test]
fn records_are_refused_alone_and_with_their_reason() {
    let long = "x".repeat(129);
    let cases = [
        ("1", "malformed 1"),
        ("null", "malformed 1"),
        ("[]", "malformed 1"),
        ("{}", ""),
        (r#"{"n":"d/m"}"#, "malformed 1"),
        (r#"{"n":"d/m","v":1,"vs":"x"}"#, "malformed 1"),
        (r#"{"n":"d/m","vb":true,"vd":"x"}"#, "malformed 1"),
        (r#"{"n":"d/m","v":1,"v":2}"#, "malformed 1"),
        (r#"{"n":"d/m","v":1,"x_":null}"#, "malformed 1"),
        (r#"{"n":"d/m","vs":"x","x_":null}"#, "malformed 1"),
        (r#"{"n":7,"v":1}"#, "invalid_metric 1"),
        (r#"{"n":"d/","v":1}"#, "invalid_metric 1"),
        (r#"{"n":"d/a+","v":1}"#, "invalid_metric 1"),
        (r#"{"n":"d#/a","v":1}"#, "invalid_device 1"),
        (r#"{"n":"/a","v":1}"#, "invalid_device 1"),
        (r#"{"n":"a","v":1}"#, "invalid_device 1"),
        (&format!(r#"{{"n":"{long}/a","v":1}}"#), "invalid_device 1"),
        (r#"{"n":"d/m","v":1,"u":7}"#, "invalid_metric 1"),
        (&format!(r#"{{"n":"d/m","v":1,"u":"{}"}}"#, "u".repeat(65)), "invalid_metric 1"),
        (r#"{"n":"d/m","v":1,"t":"2025-11-23T15:00:00Z"}"#, "invalid_timestamp 1"),
        (r#"{"n":"d/m","v":1,"t":null}"#, "invalid_timestamp 1"),
        (r#"{"n":"d/m","v":1,"t":601}"#, "timestamp_too_far_ahead 1"),
        (r#"{"n":"d/m","v":1,"t":1763910000123}"#, "timestamp_too_far_ahead 1"),
        (r#"{"n":"d/m","v":1,"t":1e300}"#, "timestamp_too_far_ahead 1"),
        (r#"{"n":"d/m","v":1,"t":268435456}"#, "timestamp_too_old 1"),
        (r#"{"n":"d/m","v":1,"t":-1e300}"#, "timestamp_too_old 1"),
        (r#"{"n":"d/m","v":1e999}"#, "not_finite 1"),
        (r#"{"n":"d/m","v":"21.5"}"#, "not_numeric 1"),
        (r#"{"n":"d/m","v":[1]}"#, "not_numeric 1"),
        (r#"{"n":"d/m","vb":"true"}"#, "not_numeric 1"),
    ];
    let good = r#"{"n":"g/m","v":1}"#;
    for (record, expected) in cases {
        let body = format!("[{good}, {record} ,{good}]");
        let decoded = decode(&body);
        let expected: Vec<String> = if expected.is_empty() { vec![] } else { vec![format!("item 1 {expected}")] };
        assert_eq!(refusals(&decoded), expected, "{record}");
        assert_eq!(readings(&decoded), ["g m 0 1", "g m 0 1"], "{record}");
        if let Some(refused) = decoded.refused.first() {
            assert_eq!(&body[refused.span.clone()], record);
        }
    }
}

#[test]
fn a_base_field_that_cannot_be_read_refuses_what_needs_it_until_it_is_given_anew() {
    let cases = [
        (r#""bn":7"#, r#""bn":"e/""#, "invalid_device"),
        (r#""bt":"now""#, r#""bt":0"#, "invalid_timestamp"),
        (r#""bu":{}"#, r#""bu":null"#, "invalid_metric"),
        (r#""bv":"1""#, r#""bv":0"#, "not_numeric"),
        (r#""bv":1e999"#, r#""bv":0"#, "not_finite"),
    ];
    for (bad, good, reason) in cases {
        let body = format!(r#"[{{"bn":"d/","n":"a","v":1}},{{{bad}}},{{"n":"b","v":2}},{{"n":"c","vs":"x"}},{{{good},"n":"d","v":3}}]"#);
        let decoded = decode(&body);
        assert_eq!(refusals(&decoded), [format!("item 2 {reason} 1")], "{bad}");
        assert!(decoded.refused[0].detail.ends_with("(of item 1)"), "{:?}", decoded.refused);
        assert_eq!((decoded.batch.len(), decoded.skipped), (2, 1), "{bad}");
    }
    // A unit of its own needs no base.
    assert_eq!(decode(r#"[{"bn":"d/","bu":7,"n":"a","u":"V","v":1}]"#).batch.len(), 1);
}

#[test]
fn base_fields_that_are_not_understood_spoil_the_rest() {
    for record in [r#"{"bx_":1}"#, r#"{"bn":"a","bn":"b"}"#, r#"{"\ud800":1}"#] {
        let decoded = decode(&format!(r#"[{{"n":"d/a","v":1}},{record},{{"n":"d/b","v":2}},{{"n":"d/c","vs":"x"}}]"#));
        assert_eq!(refusals(&decoded), ["item 1 malformed 1", "item 2 malformed 1", "item 3 malformed 1"], "{record}");
        assert_eq!(decoded.batch.len(), 1);
    }
    // What is no object, and a field of the record alone, say nothing of others.
    assert_eq!(decode(r#"[7,{"n":"d/a","x_":1,"v":1},{"n":"d/b","v":2}]"#).batch.len(), 1);
}

#[test]
fn a_later_version_refuses_the_body() {
    for version in ["11", "0", "-1", "10.5", "\"10\"", "null", "1e300"] {
        let body = format!(r#"[{{"n":"d/a","v":1}},{{"bver":{version},"n":"d/b","v":2}}]"#);
        let unreadable = try_decode(body.as_bytes(), &context()).unwrap_err();
        assert_eq!(unreadable.pointer.as_deref(), Some("/1/bver"), "{version}");
        assert!(unreadable.detail.contains(version) && unreadable.detail.contains("10 is the latest"), "{unreadable}");
    }
    for version in ["1", "5", "10", "1e1", "10.0"] {
        assert_eq!(decode(&format!(r#"[{{"bver":{version},"n":"d/b","v":2}}]"#)).batch.len(), 1, "{version}");
    }
}

#[test]
fn what_is_no_array_is_refused_whole() {
    for body in
        ["", " \n", "5", "{}", r#"{"n":"d/m","v":1}"#, "[", r#"[{"n":"d/m","v":1}"#, r#"[{"n":"d/m","v":1}] x"#, r#"[{"n":"d/m","v":NaN}]"#]
    {
        assert!(try_decode(body.as_bytes(), &context()).is_err(), "{body}");
    }
    assert!(try_decode(b"[{\"n\":\"\xff\"}]", &context()).is_err());
    assert_eq!(decode("\u{feff} [ ] ").received(), 0);
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert_eq!(refusals(&decode(&format!(r#"[{{"n":"d/m","v":{deep}}}]"#))), ["item 0 not_numeric 1"]);
}

proptest! {
    #[test]
    fn every_record_is_one_reading_kept_skipped_or_refused(
        records in prop::collection::vec(prop::sample::select(&[
            r#"{"n":"d/m","v":1.5}"#, r#"{"bn":"d/","n":"a","v":2}"#, r#"{"n":"a","vs":"x"}"#, r#"{"s":1}"#, r#"{"v":"x"}"#, r#"{"v":1,"x_":1}"#,
            r#"{"bn":7,"v":1}"#, r#"{"bt":-1,"t":1e9,"v":3}"#, r#"{"bu":7,"vb":true}"#, r#"{"n":"d/m"}"#, "7", r#"{"bt":[],"n":"d/m","v":null}"#,
        ][..]), 0..12),
    ) {
        let body = format!("[{}]", records.join(","));
        let decoded = decode(&body);
        prop_assert_eq!(decoded.received(), records.len() as u64);
    }

    #[test]
    fn a_resolved_pack_says_the_same(values in prop::collection::vec((-1_000_000i64..500_000, any::<f64>().prop_filter("finite", |v| v.is_finite())), 1..12)) {
        let ms = |ms: i64| format!("{}{}.{:03}", if ms < 0 { "-" } else { "" }, ms.abs() / 1_000, ms.abs() % 1_000);
        let relative: Vec<String> = values.iter().map(|(t, v)| format!(r#"{{"n":"m","t":{},"v":{v:?}}}"#, ms(*t))).collect();
        let absolute: Vec<String> =
            values.iter().map(|(t, v)| format!(r#"{{"n":"urn:dev:os:32473-1:m","u":"V","t":{},"v":{v:?}}}"#, ms(1_763_910_000_250 + t))).collect();
        let packed = decode(&format!(r#"[{{"bn":"urn:dev:os:32473-1:","bu":"V","bt":1763910000.25}},{}]"#, relative.join(",")));
        let resolved = decode(&format!("[{}]", absolute.join(",")));
        prop_assert_eq!(readings(&packed), readings(&resolved));
    }

    #[test]
    fn seconds_are_floored_like_every_time(text in "-?[0-9]{1,9}(\\.[0-9]{1,30})?([eE]-[0-9])?") {
        let expected = time::from_decimal(&text).unwrap().micros();
        prop_assert_eq!(seconds::time(seconds::read(&text).unwrap(), Timestamp(0)).micros(), expected);
    }

    #[test]
    fn no_text_is_too_much_for_seconds(text in "[-+.eE0-9]{0,40}") {
        if let Some(sum) = seconds::read(&text) {
            seconds::time(sum + sum, NOW);
        }
    }
}

#[test]
fn a_refused_record_kept_with_its_base_fields_is_refused_alone_for_the_same_reason() {
    let bodies = [
        r#"[{"bn":"d/","bt":1763910000,"bu":"V","bv":1,"n":"a","v":1},{"n":"b","v":"x"},{"bt":-3,"n":"c","v":[]},{"n":"d","t":601,"v":2}]"#,
        r#"[{"bn":"d/","n":"a","v":1},{"bt":"now"},{"n":"b","v":2},{"bn":7},{"n":"c","v":2}]"#,
    ];
    for body in bodies {
        let decoded = decode(body);
        assert!(decoded.refused.len() >= 2);
        let letters = crate::letters::of_items("senml", body.as_bytes(), &decoded.refused, 1000, &mut |_| uuid::Uuid::nil());
        for (refused, letter) in decoded.refused.iter().zip(&letters) {
            assert_eq!(letter.format, "senml+base");
            let again = super::decode(&letter.bytes, &context()).unwrap();
            let told: Vec<_> = again.refused.iter().map(|refused| (refused.reason, refused.count)).collect();
            assert_eq!((told, again.batch.len()), (vec![(refused.reason, 1)], 0), "{}", String::from_utf8_lossy(&letter.bytes));
        }
    }
    // Nothing to repeat, and nothing that could be.
    let base = |body: &str| decode(body).refused.last().map(|refused| refused.base.clone());
    assert_eq!(base(r#"[{"n":"d/a","v":"x"}]"#), Some(crate::Base::None));
    assert_eq!(base(r#"[{"bn":"d/","bx_":1},{"n":"a","v":1}]"#), Some(crate::Base::Lost));
    assert_eq!(base(&format!(r#"[{{"bn":"{}/"}},{{"n":"a","v":"x"}}]"#, "d".repeat(2000))), Some(crate::Base::Lost));
}
