//! Where this agent runs.

use anyhow::Context;
use primacy_core::MachineId;
use std::fmt::Write as _;
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
    let mut all = boot.trim().to_owned();
    for place in [Path::new(PROCESSES), run_dir] {
        let found = std::fs::metadata(place).with_context(|| place.display().to_string())?;
        write!(all, " {} {}", found.dev(), found.ino())?;
    }
    Ok(MachineId(number(&all)))
}

/// The FNV-1a hash: an agent built with another toolchain must find the same number.
fn number(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::{here, number};

    #[test]
    fn the_number_of_a_text_stays_the_same() {
        assert_eq!(number(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(number("foobar"), 0x8594_4171_f739_67e8);
    }

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
