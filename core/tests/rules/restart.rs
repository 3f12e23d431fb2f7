//! What a new agent goes on with.

use crate::host::*;
use primacy_core::instance::{Instance, Op, Saved};
use primacy_core::store::{Beat, Key, News, Record, Reign, Released, View};
use primacy_core::{Boot, Config, Epoch, Event, Guard, Input, Lsn, MachineId, Nonce, Span, Timer};

/// `a` with a new agent, which finds this; the agent before held epoch 2, and its guard is armed for it.
fn found(saved: Saved, store: View, postgres: Instance) -> Host {
    let mut a = Host::new(config("a"), saved, store, postgres);
    let until = a.now + secs(4);
    a.input(Input::Guard(Guard::Armed { epoch: Epoch(2), until }));
    a.see();
    a
}

/// The same, with everything as the agent before left it.
fn running() -> Host {
    found(saved("a", &[1, 2]), reign_of_a(2), writable(at(2, 234), &[("b", 200)]))
}

#[test]
fn a_holder_goes_on_in_its_own_reign_which_it_writes_again_under_its_new_boot() {
    let mut a = running();
    assert_eq!(a.role(), "claiming");
    let revision = |key| a.store.revision(&key);
    let keys = [Key::Reign, Key::Beat, Key::Rule];
    let compare: Vec<_> = keys.map(|key| (key.clone(), revision(key))).to_vec();
    let claim = a.claim();
    assert_eq!(claim.txn().compare, compare);
    let boot = Boot(7);
    let put = [
        Record::Reign(Reign { boot, ..reign(2, "a") }),
        Record::Beat(Beat { epoch: Epoch(2), end: Lsn(200) }),
    ];
    assert_eq!(claim.txn().put, put, "the end that was published stays, until it is confirmed anew");
    a.pass(ms(100));
    a.answer(&claim);
    assert_eq!(
        a.told(),
        [Event::Resumed { epoch: Epoch(2) }, Event::Leads { epoch: Epoch(2), fork: fork_of(2) }]
    );
    assert_eq!(a.authority(), claim.sent + ms(4_990));
    a.settle();
    assert_eq!((a.role(), a.op()), ("primary", None), "nothing is started or stopped");
    assert_eq!(a.store.epochs.len(), 2, "nor is there a new epoch");
}

#[test]
fn a_reign_looks_the_same_before_it_is_written_again() {
    let mut a = running();
    let claim = a.claim();
    a.unknown(&claim);
    a.wake_for(Timer::Again);
    let read = a.read();
    a.answer(&read);
    assert_eq!((a.role(), a.node.lease()), ("claiming", None));
    let again = a.claim();
    assert_eq!(again.request, claim.request);
    a.answer(&again);
    assert_eq!(a.authority(), claim.sent + ms(4_990));
}

#[test]
fn a_resumed_lease_shows_as_won_only_if_the_boot_is_ours() {
    let mut a = running();
    a.claim();
    a.news([Record::Reign(reign(2, "a")), beat(2, 235)]);
    assert_eq!(a.node.lease(), None, "another agent of this name has renewed it");
}

/// Whether a new agent goes on with what it finds.
fn resumes(saved: Saved, store: View, postgres: Instance) -> bool {
    let a = found(saved, store, postgres);
    assert!(claims(&a) || a.op() == Some(&Op::Kill));
    claims(&a)
}

fn claims(a: &Host) -> bool {
    a.asked.iter().any(|asked| matches!(asked.txn().put[0], Record::Reign(_)))
}

#[test]
fn a_reign_is_resumed_only_if_the_store_and_what_runs_are_of_just_that_reign() {
    let (past, store, postgres) = (saved("a", &[1, 2]), reign_of_a(2), writable(at(2, 234), &[]));
    assert!(resumes(past.clone(), store.clone(), postgres.clone()));
    let with = |record: Record| {
        let mut store = store.clone();
        write(&mut store, [record]);
        store
    };
    let released = Some(Released { end: None, to: None });
    let given_back = with(Record::Reign(Reign { released, ..reign(2, "a") }));
    assert!(!resumes(past.clone(), given_back, postgres.clone()), "given back");
    assert!(!resumes(past.clone(), with(Record::Reign(reign(3, "b"))), postgres.clone()), "another reigns");
    assert!(
        !resumes(past.clone(), with(Record::Reign(reign(3, "a"))), postgres.clone()),
        "a later reign of ours"
    );
    assert!(!resumes(past.clone(), store.clone(), writable(at(1, 100), &[])), "an older timeline");
    assert!(!resumes(saved("a", &[1]), store.clone(), postgres.clone()), "a copy that isn't of this reign");
    let other = Saved { lineage: vec![(Epoch(2), Nonce(21))], ..past };
    assert!(!resumes(other, store, postgres), "of another one with its number");
}

