//! The sentences people read.

use crate::host::*;
use primacy_core::event::{Frozen, Right};
use primacy_core::instance::{Failure, Foreign, Op};
use primacy_core::store::Refusal;
use primacy_core::{Config, Epoch, Event, Lsn, Name, Position, Span, SystemId, Time};
use std::hash::{DefaultHasher, Hash, Hasher};

fn lines<T: ToString>(things: impl IntoIterator<Item = T>) -> Vec<String> {
    things.into_iter().map(|thing| thing.to_string()).collect()
}

#[test]
fn numbers_and_places_look_as_postgresql_writes_them() {
    assert_eq!(Lsn(0x1_0000_0abc).to_string(), "1/ABC");
    assert_eq!(Lsn(0xffff_ffff).to_string(), "0/FFFFFFFF");
    assert_eq!(at(3, 0x2_0000_0001).to_string(), "t3 2/1");
    assert_eq!(format!("{:?} {:?} {:?}", Lsn(255), at(1, 16), Name::from("a")), "0/FF t1 0/10 a");
    assert_eq!((Name::from("a").as_str(), Name::from("a").to_string()), ("a", "a".into()));
}

#[test]
fn a_span_is_told_in_the_unit_that_fits() {
    let told = lines([Span::ZERO, us(9_999), us(10_000), us(999_999), us(1_000_000), us(12_345_678)]);
    assert_eq!(told, ["0 us", "9999 us", "10 ms", "999 ms", "1.0 s", "12.3 s"]);
    assert_eq!(format!("{:?} {:?}", ms(1), Time(5)), "1000us @5");
}

#[test]
fn times_and_spans_are_reckoned_without_going_below_zero() {
    assert_eq!((secs(2), ms(3), ms(2).times(3)), (us(2_000_000), us(3_000), us(6_000)));
    assert_eq!((ms(3) + ms(2), ms(3) - ms(2), ms(2) - ms(3)), (ms(5), ms(1), Span::ZERO));
    assert_eq!((Time(3) + us(2), Time(3) - us(2), Time(2) - us(3)), (Time(5), Time(1), Time(0)));
    assert_eq!((Time(3).since(Time(1)), Time(1).since(Time(3))), (us(2), Span::ZERO));
    assert_eq!(Time(u64::MAX) + us(1), Time(u64::MAX));
    assert_eq!(Epoch(1).next(), Epoch(2));
}

#[test]
fn a_position_is_first_of_all_one_of_a_timeline() {
    assert!(at(2, 1) > at(1, 999));
    assert!(at(2, 2) > at(2, 1));
    assert_eq!(Position::default(), at(0, 0));
}

#[test]
fn a_bad_setting_is_named_with_what_must_hold() {
    let refused = Config { retry_after: Span::ZERO, ..config("a") }.validate();
    assert_eq!(refused.expect_err("zero").to_string(), "retry_after: must not be zero");
}

#[test]
fn settings_are_good_up_to_their_bounds() {
    let good = |config: Config| assert_eq!(config.validate(), Ok(()));
    good(Config { demote_lead: ms(500), ..Config::new("a".into(), secs(3)) });
    good(Config { stop_budget: us(2_489_999), beat_every: us(1), demote_lead: us(1), ..config("a") });
    good(Config { beat_every: us(1_666_666), ..config("a") });
    good(Config { store_patience: ms(1_120), ..config("a") });
    good(Config { retry_after: us(1), beat_every: us(1), ..config("a") });
}

#[test]
fn a_node_is_told_from_others_by_its_name() {
    let hash = |config: Config| {
        let mut hasher = DefaultHasher::new();
        config.hash(&mut hasher);
        hasher.finish()
    };
    assert_ne!(hash(config("a")), hash(config("b")));
    assert_eq!(hash(config("a")), hash(Config { priority: 9, ..config("a") }));
}

#[test]
fn who_stands_says_by_what_right() {
    let stands = |right| Event::Stands { epoch: Epoch(3), right, position: at(2, 255) };
    assert_eq!(
        lines([Right::Leader, Right::Listed, Right::HandedOver].map(stands)),
        [
            "stands for epoch 3 as the last leader, at t2 0/FF",
            "stands for epoch 3 as a listed member, at t2 0/FF",
            "stands for epoch 3 as the one it was handed to, at t2 0/FF",
        ]
    );
}

