//! Records to readings and refused items.
//!
//! Owns: every check of bytes that nobody vouches for. Does not know: what becomes of a record that is damaged.
//! Invariant: a checksum only says that the bytes are those of their writer; everything else is checked too, and nothing is
//! allocated that the bytes do not justify.

use super::{Content, Decoded, KIND_HEARTBEAT, KIND_READINGS, KIND_REFUSED, MAGIC, RefusedItem, TRACED};
use crate::sink::{check_id, check_tag};
use headwater_core::codec::{Damaged, Reader, check_crc, read_times, read_values};
use headwater_core::columns::{Dictionary, ReadingBatch};
use headwater_core::dead_letter::Reason;
use headwater_core::log::{MAX_RECORD_BYTES, MAX_RECORD_READINGS};
use headwater_core::series::{MAX_TAGS, MAX_UNIT_BYTES, Parts};
use headwater_core::time::Timestamp;
use headwater_core::trace::Context;
use uuid::Uuid;

/// Decodes a record.
///
/// # Errors
/// When the bytes are not a record that this version writes, whole and unchanged.
pub fn decode(payload: &[u8]) -> Result<Decoded, Damaged> {
    if !payload.starts_with(MAGIC) {
        return Err(Damaged("no record, or one of another version"));
    }
    let mut reader = Reader::new(check_crc(payload)?);
    reader.take(MAGIC.len())?;
    let kind = reader.byte()?;
    let trace = if kind & TRACED == 0 { None } else { Some(place(&mut reader)?) };
    let received_at = Timestamp(reader.signed()?);
    let count = reader.varint()?;
    let content = match kind & !TRACED {
        KIND_READINGS => Content::Readings(readings(&mut reader, count)?),
        KIND_REFUSED => Content::Refused(refused(&mut reader, count)?),
        KIND_HEARTBEAT if count == 0 => Content::Heartbeat,
        _ => return Err(Damaged("an unknown kind of record")),
    };
    reader.finish()?;
    Ok(Decoded { received_at, count, content, trace })
}

fn place(reader: &mut Reader<'_>) -> Result<Context, Damaged> {
    let (trace_id, span_id) = (u128::from_be_bytes(reader.array()?), u64::from_be_bytes(reader.array()?));
    if trace_id == 0 || span_id == 0 { Err(Damaged("a trace without an id")) } else { Ok(Context { trace_id, span_id }) }
}

fn readings(reader: &mut Reader<'_>, count: u64) -> Result<ReadingBatch, Damaged> {
    let count = usize::try_from(count).ok().filter(|count| (1..=MAX_RECORD_READINGS).contains(count));
    let count = count.ok_or(Damaged("a number of readings that no record has"))?;
    let mut batch = ReadingBatch { dictionary: dictionary(reader, count)?, ..ReadingBatch::default() };
    units(reader, &mut batch.dictionary)?;
    batch.series = series_numbers(reader, count, batch.dictionary.len())?;
    read_times(reader, count, &mut batch.times)?;
    read_values(reader, count, &mut batch.values)?;
    Ok(batch)
}

/// The texts of the series, at most as many as there are readings.
fn dictionary(reader: &mut Reader<'_>, count: usize) -> Result<Dictionary, Damaged> {
    let n_series = reader.count(3)?;
    if n_series > count {
        return Err(Damaged("more series than readings"));
    }
    let mut dictionary = Dictionary::default();
    let (mut key, mut last, mut n_bytes) = (String::new(), String::new(), 0);
    for _ in 0..n_series {
        std::mem::swap(&mut key, &mut last);
        let (start, end) = (reader.varint()?, reader.varint()?);
        let start = usize::try_from(start).ok().and_then(|start| last.get(..start));
        let end = usize::try_from(end).ok().and_then(|end| last.len().checked_sub(end)).and_then(|from| last.get(from..));
        let (start, end) = start.zip(end).ok_or(Damaged("a series that shares more than there is"))?;
        key.clear();
        key.push_str(start);
        key.push_str(reader.str()?);
        key.push_str(end);
        // Shared starts cost no bytes here: the writer counted whole texts, and so does the limit.
        n_bytes += key.len();
        if n_bytes > MAX_RECORD_BYTES {
            return Err(Damaged("more text than a record may have"));
        }
        check_key(&key)?;
        // Not looked up: a text that stood twice would be one series with two numbers, which does no harm.
        dictionary.push(&key);
    }
    Ok(dictionary)
}

