//! Bad and hostile bodies: the right status, a dead letter exactly where the contract wants one, and nothing else kept.

use super::*;
use axum::body::Bytes;
use http_body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What is kept of a refused body.
#[derive(Debug, PartialEq)]
enum Kept {
    Nothing,
    /// The whole body as one dead letter of this format.
    Letter(&'static str),
}
use Kept::{Letter, Nothing};

/// What it is, its type, its coding, its bytes; the status, and what is kept.
type Case = (&'static str, &'static str, &'static str, Vec<u8>, u16, Kept);

fn cut(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - 5);
    bytes
}

fn flipped(mut bytes: Vec<u8>) -> Vec<u8> {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    bytes
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused_whole() {
    let good = item("a", 1.0).into_bytes();
    let many = format!("[{}]", vec![item("a", 1.0); 200].join(",")).into_bytes();
    let deep = "[".repeat(10_000).into_bytes();
    let deep_object = r#"{"a":"#.repeat(10_000).into_bytes();
    let ends_in_garbage = [gzip(&good), b"garbage".to_vec()].concat();
    let cases: Vec<Case> = vec![
        ("cut json", JSON, "", cut(many.clone()), 400, Letter("json")),
        ("garbage", JSON, "", b"\x00\x01garbage".to_vec(), 400, Letter("json")),
        ("invalid utf-8", JSON, "", b"{\"device\":\"\xff\xfe".to_vec(), 400, Letter("json")),
        ("two documents", JSON, "", [&good[..], &good[..]].concat(), 400, Letter("json")),
        ("10,000 arrays", JSON, "", deep, 400, Letter("json")),
        ("10,000 objects", JSON, "", deep_object, 400, Letter("json")),
        ("csv without a usable header", CSV, "", b"a,b\n1,2\n".to_vec(), 400, Letter("csv")),
        ("nothing", JSON, "", vec![], 400, Nothing),
        ("blanks", NDJSON, "", b" \r\n\n".to_vec(), 400, Nothing),
        ("nothing, compressed", JSON, "gzip", gzip(b""), 400, Nothing),
        ("an empty body that says gzip", JSON, "gzip", vec![], 400, Nothing),
        ("no gzip", JSON, "gzip", good.clone(), 400, Letter("json+gzip")),
        ("cut gzip", JSON, "gzip", cut(gzip(&many)), 400, Letter("json+gzip")),
        ("damaged gzip", NDJSON, "gzip", flipped(gzip(&many)), 400, Letter("ndjson+gzip")),
        ("gzip with a tail", JSON, "gzip", ends_in_garbage, 400, Letter("json+gzip")),
        ("no zstd", CSV, "zstd", good.clone(), 400, Letter("csv+zstd")),
        ("cut zstd", JSON, "zstd", cut(zstd(&many)), 400, Letter("json+zstd")),
        ("cut json in gzip", JSON, "gzip", gzip(&cut(many)), 400, Letter("json")),
        ("another type", "text/plain", "", good.clone(), 415, Nothing),
        ("another charset", "application/json; charset=utf-16", "", good.clone(), 415, Nothing),
        ("another coding", JSON, "br", good.clone(), 415, Nothing),
        ("two codings", JSON, "gzip, gzip", gzip(&gzip(&good)), 415, Nothing),
    ];
    for (name, content_type, coding, body, status, kept) in cases {
        let site = Site::new();
        let request =
            if coding.is_empty() { super::readings(content_type, &[], body.clone()) } else { encoded(content_type, coding, body.clone()) };
        let answer = site.ask(request).await;
        assert_eq!(answer.status.as_u16(), status, "{name}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{name}");
        assert!(site.readings().is_empty(), "{name}: nothing of it is stored");
        match kept {
            Nothing => assert!(site.log.records(0).is_empty(), "{name}"),
            Letter(format) => {
                let letters = site.letters();
                assert_eq!((letters.len(), site.counted()), (1, 1), "{name}");
                assert_eq!((letters[0].format.as_str(), letters[0].reason.as_str(), letters[0].count), (format, "malformed", 1), "{name}");
                assert!(format != "json" || coding.is_empty() == (letters[0].bytes == body), "{name}: the bytes are the original ones");
                assert!(!format.contains('+') || letters[0].bytes == body, "{name}: the bytes are as they were sent");
            }
        }
        assert_eq!(site.budget.free_bytes(), site.budget.bytes(), "{name}: everything reserved is given back");
    }
}

#[tokio::test]
async fn unsupported_types_and_codings_are_answered_with_what_is_supported() {
    let site = Site::new();
    let answer = site.ask(post("/v1/readings", &[], &[], item("a", 1.0))).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(answer.json()["detail"].as_str().unwrap().contains("application/x-ndjson"));
    assert!(answer.header("accept-post").contains("text/csv"));
    let answer = site.ask(encoded(JSON, "br", item("a", 1.0))).await;
    assert!(answer.json()["detail"].as_str().unwrap().contains("zstd"));
    assert_eq!(answer.header("accept-encoding"), "gzip, zstd, identity");
}

#[tokio::test]
async fn a_broken_document_is_pointed_at() {
    let site = Site::new();
    let answer = site.send(JSON, format!("[{},{{\"device\":", item("a", 1.0))).await;
    assert_eq!(answer.json()["errors"][0]["pointer"], "/1", "{answer:?}");
}

#[tokio::test]
async fn a_body_without_an_end_is_refused_at_the_limit() {
    let site = Site::new();
    let endless = endless_of(Bytes::from(vec![b'['; 64 * 1024]));
    let answer = site.send(JSON, endless).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(site.log.records(0).is_empty());
    assert_eq!(site.budget.free_bytes(), site.budget.bytes());
}

/// A body that gives the same piece for ever.
fn endless_of(piece: Bytes) -> Body {
    struct Endless(Bytes);
    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(Some(Ok(Frame::data(self.0.clone()))))
        }
    }
    Body::new(Endless(piece))
}

