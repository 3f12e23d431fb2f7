//! How a copy that has left the elected history comes back to it.

use crate::host::*;
use primacy_core::effect::Reply;
use primacy_core::instance::{Failure, Instance, Op, Saved};
use primacy_core::store::{EpochRecord, Record, View};
use primacy_core::{Command, Config, CopyId, Epoch, Event, Input, Nonce, Position, RequestId};

/// `b` with a copy that followed epoch 1 up to here; `a` was elected for epoch 2 at 1/100.
fn past_the_fork(position: Position) -> Host {
    Host::looked(config("b"), saved("b", &[1]), reign_of_a(2), stopped(position))
}

fn rewinds(left: Position, position: Position) -> Event {
    Event::Rewinds { to: "a".into(), left, position }
}

/// Epoch 2 as its holder writes it, before or after its first checkpoint.
fn second(checkpointed: bool) -> Record {
    Record::Epoch(EpochRecord { checkpointed, ..epoch_record(2, "a", Some(fork_of(2))) })
}

#[test]
fn a_copy_that_went_past_the_fork_is_rewound_and_follows_under_a_mark_of_its_own() {
    let mut b = past_the_fork(at(1, 101));
    assert_eq!(b.told(), [rewinds(at(1, 100), at(1, 101))]);
    let rewind = b.order();
    assert_eq!(rewind.order.op, Op::Rewind("a".into()));
    assert_eq!(rewind.order.left, Some(at(1, 100)), "what is lost can be reported");
    let new = rewind.order.saved.clone();
    assert!(new.mending, "whoever finds it half done knows so");
    assert!(new.copy != CopyId(0) && new.copy != copy_of("b"), "it isn't the copy that was elected");
    assert_eq!(new.lineage, [(Epoch(1), nonce_of(1)), (Epoch(2), nonce_of(2))]);
    let known = Saved { highest: Epoch(2), ..saved("b", &[1]) };
    assert_eq!(b.node.saved(), &known, "until it is begun the copy is what it was");
    b.done(&rewind);
    assert_eq!(b.told(), [Event::Rewound { epoch: Epoch(2) }]);
    assert_eq!(b.op(), Some(&Op::StartStandby));
    b.settle();
    assert_eq!(b.node.saved(), &Saved { mending: false, ..new.clone() });
    assert_eq!(b.store.members[&"b".into()].copy, new.copy, "and says so");
    assert!(matches!(b.postgres, Instance::Standby { streaming: true, .. }));
}

#[test]
fn a_copy_in_recovery_is_stopped_before_it_is_rewound() {
    let mut b = Host::looked(config("b"), saved("b", &[1]), reign_of_a(2), in_recovery(at(1, 101)));
    let stop = b.order();
    assert_eq!((&stop.order.op, stop.order.left), (&Op::Stop, None));
    b.done(&stop);
    assert_eq!(b.op(), Some(&Op::Rewind("a".into())));
}

#[test]
fn nobody_is_rewound_to_a_primary_that_has_not_written_a_checkpoint() {
    let mut store = reign_of_a(2);
    write(&mut store, [second(false)]);
    let mut b = Host::looked(config("b"), saved("b", &[1]), store, stopped(at(1, 101)));
    assert_eq!((b.op().cloned(), b.told()), (None, vec![]), "it waits");
    b.news([second(true)]);
    assert_eq!(b.op(), Some(&Op::Rewind("a".into())));
}

#[test]
fn timelines_that_pg_rewind_would_mistake_are_copied_anew() {
    let op = |lineage: &[(u32, u64)], position: Position, store: View| {
        let lineage = lineage.iter().map(|(epoch, nonce)| (Epoch(*epoch), Nonce(*nonce))).collect();
        let copy = Saved { lineage, ..saved("b", &[1]) };
        Host::looked(config("b"), copy, store, stopped(position)).order().order.op
    };
    let rewind = Op::Rewind("a".into());
    assert_eq!(op(&[(1, 10), (2, 20)], at(2, 250), reign_of_a(3)), rewind);
    assert_eq!(
        op(&[(1, 10), (2, 21)], at(2, 250), reign_of_a(3)),
        Op::SetAside,
        "another reign of this number"
    );
    assert_eq!(op(&[(1, 10), (2, 21)], at(1, 150), reign_of_a(3)), Op::SetAside, "of which WAL may be there");
    assert_eq!(op(&[(1, 10), (2, 0)], at(2, 150), reign_of_a(3)), Op::SetAside, "promoted by hand");
    assert_eq!(op(&[(1, 11)], at(1, 50), reign_of_a(3)), Op::SetAside, "nothing in common");
    assert_eq!(op(&[(1, 10), (9, 90)], at(1, 150), reign_of_a(3)), Op::SetAside, "nobody knows that reign");
}

