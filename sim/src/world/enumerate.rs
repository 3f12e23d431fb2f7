//! All that can happen next, within the bounds of a model.

use super::World;
use super::event::{Event, Fault, HostId};
use super::host::{Agent, Cargo, Host, Warden};
use super::postgres::Process;
use primacy_core::store::News;
use primacy_core::{Command, Epoch, Input, Node, OpId, Span, Time};

/// What may happen in a model, and how often. What is switched off stays constant and costs no states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The highest epoch; a state beyond it is not explored further.
    pub epoch_max: u32,
    /// Ticks between two that a clock may lose while a lease is timed by it; 0: clocks are exact. A slow clock that
    /// times nothing but others' leases makes its agent act later, and that is what `late` allows anyway.
    pub drift_every: u8,
    /// The longest, in ticks, that a running agent may be late with its own deadline; a frozen one may be later.
    pub late: u64,
    /// Requests and answers may be lost.
    pub loss: bool,
    /// Requests are answered at once, save those that [stall](Event::Stall).
    pub prompt: bool,
    /// So many things may go wrong in all, of whatever kind that may, clocks apart; no such bound if none.
    pub troubles: Option<u8>,
    /// So many ticks may be lost by clocks in all; no such bound if none.
    pub slips: Option<u8>,
    /// So many requests that nobody waits for any more may still arrive.
    pub zombies: u8,
    /// Watches may break; what they missed is lost, and it may take any time until the agent hears of it.
    pub watch_breaks: bool,
    /// Orders to PostgreSQL take time: anything may happen before they are carried out.
    pub slow_orders: bool,
    /// Only those that end PostgreSQL do: then its guard may be what ends it, whatever its agent hears meanwhile.
    pub slow_stops: bool,
    /// The mirrored leader key may vanish.
    pub leader_key_goes: bool,
    /// Which faults may happen, and how often each.
    pub agent_dies: u8,
    /// See above.
    pub agent_freezes: u8,
    /// See above.
    pub guard_dies: u8,
    /// See above.
    pub postgres_dies: u8,
    /// See above.
    pub host_dies: u8,
    /// See above.
    pub store_down: u8,
    /// See above.
    pub commits: u8,
    /// See above.
    pub switchovers: u8,
    /// See above.
    pub promoted_by_hand: u8,
    /// Orders may fail, so often.
    pub fails: u8,
    /// A promotion leaves the checkpoint for later; else it is written with it.
    pub late_checkpoints: bool,
    /// Standbys receive WAL when the model says so, not by themselves.
    pub replicate: bool,
}

/// How often each bounded thing has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spent {
    /// See [`Bounds`].
    pub troubles: u8,
    /// See [`Bounds`].
    pub slips: u8,
    /// See [`Bounds`].
    pub agent_dies: u8,
    /// See [`Bounds`].
    pub agent_freezes: u8,
    /// See [`Bounds`].
    pub guard_dies: u8,
    /// See [`Bounds`].
    pub postgres_dies: u8,
    /// See [`Bounds`].
    pub host_dies: u8,
    /// See [`Bounds`].
    pub store_down: u8,
    /// See [`Bounds`].
    pub commits: u8,
    /// See [`Bounds`].
    pub switchovers: u8,
    /// See [`Bounds`].
    pub promoted_by_hand: u8,
    /// See [`Bounds`].
    pub fails: u8,
}

/// A count that stands for "as often as it likes".
pub const ANY: u8 = u8::MAX;

/// Whether a wake-up would find something to do.
fn wakes(node: &Node, now: Time) -> bool {
    let mut after = node.clone();
    let effects = after.handle(now, Input::Wake);
    !effects.is_empty() || after != *node
}

/// Whether this is something that goes wrong, not just something that happens or is mended.
fn goes_wrong(event: &Event) -> bool {
    match event {
        Event::Stall(_) | Event::Lose(_) | Event::Fail(..) | Event::Unheard(..) | Event::LookFails(_) => true,
        Event::Fault(fault) => !matches!(
            fault,
            Fault::AgentStarts(_)
                | Fault::AgentThaws(_)
                | Fault::HostStarts(_)
                | Fault::HostWakes(_)
                | Fault::Heal(..)
                | Fault::StoreUp
        ),
        Event::Advance(_)
        | Event::AdvanceBut(_)
        | Event::Wake(_)
        | Event::Deliver(_)
        | Event::Expire(..)
        | Event::Perform(..)
        | Event::GuardFires(_)
        | Event::Look(_)
        | Event::Replicate(_)
        | Event::Replayed(_)
        | Event::Commit(_)
        | Event::OrphansEnd(_)
        | Event::Operate(..) => false,
    }
}

fn within(spent: u8, bound: u8) -> bool {
    bound == ANY || spent < bound
}

impl World {
    /// Whether one thing more of this kind may go wrong.
    fn may(&self, spent: u8, bound: u8) -> bool {
        within(spent, bound) && self.may_go_wrong()
    }

    fn may_go_wrong(&self) -> bool {
        self.setup.bounds.troubles.is_none_or(|bound| self.spent.troubles < bound)
    }

