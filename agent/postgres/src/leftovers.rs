//! What a dead agent has left running: programs that still write into a copy it never finished, or that bring back the
//! one that is there.
//!
//! Such a process runs as this user, is one of PostgreSQL's programs, and names the copy on its command line or works
//! in it. The kernel hands out process numbers again, so each is looked at once more through a handle before it is
//! killed (hazards A25, L16).

use crate::{Error, Instant};
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::sleep;

/// Those that make a data directory.
const PROGRAMS: [&str; 3] = ["initdb", "pg_basebackup", "postgres"];

/// Those that work on one that is there. Of `postgres` only what runs in single-user mode: a server is not theirs.
const TOOLS: [&str; 3] = ["pg_receivewal", "pg_rewind", "postgres"];

/// Between two looks at what has been killed.
const LOOK: Duration = Duration::from_millis(10);

/// Kills what still works on this copy; returns when nothing is left.
pub(crate) async fn kill(copy: &Path, by: Instant) -> Result<(), Error> {
    kill_those(copy, works_on, by).await
}

/// Kills what an order has left at work on a data directory that is there, but no server.
pub(crate) async fn kill_tools(data_dir: &Path, by: Instant) -> Result<(), Error> {
    kill_those(data_dir, is_tool_on, by).await
}

async fn kill_those(copy: &Path, is_one: fn(Pid, &Path) -> bool, by: Instant) -> Result<(), Error> {
    loop {
        let left = processes(copy, is_one);
        if left.is_empty() {
            return Ok(());
        }
        for pid in left {
            // The handle means whoever has the number now, for ever.
            let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            if is_one(pid, copy) {
                tracing::warn!(pid = pid.as_raw_pid(), copy = %copy.display(), "kills what an order left running");
                // It may have ended meanwhile; whoever is left is looked at again.
                pidfd_send_signal(&handle, Signal::KILL).unwrap_or_default();
            }
        }
        if Instant::now() >= by {
            return Err(Error::TimedOut("kill what an order left running"));
        }
        sleep(LOOK).await;
    }
}

fn processes(copy: &Path, is_one: fn(Pid, &Path) -> bool) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter_map(Pid::from_raw).filter(|pid| is_one(*pid, copy)).collect()
}

/// A process that has ended names nothing any more, even while nobody has asked for its end yet.
fn works_on(pid: Pid, copy: &Path) -> bool {
    let works_in_it = || {
        let copy = fs::canonicalize(copy);
        copy.is_ok_and(|copy| fs::read_link(of(pid, "cwd")).is_ok_and(|cwd| cwd.starts_with(copy)))
    };
    is_ours(pid, &PROGRAMS).is_some() && (has_word(pid, copy.as_os_str()) || works_in_it())
}

fn is_tool_on(pid: Pid, data_dir: &Path) -> bool {
    let Some(program) = is_ours(pid, &TOOLS) else { return false };
    has_word(pid, data_dir.as_os_str()) && (program != "postgres" || has_word(pid, OsStr::new("--single")))
}

/// Which of these programs it is, if it runs as this user.
fn is_ours(pid: Pid, programs: &[&'static str]) -> Option<&'static str> {
    let owner = fs::metadata(of(pid, "")).ok()?.uid();
    // After an upgrade of the package the file of a running program is "deleted".
    let path = fs::read_link(of(pid, "exe")).unwrap_or_default();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.trim_end_matches(" (deleted)");
    programs.iter().find(|program| owner == geteuid().as_raw() && **program == name).copied()
}

fn has_word(pid: Pid, word: &OsStr) -> bool {
    let words = fs::read(of(pid, "cmdline")).unwrap_or_default();
    words.split(|byte| *byte == 0).any(|other| other == word.as_bytes())
}

fn of(pid: Pid, what: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/{what}", pid.as_raw_pid()))
}
