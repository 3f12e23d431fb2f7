//! Where things are: the state of a lab, the repository, the programs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Everything a lab of this name keeps on disk. Readable by the user postgres, which a checkout below /root isn't.
///
/// # Panics
/// If that is no [`lab_name`]: what is found here is removed, as root.
pub fn of_lab(name: &str) -> PathBuf {
    let name = lab_name(name).expect("a lab's name");
    Path::new("/var/tmp/primacy-lab").join(name)
}

/// A lab's name, if this is one.
///
/// # Errors
/// Says what a name consists of. It becomes part of paths, so nothing else may get through.
pub fn lab_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=20).contains(&text.len()) && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    Err("a lab's name is 1 to 20 of a-z, 0-9 and -".to_owned())
}

/// The repository this program was built from.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in the repository").to_path_buf()
}

/// The target directory this program was built into, or the usual one.
pub fn target() -> PathBuf {
    let built = std::env::current_exe().ok();
    let built = built.as_deref().and_then(Path::parent).and_then(Path::parent);
    match built {
        Some(directory) if directory.join("CACHEDIR.TAG").exists() => directory.to_path_buf(),
        _ => repository().join("target"),
    }
}

/// Where reports and the logs of failed runs go.
pub fn reports() -> PathBuf {
    target().join("lab")
}

/// The agent's executable: the one named by `PRIMACY_LAB_AGENT`, else the release build beside this program.
pub fn agent() -> PathBuf {
    std::env::var_os("PRIMACY_LAB_AGENT").map_or_else(|| target().join("release/primacy"), PathBuf::from)
}

/// The first directory that holds a program, in PATH or where system programs are even if PATH says otherwise.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(
            ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
                .map(PathBuf::from),
        )
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// The directory of PostgreSQL's server programs, as Debian lays them out, the newest first.
pub fn postgres_programs() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").context("list /usr/lib/postgresql")?;
    let newest = versions
        .flatten()
        .filter(|entry| entry.path().join("bin/postgres").is_file())
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin")))
        })
        .max();
    match newest {
        Some((_, directory)) => Ok(directory),
        None => bail!("no PostgreSQL server below /usr/lib/postgresql: install the package postgresql-15"),
    }
}

/// Gives files that root has made in a user's target directory to that user.
pub fn give_to_owner(path: &Path) {
    use std::os::unix::fs::{MetadataExt, chown};
    let Ok(owner) = std::fs::metadata(target()) else { return };
    let _ = chown(path, Some(owner.uid()), Some(owner.gid()));
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        give_to_owner(&entry.path());
    }
}

/// A user's and its main group's number.
pub fn user(name: &str) -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_never_lies_outside_its_folder() {
        for name in ["", ".", "..", "../x", "/etc", "a/b", "a b", "Lab", "é", "a\n", &"a".repeat(21)] {
            lab_name(name).expect_err(name);
            std::panic::catch_unwind(|| of_lab(name)).expect_err(name);
        }
        for name in ["lab", "3", "a-b", &"a".repeat(20)] {
            assert_eq!(of_lab(name).parent(), Some(Path::new("/var/tmp/primacy-lab")), "{name}");
        }
    }
}
