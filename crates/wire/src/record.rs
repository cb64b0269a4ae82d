//! The record of the log: what a gateway appends and ingest reads back.
//!
//! Owns: the bytes of a record. Does not know: the log, which keeps them as they are.
//! Invariants: decoding what was encoded gives the same readings, bit by bit, in the same order; every changed bit is refused
//! (a CRC-32 of the record's own, whatever the log has); a decoder takes no more memory than a few times the record's length.
//!
//! # Layout
//!
//! Numbers are varints (signed ones zigzag), texts have their length in front, as in [`headwater_core::codec`].
//!
//! ```text
//! "HWR1"  kind: 1 readings, 2 refused, 3 heartbeat  received_at (signed)  count
//!         with 0x80 in the kind, right after it: the trace (16 bytes) and the span (8) that it was sent in, big-endian
//!   readings   n series, each: bytes shared with the start of the text before, with its end, then what is between
//!              n units,  each: series (less the one before), unit
//!              count series numbers, each: signed difference to the one before plus one
//!              count times, count values: core's columns
//!   refused    n items,  each: id (16 bytes), reason, detail, device (0, or 1 and the text), format, count, part, parts, bytes
//!   heartbeat  nothing; the count is 0
//! CRC-32 of everything before, little-endian
//! ```

mod decode;
mod encode;
mod traced;

pub use decode::decode;
pub use encode::{encode_heartbeat, encode_readings, encode_refused};
pub use traced::carrying;

use headwater_core::columns::ReadingBatch;
use headwater_core::dead_letter::{PART_BYTES, Reason};
use headwater_core::time::Timestamp;
use headwater_core::trace::Context;
use uuid::Uuid;

/// What a record begins with: the name and the version of its layout.
const MAGIC: &[u8; 4] = b"HWR1";
const KIND_READINGS: u8 = 1;
const KIND_REFUSED: u8 = 2;
const KIND_HEARTBEAT: u8 = 3;
/// In the kind: a place in a trace follows.
const TRACED: u8 = 0x80;

/// A record, decoded.
#[derive(Debug)]
pub struct Decoded {
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// How many readings it counts as: its readings, or the counts of the items whose first part it carries.
    pub count: u64,
    /// What it carries.
    pub content: Content,
    /// The place in a trace that it was sent in, where that was sampled.
    pub trace: Option<Context>,
}

/// What a record carries.
#[derive(Debug)]
pub enum Content {
    /// Readings, in the order of the request.
    Readings(ReadingBatch),
    /// Refused items, or parts of them.
    Refused(Vec<RefusedItem>),
    /// Nothing: its receive time is all that it says.
    Heartbeat,
}

/// A refused item on its way to become a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedItem {
    /// The id of the dead letter, told to the sender.
    pub id: Uuid,
    /// Why.
    pub reason: Reason,
    /// What exactly was wrong.
    pub detail: String,
    /// The device, where one could be read.
    pub device: Option<String>,
    /// The format of the bytes, such as `json`.
    pub format: String,
    /// How many readings it counts as; the same in every part, and counted with part 0.
    pub count: u64,
    /// The original bytes, or those of this part.
    pub bytes: Vec<u8>,
    /// Which part this is, from 0.
    pub part: u32,
    /// How many parts there are.
    pub parts: u32,
}

impl RefusedItem {
    /// An item that is whole.
    pub fn new(id: Uuid, refused: &crate::Refused, format: &str, body: &[u8]) -> Self {
        Self {
            id,
            reason: refused.reason,
            detail: refused.detail.clone(),
            device: refused.device.clone(),
            format: format.to_owned(),
            count: refused.count,
            bytes: body.get(refused.span.clone()).unwrap_or_default().to_vec(),
            part: 0,
            parts: 1,
        }
    }

    /// A whole item as the parts in which it travels and is kept: one, unless its bytes are longer than [`PART_BYTES`].
    pub fn into_parts(self) -> Vec<Self> {
        if self.bytes.len() <= PART_BYTES {
            return vec![self];
        }
        let parts = self.bytes.len().div_ceil(PART_BYTES) as u32;
        let whole = Self { bytes: Vec::new(), parts, ..self.clone() };
        self.bytes.chunks(PART_BYTES).zip(0..).map(|(bytes, part)| Self { bytes: bytes.to_vec(), part, ..whole.clone() }).collect()
    }
}

#[cfg(test)]
mod tests;
