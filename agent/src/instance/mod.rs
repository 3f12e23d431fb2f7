//! The core's orders, carried out on the local PostgreSQL.
//!
//! What makes PostgreSQL run or end goes through the guard; everything else is `primacy-postgres`'. What is decided
//! here is only what belongs at the edge: an order that comes too late, or without an armed guard, isn't begun (hazard
//! L01), and what describes the copy of the data is durable before anything happens to it.

mod asides;
mod below;
mod complaint;
mod drought;
mod guard;
pub mod losses;
mod mend;
pub mod progress;
pub mod resting;
mod saved;
mod search;
mod storage;
mod volume;

use crate::board::{Board, Details};
use crate::clock::{BootClock, instant, now};
use crate::config::Settings;
use crate::place;
use crate::store::directory::Directory;
use anyhow::Context;
use below::Below;
use complaint::Complaint;
use drought::Drought;
use guard::Hold;
use mend::Slots;
use primacy_core::instance::{Data, Failure, Foreign, Found, Instance, Op, Order, Performed, Saved};
use primacy_core::{Epoch, Guard, Lsn, Name, Nonce, Position, Span, SystemId, Time};
use primacy_driver::Clock;
use primacy_guard::client::Place;
use primacy_postgres::{Error, Found as AtRest, Postgres, Probe, Upstream, User, files};
use search::Search;
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use storage::Storage;

/// How long a look at the instance may take. A server that doesn't answer for longer isn't well.
const LOOK: Span = Span::secs(3);

/// The pause between two looks when nothing has happened to the instance for a while, at most.
const IDLE: Span = Span::secs(1);

/// The pause between two looks shortly after something has happened.
const BUSY: Span = Span::millis(200);

/// How long that lasts.
const BUSY_FOR: Span = Span::secs(5);

/// The pause between two looks at an instance that doesn't run: only its data directory could change.
const DOWN: Span = Span::secs(10);

/// Between two tries of the same step.
const AGAIN: Span = Span::millis(50);

/// See the [module](self).
pub struct Local {
    settings: Arc<Settings>,
    run_dir: PathBuf,
    board: Board,
    directory: Directory,
    postgres: Postgres,
    guard: Hold,
    /// The member and epoch it was last told to follow. After a restart of the agent none, and it is told anew.
    source: RefCell<Option<(Name, Epoch)>>,
    drought: RefCell<Drought>,
    complaint: Complaint,
    /// The source has no more the WAL that is needed next.
    starved: Cell<bool>,
    /// What finds that out.
    search: RefCell<Search>,
    /// The members that slots were last kept for, and when.
    slots: RefCell<Slots>,
    /// At the last look it ran.
    runs: Cell<bool>,
    /// A PostgreSQL that wasn't ours was found at the start.
    foreign: Cell<bool>,
    /// When the instance last changed.
    changed: Cell<Time>,
    last: RefCell<Instance>,
    storage: Storage,
}

impl Local {
    /// The instance of these settings. Takes hold of what an agent before this one left running; what runs without a
    /// guard is killed, if it is ours.
    pub async fn begin(
        settings: Arc<Settings>,
        run_dir: PathBuf,
        board: Board,
        directory: Directory,
    ) -> anyhow::Result<Local> {
        let data_dir = settings.postgres.data_dir.clone();
        let program = std::env::current_exe().context("find this program's own file")?;
        let storage = Storage::of(data_dir.clone());
        let guard = Hold::new(Place { program, run_dir: run_dir.clone(), data_dir }).context("open /proc")?;
        let postgres = Postgres::new(postgres_settings(&settings, run_dir.clone())?);
        let local = Local {
            settings,
            run_dir,
            board,
            directory,
            postgres,
            guard,
            source: RefCell::default(),
            drought: RefCell::default(),
            complaint: Complaint::default(),
            starved: Cell::new(false),
            search: RefCell::default(),
            slots: RefCell::default(),
            runs: Cell::new(false),
            foreign: Cell::new(false),
            changed: Cell::new(now()),
            last: RefCell::new(Instance::Unknown),
            storage,
        };
        local.publish_losses();
        tokio::spawn(progress::watch(local.postgres.clone(), local.board.clone()));
        tokio::spawn(asides::tend(local.postgres.clone(), local.settings.aside));
        local.adopt().await;
        local.end_leftovers().await;
        Ok(local)
    }

