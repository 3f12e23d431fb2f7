//! Asks the store for the lease, in one transaction over everything the claim rests on.
//!
//! Its outcome may stay unknown for a while. Then it is sent again just as it was, with the same mark, and the lease,
//! if won, counts from the first sending: whichever of them was applied, it was sent no earlier.

use super::Role;
use crate::event::Right;
use crate::instance::Instance;
use crate::node::{Node, Out};
use crate::store::{Beat, EpochRecord, Initialize, Key, Record, Reign};
use crate::{Epoch, Event, Lsn, Nonce, Position, Revision, Span, Time};
use alloc::vec;
use alloc::vec::Vec;

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// What is asked for.
    pub kind: Kind,
    /// The reign to be.
    pub epoch: Epoch,
    /// Its mark.
    pub nonce: Nonce,
    /// When it was first sent.
    pub(crate) sent: Time,
    /// Reign and beat as compared.
    pub(crate) base: (Revision, Revision),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The first reign of a cluster.
    First,
    /// A new reign.
    Takeover(Right),
    /// This node's own reign, under the new agent.
    Resume,
}

impl Node {
    /// Sends a claim and goes over to waiting for its outcome; none if no request can be sent just now.
    pub(super) fn claim(&mut self, out: &mut Out, kind: Kind) -> Option<Role> {
        if self.asking.is_some() || out.now < self.ask_again {
            return None;
        }
        let position = self.instance.data()?.position;
        let reign = self.view.reign.as_ref();
        let (epoch, nonce) = match (kind, reign) {
            (Kind::Resume, Some(reign)) => (reign.epoch, reign.nonce),
            (Kind::Resume | Kind::First | Kind::Takeover(_), _) => {
                let known = reign.map_or(Epoch(0), |reign| reign.epoch);
                let written = if kind == Kind::First { Epoch(0) } else { position.epoch };
                let highest = known.max(self.saved.highest).max(written);
                (highest.next(), Nonce(self.draw()))
            }
        };
        if let Kind::Takeover(right) = kind {
            out.tell(Event::Stands { epoch, right, position });
        }
        let claim = Claim { kind, epoch, nonce, sent: out.now, base: self.lease_revisions() };
        self.send_claim(out, &claim);
        Some(Role::Claiming(claim))
    }

    fn send_claim(&mut self, out: &mut Out, claim: &Claim) {
        let reign = Reign {
            epoch: claim.epoch,
            holder: self.config.me.clone(),
            boot: self.boot,
            machine: self.config.machine,
            nonce: claim.nonce,
            ttl: self.promised_ttl(claim.kind),
            released: None,
        };
        let ours = self.instance.data().map_or(Lsn(0), |data| data.position.lsn);
        let end = match &self.view.beat {
            Some(beat) if claim.kind == Kind::Resume => beat.end,
            // Who isn't admitted in the end has moved nothing: whoever stands next may lack no more than this one might.
            Some(beat) => beat.end.max(ours),
            None => ours,
        };
        let mut put = vec![Record::Reign(reign), Record::Beat(Beat { epoch: claim.epoch, end })];
        if claim.kind != Kind::Resume {
            let (holder, nonce) = (self.config.me.clone(), claim.nonce);
            put.push(Record::Epoch(EpochRecord {
                epoch: claim.epoch,
                holder,
                nonce,
                fork: None,
                checkpointed: false,
            }));
        }
        if claim.kind == Kind::First {
            put.extend(self.initialized());
        }
        self.ask_to_put(out, &[Key::Rule], put);
    }

    /// The T of the reign to be. One that is resumed is never shortened: the guard may be armed for as long as the
    /// agent before was promised. Its holder then counts on less than others wait for (hazard A54).
    fn promised_ttl(&self, kind: Kind) -> Span {
        match (kind, &self.view.reign) {
            (Kind::Resume, Some(reign)) => reign.ttl.max(self.config.ttl),
            (Kind::Resume | Kind::First | Kind::Takeover(_), _) => self.config.ttl,
        }
    }

    /// The claim to the bootstrap, made good.
    fn initialized(&self) -> Vec<Record> {
        let claim = self.view.initialize.iter();
        let system = self.instance.data().map(|data| data.system);
        claim
            .map(|claim| Record::Initialize(Initialize { system, ..Initialize::clone(&claim.value) }))
            .collect()
    }

    /// Waits for the outcome of the claim, and settles it from what the store shows.
    pub(super) fn claiming(&mut self, out: &mut Out) -> Option<Role> {
        let Role::Claiming(claim) = self.role.clone() else { return None };
        if self.holds(&claim) {
            return Some(self.won(out, &claim));
        }
        let overtaken = self.lease_revisions() != claim.base;
        if overtaken || self.frozen.is_some() || self.store_is_behind().is_some() {
            if self.is_late_beat(&claim) {
                return Some(Role::Starting);
            }
            if let Some(reign) = self.view.reign.as_ref().filter(|_| overtaken) {
                let (holder, moved_on) = (reign.holder.clone(), reign.epoch >= claim.epoch);
                out.tell(if moved_on {
                    Event::LostElection { to: holder }
                } else {
                    Event::HolderIsBack { holder }
                });
            }
            return Some(Role::Standby);
        }
        if self.asking.is_none() && self.exiting {
            // The store doesn't answer. Should the claim be applied after all, then to nobody: it lapses.
            return Some(Role::Standby);
        }
        if self.asking.is_none() && !self.stale {
            self.send_claim(out, &claim);
        }
        None
    }

    /// Whether nothing came in the way of resuming but the last beat of the agent before: the reign is still as it was.
    fn is_late_beat(&self, claim: &Claim) -> bool {
        let same = self.view.reign.as_ref().is_some_and(|reign| reign.revision == claim.base.0);
        claim.kind == Kind::Resume && same && self.frozen.is_none()
    }

    /// Whether the store shows this claim as applied. A reign that is resumed looks the same before, so it must also
    /// have been written since.
    fn holds(&self, claim: &Claim) -> bool {
        let Some(reign) = &self.view.reign else { return false };
        let ours = reign.nonce == claim.nonce && reign.boot == self.boot && reign.released.is_none();
        ours && reign.revision != claim.base.0
    }

    /// A claim that turns out to be won only after its fence is worth nothing: this node then stands anew.
    fn won(&mut self, out: &mut Out, claim: &Claim) -> Role {
        self.saved.highest = self.saved.highest.max(claim.epoch);
        if out.now + self.config.stop_budget >= claim.sent + self.config.authority() {
            out.tell(Event::LostLease { to: None });
            return Role::Standby;
        }
        self.begin_lease(out, claim.epoch, claim.nonce, claim.sent);
        match claim.kind {
            Kind::Resume => out.tell(Event::Resumed { epoch: claim.epoch }),
            Kind::First | Kind::Takeover(_) => {
                let fence_in = self.fence().unwrap_or_default().since(out.now);
                out.tell(Event::Took { epoch: claim.epoch, fence_in });
            }
        }
        Role::Promoting
    }

    /// Whether PostgreSQL is writable on the timeline of the lease this node holds.
    pub(super) fn writable_on_own_timeline(&self) -> Option<Position> {
        match (&self.instance, &self.lease) {
            (Instance::Primary { data, .. }, Some(lease)) if data.position.epoch == lease.epoch => {
                Some(data.forks.get(&lease.epoch).copied().unwrap_or_default())
            }
            (_, _) => None,
        }
    }
}
