//! The driver with hand-made parts, polled by hand: nothing happens between two polls that a test doesn't do.

use crate::{ARM_PATIENCE, Clock, Exit, ORDER_GRACE, Outside, Postgres, Store, run};
use primacy_core::effect::Reply;
use primacy_core::instance::{Failure, Found, Instance, Op, Order, Performed, Saved};
use primacy_core::store::{News, Request, Response, View};
use primacy_core::{
    Boot, Command, Config, Epoch, Event, Guard, Input, Node, OpId, RequestId, Role, Span, Time,
};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

#[derive(Default)]
struct World {
    now: Cell<Time>,
    answer: RefCell<Option<Response>>,
    asked: Cell<usize>,
    guard: RefCell<VecDeque<Guard>>,
    instances: RefCell<VecDeque<Found>>,
    orders: RefCell<Vec<String>>,
    performed: RefCell<Option<Performed>>,
    command: RefCell<Option<(RequestId, Command)>>,
    inputs: RefCell<Vec<Input>>,
}

/// Waits until `take` has something. Woken by nobody: the tests poll again.
fn when<T>(take: impl FnMut() -> Option<T>) -> impl Future<Output = T> {
    let mut take = take;
    poll_fn(move |_| take().map_or(Poll::Pending, Poll::Ready))
}

impl Clock for World {
    fn now(&self) -> Time {
        self.now.get()
    }
    fn sleep_until(&self, time: Time) -> impl Future<Output = ()> {
        when(move || (self.now.get() >= time).then_some(()))
    }
}

impl Store for World {
    fn ask(&self, _: Request, _: Time) -> impl Future<Output = Response> {
        self.asked.set(self.asked.get() + 1);
        when(|| self.answer.borrow_mut().take())
    }
    fn news(&self) -> impl Future<Output = News> {
        pending()
    }
}

/// Says when an order is dropped.
struct Dropped<'a>(&'a World, Op);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.orders.borrow_mut().push(format!("end {}", self.1));
    }
}

impl Postgres for World {
    async fn perform(&self, order: Order) -> Performed {
        self.orders.borrow_mut().push(format!("begin {}", order.op));
        let _dropped = Dropped(self, order.op);
        when(|| self.performed.borrow_mut().take()).await
    }
    fn report(&self) -> impl Future<Output = Found> {
        when(|| self.instances.borrow_mut().pop_front())
    }
    fn arm(&self, _: Epoch, _: Time) -> impl Future<Output = Guard> {
        pending()
    }
    fn guard(&self) -> impl Future<Output = Guard> {
        when(|| self.guard.borrow_mut().pop_front())
    }
}

impl Outside for World {
    fn tell(&self, _: Time, _: &Event) {}
    fn reply(&self, _: RequestId, _: Reply) {}
    fn next_command(&self) -> impl Future<Output = (RequestId, Command)> {
        when(|| self.command.borrow_mut().take())
    }
    fn handled(&self, _: Time, input: &Input, _: &Node) {
        self.inputs.borrow_mut().push(input.clone());
    }
}

impl World {
    fn at(&self, time: Time) {
        self.now.set(time);
    }

    fn inputs(&self) -> Vec<Input> {
        self.inputs.take()
    }

    /// Whatever the agent waits for at the start is under way: a look and a read.
    fn started<'a>(&'a self) -> Pin<Box<dyn Future<Output = Exit> + 'a>> {
        let config = Arc::new(Config::new("a".into(), Span::secs(5)));
        let node = Node::new(config, Boot(1), Saved::default());
        let mut running = Box::pin(run(node, self, self, self, self));
        step(running.as_mut());
        self.at(Time(1));
        step(running.as_mut());
        assert_eq!(self.inputs(), [Input::Wake]);
        running
    }
}

fn step(running: Pin<&mut (impl Future<Output = Exit> + ?Sized)>) -> Option<Exit> {
    match running.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(exit) => Some(exit),
        Poll::Pending => None,
    }
}