    async fn adopt(&self) {
        if let Some(status) = self.guard.adopt().await {
            tracing::info!(armed = ?status.armed, "found the guard of an earlier agent");
            return;
        }
        if !self.guard.any_left().await {
            return;
        }
        if self.postgres.identity().is_none() {
            self.foreign.set(true);
            return;
        }
        tracing::warn!("PostgreSQL runs without a guard: kills it");
        if !self.guard.kill().await {
            tracing::error!("some processes of PostgreSQL are not gone yet");
        }
    }

    /// Ends when a server that is to do this takes a connection and says nothing.
    async fn hangs(&self, op: &Op) {
        let age = self.settings.core.health_age;
        if age == Span::ZERO || !op.asks_the_server() {
            return std::future::pending().await;
        }
        while self.postgres.answers(instant(now() + age)).await {
            BootClock.sleep_until(now() + BUSY).await;
        }
        tracing::warn!("PostgreSQL takes connections and answers nothing: gives up to {op}");
    }

    /// What is durable about the copy of the data.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn saved(&self) -> anyhow::Result<Saved> {
        Ok(saved::load(&self.settings.postgres.data_dir, &self.run_dir)?)
    }

    async fn carry_out(&self, order: &Order) -> Result<(), Failure> {
        if order.op != Op::Kill {
            files::settled().await;
        }
        let saved = self.save(order).await;
        if !matches!(order.op, Op::Look | Op::Stop | Op::Kill) {
            saved?;
        }
        if now() >= order.start_by {
            return Err(Failure::TooLate);
        }
        if order.op.opens() && !self.guard.is_armed(order.epoch).await {
            return Err(Failure::TooLate);
        }
        let by = instant(order.until);
        let below = Below { guard: &self.guard, epoch: order.epoch, until: order.until };
        let identity = || serde_json::to_value(&order.saved).unwrap_or_default();
        match &order.op {
            Op::Look => Ok(()),
            Op::Initdb => {
                self.check_volume()?;
                saved::forget_mending(&self.settings.postgres.data_dir).map_err(unsaved)?;
                self.postgres.initdb(&identity(), by).await.map_err(failure)
            }
            Op::Clone(from) => {
                self.check_volume()?;
                saved::forget_mending(&self.settings.postgres.data_dir).map_err(unsaved)?;
                let source = self.upstream(from)?;
                asides::warn_if_short(&self.postgres);
                self.postgres.clone_from(&source, &identity(), by).await.map_err(failure)
            }
            Op::Rewind(from) => self.rewind(from, order).await,
            Op::SetAside => self.set_aside(order).await,
            Op::StartStandby => {
                self.source.replace(None);
                self.postgres.start_standby(&below, by).await.map_err(failure)
            }
            Op::StartInPlace => {
                self.source.replace(None);
                self.postgres.start_in_place(&below, by).await.map_err(failure)?;
                self.open(order).await
            }
            Op::Follow(from) => {
                let source = self.upstream(from)?;
                self.postgres.follow(&source, &self.history(), by).await.map_err(failure)?;
                self.source.replace(Some((from.clone(), order.saved.highest)));
                self.drought.take();
                self.forget_wal();
                Ok(())
            }
            Op::CloseSources => {
                self.source.replace(None);
                self.postgres.close_sources(by).await.map(drop).map_err(failure)
            }
            Op::Promote => {
                self.postgres.promote(order.epoch.0, by).await.map_err(failure)?;
                self.source.replace(None);
                self.open(order).await
            }
            Op::Settle => self.settle(by).await,
            Op::Checkpoint => self.postgres.checkpoint(by).await.map_err(failure),
            Op::Stop => self.postgres.stop(&below, by).await.map_err(failure),
            Op::Kill => {
                while !self.guard.kill().await {
                    BootClock.sleep_until(now() + AGAIN).await;
                }
                self.foreign.set(false);
                Ok(())
            }
        }
    }

    /// What a writable PostgreSQL is told first. Tried until the order's time is over: a cluster without its roles
    /// would have no standbys.
    async fn open(&self, order: &Order) -> Result<(), Failure> {
        let by = instant(order.until);
        let nonce = order.saved.lineage.last().map_or(Nonce(0), |(_, nonce)| *nonce);
        loop {
            let done = async {
                if order.op == Op::StartInPlace {
                    self.postgres.prepare_roles(by).await?;
                }
                self.postgres.mark_epoch(order.epoch.0, nonce.0, by).await
            };
            let Err(error) = done.await else { return Ok(()) };
            if !self.guard.any_left().await {
                return Err(failure(error));
            }
            tracing::warn!(%error, "the first statements failed, tries again");
            BootClock.sleep_until(now() + AGAIN).await;
        }
    }

    /// Makes durable what describes the copy of the data, before anything happens to it. A copy that is being made
    /// gets its own with it; one that an unheard order has made keeps its own. A kill waits for no disk.
    async fn save(&self, order: &Order) -> Result<(), Failure> {
        if order.op == Op::Kill {
            return Ok(());
        }
        let failed =
            |what: &str, why: &dyn std::fmt::Display| Failure::Other(format!("{what}: {why}").into());
        let highest = Saved { highest: order.saved.highest, ..Saved::default() };
        let known = saved::read(&self.run_dir).map_err(|why| failed("read what was saved", &why))?;
        if known != Some(highest.clone()) {
            saved::store(&self.run_dir, &highest)
                .await
                .map_err(|why| failed("save the highest epoch", &why))?;
        }
        let data_dir = &self.settings.postgres.data_dir;
        if order.saved.mending {
            // Nothing can be said of half a copy but that it is one, and that is durable already.
            return Ok(());
        }
        let has_data = data_dir.join("PG_VERSION").try_exists();
        if order.op.replaces() || !has_data.map_err(|why| failed("look at the data directory", &why))? {
            return Ok(());
        }
        let known = saved::read(data_dir).map_err(|why| failed("read what was saved", &why))?;
        if known.unwrap_or_default().copy != order.saved.copy {
            return Err(failed("save", &"another copy of the data lies there"));
        }
        let identity = serde_json::to_value(&order.saved).map_err(|why| failed("save", &why))?;
        self.postgres.set_identity(&identity).await.map_err(failure)
    }

    fn upstream(&self, name: &Name) -> Result<Upstream, Failure> {
        let contents = self.directory.look();
        let member = contents.last_seen.get(name.as_str());
        let (host, port) = member
            .and_then(|member| member.address())
            .ok_or_else(|| Failure::Other(format!("{name} has not published its address").into()))?;
        Ok(Upstream { host, port })
    }

    /// Looks at the instance, and tells the board what only others want to know.
    async fn look(&self) -> Found {
        if let Some(lasts) = self.storage.hangs(self.settings.core.health_age.times(2)) {
            self.complain(&format!(
                "a write to {} hasn't ended for {lasts}",
                self.settings.postgres.data_dir.display()
            ));
            return Found::NOTHING;
        }
        let until = now() + LOOK;
        let below = Below { guard: &self.guard, epoch: Epoch(0), until };
        // Asking the server is cheaper than searching the process table; that it is gone is told by the guard.
        let probed = if self.runs.get() { self.postgres.probe(instant(until)).await.ok() } else { None };
        let looked = match probed {
            Some(standing) => Ok(Ok(Box::new(standing))),
            None => self.postgres.look(&below, instant(until)).await,
        };
        let (mut instance, details) = match looked {
            Ok(Ok(standing)) => (self.running(&standing), details(&standing)),
            Ok(Err(found)) => (self.at_rest(found), Details::default()),
            // It lives, and works for those who are in.
            Err(error) if error.is_crowded() && matches!(*self.last.borrow(), Instance::Primary { .. }) => {
                self.complain(&error.to_string());
                (self.last.borrow().clone(), self.board.look().details.clone())
            }
            Err(error) if error.is_starting() && self.starts_in_recovery() => {
                (self.starting(instant(until)).await, Details::default())
            }
            Err(error) => {
                self.complain(&error.to_string());
                (Instance::Unknown, Details::default())
            }
        };
        let saved = self.saved();
        if let Err(error) = &saved
            && instance != Instance::Unknown
        {
            self.complain(&format!("{error:#}"));
        }
        match &saved {
            Err(_) => instance = Instance::Unknown,
            Ok(saved) if saved.mending => instance = half_mended(instance),
            Ok(_) => {}
        }
        if instance != Instance::Unknown {
            self.complaint.forget();
        }
        if matches!(instance, Instance::Primary { .. }) && self.settings.core.health_age > Span::ZERO {
            self.storage.look();
        }
        self.note_volume(&instance);
        self.drought.borrow_mut().see(&instance, now());
        self.runs.set(instance.runs());
        self.board.look().details = Details { guard_weak: self.guard.weak(), ..details };
        if self.last.borrow().runs() != instance.runs() || !same_kind(&self.last.borrow(), &instance) {
            self.changed.set(now());
        }
        self.last.replace(instance.clone());
        Found { instance, saved: saved.ok() }
    }

    fn complain(&self, why: &str) {
        if let Some(unsaid) = self.complaint.is_due(now(), why) {
            tracing::warn!(unsaid, "could not look at the instance: {why}");
        }
    }

    /// What was ordered is kept true: the source may have moved, or PostgreSQL may not have heard of it.
    ///
    /// Only between two orders: one may just be about to close it.
    async fn keep_following(&self) {
        let Some((name, _)) = self.source.borrow().clone() else { return };
        let Some(lasts) = self.drought.borrow_mut().lasts(now()) else { return };
        let again = match self.upstream(&name) {
            Ok(source) => {
                let by = instant(now() + LOOK);
                self.look_for_wal(&source).await;
                self.postgres.follow(&source, &self.history(), by).await.map_err(failure)
            }
            Err(why) => Err(why),
        };
        if !self.drought.borrow_mut().is_to_be_said(now()) {
            return;
        }
        let (seconds, log) = (lasts.0 / Span::secs(1).0, self.postgres.log());
        let said = self.postgres.last_failure().unwrap_or_default();
        let (source, log) = (name.as_str(), log.display());
        let search = self.search.borrow();
        let doubt = search.doubt();
        match again {
            Ok(()) => {
                tracing::warn!(source, seconds, said, doubt, %log, "no WAL arrives: told PostgreSQL again")
            }
            Err(why) => tracing::warn!(source, seconds, %why, said, doubt, %log, "no WAL arrives"),
        }
    }

    fn at_rest(&self, found: AtRest) -> Instance {
        let path = self.settings.postgres.data_dir.display();
        // What stays as it is needn't be told at each look.
        let is_news = self.last.borrow().data().is_some() || *self.last.borrow() == Instance::Unknown;
        match found {
            AtRest::Absent => Instance::Absent,
            AtRest::Foreign(why) => {
                if is_news {
                    tracing::error!("{path}: {why}");
                }
                Instance::Foreign(match why {
                    primacy_postgres::Foreign::NotPostgres => Foreign::NotPostgres,
                    primacy_postgres::Foreign::OtherVersion => Foreign::OtherVersion,
                })
            }
            // Copies are made beside their place: what lies here with its description was whole.
            AtRest::Incomplete(why) if self.postgres.identity().is_some() => {
                if is_news {
                    tracing::error!(%path, why, "the data directory is damaged");
                }
                Instance::Foreign(Foreign::Damaged)
            }
            AtRest::Incomplete(why) => {
                tracing::warn!(%path, why, "the data directory is incomplete");
                Instance::Incomplete
            }
            AtRest::Present(present) => Instance::Stopped {
                data: data(present.system_id, present.position, &present.forks),
                clean: present.clean,
                signal: present.signal,
            },
        }
    }

    fn running(&self, standing: &Probe) -> Instance {
        if self.foreign.get() {
            return Instance::Foreign(Foreign::RunsElsewhere);
        }
        let data = data(standing.system_id, standing.position, &standing.forks);
        if standing.in_recovery {
            let source = self.source.borrow().clone();
            if standing.streaming {
                // What held for one break needn't hold for the next.
                self.forget_wal();
            }
            let starved = source.is_some() && self.starved.get();
            return Instance::Standby { data, source, streaming: standing.streaming, ready: true, starved };
        }
        let followers = standing.followers.iter();
        let followers = followers.map(|(name, lsn)| (Name::from(name.as_str()), Lsn(*lsn))).collect();
        let checkpointed = standing.checkpoint == standing.position.timeline;
        Instance::Primary { data, followers, checkpointed }
    }

    /// How long to wait for something to happen before looking again.
    fn pause(&self) -> Span {
        let idle = Span(u64::try_from(self.settings.loop_wait.as_micros()).unwrap_or(u64::MAX)).min(IDLE);
        if !self.runs.get() && *self.last.borrow() != Instance::Unknown {
            DOWN
        } else if now().since(self.changed.get()) < BUSY_FOR {
            BUSY
        } else {
            idle
        }
    }
}

