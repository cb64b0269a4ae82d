//! One thread that writes, and the queue in front of it.
//!
//! Owns: [`Writer`] and [`Queue`]. Does not know: what is written.
//! Invariants: jobs run in the order of the queue, on one thread; the queue is bounded; closing runs what is queued first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use tokio::sync::mpsc;

/// What the thread does.
pub(crate) trait Work: Send + 'static {
    /// One request.
    type Job: Send + 'static;

    /// Does `job`, and whatever of the queue it can do along with it.
    fn run(&mut self, job: Self::Job, queue: &mut Queue<Self::Job>);

    /// Does one small step of what can wait while nothing is queued; says whether there is more.
    fn idle(&mut self) -> bool {
        false
    }

    /// The queue is closed and empty.
    fn end(self);
}

enum Message<J> {
    Job(J),
    /// Nothing but a reason to look at `closing`.
    Wake,
}

/// The thread's end of the queue.
pub(crate) struct Queue<J> {
    messages: mpsc::Receiver<Message<J>>,
    closing: Arc<AtomicBool>,
}

impl<J> Queue<J> {
    /// The next job if there is one now.
    pub(crate) fn try_next(&mut self) -> Option<J> {
        self.look_at_closing();
        loop {
            match self.messages.try_recv() {
                Ok(Message::Job(job)) => return Some(job),
                Ok(Message::Wake) => {}
                Err(_) => return None,
            }
        }
    }

    /// Waits for the next job; `None` is the end.
    fn next(&mut self) -> Option<J> {
        loop {
            if self.look_at_closing() {
                return self.try_next();
            }
            match self.messages.blocking_recv()? {
                Message::Job(job) => return Some(job),
                Message::Wake => {}
            }
        }
    }

    fn look_at_closing(&mut self) -> bool {
        let closing = self.closing.load(Ordering::SeqCst);
        if closing {
            self.messages.close();
        }
        closing
    }
}

/// Everybody's end of the queue.
pub(crate) struct Writer<J> {
    messages: mpsc::Sender<Message<J>>,
    closing: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<J: Send + 'static> Writer<J> {
    /// Starts the thread. At most `capacity` jobs wait.
    pub(crate) fn start<W: Work<Job = J>>(name: &str, capacity: usize, work: W) -> std::io::Result<Self> {
        let (messages, receiver) = mpsc::channel(capacity);
        let closing = Arc::new(AtomicBool::new(false));
        let queue = Queue { messages: receiver, closing: Arc::clone(&closing) };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || serve(work, queue))?;
        Ok(Self { messages, closing, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a job; waits where the queue is full. Gives the job back when the thread has ended.
    pub(crate) async fn send(&self, job: J) -> Result<(), Closed> {
        self.messages.send(Message::Job(job)).await.map_err(|_| Closed)
    }

    /// Something that queues jobs where there is room, and otherwise does nothing: for hints.
    pub(crate) fn hinter(&self) -> impl Fn(J) + Send + Sync + use<J> {
        let messages = self.messages.downgrade();
        move |job| {
            if let Some(messages) = messages.upgrade() {
                messages.try_send(Message::Job(job)).ok();
            }
        }
    }

    /// Takes no more jobs, waits until those that are queued are done and the thread has ended.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        // A full queue needs no waking: the thread looks before it takes the next job.
        self.messages.try_send(Message::Wake).ok();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("a writer thread has panicked");
        }
    }
}

impl<J> Drop for Writer<J> {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
    }
}

/// The writer's thread has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

fn serve<W: Work>(mut work: W, mut queue: Queue<W::Job>) {
    let mut idle = false;
    loop {
        if let Some(job) = queue.try_next() {
            work.run(job, &mut queue);
            idle = true;
        } else if idle {
            idle = work.idle() && !queue.look_at_closing();
        } else if let Some(job) = queue.next() {
            work.run(job, &mut queue);
            idle = true;
        } else {
            return work.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    /// Counts; a job is how much, and who wants to know the sum.
    struct Sum(u64, Option<oneshot::Sender<u64>>);

    impl Work for Sum {
        type Job = (u64, Option<oneshot::Sender<u64>>);

        fn run(&mut self, (n, reply): Self::Job, queue: &mut Queue<Self::Job>) {
            self.0 += n;
            reply.map(|reply| reply.send(self.0));
            while let Some((n, reply)) = queue.try_next() {
                self.0 += n;
                reply.map(|reply| reply.send(self.0));
            }
        }

        fn end(self) {
            self.1.map(|reply| reply.send(self.0));
        }
    }

    #[tokio::test]
    async fn closing_runs_what_is_queued_and_refuses_the_rest() {
        let (sender, sum) = oneshot::channel();
        let writer = Writer::start("sum", 4, Sum(0, Some(sender))).unwrap();
        for n in 1..=10 {
            writer.send((n, None)).await.unwrap();
        }
        writer.close();
        assert_eq!(sum.await, Ok(55));
        assert_eq!(writer.send((1, None)).await, Err(Closed));
        writer.close();
    }

    #[tokio::test]
    async fn jobs_run_in_the_order_of_the_queue() {
        let writer = Writer::start("sum", 1, Sum(0, None)).unwrap();
        writer.hinter()((0, None));
        for n in 1..=5 {
            let (reply, sum) = oneshot::channel();
            writer.send((1, Some(reply))).await.unwrap();
            assert_eq!(sum.await, Ok(n));
        }
    }
}
