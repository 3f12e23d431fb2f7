//! Plans that once failed. Each was made as simple as it still failed and is kept whole, so that it stays the same when
//! the plans that seeds are drawn from change; all of them are run with the tests.

use crate::engine::Engine;
use crate::invariants::Violation;
use crate::plan::Plan;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// A plan that once failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// What was wrong.
    pub why: String,
    /// Who ran the nodes.
    pub engine: Engine,
    /// What decides everything that the plan leaves open.
    pub seed: u64,
    /// The plan.
    pub plan: Plan,
}

impl Kept {
    /// What is wrong with it now.
    pub fn run(&self) -> Option<Violation> {
        self.engine.run(self.seed, &self.plan, false).violation
    }

    /// Writes it where the tests find it, and says where that is.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn write(&self, directory: &Path) -> Result<PathBuf> {
        let engine = if self.engine == Engine::World { "seed" } else { "driver" };
        let path = directory.join(format!("{engine}-{}.json", self.seed));
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

/// Where they are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions")
}

/// All of a directory, with their files' names.
///
/// # Errors
/// A file that can't be read as one.
pub fn all(directory: &Path) -> Result<Vec<(String, Kept)>> {
    let inside = fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
    let mut files: Vec<_> = inside.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "json"));
    files.sort();
    let read = |file: &PathBuf| {
        let kept = serde_json::from_str(&fs::read_to_string(file)?);
        Ok((file.display().to_string(), kept.with_context(|| file.display().to_string())?))
    };
    files.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Knobs, Trouble};

    #[test]
    fn what_once_failed_does_not_any_more() {
        for (file, kept) in all(&directory()).unwrap() {
            assert_eq!(kept.run(), None, "{file}: {}", kept.why);
        }
    }

    /// With a clock that is far worse than its node was told, a lease is no protection.
    fn hopeless() -> Kept {
        let mut knobs = Knobs::quiet(5_000);
        knobs.clock_ppm = vec![-600_000, -600_000, 0];
        let cut = |host| Trouble {
            at_ms: 9_000,
            for_ms: 20_000,
            what: format!("host cut off {host}").parse().unwrap(),
        };
        let plan = Plan { knobs, troubles: vec![cut("a")], length_ms: 30_000 };
        Kept { why: "a clock at half speed".into(), engine: Engine::World, seed: 0, plan }
    }

    #[test]
    fn a_plan_that_is_kept_fails_again() {
        let kept = hopeless();
        let violation = kept.run().expect("two writers");
        assert!(["I1", "I2"].contains(&violation.id), "{violation}");
        let directory = std::env::temp_dir().join(format!("primacy-regressions-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = kept.write(&directory).unwrap();
        assert_eq!(all(&directory).unwrap(), [(path.display().to_string(), kept)]);
        fs::write(directory.join("x.json"), "{").unwrap();
        assert!(format!("{:#}", all(&directory).unwrap_err()).contains("x.json"));
        fs::remove_dir_all(&directory).unwrap();
    }
}