impl primacy_driver::Postgres for Local {
    async fn perform(&self, order: Order) -> Performed {
        let _doing = Doing::begin(&self.board, activity(&order.op));
        self.changed.set(now());
        let failure = tokio::select! {
            biased;
            done = self.carry_out(&order) => done.err(),
            () = BootClock.sleep_until(order.until) => Some(Failure::TimedOut),
            // A look would hang as well.
            () = self.hangs(&order.op) => {
                return Performed { failure: Some(Failure::TimedOut), found: Found::NOTHING };
            }
        };
        let found = self.look().await;
        self.changed.set(now());
        let failure = match (&found.instance, failure) {
            (Instance::Primary { data, .. }, Some(_))
                if order.op == Op::Promote && data.position.epoch != order.epoch =>
            {
                Some(Failure::WrongTimeline)
            }
            (_, failure) => failure,
        };
        Performed { failure, found }
    }

    async fn report(&self) -> Found {
        tokio::select! {
            biased;
            () = self.guard.exit() => self.changed.set(now()),
            () = BootClock.sleep_until(now() + self.pause()) => {}
        }
        let found = self.look().await;
        self.keep_following().await;
        self.keep_slots(&found.instance).await;
        found
    }

    async fn arm(&self, epoch: Epoch, until: Time) -> Guard {
        self.guard.arm(epoch, until).await
    }

