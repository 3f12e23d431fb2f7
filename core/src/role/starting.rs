//! The first look around after the agent has started.

use super::Role;
use super::claiming::Kind;
use crate::Epoch;
use crate::event::Frozen;
use crate::instance::{Instance, Op};
use crate::node::{Node, Out};

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

    /// Whether this node's own reign may go on under the new agent: the store still names it, and what runs (or, for a
    /// reign that was never admitted, what lies there) is just the copy and the timeline of that reign.
    fn may_resume(&self) -> bool {
        let Some(reign) = self.view.reign.as_ref().filter(|reign| reign.holder == self.config.me) else {
            return false;
        };
        if reign.released.is_some() || self.guard_lost {
            return false;
        }
        match &self.instance {
            Instance::Primary { data, .. } => {
                let ours = (reign.epoch, reign.nonce);
                data.position.epoch == reign.epoch && self.saved.lineage.last() == Some(&ours)
            }
            Instance::Stopped { data, .. } => self.may_begin_again(reign.epoch, data.position.epoch),
            Instance::Unknown
            | Instance::Absent
            | Instance::Incomplete
            | Instance::Foreign(_)
            | Instance::Standby { .. } => false,
        }
    }

    /// The first reign of a cluster, interrupted before anybody was admitted: its data directory has no ancestor to
    /// be promoted from, so it is started in place.
    fn may_begin_again(&self, reign: Epoch, data: Epoch) -> bool {
        let first = Epoch(1);
        let admitted = self.view.rule.is_some();
        reign == first && data == first && !admitted
    }

    /// Reasons to freeze that lie in the data directory or in whose cluster this is.
    pub(super) fn find_foreign(&mut self) {
        if let Instance::Foreign(why) = self.instance {
            self.frozen = Some(Frozen::ForeignData(why));
        }
        let Some(initialize) = &self.view.initialize else { return };
        if initialize.foreign {
            self.frozen = Some(Frozen::ForeignCluster);
        }
        if let (Some(clusters), Some(data)) = (initialize.system, self.instance.data())
            && clusters != data.system
        {
            self.frozen = Some(Frozen::OtherSystem { ours: data.system, clusters });
        }
    }
}
