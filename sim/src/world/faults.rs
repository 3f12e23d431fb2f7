//! What goes wrong, and how it is mended.

use super::event::{Event, Fault, HostId, Site};
use super::host::{Agent, Cargo, Flight, Warden};
use super::postgres::Process;
use super::{Trail, World};
use primacy_core::Epoch;
use primacy_core::store::News;

impl World {
    /// Lets it happen. False if it can't, or changes nothing.
    pub(crate) fn fault(&mut self, fault: Fault, trail: &mut Trail) -> bool {
        match fault {
            Fault::AgentDies(host) => self.agent_dies(host),
            Fault::AgentDiesAfterOrder(host) => self.agent_dies_after_order(host, trail),
            Fault::AgentDiesRewinding(host) => !std::mem::replace(&mut self.host(host).dies_rewinding, true),
            Fault::OperatorImpatient(host) => !std::mem::replace(&mut self.host(host).impatient, true),
            Fault::AgentStarts(host) => self.agent_starts(host, trail),
            Fault::AgentFreezes(host) => self.agent_freezes(host),
            Fault::AgentFreezesAsking(host) => !std::mem::replace(&mut self.host(host).freezes_asking, true),
            Fault::AgentThaws(host) => self.agent_thaws(host, trail),
            Fault::PostgresDies(host) => self.postgres_dies(host, trail),
            Fault::PostgresHangs(host) => self.postgres_hangs(host),
            Fault::PostgresGoesOn(host) => self.postgres_goes_on(host, trail),
            Fault::StorageHangs(host) => self.storage_hangs(host),
            Fault::StorageGoesOn(host) => self.storage_goes_on(host, trail),
            Fault::GuardDies(host) => self.guard_dies(host, trail),
            Fault::HostDies(host) => self.host_dies(host),
            Fault::HostStarts(host) => self.host_starts(host, trail),
            Fault::HostSuspends(host) => self.host_suspends(host),
            Fault::HostWakes(host) => self.host_wakes(host, trail),
            Fault::Cut(from, to) => from != to && self.cuts.insert((from, to)),
            Fault::Heal(from, to) => self.heal(from, to, trail),
            Fault::StoreDown => std::mem::take(&mut self.store.up),
            Fault::StoreUp => self.store_up(trail),
            Fault::WatchBreaks(host) => self.watch_breaks(host, trail) && self.fall_silent(host),
            Fault::LeaderKeyGone => self.leader_key_gone(trail),
            Fault::ControlLost(host) => self.control_lost(host, trail),
            Fault::ControlPutBack(host) => self.control_put_back(host, trail),
            Fault::StoreWiped => self.store_wiped(trail),
            Fault::StoreBackedUp => self.store_backed_up(),
            Fault::StoreRestored => self.store_restored(trail),
            Fault::StoreRebuilt => self.store_rebuilt(trail),
            Fault::WalRecycled => self.wal_recycled(),
            Fault::PromotedByHand(host) => self.promoted_by_hand(host, trail),
        }
    }

    pub(crate) fn agent_dies(&mut self, host: HostId) -> bool {
        if matches!(self.hosts[usize::from(host)].agent, Agent::Down) {
            return false;
        }
        self.host(host).agent = Agent::Down;
        self.forget(host);
        true
    }

    fn control_lost(&mut self, host: HostId, trail: &mut Trail) -> bool {
        let one = self.host(host);
        let stopped = one.postgres.process == Process::Down && one.order.is_none();
        let Some(data) = one.postgres.data.as_mut().filter(|data| stopped && !data.torn) else {
            return false;
        };
        data.damaged = true;
        trail.possible.push(Event::Look(host));
        true
    }

    fn control_put_back(&mut self, host: HostId, trail: &mut Trail) -> bool {
        let data = self.host(host).postgres.data.as_mut();
        if !data.is_some_and(|data| std::mem::take(&mut data.damaged)) {
            return false;
        }
        self.agent_dies(host);
        self.agent_starts(host, trail);
        true
    }

    fn wal_recycled(&mut self) -> bool {
        let mut any = false;
        for one in self.hosts.iter_mut().filter(|one| one.postgres.process == Process::Primary) {
            if let Some(data) = &mut one.postgres.data {
                any |= std::mem::replace(&mut data.kept_from, data.end) < data.end;
            }
        }
        any
    }

