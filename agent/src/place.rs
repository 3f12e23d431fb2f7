//! Where an instance lives, made sure of before anything is started there.

use anyhow::{Context, bail};
use rustix::fs::{Access, AtFlags, CWD, FlockOperation, StatxAttributes, StatxFlags, access, flock, statx};
use rustix::process::geteuid;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
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

/// PostgreSQL doesn't run as root, and what root would leave behind couldn't be touched by whoever runs it.
pub fn check_user() -> anyhow::Result<()> {
    if geteuid().is_root() {
        bail!(
            "refuses to run as root, as PostgreSQL does: start it as the user that owns the data directory"
        );
    }
    Ok(())
}

/// PostgreSQL starts on a data directory of its own user only, which others can't write; and a copy can be moved aside
/// only if the folder above it can be written.
pub fn check_owner(data_dir: &Path) -> anyhow::Result<()> {
    let (shown, user) = (data_dir.display(), geteuid().as_raw());
    if let Ok(found) = data_dir.metadata() {
        if found.uid() != user {
            bail!(
                "postgresql.data_dir: {shown} belongs to user {}, and the agent runs as user {user}: run it as the \
                 owner, or give it away with: chown -R {user} {shown}",
                found.uid()
            );
        }
        // As PostgreSQL has it: the group may read, others may nothing.
        if found.mode() & 0o027 != 0 && data_dir.join("PG_VERSION").exists() {
            bail!(
                "postgresql.data_dir: {shown} has mode {:04o}, and PostgreSQL takes 0700 or 0750: chmod 0700 {shown}",
                found.mode() & 0o7777
            );
        }
    }
    let above = data_dir.parent().unwrap_or(data_dir);
    if access(above, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        bail!(
            "postgresql.data_dir: user {user} can't write {}, where copies are made and moved aside: chown {user} {}",
            above.display(),
            above.display()
        );
    }
    Ok(())
}

/// The folder for sockets, locks and the journal: beside the data directory, so that there is one for each.
pub fn run_dir(data_dir: &Path) -> anyhow::Result<PathBuf> {
    let run_dir = run_dir_of(data_dir);
    make(&run_dir)?;
    Ok(run_dir)
}

/// Where that folder is, if it is there.
pub fn run_dir_of(data_dir: &Path) -> PathBuf {
    let mut name = data_dir.as_os_str().to_owned();
    name.push(".run");
    PathBuf::from(name)
}

/// PostgreSQL's socket lies in the run directory, and the kernel takes no longer names.
pub fn check_socket(run_dir: &Path, port: u16) -> anyhow::Result<()> {
    const LONGEST: usize = 107;
    let socket = run_dir.join(format!(".s.PGSQL.{port}"));
    let length = socket.as_os_str().len();
    if length > LONGEST {
        bail!(
            "postgresql.data_dir: use a shorter path: PostgreSQL's socket {} would have {length} bytes, and \
             {LONGEST} are possible",
            socket.display()
        );
    }
    Ok(())
}

/// PostgreSQL's programs that the agent runs.
const NEEDED: [&str; 8] = [
    "initdb",
    "pg_basebackup",
    "pg_controldata",
    "pg_receivewal",
    "pg_rewind",
    "pg_waldump",
    "postgres",
    "psql",
];

/// Whether all of them are there: one that is missed later, after a failover above all, would keep a member away.
pub fn check_programs(bin_dir: &Path) -> anyhow::Result<()> {
    let missing: Vec<&str> = NEEDED.into_iter().filter(|name| !bin_dir.join(name).is_file()).collect();
    if !missing.is_empty() {
        bail!(
            "postgresql.bin_dir: no {} in {}: name the folder of PostgreSQL's server programs, such as \
             /usr/lib/postgresql/15/bin",
            missing.join(", "),
            bin_dir.display()
        );
    }
    Ok(())
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
    let mut file = open.with_context(|| format!("open {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let holder = std::fs::read_to_string(&path).unwrap_or_default();
        bail!(
            "another agent, or a command, is at work on this data directory: process {} holds {}",
            holder.trim(),
            path.display()
        );
    }
    // For whoever finds it locked; nothing depends on it.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("primacy-place-{}-{name}", std::process::id()));
        std::fs::create_dir_all(dir.join("real")).expect("a scratch folder");
        symlink("real", dir.join("link")).expect("a link");
        dir.canonicalize().expect("its one name")
    }

    #[test]
    fn what_postgresql_would_refuse_is_named_with_its_remedy() {
        let dir = scratch("owner");
        let data = dir.join("real");
        let mode = |mode| std::fs::set_permissions(&data, PermissionsExt::from_mode(mode)).expect("a mode");
        mode(0o755);
        check_owner(&data).expect("an empty folder is replaced");
        std::fs::write(data.join("PG_VERSION"), "15\n").expect("a file");
        let refused = |path: &Path| format!("{:#}", check_owner(path).expect_err("a refusal"));
        assert!(
            refused(&data).contains("mode 0755") && refused(&data).contains("chmod 0700"),
            "{}",
            refused(&data)
        );
        for fit in [0o700, 0o750] {
            mode(fit);
            check_owner(&data).expect("as PostgreSQL wants it");
        }
        if !geteuid().is_root() {
            assert!(refused(Path::new("/proc/1")).contains("chown -R"), "{}", refused(Path::new("/proc/1")));
            assert!(refused(Path::new("/new")).contains("can't write /"), "{}", refused(Path::new("/new")));
        }
    }

    #[test]
    fn who_holds_a_data_directory_is_named() {
        let dir = scratch("holder");
        let held = lock(&dir).expect("it is free");
        let refused = format!("{:#}", lock(&dir).expect_err("it is held"));
        assert!(refused.contains(&format!("process {} holds", std::process::id())), "{refused}");
        drop(held);
        lock(&dir).expect("it is free again");
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
    fn a_socket_has_a_name_that_the_kernel_takes() {
        for (length, fits) in [(93, true), (94, false)] {
            let run_dir = PathBuf::from(format!("/{}", "a".repeat(length - 1)));
            let socket = run_dir.join(".s.PGSQL.5432");
            assert_eq!(check_socket(&run_dir, 5432).is_ok(), fits, "{length}");
            let address = std::os::unix::net::SocketAddr::from_pathname(socket);
            assert_eq!(address.is_ok(), fits, "{length}, says the kernel's structure");
        }
    }

    #[test]
    fn all_programs_must_be_there() {
        let dir = scratch("programs");
        let make = |name: &str| std::fs::write(dir.join(name), "").expect("a program");
        NEEDED.into_iter().filter(|name| !["pg_rewind", "psql"].contains(name)).for_each(make);
        let refusal = check_programs(&dir).expect_err("two are missing").to_string();
        assert!(refusal.starts_with("postgresql.bin_dir: no pg_rewind, psql in "), "{refusal}");
        ["pg_rewind", "psql"].into_iter().for_each(make);
        check_programs(&dir).expect("all are there");
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
