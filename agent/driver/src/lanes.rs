//! Everything that is under way at one moment.

use crate::bounded::bounded;
use crate::{ARM_PATIENCE, Clock, ORDER_GRACE, Outside, Postgres, Store};
use primacy_core::instance::{Failure, Found, Order, Performed};
use primacy_core::store::{Answer, News, Request, Response};
use primacy_core::{Command, Epoch, Guard, Input, OpId, RequestId, Time};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

pub(crate) struct Lanes<'a, C, S, P, O> {
    clock: &'a C,
    store: &'a S,
    postgres: &'a P,
    outside: &'a O,
    guard: Pending<'a, Guard>,
    arming: Option<Pending<'a, Guard>>,
    /// The fence to set once the one under way is acknowledged. Only the last one asked for matters.
    next_fence: Option<Fence>,
    asked: Vec<Pending<'a, (OpId, Response)>>,
    order: Option<Pending<'a, (OpId, Performed)>>,
    wake: Option<(Time, Pending<'a, ()>)>,
    report: Option<Pending<'a, Found>>,
    news: Pending<'a, News>,
    command: Pending<'a, (RequestId, Command)>,
}

struct Fence {
    epoch: Epoch,
    until: Time,
    /// When the guard counts as lost.
    by: Time,
}

impl<'a, C: Clock, S: Store, P: Postgres, O: Outside> Lanes<'a, C, S, P, O> {
    pub(crate) fn new(clock: &'a C, store: &'a S, postgres: &'a P, outside: &'a O) -> Self {
        Lanes {
            clock,
            store,
            postgres,
            outside,
            guard: Box::pin(postgres.guard()),
            arming: None,
            next_fence: None,
            asked: Vec::new(),
            order: None,
            wake: None,
            report: None,
            news: Box::pin(store.news()),
            command: Box::pin(outside.next_command()),
        }
    }

    /// When to send [`Input::Wake`].
    pub(crate) fn wake_at(&mut self, time: Option<Time>) {
        if self.wake.as_ref().map(|(known, _)| *known) != time {
            let clock = self.clock;
            self.wake = time.map(|time| (time, Box::pin(clock.sleep_until(time)) as Pending<'a, ()>));
        }
    }

    pub(crate) fn ask(&mut self, id: OpId, until: Time, request: Request) {
        let unknown = match &request {
            Request::Read => Response::Read(None),
            Request::Transact(_) => Response::Transact(Answer::Unknown),
        };
        let (clock, store) = (self.clock, self.store);
        self.asked.push(Box::pin(async move {
            let answer = bounded(clock, until, store.ask(request, until)).await;
            (id, answer.unwrap_or(unknown))
        }));
    }

    pub(crate) fn order(&mut self, id: OpId, order: Order) {
        self.report = None;
        let (clock, postgres) = (self.clock, self.postgres);
        let until = order.until + ORDER_GRACE;
        // The one before ends before this one begins.
        self.order = None;
        self.order = Some(Box::pin(async move {
            let performed = bounded(clock, until, postgres.perform(order)).await;
            (id, performed.unwrap_or_else(timed_out))
        }));
    }

    pub(crate) fn arm(&mut self, epoch: Epoch, until: Time) {
        let by = self.clock.now() + ARM_PATIENCE;
        self.next_fence = Some(Fence { epoch, until, by });
        self.begin_arming();
    }

    fn begin_arming(&mut self) {
        if self.arming.is_some() {
            return;
        }
        let Some(Fence { epoch, until, by }) = self.next_fence.take() else { return };
        let (clock, postgres) = (self.clock, self.postgres);
        self.arming = Some(Box::pin(async move {
            bounded(clock, by, postgres.arm(epoch, until)).await.unwrap_or(Guard::Lost)
        }));
    }

    /// Waits for the next input.
    pub(crate) async fn next(&mut self) -> Input {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        if let Poll::Ready(guard) = self.poll_guard(cx) {
            return Poll::Ready(Input::Guard(guard));
        }
        if let Poll::Ready((id, response)) = self.poll_asked(cx) {
            return Poll::Ready(Input::Answered(id, response));
        }
        if let Poll::Ready((id, performed)) = poll_slot(&mut self.order, cx) {
            return Poll::Ready(Input::Performed(id, performed));
        }
        if let Some((_, wake)) = &mut self.wake
            && wake.as_mut().poll(cx).is_ready()
        {
            self.wake = None;
            return Poll::Ready(Input::Wake);
        }
        if let Poll::Ready(found) = self.poll_report(cx) {
            return Poll::Ready(Input::Instance(found));
        }
        if let Poll::Ready(news) = self.news.as_mut().poll(cx) {
            self.news = Box::pin(self.store.news());
            return Poll::Ready(Input::News(news));
        }
        if let Poll::Ready((request, command)) = self.command.as_mut().poll(cx) {
            self.command = Box::pin(self.outside.next_command());
            return Poll::Ready(Input::Operator(request, command));
        }
        Poll::Pending
    }

    fn poll_guard(&mut self, cx: &mut Context<'_>) -> Poll<Guard> {
        if let Poll::Ready(guard) = self.guard.as_mut().poll(cx) {
            self.guard = Box::pin(self.postgres.guard());
            return Poll::Ready(guard);
        }
        if let Poll::Ready(guard) = poll_slot(&mut self.arming, cx) {
            self.begin_arming();
            return Poll::Ready(guard);
        }
        Poll::Pending
    }

    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<(OpId, Response)> {
        for index in 0..self.asked.len() {
            if let Poll::Ready(answered) = self.asked[index].as_mut().poll(cx) {
                drop(self.asked.remove(index));
                return Poll::Ready(answered);
            }
        }
        Poll::Pending
    }

    fn poll_report(&mut self, cx: &mut Context<'_>) -> Poll<Found> {
        if self.order.is_some() {
            return Poll::Pending;
        }
        let postgres = self.postgres;
        self.report.get_or_insert_with(|| Box::pin(postgres.report()));
        poll_slot(&mut self.report, cx)
    }
}

/// Polls what is under way in this slot, and clears it when that is done.
fn poll_slot<T>(slot: &mut Option<Pending<'_, T>>, cx: &mut Context<'_>) -> Poll<T> {
    let Some(pending) = slot else { return Poll::Pending };
    let polled = pending.as_mut().poll(cx);
    if polled.is_ready() {
        *slot = None;
    }
    polled
}

fn timed_out() -> Performed {
    Performed { failure: Some(Failure::TimedOut), found: Found::NOTHING }
}
