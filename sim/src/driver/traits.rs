//! What the driver needs of its surroundings, found in the world.

use super::life::{Inbox, Life};
use crate::invariants::Violation;
use primacy_core::effect::Reply;
use primacy_core::instance::{Instance, Order, Performed};
use primacy_core::store::{News, Request, Response};
use primacy_core::{Command, Effect, Epoch, Event, Guard, Input, Node, OpId, RequestId, Time};
use primacy_driver::{Clock, Outside, Postgres, Store};
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
        let _forget = AtEnd(|| drop(self.inbox.borrow_mut().answers.remove(&id)));
        self.stage.carry_out(self.host, Effect::Store { id, until, request });
        self.when(|inbox| inbox.answers.get_mut(&id)?.take()).await
    }

    fn news(&self) -> impl Future<Output = News> {
        self.when(|inbox| inbox.news.pop_front())
    }
}

impl Postgres for Life {
    async fn perform(&self, order: Order) -> Performed {
        self.demand_a_free_lane(&order);
        let id = self.stage.next_op();
        self.stage.carry_out(self.host, Effect::Postgres(id, order));
        let _cancel = AtEnd(|| self.cancel(id));
        let (_, performed) = self.when(|inbox| inbox.done.take_if(|(done, _)| *done == id)).await;
        performed
    }

    /// Looks take a moment, and what they say may be old by then; only the newest counts.
    async fn report(&self) -> Instance {
        self.inbox.borrow_mut().looking = true;
        let _looked = AtEnd(|| {
            let mut inbox = self.inbox.borrow_mut();
            (inbox.looking, inbox.instance) = (false, None);
        });
        self.when(|inbox| inbox.instance.is_some().then_some(())).await;
        self.stage.sleep_between(1_000, 20_000).await;
        self.when(|inbox| inbox.instance.take()).await
    }

    async fn arm(&self, epoch: Epoch, until: Time) -> Guard {
        self.stage.carry_out(self.host, Effect::Arm { epoch, until });
        self.inbox.borrow_mut().arming = Some((epoch, until));
        let _end = AtEnd(|| {
            let Inbox { arming, acknowledged, .. } = &mut *self.inbox.borrow_mut();
            (*arming, *acknowledged) = (None, None);
        });
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

    fn handled(&self, _: Time, input: &Input, node: &Node) {
        self.stage.act(|world, trail| world.handled(self.host, input, node, trail));
    }
}

impl Life {
    /// The driver promises that an order ends before the next one begins.
    fn demand_a_free_lane(&self, next: &Order) {
        self.stage.look(|run| {
            let Some((_, order)) = &run.world.hosts[usize::from(self.host)].order else { return };
            let what = format!("driver: {} began while {} was under way", next.op, order.op);
            run.blame(Violation { id: "driver", what });
        });
    }

    fn cancel(&self, id: OpId) {
        let host = usize::from(self.host);
        self.stage.look(|run| drop(run.world.hosts[host].order.take_if(|(order, _)| *order == id)));
    }
}
