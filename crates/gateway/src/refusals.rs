//! Makes dead letters of what a decoder refused, and of bodies that could not be read at all.
//!
//! Owns: their ids, their bytes, and what the answer says of them. Does not know: how they travel, HTTP.
//! Invariant: every refused item has a dead letter with its bytes as they were sent; several metrics of one item that are refused
//! for the same reason share one, so that bytes are not kept once for each metric.
//!
//! A refused line of CSV means nothing without its header, so its bytes are the header line, a line feed, and the line; the
//! format is then `csv+header`. (Where a long header would multiply a body beyond its own limit, the bytes are the line alone
//! and the format is `csv`.)

use crate::content::Format;
use headwater_core::dead_letter::Reason;
use headwater_core::time::Timestamp;
use headwater_wire::record::RefusedItem;
use headwater_wire::{MAX_DETAIL_BYTES, Place, Refused};
use uuid::{ContextV7, Uuid};

/// How many refused items an answer names; the rest is found among the dead letters.
pub(crate) const MOST_REPORTED: usize = 100;

/// What an answer says of one refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) place: Place,
    pub(crate) reason: &'static str,
    pub(crate) detail: String,
    pub(crate) dead_letter: Uuid,
}

/// Makes ids that sort by the time of receipt and, within a request, by place.
pub(crate) struct Ids {
    context: ContextV7,
    seconds: u64,
    nanos: u32,
}

impl Ids {
    pub(crate) fn at(received_at: Timestamp) -> Self {
        let micros = u64::try_from(received_at.micros()).unwrap_or(0);
        Self { context: ContextV7::new(), seconds: micros / 1_000_000, nanos: (micros % 1_000_000) as u32 * 1000 }
    }

    pub(crate) fn make(&self) -> Uuid {
        Uuid::new_v7(uuid::Timestamp::from_unix(&self.context, self.seconds, self.nanos))
    }
}

/// Whether two refusals belong into one dead letter: metrics of one item, refused for the same reason.
pub(crate) fn same_letter(one: &Refused, next: &Refused) -> bool {
    (one.place, one.reason, &one.span) == (next.place, next.reason, &next.span)
}

/// The dead letters of the refused items of a body, and the first of the refusals as the answer reports them.
pub(crate) fn of_items(
    format: Format,
    body: &[u8],
    refused: &[Refused],
    ids: &Ids,
    most_bytes: usize,
) -> (Vec<RefusedItem>, Vec<Reported>) {
    let header = if format == Format::Csv { csv_header(body, refused.len(), most_bytes) } else { None };
    let mut reported = Vec::new();
    let letters = refused.chunk_by(same_letter).map(|refusals| {
        let id = ids.make();
        let room = MOST_REPORTED - reported.len();
        reported.extend(refusals.iter().take(room).map(|refused| report(refused, id)));
        letter(format, header, body, refusals, id)
    });
    (letters.collect(), reported)
}

/// The dead letter of a whole body that could not be read: one malformed thing.
pub(crate) fn of_body(format: String, bytes: Vec<u8>, detail: String, ids: &Ids) -> RefusedItem {
    RefusedItem { id: ids.make(), reason: Reason::Malformed, detail, device: None, format, count: 1, bytes, part: 0, parts: 1 }
}

fn report(refused: &Refused, id: Uuid) -> Reported {
    Reported { place: refused.place, reason: refused.reason.as_str(), detail: refused.detail.clone(), dead_letter: id }
}

/// One dead letter of refusals that [`same_letter`] holds together; there is at least one.
fn letter(format: Format, header: Option<&[u8]>, body: &[u8], refusals: &[Refused], id: Uuid) -> RefusedItem {
    let first = &refusals[0];
    let own = body.get(first.span.clone()).unwrap_or_default();
    let (format, bytes) = match header {
        Some(header) => ("csv+header", [header, b"\n", own].concat()),
        None => (format.as_str(), own.to_vec()),
    };
    let count = refusals.iter().map(|refused| refused.count).sum();
    let (reason, device, format) = (first.reason, first.device.clone(), format.to_owned());
    RefusedItem { id, reason, detail: details(refusals), device, format, count, bytes, part: 0, parts: 1 }
}

/// What was wrong, of all as far as there is room.
fn details(refusals: &[Refused]) -> String {
    let mut text = String::new();
    for refused in refusals {
        let between = if text.is_empty() { "" } else { "; " };
        if text.len() + between.len() + refused.detail.len() > MAX_DETAIL_BYTES {
            break;
        }
        text.push_str(between);
        text.push_str(&refused.detail);
    }
    text
}

/// The header line of a CSV body without its line end, unless repeating it for every refused line takes more than `most_bytes`.
fn csv_header(body: &[u8], n_refused: usize, most_bytes: usize) -> Option<&[u8]> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut quoted = false;
    let end = body.iter().position(|&byte| {
        quoted ^= byte == b'"';
        byte == b'\n' && !quoted
    })?;
    let header = body[..end].strip_suffix(b"\r").unwrap_or(&body[..end]);
    (header.len().saturating_mul(n_refused) <= most_bytes).then_some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_receipt_and_by_place() {
        let early = Ids::at(Timestamp(1_763_910_000_000_000));
        let late = Ids::at(Timestamp(1_763_910_000_001_000));
        let ids: Vec<_> = (0..1000).map(|_| early.make()).chain([late.make()]).collect();
        assert!(ids.is_sorted());
        assert_eq!(ids[0].get_version_num(), 7);
        assert_eq!(Ids::at(Timestamp(-1)).make().get_version_num(), 7);
    }

    #[test]
    fn a_csv_header_is_found_and_bounded() {
        assert_eq!(csv_header(b"\xef\xbb\xbfdevice,t\r\na,x\n", 1, 100), Some(&b"device,t"[..]));
        assert_eq!(csv_header(b"device,\"a\nb\"\na,x\n", 1, 100), Some(&b"device,\"a\nb\""[..]));
        assert_eq!(csv_header(b"device,t\na,x\n", 13, 100), None);
        assert_eq!(csv_header(b"device,t", 1, 100), None);
    }
}
