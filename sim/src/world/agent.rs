//! Between a node and its surroundings: inputs in, effects out, and what travels.

use super::event::{Event, Fault, FlightId, HostId, Site};
use super::host::{Agent, Cargo, Flight, Warden};
use super::settle::NOBODY;
use super::{Trail, World};
use primacy_core::instance::{Op, Order};
use primacy_core::store::{Answer, News, Record, Request, Response};
use primacy_core::{Command, Effect, Epoch, Input, MachineId, Node, OpId, Revision, Time};
use std::sync::Arc;

/// The kind of an input in a word or two.
pub fn word(input: &Input) -> &'static str {
    match input {
        Input::Wake => "wake",
        Input::News(News::Changed(..)) => "news",
        Input::News(News::Interrupted) => "watch interrupted",
        Input::Answered(_, Response::Read(Some(_))) => "read",
        Input::Answered(_, Response::Read(None)) => "read unanswered",
        Input::Answered(_, Response::Transact(Answer::Committed(_))) => "committed",
        Input::Answered(_, Response::Transact(Answer::Refused(_))) => "refused",
        Input::Answered(_, Response::Transact(Answer::Unknown)) => "outcome unknown",
        Input::Performed(_, performed) if performed.failure.is_none() => "order done",
        Input::Performed(..) => "order failed",
        Input::Instance(_) => "instance seen",
        Input::Guard(_) => "guard",
        Input::Operator(..) => "operator",
    }
}

impl World {
    /// Gives an agent an input, and carries out what it asks for. False if it can't take any.
    pub(crate) fn hand(&mut self, host: HostId, input: Input, trail: &mut Trail) -> bool {
        let now = self.local(host);
        if !self.hears(host) {
            return false;
        }
        if self.setup.outside {
            trail.inputs.push((host, input));
            return true;
        }
        let Agent::Up(node) = &mut self.host(host).agent else { return false };
        let (before, kind) = (node.role().word(), word(&input));
        let effects = node.handle(now, input);
        trail.moves.push((before, kind, node.role().word()));
        self.carry_out(host, effects, trail);
        if let Agent::Up(node) = &self.hosts[usize::from(host)].agent
            && node.deadline(now).is_some()
        {
            trail.possible.push(Event::Wake(host));
        }
        true
    }

    /// Whether what arrives for the agent reaches it. For an agent outside that is frozen, the kernel keeps it.
    fn hears(&self, host: HostId) -> bool {
        let one = &self.hosts[usize::from(host)];
        one.listens() || (self.setup.outside && one.awake() && !matches!(one.agent, Agent::Down))
    }

    /// An agent outside has given its node an input, and this is how the node is now.
    pub fn handled(&mut self, host: HostId, input: &Input, node: &Node, trail: &mut Trail) {
        let (Agent::Up(copy) | Agent::Frozen(copy)) = &mut self.host(host).agent else { return };
        trail.moves.push((copy.role().word(), word(input), node.role().word()));
        **copy = node.clone();
    }

    /// Carries out what a node asks for.
    pub fn carry_out(&mut self, host: HostId, effects: Vec<Effect>, trail: &mut Trail) {
        let asks = effects.iter().any(|effect| matches!(effect, Effect::Store { .. }));
        for effect in effects {
            match effect {
                Effect::Store { id, until, request } => {
                    // An agent outside watches the time by itself.
                    if !self.setup.outside {
                        self.host(host).waiting.push((id, until));
                        trail.possible.push(Event::Expire(host, id));
                    }
                    self.send(host, Cargo::Ask(id, request), trail);
                }
                Effect::Postgres(id, order) => {
                    self.give_order(host, id, order, trail);
                    if matches!(self.hosts[usize::from(host)].agent, Agent::Down) {
                        return;
                    }
                }
                Effect::Arm { epoch, until } => self.send(host, Cargo::Arm(epoch, until), trail),
                Effect::Reply(_, reply) => trail.replies.push((host, reply)),
                Effect::Tell(event) => {
                    self.watch_told(host, &event);
                    self.provoke(host, &event, trail);
                    trail.told.push((host, event));
                }
                Effect::Exit => {
                    self.host(host).agent = Agent::Down;
                    self.forget(host);
                    trail.exits.push(host);
                    return;
                }
            }
        }
        if asks && self.hosts[usize::from(host)].freezes_asking {
            self.agent_freezes(host);
        }
    }

