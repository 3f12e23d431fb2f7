//! Who may stand for election, and from when.
//!
//! | right | who | when |
//! |---|---|---|
//! | [`HandedOver`](Right::HandedOver) | listed, has everything up to the end of a clean shutdown, and knows its WAL as that reign's | at once if named, or if nobody is; else after a patience |
//! | [`Leader`](Right::Leader) | wrote the rule in force, with the copy it has now | at once if the store still names it holder, on this machine; else when the lease has lapsed |
//! | [`Consented`](Right::Consented) | an operator has named it, and knows what it may lack | when the lease has lapsed or was released |
//! | [`Listed`](Right::Listed) | listed with the copy it has now, part of the elected history, not too far behind | when the lease has lapsed or was released |
//!
//! While a holder hasn't been admitted yet (its rule isn't written), the rule before it stays the one that elects:
//! nothing that it wrote can have been acknowledged to anybody.

use crate::event::Right;
use crate::instance::Instance;
use crate::node::{Node, UNORDERED};
use crate::store::{Pledge, Refusal, Reign, Rule};
use crate::{CopyId, Epoch, Lsn, Name, Position, Time, lineage};
use alloc::collections::BTreeMap;
use core::cmp::Reverse;

impl Node {
    /// The right by which this node may stand, and the time from which it may; none if it may not.
    pub(crate) fn standing(&self) -> Option<(Right, Time)> {
        let Instance::Standby { data, ready: true, .. } = &self.instance else { return None };
        let (reign, rule) = (self.view.reign.as_ref()?, self.view.rule.as_ref()?);
        let behind = reign.epoch < self.saved.highest || self.store_is_behind().is_some();
        if self.config.priority == 0 || self.is_promoted_by_hand() || behind {
            return None;
        }
        if !lineage::is_known(&self.saved, data) {
            return None;
        }
        let listed = rule.electable.get(&self.config.me) == Some(&self.saved.copy);
        if listed && let Some(from) = self.handed_over(reign, data.position) {
            return Some((Right::HandedOver, from));
        }
        if rule.leader == self.config.me && rule.leader_copy == self.saved.copy {
            return Some((Right::Leader, self.leader_from(reign)));
        }
        let known = lineage::contains(&self.view, rule.epoch, &self.saved, data);
        if self.is_allowed(reign.epoch) {
            return Some((Right::Consented, self.listed_from(reign)));
        }
        (listed && known == Some(true)).then(|| (Right::Listed, self.listed_from(reign)))
    }

    /// Whether somebody promoted this copy without an order.
    pub(crate) fn is_promoted_by_hand(&self) -> bool {
        self.saved.lineage.iter().any(|(_, nonce)| *nonce == UNORDERED)
    }

    /// Whether the store still names this node as holder, on this machine: nobody else can have been elected, and what
    /// an earlier agent started would be seen here, so no wait is needed (hazard A28).
    pub(crate) fn holds_on_paper(&self) -> bool {
        self.view.reign.as_ref().is_some_and(|reign| {
            reign.holder == self.config.me && reign.machine == self.config.machine && reign.released.is_none()
        })
    }

    fn handed_over(&self, reign: &Reign, position: Position) -> Option<Time> {
        let released = reign.released.as_ref()?;
        let end = Position { epoch: reign.epoch, lsn: released.end? };
        // WAL of that reign that came from elsewhere, by itself: its way here isn't known, and what follows from it
        // could never be verified.
        if self.saved.lineage.last() != Some(&(reign.epoch, reign.nonce)) {
            return None;
        }
        let named = released.to.as_ref().is_none_or(|to| *to == self.config.me);
        let from = if named { self.seen } else { self.seen + self.config.handover_patience };
        (position >= end).then_some(from)
    }

    fn leader_from(&self, reign: &Reign) -> Time {
        if self.holds_on_paper() {
            return Time(0);
        }
        match &reign.released {
            // Those it was handed to come first; if nobody takes it, the old leader goes on.
            Some(_) => self.seen + self.config.handover_patience.times(2),
            None => self.seen + reign.ttl,
        }
    }

    fn listed_from(&self, reign: &Reign) -> Time {
        match &reign.released {
            Some(released) if released.end.is_some() => self.seen + self.config.handover_patience.times(3),
            Some(_) => self.seen,
            None => self.seen + reign.ttl,
        }
    }

    /// The bytes this copy lacks against the position last published by the holder.
    pub(crate) fn behind(&self, position: Position) -> u64 {
        self.view.beat.as_ref().map_or(0, |beat| beat.end.0.saturating_sub(position.lsn.0))
    }

    /// The member a switchover goes to: the named one if it is fit for it, or the best.
    pub(crate) fn target(&self, wanted: Option<&Name>) -> Result<Name, Refusal> {
        let Instance::Primary { data, followers, .. } = &self.instance else {
            return Err(Refusal::NoCandidate);
        };
        let fit = |name: &Name, flushed: Lsn| self.is_fit(name, flushed, data.position.lsn);
        if let Some(name) = wanted {
            let flushed = followers.get(name).ok_or(Refusal::NotStreaming)?;
            return fit(name, *flushed).map(|()| name.clone());
        }
        let candidates = followers.iter().filter(|(name, flushed)| fit(name, **flushed).is_ok());
        let best = candidates.min_by_key(|(name, flushed)| {
            let priority = self.view.members.get(*name).map_or(0, |member| member.priority);
            (Reverse(**flushed), Reverse(priority), (*name).clone())
        });
        best.map(|(name, _)| name.clone()).ok_or(Refusal::NoCandidate)
    }

    fn is_fit(&self, name: &Name, flushed: Lsn, end: Lsn) -> Result<(), Refusal> {
        let member = self.view.members.get(name).ok_or(Refusal::NotEligible)?;
        let rule = self.view.rule.as_ref().ok_or(Refusal::NotEligible)?;
        if member.priority == 0 || rule.electable.get(name) != Some(&member.copy) {
            return Err(Refusal::NotEligible);
        }
        if end.0.saturating_sub(flushed.0) > self.config.lag_bytes_max {
            return Err(Refusal::TooFarBehind);
        }
        Ok(())
    }

    /// The rule this holder wants in force: everyone that streams from it may be elected, and whoever could be before
    /// stays, as long as it is the same copy. Who is not part of the elected history by then can't use it.
    pub(crate) fn wanted_rule(&self, epoch: Epoch) -> Rule {
        let me = &self.config.me;
        let mut electable: BTreeMap<Name, CopyId> = BTreeMap::new();
        if let Some(rule) = &self.view.rule {
            electable.extend(rule.electable.iter().map(|(name, copy)| (name.clone(), *copy)));
            electable.insert(rule.leader.clone(), rule.leader_copy);
        }
        electable.retain(|name, copy| {
            self.view.members.get(name).is_none_or(|member| member.copy == *copy && member.priority > 0)
        });
        if let Instance::Primary { followers, .. } = &self.instance {
            let members = followers.keys().filter_map(|name| self.view.members.get(name));
            let able = members.filter(|member| member.priority > 0);
            electable.extend(able.map(|member| (member.name.clone(), member.copy)));
        }
        electable.remove(me);
        Rule { epoch, leader: me.clone(), leader_copy: self.saved.copy, electable }
    }
}

/// How good a candidate is; the greatest goes first. Position before everything else, then preference, then name.
pub(crate) fn merit(pledge: &Pledge, priority: u32) -> (Position, u32, Reverse<&Name>) {
    (pledge.position, priority, Reverse(&pledge.member))
}
