//! What a seed stands for: the knobs of a run, and its list of troubles. Both are drawn before the run, as proptest
//! value trees, so that shrinking drops troubles and turns knobs back.

pub use crate::world::event::name;
use crate::world::event::{Fault, HostId, Site};
use primacy_core::{Command, Name};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// How this run differs from others in character.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knobs {
    /// T in milliseconds.
    pub ttl_ms: u64,
    /// How wrong a clock's rate may be, in parts per million: the bound the nodes are told.
    pub rate_ppm: u64,
    /// How wrong each clock's rate is, within that bound.
    pub clock_ppm: Vec<i64>,
    /// The longest one-way delay of a message, in microseconds; most are far quicker.
    pub delay_us: u64,
    /// Messages lost, per thousand.
    pub loss_permille: u32,
    /// The longest an agent is late with its own deadline, in milliseconds; mostly it isn't.
    pub late_ms: u64,
    /// Orders that fail, per thousand.
    pub failing_permille: u32,
    /// How much slower than usual PostgreSQL works, in tenths.
    pub slowness: u64,
    /// The client's commits per second.
    pub commits_per_s: u64,
    /// The lag bound, in records.
    pub lag_max: u64,
    /// Messages to and from the store, per thousand, with which a silence begins: for a while, nothing passes between
    /// that host and the store; each way for itself.
    pub silence_permille: u32,
}

impl Knobs {
    /// A quiet run: prompt agents, good clocks, a network that loses nothing.
    pub fn quiet(ttl_ms: u64) -> Knobs {
        Knobs {
            ttl_ms,
            rate_ppm: 1_000,
            clock_ppm: vec![0; usize::from(HOSTS)],
            delay_us: 2_000,
            loss_permille: 0,
            late_ms: 0,
            failing_permille: 0,
            slowness: 10,
            commits_per_s: 4,
            lag_max: 1_000_000,
            silence_permille: 0,
        }
    }
}

/// Something that goes wrong for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// When it begins, in milliseconds.
    pub at_ms: u64,
    /// How long it lasts.
    pub for_ms: u64,
    /// What it is.
    pub what: What,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the sentences below say what each one means")]
pub enum What {
    AgentDies(HostId),
    AgentDiesAfterOrder(HostId),
    AgentDiesRewinding(HostId),
    AgentFreezes(HostId),
    AgentFreezesAsking(HostId),
    PostgresDies(HostId),
    PostgresHangs(HostId),
    StorageHangs(HostId),
    GuardDies(HostId),
    AgentAndGuardDie(HostId),
    HostDies(HostId),
    HostDiesDamaged(HostId),
    HostSuspends(HostId),
    HostCutOff(HostId),
    StoreCutOff(HostId),
    LinkCut(Site, Site),
    StoreDown,
    WatchBreaks(HostId),
    LeaderKeyGone,
    StoreWiped,
    StoreRestored,
    WalRecycled,
    Switchover(HostId, Option<HostId>),
    Failover(HostId, bool),
    Reinit(HostId, bool),
    OperatorImpatient(HostId),
    AgentStops(HostId),
    PromotedByHand(HostId),
}

/// A whole run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// See [`Knobs`].
    pub knobs: Knobs,
    /// In no particular order.
    pub troubles: Vec<Trouble>,
    /// How long the troubles may go on, in milliseconds.
    pub length_ms: u64,
}

/// How many hosts a run has.
pub const HOSTS: HostId = 3;

/// The seed's plan as a tree that can be made simpler step by step.
pub fn tree(seed: u64, length_ms: u64) -> Box<dyn ValueTree<Value = Plan>> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(b"primacy1");
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let tree = plan(length_ms).new_tree(&mut runner).expect("the strategies reject nothing");
    Box::new(tree)
}

/// The seed's plan.
pub fn from_seed(seed: u64, length_ms: u64) -> Plan {
    tree(seed, length_ms).current()
}

