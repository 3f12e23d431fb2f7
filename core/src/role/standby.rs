//! A member with data and without the lease: follows the primary, mends its own copy, or finds that it may stand.

use super::claiming::Kind;
use super::{Candidate, Role};
use crate::event::Right;
use crate::instance::{Data, Instance, Op};
use crate::node::{Node, Out, Timer};
use crate::store::{Pledge, Record};
use crate::{Epoch, Event, Name, Position, Time, lineage};
use alloc::vec;

impl Node {
    pub(super) fn standby(&mut self, out: &mut Out) -> Option<Role> {
        self.find_foreign();
        if let Some(role) = self.held_back(out) {
            return Some(role);
        }
        self.learn_lineage();
        match self.instance.clone() {
            Instance::Absent => return Some(Role::Vacant),
            Instance::Incomplete => self.order(out, Op::SetAside),
            Instance::Unknown => self.order(out, Op::Look),
            Instance::Foreign(_) => {}
            Instance::Primary { data, .. } => self.unordered_promotion(out, &data),
            Instance::Stopped { .. } if self.may_begin_again() && !self.stale => {
                let due = self.begins_again_from().is_some_and(|from| out.now >= from);
                return if due { self.claim(out, Kind::Resume) } else { None };
            }
            Instance::Stopped { .. } if self.is_spare() => return Some(Role::Vacant),
            Instance::Stopped { data, .. } => self.stopped(out, &data),
            Instance::Standby { data, source, .. } => return self.in_recovery(out, data, source),
        }
        None
    }

    /// Writable without the lease: a person promoted it, or it outlived a reign.
    fn unordered_promotion(&mut self, out: &mut Out, data: &Data) {
        if self.lane.is_none() {
            out.tell(Event::UnorderedPromotion { position: data.position });
        }
        self.kill(out);
    }

    fn stopped(&mut self, out: &mut Out, data: &Data) {
        if self.lane.is_some() || self.may_begin_again() {
            return;
        }
        let heard_of = self.view.reign.as_ref().map_or(Epoch(0), |reign| reign.epoch);
        if self.stale && data.position.epoch > heard_of {
            return;
        }
        if self.is_given_up(out.now) {
            self.order(out, Op::SetAside);
        } else if self.is_to_be_mended(out.now, data) || self.is_of_another_bootstrap() {
            self.mend(out, data);
        } else if !self.is_promoted_by_hand() {
            // Its WAL may look like that of an elected reign, and others would take it: it stays down until it is
            // known to be superfluous, or a person decides.
            self.order(out, Op::StartStandby);
        }
    }

    fn in_recovery(&mut self, out: &mut Out, data: Data, source: Option<(Name, Epoch)>) -> Option<Role> {
        if self.look && self.lane.is_none() {
            self.order(out, Op::Look);
            self.look = self.lane.is_none();
        }
        if let Some(role) = self.stand_if_due(out) {
            return Some(role);
        }
        let contained = self.is_contained(&data);
        if contained == Some(true) {
            self.notice_starvation(out, &data, source.as_ref());
        }
        if self.is_of_another_bootstrap() || self.is_given_up(out.now) {
            self.order(out, Op::Stop);
            return None;
        }
        if contained == Some(true) {
            self.follow(out, source);
        } else if self.is_to_be_mended(out.now, &data) {
            self.order(out, Op::Stop);
        }
        None
    }

    /// Whether this copy has left the history of the present reign, and its holder lives. If that one is gone, this may
    /// be the last copy that can lead: it runs in recovery, for an operator to decide.
    fn is_to_be_mended(&self, now: Time, data: &Data) -> bool {
        self.living_source(now).is_some() && self.is_contained(data) == Some(false)
    }

    /// PostgreSQL may have followed its source onto a newer timeline by itself.
    pub(super) fn learn_lineage(&mut self) {
        self.notice_unordered_promotion();
        let Some(data) = self.instance.data() else { return };
        if self.stale || self.saved.lineage.last().is_none_or(|(last, _)| *last >= data.position.epoch) {
            return;
        }
        let followed = lineage::followed(&self.view, &self.saved, data);
        self.saved.lineage.extend(followed);
        self.saved.highest =
            self.saved.highest.max(self.saved.lineage.last().map_or(Epoch(0), |(last, _)| *last));
    }

    /// Whether the copy is part of the history of the present primary, another member; none if that can't be said.
    pub(crate) fn is_contained(&self, data: &Data) -> Option<bool> {
        let reign = self.view.reign.as_ref()?;
        if self.source().is_none() || self.stale {
            return None;
        }
        lineage::contains(&self.view, reign.epoch, &self.saved, data)
    }

