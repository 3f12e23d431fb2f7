//! How far something has come that takes long, and whether it still moves.

use crate::control::parse_lsn;
use crate::{Error, Instant, Postgres};
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// For so long may something make no progress, unless the settings say otherwise.
pub const STALL: Duration = Duration::from_secs(60);

/// How far something has come. Rate and time left are the reader's to compute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done: a verb and an object.
    pub what: &'static str,
    /// When it began.
    pub began: Instant,
    /// So many bytes are done.
    pub done_bytes: u64,
    /// Of so many, where that is known.
    pub total_bytes: Option<u64>,
    /// The place in the WAL that it has come to, where there is one.
    pub position: Option<u64>,
}

/// Where it is kept for whoever asks.
pub(crate) type Board = Arc<Mutex<Option<Progress>>>;

/// Something that is being done. Ends, for the board, when it is dropped.
pub(crate) struct Work {
    board: Board,
    known: Progress,
    /// What was last counted of the process that does it.
    pulse: Option<String>,
    moved: Instant,
    patience: Duration,
}

impl Postgres {
    /// How far the order has come that is being carried out; none if it is none of those that take long.
    pub fn progress(&self) -> Option<Progress> {
        look(&self.board).clone()
    }

    /// Begins something that takes long.
    pub(crate) fn begin(&self, what: &'static str) -> Work {
        let began = Instant::now();
        let known = Progress { what, began, done_bytes: 0, total_bytes: None, position: None };
        *look(&self.board) = Some(known.clone());
        Work { board: self.board.clone(), known, pulse: None, moved: began, patience: self.settings.stall }
    }
}

impl Work {
    /// What it is.
    pub fn what(&self) -> &'static str {
        self.known.what
    }

    /// It has come so far.
    pub fn tell(&mut self, change: impl FnOnce(&mut Progress)) {
        let mut now = self.known.clone();
        change(&mut now);
        if now != self.known {
            self.moved = Instant::now();
            *look(&self.board) = Some(now.clone());
            self.known = now;
        }
    }

    /// What is counted of the process that does it, if it can be: any difference is progress.
    pub fn feel(&mut self, pulse: Option<String>) {
        if pulse.is_some() && pulse != self.pulse {
            self.pulse = pulse;
            self.moved = Instant::now();
        }
    }

    /// Fails if nothing has moved for too long.
    pub fn check(&self) -> Result<(), Error> {
        if self.moved.elapsed() < self.patience { Ok(()) } else { Err(Error::Stalled(self.what())) }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        *look(&self.board) = None;
    }
}

/// Each change of it is whole, also where a thread panicked.
fn look(board: &Mutex<Option<Progress>>) -> MutexGuard<'_, Option<Progress>> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the kernel counts of a process: bytes and calls, and its time. One that waits for others counts nothing.
pub(crate) fn pulse(pid: u32) -> Option<String> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything: the times are the 14th and 15th word of all.
    let (_, words) = stat.rsplit_once(')')?;
    let times: Vec<&str> = words.split_whitespace().skip(11).take(2).collect();
    Some(format!("{io}{}", times.join(" ")))
}

/// A line of `pg_basebackup` or `pg_rewind` that says how many bytes are copied, and of how many.
pub(crate) fn copied(line: &str) -> Option<(u64, u64)> {
    let (done, total) = line.split_once(" kB (")?.0.split_once('/')?;
    Some((done.trim().parse::<u64>().ok()? << 10, total.trim().parse::<u64>().ok()? << 10))
}

/// The line of `pg_rewind` that says where the histories part.
pub(crate) fn parted(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("diverged at WAL location ")?;
    parse_lsn(rest.split_whitespace().next()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;

    #[test]
    fn the_lines_of_version_15_are_understood() {
        let backup = " 40974/129143 kB (31%), 0/1 tablespace";
        assert_eq!(
            (copied(backup), copied("waiting for checkpoint")),
            (Some((40_974 << 10, 129_143 << 10)), None)
        );
        assert_eq!(copied("    0/52949 kB (0%) copied"), Some((0, 52_949 << 10)));
        assert_eq!(copied("pg_rewind: need to copy 51 MB (total source directory size is 70 MB)"), None);
        let line = "pg_rewind: servers diverged at WAL location 0/4000000 on timeline 1";
        assert_eq!((parted(line), parted("pg_rewind: Done!")), (Some(0x400_0000), None));
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn what_moves_may_take_long_and_what_does_not_is_stalled() {
        let settings = Settings { stall: Duration::from_secs(60), ..Settings::default() };
        let postgres = Postgres::new(settings);
        assert_eq!(postgres.progress(), None);
        let mut work = postgres.begin("copy");
        let sleep = || tokio::time::sleep(Duration::from_secs(50));
        for done in 1..4 {
            sleep().await;
            work.tell(|progress| progress.done_bytes = done);
            work.check().unwrap();
            assert_eq!(postgres.progress().unwrap().done_bytes, done);
        }
        for count in ["1", "2"] {
            sleep().await;
            work.feel(Some(count.to_owned()));
            work.check().unwrap();
        }
        sleep().await;
        work.feel(Some("2".to_owned()));
        work.feel(None);
        work.tell(|progress| progress.done_bytes = 3);
        work.check().unwrap();
        sleep().await;
        assert_eq!(work.check().unwrap_err().to_string(), "copy: no progress any more");
        drop(work);
        assert_eq!(postgres.progress(), None);
    }

    #[test]
    fn a_process_that_does_something_has_a_pulse() {
        let me = std::process::id();
        let before = pulse(me).unwrap();
        fs::read("/proc/self/status").unwrap();
        assert_ne!(pulse(me).unwrap(), before);
        assert_eq!(pulse(u32::MAX), None);
    }
}
