//! What the world remembers so that invariants can judge it: what is done to copies of the data.
//!
//! The truth is told from timelines and who wrote them, never from what nodes or their records say.

use super::event::HostId;
use super::host::Host;
use super::postgres::Timeline;
use super::{World, Wrong};
use primacy_core::event::{Frozen, Right};
use primacy_core::instance::Order;
use primacy_core::{Epoch, Event, Lsn, Node, Role, lineage};

impl World {
    /// A copy is about to be replaced. Whatever of the elected history it holds, another copy must hold, too; what it
    /// holds beyond that must be said to be lost; and there must be something beyond it. Two histories with reigns of the
    /// same number, which only a store that went back can bring about, are beyond that.
    pub(crate) fn watch_discard(&mut self, host: HostId, order: &Order) {
        let Some(data) = &self.hosts[usize::from(host)].postgres.data else { return };
        if data.torn || self.record.unwarned.is_some() {
            return;
        }
        for ((epoch, by), end) in &self.record.acknowledged {
            let Some(reached) = data.reaches(*epoch, *by) else { continue };
            let (held, elected) = (reached.min(*end), self.elected_end(*epoch, *by));
            let start = self.record.promotions.get(epoch).map_or(Lsn(0), |timeline| timeline.start);
            let needed = held.min(elected);
            let elsewhere = (0..).zip(&self.hosts).any(|(other, one)| {
                let copy = one.postgres.data.as_ref().filter(|copy| other != host && !copy.torn);
                copy.is_some_and(|copy| copy.holds(*epoch, *by, needed))
            });
            if needed > start && !elsewhere {
                self.record.wrong = Some((host, Wrong::Destroyed));
            }
            let said = order.left.is_some_and(|left| left.lsn <= needed.max(start));
            if held > needed.max(start) && !said {
                self.record.wrong = Some((host, Wrong::Unreported));
            }
        }
        let elected = |at: &Timeline| {
            data.reaches(at.epoch, at.by).is_some_and(|end| end <= self.elected_end(at.epoch, at.by))
        };
        // One that lacks what nobody has any more can't.
        let follows = self
            .hosts
            .iter()
            .all(|one| one.postgres.data.as_ref().is_none_or(|source| source.kept_from <= data.end));
        let one = &self.hosts[usize::from(host)];
        let wanted = one.given_up == Some(one.saved.copy);
        if data.end > Lsn(0) && !wanted && follows && data.timelines.iter().all(elected) {
            self.record.wrong = Some((host, Wrong::Needless));
        }
    }

    /// How far this timeline belongs to the history of the last reign that was admitted; 0 if it doesn't.
    fn elected_end(&self, epoch: Epoch, by: HostId) -> Lsn {
        let view = self.history();
        let admitted = view.rule.as_ref().map_or(Epoch(0), |rule| rule.epoch);
        let path = lineage::path(view, admitted).unwrap_or_default();
        let Some(at) = path.iter().position(|(step, _)| *step == epoch) else { return Lsn(0) };
        if self.record.promotions.get(&epoch).is_none_or(|timeline| timeline.by != by) {
            return Lsn(0);
        }
        let next = path.get(at + 1).and_then(|(next, _)| view.epochs.get(next)?.fork);
        next.map_or(Lsn(u64::MAX), |fork| fork.lsn)
    }

    /// A new copy must not pass for another one, nor for the one that was there before.
    pub(crate) fn watch_copy(&mut self, host: HostId, order: &Order) {
        let (mark, view) = (order.saved.copy, &self.store.view);
        let me = &self.setup.configs[usize::from(host)].me;
        let known = view.members.get(me).is_some_and(|member| member.copy == mark);
        let listed = view.rule.as_ref().is_some_and(|rule| {
            rule.leader_copy == mark || rule.electable.values().any(|copy| *copy == mark)
        });
        if known || listed || self.hosts.iter().any(|one| one.saved.copy == mark) {
            self.record.wrong = Some((host, Wrong::SameMark));
        }
    }

    /// A node says what it is about to do.
    pub(crate) fn watch_told(&mut self, host: HostId, event: &Event) {
        match event {
            Event::Stands { epoch, right, .. } => self.watch_candidate(host, *epoch, *right),
            Event::Reinitializes { .. } => self.watch_given_up(host),
            Event::Took { epoch, .. } | Event::Resumed { epoch } if self.is_unwarned(host, *epoch) => {
                (self.record.unwarned, self.record.retaken) = (Some(*epoch), true);
            }
            Event::Consented { .. } if !self.hosts[usize::from(host)].consents => {
                self.record.wrong = Some((host, Wrong::Unasked));
            }
            _ => {}
        }
    }

