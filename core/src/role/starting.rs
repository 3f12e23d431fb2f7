//! The first look around after the agent has started.

use super::Role;
use super::claiming::Kind;
use crate::event::Frozen;
use crate::instance::{Instance, Op};
use crate::node::{Node, Out};
use crate::{CopyId, Epoch, SystemId};

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

    /// Whether the data directory was made by this member and has never been part of any reign: nothing can be lost
    /// with it.
    fn is_unused(&self) -> bool {
        self.saved.copy != CopyId(0) && self.saved.lineage.is_empty()
    }

    /// Whether the data directory was made for a bootstrap that never came to its end, and this member may still bring
    /// one there with it.
    pub(super) fn is_spare(&self) -> bool {
        let open = self.view.initialize.as_ref().is_none_or(|claim| claim.system.is_none());
        self.is_unused() && open && self.view.reign.is_none() && self.read.is_some()
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

#[cfg(test)]
mod tests {
    use crate::instance::{Data, Found, Instance, Performed, Saved};
    use crate::store::{Beat, Record, Reign, Request, Response, Rule, View};
    use crate::{
        Boot, Config, CopyId, Effect, Epoch, Guard, Input, Lsn, Node, Nonce, Position, Revision, Span,
        SystemId, Time,
    };
    use alloc::collections::BTreeMap;
    use alloc::sync::Arc;
    use alloc::vec::Vec;

    /// The store while `a` reigns with this T.
    fn store(ttl: Span) -> View {
        let (epoch, holder) = (Epoch(2), crate::Name::from("a"));
        let reign =
            Reign { epoch, holder: holder.clone(), boot: Boot(1), nonce: Nonce(20), ttl, released: None };
        let rule = Rule { epoch, leader: holder, leader_copy: CopyId(1), electable: BTreeMap::new() };
        let mut view = View::default();
        let records = [Record::Reign(reign), Record::Beat(Beat { epoch, end: Lsn(9) }), Record::Rule(rule)];
        records.into_iter().for_each(|record| view.put(record, Revision(7)));
        view
    }

    fn primary() -> Instance {
        let position = Position { epoch: Epoch(2), lsn: Lsn(9) };
        let fork = Position { epoch: Epoch(1), lsn: Lsn(5) };
        let forks = Arc::new(BTreeMap::from([(Epoch(1), Position::default()), (Epoch(2), fork)]));
        Instance::Primary { data: Data { system: SystemId(1), position, forks }, followers: BTreeMap::new() }
    }

    /// The reign as the holder's new agent, which was told to use 5 s, writes it again.
    fn resumed(now: Time, until: Time, old: Span) -> Reign {
        let config = Config::new("a".into(), Span::secs(5));
        let lineage = alloc::vec![(Epoch(1), Nonce(10)), (Epoch(2), Nonce(20))];
        let saved = Saved { copy: CopyId(1), lineage, highest: Epoch(2) };
        let mut node = Node::new(Arc::new(config), Boot(2), saved);
        let mut open: Vec<Effect> = node.handle(now, Input::Guard(Guard::Armed { epoch: Epoch(2), until }));
        let mut written = None;
        while let Some(effect) = open.pop() {
            let input = match effect {
                Effect::Store { id, request: Request::Read, .. } => {
                    Input::Answered(id, Response::Read(Some(store(old))))
                }
                Effect::Store { id, request: Request::Transact(txn), .. } => {
                    let reign = txn.put.into_iter().find_map(|record| match record {
                        Record::Reign(reign) => Some(reign),
                        _ => None,
                    });
                    if written.is_some() {
                        continue;
                    }
                    written = reign;
                    Input::Answered(id, Response::Transact(crate::store::Answer::Committed(Revision(8))))
                }
                Effect::Postgres(id, _) => {
                    let found = Found { instance: primary(), saved: None };
                    Input::Performed(id, Performed { failure: None, found })
                }
                Effect::Arm { epoch, until } => Input::Guard(Guard::Armed { epoch, until }),
                Effect::Reply(..) | Effect::Tell(_) | Effect::Exit => continue,
            };
            open.extend(node.handle(now, input));
        }
        written.expect("the reign was written again")
    }

    #[test]
    fn a_shorter_lease_than_the_guard_is_armed_for_is_not_promised() {
        let now = Time(0) + Span::secs(3_600);
        // The agent before had a lease of 30 s, and has beaten just now.
        let until = now + Span::millis(29_440);
        let reign = resumed(now, until, Span::secs(30));
        assert!(now + reign.ttl > until, "others may take over while the guard still lets PostgreSQL run");
    }
}
