//! Starting and stopping the server, and opening and closing its sources of WAL.

use crate::control::Control;
use crate::data::Found;
use crate::progress::{Work, pulse};
use crate::sources::Sources;
use crate::sql::Standing;
use crate::wal::begin_of;
use crate::{Error, Forks, Instant, Position, Postgres, Runner, Upstream, files};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{sleep, timeout_at};

/// How often something is looked at that tells nobody when it changes.
const LOOK: Duration = Duration::from_millis(10);
/// A log of PostgreSQL's that is larger when it is started gives way to a new one.
const LOG_BYTES_MAX: u64 = 64 << 20;
/// For so long is a connection waited for that nobody takes, before the process is looked at again.
const KNOCK: Duration = Duration::from_secs(2);
/// Between two looks at the process table.
const APART: Duration = Duration::from_millis(100);
/// For so long may walsenders send the shutdown checkpoint, and the archiver archive, once it is written. They end by
/// themselves then. A receiver, or an archive, that takes longer is waited for by nobody (hazard D10).
const GRACE: Duration = Duration::from_secs(1);

/// So far above its own timeline may a promotion go: each one between costs a file, and a forged record may name
/// billions.
const SKIPPED_MAX: u32 = 1_000;

/// In the title of the process that recovers.
const STARTUP: &str = "startup";

impl Postgres {
    /// Starts in recovery without a source of WAL, and waits until it takes connections.
    ///
    /// # Errors
    /// If it doesn't come up by the deadline.
    pub async fn start_standby(&self, runner: &impl Runner, by: Instant) -> Result<(), Error> {
        self.write_config().await?;
        self.settings.remove_placeholders()?;
        files::replace(&self.settings.data_dir.join("standby.signal"), b"")?;
        self.start(runner, false, by).await
    }

    /// Starts writable, on the timeline it has, and waits until it takes connections. Nothing is archived until
    /// [`Postgres::open_archive`] is called.
    ///
    /// # Errors
    /// If it doesn't come up by the deadline.
    pub async fn start_in_place(&self, runner: &impl Runner, by: Instant) -> Result<(), Error> {
        self.write_config().await?;
        files::remove(&self.settings.data_dir.join("standby.signal"))?;
        self.start(runner, true, by).await
    }

    async fn start(&self, runner: &impl Runner, primary: bool, by: Instant) -> Result<(), Error> {
        // Nothing of it runs, so whatever this file says is of the past; PostgreSQL would respect a reused number.
        files::remove(&self.settings.data_dir.join("postmaster.pid"))?;
        let log = self.log();
        if let Err(error) = files::rotate(&log, LOG_BYTES_MAX) {
            tracing::warn!(%error, "PostgreSQL's log goes on growing");
        }
        let control = self.settings.control(by).await?;
        let mut work = self.begin("start PostgreSQL");
        runner.start(self.argv(), log, primary).await.map_err(Error::runner("start PostgreSQL"))?;
        loop {
            match self.knock(by.min(Instant::now() + KNOCK)).await {
                Ok(()) => return Ok(()),
                Err(why) if Instant::now() >= by => return Err(why),
                Err(_) => {}
            }
            if !runner.any_left().await.map_err(Error::runner("look for PostgreSQL"))? {
                return Err(Error::Unfit(format!("PostgreSQL ended at its start: {}", self.last_words())));
            }
            self.watch_start(&control, &mut work);
            work.check()?;
            sleep(LOOK).await;
        }
    }

