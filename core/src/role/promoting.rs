//! Holds the lease and makes PostgreSQL writable on the timeline of its epoch, under an armed guard.

use super::leaving::Why;
use super::{Reigning, Role};
use crate::instance::{Failure, Instance, Op};
use crate::node::{Node, Out};
use crate::{Epoch, Event};

/// The first reign of a cluster starts the data directory that initdb made; there is nothing to promote from.
const FIRST: Epoch = Epoch(1);

impl Node {
    pub(super) fn promoting(&mut self, out: &mut Out) -> Option<Role> {
        let epoch = self.lease.as_ref()?.epoch;
        let own = self.writable_on_own_timeline();
        if let Some(fork) = own.filter(|_| !self.is_promoted_by_hand()) {
            // The beat that verifies the epoch and writes the rule is under way until the view shows it.
            let activated = self.view.rule.as_ref().is_some_and(|rule| rule.epoch == epoch);
            if activated {
                out.tell(Event::Leads { epoch, fork });
                return Some(Role::Primary(Reigning::default()));
            }
            return None;
        }
        if self.exiting && own.is_none() {
            if epoch == FIRST {
                // Nobody else may take the first reign, so it isn't given back; this node's next agent resumes it.
                self.lease = None;
            }
            self.leave(out, Why::Exit);
            return None;
        }
        match &self.instance {
            // A person was faster than the order: nobody could tell this timeline from one begun elsewhere.
            Instance::Primary { data, .. } if own.is_some() => {
                out.tell(Event::UnorderedPromotion { position: data.position });
                self.leave(out, Why::GivenUp);
            }
            Instance::Primary { data, .. } => {
                out.tell(Event::WrongTimeline { found: data.position.epoch, wanted: epoch });
                self.leave(out, Why::GivenUp);
            }
            Instance::Standby { .. } if epoch != FIRST => self.open(out, Op::Promote),
            Instance::Stopped { .. } if epoch == FIRST => self.open(out, Op::StartInPlace),
            Instance::Unknown => self.order(out, Op::Look),
            Instance::Standby { .. } | Instance::Stopped { .. } | Instance::Absent | Instance::Incomplete => {
                out.tell(Event::PrimaryGivenUp);
                self.leave(out, Why::GivenUp);
            }
            Instance::Foreign(_) => self.leave(out, Why::GivenUp),
        }
        None
    }

    /// Gives an order that makes PostgreSQL writable, once the guard is armed for this reign.
    pub(super) fn open(&mut self, out: &mut Out, op: Op) {
        if self.is_armed(out.now) && !self.guard_lost {
            self.order(out, op);
        } else if self.armed.is_none() && !self.guard_lost && out.now >= self.arm_again {
            self.arm(out);
        }
    }

    pub(crate) fn promotion_failed(&mut self, out: &mut Out, why: &Failure) {
        let first = self.lease.as_ref().is_some_and(|lease| lease.epoch == FIRST);
        if *why != Failure::TooLate && !first {
            out.tell(Event::PrimaryGivenUp);
            self.leave(out, Why::GivenUp);
        }
    }
}
