//! The agent's end: starts a guard where there is none, speaks to it, and hears of its death at once.

use crate::server::{LOG, SOCKET};
use crate::wire::{Ask, News, Reply, Request, Say, Status};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

/// Where the guard is, and how to start one.
#[derive(Clone, Debug)]
pub struct Place {
    /// The program: this agent's own file. It is called with `guard --run-dir … --data-dir …`.
    pub program: PathBuf,
    /// See [`Options`](crate::server::Options).
    pub run_dir: PathBuf,
    /// See [`Options`](crate::server::Options).
    pub data_dir: PathBuf,
}

/// Why a guard didn't do what it was asked. Except for [`Refused`](Error::Refused), it counts as dead then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is there, and said no; nothing has changed.
    #[error("the guard refused: {0}")]
    Refused(String),
    /// It didn't answer in time: frozen, starved, or gone.
    #[error("the guard did not answer in time")]
    TimedOut,
    /// The connection is closed: the guard is dead, or another agent speaks to it now.
    #[error("the guard is gone")]
    Gone,
    /// No guard could be started.
    #[error("start a guard: {0}")]
    Start(#[from] std::io::Error),
}

/// What comes from the guard unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// See [`News`].
    News(News),
    /// The connection is closed.
    Gone,
}

type Waiting = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Reply>>>>;

/// A connection to a guard.
#[derive(Debug)]
pub struct Client {
    writer: tokio::sync::Mutex<(OwnedWriteHalf, u64)>,
    waiting: Waiting,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Client {
    /// Connects to the guard that is there; none if there is none.
    pub async fn attach(place: &Place) -> Option<(Client, mpsc::UnboundedReceiver<Event>)> {
        let stream = UnixStream::connect(place.run_dir.join(SOCKET)).await.ok()?;
        Some(Client::new(stream))
    }

    /// Connects to the guard, and starts one if there is none.
    ///
    /// # Errors
    /// If none could be started, or it can't be reached by the deadline.
    pub async fn attach_or_start(
        place: &Place,
        by: Instant,
    ) -> Result<(Client, mpsc::UnboundedReceiver<Event>), Error> {
        if let Some(found) = Client::attach(place).await {
            return Ok(found);
        }
        start(place, by).await?;
        loop {
            if let Some(found) = Client::attach(place).await {
                return Ok(found);
            }
            if Instant::now() >= by {
                return Err(Error::TimedOut);
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    fn new(stream: UnixStream) -> (Client, mpsc::UnboundedReceiver<Event>) {
        let (reader, writer) = stream.into_split();
        let (events, receiver) = mpsc::unbounded_channel();
        let waiting = Waiting::default();
        let reader = tokio::spawn(listen(reader, Arc::clone(&waiting), events));
        (Client { writer: tokio::sync::Mutex::new((writer, 0)), waiting, reader }, receiver)
    }

    /// Asks for something.
    ///
    /// # Errors
    /// See [`Error`]. Dropping the future gives up waiting; the guard may still do it.
    pub async fn ask(&self, request: Request, by: Instant) -> Result<Status, Error> {
        let (sender, receiver) = oneshot::channel();
        let sent = timeout_at(by, async {
            let mut writer = self.writer.lock().await;
            writer.1 += 1;
            let ask = Ask { id: writer.1, request };
            let mut line = serde_json::to_vec(&ask).map_err(|_| Error::Gone)?;
            line.push(b'\n');
            self.waiting.lock().map_err(|_| Error::Gone)?.insert(ask.id, sender);
            writer.0.write_all(&line).await.map_err(|_| Error::Gone)
        });
        sent.await.map_err(|_| Error::TimedOut)??;
        match timeout_at(by, receiver).await {
            Err(_) => Err(Error::TimedOut),
            Ok(Err(_)) => Err(Error::Gone),
            Ok(Ok(Reply::Refused(why))) => Err(Error::Refused(why)),
            Ok(Ok(Reply::Status(status))) => Ok(status),
        }
    }
}

/// Starts a guard by way of a process that ends at once, so that it is no child of the agent.
async fn start(place: &Place, by: Instant) -> Result<(), Error> {
    let mut launcher = tokio::process::Command::new(&place.program);
    launcher.arg("guard").arg("--launch").args(arguments(&place.run_dir, &place.data_dir));
    launcher.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let status = timeout_at(by, launcher.status()).await.map_err(|_| Error::TimedOut)??;
    if status.success() {
        Ok(())
    } else {
        Err(std::io::Error::other(format!("its launcher: {status}")).into())
    }
}

fn arguments(run_dir: &Path, data_dir: &Path) -> [std::ffi::OsString; 4] {
    ["--run-dir".into(), run_dir.into(), "--data-dir".into(), data_dir.into()]
}

/// What the launcher does: starts the guard proper and leaves. The guard's messages go to a file: the agent's stderr
/// may be a pipe that nobody reads, and the guard outlives the agent.
///
/// # Errors
/// If the program can't be started.
pub fn launch(run_dir: &Path, data_dir: &Path) -> std::io::Result<()> {
    let mut guard = std::process::Command::new(std::env::current_exe()?);
    guard.arg("guard").args(arguments(run_dir, data_dir));
    guard.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log(run_dir));
    guard.spawn().map(drop)
}

/// Without a file the messages are lost, and the guard is there all the same.
fn log(run_dir: &Path) -> Stdio {
    let path = run_dir.join(LOG);
    let emptied = std::fs::write(&path, "");
    let opened = emptied.and_then(|()| std::fs::OpenOptions::new().append(true).open(&path));
    opened.map_or_else(|_| Stdio::null(), Stdio::from)
}

async fn listen(reader: OwnedReadHalf, waiting: Waiting, events: mpsc::UnboundedSender<Event>) {
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str::<Say>(&line) {
            Ok(Say::Answer(id, reply)) => {
                let sender = waiting.lock().ok().and_then(|mut waiting| waiting.remove(&id));
                // Nobody may be waiting any more.
                sender.map(|sender| sender.send(reply));
            }
            // Without a receiver nobody wants to know.
            Ok(Say::News(news)) => events.send(Event::News(news)).unwrap_or_default(),
            Err(_) => break,
        }
    }
    if let Ok(mut waiting) = waiting.lock() {
        waiting.clear();
    }
    events.send(Event::Gone).unwrap_or_default();
}
