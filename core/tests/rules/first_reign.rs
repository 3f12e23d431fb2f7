//! Who makes the first data directory, and the first reign.

use crate::host::*;
use primacy_core::instance::{Instance, Op, Saved};
use primacy_core::store::{EpochRecord, Initialize, Key, Record, Response, Txn, View};
use primacy_core::{Boot, Command, CopyId, Epoch, Event, Guard, Input, Lsn, Span, SystemId, Timer};

fn claim_by(name: &str, boot: u64) -> Record {
    Record::Initialize(Initialize { by: name.into(), boot: Boot(boot), system: None, foreign: false })
}

/// A store with nothing but a claim to the bootstrap.
fn claimed_by(name: &str, boot: u64) -> View {
    let mut view = View::default();
    write(&mut view, [claim_by(name, boot)]);
    view
}

/// How long a claim is respected from which nothing comes.
const PATIENCE: Span = secs(30);

#[test]
fn a_cluster_begins_with_a_claim_an_initdb_and_epoch_one() {
    let mut a = Host::looked(config("a"), Saved::default(), View::default(), Instance::Absent);
    let bid = a.write();
    let compare = vec![(Key::Initialize, a.store.as_of), (Key::Reign, a.store.as_of)];
    assert_eq!(bid.txn(), &Txn { compare, put: vec![claim_by("a", 7)] });
    a.answer(&bid);
    assert_eq!(a.told(), [Event::ClaimedBootstrap]);
    let initdb = a.order();
    assert_eq!(initdb.order.op, Op::Initdb);
    assert_eq!(initdb.order.until, a.now + secs(24 * 3_600));
    let made = initdb.order.saved.clone();
    assert_ne!(made.copy, CopyId(0));
    assert_eq!((made.lineage.len(), made.highest), (0, Epoch(0)));
    a.done(&initdb);
    let read = a.read();
    a.answer(&read);
    let claim = a.claim();
    assert_eq!(claim.reign().epoch, Epoch(1));
    let (holder, nonce) = ("a".into(), claim.reign().nonce);
    let initialized = Initialize { by: "a".into(), boot: Boot(7), system: Some(SYSTEM), foreign: false };
    let put = [
        beat(1, 50),
        Record::Epoch(EpochRecord { epoch: Epoch(1), holder, nonce, fork: None, checkpointed: false }),
        Record::Initialize(initialized),
    ];
    assert_eq!(claim.txn().put[1..], put);
    a.answer(&claim);
    a.acknowledge();
    let start = a.order();
    assert_eq!(start.order.op, Op::StartInPlace, "there is nothing to promote from");
    assert_eq!(start.order.saved.lineage, [(Epoch(1), nonce)]);
    a.done(&start);
    a.settle();
    assert_eq!(a.role(), "primary");
    assert_eq!(a.store.epochs[&Epoch(1)].fork, Some(fork_of(1)));
    assert_eq!(a.store.rule.as_ref().map(|rule| rule.leader_copy), Some(made.copy));
    assert_eq!(a.store.members[&"a".into()].copy, made.copy);
}

#[test]
fn a_lost_claim_is_followed_by_a_copy_of_the_winner() {
    let mut b = Host::looked(config("b"), Saved::default(), View::default(), Instance::Absent);
    let bid = b.write();
    b.written([claim_by("a", 1)]);
    b.answer(&bid);
    assert_eq!((b.role(), b.op(), b.asked.len()), ("vacant", None, 0));
    b.store = reign_of_a(2);
    b.input(Input::News(primacy_core::store::News::Interrupted));
    b.settle();
    assert_eq!(b.role(), "standby");
}

#[test]
fn anothers_claim_is_respected_for_six_t_from_its_sight_on() {
    let mut b = Host::looked(config("b"), Saved::default(), claimed_by("a", 1), Instance::Absent);
    assert_eq!(b.asked, []);
    assert_eq!(b.node.deadline(b.now), Some((START + PATIENCE, Timer::Election)));
    b.wake_at(START + PATIENCE - us(1));
    assert_eq!(b.asked, []);
    b.wake_at(START + PATIENCE);
    assert_eq!(b.write().txn().put, [claim_by("b", 7)]);
}

#[test]
fn each_new_claim_is_waited_for_anew() {
    let mut b = Host::looked(config("b"), Saved::default(), claimed_by("a", 1), Instance::Absent);
    b.pass(secs(10));
    b.news([claim_by("c", 1)]);
    assert_eq!(b.node.deadline(b.now), Some((START + secs(10) + PATIENCE, Timer::Election)));
}

