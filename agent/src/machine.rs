//! Where this agent runs.

use anyhow::Context;
use primacy_core::MachineId;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const BOOT: &str = "/proc/sys/kernel/random/boot_id";
const PROCESSES: &str = "/proc/self/ns/pid";

/// A number for this boot of this kernel, this process table and this run directory. Whoever finds its own number sees
/// every process that an agent of the same number has started.
///
/// # Errors
/// If one of them can't be read.
pub fn here(run_dir: &Path) -> anyhow::Result<MachineId> {
    let boot = std::fs::read_to_string(BOOT).context(BOOT)?;
    let mut hasher = DefaultHasher::new();
    boot.trim().hash(&mut hasher);
    for place in [Path::new(PROCESSES), run_dir] {
        let found = std::fs::metadata(place).with_context(|| place.display().to_string())?;
        (found.dev(), found.ino()).hash(&mut hasher);
    }
    Ok(MachineId(hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::here;

    #[test]
    fn another_run_directory_is_another_machine() {
        let dir = std::env::temp_dir().join(format!("primacy-machine-{}", std::process::id()));
        let (one, other) = (dir.join("one"), dir.join("other"));
        for place in [&one, &other] {
            std::fs::create_dir_all(place).expect("a folder");
        }
        assert_eq!(here(&one).expect("a number"), here(&one).expect("the same number"));
        assert_ne!(here(&one).expect("a number"), here(&other).expect("another number"));
        std::fs::remove_dir_all(&dir).expect("removed");
        assert!(here(&one).is_err());
    }
}
