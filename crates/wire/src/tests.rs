//! Properties that all formats share, and what the tests of each use.

use super::*;
use headwater_core::glob::Glob;
use headwater_core::series::Parts;
use proptest::prelude::*;
use std::sync::LazyLock;

/// 2025-11-23T15:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp(1_763_910_000_000_000);

static DEVICE_TAGS: LazyLock<Vec<String>> =
    LazyLock::new(|| ["device", "device_id", "entity_id", "dev_eui", "host"].map(String::from).to_vec());

/// What a sender without limits has.
pub(crate) fn context() -> Context<'static> {
    Context {
        received_at: NOW,
        now: NOW,
        devices: &DevicePatterns::All,
        own_device: None,
        device_tags: &DEVICE_TAGS,
        fallback_device: None,
        precision: Precision::Nanoseconds,
        max_metrics: 100,
    }
}

/// What a device's own credential has.
pub(crate) fn device_context() -> Context<'static> {
    static ONLY: LazyLock<DevicePatterns> = LazyLock::new(|| DevicePatterns::Some(vec![Glob::new("press-7")]));
    Context { devices: &ONLY, own_device: Some("press-7"), ..context() }
}

/// A reading as text: `device metric{tag=value,…} time_in_µs_after_NOW value[ unit]`.
pub(crate) fn readings(decoded: &Decoded) -> Vec<String> {
    let batch = &decoded.batch;
    let show = |i: usize| {
        let series = batch.series[i];
        let parts = Parts::of(batch.dictionary.key(series));
        let tags: Vec<String> = parts.tags().map(|(name, value)| format!("{name}={value}")).collect();
        let tags = if tags.is_empty() { String::new() } else { format!("{{{}}}", tags.join(",")) };
        let unit = batch.dictionary.unit(series).map_or(String::new(), |unit| format!(" {unit}"));
        format!("{} {}{tags} {} {}{unit}", parts.device, parts.metric, batch.times[i] - NOW.micros(), batch.values[i])
    };
    (0..batch.len()).map(show).collect()
}

/// A refusal as text: `place reason count`.
pub(crate) fn refusals(decoded: &Decoded) -> Vec<String> {
    let show = |refused: &Refused| {
        let place = match refused.place {
            Place::Index(n) => format!("item {n}"),
            Place::Line(n) => format!("line {n}"),
        };
        format!("{place} {} {}", refused.reason.as_str(), refused.count)
    };
    decoded.refused.iter().map(show).collect()
}

/// What must hold of every result.
pub(crate) fn check_invariants(body: &[u8], decoded: &Decoded, context: &Context<'_>) {
    let batch = &decoded.batch;
    assert!(batch.series.len() == batch.times.len() && batch.times.len() == batch.values.len());
    assert!(batch.series.iter().all(|&series| (series as usize) < batch.dictionary.len()));
    assert!(batch.values.iter().all(|value| value.is_finite() && value.to_bits() != (-0.0f64).to_bits()));
    let latest = context.received_at.plus(headwater_core::time::FURTHEST_AHEAD).micros();
    assert!(batch.times.iter().all(|&time| time >= headwater_core::time::EARLIEST.micros() && time <= latest));
    for key in batch.dictionary.keys() {
        assert!(headwater_core::series::SeriesKey::parse(key).is_ok(), "{key:?}");
        assert!(context.devices.allow(Parts::of(key).device));
    }
    for refused in &decoded.refused {
        assert!(refused.span.start <= refused.span.end && refused.span.end <= body.len(), "{refused:?}");
        assert!(refused.count >= 1 && !refused.detail.is_empty() && refused.detail.len() <= MAX_DETAIL_BYTES, "{refused:?}");
        assert!(!refused.detail.chars().any(char::is_control), "{refused:?}");
        assert!(refused.device.as_ref().is_none_or(|device| device.len() <= 400 && !device.chars().any(char::is_control)));
    }
    let sum = batch.len() as u64 + decoded.skipped + decoded.refused.iter().map(|refused| refused.count).sum::<u64>();
    assert_eq!(decoded.received(), sum);
}

