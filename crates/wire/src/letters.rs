//! Makes dead letters of what a decoder refused.
//!
//! Owns: which refusals share a dead letter, and its bytes. Does not know: where its id comes from, how it travels.
//! Invariant: every refused item has a dead letter with its bytes as they were sent; several metrics of one item that are refused
//! for the same reason share one, so that bytes are not kept once for each metric.
//!
//! A refused line of CSV means nothing without its header, so its bytes are the header line, a line feed, and the line; the
//! format is then `csv+header`. (Where a long header would multiply a body beyond a limit, the bytes are the line alone and the
//! format is `csv`.) Likewise a refused record of SenML: its bytes are an array of the base fields that held for it and the record, and
//! the format is `senml+base`; where those are not known, or too long, the record alone and `senml+lost`.

use crate::record::RefusedItem;
use crate::{Base, MAX_DETAIL_BYTES, Refused};
use uuid::Uuid;

/// The name of CSV as dead letters carry it: the format whose lines get their header.
pub const CSV: &str = "csv";

/// A line of CSV behind its header.
pub const CSV_WITH_HEADER: &str = "csv+header";
/// An array of SenML: the base fields of a record, and the record.
pub const SENML_WITH_BASE: &str = "senml+base";
/// A record of SenML whose base fields are not known.
pub const SENML_WITHOUT_BASE: &str = "senml+lost";

/// The dead letters of the refused items of a body. `id_of` is called once for each, in order, with the refusals that share it.
pub fn of_items(
    format: &str,
    body: &[u8],
    refused: &[Refused],
    most_bytes: usize,
    id_of: &mut dyn FnMut(&[Refused]) -> Uuid,
) -> Vec<RefusedItem> {
    let header = if format == CSV { csv_header(body, refused.len(), most_bytes) } else { None };
    refused.chunk_by(same_letter).map(|refusals| letter(format, header, body, refusals, id_of(refusals))).collect()
}

/// Whether two refusals belong into one dead letter: metrics of one item, refused for the same reason.
pub fn same_letter(one: &Refused, next: &Refused) -> bool {
    (one.place, one.reason, &one.span) == (next.place, next.reason, &next.span)
}

/// One dead letter of refusals that [`same_letter`] holds together; there is at least one.
fn letter(format: &str, header: Option<&[u8]>, body: &[u8], refusals: &[Refused], id: Uuid) -> RefusedItem {
    let whole = RefusedItem::new(id, &refusals[0], format, body);
    let count = refusals.iter().map(|refused| refused.count).sum();
    let (format, bytes) = match (header, &refusals[0].base) {
        (Some(header), _) => (CSV_WITH_HEADER.to_owned(), [header, b"\n", &whole.bytes].concat()),
        (None, Base::Fields(base)) => (SENML_WITH_BASE.to_owned(), [b"[", base.as_bytes(), b",", &whole.bytes, b"]"].concat()),
        (None, Base::Lost) => (SENML_WITHOUT_BASE.to_owned(), whole.bytes),
        (None, Base::None) => (whole.format, whole.bytes),
    };
    RefusedItem { detail: details(refusals), format, bytes, count, ..whole }
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
    use crate::Place;
    use headwater_core::dead_letter::{PART_BYTES, Reason};

    fn refused(reason: Reason, detail: &str, span: std::ops::Range<usize>) -> Refused {
        Refused { place: Place::Line(2), reason, detail: detail.into(), device: None, count: 1, span, base: Base::None }
    }

    fn letters(format: &str, body: &[u8], refused: &[Refused], most_bytes: usize) -> Vec<RefusedItem> {
        let mut n = 0;
        of_items(format, body, refused, most_bytes, &mut |_| {
            n += 1;
            Uuid::from_u128(n)
        })
    }

    #[test]
    fn metrics_of_one_item_that_fail_alike_share_a_letter() {
        let body = b"0123456789";
        let (one, two) = (refused(Reason::NotNumeric, "a", 2..5), refused(Reason::NotNumeric, "b", 2..5));
        let other = refused(Reason::NotFinite, "c", 2..5);
        let letters = letters("json", body, &[one, two, other], 1000);
        let shown: Vec<_> = letters.iter().map(|l| (l.id.as_u128(), l.count, &*l.detail, &*l.bytes)).collect();
        assert_eq!(shown, [(1, 2, "a; b", &b"234"[..]), (2, 1, "c", b"234")]);
    }

    #[test]
    fn a_csv_line_keeps_its_header_unless_that_would_take_too_much() {
        let body = b"\xef\xbb\xbfdevice,\"a\nb\"\r\nx,y\n";
        let line = [refused(Reason::Malformed, "bad", 17..20)];
        let with = letters("csv", body, &line, 1000);
        assert_eq!((&*with[0].format, &*with[0].bytes), ("csv+header", &b"device,\"a\nb\"\nx,y"[..]));
        let without = letters("csv", body, &line, 5);
        assert_eq!((&*without[0].format, &*without[0].bytes), ("csv", &b"x,y"[..]));
    }

    #[test]
    fn a_record_of_senml_keeps_the_base_fields_that_held_for_it() {
        let body = br#"[{"bn":"a:","n":"t","v":1},{"n":"u","v":"x"}]"#;
        let of = |base| Refused { base, ..refused(Reason::NotNumeric, "bad", 27..44) };
        let shown = |base| {
            let letter = letters("senml", body, &[of(base)], 1000).remove(0);
            (letter.format, String::from_utf8(letter.bytes).unwrap())
        };
        let record = r#"{"n":"u","v":"x"}"#;
        assert_eq!(shown(Base::Fields(r#"{"bn":"a:"}"#.into())), ("senml+base".into(), format!(r#"[{{"bn":"a:"}},{record}]"#)));
        assert_eq!(shown(Base::Lost), ("senml+lost".into(), record.into()));
        assert_eq!(shown(Base::None), ("senml".into(), record.into()));
    }

    #[test]
    fn long_bytes_are_put_into_parts_that_make_the_whole() {
        let body: Vec<u8> = (0..2 * PART_BYTES + 5).map(|i| i as u8).collect();
        let parts = letters("line", &body, &[refused(Reason::Malformed, "bad", 0..body.len())], 0).remove(0).into_parts();
        assert_eq!(parts.iter().map(|p| (p.part, p.parts)).collect::<Vec<_>>(), [(0, 3), (1, 3), (2, 3)]);
        assert_eq!(parts.iter().flat_map(|p| p.bytes.clone()).collect::<Vec<_>>(), body);
        assert!(parts.iter().all(|p| p.id == parts[0].id && p.count == 1));
    }

    #[test]
    fn a_csv_header_is_found_and_bounded() {
        assert_eq!(csv_header(b"device,t\na,x\n", 12, 100), Some(&b"device,t"[..]));
        assert_eq!(csv_header(b"device,t\na,x\n", 13, 100), None);
        assert_eq!(csv_header(b"device,t", 1, 100), None);
    }
}
