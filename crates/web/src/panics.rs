//! Panics of handlers, turned into errors.
//!
//! Owns: [`caught`]. A handler that panics is a mistake of ours; it costs one answer, not the connection or the process.

use anyhow::anyhow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// The outcome of `future`, or its panic as an error. A future that panicked is not polled again.
pub(crate) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, anyhow::Error> {
    let mut future = pin!(future);
    std::future::poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(outcome)) => Poll::Ready(Ok(outcome)),
        Err(panic) => Poll::Ready(Err(anyhow!("a handler panicked: {}", message(panic.as_ref())))),
    })
    .await
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}
