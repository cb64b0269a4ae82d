//! The deadlines of one connection, which hyper does not have: silence before the first request, a head that drips, idleness
//! between requests, answers that nobody reads.
//!
//! Owns: [`Activity`] (what the connection is doing, noted by the stream and by each request) and [`watched`] (drives the
//! connection until it ends or stands still for too long). Does not know: HTTP, beyond "a request began" and "it is over".
//! Invariant: at any time a connection either has a request that its own limits bound, or a deadline here.

use crate::config::Config;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How often is looked again while nothing is due: HTTP/2 streams are driven by tasks that do not wake the connection's.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long a head that has begun may still take once the server stops.
const HEAD_WHEN_STOPPING: Duration = Duration::from_secs(1);

/// Why a connection was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// No request, or not the whole of its head, within the time for one.
    Head,
    /// No further request.
    Idle,
    /// The client does not read.
    Unread,
}

/// What a connection is doing.
#[derive(Debug)]
pub(crate) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    head_timeout: Duration,
    idle_timeout: Duration,
    write_timeout: Duration,
    /// The requests that have begun and whose answers are not yet handed over, by number.
    requests: Vec<(u64, Stage)>,
    begun: u64,
    /// Whether a head is awaited or has begun to come; else the connection is idle.
    in_head: bool,
    /// Since when that is so, while there is no request.
    since: Instant,
    /// Since when the socket takes no bytes.
    blocked_since: Option<Instant>,
    /// HTTP/2, where bytes without a request may be anything.
    multiplexed: bool,
}

/// How far a request is.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// We are at work on it.
    Ours,
    /// Its answer is there, and has not been asked for since.
    Theirs(Instant),
}

/// One request; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Running {
    activity: Arc<Activity>,
    number: u64,
}

