//! The agent's hold on its guard.

use crate::clock::instant;
use primacy_core::{Epoch, Guard, Time};
use primacy_guard::client::{Client, Error, Event, Place};
use primacy_guard::kill::Instance as Processes;
use primacy_guard::wire::{News, Request, Start, Status};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// The time for a guard's answer to anything but a kill.
const PATIENCE: Duration = Duration::from_millis(450);

/// How long a kill may take before it is reported as unfinished.
const KILL_PATIENCE: Duration = Duration::from_millis(800);

/// The connection to a guard, as long as it lasts.
pub struct Hold {
    place: Place,
    connection: RefCell<Option<Connection>>,
    /// What the guard said by itself and the core hasn't heard yet.
    unheard: RefCell<Vec<Guard>>,
    heard: Notify,
    /// Why the present guard's hold on the instance isn't complete, if so.
    weak: RefCell<Option<String>>,
    /// A postmaster has ended since anybody looked.
    ended: Cell<bool>,
    exits: Notify,
}

struct Connection {
    client: Rc<Client>,
    events: mpsc::UnboundedReceiver<Event>,
    /// To end a guard that is frozen: it holds the lock that its successor needs.
    process: Option<OwnedFd>,
}

impl Hold {
    /// No connection yet.
    pub fn new(place: Place) -> Hold {
        // Where there is no guard, this process has to be able to kill.
        primacy_guard::kill::keep_reserve();
        Hold {
            place,
            connection: RefCell::default(),
            unheard: RefCell::default(),
            heard: Notify::new(),
            weak: RefCell::default(),
            ended: Cell::new(false),
            exits: Notify::new(),
        }
    }

    /// Takes hold of a guard that outlived the agent before this one. What it runs goes on.
    pub async fn adopt(&self) -> Option<Status> {
        let (client, events) = Client::attach(&self.place).await?;
        match client.ask(Request::Status, Instant::now() + PATIENCE).await {
            Ok(status) => {
                self.hold(client, events, &status);
                self.hear(state(&status));
                Some(status)
            }
            Err(error) => {
                tracing::warn!(%error, "a guard is there, but does not answer: kills it");
                self.end_stray_guards();
                None
            }
        }
    }

    /// Moves the fence, and says how the guard stands.
    pub async fn arm(&self, epoch: Epoch, until: Time) -> Guard {
        let by = Instant::now() + PATIENCE;
        let asked = match self.client(by).await {
            Ok(client) => match client.ask(Request::Arm { epoch: epoch.0, until: until.0 }, by).await {
                Err(Error::Refused(why)) => {
                    tracing::warn!(why, "the guard refused a fence");
                    client.ask(Request::Status, by).await
                }
                other => other,
            },
            Err(error) => Err(error),
        };
        match asked {
            Ok(status) => state(&status),
            Err(error) => {
                tracing::warn!(%error, "the guard could not be armed");
                Guard::Lost
            }
        }
    }

    /// Whether the guard is armed for just this epoch, and its fence lies ahead.
    pub async fn is_armed(&self, epoch: Epoch) -> bool {
        let by = Instant::now() + PATIENCE;
        let Ok(client) = self.client(by).await else { return false };
        let status = client.ask(Request::Status, by).await;
        let armed = status.ok().and_then(|status| status.armed);
        armed.is_some_and(|(armed, until)| armed == epoch.0 && crate::clock::now().0 < until)
    }

    /// Why the guard's hold on the instance isn't complete, if so.
    pub fn weak(&self) -> Option<String> {
        self.weak.borrow().clone()
    }

    /// Starts PostgreSQL below the guard.
    pub async fn start(&self, start: Start, until: Time) -> Result<(), Error> {
        let by = instant(until);
        self.ended.set(false);
        let status = self.client(by).await?.ask(Request::Start(start), by).await?;
        self.note_weakness(status.weak);
        Ok(())
    }

    fn note_weakness(&self, weak: Option<String>) {
        if let Some(why) = weak.as_ref().filter(|_| *self.weak.borrow() != weak) {
            tracing::info!(why, "the guard's hold on the instance is weak");
        }
        self.weak.replace(weak);
    }

    /// Kills every process of the instance, with the guard or without it. Says whether none is left.
    ///
    /// A guard that doesn't answer is killed first: it may be frozen, and its successor needs the lock.
    pub async fn kill(&self) -> bool {
        let held = self.connection.borrow().as_ref().map(|connection| connection.client.clone());
        if let Some(client) = held {
            match client.ask(Request::Kill, Instant::now() + KILL_PATIENCE).await {
                Ok(_) => return true,
                Err(Error::Refused(why)) => {
                    tracing::warn!(why, "the guard is not done killing");
                    return false;
                }
                Err(error) => {
                    tracing::warn!(%error, "the guard does not kill: it is killed, and all it runs")
                }
            }
        }
        self.end_guard();
        let processes = self.processes();
        tokio::task::spawn_blocking(move || processes.kill(KILL_PATIENCE)).await.unwrap_or(false)
    }

