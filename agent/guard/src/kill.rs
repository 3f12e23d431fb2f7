//! Finds the processes of an instance and kills them: all of them, and nobody else.
//!
//! A process belongs to the instance if it is in the instance's cgroup, or is a `postgres` that works in its data
//! directory (PostgreSQL's processes all change into it), or descends from such a one. For the guard, its own children
//! belong to it, too: it starts nothing but PostgreSQL, and is given the orphans among PostgreSQL's descendants. The
//! kernel hands out process numbers again, so each is looked at once more through a pidfd before it is killed: that
//! can't come to mean another process (hazards A25, L16).
//!
//! **That something can't be seen never means that it is gone.** Looking takes file descriptors and memory, and just when
//! a host is in trouble there may be none: then it isn't known what is left, and the kill isn't done. Some descriptors
//! are kept in reserve for that moment.

use crate::cgroup;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Descriptors in reserve. A look takes two at a time, a kill one more.
static RESERVE: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// So many are kept.
const RESERVED: usize = 6;

/// Takes descriptors in reserve, as far as there are any. For a process that has to be able to kill.
pub fn keep_reserve() {
    let mut reserve = RESERVE.lock().unwrap_or_else(PoisonError::into_inner);
    while reserve.len() < RESERVED {
        let Ok(file) = File::open("/dev/null") else { return };
        reserve.push(file);
    }
}

/// Does it, with the descriptors in reserve if there are no others.
fn with_reserve<T>(act: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let short = |why: &io::Error| matches!(why.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
    match act() {
        Err(why) if short(&why) => {
            let spent = std::mem::take(&mut *RESERVE.lock().unwrap_or_else(PoisonError::into_inner));
            let any = !spent.is_empty();
            drop(spent);
            let again = act();
            if any {
                keep_reserve();
            }
            again
        }
        done => done,
    }
}

/// What is so of a process that may have ended: nothing, if it has.
fn unless_gone<T>(seen: io::Result<T>) -> io::Result<Option<T>> {
    match seen {
        Ok(seen) => Ok(Some(seen)),
        Err(why) if matches!(why.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(None),
        Err(why) => Err(why),
    }
}

/// An instance, as seen from outside.
#[derive(Clone, Debug)]
pub struct Instance {
    data_dir: PathBuf,
    group: Option<PathBuf>,
    /// Ends all in the group at once; open, as there may be no descriptor for it later.
    group_kill: Option<Arc<File>>,
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
        let group_kill = group.as_deref().and_then(|group| cgroup::open_kill(group).ok()).map(Arc::new);
        Instance { data_dir, group, group_kill, parent: None }
    }

    /// The same, for a process that has no children but the instance's: whatever descends from it belongs to it.
    #[must_use]
    pub fn below_me(self) -> Instance {
        Instance { parent: Some(own_pid()), ..self }
    }

    /// The processes that are left, by number. Zombies are none: they run no code any more.
    ///
    /// # Errors
    /// If it can't be seen; then any may be left.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        Ok(with_reserve(|| self.seen())?.into_iter().map(|(pid, _)| pid).collect())
    }

    fn seen(&self) -> io::Result<Vec<(i32, Seen)>> {
        let all = all_processes()?;
        let mut ours: Vec<i32> =
            self.group.as_deref().map(cgroup::processes).transpose()?.unwrap_or_default();
        ours.extend(self.parent);
        for pid in all.keys() {
            if self.is_postgres(*pid)? {
                ours.push(*pid);
            }
        }
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
        Ok(known.filter(|(pid, seen)| !seen.zombie && *pid != own_pid()).collect())
    }

    /// Whether any process is left, as far as anybody can see: if it can't be seen, one may be.
    pub fn any_left(&self) -> bool {
        self.processes().map_or(true, |left| !left.is_empty())
    }

    /// Kills all processes, as often as it takes until none is left or `patience` is over. Says whether none is left; it
    /// doesn't while that can't be seen.
    ///
    /// SIGKILL is enough even for a process in uninterruptible sleep: it runs no code of its own any more; but it is
    /// still listed, so this may say no for a while.
    pub fn kill(&self, patience: Duration) -> bool {
        let until = crate::now_us() + u64::try_from(patience.as_micros()).unwrap_or(u64::MAX);
        loop {
            match with_reserve(|| self.kill_round()) {
                Ok(true) => return true,
                Ok(false) => {}
                Err(why) => crate::tell_once(&format!("can't see what is left of PostgreSQL: {why}")),
            }
            if crate::now_us() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Kills whoever is seen. Says whether nobody was left even before.
    fn kill_round(&self) -> io::Result<bool> {
        if let Some(kill) = &self.group_kill {
            cgroup::kill(kill);
        }
        // Whoever it misses for want of a descriptor is seen, or not seen, below.
        let descendants = self.kill_descendants();
        let left = self.seen()?;
        for (pid, seen) in &left {
            kill_one(*pid, |now| now.started == seen.started)?;
        }
        descendants.map(|()| left.is_empty())
    }

    /// What descends from the parent is found without a search of all processes, which may take nearly as long as there
    /// is for killing where there are thousands.
    fn kill_descendants(&self) -> io::Result<()> {
        let Some(top) = self.parent else { return Ok(()) };
        let mut family = vec![(top, top)];
        let mut next = 0;
        while next < family.len() {
            let (parent, _) = family[next];
            family.extend(children_of(parent)?.into_iter().map(|child| (child, parent)));
            next += 1;
        }
        // Children first, while they still have the parent by which they are known. Whoever has lost it is a child of
        // the top.
        for (pid, parent) in family.into_iter().skip(1).rev() {
            kill_one(pid, |now| now.parent == parent || now.parent == top)?;
        }
        Ok(())
    }

    fn is_postgres(&self, pid: i32) -> io::Result<bool> {
        if link(pid, "cwd")?.is_none_or(|cwd| cwd != self.data_dir) {
            return Ok(false);
        }
        let exe = link(pid, "exe")?;
        let name = exe.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        // After an upgrade of the package the file of a running program is "deleted".
        Ok(name.is_some_and(|name| name == "postgres" || name == "postgres (deleted)"))
    }
}

/// Where a link of a process leads; none if it has ended, or is another user's.
fn link(pid: i32, name: &str) -> io::Result<Option<PathBuf>> {
    match fs::read_link(format!("/proc/{pid}/{name}")) {
        Err(why) if why.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        seen => unless_gone(seen),
    }
}

/// Kills the process of this number if it is still the one that was meant.
fn kill_one(number: i32, is_it: impl FnOnce(&Seen) -> bool) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(number) else { return Ok(()) };
    // The handle means whoever has the number now, for ever; then it is checked who that is.
    let handle = pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from);
    let Some(handle) = unless_gone(handle)? else { return Ok(()) };
    if see(number)?.is_some_and(|now| is_it(&now)) {
        // It may have ended meanwhile; whoever is left is looked at again.
        pidfd_send_signal(&handle, Signal::KILL).unwrap_or_default();
    }
    Ok(())
}

