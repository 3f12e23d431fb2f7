//! Finds the processes of an instance and kills them: all of them, and nobody else.
//!
//! A process belongs to the instance if it is in the instance's cgroup, or is a `postgres` that works in its data
//! directory (PostgreSQL's processes all change into it), or descends from such a one. For the guard, its own children
//! belong to it, too: it starts nothing but PostgreSQL, and is given the orphans among PostgreSQL's descendants. The
//! kernel hands out process numbers again, so each is looked at once more through a pidfd before it is killed: that
//! can't come to mean another process (hazards A25, L16).

use crate::cgroup::Group;
use crate::proc::{Proc, Seen, is_hidden};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// An instance, as seen from outside.
#[derive(Clone, Debug)]
pub struct Instance {
    data_dir: PathBuf,
    group: Option<Arc<Group>>,
    /// The process whose descendants all belong to it.
    parent: Option<i32>,
    proc: Arc<Proc>,
}

/// What is left of an instance, as far as it can be known.
#[derive(Default)]
struct Sight {
    left: Vec<(i32, Seen)>,
    /// Something could not be read: there may be more.
    blind: Option<io::Error>,
}

impl Sight {
    fn note<T>(&mut self, outcome: io::Result<T>) -> Option<T> {
        outcome.map_err(|error| self.blind = Some(error)).ok()
    }

    /// Of any process, most of which are none of ours.
    fn note_any<T>(&mut self, outcome: io::Result<Option<T>>) -> Option<T> {
        match outcome {
            Err(error) if is_hidden(&error) => None,
            other => self.note(other).flatten(),
        }
    }

    /// Why it can't be said that nothing is left; none if nothing is.
    fn remains(&self) -> Option<String> {
        match &self.blind {
            Some(error) => Some(format!("there is no knowing which processes are left: {error}")),
            None if self.left.is_empty() => None,
            None => Some("some processes are not gone yet".to_owned()),
        }
    }
}

