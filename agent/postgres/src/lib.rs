//! What the agent does to a PostgreSQL instance: files, processes, SQL. It decides nothing.
//!
//! Everything takes a deadline and ends by it; what takes long also ends when it makes no progress, and says how far it
//! is. A call that is dropped leaves no process behind. What it had begun on disk lies beside the data directory under
//! another name, and is cleared away by the next call of its kind, with what a dead agent has left at work on it.
//!
//! But a rewind changes the data directory itself, and one that was dropped may have left it in pieces: the caller
//! notes down elsewhere that it has begun one. [`Postgres::end_leftovers`] ends what a dead agent has left at it.

mod absence;
mod aside;
mod config;
mod control;
mod data;
mod elsewhere;
pub mod files;
#[cfg(test)]
mod fuzz;
mod leftovers;
mod loss;
mod process;
mod progress;
mod retention;
mod rewind;
mod slots;
mod sources;
mod sql;
mod tools;
mod volume;
mod wal;

pub use aside::{Aside, Manifest, SetAside, Uptime};
pub use data::{Foreign, Found, Present};
pub use elsewhere::Part;
pub use loss::{Commit, Gap, Loss};
pub use progress::{Progress, STALL};
pub use retention::{Bytes, Keep, Pruned, Space};
pub use slots::slot_name;
pub use sql::{Probe, Standing};
pub use wal::Forks;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
pub use tokio::time::Instant;

/// A user of the database and its password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The role's name.
    pub name: String,
    /// Its password, if it has one.
    pub password: Option<String>,
}

/// Where an instance lives, and how it is set up.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The member's name, which its walreceiver reports.
    pub name: String,
    /// The cluster's name.
    pub scope: String,
    /// Where `postgres`, `initdb` and the others are. Never taken from PATH: Debian's are wrappers there.
    pub bin_dir: PathBuf,
    /// The data directory; need not exist.
    pub data_dir: PathBuf,
    /// Exists, belongs to the agent's user alone: sockets and PostgreSQL's output.
    pub run_dir: PathBuf,
    /// What PostgreSQL listens on.
    pub listen_addresses: String,
    /// Its port.
    pub port: u16,
    /// Whom the agent works as.
    pub superuser: User,
    /// Whom standbys connect as.
    pub replication: User,
    /// Whom a rewind connects as, to the database `postgres`. The superuser, or one that may read files.
    pub rewind: User,
    /// Settings of the user.
    pub parameters: BTreeMap<String, String>,
    /// Lines of the user for `pg_hba.conf`.
    pub pg_hba: Vec<String>,
    /// Further options for `initdb`.
    pub initdb: Vec<String>,
    /// What takes long may take as long as its deadline, unless it makes no progress for this time.
    pub stall: Duration,
    /// The user's command that fetches a file of WAL from the archive, as for `postgresql.conf`.
    pub restore_command: Option<String>,
}

/// Where to copy or stream from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// A place in the WAL: timeline and byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The timeline.
    pub timeline: u32,
    /// The byte. As JSON it is text, `0/5000060`.
    #[serde(with = "control::lsn_as_text")]
    pub lsn: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{} {}", self.timeline, control::shown(self.lsn))
    }
}

/// What starts and kills processes for us: the guard.
pub trait Runner {
    /// Starts the postmaster; returns once it was spawned. `primary`: it comes up writable.
    fn start(
        &self,
        argv: Vec<OsString>,
        log: PathBuf,
        primary: bool,
    ) -> impl Future<Output = Result<(), String>>;
    /// Kills every process of the instance; returns when none is left.
    fn kill_all(&self) -> impl Future<Output = Result<(), String>>;
    /// Whether a process of the instance is left.
    fn any_left(&self) -> impl Future<Output = Result<bool, String>>;
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The deadline came first. What was begun may still have an effect.
    #[error("{0}: not done in time")]
    TimedOut(&'static str),
    /// It has made no progress for too long. What was begun may still have an effect.
    #[error("{0}: no progress any more")]
    Stalled(&'static str),
    /// A file could not be read or written.
    #[error("{what}: {why}")]
    Io {
        /// Verb and object.
        what: String,
        /// The system's words.
        why: std::io::Error,
    },
    /// A program of PostgreSQL failed.
    #[error("{program} failed: {words}")]
    Program {
        /// Which.
        program: &'static str,
        /// Its last words.
        words: String,
    },
    /// A statement failed, or no connection could be made.
    #[error("{what}: {why}")]
    Sql {
        /// Verb and object.
        what: &'static str,
        /// The server's or the driver's words.
        why: String,
        /// The SQLSTATE, if the server said one.
        state: Option<String>,
    },
    /// The guard or its absence stood in the way.
    #[error("{what}: {why}")]
    Runner {
        /// Verb and object.
        what: &'static str,
        /// The guard's words.
        why: String,
    },
    /// It is not as it has to be for this. Nothing was done.
    #[error("{0}")]
    Unfit(String),
    /// This data directory can't be brought back to another history, now or later. Where it was tried, it may be in
    /// pieces. Another copy can be made.
    #[error("can't be rewound: {0}")]
    Unrewindable(String),
}

impl Error {
    /// Whether the server said that it takes no connections yet.
    pub fn is_starting(&self) -> bool {
        matches!(self, Error::Sql { state: Some(state), .. } if state == "57P03")
    }

    /// Whether the server said that it has no room for another session.
    pub fn is_crowded(&self) -> bool {
        matches!(self, Error::Sql { state: Some(state), .. } if state == "53300")
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let what = what.into();
        move |why| Error::Io { what, why }
    }

    pub(crate) fn runner(what: &'static str) -> impl FnOnce(String) -> Error {
        move |why| Error::Runner { what, why }
    }
}

/// An instance.
#[derive(Clone, Debug)]
pub struct Postgres {
    settings: Arc<Settings>,
    board: progress::Board,
}

impl Postgres {
    /// The instance with these settings.
    pub fn new(settings: Settings) -> Postgres {
        Postgres { settings: Arc::new(settings), board: progress::Board::default() }
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
