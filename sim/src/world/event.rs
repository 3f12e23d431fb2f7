//! Everything that can happen in a world.

use primacy_core::{Command, OpId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The number of a host, from 0. Its node is named `a`, `b`, `c`, …
pub type HostId = u8;

/// The number of something on its way.
pub type FlightId = u32;

/// An end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Site {
    /// A host: its agent towards the store, its PostgreSQL towards its peers.
    Host(HostId),
    /// The store.
    Store,
}

/// One thing that happens. [`World::apply`](super::World::apply) does it; [`World::events`](super::World::events)
/// lists those that can happen next.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Time passes: microseconds in the simulator, ticks in the model.
    Advance(u64),
    /// One tick passes, but not on this host's slow clock.
    AdvanceBut(HostId),
    /// The agent wakes at its deadline, or later.
    Wake(HostId),
    /// What is on its way arrives.
    Deliver(FlightId),
    /// What is on its way is lost.
    Lose(FlightId),
    /// This request, and its answer, may take any time from now on, or get lost (models where others don't).
    Stall(FlightId),
    /// A request to the store gets no answer in time.
    Expire(HostId, OpId),
    /// This order, if it is still under way, is carried out.
    Perform(HostId, OpId),
    /// This order, if it is still under way, fails.
    Fail(HostId, OpId),
    /// This order, if it is still under way, is carried out, and counts as failed all the same: its answer came too
    /// late, or not at all.
    Unheard(HostId, OpId),
    /// The guard kills the instance at its deadline.
    GuardFires(HostId),
    /// The agent takes its regular look at the instance.
    Look(HostId),
    /// The agent's regular look at the instance finds nothing out in time.
    LookFails(HostId),
    /// A standby receives all the WAL its source has.
    Replicate(HostId),
    /// A standby has replayed its own WAL, and takes connections.
    Replayed(HostId),
    /// A client commits a row at this host.
    Commit(HostId),
    /// Sessions left behind by a dead postmaster end.
    OrphansEnd(HostId),
    /// A fault, or its end.
    Fault(Fault),
    /// An operator asks something of this host's agent.
    Operate(HostId, Command),
}

/// Something that goes wrong, or is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The agent's process is killed.
    AgentDies(HostId),
    /// The agent is killed just after the order under way was carried out.
    AgentDiesAfterOrder(HostId),
    /// The agent is killed in the middle of its next rewind, and started again at once.
    AgentDiesRewinding(HostId),
    /// An operator asks for a new copy, at no loss, once a rewind has failed there.
    OperatorImpatient(HostId),
    /// The service manager starts the agent.
    AgentStarts(HostId),
    /// The agent is stopped (SIGSTOP).
    AgentFreezes(HostId),
    /// The agent is stopped just after its next request to the store: it finds the answer when it goes on.
    AgentFreezesAsking(HostId),
    /// The agent goes on.
    AgentThaws(HostId),
    /// All processes of the instance die.
    PostgresDies(HostId),
    /// All processes of the instance are stopped (SIGSTOP).
    PostgresHangs(HostId),
    /// They go on.
    PostgresGoesOn(HostId),
    /// What reads or writes on this host waits.
    StorageHangs(HostId),
    /// The storage answers again.
    StorageGoesOn(HostId),
    /// The guard is killed; the postmaster dies with it, its sessions a moment later.
    GuardDies(HostId),
    /// The host loses power.
    HostDies(HostId),
    /// The host is started.
    HostStarts(HostId),
    /// The host is suspended: its clock goes on, nothing else does.
    HostSuspends(HostId),
    /// The host wakes up.
    HostWakes(HostId),
    /// Nothing passes in this direction any more.
    Cut(Site, Site),
    /// It passes again.
    Heal(Site, Site),
    /// The store has no majority.
    StoreDown,
    /// The store answers again.
    StoreUp,
    /// The agent's watch ends without its knowing what it missed.
    WatchBreaks(HostId),
    /// The mirrored leader key is deleted by a person, or its lease expires, or the store revokes a live one.
    LeaderKeyGone,
    /// The `pg_control` of a stopped instance is lost.
    ControlLost(HostId),
    /// A person puts it back, and restarts the agent.
    ControlPutBack(HostId),
    /// All keys are deleted.
    StoreWiped,
    /// Somebody makes a backup of the store.
    StoreBackedUp,
    /// The store is what it was at its last backup.
    StoreRestored,
    /// A person makes the store anew from the copy that goes furthest, if a node says that it went back.
    StoreRebuilt,
    /// Every primary drops the WAL that it doesn't need itself.
    WalRecycled,
    /// A person promotes the instance without an order.
    PromotedByHand(HostId),
}