fn plan(length_ms: u64) -> impl Strategy<Value = Plan> {
    let troubles = (length_ms / 15_000) as usize;
    let silence = prop_oneof![2 => Just(0), 1 => 1..60u32];
    (knobs(), prop::collection::vec(trouble(length_ms), 0..=troubles), silence).prop_map(
        move |(knobs, troubles, silence_permille)| {
            let knobs = Knobs { silence_permille, ..knobs };
            Plan { knobs, troubles, length_ms }
        },
    )
}

fn knobs() -> impl Strategy<Value = Knobs> {
    let ttl = prop_oneof![3 => Just(5_000), 1 => Just(3_000), 1 => Just(10_000)];
    // Coarse clocks show whether the bound is kept: that of good ones is lost in the time an election takes.
    let rate = prop_oneof![Just(1_000u64), Just(50_000)];
    let wrong = prop_oneof![1 => Just(0i64), 2 => -900..=900i64, 2 => Just(-900), 2 => Just(900)];
    let wrong = prop::collection::vec(wrong, usize::from(HOSTS));
    let delay = prop_oneof![4 => Just(2_000), 2 => 500..30_000u64, 1 => 30_000..150_000u64];
    let loss = prop_oneof![3 => Just(0), 2 => 1..30u32, 1 => 30..200u32];
    let late = prop_oneof![3 => Just(0), 2 => 1..50u64, 1 => 50..800u64];
    let failing = prop_oneof![3 => Just(0), 1 => 1..200u32];
    let slowness = prop_oneof![3 => Just(10), 2 => 5..60u64];
    let lag = prop_oneof![3 => Just(1_000_000), 1 => 5..100u64];
    (ttl, rate, wrong, delay, loss, late, failing, slowness, lag).prop_map(
        |(ttl_ms, rate_ppm, wrong, delay_us, loss_permille, late_ms, failing_permille, slowness, lag_max)| {
            Knobs {
                ttl_ms,
                rate_ppm,
                clock_ppm: wrong.into_iter().map(|permille| permille * rate_ppm as i64 / 1_000).collect(),
                delay_us,
                loss_permille,
                late_ms,
                failing_permille,
                slowness,
                commits_per_s: 10,
                lag_max,
                silence_permille: 0,
            }
        },
    )
}

fn trouble(length_ms: u64) -> impl Strategy<Value = Trouble> {
    let lasts = prop_oneof![2 => 50..3_000u64, 3 => 3_000..20_000u64, 1 => 20_000..60_000u64];
    (5_000..length_ms, lasts, what()).prop_map(|(at_ms, for_ms, what)| Trouble { at_ms, for_ms, what })
}

fn what() -> impl Strategy<Value = What> {
    let host = || 0..HOSTS;
    let site = || prop_oneof![3 => host().prop_map(Site::Host), 1 => Just(Site::Store)];
    prop_oneof![
        4 => host().prop_map(What::AgentDies),
        2 => host().prop_map(What::AgentDiesAfterOrder),
        2 => host().prop_map(What::AgentDiesRewinding),
        3 => host().prop_map(What::AgentFreezes),
        2 => host().prop_map(What::AgentFreezesAsking),
        4 => host().prop_map(What::PostgresDies),
        3 => host().prop_map(What::PostgresHangs),
        2 => host().prop_map(What::StorageHangs),
        3 => host().prop_map(What::GuardDies),
        2 => host().prop_map(What::AgentAndGuardDie),
        4 => host().prop_map(What::HostDies),
        1 => host().prop_map(What::HostDiesDamaged),
        2 => host().prop_map(What::HostSuspends),
        4 => host().prop_map(What::HostCutOff),
        3 => host().prop_map(What::StoreCutOff),
        4 => (site(), site()).prop_map(|(from, to)| What::LinkCut(from, to)),
        3 => Just(What::StoreDown),
        2 => host().prop_map(What::WatchBreaks),
        3 => Just(What::LeaderKeyGone),
        1 => Just(What::StoreWiped),
        1 => Just(What::StoreRestored),
        3 => Just(What::WalRecycled),
        5 => (host(), prop::option::of(host())).prop_map(|(at, to)| What::Switchover(at, to)),
        1 => (host(), any::<bool>()).prop_map(|(at, consent)| What::Failover(at, consent)),
        1 => (host(), any::<bool>()).prop_map(|(at, consent)| What::Reinit(at, consent)),
        4 => host().prop_map(What::OperatorImpatient),
        2 => host().prop_map(What::AgentStops),
        1 => host().prop_map(What::PromotedByHand),
    ]
}

