//! Stands for a lapsed lease: closes its WAL sources, publishes its position, and lets the best go first.

use super::Role;
use super::claiming::Kind;
use crate::election::merit;
use crate::event::Right;
use crate::instance::{Instance, Op};
use crate::node::{Node, Out, Timer};
use crate::store::{At, Key, Pledge, Record};
use crate::{Event, Name, Revision, Time};
use alloc::vec;
use alloc::vec::Vec;

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// Reign and beat as they were when it began to stand. If either moves, the holder lives or somebody was faster.
    pub(crate) base: (Revision, Revision),
    /// When it began to stand.
    pub(crate) since: Time,
    /// Its sources were proved closed, and its position read after that.
    pub(crate) closed: bool,
    /// When it is its turn, if others go first; told once.
    pub(crate) yields: bool,
}

impl Candidate {
    pub(crate) fn new(node: &Node, now: Time) -> Candidate {
        Candidate { base: node.lease_revisions(), since: now, closed: false, yields: false }
    }
}

impl Node {
    pub(super) fn candidate(&mut self, out: &mut Out) -> Option<Role> {
        let Role::Candidate(candidate) = self.role.clone() else { return None };
        if let Some(role) = self.held_back(out) {
            return Some(role);
        }
        if self.lease_revisions() != candidate.base {
            self.tell_why_not(out);
            return Some(Role::Standby);
        }
        if !matches!(self.instance, Instance::Standby { .. }) {
            return Some(Role::Standby);
        }
        if !candidate.closed {
            self.order(out, Op::CloseSources);
            return None;
        }
        // Until its sources were closed, its PostgreSQL may have gone on, to another timeline as well.
        self.learn_lineage();
        if self.standing().is_none() {
            return Some(Role::Standby);
        }
        let position = self.instance.data()?.position;
        let (epoch, member) = (self.view.reign.as_ref()?.epoch, self.config.me.clone());
        let pledge = Pledge { member, epoch, held: true, position, copy: self.saved.copy };
        if self.view.pledges.get(&self.config.me).is_none_or(|known| *known.value != pledge) {
            self.ask_to_put(out, &[Key::Reign], vec![Record::Pledge(pledge)]);
            return None;
        }
        if self.is_allowed(epoch) {
            // Whoever consented has seen where this copy ends, and waits for no better one.
            return self.claim(out, Kind::Takeover(Right::Consented));
        }
        if out.now < self.turn(&candidate) || self.asking.is_some() {
            self.tell_yield(out, &pledge);
            return None;
        }
        let behind = self.behind(position);
        if behind > self.config.lag_bytes_max {
            self.tell_too_far(out, behind);
            return None;
        }
        self.claim(out, Kind::Takeover(Right::Listed))
    }

    fn tell_why_not(&self, out: &mut Out) {
        let Some(reign) = &self.view.reign else { return };
        let holder = reign.holder.clone();
        let Role::Candidate(candidate) = &self.role else { return };
        let moved_on = self.view.revision(&Key::Reign) != candidate.base.0;
        out.tell(if moved_on { Event::LostElection { to: holder } } else { Event::HolderIsBack { holder } });
    }

    fn tell_yield(&mut self, out: &mut Out, ours: &Pledge) {
        let better = self.rivals().into_iter().find(|rival| self.merit_of(rival) > self.merit_of(ours));
        let (Some(better), Role::Candidate(candidate)) = (better, &mut self.role) else { return };
        if !candidate.yields {
            candidate.yields = true;
            let best = better.member.clone();
            out.tell(Event::NotBest { best, theirs: better.position, ours: ours.position });
        }
    }

    fn tell_too_far(&mut self, out: &mut Out, behind: u64) {
        let bound = self.config.lag_bytes_max;
        let Role::Candidate(candidate) = &mut self.role else { return };
        if !candidate.yields {
            candidate.yields = true;
            out.tell(Event::TooFarBehind { behind, bound });
        }
    }

    /// When this candidate's turn comes: at once if it has heard from everybody who may stand and is the best; later,
    /// the more are better; and if somebody is silent, not before the window for positions has passed.
    fn turn(&self, candidate: &Candidate) -> Time {
        let own = self.view.pledges.get(&self.config.me).map(|pledge| self.merit_of(pledge));
        let rivals = self.rivals();
        let better = rivals.iter().filter(|rival| Some(self.merit_of(rival)) > own).count() as u64;
        let patience = self.config.handover_patience.times(better);
        if rivals.len() == self.expected().count() {
            candidate.since + patience
        } else {
            candidate.since + self.config.election_window + patience
        }
    }

    fn merit_of<'a>(&self, pledge: &'a Pledge) -> (crate::Position, u32, core::cmp::Reverse<&'a Name>) {
        merit(pledge, self.view.members.get(&pledge.member).map_or(0, |member| member.priority))
    }

    /// The others that may stand: everybody electable but the holder that has gone.
    fn expected(&self) -> impl Iterator<Item = (&Name, &crate::CopyId)> {
        let holder = self.view.reign.as_ref().map(|reign| &reign.holder);
        let electable = self.view.rule.iter().flat_map(|rule| rule.electable.iter());
        electable.filter(move |(name, _)| **name != self.config.me && Some(*name) != holder)
    }

    /// The others' positions, of just this election and of the copies that may be elected.
    fn rivals(&self) -> Vec<At<Pledge>> {
        let epoch = self.view.reign.as_ref().map(|reign| reign.epoch);
        let heard = self.expected().filter_map(|(name, copy)| {
            let pledge = self.view.pledges.get(name)?;
            (pledge.held && Some(pledge.epoch) == epoch && pledge.copy == *copy).then(|| pledge.clone())
        });
        heard.collect()
    }

    pub(super) fn candidate_timers(&self, candidate: &Candidate, timer: &mut dyn FnMut(Time, Timer)) {
        if candidate.closed {
            timer(self.turn(candidate), Timer::Election);
        }
    }
}
