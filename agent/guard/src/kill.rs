//! Finds the processes of an instance and kills them: all of them, and nobody else.
//!
//! A process belongs to the instance if it is in the instance's cgroup, or is a `postgres` that works in its data
//! directory (PostgreSQL's processes all change into it), or descends from such a one. For the guard, its own children
//! belong to it, too: it starts nothing but PostgreSQL, and is given the orphans among PostgreSQL's descendants. The
//! kernel hands out process numbers again, so each is looked at once more through a pidfd before it is killed: that
//! can't come to mean another process (hazards A25, L16).

use crate::cgroup;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An instance, as seen from outside.
#[derive(Clone, Debug)]
pub struct Instance {
    data_dir: PathBuf,
    group: Option<PathBuf>,
    /// The process whose descendants all belong to it.
    parent: Option<i32>,
}

/// What is known of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    parent: i32,
    /// In clock ticks since boot: with the number, it names a process for ever.
    started: u64,
    zombie: bool,
}

impl Instance {
    /// The instance that lives in this data directory, and in this cgroup if it has one.
    pub fn new(data_dir: &Path, group: Option<PathBuf>) -> Instance {
        let data_dir = fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_owned());
        Instance { data_dir, group, parent: None }
    }

    /// The same, for a process that has no children but the instance's: whatever descends from it belongs to it.
    #[must_use]
    pub fn below_me(self) -> Instance {
        Instance { parent: Some(own_pid()), ..self }
    }

    /// The processes that are left, by number. Zombies are none: they run no code any more.
    pub fn processes(&self) -> Vec<i32> {
        self.seen().into_iter().map(|(pid, _)| pid).collect()
    }

    fn seen(&self) -> Vec<(i32, Seen)> {
        let all = all_processes();
        let mut ours: Vec<i32> = self.group.as_deref().map(cgroup::processes).unwrap_or_default();
        ours.extend(self.parent);
        ours.extend(all.keys().filter(|pid| self.is_postgres(**pid)));
        let mut next = 0;
        while next < ours.len() {
            let parent = ours[next];
            let children = all.iter().filter(|(pid, seen)| seen.parent == parent && !ours.contains(pid));
            let children: Vec<i32> = children.map(|(pid, _)| *pid).collect();
            ours.extend(children);
            next += 1;
        }
        ours.sort_unstable();
        ours.dedup();
        let known = ours.into_iter().filter_map(|pid| Some((pid, *all.get(&pid)?)));
        known.filter(|(pid, seen)| !seen.zombie && *pid != own_pid()).collect()
    }

    /// Whether any process is left.
    pub fn any_left(&self) -> bool {
        !self.processes().is_empty()
    }

    /// Kills all processes, as often as it takes until none is left or `patience` is over. Says whether none is left.
    ///
    /// SIGKILL is enough even for a process in uninterruptible sleep: it runs no code of its own any more; but it is
    /// still listed, so this may say no for a while.
    pub fn kill(&self, patience: Duration) -> bool {
        let until = crate::now_us() + u64::try_from(patience.as_micros()).unwrap_or(u64::MAX);
        loop {
            if let Some(group) = &self.group {
                cgroup::kill(group);
            }
            self.kill_descendants();
            let left = self.seen();
            if left.is_empty() {
                return true;
            }
            for (pid, seen) in left {
                kill_one(pid, |now| now.started == seen.started);
            }
            if crate::now_us() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What descends from the parent is found without a search of all processes, which may take nearly as long as there
    /// is for killing where there are thousands.
    fn kill_descendants(&self) {
        let Some(top) = self.parent else { return };
        let mut family = vec![(top, top)];
        let mut next = 0;
        while next < family.len() {
            let (parent, _) = family[next];
            family.extend(children_of(parent).into_iter().map(|child| (child, parent)));
            next += 1;
        }
        // Children first, while they still have the parent by which they are known. Whoever has lost it is a child of
        // the top.
        for (pid, parent) in family.into_iter().skip(1).rev() {
            kill_one(pid, |now| now.parent == parent || now.parent == top);
        }
    }

    fn is_postgres(&self, pid: i32) -> bool {
        let works_here = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == self.data_dir);
        works_here
            && fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| {
                let name = exe.file_name().map(|name| name.to_string_lossy().into_owned());
                // After an upgrade of the package the file of a running program is "deleted".
                name.is_some_and(|name| name == "postgres" || name == "postgres (deleted)")
            })
    }
}

