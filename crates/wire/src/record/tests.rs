//! What a record promises: identity, limits, and that nothing damaged passes.

use super::*;
use headwater_core::codec::{put_crc, put_varint};
use headwater_core::dead_letter::PART_BYTES;
use headwater_core::log::{MAX_RECORD_BYTES, MAX_RECORD_READINGS, Record};
use headwater_core::series::{Parts, SeriesKey};
use proptest::prelude::*;

const AT: Timestamp = Timestamp(1_763_910_000_123_456);

/// A reading by its texts: series, unit, time, bits of the value.
type Reading = (String, Option<String>, i64, u64);

fn readings_of(batch: &ReadingBatch) -> Vec<Reading> {
    let dictionary = &batch.dictionary;
    let of = |i: usize| {
        let series = batch.series[i];
        (dictionary.key(series).to_owned(), dictionary.unit(series).map(str::to_owned), batch.times[i], batch.values[i].to_bits())
    };
    (0..batch.len()).map(of).collect()
}

fn decoded_readings(record: &Record) -> ReadingBatch {
    assert!(record.payload.len() <= MAX_RECORD_BYTES);
    let decoded = decode(&record.payload).unwrap();
    assert_eq!((decoded.received_at, decoded.count), (record.received_at, record.count));
    let Content::Readings(batch) = decoded.content else { panic!("readings became refused items") };
    assert_eq!(batch.len() as u64, record.count);
    assert!((1..=MAX_RECORD_READINGS).contains(&batch.len()));
    batch
}

fn partition_of(device: &str) -> u32 {
    u32::from(device.bytes().fold(0u8, u8::wrapping_add)) % 3
}

/// Encodes, decodes, and compares: every partition has the readings of its devices, in order.
fn check_identity(batch: &ReadingBatch) {
    let records = encode_readings(batch, AT, &partition_of);
    for partition in 0..3 {
        let expected: Vec<Reading> =
            readings_of(batch).into_iter().filter(|reading| partition_of(Parts::of(&reading.0).device) == partition).collect();
        let ours = records.iter().filter(|record| record.partition == partition);
        let back: Vec<Reading> = ours.flat_map(|record| readings_of(&decoded_readings(record))).collect();
        assert_eq!(back, expected);
    }
    assert_eq!(records.iter().map(|record| record.count).sum::<u64>(), batch.len() as u64);
}

#[test]
fn a_record_carries_the_place_in_a_trace_that_it_was_sent_in_or_stays_as_it_is() {
    let context = Context { trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, span_id: 7 };
    let plain = encode_readings(&one_reading("d"), AT, &|_| 0);
    assert_eq!(carrying(plain.clone(), None), plain);
    let traced = carrying(plain.clone(), Some(context));
    assert_eq!(traced[0].payload.len(), plain[0].payload.len() + 24);
    let (decoded, was) = (decode(&traced[0].payload).unwrap(), decode(&plain[0].payload).unwrap());
    assert_eq!((decoded.trace, was.trace), (Some(context), None));
    assert_eq!((decoded.received_at, decoded.count), (was.received_at, was.count));
    check_same(&decoded.content, &was.content);
    for at in 0..traced[0].payload.len() {
        let mut changed = traced[0].payload.to_vec();
        changed[at] ^= 1;
        assert!(decode(&changed).is_err(), "a changed bit at {at}");
    }
}

fn check_same(content: &Content, other: &Content) {
    let (Content::Readings(content), Content::Readings(other)) = (content, other) else { panic!("readings became refused items") };
    assert_eq!(readings_of(content), readings_of(other));
}

fn key() -> impl Strategy<Value = SeriesKey> {
    let text = "([a-zé°/ -]{1,12}|press-[0-9]{1,3})";
    (text, text, prop::collection::btree_map("[a-cé]{1,3}", "[ -~é]{1,6}", 0..4)).prop_map(|(device, metric, tags)| {
        let tags: Vec<_> = tags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        SeriesKey::new(&device, &metric, &tags).unwrap()
    })
}

