//! `/proc`, for whoever must look and kill at a moment in which nothing more can be opened.
//!
//! A host that is short of descriptors or memory is just one on which the fence falls. So the directory is held open
//! from the start, links in it are read without opening anything, and a few descriptors are kept for the rest. What
//! can't be read isn't taken for what isn't there: only `ENOENT` and `ESRCH` say that a process is gone.

use rustix::fs::{Mode, OFlags, RawDir, SeekFrom, open, openat, readlinkat, seek};
use rustix::io::{Errno, pread};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A look at a process takes two descriptors at once, a kill one more.
const RESERVE: usize = 4;

/// A handle to `/proc`, and what is kept for the day on which there are no descriptors.
#[derive(Debug)]
pub struct Proc {
    dir: OwnedFd,
    /// A listing moves the place in the directory, so there is one at a time.
    listing: Mutex<()>,
    reserve: Mutex<Vec<OwnedFd>>,
    /// The list of this process's own children; none where the kernel has no such lists.
    children: Option<OwnedFd>,
}

/// What is known of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub parent: i32,
    /// In clock ticks since boot: with the number, it names a process for ever.
    pub started: u64,
    pub zombie: bool,
}

impl Proc {
    /// Opens what has to be open.
    ///
    /// # Errors
    /// If `/proc` can't be opened.
    pub fn open() -> io::Result<Proc> {
        Proc::at(Path::new("/proc"))
    }

    pub(crate) fn at(place: &Path) -> io::Result<Proc> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = open(place, flags, Mode::empty())?;
        let own = std::process::id();
        let children = file(&dir, &format!("{own}/task/{own}/children")).ok();
        let proc = Proc { dir, listing: Mutex::default(), reserve: Mutex::default(), children };
        proc.keep_reserve();
        Ok(proc)
    }

    /// Gives up the descriptors that were kept for this moment.
    pub(crate) fn free_reserve(&self) {
        locked(&self.reserve).clear();
    }

    /// Keeps descriptors for the next time. They are of files of their own: the host has only so many of those, too.
    pub(crate) fn keep_reserve(&self) {
        let mut reserve = locked(&self.reserve);
        while reserve.len() < RESERVE {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let Ok(one) = openat(&self.dir, ".", flags, Mode::empty()) else { return };
            reserve.push(one);
        }
    }

    /// The numbers of all processes.
    ///
    /// # Errors
    /// If there is no knowing them all.
    pub fn numbers(&self) -> io::Result<Vec<i32>> {
        let _alone = locked(&self.listing);
        seek(&self.dir, SeekFrom::Start(0))?;
        numbers(&self.dir)
    }

    /// A process; none if it is gone.
    pub(crate) fn see(&self, pid: i32) -> io::Result<Option<Seen>> {
        let stat = unless_gone(file(&self.dir, &format!("{pid}/stat")).and_then(|file| read(&file)))?;
        let Some(stat) = stat else { return Ok(None) };
        let seen = parse_stat(&String::from_utf8_lossy(&stat));
        seen.map(Some).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat makes no sense")))
    }

    /// Where its link of this name leads, `cwd` or `exe`; none if it is gone, or leads too far to be told.
    ///
    /// # Errors
    /// If that can't be known.
    pub fn link(&self, pid: i32, name: &str) -> io::Result<Option<PathBuf>> {
        let read = readlinkat(&self.dir, format!("{pid}/{name}"), Vec::new());
        let path = |target: std::ffi::CString| PathBuf::from(OsStr::from_bytes(target.as_bytes()));
        match read {
            Err(Errno::NAMETOOLONG) => Ok(None),
            other => Ok(unless_gone(other)?.map(path)),
        }
    }

    /// The children of all its threads.
    pub(crate) fn children(&self, pid: i32) -> io::Result<Vec<i32>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let tasks = unless_gone(openat(&self.dir, format!("{pid}/task"), flags, Mode::empty()))?;
        let Some(tasks) = tasks else { return Ok(Vec::new()) };
        let mut children = Vec::new();
        for thread in numbers(&tasks)? {
            let list = file(&tasks, &format!("{thread}/children")).and_then(|file| read(&file));
            children.extend(unless_gone(list)?.as_deref().map(parse_list).unwrap_or_default());
        }
        Ok(children)
    }

    /// The children of this process's first thread, without opening anything. Those that have ended are among them
    /// until it has asked for their end.
    pub(crate) fn own_children(&self) -> io::Result<Vec<i32>> {
        let list = self.children.as_ref().map(read).transpose()?;
        Ok(list.as_deref().map(parse_list).unwrap_or_default())
    }
}

/// Whether it says that a process belongs to somebody else, whose secrets are kept from us.
pub fn is_hidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// All of a file whose handle is held, from its beginning.
pub(crate) fn read(file: &OwnedFd) -> rustix::io::Result<Vec<u8>> {
    let (mut all, mut chunk) = (Vec::new(), [0; 8_192]);
    loop {
        match pread(file, &mut chunk, all.len() as u64) {
            Ok(0) => return Ok(all),
            Ok(n) => all.extend_from_slice(&chunk[..n]),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// The numbers in a list of processes.
pub(crate) fn parse_list(list: &[u8]) -> Vec<i32> {
    String::from_utf8_lossy(list).split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn file(dir: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    openat(dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// The entries of a directory that are numbers.
fn numbers(dir: impl AsFd) -> io::Result<Vec<i32>> {
    let mut buffer = [MaybeUninit::uninit(); 8_192];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut numbers = Vec::new();
    while let Some(entry) = entries.next() {
        numbers.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok(numbers)
}

fn unless_gone<T>(outcome: rustix::io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(known) => Ok(Some(known)),
        Err(Errno::NOENT | Errno::SRCH) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// What it protects is right whoever died meanwhile.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    use super::{Proc, is_hidden, parse_stat};
    use std::process::Command;

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let stat = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";
        let seen = parse_stat(stat).unwrap();
        assert_eq!((seen.parent, seen.started, seen.zombie), (7, 98_765, false));
        assert!(parse_stat("42 (a) Z 7 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 1 1 2").unwrap().zombie);
        assert_eq!(parse_stat("rubbish"), None);
    }

    #[test]
    fn everybody_is_listed_each_time() {
        let proc = Proc::open().unwrap();
        let own = std::process::id().cast_signed();
        for _ in 0..2 {
            assert!(proc.numbers().unwrap().contains(&own));
        }
        assert_eq!(proc.link(own, "exe").unwrap(), std::env::current_exe().ok());
        assert!(proc.see(own).unwrap().is_some_and(|seen| !seen.zombie));
    }

    #[test]
    fn a_process_that_is_gone_is_not_seen() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id().cast_signed();
        child.wait().unwrap();
        let proc = Proc::open().unwrap();
        assert_eq!(proc.see(pid).unwrap(), None);
        assert_eq!(proc.link(pid, "cwd").unwrap(), None);
        assert_eq!(proc.children(pid).unwrap(), Vec::<i32>::new());
    }

    #[test]
    fn only_what_is_forbidden_is_somebody_elses() {
        let errors = [libc::EPERM, libc::EACCES, libc::ENOMEM, libc::EMFILE, libc::ENFILE];
        let hidden = errors.map(|code| is_hidden(&std::io::Error::from_raw_os_error(code)));
        assert_eq!(hidden, [true, true, false, false, false]);
    }
}
