//! What answers promise of their tags: known before a byte is written, and equal where the bytes are.

use super::*;
use crate::Config;
use headwater_core::time::Timestamp;
use headwater_web::Budget;
use http_body_util::BodyExt;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[test]
fn tags_are_found_in_lists_weak_and_strong() {
    let cases = [("\"a\"", true), ("W/\"a\"", true), ("\"b\", \"a\"", true), ("*", true), ("\"b\"", false), ("a", false), ("", false)];
    for (known, expected) in cases {
        let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(known))]);
        assert_eq!(is_known(&headers, "\"a\""), expected, "{known}");
    }
}

/// Sends an answer whose text may take `room_bytes`; what came, and how often it was walked over for its tag and for its text.
async fn send(request: &HeaderMap, room_bytes: usize) -> (Result<Response>, [usize; 2]) {
    let walks = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let limits = Arc::new(Config { max_answer_bytes: room_bytes, memory_wait: Duration::ZERO, ..Config::default() });
    let reservation = Budget::new(1 << 20, "answers").reserve(1, Duration::ZERO).await.unwrap();
    let counted = Arc::clone(&walks);
    let write = move |out: Out<'_>| {
        counted[usize::from(matches!(out, Out::Text(_)))].fetch_add(1, Ordering::Relaxed);
        let mut json = Json::on(out);
        json.open(b'{');
        json.member("v", &1.5);
        json.close(b'}');
        json.end();
    };
    let answer = Answer { write, format: Format::Json, n_rows: 1, held_bytes: 1_000, text_bytes: 10_000, next: None };
    let response = answer.into_response(request, Room::new(reservation, limits)).await;
    (response, [0, 1].map(|i| walks[i].load(Ordering::Relaxed)))
}

#[tokio::test]
async fn an_answer_that_the_client_has_is_never_written_and_needs_no_room_for_a_text() {
    let (first, walks) = send(&HeaderMap::new(), 1 << 20).await;
    let (head, body) = first.unwrap().into_parts();
    assert_eq!((head.status, walks), (StatusCode::OK, [1, 1]));
    assert_eq!(body.collect().await.unwrap().to_bytes(), "{\"v\":1.5}\n");

    let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, head.headers[header::ETAG].clone())]);
    let (again, walks) = send(&known, 5_000).await;
    assert_eq!((again.unwrap().status(), walks), (StatusCode::NOT_MODIFIED, [1, 0]));
    let (refused, walks) = send(&HeaderMap::new(), 5_000).await;
    assert!(refused.is_err(), "10,000 bytes of text do not fit");
    assert_eq!(walks, [1, 0]);
}