fn batch() -> impl Strategy<Value = ReadingBatch> {
    let keys = prop::collection::vec((key(), prop::option::of("[A-Za-z%°]{1,5}")), 1..20);
    let value = prop_oneof![any::<f64>().prop_filter("finite", |v| v.is_finite()), (-9999i32..9999).prop_map(|n| f64::from(n) / 100.0)];
    let time = prop_oneof![any::<i64>(), 0i64..10_000_000];
    (keys, prop::collection::vec((any::<prop::sample::Index>(), time, value), 0..100)).prop_map(|(keys, readings)| {
        let mut batch = ReadingBatch::default();
        for (at, time, value) in readings {
            let (key, unit) = &keys[at.index(keys.len())];
            let series = batch.dictionary.insert(key.as_str());
            batch.push(series, time, value);
            if let Some(unit) = unit {
                batch.dictionary.set_unit(series, unit);
            }
        }
        batch
    })
}

fn item() -> impl Strategy<Value = RefusedItem> {
    let texts = ("[ -~é]{0,40}", prop::option::of("[a-z]{1,9}"), "[a-z+]{1,9}", prop::collection::vec(any::<u8>(), 0..60));
    (any::<u128>(), prop::sample::select(Reason::ALL), texts, 1u64..5_000).prop_map(
        |(id, reason, (detail, device, format, bytes), count)| RefusedItem {
            id: Uuid::from_u128(id),
            reason,
            detail,
            device,
            format,
            count,
            bytes,
            part: 0,
            parts: 1,
        },
    )
}

fn decoded_items(records: &[Record]) -> Vec<RefusedItem> {
    let items = records.iter().flat_map(|record| {
        assert!(record.payload.len() <= MAX_RECORD_BYTES);
        let decoded = decode(&record.payload).unwrap();
        assert_eq!((decoded.received_at, decoded.count), (record.received_at, record.count));
        let Content::Refused(items) = decoded.content else { panic!("refused items became readings") };
        items
    });
    items.collect()
}

fn small_records() -> Vec<Record> {
    let mut batch = ReadingBatch::default();
    for (i, device) in ["press-7", "press-71", "é", "press-7"].iter().enumerate() {
        let series = batch.dictionary.insert(SeriesKey::new(device, "temperature", &[("line", "3")]).unwrap().as_str());
        batch.dictionary.set_unit(series, "Cel");
        batch.push(series, AT.micros() + i as i64, 21.5);
    }
    let refused = RefusedItem {
        id: Uuid::from_u128(7),
        reason: Reason::NotNumeric,
        detail: "no number".into(),
        device: Some("press-7".into()),
        format: "json".into(),
        count: 2,
        bytes: b"{}".to_vec(),
        part: 0,
        parts: 1,
    };
    let mut records = encode_readings(&batch, AT, &|_| 0);
    records.extend(encode_refused(vec![refused], AT, 0));
    records.push(encode_heartbeat(AT, 0));
    records
}

