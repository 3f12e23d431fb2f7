//! What the adapter does with an order, and what the instance says of itself.

use super::event::{Event, HostId, Site};
use super::host::{Cargo, Warden};
use super::postgres::{Data, Process, Timeline};
use super::{Trail, World};
use primacy_core::instance::{self, Failure, Foreign, Found, Instance, Op, Order, Performed, Saved};
use primacy_core::{Epoch, Input, Lsn, OpId, Position};
use std::collections::BTreeMap;

impl World {
    /// Carries out the order under way and sends its outcome.
    pub(crate) fn perform(&mut self, host: HostId, op: OpId, trail: &mut Trail) -> bool {
        if !self.hosts[usize::from(host)].awake() {
            return false;
        }
        let Some((_, order)) = self.host(host).order.take_if(|(id, _)| *id == op) else { return false };
        let failure = self.carry(host, &order, trail).err();
        self.conclude(host, op, failure, trail);
        true
    }

    /// Carries out the order under way, and lets it count as failed.
    pub(crate) fn perform_unheard(&mut self, host: HostId, op: OpId, trail: &mut Trail) -> bool {
        if !self.hosts[usize::from(host)].awake() {
            return false;
        }
        let Some((_, order)) = self.host(host).order.take_if(|(id, _)| *id == op) else { return false };
        let failure = self.carry(host, &order, trail).err();
        // A kill is tried until nothing is left.
        let failure = if order.op == Op::Kill { failure } else { Some(failure.unwrap_or(Failure::TimedOut)) };
        self.conclude(host, op, failure, trail);
        true
    }

    /// The order under way fails, without or with part of its effect.
    pub(crate) fn fail(&mut self, host: HostId, op: OpId, trail: &mut Trail) -> bool {
        if !self.hosts[usize::from(host)].awake() {
            return false;
        }
        let Some((_, order)) = self.host(host).order.take_if(|(id, _)| *id == op) else { return false };
        match order.op {
            // An orderly stop that takes too long ends with a kill.
            Op::Stop => {
                let failure = (!self.host(host).postgres.kill()).then_some(Failure::TimedOut);
                self.conclude(host, op, failure, trail);
            }
            // Kills don't fail, but for the storage; a look that does is done again.
            Op::Kill => {
                let failure = (!self.host(host).postgres.kill()).then_some(Failure::TimedOut);
                self.conclude(host, op, failure, trail);
            }
            Op::Rewind(_) => {
                self.interrupt(host, &order);
                self.conclude(host, op, Some(Failure::TimedOut), trail);
            }
            Op::Look
            | Op::Initdb
            | Op::Clone(_)
            | Op::SetAside
            | Op::StartStandby
            | Op::StartInPlace
            | Op::Follow(_)
            | Op::CloseSources
            | Op::Promote
            | Op::Settle
            | Op::Checkpoint => self.conclude(host, op, Some(Failure::TimedOut), trail),
        }
        true
    }

    fn conclude(&mut self, host: HostId, op: OpId, failure: Option<Failure>, trail: &mut Trail) {
        let performed = Performed { failure, found: self.found(host) };
        self.send(host, Cargo::Done(op, performed), trail);
    }

    /// The adapter's work. It checks at the edge what an order rests on: the time, and the guard.
    pub(crate) fn carry(&mut self, host: HostId, order: &Order, trail: &mut Trail) -> Result<(), Failure> {
        let now = self.local(host);
        if now >= order.start_by {
            return Err(Failure::TooLate);
        }
        if order.op.opens() {
            let armed = matches!(self.hosts[usize::from(host)].guard,
                Warden::Armed { epoch, until } if epoch == order.epoch && now < until);
            if !armed {
                return Err(Failure::TooLate);
            }
        }
        let one = &self.hosts[usize::from(host)].postgres;
        if !matches!(order.op, Op::Look | Op::Kill) && (one.stuck || one.stopped) {
            return Err(Failure::TimedOut);
        }
        if !order.op.replaces() && !one.stuck {
            let saved = self.save(host, &order.saved);
            if !matches!(order.op, Op::Look | Op::Stop | Op::Kill) {
                saved?;
            }
        }
        match &order.op {
            Op::Look => Ok(()),
            Op::Initdb => self.initdb(host, order),
            Op::Clone(from) => {
                let from = self.setup.host(from).ok_or(Failure::TimedOut)?;
                self.copy(host, from, order)
            }
            Op::Rewind(from) => {
                let from = self.setup.host(from).ok_or(Failure::TimedOut)?;
                self.rewind(host, from, order)
            }
            Op::SetAside => self.set_aside(host, order),
            Op::StartStandby => self.start_standby(host, trail),
            Op::StartInPlace => self.start_in_place(host, trail),
            Op::Follow(from) => {
                let from = self.setup.host(from).ok_or(Failure::TimedOut)?;
                self.follow(host, from, order.saved.highest, trail)
            }
            Op::CloseSources if self.hosts[usize::from(host)].postgres.replays => Err(Failure::TimedOut),
            Op::CloseSources => self.set_source(host, None),
            Op::Promote => self.promote(host, order.epoch, trail),
            Op::Settle => self.settle_down(host, trail),
            Op::Checkpoint => Ok(()),
            Op::Stop => self.stop(host, trail),
            Op::Kill if self.host(host).postgres.kill() => Ok(()),
            Op::Kill => Err(Failure::TimedOut),
        }
    }