/// Kills the process of this number if it is still the one that was meant.
fn kill_one(number: i32, is_it: impl FnOnce(&Seen) -> bool) {
    let Some(pid) = Pid::from_raw(number) else { return };
    // The handle means whoever has the number now, for ever; then it is checked who that is.
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if see(number).is_some_and(|now| is_it(&now)) {
        // It may have ended meanwhile; whoever is left is looked at again.
        pidfd_send_signal(&handle, Signal::KILL).unwrap_or_default();
    }
}

fn own_pid() -> i32 {
    std::process::id().cast_signed()
}

/// The children of all its threads.
fn children_of(pid: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn all_processes() -> BTreeMap<i32, Seen> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter_map(|pid| Some((pid, see(pid)?))).collect()
}

fn see(pid: i32) -> Option<Seen> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The fields of `/proc/PID/stat` follow the name, which may hold blanks and brackets of its own.
fn parse_stat(stat: &str) -> Option<Seen> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let zombie = matches!(*fields.first()?, "Z" | "X");
    Some(Seen { parent: fields.get(1)?.parse().ok()?, started: fields.get(19)?.parse().ok()?, zombie })
}

#[cfg(test)]
mod tests {
    use super::{Instance, children_of, kill_one, parse_stat, see};
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let stat = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";
        let seen = parse_stat(stat).unwrap();
        assert_eq!((seen.parent, seen.started, seen.zombie), (7, 98_765, false));
        assert!(parse_stat("42 (a) Z 7 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 1 1 2").unwrap().zombie);
        assert_eq!(parse_stat("rubbish"), None);
    }

    #[test]
    fn a_stranger_in_the_data_directory_is_left_alone() {
        let here = std::env::temp_dir().canonicalize().unwrap();
        let mut stranger =
            Command::new("sleep").arg("60").current_dir(&here).stdout(Stdio::null()).spawn().unwrap();
        let instance = Instance::new(&here, None);
        assert_eq!(instance.processes(), Vec::<i32>::new());
        assert!(instance.kill(Duration::from_millis(50)));
        assert_eq!(stranger.try_wait().unwrap(), None);
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    #[test]
    fn a_number_that_was_handed_out_again_is_left_alone() {
        let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = stranger.id().cast_signed();
        let real = see(pid).unwrap();
        kill_one(pid, |now| now.started == real.started - 1);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(stranger.try_wait().unwrap(), None);
        kill_one(pid, |now| now.started == real.started);
        assert!(!stranger.wait().unwrap().success());
    }

    #[test]
    fn what_descends_from_the_parent_is_killed_without_a_search() {
        let script = "sleep 60 & sh -c 'sleep 60; :' & wait; exit 7";
        let mut parent = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let top = parent.id().cast_signed();
        let family = || -> Vec<i32> {
            children_of(top)
                .into_iter()
                .flat_map(|child| [vec![child], children_of(child)].concat())
                .collect()
        };
        let until = Instant::now() + Duration::from_secs(30);
        while family().len() < 3 {
            assert!(Instant::now() < until, "{:?}", family());
        }
        let family = family();
        let instance = Instance { parent: Some(top), ..Instance::new(Path::new("/nowhere"), None) };
        instance.kill_descendants();
        assert_eq!(parent.wait().unwrap().code(), Some(7), "the parent itself is let be");
        let alive = |pid: &i32| see(*pid).is_some_and(|seen| !seen.zombie);
        // Whoever is killed dies when it is next to run.
        while family.iter().any(alive) {
            assert!(Instant::now() < until, "{family:?}");
        }
    }

    #[test]
    fn a_process_that_is_gone_is_not_seen() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id().cast_signed();
        child.wait().unwrap();
        assert_eq!(see(pid), None);
        assert!(!Instance::new(Path::new("/nowhere"), None).any_left());
    }
}
