//! One life of an agent: from its start to its end or death.

use super::promises::Promises;
use super::stage::Stage;
use crate::invariants::Violation;
use crate::run::message;
use crate::world::event::HostId;
use primacy_core::instance::{Found, Performed};
use primacy_core::store::{News, Response};
use primacy_core::{Boot, Command, Effect, Epoch, Guard, Input, Node, OpId, RequestId, Time};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Whether the scheduler lets a process run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    Runs,
    /// Frozen, or its host is suspended.
    Rests,
    /// Killed.
    Over,
}

pub(super) struct Life {
    pub stage: Rc<Stage>,
    pub host: HostId,
    /// Tells this life from others on the same host.
    pub boot: Boot,
    pub inbox: RefCell<Inbox>,
    pub promises: RefCell<Promises>,
    pace: Cell<Pace>,
    waker: RefCell<Option<Waker>>,
}

/// What has arrived and wasn't taken yet.
#[derive(Default)]
pub(super) struct Inbox {
    /// The requests that somebody waits for. An answer to any other is lost, as its connection is gone.
    pub answers: BTreeMap<OpId, Option<Response>>,
    pub done: Option<(OpId, Performed)>,
    /// The fence that the guard is to acknowledge.
    pub arming: Option<(Epoch, Time)>,
    pub acknowledged: Option<Guard>,
    pub guard: VecDeque<Guard>,
    /// Somebody wants to know how the instance is.
    pub looking: bool,
    pub found: Option<Found>,
    pub news: VecDeque<News>,
    pub commands: VecDeque<(RequestId, Command)>,
}

impl Life {
    /// Starts an agent as a task of its own.
    pub fn begin(stage: Rc<Stage>, host: HostId, boot: Boot, node: Node) -> Rc<Life> {
        let life = Rc::new(Life {
            stage,
            host,
            boot,
            inbox: RefCell::default(),
            promises: RefCell::default(),
            pace: Cell::new(Pace::Runs),
            waker: RefCell::default(),
        });
        madsim::task::spawn_local(Rc::clone(&life).live(node));
        life
    }

    async fn live(self: Rc<Self>, node: Node) {
        let mut running = Box::pin(primacy_driver::run(node, &*self, &*self, &*self, &*self));
        let exit = poll_fn(|cx| {
            self.waker.replace(Some(cx.waker().clone()));
            match self.pace.get() {
                Pace::Runs => match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))) {
                    Ok(Poll::Pending) => {
                        self.demand_rest();
                        Poll::Pending
                    }
                    Ok(Poll::Ready(exit)) => Poll::Ready(Some(exit)),
                    Err(panic) => {
                        let what = message(panic.as_ref());
                        self.stage.look(|run| run.blame(Violation { id: "assertion", what }));
                        Poll::Ready(None)
                    }
                },
                Pace::Rests => Poll::Pending,
                Pace::Over => Poll::Ready(None),
            }
        });
        if exit.await.is_some() {
            self.stage.carry_out(self.host, Effect::Exit);
        }
    }

    /// Goes on at this pace.
    pub fn go(&self, pace: Pace) {
        if self.pace.replace(pace) != pace {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Something has arrived.
    pub fn receive(&self, input: Input) {
        if let Input::Guard(guard) = input {
            self.promises.borrow_mut().said(guard);
        }
        self.inbox.borrow_mut().put(input);
        self.wake();
    }

    /// Waits until `take` finds something in the inbox. Whatever arrives wakes the agent, and it looks at everything.
    pub fn when<T>(&self, mut take: impl FnMut(&mut Inbox) -> Option<T>) -> impl Future<Output = T> {
        poll_fn(move |_| take(&mut self.inbox.borrow_mut()).map_or(Poll::Pending, Poll::Ready))
    }
}

impl Inbox {
    /// Whether there is something that a driver always listens to.
    pub fn has_unheard(&self) -> bool {
        let answered = self.answers.values().any(Option::is_some);
        answered || !self.guard.is_empty() || !self.news.is_empty() || !self.commands.is_empty()
    }

    fn put(&mut self, input: Input) {
        match input {
            Input::Answered(op, response) => {
                if let Some(slot) = self.answers.get_mut(&op) {
                    *slot = Some(response);
                }
            }
            Input::Performed(op, performed) => self.done = Some((op, performed)),
            Input::Guard(guard) => match (guard, self.arming) {
                (Guard::Armed { epoch, until }, Some((of, asked))) if epoch == of && until >= asked => {
                    self.acknowledged = Some(guard);
                }
                _ => self.guard.push_back(guard),
            },
            Input::Instance(found) if self.looking => self.found = Some(found),
            Input::Instance(_) => {}
            Input::News(news) => self.news.push_back(news),
            Input::Operator(request, command) => self.commands.push_back((request, command)),
            Input::Wake => unreachable!("an agent outside has timers of its own"),
        }
    }
}
