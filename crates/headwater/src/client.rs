//! Talking to a server: one blocking HTTP client for all commands.
//!
//! Owns: which server, whom to trust, the token (given, or signed for a few minutes with the key at hand), how refusals are put
//! into words. Does not know: what is asked. Invariants: a token never travels to another host (no redirects are followed, and
//! over TLS certificates are verified) and is never printed.

mod distrust;

use crate::cli::Remote;
use crate::config::{self, Flags, Settings};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::token::{self, Wanted};
use crate::{keys, output};
use anyhow::{Context, anyhow};
use headwater_simulator::http::Target;
use headwater_web::trust::Roots;
use headwater_web::{Scopes, SigningKey};
use serde::Deserialize;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

const DEFAULT_URL: &str = "http://127.0.0.1:8080";
const HTTPS: &str = "https://";
/// The life of a token that a command signs for itself; it signs another when little of that is left.
const OWN_TTL: Duration = Duration::from_mins(5);
const RENEW_AFTER: Duration = Duration::from_mins(4);
/// More than any page of an answer: 100,000 rows of some hundred bytes.
const MAX_ANSWER_BYTES: u64 = 512 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A full pipeline delays an answer by 10 s, a costly query takes up to its deadline.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// A server and what it is told about the caller.
pub(crate) struct Client {
    agent: ureq::Agent,
    base: String,
    /// Whom to trust, where the server speaks TLS.
    roots: Option<Roots>,
    credentials: Credentials,
}

enum Credentials {
    Given(String),
    Own(Box<Own>),
}

/// The means to sign tokens for oneself.
struct Own {
    key: SigningKey,
    settings: Settings,
    scopes: Scopes,
    current: Option<(String, Instant)>,
}

/// What a server answered.
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// `Retry-After`, in seconds.
    pub(crate) retry_after: Option<u64>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// The server that flags and environment name, asked with a token that allows `scopes`.
    pub(crate) fn new(remote: &Remote, environment: &Environment, scopes: impl Into<Scopes>) -> Result<Self, Failure> {
        let base = base(remote.url.as_deref().or(environment.url()).unwrap_or(DEFAULT_URL)).map_err(Failure::Usage)?;
        let ca = remote.ca_cert.as_deref().or(environment.ca_cert().map(Path::new));
        let roots = base.starts_with(HTTPS).then(|| Roots::load(ca)).transpose()?;
        let config = ureq::Agent::config_builder()
            .tls_config(roots.as_ref().map(Roots::ureq).unwrap_or_default())
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .user_agent(concat!("headwater/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: config.into(), base, roots, credentials: credentials(remote, environment, scopes.into())? })
    }

    /// The server, for who sends to it in another way.
    pub(crate) fn target(&self) -> Result<Target, Failure> {
        match &self.roots {
            Some(roots) => Target::secure(&self.base, roots.client()?),
            None => Target::parse(&self.base),
        }
        .map_err(Failure::Usage)
    }

    /// What `Authorization` has to say now.
    pub(crate) fn bearer(&mut self) -> anyhow::Result<String> {
        self.credentials.bearer()
    }

    /// Asks.
    pub(crate) fn get(&mut self, path: &str, parameters: &[(String, String)]) -> anyhow::Result<Answer> {
        let bearer = self.credentials.bearer()?;
        let request = self.agent.get(format!("{}{path}", self.base)).header("Authorization", bearer);
        let sent = request.query_pairs(parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()))).call();
        self.answer(sent)
    }

    /// Sends.
    pub(crate) fn post(&mut self, path_and_query: &str, content_type: &str, body: &[u8]) -> anyhow::Result<Answer> {
        let bearer = self.credentials.bearer()?;
        let request = self.agent.post(format!("{}{path_and_query}", self.base)).header("Authorization", bearer);
        self.answer(request.header("Content-Type", content_type).send(body))
    }

    /// Asks to delete.
    pub(crate) fn delete(&mut self, path: &str) -> anyhow::Result<Answer> {
        let bearer = self.credentials.bearer()?;
        let sent = self.agent.delete(format!("{}{path}", self.base)).header("Authorization", bearer).call();
        self.answer(sent)
    }

    fn answer(&self, sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> anyhow::Result<Answer> {
        let response = sent.map_err(|why| self.unreachable(why))?;
        let (parts, mut body) = response.into_parts();
        let retry_after = parts.headers.get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let read = body.with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
        let body = read.with_context(|| format!("read the answer of {}", self.base))?;
        Ok(Answer { status: parts.status.as_u16(), retry_after, body })
    }

    fn unreachable(&self, why: ureq::Error) -> anyhow::Error {
        let refused = matches!(&why, ureq::Error::ConnectionFailed)
            || matches!(&why, ureq::Error::Io(io) if io.kind() == ErrorKind::ConnectionRefused);
        match why {
            _ if refused => {
                anyhow!("no server answers at {}: is `headwater up` running there? (--url or HEADWATER_URL says where to look)", self.base)
            }
            ureq::Error::HostNotFound => anyhow!("the host of {} cannot be found", self.base),
            why if let Some(words) = distrust::in_words(&why) => anyhow!("{} {words}", self.base),
            ureq::Error::Protocol(_) if self.roots.is_none() => {
                anyhow!("what answers at {} speaks no HTTP; if it speaks TLS, its address begins with https://", self.base)
            }
            why => anyhow::Error::from(why).context(format!("ask {}", self.base)),
        }
    }
}

impl Credentials {
    fn bearer(&mut self) -> anyhow::Result<String> {
        match self {
            Self::Given(token) => Ok(format!("Bearer {token}")),
            Self::Own(own) => own.bearer(),
        }
    }
}

