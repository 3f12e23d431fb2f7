//! Everything a node can ask for.

use crate::instance::Order;
use crate::store::{Refusal, Request};
use crate::{Epoch, Event, Name, OpId, Position, RequestId, Time};

/// Something a node wants done. Effects are carried out in the order given; those with an [`OpId`] are answered by an
/// input, and by `until` at the latest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Ask the store.
    Store {
        /// Names the answer.
        id: OpId,
        /// When the answer counts as unknown.
        until: Time,
        /// The request.
        request: Request,
    },
    /// Order something of PostgreSQL. Ends the order before it, whose answer isn't wanted any more.
    Postgres(OpId, Order),
    /// Let the guard kill the instance at `until`. It only moves forward. Answered by [`Guard`](crate::Guard), as
    /// `Lost` if the guard doesn't acknowledge in time. A guard that isn't there is started.
    Arm {
        /// The reign.
        epoch: Epoch,
        /// The fence F.
        until: Time,
    },
    /// Answer an operator.
    Reply(RequestId, Reply),
    /// A fact for log, metrics and history. Nothing acts on it.
    Tell(Event),
    /// The member has stopped in order; the agent may exit.
    Exit,
}

/// The answer to an operator's [`Command`](crate::Command).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Reply {
    /// This member is primary now.
    SwitchedTo(Name),
    /// It was not done, and nothing has changed.
    Refused(Refusal),
    /// There is no primary with authority to switch from.
    NoPrimary,
    /// The named member already is the primary.
    AlreadyPrimary,
    /// Another switchover is under way.
    Busy,
    /// It isn't known (yet) what came of it.
    Unknown,
    /// Nothing was done: commits between these two positions may be lost, and nobody has consented to that.
    MayLose {
        /// How far this member's copy goes.
        ours: Position,
        /// How far the holder's WAL went, as it last published.
        published: Position,
    },
    /// This member takes a new copy of the primary's data.
    Reinitializes,
    /// Nothing was done: the holder of the lease lives. It can be moved without any loss.
    HolderLives,
}
