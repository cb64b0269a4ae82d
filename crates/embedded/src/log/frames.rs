//! The bytes of a row: how many records lie in one blob, and what can still be told of them when bytes have rotted.
//!
//! Owns: the framing and the two levels of checksums. Does not know: SQLite, positions of readers.
//!
//! A frame is `received_at` (i64), `count` (u64), `len` (u32), CRC-32 of the payload, CRC-32 of the 24 bytes before (all
//! little-endian), then the payload. The row has a CRC-32 of its own, over its columns and its blob, so that sound rows are
//! checked in one pass.
//! Invariants: [`Row::records`] numbers as many records as the row says, whatever its bytes are, and their counts add up to the
//! row's at most; a record that is whole comes back as it was even when its neighbours are damaged.

use bytes::Bytes;
use headwater_core::log::{MAX_RECORD_BYTES, Record, StoredRecord};
use headwater_core::time::Timestamp;

/// Bytes in front of a payload.
pub(super) const HEADER: usize = 28;
/// No blob is longer.
pub(super) const ROW_BYTES: usize = 4 << 20;
/// No row has more records.
pub(super) const ROW_RECORDS: u64 = (ROW_BYTES / HEADER) as u64;

/// One row as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// The number of its first record.
    pub(super) first: u64,
    /// How many records it has.
    pub(super) records: u64,
    /// How many readings they count as together.
    pub(super) count: u64,
    /// The least receive time among them.
    pub(super) received: i64,
    pub(super) crc: u32,
    pub(super) blob: Bytes,
}

/// What a row holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) records: Vec<StoredRecord>,
    /// From this record on not even the frames can be told apart: the checksums of these records are not known.
    pub(super) lost_from: Option<u64>,
}

impl Row {
    /// Puts records (as many as fit a row) into rows of consecutive records.
    pub(super) fn pack<'a>(mut first: u64, records: impl IntoIterator<Item = &'a Record>) -> Vec<Self> {
        let mut rows = Vec::new();
        let mut open = Builder::default();
        for record in records {
            if open.records > 0 && open.blob.len() + HEADER + record.payload.len() > ROW_BYTES {
                first += open.records;
                let full = std::mem::take(&mut open);
                rows.push(full.build(first));
            }
            open.push(record);
        }
        if open.records > 0 {
            first += open.records;
            rows.push(open.build(first));
        }
        rows
    }

    fn checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        for column in [self.first, self.records, self.count, self.received as u64] {
            hasher.update(&column.to_le_bytes());
        }
        hasher.update(&self.blob);
        hasher.finalize()
    }

    /// Whether every bit is as it was written.
    pub(super) fn is_sound(&self) -> bool {
        self.crc == self.checksum()
    }

    /// Takes the row apart. Damaged bytes give damaged records, so that positions keep counting.
    pub(super) fn contents(&self) -> Contents {
        let sound = self.is_sound();
        let mut records = Vec::with_capacity(self.records.min(ROW_RECORDS) as usize);
        let mut at = 0;
        for position in self.first..self.first.saturating_add(self.records) {
            match frame(&self.blob, at, position, sound) {
                Some(record) => {
                    at += HEADER + record.payload.len();
                    records.push(record);
                }
                None => return self.rest_is_lost(records, at, position),
            }
        }
        Contents { records, lost_from: None }
    }

    /// The first of the lost records carries the bytes and the readings of all.
    fn rest_is_lost(&self, mut records: Vec<StoredRecord>, at: usize, from: u64) -> Contents {
        let told: u64 = records.iter().fold(0, |sum, record| sum.saturating_add(record.count));
        let rest = self.blob.slice(at.min(self.blob.len())..);
        let mut payload = rest.slice(..rest.len().min(MAX_RECORD_BYTES));
        let mut count = self.count.saturating_sub(told);
        for position in from..self.first.saturating_add(self.records) {
            let crc = crc32fast::hash(&payload);
            records.push(StoredRecord {
                position,
                received_at: Timestamp(self.received),
                count,
                payload,
                crc,
                damaged: true,
                foreign: None,
            });
            (payload, count) = (Bytes::new(), 0);
        }
        Contents { records, lost_from: Some(from) }
    }
}

#[derive(Default)]
struct Builder {
    records: u64,
    count: u64,
    received: Option<i64>,
    blob: Vec<u8>,
}

impl Builder {
    fn push(&mut self, record: &Record) {
        let start = self.blob.len();
        self.blob.extend_from_slice(&record.received_at.0.to_le_bytes());
        self.blob.extend_from_slice(&record.count.to_le_bytes());
        self.blob.extend_from_slice(&(record.payload.len() as u32).to_le_bytes());
        self.blob.extend_from_slice(&crc32fast::hash(&record.payload).to_le_bytes());
        let header = crc32fast::hash(&self.blob[start..]);
        self.blob.extend_from_slice(&header.to_le_bytes());
        self.blob.extend_from_slice(&record.payload);
        self.records += 1;
        self.count = self.count.saturating_add(record.count);
        self.received = Some(self.received.unwrap_or(i64::MAX).min(record.received_at.0));
    }

    /// The row that ends before record `next`.
    fn build(self, next: u64) -> Row {
        let received = self.received.unwrap_or(0);
        let count = self.count.min(i64::MAX as u64);
        let mut row = Row { first: next - self.records, records: self.records, count, received, crc: 0, blob: self.blob.into() };
        row.crc = row.checksum();
        row
    }
}

