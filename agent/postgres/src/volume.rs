//! Which file system the data directory lies on. Where its mount point is empty, a new copy would fill another one
//! (hazard E08).

use crate::data::beside;
use crate::{Error, Postgres};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use std::io;
use std::path::{Path, PathBuf};

impl Postgres {
    /// Where the file system is mounted that holds the folder of the data directory, which exists. The directory's own
    /// device number would change with each boot.
    ///
    /// # Errors
    /// If a folder on the way can't be looked at.
    pub fn mount_point(&self) -> Result<PathBuf, Error> {
        let (mut path, _) = beside(&self.settings.data_dir, "")?;
        loop {
            if is_mount_point(&path)? || !path.pop() {
                return Ok(path);
            }
        }
    }
}

/// Whether a file system is mounted just here.
pub(crate) fn is_mount_point(path: &Path) -> Result<bool, Error> {
    let seen = statx(CWD, path, AtFlags::empty(), StatxFlags::TYPE).map_err(io::Error::from);
    let seen = seen.map_err(Error::io(format!("look at {}", path.display())))?;
    Ok(seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(test)]
mod tests {
    use crate::{Postgres, Settings};
    use std::fs;
    use std::path::PathBuf;

    #[test]
    fn the_mount_point_is_the_one_that_the_kernel_lists() {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts: Vec<PathBuf> =
            mounts.lines().map(|line| line.split(' ').nth(4).unwrap().replace("\\040", " ").into()).collect();
        for data_dir in ["/proc/sys/data", "/dev/shm/data", "/usr/data", "/data"].map(PathBuf::from) {
            let folder = data_dir.parent().unwrap();
            let holds = mounts.iter().filter(|mount| folder.starts_with(mount));
            let longest = holds.max_by_key(|mount| mount.components().count()).unwrap();
            let postgres = Postgres::new(Settings { data_dir: data_dir.clone(), ..Settings::default() });
            assert_eq!(postgres.mount_point().unwrap(), *longest, "{}", data_dir.display());
        }
    }
}