fn found(instance: Instance) -> Found {
    Found { instance, saved: Some(Saved::default()) }
}

fn absent() -> Performed {
    Performed { failure: None, found: found(Instance::Absent) }
}

#[test]
fn a_request_without_an_answer_is_unknown_at_its_time() {
    let world = World::default();
    let mut running = world.started();
    assert_eq!(world.asked.get(), 1);
    world.at(Time(1) + Span::millis(400) - Span(1));
    step(running.as_mut());
    assert!(world.inputs().is_empty());
    world.at(Time(1) + Span::millis(400));
    // Late, though it is there when the driver looks.
    world.answer.replace(Some(Response::Read(Some(View::default()))));
    step(running.as_mut());
    assert!(world.inputs().contains(&Input::Answered(OpId(2), Response::Read(None))));
}

#[test]
fn an_answer_reaches_the_node_under_the_name_of_its_request() {
    let world = World::default();
    let mut running = world.started();
    world.answer.replace(Some(Response::Read(Some(View::default()))));
    world.performed.replace(Some(absent()));
    step(running.as_mut());
    let inputs = world.inputs();
    assert_eq!(inputs[0], Input::Answered(OpId(2), Response::Read(Some(View::default()))));
    assert_eq!(inputs[1], Input::Performed(OpId(1), absent()));
}

#[test]
fn a_new_order_ends_the_one_before() {
    let world = World::default();
    let mut running = world.started();
    world.guard.borrow_mut().push_back(Guard::Lost);
    step(running.as_mut());
    let orders = world.orders.borrow().join(", ");
    assert_eq!(orders, "begin look at the instance, end look at the instance, begin kill the instance");
}

#[test]
fn an_order_that_outlives_its_time_is_ended() {
    let world = World::default();
    let mut running = world.started();
    world.at(Time(1) + Span::secs(60) + ORDER_GRACE);
    step(running.as_mut());
    let failure = Some(Failure::TimedOut);
    let late = Input::Performed(OpId(1), Performed { failure, found: Found::NOTHING });
    assert!(world.inputs().contains(&late));
}

#[test]
fn the_instance_is_not_asked_while_an_order_is_carried_out() {
    let world = World::default();
    let mut running = world.started();
    world.instances.borrow_mut().push_back(found(Instance::Incomplete));
    step(running.as_mut());
    assert!(world.inputs().is_empty());
    world.performed.replace(Some(absent()));
    step(running.as_mut());
    let inputs = world.inputs();
    assert_eq!(
        inputs[..2],
        [Input::Performed(OpId(1), absent()), Input::Instance(found(Instance::Incomplete))]
    );
}

#[test]
fn the_guard_is_heard_first() {
    let world = World::default();
    let mut running = world.started();
    world.answer.replace(Some(Response::Read(Some(View::default()))));
    world.guard.borrow_mut().extend([Guard::Idle, Guard::Lost]);
    step(running.as_mut());
    let inputs = world.inputs();
    assert_eq!(inputs[..2], [Input::Guard(Guard::Idle), Input::Guard(Guard::Lost)]);
}

#[test]
fn a_guard_that_does_not_acknowledge_counts_as_lost() {
    let world = World::default();
    let mut lanes = crate::lanes::Lanes::new(&world, &world, &world, &world);
    lanes.arm(Epoch(1), Time(10));
    world.at(Time(0) + ARM_PATIENCE);
    let mut next = pin!(lanes.next());
    let polled = next.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(polled, Poll::Ready(Input::Guard(Guard::Lost)));
}

#[test]
fn a_node_that_has_stopped_ends_the_loop() {
    let world = World::default();
    let mut running = world.started();
    world.command.replace(Some((RequestId(1), Command::Shutdown)));
    assert!(step(running.as_mut()).is_none());
    world.performed.replace(Some(absent()));
    let exit = step(running.as_mut()).expect("an end");
    assert_eq!(*exit.node.role(), Role::Stopped);
}
