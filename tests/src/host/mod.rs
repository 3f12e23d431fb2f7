//! What a host is made of: its first process and its files.
//!
//! A host has PID, mount, IPC, UTS and network namespaces of its own. Its first process ([`init`]) is its service
//! manager; when that ends, the kernel ends everything else on the host at once, which is what the loss of a machine
//! looks like, and also what makes sure that nothing outlives a lab.

pub mod init;
pub mod settings;

use serde::{Deserialize, Serialize};

/// What a host runs as a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// The member of the store.
    Etcd,
    /// Primacy's agent, which starts guard and PostgreSQL.
    Agent,
}

/// How a service is run; what a unit file would say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its whole environment.
    pub environment: Vec<(String, String)>,
    /// The file its output is appended to.
    pub log: std::path::PathBuf,
}

/// What the keeper tells a host's first process, one JSON object a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Starts the service now if it doesn't run, and again whenever it ends.
    Want(Service, Unit),
    /// Leaves it alone: it isn't started again once it ends.
    Leave(Service),
}
