//! A member without data, or with a directory made for a bootstrap that was interrupted: it makes the first data
//! directory of the cluster, or copies the primary's.

use super::Role;
use super::claiming::Kind;
use crate::instance::{Instance, Op};
use crate::node::{Node, Out, Timer};
use crate::store::{Initialize, Key, Record};
use crate::{Epoch, Event, Name, Span, Time, lineage};
use alloc::vec;

impl Node {
    /// How long a claim to the bootstrap is respected without anything coming of it.
    fn claim_patience(&self) -> Span {
        self.config.ttl.times(6)
    }

    pub(super) fn vacant(&mut self, out: &mut Out) -> Option<Role> {
        self.find_foreign();
        if let Some(role) = self.held_back(out) {
            return Some(role);
        }
        match self.instance {
            Instance::Absent => {}
            Instance::Unknown => {
                self.order(out, Op::Look);
                return None;
            }
            Instance::Incomplete => {
                self.order(out, Op::SetAside);
                return None;
            }
            Instance::Stopped { .. } if self.is_spare() => {}
            Instance::Foreign(_)
            | Instance::Stopped { .. }
            | Instance::Standby { .. }
            | Instance::Primary { .. } => {
                return Some(Role::Standby);
            }
        }
        if self.stale || self.lane.is_some() {
            return None;
        }
        if self.view.reign.is_some() { self.copy(out) } else { self.bid(out) }
    }

    /// Copies the primary's data, once there is a primary whose history is verified.
    fn copy(&mut self, out: &mut Out) -> Option<Role> {
        if let Some(holder) = self.source() {
            self.order(out, Op::Clone(holder));
        }
        None
    }

    /// The member to take WAL or a copy from: the holder of a reign that is verified and not given back.
    pub(super) fn source(&self) -> Option<Name> {
        let reign = self.view.reign.as_ref()?;
        let usable = reign.released.is_none() && reign.holder != self.config.me;
        let verified = lineage::path(&self.view, reign.epoch).is_some() && self.store_is_behind().is_none();
        (usable && verified && reign.epoch >= self.saved.highest).then(|| reign.holder.clone())
    }

    /// Bids for the right to make the first data directory.
    fn bid(&mut self, out: &mut Out) -> Option<Role> {
        if self.saved.highest > Epoch(0) || self.store_is_behind().is_some() {
            return None;
        }
        let free = match &self.view.initialize {
            None => true,
            Some(claim) if claim.by == self.config.me && claim.boot == self.boot => {
                out.tell(Event::ClaimedBootstrap);
                return Some(Role::Bootstrap);
            }
            Some(claim) if claim.by == self.config.me => true,
            Some(_) => out.now >= self.seen + self.claim_patience(),
        };
        if free && self.config.priority > 0 {
            let (by, boot) = (self.config.me.clone(), self.boot);
            let claim = Record::Initialize(Initialize { by, boot, system: None, foreign: false });
            self.ask_to_put(out, &[Key::Reign], vec![claim]);
        }
        None
    }

    /// Holds the claim: makes the data directory, then takes the first reign.
    pub(super) fn bootstrap(&mut self, out: &mut Out) -> Option<Role> {
        if let Some(role) = self.held_back(out) {
            return Some(role);
        }
        let claim = self.view.initialize.as_ref();
        let mine = claim.is_some_and(|claim| claim.by == self.config.me && claim.boot == self.boot);
        if !mine || self.view.reign.is_some() {
            return Some(Role::Standby);
        }
        match self.instance {
            Instance::Absent => self.order(out, Op::Initdb),
            Instance::Incomplete => self.order(out, Op::SetAside),
            Instance::Unknown => self.order(out, Op::Look),
            Instance::Stopped { .. } if !self.stale => return self.claim(out, Kind::First),
            Instance::Stopped { .. } => {}
            Instance::Foreign(_) | Instance::Standby { .. } | Instance::Primary { .. } => {
                return Some(Role::Standby);
            }
        }
        None
    }

    pub(super) fn vacant_timers(&self, timer: &mut dyn FnMut(Time, Timer)) {
        if self.view.reign.is_none() && self.view.initialize.is_some() {
            timer(self.seen + self.claim_patience(), Timer::Election);
        }
    }
}
