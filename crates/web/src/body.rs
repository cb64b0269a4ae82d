//! Bodies of requests: limits on time while they are read, and what is done with what nobody read.
//!
//! Owns: [`read_body`] and [`Sent`] for handlers; the guard around every body, and draining, for the shell. Does not know: what is in a body.
//! Invariants: a body that does not come ends in a 408; waiting for the client is bounded, waiting of the server (for a budget)
//! is not held against the client; memory is taken as bytes arrive, never because a client announced them.

use crate::budget::Reservation;
use crate::config::Config;
use crate::error::Error;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

/// The first piece of memory taken for a body whose length is not known: most bodies are smaller.
const FIRST_PIECE: usize = 16 * 1024;

/// What a request says of its body, and the body, for a handler that hands both on. By default nothing was sent.
#[derive(Debug, Default)]
pub struct Sent {
    /// The request's headers.
    pub headers: HeaderMap,
    /// Its body, unread.
    pub body: Body,
}

/// The whole of a body of at most `limit` bytes, as it was sent (not decompressed). `reservation` is grown to what is held, in
/// steps as the bytes arrive, each waiting for as long as the reservation's first taking was allowed to.
///
/// # Errors
/// 413 beyond `limit`, before anything is read where the length was announced; 408 when the body does not come; 400 when it is
/// cut short; 503 when there is no memory for it.
pub async fn read_body(mut body: Body, limit: usize, reservation: &mut Reservation) -> Result<Bytes, Error> {
    let announced = body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if announced.is_some_and(|bytes| bytes > limit) {
        return Err(Error::too_large(limit));
    }
    let most = announced.unwrap_or(limit);
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(unreadable)?.into_data() else { continue };
        if data.len() > limit - whole.len() {
            return Err(Error::too_large(limit));
        }
        if announced == Some(data.len()) {
            reservation.grow_to(data.len(), reservation.wait()).await?;
            return Ok(data);
        }
        make_room(&mut whole, data.len(), most, reservation).await?;
        whole.extend_from_slice(&data);
    }
    Ok(Bytes::from(whole))
}

/// Makes room for `more` bytes: at least doubling, so that bytes are moved a bounded number of times, and never beyond `most`.
async fn make_room(whole: &mut Vec<u8>, more: usize, most: usize, reservation: &mut Reservation) -> Result<(), Error> {
    let needed = whole.len() + more;
    if needed > whole.capacity() {
        let capacity = (whole.capacity() * 2).max(FIRST_PIECE).min(most).max(needed);
        reservation.grow_to(capacity, reservation.wait()).await?;
        whole.reserve_exact(capacity - whole.len());
    }
    Ok(())
}

/// What an error while reading a body tells the client.
fn unreadable(error: axum::Error) -> Error {
    match error.into_inner().downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => cut_short(error),
    }
}

fn cut_short(error: impl std::fmt::Display) -> Error {
    Error::bad_request("body_cut_short", "the body ended before it was whole").source(anyhow::anyhow!("read a body: {error}")).closing()
}

/// How long may be waited for a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For the next piece; also the grace before the rate counts.
    idle: Duration,
    /// In all.
    total: Duration,
    /// Bytes a second.
    min_rate: u32,
}

impl Patience {
    pub(crate) fn of(config: &Config) -> Self {
        Self { idle: config.body_idle_timeout, total: config.body_timeout, min_rate: config.body_min_rate }
    }

    /// How long may be waited now, when `received` bytes have come in `waited`.
    fn left(self, received: u64, waited: Duration) -> Duration {
        let earned = Duration::from_secs_f64(received as f64 / f64::from(self.min_rate.max(1)));
        let by_rate = self.idle.saturating_add(earned);
        self.idle.min(by_rate.min(self.total).saturating_sub(waited))
    }
}

/// A body in the hands of its handler, and what the shell knows of it afterwards.
#[derive(Default)]
struct Slot {
    body: Option<Body>,
    polled: bool,
    ended: bool,
    failed: bool,
}

/// The shell's end of a guarded body.
pub(crate) struct Remainder(Arc<Mutex<Slot>>);