#[test]
fn a_claim_of_an_earlier_life_is_renewed_at_once() {
    let mut a = Host::looked(config("a"), Saved::default(), claimed_by("a", 1), Instance::Absent);
    assert_eq!(a.write().txn().put, [claim_by("a", 7)]);
}

#[test]
fn a_member_of_priority_zero_does_not_begin_a_cluster() {
    let mut settings = config("a");
    settings.priority = 0;
    assert_eq!(Host::looked(settings, Saved::default(), View::default(), Instance::Absent).asked, []);
}

#[test]
fn who_has_ever_seen_a_reign_does_not_begin_another_cluster() {
    let past = Saved { highest: Epoch(1), ..Saved::default() };
    let a = Host::looked(config("a"), past, View::default(), Instance::Absent);
    assert_eq!(a.role(), "frozen", "the store has forgotten it");
    let asked: Vec<_> = a.asked.iter().flat_map(|asked| &asked.txn().put).collect();
    assert!(matches!(asked[..], [Record::Epoch(_)]), "{asked:?}");
}

#[test]
fn nor_while_it_can_not_be_said_yet_that_the_store_went_back() {
    let past = Saved { highest: Epoch(1), ..Saved::default() };
    let mut a = Host::new(config("a"), past, View::default(), Instance::Absent);
    a.input(Input::Guard(Guard::Idle));
    let (look, read) = (a.order(), a.read());
    a.news([Record::Member(member("b", 1))]);
    a.input(Input::Answered(read.id, Response::Read(Some(View::default()))));
    a.done(&look);
    assert_eq!((a.role(), a.asked), ("vacant", vec![]), "news have overtaken the read");
}

/// A directory that initdb made, and no reign ever used.
fn spare() -> Instance {
    Instance::Stopped { data: data(at(1, 50)), clean: true, signal: false }
}

fn made() -> Saved {
    Saved { copy: copy_of("a"), ..Saved::default() }
}

#[test]
fn a_bootstrap_interrupted_after_initdb_goes_on_with_what_was_made() {
    let mut a = Host::looked(config("a"), made(), claimed_by("a", 1), spare());
    assert_eq!(a.role(), "vacant");
    let read = a.read();
    a.answer(&read);
    let bid = a.write();
    a.answer(&bid);
    assert_eq!(a.claim().reign().epoch, Epoch(1));
    assert_eq!(a.op(), None, "no second initdb");
}

#[test]
fn what_is_spare_is_not_started() {
    let spare_in = |past: Saved, store: View| {
        let mut a = Host::looked(config("a"), past, store, spare());
        a.role() == "vacant" && a.ordered.take().is_none()
    };
    assert!(spare_in(made(), View::default()));
    assert!(!spare_in(Saved::default(), View::default()), "nobody knows who made it");
    assert!(!spare_in(saved("a", &[1]), claimed_by("a", 1)), "it has been part of a reign");
    let mut won = View::default();
    let system = Some(SYSTEM);
    write(
        &mut won,
        [Record::Initialize(Initialize { by: "b".into(), boot: Boot(1), system, foreign: false })],
    );
    assert!(!spare_in(made(), won), "a bootstrap came to its end");
    let mut reigned = View::default();
    write(&mut reigned, [Record::Reign(reign(1, "b"))]);
    assert!(!spare_in(made(), reigned), "there is a reign");
}

#[test]
fn a_bootstrap_ends_when_another_claims_or_reigns() {
    let bootstrapping = || {
        let mut a = Host::looked(config("a"), Saved::default(), View::default(), Instance::Absent);
        let bid = a.write();
        a.answer(&bid);
        assert_eq!(a.role(), "bootstrap");
        a
    };
    let mut a = bootstrapping();
    a.news([claim_by("b", 1)]);
    assert_eq!(a.role(), "vacant");
    let mut a = bootstrapping();
    a.news([claim_by("a", 1)]);
    assert_eq!(a.role(), "vacant", "another life of ours, which may be at work");
    let mut a = bootstrapping();
    a.news([Record::Reign(reign(1, "b"))]);
    assert_eq!(a.role(), "vacant");
}

#[test]
fn a_bootstrap_makes_good_what_goes_wrong_with_its_directory() {
    let bootstrapping = || {
        let mut a = Host::looked(config("a"), Saved::default(), View::default(), Instance::Absent);
        let bid = a.write();
        a.answer(&bid);
        let initdb = a.order();
        (a, initdb)
    };
    let (mut a, initdb) = bootstrapping();
    a.postgres = Instance::Incomplete;
    a.failed(&initdb, primacy_core::instance::Failure::TimedOut);
    a.pass_pause();
    assert_eq!(a.op(), Some(&Op::SetAside));
    a.settle_until("claiming");

    let (mut a, initdb) = bootstrapping();
    a.postgres = Instance::Unknown;
    a.failed(&initdb, primacy_core::instance::Failure::TimedOut);
    a.pass_pause();
    assert_eq!(a.op(), Some(&Op::Look));

    let (mut a, initdb) = bootstrapping();
    a.postgres = Instance::Foreign(primacy_core::instance::Foreign::NotPostgres);
    a.failed(&initdb, primacy_core::instance::Failure::TimedOut);
    assert_eq!(a.role(), "frozen");
}

