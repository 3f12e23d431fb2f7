//! An end for everything that is waited for.

use crate::Clock;
use primacy_core::Time;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// The result of `work`, or none once `until` has come. What is ready only then counts as late.
pub(crate) async fn bounded<C: Clock, T>(clock: &C, until: Time, work: impl Future<Output = T>) -> Option<T> {
    let mut over = pin!(clock.sleep_until(until));
    let mut work = pin!(work);
    poll_fn(|cx| match over.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => work.as_mut().poll(cx).map(Some),
    })
    .await
}
