//! The one form in which all worlds are written that can't be told apart by anything that can still happen in them.
//!
//! Each rewriting below keeps everything that a node, the store or an invariant ever asks about the value, so a world
//! and its canonical form have the same future, step by step (they are bisimilar), and one may stand for the other:
//!
//! | value | what is asked about it | canonical form |
//! |---|---|---|
//! | times of a host | how far from its "now"; nobody compares times of two hosts | "now" is the same number everywhere |
//! | a time to act at | only whether it has come, and how late that is up to the bound | no earlier than just too late |
//! | a time that waits count from | only whether the longest wait is over | no earlier than that |
//! | when the store was read | whether before or after each moment at which the lease may have lapsed | its distance to "seen", cut at the longest wait |
//! | revisions of a record | order and equality among those of the same record, and that a new one is higher | their rank among those of this record and the answered writes; 0 stays, it means "absent" |
//! | revisions that a view is current at | whether to take over a whole answer or what is newer in it, which comes to the same in a store that never goes back | constants that choose the second |
//! | nonces, boots, copies | equality | numbered as they are met; 0 stays, it means "none" |
//! | numbers of effects and flights | equality, within a host | numbered as they are met |
//! | the order of what is on its way | nothing, as any may arrive first; save which is lost of more zombies than the bound | sorted |
//!
//! Hosts keep their names, even where they could be exchanged for each other: between equally good candidates the name
//! decides, so the future of two worlds that differ in the names isn't the same.
//!
//! Views that have come to be equal are one value in memory, and no longer two. That changes neither equality nor
//! fingerprints: both look at what is in them, and whoever writes into a shared one gets a copy of its own. A walk goes
//! once through each, which is enough: in a view there is nothing that depends on whose it is, and what was named keeps
//! its name.
//!
//! Fresh random marks are derived from a boot and a count of draws. Both begin anew here, and stay fresh: marks are
//! 64 bits wide where they are drawn and small numbers afterwards, and agents with different boots draw different ones.

use ahash::RandomState;
use primacy_core::store::{Key, View};
use primacy_core::touch::{
    Touch, touch_news, touch_request, touch_response, touch_saved, touch_shared, touch_view,
};
use primacy_core::{Boot, CopyId, Epoch, Nonce, OpId, Revision, Span, Time};
use primacy_sim::world::World;
use primacy_sim::world::event::HostId;
use primacy_sim::world::host::{Agent, Cargo, Warden};
use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// What every host's clock shows in a canonical world.
const NOW: u64 = 1_000;
/// Further ahead than any wait in ticks: nothing that lies there ever comes.
const NEVER: u64 = 10_000;
/// Higher than the rank of any revision.
const NEWEST: u64 = 1_000;

/// Rewrites a world into its canonical form.
pub fn canonicalise(world: &mut World) {
    let mut revisions = Revisions::default();
    walk(world, &mut revisions);
    let mut names = Names::new(world, revisions);
    walk(world, &mut names);
    rest(world);
}

/// A number for a canonical world.
pub fn fingerprint(world: &World) -> u64 {
    number(world)
}

/// The same one in each run: the order of what is on its way comes from such numbers, and decides which of several
/// requests that nobody waits for is lost.
fn number(value: &impl Hash) -> u64 {
    RandomState::with_seeds(1, 2, 3, 4).hash_one(value)
}

/// What both walks need to know where they are.
trait Walker: Touch {
    /// What follows belongs to this host, whose clock shows `now`.
    fn enter(&mut self, host: HostId, now: Time);
    /// A time of the guard.
    fn fence(&mut self, until: &mut Time);
}

fn walk(world: &mut World, t: &mut dyn Walker) {
    touch_shared(&mut world.store.view, t);
    for host in 0..world.hosts.len() as HostId {
        t.enter(host, world.local(host));
        walk_host(world, host, t);
    }
    for at in 0..world.flights.len() {
        t.enter(world.flights[at].host, world.local(world.flights[at].host));
        match &mut world.flights[at].cargo {
            Cargo::Ask(op, request) => {
                t.op(op);
                touch_request(request, t);
            }
            Cargo::Answer(op, response) => {
                t.op(op);
                touch_response(response, t);
            }
            Cargo::News(news) => touch_news(news, t),
            Cargo::Done(op, performed) => {
                t.op(op);
                performed.found.saved.iter_mut().for_each(|saved| touch_saved(saved, t));
            }
            Cargo::Arm(_, until) => t.fence(until),
            Cargo::Guard(primacy_core::Guard::Armed { until, .. }) => t.fence(until),
            Cargo::Guard(primacy_core::Guard::Idle | primacy_core::Guard::Lost) => {}
        }
    }
}

