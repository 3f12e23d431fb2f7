//! The plan: which faults happen when, drawn from a seed before anything happens.
//!
//! A plan is an endless list of rounds, each decided by seed and number alone. A round is a list of faults with their
//! moments, counted from its beginning; all of them are undone by its end, and the cluster then has to become healthy
//! before the next one begins. Within a round, bursts of up to three faults alternate with quiet times, some long
//! enough to become healthy and some not.
//!
//! Whom a fault hits is a role, not a host: who is the primary shows only at its moment.

use std::fmt;

use serde::Serialize;

use super::random::Random;

/// Faults of a round.
pub const FAULTS_EACH_ROUND: usize = 8;

/// Before data is removed the cluster gets this much quiet, and as much again to copy it anew.
const WIPE_QUIET_MILLIS: u64 = 10_000;

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `kill -9`; what is a service is restarted at once.
    Killed(Victim),
    /// The agent killed, and kept away.
    AgentAway,
    /// The agent ended in order, and started again later.
    AgentStopped,
    /// The agent frozen.
    AgentFrozen,
    /// All of PostgreSQL frozen.
    PostgresFrozen,
    /// The host loses its power.
    PowerLost,
    /// All processes of the host are asked to end; later it loses its power and is started again.
    ShutDown,
    /// Something wrong with the host's network.
    Network(Trouble),
    /// The member of etcd frozen.
    StoreFrozen,
    /// Two members of etcd frozen.
    StoreMajorityFrozen,
    /// All members of etcd killed, and away.
    StoreAway,
    /// A switchover to whoever is best.
    Switchover,
    /// A switchover to the one that is hit.
    SwitchoverTo,
    /// A standby is asked to take a new copy.
    Reinit,
    /// A host goes down and comes back with an empty data directory.
    Wiped,
}

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Victim {
    /// PostgreSQL's first process.
    Postmaster,
    /// Its other ones, the checkpointer apart.
    Backends,
    /// Its checkpointer.
    Checkpointer,
    /// The agent.
    Agent,
    /// The guard.
    Guard,
    /// Both.
    AgentAndGuard,
    /// The member of etcd.
    Etcd,
}

/// What is wrong with a host's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// The host neither sends nor receives.
    CutOff,
    /// It receives nothing.
    Inbound,
    /// What it sends is lost.
    Outbound,
    /// It can't reach the rest of etcd, nor the rest it.
    Etcd,
    /// It can't reach the others' PostgreSQL, nor they its.
    Replication,
    /// All it sends and receives is late.
    Slow {
        /// By so many milliseconds each way.
        millis: u64,
    },
}

/// What a fault takes hold of. No two of a burst take hold of the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Postgres,
    Agent,
    Power,
    Network,
    Store,
    Role,
    Data,
}

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Whom {
    /// The primary at that moment.
    Primary,
    /// The first of the others.
    OneStandby,
    /// The second.
    OtherStandby,
}

/// A fault with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// Milliseconds from the beginning of the round.
    pub at: u64,
    /// When it is undone; the same for those that need no undoing.
    pub until: u64,
    /// What.
    pub kind: Kind,
    /// Whom.
    pub whom: Whom,
}

/// Faults up to a moment at which all of them are undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Round {
    /// Its number, from 1.
    pub number: u64,
    /// The faults, in order of their beginnings.
    pub faults: Vec<Planned>,
    /// Its end, in milliseconds from its beginning.
    pub end: u64,
}

/// How often each kind is drawn, and how long it lasts at least and less than, in milliseconds.
const KINDS: &[((Kind, u64, u64), u64)] = &[
    ((Kind::Killed(Victim::Postmaster), 0, 0), 4),
    ((Kind::Killed(Victim::Backends), 0, 0), 2),
    ((Kind::Killed(Victim::Checkpointer), 0, 0), 2),
    ((Kind::Killed(Victim::Agent), 0, 0), 3),
    ((Kind::Killed(Victim::Guard), 0, 0), 2),
    ((Kind::Killed(Victim::AgentAndGuard), 0, 0), 2),
    ((Kind::AgentAway, 1_000, 15_000), 3),
    ((Kind::AgentStopped, 500, 15_000), 4),
    ((Kind::AgentFrozen, 500, 15_000), 4),
    ((Kind::PostgresFrozen, 500, 15_000), 4),
    ((Kind::PowerLost, 500, 15_000), 5),
    ((Kind::ShutDown, 3_000, 15_000), 3),
    ((Kind::Network(Trouble::CutOff), 500, 15_000), 6),
    ((Kind::Network(Trouble::Inbound), 500, 12_000), 2),
    ((Kind::Network(Trouble::Outbound), 500, 12_000), 2),
    ((Kind::Network(Trouble::Etcd), 500, 15_000), 4),
    ((Kind::Network(Trouble::Replication), 500, 15_000), 4),
    ((Kind::Network(Trouble::Slow { millis: 0 }), 2_000, 15_000), 4),
    ((Kind::StoreFrozen, 500, 12_000), 3),
    ((Kind::Killed(Victim::Etcd), 0, 0), 3),
    ((Kind::StoreMajorityFrozen, 500, 10_000), 2),
    ((Kind::StoreAway, 500, 10_000), 1),
    ((Kind::Switchover, 0, 0), 4),
    ((Kind::SwitchoverTo, 0, 0), 4),
    ((Kind::Reinit, 0, 0), 2),
    ((Kind::Wiped, 500, 3_000), 3),
];

