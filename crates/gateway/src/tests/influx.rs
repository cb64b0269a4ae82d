//! InfluxDB's routes as its clients use them, through the whole application of the kit (tokens, wording of errors).

use super::*;
use headwater_core::log::LogError;
use headwater_web::{Grant, SigningKey, Verifier, app};

/// The application with the gateway in it, and a token.
struct Stack {
    site: Site,
    app: Router,
    token: String,
}

impl Stack {
    fn new() -> Self {
        Self::of(Site::new())
    }

    fn of(mut site: Site) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::open_or_create(&folder.path().join("key.pem")).unwrap();
        let grant = Grant {
            issuer: "headwater".into(),
            audience: "headwater".into(),
            subject: "telegraf".into(),
            scopes: Scopes::from(Scope::WriteReadings),
            devices: None,
            ttl: Duration::from_secs(3600),
        };
        let token = key.sign(&grant, START).unwrap();
        let verifier = Verifier::new(vec![key.verifying_key()], "headwater", "headwater", site.clock.clone());
        let empty = headwater_web::Face { role: "gateway", router: Router::new(), probes: Vec::new() };
        let face = std::mem::replace(&mut site.gateway.face, empty);
        let app = app(vec![face], Arc::new(verifier), site.health.clone(), &headwater_web::Config::default());
        Self { site, app, token }
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes().to_vec() }
    }

    async fn post(&self, uri: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::post(uri).header("authorization", format!("Token {}", self.token));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.ask(request.body(body.into()).unwrap()).await
    }
}

