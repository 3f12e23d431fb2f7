//! The first look around after the agent has started.

use super::Role;
use super::claiming::Kind;
use crate::event::Frozen;
use crate::instance::{Instance, Op};
use crate::node::{Node, Out};
use crate::{CopyId, Epoch, SystemId, Time};

impl Node {
    pub(super) fn starting(&mut self, out: &mut Out) -> Option<Role> {
        if self.instance == Instance::Unknown {
            self.order(out, Op::Look);
        }
        if let Some(role) = self.held_back(out) {
            return Some(role);
        }
        if self.read.is_none() || self.instance == Instance::Unknown {
            return None;
        }
        if self.may_resume() {
            return self.claim(out, Kind::Resume);
        }
        Some(Role::Standby)
    }

    /// Whether this node's own reign may go on under the new agent: the store still names it, and what runs is just the
    /// copy and the timeline of that reign. Or nobody was admitted in it yet.
    fn may_resume(&self) -> bool {
        let Some(reign) = self.view.reign.as_ref().filter(|_| self.holds_on_paper()) else { return false };
        if self.store_is_behind().is_some() {
            return false;
        }
        let Instance::Primary { data, .. } = &self.instance else { return self.may_begin_again() };
        let ours = (reign.epoch, reign.nonce);
        data.position.epoch == reign.epoch && self.saved.lineage.last() == Some(&ours) && !self.guard_lost
    }

    /// The first reign of a cluster, interrupted before anybody was admitted: its data directory has no ancestor to
    /// be promoted from, and nobody else can have been elected, so it is started in place again, in the same reign.
    pub(super) fn may_begin_again(&self) -> bool {
        let Some(reign) = self.view.reign.as_ref() else { return false };
        let first = reign.epoch == Epoch(1) && reign.holder == self.config.me;
        first && self.view.rule.is_none() && matches!(self.instance, Instance::Stopped { .. })
    }

    /// From when that is so: at once where an earlier agent of this name can have left nothing that runs unseen.
    pub(super) fn begins_again_from(&self) -> Option<Time> {
        let reign = self.view.reign.as_ref().filter(|_| self.may_begin_again())?;
        Some(if reign.machine == self.config.machine { Time(0) } else { self.seen + reign.ttl })
    }

    /// Whether the data directory was made by this member and has never been part of any reign: nothing can be lost
    /// with it.
    fn is_unused(&self) -> bool {
        self.saved.copy != CopyId(0) && self.saved.lineage.is_empty()
    }

    /// Whether the data directory was made for a bootstrap that never came to its end, and this member may still bring
    /// one there with it.
    pub(super) fn is_spare(&self) -> bool {
        let open = self.view.initialize.as_ref().is_none_or(|claim| claim.system.is_none());
        self.is_unused() && open && self.view.reign.is_none()
    }

    /// Reasons to freeze that lie in the data directory or in whose cluster this is.
    pub(super) fn find_foreign(&mut self) {
        if let Instance::Foreign(why) = self.instance {
            self.frozen = Some(Frozen::ForeignData(why));
        }
        if self.view.initialize.as_ref().is_some_and(|initialize| initialize.foreign) {
            self.frozen = Some(Frozen::ForeignCluster);
        }
        if let Some((ours, clusters)) = self.other_system()
            && !self.is_unused()
        {
            self.frozen = Some(Frozen::OtherSystem { ours, clusters });
        }
    }

    /// A data directory that this member made for a bootstrap, which another member then won.
    pub(super) fn is_of_another_bootstrap(&self) -> bool {
        self.is_unused() && self.other_system().is_some()
    }

    /// The data's system identifier and the cluster's, if they differ.
    fn other_system(&self) -> Option<(SystemId, SystemId)> {
        let (ours, clusters) = (self.instance.data()?.system, self.view.initialize.as_ref()?.system?);
        (ours != clusters).then_some((ours, clusters))
    }
}
