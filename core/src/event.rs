//! Facts a node tells, each with one sentence for a person. Log, metrics, history and traces all feed on them.

use crate::instance::{Failure, Foreign, Op};
use crate::store::Refusal;
use crate::{Epoch, Name, Position, Span, SystemId};
use core::fmt;

/// A fact worth telling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(missing_docs, reason = "the sentences below say what each one means")]
pub enum Event {
    ClaimedBootstrap,
    Consented { ours: Position, published: Position },
    Lapsed { holder: Name, after: Span },
    SawRelease { holder: Name },
    Stands { epoch: Epoch, right: Right, position: Position },
    NotBest { best: Name, theirs: Position, ours: Position },
    TooFarBehind { behind: u64, bound: u64 },
    HolderIsBack { holder: Name },
    Took { epoch: Epoch, fence_in: Span },
    LostElection { to: Name },
    Resumed { epoch: Epoch },
    Leads { epoch: Epoch, fork: Position },
    Follows { source: Name, epoch: Epoch },
    BeatMissed { authority_left: Span },
    LeaseEnds { fence_in: Span },
    LostLease { to: Option<Name> },
    PrimaryDied { restart: u8 },
    PrimaryGivenUp,
    PrimaryHangs { unproved: Span },
    GuardLost,
    UnorderedPromotion { position: Position },
    WrongTimeline { found: Epoch, wanted: Epoch },
    HandsOver { to: Option<Name> },
    SwitchoverRefused { why: Refusal },
    Released { clean: bool },
    NotContained { epoch: Epoch, position: Position, left: Option<Position> },
    Rewinds { to: Name, left: Position, position: Position },
    Rewound { epoch: Epoch },
    Starved { source: Name, position: Position },
    Reinitializes { source: Name, position: Position },
    Failed { op: Op, why: Failure },
    Froze { why: Frozen },
    Stopped,
}

/// By what right a node stands for election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Right {
    /// It wrote the rule, and its copy is unchanged.
    Leader,
    /// The lease lapsed or was released, and it is on the list.
    Listed,
    /// The holder handed over, and it has all the holder had.
    HandedOver,
    /// An operator wants just this member, and accepts what may be lost.
    Consented,
}

/// Why a node does nothing any more until a person has looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Frozen {
    /// The store has forgotten a reign that this node has seen.
    StoreWentBack {
        /// The highest epoch this node knows of.
        seen: Epoch,
        /// The epoch the store names now; 0 if none.
        found: Epoch,
    },
    /// The data belongs to another cluster.
    OtherSystem {
        /// Of the data directory.
        ours: SystemId,
        /// As recorded at the cluster's bootstrap.
        clusters: SystemId,
    },
    /// The data directory isn't ours to touch.
    ForeignData(Foreign),
    /// Another manager runs this cluster.
    ForeignCluster,
    /// Somebody promoted this copy without an order, and it may be the only one that goes so far.
    PromotedByHand,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Right::Leader => "as the last leader",
            Right::Listed => "as a listed member",
            Right::HandedOver => "as the one it was handed to",
            Right::Consented => "by an operator's consent",
        })
    }
}

impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Frozen::StoreWentBack { seen, found } => write!(
                f,
                "the store knows of epoch {found} at most, but epoch {seen} has been: it was wiped or restored from an \
                 old backup; stop all agents, run primacy rebuild-store where the data goes furthest, and start them"
            ),
            Frozen::OtherSystem { ours, clusters } => {
                write!(
                    f,
                    "the data directory belongs to system {ours}, the cluster is system {clusters}: correct scope or \
                     postgresql.data_dir, or move the directory away to get a copy of the cluster's; then restart the agent"
                )
            }
            Frozen::ForeignData(Foreign::NotPostgres) => {
                f.write_str(
                    "the data directory holds something that isn't a PostgreSQL cluster: move it away, or correct \
                     postgresql.data_dir; then restart the agent",
                )
            }
            Frozen::ForeignData(Foreign::OtherVersion) => {
                f.write_str(
                    "the data directory was made by another major version of PostgreSQL: correct postgresql.bin_dir, \
                     or upgrade the data; then restart the agent",
                )
            }
            Frozen::ForeignData(Foreign::Damaged) => {
                f.write_str(
                    "pg_control is missing or damaged in a data directory that was whole, and may be the only one with \
                     some commits: put the file back, or move the directory away to get a copy of the primary's; then \
                     restart the agent",
                )
            }
            Frozen::ForeignData(Foreign::RunsElsewhere) => {
                f.write_str(
                    "a PostgreSQL that this agent did not start runs on the data directory: stop it; then restart the \
                     agent",
                )
            }
            Frozen::PromotedByHand => {
                f.write_str("somebody promoted this copy without an order, and no other primary is in sight")
            }
            Frozen::ForeignCluster => f.write_str(
                "another manager has initialised this scope in the store: name another scope or namespace, and restart the agent",
            ),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::NoCandidate => "no member streams from the primary within the lag bound",
            Refusal::NotStreaming => "the candidate doesn't stream from the primary",
            Refusal::TooFarBehind => "the candidate lags by more than the bound",
            Refusal::NotEligible => "the candidate must not become primary",
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::ClaimedBootstrap => f.write_str("claimed the right to make the first data directory"),
            Event::Consented { ours, published } => write!(
                f,
                "an operator lets it stand at {ours}, and accepts the loss of what the last holder had up to {published}"
            ),
            Event::Lapsed { holder, after } => {
                write!(f, "the lease of {holder} has lapsed: unchanged for {after}")
            }
            Event::SawRelease { holder } => write!(f, "{holder} has given the lease back"),
            Event::Stands { epoch, right, position } => {
                write!(f, "stands for epoch {epoch} {right}, at {position}")
            }
            Event::NotBest { best, theirs, ours } => {
                write!(f, "lets {best} go first: it is at {theirs}, we are at {ours}")
            }
            Event::TooFarBehind { behind, bound } => write!(
                f,
                "does not stand: {behind} bytes behind the last published position, {bound} are allowed"
            ),
            Event::HolderIsBack { holder } => write!(f, "{holder} beats again: no election"),
            Event::Took { epoch, fence_in } => write!(f, "took epoch {epoch}, fenced in {fence_in}"),
            Event::LostElection { to } => write!(f, "{to} was faster"),
            Event::Resumed { epoch } => {
                write!(f, "goes on as holder of epoch {epoch} after a restart of the agent")
            }
            Event::Leads { epoch, fork } => write!(f, "leads epoch {epoch}, which begins at {fork}"),
            Event::Follows { source, epoch } => write!(f, "follows {source} in epoch {epoch}"),
            Event::BeatMissed { authority_left } => {
                write!(f, "the store did not confirm a beat in time; {authority_left} of authority left")
            }
            Event::LeaseEnds { fence_in } => {
                write!(f, "stops the primary: no beat was confirmed, the fence falls in {fence_in}")
            }
            Event::LostLease { to: Some(to) } => {
                write!(f, "the lease belongs to {to} now: kills the instance")
            }
            Event::LostLease { to: None } => f.write_str("the lease is gone: kills the instance"),
            Event::PrimaryDied { restart } => {
                write!(f, "the primary's processes died: restarts it in place (attempt {restart})")
            }
            Event::PrimaryGivenUp => f.write_str("gives the lease back: the primary doesn't come up"),
            Event::PrimaryHangs { unproved } => write!(
                f,
                "gives the lease back: nothing has shown for {unproved} that the primary does its work"
            ),
            Event::GuardLost => {
                f.write_str("the guard is gone: kills the instance, which must not run without it")
            }
            Event::UnorderedPromotion { position } => {
                write!(f, "PostgreSQL is writable at {position} without an order: kills it")
            }
            Event::WrongTimeline { found, wanted } => {
                write!(f, "the promotion ended on timeline {found} instead of {wanted}: kills it")
            }
            Event::HandsOver { to: Some(to) } => write!(f, "hands over to {to}"),
            Event::HandsOver { to: None } => f.write_str("hands over to whoever comes first"),
            Event::SwitchoverRefused { why } => write!(f, "refuses the switchover: {why}"),
            Event::Released { clean: true } => f.write_str("gave the lease back after a clean shutdown"),
            Event::Released { clean: false } => f.write_str("gave the lease back"),
            Event::NotContained { .. }
            | Event::Rewinds { .. }
            | Event::Rewound { .. }
            | Event::Starved { .. }
            | Event::Reinitializes { .. } => self.tell_of_copy(f),
            Event::Failed { op, why } => write!(f, "could not {op}: {why}"),
            Event::Froze { why } => write!(f, "needs an operator: {why}"),
            Event::Stopped => f.write_str("has stopped in order"),
        }
    }
}

impl Event {
    /// What becomes of a copy of the data.
    fn tell_of_copy(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::NotContained { epoch, position, left: Some(left) } => write!(
                f,
                "its data at {position} left the history of epoch {epoch} at {left}: moves it aside and copies anew"
            ),
            Event::NotContained { epoch, position, left: None } => write!(
                f,
                "its data at {position} is not part of the history of epoch {epoch}: moves it aside and copies anew"
            ),
            Event::Rewinds { to, left, position } => {
                write!(f, "its data at {position} left the history of {to} at {left}: rewinds it")
            }
            Event::Starved { source, position } => write!(
                f,
                "the WAL that follows {position} is gone at {source} and in the archive: moves the data aside and \
                 copies anew"
            ),
            Event::Reinitializes { source, position } => write!(
                f,
                "an operator wants it so: moves its data at {position} aside and copies anew from {source}"
            ),
            Event::Rewound { epoch } => write!(f, "its data is part of the history of epoch {epoch} again"),
            _ => Ok(()),
        }
    }
}
