//! The local PostgreSQL instance: what it says of itself, and what it can be ordered to do.

use crate::{CopyId, Epoch, Lsn, Name, Nonce, Position, SystemId, Time};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// The local instance as last seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Instance {
    /// Not looked at yet, or the last look failed.
    Unknown,
    /// There is no data directory, or an empty one.
    Absent,
    /// A data directory that isn't a complete copy.
    Incomplete,
    /// A data directory that must not be touched.
    Foreign(Foreign),
    /// A complete copy; no process of the instance is left.
    Stopped {
        /// What is on disk.
        data: Data,
        /// PostgreSQL shut down in order; its WAL ends with the shutdown checkpoint.
        clean: bool,
        /// `standby.signal` is there. A promotion removes it: so its absence on a timeline that this node never
        /// ordered tells that somebody promoted by hand, also when nobody saw it.
        signal: bool,
    },
    /// Running in recovery: can't be written.
    Standby {
        /// What is on disk.
        data: Data,
        /// The member and epoch it was last told to follow; none if it has no source of WAL.
        source: Option<(Name, Epoch)>,
        /// A walreceiver streams from that source.
        streaming: bool,
        /// It takes connections: all of its own WAL is replayed, and it is consistent. Before that it can follow a
        /// source, but neither be promoted nor prove that its sources are closed.
        ready: bool,
        /// Its source has no more the WAL that it needs next, nor has the archive.
        starved: bool,
    },
    /// Running and able to acknowledge commits.
    Primary {
        /// What is on disk.
        data: Data,
        /// Members that stream from it, and how far they have flushed.
        followers: BTreeMap<Name, Lsn>,
        /// Its latest checkpoint lies on the timeline it writes. Before that, its `pg_control` still names the one
        /// before, and `pg_rewind` takes that for its own (hazards C03, C04).
        checkpointed: bool,
    },
}

/// Why a data directory is not ours to touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Foreign {
    /// Not empty, and not a PostgreSQL data directory.
    NotPostgres,
    /// Of another major version than the binaries.
    OtherVersion,
    /// It was a complete copy once, and nobody can say any more how far it goes: `pg_control` is missing or damaged.
    Damaged,
    /// A PostgreSQL runs on it that wasn't started by the guard.
    RunsElsewhere,
}

/// A complete copy of the data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Data {
    /// The cluster it belongs to.
    pub system: SystemId,
    /// How far it goes.
    pub position: Position,
    /// Where each timeline of its history left the one before (timeline 1: epoch 0 at 0), that of the position last:
    /// what the timeline's history file says.
    pub forks: Arc<BTreeMap<Epoch, Position>>,
}

impl Instance {
    /// The copy of the data, if there is a complete one.
    pub fn data(&self) -> Option<&Data> {
        match self {
            Instance::Unknown | Instance::Absent | Instance::Incomplete | Instance::Foreign(_) => None,
            Instance::Stopped { data, .. }
            | Instance::Standby { data, .. }
            | Instance::Primary { data, .. } => Some(data),
        }
    }

    /// Whether a postmaster runs.
    pub fn runs(&self) -> bool {
        matches!(self, Instance::Standby { .. } | Instance::Primary { .. })
    }
}

/// What survives a crash of the agent, kept inside the data directory: it describes this copy of the data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Saved {
    /// This copy; 0 if there is none.
    pub copy: CopyId,
    /// The reigns whose WAL this copy holds or may hold, oldest first. A reign is added before its first byte can
    /// arrive.
    pub lineage: Vec<(Epoch, Nonce)>,
    /// The highest reign ever seen; WAL of a lower one is never taken again.
    pub highest: Epoch,
    /// The copy is being rewound. Whoever finds it so after an interruption has half of each history (hazard C05).
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "core::ops::Not::not"))]
    pub mending: bool,
}

/// Something PostgreSQL is told to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Op {
    /// Look at the data directory and the processes, and read the position.
    Look,
    /// Make the first data directory of a cluster.
    Initdb,
    /// Copy the data directory from this member.
    Clone(Name),
    /// Bring the copy back to where it left the history of this member, and take what the member has from there on;
    /// a copy that was not shut down in order recovers first.
    Rewind(Name),
    /// Move the data directory aside; nothing is deleted. All processes of the instance are gone before.
    SetAside,
    /// Start in recovery, without a source of WAL.
    StartStandby,
    /// Start as primary on the timeline it has: the first start after initdb, or the restart of a crashed primary.
    StartInPlace,
    /// Take WAL from this member.
    Follow(Name),
    /// Close all sources of WAL, prove it, and read the position.
    CloseSources,
    /// Promote; the new timeline is the order's epoch.
    Promote,
    /// What a new primary does once its place in the history is known to all: let its WAL be archived, and begin a
    /// checkpoint, which may still be under way when this is done.
    Settle,
    /// Write a checkpoint, so that the following stop is short.
    Checkpoint,
    /// Shut down in order; when the order's time is over, kill.
    Stop,
    /// Kill every process of the instance.
    Kill,
}