    fn agent_dies_after_order(&mut self, host: HostId, trail: &mut Trail) -> bool {
        let one = self.host(host);
        let Some((_, order)) = one.order.take() else { return false };
        if !one.awake() {
            return false;
        }
        // The outcome doesn't matter: nobody is left to hear it.
        drop(self.carry(host, &order, trail));
        self.agent_dies(host)
    }

    fn agent_starts(&mut self, host: HostId, trail: &mut Trail) -> bool {
        let one = &self.hosts[usize::from(host)];
        if !matches!(one.agent, Agent::Down) || !one.awake() {
            return false;
        }
        self.start_agent(host, trail);
        true
    }

    pub(crate) fn agent_freezes(&mut self, host: HostId) -> bool {
        let one = self.host(host);
        one.freezes_asking = false;
        match std::mem::replace(&mut one.agent, Agent::Down) {
            Agent::Up(node) => {
                one.agent = Agent::Frozen(node);
                true
            }
            other => {
                one.agent = other;
                false
            }
        }
    }

    fn agent_thaws(&mut self, host: HostId, trail: &mut Trail) -> bool {
        let one = self.host(host);
        one.freezes_asking = false;
        match std::mem::replace(&mut one.agent, Agent::Down) {
            Agent::Frozen(node) => {
                one.agent = Agent::Up(node);
                self.revive(host, trail);
                true
            }
            other => {
                one.agent = other;
                false
            }
        }
    }

    /// Everything on this host goes on where it was, and an agent that could not listen finds what has come meanwhile.
    fn revive(&mut self, host: HostId, trail: &mut Trail) {
        self.host(host).postgres.hangs_since = if self.setup.instant { 0 } else { self.now };
        let flights = self.flights.iter().filter(|flight| flight.host == host);
        trail.possible.extend(flights.map(|flight| Event::Deliver(flight.id)));
        let one = &self.hosts[usize::from(host)];
        trail.possible.extend(one.waiting.iter().map(|(op, _)| Event::Expire(host, *op)));
        // Agents outside have their own timers.
        trail.possible.extend((!self.setup.outside).then_some(Event::Wake(host)));
        trail.possible.extend([Event::Look(host), Event::Replicate(host)]);
        trail.possible.extend(one.order.as_ref().map(|(op, _)| Event::Perform(host, *op)));
        self.offer(host, trail);
        if matches!(one.guard, Warden::Armed { .. }) {
            trail.possible.push(Event::GuardFires(host));
        }
    }

    /// The guard sees the postmaster's end at once, kills what is left and tells the agent.
    fn postgres_dies(&mut self, host: HostId, trail: &mut Trail) -> bool {
        let one = self.host(host);
        if one.postgres.process == Process::Down || one.postgres.stuck || !one.awake() {
            return false;
        }
        one.postgres.die();
        self.abandon_order(host, trail);
        trail.possible.push(Event::Look(host));
        true
    }

    /// The kernel kills the postmaster with its parent, the guard; a session in the middle of something goes on for a
    /// moment. The agent, if it runs, sees the guard's end at once.
    fn guard_dies(&mut self, host: HostId, trail: &mut Trail) -> bool {
        let one = self.host(host);
        if one.guard == Warden::Dead || !one.awake() {
            return false;
        }
        one.guard = Warden::Dead;
        if one.postgres.process != Process::Down {
            // Those that were killed already only wait for the storage to answer.
            let sessions = one.postgres.process == Process::Primary && !one.postgres.doomed;
            one.postgres.die();
            one.postgres.orphans = sessions;
            trail.possible.push(Event::OrphansEnd(host));
        }
        self.abandon_order(host, trail);
        self.tell_guard(host, trail);
        true
    }

    /// An order that was under way on an instance that died under it fails.
    fn abandon_order(&mut self, host: HostId, trail: &mut Trail) {
        let order = self.hosts[usize::from(host)].order.as_ref();
        trail.possible.extend(order.map(|(op, _)| Event::Perform(host, *op)));
    }