/// A cell or a value.
#[derive(Debug, Clone)]
enum Item {
    Text(&'static str),
    Float(Option<f64>),
    Whole(u64),
    Time(i64),
    Tags(Vec<(&'static str, Option<&'static str>)>),
}

/// Rows with columns of one kind each, few different values: documents are often equal, or nearly.
fn rows() -> impl Strategy<Value = Vec<Vec<Item>>> {
    let text = || prop::sample::select(vec!["", "a", "b", "ab", ",", "\"", "null", "=1", "'=1", "é", "}"]);
    let float = prop::sample::select(vec![None, Some(0.0), Some(-0.0), Some(1.0), Some(0.1 + 0.2), Some(0.3), Some(f64::NAN), Some(1e300)]);
    let tags = prop::collection::btree_map(text(), prop::option::of(text()), 0..3).prop_map(|tags| Item::Tags(tags.into_iter().collect()));
    let row = (text(), text(), float, 0u64..2, 0i64..2, tags).prop_map(|(name, unit, float, whole, time, tags)| {
        vec![Item::Text(name), Item::Text(unit), Item::Float(float), Item::Whole(whole), Item::Time(time), tags]
    });
    prop::collection::vec(row, 0..3)
}

fn put_rows(rows: &[Vec<Item>], format: Format, out: Out<'_>) {
    match format {
        Format::Json => put_objects(rows, Json::on(out)),
        Format::Csv => put_lines(rows, Csv::on(out, Guard::Formulas)),
    }
}

fn put_objects(rows: &[Vec<Item>], mut json: Json<'_>) {
    json.open(b'{');
    json.name("rows");
    json.open(b'[');
    for row in rows {
        json.open(b'{');
        for item in row {
            match item {
                Item::Text(text) => json.member("s", *text),
                Item::Float(float) => json.member("f", float),
                Item::Whole(whole) => json.member("u", whole),
                Item::Time(time) => json.time("t", Timestamp(*time)),
                Item::Tags(tags) => json.tags(tags.iter().copied()),
            }
        }
        json.close(b'}');
    }
    json.end_of_rows(None);
}

fn put_lines(rows: &[Vec<Item>], mut csv: Csv<'_>) {
    for row in rows {
        for item in row {
            match item {
                Item::Text(text) => csv.text(text),
                Item::Float(float) => csv.number_or_empty(float.filter(|float| float.is_finite())),
                Item::Whole(whole) => csv.number(*whole),
                Item::Time(time) => csv.time(Timestamp(*time)),
                Item::Tags(tags) => csv.text(tags.first().map_or("", |tag| tag.0)),
            }
        }
        csv.end_line();
    }
}

fn tag_and_text(rows: &[Vec<Item>], format: Format) -> (String, Vec<u8>) {
    let (mut tag, mut text) = (Tag::new(format), Vec::new());
    put_rows(rows, format, Out::Tag(&mut tag));
    put_rows(rows, format, Out::Text(&mut text));
    (tag.finish(None), text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn tags_are_equal_exactly_where_texts_are(
        a in rows(), b in rows(), change in any::<bool>(), at in any::<prop::sample::Index>(), csv in any::<bool>(),
    ) {
        // Equal, or with one row in another's place, or altogether different.
        let mut b = if change { a.clone() } else { b };
        if change && !a.is_empty() {
            let (from, to) = (at.index(a.len()), a.len() - 1);
            b.swap(from, to);
        }
        let format = if csv { Format::Csv } else { Format::Json };
        let (a, b) = (tag_and_text(&a, format), tag_and_text(&b, format));
        prop_assert_eq!(a.0 == b.0, a.1 == b.1, "{:?} {:?}", String::from_utf8_lossy(&a.1), String::from_utf8_lossy(&b.1));
    }
}

#[test]
fn a_tag_depends_on_the_format_and_on_the_next_page_and_on_nothing_else() {
    let tag = |format, next| Tag::new(format).finish(next);
    let tags = [tag(Format::Json, None), tag(Format::Csv, None), tag(Format::Json, Some("/a")), tag(Format::Json, Some("/b"))];
    for (i, a) in tags.iter().enumerate() {
        assert_eq!((a.len(), a.starts_with('"'), a.ends_with('"')), (34, true, true));
        assert!(tags[..i].iter().all(|b| a != b));
    }
    // Blocks of the hash do not show.
    let long = "x".repeat(10_000);
    let mut whole = Tag::new(Format::Json);
    whole.text(&long);
    let mut twice = Tag::new(Format::Json);
    twice.text_after(&long[..4_000], &long[4_000..]);
    assert_eq!(whole.finish(None), twice.finish(None));
}

/// Tags outlive programs: whoever changes what is hashed, or how the same values are written, changes the version of the form, and this.
#[test]
fn tags_are_those_of_yesterday() {
    let rows = [vec![Item::Text("d"), Item::Float(Some(1.5)), Item::Float(None), Item::Whole(7), Item::Time(1_764_000_000_000_000)]];
    let json = tag_and_text(&rows, Format::Json);
    let text = "{\"rows\":[{\"s\":\"d\",\"f\":1.5,\"f\":null,\"u\":7,\"t\":\"2025-11-24T16:00:00Z\"}],\"next_cursor\":null}\n";
    assert_eq!((json.0.as_str(), String::from_utf8(json.1).unwrap().as_str()), ("\"9b50ff7a355d163fa6f5b6d793d53dea\"", text));
    let csv = tag_and_text(&rows, Format::Csv);
    assert_eq!(
        (csv.0.as_str(), String::from_utf8(csv.1).unwrap().as_str()),
        ("\"c036710c7619f337a39c86f5117d8b6a\"", "d,1.5,,7,2025-11-24T16:00:00Z\r\n")
    );
}