    /// An impatient operator acts upon what is told.
    fn provoke(&mut self, host: HostId, event: &primacy_core::Event, trail: &mut Trail) {
        let failed = matches!(event, primacy_core::Event::Failed { op: Op::Rewind(_), .. });
        if failed && std::mem::take(&mut self.host(host).impatient) {
            trail.possible.push(Event::Operate(host, Command::Reinit { consent: false }));
        }
    }

    /// An order ends the one before it. The agent may be fated to die in the middle of a rewind.
    fn give_order(&mut self, host: HostId, id: OpId, order: Order, trail: &mut Trail) {
        let one = self.host(host);
        let fated = one.dies_rewinding && matches!(order.op, Op::Rewind(_));
        if let Some((_, before)) = one.order.replace((id, order)) {
            self.interrupt(host, &before);
        }
        if fated {
            self.host(host).dies_rewinding = false;
            self.agent_dies(host);
            trail.possible.push(Event::Fault(Fault::AgentStarts(host)));
        } else {
            trail.possible.push(Event::Perform(host, id));
        }
    }

    /// What the agent alone knew is gone with it: the answers it waits for, its children, its watch.
    pub(crate) fn forget(&mut self, host: HostId) {
        let one = self.host(host);
        one.waiting.clear();
        if let Some((_, order)) = one.order.take() {
            self.interrupt(host, &order);
        }
        self.flights.retain(|flight| flight.host != host || matches!(flight.cargo, Cargo::Ask(..)));
        // Requests that are out may still be applied; but their connection is gone, and nobody hears of it.
        for flight in self.flights.iter_mut().filter(|flight| flight.host == host) {
            if let Cargo::Ask(op, _) = &mut flight.cargo {
                *op = NOBODY;
            }
        }
    }

    /// Starts an agent: it attaches to the guard and begins.
    pub(crate) fn start_agent(&mut self, host: HostId, trail: &mut Trail) {
        let mut config = Arc::clone(&self.setup.configs[usize::from(host)]);
        let starts = self.hosts[usize::from(host)].starts;
        if starts > 0 {
            Arc::make_mut(&mut config).machine = MachineId(u64::from(starts));
        }
        let (now, instant) = (self.now, self.setup.instant);
        let one = self.host(host);
        one.boot.0 += 1;
        one.postgres.hangs_since = if instant { 0 } else { now };
        one.agent = Agent::Up(Box::new(Node::new(config, one.boot, one.saved.clone())));
        let guard = one.guard.heard();
        self.hand(host, Input::Guard(guard), trail);
    }

    pub(crate) fn deliver(&mut self, id: FlightId, trail: &mut Trail) -> bool {
        let Some(at) = self.flights.iter().position(|flight| flight.id == id) else { return false };
        let host = self.flights[at].host;
        let listens = self.hears(host);
        let (link, ready) = match self.flights[at].cargo {
            Cargo::Ask(..) => (Some((Site::Host(host), Site::Store)), self.store.up),
            Cargo::Answer(..) | Cargo::News(_) => (Some((Site::Store, Site::Host(host))), listens),
            Cargo::Done(..) | Cargo::Guard(_) => (None, listens),
            Cargo::Arm(..) => (None, true),
        };
        if link.is_some_and(|link| self.cuts.contains(&link)) {
            self.flights.remove(at);
            return true;
        }
        if !ready {
            return false;
        }
        let flight = self.flights.remove(at);
        match flight.cargo {
            Cargo::Ask(op, request) => {
                self.answer(host, op, &request, trail);
                let answer = |other: &&mut Flight| {
                    other.host == host && matches!(other.cargo, Cargo::Answer(id, _) if id == op)
                };
                let answer = self.flights.iter_mut().find(answer);
                answer.into_iter().for_each(|answer| answer.stalled = flight.stalled);
            }
            Cargo::Answer(op, response) => {
                self.host(host).waiting.retain(|(id, _)| *id != op);
                return self.hand(host, Input::Answered(op, response), trail);
            }
            Cargo::News(news) => return self.hand(host, Input::News(news), trail),
            Cargo::Done(op, performed) => return self.hand(host, Input::Performed(op, performed), trail),
            Cargo::Guard(guard) => return self.hand(host, Input::Guard(guard), trail),
            Cargo::Arm(epoch, until) => self.arm(host, epoch, until, trail),
        }
        true
    }