impl Own {
    fn bearer(&mut self) -> anyhow::Result<String> {
        if let Some((bearer, signed)) = &self.current
            && signed.elapsed() < RENEW_AFTER
        {
            return Ok(bearer.clone());
        }
        let ttl = OWN_TTL.min(self.settings.auth.max_ttl);
        let wanted = Wanted { subject: "headwater-cli", scopes: self.scopes, devices: None, ttl };
        let bearer = format!("Bearer {}", token::sign(&self.key, &self.settings, wanted)?);
        self.current = Some((bearer.clone(), Instant::now()));
        Ok(bearer)
    }
}

/// The token that was given, or the means to sign one.
fn credentials(remote: &Remote, environment: &Environment, scopes: Scopes) -> Result<Credentials, Failure> {
    if let Some(path) = &remote.token_file {
        let text = std::fs::read_to_string(path).with_context(|| format!("read the token file {}", path.display()))?;
        return given(&text, &format!("the token file {}", path.display()));
    }
    if let Some(token) = environment.token() {
        return given(token, "HEADWATER_TOKEN");
    }
    let flags = Flags::default().with("data_dir", "--data-dir", remote.data_dir.as_ref().map(|dir| dir.to_string_lossy()));
    let settings = config::load(remote.config.as_deref(), environment, flags)?;
    let key = keys::signing(&settings).context(
        "there is no token: give one by --token-file or HEADWATER_TOKEN, or the server's --data-dir, whose key signs one for five minutes",
    )?;
    Ok(Credentials::Own(Box::new(Own { key, settings, scopes, current: None })))
}

fn given(text: &str, origin: &str) -> Result<Credentials, Failure> {
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::Usage(format!("{origin} holds no token")));
    }
    Ok(Credentials::Given(token.to_owned()))
}

/// The address without a slash at its end.
fn base(url: &str) -> Result<String, String> {
    match url.split_once("://") {
        Some(("http" | "https", rest)) if !rest.trim_end_matches('/').is_empty() => Ok(url.trim_end_matches('/').to_owned()),
        _ => Err(format!("`{url}` is no address such as {DEFAULT_URL}")),
    }
}

/// The members of a problem+json, and those of Influx's forms.
#[derive(Deserialize)]
struct Problem {
    #[serde(alias = "message", alias = "error")]
    detail: Option<String>,
    title: Option<String>,
    #[serde(default)]
    errors: Vec<Pointed>,
}

#[derive(Deserialize)]
struct Pointed {
    parameter: Option<String>,
    pointer: Option<String>,
    detail: Option<String>,
}

impl Problem {
    fn in_words(&self) -> String {
        let mut text = String::new();
        if let Some(what) = self.detail.as_deref().or(self.title.as_deref()) {
            text = format!(": {what}");
        }
        for pointed in &self.errors {
            // Often the whole says already what is wrong where.
            let detail = pointed.detail.as_deref().unwrap_or_default();
            if !text.contains(detail) {
                let place = pointed.parameter.as_deref().or(pointed.pointer.as_deref()).unwrap_or("body");
                text.push_str(&format!("; {place}: {detail}"));
            }
        }
        text
    }
}

impl Answer {
    /// Whether it is what was asked for.
    pub(crate) const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// Whether asking again later can help.
    pub(crate) const fn is_transient(&self) -> bool {
        matches!(self.status, 429 | 503)
    }

    /// The answer, or the refusal in words.
    pub(crate) fn succeeded(self) -> anyhow::Result<Self> {
        if self.is_success() { Ok(self) } else { Err(anyhow!("{}", self.refusal())) }
    }

    /// What the server says of its refusal.
    pub(crate) fn refusal(&self) -> String {
        let why = match serde_json::from_slice::<Problem>(&self.body) {
            Ok(problem) => problem.in_words(),
            Err(_) => format!(" with {} bytes that are no explanation", self.body.len()),
        };
        format!("the server answered {}{}", self.status, output::sanitised(&why))
    }

    #[cfg(test)]
    pub(crate) fn made(status: u16, body: &str) -> Self {
        Self { status, retry_after: None, body: body.as_bytes().to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_http_are_taken() {
        assert_eq!(base("http://127.0.0.1:8080/"), Ok("http://127.0.0.1:8080".to_owned()));
        assert_eq!(base("http://host/prefix/"), Ok("http://host/prefix".to_owned()));
        assert_eq!(base("https://host:8443/"), Ok("https://host:8443".to_owned()));
        for url in ["", "host:80", "http://", "https:///", "ftp://x"] {
            assert!(base(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_refusal_tells_what_the_server_said_and_where() {
        let body = r#"{"title":"Bad Request","detail":"the step is no duration","errors":[{"parameter":"step","detail":"`x` is none"}]}"#;
        let text = Answer::made(400, body).refusal();
        assert_eq!(text, "the server answered 400: the step is no duration; step: `x` is none");
        assert!(Answer::made(400, r#"{"code":"invalid","message":"line 3"}"#).refusal().ends_with("400: line 3"));
        assert!(Answer::made(502, "<html>").refusal().contains("no explanation"));
        assert!(!Answer::made(400, "{\"detail\":\"\\u001b[2J\"}").refusal().contains('\u{1b}'));
    }

    #[test]
    fn a_token_that_cannot_be_one_is_refused() {
        assert!(matches!(given(" abc.def \n", "x"), Ok(Credentials::Given(token)) if token == "abc.def"));
        assert!(given("", "x").is_err());
        assert!(given("a b", "x").is_err());
    }
}
