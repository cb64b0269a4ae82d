//! The door with TLS: who gets in, who is cut, and what is shown after the files changed.

use crate::support::{DEADLINE, Held, Server, answer, busy_face, send, to_end, token};
use axum::body::Body;
use axum::http::Request;
use headwater_web::trust::Roots;
use headwater_web::{Config, tls::Handshakes};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ProtocolVersion};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const SHORT: Duration = Duration::from_millis(400);

/// An authority, and the files of a server that it vouches for.
struct Certificates {
    directory: TempDir,
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Certificates {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
        let certificates = Self { directory: tempfile::tempdir().unwrap(), issuer };
        std::fs::write(certificates.path("ca.pem"), certificates.issuer.pem()).unwrap();
        certificates.show("localhost");
        certificates
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes the server a certificate for this name.
    fn show(&self, name: &str) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
    }

    fn config(&self) -> Config {
        let path = |name| self.path(name).to_str().unwrap().to_owned();
        Config { tls_cert: path("cert.pem"), tls_key: path("key.pem"), ..Config::default() }
    }

    fn client(&self) -> Arc<ClientConfig> {
        Roots::load(Some(&self.path("ca.pem"))).unwrap().client().unwrap()
    }

    async fn connect(&self, server: &Server, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        connect(server, name, self.client()).await
    }
}

async fn connect(server: &Server, name: &str, client: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    timeout(DEADLINE, TlsConnector::from(client).connect(name, server.connect().await)).await.expect("the handshake ends")
}

async fn server(config: Config) -> Server {
    Server::start(busy_face(Arc::default()), config).await
}

fn handshakes(server: &Server) -> Handshakes {
    server.tls.as_ref().unwrap().handshakes()
}

/// Waits until so many handshakes have ended well, badly, or in another language.
async fn counted(server: &Server, done: u64, failed: u64, not_tls: u64) {
    let expected = Handshakes { done, failed, not_tls };
    let counting = async {
        while handshakes(server) != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, counting).await.unwrap_or_else(|_| panic!("{:?} and not {expected:?}", handshakes(server)));
}

#[tokio::test]
async fn http_1_is_spoken_over_tls_of_both_versions() {
    let certificates = Certificates::new();
    let server = server(certificates.config()).await;
    for (versions, expected) in
        [(&[&rustls::version::TLS12][..], ProtocolVersion::TLSv1_2), (rustls::ALL_VERSIONS, ProtocolVersion::TLSv1_3)]
    {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificates.issuer.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let client = Arc::new(client.with_root_certificates(roots).with_no_client_auth());
        let mut stream = connect(&server, "localhost", client).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(expected));
        for size in [5, 300_000] {
            let bearer = token("write:readings");
            let head = format!("POST /v1/readings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {bearer}\r\ncontent-length: {size}\r\n\r\n");
            send(&mut stream, &head).await;
            send(&mut stream, &"x".repeat(size)).await;
            assert!(answer(&mut stream).await.ends_with(&format!("tester sent {size}")));
        }
    }
    counted(&server, 2, 0, 0).await;
}

#[tokio::test]
async fn http_2_is_agreed_on_by_alpn() {
    let certificates = Certificates::new();
    let server = server(certificates.config()).await;
    let mut client = certificates.client().as_ref().clone();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = connect(&server, "localhost", Arc::new(client)).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let driving = tokio::spawn(connection);
    let bearer = format!("Bearer {}", token("write:readings"));
    let request =
        Request::post("https://localhost/v1/readings").header("authorization", &bearer).body(Body::from(vec![1; 300_000])).unwrap();
    let response = timeout(DEADLINE, sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "tester sent 300000");
    server.soft.cancel();
    timeout(DEADLINE, driving).await.expect("the connection ends").unwrap().unwrap();
    server.stopped().await;
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_certificate_goes_away() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let server = server(certificates.config()).await;
    assert!(certificates.connect(&server, "elsewhere.test").await.unwrap_err().to_string().contains("not valid for name"));
    assert!(others.connect(&server, "localhost").await.unwrap_err().to_string().contains("invalid peer certificate"));
    counted(&server, 0, 2, 0).await;
    certificates.connect(&server, "localhost").await.unwrap();
}

#[tokio::test]
async fn who_speaks_no_tls_is_closed_and_counted() {
    let certificates = Certificates::new();
    let server = server(certificates.config()).await;
    for bytes in ["GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\0\0\0\0\0\0\0\0"] {
        let mut stream = server.connect().await;
        send(&mut stream, bytes).await;
        assert!(!to_end(&mut stream).await.contains("HTTP"));
    }
    counted(&server, 0, 0, 3).await;
    certificates.connect(&server, "localhost").await.unwrap();
}