    async fn guard(&self) -> Guard {
        self.guard.news().await
    }
}

/// Says on the board what is being done, for as long as it is.
struct Doing<'a>(&'a Board);

impl<'a> Doing<'a> {
    fn begin(board: &'a Board, activity: Option<&'static str>) -> Doing<'a> {
        board.look().activity = activity;
        Doing(board)
    }
}

impl Drop for Doing<'_> {
    fn drop(&mut self) {
        self.0.look().activity = None;
    }
}

/// Patroni's word for what an order does, if it has one.
fn activity(op: &Op) -> Option<&'static str> {
    match op {
        Op::Initdb => Some("initializing new cluster"),
        Op::Clone(_) => Some("creating replica"),
        Op::Rewind(_) => Some("running pg_rewind"),
        Op::StartStandby | Op::StartInPlace => Some("starting"),
        Op::Stop | Op::Kill => Some("stopping"),
        Op::Look
        | Op::SetAside
        | Op::Follow(_)
        | Op::CloseSources
        | Op::Promote
        | Op::Settle
        | Op::Checkpoint => None,
    }
}

/// What describes a copy could not be made durable.
fn unsaved(why: std::io::Error) -> Failure {
    Failure::Other(format!("save: {why}").into())
}

fn failure(error: Error) -> Failure {
    match error {
        Error::TimedOut(_) => Failure::TimedOut,
        Error::Unrewindable(why) => {
            tracing::warn!(why, "this copy can't be rewound");
            Failure::Hopeless
        }
        other => Failure::Other(other.to_string().into()),
    }
}

