use super::{Walker, canonicalise, walk};
use crate::worlds::{Named, WORLDS};
use primacy_core::store::{Key, View};
use primacy_core::touch::Touch;
use primacy_core::{Boot, CopyId, Epoch, Nonce, OpId, Revision, Span, Time};
use primacy_sim::world::event::{Event, HostId};
use primacy_sim::world::{Trail, World};
use std::collections::HashSet;
use std::sync::Arc;

/// Steps of each random walk.
const STEPS: usize = 300;

/// So much later a host's clock is set.
fn ahead(host: HostId) -> u64 {
    5_000 + 321 * u64::from(host)
}

/// Gives everything another name that means the same: other clocks, revisions with gaps, other marks and numbers.
struct Disguise {
    /// How much the clock of this host is ahead then.
    ahead: u64,
}

impl Disguise {
    fn put_on(world: &World) -> World {
        let mut other = world.clone();
        walk(&mut other, &mut Disguise { ahead: 0 });
        for (host, one) in (0..).zip(&mut other.hosts) {
            one.clock.offset += ahead(host) as i64;
            one.boot.0 += 77;
        }
        for flight in &mut other.flights {
            flight.id += 40;
        }
        other.next_flight += 40;
        other
    }
}

/// Keeps order, equality and 0.
fn gap(number: u64) -> u64 {
    if number == 0 { 0 } else { 3 * number + 50 }
}

impl Touch for Disguise {
    fn past(&mut self, time: &mut Time, _: Span) {
        time.0 += self.ahead;
    }
    fn seen(&mut self, seen: &mut Time, asked: &mut [&mut Time], _: &[Span]) {
        seen.0 += self.ahead;
        asked.iter_mut().for_each(|time| time.0 += self.ahead);
    }
    fn armed(&mut self, _: &mut Epoch, until: &mut Time) {
        until.0 += self.ahead;
    }
    fn due(&mut self, time: &mut Time) {
        time.0 += self.ahead;
    }
    fn revision(&mut self, _: &Key, revision: &mut Revision) {
        revision.0 = gap(revision.0);
    }
    fn committed(&mut self, revision: &mut Revision) {
        revision.0 = gap(revision.0);
    }
    fn known(&mut self, revision: &mut Revision) {
        revision.0 = gap(revision.0);
    }
    fn answered(&mut self, revision: &mut Revision) {
        revision.0 = gap(revision.0);
    }
    fn floor(&mut self, revision: &mut Revision) {
        revision.0 = gap(revision.0);
    }
    fn nonce(&mut self, nonce: &mut Nonce) {
        nonce.0 = gap(nonce.0);
    }
    fn boot(&mut self, boot: &mut Boot) {
        boot.0 = gap(boot.0);
    }
    fn copy(&mut self, copy: &mut CopyId) {
        copy.0 = gap(copy.0);
    }
    fn op(&mut self, op: &mut OpId) {
        op.0 += if op.0 == 0 { 0 } else { 9 };
    }
    fn last_op(&self) -> u32 {
        1_000_000
    }
    fn met(&mut self, _: &mut Arc<View>) -> bool {
        false
    }
    fn became(&mut self, _: Arc<View>, _: &mut Arc<View>) {}
}

impl Walker for Disguise {
    fn enter(&mut self, host: HostId, _: Time) {
        self.ahead = ahead(host);
    }
    fn fence(&mut self, until: &mut Time) {
        until.0 += self.ahead;
    }
}

fn canonical(world: &World) -> World {
    let mut canonical = world.clone();
    canonicalise(&mut canonical);
    canonical
}

/// What a step leads to, as it is.
fn after(world: &World, event: &Event) -> Option<World> {
    let mut after = world.clone();
    let happened = after.apply(event, &mut Trail::default());
    after.spend(event);
    happened.then_some(after)
}

/// All that can follow, in canonical form.
fn future(world: &World) -> HashSet<World> {
    let following = world.events().into_iter().filter_map(|event| after(world, &event));
    following.map(|world| canonical(&world)).collect()
}

