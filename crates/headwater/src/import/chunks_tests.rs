//! Bodies put together are the file, and places in them lead back to its lines.

use super::*;
use proptest::prelude::*;

fn chunks(text: &str, format: Format) -> Vec<Chunk> {
    Chunks::new(text.as_bytes(), format).collect::<anyhow::Result<_>>().unwrap()
}

/// As [`chunks`], with bodies so small that a short file has many.
fn small_chunks(text: &str) -> Vec<Chunk> {
    let mut chunks = Chunks::new(text.as_bytes(), Format::Csv);
    chunks.limits = Limits { n_rows: 7, n_bytes: 100 };
    chunks.collect::<anyhow::Result<_>>().unwrap()
}

/// What a row looks like; several lines where a quoted field holds line ends.
fn row() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        "[a-z0-9.]{0,6}",
        "[a-z]\"[a-z]",
        "\"[a-z]{0,2}",
        "([a-z,]|\n[a-z]|\"\"){0,8}".prop_map(|inner| format!("\"{inner}\"")),
    ];
    proptest::collection::vec(field, 1..4).prop_map(|fields| format!("d,{}", fields.join(",")))
}

proptest! {
    #[test]
    fn bodies_without_their_headers_are_the_file(rows in proptest::collection::vec(row(), 0..60), crlf: bool, ended: bool) {
        let end = if crlf { "\r\n" } else { "\n" };
        let header = format!("device,metric,\"a\nb\",value{end}");
        let mut text = header.clone() + &rows.join(end);
        if ended && !rows.is_empty() { text.push_str(end) }
        let chunks = small_chunks(&text);
        let mut together = header.clone().into_bytes();
        for chunk in &chunks {
            prop_assert!(chunk.body.starts_with(header.as_bytes()));
            prop_assert!(chunk.body.len() < header.len() + 100 + 64);
            together.extend(&chunk.body[header.len()..]);
        }
        prop_assert_eq!(String::from_utf8(together).unwrap(), text);
    }

    #[test]
    fn every_line_of_a_body_leads_back_to_its_line_in_the_file(rows in proptest::collection::vec(row(), 1..60)) {
        let text = format!("device,metric,\"a\nb\",value\n{}\n", rows.join("\n"));
        let of_file: Vec<&str> = text.lines().collect();
        for chunk in small_chunks(&text) {
            for (i, line) in String::from_utf8(chunk.body.clone()).unwrap().lines().enumerate() {
                prop_assert_eq!(line, of_file[chunk.line_of(i as u64 + 1) as usize - 1]);
            }
        }
    }
}

#[test]
fn a_body_has_a_limited_number_of_rows_and_bytes() {
    let text = format!("device,metric,ts,value\n{}", "a,b,1,2\n".repeat(12_000));
    let chunks = chunks(&text, Format::Csv);
    let lines: Vec<_> = chunks.iter().map(|chunk| chunk.lines).collect();
    assert_eq!(lines, [(2, 5_001), (5_002, 10_001), (10_002, 12_001)]);
    let long = format!("device,metric,ts,value\n{}", format!("{},b,1,2\n", "a".repeat(5_000)).repeat(500));
    assert!(super::tests::chunks(&long, Format::Csv).iter().all(|chunk| chunk.body.len() < LIMITS.n_bytes + 6_000));
}

#[test]
fn items_of_ndjson_are_counted_without_empty_lines() {
    let chunks = chunks("{}\n\n  \r\n{}\n{}", Format::Ndjson);
    assert_eq!(chunks.len(), 1);
    assert_eq!([0, 1, 2, 3].map(|index| chunks[0].line_of_item(index)), [Some(1), Some(4), Some(5), None]);
}

#[test]
fn strings_of_line_protocol_are_not_cut() {
    let row = "m v=\"a\nb\",w=1 1\n";
    let text = row.repeat(7_000);
    let chunks = chunks(&text, Format::Line);
    assert_eq!(chunks.iter().map(|chunk| chunk.lines).collect::<Vec<_>>(), [(1, 10_000), (10_001, 14_000)]);
    assert_eq!(chunks[1].line_of(3), 10_003);
    assert_eq!((chunks[1].fields.all, chunks[1].fields.strings), (4_000, 2_000));
}

#[test]
fn a_body_of_empty_lines_is_not_sent() {
    let text = format!("{{}}\n{}{{}}\n", "\n".repeat(11_000));
    let chunks = chunks(&text, Format::Ndjson);
    assert_eq!(chunks.iter().map(|chunk| chunk.items.clone()).collect::<Vec<_>>(), [[1], [11_002]]);
    assert_eq!(super::tests::chunks("# comment\n\n  \n", Format::Line), []);
}

#[test]
fn nothing_but_a_header_is_nothing_to_send() {
    assert_eq!(chunks("", Format::Csv), []);
    assert_eq!(chunks("device,metric,ts,value", Format::Csv), []);
    assert_eq!(chunks("\u{feff}device,metric,ts,value\n", Format::Csv), []);
    assert_eq!(chunks("", Format::Ndjson), []);
}
