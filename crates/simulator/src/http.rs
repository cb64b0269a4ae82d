//! One keep-alive HTTP/1.1 connection, over TLS or without.
//!
//! Owns: a request and its whole answer, or none. Does not know: what is asked, when to ask again, whom to trust.
//! Invariant: nothing is sent twice behind the caller's back; an answer's size and time are bounded.

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// The most bytes of an answer: a status or the rejects of a write.
const MOST_BYTES: usize = 4 << 20;
const CONNECT: Duration = Duration::from_secs(5);
/// A full pipeline delays an answer by ten seconds.
const ANSWER: Duration = Duration::from_secs(60);

/// Where a server is.
#[derive(Debug, Clone)]
pub struct Target {
    /// `host:port`.
    authority: String,
    /// What comes before each path.
    prefix: String,
    /// Its name, and whom to trust, where it speaks TLS.
    tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
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
        let (authority, prefix) = parts(url, "http://", 80)?;
        Ok(Self { authority, prefix, tls: None })
    }

    /// A server that speaks TLS by its address, such as `https://headwater.example:8443`, and whom to trust.
    ///
    /// # Errors
    /// What is no such address, in words.
    pub fn secure(url: &str, trust: Arc<ClientConfig>) -> Result<Self, String> {
        let (authority, prefix) = parts(url, "https://", 443)?;
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
        let name = ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned());
        let name = name.map_err(|_| format!("`{url}` names no host that a certificate could be for"))?;
        Ok(Self { authority, prefix, tls: Some((name, trust)) })
    }
}

/// Host with port, and what comes before each path.
fn parts(url: &str, scheme: &str, default_port: u16) -> Result<(String, String), String> {
    let rest = url.strip_prefix(scheme).ok_or_else(|| format!("`{url}` is no address such as {scheme}127.0.0.1:8080"))?;
    let (host, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if host.is_empty() {
        return Err(format!("`{url}` names no host"));
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let authority = if has_port { host.to_owned() } else { format!("{host}:{default_port}") };
    Ok((authority, prefix.trim_end_matches('/').to_owned()))
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// No server is there, or none in time, or it is not the one that its certificate has to name.
    pub async fn open(target: &Target) -> anyhow::Result<Self> {
        match timeout(CONNECT, Self::connect(target)).await {
            Ok(connected) => connected,
            Err(_) => Err(anyhow!("no answer")),
        }
        .with_context(|| format!("connect to {}", target.authority))
    }

    async fn connect(target: &Target) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(&target.authority).await?;
        stream.set_nodelay(true).context("send small requests at once")?;
        match &target.tls {
            None => Self::over(stream).await,
            Some((name, trust)) => Self::over(TlsConnector::from(Arc::clone(trust)).connect(name.clone(), stream).await?).await,
        }
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> anyhow::Result<Self> {
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
    use rustls::RootCertStore;
    use rustls::ServerConfig;
    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    fn trusting(root: &CertificateDer<'static>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }

    /// A certificate, and a server that shows it and answers one request on each of its connections.
    async fn server() -> (CertificateDer<'static>, u16) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let root = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_no_client_auth().with_single_cert(vec![root.clone()], key).unwrap();
        let listener = TcpListener::bind("localhost:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut head = [0; 1024];
                let n = stream.read(&mut head).await.unwrap();
                let ok = head[..n].starts_with(b"GET /a/b/c ");
                let answer = format!("HTTP/1.1 {} X\r\ncontent-length: 2\r\n\r\nhi", if ok { 200 } else { 400 });
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
            }
        });
        (root, port)
    }

    #[test]
    fn addresses_are_read_with_their_prefix() {
        let read = |url: &str| Target::parse(url).map(|target| (target.authority, target.prefix));
        let target = |authority: &str, prefix: &str| Ok((authority.to_owned(), prefix.to_owned()));
        assert_eq!(read("http://127.0.0.1:8080"), target("127.0.0.1:8080", ""));
        assert_eq!(read("http://host/a/b/"), target("host:80", "/a/b"));
        assert_eq!(read("http://[::1]:9"), target("[::1]:9", ""));
        assert!(read("https://host").is_err() && read("http:///x").is_err());
        let made = rcgen::generate_simple_self_signed(vec!["host".to_owned()]).unwrap();
        let trust = trusting(made.cert.der());
        let secure = |url: &str| Target::secure(url, Arc::clone(&trust)).map(|target| (target.authority, target.tls.unwrap().0));
        let name = |name: &str| ServerName::try_from(name.to_owned()).unwrap();
        assert_eq!(secure("https://host/a"), Ok(("host:443".to_owned(), name("host"))));
        assert_eq!(secure("https://[::1]:9"), Ok(("[::1]:9".to_owned(), name("::1"))));
        assert!(secure("http://host").is_err() && secure("https://ho st").is_err());
    }

    #[tokio::test]
    async fn a_server_is_asked_over_tls_when_its_certificate_is_trusted() {
        let (root, port) = server().await;
        let target = Target::secure(&format!("https://localhost:{port}/a/b"), trusting(&root)).unwrap();
        let answer = Connection::open(&target).await.unwrap().get(&target, "Bearer x", "/c").await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"hi"[..]));
    }

    #[tokio::test]
    async fn a_server_that_is_another_is_sent_nothing() {
        let ((root, port), other) = (server().await, rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap());
        for (host, root) in [("127.0.0.1", &root), ("localhost", other.cert.der())] {
            let target = Target::secure(&format!("https://{host}:{port}"), trusting(root)).unwrap();
            let refused = format!("{:#}", Connection::open(&target).await.unwrap_err());
            assert!(refused.contains("connect to") && refused.contains("certificate"), "{refused}");
        }
    }
}
