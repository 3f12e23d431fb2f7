//! Where an instance lives, made sure of before anything is started there.

use anyhow::{Context, bail};
use rustix::fs::{AtFlags, CWD, FlockOperation, StatxAttributes, StatxFlags, flock, statx};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The one name of a data directory, however it is written: through links, with a slash at its end. What is derived
/// from it, the lock above all, would be another one else. It need not exist yet.
pub fn resolve(data_dir: &Path) -> anyhow::Result<PathBuf> {
    let shown = data_dir.display();
    let (Some(parent), Some(name)) = (data_dir.parent(), data_dir.file_name()) else {
        bail!("postgresql.data_dir: {shown} is no place for a data directory");
    };
    let resolved = match data_dir.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make(parent)?;
            let path = parent.canonicalize().context("postgresql.data_dir")?.join(name);
            if path.symlink_metadata().is_ok() {
                bail!("postgresql.data_dir: {shown} is a link that leads nowhere");
            }
            path
        }
        found => found.with_context(|| format!("postgresql.data_dir: resolve {shown}"))?,
    };
    if resolved.file_name().is_none() || is_mount_point(&resolved) {
        bail!(
            "postgresql.data_dir: {} is a mount point, so a new copy could neither be put in its place nor this one \
             moved aside: use a folder below it",
            resolved.display()
        );
    }
    Ok(resolved)
}

fn is_mount_point(path: &Path) -> bool {
    let seen = statx(CWD, path, AtFlags::empty(), StatxFlags::TYPE);
    seen.is_ok_and(|seen| seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// The folder for sockets, locks and the journal: beside the data directory, so that there is one for each.
pub fn run_dir(data_dir: &Path) -> anyhow::Result<PathBuf> {
    let mut name = data_dir.as_os_str().to_owned();
    name.push(".run");
    let run_dir = PathBuf::from(name);
    make(&run_dir)?;
    Ok(run_dir)
}

fn make(dir: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("postgresql.data_dir: make {}", dir.display()))
}

/// Two agents on one data directory would each undo what the other does.
pub fn lock(run_dir: &Path) -> anyhow::Result<File> {
    let path = run_dir.join("agent.lock");
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = open.with_context(|| format!("open {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!("another agent runs on this data directory: it holds {}", path.display());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("primacy-place-{}-{name}", std::process::id()));
        std::fs::create_dir_all(dir.join("real")).expect("a scratch folder");
        symlink("real", dir.join("link")).expect("a link");
        dir.canonicalize().expect("its one name")
    }

    #[test]
    fn a_data_directory_has_one_name() {
        let dir = scratch("names");
        let names = ["real/pg", "real/pg/", "real/pg/.", "link/pg", "link/pg//"];
        let resolved = |name: &str| resolve(&dir.join(name)).expect("a place");
        for exists in [false, true] {
            for name in names {
                assert_eq!(resolved(name), dir.join("real/pg"), "{name}, exists: {exists}");
            }
            std::fs::create_dir_all(dir.join("real/pg")).expect("a data directory");
        }
        symlink("real/pg", dir.join("also")).expect("a link");
        assert_eq!(resolved("also"), dir.join("real/pg"));
        assert_eq!(resolved("new/er/pg"), dir.join("new/er/pg"));
        std::fs::remove_dir_all(dir).expect("the scratch folder");
    }

    #[test]
    fn a_place_where_nothing_can_be_put_is_refused() {
        let dir = scratch("refused");
        symlink("nowhere", dir.join("dangling")).expect("a link");
        let refusal = |path: &Path| resolve(path).expect_err("no place").to_string();
        assert!(refusal(&dir.join("dangling")).contains("leads nowhere"));
        assert!(refusal(&dir.join("dangling/")).contains("leads nowhere"));
        assert!(refusal(Path::new("/")).contains("no place"));
        assert!(refusal(&dir.join("pg/..")).contains("no place"));
        assert!(refusal(Path::new("/proc")).contains("use a folder below it"));
        std::fs::remove_dir_all(dir).expect("the scratch folder");
    }

    #[test]
    fn one_agent_holds_a_data_directory_by_whatever_name() {
        let dir = scratch("lock");
        let held = |name: &str| lock(&run_dir(&resolve(&dir.join(name))?)?);
        let first = held("real/pg").expect("nobody holds it");
        assert!(held("link/pg/").expect_err("the first one holds it").to_string().contains("another agent"));
        drop(first);
        held("link/pg/").expect("nobody holds it any more");
        std::fs::remove_dir_all(dir).expect("the scratch folder");
    }
}