proptest! {
    #[test]
    fn readings_come_back(batch in batch()) {
        check_identity(&batch);
    }

    #[test]
    fn refused_items_come_back(items in prop::collection::vec(item(), 0..20)) {
        let records = encode_refused(items.clone(), AT, 2);
        prop_assert_eq!(records.iter().map(|record| record.count).sum::<u64>(), items.iter().map(|item| item.count).sum::<u64>());
        prop_assert_eq!(decoded_items(&records), items);
    }

    #[test]
    fn spoilt_contents_with_a_right_checksum_never_panic(
        which in 0usize..2,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = small_records()[which].payload.to_vec();
        bytes.truncate(bytes.len() - 4);
        for (at, byte) in changes {
            let at = 4 + at.index(bytes.len() - 4);
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(4 + cut.index(bytes.len() - 4));
        }
        put_crc(&mut bytes, 0);
        if let Ok(Decoded { content: Content::Readings(batch), .. }) = decode(&bytes) {
            for key in batch.dictionary.keys() {
                prop_assert!(SeriesKey::parse(key).is_ok(), "{:?}", key);
            }
            prop_assert!(batch.series.iter().all(|&series| (series as usize) < batch.dictionary.len()));
            prop_assert!(batch.values.iter().all(|value| value.is_finite()));
        }
    }

    #[test]
    fn a_text_is_taken_exactly_where_it_is_a_series_key(text in "[ab*é\0\x1e\x1f]{0,14}") {
        let mut bytes = super::encode_readings(&one_reading("d"), AT, &|_| 0)[0].payload.to_vec();
        bytes.truncate(4 + 1);
        bytes.extend_from_slice(&[0, 1, 1, 0, 0]);
        headwater_core::codec::put_bytes(&mut bytes, text.as_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 0, 0]);
        put_crc(&mut bytes, 0);
        prop_assert_eq!(decode(&bytes).is_ok(), SeriesKey::parse(&text).is_ok(), "{:?} {:?}", text, decode(&bytes));
    }
}

fn one_reading(device: &str) -> ReadingBatch {
    let mut batch = ReadingBatch::default();
    let series = batch.dictionary.insert(SeriesKey::new(device, "m", &[]).unwrap().as_str());
    batch.push(series, 0, 0.0);
    batch
}

#[test]
fn a_heartbeat_says_when_it_was_sent_and_counts_nothing() {
    let record = encode_heartbeat(AT, 3);
    assert_eq!((record.partition, record.received_at, record.count), (3, AT, 0));
    let decoded = decode(&record.payload).unwrap();
    assert!(matches!(decoded.content, Content::Heartbeat));
    assert_eq!((decoded.received_at, decoded.count), (AT, 0));
}