    /// Whether any process of the instance is left, whoever started it.
    pub async fn any_left(&self) -> bool {
        let held = self.connection.borrow().as_ref().map(|connection| connection.client.clone());
        if let Some(client) = held
            && let Ok(Status { left: Some(left), .. }) =
                client.ask(Request::Look, Instant::now() + PATIENCE).await
        {
            return left;
        }
        let processes = self.processes();
        // Until it is known, some may be.
        tokio::task::spawn_blocking(move || processes.any_left()).await.unwrap_or(true)
    }

    fn processes(&self) -> Processes {
        Processes::new(&self.place.data_dir, None)
    }

    /// Waits until the guard says something by itself.
    pub async fn news(&self) -> Guard {
        loop {
            let said = {
                let mut unheard = self.unheard.borrow_mut();
                (!unheard.is_empty()).then(|| unheard.remove(0))
            };
            if let Some(guard) = said {
                return guard;
            }
            let heard = self.heard.notified();
            tokio::select! {
                biased;
                () = heard => {}
                event = self.event() => self.note(event),
            }
        }
    }

    /// Waits until a postmaster has ended, unless one has and nobody was told.
    pub async fn exit(&self) {
        while !self.ended.replace(false) {
            self.exits.notified().await;
        }
    }

    async fn client(&self, by: Instant) -> Result<Rc<Client>, Error> {
        if let Some(connection) = self.connection.borrow().as_ref() {
            return Ok(connection.client.clone());
        }
        let (client, events) = Client::attach_or_start(&self.place, by).await?;
        let status = client.ask(Request::Status, by).await?;
        Ok(self.hold(client, events, &status))
    }

    fn hold(&self, client: Client, events: mpsc::UnboundedReceiver<Event>, status: &Status) -> Rc<Client> {
        let client = Rc::new(client);
        let process = Pid::from_raw(status.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let connection = Connection { client: client.clone(), events, process };
        self.connection.replace(Some(connection));
        self.note_weakness(status.weak.clone());
        self.heard.notify_one();
        client
    }

    /// The next event of the present connection. While there is none, never.
    async fn event(&self) -> Event {
        poll_fn(|cx| match self.connection.borrow_mut().as_mut() {
            Some(connection) => match connection.events.poll_recv(cx) {
                Poll::Ready(event) => Poll::Ready(event.unwrap_or(Event::Gone)),
                Poll::Pending => Poll::Pending,
            },
            None => Poll::Pending,
        })
        .await
    }

    fn note(&self, event: Event) {
        match event {
            Event::News(News::Exited) => self.exited(),
            Event::News(News::Killed(why)) => {
                tracing::warn!(?why, "the guard has killed the instance");
                self.hear(Guard::Idle);
                self.exited();
            }
            Event::Gone => {
                self.connection.replace(None);
                self.hear(Guard::Lost);
            }
        }
    }

    fn hear(&self, guard: Guard) {
        self.unheard.borrow_mut().push(guard);
        self.heard.notify_one();
    }

    fn exited(&self) {
        self.ended.set(true);
        self.exits.notify_waiters();
    }

    /// Ends guards of this instance that no connection leads to.
    fn end_stray_guards(&self) {
        let Ok(entries) = std::fs::read_dir("/proc") else { return };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        for pid in pids.filter_map(Pid::from_raw) {
            // The handle comes first: what is read then is about the process that it means.
            let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            if self.is_guard(pid) {
                // If it is gone already, so much the better.
                let _ = pidfd_send_signal(&process, Signal::KILL);
            }
        }
    }

    fn is_guard(&self, pid: Pid) -> bool {
        let Ok(line) = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())) else { return false };
        let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let run_dir = self.place.run_dir.as_os_str().as_encoded_bytes();
        arguments.get(1) == Some(&b"guard".as_slice()) && arguments.contains(&run_dir)
    }

    fn end_guard(&self) {
        if let Some(Connection { process: Some(process), .. }) = self.connection.borrow_mut().take() {
            // If it is gone already, so much the better.
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
    }
}

fn state(status: &Status) -> Guard {
    match status.armed {
        Some((epoch, until)) => Guard::Armed { epoch: Epoch(epoch), until: Time(until) },
        None => Guard::Idle,
    }
}