type Decode = fn(&[u8], &Context<'_>) -> Option<Decoded>;

const DECODERS: [(&str, Decode); 5] = [
    ("json", |body, context| json::decode(body, context).ok()),
    ("ndjson", |body, context| ndjson::decode(body, context).ok()),
    ("csv", |body, context| csv::decode(body, context).ok()),
    ("line", |body, context| Some(line::decode(body, context))),
    ("senml", |body, context| senml::decode(body, context).ok()),
];

/// Valid bodies of each format, to be spoilt.
const SAMPLES: [&str; 10] = [
    r#"[{"device":"d","ts":1763910000123,"metrics":{"a":21.5,"b":null,"c":true},"tags":{"line":"3"}},{"device":"e","metric":"m","ts":"2025-11-23T15:00:00.5Z","value":1e3,"unit":"Cel"}]"#,
    "{\"device\":\"d\",\"metric\":\"m\",\"value\":1}\n\n{\"device\":\"d\\u00e9\",\"metrics\":{\"x\":-0.0,\"y\":\"no\"}}\r\n",
    "device,metric,ts,value,unit,tag.line\nd,m,2025-11-23T15:00:00Z,21.5,Cel,3\n\"d\"\"1\",m,1763910000,,,\nd,\"a\nb\",,NaN,,\n",
    "\u{feff}ts,temp,device,\"hum,idity\"\r\n1763910000.5,1,d,2\r\n\"2025-11-23T15:00:00Z\",,e,x\r\n",
    "weather,host=a\\ b,line=3 temperature=21.5,running=t,n=12i,state=\"a \\\" b\n c\" 1763910000123456789\n# note\n\ncpu value=1u\r\n",
    "m,device=d\\\\\\,x,t=y value=.5e2,f=\"\" \n m2,tag=\\=,host=e a=1,b=f 1763910000000000000",
    r#"{"device":"d","metrics":{"a":[[[{"x":[1]}]]],"b":1e999,"c":1}}"#,
    "device,ts,a,a2\nd,,1\nd,,1,2\n",
    r#"[{"bn":"urn:dev:ow:1:","bt":1763910000.001,"bu":"A","bver":10,"n":"voltage","u":"V","v":120.1},{"n":"i","t":-5,"v":1.2},{"n":"l","vs":"\u00e9"},{"n":"o","vb":false}]"#,
    r#"[{"n":"a/b","bv":2e1,"v":-1.5,"s":3},{"bn":"d","u":null,"t":1e2},{"x_":1,"v":[]},{"bn":7},{"v":1}]"#,
];

/// Bytes that mean something somewhere.
fn telling_byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        4 => prop::sample::select(&b",=\"\\ \n\r\t{}[]:.-+eEinftu0159#\0\x1e\x1f\x7f\xc3\xa9\xff"[..]),
        1 => any::<u8>(),
    ]
}