impl Round {
    /// The round of this number of a seed's plan.
    pub fn draw(seed: u64, number: u64) -> Round {
        let mut random = Random::new(seed, number);
        let mut faults: Vec<Planned> = Vec::new();
        let (mut now, mut end) = (random.between(500, 4_000), 0);
        while faults.len() < FAULTS_EACH_ROUND {
            let many = *random.weighted(&[(1, 4), (2, 3), (3, 3)]);
            let burst = burst(&mut random, now, many.min(FAULTS_EACH_ROUND - faults.len()));
            end = burst.iter().map(|fault| fault.until).max().unwrap_or(now);
            let wiped = burst.iter().any(|fault| fault.kind == Kind::Wiped);
            now = end + if wiped { WIPE_QUIET_MILLIS } else { quiet(&mut random) };
            faults.extend(burst);
        }
        faults.sort_by_key(|fault| fault.at);
        Round { number, faults, end }
    }
}

/// Long enough to become healthy, or not.
fn quiet(random: &mut Random) -> u64 {
    if random.percent(50) { random.between(100, 3_000) } else { random.between(4_000, 12_000) }
}

/// Faults that begin close to each other. Data is removed only while nothing else happens.
fn burst(random: &mut Random, from: u64, many: usize) -> Vec<Planned> {
    let mut faults: Vec<Planned> = Vec::new();
    while faults.len() < many {
        let fault = one(random, from);
        if fault.kind == Kind::Wiped {
            if faults.is_empty() {
                let later = |at| at + WIPE_QUIET_MILLIS;
                return vec![Planned { at: later(fault.at), until: later(fault.until), ..fault }];
            }
            continue;
        }
        if faults.iter().all(|other| other.kind.hold() != fault.kind.hold()) {
            faults.push(fault);
        }
    }
    faults
}

fn one(random: &mut Random, from: u64) -> Planned {
    let (kind, least, most) = *random.weighted(KINDS);
    let slow = matches!(kind, Kind::Network(Trouble::Slow { .. }));
    let kind = if slow { Kind::Network(Trouble::Slow { millis: random.between(5, 400) }) } else { kind };
    let standby = if random.percent(50) { Whom::OneStandby } else { Whom::OtherStandby };
    let never_primary = matches!(kind, Kind::SwitchoverTo | Kind::Reinit | Kind::Wiped);
    let primary = kind == Kind::Switchover || random.percent(60) && !never_primary;
    let whom = if primary { Whom::Primary } else { standby };
    let at = from + random.between(0, 4_000);
    let until = if most == 0 { at } else { at + random.between(least, most) };
    Planned { at, until, kind, whom }
}