/// Whether a text is the canonical text of a series, as `SeriesKey::parse` has it, without making one.
fn check_key(key: &str) -> Result<(), Damaged> {
    let parts = Parts::of(key);
    if check_id(parts.device).is_err() || check_id(parts.metric).is_err() {
        return Err(Damaged("a series without a valid device and metric"));
    }
    let (mut n_tags, mut last, mut n_bytes) = (0, "", parts.device.len() + parts.metric.len() + 2);
    for (name, value) in parts.tags() {
        if name <= last || check_tag(name, value).is_err() {
            return Err(Damaged("a series with tags that are invalid or not sorted"));
        }
        n_bytes += name.len() + value.len() + 1 + usize::from(n_tags > 0);
        n_tags += 1;
        last = name;
    }
    // No part holds a separator, so that the lengths agree only when every separator is where it belongs.
    if n_tags > MAX_TAGS || n_bytes != key.len() {
        return Err(Damaged("a series whose text is not canonical"));
    }
    Ok(())
}

fn units(reader: &mut Reader<'_>, dictionary: &mut Dictionary) -> Result<(), Damaged> {
    let mut series = 0usize;
    for i in 0..reader.count(2)? {
        let step = reader.varint()?;
        if step == 0 && i > 0 {
            return Err(Damaged("a unit that stands twice"));
        }
        series = usize::try_from(step).ok().and_then(|step| series.checked_add(step)).unwrap_or(usize::MAX);
        let unit = reader.str()?;
        if series >= dictionary.len() || unit.is_empty() || unit.len() > MAX_UNIT_BYTES || unit.chars().any(char::is_control) {
            return Err(Damaged("a unit that is invalid"));
        }
        dictionary.set_unit(series as u32, unit);
    }
    Ok(())
}

fn series_numbers(reader: &mut Reader<'_>, count: usize, n_series: usize) -> Result<Vec<u32>, Damaged> {
    let mut numbers = Vec::with_capacity(count);
    let mut expected = 0i64;
    for _ in 0..count {
        let number = expected.wrapping_add(reader.signed()?);
        let number = u32::try_from(number).ok().filter(|&number| (number as usize) < n_series);
        let number = number.ok_or(Damaged("a reading of a series that the record does not name"))?;
        numbers.push(number);
        expected = i64::from(number) + 1;
    }
    Ok(numbers)
}

fn refused(reader: &mut Reader<'_>, count: u64) -> Result<Vec<RefusedItem>, Damaged> {
    /// Id, and nine numbers or lengths.
    const LEAST_BYTES: usize = 16 + 8;
    let n_items = reader.count(LEAST_BYTES)?;
    let mut items = Vec::with_capacity(n_items);
    let mut sum = 0u64;
    for _ in 0..n_items {
        let item = refused_item(reader)?;
        sum = sum.saturating_add(if item.part == 0 { item.count } else { 0 });
        items.push(item);
    }
    if sum != count || items.is_empty() {
        return Err(Damaged("refused items that do not add up to the record's count"));
    }
    Ok(items)
}

fn refused_item(reader: &mut Reader<'_>) -> Result<RefusedItem, Damaged> {
    let id = Uuid::from_bytes(reader.array()?);
    let reason = Reason::parse(reader.str()?).ok_or(Damaged("an unknown reason"))?;
    let detail = reader.str()?.to_owned();
    let device = match reader.byte()? {
        0 => None,
        1 => Some(reader.str()?.to_owned()),
        _ => return Err(Damaged("neither a device nor none")),
    };
    let format = reader.str()?.to_owned();
    let count = reader.varint()?;
    let part = u32::try_from(reader.varint()?).map_err(|_| Damaged("a part beyond all numbers"))?;
    let parts = u32::try_from(reader.varint()?).map_err(|_| Damaged("a part beyond all numbers"))?;
    if part >= parts {
        return Err(Damaged("a part that the item does not have"));
    }
    Ok(RefusedItem { id, reason, detail, device, format, count, bytes: reader.bytes()?.to_vec(), part, parts })
}
