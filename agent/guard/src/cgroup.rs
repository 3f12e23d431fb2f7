//! A cgroup of the instance's own, where one is delegated: then `cgroup.kill` ends everything in it at once, whoever
//! its parent is by now.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The name of the instance's group below the guard's own.
const NAME: &str = "postgres";

/// The group of the process that asks, as a folder.
///
/// # Errors
/// Where there is no cgroup v2, says so.
pub fn own() -> Result<PathBuf, String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|e| format!("read mountinfo: {e}"))?;
    let groups = fs::read_to_string("/proc/self/cgroup").map_err(|e| format!("read cgroup: {e}"))?;
    find(&mounts, &groups).ok_or_else(|| "no cgroup v2 is mounted".to_owned())
}

fn find(mounts: &str, groups: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mount = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = left.split(' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        (right.starts_with("cgroup2 ") && root == "/").then_some(point)
    })?;
    Some(Path::new(mount).join(path.trim_start_matches('/')))
}

/// Makes, or finds, the instance's group below the guard's own. A guard that already lives in its instance's sibling
/// group is the successor of one that died; the group is found again.
///
/// # Errors
/// Says why there is none: not delegated, most often.
pub fn prepare(data_dir: &Path) -> Result<PathBuf, String> {
    let own = own()?;
    if own.parent().is_none() || !own.join("cgroup.kill").exists() {
        return Err("the agent runs in the root cgroup: none is delegated to it".to_owned());
    }
    let group = own.join(format!("{NAME}-{:x}", hash(data_dir)));
    match fs::create_dir(&group) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(format!("make {}: {e}", group.display())),
    }
    let writable = fs::OpenOptions::new().write(true).open(group.join("cgroup.procs"));
    writable.map(|_| group.clone()).map_err(|e| format!("write to {}: {e}", group.display()))
}

/// Two instances of one agent's user must not share a group.
fn hash(path: &Path) -> u32 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// What [`kill`] needs.
///
/// # Errors
/// If it can't be opened.
pub fn open_kill(group: &Path) -> io::Result<File> {
    File::options().write(true).open(group.join("cgroup.kill"))
}

/// Kills everything in the group. Nothing in it is no error.
pub fn kill(mut group: &File) {
    // Refused only if the group is gone, and then so is everything in it; the caller looks for survivors anyway.
    drop(group.write_all(b"1"));
}

/// The processes in the group; none if it is gone.
///
/// # Errors
/// If it can't be seen.
pub fn processes(group: &Path) -> io::Result<Vec<i32>> {
    let text = match fs::read_to_string(group.join("cgroup.procs")) {
        Err(why) if matches!(why.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => String::new(),
        read => read?,
    };
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::find;
    use std::path::Path;

    const HYBRID: &str = "\
31 23 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:28 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn the_own_group_is_found_below_any_mount() {
        let unified = "9:name=systemd:/\n0::/lab/h1\n";
        assert_eq!(find(HYBRID, unified).as_deref(), Some(Path::new("/sys/fs/cgroup/unified/lab/h1")));
        let pure = "25 1 0:22 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(find(pure, "0::/\n").as_deref(), Some(Path::new("/sys/fs/cgroup/")));
        assert_eq!(find(pure, "4:memory:/x\n"), None);
        assert_eq!(find("", unified), None);
    }
}