fn data(system: u64, position: primacy_postgres::Position, forks: &primacy_postgres::Forks) -> Data {
    let place = |position: primacy_postgres::Position| Position {
        epoch: Epoch(position.timeline),
        lsn: Lsn(position.lsn),
    };
    let forks = forks.iter().map(|(timeline, fork)| (Epoch(*timeline), place(*fork))).collect();
    Data { system: SystemId(system), position: place(position), forks: Arc::new(forks) }
}

fn details(standing: &Probe) -> Details {
    Details {
        server_version: Some(standing.server_version),
        postmaster_start_time: Some(standing.started.clone()),
        received: standing.in_recovery.then_some(Lsn(standing.position.lsn)),
        replayed: standing.in_recovery.then_some(Lsn(standing.replayed)),
        ..Details::default()
    }
}

/// What is found where a marker says that a copy is being mended: half of two, whatever it looks like; its WAL may not
/// even be readable. Where nothing is left it was moved aside, and whoever did so was killed before the marker went.
fn half_mended(instance: Instance) -> Instance {
    match instance {
        Instance::Absent | Instance::Standby { .. } | Instance::Primary { .. } => instance,
        Instance::Unknown | Instance::Incomplete | Instance::Foreign(_) | Instance::Stopped { .. } => {
            Instance::Incomplete
        }
    }
}

