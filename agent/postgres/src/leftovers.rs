//! What a dead agent has left running: programs that still write into a copy it never finished.
//!
//! Such a process runs as this user, is one of PostgreSQL's programs, and names the copy on its command line or works
//! in it. The kernel hands out process numbers again, so each is looked at once more through a handle before it is
//! killed (hazards A25, L16).

use crate::{Error, Instant};
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::sleep;

/// Those that make a data directory.
const PROGRAMS: [&str; 3] = ["initdb", "pg_basebackup", "postgres"];

/// Between two looks at what has been killed.
const LOOK: Duration = Duration::from_millis(10);

/// Kills what still works on this copy; returns when nothing is left.
pub(crate) async fn kill(copy: &Path, by: Instant) -> Result<(), Error> {
    loop {
        let left = processes(copy);
        if left.is_empty() {
            return Ok(());
        }
        for pid in left {
            // The handle means whoever has the number now, for ever.
            let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            if works_on(pid, copy) {
                tracing::warn!(pid = pid.as_raw_pid(), copy = %copy.display(), "kills what an order left running");
                // It may have ended meanwhile; whoever is left is looked at again.
                pidfd_send_signal(&handle, Signal::KILL).unwrap_or_default();
            }
        }
        if Instant::now() >= by {
            return Err(Error::TimedOut("kill what still works on an unfinished copy"));
        }
        sleep(LOOK).await;
    }
}

fn processes(copy: &Path) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter_map(Pid::from_raw).filter(|pid| works_on(*pid, copy)).collect()
}

/// A process that has ended names nothing any more, even while nobody has asked for its end yet.
fn works_on(pid: Pid, copy: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_pid()));
    let is_ours = || fs::metadata(&process).is_ok_and(|process| process.uid() == geteuid().as_raw());
    let is_postgresqls = || {
        // After an upgrade of the package the file of a running program is "deleted".
        let program = fs::read_link(process.join("exe")).unwrap_or_default();
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        PROGRAMS.contains(&name.trim_end_matches(" (deleted)"))
    };
    let names_it = || {
        let words = fs::read(process.join("cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|word| word == copy.as_os_str().as_bytes())
    };
    let works_in_it = || {
        let copy = fs::canonicalize(copy);
        copy.is_ok_and(|copy| fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(copy)))
    };
    is_ours() && is_postgresqls() && (names_it() || works_in_it())
}