fn walk_host(world: &mut World, host: HostId, t: &mut dyn Walker) {
    let one = world.host(host);
    for (op, until) in &mut one.waiting {
        t.op(op);
        t.due(until);
    }
    if let Some((op, order)) = &mut one.order {
        t.op(op);
        t.due(&mut order.start_by);
        t.due(&mut order.until);
        touch_saved(&mut order.saved, t);
    }
    if let Warden::Armed { until, .. } = &mut one.guard {
        t.fence(until);
    }
    touch_saved(&mut one.saved, t);
    match &mut one.agent {
        Agent::Up(node) | Agent::Frozen(node) => node.touch(t),
        Agent::Down => {}
    }
}

/// What is not named anywhere else.
fn rest(world: &mut World) {
    world.now = 0;
    for (host, one) in (1u64..).zip(&mut world.hosts) {
        one.clock.offset = NOW as i64;
        one.clock.rests = if one.times_a_lease() { one.clock.rests } else { 0 };
        // The next life's mark is one that nobody has.
        one.boot = Boot(1_000_000 * host);
    }
    world.flights.sort_by_cached_key(|flight| {
        // What stays on a host keeps its order.
        let local = matches!(flight.cargo, Cargo::Done(..) | Cargo::Guard(_) | Cargo::Arm(..));
        (flight.host, !local, if local { 0 } else { number(&flight.cargo) })
    });
    for (id, flight) in (0..).zip(&mut world.flights) {
        flight.id = id;
    }
    world.next_flight = world.flights.len() as u32;
}

/// The first walk: which revisions there are of each record.
///
/// An answered write names one revision for several records, which may have been written again since. So it has a rank
/// of its own, above all that is older and below all that is newer, whichever record that belongs to. What lies between
/// two such writes is ranked record by record.
#[derive(Default)]
struct Revisions {
    of: BTreeMap<Key, Vec<u64>>,
    committed: Vec<u64>,
    /// The rank of each answered write, in the same order.
    ranks: Vec<u64>,
    /// Views that it has been through.
    views: Vec<Arc<View>>,
}

impl Revisions {
    fn sort(mut self) -> Revisions {
        for of in self.of.values_mut().chain([&mut self.committed]) {
            of.sort_unstable();
            of.dedup();
        }
        for at in 0..self.committed.len() {
            let below = self.of.values().map(|of| self.above_last(of, self.committed[at] - 1)).max();
            self.ranks.push(1 + below.unwrap_or(0));
        }
        self
    }

    /// From 1; what is absent stays so.
    fn rank(&self, key: &Key, revision: u64) -> u64 {
        self.above_last(self.of.get(key).map_or(&[], Vec::as_slice), revision)
    }

    /// The rank of the last answered write up to this revision, and one more for each of the record's after it. Looks
    /// at those writes only that have a rank by now.
    fn above_last(&self, of: &[u64], revision: u64) -> u64 {
        let ranked = self.committed.iter().zip(&self.ranks);
        let (last, rank) = ranked.take_while(|(write, _)| **write <= revision).last().unwrap_or((&0, &0));
        rank + of.iter().filter(|other| (last + 1..=revision).contains(other)).count() as u64
    }
}

impl Touch for Revisions {
    fn past(&mut self, _: &mut Time, _: Span) {}
    fn seen(&mut self, _: &mut Time, _: &mut [&mut Time], _: &[Span]) {}
    fn armed(&mut self, _: &mut Epoch, _: &mut Time) {}
    fn due(&mut self, _: &mut Time) {}
    fn revision(&mut self, key: &Key, revision: &mut Revision) {
        match self.of.get_mut(key) {
            Some(of) => of.push(revision.0),
            None => drop(self.of.insert(key.clone(), vec![revision.0])),
        }
    }
    fn committed(&mut self, revision: &mut Revision) {
        self.committed.push(revision.0);
    }
    fn known(&mut self, _: &mut Revision) {}
    fn answered(&mut self, _: &mut Revision) {}
    fn floor(&mut self, _: &mut Revision) {}
    fn nonce(&mut self, _: &mut Nonce) {}
    fn boot(&mut self, _: &mut Boot) {}
    fn copy(&mut self, _: &mut CopyId) {}
    fn op(&mut self, _: &mut OpId) {}
    fn last_op(&self) -> u32 {
        0
    }
    /// Nothing changes in this walk: what is shared stays so.
    fn met(&mut self, view: &mut Arc<View>) -> bool {
        if !self.views.iter().any(|other| Arc::ptr_eq(other, view)) {
            self.views.push(Arc::clone(view));
            touch_view(&mut View::clone(view), self);
        }
        true
    }
    fn became(&mut self, _: Arc<View>, _: &mut Arc<View>) {}
}

impl Walker for Revisions {
    fn enter(&mut self, _: HostId, _: Time) {}
    fn fence(&mut self, _: &mut Time) {}
}

/// The second walk: everything gets its canonical name.
struct Names {
    revisions: Revisions,
    nonces: Vec<u64>,
    boots: Vec<u64>,
    copies: Vec<u64>,
    /// Views as they were, and as they have become.
    views: Vec<(Arc<View>, Arc<View>)>,
    /// Of each host.
    ops: Vec<Vec<u32>>,
    host: usize,
    now: u64,
    late: u64,
}