#[test]
fn a_reign_that_won_nothing_is_left_where_it_began() {
    let mut store = reign_of_a(2);
    write(&mut store, [Record::Epoch(EpochRecord { fork: None, ..epoch_record(3, "b", None) })]);
    write(&mut store, [Record::Epoch(epoch_record(4, "a", Some(at(2, 260)))), Record::Reign(reign(4, "a"))]);
    let b = Host::looked(config("b"), saved("b", &[1, 2, 3]), store, stopped(at(3, 300)));
    let rewind = b.ordered.expect("an order").order;
    assert_eq!((rewind.op, rewind.left), (Op::Rewind("a".into()), Some(at(2, 200))));
}

#[test]
fn a_copy_that_can_not_be_rewound_is_moved_aside() {
    let mut b = past_the_fork(at(1, 101));
    let rewind = b.order();
    b.failed(&rewind, Failure::Hopeless);
    b.told();
    b.pass_pause();
    let aside = b.order();
    assert_eq!((&aside.order.op, aside.order.left), (&Op::SetAside, Some(at(1, 100))));
    let left = Some(at(1, 100));
    assert_eq!(b.told(), [Event::NotContained { epoch: Epoch(2), position: at(1, 101), left }]);
}

#[test]
fn a_rewind_that_did_not_begin_is_tried_again() {
    let mut b = past_the_fork(at(1, 101));
    let rewind = b.order();
    b.failed(&rewind, Failure::TimedOut);
    b.told();
    b.input(Input::Wake);
    assert_eq!((b.op().cloned(), b.told()), (None, vec![]), "not during the pause");
    b.pass_pause();
    assert_eq!(b.op(), Some(&Op::Rewind("a".into())));
}

#[test]
fn a_half_rewound_copy_is_moved_aside_whoever_finds_it() {
    let mut b = past_the_fork(at(1, 101));
    let rewind = b.order();
    b.durable = rewind.order.saved.clone();
    b.failed(&rewind, Failure::TimedOut);
    assert_eq!(b.node.instance(), &Instance::Incomplete);
    b.pass_pause();
    assert_eq!(b.op(), Some(&Op::SetAside), "by the agent that began it");

    let mut later = Host::looked(config("b"), rewind.order.saved, reign_of_a(2), stopped(at(2, 150)));
    let aside = later.order();
    assert_eq!(aside.order.op, Op::SetAside, "by the next one");
    assert_eq!(aside.order.saved, Saved { highest: Epoch(2), ..Saved::default() });
    later.done(&aside);
    assert_eq!(later.op(), Some(&Op::Clone("a".into())));
}

#[test]
fn a_marker_that_outlived_what_it_marked_is_in_nobodys_way() {
    let marked = Saved { mending: true, copy: CopyId(9), ..saved("b", &[1, 2]) };
    let b = Host::looked(config("b"), marked, reign_of_a(2), Instance::Absent);
    assert_eq!(b.op(), Some(&Op::Clone("a".into())));
}

#[test]
fn where_rewinds_are_switched_off_copies_are_made_anew() {
    let without = Config { rewind: false, ..config("b") };
    let mut b = Host::looked(without, saved("b", &[1]), reign_of_a(2), stopped(at(1, 101)));
    assert_eq!(b.order().order.op, Op::SetAside);
}

#[test]
fn while_the_primary_may_be_gone_for_good_a_copy_that_left_its_history_is_kept_to_lead_from() {
    let config = Config { rewind: false, ..config("b") };
    let mut b = Host::looked(config, saved("b", &[1]), reign_of_a(2), in_recovery(at(1, 101)));
    let stop = b.order();
    assert_eq!(stop.order.op, Op::Stop);
    b.pass(secs(5));
    b.done(&stop);
    let start = b.order();
    assert_eq!(start.order.op, Op::StartStandby);
    b.done(&start);
    assert_eq!(b.op(), None);
    b.command(Command::Failover { consent: false });
    let (ours, published) = (at(1, 101), at(2, 200));
    assert_eq!(
        b.replies(),
        [(RequestId(1), Reply::MayLose { ours, published })],
        "an operator may choose it"
    );
    b.news([beat(2, 210)]);
    assert_eq!(b.op(), Some(&Op::Stop), "the primary was only slow");
}