#[test]
fn the_first_reign_is_not_claimed_from_a_view_that_may_be_old() {
    let mut a = Host::looked(config("a"), Saved::default(), View::default(), Instance::Absent);
    let bid = a.write();
    a.answer(&bid);
    a.input(Input::News(primacy_core::store::News::Interrupted));
    let (initdb, read) = (a.order(), a.read());
    a.unknown(&read);
    a.pass(ms(100));
    a.done(&initdb);
    let read = a.read();
    assert_eq!(a.role(), "bootstrap");
    a.answer(&read);
    a.claim();
}

#[test]
fn a_first_start_that_fails_is_tried_again() {
    let mut a = Host::empty("a");
    a.input(Input::Guard(Guard::Idle));
    a.settle_until("promoting");
    a.acknowledge();
    let start = a.order();
    assert_eq!(start.order.op, Op::StartInPlace);
    a.failed(&start, primacy_core::instance::Failure::TimedOut);
    assert_eq!(a.role(), "promoting", "nobody else has the data");
    a.pass_pause();
    assert_eq!(a.op(), Some(&Op::StartInPlace));
    assert_eq!(a.node.instance().data().map(|data| data.position.lsn), Some(Lsn(50)));
}

#[test]
fn a_first_start_that_goes_on_failing_is_tried_less_and_less_often() {
    let mut a = Host::empty("a");
    a.input(Input::Guard(Guard::Idle));
    a.settle_until("promoting");
    a.acknowledge();
    let mut pauses = Vec::new();
    for _ in 0..3 {
        let start = a.order();
        a.failed(&start, primacy_core::instance::Failure::TimedOut);
        let failed = a.now;
        while a.op().is_none() {
            let (time, _) = a.node.deadline(a.now).expect("it is tried again");
            a.wake_at(time);
        }
        pauses.push(a.now.since(failed));
    }
    assert_eq!(pauses, [ms(100), ms(200), ms(400)]);
}

#[test]
fn an_agent_that_is_to_stop_does_not_wait_for_a_first_start_and_keeps_the_reign() {
    let mut a = Host::empty("a");
    a.input(Input::Guard(Guard::Idle));
    a.settle_until("promoting");
    a.acknowledge();
    let start = a.order();
    assert_eq!(start.order.op, Op::StartInPlace);
    a.command(Command::Shutdown);
    let kill = a.order();
    assert_eq!(kill.order.op, Op::Kill);
    a.done(&kill);
    assert!(a.exited);
    assert_eq!(a.store.reign.as_ref().unwrap().released, None, "nobody else could take it");
}

#[test]
fn a_vacant_member_looks_and_tidies_up_first() {
    let mut a = Host::looked(config("a"), Saved::default(), claimed_by("b", 1), Instance::Absent);
    a.sees(Instance::Unknown);
    assert_eq!(a.op(), Some(&Op::Look));
    let mut a = Host::looked(config("a"), Saved::default(), claimed_by("b", 1), Instance::Absent);
    a.sees(Instance::Incomplete);
    assert_eq!(a.op(), Some(&Op::SetAside));
    let mut a = Host::looked(config("a"), Saved::default(), claimed_by("b", 1), Instance::Absent);
    a.sees(in_recovery(at(1, 50)));
    assert_eq!(a.role(), "standby");
}

#[test]
fn a_directory_whose_making_was_not_heard_of_is_known_by_what_lies_beside_it() {
    let mut a = Host::looked(config("a"), Saved::default(), View::default(), Instance::Absent);
    let bid = a.write();
    a.answer(&bid);
    let initdb = a.order();
    a.unheard(&initdb);
    assert_eq!(*a.node.saved(), initdb.order.saved);
    // Another member's cluster: an unused directory is moved aside for it; a used one would freeze its node.
    let claim = Initialize { by: "b".into(), boot: Boot(1), system: Some(SystemId(78)), foreign: false };
    a.news([Record::Initialize(claim), Record::Reign(reign(1, "b"))]);
    assert_eq!(a.node.needs_operator(), None);
    a.pass_pause();
    assert_eq!(a.op(), Some(&Op::SetAside));
}