impl Kind {
    fn hold(self) -> Hold {
        match self {
            Kind::Killed(Victim::Postmaster | Victim::Backends | Victim::Checkpointer)
            | Kind::PostgresFrozen => Hold::Postgres,
            Kind::Killed(Victim::Agent | Victim::Guard | Victim::AgentAndGuard)
            | Kind::AgentAway
            | Kind::AgentStopped
            | Kind::AgentFrozen => Hold::Agent,
            Kind::PowerLost | Kind::ShutDown => Hold::Power,
            Kind::Network(_) => Hold::Network,
            Kind::Killed(Victim::Etcd) | Kind::StoreFrozen | Kind::StoreMajorityFrozen | Kind::StoreAway => {
                Hold::Store
            }
            Kind::Switchover | Kind::SwitchoverTo => Hold::Role,
            Kind::Reinit | Kind::Wiped => Hold::Data,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Killed(victim) => write!(f, "{victim} killed"),
            Kind::AgentAway => f.write_str("agent killed and kept away"),
            Kind::AgentStopped => f.write_str("agent asked to end"),
            Kind::AgentFrozen => f.write_str("agent frozen"),
            Kind::PostgresFrozen => f.write_str("PostgreSQL frozen"),
            Kind::PowerLost => f.write_str("power lost"),
            Kind::ShutDown => f.write_str("all processes asked to end"),
            Kind::Network(trouble) => write!(f, "{trouble}"),
            Kind::StoreFrozen => f.write_str("etcd frozen"),
            Kind::StoreMajorityFrozen => f.write_str("etcd frozen, and another member"),
            Kind::StoreAway => f.write_str("all of etcd killed and kept away"),
            Kind::Switchover => f.write_str("switchover to the best asked for"),
            Kind::SwitchoverTo => f.write_str("switchover to it asked for"),
            Kind::Reinit => f.write_str("new copy asked for"),
            Kind::Wiped => f.write_str("power lost and data directory removed"),
        }
    }
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Victim::Postmaster => "postmaster",
            Victim::Backends => "backends",
            Victim::Checkpointer => "checkpointer",
            Victim::Agent => "agent",
            Victim::Guard => "guard",
            Victim::AgentAndGuard => "agent and guard",
            Victim::Etcd => "etcd",
        })
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::CutOff => f.write_str("cut off"),
            Trouble::Inbound => f.write_str("receives nothing"),
            Trouble::Outbound => f.write_str("what it sends is lost"),
            Trouble::Etcd => f.write_str("cut off from the rest of etcd alone"),
            Trouble::Replication => f.write_str("cut off from the others' PostgreSQL"),
            Trouble::Slow { millis } => write!(f, "packets late by {millis} ms each way"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many() -> impl Iterator<Item = Round> {
        (0..40).flat_map(|seed| (1..=25).map(move |number| Round::draw(seed, number)))
    }

    #[test]
    fn the_same_seed_draws_the_same_plan() {
        assert_eq!(Round::draw(1, 3), Round::draw(1, 3));
        assert_ne!(Round::draw(1, 3), Round::draw(1, 4));
        assert_ne!(Round::draw(1, 3), Round::draw(2, 3));
    }

    #[test]
    fn everything_is_undone_by_the_end_of_its_round() {
        for round in many() {
            assert_eq!(round.faults.len(), FAULTS_EACH_ROUND);
            assert!(round.faults.iter().all(|fault| fault.at <= fault.until && fault.until <= round.end));
            assert!(round.faults.is_sorted_by_key(|fault| fault.at));
        }
    }

    #[test]
    fn the_last_copy_is_never_wiped() {
        let mut wiped = 0;
        for round in many() {
            for fault in round.faults.iter().filter(|fault| fault.kind == Kind::Wiped) {
                wiped += 1;
                assert_ne!(fault.whom, Whom::Primary);
                let (from, to) = (fault.at - WIPE_QUIET_MILLIS, fault.until + WIPE_QUIET_MILLIS);
                let near = |other: &&Planned| other.until > from && other.at < to;
                let also = round.faults.iter().filter(|other| *other != fault).find(near);
                assert_eq!(also, None, "round {}: {fault:?}", round.number);
            }
        }
        assert!(wiped > 100, "only {wiped}: this test sees nothing");
    }

    #[test]
    fn at_most_three_at_a_time_and_never_two_on_the_same_thing() {
        let mut most = 0;
        for round in many() {
            for fault in &round.faults {
                let during = |other: &&Planned| other.at <= fault.at && fault.at < other.until;
                let others: Vec<&Planned> = round.faults.iter().filter(during).collect();
                most = most.max(others.len());
                let same = others.iter().filter(|other| other.kind.hold() == fault.kind.hold());
                assert!(same.count() <= 1);
            }
        }
        assert_eq!(most, 3);
    }

    #[test]
    fn every_kind_is_drawn() {
        let drawn: Vec<Kind> = many().flat_map(|round| round.faults).map(|fault| fault.kind).collect();
        for ((kind, ..), _) in KINDS {
            let slow = |kind: &Kind| matches!(kind, Kind::Network(Trouble::Slow { .. }));
            assert!(drawn.iter().any(|other| other == kind || slow(other) && slow(kind)), "{kind:?}");
        }
    }
}