#[test]
fn every_changed_bit_is_refused() {
    for record in small_records() {
        for bit in 0..record.payload.len() * 8 {
            let mut bytes = record.payload.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn cut_and_lengthened_records_are_refused() {
    for record in small_records() {
        for n in 0..record.payload.len() {
            assert!(decode(&record.payload[..n]).is_err(), "{n} bytes");
        }
        let mut longer = record.payload.to_vec();
        longer.push(0);
        assert!(decode(&longer).is_err());
        longer.truncate(record.payload.len() - 4);
        longer.push(0);
        put_crc(&mut longer, 0);
        assert!(decode(&longer).is_err());
    }
}

#[test]
fn a_large_batch_is_split_within_the_limits() {
    let mut batch = ReadingBatch::default();
    for i in 0..20_000 {
        // Long texts for some, so that the limit of bytes comes first.
        let tags: Vec<(String, String)> = (0..if i % 3 == 0 { 32 } else { 0 }).map(|t| (format!("t{t}"), format!("{i:0>200}"))).collect();
        let tags: Vec<_> = tags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let series = batch.dictionary.insert(SeriesKey::new(&format!("d{}", i % 900), "m", &tags).unwrap().as_str());
        batch.push(series, i64::MAX - i, 1.0 / (i + 1) as f64);
    }
    check_identity(&batch);
    let mut batch = one_reading("d");
    for i in 0..MAX_RECORD_READINGS as i64 {
        batch.push(0, i, 0.5);
    }
    let counts: Vec<u64> = encode_readings(&batch, AT, &|_| 0).iter().map(|record| record.count).collect();
    assert_eq!(counts, [MAX_RECORD_READINGS as u64, 1]);
    assert!(encode_readings(&ReadingBatch::default(), AT, &|_| 0).is_empty());
}

#[test]
fn partitions_are_asked_for_once_a_series() {
    let mut batch = one_reading("d");
    (0..100).for_each(|i| batch.push(0, i, 0.5));
    let calls = std::cell::Cell::new(0);
    let count_call = |_: &str| {
        calls.set(calls.get() + 1);
        7
    };
    assert_eq!(encode_readings(&batch, AT, &count_call)[0].partition, 7);
    assert_eq!(calls.get(), 1);
}

#[test]
fn long_bytes_travel_in_parts() {
    let bytes: Vec<u8> = (0..2 * PART_BYTES + 5).map(|i| (i % 251) as u8).collect();
    let item = RefusedItem {
        id: Uuid::from_u128(9),
        reason: Reason::Malformed,
        detail: "x".repeat(5_000),
        device: Some("é".repeat(500)),
        format: "json+gzip".into(),
        count: 3,
        bytes: bytes.clone(),
        part: 0,
        parts: 1,
    };
    let small = RefusedItem { bytes: vec![], detail: String::new(), device: None, ..item.clone() };
    let records = encode_refused(vec![small.clone(), item, small.clone()], AT, 1);
    assert_eq!(records.iter().map(|record| record.count).sum::<u64>(), 9);
    let items = decoded_items(&records);
    assert_eq!((&items[0], &items[4], items.len()), (&small, &small, 5));
    let parts = &items[1..4];
    assert!(parts.iter().enumerate().all(|(i, part)| (part.part, part.parts, part.count) == (i as u32, 3, 3)));
    assert!(parts.iter().all(|part| part.detail.len() == 500 && part.device.as_ref().unwrap().len() == 128));
    assert_eq!(parts.iter().flat_map(|part| part.bytes.clone()).collect::<Vec<_>>(), bytes);
}

#[test]
fn claims_that_the_bytes_do_not_justify_are_refused() {
    // A million items, a million series, a start and an end that are not there, a heartbeat that counts.
    for tail in [
        &[2u8, 0, 0, 0xc0, 0x84, 0x3d][..],
        &[1, 0, 1, 0xc0, 0x84, 0x3d],
        &[1, 0, 1, 1, 5, 0, 1, b'a'],
        &[1, 0, 1, 1, 0, 5, 1, b'a'],
        &[3, 0, 1],
    ] {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(tail);
        put_crc(&mut bytes, 0);
        assert!(decode(&bytes).is_err());
    }
    // Short entries that share a long start would make much text of few bytes.
    let long = SeriesKey::new("d", "m", &[("a", &"x".repeat(250)), ("b", &"x".repeat(250)), ("c", &"x".repeat(250))]).unwrap();
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&[KIND_READINGS, 0]);
    put_varint(&mut bytes, 4_096);
    put_varint(&mut bytes, 4_096);
    put_varint(&mut bytes, 0);
    put_varint(&mut bytes, 0);
    headwater_core::codec::put_bytes(&mut bytes, long.as_str().as_bytes());
    for i in 0..4_095u32 {
        let rest = format!("{i:04}");
        put_varint(&mut bytes, long.as_str().len() as u64 - 4);
        put_varint(&mut bytes, 0);
        headwater_core::codec::put_bytes(&mut bytes, rest.as_bytes());
    }
    bytes.extend(std::iter::repeat_n(0, 20_000));
    put_crc(&mut bytes, 0);
    assert_eq!(decode(&bytes).unwrap_err().0, "more text than a record may have");
}

#[test]
fn a_record_of_the_first_version_is_still_read() {
    let pairs = FIRST_VERSION.as_bytes().as_chunks::<2>().0;
    let bytes: Vec<u8> = pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect();
    let Content::Readings(batch) = decode(&bytes).unwrap().content else { panic!("readings became refused items") };
    assert_eq!(readings_of(&batch), readings_of(&decoded_readings(&small_records()[0])));
}

/// The first of `small_records`, as version 1 wrote it: it must be read for ever.
const FIRST_VERSION: &str = concat!(
    "485752310180f9c8cf8991a206040300001a70726573732d370074656d7065726174757265006c696e651f3307130131001302c3a903000343656c010343",
    "656c010343656c0000000580f9c8cf8991a20602020201ae030000004a85de34",
);