    /// How far recovery is, and whether anything moves. At its end the checkpointer works, and the startup process waits
    /// for it. One that waits for WAL does nothing, however often it looks.
    fn watch_start(&self, control: &Control, work: &mut Work) {
        let Some(postmaster) = self.postmaster() else { return };
        let children = children(postmaster).ok().flatten().unwrap_or_default();
        let Some((startup, title)) = children.iter().find(|(_, title)| title.contains(STARTUP)) else {
            return work.feel(pulse(postmaster.unsigned_abs()));
        };
        if let Some(lsn) =
            title.split_whitespace().next_back().and_then(|name| begin_of(name, control.segment))
        {
            work.tell(|progress| {
                progress.position = Some(lsn);
                progress.done_bytes = lsn.saturating_sub(control.redo.lsn);
            });
        }
        if !title.contains("waiting for") {
            let checkpointer = children.iter().find(|(_, title)| title.contains("checkpointer"));
            let pulses = [Some(*startup), checkpointer.map(|(pid, _)| *pid)].map(|pid| pid.and_then(pulse));
            work.feel(Some(pulses.into_iter().flatten().collect()));
        }
    }

    /// The process that recovers, and what it shows that it does.
    pub(crate) fn startup(&self) -> Option<(u32, String)> {
        let children = children(self.postmaster()?).ok()??;
        children.into_iter().find(|(_, title)| title.contains(STARTUP))
    }

    /// Where PostgreSQL's output goes.
    pub fn log(&self) -> PathBuf {
        self.settings.run_dir.join("postgres.log")
    }

    /// The last thing that PostgreSQL couldn't do, if that is at the end of its log. Nothing else of its output is
    /// told: it may hold secrets of the user's.
    pub fn last_failure(&self) -> Option<String> {
        let text = files::tail(&self.log(), 2_000);
        text.lines().rev().find(|line| line.contains("FATAL:")).map(str::to_owned)
    }