    /// Whether this reign was taken of a store that went back, and not of the one before: that answer was only late. And
    /// nobody who knew better had said so by then, or could have.
    fn is_unwarned(&self, host: HostId, epoch: Epoch) -> bool {
        let me = &self.setup.configs[usize::from(host)].me;
        let boot = self.hosts[usize::from(host)].boot;
        let Some(reign) = self.store.view.reign.as_ref().filter(|reign| {
            reign.holder == *me && reign.boot == boot && reign.epoch == epoch && reign.released.is_none()
        }) else {
            return false;
        };
        let mut words = self.store.view.epochs.range(epoch.next()..).map(|(_, word)| word.revision);
        let warned = words.clone().any(|word| word < reign.revision);
        let silent = |one: &Host| {
            // Who only knows that its revisions went back has no reign to name.
            let frozen = |node: &Node| matches!(node.role(), Role::Frozen(Frozen::StoreWentBack { seen, found }) if seen > found);
            one.running().is_some_and(|node| frozen(node) && !node.asks_the_store())
        };
        let unsaid = words.next().is_none() && self.hosts.iter().any(silent);
        self.record.forgotten.is_some() && !warned && !unsaid
    }

    /// An operator wants this copy replaced. Unless a loss was accepted, another one must hold all that it holds.
    fn watch_given_up(&mut self, host: HostId) {
        let one = self.host(host);
        one.given_up = Some(one.saved.copy);
        let one = &self.hosts[usize::from(host)];
        let Some(data) = one.postgres.data.as_ref().filter(|data| !data.torn && !one.consents) else {
            return;
        };
        let Some(last) = data.timeline() else { return };
        // What a person has begun there since the agent's last look, nobody can be asked about.
        let seen = one.node().and_then(|node| node.instance().data()).map(|data| data.position.epoch);
        if seen < Some(last.epoch) {
            return;
        }
        let elsewhere = (0..).zip(&self.hosts).any(|(other, one)| {
            let copy = one.postgres.data.as_ref().filter(|copy| other != host && !copy.torn);
            copy.is_some_and(|copy| copy.holds(last.epoch, last.by, data.end))
        });
        if !elsewhere {
            self.record.wrong = Some((host, Wrong::Unasked));
        }
    }

    /// Somebody stands for election.
    pub(crate) fn watch_candidate(&mut self, host: HostId, epoch: Epoch, right: Right) {
        self.record.handed = (right == Right::HandedOver).then_some((epoch, host));
        if self.hosts[usize::from(host)].postgres.replays {
            self.record.wrong = Some((host, Wrong::Unready));
        }
        if right == Right::Listed && self.lacks_too_much(host) {
            self.record.wrong = Some((host, Wrong::TooShort));
        }
    }

    /// Whether more is known to be missing at this host than may be lost without asking.
    fn lacks_too_much(&self, host: HostId) -> bool {
        let one = &self.hosts[usize::from(host)];
        let (Some(node), Some(data)) = (one.node(), &one.postgres.data) else { return false };
        let published = node.view().beat.as_ref().map_or(Lsn(0), |beat| beat.end);
        published.0.saturating_sub(data.end.0) > node.config().lag_bytes_max
    }

    /// Whoever is handed a reign has all that was acknowledged in the one before.
    pub(crate) fn watch_hand_over(&mut self, host: HostId, epoch: Epoch) {
        if self.record.handed.take_if(|handed| *handed == (epoch, host)).is_none() {
            return;
        }
        let before = self.record.promotions.range(..epoch).next_back().map(|(_, timeline)| *timeline);
        let data = &self.hosts[usize::from(host)].postgres.data;
        let short = before.is_some_and(|before| {
            let end = self.record.acknowledged.get(&(before.epoch, before.by)).copied();
            let held = data.as_ref().and_then(|data| data.reaches(before.epoch, before.by));
            end.is_some_and(|end| held.is_none_or(|held| held < end))
        });
        if short {
            self.record.wrong = Some((host, Wrong::Short));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::invariants::by_hand::{epoch, led, reign};
    use primacy_core::{Boot, Epoch, Event, Span};

    /// The answer to a claim from before the store went back may come when it has.
    #[test]
    fn only_what_the_store_names_now_was_taken_of_it() {
        let mut world = led();
        world.record.forgotten = Some(world.store.view.clone());
        let took = Event::Took { epoch: Epoch(2), fence_in: Span::secs(4) };
        world.watch_told(1, &took);
        assert_eq!((world.record.unwarned, world.record.retaken), (None, false));
        reign(&mut world, 2, "b");
        world.host(1).boot = Boot(world.reign().unwrap().boot.0 + 1);
        world.watch_told(1, &took);
        assert!(!world.record.retaken, "another life of the same agent");
        world.host(1).boot = world.reign().unwrap().boot;
        world.watch_told(1, &took);
        assert_eq!((world.record.unwarned, world.record.retaken), (Some(Epoch(2)), true));
    }

    /// A word of a later reign that was there before the claim was.
    #[test]
    fn whoever_was_told_is_not_excused() {
        let mut world = led();
        world.record.forgotten = Some(world.store.view.clone());
        world.host(1).boot = world.reign().unwrap().boot;
        epoch(&mut world, 9, None);
        reign(&mut world, 2, "b");
        world.watch_told(1, &Event::Resumed { epoch: Epoch(2) });
        assert!(!world.record.retaken);
        epoch(&mut world, 9, None);
        world.watch_told(1, &Event::Resumed { epoch: Epoch(2) });
        assert!(world.record.retaken, "it came after the claim");
    }
}