#[test]
fn a_new_primary_settles_once_and_says_that_it_can_be_rewound_to() {
    let mut a = Host::last_leader(config("a"));
    a.settle_until("primary");
    let settle = a.order();
    assert_eq!(settle.order.op, Op::Settle);
    assert!(!a.store.epochs[&Epoch(2)].checkpointed);
    assert_eq!(a.store.epochs[&Epoch(2)].fork, Some(at(1, 100)));
    a.failed(&settle, Failure::TimedOut);
    a.pass_pause();
    let again = a.order();
    assert_eq!(again.order.op, Op::Settle, "until it has been done");
    let postgres = a.postgres.clone();
    a.done(&again);
    a.sees(postgres);
    assert_eq!(a.op(), None, "once, though the checkpoint takes its time");
    a.sees(writable(at(2, 200), &[]));
    a.settle();
    let record = a.store.epochs[&Epoch(2)].clone();
    assert_eq!((record.checkpointed, record.fork), (true, Some(at(1, 100))));
    assert!(!a.store.epochs[&Epoch(1)].checkpointed || epoch_record(1, "a", Some(fork_of(1))).checkpointed);
}

#[test]
fn a_restart_in_place_is_settled_anew() {
    let mut a = Host::primary();
    a.sees(Instance::Stopped { data: data(at(2, 200)), clean: false, signal: false });
    let restart = a.order();
    assert_eq!(restart.order.op, Op::StartInPlace);
    a.done(&restart);
    assert_eq!(a.op(), Some(&Op::Settle));
}

#[test]
fn a_standby_that_takes_no_connections_yet_follows_but_does_not_stand() {
    let standby = |ready| {
        let source = Some(("a".into(), Epoch(2)));
        Instance::Standby { data: data(at(2, 200)), source, streaming: false, ready, starved: false }
    };
    let unready = Instance::Standby {
        data: data(at(2, 150)),
        source: None,
        streaming: false,
        ready: false,
        starved: false,
    };
    let mut b = Host::looked(config("b"), saved("b", &[1, 2]), reign_of_a(2), unready);
    assert_eq!(b.order().order.op, Op::Follow("a".into()));

    let mut b = Host::standby();
    b.sees(standby(false));
    assert_eq!(b.node.deadline(b.now), None, "no election to wait for");
    b.sees(standby(true));
    assert!(b.node.deadline(b.now).is_some());
}

#[test]
fn a_copy_whose_next_wal_is_gone_everywhere_is_made_anew() {
    let starved = |source: (&str, u32)| {
        let source = Some((source.0.into(), Epoch(source.1)));
        Instance::Standby { data: data(at(2, 150)), source, streaming: false, ready: true, starved: true }
    };
    let mut b = Host::standby();
    b.sees(starved(("a", 2)));
    assert_eq!(b.told(), [Event::Starved { source: "a".into(), position: at(2, 150) }]);
    let stop = b.order();
    assert_eq!(stop.order.op, Op::Stop);
    b.done(&stop);
    let aside = b.order();
    assert_eq!((&aside.order.op, aside.order.left), (&Op::SetAside, None), "nothing is lost with it");
    b.done(&aside);
    assert_eq!(b.op(), Some(&Op::Clone("a".into())));

    let mut b = Host::standby();
    b.sees(starved(("c", 1)));
    assert_eq!(b.op(), Some(&Op::Follow("a".into())), "another source may have it");
}

#[test]
fn a_copy_that_lacked_wal_while_nobody_was_known_to_live_is_not_given_up_later() {
    let mut b = Host::standby();
    let sees = |b: &mut Host, lsn, starved: bool| {
        let source = Some(("a".into(), Epoch(2)));
        let data = data(at(2, lsn));
        b.sees(Instance::Standby { data, source, streaming: !starved, ready: true, starved });
    };
    b.pass(secs(6));
    sees(&mut b, 150, true);
    assert!(!b.told().iter().any(|event| matches!(event, Event::Starved { .. })));
    sees(&mut b, 200, false);
    b.news([beat(2, 260)]);
    assert_ne!(b.op(), Some(&Op::Stop), "the archive had it in the end");
}

#[test]
fn what_one_holder_lacks_the_next_may_have() {
    let mut b = Host::standby();
    let (data, source) = (data(at(2, 150)), Some(("a".into(), Epoch(2))));
    b.sees(Instance::Standby { data, source, streaming: false, ready: true, starved: true });
    let stop = b.order();
    b.news([Record::Reign(reign(3, "c")), Record::Epoch(epoch_record(3, "c", Some(fork_of(3))))]);
    b.done(&stop);
    assert_eq!(b.op(), Some(&Op::StartStandby));
}