    /// What describes a copy isn't written to another one.
    fn save(&mut self, host: HostId, saved: &Saved) -> Result<(), Failure> {
        let one = self.host(host);
        one.saved.highest = one.saved.highest.max(saved.highest);
        if one.saved.copy != saved.copy {
            return Err(Failure::TimedOut);
        }
        one.saved = saved.clone();
        Ok(())
    }

    fn initdb(&mut self, host: HostId, order: &Order) -> Result<(), Failure> {
        self.watch_copy(host, order);
        let one = self.host(host);
        if one.postgres.data.is_some() {
            return Err(Failure::TimedOut);
        }
        one.postgres.data = Some(Data::new(host));
        one.saved = order.saved.clone();
        Ok(())
    }

    fn copy(&mut self, host: HostId, from: HostId, order: &Order) -> Result<(), Failure> {
        let source = &self.hosts[usize::from(from)].postgres;
        let taken = self.hosts[usize::from(host)].postgres.data.is_some();
        if !self.linked(host, from) || source.process == Process::Down || source.hangs() || taken {
            return Err(Failure::TimedOut);
        }
        self.watch_copy(host, order);
        let source = &self.hosts[usize::from(from)].postgres;
        let data = source.data.clone().map(|data| Data { clean: false, signal: true, ..data });
        let one = self.host(host);
        one.postgres.data = data;
        one.saved = order.saved.clone();
        Ok(())
    }

    fn linked(&self, host: HostId, other: HostId) -> bool {
        self.passes(Site::Host(host), Site::Host(other)) && self.passes(Site::Host(other), Site::Host(host))
    }

    /// The marker comes first, and goes when all is done.
    fn rewind(&mut self, host: HostId, from: HostId, order: &Order) -> Result<(), Failure> {
        let source = &self.hosts[usize::from(from)].postgres;
        let own = &self.hosts[usize::from(host)].postgres;
        let down = own.process == Process::Down && !own.orphans;
        let (Some(data), Some(theirs)) = (own.data.clone(), source.data.clone()) else {
            return Err(Failure::TimedOut);
        };
        // It is the reign that was meant, not a later one of the same member.
        let meant = theirs.timeline().is_some_and(|timeline| timeline.epoch == order.epoch);
        let gives = source.process == Process::Primary && !source.hangs();
        if !down || !meant || !self.linked(host, from) || !gives {
            return Err(Failure::TimedOut);
        }
        self.watch_discard(host, order);
        self.watch_copy(host, order);
        let one = self.host(host);
        one.postgres.data = Some(data.rewound(&theirs));
        one.saved = Saved { mending: false, ..order.saved.clone() };
        Ok(())
    }

    /// An order that ends half-way. Only a rewind leaves traces: others are begun beside, or done again without harm.
    pub(crate) fn interrupt(&mut self, host: HostId, order: &Order) {
        let Op::Rewind(_) = order.op else { return };
        let own = &self.hosts[usize::from(host)].postgres;
        if own.process != Process::Down || own.orphans || own.stuck || own.data.is_none() {
            return;
        }
        self.watch_discard(host, order);
        let one = self.host(host);
        one.saved = order.saved.clone();
        if let Some(data) = &mut one.postgres.data {
            data.torn = true;
        }
    }

