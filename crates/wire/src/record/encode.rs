//! Readings and refused items to records.
//!
//! Owns: how much goes into one record. Does not know: how many partitions there are.
//! Invariants: a record has at most [`MAX_RECORD_READINGS`] readings and [`MAX_RECORD_BYTES`] bytes; the readings of a device keep
//! their order, and so do the items.

use super::{KIND_HEARTBEAT, KIND_READINGS, KIND_REFUSED, MAGIC, RefusedItem};
use crate::MAX_DETAIL_BYTES;
use crate::sink::cut;
use bytes::Bytes;
use headwater_core::codec::{put_bytes, put_crc, put_signed, put_times, put_values, put_varint};
use headwater_core::columns::{Dictionary, ReadingBatch};
use headwater_core::dead_letter::PART_BYTES;
use headwater_core::log::{MAX_RECORD_BYTES, MAX_RECORD_READINGS, Record};
use headwater_core::series::{MAX_ID_BYTES, Parts};
use headwater_core::time::Timestamp;
use std::collections::HashMap;

/// What a record has beside its readings or items, at most: magic, kind, time, counts, CRC.
const FRAME_BYTES: usize = 64;
/// What a reading takes at most: series number 3, time 10, value 8.
const READING_BYTES: usize = 21;
/// What a series takes at most beside its text and unit: three lengths, and its number and length among the units.
const SERIES_BYTES: usize = 16;
/// The most items in a record of refused items, and the longest name of a format.
const MAX_ITEMS: usize = MAX_RECORD_READINGS;
const MAX_FORMAT_BYTES: usize = 64;
/// What an item takes at most beside its texts and bytes.
const ITEM_BYTES: usize = 96;

/// Encodes readings as records, by the partition of their device.
pub fn encode_readings(batch: &ReadingBatch, received_at: Timestamp, partition_of: &dyn Fn(&str) -> u32) -> Vec<Record> {
    let mut split = Split::new(&batch.dictionary, received_at, partition_of);
    for ((&series, &time), &value) in batch.series.iter().zip(&batch.times).zip(&batch.values) {
        split.add(series, time, value);
    }
    split.finish()
}

/// The records that are being filled, one a partition.
struct Split<'b> {
    dictionary: &'b Dictionary,
    received_at: Timestamp,
    /// For each series the open record of its partition, by its place in `open`.
    partitions: Vec<u32>,
    open: Vec<Open>,
    /// For each series the record that it was added to last, and its number there.
    numbers: Vec<(u32, u32)>,
    n_records: u32,
    records: Vec<Record>,
}

/// A record that is being filled.
struct Open {
    partition: u32,
    /// Which record of the call it is, from 1.
    id: u32,
    keys: Vec<u32>,
    batch: Columns,
    most_bytes: usize,
}

#[derive(Default)]
struct Columns {
    series: Vec<u32>,
    times: Vec<i64>,
    values: Vec<f64>,
}

impl<'b> Split<'b> {
    fn new(dictionary: &'b Dictionary, received_at: Timestamp, partition_of: &dyn Fn(&str) -> u32) -> Self {
        let mut open: Vec<Open> = Vec::new();
        let mut places = HashMap::new();
        let partitions = dictionary.keys().map(|key| {
            let partition = partition_of(Parts::of(key).device);
            *places.entry(partition).or_insert_with(|| {
                let id = open.len() as u32 + 1;
                open.push(Open { partition, id, keys: Vec::new(), batch: Columns::default(), most_bytes: FRAME_BYTES });
                id - 1
            })
        });
        let partitions = partitions.collect();
        let n_records = open.len() as u32;
        Self { dictionary, received_at, partitions, open, numbers: vec![(0, 0); dictionary.len()], n_records, records: Vec::new() }
    }

    fn add(&mut self, series: u32, time: i64, value: f64) {
        let place = self.partitions[series as usize] as usize;
        let mut cost = self.cost(place, series);
        let open = &self.open[place];
        if open.batch.times.len() == MAX_RECORD_READINGS || open.most_bytes + cost > MAX_RECORD_BYTES {
            self.close(place);
            cost = self.cost(place, series);
        }
        let open = &mut self.open[place];
        open.most_bytes += cost;
        let number = &mut self.numbers[series as usize];
        if number.0 != open.id {
            *number = (open.id, open.keys.len() as u32);
            open.keys.push(series);
        }
        open.batch.series.push(number.1);
        open.batch.times.push(time);
        open.batch.values.push(value);
    }

    /// The most bytes by which one more reading lengthens a record.
    fn cost(&self, place: usize, series: u32) -> usize {
        if self.numbers[series as usize].0 == self.open[place].id {
            return READING_BYTES;
        }
        let unit = self.dictionary.unit(series).map_or(0, str::len);
        READING_BYTES + SERIES_BYTES + self.dictionary.key(series).len() + unit
    }

    fn close(&mut self, place: usize) {
        self.n_records += 1;
        let open = &mut self.open[place];
        if !open.batch.times.is_empty() {
            self.records.push(open.record(self.dictionary, self.received_at));
        }
        open.id = self.n_records;
        open.most_bytes = FRAME_BYTES;
        open.keys.clear();
        open.batch.series.clear();
        open.batch.times.clear();
        open.batch.values.clear();
    }

    fn finish(mut self) -> Vec<Record> {
        (0..self.open.len()).for_each(|place| self.close(place));
        self.records
    }
}