impl What {
    /// The faults it begins with.
    pub fn begins(self) -> Vec<Fault> {
        match self {
            What::AgentDies(h) => vec![Fault::AgentDies(h)],
            What::AgentDiesAfterOrder(h) => vec![Fault::AgentDiesAfterOrder(h), Fault::AgentDies(h)],
            What::AgentDiesRewinding(h) => vec![Fault::AgentDiesRewinding(h)],
            What::AgentFreezes(h) => vec![Fault::AgentFreezes(h)],
            What::AgentFreezesAsking(h) => vec![Fault::AgentFreezesAsking(h)],
            What::PostgresDies(h) => vec![Fault::PostgresDies(h)],
            What::PostgresHangs(h) => vec![Fault::PostgresHangs(h)],
            What::StorageHangs(h) => vec![Fault::StorageHangs(h)],
            What::GuardDies(h) => vec![Fault::GuardDies(h)],
            What::AgentAndGuardDie(h) => vec![Fault::AgentDies(h), Fault::GuardDies(h)],
            What::HostDies(h) => vec![Fault::HostDies(h)],
            What::HostDiesDamaged(h) => vec![Fault::HostDies(h), Fault::ControlLost(h), Fault::HostStarts(h)],
            What::HostSuspends(h) => vec![Fault::HostSuspends(h)],
            What::HostCutOff(h) => links(h).into_iter().map(|(from, to)| Fault::Cut(from, to)).collect(),
            What::StoreCutOff(h) => {
                vec![Fault::Cut(Site::Host(h), Site::Store), Fault::Cut(Site::Store, Site::Host(h))]
            }
            What::LinkCut(from, to) => vec![Fault::Cut(from, to)],
            What::StoreDown => vec![Fault::StoreDown],
            What::WatchBreaks(h) => vec![Fault::WatchBreaks(h)],
            What::LeaderKeyGone => vec![Fault::LeaderKeyGone],
            What::StoreWiped => vec![Fault::StoreWiped],
            What::StoreRestored => vec![Fault::StoreBackedUp],
            What::WalRecycled => vec![Fault::WalRecycled],
            What::OperatorImpatient(h) => vec![Fault::OperatorImpatient(h)],
            What::Switchover(..) | What::Failover(..) | What::Reinit(..) | What::AgentStops(_) => vec![],
            What::PromotedByHand(h) => vec![Fault::PromotedByHand(h)],
        }
    }

    /// What an operator asks of a host's agent, if that is what it is.
    pub fn asks(self) -> Option<(HostId, Command)> {
        match self {
            What::Switchover(at, to) => {
                let to = to.map(|to| Name::from(name(to).to_string().as_str()));
                Some((at, Command::Switchover { to }))
            }
            What::Failover(host, consent) => Some((host, Command::Failover { consent })),
            What::Reinit(host, consent) => Some((host, Command::Reinit { consent })),
            What::AgentStops(host) => Some((host, Command::Shutdown)),
            _ => None,
        }
    }