    fn host_dies(&mut self, host: HostId) -> bool {
        let one = self.host(host);
        if !std::mem::take(&mut one.up) {
            return false;
        }
        one.suspended = false;
        one.agent = Agent::Down;
        one.guard = Warden::Idle;
        one.postgres.die();
        one.postgres.stuck = false;
        self.forget(host);
        true
    }

    fn host_starts(&mut self, host: HostId, trail: &mut Trail) -> bool {
        if std::mem::replace(&mut self.host(host).up, true) {
            return false;
        }
        self.host(host).starts += 1;
        self.start_agent(host, trail);
        true
    }

    fn host_suspends(&mut self, host: HostId) -> bool {
        let one = self.host(host);
        one.up && !std::mem::replace(&mut one.suspended, true)
    }

    /// The guard wakes with a deadline that has passed and acts first. (On a real host sessions may run for some
    /// milliseconds before it: a stated limit.)
    fn host_wakes(&mut self, host: HostId, trail: &mut Trail) -> bool {
        if !std::mem::take(&mut self.host(host).suspended) {
            return false;
        }
        self.guard_fires(host, trail);
        self.watch_breaks(host, trail);
        self.revive(host, trail);
        trail.possible.push(Event::Replayed(host));
        true
    }

    fn heal(&mut self, from: Site, to: Site, trail: &mut Trail) -> bool {
        if !self.cuts.remove(&(from, to)) {
            return false;
        }
        if let (Site::Host(from), Site::Host(to)) = (from, to) {
            trail.possible.extend([Event::Replicate(to), Event::Replicate(from)]);
        }
        // What was written meanwhile never reaches a watch over a cut link; the client notices and reads anew.
        if let (Site::Store, Site::Host(host)) | (Site::Host(host), Site::Store) = (from, to) {
            self.watch_breaks(host, trail);
        }
        true
    }

    fn store_up(&mut self, trail: &mut Trail) -> bool {
        if std::mem::replace(&mut self.store.up, true) {
            return false;
        }
        let asks = self.flights.iter().filter(|flight| matches!(flight.cargo, Cargo::Ask(..)));
        trail.possible.extend(asks.map(|flight| Event::Deliver(flight.id)));
        for host in 0..self.hosts.len() as HostId {
            self.watch_breaks(host, trail);
        }
        true
    }

    pub(crate) fn watch_breaks(&mut self, host: HostId, trail: &mut Trail) -> bool {
        if matches!(self.hosts[usize::from(host)].agent, Agent::Down) {
            return false;
        }
        self.flights.retain(|flight| flight.host != host || !matches!(flight.cargo, Cargo::News(_)));
        self.send(host, Cargo::News(News::Interrupted), trail);
        true
    }

    /// In models it takes any time until an agent notices that its watch has broken by itself.
    fn fall_silent(&mut self, host: HostId) -> bool {
        let silent = |flight: &&mut Flight| {
            flight.host == host && matches!(flight.cargo, Cargo::News(News::Interrupted))
        };
        let broken = self.flights.iter_mut().filter(silent);
        broken.for_each(|flight| flight.stalled = self.setup.bounds.prompt);
        true
    }

    fn leader_key_gone(&mut self, trail: &mut Trail) -> bool {
        let Some((revision, records)) = self.store.drop_leader() else { return false };
        self.spread(revision, &records, trail);
        true
    }

    /// Somebody runs `pg_ctl promote`. The guard watches for it; while it isn't armed it kills at once.
    fn promoted_by_hand(&mut self, host: HostId, trail: &mut Trail) -> bool {
        let one = &self.hosts[usize::from(host)];
        let recovering = matches!(one.postgres.process, Process::Recovery(_)) && one.awake();
        let recovering = recovering && !one.postgres.hangs();
        if !recovering || one.guard != Warden::Idle {
            return false;
        }
        let one = self.host(host);
        if let Some(data) = &mut one.postgres.data {
            let next = data.position().epoch.next();
            let start = data.end;
            data.timelines.push(super::postgres::Timeline { epoch: Epoch(next.0), by: 100 + host, start });
            data.end.0 += 1;
            data.signal = false;
        }
        one.postgres.die();
        self.abandon_order(host, trail);
        trail.possible.push(Event::Look(host));
        true
    }
}
