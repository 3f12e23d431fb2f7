//! What is said over the keeper's socket: a request and its reply, one JSON object a line each.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::host::Service;
use crate::network::{Host, Rule};
use crate::time::Moment;

/// What the keeper can be asked to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Says how everything is.
    Status,
    /// Puts these rules in place of the network's.
    Rules(Vec<Rule>),
    /// Sends a signal to processes of a host: all are found first, then all are signalled.
    Signal(Host, Vec<Target>, Signal),
    /// Starts a service and keeps it running, or stops restarting it.
    Service(Host, Service, bool),
    /// Switches a host on or off; off ends all its processes at once.
    Power(Host, bool),
    /// Removes the data of a host that is off.
    Wipe(Host),
    /// Removes PostgreSQL's data directory of a host that is off, and nothing else.
    WipeData(Host),
    /// Lives on when the program that started it ends.
    Detach,
    /// Ends the lab.
    Quit,
}

/// A process of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The member of the store.
    Etcd,
    /// The agent.
    Agent,
    /// The process that ends PostgreSQL when its time has come.
    Guard,
    /// PostgreSQL's first process.
    Postmaster,
    /// PostgreSQL's checkpointer.
    Checkpointer,
    /// All other processes of PostgreSQL.
    Backends,
}

impl Target {
    /// All of them, PostgreSQL's last.
    pub const ALL: [Target; 6] = [
        Target::Etcd,
        Target::Agent,
        Target::Guard,
        Target::Postmaster,
        Target::Checkpointer,
        Target::Backends,
    ];
}

/// The signals faults are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// Ends a process, without its knowing.
    Kill,
    /// Freezes it.
    Stop,
    /// Thaws it.
    Continue,
    /// Asks it to end.
    Terminate,
}

/// The answer to a request.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reply {
    /// Just before it was done.
    pub at: Moment,
    /// Why it wasn't done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How everything is, if that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

/// How everything is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The keeper's process.
    pub keeper: u32,
    /// All hosts, the client's last.
    pub hosts: Vec<HostStatus>,
    /// The network's rules.
    pub rules: Vec<Rule>,
    /// Dynamic configuration at bootstrap beyond the agent's defaults.
    pub dynamic: Vec<(String, String)>,
}

/// How a host is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostStatus {
    /// Which.
    pub host: Host,
    /// Where other processes find its network namespace.
    pub namespace: PathBuf,
    /// Whether it is switched on; the client's host has nothing to switch.
    pub on: bool,
    /// The process of its etcd.
    pub etcd: Option<i32>,
    /// The process of its agent.
    pub agent: Option<i32>,
    /// The process of its guard.
    pub guard: Option<i32>,
    /// The process of its postmaster.
    pub postmaster: Option<i32>,
    /// How many other processes of PostgreSQL it has.
    pub backends: usize,
}