/// Whether two looks differ in nothing but positions.
fn same_kind(one: &Instance, other: &Instance) -> bool {
    match (one, other) {
        (
            Instance::Standby { source, streaming, .. },
            Instance::Standby { source: other_source, streaming: other_streaming, .. },
        ) => source == other_source && streaming == other_streaming,
        (Instance::Primary { followers, .. }, Instance::Primary { followers: others, .. }) => {
            followers.keys().eq(others.keys())
        }
        (one, other) => std::mem::discriminant(one) == std::mem::discriminant(other),
    }
}

fn postgres_settings(settings: &Settings, run_dir: PathBuf) -> anyhow::Result<primacy_postgres::Settings> {
    let postgres = &settings.postgres;
    let user = |login: &crate::config::Login| User {
        name: login.username.clone(),
        password: login.password.clone(),
    };
    let bin_dir = match &postgres.bin_dir {
        Some(dir) => dir.clone(),
        None => {
            find_bin_dir().context("postgresql.bin_dir: not given, and there is no initdb on the PATH")?
        }
    };
    place::check_programs(&bin_dir)?;
    Ok(primacy_postgres::Settings {
        name: settings.name.to_string(),
        scope: settings.scope.clone(),
        bin_dir,
        data_dir: postgres.data_dir.clone(),
        run_dir,
        listen_addresses: postgres.listen_addresses.clone(),
        port: postgres.port,
        superuser: user(&postgres.superuser),
        replication: user(&postgres.replication),
        rewind: user(&postgres.rewind),
        parameters: postgres.parameters.clone(),
        pg_hba: postgres.hba.clone(),
        initdb: settings.bootstrap.initdb.iter().map(|option| format!("--{option}")).collect(),
        stall: primacy_postgres::STALL,
        restore_command: postgres.restore_command.clone(),
    })
}

fn find_bin_dir() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|dir| dir.join("initdb").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_differs_only_in_positions_is_no_change() {
        let primary = |names: &[&str], lsn: u64| Instance::Primary {
            data: data(1, primacy_postgres::Position { timeline: 1, lsn }, &primacy_postgres::Forks::new()),
            followers: names.iter().map(|name| (Name::from(*name), Lsn(lsn))).collect(),
            checkpointed: true,
        };
        assert!(same_kind(&primary(&["a"], 1), &primary(&["a"], 2)));
        assert!(!same_kind(&primary(&["a"], 1), &primary(&["a", "b"], 1)));
        assert!(!same_kind(&primary(&[], 1), &Instance::Unknown));
    }

    #[test]
    fn a_marker_without_a_copy_does_not_keep_a_member_away() {
        assert_eq!(half_mended(Instance::Absent), Instance::Absent);
        for half in [Instance::Unknown, Instance::Foreign(Foreign::Damaged)] {
            assert_eq!(half_mended(half), Instance::Incomplete);
        }
    }
}