impl Op {
    /// Whether the op puts another copy, or none, in the place of the one that is there.
    pub fn replaces(&self) -> bool {
        matches!(self, Op::Initdb | Op::Clone(_) | Op::Rewind(_) | Op::SetAside)
    }

    /// Whether the op only brings a copy back: nothing depends on when that is.
    pub fn may_wait(&self) -> bool {
        match self {
            Op::Initdb
            | Op::Clone(_)
            | Op::Rewind(_)
            | Op::SetAside
            | Op::StartStandby
            | Op::Follow(_)
            | Op::Settle => true,
            Op::Look
            | Op::StartInPlace
            | Op::CloseSources
            | Op::Promote
            | Op::Checkpoint
            | Op::Stop
            | Op::Kill => false,
        }
    }

    /// Whether the op is done by a server that runs already.
    pub fn asks_the_server(&self) -> bool {
        match self {
            Op::Follow(_) | Op::CloseSources | Op::Promote | Op::Settle | Op::Checkpoint | Op::Stop => true,
            Op::Look
            | Op::Initdb
            | Op::Clone(_)
            | Op::Rewind(_)
            | Op::SetAside
            | Op::StartStandby
            | Op::StartInPlace
            | Op::Kill => false,
        }
    }

    /// Whether the op lets PostgreSQL acknowledge commits, and so may only begin under a fence armed for its epoch.
    pub fn opens(&self) -> bool {
        matches!(self, Op::StartInPlace | Op::Promote)
    }
}

/// An order to PostgreSQL. Only one is carried out at a time; a new one ends the one before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Order {
    /// What to do.
    pub op: Op,
    /// The reign it belongs to. An order that [opens](Op::opens) must find the guard armed for just this epoch.
    pub epoch: Epoch,
    /// Not to begin at or after this time (hazard L01).
    pub start_by: Time,
    /// To be answered by this time, done or not.
    pub until: Time,
    /// Made durable before anything else happens; if that fails, so does the order, unless it only looks or stops. An
    /// order that [replaces](Op::replaces) the copy does it with the new one. Never written to another copy than it
    /// describes.
    pub saved: Saved,
    /// Where the copy leaves the elected history, if it does: what it has beyond that is lost with an order that
    /// [replaces](Op::replaces) it, and is worth a report.
    pub left: Option<Position>,
}

/// What came of an [`Order`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Performed {
    /// Done as ordered, or why not. A failed order may have been carried out in part.
    pub failure: Option<Failure>,
    /// How it was afterwards.
    pub found: Found,
}

/// What a look at the local instance finds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Found {
    /// The instance.
    pub instance: Instance,
    /// What is durable beside it; none if that couldn't be read, as when nothing was looked at.
    pub saved: Option<Saved>,
}

impl Found {
    /// Nothing could be looked at.
    pub const NOTHING: Found = Found { instance: Instance::Unknown, saved: None };
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Failure {
    /// It came too late, or the guard wasn't armed for its epoch: nothing was done.
    TooLate,
    /// It took longer than it may.
    TimedOut,
    /// The promotion ended on another timeline than ordered.
    WrongTimeline,
    /// It can't be done with this copy, now or later: nothing has changed.
    Hopeless,
    /// Something else, in words for the log. The core decides nothing from them.
    Other(Box<str>),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::TooLate => f.write_str("it came too late"),
            Failure::TimedOut => f.write_str("it took too long"),
            Failure::WrongTimeline => f.write_str("it ended on the wrong timeline"),
            Failure::Hopeless => f.write_str("this copy isn't fit for it"),
            Failure::Other(why) => f.write_str(why),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Look => f.write_str("look at the instance"),
            Op::Initdb => f.write_str("initialise the data directory"),
            Op::Clone(from) => write!(f, "copy the data from {from}"),
            Op::Rewind(from) => write!(f, "rewind to the history of {from}"),
            Op::SetAside => f.write_str("move the data directory aside"),
            Op::StartStandby => f.write_str("start in recovery"),
            Op::StartInPlace => f.write_str("start as primary in place"),
            Op::Follow(source) => write!(f, "follow {source}"),
            Op::CloseSources => f.write_str("close the WAL sources"),
            Op::Promote => f.write_str("promote"),
            Op::Settle => f.write_str("open the archive and begin a checkpoint"),
            Op::Checkpoint => f.write_str("checkpoint"),
            Op::Stop => f.write_str("stop"),
            Op::Kill => f.write_str("kill the instance"),
        }
    }
}
