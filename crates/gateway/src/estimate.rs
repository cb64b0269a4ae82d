//! How much memory a body can turn into, before and after it is decoded.
//!
//! Owns: the two sums. Does not know: budgets, limits, what is done about a sum that is too large.
//! Invariant: the sum before decoding bounds the columns from above (up to the slack of growing vectors), by counting the marks
//! that every reading needs; it looks at each byte once and allocates nothing.

use crate::content::Format;
use headwater_core::columns::ReadingBatch;
use headwater_wire::{Refused, letters};

/// A reading in columns takes 20 bytes; the rest is room to grow and its share of the records.
const PER_READING: usize = 24;
/// A refused item: what the decoder says of it, its dead letter, and the same in a record, without its bytes.
const PER_REFUSED: usize = 320;
/// Lines shorter than this on average are hardly readings.
const SHORT_LINE: usize = 12;

/// What decoding `body` takes at most in addition to it.
pub(crate) fn before_decoding(format: Format, body: &[u8]) -> usize {
    let readings = match format {
        Format::Json | Format::Ndjson | Format::Senml => count(body, b':'),
        Format::Line => count(body, b'='),
        Format::Csv if is_long(body) => count(body, b'\n'),
        Format::Csv => count(body, b',') + count(body, b'\n'),
    };
    readings * PER_READING + hopeless_items(format, body) * PER_REFUSED
}

/// What was decoded takes in addition to the body, with the records that it becomes.
pub(crate) fn after_decoding(batch: &ReadingBatch, refused: &[Refused]) -> usize {
    let details: usize = refused.iter().map(|item| PER_REFUSED + 2 * item.detail.len()).sum();
    let bytes: usize = refused.chunk_by(letters::same_letter).map(|letter| 2 * letter[0].span.len()).sum();
    batch.memory_bytes() + 16 * batch.len() + details + bytes
}

/// Items that cannot be readings, where there are so many that refusing each would take more memory than the body.
fn hopeless_items(format: Format, body: &[u8]) -> usize {
    if matches!(format, Format::Json | Format::Senml) {
        // An item has more colons than commas, so what is left over are scalars in an array.
        return count(body, b',').saturating_sub(count(body, b':'));
    }
    let lines = count(body, b'\n');
    if lines * SHORT_LINE > body.len() { lines } else { 0 }
}

/// Whether a CSV body is long: one reading a line, not one a cell.
fn is_long(body: &[u8]) -> bool {
    let header = body.split(|&b| b == b'\n').next().unwrap_or_default();
    let names = |name: &[u8]| header.split(|&b| b == b',').any(|cell| cell.trim_ascii() == name);
    names(b"metric") && names(b"value")
}

fn count(body: &[u8], mark: u8) -> usize {
    memchr::memchr_iter(mark, body).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_bodies_are_charged_by_their_readings() {
        let long = "device,ts,metric,value\n".to_owned() + &"press-7,1763910000,t,21.5\n".repeat(1000);
        assert_eq!(before_decoding(Format::Csv, long.as_bytes()), 1001 * PER_READING);
        let wide = "device,ts,t,p\n".to_owned() + &"press-7,1763910000,21.5,1.0\n".repeat(1000);
        assert_eq!(before_decoding(Format::Csv, wide.as_bytes()), (1001 * 4) * PER_READING);
        let json = format!("[{}]", vec![r#"{"device":"d","ts":1763910000,"metrics":{"t":1}}"#; 1000].join(","));
        assert_eq!(before_decoding(Format::Json, json.as_bytes()), 4000 * PER_READING);
        assert_eq!(before_decoding(Format::Line, b"t,device=a value=1\n"), 2 * PER_READING);
    }

    #[test]
    fn bodies_of_nothing_but_refusals_are_charged_for_them() {
        for (format, body) in [(Format::Ndjson, "1\n"), (Format::Csv, "x\n"), (Format::Line, "x\n"), (Format::Json, "1,")] {
            let body = body.repeat(100_000);
            assert!(before_decoding(format, body.as_bytes()) >= 100_000 * PER_REFUSED, "{format:?}");
        }
    }
}