#[test]
fn a_node_that_can_not_go_on_says_what_a_person_has_to_look_at() {
    let reasons = [
        Frozen::StoreWentBack { seen: Epoch(3), found: Epoch(1) },
        Frozen::OtherSystem { ours: SystemId(1), clusters: SystemId(2) },
        Frozen::ForeignData(Foreign::NotPostgres),
        Frozen::ForeignData(Foreign::Damaged),
        Frozen::ForeignData(Foreign::OtherVersion),
        Frozen::ForeignData(Foreign::RunsElsewhere),
        Frozen::ForeignCluster,
        Frozen::PromotedByHand,
    ];
    assert_eq!(
        lines(reasons),
        [
            "the store knows of epoch 1 at most, but epoch 3 has been: it was wiped or restored from an old backup; \
             stop all agents, run primacy rebuild-store where the data goes furthest, and start them",
            "the data directory belongs to system 1, the cluster is system 2: correct scope or postgresql.data_dir, or \
             move the directory away to get a copy of the cluster's; then restart the agent",
            "the data directory holds something that isn't a PostgreSQL cluster: move it away, or correct \
             postgresql.data_dir; then restart the agent",
            "pg_control is missing or damaged in a data directory that was whole, and may be the only one with some \
             commits: put the file back, or move the directory away to get a copy of the primary's; then restart the agent",
            "the data directory was made by another major version of PostgreSQL: correct postgresql.bin_dir, or upgrade \
             the data; then restart the agent",
            "a PostgreSQL that this agent did not start runs on the data directory: stop it; then restart the agent",
            "another manager has initialised this scope in the store: name another scope or namespace, and restart the agent",
            "somebody promoted this copy without an order, and no other primary is in sight",
        ]
    );
    let wanted = Event::Reinitializes { source: "a".into(), position: at(2, 16) };
    assert_eq!(
        wanted.to_string(),
        "an operator wants it so: moves its data at t2 0/10 aside and copies anew from a"
    );
    let froze = Event::Froze { why: Frozen::ForeignCluster };
    assert_eq!(froze.to_string(), format!("needs an operator: {}", Frozen::ForeignCluster));
}

#[test]
fn what_could_not_be_done_is_told_with_the_reason() {
    let failed = |op, why| Event::Failed { op, why }.to_string();
    assert_eq!(
        failed(Op::Clone("a".into()), Failure::TooLate),
        "could not copy the data from a: it came too late"
    );
    assert_eq!(
        failed(Op::Promote, Failure::WrongTimeline),
        "could not promote: it ended on the wrong timeline"
    );
    assert_eq!(failed(Op::Stop, Failure::TimedOut), "could not stop: it took too long");
    assert_eq!(
        failed(Op::Initdb, Failure::Other("no space".into())),
        "could not initialise the data directory: no space"
    );
    let refused = Event::SwitchoverRefused { why: Refusal::NotStreaming };
    assert_eq!(refused.to_string(), "refuses the switchover: the candidate doesn't stream from the primary");
}

#[test]
fn what_becomes_of_a_copy_is_told_with_its_places() {
    let (epoch, to, source): (_, Name, Name) = (Epoch(3), "a".into(), "a".into());
    let (position, left) = (at(2, 0x300), at(1, 0x200));
    let told = lines([
        Event::NotContained { epoch, position, left: Some(left) },
        Event::NotContained { epoch, position, left: None },
        Event::Rewinds { to, left, position },
        Event::Starved { source: source.clone(), position },
        Event::Reinitializes { source, position },
        Event::Rewound { epoch },
    ]);
    let expected = [
        "its data at t2 0/300 left the history of epoch 3 at t1 0/200: moves it aside and copies anew",
        "its data at t2 0/300 is not part of the history of epoch 3: moves it aside and copies anew",
        "its data at t2 0/300 left the history of a at t1 0/200: rewinds it",
        "the WAL that follows t2 0/300 is gone at a and in the archive: moves the data aside and copies anew",
        "an operator wants it so: moves its data at t2 0/300 aside and copies anew from a",
        "its data is part of the history of epoch 3 again",
    ];
    assert_eq!(told, expected);
}

#[test]
fn times_are_told_as_what_is_left() {
    let told = [
        Event::Lapsed { holder: "a".into(), after: secs(5) },
        Event::Took { epoch: Epoch(2), fence_in: ms(4_490) },
        Event::BeatMissed { authority_left: ms(900) },
        Event::LeaseEnds { fence_in: secs(1) },
    ];
    assert_eq!(
        lines(told),
        [
            "the lease of a has lapsed: unchanged for 5.0 s",
            "took epoch 2, fenced in 4.4 s",
            "the store did not confirm a beat in time; 900 ms of authority left",
            "stops the primary: no beat was confirmed, the fence falls in 1.0 s",
        ]
    );
}