fn decode_everywhere(body: &[u8]) {
    for context in [context(), device_context(), Context { max_metrics: 1, ..context() }] {
        for (_, decode) in DECODERS {
            if let Some(decoded) = decode(body, &context) {
                check_invariants(body, &decoded, &context);
            }
        }
    }
    assert!(record::decode(body).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(telling_byte(), 0..120)) {
        decode_everywhere(&body);
    }

    #[test]
    fn spoilt_bodies_never_panic(
        sample in prop::sample::select(&SAMPLES[..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), telling_byte(), 0u8..3), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut body = sample.as_bytes().to_vec();
        for (at, byte, change) in changes {
            let at = at.index(body.len());
            match change {
                0 => body[at] = byte,
                1 => body.insert(at, byte),
                _ => drop(body.remove(at)),
            }
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        decode_everywhere(&body);
    }

    #[test]
    fn a_refused_line_alone_is_refused_for_the_same_reason(lines in prop::collection::vec(
        prop_oneof![
            prop::sample::select(&SAMPLES[4..6]).prop_map(str::to_owned),
            prop::collection::vec(telling_byte(), 0..30).prop_map(|bytes| format!("m,device=d {}", String::from_utf8_lossy(&bytes))),
            "m,device=[a-c*]{0,2} v=([0-9]{1,3}|1e999|x)( [0-9]{1,19})?",
        ],
        1..6,
    )) {
        let body = lines.join("\n");
        for refused in line::decode(body.as_bytes(), &context()).refused {
            let alone = line::decode(&body.as_bytes()[refused.span.clone()], &context());
            prop_assert!(alone.refused.iter().any(|other| other.reason == refused.reason), "{:?} {:?}", refused, alone.refused);
        }
    }

    #[test]
    fn a_refused_json_line_alone_is_refused_for_the_same_reason(
        lines in prop::collection::vec((prop::sample::select(&SAMPLES[..2]), any::<prop::sample::Index>(), telling_byte()), 1..5),
    ) {
        let mut body = Vec::new();
        for (sample, at, byte) in lines {
            let mut line = sample.trim_matches(['[', ']']).replace(['\r', '\n'], " ").into_bytes();
            let at = at.index(line.len());
            line[at] = byte;
            body.extend_from_slice(&line);
            body.push(b'\n');
        }
        let Ok(decoded) = ndjson::decode(&body, &context()) else { return Ok(()) };
        for refused in decoded.refused {
            let alone = ndjson::decode(&body[refused.span.clone()], &context()).unwrap();
            prop_assert!(alone.refused.iter().any(|other| other.reason == refused.reason), "{:?} {:?}", refused, alone.refused);
        }
    }

    #[test]
    fn all_formats_read_the_same_readings(values in prop::collection::vec((0u8..3, any::<f64>().prop_filter("finite", |v| v.is_finite()), 0i64..600_000), 1..20)) {
        let (mut json, mut ndjson) = (Vec::new(), String::new());
        let (mut csv, mut line) = (String::from("value,ts,tag.line,metric,device\n"), String::new());
        for (device, value, ms) in values {
            let ms = NOW.micros() / 1_000 + ms;
            json.push(format!(r#"{{"tags":{{"line":"3"}},"metric":"m_t","value":{value:?},"ts":{ms},"device":"d{device}"}}"#));
            ndjson.push_str(&format!("{{\"device\":\"d{device}\",\"metrics\":{{\"m_t\":{value:?}}},\"ts\":\"{}\",\"tags\":{{\"line\":\"3\"}}}}\n", Timestamp(ms * 1_000)));
            csv.push_str(&format!("{value:?},{ms},3,m_t,d{device}\n"));
            line.push_str(&format!("m,line=3,host=d{device} t={value:?} {ms}000000\n"));
        }
        let expected = readings(&csv::decode(csv.as_bytes(), &context()).unwrap());
        prop_assert_eq!(&readings(&json::decode(format!("[{}]", json.join(",")).as_bytes(), &context()).unwrap()), &expected);
        prop_assert_eq!(&readings(&ndjson::decode(ndjson.as_bytes(), &context()).unwrap()), &expected);
        prop_assert_eq!(&readings(&line::decode(line.as_bytes(), &context())), &expected);
    }
}

#[test]
fn samples_are_read() {
    for sample in SAMPLES {
        let read: u64 =
            DECODERS.iter().filter_map(|(_, decode)| decode(sample.as_bytes(), &context())).map(|decoded| decoded.batch.len() as u64).sum();
        assert!(read > 0, "{sample}");
    }
}

#[test]
fn bodies_of_nothing_but_refusals_stay_small() {
    let n = 50_000;
    let body = format!("[{}]", vec!["1"; n].join(","));
    let decoded = json::decode(body.as_bytes(), &context()).unwrap();
    assert_eq!(decoded.received(), n as u64);
    assert_eq!(decoded.refused.len(), 10_000);
    assert_eq!(decoded.refused.last().unwrap().span.end, body.len() - 1);
}

#[test]
fn a_large_item_is_not_repeated_for_each_bad_metric() {
    let metrics: Vec<String> = (0..50).map(|i| format!(r#""m{i}":"{}""#, if i % 2 == 0 { "x" } else { "y" })).collect();
    let item =
        |padding: usize| format!(r#"{{"device":"d","note":"{}","metrics":{{{},"big":1e999}}}}"#, "x".repeat(padding), metrics.join(","));
    let small = json::decode(item(0).as_bytes(), &context()).unwrap();
    assert_eq!((small.refused.len(), small.received()), (51, 51));
    let large = json::decode(item(50_000).as_bytes(), &context()).unwrap();
    assert_eq!(refusals(&large), ["item 0 not_numeric 50", "item 0 not_finite 1"]);
}

#[test]
fn any_number_of_tags_is_refused_without_being_kept() {
    let many = |n: usize, of: fn(usize) -> String| (0..n).map(of).collect::<Vec<_>>().join(",");
    for (n, expected) in [(32, 1), (33, 0), (34, 0), (5_000, 0)] {
        let body = format!(r#"{{"device":"d","metric":"m","value":1,"tags":{{{}}}}}"#, many(n, |i| format!(r#""t{i}":"x""#)));
        let decoded = json::decode(body.as_bytes(), &context()).unwrap();
        assert_eq!(
            (decoded.batch.len(), decoded.refused.iter().any(|r| r.reason == Reason::InvalidTags)),
            (expected, expected == 0),
            "{n}"
        );
        let body = format!("m,device=d,{} value=1", many(n, |i| format!("t{i}=x")));
        let decoded = line::decode(body.as_bytes(), &context());
        assert_eq!(
            (decoded.batch.len(), decoded.refused.iter().any(|r| r.reason == Reason::InvalidTags)),
            (expected, expected == 0),
            "{n}"
        );
    }
}

#[test]
fn precisions_have_the_names_of_every_client() {
    let cases = [
        ("n", 1_763_910_000_123_456_789),
        ("ns", 1_763_910_000_123_456_789),
        ("us", 1_763_910_000_123_456),
        ("u", 1_763_910_000_123_456),
        ("auto", 1_763_910_000_123),
    ];
    for (name, n) in cases {
        let time = Precision::parse(name).unwrap().time(n).micros() - NOW.micros();
        assert_eq!(time / 1_000, 123, "{name}");
    }
    for (name, micros) in [("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000)] {
        assert_eq!(Precision::parse(name).unwrap().time(3).micros(), 3 * micros);
        assert_eq!(Precision::parse(name).unwrap().time(i64::MAX).micros(), i64::MAX);
    }
    assert_eq!(Precision::parse("fortnight"), None);
    assert_eq!(Precision::Nanoseconds.time(-1).micros(), -1);
}

#[test]
fn what_is_read_later_keeps_its_receipt_and_is_measured_against_now() {
    let context = Context { now: Timestamp(NOW.0 + 3_600_000_000), ..context() };
    let body = br#"[{"device":"d","metric":"m","value":1},{"device":"d","metric":"m","ts":1763913600,"value":2},{"device":"d","metric":"m","ts":1763914201,"value":3}]"#;
    let decoded = json::decode(body, &context).unwrap();
    assert_eq!(readings(&decoded), ["d m 0 1", "d m 3600000000 2"]);
    assert_eq!(refusals(&decoded), ["item 2 timestamp_too_far_ahead 1"]);
    assert!(decoded.refused[0].detail.contains("after the receipt"));
}

#[test]
fn a_device_that_sends_as_itself_is_named_by_its_refusals() {
    let own = device_context();
    for decoded in [
        json::decode(br#"{"metric":"m","ts":1,"value":1}"#, &own).unwrap(),
        csv::decode(b"ts,m\n1,1\n", &own).unwrap(),
        line::decode(b"m value=1 1", &own),
    ] {
        assert_eq!(decoded.refused[0].device.as_deref(), Some("press-7"));
    }
}
