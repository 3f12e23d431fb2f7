//! What looks at a cluster from outside: writers that count, and a poller of the agents' REST interface.
//!
//! The [`Clients`] of a run share one record, [`Seen`]. There are two kinds of writers: one knows all nodes and behaves
//! as libpq with several hosts and `target_session_attrs=read-write`; and on each node a pinned one writes to that node
//! alone, over its own address, whatever the cluster thinks of it. Only the latter can see a second writer on a host
//! that is cut off.

pub mod http;
mod pinned;
mod poller;
mod session;
mod steady;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::lab::Lab;
use crate::network::{CLIENT, Host, NODES, enter};
use crate::time::Moment;

pub use poller::{Nodes, REST, Sample, Says};
pub use session::Missing;

/// Each writer tries to write this often.
pub const WRITE_EVERY: Duration = Duration::from_millis(25);

/// Who wrote a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Writer {
    /// The client that knows all nodes.
    Steady,
    /// The client on the node itself.
    Pinned,
}

/// An acknowledged row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Its primary key.
    pub id: i64,
    /// Who wrote it.
    pub writer: Writer,
    /// The node that acknowledged it.
    pub host: Host,
    /// The timeline it was written on.
    pub timeline: u32,
    /// Where in the WAL it lies: behind the row, not behind its commit.
    pub position: u64,
    /// Just before it was sent.
    pub sent: Moment,
    /// When the acknowledgement had come.
    pub acked: Moment,
}

/// What clients have seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// Acknowledged rows, in the order in which their acknowledgements were noted.
    pub acks: Vec<Ack>,
    /// What the agents said, in the order in which they answered.
    pub samples: Vec<Sample>,
    /// Writes of the steady client whose outcome it doesn't know.
    pub unknown: u64,
}

/// What all clients of a run share.
#[derive(Debug)]
struct Shared {
    seen: Mutex<Seen>,
    stop: AtomicBool,
    next_id: AtomicI64,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn new_id(&self) -> i64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn note(&self, ack: Ack) {
        self.seen.lock().expect("the record").acks.push(ack);
    }
}

/// All clients of a run, each in a thread of its own, in the namespace of its host.
#[derive(Debug)]
pub struct Clients {
    shared: Arc<Shared>,
    first_id: i64,
    namespace: PathBuf,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Starts them all.
    pub fn start(lab: &Lab) -> Result<Clients> {
        let first_id = Moment::now().0;
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            stop: AtomicBool::new(false),
            next_id: AtomicI64::new(first_id),
        });
        let namespace = lab.namespace(CLIENT)?;
        let mut threads = Vec::new();
        let same = shared.clone();
        threads.push(in_namespace(namespace.clone(), move || steady::run(same))?);
        let same = shared.clone();
        threads.push(in_namespace(namespace.clone(), move || poller::run(same))?);
        for host in NODES {
            let same = shared.clone();
            threads.push(in_namespace(lab.namespace(host)?, move || pinned::run(host, same))?);
        }
        Ok(Clients { shared, first_id, namespace, threads })
    }

    /// Looks at the record.
    pub fn look<T>(&self, at: impl FnOnce(&Seen) -> T) -> T {
        at(&self.shared.seen.lock().expect("the record"))
    }

    /// What the agents say now.
    pub fn nodes(&self) -> Nodes {
        self.look(|seen| Nodes::of(&seen.samples, Moment::now()))
    }

    /// Another look at the record, for a thread that shows it.
    pub fn viewer(&self) -> Viewer {
        Viewer(self.shared.clone())
    }

    /// Asks one node's PostgreSQL; the first column of the answer, as text.
    pub fn query(&self, host: Host, statement: &str) -> Result<Vec<String>> {
        session::query(self.namespace.clone(), host, statement.to_owned())
    }

    /// Which rows acknowledged so far the cluster's primary lacks.
    pub fn missing(&self) -> Result<Missing> {
        let ids = self.look(|seen| seen.acks.iter().map(|ack| ack.id).collect());
        session::missing_rows(self.namespace.clone(), self.first_id, ids)
    }

    /// Stops all clients and returns the record, and which acknowledged rows the cluster's primary lacks, if there is
    /// one to ask.
    pub fn finish(mut self) -> Result<(Seen, Result<Missing>)> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok().context("a client panicked")?;
        }
        let seen = std::mem::take(&mut *self.shared.seen.lock().expect("the record"));
        let (namespace, first) = (self.namespace.clone(), self.first_id);
        let ids: Vec<i64> = seen.acks.iter().map(|ack| ack.id).collect();
        let missing = session::missing_rows(namespace, first, ids);
        Ok((seen, missing))
    }
}

/// Sees what the clients see.
#[derive(Clone, Debug)]
pub struct Viewer(Arc<Shared>);

impl Viewer {
    /// What the agents say now, and the steady client's last acknowledgement; nothing once the clients have ended.
    pub fn view(&self) -> Option<(Nodes, Option<Ack>)> {
        if self.0.stopped() {
            return None;
        }
        let seen = self.0.seen.lock().expect("the record");
        let last = seen.acks.iter().rev().take(1_000).find(|ack| ack.writer == Writer::Steady);
        Some((Nodes::of(&seen.samples, Moment::now()), last.copied()))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// Runs a future on a thread in a network namespace.
fn in_namespace<F, Work, T>(namespace: PathBuf, work: F) -> Result<JoinHandle<T>>
where
    F: FnOnce() -> Work + Send + 'static,
    Work: Future<Output = T>,
    T: Send + 'static,
{
    // Entered within the new thread; an error would be a lab that has just ended.
    let run = move || {
        enter(&namespace).expect("enter a host of the lab");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(work())
    };
    std::thread::Builder::new().name("client".into()).spawn(run).context("start a client's thread")
}
