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
        let verified = lineage::path(&self.view, reign.epoch).is_some();
        (usable && verified && reign.epoch >= self.saved.highest).then(|| reign.holder.clone())
    }

    /// Bids for the right to make the first data directory.
    fn bid(&mut self, out: &mut Out) -> Option<Role> {
        if self.saved.highest > Epoch(0) {
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

#[cfg(test)]
mod tests {
    use crate::instance::{Data, Failure, Found, Instance, Op, Order, Performed, Saved};
    use crate::store::{Answer, Initialize, News, Record, Request, Response, View};
    use crate::{
        Boot, Config, CopyId, Effect, Epoch, Guard, Input, Node, Nonce, Position, Revision, Span, SystemId,
        Time,
    };
    use alloc::sync::Arc;
    use alloc::vec::Vec;

    /// A host that has been up for a day.
    const NOW: Time = Time(24 * 3_600 * 1_000_000);

    fn claimed_by(name: &str) -> View {
        let mut view = View::default();
        let claim = Initialize { by: name.into(), boot: Boot(1), system: None, foreign: false };
        view.put(Record::Initialize(claim), Revision(2));
        view
    }

    /// Has everything answered that a node asks for at first, with this view and this instance.
    fn begun(name: &str, saved: Saved, view: View, instance: &Instance) -> (Node, Vec<Effect>) {
        let mut node = Node::new(Arc::new(Config::new(name.into(), Span::secs(5))), Boot(7), saved);
        let mut left = Vec::new();
        let mut effects = node.handle(NOW, Input::Guard(Guard::Idle));
        while let Some(effect) = effects.pop() {
            let input = match effect {
                Effect::Store { id, request: Request::Read, .. } => {
                    Input::Answered(id, Response::Read(Some(view.clone())))
                }
                Effect::Postgres(id, Order { op: Op::Look, .. }) => {
                    Input::Performed(id, Performed { failure: None, found: looked(instance, None) })
                }
                other => {
                    left.push(other);
                    continue;
                }
            };
            effects.extend(node.handle(NOW, input));
        }
        (node, left)
    }

    fn looked(instance: &Instance, saved: Option<Saved>) -> Found {
        Found { instance: instance.clone(), saved }
    }

    fn made() -> Instance {
        let data = Data { system: SystemId(1), position: Position::default(), forks: Arc::default() };
        Instance::Stopped { data, clean: true, signal: false }
    }

    fn asks_for_the_store(effects: &[Effect]) -> bool {
        effects.iter().any(|effect| matches!(effect, Effect::Store { .. }))
    }

    #[test]
    fn anothers_claim_to_the_bootstrap_is_respected_from_its_sight_on() {
        let (mut node, asked) = begun("b", Saved::default(), claimed_by("a"), &Instance::Absent);
        assert_eq!(node.role().word(), "vacant");
        assert_eq!(asked, []);
        let patience = node.claim_patience();
        assert_eq!(node.deadline(NOW).map(|(at, _)| at), Some(NOW + patience));
        let before = node.handle(NOW + patience - Span(1), Input::Wake);
        assert!(!asks_for_the_store(&before), "{before:?}");
        let after = node.handle(NOW + patience, Input::Wake);
        assert!(asks_for_the_store(&after), "{after:?}");
    }

    #[test]
    fn a_bootstrap_interrupted_after_initdb_goes_on_with_what_was_made() {
        let saved = Saved { copy: CopyId(1), ..Saved::default() };
        let (mut node, mut asked) = begun("a", saved, claimed_by("a"), &made());
        assert_eq!(node.role().word(), "vacant");
        let Some(Effect::Store { id, request: Request::Transact(_), .. }) = asked.pop() else {
            panic!("no claim: {asked:?}")
        };
        let claims =
            node.handle(NOW, Input::Answered(id, Response::Transact(Answer::Committed(Revision(3)))));
        assert_eq!(node.role().word(), "claiming", "{claims:?}");
    }

    #[test]
    fn a_directory_whose_making_was_not_heard_of_is_known_by_what_lies_beside_it() {
        let (mut node, mut asked) = begun("a", Saved::default(), claimed_by("a"), &Instance::Absent);
        let Some(Effect::Store { id, .. }) = asked.pop() else { panic!("no claim: {asked:?}") };
        let claimed = Response::Transact(Answer::Committed(Revision(3)));
        let ordered = node.handle(NOW, Input::Answered(id, claimed)).pop();
        let Some(Effect::Postgres(id, Order { op: Op::Initdb, saved, .. })) = ordered else {
            panic!("no order: {ordered:?}")
        };
        let late =
            Performed { failure: Some(Failure::TimedOut), found: looked(&made(), Some(saved.clone())) };
        let _ = node.handle(NOW, Input::Performed(id, late));
        assert_eq!(*node.saved(), saved);
        assert_eq!(node.role().word(), "claiming");
        // Another member's cluster: an unused directory is moved aside for it, a used one freezes its node.
        let claim = Initialize { by: "b".into(), boot: Boot(1), system: Some(SystemId(2)), foreign: false };
        let news = News::Changed(Revision(4), alloc::vec![Record::Initialize(claim)]);
        let _ = node.handle(NOW, Input::News(news));
        assert_eq!(node.needs_operator(), None);
    }

    #[test]
    fn what_a_node_knows_of_its_copy_is_not_undone_by_what_is_durable() {
        let durable =
            Saved { copy: CopyId(1), lineage: alloc::vec![(Epoch(1), Nonce(10))], highest: Epoch(1) };
        let newer =
            Saved { lineage: alloc::vec![(Epoch(1), Nonce(10)), (Epoch(2), Nonce(20))], ..durable.clone() };
        let (mut node, _) = begun("a", newer.clone(), View::default(), &made());
        let _ = node.handle(NOW, Input::Instance(looked(&made(), Some(durable))));
        assert_eq!(*node.saved(), newer);
    }
}
