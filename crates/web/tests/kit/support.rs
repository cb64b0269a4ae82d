//! Dummy faces, tokens, and a server on a free port.

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response};
use axum::routing::{MethodFilter, MethodRouter, get, on, post};
use headwater_core::clock::{Clock, SystemClock};
use headwater_core::health::Health;
use headwater_web::{Budget, Caller, Config, Error, Face, Grant, Provider, ROUTES, RequestId, Route, Scopes, SigningKey, Tls, Verifier};
use http_body_util::BodyExt;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Far more than anything here takes; what does not come by then does not come.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    SigningKey::open_or_create(&directory.path().join("key.pem")).unwrap()
});

/// A good token with these scopes.
pub(crate) fn token(scopes: &str) -> String {
    let grant = Grant {
        issuer: "headwater".to_owned(),
        audience: "headwater".to_owned(),
        subject: "tester".to_owned(),
        scopes: Scopes::parse(scopes).unwrap(),
        devices: None,
        ttl: Duration::from_secs(3600),
    };
    KEY.sign(&grant, SystemClock.now()).unwrap()
}

pub(crate) fn verifier() -> Arc<Verifier> {
    Arc::new(Verifier::new(vec![KEY.verifying_key()], "headwater", "headwater", Arc::new(SystemClock)))
}

/// The routes of a role, each answering `ok`.
pub(crate) fn face(role: &'static str) -> Face {
    let routes = ROUTES.iter().filter(|route| route.role == role);
    let router = routes.fold(Router::new(), |router, route| router.route(route.path, dummy(route)));
    Face { role, router, probes: vec![] }
}

fn dummy(route: &Route) -> MethodRouter {
    let method: Method = route.method.parse().unwrap();
    on(MethodFilter::try_from(method).unwrap(), |id: RequestId| async move { format!("ok {}", id.0) })
}

/// The application of the dummy gateway, rollup, api, issuer and process.
pub(crate) fn dummies() -> Router {
    app(vec![face("gateway"), face("rollup"), face("api"), face("issuer"), face("process")], &Config::default())
}

pub(crate) fn app(faces: Vec<Face>, config: &Config) -> Router {
    headwater_web::app(faces, verifier(), Health::default(), config)
}

/// The application of a dummy api that also takes tokens of others; their keys are kept fresh for as long as the runtime lives.
pub(crate) fn app_with(providers: Vec<Provider>) -> Router {
    let own = Verifier::new(vec![KEY.verifying_key()], "headwater", "headwater", Arc::new(SystemClock));
    let verifier = Arc::new(providers.into_iter().fold(own, Verifier::with));
    drop(tokio::spawn(Arc::clone(&verifier).keep_fresh(CancellationToken::new())));
    headwater_web::app(vec![face("api")], verifier, Health::default(), &Config::default())
}

/// How a test holds the handler of `POST /query`.
#[derive(Default)]
pub(crate) struct Held {
    /// Told when the handler has begun.
    pub(crate) begun: Notify,
    /// Lets it end.
    pub(crate) release: Notify,
}

/// A face of role `gateway` with handlers that do something: `POST /v1/readings` reads up to 1 MiB and says how much it was,
/// `POST /query` waits to be released, `GET /query` panics, `GET /health` fails.
pub(crate) fn busy_face(held: Arc<Held>) -> Face {
    let budget = Budget::new(8 << 20, "tests");
    let reading = move |caller: Caller, body: Body| async move {
        let mut reservation = budget.reserve(0, Duration::from_secs(1)).await?;
        let bytes = headwater_web::read_body(body, 1 << 20, &mut reservation).await?;
        Ok::<_, Error>(format!("{} sent {}", caller.subject, bytes.len()))
    };
    let waiting = move || async move {
        held.begun.notify_one();
        held.release.notified().await;
        "released"
    };
    let router = Router::new()
        .route("/v1/readings", post(reading))
        .route(
            "/query",
            post(waiting).get(|| async {
                if true {
                    panic!("secret of the house")
                }
            }),
        )
        .route("/health", get(|| async { Error::internal(anyhow::anyhow!("secret of the house")) }));
    Face { role: "gateway", router, probes: vec![] }
}

/// Sends a request through an application without a socket; the status, the head and the body as text.
pub(crate) async fn ask(app: &Router, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, Response<()>, String) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), Response::from_parts(parts, ()), String::from_utf8_lossy(&body).into_owned())
}

/// A server on a free port.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) soft: CancellationToken,
    pub(crate) hard: CancellationToken,
    pub(crate) served: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(face: Face, config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
        let app = app(vec![face], &config);
        let tls = Tls::of(&config).unwrap();
        let serving = headwater_web::serve_with(listener, app, config, tls.clone(), soft.clone(), hard.clone());
        Self { address, tls, soft, hard, served: tokio::spawn(serving) }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Whether it still answers somebody new.
    pub(crate) async fn answers(&self) -> bool {
        let mut stream = self.connect().await;
        send(&mut stream, "GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        to_end(&mut stream).await.starts_with("HTTP/1.1 200")
    }

    /// Waits for it to have stopped.
    pub(crate) async fn stopped(self) {
        timeout(DEADLINE, self.served).await.expect("the server stops").unwrap();
    }
}

pub(crate) async fn send(stream: &mut (impl AsyncWrite + Unpin), text: &str) {
    timeout(DEADLINE, stream.write_all(text.as_bytes())).await.expect("the server takes what is sent").unwrap();
}

/// Everything that comes until the server closes the connection.
pub(crate) async fn to_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer is an end too.
    drop(timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("the server closes the connection"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One answer on a connection that stays open.
pub(crate) async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let reading = async {
        let mut bytes = Vec::new();
        loop {
            let byte = stream.read_u8().await.unwrap();
            bytes.push(byte);
            if bytes.ends_with(b"\r\n\r\n") {
                break;
            }
        }
        let head = String::from_utf8_lossy(&bytes).into_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        head + &String::from_utf8_lossy(&body)
    };
    timeout(DEADLINE, reading).await.expect("an answer comes")
}
