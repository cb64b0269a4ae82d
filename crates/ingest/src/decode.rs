//! Records → columns with ids, and dead letters.
//!
//! Owns: what becomes of a record's content. Does not know: subscriptions, commits; how the records of other programs are
//! read (`foreign` does).
//! Invariant: every reading that a record counts as ends in exactly one of the batch's columns or its dead letters.

use crate::batch::Pending;
use crate::foreign;
use crate::registry::{Known, Registry};
use headwater_core::columns::ReadingBatch;
use headwater_core::dead_letter::{DeadLetter, Origin, PART_BYTES, Reason};
use headwater_core::log::{LogId, StoredRecord};
use headwater_core::series::{Parts, SeriesId, SeriesKey};
use headwater_core::store::NewSeries;
use headwater_core::time::Timestamp;
use headwater_core::trace::Context;
use headwater_wire::record::{self, Content, RefusedItem};
use std::collections::HashMap;
use std::fmt::Display;
use uuid::Uuid;

/// What decoding has to know beside the records.
#[derive(Debug)]
pub(crate) struct Decoder {
    pub(crate) log: LogId,
    /// The tags of line protocol that may name the device.
    pub(crate) device_tags: Vec<String>,
}

/// A record between the log and a batch.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) next: u64,
    origin: Origin,
    received_at: Timestamp,
    crc: u32,
    content: Contents,
    /// For each series of the record its id, where the registry knew it.
    ids: Vec<Option<SeriesId>>,
}

/// What a record holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) batch: ReadingBatch,
    pub(crate) refused: Vec<RefusedItem>,
    /// How many readings it counts as, both together.
    pub(crate) count: u64,
    /// The place in a trace that it was sent in.
    pub(crate) trace: Option<Context>,
}

impl Decoder {
    /// Decodes a record. Never fails: what cannot be decoded is refused.
    pub(crate) fn decode(&self, partition: u32, next: u64, record: &StoredRecord) -> Decoded {
        let origin = Origin { log: self.log.clone(), partition, position: record.position };
        let content = match &record.foreign {
            Some(said) => foreign::read(record, said, &self.device_tags, &origin),
            None => own(record, &origin),
        };
        Decoded { next, origin, received_at: record.received_at, crc: record.crc, content, ids: Vec::new() }
    }
}

/// What a record holds that a gateway has appended.
fn own(record: &StoredRecord, origin: &Origin) -> Contents {
    let read =
        if record.damaged { Err(DAMAGED.to_owned()) } else { record::decode(&record.payload).map_err(|damaged| damaged.to_string()) };
    let why = match read {
        Ok(decoded) if decoded.count == record.count => {
            let (batch, refused) = match decoded.content {
                Content::Readings(batch) => (batch, Vec::new()),
                Content::Refused(items) => (ReadingBatch::default(), items),
                Content::Heartbeat => (ReadingBatch::default(), Vec::new()),
            };
            return Contents { batch, refused, count: record.count, trace: decoded.trace };
        }
        Ok(decoded) => format!("it holds {} readings and its envelope says {}", decoded.count, record.count),
        Err(why) => why,
    };
    let item = whole(record, Reason::Undecodable, cannot_be_decoded(origin, why), "record", made_id(origin, 0));
    Contents { refused: vec![RefusedItem { count: record.count, ..item }], count: record.count, ..Contents::default() }
}

/// Why a record is refused whose bytes have changed in the log.
pub(crate) const DAMAGED: &str = "its bytes are not those that were appended (checksum)";

/// What a dead letter says of a record that cannot be decoded.
pub(crate) fn cannot_be_decoded(origin: &Origin, why: impl Display) -> String {
    format!("record {} of partition {} of log {} cannot be decoded: {why}", origin.position, origin.partition, origin.log)
}

/// A record as one refused item that counts 1.
pub(crate) fn whole(record: &StoredRecord, reason: Reason, detail: String, format: &str, id: Uuid) -> RefusedItem {
    let (format, bytes) = (format.to_owned(), record.payload.to_vec());
    RefusedItem { id, reason, detail, device: None, format, count: 1, bytes, part: 0, parts: 1 }
}

/// Looks up the series of these records. Gives those that the registry does not know, or knows with another unit; each once,
/// sorted.
pub(crate) fn look_up(records: &mut [Decoded], registry: &Registry) -> Vec<NewSeries> {
    let mut unknown: HashMap<SeriesKey, Option<String>> = HashMap::new();
    for decoded in records {
        let batch = &decoded.content.batch;
        let known = |(index, key)| registry.find(key, batch.dictionary.unit(index as u32));
        let ids: Vec<_> = batch.dictionary.keys().enumerate().map(known).collect();
        for (index, _) in ids.iter().enumerate().filter(|(_, id)| id.is_none()) {
            // The decoder has checked the text; one that is none cannot come here, and would be refused below.
            let Ok(key) = SeriesKey::parse(batch.dictionary.key(index as u32)) else { continue };
            let entry = unknown.entry(key).or_default();
            if let Some(unit) = batch.dictionary.unit(index as u32) {
                *entry = Some(unit.to_owned());
            }
        }
        decoded.ids = ids;
    }
    let mut unknown: Vec<NewSeries> = unknown.into_iter().map(|(key, unit)| NewSeries { key, unit }).collect();
    unknown.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    unknown
}

