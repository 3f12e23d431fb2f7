//! Everything a node can learn.

use crate::instance::{Found, Performed};
use crate::store::{News, Response};
use crate::{Epoch, Name, OpId, RequestId, Time};

/// Something a node learns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Input {
    /// The time of [`Node::deadline`](crate::Node::deadline) has come. May be late, or sent without need.
    Wake,
    /// The store's watch says something.
    News(News),
    /// A request to the store was answered, or its time is over.
    Answered(OpId, Response),
    /// An order to PostgreSQL was carried out, or failed.
    Performed(OpId, Performed),
    /// The instance says something by itself: a process ended, a regular look.
    Instance(Found),
    /// The guard says how it stands.
    Guard(Guard),
    /// An operator wants something.
    Operator(RequestId, Command),
}

/// The guard's state as it acknowledged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Guard {
    /// It lets PostgreSQL run in recovery only.
    Idle,
    /// It kills every process of the instance at `until`.
    Armed {
        /// The reign it is armed for.
        epoch: Epoch,
        /// The fence.
        until: Time,
    },
    /// It is dead, or didn't answer in time. PostgreSQL must not run without it.
    Lost,
}

/// What an operator can ask of any member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Command {
    /// Move the primary to the named member, or to the best one.
    Switchover {
        /// To whom.
        to: Option<Name>,
    },
    /// Make this member the primary although it may lack commits: for when nobody else can be elected. It stands once
    /// the lease has lapsed or was given back, not before.
    Failover {
        /// The operator knows what may be lost, and vouches that the old primary is stopped. Without it nothing is done,
        /// and the answer says what may be lost.
        consent: bool,
    },
    /// Give up this member's copy of the data, and take a new one from the primary. The old one is kept aside.
    Reinit {
        /// What only this copy has may be lost with it. Without it nothing is done in that case, and the answer says
        /// what it has.
        consent: bool,
    },
    /// Stop this member: hand the lease over if it holds it, stop PostgreSQL, then exit.
    Shutdown,
}
