//! What the driver needs of its surroundings, found in the world.

use super::life::{Inbox, Life};
use primacy_core::effect::Reply;
use primacy_core::instance::{Found, Order, Performed};
use primacy_core::store::{News, Request, Response};
use primacy_core::{Command, Effect, Epoch, Event, Guard, Input, Node, OpId, RequestId, Time};
use primacy_driver::{ARM_PATIENCE, Clock, ORDER_GRACE, Outside, Postgres, Store};
use std::future::Future;

/// Does something when it is dropped, however a wait ends.
struct AtEnd<F: FnMut()>(F);

impl<F: FnMut()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl Clock for Life {
    fn now(&self) -> Time {
        self.stage.local(self.host)
    }

    fn sleep_until(&self, time: Time) -> impl Future<Output = ()> {
        self.stage.sleep_until(self.host, time)
    }
}

impl Store for Life {
    /// Never gives up by itself, so that only the driver's own watch over the time ends it. A request that is dropped
    /// goes on, and may be applied.
    async fn ask(&self, request: Request, until: Time) -> Response {
        let id = self.stage.next_op();
        self.inbox.borrow_mut().answers.insert(id, None);
        self.promises.borrow_mut().wait(id, until);
        let _forget = AtEnd(|| {
            self.inbox.borrow_mut().answers.remove(&id);
            self.promises.borrow_mut().end(id);
        });
        self.stage.carry_out(self.host, Effect::Store { id, until, request });
        let response = self.when(|inbox| inbox.answers.get_mut(&id)?.take()).await;
        self.demand_in_time(until);
        response
    }

    fn news(&self) -> impl Future<Output = News> {
        self.when(|inbox| inbox.news.pop_front())
    }
}

impl Postgres for Life {
    async fn perform(&self, order: Order) -> Performed {
        self.demand_a_free_lane(&order);
        let id = self.stage.next_op();
        self.promises.borrow_mut().order();
        self.promises.borrow_mut().wait(id, order.until + ORDER_GRACE);
        let _cancel = AtEnd(|| self.cancel(id));
        self.stage.carry_out(self.host, Effect::Postgres(id, order));
        let (_, performed) = self.when(|inbox| inbox.done.take_if(|(done, _)| *done == id)).await;
        self.may_hang().await;
        Performed { found: self.stage.look(|run| run.world.found(self.host)), ..performed }
    }

    /// Looks take a moment, and what they say may be old by then; only the newest counts.
    async fn report(&self) -> Found {
        let orders = self.promises.borrow().orders();
        self.inbox.borrow_mut().looking = true;
        let _looked = AtEnd(|| {
            let mut inbox = self.inbox.borrow_mut();
            (inbox.looking, inbox.found) = (false, None);
        });
        self.when(|inbox| inbox.found.is_some().then_some(())).await;
        self.stage.sleep_between(1_000, 20_000).await;
        let found = self.when(|inbox| inbox.found.take()).await;
        self.demand_fresh_look(orders);
        found
    }

    async fn arm(&self, epoch: Epoch, until: Time) -> Guard {
        let id = self.stage.next_op();
        self.promises.borrow_mut().wait(id, self.stage.local(self.host) + ARM_PATIENCE);
        self.inbox.borrow_mut().arming = Some((epoch, until));
        let _end = AtEnd(|| {
            let Inbox { arming, acknowledged, .. } = &mut *self.inbox.borrow_mut();
            (*arming, *acknowledged) = (None, None);
            self.promises.borrow_mut().end(id);
        });
        self.may_hang().await;
        self.stage.carry_out(self.host, Effect::Arm { epoch, until });
        self.when(|inbox| inbox.acknowledged.take()).await
    }

    fn guard(&self) -> impl Future<Output = Guard> {
        self.when(|inbox| inbox.guard.pop_front())
    }
}

impl Outside for Life {
    fn tell(&self, _: Time, event: &Event) {
        self.stage.carry_out(self.host, Effect::Tell(event.clone()));
    }

    fn reply(&self, request: RequestId, reply: Reply) {
        self.stage.carry_out(self.host, Effect::Reply(request, reply));
    }

    fn next_command(&self) -> impl Future<Output = (RequestId, Command)> {
        self.when(|inbox| inbox.commands.pop_front())
    }

    fn handled(&self, now: Time, input: &Input, node: &Node) {
        self.note_input(now, input, node);
        self.stage.act(|world, trail| world.handled(self.host, input, node, trail));
    }
}

impl Life {
    /// At times something never ends by itself, as long as there are troubles.
    async fn may_hang(&self) {
        if self.stage.look(|run| run.schedule.hangs()) {
            while !self.stage.look(|run| run.schedule.calm) {
                self.stage.sleep_between(1_000_000, 1_000_000).await;
            }
        }
    }

    fn cancel(&self, id: OpId) {
        self.promises.borrow_mut().end(id);
        let host = usize::from(self.host);
        self.stage.look(|run| drop(run.world.hosts[host].order.take_if(|(order, _)| *order == id)));
    }
}
