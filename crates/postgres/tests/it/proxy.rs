//! A road to the server that can be closed at a chosen moment.
//!
//! Owns: [`Proxy`]. Does not know: the protocol, but for texts that statements hold.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of a connection once the client has sent a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing more of the client's arrives, until [`Proxy::go_on`].
    Stall,
    /// What was sent arrives, the answer does not, and the connection ends.
    Cut,
}

/// Forwards connections; once armed, until a client sends `text`.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    armed: Arc<AtomicBool>,
    /// Whether the text has come.
    reached: watch::Receiver<bool>,
    going: watch::Sender<bool>,
}

/// What the connections of a proxy share.
struct Trap {
    text: &'static [u8],
    then: Then,
    armed: Arc<AtomicBool>,
    reached: watch::Sender<bool>,
    going: watch::Receiver<bool>,
}

impl Proxy {
    pub(crate) async fn new(server: String, text: &'static str, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind a port");
        let address = listener.local_addr().expect("a port");
        let ((reached_tx, reached), (going, going_rx)) = (watch::channel(false), watch::channel(false));
        let armed = Arc::new(AtomicBool::new(false));
        let trap = Arc::new(Trap { text: text.as_bytes(), then, armed: Arc::clone(&armed), reached: reached_tx, going: going_rx });
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.expect("connect to the server");
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                let (answers, answers_rx) = watch::channel(true);
                tokio::spawn(forward(from_client, to_server, Arc::clone(&trap), answers));
                tokio::spawn(answer(from_server, to_client, answers_rx));
            }
        });
        Self { address, armed, reached, going }
    }

    /// From now on the text counts.
    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// Waits until the text was sent.
    pub(crate) async fn reached(&self) {
        self.reached.clone().wait_for(|reached| *reached).await.expect("the proxy works");
    }

    /// Lets what was stalled arrive.
    pub(crate) fn go_on(&self) {
        self.going.send_replace(true);
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, trap: Arc<Trap>, answers: watch::Sender<bool>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let found = buffer[..n].windows(trap.text.len()).any(|window| window == trap.text);
        if found && trap.armed.swap(false, Ordering::SeqCst) {
            trap.reached.send_replace(true);
            match trap.then {
                Then::Stall => drop(trap.going.clone().wait_for(|going| *going).await),
                Then::Cut => drop(answers.send_replace(false)),
            }
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, answers: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if !*answers.borrow() || to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