/// Worlds met at random, none of which was ever canonicalised since it began.
fn walked(named: &Named) -> Vec<World> {
    let begin = Disguise::put_on(&named.begin());
    let (mut lot, mut met) = (7u64, vec![begin.clone()]);
    while met.len() < STEPS {
        let world = &met[met.len() - 1];
        let mut next: Vec<_> = world.events().iter().filter_map(|event| after(world, event)).collect();
        lot = lot.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let chosen = (lot >> 33) as usize % next.len().max(1);
        met.push(if next.is_empty() { begin.clone() } else { next.swap_remove(chosen) });
    }
    met
}

#[test]
fn names_and_clocks_don_t_matter() {
    for world in WORLDS.iter().flat_map(walked) {
        let disguised = Disguise::put_on(&world);
        assert_ne!(disguised, world);
        assert_eq!(canonical(&disguised), canonical(&world));
    }
}

#[test]
fn what_is_canonical_stays_so() {
    for world in WORLDS.iter().flat_map(walked) {
        let once = canonical(&world);
        assert_eq!(canonical(&once), once);
    }
}

#[test]
fn a_world_and_its_canonical_form_have_the_same_future() {
    let mut different = HashSet::new();
    // A clock that times no lease is forgotten to have lost a tick just now: its future isn't the same, but has more in it.
    for named in WORLDS.iter().filter(|named| named.begin().setup.bounds.drift_every == 0) {
        for world in &walked(named) {
            let canonical = canonical(world);
            assert_eq!(future(&canonical), future(world), "{}", named.name);
            different.insert(canonical);
        }
    }
    assert!(different.len() > STEPS / 3, "{} states are no walk", different.len());
}

#[test]
fn equal_views_are_shared() {
    let begin = Named::find("three").expect("the world").begin();
    let disguised = Disguise::put_on(&begin);
    let shared = |world: &World| {
        let nodes = world.hosts.iter().filter_map(|one| one.node());
        nodes.filter(|node| std::ptr::eq(node.view(), &*world.store.view)).count()
    };
    assert_eq!(shared(&disguised), 0, "each has got its own");
    assert_eq!(shared(&canonical(&disguised)), 3);
    let once = canonical(&begin);
    assert!(Arc::ptr_eq(&once.store.view, &begin.store.view), "unchanged, it is the one of the world before");
}

/// Changes the beginning of a world and says whether that shows in the canonical form.
fn shows(change: impl Fn(&mut World)) -> bool {
    let begin = WORLDS[0].begin();
    let mut changed = begin.clone();
    change(&mut changed);
    canonical(&changed) != canonical(&begin)
}

#[test]
fn the_rest_of_a_lease_matters() {
    assert!(shows(|world| world.host(0).clock.offset += 1), "the holder has a tick less");
    assert!(shows(|world| world.host(1).clock.offset += 1), "the candidate has waited a tick longer");
}

#[test]
fn who_holds_and_which_reign_it_is_matters() {
    let change = |world: &mut World, change: fn(&mut primacy_core::store::Reign)| {
        let reign = Arc::make_mut(&mut world.store.view).reign.as_mut().expect("a reign");
        change(Arc::make_mut(&mut reign.value));
    };
    assert!(shows(|world| change(world, |reign| reign.holder = "b".into())));
    assert!(shows(|world| change(world, |reign| reign.nonce.0 += 1_000)), "nobody knows this mark");
}

#[test]
fn a_revision_that_not_everybody_knows_matters() {
    assert!(shows(|world| {
        let view = Arc::make_mut(&mut world.store.view);
        view.beat.as_mut().expect("a beat").revision.0 += 1;
    }));
}

#[test]
fn what_is_on_its_way_matters() {
    let mut seen = 0;
    for world in walked(&WORLDS[0]) {
        for lost in 0..world.flights.len() {
            let mut without = world.clone();
            without.flights.remove(lost);
            assert_ne!(canonical(&without), canonical(&world));
            seen += 1;
        }
    }
    assert!(seen > 0, "nothing was on its way");
}
