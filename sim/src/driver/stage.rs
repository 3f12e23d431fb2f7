//! The world with the agents that live outside of it.

use super::life::{Life, Pace};
use crate::plan::HOSTS;
use crate::run::{Outcome, Run};
use crate::world::event::HostId;
use crate::world::host::Agent;
use crate::world::{Trail, World};
use madsim::time::{Sleep, TimeHandle};
use primacy_core::{Effect, Node, OpId, Time};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

pub(super) struct Stage {
    run: RefCell<Run>,
    time: TimeHandle,
    /// The agent that lives on each host.
    lives: RefCell<Vec<Option<Rc<Life>>>>,
    /// The number of the last request or order; no two agents use the same.
    last_op: Cell<u32>,
    /// Whoever takes the world's steps, and until when it sleeps.
    conductor: RefCell<Option<(u64, Waker)>>,
}

impl Stage {
    /// Must be called inside of the runtime.
    pub fn new(run: Run) -> Rc<Stage> {
        Rc::new(Stage {
            run: RefCell::new(run),
            time: TimeHandle::current(),
            lives: RefCell::new(vec![None; usize::from(HOSTS)]),
            last_op: Cell::new(0),
            conductor: RefCell::new(None),
        })
    }

    /// True time, in microseconds.
    fn now(&self) -> u64 {
        u64::try_from(self.time.elapsed().as_micros()).expect("runs are short")
    }

    /// Waits until the next step is due; an agent may bring it forward meanwhile. False once the run is over.
    pub async fn due(&self) -> bool {
        let mut alarm = None;
        poll_fn(|cx| {
            let Some(at) = self.run.borrow().due() else { return Poll::Ready(false) };
            if at <= self.now() {
                return Poll::Ready(true);
            }
            self.conductor.replace(Some((at, cx.waker().clone())));
            if alarm.as_ref().is_none_or(|(set, _)| *set != at) {
                alarm = Some((at, Box::pin(self.alarm(at))));
            }
            let (_, alarm) = alarm.as_mut().expect("just set");
            alarm.as_mut().poll(cx).map(|()| true)
        })
        .await
    }

    /// Takes the next step.
    pub fn next(self: &Rc<Self>) {
        {
            let mut run = self.run.borrow_mut();
            run.world.now = run.world.now.max(self.now());
            run.next();
        }
        for host in 0..HOSTS {
            self.follow_agent(host);
        }
        let inputs = std::mem::take(&mut self.run.borrow_mut().inputs);
        for (host, input) in inputs {
            if let Some(life) = &self.lives.borrow()[usize::from(host)] {
                life.receive(input);
            }
        }
    }

    /// Lets the agent on this host begin, end, rest or go on, as the world says.
    fn follow_agent(self: &Rc<Self>, host: HostId) {
        let run = self.run.borrow();
        let one = &run.world.hosts[usize::from(host)];
        let mut lives = self.lives.borrow_mut();
        let known = &mut lives[usize::from(host)];
        let runs = !matches!(one.agent, Agent::Down);
        if let Some(life) = known.take_if(|life| !runs || life.boot != one.boot) {
            life.go(Pace::Over);
        }
        let pace = if one.listens() { Pace::Runs } else { Pace::Rests };
        match (known, &one.agent) {
            (Some(life), _) => life.go(pace),
            (known, Agent::Up(node)) => {
                *known = Some(Life::begin(Rc::clone(self), host, one.boot, Node::clone(node)));
            }
            (None, Agent::Down | Agent::Frozen(_)) => {}
        }
    }

    /// An agent does something to the world.
    pub fn act(&self, what: impl FnOnce(&mut World, &mut Trail)) {
        let mut run = self.run.borrow_mut();
        run.act(self.now(), what);
        for (life, one) in self.lives.borrow().iter().zip(&run.world.hosts) {
            if let Some(life) = life
                && !one.listens()
            {
                life.go(Pace::Rests);
            }
        }
        if let Some((until, waker)) = &*self.conductor.borrow()
            && run.due().is_none_or(|at| at < *until)
        {
            waker.wake_by_ref();
        }
    }

    /// An agent asks for something.
    pub fn carry_out(&self, host: HostId, effect: Effect) {
        self.act(|world, trail| world.carry_out(host, vec![effect], trail));
    }

    /// A number for a request or an order.
    pub fn next_op(&self) -> OpId {
        self.last_op.set(self.last_op.get() + 1);
        OpId(self.last_op.get())
    }

    /// Reads something of the run.
    pub fn look<T>(&self, at: impl FnOnce(&mut Run) -> T) -> T {
        at(&mut self.run.borrow_mut())
    }

    /// What this host's clock shows.
    pub fn local(&self, host: HostId) -> Time {
        let now = self.now();
        self.run.borrow().world.hosts[usize::from(host)].clock.at(now)
    }

    /// Ends when this host's clock shows `time`, or a little later: agents are late at times.
    pub fn sleep_until(&self, host: HostId, time: Time) -> impl Future<Output = ()> + use<> {
        let mut run = self.run.borrow_mut();
        let late = run.schedule.lateness();
        self.alarm(run.world.hosts[usize::from(host)].clock.when(time) + late)
    }

    /// Ends after a time drawn between the two.
    pub fn sleep_between(&self, low_us: u64, high_us: u64) -> impl Future<Output = ()> + use<> {
        let takes = self.run.borrow_mut().schedule.dice().between(low_us, high_us);
        self.alarm(self.now() + takes)
    }

    /// Ends at this moment. madsim's own sleep sets one more timer each time it is polled, and a driver polls
    /// everything it waits for whenever one thing comes; the task's waker stays the same, so one is enough.
    fn alarm(&self, at: u64) -> impl Future<Output = ()> + use<> {
        let time = self.time.clone();
        let mut sleep: Option<Pin<Box<Sleep>>> = None;
        poll_fn(move |cx| {
            let left = Duration::from_micros(at).saturating_sub(time.elapsed());
            if left.is_zero() {
                return Poll::Ready(());
            }
            if sleep.is_none() {
                let sleep = sleep.insert(Box::pin(time.sleep(left)));
                return sleep.as_mut().poll(cx);
            }
            Poll::Pending
        })
    }

    /// The end of the run. Agents that still live are dropped with the runtime.
    pub fn end(&self) -> Outcome {
        self.run.borrow_mut().end()
    }
}