    fn set_aside(&mut self, host: HostId, order: &Order) -> Result<(), Failure> {
        if self.hosts[usize::from(host)].postgres.process == Process::Down {
            self.watch_discard(host, order);
        }
        let one = self.host(host);
        if one.postgres.process != Process::Down {
            return Err(Failure::TimedOut);
        }
        if one.postgres.data.take().is_some() {
            one.postgres.aside = (one.postgres.aside + 1).min(1);
        }
        one.saved = order.saved.clone();
        Ok(())
    }

    /// Starting in recovery means that nothing of an earlier primary is left: the guard is disarmed by it.
    fn start_standby(&mut self, host: HostId, trail: &mut Trail) -> Result<(), Failure> {
        let replays = !self.setup.instant;
        let one = self.host(host);
        let fit = one.postgres.data.as_ref().is_some_and(|data| !data.damaged);
        if !fit || one.postgres.process != Process::Down || one.postgres.orphans {
            return Err(Failure::TimedOut);
        }
        one.guard = Warden::Idle;
        one.postgres.process = Process::Recovery(None);
        if let Some(data) = &mut one.postgres.data {
            (data.clean, data.signal) = (false, true);
        }
        one.postgres.replays = replays;
        trail.possible.push(Event::Replayed(host));
        Ok(())
    }

    fn start_in_place(&mut self, host: HostId, trail: &mut Trail) -> Result<(), Failure> {
        let one = self.host(host);
        let Some(data) = &mut one.postgres.data else { return Err(Failure::TimedOut) };
        if one.postgres.process != Process::Down {
            return Err(Failure::TimedOut);
        }
        (data.clean, data.signal) = (false, false);
        data.end = Lsn(data.end.0 + 1);
        data.checkpoint = data.timelines.last().map_or(Epoch(0), |timeline| timeline.epoch);
        one.postgres.process = Process::Primary;
        one.postgres.orphans = false;
        if let Some(first) =
            self.hosts[usize::from(host)].postgres.data.as_ref().and_then(|d| d.timeline().copied())
        {
            self.record.promotions.entry(first.epoch).or_insert(first);
        }
        self.opened(host, trail);
        Ok(())
    }

    fn follow(&mut self, host: HostId, from: HostId, epoch: Epoch, trail: &mut Trail) -> Result<(), Failure> {
        self.set_source(host, Some((from, epoch)))?;
        trail.possible.push(Event::Replicate(host));
        trail.possible.push(Event::Look(from));
        Ok(())
    }

    fn set_source(&mut self, host: HostId, source: Option<(HostId, Epoch)>) -> Result<(), Failure> {
        let Process::Recovery(known) = &mut self.host(host).postgres.process else {
            return Err(Failure::TimedOut);
        };
        *known = source;
        Ok(())
    }

    /// PostgreSQL leaves recovery on the ordered timeline; the end-of-recovery record is the first of it.
    pub(crate) fn promote(&mut self, host: HostId, epoch: Epoch, trail: &mut Trail) -> Result<(), Failure> {
        let at_once = self.setup.instant && !self.setup.bounds.late_checkpoints;
        let one = self.host(host);
        let Process::Recovery(_) = one.postgres.process else { return Err(Failure::TimedOut) };
        if one.postgres.replays {
            return Err(Failure::TimedOut);
        }
        let Some(data) = &mut one.postgres.data else { return Err(Failure::TimedOut) };
        let timeline = Timeline { epoch, by: host, start: data.end };
        data.timelines.push(timeline);
        data.signal = false;
        data.end = Lsn(data.end.0 + 1);
        if at_once {
            data.checkpoint = epoch;
        }
        one.postgres.process = Process::Primary;
        self.watch_hand_over(host, epoch);
        let unwarned = self.record.unwarned == Some(epoch);
        if self.record.promotions.insert(epoch, timeline).is_some() && !unwarned {
            self.record.reused = Some(epoch);
        }
        self.opened(host, trail);
        Ok(())
    }

    /// The checkpoint that a promotion left for later.
    fn settle_down(&mut self, host: HostId, trail: &mut Trail) -> Result<(), Failure> {
        let one = self.host(host);
        if one.postgres.process != Process::Primary {
            return Err(Failure::TimedOut);
        }
        if let Some(data) = &mut one.postgres.data {
            data.checkpoint = data.timelines.last().map_or(Epoch(0), |timeline| timeline.epoch);
        }
        trail.possible.push(Event::Look(host));
        Ok(())
    }