    /// The faults that mend it.
    pub fn ends(self) -> Vec<Fault> {
        match self {
            What::AgentDies(h)
            | What::AgentDiesAfterOrder(h)
            | What::AgentAndGuardDie(h)
            | What::AgentStops(h) => {
                vec![Fault::AgentStarts(h)]
            }
            What::AgentFreezes(h) | What::AgentFreezesAsking(h) => vec![Fault::AgentThaws(h)],
            What::PostgresHangs(h) => vec![Fault::PostgresGoesOn(h)],
            What::StorageHangs(h) => vec![Fault::StorageGoesOn(h)],
            What::HostDies(h) => vec![Fault::HostStarts(h)],
            What::HostDiesDamaged(h) => vec![Fault::ControlPutBack(h)],
            What::HostSuspends(h) => vec![Fault::HostWakes(h)],
            What::HostCutOff(h) => links(h).into_iter().map(|(from, to)| Fault::Heal(from, to)).collect(),
            What::StoreCutOff(h) => {
                vec![Fault::Heal(Site::Host(h), Site::Store), Fault::Heal(Site::Store, Site::Host(h))]
            }
            What::LinkCut(from, to) => vec![Fault::Heal(from, to)],
            What::StoreDown => vec![Fault::StoreUp],
            What::StoreRestored => vec![Fault::StoreRestored],
            What::AgentDiesRewinding(_)
            | What::PostgresDies(_)
            | What::GuardDies(_)
            | What::WatchBreaks(_)
            | What::LeaderKeyGone
            | What::StoreWiped
            | What::WalRecycled
            | What::Switchover(..)
            | What::Failover(..)
            | What::Reinit(..)
            | What::OperatorImpatient(_)
            | What::PromotedByHand(_) => vec![],
        }
    }

    /// Its kind in one word, for counting.
    pub fn word(self) -> &'static str {
        match self {
            What::AgentDies(_) => "agent dies",
            What::AgentDiesAfterOrder(_) => "agent dies after an order",
            What::AgentDiesRewinding(_) => "agent dies in a rewind",
            What::AgentFreezes(_) => "agent freezes",
            What::AgentFreezesAsking(_) => "agent freezes while it asks",
            What::PostgresDies(_) => "postgres dies",
            What::PostgresHangs(_) => "postgres hangs",
            What::StorageHangs(_) => "storage hangs",
            What::GuardDies(_) => "guard dies",
            What::AgentAndGuardDie(_) => "agent and guard die",
            What::HostDies(_) => "host dies",
            What::HostDiesDamaged(_) => "host dies and loses pg_control",
            What::HostSuspends(_) => "host suspends",
            What::HostCutOff(_) => "host cut off",
            What::StoreCutOff(_) => "cut off from the store",
            What::LinkCut(..) => "link cut",
            What::StoreDown => "store down",
            What::WatchBreaks(_) => "watch breaks",
            What::LeaderKeyGone => "leader key gone",
            What::StoreWiped => "store wiped",
            What::StoreRestored => "store restored",
            What::WalRecycled => "WAL recycled",
            What::Switchover(..) => "switchover",
            What::Failover(_, false) => "failover asked",
            What::Failover(_, true) => "failover by consent",
            What::Reinit(_, false) => "new copy asked",
            What::OperatorImpatient(_) => "new copy asked if a rewind fails",
            What::Reinit(_, true) => "new copy by consent",
            What::AgentStops(_) => "agent stops in order",
            What::PromotedByHand(_) => "promoted by hand",
        }
    }
}

/// Everything that can go wrong, for every host and every link.
pub fn alphabet() -> Vec<What> {
    let sites: Vec<Site> = (0..HOSTS).map(Site::Host).chain([Site::Store]).collect();
    let links = sites.iter().flat_map(|from| sites.iter().map(|to| What::LinkCut(*from, *to)));
    let links = links.filter(|link| !matches!(link, What::LinkCut(from, to) if from == to));
    let of_a_host = |host: HostId| {
        let to = [None].into_iter().chain((0..HOSTS).map(Some));
        let switchovers = to.map(move |to| What::Switchover(host, to));
        let kinds = [
            What::AgentDies,
            What::AgentDiesAfterOrder,
            What::AgentDiesRewinding,
            What::AgentFreezes,
            What::AgentFreezesAsking,
            What::PostgresDies,
            What::PostgresHangs,
            What::StorageHangs,
            What::GuardDies,
            What::AgentAndGuardDie,
            What::HostDies,
            What::HostDiesDamaged,
            What::HostSuspends,
            What::HostCutOff,
            What::StoreCutOff,
            What::WatchBreaks,
            |host| What::Failover(host, false),
            |host| What::Failover(host, true),
            What::OperatorImpatient,
            |host| What::Reinit(host, false),
            |host| What::Reinit(host, true),
            What::AgentStops,
            What::PromotedByHand,
        ];
        kinds.into_iter().map(move |kind| kind(host)).chain(switchovers)
    };
    let of_all =
        [What::StoreDown, What::LeaderKeyGone, What::StoreWiped, What::StoreRestored, What::WalRecycled];
    (0..HOSTS).flat_map(of_a_host).chain(links).chain(of_all).collect()
}