impl Open {
    fn record(&self, dictionary: &Dictionary, received_at: Timestamp) -> Record {
        let count = self.batch.times.len() as u64;
        let mut out = begin(KIND_READINGS, received_at, count);
        put_varint(&mut out, self.keys.len() as u64);
        let mut last = "";
        for key in self.keys.iter().map(|&series| dictionary.key(series)) {
            let start = shared_start(last, key);
            let end = shared_end(&last[last.len().min(start)..], &key[start..]);
            put_varint(&mut out, start as u64);
            put_varint(&mut out, end as u64);
            put_bytes(&mut out, &key.as_bytes()[start..key.len() - end]);
            last = key;
        }
        self.put_units(&mut out, dictionary);
        let mut expected = 0;
        for &series in &self.batch.series {
            put_signed(&mut out, i64::from(series) - expected);
            expected = i64::from(series) + 1;
        }
        put_times(&mut out, &self.batch.times);
        put_values(&mut out, &self.batch.values);
        Record { key: self.device(dictionary), ..end(out, self.partition, received_at, count) }
    }

    /// The device of all of it, where there is but one.
    fn device(&self, dictionary: &Dictionary) -> Option<String> {
        let mut devices = self.keys.iter().map(|&series| Parts::of(dictionary.key(series)).device);
        let first = devices.next()?;
        devices.all(|device| device == first).then(|| first.to_owned())
    }

    fn put_units(&self, out: &mut Vec<u8>, dictionary: &Dictionary) {
        let units =
            || self.keys.iter().enumerate().filter_map(|(i, &series)| Some((i, dictionary.unit(series).filter(|unit| !unit.is_empty())?)));
        put_varint(out, units().count() as u64);
        let mut last = 0;
        for (i, unit) in units() {
            put_varint(out, (i - last) as u64);
            put_bytes(out, unit.as_bytes());
            last = i;
        }
    }
}

/// How many bytes two texts have in common at their start, whole characters only.
fn shared_start(a: &str, b: &str) -> usize {
    let n = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    b.floor_char_boundary(n)
}

/// How many bytes two texts have in common at their end, whole characters only.
fn shared_end(a: &str, b: &str) -> usize {
    let n = a.bytes().rev().zip(b.bytes().rev()).take_while(|(a, b)| a == b).count();
    b.len() - b.ceil_char_boundary(b.len() - n)
}

/// Encodes refused items as records of `partition`; bytes that are too long for one record travel in parts. The items must be
/// whole: what they say in `part` and `parts` is written anew.
pub fn encode_refused(items: Vec<RefusedItem>, received_at: Timestamp, partition: u32) -> Vec<Record> {
    let mut records = Vec::new();
    let (mut body, mut n_items, mut count) = (Vec::new(), 0, 0u64);
    for item in &items {
        let parts = item.bytes.len().div_ceil(PART_BYTES).max(1) as u32;
        for part in 0..parts {
            let start = part as usize * PART_BYTES;
            let bytes = &item.bytes[start..(start + PART_BYTES).min(item.bytes.len())];
            if n_items == MAX_ITEMS || FRAME_BYTES + body.len() + most_bytes(item, bytes) > MAX_RECORD_BYTES {
                records.push(refused_record(&body, n_items, count, received_at, partition));
                (n_items, count) = (0, 0);
                body.clear();
            }
            put_item(&mut body, item, bytes, part, parts);
            n_items += 1;
            count = count.saturating_add(if part == 0 { item.count } else { 0 });
        }
    }
    if n_items > 0 {
        records.push(refused_record(&body, n_items, count, received_at, partition));
    }
    records
}

fn most_bytes(item: &RefusedItem, bytes: &[u8]) -> usize {
    let texts = item.detail.len().min(MAX_DETAIL_BYTES) + item.device.as_ref().map_or(0, |device| device.len().min(MAX_ID_BYTES));
    ITEM_BYTES + texts + item.format.len().min(MAX_FORMAT_BYTES) + bytes.len()
}

fn put_item(out: &mut Vec<u8>, item: &RefusedItem, bytes: &[u8], part: u32, parts: u32) {
    out.extend_from_slice(item.id.as_bytes());
    put_bytes(out, item.reason.as_str().as_bytes());
    put_bytes(out, cut(&item.detail, MAX_DETAIL_BYTES).as_bytes());
    match &item.device {
        None => out.push(0),
        Some(device) => {
            out.push(1);
            put_bytes(out, cut(device, MAX_ID_BYTES).as_bytes());
        }
    }
    put_bytes(out, cut(&item.format, MAX_FORMAT_BYTES).as_bytes());
    put_varint(out, item.count);
    put_varint(out, u64::from(part));
    put_varint(out, u64::from(parts));
    put_bytes(out, bytes);
}

fn refused_record(body: &[u8], n_items: usize, count: u64, received_at: Timestamp, partition: u32) -> Record {
    let mut out = begin(KIND_REFUSED, received_at, count);
    put_varint(&mut out, n_items as u64);
    out.extend_from_slice(body);
    end(out, partition, received_at, count)
}

/// A record that counts nothing and holds nothing but the time at which it was sent.
pub fn encode_heartbeat(sent_at: Timestamp, partition: u32) -> Record {
    end(begin(KIND_HEARTBEAT, sent_at, 0), partition, sent_at, 0)
}

fn begin(kind: u8, received_at: Timestamp, count: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(4_096);
    out.extend_from_slice(MAGIC);
    out.push(kind);
    put_signed(&mut out, received_at.micros());
    put_varint(&mut out, count);
    out
}

fn end(mut out: Vec<u8>, partition: u32, received_at: Timestamp, count: u64) -> Record {
    put_crc(&mut out, 0);
    debug_assert!(out.len() <= MAX_RECORD_BYTES);
    Record { partition, received_at, count, key: None, payload: Bytes::from(out) }
}
