//! Where what stays on a host takes no time: after each event, everything local happens that is due because of it.
//!
//! It happens in the order in which it was asked for, as on a real host: an order, its outcome, the guard's word, a
//! look at the instance when that has changed. News of the store arrive at once, too. An agent that can't take them, or
//! whose watch has broken, loses them and hears later that it has missed something; so news are either prompt or as
//! late as can be.
//!
//! Where requests are prompt, an answer arrives in the step that carries out the request, unless that has stalled. A
//! request stalls because that is one of the model's troubles, or because it can't be carried out just then: the store
//! is down, or its sender is frozen or gone. From then on anything may come of it: it is carried out, and answered, at
//! any time, or given up and carried out later still, or never.

use super::event::{FlightId, HostId};
use super::host::{Agent, Cargo};
use super::{Trail, World};
use primacy_core::OpId;
use primacy_core::instance::{Instance, Op};
use primacy_core::store::{News, Request};

/// More local steps than this after one event mean that a host goes round in circles.
const STEPS_MAX: usize = 1_000;

/// The number of a request that nobody waits for; nodes begin with 1.
pub(crate) const NOBODY: OpId = OpId(0);

impl World {
    /// Lets everything happen that takes no time.
    pub(crate) fn settle(&mut self, trail: &mut Trail) {
        let settled = (0..STEPS_MAX).any(|_| !self.settle_one(trail));
        assert!(settled, "a host goes round in circles");
        self.drop_unawaited();
        self.stall_what_must_wait();
    }

    /// What can't be carried out at once takes its time then.
    fn stall_what_must_wait(&mut self) {
        for at in 0..self.flights.len() {
            let flight = &self.flights[at];
            let waits = match flight.cargo {
                Cargo::Ask(op, _) => {
                    op == NOBODY || !self.store.up || !self.hosts[usize::from(flight.host)].listens()
                }
                Cargo::Answer(..) => true,
                Cargo::News(_) | Cargo::Done(..) | Cargo::Arm(..) | Cargo::Guard(_) => false,
            };
            self.flights[at].stalled |= waits && self.setup.bounds.prompt;
        }
    }

    fn settle_one(&mut self, trail: &mut Trail) -> bool {
        if let Some(at) = (0..self.flights.len()).find(|at| self.is_due(*at)) {
            self.settle_flight(at, trail);
            return true;
        }
        let hosts = 0..self.hosts.len() as HostId;
        hosts.into_iter().any(|host| {
            self.settle_order(host, trail)
                || (!self.setup.bounds.replicate && self.replicate(host, trail))
                || self.settle_look(host, trail)
        })
    }

    /// Whether this flight arrives, or is lost, at once.
    fn is_due(&self, at: usize) -> bool {
        let (flight, bounds) = (&self.flights[at], &self.setup.bounds);
        let one = &self.hosts[usize::from(flight.host)];
        match &flight.cargo {
            Cargo::Answer(..) => bounds.prompt && !flight.stalled && one.listens(),
            Cargo::Ask(..) => false,
            Cargo::Arm(..) | Cargo::News(News::Changed(..)) => true,
            Cargo::News(News::Interrupted) => {
                one.listens() && !flight.stalled && (bounds.prompt || !bounds.watch_breaks)
            }
            Cargo::Done(..) | Cargo::Guard(_) => one.listens() || matches!(one.agent, Agent::Down),
        }
    }

    fn settle_flight(&mut self, at: usize, trail: &mut Trail) {
        let (id, host) = (self.flights[at].id, self.flights[at].host);
        let one = &self.hosts[usize::from(host)];
        let missed = self
            .flights
            .iter()
            .any(|flight| flight.host == host && matches!(flight.cargo, Cargo::News(News::Interrupted)));
        match &self.flights[at].cargo {
            Cargo::News(News::Changed(..)) if missed => drop(self.flights.remove(at)),
            Cargo::News(News::Changed(..)) if !one.listens() && one.node().is_some() => {
                self.flights[at].cargo = Cargo::News(News::Interrupted);
            }
            Cargo::Done(..) | Cargo::Guard(_) | Cargo::News(_) if !one.listens() => {
                self.flights.remove(at);
            }
            Cargo::Arm(..) if !one.awake() => drop(self.flights.remove(at)),
            _ => drop(self.deliver(id, trail)),
        }
    }

    fn settle_order(&mut self, host: HostId, trail: &mut Trail) -> bool {
        let bounds = &self.setup.bounds;
        let slow = |op: &Op| bounds.slow_orders || bounds.slow_stops && matches!(op, Op::Stop | Op::Kill);
        let order = self.hosts[usize::from(host)].order.as_ref().filter(|(_, order)| !slow(&order.op));
        order.map(|(op, _)| *op).is_some_and(|op| self.perform(host, op, trail))
    }

    /// The agent looks when there is something new to see.
    fn settle_look(&mut self, host: HostId, trail: &mut Trail) -> bool {
        let one = &self.hosts[usize::from(host)];
        let Some(node) = one.running() else { return false };
        let (known, shown) = (node.instance(), self.instance(host));
        // What lies there half-rewound is nothing to a node.
        let torn = *known == Instance::Incomplete && one.saved.mending;
        if one.order.is_some() || *known == shown || torn && matches!(shown, Instance::Stopped { .. }) {
            return false;
        }
        self.look(host, trail)
    }

    /// What can't have any effect any more is forgotten: answers that nobody waits for, such reads, and transactions
    /// whose compares can't hold any more, as revisions never come back. Of several equal transactions one at most can
    /// be applied, so one stands for all. The oldest of the others are lost, down to the model's bound.
    fn drop_unawaited(&mut self) {
        let awaited = |world: &World, host: HostId, op: OpId| {
            world.hosts[usize::from(host)].waiting.iter().any(|(id, _)| *id == op)
        };
        let mut zombies = Vec::new();
        let mut gone: Vec<FlightId> = Vec::new();
        for flight in &self.flights {
            match &flight.cargo {
                Cargo::Answer(op, _) if !awaited(self, flight.host, *op) => gone.push(flight.id),
                Cargo::Ask(op, Request::Read) if !awaited(self, flight.host, *op) => gone.push(flight.id),
                Cargo::Ask(op, Request::Transact(txn)) if !awaited(self, flight.host, *op) => {
                    let alive = txn.compare.iter().all(|(key, at)| self.store.view.revision(key) == *at);
                    if !alive || zombies.iter().any(|(_, _, other)| *other == txn) {
                        gone.push(flight.id);
                    } else {
                        zombies.push((flight.id, flight.host, txn));
                    }
                }
                _ => {}
            }
        }
        let over = zombies.len().saturating_sub(usize::from(self.setup.bounds.zombies));
        gone.extend(zombies.iter().take(over).map(|(id, _, _)| *id));
        let kept: Vec<FlightId> = zombies.iter().skip(over).map(|(id, _, _)| *id).collect();
        self.flights.retain(|flight| !gone.contains(&flight.id));
        for flight in self.flights.iter_mut().filter(|flight| kept.contains(&flight.id)) {
            if let Cargo::Ask(op, _) = &mut flight.cargo {
                *op = NOBODY;
            }
        }
    }
}