fn own_pid() -> i32 {
    std::process::id().cast_signed()
}

/// The children of all its threads.
fn children_of(pid: i32) -> io::Result<Vec<i32>> {
    let mut children = Vec::new();
    let Some(threads) = unless_gone(fs::read_dir(format!("/proc/{pid}/task")))? else { return Ok(children) };
    for thread in threads {
        let Some(thread) = unless_gone(thread)? else { continue };
        let list = unless_gone(fs::read_to_string(thread.path().join("children")))?.unwrap_or_default();
        children.extend(list.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    Ok(children)
}

fn all_processes() -> io::Result<BTreeMap<i32, Seen>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        all.extend(see(pid)?.map(|seen| (pid, seen)));
    }
    Ok(all)
}

fn see(pid: i32) -> io::Result<Option<Seen>> {
    let stat = unless_gone(fs::read_to_string(format!("/proc/{pid}/stat")))?;
    // What can't be understood is somebody, too.
    let unknown = || io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat makes no sense"));
    stat.map(|stat| parse_stat(&stat).ok_or_else(unknown)).transpose()
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
        assert_eq!(instance.processes().unwrap(), Vec::<i32>::new());
        assert!(instance.kill(Duration::from_millis(50)));
        assert_eq!(stranger.try_wait().unwrap(), None);
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    #[test]
    fn a_number_that_was_handed_out_again_is_left_alone() {
        let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = stranger.id().cast_signed();
        let real = see(pid).unwrap().unwrap();
        kill_one(pid, |now| now.started == real.started - 1).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(stranger.try_wait().unwrap(), None);
        kill_one(pid, |now| now.started == real.started).unwrap();
        assert!(!stranger.wait().unwrap().success());
    }

    #[test]
    fn what_descends_from_the_parent_is_killed_without_a_search() {
        let script = "sleep 60 & sh -c 'sleep 60; :' & wait; exit 7";
        let mut parent = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let top = parent.id().cast_signed();
        let family = || -> Vec<i32> {
            let children = children_of(top).unwrap().into_iter();
            children.flat_map(|child| [vec![child], children_of(child).unwrap()].concat()).collect()
        };
        let until = Instant::now() + Duration::from_secs(30);
        while family().len() < 3 {
            assert!(Instant::now() < until, "{:?}", family());
        }
        let family = family();
        let instance = Instance { parent: Some(top), ..Instance::new(Path::new("/nowhere"), None) };
        instance.kill_descendants().unwrap();
        assert_eq!(parent.wait().unwrap().code(), Some(7), "the parent itself is let be");
        let alive = |pid: &i32| see(*pid).unwrap().is_some_and(|seen| !seen.zombie);
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
        assert_eq!(see(pid).unwrap(), None);
        assert!(!Instance::new(Path::new("/nowhere"), None).any_left());
    }
}