/// The record whose frame begins at `at`; `None` where no sound header does. A sound row's payload is not hashed again.
fn frame(blob: &Bytes, at: usize, position: u64, sound: bool) -> Option<StoredRecord> {
    let (header, rest) = blob.get(at..)?.split_first_chunk::<HEADER>()?;
    let (fields, header_crc) = header.split_last_chunk::<4>()?;
    if crc32fast::hash(fields) != u32::from_le_bytes(*header_crc) {
        return None;
    }
    let received_at = Timestamp(i64::from_le_bytes(*fields.first_chunk()?));
    let count = u64::from_le_bytes(*fields[8..].first_chunk()?);
    let len = u32::from_le_bytes(*fields[16..].first_chunk()?) as usize;
    let crc = u32::from_le_bytes(*fields[20..].first_chunk()?);
    if len > rest.len() {
        return None;
    }
    let payload = blob.slice(at + HEADER..at + HEADER + len);
    let damaged = !sound && crc32fast::hash(&payload) != crc;
    Some(StoredRecord { position, received_at, count, payload, crc, damaged, foreign: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records() -> impl Strategy<Value = Vec<Record>> {
        let record = (any::<i64>(), 0u64..5000, prop::collection::vec(any::<u8>(), 0..60));
        prop::collection::vec(record, 1..12)
            .prop_map(|records| records.into_iter().map(|(at, count, payload)| made(at, count, payload)).collect())
    }

    fn made(at: i64, count: u64, payload: Vec<u8>) -> Record {
        Record { partition: 0, received_at: Timestamp(at), count, key: None, payload: payload.into() }
    }

    fn same(stored: &StoredRecord, record: &Record) -> bool {
        (stored.received_at, stored.count, &stored.payload, stored.damaged) == (record.received_at, record.count, &record.payload, false)
    }

    proptest! {
        #[test]
        fn records_come_back(records in records(), first in 0u64..1_000_000) {
            let rows = Row::pack(first, &records);
            prop_assert_eq!(rows.len(), 1);
            let contents = rows[0].contents();
            prop_assert_eq!((rows[0].first, rows[0].received, contents.lost_from), (first, records.iter().map(|r| r.received_at.0).min().unwrap(), None));
            prop_assert!(contents.records.iter().zip(&records).all(|(stored, record)| same(stored, record) && stored.crc == crc32fast::hash(&record.payload)));
            prop_assert!(contents.records.iter().map(|record| record.position).eq(first..first + records.len() as u64));
        }

        #[test]
        fn a_flipped_bit_damages_records_and_no_number(records in records(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut row = Row::pack(7, &records).remove(0);
            let mut blob = row.blob.to_vec();
            let at = at.index(blob.len());
            blob[at] ^= 1 << bit;
            row.blob = blob.into();
            prop_assert!(!row.is_sound());
            let contents = row.contents();
            prop_assert!(contents.records.iter().map(|record| record.position).eq(7..7 + records.len() as u64));
            prop_assert!(contents.records.iter().any(|record| record.damaged));
            prop_assert_eq!(contents.records.iter().map(|record| record.count).sum::<u64>(), row.count);
            // What comes before the damaged frame, and after a damaged payload, is whole.
            let intact = contents.records.iter().zip(&records).filter(|(stored, _)| !stored.damaged);
            prop_assert!(intact.clone().all(|(stored, record)| same(stored, record)));
            let lost = contents.lost_from.map_or(1, |from| 7 + records.len() as u64 - from);
            prop_assert_eq!(intact.count() as u64, records.len() as u64 - lost);
        }

        #[test]
        fn arbitrary_bytes_never_panic(blob in prop::collection::vec(any::<u8>(), 0..200), records in 0u64..20, count in any::<u64>()) {
            let row = Row { first: 3, records, count, received: 0, crc: 0, blob: blob.into() };
            prop_assert_eq!(row.contents().records.len() as u64, records);
        }
    }

    #[test]
    fn rows_are_bounded_and_follow_each_other() {
        let records: Vec<Record> = (0..20).map(|_| made(5, 1, vec![7; MAX_RECORD_BYTES])).collect();
        let rows = Row::pack(100, &records);
        assert_eq!(rows.iter().map(|row| (row.first, row.records)).collect::<Vec<_>>(), [(100, 7), (107, 7), (114, 6)]);
        assert!(rows.iter().all(|row| row.blob.len() <= ROW_BYTES && row.is_sound()));
    }

    #[test]
    fn the_first_of_lost_records_carries_what_is_left() {
        let mut row = Row::pack(0, &[made(1, 10, vec![1; 50]), made(2, 20, vec![2; 50]), made(3, 30, vec![3; 50])]).remove(0);
        let mut blob = row.blob.to_vec();
        blob[HEADER + 50] ^= 1;
        row.blob = blob.into();
        let Contents { records, lost_from } = row.contents();
        assert_eq!(lost_from, Some(1));
        assert_eq!(
            records.iter().map(|r| (r.count, r.payload.len(), r.damaged)).collect::<Vec<_>>(),
            [(10, 50, false), (50, 2 * (HEADER + 50), true), (0, 0, true)]
        );
    }
}
