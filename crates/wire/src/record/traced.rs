//! The place in a trace that a record may carry, so that what is done with it later can be found from the request that sent it.
//!
//! Owns: putting it into a record that is made already. Does not know: who collects traces.
//! Invariant: a record without one is what it always was, byte for byte; only what is sampled has one.

use super::{MAGIC, TRACED};
use bytes::Bytes;
use headwater_core::codec::put_crc;
use headwater_core::log::Record;
use headwater_core::trace::Context;

/// The bytes of a checksum.
const CRC_BYTES: usize = 4;

/// The records, carrying `context` where there is one. They are copied for it, so it is for the few that are sampled.
pub fn carrying(mut records: Vec<Record>, context: Option<Context>) -> Vec<Record> {
    if let Some(context) = context {
        records.iter_mut().for_each(|record| put(record, context));
    }
    records
}

fn put(record: &mut Record, context: Context) {
    let [.., _, _, _, _] = &record.payload[..] else { return };
    let (head, rest) = record.payload[..record.payload.len() - CRC_BYTES].split_at((MAGIC.len() + 1).min(record.payload.len() - CRC_BYTES));
    let Some((kind, magic)) = head.split_last().filter(|(_, magic)| *magic == MAGIC) else { return };
    let mut bytes = Vec::with_capacity(record.payload.len() + 24);
    bytes.extend_from_slice(magic);
    bytes.push(kind | TRACED);
    bytes.extend_from_slice(&context.trace_id.to_be_bytes());
    bytes.extend_from_slice(&context.span_id.to_be_bytes());
    bytes.extend_from_slice(rest);
    put_crc(&mut bytes, 0);
    record.payload = Bytes::from(bytes);
}
