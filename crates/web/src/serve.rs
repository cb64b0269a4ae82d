//! Serving an application on a listener: HTTP/1.1, and HTTP/2 without TLS for who knows that it is there.
//!
//! Owns: [`serve`]. Does not know: the application. Not `axum::serve`, because that gives hyper no timer: a connection could
//! then be held for ever by sending nothing, or a head byte by byte.
//! Invariants: everything about a connection has a limit in number, bytes and time; a failing connection touches no other.

use crate::config::Config;
use crate::listener::{Listener, Place};
use crate::stream::{Answer, Noted};
use crate::supervise::{Activity, watched};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// How much a client may send ahead of its reader on HTTP/2, by stream and by connection: memory that anyone can take without
/// credentials, times the number of connections.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// hyper's own floor for a buffer; below it panics.
const LEAST_BUFFER: usize = 8 * 1024;
/// Pings of HTTP/2, which find a peer that is gone.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `app` on `listener` until told to stop. On `soft` nothing more is accepted, idle connections are closed and requests
/// that have begun are finished; on `hard` what is left is cut. Returns when no connection is left.
///
/// # Errors
/// None so far: what can fail fails for one connection, or is waited out.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    config: Config,
    soft: CancellationToken,
    hard: CancellationToken,
) -> anyhow::Result<()> {
    let server = Arc::new(Server { builder: builder(&config), app, config, soft: soft.clone(), hard: hard.clone() });
    let connections = TaskTracker::new();
    let mut listener = Listener::new(listener, &server.config);
    loop {
        tokio::select! {
            biased;
            () = hard.cancelled() => break,
            () = soft.cancelled() => break,
            (stream, place) = listener.next() => {
                connections.spawn(Arc::clone(&server).connection(stream, place));
            }
        }
    }
    // Closes the socket: whoever comes now is refused by the kernel and can go elsewhere.
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

struct Server {
    builder: auto::Builder<TokioExecutor>,
    app: Router,
    config: Config,
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Server {
    /// One connection, from its first byte to its end.
    async fn connection(self: Arc<Self>, stream: TcpStream, _place: Place) {
        if let Err(error) = stream.set_nodelay(true) {
            // The connection is already gone.
            tracing::debug!(%error, "could not set up a connection");
            return;
        }
        let activity = Activity::new(&self.config);
        let io = TokioIo::new(Noted { stream, activity: Arc::clone(&activity) });
        let service = service_fn(|request: Request<Incoming>| {
            let running = activity.begin(request.version() >= Version::HTTP_2);
            let answer = self.app.clone().oneshot(request);
            async move { answer.await.map(|answer| answer.map(|body| Body::new(Answer::new(body, running)))) }
        });
        let mut connection = pin!(self.builder.serve_connection(io, service));
        let ended = tokio::select! {
            biased;
            () = self.hard.cancelled() => return,
            ended = watched(connection.as_mut(), &activity) => Some(ended),
            () = self.soft.cancelled() => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                activity.stop();
                tokio::select! {
                    biased;
                    () = self.hard.cancelled() => return,
                    ended = watched(connection, &activity) => ended,
                }
            }
        };
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a connection broke"),
            Err(cut) => tracing::debug!(?cut, "cut a connection that stood still"),
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
        .max_header_list_size(header_list)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
