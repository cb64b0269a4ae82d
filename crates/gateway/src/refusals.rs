//! Makes dead letters of what a decoder refused, and of bodies that could not be read at all.
//!
//! Owns: their ids, and what the answer says of them. Does not know: which refusals share a letter and what its bytes are (`wire::letters`
//! does), how they travel, HTTP.

use headwater_core::dead_letter::{Reason, RefusedAgain};
use headwater_core::time::Timestamp;
use headwater_wire::record::RefusedItem;
use headwater_wire::{Place, Refused};
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

/// The dead letters of the refused items of a body, and the first of the refusals as the answer reports them.
pub(crate) fn of_items(
    letter_name: &str,
    body: &[u8],
    refused: &[Refused],
    ids: &Ids,
    most_bytes: usize,
) -> (Vec<RefusedItem>, Vec<Reported>) {
    let mut reported = Vec::new();
    let mut id_of = |refusals: &[Refused]| {
        let id = ids.make();
        let room = MOST_REPORTED - reported.len();
        reported.extend(refusals.iter().take(room).map(|refused| report(refused, id)));
        id
    };
    (headwater_wire::letters::of_items(letter_name, body, refused, most_bytes, &mut id_of), reported)
}

/// The dead letter of a whole body that could not be read: one malformed thing.
pub(crate) fn of_body(format: String, bytes: Vec<u8>, detail: String, ids: &Ids) -> RefusedItem {
    RefusedItem { id: ids.make(), reason: Reason::Malformed, detail, device: None, format, count: 1, bytes, part: 0, parts: 1 }
}

/// What is told of an item that is refused again.
pub(crate) fn again(refused: &Refused) -> RefusedAgain {
    RefusedAgain { reason: refused.reason, detail: refused.detail.clone(), place: Some(place(refused.place)) }
}

/// A place's name and number.
pub(crate) const fn place(place: Place) -> (&'static str, u64) {
    match place {
        Place::Index(index) => ("index", index),
        Place::Line(line) => ("line", line),
    }
}

fn report(refused: &Refused, id: Uuid) -> Reported {
    Reported { place: refused.place, reason: refused.reason.as_str(), detail: refused.detail.clone(), dead_letter: id }
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
}