impl std::str::FromStr for What {
    type Err = String;

    /// Reads what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<What, String> {
        let known = alphabet();
        known.iter().copied().find(|what| what.to_string() == text).ok_or_else(|| {
            let words: BTreeSet<_> = known.iter().map(|what| what.word()).collect();
            let words: Vec<_> = words.into_iter().collect();
            format!("{text:?} is no trouble; there are: {}", words.join(", "))
        })
    }
}

/// All links of a host, both ways.
pub fn links(host: HostId) -> Vec<(Site, Site)> {
    let others = (0..HOSTS).filter(|other| *other != host).map(Site::Host).chain([Site::Store]);
    others.flat_map(|site| [(Site::Host(host), site), (site, Site::Host(host))]).collect()
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8.3}s {}", self.at_ms as f64 / 1e3, self.what)?;
        if self.what.ends().is_empty() { Ok(()) } else { write!(f, " for {:.3}s", self.for_ms as f64 / 1e3) }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match *self {
            What::LinkCut(from, to) => write!(f, " {from} -> {to}"),
            What::Switchover(at, to) => {
                write!(f, " asked of {}", name(at))?;
                to.map_or(Ok(()), |to| write!(f, ", to {}", name(to)))
            }
            What::StoreDown
            | What::LeaderKeyGone
            | What::StoreWiped
            | What::StoreRestored
            | What::WalRecycled => Ok(()),
            What::AgentDies(h)
            | What::AgentDiesAfterOrder(h)
            | What::AgentDiesRewinding(h)
            | What::AgentFreezes(h)
            | What::AgentFreezesAsking(h)
            | What::PostgresDies(h)
            | What::PostgresHangs(h)
            | What::StorageHangs(h)
            | What::GuardDies(h)
            | What::AgentAndGuardDie(h)
            | What::HostDies(h)
            | What::HostDiesDamaged(h)
            | What::HostSuspends(h)
            | What::HostCutOff(h)
            | What::StoreCutOff(h)
            | What::WatchBreaks(h)
            | What::AgentStops(h)
            | What::Failover(h, _)
            | What::Reinit(h, _)
            | What::OperatorImpatient(h)
            | What::PromotedByHand(h) => write!(f, " {}", name(h)),
        }
    }
}

impl fmt::Display for Knobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} nodes, ttl {} s, clocks {:?} of {} ppm, delay up to {} us, loss {}/1000, silences {}/1000, \
             late up to {} ms, failing orders {}/1000, slowness {}/10, lag bound {}",
            HOSTS,
            self.ttl_ms / 1_000,
            self.clock_ppm,
            self.rate_ppm,
            self.delay_us,
            self.loss_permille,
            self.silence_permille,
            self.late_ms,
            self.failing_permille,
            self.slowness,
            self.lag_max
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{What, alphabet, from_seed};

    #[test]
    fn what_a_seed_draws_is_in_the_alphabet() {
        let all = alphabet();
        for seed in 0..200 {
            for trouble in from_seed(seed, 300_000).troubles {
                let itself = matches!(trouble.what, What::LinkCut(from, to) if from == to);
                assert!(itself || all.contains(&trouble.what), "{trouble}");
            }
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for what in alphabet() {
            assert_eq!(what.to_string().parse(), Ok(what));
        }
        let unknown = "host explodes a".parse::<What>().unwrap_err();
        assert!(unknown.contains("host dies"), "{unknown}");
    }
}
