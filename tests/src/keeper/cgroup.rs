//! A cgroup (version 2) for each agent, given to its user, as a service manager with delegation would.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::place;

/// Where version 2 of cgroups is mounted, here or in a folder of its own.
fn mount_point() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(mount_in_line)
}

fn mount_in_line(line: &str) -> Option<PathBuf> {
    let (before, after) = line.split_once(" - ")?;
    let kind = after.split(' ').next()?;
    (kind == "cgroup2").then(|| before.split(' ').nth(4).map(PathBuf::from))?
}

/// The directory of a lab's cgroups; a machine without cgroup 2 goes without.
///
/// A chroot or a container may see the same cgroups, but has files of its own. A lab of the same name in there is
/// another one, so where its files are is part of the name.
pub fn of_lab(name: &str) -> Option<PathBuf> {
    let files = fs::metadata("/var/tmp").ok()?;
    let place = format!("primacy-lab-{name}-{:x}-{:x}", files.dev(), files.ino());
    Some(mount_point()?.join(place))
}

/// Makes the agent's cgroup of a host and gives it to the user postgres.
pub fn delegate(lab: &Path, host: &str) -> Option<PathBuf> {
    let directory = lab.join(host);
    fs::create_dir_all(&directory).ok()?;
    let (user, group) = place::user("postgres")?;
    let files = ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"].map(|file| directory.join(file));
    for path in files.iter().chain([&directory]) {
        chown(path, Some(user), Some(group)).ok()?;
    }
    Some(directory)
}

/// Removes a cgroup with all below it, once its processes are gone.
pub fn remove(directory: &Path) {
    for _ in 0..100 {
        let _ = fs::write(directory.join("cgroup.kill"), "1");
        remove_once(directory);
        if !directory.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn remove_once(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_once(&entry.path());
        }
    }
    let _ = fs::remove_dir(directory);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_is_found_among_the_mounts_of_version_1() {
        let one = "40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd";
        let two = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(mount_in_line(one), None);
        assert_eq!(mount_in_line(two), Some(PathBuf::from("/sys/fs/cgroup/unified")));
    }
}