/// Moves records into the batch. `registered` holds the answers for the series that were unknown.
pub(crate) fn absorb(
    pending: &mut Pending,
    log: &LogId,
    expected: impl Fn(u32) -> Option<u64>,
    records: Vec<Decoded>,
    registered: &HashMap<SeriesKey, Known>,
) {
    for decoded in records {
        let Decoded { next, origin, received_at, crc, content: Contents { batch, refused, count, trace }, ids } = decoded;
        let ids = ids_of(&batch, &ids, registered);
        take_readings(pending, &batch, &ids);
        let mut letters = Vec::new();
        let dead =
            refused_items(refused, &origin, received_at, &mut letters) + refused_series(&batch, &ids, &origin, received_at, &mut letters);
        pending.note_received(received_at);
        pending.note_trace(trace);
        let entry = pending.advance(log, origin.partition, expected(origin.partition), next, Some(crc));
        entry.received += count;
        entry.dead += dead;
        for letter in letters {
            pending.bury(letter);
        }
    }
}

fn ids_of(batch: &ReadingBatch, ids: &[Option<SeriesId>], registered: &HashMap<SeriesKey, Known>) -> Vec<Known> {
    let answered = |key| registered.get(key).copied().unwrap_or(Known::Refused("of its device"));
    ids.iter().zip(batch.dictionary.keys()).map(|(id, key)| id.map_or_else(|| answered(key), Known::Id)).collect()
}

fn take_readings(pending: &mut Pending, batch: &ReadingBatch, ids: &[Known]) {
    let id_of = |series: u32| match ids.get(series as usize) {
        Some(Known::Id(id)) => Some(*id),
        _ => None,
    };
    if ids.iter().all(|id| matches!(id, Known::Id(_))) {
        pending.series.extend(batch.series.iter().map(|&s| id_of(s).unwrap_or(SeriesId(0))));
        pending.times.extend_from_slice(&batch.times);
        pending.values.extend_from_slice(&batch.values);
        return;
    }
    for i in 0..batch.len() {
        if let Some(id) = id_of(batch.series[i]) {
            pending.series.push(id);
            pending.times.push(batch.times[i]);
            pending.values.push(batch.values[i]);
        }
    }
}

/// Dead letters of each series of the record that is beyond a limit, with all its readings as JSON. Their ids are made of what they hold: the
/// same readings, sent or taken in again, are the same letter.
fn refused_series(batch: &ReadingBatch, ids: &[Known], origin: &Origin, received_at: Timestamp, letters: &mut Vec<DeadLetter>) -> u64 {
    let mut dead = 0;
    for (index, known) in ids.iter().enumerate() {
        let Known::Refused(limit) = known else { continue };
        let (key, unit) = (batch.dictionary.key(index as u32), batch.dictionary.unit(index as u32));
        let of_series = (0..batch.len()).filter(|&i| batch.series[i] as usize == index);
        for (bytes, count) in arrays(of_series.map(|i| reading_json(key, unit, batch.times[i], batch.values[i]).to_string())) {
            dead += count;
            letters.push(DeadLetter {
                id: Uuid::new_v5(&Uuid::NAMESPACE_OID, &[b"headwater:series_limit:", &bytes[..]].concat()),
                received_at,
                reason: Reason::SeriesLimit,
                detail: format!("a new series beyond the limit {limit}"),
                device: Some(Parts::of(key).device.to_owned()),
                format: "json".to_owned(),
                count,
                bytes,
                part: 0,
                parts: 1,
                origin: Some(origin.clone()),
            });
        }
    }
    dead
}

/// Rows as JSON arrays that each fit one part of a letter, with the number of their rows.
fn arrays(rows: impl Iterator<Item = String>) -> Vec<(Vec<u8>, u64)> {
    let mut arrays: Vec<(Vec<u8>, u64)> = Vec::new();
    for row in rows {
        match arrays.last_mut().filter(|(bytes, _)| bytes.len() + row.len() + 2 <= PART_BYTES) {
            Some((bytes, count)) => {
                bytes.push(b',');
                bytes.extend_from_slice(row.as_bytes());
                *count += 1;
            }
            None => arrays.push(([b"[", row.as_bytes()].concat(), 1)),
        }
    }
    arrays.iter_mut().for_each(|(bytes, _)| bytes.push(b']'));
    arrays
}

/// A reading as `POST /v1/readings` takes it.
fn reading_json(key: &str, unit: Option<&str>, time: i64, value: f64) -> serde_json::Value {
    let parts = Parts::of(key);
    let mut row = serde_json::json!({
        "device": parts.device, "metric": parts.metric, "ts": Timestamp(time).to_string(), "value": value,
    });
    if let Some(unit) = unit {
        row["unit"] = unit.into();
    }
    if !parts.has_no_tags() {
        row["tags"] =
            parts.tags().map(|(name, value)| (name.to_owned(), serde_json::Value::from(value))).collect::<serde_json::Map<_, _>>().into();
    }
    row
}

fn refused_items(items: Vec<RefusedItem>, origin: &Origin, received_at: Timestamp, letters: &mut Vec<DeadLetter>) -> u64 {
    let mut dead = 0;
    for item in items {
        if item.part == 0 {
            dead += item.count;
        }
        letters.push(DeadLetter {
            id: item.id,
            received_at,
            reason: item.reason,
            detail: item.detail,
            device: item.device,
            format: item.format,
            count: item.count,
            bytes: item.bytes,
            part: item.part,
            parts: item.parts,
            origin: Some(origin.clone()),
        });
    }
    dead
}

/// The id of a dead letter that ingest itself makes: a function of its place in the log, so that a replay makes the same.
/// `which` tells those of one record apart.
pub(crate) fn made_id(origin: &Origin, which: impl Display) -> Uuid {
    let name = format!("headwater:{}/{}/{}/{which}", origin.log, origin.partition, origin.position);
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}