    /// Lists what can happen next.
    ///
    /// Nothing is ever listed as lost: until its sender gives up, what is lost looks just like what is late.
    pub fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        if self.is_beyond() {
            return events;
        }
        if self.setup.bounds.prompt && self.prompt_events(&mut events) {
            return events;
        }
        self.time_events(&mut events);
        self.flight_events(&mut events);
        for host in 0..self.hosts.len() as HostId {
            self.host_events(host, &mut events);
            self.fault_events(host, &mut events);
        }
        self.shared_events(&mut events);
        events
    }

    /// Before anything else can happen, requests just sent are answered, unless they stall or their sender does.
    fn prompt_events(&self, events: &mut Vec<Event>) -> bool {
        let asks = self.flights.iter().filter(|one| !one.stalled && matches!(one.cargo, Cargo::Ask(..)));
        let mut any = false;
        for ask in asks {
            any = true;
            events.push(Event::Deliver(ask.id));
            if self.may_go_wrong() {
                events.push(Event::Stall(ask.id));
            }
            self.fault_events(ask.host, events);
        }
        any
    }

    /// Whether this state lies beyond the highest epoch of the model.
    pub fn is_beyond(&self) -> bool {
        self.epoch().0 > self.setup.bounds.epoch_max
            || self.record.promotions.keys().next_back().is_some_and(|e| e.0 > self.setup.bounds.epoch_max)
    }

    /// Time may pass unless something has to happen first: a guard's kill that has used up its budget, or what a
    /// running agent has to do by now.
    fn time_events(&self, events: &mut Vec<Event>) {
        if (0..self.hosts.len() as HostId).any(|host| self.holds_time(host)) {
            return;
        }
        events.push(Event::Advance(1));
        let bounds = &self.setup.bounds;
        if bounds.drift_every > 0 && bounds.slips.is_none_or(|bound| self.spent.slips < bound) {
            let slow =
                (0u8..).zip(&self.hosts).filter(|(_, one)| one.clock.rests == 0 && one.times_a_lease());
            events.extend(slow.map(|(host, _)| Event::AdvanceBut(host)));
        }
    }

    fn holds_time(&self, host: HostId) -> bool {
        let one = &self.hosts[usize::from(host)];
        if !one.awake() {
            return false;
        }
        let now = self.local(host);
        let budget = self.setup.configs[usize::from(host)].stop_budget;
        let kill = matches!(one.guard, Warden::Armed { until, .. } if now >= until + budget);
        kill || one.postgres.orphans
            || one.running().is_some_and(|node| self.agent_holds_time(one, node, now))
    }

    /// Whether a running agent is as late as it may be with a deadline of its own.
    fn agent_holds_time(&self, one: &Host, node: &Node, now: Time) -> bool {
        let late = Span(self.setup.bounds.late);
        let begun = one.waiting.iter().any(|(_, until)| now >= *until + late);
        let due = |node: &Node| node.deadline(now - late - Span(1)).is_some_and(|(at, _)| at + late <= now);
        begun || (due(node) && wakes(node, now))
    }

    fn flight_events(&self, events: &mut Vec<Event>) {
        for flight in &self.flights {
            let ready = match flight.cargo {
                Cargo::Ask(..) => self.store.up,
                Cargo::Arm(..) => true,
                Cargo::Answer(..) | Cargo::News(_) | Cargo::Done(..) | Cargo::Guard(_) => {
                    self.hosts[usize::from(flight.host)].listens()
                }
            };
            if ready {
                events.push(Event::Deliver(flight.id));
            }
        }
    }

    fn host_events(&self, host: HostId, events: &mut Vec<Event>) {
        let one = &self.hosts[usize::from(host)];
        let now = self.local(host);
        if matches!(one.guard, Warden::Armed { until, .. } if now >= until) && one.awake() {
            events.push(Event::GuardFires(host));
        }
        if let Some(node) = one.running() {
            let before = now - Span(self.setup.bounds.late) - Span(1);
            if node.deadline(before).is_some_and(|(at, _)| at <= now) {
                events.push(Event::Wake(host));
            }
            let expired =
                one.waiting.iter().filter(|(op, until)| now >= *until && self.may_expire(host, *op));
            events.extend(expired.map(|(op, _)| Event::Expire(host, *op)));
        }
        if let Some((op, _)) = &one.order {
            events.push(Event::Perform(host, *op));
            if self.may(self.spent.fails, self.setup.bounds.fails) {
                events.extend([Event::Fail(host, *op), Event::Unheard(host, *op)]);
            }
        }
        if one.postgres.orphans {
            events.push(Event::OrphansEnd(host));
        }
        if self.setup.bounds.replicate && self.streams(host).is_some() {
            events.push(Event::Replicate(host));
        }
        let commits = within(self.spent.commits, self.setup.bounds.commits);
        if commits && one.awake() && one.postgres.can_acknowledge() {
            events.push(Event::Commit(host));
        }
    }

    /// Where nothing is lost, only what can't arrive is given up.
    fn may_expire(&self, host: HostId, op: OpId) -> bool {
        let arrives = self.flights.iter().any(|flight| match &flight.cargo {
            Cargo::Ask(id, _) => flight.host == host && *id == op && self.store.up,
            Cargo::Answer(id, _) => flight.host == host && *id == op,
            Cargo::News(_) | Cargo::Done(..) | Cargo::Arm(..) | Cargo::Guard(_) => false,
        });
        self.setup.bounds.loss || !arrives
    }

    fn fault_events(&self, host: HostId, events: &mut Vec<Event>) {
        let (one, bounds, spent) = (&self.hosts[usize::from(host)], &self.setup.bounds, &self.spent);
        let mut fault = |fault| events.push(Event::Fault(fault));
        match &one.agent {
            Agent::Down if one.awake() => fault(Fault::AgentStarts(host)),
            Agent::Up(_) if one.awake() => {
                if self.may(spent.agent_dies, bounds.agent_dies) {
                    fault(Fault::AgentDies(host));
                }
                if self.may(spent.agent_freezes, bounds.agent_freezes) {
                    fault(Fault::AgentFreezes(host));
                }
            }
            Agent::Frozen(_) => fault(Fault::AgentThaws(host)),
            Agent::Up(_) | Agent::Down => {}
        }
        if one.postgres.process != Process::Down && one.awake() {
            if self.may(spent.postgres_dies, bounds.postgres_dies) {
                fault(Fault::PostgresDies(host));
            }
            if self.may(spent.guard_dies, bounds.guard_dies) && one.guard != Warden::Dead {
                fault(Fault::GuardDies(host));
            }
            if self.may(spent.promoted_by_hand, bounds.promoted_by_hand) {
                fault(Fault::PromotedByHand(host));
            }
        }
        if one.up && self.may(spent.host_dies, bounds.host_dies) {
            fault(Fault::HostDies(host));
        }
        if !one.up {
            fault(Fault::HostStarts(host));
        }
    }

    fn shared_events(&self, events: &mut Vec<Event>) {
        let (bounds, spent) = (&self.setup.bounds, &self.spent);
        if !self.store.up {
            events.push(Event::Fault(Fault::StoreUp));
        } else if self.may(spent.store_down, bounds.store_down) {
            events.push(Event::Fault(Fault::StoreDown));
        }
        let leader = self.store.view.leader.as_ref().is_some_and(|leader| leader.name.is_some());
        if bounds.leader_key_goes && leader && self.may_go_wrong() {
            events.push(Event::Fault(Fault::LeaderKeyGone));
        }
        if bounds.watch_breaks && self.may_go_wrong() {
            let broken = |host: HostId| {
                let mut news = self.flights.iter().filter(|flight| flight.host == host);
                news.any(|flight| matches!(flight.cargo, Cargo::News(News::Interrupted)))
            };
            let hosts = (0u8..).zip(&self.hosts).filter(|(host, one)| one.node().is_some() && !broken(*host));
            events.extend(hosts.map(|(host, _)| Event::Fault(Fault::WatchBreaks(host))));
        }
        if within(spent.switchovers, bounds.switchovers)
            && let Some(host) =
                (0u8..).zip(&self.hosts).find(|(_, one)| one.postgres.process == Process::Primary)
        {
            events.push(Event::Operate(host.0, Command::Switchover { to: None }));
        }
    }

    /// Counts a bounded event that has happened.
    pub fn spend(&mut self, event: &Event) {
        let bounds = self.setup.bounds.clone();
        let count = |spent: &mut u8, bound: u8| {
            if bound != ANY {
                *spent += 1;
            }
        };
        let spent = &mut self.spent;
        if bounds.troubles.is_some() && goes_wrong(event) {
            spent.troubles += 1;
        }
        match event {
            Event::Fault(Fault::AgentDies(_) | Fault::AgentDiesAfterOrder(_)) => {
                count(&mut spent.agent_dies, bounds.agent_dies);
            }
            Event::Fault(Fault::AgentFreezes(_)) => count(&mut spent.agent_freezes, bounds.agent_freezes),
            Event::Fault(Fault::GuardDies(_)) => count(&mut spent.guard_dies, bounds.guard_dies),
            Event::Fault(Fault::PostgresDies(_)) => count(&mut spent.postgres_dies, bounds.postgres_dies),
            Event::Fault(Fault::HostDies(_)) => count(&mut spent.host_dies, bounds.host_dies),
            Event::Fault(Fault::StoreDown) => count(&mut spent.store_down, bounds.store_down),
            Event::Fault(Fault::PromotedByHand(_)) => {
                count(&mut spent.promoted_by_hand, bounds.promoted_by_hand);
            }
            Event::AdvanceBut(_) => spent.slips += u8::from(bounds.slips.is_some()),
            Event::Commit(_) => count(&mut spent.commits, bounds.commits),
            Event::Operate(..) => count(&mut spent.switchovers, bounds.switchovers),
            Event::Fail(..) | Event::Unheard(..) => count(&mut spent.fails, bounds.fails),
            _ => {}
        }
    }

    /// The highest epoch in this world.
    pub fn epoch(&self) -> Epoch {
        self.store.view.reign.as_ref().map_or(Epoch(0), |reign| reign.epoch)
    }
}
