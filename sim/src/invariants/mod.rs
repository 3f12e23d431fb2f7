//! What must hold in every state of the world, whatever has gone wrong. Used by the simulator and the model checker
//! alike; one file each, with unit tests on worlds made by hand.
//!
//! | id | name | says |
//! |---|---|---|
//! | I1 | [`single_writer`] | at most one instance can acknowledge commits |
//! | I2 | [`lease_guard`] | an instance that can acknowledge has the store's reign behind it |
//! | I3 | [`epoch_fence`] | an epoch has one owner, for ever |
//! | I6 | [`loss_bound`] | what is lost is said, and a reign that is handed over in order loses nothing |
//! | I7 | [`timeline_unique`] | no timeline number is written twice |
//! | I8 | [`no_destroy`] | no commit of the elected history is discarded without another copy of it |
//! | I9 | [`ancestor_join`] | WAL is taken only from a source that contains what one has |
//! | I10 | [`progress`] | when all is well again, there is one writable primary, and everybody follows it |
//! | I10 | [`hung_primary`] | whoever does nothing any more doesn't keep the lease |
//! | I11 | [`quiescence`] | then nothing changes any more |
//! | I12 | [`truthful_endpoint`] | at most one node calls itself the primary, and only while it is |
//! | I14 | [`whole_copy`] | nothing half-made is ever started, and no copy passes for another |

pub mod ancestor_join;
pub mod epoch_fence;
pub mod hung_primary;
pub mod lease_guard;
pub mod loss_bound;
pub mod no_destroy;
pub mod progress;
pub mod quiescence;
pub mod single_writer;
pub mod timeline_unique;
pub mod truthful_endpoint;
pub mod whole_copy;

use crate::world::World;
use std::fmt;

/// A safety invariant.
#[derive(Clone, Copy)]
pub struct Invariant {
    /// Its number, as in `docs/invariants.md`.
    pub id: &'static str,
    /// What it protects.
    pub name: &'static str,
    /// Says what is wrong, if anything is.
    pub check: fn(&World) -> Option<String>,
}

/// All that can be judged on a single state.
pub const SAFETY: [Invariant; 10] = [
    Invariant { id: "I1", name: "single writer", check: single_writer::check },
    Invariant { id: "I2", name: "lease guard", check: lease_guard::check },
    Invariant { id: "I3", name: "epoch fence", check: epoch_fence::check },
    Invariant { id: "I6", name: "loss bound", check: loss_bound::check },
    Invariant { id: "I7", name: "timeline unique", check: timeline_unique::check },
    Invariant { id: "I8", name: "no destroy", check: no_destroy::check },
    Invariant { id: "I9", name: "ancestor join", check: ancestor_join::check },
    Invariant { id: "I10", name: "hung primary", check: hung_primary::check },
    Invariant { id: "I12", name: "truthful endpoint", check: truthful_endpoint::check },
    Invariant { id: "I14", name: "whole copy", check: whole_copy::check },
];

/// An invariant that doesn't hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its number.
    pub id: &'static str,
    /// What is wrong, in words.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.what)
    }
}

/// The first invariant that doesn't hold in this world.
pub fn first_violation(world: &World) -> Option<Violation> {
    SAFETY.iter().find_map(|invariant| {
        let what = (invariant.check)(world)?;
        Some(Violation { id: invariant.id, what: format!("{}: {what}", invariant.name) })
    })
}

#[cfg(test)]
pub(crate) mod by_hand {
    //! Worlds made by hand.
    use crate::world::postgres::{Data, Process, Timeline};
    use crate::world::{Setup, World, enumerate::Bounds};
    use primacy_core::store::{Beat, EpochRecord, Record, Reign, Rule};
    use primacy_core::{Boot, Config, CopyId, Epoch, Lsn, MachineId, Name, Nonce, Position, Revision, Span};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    /// Three hosts, nothing running.
    pub fn empty() -> World {
        let configs = ["a", "b", "c"].map(|name| Arc::new(Config::new(name.into(), Span::secs(5))));
        let bounds = Bounds::default();
        World::new(Arc::new(Setup { configs: configs.to_vec(), instant: true, outside: false, bounds }))
    }

    /// Host 0 is primary of epoch 1, and the store says so.
    pub fn led() -> World {
        let mut world = empty();
        writable(&mut world, 0, 1);
        reign(&mut world, 1, "a");
        world
    }

    /// Makes a host writable on this timeline.
    pub fn writable(world: &mut World, host: u8, epoch: u32) {
        let timelines = vec![Timeline { epoch: Epoch(epoch), by: host, start: Lsn(0) }];
        let one = world.host(host);
        one.postgres.data = Some(Data { timelines, ..Data::new(host) });
        one.postgres.process = Process::Primary;
    }

    /// Lets the store know of a timeline of host 0, admitted and verified, as the last one.
    pub fn epoch(world: &mut World, number: u32, fork: Option<Position>) {
        let (epoch, holder) = (Epoch(number), Name::from("a"));
        let fork = Some(fork.unwrap_or_default());
        let start = fork.map_or(Lsn(0), |fork| fork.lsn);
        world.record.promotions.insert(epoch, Timeline { epoch, by: 0, start });
        let nonce = Nonce(u64::from(number));
        let record = EpochRecord { epoch, holder: holder.clone(), nonce, fork, checkpointed: true };
        let rule = Rule { epoch, leader: holder, leader_copy: CopyId(1), electable: BTreeMap::new() };
        let view = Arc::make_mut(&mut world.store.view);
        let next = Revision(view.as_of.0 + 1);
        view.put(Record::Epoch(record), next);
        view.put(Record::Rule(rule), next);
    }

    /// Lets the store name a reign.
    pub fn reign(world: &mut World, epoch: u32, holder: &str) {
        let epoch = Epoch(epoch);
        let reign = Reign {
            machine: MachineId(0),
            epoch,
            holder: holder.into(),
            boot: Boot(1),
            nonce: Nonce(1),
            ttl: Span::secs(5),
            released: None,
        };
        let view = Arc::make_mut(&mut world.store.view);
        let next = Revision(view.as_of.0 + 1);
        view.put(Record::Reign(reign), next);
        view.put(Record::Beat(Beat { epoch, end: Lsn(0) }), next);
    }
}