#[test]
fn without_its_guard_what_runs_is_not_resumed() {
    let mut a = Host::new(config("a"), saved("a", &[1, 2]), reign_of_a(2), writable(at(2, 234), &[]));
    a.input(Input::Guard(Guard::Lost));
    let kill = a.order();
    assert_eq!(kill.order.op, Op::Kill);
    a.sees(writable(at(2, 234), &[]));
    let read = a.read();
    a.answer(&read);
    assert_eq!(a.asked, []);
    a.done(&kill);
    a.settle();
    assert_eq!(a.node.lease().map(|lease| lease.epoch), Some(Epoch(3)), "it is promoted anew");
}

/// The reign as a new agent with a T of 5 s writes it again, where the old one's was this.
fn resumed(old: Span) -> Reign {
    let mut store = reign_of_a(2);
    write(&mut store, [Record::Reign(Reign { ttl: old, ..reign(2, "a") })]);
    let mut a = found(saved("a", &[1, 2]), store, writable(at(2, 234), &[]));
    a.claim().reign().clone()
}

#[test]
fn a_reign_that_is_resumed_is_never_shortened() {
    assert_eq!(resumed(secs(30)).ttl, secs(30), "the guard may be armed for that long");
    assert_eq!(resumed(secs(4)).ttl, secs(5));
}

#[test]
fn a_guard_armed_by_a_longer_t_may_be_armed_beyond_the_fence() {
    let mut store = reign_of_a(2);
    write(&mut store, [Record::Reign(Reign { ttl: secs(30), ..reign(2, "a") })]);
    let mut a = Host::new(config("a"), saved("a", &[1, 2]), store, writable(at(2, 234), &[]));
    let until = a.now + ms(29_440);
    a.input(Input::Guard(Guard::Armed { epoch: Epoch(2), until }));
    a.settle();
    assert_eq!(a.role(), "primary");
    assert_eq!(a.authority(), START + ms(4_990), "but its holder counts on its own");
}

#[test]
#[should_panic(expected = "the guard is armed beyond the fence")]
fn a_guard_armed_beyond_the_fence_is_an_error_of_ours() {
    let mut a = Host::primary();
    let until = a.fence() + us(1);
    a.input(Input::Guard(Guard::Armed { epoch: Epoch(2), until }));
}

#[test]
#[should_panic(expected = "does not ascend")]
fn a_lineage_that_does_not_ascend_is_an_error_of_ours() {
    let mut past = saved("a", &[1, 2]);
    past.lineage.push((Epoch(2), Nonce(21)));
    found(past, reign_of_a(2), stopped(at(2, 200)));
}

#[test]
fn what_outlived_a_reign_is_killed() {
    let mut store = reign_of_a(2);
    write(&mut store, [Record::Reign(reign(3, "b")), Record::Epoch(epoch_record(3, "b", Some(at(2, 200))))]);
    let mut a = found(saved("a", &[1, 2]), store, writable(at(2, 234), &[]));
    assert_eq!(a.op(), Some(&Op::Kill));
    assert!(a.told().contains(&Event::UnorderedPromotion { position: at(2, 234) }));
    assert_eq!(a.node.needs_operator(), None, "it was ours, nobody promoted by hand");
}

/// The first reign of a cluster before anybody was admitted; `a` reigns.
fn first_reign(holder: &str, epoch: u32) -> View {
    let mut view = View::default();
    write(&mut view, [Record::Reign(reign(epoch, holder)), beat(epoch, 50)]);
    write(&mut view, [Record::Epoch(epoch_record(epoch, holder, None))]);
    view
}

#[test]
fn the_first_reign_interrupted_before_anybody_was_admitted_is_begun_again() {
    let made = Instance::Stopped { data: data(at(1, 50)), clean: false, signal: false };
    let begun =
        |store: View, postgres: Instance| Host::looked(config("a"), saved("a", &[1]), store, postgres);
    let mut a = begun(first_reign("a", 1), made.clone());
    let claim = a.claim();
    assert_eq!((claim.reign().epoch, claim.reign().nonce), (Epoch(1), nonce_of(1)), "in the same reign");
    a.answer(&claim);
    a.acknowledge();
    assert_eq!(a.op(), Some(&Op::StartInPlace), "it has no ancestor to be promoted from");
    a.settle();
    assert_eq!(a.role(), "primary");

    assert!(!claims(&begun(first_reign("b", 1), made.clone())), "another's");
    let mut admitted = first_reign("a", 1);
    write(&mut admitted, [Record::Rule(rule(1, "a", &[]))]);
    assert_eq!(begun(admitted, made.clone()).op(), Some(&Op::StartStandby), "it may be elected again");
    assert_eq!(begun(first_reign("a", 2), made.clone()).op(), Some(&Op::StartStandby), "not the first");
    assert!(!claims(&begun(first_reign("a", 1), in_recovery(at(1, 50)))), "it was a standby since");
}

