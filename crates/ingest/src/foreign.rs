//! Records that other programs have put into the log: JSON, NDJSON, CSV, line protocol, SenML.
//!
//! Owns: which format a record is in, what its key means, and its dead letters. Does not know: the formats themselves (`wire`
//! does), the log.
//! Invariants: what becomes of a record is a function of the record, its place and the configuration, so that a replay changes
//! nothing, the ids of dead letters included; it counts as many readings as it has of them, kept and refused. Skipped ones (null,
//! empty, texts) are not counted: nobody is told of them.
//!
//! The rules are those of a gateway that received the record's bytes as a body from a sender without limits, when the log
//! says that it was received. A record that cannot be read as a whole is one dead letter that counts 1, in parts where it is long.
//! The device that its key names is that of items that name none; it limits nothing.

use crate::decode::{Contents, DAMAGED, cannot_be_decoded, made_id, whole};
use headwater_core::dead_letter::{Origin, Reason};
use headwater_core::glob::DevicePatterns;
use headwater_core::log::{Foreign, StoredRecord};
use headwater_wire::{Context, Decoded, Precision, Unreadable, csv, json, letters, line, ndjson, senml};

/// Longer records are not decoded. The densest that can be, a wide CSV, has a reading in two bytes: 2,097,152 in all, which
/// keeps a batch below what a block holds.
const MAX_BYTES: usize = 4 << 20;
/// The most metrics of one item: the default of `gateway.max_metrics`.
const MAX_METRICS: usize = 256;
/// The format that dead letters of unknown formats carry.
const UNKNOWN: &str = "unknown";

/// The most readings that a record of so many bytes can be.
pub(crate) const fn most_readings(n_bytes: usize) -> u64 {
    (if n_bytes > MAX_BYTES { 0 } else { n_bytes / 2 }) as u64 + 1
}

/// Reads a record. Never fails: what cannot be read is refused.
pub(crate) fn read(record: &StoredRecord, said: &Foreign, device_tags: &[String], origin: &Origin) -> Contents {
    // As a gateway: nothing was sent, so there is nothing to keep. On Kafka it may be a tombstone.
    if record.payload.trim_ascii().is_empty() && !record.damaged {
        return Contents::default();
    }
    let format = match format_of(record, said) {
        Ok(format) => format,
        Err(why) => return refused_whole(record, origin, Reason::Undecodable, &why, UNKNOWN),
    };
    match decode(format, record, said, device_tags) {
        Ok(decoded) => contents(format, record, decoded, origin),
        Err(unreadable) => refused_whole(record, origin, Reason::Malformed, &unreadable.detail, format.as_str()),
    }
}

/// How the bytes of a record become readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Ndjson,
    Csv,
    Line,
    Senml,
}

impl Format {
    /// The name that dead letters carry, the same as the gateway's.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => letters::CSV,
            Self::Line => "line",
            Self::Senml => "senml",
        }
    }
}

/// The format of a record, or why nobody can tell. Bytes are looked at only where nothing is said of them, and only to tell
/// JSON: nothing else begins with a bracket and goes on as JSON does. What is said and not known here is never guessed at.
fn format_of(record: &StoredRecord, said: &Foreign) -> Result<Format, String> {
    if record.damaged {
        return Err(DAMAGED.to_owned());
    }
    if record.payload.len() > MAX_BYTES {
        return Err(format!("its {} bytes are more than {MAX_BYTES}", record.payload.len()));
    }
    let mut parts = said.content_type.split(';').map(|part| part.trim().to_ascii_lowercase());
    let essence = parts.next().unwrap_or_default();
    Ok(match essence.as_str() {
        "application/json" => Format::Json,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Format::Ndjson,
        "text/csv" if parts.any(|parameter| parameter == "header=absent") => return Err("its csv has no header line".to_owned()),
        "text/csv" => Format::Csv,
        "text/plain" | "application/vnd.influx.line-protocol" | "application/vnd.influxdb.line-protocol" => Format::Line,
        "application/senml+json" => Format::Senml,
        "" | "application/octet-stream" if begins_as_json(&record.payload) => Format::Json,
        "" | "application/octet-stream" => return Err("it has no content-type that says what it is, and is no JSON".to_owned()),
        other => return Err(format!("its content-type {:?} is not known here", &other[..other.floor_char_boundary(80)])),
    })
}

fn begins_as_json(payload: &[u8]) -> bool {
    let text = payload.strip_prefix(b"\xef\xbb\xbf").unwrap_or(payload);
    matches!(text.trim_ascii_start().first(), Some(b'{' | b'['))
}

fn decode(format: Format, record: &StoredRecord, said: &Foreign, device_tags: &[String]) -> Result<Decoded, Unreadable> {
    let context = Context {
        received_at: record.received_at,
        now: record.received_at,
        devices: &DevicePatterns::All,
        own_device: said.key.as_deref().filter(|key| !key.is_empty()),
        device_tags,
        fallback_device: None,
        precision: Precision::default(),
        max_metrics: MAX_METRICS,
    };
    let body = &record.payload;
    match format {
        Format::Json => json::decode(body, &context),
        Format::Ndjson => ndjson::decode(body, &context),
        Format::Csv => csv::decode(body, &context),
        Format::Line => Ok(line::decode(body, &context)),
        Format::Senml => senml::decode(body, &context),
    }
}

fn contents(format: Format, record: &StoredRecord, decoded: Decoded, origin: &Origin) -> Contents {
    let count = decoded.batch.len() as u64 + decoded.rejected();
    let mut ids = (0..).map(|n: u64| made_id(origin, format_args!("refused/{n}")));
    let mut id_of = |_: &[_]| ids.next().unwrap_or_default();
    let refused = letters::of_items(format.as_str(), &record.payload, &decoded.refused, MAX_BYTES, &mut id_of);
    let refused = refused.into_iter().flat_map(|item| item.into_parts()).collect();
    Contents { batch: decoded.batch, refused, count, trace: None }
}

/// The whole record as one dead letter.
fn refused_whole(record: &StoredRecord, origin: &Origin, reason: Reason, why: &str, format: &str) -> Contents {
    let item = whole(record, reason, cannot_be_decoded(origin, why), format, made_id(origin, "refused/0"));
    Contents { count: item.count, refused: item.into_parts(), ..Contents::default() }
}
