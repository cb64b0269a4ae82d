//! A record of the log as a Kafka message, and back; also what others put on the topic.
//!
//! Owns: the headers. Does not know: the bytes of a payload, partitions, clients.
//!
//! | of a message | is |
//! |---|---|
//! | key | the device, where everything in it is of one |
//! | timestamp | when the gateway received it, in ms; never a time of a device, because retention counts by it |
//! | `content-type` | `application/vnd.headwater.record`: what makes it our own |
//! | `headwater-received` | when the gateway received it, in µs since the epoch |
//! | `headwater-count` | how many readings it counts as |
//! | `headwater-crc32` | CRC-32 of the payload, 8 hexadecimal digits |
//! | `ce_specversion`, `ce_type`, `ce_source`, `ce_id` | the attributes that CloudEvents wants in its binary mode |
//!
//! A message without that `content-type`, or whose other headers cannot be read, is **foreign**: it counts nothing, and carries
//! its content type and key. Its receive time comes from the message alone, so that a replay gives it again: the broker's time
//! where the topic has `message.timestamp.type=LogAppendTime` (recommended for topics that others write to), else the producer's
//! timestamp, which brokers hold to an hour ahead (`message.timestamp.after.max.ms`); a message without one has 1970-01-01.
//!
//! Invariant: nothing in a message can make decoding panic; what was appended is read back exactly.

use crate::native;
use bytes::Bytes;
use headwater_core::log::{Foreign, Record, StoredRecord};
use headwater_core::time::Timestamp;
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Header, OwnedHeaders};

/// The media type of our own records.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.headwater.record";
const RECEIVED: &str = "headwater-received";
const COUNT: &str = "headwater-count";
const CRC: &str = "headwater-crc32";
/// The most headers of a message that are looked at.
const MAX_HEADERS: usize = 64;
/// The most bytes of a foreign content type that are kept: more is no media type.
const MAX_CONTENT_TYPE: usize = 256;