    /// Brings a copy that has left the elected history back, in the gentlest way there is: by a rewind, as soon as the
    /// primary can be rewound to; else it is moved aside, and the primary's copied anew.
    fn mend(&mut self, out: &mut Out, data: &Data) {
        let epoch = self.view.reign.as_ref().map_or(Epoch(0), |reign| reign.epoch);
        let (left, position) = (self.left_elected(), data.position);
        match (self.source(), left.filter(|_| self.may_be_rewound())) {
            (Some(to), Some(left)) => {
                let op = Op::Rewind(to.clone());
                let checkpointed = self.view.epochs.get(&epoch).is_some_and(|record| record.checkpointed);
                if checkpointed && self.may_order(out.now, &op) {
                    out.tell(Event::Rewinds { to, left, position });
                    self.order(out, op);
                }
            }
            (_, _) => {
                if self.may_order(out.now, &Op::SetAside) {
                    out.tell(Event::NotContained { epoch, position, left });
                    self.order(out, Op::SetAside);
                }
            }
        }
    }

    fn may_be_rewound(&self) -> bool {
        let hopeless = self.beyond_rewinding == self.saved.copy;
        self.config.rewind && !hopeless && lineage::tells_apart(&self.view, &self.saved)
    }

    /// Gives up a copy that waits for WAL which nobody can give it any more.
    fn notice_starvation(&mut self, out: &mut Out, data: &Data, source: Option<&(Name, Epoch)>) {
        let Instance::Standby { starved: true, .. } = self.instance else { return };
        let (Some(source), Some(reign)) = (source, self.view.reign.as_ref()) else { return };
        let present = *source == (reign.holder.clone(), reign.epoch) && self.living_source(out.now).is_some();
        if present && self.lane.is_none() && !self.is_given_up(out.now) {
            self.given_up = Some((self.saved.copy, reign.epoch));
            out.tell(Event::Starved { source: source.0.clone(), position: data.position });
        }
    }

    /// Whether this copy is to be replaced by one of the present holder's. That one must live: another may have what it
    /// lacks, or need what this copy has.
    fn is_given_up(&self, now: Time) -> bool {
        let lives = |epoch| self.living_source(now).is_some_and(|(_, present)| present == epoch);
        self.given_up.is_some_and(|(copy, epoch)| copy == self.saved.copy && lives(epoch))
    }

    /// The member to take a copy from, and its reign, if its lease hasn't lapsed as far as this node can tell.
    pub(crate) fn living_source(&self, now: Time) -> Option<(Name, Epoch)> {
        let reign = self.view.reign.as_ref().filter(|reign| !self.stale && now < self.seen + reign.ttl)?;
        Some((self.source()?, reign.epoch))
    }

    /// Where this copy leaves the history of the present reign, if it does.
    pub(crate) fn left_elected(&self) -> Option<Position> {
        let (data, reign) = (self.instance.data()?, self.view.reign.as_ref()?);
        lineage::left(&self.view, reign.epoch, &self.saved, data).filter(|left| *left < data.position)
    }

    /// Opens the source of WAL, if it isn't; a pledge about the present reign is withdrawn first.
    fn follow(&mut self, out: &mut Out, source: Option<(Name, Epoch)>) {
        let (Some(holder), Some(reign)) = (self.source(), self.view.reign.clone()) else { return };
        if source == Some((holder.clone(), reign.epoch)) {
            return;
        }
        if let Some(pledge) = self.view.pledges.get(&self.config.me)
            && pledge.held
            && pledge.epoch >= reign.epoch
        {
            let withdrawn = Pledge { held: false, ..Pledge::clone(&pledge.value) };
            self.ask_to_put(out, &[crate::store::Key::Reign], vec![Record::Pledge(withdrawn)]);
            return;
        }
        let op = Op::Follow(holder.clone());
        if self.may_order(out.now, &op) {
            out.tell(Event::Follows { source: holder, epoch: reign.epoch });
            self.order(out, op);
        }
    }

    /// Goes over to the election if this node may stand now.
    fn stand_if_due(&mut self, out: &mut Out) -> Option<Role> {
        if self.stale || self.lane.is_some() {
            return None;
        }
        let (right, from) = self.standing()?;
        if out.now < from {
            return None;
        }
        match right {
            Right::HandedOver => self.claim(out, Kind::Takeover(right)),
            Right::Leader | Right::Listed | Right::Consented if self.read.is_none_or(|read| read < from) => {
                // A watch may have gone silent: closing the sources of a healthy primary would be for nothing.
                self.ask(out, crate::store::Request::Read);
                None
            }
            Right::Leader => self.claim(out, Kind::Takeover(right)),
            Right::Listed | Right::Consented => {
                self.tell_lapse(out);
                Some(Role::Candidate(Candidate::new(self, out.now)))
            }
        }
    }

    fn tell_lapse(&self, out: &mut Out) {
        let Some(reign) = &self.view.reign else { return };
        let holder = reign.holder.clone();
        out.tell(match reign.released {
            Some(_) => Event::SawRelease { holder },
            None => Event::Lapsed { holder, after: out.now.since(self.seen) },
        });
    }

    pub(super) fn standby_timers(&self, timer: &mut dyn FnMut(Time, Timer)) {
        let from = self.standing().map(|(_, from)| from).or_else(|| self.begins_again_from());
        if let Some(from) = from {
            timer(from, Timer::Election);
        }
    }
}