    /// Lost by the network. What stays on the host is never lost.
    pub(crate) fn lose(&mut self, id: FlightId) -> bool {
        let before = self.flights.len();
        self.flights.retain(|flight| {
            flight.id != id || matches!(flight.cargo, Cargo::Done(..) | Cargo::Arm(..) | Cargo::Guard(_))
        });
        self.flights.len() < before
    }

    /// A request that would be answered at once isn't.
    pub(crate) fn stall(&mut self, id: FlightId) -> bool {
        let fresh = |flight: &&mut Flight| flight.id == id && matches!(flight.cargo, Cargo::Ask(..));
        let ask = self.flights.iter_mut().find(fresh);
        ask.is_some_and(|ask| !std::mem::replace(&mut ask.stalled, true))
    }

    /// The store takes a request, and its answer sets out.
    fn answer(&mut self, host: HostId, op: OpId, request: &Request, trail: &mut Trail) {
        let (response, written) = self.store.answer(request);
        if op != NOBODY && self.passes(Site::Store, Site::Host(host)) {
            self.send(host, Cargo::Answer(op, response), trail);
        }
        if let Some((revision, records)) = written {
            self.spread(revision, &records, trail);
        }
    }

    /// News of a write sets out to every watch.
    pub(crate) fn spread(&mut self, revision: Revision, records: &[Record], trail: &mut Trail) {
        for host in 0..self.hosts.len() as HostId {
            let runs = !matches!(self.hosts[usize::from(host)].agent, Agent::Down);
            if runs && self.passes(Site::Store, Site::Host(host)) {
                let news = News::Changed(revision, records.to_vec());
                self.send(host, Cargo::News(news), trail);
            }
        }
    }

    /// The agent gives up waiting; the request may still arrive.
    pub(crate) fn expire(&mut self, host: HostId, op: OpId, trail: &mut Trail) -> bool {
        let one = self.host(host);
        let Some(at) = one.waiting.iter().position(|(id, _)| *id == op) else { return false };
        if !one.listens() {
            return false;
        }
        let (_, until) = one.waiting[at];
        if self.local(host) < until {
            return false;
        }
        self.host(host).waiting.remove(at);
        let reads = self.flights.iter().any(|flight| {
            flight.host == host && matches!(&flight.cargo, Cargo::Ask(id, Request::Read) if *id == op)
        });
        // A node tells its requests apart by their numbers; the kind of the empty answer doesn't matter to it.
        let response = if reads { Response::Read(None) } else { Response::Transact(Answer::Unknown) };
        self.hand(host, Input::Answered(op, response), trail)
    }

    /// The guard takes a fence: it only moves forward, and only for the reign it is armed for. A dead one is started.
    pub(crate) fn arm(&mut self, host: HostId, epoch: Epoch, until: Time, trail: &mut Trail) {
        let one = self.host(host);
        if !one.awake() {
            return;
        }
        let armed = match one.guard {
            Warden::Armed { epoch: known, until: fence } if known == epoch => fence.max(until),
            Warden::Armed { epoch: known, .. } if known > epoch => return,
            Warden::Dead | Warden::Idle | Warden::Armed { .. } => until,
        };
        one.guard = Warden::Armed { epoch, until: armed };
        trail.possible.push(Event::GuardFires(host));
        self.tell_guard(host, trail);
    }

    /// The agent hears how the guard stands.
    pub(crate) fn tell_guard(&mut self, host: HostId, trail: &mut Trail) {
        let guard = self.hosts[usize::from(host)].guard.heard();
        self.send(host, Cargo::Guard(guard), trail);
    }

    /// The guard's deadline has come: it kills every process of the instance.
    pub(crate) fn guard_fires(&mut self, host: HostId, trail: &mut Trail) -> bool {
        let now = self.local(host);
        let one = self.host(host);
        let due = matches!(one.guard, Warden::Armed { until, .. } if now >= until);
        if !due || !one.awake() {
            return false;
        }
        one.guard = Warden::Idle;
        one.postgres.kill();
        self.tell_guard(host, trail);
        self.look(host, trail);
        true
    }
}
