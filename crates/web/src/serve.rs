//! Serving an application on a listener: HTTP/1.1 and HTTP/2, over TLS or (HTTP/2 for who knows that it is there) without.
//!
//! Owns: [`serve`]. Does not know: the application. Not `axum::serve`, because that gives hyper no timer: a connection could
//! then be held for ever by sending nothing, or a head byte by byte.
//! Invariants: everything about a connection has a limit in number, bytes and time; a failing connection touches no other.

use crate::caller::Peer;
use crate::config::Config;
use crate::listener::{Listener, Place, neighbourhood};
use crate::metrics::Connections;
use crate::stream::{Answer, Noted};
use crate::supervise::{Activity, Cut, watched};
use crate::tls::Tls;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// How much a client may send ahead of its reader on HTTP/2, by stream and by connection: memory that anyone can take without
/// credentials, times the number of connections.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// Streams that a client may have reset before they were looked at, and faults of its own making, before it is sent away: opening
/// and resetting costs it nothing (CVE-2023-44487). Honest clients reset what they gave up, one by one.
const RESET_STREAMS: usize = 20;
const FAULTY_STREAMS: usize = 256;
/// Bytes of an answer that are handed to HTTP/2 at once. An answer's memory is reserved until its last byte has left; this is what
/// each stream may have on top.
const SEND_BUFFER: usize = 64 * 1024;
/// hyper's own floor for a buffer; below it panics.
const LEAST_BUFFER: usize = 8 * 1024;
/// Pings of HTTP/2, which find a peer that is gone.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `app` on `listener` until told to stop, over TLS where the configuration names a certificate. On `soft` nothing more is
/// accepted, idle connections are closed and requests that have begun are finished; on `hard` what is left is cut. Returns when
/// no connection is left.
///
/// # Errors
/// The certificate or its key cannot be used. What fails later fails for one connection, or is waited out.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    config: Config,
    soft: CancellationToken,
    hard: CancellationToken,
) -> anyhow::Result<()> {
    let tls = Tls::of(&config)?;
    serve_with(listener, app, config, tls, soft, hard).await;
    Ok(())
}

/// [`serve`] with a certificate that was opened before, or without one.
pub async fn serve_with(
    listener: TcpListener,
    app: Router,
    config: Config,
    tls: Option<Arc<Tls>>,
    soft: CancellationToken,
    hard: CancellationToken,
) {
    serve_counted(listener, app, config, tls, Connections::default(), (soft, hard)).await;
}

/// [`serve_with`], with `connections` counted; the two ways to stop are the soft and the hard one.
pub async fn serve_counted(
    listener: TcpListener,
    app: Router,
    config: Config,
    tls: Option<Arc<Tls>>,
    connections: Connections,
    (soft, hard): (CancellationToken, CancellationToken),
) {
    let server = Arc::new(Server { builder: builder(&config), app, config, tls, soft: soft.clone(), hard: hard.clone() });
    let running = TaskTracker::new();
    let mut listener = Listener::new(listener, connections, &server.config);
    let mut following = pin!(server.follow());
    loop {
        tokio::select! {
            biased;
            () = hard.cancelled() => break,
            () = soft.cancelled() => break,
            () = following.as_mut() => {}
            (stream, place) = listener.next() => {
                running.spawn(Arc::clone(&server).connection(stream, place));
            }
        }
    }
    // Whoever has been connected by the kernel already would be reset; whoever comes after is refused and can go elsewhere.
    while !hard.is_cancelled()
        && let Some((stream, place)) = listener.waiting().await
    {
        running.spawn(Arc::clone(&server).connection(stream, place));
    }
    drop(listener);
    running.close();
    running.wait().await;
}

