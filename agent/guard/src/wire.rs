//! What agent and guard say to each other.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What an agent asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How do you stand?
    Status,
    /// The same, and is any process of the instance left? That may take a search of all processes.
    Look,
    /// Kill the instance at `until`, in microseconds of the boot-time clock.
    Arm {
        /// The reign.
        epoch: u32,
        /// The fence F.
        until: u64,
    },
    /// Start PostgreSQL.
    Start(Start),
    /// Kill every process of the instance now; answered when none is left.
    Kill,
}

/// How PostgreSQL is to be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// Where its output goes, appended.
    pub log: PathBuf,
    /// Started writable, in this epoch; none: in recovery.
    pub primary: Option<u32>,
}

/// The guard's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done; so it stands now.
    Status(Status),
    /// Not done, nothing has changed.
    Refused(String),
}

/// How the guard stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Epoch and fence; none: PostgreSQL may run in recovery only.
    pub armed: Option<(u32, u64)>,
    /// Whether a process of the instance is left. Told upon [`Look`](Request::Look) only.
    pub left: Option<bool>,
    /// The guard's own process.
    pub pid: i32,
    /// Why its hold on the instance isn't complete, if so: no cgroup of its own, or no watch on the data directory.
    pub weak: Option<String>,
}

/// What the guard says by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// The postmaster has ended, and no process of the instance is left.
    Exited,
    /// The guard killed the instance, and none is left.
    Killed(Why),
}

/// Why the guard killed by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The fence fell.
    Fence,
    /// PostgreSQL left recovery without an order.
    Promotion,
}

/// A line from the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Repeated in the answer.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// A line from the guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Say {
    /// The answer to a request.
    Answer(u64, Reply),
    /// Something by itself.
    News(News),
}