/// The handler's end.
struct Guarded {
    slot: Arc<Mutex<Slot>>,
    patience: Patience,
    received: u64,
    /// How long was waited for the pieces that have come.
    waited: Duration,
    /// Since when the next piece is waited for, and until when it may take.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

/// Puts a guard around a body: its handler waits for the client within `patience`, and what it leaves can be drained.
pub(crate) fn guard(body: Body, patience: Patience) -> (Body, Remainder) {
    if body.is_end_stream() {
        return (Body::empty(), Remainder(Arc::new(Mutex::new(Slot { ended: true, ..Slot::default() }))));
    }
    let slot = Arc::new(Mutex::new(Slot { body: Some(body), ..Slot::default() }));
    let guarded = Guarded { slot: Arc::clone(&slot), patience, received: 0, waited: Duration::ZERO, waiting: None };
    (Body::new(guarded), Remainder(slot))
}

fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let polled = {
            let mut slot = lock(&this.slot);
            slot.polled = true;
            if slot.failed {
                return Poll::Ready(None);
            }
            let Some(body) = slot.body.as_mut() else { return Poll::Ready(None) };
            let polled = Pin::new(body).poll_frame(context);
            slot.ended |= matches!(polled, Poll::Ready(None));
            slot.failed |= matches!(polled, Poll::Ready(Some(Err(_))));
            polled
        };
        match polled {
            Poll::Ready(frame) => Poll::Ready(this.came(frame)),
            Poll::Pending => {
                ready!(this.poll_patience(context));
                lock(&this.slot).failed = true;
                let detail = "the body did not come in time";
                Poll::Ready(Some(Err(Error::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail).closing())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let slot = lock(&self.slot);
        slot.ended || slot.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.slot).body.as_ref().map_or_else(SizeHint::default, http_body::Body::size_hint)
    }
}

impl Guarded {
    /// A piece came, or the end: counts it.
    fn came(&mut self, frame: Option<Result<Frame<Bytes>, axum::Error>>) -> Option<Result<Frame<Bytes>, Error>> {
        if let Some((since, _)) = self.waiting.take() {
            self.waited += since.elapsed();
        }
        let frame = frame?;
        if let Ok(Some(data)) = frame.as_ref().map(Frame::data_ref) {
            self.received += data.len() as u64;
        }
        Some(frame.map_err(cut_short))
    }

    /// Ready once the client has been waited for long enough.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let left = self.patience.left(self.received, self.waited);
        let (_, until) = self.waiting.get_or_insert_with(|| {
            let now = Instant::now();
            (now, Box::pin(sleep_until(now + left)))
        });
        until.as_mut().poll(context)
    }
}