struct Server {
    builder: auto::Builder<TokioExecutor>,
    app: Router,
    config: Config,
    tls: Option<Arc<Tls>>,
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Server {
    /// Keeps the certificate as new as its files, for ever.
    async fn follow(&self) {
        match &self.tls {
            Some(tls) => Arc::clone(tls).follow().await,
            None => std::future::pending().await,
        }
    }

    /// One connection, from its first byte to its end.
    async fn connection(self: Arc<Self>, stream: TcpStream, _place: Place) {
        if let Err(error) = stream.set_nodelay(true) {
            // The connection is already gone.
            tracing::debug!(%error, "could not set up a connection");
            return;
        }
        let peer = stream.peer_addr().ok().map(|peer| Peer(neighbourhood(peer.ip())));
        let activity = Activity::new(&self.config);
        let socket = Noted { stream, activity: Arc::clone(&activity) };
        match &self.tls {
            None => self.speak(socket, peer, &activity).await,
            Some(tls) => {
                if let Some(stream) = self.shake(tls, socket, &activity).await {
                    self.speak(stream, peer, &activity).await;
                }
            }
        }
    }

    /// The handshake of TLS, within the time of the first head.
    async fn shake(&self, tls: &Tls, socket: Noted, activity: &Activity) -> Option<TlsStream<Noted>> {
        let shaking = pin!(tls.acceptor().accept(socket));
        match self.driven(shaking, activity, |_| ()).await? {
            Ok(Ok(stream)) => {
                tls.done();
                return Some(stream);
            }
            Ok(Err(error)) => tls.failed(&error),
            Err(cut) => {
                tls.slow();
                tracing::debug!(?cut, "cut a connection in its TLS handshake");
            }
        }
        None
    }

    /// HTTP, until the connection ends.
    async fn speak(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Option<Peer>, activity: &Arc<Activity>) {
        let service = service_fn(|mut request: Request<Incoming>| {
            if let Some(peer) = peer {
                request.extensions_mut().insert(peer);
            }
            let running = activity.begin(request.version() >= Version::HTTP_2);
            let answer = self.app.clone().oneshot(request);
            async move { answer.await.map(|answer| answer.map(|body| Body::new(Answer::new(body, running)))) }
        });
        let connection = pin!(self.builder.serve_connection(TokioIo::new(stream), service));
        match self.driven(connection, activity, |connection| connection.graceful_shutdown()).await {
            None | Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => tracing::debug!(%error, "a connection broke"),
            Some(Err(cut)) => tracing::debug!(?cut, "cut a connection that stood still"),
        }
    }

    /// Drives a part of a connection to its end or its cut; `finish` is called once should the server stop meanwhile. `None` when
    /// it has to end at once.
    async fn driven<F: Future>(
        &self,
        mut part: Pin<&mut F>,
        activity: &Activity,
        finish: impl FnOnce(Pin<&mut F>),
    ) -> Option<Result<F::Output, Cut>> {
        tokio::select! {
            biased;
            () = self.hard.cancelled() => return None,
            ended = watched(part.as_mut(), activity) => return Some(ended),
            () = self.soft.cancelled() => {}
        }
        activity.stop();
        // Its first request may be on its way, and has a moment to arrive: closing now would reset it.
        tokio::select! {
            biased;
            () = self.hard.cancelled() => return None,
            ended = watched(part.as_mut(), activity) => return Some(ended),
            () = activity.first_request() => {}
        }
        finish(part.as_mut());
        tokio::select! {
            biased;
            () = self.hard.cancelled() => None,
            ended = watched(part, activity) => Some(ended),
        }
    }
}

fn builder(config: &Config) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let header_list = u32::try_from(config.max_header_bytes).unwrap_or(u32::MAX);
    builder
        .http1()
        .timer(TokioTimer::new())
        // `watched` tells idleness from a head that drips and is stricter; this is there should it ever fail.
        .header_read_timeout(config.idle_timeout + config.header_timeout)
        .max_buf_size(config.max_header_bytes.max(LEAST_BUFFER))
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.max_concurrent_streams)
        .max_pending_accept_reset_streams(RESET_STREAMS)
        .max_local_error_reset_streams(FAULTY_STREAMS)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(header_list)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