#[test]
fn the_first_reign_is_begun_again_by_the_same_agent_as_well() {
    let mut a = Host::empty("a");
    a.input(Input::Guard(Guard::Idle));
    a.settle_until("promoting");
    let nonce = a.store.reign.as_ref().map(|reign| reign.nonce);
    a.wake_at(a.fence());
    let kill = a.order();
    a.input(Input::News(News::Interrupted));
    let read = a.read();
    a.done(&kill);
    assert_eq!((a.role(), a.op()), ("standby", None), "not from a view that may be old");
    a.answer(&read);
    let claim = a.claim();
    assert_eq!((claim.reign().epoch, Some(claim.reign().nonce)), (Epoch(1), nonce));
}

#[test]
fn a_reign_is_begun_again_only_with_what_the_store_says_now() {
    let made = Instance::Stopped { data: data(at(1, 50)), clean: false, signal: false };
    let mut a = Host::new(config("a"), saved("a", &[1]), first_reign("a", 1), made);
    a.input(Input::Guard(Guard::Idle));
    let (look, read) = (a.order(), a.read());
    a.answer(&read);
    a.input(Input::News(News::Interrupted));
    let again = a.read();
    a.unknown(&again);
    a.done(&look);
    assert_eq!((a.role(), a.asked.len(), a.op()), ("starting", 0, None));
    a.pass_pause();
    assert!(!a.asked.is_empty());
}

#[test]
fn an_agent_looks_at_store_and_instance_before_anything_else() {
    let mut a = Host::new(config("a"), saved("a", &[1, 2]), reign_of_a(2), stopped(at(2, 200)));
    assert_eq!(a.node.deadline(START), Some((START + us(1), Timer::Begin)));
    a.input(Input::Wake);
    let (look, read) = (a.order(), a.read());
    assert_eq!(look.order.op, Op::Look);
    a.answer(&read);
    assert_eq!((a.role(), a.op()), ("starting", None), "it doesn't know its instance");
    a.done(&look);
    assert_eq!(a.op(), Some(&Op::StartStandby));

    let mut a = Host::new(config("a"), saved("a", &[1, 2]), reign_of_a(2), stopped(at(2, 200)));
    a.input(Input::Wake);
    let (look, read) = (a.order(), a.read());
    a.done(&look);
    assert_eq!((a.role(), a.op()), ("starting", None), "it doesn't know the store");
    a.answer(&read);
    assert_eq!(a.op(), Some(&Op::StartStandby));
}

#[test]
fn the_last_beat_of_the_agent_before_does_not_end_a_healthy_primary() {
    let mut a = running();
    let claim = a.claim();
    a.news([beat(2, 240)]);
    assert_eq!(a.told(), []);
    assert_eq!((a.role(), a.op()), ("starting", None));
    a.answer(&claim);
    let again = a.claim();
    assert_eq!(again.reign().epoch, Epoch(2));
    assert_eq!(again.txn().compare[1], (Key::Beat, a.store.revision(&Key::Beat)));
    a.answer(&again);
    a.settle();
    assert_eq!((a.role(), a.op()), ("primary", None));
}

#[test]
fn a_namesake_on_another_machine_waits_like_everybody() {
    let elsewhere = || Config { machine: MachineId(5), ..config("a") };
    let a = Host::looked(elsewhere(), saved("a", &[1, 2]), reign_of_a(2), in_recovery(at(2, 200)));
    assert_eq!((a.role(), a.asked.len()), ("standby", 0));
    assert_eq!(a.node.deadline(a.now), Some((a.now + secs(5), Timer::Election)));
    let a = Host::looked(elsewhere(), saved("a", &[1, 2]), reign_of_a(2), writable(at(2, 200), &[]));
    assert_eq!(a.op(), Some(&Op::Kill), "its reign isn't resumed either");
}

#[test]
fn the_first_reign_is_begun_again_on_another_machine_only_after_its_lapse() {
    let mut store = View::default();
    write(&mut store, [Record::Reign(reign(1, "a")), beat(1, 50)]);
    let elsewhere = Config { machine: MachineId(5), ..config("a") };
    let mut a = Host::looked(elsewhere, saved("a", &[1]), store, stopped(at(1, 50)));
    a.settle();
    assert_eq!((a.role(), a.op()), ("standby", None));
    assert_eq!(a.node.deadline(a.now), Some((a.now + secs(5), Timer::Election)));
    a.wake_for(Timer::Election);
    assert_eq!(a.claim().reign().epoch, Epoch(1));
}