impl Names {
    fn new(world: &World, revisions: Revisions) -> Names {
        Names {
            revisions: revisions.sort(),
            nonces: Vec::new(),
            boots: Vec::new(),
            copies: Vec::new(),
            views: Vec::new(),
            ops: vec![Vec::new(); world.hosts.len()],
            host: 0,
            now: 0,
            late: world.setup.bounds.late,
        }
    }

    /// Moves a time with its host's clock, but not to before `floor`.
    fn moved(&self, time: Time, floor: u64) -> Time {
        let moved = (NOW + time.0).saturating_sub(self.now);
        Time(if moved > NOW + NEVER { NOW + 2 * NEVER } else { moved.max(floor) })
    }

    /// The longest that an agent is late, 0 if there is no bound: then nothing depends on how late it is.
    fn lateness(&self) -> u64 {
        if self.late > NEVER { 0 } else { self.late + 1 }
    }
}

/// Numbers what it meets, from 1; 0 stays what it is.
fn named(known: &mut Vec<u64>, value: u64) -> u64 {
    if value == 0 {
        return 0;
    }
    let at = known.iter().position(|other| *other == value).unwrap_or_else(|| {
        known.push(value);
        known.len() - 1
    });
    at as u64 + 1
}

impl Touch for Names {
    fn past(&mut self, time: &mut Time, longest: Span) {
        *time = self.moved(*time, NOW - longest.0 - self.lateness());
    }

    fn seen(&mut self, seen: &mut Time, asked: &mut [&mut Time], moments: &[Span]) {
        let longest = moments.last().map_or(0, |span| span.0);
        let moved = NOW - self.now.saturating_sub(seen.0).min(longest + 1 + self.lateness());
        for asked in asked {
            let passed = moments.iter().rev().find(|moment| **asked >= *seen + **moment);
            **asked = match passed {
                _ if asked.0 >= self.now => Time(NOW),
                Some(moment) => Time(moved + moment.0),
                None => Time(moved - 1),
            };
        }
        *seen = Time(moved);
    }

    fn armed(&mut self, epoch: &mut Epoch, until: &mut Time) {
        if until.0 <= self.now {
            (*epoch, *until) = (Epoch(0), Time(0));
        } else {
            *until = self.moved(*until, 0);
        }
    }

    fn due(&mut self, time: &mut Time) {
        *time = self.moved(*time, NOW - self.lateness());
    }

    fn revision(&mut self, key: &Key, revision: &mut Revision) {
        revision.0 = self.revisions.rank(key, revision.0);
    }

    fn committed(&mut self, revision: &mut Revision) {
        revision.0 = self.revisions.above_last(&[], revision.0);
    }

    fn known(&mut self, revision: &mut Revision) {
        revision.0 = NEWEST;
    }

    fn answered(&mut self, revision: &mut Revision) {
        revision.0 = 0;
    }

    fn floor(&mut self, revision: &mut Revision) {
        revision.0 = 0;
    }

    fn nonce(&mut self, nonce: &mut Nonce) {
        nonce.0 = named(&mut self.nonces, nonce.0);
    }

    fn boot(&mut self, boot: &mut Boot) {
        boot.0 = named(&mut self.boots, boot.0);
    }

    fn copy(&mut self, copy: &mut CopyId) {
        copy.0 = named(&mut self.copies, copy.0);
    }

    fn op(&mut self, op: &mut OpId) {
        let known = &mut self.ops[self.host];
        if op.0 == 0 {
            return;
        }
        let at = known.iter().position(|other| *other == op.0).unwrap_or_else(|| {
            known.push(op.0);
            known.len() - 1
        });
        op.0 = at as u32 + 1;
    }

    fn last_op(&self) -> u32 {
        self.ops[self.host].len() as u32
    }

    fn met(&mut self, view: &mut Arc<View>) -> bool {
        let known = self.views.iter().find(|(before, _)| Arc::ptr_eq(before, view));
        known.map(|(_, after)| *view = Arc::clone(after)).is_some()
    }

    /// What comes to the same is shared from now on, with the world before if it hasn't changed: that saves most of the
    /// memory, and the next walk its way.
    fn became(&mut self, before: Arc<View>, view: &mut Arc<View>) {
        let same = [&before]
            .into_iter()
            .chain(self.views.iter().map(|(_, after)| after))
            .find(|other| *other == view);
        if let Some(same) = same {
            *view = Arc::clone(same);
        }
        self.views.push((before, Arc::clone(view)));
    }
}

impl Walker for Names {
    fn enter(&mut self, host: HostId, now: Time) {
        (self.host, self.now) = (usize::from(host), now.0);
    }

    fn fence(&mut self, until: &mut Time) {
        *until = self.moved(*until, 0);
    }
}
