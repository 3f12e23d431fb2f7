//! Makes PostgreSQL stop, and gives the lease back once no process of the instance is left.

use super::Role;
use crate::instance::{Instance, Op};
use crate::node::{Blind, Node, Out};
use crate::{Event, Name};

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leaving {
    /// Why it stops.
    pub(crate) why: Why,
    /// A kill didn't come to its end: nobody knows what still runs. No beat keeps the lease from lapsing from then on.
    pub(crate) unsure: bool,
}

/// Why a holder stops its PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// No beat was confirmed for too long: an orderly stop while the fence isn't near yet.
    LeaseEnds,
    /// The lease is gone.
    Lost,
    /// An operator wants another primary.
    HandOver(Option<Name>),
    /// The agent is to stop.
    Exit,
    /// PostgreSQL doesn't become, or stay, writable.
    GivenUp,
}

impl Node {
    /// Goes over to stopping PostgreSQL, from any role that holds a lease.
    pub(crate) fn leave(&mut self, out: &mut Out, why: Why) {
        self.role = Role::Leaving(Leaving { why, unsure: false });
        self.stop(out);
    }

    /// In order where there is time for it; else by killing every process.
    fn stop(&mut self, out: &mut Out) {
        let Role::Leaving(leaving) = &self.role else { return };
        let orderly = match leaving.why {
            Why::LeaseEnds | Why::HandOver(_) | Why::Exit => {
                matches!(self.instance, Instance::Primary { .. }) && !self.hangs(out.now)
            }
            Why::Lost | Why::GivenUp => false,
        };
        self.order_instead(out, if orderly && self.lease.is_some() { Op::Stop } else { Op::Kill });
    }

    pub(super) fn leaving(&mut self, out: &mut Out) -> Option<Role> {
        let down = match self.instance {
            Instance::Stopped { .. } | Instance::Absent | Instance::Incomplete | Instance::Foreign(_) => true,
            Instance::Unknown => self.blind == Blind::Killed,
            Instance::Standby { .. } | Instance::Primary { .. } => false,
        };
        if !down {
            if self.lane.is_none() {
                self.stop(out);
            }
            return None;
        }
        // A stop or kill under way may have been ordered while a start was: its answer is the proof.
        if self.lane.is_some() {
            return None;
        }
        if self.lease.is_none() {
            return Some(Role::Standby);
        }
        let released = self.view.reign.as_ref().and_then(|reign| reign.released.clone());
        let released = released?;
        out.tell(Event::Released { clean: released.end.is_some() });
        self.lease = None;
        Some(Role::Standby)
    }
}