impl Remainder {
    /// Reads on what the client still sends, so that it comes to reading the answer. Says whether the connection can be kept.
    ///
    /// A client that waits for `100 Continue` and was never told to go on sends nothing, so nothing is waited for.
    pub(crate) async fn drain(&self, awaits_continue: bool, bytes: usize, time: Duration) -> bool {
        let mut body = {
            let mut slot = lock(&self.0);
            let Some(body) = slot.body.take() else { return !slot.failed };
            if slot.ended || body.is_end_stream() {
                return true;
            }
            if slot.failed || (awaits_continue && !slot.polled) {
                return false;
            }
            body
        };
        let drained = timeout(time, async {
            let mut left = bytes;
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return false };
                match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                    Some(less) => left = less,
                    None => return false,
                }
            }
            true
        });
        drained.await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use std::collections::VecDeque;

    const KIB: usize = 1024;

    /// A body of pieces, each `every` after the one before; after the last it ends or never does.
    struct Pieces {
        pieces: VecDeque<Bytes>,
        every: Duration,
        next: Pin<Box<Sleep>>,
        ends: bool,
    }

    fn pieces(count: usize, size: usize, every: Duration, ends: bool) -> Body {
        let pieces = std::iter::repeat_n(Bytes::from(vec![7; size]), count).collect();
        Body::new(Pieces { pieces, every, next: Box::pin(sleep_until(Instant::now() + every)), ends })
    }

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            if self.pieces.is_empty() {
                return if self.ends { Poll::Ready(None) } else { Poll::Pending };
            }
            ready!(self.next.as_mut().poll(context));
            let next = Instant::now() + self.every;
            self.next.as_mut().reset(next);
            Poll::Ready(self.pieces.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn patience() -> Patience {
        Patience { idle: Duration::from_secs(10), total: Duration::from_secs(100), min_rate: 1024 }
    }

    async fn read(body: Body, limit: usize, budget_kib: usize) -> Result<Bytes, Error> {
        let budget = Budget::new(budget_kib * KIB, "tests");
        let mut reservation = budget.reserve(0, Duration::from_millis(10)).await?;
        let read = read_body(body, limit, &mut reservation).await;
        if let Ok(bytes) = &read {
            assert!(reservation.bytes() >= bytes.len(), "what is held is reserved");
        }
        read
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_read_whole_within_its_limit() {
        assert_eq!(read(Body::from(vec![1; 5000]), 5000, 8).await.unwrap().len(), 5000);
        assert_eq!(read(pieces(50, 1000, Duration::ZERO, true), 50_000, 64).await.unwrap().len(), 50_000);
        assert_eq!(read(Body::empty(), 0, 8).await.unwrap().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_beyond_its_limit_is_413_announced_or_not() {
        assert_eq!(read(Body::from(vec![1; 5001]), 5000, 8).await.unwrap_err().status().as_u16(), 413);
        assert_eq!(read(pieces(51, 1000, Duration::ZERO, false), 50_000, 64).await.unwrap_err().status().as_u16(), 413);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_without_memory_for_it_is_503() {
        let budget = Budget::new(64 * KIB, "tests");
        let _other = budget.reserve(40 * KIB, Duration::ZERO).await.unwrap();
        let mut reservation = budget.reserve(0, Duration::from_secs(1)).await.unwrap();
        let read = read_body(pieces(60, KIB, Duration::ZERO, true), 60 * KIB, &mut reservation).await;
        assert_eq!(read.unwrap_err().status().as_u16(), 503);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_is_408() {
        let (body, remainder) = guard(pieces(3, 100, Duration::from_secs(9), false), patience());
        let started = Instant::now();
        let error = read(body, KIB * KIB, 1024).await.unwrap_err();
        assert_eq!((error.status().as_u16(), error.closes()), (408, true));
        assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
        assert!(!remainder.drain(false, KIB, Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_408_however_lively() {
        let started = Instant::now();
        let (body, _) = guard(pieces(10_000, 100, Duration::from_secs(1), true), patience());
        assert_eq!(read(body, KIB * KIB, 1024).await.unwrap_err().status().as_u16(), 408);
        assert!(started.elapsed() < Duration::from_secs(13), "{:?}", started.elapsed());
        // Fast enough for the rate, but not for the total.
        let started = Instant::now();
        let (body, _) = guard(pieces(10_000, 1100, Duration::from_secs(1), true), patience());
        assert_eq!(read(body, KIB * KIB, 1024).await.unwrap_err().status().as_u16(), 408);
        assert!(started.elapsed() < Duration::from_secs(102), "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_and_steady_body_is_read() {
        let (body, _) = guard(pieces(60, 2 * KIB, Duration::from_secs(1), true), patience());
        assert_eq!(read(body, KIB * KIB, 1024).await.unwrap().len(), 120 * KIB);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_read_is_drained_up_to_a_limit() {
        let drain = |body: Body, awaits_continue: bool| async move {
            let (body, remainder) = guard(body, patience());
            drop(body);
            remainder.drain(awaits_continue, 10 * KIB, Duration::from_secs(5)).await
        };
        assert!(drain(Body::empty(), true).await);
        assert!(drain(pieces(10, KIB, Duration::ZERO, true), false).await);
        assert!(!drain(pieces(11, KIB, Duration::ZERO, true), false).await, "too many bytes");
        assert!(!drain(pieces(1, KIB, Duration::ZERO, false), false).await, "too long");
        let started = Instant::now();
        assert!(!drain(pieces(1, KIB, Duration::ZERO, false), true).await);
        assert_eq!(started.elapsed(), Duration::ZERO, "a client that awaits 100 Continue is not waited for");
    }
}
