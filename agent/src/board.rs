//! What the REST interface and the mirror see of the node, and how commands reach it.

use crate::events::Events;
use crate::instance::progress::Shown;
use primacy_core::effect::Reply;
use primacy_core::{Command, Lsn, Node, Time};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// Shared by all parts of the agent.
#[derive(Clone)]
pub struct Board {
    /// See [`Events`].
    pub events: Events,
    seen: Arc<Mutex<Seen>>,
    commands: mpsc::UnboundedSender<(Command, oneshot::Sender<Reply>)>,
}

/// What this member has to say to people through the store, by key below `primacy/`. Nothing is decided from it.
pub type Notes = BTreeMap<String, Value>;

/// The node as it was after its last input, and what PostgreSQL says beyond what the core needs.
#[derive(Clone, Default)]
pub struct Seen {
    /// None before the first input.
    pub node: Option<Node>,
    /// When that input came.
    pub handled: Time,
    /// What is being done to PostgreSQL, in Patroni's words.
    pub activity: Option<&'static str>,
    /// How far that has come, if it takes long.
    pub progress: Option<Shown>,
    /// See [`Details`].
    pub details: Details,
    /// See [`Notes`].
    pub notes: Notes,
}

/// What PostgreSQL says beyond what the core needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// As a number, 150018.
    pub server_version: Option<u32>,
    /// As PostgreSQL prints it.
    pub postmaster_start_time: Option<String>,
    /// A standby's end of received WAL.
    pub received: Option<Lsn>,
    /// A standby's end of replayed WAL.
    pub replayed: Option<Lsn>,
    /// The time of the last replayed transaction.
    pub replayed_timestamp: Option<String>,
    /// Replay is paused.
    pub paused: bool,
    /// Why the guard's hold on the instance isn't complete, if so.
    pub guard_weak: Option<String>,
    /// A primary's WAL senders, as Patroni shows them.
    pub replication: Vec<Value>,
}

/// Commands on their way to the node.
pub type Commands = mpsc::UnboundedReceiver<(Command, oneshot::Sender<Reply>)>;

impl Board {
    /// An empty board, and the other end of its commands.
    pub fn new() -> (Board, Commands) {
        let (commands, receiver) = mpsc::unbounded_channel();
        (Board { events: Events::default(), seen: Arc::default(), commands }, receiver)
    }

    /// A look at it. Never held over an await.
    pub fn look(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the node a command, and waits for its answer; none if the agent ends before.
    pub async fn command(&self, command: Command) -> Option<Reply> {
        let (sender, reply) = oneshot::channel();
        self.commands.send((command, sender)).ok()?;
        reply.await.ok()
    }

    /// Gives the node a command that isn't answered.
    pub fn order(&self, command: Command) {
        // Nobody takes it only when the agent ends.
        let _ = self.commands.send((command, oneshot::channel().0));
    }
}