#[tokio::test]
async fn bombs_are_refused_early() {
    let config = Config { max_body_bytes: 64 * 1024, max_decoded_bytes: MIB, ..Config::default() };
    let zeros = vec![b' '; 40 * MIB];
    for (coding, bomb) in [("gzip", gzip(&zeros)), ("zstd", zstd(&zeros))] {
        let site = Site::with(Config { max_body_bytes: bomb.len(), ..config.clone() }, 1);
        let answer = site.ask(encoded(JSON, coding, bomb)).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{coding}");
        assert!(site.log.records(0).is_empty(), "{coding}");
        assert_eq!(site.budget.free_bytes(), site.budget.bytes(), "{coding}");
    }
}

#[tokio::test]
async fn a_body_of_exactly_the_decoded_limit_is_taken() {
    let limit = 300 * 1024;
    let config = Config { max_body_bytes: limit, max_decoded_bytes: limit, ..Config::default() };
    let mut body = item("a", 1.0).into_bytes();
    body.resize(limit, b' ');
    for (coding, compress) in [("gzip", gzip as fn(&[u8]) -> Vec<u8>), ("zstd", zstd)] {
        let site = Site::with(config.clone(), 1);
        assert_eq!(site.ask(encoded(JSON, coding, compress(&body))).await.status, StatusCode::OK, "{coding}");
        let longer = [&body[..], b" "].concat();
        assert_eq!(site.ask(encoded(JSON, coding, compress(&longer))).await.status, StatusCode::PAYLOAD_TOO_LARGE, "{coding}");
        assert_eq!(site.readings().len(), 1);
    }
}

#[tokio::test]
async fn a_zstd_window_beyond_8_mib_is_refused() {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.write_all(item("a", 1.0).as_bytes()).unwrap();
    let site = Site::new();
    let answer = site.ask(encoded(JSON, "zstd", encoder.finish().unwrap())).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    assert_eq!(site.letters()[0].format, "json+zstd");
}

#[tokio::test]
async fn a_body_that_would_become_too_much_is_refused_before_it_is_decoded() {
    let site = Site::new();
    let answer = site.ask(encoded(NDJSON, "gzip", gzip(&b"1\n".repeat(4 * MIB)))).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer.json()["detail"].as_str().unwrap().contains("send fewer"));
    assert!(site.log.records(0).is_empty());
}

#[tokio::test]
async fn a_refused_body_of_many_parts_comes_back_whole() {
    let site = Site::new();
    let body: Vec<u8> = std::iter::once(b'{').chain((0..MIB).map(|n| (n % 251) as u8)).collect();
    assert_eq!(site.send(JSON, body.clone()).await.status, StatusCode::BAD_REQUEST);
    let parts = site.letters();
    assert!(parts.len() > 1 && parts.iter().all(|part| part.id == parts[0].id && part.parts as usize == parts.len()));
    assert_eq!(parts.iter().flat_map(|part| part.bytes.clone()).collect::<Vec<_>>(), body);
    assert_eq!(site.counted(), 1);
}

#[tokio::test]
async fn a_long_csv_header_does_not_multiply_a_body() {
    let config = Config { max_body_bytes: 64 * 1024, max_decoded_bytes: 64 * 1024, ..Config::default() };
    let site = Site::with(config, 1);
    let columns: Vec<_> = (0..200).map(|n| format!("metric-{n}")).collect();
    let body = format!("device,{}\n{}", columns.join(","), "d,x\n".repeat(100));
    let answer = site.send(CSV, body).await;
    assert_eq!((answer.status, answer.counts()), (StatusCode::UNPROCESSABLE_ENTITY, [100, 0, 0, 100]));
    let letters = site.letters();
    assert!(letters.iter().all(|letter| letter.format == "csv" && letter.bytes.starts_with(b"d,x")), "{:?}", letters[0]);
}