#[tokio::test]
async fn an_older_tls_is_refused() {
    let server = server(Certificates::new().config()).await;
    // A ClientHello of TLS 1.1: version, 32 random bytes, no session, two ciphers, no compression; signatures, groups, points.
    let extensions = [0, 22, 0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0];
    let hello = [&[0x03, 0x02][..], &[7; 32], &[0], &[0, 4, 0xc0, 0x2b, 0xc0, 0x13], &[1, 0], &extensions].concat();
    let message = [&[1, 0, 0, hello.len() as u8][..], &hello].concat();
    let record = [&[22, 3, 1, 0, message.len() as u8][..], &message].concat();
    let mut stream = server.connect().await;
    stream.write_all(&record).await.unwrap();
    let mut said = Vec::new();
    drop(timeout(DEADLINE, stream.read_to_end(&mut said)).await.expect("the server closes the connection"));
    assert_eq!((said[0], said[5], said[6]), (21, 2, 70), "a fatal alert that says protocol_version: {said:?}");
    counted(&server, 0, 1, 0).await;
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_cut_within_the_time_of_a_head() {
    let certificates = Certificates::new();
    let server = server(Config { header_timeout: SHORT, ..certificates.config() }).await;
    // Silence, and the beginning of a record that never ends.
    for begun in [&b""[..], &[22, 3, 1, 2, 0, 1, 0]] {
        let mut stream = server.connect().await;
        let started = Instant::now();
        stream.write_all(begun).await.unwrap();
        let dripping = async {
            let mut every = tokio::time::interval(Duration::from_millis(20));
            let (mut read, mut write) = stream.split();
            let mut closed = [0; 1];
            loop {
                tokio::select! {
                    read = read.read(&mut closed) => break read.unwrap_or(0),
                    _ = every.tick(), if !begun.is_empty() => drop(write.write_all(&[0]).await),
                }
            }
        };
        assert_eq!(timeout(DEADLINE, dripping).await.expect("the server closes the connection"), 0);
        assert!(started.elapsed() < SHORT * 8, "{:?}", started.elapsed());
    }
    counted(&server, 0, 2, 0).await;
    // After the handshake the time goes on: a head has to come.
    let mut stream = certificates.connect(&server, "localhost").await.unwrap();
    send(&mut stream, "GET /livez HTTP/1.1\r\n").await;
    assert_eq!(to_end(&mut stream).await, "");
}

#[tokio::test]
async fn an_idle_connection_and_one_that_is_not_read_are_cut_over_tls_too() {
    let certificates = Certificates::new();
    let server = server(Config { idle_timeout: SHORT, write_timeout: SHORT, ..certificates.config() }).await;
    let mut stream = certificates.connect(&server, "localhost").await.unwrap();
    send(&mut stream, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    assert_eq!(to_end(&mut stream).await, "");
    // More answers than all buffers hold, and nobody reads them: at some time nothing more is taken, and then all is over.
    let mut stream = certificates.connect(&server, "localhost").await.unwrap();
    let requests = "GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1_000);
    let flooding = async { while stream.write_all(requests.as_bytes()).await.is_ok() {} };
    timeout(Duration::from_secs(60), flooding).await.expect("the server closes the connection");
}

#[tokio::test]
async fn a_stop_waits_for_no_handshake_and_for_every_request() {
    let certificates = Certificates::new();
    let held = Arc::new(Held::default());
    let server = Server::start(busy_face(Arc::clone(&held)), certificates.config()).await;
    let (mut half, mut idle) = (server.connect().await, certificates.connect(&server, "localhost").await.unwrap());
    half.write_all(&[22, 3, 1]).await.unwrap();
    send(&mut idle, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    answer(&mut idle).await;
    let mut busy = certificates.connect(&server, "localhost").await.unwrap();
    send(&mut busy, "POST /query HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
    timeout(DEADLINE, held.begun.notified()).await.unwrap();
    server.soft.cancel();
    assert_eq!(to_end(&mut half).await, "");
    assert_eq!(to_end(&mut idle).await, "");
    held.release.notify_one();
    let answered = to_end(&mut busy).await;
    assert!(answered.starts_with("HTTP/1.1 200") && answered.ends_with("released"), "{answered}");
    server.stopped().await;
}

#[tokio::test]
async fn a_new_certificate_is_shown_soon_and_a_bad_one_never() {
    let certificates = Certificates::new();
    let server = server(certificates.config()).await;
    let mut kept = certificates.connect(&server, "localhost").await.unwrap();
    std::fs::write(certificates.path("cert.pem"), "no certificate").unwrap();
    certificates.connect(&server, "localhost").await.unwrap();
    certificates.show("renewed.test");
    let renewing = async {
        while certificates.connect(&server, "renewed.test").await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(DEADLINE * 3, renewing).await.expect("the new certificate is shown");
    send(&mut kept, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer(&mut kept).await.starts_with("HTTP/1.1 200"), "what was open stays open");
}