/// A client, the headers it sends, its body.
type Case = (&'static str, Vec<(&'static str, &'static str)>, Vec<u8>);

const V2: &str = "/api/v2/write?org=o&bucket=plant";
const V1: &str = "/write?db=plant&rp=autogen";

#[tokio::test]
async fn a_good_write_is_exactly_204_without_a_body() {
    let line = format!("t,host=a value=1.5 {}", START.micros() * 1000);
    let cases: Vec<Case> = vec![
        ("telegraf, influxdb_v2", vec![("content-type", "text/plain; charset=utf-8"), ("content-encoding", "gzip")], gzip(line.as_bytes())),
        ("vector", vec![("content-encoding", "zstd")], zstd(line.as_bytes())),
        ("influxdb-python", vec![("content-type", "application/octet-stream")], line.clone().into_bytes()),
        ("curl", vec![("content-type", "application/x-www-form-urlencoded")], line.clone().into_bytes()),
        ("no type at all", vec![], line.into_bytes()),
    ];
    for (client, headers, body) in cases {
        for uri in [V2, V1] {
            let stack = Stack::new();
            let answer = stack.post(uri, &headers, body.clone()).await;
            assert_eq!((answer.status, answer.body.len()), (StatusCode::NO_CONTENT, 0), "{client} {uri}: {answer:?}");
            assert!(!answer.header("x-influxdb-version").is_empty());
            assert_eq!(stack.site.readings(), [format!("a t {} 1.5", START.micros())], "{client} {uri}");
        }
    }
}

#[tokio::test]
async fn an_empty_body_is_a_success_because_home_assistant_checks_with_one() {
    let stack = Stack::new();
    for uri in [V2, V1] {
        for (headers, body) in [(vec![], Vec::new()), (vec![], b"\n".to_vec()), (vec![("content-encoding", "gzip")], gzip(b""))] {
            assert_eq!(stack.post(uri, &headers, body).await.status, StatusCode::NO_CONTENT, "{uri}");
        }
    }
    assert!(stack.site.log.records(0).is_empty());
}

#[tokio::test]
async fn times_count_in_the_precision_that_is_named() {
    let seconds = START.micros() / 1_000_000;
    let hour = seconds / 3600 * 3600;
    let cases = [
        ("", seconds * 1_000_000_000, seconds),
        ("ns", seconds * 1_000_000_000, seconds),
        ("n", seconds * 1_000_000_000, seconds),
        ("us", seconds * 1_000_000, seconds),
        ("u", seconds * 1_000_000, seconds),
        ("ms", seconds * 1_000, seconds),
        ("s", seconds, seconds),
        ("m", hour / 60, hour),
        ("h", hour / 3600, hour),
    ];
    for (precision, sent, expected) in cases {
        for uri in [V2, V1] {
            let stack = Stack::new();
            let uri = if precision.is_empty() { uri.to_owned() } else { format!("{uri}&precision={precision}") };
            let answer = stack.post(&uri, &[], format!("t,host=a value=1 {sent}")).await;
            assert_eq!(answer.status, StatusCode::NO_CONTENT, "{uri}: {answer:?}");
            assert_eq!(stack.site.readings(), [format!("a t {} 1", expected * 1_000_000)], "{uri}");
        }
    }
    let answer = Stack::new().post(&format!("{V2}&precision=fortnight"), &[], "t value=1").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_bucket_or_the_database_names_the_device_where_no_tag_does() {
    let stack = Stack::new();
    assert_eq!(stack.post(V2, &[], "t value=1\nt,dev_eui=x value=2\n").await.status, StatusCode::NO_CONTENT);
    assert_eq!(stack.post("/write?db=home", &[], "t value=3").await.status, StatusCode::NO_CONTENT);
    let devices: Vec<_> = stack.site.readings().iter().map(|reading| reading.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(devices, ["home", "plant", "x"]);
}

#[tokio::test]
async fn a_write_must_name_its_bucket_or_database() {
    let stack = Stack::new();
    for (uri, member, text) in [
        ("/api/v2/write?org=o", "message", "bucket is required"),
        ("/api/v2/write?bucket=", "message", "bucket is required"),
        ("/write", "error", "db is required"),
    ] {
        let answer = stack.post(uri, &[], "t value=1").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{uri}");
        assert_eq!(answer.json()[member], text, "{uri}: {answer:?}");
    }
    assert!(stack.site.log.records(0).is_empty());
}

#[tokio::test]
async fn good_lines_are_kept_and_bad_ones_told() {
    let too_old = "t,host=a value=4 1000";
    let cases = [
        ("malformed", format!("t,host=a value=1\n\nbroken\nt,host=b value=2\n{too_old}\n"), 400, 2, 3),
        ("refused for what they say", format!("t,host=a value=1\n{too_old}\nt,host=b value=2"), 422, 1, 2),
        ("nothing good", "broken".to_owned(), 400, 1, 1),
    ];
    for (name, body, status, rejected, line) in cases {
        for (uri, member) in [(V2, "message"), (V1, "error")] {
            let stack = Stack::new();
            let answer = stack.post(uri, &[], body.clone()).await;
            assert_eq!(answer.status.as_u16(), status, "{name} {uri}: {answer:?}");
            let accepted = stack.site.readings().len();
            let text = answer.json()[member].as_str().unwrap().to_owned();
            let begin = format!("partial write: accepted {accepted}, rejected {rejected}: line {line}: ");
            assert!(text.starts_with(&begin), "{name} {uri}: {text}");
            assert!(!answer.header("x-influxdb-error").is_empty());
            if uri == V2 {
                assert_eq!(answer.json()["line"].as_u64(), Some(line), "{name}: an integer");
            }
            let letters = stack.site.letters();
            assert_eq!(letters.iter().map(|letter| letter.count).sum::<u64>(), rejected, "{name}");
            assert!(letters.iter().all(|letter| letter.format == "line"));
        }
    }
}

#[tokio::test]
async fn many_bad_lines_make_a_short_text() {
    let stack = Stack::new();
    let answer = stack.post(V2, &[], "broken\n".repeat(500)).await;
    let text = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(text.starts_with("partial write: accepted 0, rejected 500: line 1: ") && text.ends_with("; and 490 more"), "{text}");
    assert_eq!(stack.site.letters().len(), 500);
}

#[tokio::test]
async fn a_body_that_is_not_what_its_coding_says_is_dropped_by_agents_and_kept_here() {
    for (uri, member) in [(V2, "message"), (V1, "error")] {
        let stack = Stack::new();
        let answer = stack.post(uri, &[("content-encoding", "gzip")], "t value=1").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.json()[member].as_str().unwrap().contains("unable to parse"), "{answer:?}");
        assert_eq!(stack.site.letters()[0].format, "line+gzip");
    }
    assert_eq!(Stack::new().post(V1, &[("content-encoding", "snappy")], "t value=1").await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413_so_that_telegraf_halves_it() {
    let stack = Stack::of(Site::with(Config { max_body_bytes: 1024, max_decoded_bytes: 4096, ..Config::default() }, 1));
    let lines = "t,host=a value=1\n".repeat(1000);
    for (headers, body) in [(vec![], lines.clone().into_bytes()), (vec![("content-encoding", "gzip")], gzip(lines.as_bytes()))] {
        let answer = stack.post(V2, &headers, body).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (StatusCode::PAYLOAD_TOO_LARGE, Some("request too large")));
    }
}

#[tokio::test]
async fn a_log_that_is_full_is_503_and_never_429() {
    let stack = Stack::of(Site::hasty());
    stack.site.faulty.faults.fail(headwater_contract::LogCall::Append, u32::MAX, LogError::Busy("full".into()));
    for (uri, member) in [(V2, "message"), (V1, "error")] {
        let answer = stack.post(uri, &[], "t value=1").await;
        assert!(answer.says_come_back(), "{answer:?}");
        assert!(answer.json()[member].as_str().unwrap().contains("full"));
    }
}

#[tokio::test]
async fn a_token_comes_in_every_form_that_clients_use() {
    let stack = Stack::new();
    let basic = |user: &str| {
        let encoded = encode_base64(format!("{user}:{}", stack.token).as_bytes());
        format!("Basic {encoded}")
    };
    for value in [format!("Token {}", stack.token), format!("Bearer {}", stack.token), basic("anyone"), basic("")] {
        for uri in [V2, V1] {
            let request = Request::post(uri).header("authorization", &value).body("t value=1".into()).unwrap();
            assert_eq!(stack.ask(request).await.status, StatusCode::NO_CONTENT, "{uri}");
        }
    }
    let in_query = Request::post(format!("{V1}&u=x&p={}", stack.token)).body("t value=1".into()).unwrap();
    assert_eq!(stack.ask(in_query).await.status, StatusCode::NO_CONTENT);
    let without = stack.ask(Request::post(V1).body("t value=1".into()).unwrap()).await;
    assert_eq!(without.status, StatusCode::UNAUTHORIZED);
    assert!(without.json()["error"].is_string());
}

fn encode_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for piece in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(piece.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= piece.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[tokio::test]
async fn ping_is_204_and_verbose_200() {
    let stack = Stack::new();
    for method in ["GET", "HEAD"] {
        for (uri, status) in [("/ping", 204), ("/ping?wait_for_leader=1s", 204), ("/ping?verbose=true", 200), ("/ping?verbose=false", 204)]
        {
            let answer = stack.ask(Request::builder().method(method).uri(uri).body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status.as_u16(), status, "{method} {uri}");
            assert!(!answer.header("x-influxdb-version").is_empty() && !answer.header("x-influxdb-build").is_empty());
            if method == "GET" && status == 200 {
                assert!(answer.json()["version"].is_string());
            }
        }
    }
}

#[tokio::test]
async fn health_says_whether_a_write_would_be_taken() {
    let stack = Stack::new();
    for uri in ["/health", "/api/v2/health"] {
        let well = stack.ask(get(uri)).await;
        assert_eq!((well.status, well.json()["status"].as_str()), (StatusCode::OK, Some("pass")));
        assert_eq!((&well.json()["checks"], well.json()["name"].is_string()), (&serde_json::json!([]), true));
        stack.site.faulty.faults.fail(headwater_contract::LogCall::Writable, 1, LogError::Busy("full".into()));
        let ill = stack.ask(get(uri)).await;
        assert_eq!((ill.status, ill.json()["status"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some("fail")));
        assert_eq!(ill.json()["message"], "the log is full");
    }
}

#[tokio::test]
async fn ready_says_since_when() {
    let stack = Stack::new();
    for uri in ["/ready", "/api/v2/ready"] {
        let answer = stack.ask(get(uri)).await;
        assert_eq!((answer.status, answer.json()["status"].as_str()), (StatusCode::OK, Some("ready")));
        assert_eq!(answer.json()["started"], START.to_string());
        assert!(answer.json()["up"].as_str().unwrap().ends_with('s'));
    }
}

#[tokio::test]
async fn a_statement_that_creates_succeeds_and_one_that_asks_is_told_where() {
    let stack = Stack::new();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let nothing_done = serde_json::json!({ "results": [{ "statement_id": 0 }] });
    for (uri, body) in [
        ("/query", "q=CREATE+DATABASE+%22telegraf%22"),
        ("/query", "q=CREATE DATABASE \"telegraf\""),
        ("/query?q=CREATE%20DATABASE%20%22telegraf%22", ""),
        ("/query?db=x", "q=create%20retention%20policy+%22a%22"),
        ("/query", "q=SHOW+DATABASES"),
    ] {
        let answer = stack.post(uri, &form, body).await;
        assert_eq!((answer.status, answer.json()), (StatusCode::OK, nothing_done.clone()), "{uri} {body}");
    }
    assert_eq!(stack.ask(get("/query?q=SHOW%20DATABASES")).await.json(), nothing_done);
    let two = stack.ask(get("/query?q=CREATE%20DATABASE%20a;DROP%20DATABASE%20b;")).await;
    assert_eq!(two.json()["results"][1]["statement_id"], 1);
    assert!(two.json()["results"][1]["error"].as_str().unwrap().contains("not supported"));
    for (uri, body) in [("/query", ""), ("/query", "q=&db=x"), ("/query", "q=%zz")] {
        let answer = stack.post(uri, &form, body).await;
        assert!(answer.status == StatusCode::BAD_REQUEST || answer.json()["results"][0]["error"].is_string(), "{body}: {answer:?}");
    }
    assert_eq!(stack.post("/query", &form, "q=".to_owned() + &"x".repeat(20_000)).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}