impl Instance {
    /// The instance that lives in this data directory, and in this cgroup if it has one.
    pub fn new(data_dir: &Path, group: Option<Arc<Group>>, proc: Arc<Proc>) -> Instance {
        let data_dir = fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_owned());
        Instance { data_dir, group, parent: None, proc }
    }

    /// The same, for a process that has no children but the instance's: whatever descends from it belongs to it. Only
    /// the thread that kills may ask for the end of a child.
    #[must_use]
    pub fn below_me(self) -> Instance {
        Instance { parent: Some(own_pid()), ..self }
    }

    /// The processes that are known to be left, by number. Zombies are none: they run no code any more.
    pub fn processes(&self) -> Vec<i32> {
        self.look().left.into_iter().map(|(pid, _)| pid).collect()
    }

    fn look(&self) -> Sight {
        let mut sight = Sight::default();
        let mut all = BTreeMap::new();
        for pid in sight.note(self.proc.numbers()).unwrap_or_default() {
            all.extend(sight.note_any(self.proc.see(pid)).map(|seen| (pid, seen)));
        }
        let members = self.group.as_ref().and_then(|group| sight.note(group.processes())).unwrap_or_default();
        for pid in &members {
            // It may have begun since the others were listed.
            all.extend(sight.note(self.proc.see(*pid)).flatten().map(|seen| (*pid, seen)));
        }
        let mut ours = members;
        ours.extend(self.parent);
        ours.extend(all.keys().filter(|pid| sight.note_any(self.is_postgres(**pid)).is_some()));
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
        sight.left = known.filter(|(pid, seen)| !seen.zombie && *pid != own_pid()).collect();
        sight
    }

    /// Whether any process is left, or may be.
    pub fn any_left(&self) -> bool {
        self.proc.keep_reserve();
        self.look().remains().is_some()
    }

    /// Kills all processes, as often as it takes until none is left or `patience` is over.
    ///
    /// SIGKILL is enough even for a process in uninterruptible sleep: it runs no code of its own any more; but it is
    /// still listed, so this may fail for a while.
    ///
    /// # Errors
    /// If one is left, or that can't be known. Then it is to be tried again.
    pub fn kill(&self, patience: Duration) -> Result<(), String> {
        let until = crate::now_us() + u64::try_from(patience.as_micros()).unwrap_or(u64::MAX);
        self.proc.free_reserve();
        let outcome = loop {
            if let Some(group) = &self.group {
                group.kill();
            }
            self.kill_children();
            self.kill_descendants();
            let sight = self.look();
            let Some(why) = sight.remains() else { break Ok(()) };
            for (pid, seen) in sight.left {
                self.kill_one(pid, |now| now.started == seen.started);
            }
            if crate::now_us() >= until {
                break Err(why);
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        self.proc.keep_reserve();
        outcome
    }

    /// This process's own children need no handle: until it asks for the end of one, nobody else gets its number. What
    /// they leave behind is given to it, so this alone ends all of them where nothing can be opened.
    fn kill_children(&self) {
        if self.parent == Some(own_pid()) {
            let children = self.proc.own_children().unwrap_or_default();
            for pid in children.into_iter().filter_map(Pid::from_raw) {
                // It may have ended, and whoever is left is looked for.
                kill_process(pid, Signal::KILL).unwrap_or_default();
            }
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
            // Whoever isn't found here is looked for among all.
            let children = self.proc.children(parent).unwrap_or_default();
            family.extend(children.into_iter().map(|child| (child, parent)));
            next += 1;
        }
        // Children first, while they still have the parent by which they are known. Whoever has lost it is a child of
        // the top.
        for (pid, parent) in family.into_iter().skip(1).rev() {
            self.kill_one(pid, |now| now.parent == parent || now.parent == top);
        }
    }

    /// Kills the process of this number if it is still the one that was meant.
    fn kill_one(&self, number: i32, is_it: impl FnOnce(&Seen) -> bool) {
        let Some(pid) = Pid::from_raw(number) else { return };
        // The handle means whoever has the number now, for ever; then it is checked who that is.
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        if self.proc.see(number).ok().flatten().is_some_and(|now| is_it(&now)) {
            // It may have ended meanwhile; whoever is left is looked at again.
            pidfd_send_signal(&handle, Signal::KILL).unwrap_or_default();
        }
    }

    /// Says so if it is one that works in the data directory.
    fn is_postgres(&self, pid: i32) -> io::Result<Option<()>> {
        if self.proc.link(pid, "cwd")?.is_none_or(|cwd| cwd != self.data_dir) {
            return Ok(None);
        }
        let program = self.proc.link(pid, "exe")?;
        Ok(program.filter(|program| is_program(program)).map(drop))
    }
}

fn is_program(exe: &Path) -> bool {
    // After an upgrade of the package the file of a running program is "deleted".
    exe.file_name().is_some_and(|name| name == "postgres" || name == "postgres (deleted)")
}

fn own_pid() -> i32 {
    std::process::id().cast_signed()
}

#[cfg(test)]
mod tests {
    use super::Instance;
    use crate::proc::Proc;
    use std::fs;
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    fn instance(data_dir: &Path) -> Instance {
        Instance::new(data_dir, None, Arc::new(Proc::open().unwrap()))
    }

    #[test]
    fn a_stranger_in_the_data_directory_is_left_alone() {
        let here = std::env::temp_dir().canonicalize().unwrap();
        let mut stranger =
            Command::new("sleep").arg("60").current_dir(&here).stdout(Stdio::null()).spawn().unwrap();
        let instance = instance(&here);
        assert_eq!(instance.processes(), Vec::<i32>::new());
        assert_eq!(instance.kill(Duration::from_millis(50)), Ok(()));
        assert_eq!(stranger.try_wait().unwrap(), None);
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    #[test]
    fn a_number_that_was_handed_out_again_is_left_alone() {
        let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = stranger.id().cast_signed();
        let instance = instance(Path::new("/nowhere"));
        let real = instance.proc.see(pid).unwrap().unwrap();
        instance.kill_one(pid, |now| now.started == real.started - 1);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(stranger.try_wait().unwrap(), None);
        instance.kill_one(pid, |now| now.started == real.started);
        assert!(!stranger.wait().unwrap().success());
    }

    #[test]
    fn what_descends_from_the_parent_is_killed_without_a_search() {
        let script = "sleep 60 & sh -c 'sleep 60; :' & wait; exit 7";
        let mut parent = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let top = parent.id().cast_signed();
        let instance = Instance { parent: Some(top), ..instance(Path::new("/nowhere")) };
        let children = |pid| instance.proc.children(pid).unwrap();
        let family = || -> Vec<i32> {
            children(top).into_iter().flat_map(|child| [vec![child], children(child)].concat()).collect()
        };
        let until = Instant::now() + Duration::from_secs(30);
        while family().len() < 3 {
            assert!(Instant::now() < until, "{:?}", family());
        }
        let family = family();
        instance.kill_descendants();
        assert_eq!(parent.wait().unwrap().code(), Some(7), "the parent itself is let be");
        let alive = |pid: &i32| instance.proc.see(*pid).unwrap().is_some_and(|seen| !seen.zombie);
        // Whoever is killed dies when it is next to run.
        while family.iter().any(alive) {
            assert!(Instant::now() < until, "{family:?}");
        }
    }

    #[test]
    fn where_nobody_lives_nobody_is_left() {
        assert!(!instance(Path::new("/nowhere")).any_left());
    }

    /// In a `/proc` in which one entry can be read no more than where memory is short.
    #[test]
    fn a_process_that_cannot_be_seen_may_be_left_and_one_that_is_gone_is_not() {
        let dir = std::env::temp_dir().join(format!("primacy-proc-{}", std::process::id()));
        let stat = |pid: i32| dir.join(format!("{pid}/stat"));
        fs::create_dir_all(dir.join("77000001")).unwrap();
        let instance = Instance::new(Path::new("/nowhere"), None, Arc::new(Proc::at(&dir).unwrap()));
        assert!(!instance.any_left(), "it has no file any more, as if it had just ended");
        fs::create_dir_all(stat(77_000_002)).unwrap();
        assert!(instance.any_left());
        let refusal = instance.kill(Duration::ZERO).unwrap_err();
        assert!(refusal.contains("no knowing"), "{refusal}");
        fs::remove_dir(stat(77_000_002)).unwrap();
        fs::write(stat(77_000_002), "rubbish").unwrap();
        assert!(instance.any_left(), "what makes no sense says nothing either");
        fs::remove_file(stat(77_000_002)).unwrap();
        assert!(!instance.any_left());
        fs::remove_dir_all(&dir).unwrap();
        assert!(instance.any_left(), "without the list nothing is known");
    }
}
