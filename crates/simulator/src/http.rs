//! One keep-alive HTTP/1.1 connection.
//!
//! Owns: a request and its whole answer, or none. Does not know: what is asked, when to ask again.
//! Invariant: nothing is sent twice behind the caller's back; an answer's size and time are bounded.

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The most bytes of an answer: a status or the rejects of a write.
const MOST_BYTES: usize = 4 << 20;
const CONNECT: Duration = Duration::from_secs(5);
/// A full pipeline delays an answer by ten seconds.
const ANSWER: Duration = Duration::from_secs(60);

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `host:port`.
    authority: String,
    /// What comes before each path.
    prefix: String,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    /// The body.
    pub body: Bytes,
}

/// A connection to a server; closed when dropped.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<()>,
}

impl Target {
    /// A server by its address, such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// What is no such address, in words.
    pub fn parse(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("http://").ok_or_else(|| format!("`{url}` is no address such as http://127.0.0.1:8080"))?;
        let (host, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if host.is_empty() {
            return Err(format!("`{url}` names no host"));
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { host.to_owned() } else { format!("{host}:80") };
        Ok(Self { authority, prefix: prefix.trim_end_matches('/').to_owned() })
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// No server is there, or none in time.
    pub async fn open(target: &Target) -> anyhow::Result<Self> {
        let connecting = timeout(CONNECT, TcpStream::connect(&target.authority)).await;
        let stream = connecting.map_err(|_| anyhow!("no answer")).and_then(|done| Ok(done?));
        let stream = stream.with_context(|| format!("connect to {}", target.authority))?;
        stream.set_nodelay(true).context("send small requests at once")?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.context("begin a connection")?;
        // How it ends is told to whoever waits for an answer.
        let task = tokio::spawn(async { drop(connection.await) });
        Ok(Self { sender, task })
    }

    /// Whether it can take a request.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends and waits for the whole answer.
    ///
    /// # Errors
    /// No whole answer came; the request may have been taken or not.
    pub async fn post(&mut self, target: &Target, bearer: &str, path: &str, content_type: &str, body: Bytes) -> anyhow::Result<Answer> {
        let request = Request::post(format!("{}{path}", target.prefix)).header("content-type", content_type);
        self.send(with(request, target, bearer).body(Full::new(body)).context("make a request")?).await
    }

    /// Asks and waits for the whole answer.
    ///
    /// # Errors
    /// No whole answer came.
    pub async fn get(&mut self, target: &Target, bearer: &str, path: &str) -> anyhow::Result<Answer> {
        let request = Request::get(format!("{}{path}", target.prefix));
        self.send(with(request, target, bearer).body(Full::default()).context("make a request")?).await
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        match timeout(ANSWER, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => bail!("no answer within {} s", ANSWER.as_secs()),
        }
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        self.sender.ready().await.context("use a connection")?;
        let response: Response<Incoming> = self.sender.send_request(request).await.context("send a request")?;
        let (parts, body) = response.into_parts();
        let retry_after = parts.headers.get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let read = Limited::new(body, MOST_BYTES).collect().await;
        let body = read.map_err(|why| anyhow!("{why}")).context("read an answer")?.to_bytes();
        Ok(Answer { status: parts.status.as_u16(), retry_after, body })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn with(request: hyper::http::request::Builder, target: &Target, bearer: &str) -> hyper::http::request::Builder {
    let agent = concat!("headwater-simulator/", env!("CARGO_PKG_VERSION"));
    request.header("host", &target.authority).header("authorization", bearer).header("user-agent", agent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_their_prefix() {
        let target = |authority: &str, prefix: &str| Ok(Target { authority: authority.to_owned(), prefix: prefix.to_owned() });
        assert_eq!(Target::parse("http://127.0.0.1:8080"), target("127.0.0.1:8080", ""));
        assert_eq!(Target::parse("http://host/a/b/"), target("host:80", "/a/b"));
        assert_eq!(Target::parse("http://[::1]:9"), target("[::1]:9", ""));
        assert!(Target::parse("https://host").is_err() && Target::parse("http:///x").is_err());
    }
}
