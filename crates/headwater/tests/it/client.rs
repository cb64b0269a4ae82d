//! Talking HTTP to a stack.
//!
//! Owns: one request and its answer. Does not know: processes, what an answer should be.
//! Invariants: a request is sent once, never repeated behind the test's back; whatever was answered can be looked at.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Beyond what any answer may take: a full pipeline delays one by ten seconds.
const ANSWER: Duration = Duration::from_secs(30);

/// A server's address and the token that goes with every request unless it says otherwise.
#[derive(Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    /// `http://127.0.0.1:port`.
    pub(crate) base: String,
    /// A bearer token.
    pub(crate) token: String,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    anonymous: bool,
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// What was asked, for messages.
    asked: String,
    /// The status code.
    pub(crate) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Ask {
    /// A request without a body.
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self { method: method.to_owned(), target: target.to_owned(), headers: Vec::new(), body: None, anonymous: false }
    }

    /// Whether it asks this path, with whatever query.
    pub(crate) fn is_of(&self, path: &str) -> bool {
        self.target.split('?').next() == Some(path)
    }

    /// A POST with a body; an empty `kind` sends no Content-Type.
    pub(crate) fn post(target: &str, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        let mut ask = Self::new("POST", target);
        ask.body = Some(body.into());
        if kind.is_empty() { ask } else { ask.header("Content-Type", kind) }
    }

    /// With another method.
    pub(crate) fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    /// With a header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this token instead of the client's.
    pub(crate) fn token(self, token: &str) -> Self {
        self.anonymous().header("Authorization", &format!("Bearer {token}"))
    }

    /// Without the client's token.
    pub(crate) fn anonymous(mut self) -> Self {
        self.anonymous = true;
        self
    }
}

/// Sends, and keeps so many connections for the next request.
fn agent(idle_connections: usize, patience: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).proxy(None).timeout_global(Some(patience));
    config.max_idle_connections(idle_connections).build().into()
}

impl Client {
    /// A client of a server that is not there yet.
    pub(crate) fn nowhere() -> Self {
        Self { agent: agent(10, ANSWER), base: String::new(), token: String::new() }
    }

    /// The same, on a connection of its own for every request.
    pub(crate) fn without_keep_alive(&self) -> Self {
        Self { agent: agent(0, ANSWER), ..self.clone() }
    }

    /// The same on connections of its own, for what takes the server long work.
    pub(crate) fn patient(&self) -> Self {
        Self { agent: agent(0, 10 * ANSWER), ..self.clone() }
    }

    /// Asks; `Err` when no whole answer came.
    pub(crate) fn try_ask(&self, ask: &Ask) -> Result<Answer, ureq::Error> {
        let mut request = ureq::http::Request::builder().method(ask.method.as_str()).uri(format!("{}{}", self.base, ask.target));
        if !ask.anonymous {
            request = request.header("Authorization", format!("Bearer {}", self.token));
        }
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        let response = match &ask.body {
            Some(body) => self.agent.run(request.body(body.as_slice()).unwrap())?,
            None => self.agent.run(request.body(()).unwrap())?,
        };
        let (parts, mut body) = response.into_parts();
        let text = |value: &ureq::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Ok(Answer {
            asked: format!("{} {}", ask.method, ask.target),
            status: parts.status.as_u16(),
            headers: parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
            body: body.with_config().limit(1 << 30).read_to_vec()?,
        })
    }

    /// Asks; no answer fails the test.
    pub(crate) fn ask(&self, ask: &Ask) -> Answer {
        self.try_ask(ask).unwrap_or_else(|why| panic!("{} {}: {why}", ask.method, ask.target))
    }

    /// GET.
    pub(crate) fn get(&self, target: &str) -> Answer {
        self.ask(&Ask::new("GET", target))
    }

    /// POST.
    pub(crate) fn post(&self, target: &str, kind: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.ask(&Ask::post(target, kind, body))
    }

    /// Sends readings as JSON; they have to be accepted, all of them.
    pub(crate) fn send(&self, readings: &Value) -> Value {
        let answer = self.post("/v1/readings", "application/json", readings.to_string()).ok().json();
        assert_eq!(answer["accepted"], answer["received"], "{answer}");
        answer
    }

    /// Sends line protocol, times in microseconds.
    pub(crate) fn send_line(&self, lines: &str) -> Answer {
        self.post("/api/v2/write?bucket=plant&precision=us", "text/plain; charset=utf-8", lines)
    }

    /// Whether `/readyz` says so.
    pub(crate) fn is_ready(&self) -> bool {
        self.try_ask(&Ask::new("GET", "/readyz").anonymous()).is_ok_and(|answer| answer.status == 200)
    }

    /// Sends bytes as they are over a connection of its own and reads until the server closes or has sent a whole answer.
    pub(crate) fn raw(&self, pieces: &[&[u8]]) -> Answer {
        let mut connection = TcpStream::connect(self.base.trim_start_matches("http://")).unwrap();
        connection.set_read_timeout(Some(ANSWER)).unwrap();
        for piece in pieces {
            // A server that has answered and closed may refuse the rest; its answer is what counts.
            if connection.write_all(piece).is_err() {
                break;
            }
        }
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        while !is_whole(&bytes) {
            match connection.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => bytes.extend_from_slice(&buffer[..n]),
                Err(why) => panic!("no whole answer: {why}; so far: {}", String::from_utf8_lossy(&bytes)),
            }
        }
        Answer::parse(&bytes)
    }
}

/// Whether the bytes are an answer with all of its body.
fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).is_some_and(|length: usize| body.len() >= length)
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer but {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or_else(|| panic!("no status in {head:?}"));
        let headers = lines.filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())));
        Self { asked: "raw bytes".to_owned(), status, headers: headers.collect(), body: body.as_bytes().to_vec() }
    }

    /// The answer, whose status has to be this.
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}: {}", self.asked, self.text());
        self
    }

    /// The answer, whose status has to be 200.
    pub(crate) fn ok(self) -> Self {
        self.expect(200)
    }

    /// A header by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|why| panic!("{}: {why} in {}", self.asked, self.text()))
    }

    /// The body, which has to be a problem of RFC 9457 that says this status; gives it.
    pub(crate) fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}: {}", self.asked, self.text());
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        for member in ["type", "title", "detail", "code"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {problem}");
        }
        problem
    }
}

/// A path with a query, encoded.
pub(crate) fn target(path: &str, parameters: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = parameters.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

/// Percent-encoded, for a query or a segment of a path.
pub(crate) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