    /// Clients get in, and standbys find what they wait for.
    fn opened(&mut self, host: HostId, trail: &mut Trail) {
        trail.possible.push(Event::Commit(host));
        self.offer(host, trail);
    }

    /// A shutdown in order sends everything up to the shutdown checkpoint to those that stream.
    fn stop(&mut self, host: HostId, trail: &mut Trail) -> Result<(), Failure> {
        let one = self.host(host);
        let wrote = one.postgres.process == Process::Primary;
        if let Some(data) = &mut one.postgres.data {
            data.clean = wrote || data.clean;
            data.end = Lsn(data.end.0 + u64::from(wrote));
            if let Some(timeline) = data.timelines.last().filter(|_| wrote) {
                data.checkpoint = timeline.epoch;
            }
        }
        if wrote {
            let all = 0..self.hosts.len() as HostId;
            let receivers: Vec<_> = all.filter(|other| self.streams(*other) == Some(host)).collect();
            for receiver in receivers {
                self.replicate(receiver, trail);
            }
        }
        let one = self.host(host);
        one.postgres.process = Process::Down;
        one.postgres.orphans = false;
        one.postgres.replays = false;
        Ok(())
    }

    /// The agent's look at its instance, by itself or after an order.
    pub fn found(&self, host: HostId) -> Found {
        let one = &self.hosts[usize::from(host)];
        if one.postgres.stuck || (one.postgres.hangs() && one.postgres.process != Process::Down) {
            return Found::NOTHING;
        }
        Found { instance: self.instance(host), saved: Some(one.saved.clone()) }
    }

    pub(crate) fn instance(&self, host: HostId) -> Instance {
        let postgres = &self.hosts[usize::from(host)].postgres;
        let Some(data) = &postgres.data else { return Instance::Absent };
        let shown = instance::Data { system: data.system, position: data.position(), forks: data.forks() };
        match postgres.process {
            Process::Down if data.damaged => Instance::Foreign(Foreign::Damaged),
            Process::Down => Instance::Stopped { data: shown, clean: data.clean, signal: data.signal },
            Process::Recovery(source) => {
                let named =
                    source.map(|(from, epoch)| (self.setup.configs[usize::from(from)].me.clone(), epoch));
                let (streaming, ready) = (self.streams(host).is_some(), !postgres.replays);
                let starved = source.is_some_and(|(from, _)| self.is_starved(host, from, data));
                Instance::Standby { data: shown, source: named, streaming, ready, starved }
            }
            Process::Primary => self.primary(host, data, shown),
        }
    }

    /// Whether the source can be asked, and says that the next WAL is gone.
    fn is_starved(&self, host: HostId, from: HostId, data: &Data) -> bool {
        let source = &self.hosts[usize::from(from)].postgres;
        let asked = self.linked(host, from) && source.process != Process::Down && !source.hangs();
        asked && source.data.as_ref().is_some_and(|theirs| data.end < theirs.kept_from)
    }

    fn primary(&self, host: HostId, data: &Data, shown: instance::Data) -> Instance {
        let epoch = data.timeline().map_or(Epoch(0), |timeline| timeline.epoch);
        let mut followers = BTreeMap::new();
        for other in 0..self.hosts.len() as HostId {
            if self.streams(other) == Some(host)
                && let Some(data) = &self.hosts[usize::from(other)].postgres.data
            {
                followers.insert(self.setup.configs[usize::from(other)].me.clone(), data.end);
            }
        }
        let position = Position { epoch, lsn: shown.position.lsn };
        let checkpointed = data.checkpoint == epoch;
        Instance::Primary { data: instance::Data { position, ..shown }, followers, checkpointed }
    }

    /// The agent looks by itself, unless it is just changing things. Whatever outlived its postmaster is killed then.
    pub(crate) fn look(&mut self, host: HostId, trail: &mut Trail) -> bool {
        let one = self.host(host);
        if !one.listens() || one.order.is_some() {
            return false;
        }
        if one.postgres.process == Process::Down {
            one.postgres.orphans = false;
        }
        let found = self.found(host);
        self.hand(host, Input::Instance(found), trail)
    }

    pub(crate) fn look_fails(&mut self, host: HostId, trail: &mut Trail) -> bool {
        let one = &self.hosts[usize::from(host)];
        if !one.listens() || one.order.is_some() {
            return false;
        }
        self.hand(host, Input::Instance(Found::NOTHING), trail)
    }
}
