//! What the driver promises the core, whatever its surroundings do (see the crate `primacy-driver`). Nodes bear with
//! much of what a driver could do wrong, so the world's invariants alone wouldn't see it.

use super::life::Life;
use crate::invariants::Violation;
use primacy_core::instance::Order;
use primacy_core::{Epoch, Guard, Input, Node, OpId, Span, Time};
use std::collections::BTreeMap;

/// madsim's sleeps end at whole milliseconds, and the tasks of one moment come one after the other.
const COARSENESS: Span = Span::millis(3);

#[derive(Default)]
pub(super) struct Promises {
    /// What is waited for, and when the driver has to end that.
    waits: BTreeMap<OpId, Time>,
    /// Orders given so far.
    orders: u32,
    /// The highest fence a guard has acknowledged.
    fence: Option<(Epoch, Time)>,
    /// When the node wants to be woken.
    deadline: Option<Time>,
}

impl Promises {
    /// An answer to this is waited for until then.
    pub fn wait(&mut self, id: OpId, until: Time) {
        self.waits.insert(id, until);
    }

    /// It isn't any more.
    pub fn end(&mut self, id: OpId) {
        self.waits.remove(&id);
    }

    /// An order begins.
    pub fn order(&mut self) {
        self.orders += 1;
    }

    /// How many orders there were.
    pub fn orders(&self) -> u32 {
        self.orders
    }

    /// A guard has said this.
    pub fn said(&mut self, guard: Guard) {
        if let Guard::Armed { epoch, until } = guard {
            self.fence = self.fence.max(Some((epoch, until)));
        }
    }
}

impl Life {
    /// An order ends before the next one begins.
    pub(super) fn demand_a_free_lane(&self, next: &Order) {
        let host = usize::from(self.host);
        let under_way =
            self.stage.look(|run| run.world.hosts[host].order.as_ref().map(|(_, order)| order.op.clone()));
        if let Some(op) = under_way {
            self.broken(format!("{} began while {op} was under way", next.op));
        }
    }

    /// A late answer is dropped.
    pub(super) fn demand_in_time(&self, until: Time) {
        if self.is_past(until) {
            self.broken("an answer was taken after its time".into());
        }
    }

    /// No look is older than the last order.
    pub(super) fn demand_fresh_look(&self, orders: u32) {
        if self.promises.borrow().orders() != orders {
            self.broken("a look that began before an order was taken after it".into());
        }
    }

    /// A fence is only reported once a guard has acknowledged it.
    pub(super) fn note_input(&self, now: Time, input: &Input, node: &Node) {
        let mut promises = self.promises.borrow_mut();
        promises.deadline = node.deadline(now).map(|(time, _)| time);
        if let Input::Guard(Guard::Armed { epoch, until }) = input
            && promises.fence < Some((*epoch, *until))
        {
            self.broken("a fence was reported that no guard has acknowledged".into());
        }
    }

    /// Whenever the driver has nothing more to do, whatever had its time is over (invariant I13), the node was woken,
    /// and it was told what has come.
    pub(super) fn demand_rest(&self) {
        let promises = self.promises.borrow();
        if promises.waits.values().any(|until| self.is_past(*until)) {
            self.broken("something is waited for after its time".into());
        }
        if promises.deadline.is_some_and(|deadline| self.is_past(deadline)) {
            self.broken("the node wasn't woken at its time".into());
        }
        if self.inbox.borrow().has_unheard() {
            self.broken("something that has come was not listened to".into());
        }
    }

    /// Whether it is so late that being a little late with timers can't be the reason.
    fn is_past(&self, time: Time) -> bool {
        let late = self.stage.look(|run| run.schedule.latest());
        self.stage.local(self.host) > time + Span(late + late / 10) + COARSENESS
    }

    fn broken(&self, what: String) {
        let what = format!("promise of the driver on {}: {what}", crate::plan::name(self.host));
        self.stage.look(|run| run.blame(Violation { id: "driver", what }));
    }
}