    fn last_words(&self) -> String {
        let text = files::tail(&self.log(), 2_000);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(4)..].join("; ")
    }

    /// Shuts down in order. Whoever hangs on when all is written is killed after a while: an archive command, or a
    /// walsender whose receiver says nothing. At the deadline everything is. So this ends with no process left, or fails.
    ///
    /// # Errors
    /// If processes are left even then.
    pub async fn stop(&self, runner: &impl Runner, by: Instant) -> Result<(), Error> {
        // Without a postmaster the others end by themselves, or are killed.
        self.signal(Signal::INT)?;
        let gone = async {
            while self.postmaster().is_some() || !matches!(runner.any_left().await, Ok(false)) {
                sleep(LOOK).await;
            }
        };
        let rested = async {
            loop {
                self.rests().await;
                sleep(GRACE).await;
                // It may have been just about to start.
                if self.is_at_rest().await {
                    break;
                }
            }
            tracing::warn!("PostgreSQL is shut down, but not all of its processes end: kills them");
        };
        let ended = timeout_at(by, async {
            tokio::select! {
                biased;
                () = gone => true,
                () = rested => false,
            }
        });
        if !matches!(ended.await, Ok(true)) {
            runner.kill_all().await.map_err(Error::runner("kill PostgreSQL"))?;
        }
        Ok(())
    }

    /// Waits until `pg_control` says that it is shut down: then the last checkpoint is written, and no session is left.
    async fn rests(&self) {
        let control = self.settings.data_dir.join("global/pg_control");
        let mut known = None;
        loop {
            let written = fs::metadata(&control).and_then(|file| file.modified()).ok();
            if written.is_none() || written != known {
                known = written;
                if self.is_at_rest().await {
                    return;
                }
            }
            sleep(APART).await;
        }
    }

    async fn is_at_rest(&self) -> bool {
        let said = self.settings.control(Instant::now() + GRACE).await;
        said.is_ok_and(|control| control.clean)
    }

    /// The postmaster's process as its own file names it; none if there is no file.
    pub fn postmaster(&self) -> Option<i32> {
        find_postmaster(&self.settings.data_dir).map(|(pid, _)| pid)
    }

    /// Makes PostgreSQL read its configuration again.
    pub(crate) fn reload(&self) -> Result<(), Error> {
        if self.signal(Signal::HUP)? { Ok(()) } else { Err(Error::Unfit("no postmaster runs".to_owned())) }
    }

    /// Says whether there was a postmaster.
    fn signal(&self, signal: Signal) -> Result<bool, Error> {
        let Some((_, postmaster)) = find_postmaster(&self.settings.data_dir) else { return Ok(false) };
        match pidfd_send_signal(&postmaster, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(why) => Err(Error::Io { what: "signal the postmaster".to_owned(), why: why.into() }),
        }
    }

    /// Takes WAL from another member, through a slot of its own there if it can have one, and from the user's archive
    /// what belongs to this history. No restart, no session is cut; a stream from just there goes on. Dropped while it
    /// asks for the slot, it has changed nothing here.
    ///
    /// # Errors
    /// If the configuration can't be written, or no server runs that could read it.
    pub async fn follow(&self, source: &Upstream, history: &Forks, by: Instant) -> Result<(), Error> {
        let restore = self.settings.restore(history, by).await?;
        let slot = self.ask_for_slot(source, by).await;
        self.settings.write_sources(&Sources::Open { source, slot, restore }).await?;
        self.reload()?;
        if let Err(error) = self.leave_slots(by).await {
            tracing::warn!(%error, "some slots of an earlier reign still keep WAL");
        }
        Ok(())
    }

    /// Closes every source of WAL and proves it, then says how far the WAL goes.
    ///
    /// Proved is: a fresh session shows the empty settings and another time of loading; and at two looks there is no
    /// walreceiver among the processes (one that is just connecting is in no view), and nothing is being fetched from an
    /// archive. From here on nothing is archived either.
    ///
    /// # Errors
    /// If it can't be proved by the deadline; WAL may go on arriving then.
    pub async fn close_sources(&self, by: Instant) -> Result<Position, Error> {
        let before = self.loaded_at(by).await?;
        self.settings.write_sources(&Sources::Closed).await?;
        self.reload()?;
        while !self.sources_are_closed(&before, by).await? {
            wait(by, "close the sources of WAL").await?;
        }
        let mut clear_since: Option<Instant> = None;
        loop {
            let clear = !self.takes_wal()?;
            match clear_since {
                Some(since) if clear && Instant::now() >= since + APART => break,
                Some(_) if clear => {}
                Some(_) | None => clear_since = clear.then(Instant::now),
            }
            wait(by, "stop what brings WAL").await?;
        }
        self.probe(by).await.map(|probe| probe.position)
    }

    /// Whether a child of the postmaster is a walreceiver, by the title PostgreSQL gives its processes, or the one that
    /// replays is running a command.
    fn takes_wal(&self) -> Result<bool, Error> {
        let none = || Error::Unfit("no postmaster runs".to_owned());
        let postmaster = self.postmaster().ok_or_else(none)?;
        for (child, title) in children(postmaster)?.ok_or_else(none)? {
            // One that has ended meanwhile runs nothing any more.
            let runs_one = || children(child).map(|own| own.is_some_and(|own| !own.is_empty()));
            if title.contains("walreceiver") || (title.contains(": startup") && runs_one()?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Promotes onto just this timeline. Nothing is archived until [`Postgres::open_archive`] is called.
    ///
    /// PostgreSQL takes the number above the highest of which it knows a history file; so the numbers in between get
    /// empty ones first.
    ///
    /// # Errors
    /// If it isn't writable by the deadline, or on another timeline; then it may be writable all the same. If the
    /// timeline is out of reach; nothing was done then.
    pub async fn promote(&self, timeline: u32, by: Instant) -> Result<(), Error> {
        let own = self.probe(by).await?.position.timeline;
        if timeline.saturating_sub(own) > SKIPPED_MAX {
            return Err(Error::Unfit(format!("timeline {timeline} is more than {SKIPPED_MAX} above {own}")));
        }
        // No file of the archive's may have a say in the number, and nothing of the new timeline goes there yet.
        if !self.settings.says(&Sources::Closed)? {
            self.close_sources(by).await?;
        }
        let between = (own + 1..timeline).map(|between| format!("{between:08X}.history"));
        files::make_empty(self.settings.data_dir.join("pg_wal"), between.collect()).await?;
        self.execute("promote", "SELECT pg_promote(false)", by).await?;
        loop {
            if let Some(reached) = self.written_timeline(by).await? {
                return if reached == timeline {
                    Ok(())
                } else {
                    Err(Error::Unfit(format!("promoted to timeline {reached} instead of {timeline}")))
                };
            }
            wait(by, "promote").await?;
        }
    }

    /// Looks at the instance, running or not.
    ///
    /// # Errors
    /// If it runs and doesn't answer, or can't be read.
    pub async fn look(
        &self,
        runner: &impl Runner,
        by: Instant,
    ) -> Result<Result<Box<Standing>, Found>, Error> {
        if runner.any_left().await.map_err(Error::runner("look for PostgreSQL"))? {
            return self.probe(by).await.map(|probe| Ok(Box::new(probe)));
        }
        self.inspect(by).await.map(Err)
    }
}

/// Its children, and the titles PostgreSQL gives them. One that has ended meanwhile is none any more.
fn children(parent: impl std::fmt::Display) -> Result<Option<Vec<(u32, String)>>, Error> {
    let numbers = files::read(Path::new(&format!("/proc/{parent}/task/{parent}/children")))?;
    let Some(numbers) = numbers else { return Ok(None) };
    let children = numbers.split_whitespace().filter_map(|number| {
        let title = fs::read(format!("/proc/{number}/cmdline")).ok()?;
        let title = String::from_utf8_lossy(&title).trim_end_matches(['\0', ' ']).to_owned();
        Some((number.parse().ok()?, title))
    });
    Ok(Some(children.collect()))
}

/// The number in the file may be another process's by now. So the handle comes first: what is read then is about the
/// process that it means, or the handle means none any more.
fn find_postmaster(data_dir: &Path) -> Option<(i32, OwnedFd)> {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let pid = text.lines().next()?.trim().parse::<i32>().ok().filter(|pid| *pid > 1)?;
    let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    let works_here = fs::read_link(format!("/proc/{pid}/cwd")).ok()? == fs::canonicalize(data_dir).ok()?;
    let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let name = program.file_name()?.to_string_lossy().into_owned();
    // After an upgrade of the package the file of a running program is "deleted".
    let is_postgres = name == "postgres" || name == "postgres (deleted)";
    (works_here && is_postgres).then_some((pid, handle))
}

pub(crate) async fn wait(by: Instant, what: &'static str) -> Result<(), Error> {
    if Instant::now() >= by {
        return Err(Error::TimedOut(what));
    }
    sleep(LOOK).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::find_postmaster;
    use std::fs;
    use std::process::Command;

    #[test]
    fn a_stranger_with_the_postmaster_s_number_is_none() {
        let dir = std::env::temp_dir().join(format!("primacy-postmaster-{}", std::process::id()));
        let (data, elsewhere, program) = (dir.join("data"), dir.join("elsewhere"), dir.join("postgres"));
        fs::create_dir_all(&data).unwrap();
        fs::create_dir_all(&elsewhere).unwrap();
        fs::copy(fs::canonicalize("/bin/sleep").unwrap(), &program).unwrap();
        let sleep = std::path::Path::new("sleep");
        for (program, place, found) in
            [(program.as_path(), &data, true), (&program, &elsewhere, false), (sleep, &data, false)]
        {
            let mut child = Command::new(program).arg("60").current_dir(place).spawn().unwrap();
            fs::write(data.join("postmaster.pid"), format!("{}\n{}\n", child.id(), data.display())).unwrap();
            let postmaster = find_postmaster(&data).map(|(pid, _)| pid.unsigned_abs());
            assert_eq!(postmaster.is_some_and(|pid| pid == child.id()), found, "{}", program.display());
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(find_postmaster(&data).is_none(), "it is gone");
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