impl Activity {
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            head_timeout: config.header_timeout,
            idle_timeout: config.idle_timeout,
            write_timeout: config.write_timeout,
            requests: Vec::new(),
            begun: 0,
            in_head: true,
            since: Instant::now(),
            blocked_since: None,
            multiplexed: false,
        })))
    }

    /// Bytes came.
    pub(crate) fn came(&self) {
        let mut state = self.state();
        if state.requests.is_empty() && !state.in_head && !state.multiplexed {
            (state.in_head, state.since) = (true, Instant::now());
        }
    }

    /// The socket took bytes, or did not.
    pub(crate) fn wrote(&self, took: bool) {
        let mut state = self.state();
        if took {
            state.blocked_since = None;
        } else {
            state.blocked_since.get_or_insert_with(Instant::now);
        }
    }

    /// The head of a request is there.
    pub(crate) fn begin(self: &Arc<Self>, multiplexed: bool) -> Running {
        let mut state = self.state();
        state.begun += 1;
        let number = state.begun;
        state.in_head = false;
        state.multiplexed |= multiplexed;
        state.requests.push((number, Stage::Ours));
        Running { activity: Arc::clone(self), number }
    }

    /// The server stops: what has begun may end.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.head_timeout = state.head_timeout.min(HEAD_WHEN_STOPPING);
        state.idle_timeout = state.idle_timeout.min(HEAD_WHEN_STOPPING);
        state.since = Instant::now();
    }

    /// Ends when a request has begun, ever. To be polled after what drives the connection, which wakes both.
    pub(crate) async fn first_request(&self) {
        std::future::poll_fn(|_| if self.state().begun > 0 { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// When it has stood still for too long, if nothing happens until then.
    fn due(&self) -> Option<(Instant, Cut)> {
        let state = self.state();
        let still = match (state.requests.is_empty(), state.in_head) {
            (true, true) => Some((state.since + state.head_timeout, Cut::Head)),
            (true, false) => Some((state.since + state.idle_timeout, Cut::Idle)),
            // On HTTP/1 an answer that is not read blocks the socket; on HTTP/2 it can be held back by flow control alone.
            (false, _) if state.multiplexed => state.unread(),
            (false, _) => None,
        };
        let blocked = state.blocked_since.map(|since| (since + state.write_timeout, Cut::Unread));
        [still, blocked].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn unread(&self) -> Option<(Instant, Cut)> {
        let since = self.requests.iter().filter_map(|(_, stage)| match stage {
            Stage::Ours => None,
            Stage::Theirs(since) => Some(*since),
        });
        since.min().map(|since| (since + self.write_timeout, Cut::Unread))
    }
}

impl Running {
    /// The answer is there for the client to take, or we are at work on more of it.
    pub(crate) fn offers(&self, offers: bool) {
        let stage = if offers { Stage::Theirs(Instant::now()) } else { Stage::Ours };
        let mut state = self.activity.state();
        if let Some(request) = state.requests.iter_mut().find(|(number, _)| *number == self.number) {
            request.1 = stage;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.requests.retain(|(number, _)| *number != self.number);
        if state.requests.is_empty() {
            (state.in_head, state.since) = (false, Instant::now());
        }
    }
}

/// Drives `connection` until it ends, or says why it has to be cut.
pub(crate) async fn watched<T>(mut connection: Pin<&mut impl Future<Output = T>>, activity: &Activity) -> Result<T, Cut> {
    let mut timer = pin!(sleep_until(Instant::now() + LOOK_AGAIN));
    std::future::poll_fn(|context| {
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            return Poll::Ready(Ok(ended));
        }
        let now = Instant::now();
        let due = activity.due();
        if let Some((at, cut)) = due
            && at <= now
        {
            return Poll::Ready(Err(cut));
        }
        // Moving the timer costs; it only moves to what is due earlier, and on when it went off too early.
        let next = due.map_or(now + LOOK_AGAIN, |(at, _)| at.min(now + LOOK_AGAIN));
        if next < timer.deadline() || timer.is_elapsed() {
            timer.as_mut().reset(next);
        }
        while timer.as_mut().poll(context).is_ready() {
            timer.as_mut().reset(next.max(Instant::now() + Duration::from_millis(1)));
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity() -> Arc<Activity> {
        Activity::new(&Config::default())
    }

    /// How long a connection that never ends by itself is left alone.
    async fn cut_after(activity: &Activity) -> (Cut, Duration) {
        let started = Instant::now();
        let hour = Duration::from_secs(3600);
        let connection = pin!(std::future::pending::<()>());
        let cut = tokio::time::timeout(hour, watched(connection, activity)).await.expect("it is cut at some time").unwrap_err();
        (cut, started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_has_the_time_of_a_head() {
        let activity = activity();
        activity.came();
        let (cut, after) = cut_after(&activity).await;
        assert_eq!((cut, after.as_secs()), (Cut::Head, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_request_it_may_be_idle_and_the_next_head_has_its_own_time() {
        let activity = activity();
        drop(activity.begin(false));
        let (cut, after) = cut_after(&activity).await;
        assert_eq!((cut, after.as_secs()), (Cut::Idle, 75));
        activity.came();
        let (cut, after) = cut_after(&activity).await;
        assert_eq!((cut, after.as_secs()), (Cut::Head, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_at_work_is_left_alone_and_an_unread_answer_is_not() {
        let activity = activity();
        let running = activity.begin(true);
        let left_alone = tokio::time::timeout(Duration::from_secs(1000), cut_after(&activity)).await;
        assert!(left_alone.is_err());
        running.offers(true);
        let (cut, after) = cut_after(&activity).await;
        assert_eq!((cut, after.as_secs()), (Cut::Unread, 30));
        running.offers(false);
        activity.wrote(false);
        let (cut, after) = cut_after(&activity).await;
        assert_eq!((cut, after.as_secs()), (Cut::Unread, 30));
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_beside_the_connection_is_noticed() {
        let activity = activity();
        let running = activity.begin(true);
        let ending = async {
            tokio::time::sleep(Duration::from_secs(100)).await;
            drop(running);
        };
        let ((cut, after), ()) = tokio::join!(cut_after(&activity), ending);
        assert_eq!(cut, Cut::Idle);
        assert!((175..=181).contains(&after.as_secs()), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn when_stopping_a_half_sent_head_holds_nothing_up() {
        let activity = activity();
        activity.stop();
        let (cut, after) = cut_after(&activity).await;
        assert_eq!((cut, after.as_secs()), (Cut::Head, 1));
    }
}