/// The headers of a record; `id` is unique among all records.
pub(crate) fn headers(record: &Record, id: &str) -> OwnedHeaders {
    let received = record.received_at.micros().to_string();
    let count = record.count.to_string();
    let crc = format!("{:08x}", crc32fast::hash(&record.payload));
    let pairs = [
        ("content-type", CONTENT_TYPE),
        (RECEIVED, &received),
        (COUNT, &count),
        (CRC, &crc),
        ("ce_specversion", "1.0"),
        ("ce_type", "headwater.record"),
        ("ce_source", "headwater"),
        ("ce_id", id),
    ];
    let headers = OwnedHeaders::new_with_capacity(pairs.len());
    pairs.into_iter().fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

/// The timestamp of a record's message. 0 would mean "now" to librdkafka.
pub(crate) fn timestamp_ms(record: &Record) -> i64 {
    record.received_at.micros().div_euclid(1_000).max(1)
}

/// A message as the log's readers get it.
pub(crate) fn stored(message: &BorrowedMessage<'_>) -> StoredRecord {
    let mut envelope = Envelope::default();
    let mut looked_at = 0;
    native::each_header(message, |name, value| {
        envelope.take(name, value.unwrap_or_default());
        looked_at += 1;
        looked_at < MAX_HEADERS
    });
    let position = u64::try_from(message.offset()).unwrap_or(0);
    let millis = message.timestamp().to_millis().unwrap_or(0);
    let payload = Bytes::copy_from_slice(message.payload().unwrap_or_default());
    envelope.seal(position, millis, message.key(), payload)
}

/// What the headers say. The first of a name counts.
#[derive(Debug, Default)]
struct Envelope {
    content_type: Option<String>,
    received: Option<i64>,
    count: Option<u64>,
    crc: Option<u32>,
}

impl Envelope {
    fn take(&mut self, name: &[u8], value: &[u8]) {
        let text = || std::str::from_utf8(value).ok().map(str::trim);
        if name.eq_ignore_ascii_case(b"content-type") {
            let kept = text().filter(|text| text.len() <= MAX_CONTENT_TYPE).map(str::to_owned);
            self.content_type = self.content_type.take().or(kept);
        } else if name == RECEIVED.as_bytes() {
            self.received = self.received.or_else(|| text()?.parse().ok());
        } else if name == COUNT.as_bytes() {
            self.count = self.count.or_else(|| text()?.parse().ok());
        } else if name == CRC.as_bytes() {
            self.crc = self.crc.or_else(|| u32::from_str_radix(text()?, 16).ok());
        }
    }

    fn seal(self, position: u64, millis: i64, key: Option<&[u8]>, payload: Bytes) -> StoredRecord {
        let actual = crc32fast::hash(&payload);
        let is_own = self.content_type.as_deref() == Some(CONTENT_TYPE);
        if let (true, Some(received), Some(count), Some(crc)) = (is_own, self.received, self.count, self.crc) {
            let received_at = Timestamp(received);
            return StoredRecord { position, received_at, count, payload, crc, damaged: crc != actual, foreign: None };
        }
        let key = key.and_then(|key| std::str::from_utf8(key).ok()).map(str::to_owned);
        let foreign = Foreign { content_type: self.content_type.unwrap_or_default(), key };
        let received_at = Timestamp(millis.max(0).saturating_mul(1_000));
        StoredRecord { position, received_at, count: 0, payload, crc: actual, damaged: false, foreign: Some(Box::new(foreign)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [(&str, &str); 4] = [("content-type", CONTENT_TYPE), (RECEIVED, "1763910000000001"), (COUNT, "7"), (CRC, "3610a686")];

    fn sealed(headers: &[(&str, &str)], key: Option<&[u8]>, payload: &'static [u8]) -> StoredRecord {
        let mut envelope = Envelope::default();
        for (name, value) in headers {
            envelope.take(name.as_bytes(), value.as_bytes());
        }
        envelope.seal(5, 1_763_910_000_123, key, Bytes::from_static(payload))
    }

    #[test]
    fn an_own_record_has_what_its_headers_say() {
        let record = sealed(&OWN, Some(b"press-7"), b"hello");
        assert_eq!((record.position, record.count, record.received_at), (5, 7, Timestamp(1_763_910_000_000_001)));
        assert_eq!((record.crc, record.damaged, record.foreign), (0x3610_a686, false, None));
    }

    #[test]
    fn a_changed_byte_is_damage_and_the_crc_stays_that_of_the_append() {
        let record = sealed(&OWN, None, b"hellO");
        assert!(record.damaged);
        assert_eq!(record.crc, 0x3610_a686);
    }

    #[test]
    fn another_content_type_makes_a_record_foreign_whatever_the_case_of_the_name() {
        let record = sealed(&[("Content-Type", " application/json ")], Some(b"press-7"), b"{}");
        let foreign = Foreign { content_type: "application/json".to_owned(), key: Some("press-7".to_owned()) };
        assert_eq!(record.foreign.as_deref(), Some(&foreign));
        assert_eq!((record.count, record.received_at), (0, Timestamp(1_763_910_000_123_000)));
        assert_eq!((record.crc, record.damaged), (crc32fast::hash(b"{}"), false));
    }

    #[test]
    fn a_record_without_headers_or_with_a_key_that_is_no_text_says_nothing() {
        assert_eq!(sealed(&[], Some(b"\xff"), b"").foreign.as_deref(), Some(&Foreign::default()));
    }

    #[test]
    fn a_record_that_only_claims_to_be_ours_is_foreign() {
        for left_out in 1..OWN.len() {
            let headers: Vec<_> = OWN.iter().enumerate().filter(|(i, _)| *i != left_out).map(|(_, pair)| *pair).collect();
            let record = sealed(&headers, None, b"hello");
            assert_eq!(record.foreign.map(|foreign| foreign.content_type).as_deref(), Some(CONTENT_TYPE));
        }
    }

    #[test]
    fn a_header_that_is_no_text_is_as_good_as_none() {
        let mut envelope = Envelope::default();
        envelope.take(b"content-type", b"\xff\xfe");
        envelope.take(b"\xff", b"");
        assert_eq!(envelope.seal(0, 0, None, Bytes::new()).foreign.as_deref(), Some(&Foreign::default()));
    }
}