/// A host's name: a, b, c, …
pub fn name(host: HostId) -> char {
    char::from(b'a' + host)
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Site::Host(host) => write!(f, "{}", name(*host)),
            Site::Store => f.write_str("store"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Advance(by) => write!(f, "time passes: {by}"),
            Event::AdvanceBut(host) => write!(f, "a tick passes, but not on {}", name(*host)),
            Event::Wake(host) => write!(f, "{} wakes", name(*host)),
            Event::Deliver(id) => write!(f, "message {id} arrives"),
            Event::Lose(id) => write!(f, "message {id} is lost"),
            Event::Stall(id) => write!(f, "message {id} is held up"),
            Event::Expire(host, op) => write!(f, "{} waits no longer for {op:?}", name(*host)),
            Event::Perform(host, op) => write!(f, "{} has done {op:?}", name(*host)),
            Event::Fail(host, op) => write!(f, "{op:?} of {} fails", name(*host)),
            Event::Unheard(host, op) => write!(f, "{op:?} of {} is done, and counts as failed", name(*host)),
            Event::GuardFires(host) => write!(f, "the guard of {} ends its instance", name(*host)),
            Event::Look(host) => write!(f, "{} looks at its instance", name(*host)),
            Event::LookFails(host) => write!(f, "{} can't look at its instance", name(*host)),
            Event::Replicate(host) => write!(f, "{} receives WAL", name(*host)),
            Event::Replayed(host) => write!(f, "{} has replayed its own WAL", name(*host)),
            Event::Commit(host) => write!(f, "a commit at {}", name(*host)),
            Event::OrphansEnd(host) => write!(f, "what was left of the sessions at {} ends", name(*host)),
            Event::Fault(fault) => write!(f, "{fault}"),
            Event::Operate(host, command) => write!(f, "{} is asked: {command:?}", name(*host)),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::AgentDies(host) => write!(f, "the agent of {} dies", name(*host)),
            Fault::AgentDiesAfterOrder(host) => {
                write!(f, "the agent of {} dies after its order", name(*host))
            }
            Fault::AgentDiesRewinding(host) => write!(f, "the agent of {} will die in a rewind", name(*host)),
            Fault::OperatorImpatient(host) => {
                write!(f, "an operator will ask {} for a new copy if a rewind fails", name(*host))
            }
            Fault::AgentStarts(host) => write!(f, "the agent of {} starts", name(*host)),
            Fault::AgentFreezes(host) => write!(f, "the agent of {} freezes", name(*host)),
            Fault::AgentFreezesAsking(host) => {
                write!(f, "the agent of {} will freeze when it asks", name(*host))
            }
            Fault::AgentThaws(host) => write!(f, "the agent of {} goes on", name(*host)),
            Fault::PostgresDies(host) => write!(f, "the PostgreSQL of {} dies", name(*host)),
            Fault::PostgresHangs(host) => write!(f, "the PostgreSQL of {} hangs", name(*host)),
            Fault::PostgresGoesOn(host) => write!(f, "the PostgreSQL of {} goes on", name(*host)),
            Fault::StorageHangs(host) => write!(f, "the storage of {} hangs", name(*host)),
            Fault::StorageGoesOn(host) => write!(f, "the storage of {} goes on", name(*host)),
            Fault::GuardDies(host) => write!(f, "the guard of {} dies", name(*host)),
            Fault::HostDies(host) => write!(f, "host {} dies", name(*host)),
            Fault::HostStarts(host) => write!(f, "host {} starts", name(*host)),
            Fault::HostSuspends(host) => write!(f, "host {} is suspended", name(*host)),
            Fault::HostWakes(host) => write!(f, "host {} wakes up", name(*host)),
            Fault::Cut(from, to) => write!(f, "{from} -> {to} is cut"),
            Fault::Heal(from, to) => write!(f, "{from} -> {to} passes again"),
            Fault::StoreDown => f.write_str("the store is down"),
            Fault::StoreUp => f.write_str("the store is up again"),
            Fault::WatchBreaks(host) => write!(f, "the watch of {} breaks", name(*host)),
            Fault::LeaderKeyGone => f.write_str("the leader key is gone"),
            Fault::ControlLost(host) => write!(f, "the pg_control of {} is lost", name(*host)),
            Fault::ControlPutBack(host) => write!(f, "a person puts back the pg_control of {}", name(*host)),
            Fault::StoreWiped => f.write_str("all keys of the store are deleted"),
            Fault::StoreBackedUp => f.write_str("somebody makes a backup of the store"),
            Fault::StoreRestored => f.write_str("the store is restored from its last backup"),
            Fault::StoreRebuilt => f.write_str("a person makes the store anew from the best copy"),
            Fault::WalRecycled => f.write_str("every primary drops old WAL"),
            Fault::PromotedByHand(host) => write!(f, "a person promotes {}", name(*host)),
        }
    }
}
