//! What is done of a long work, kept in a file so that an interrupted call can be taken up again.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What came of one step, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Done {
    /// The step.
    pub step: u64,
    /// Runs.
    pub runs: u64,
    /// Runs that went otherwise than without the trouble.
    pub changed: u64,
    /// Runs that ended with a call for an operator.
    pub flagged: u64,
    /// Troubles that broke an invariant, and which.
    pub failures: Vec<(String, String)>,
}

/// A work under way.
pub struct Progress {
    path: PathBuf,
    /// How many runs it is in all.
    expected: u64,
    /// Steps that an earlier call has done.
    before: BTreeSet<u64>,
    begun: Instant,
    now: Mutex<Now>,
}

struct Now {
    file: File,
    total: Done,
    /// Runs of this call alone.
    runs: u64,
    told: Instant,
}

impl Progress {
    /// Takes up the work of this name, unless it was another one: with another key, or another program.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn open(name: &str, key: &str, anew: bool, expected: u64) -> Result<Progress> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/exhaust");
        Progress::open_in(&directory, name, &format!("{key} {:x}", program()?), anew, expected)
    }

    fn open_in(directory: &Path, name: &str, key: &str, anew: bool, expected: u64) -> Result<Progress> {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        let path = directory.join(format!("{name}.jsonl"));
        let old = fs::read_to_string(&path).unwrap_or_default();
        let mut lines = old.lines();
        let same = lines.next() == Some(key) && !anew;
        // The last line may be cut short.
        let done: Vec<Done> =
            lines.filter(|_| same).filter_map(|line| serde_json::from_str(line).ok()).collect();
        let mut file = File::create(&path).with_context(|| format!("write {}", path.display()))?;
        writeln!(file, "{key}")?;
        let (mut total, mut before) = (Done::default(), BTreeSet::new());
        for one in done {
            writeln!(file, "{}", serde_json::to_string(&one)?)?;
            before.insert(one.step);
            total.add(one);
        }
        if !before.is_empty() {
            println!("{} of {expected} runs were done before", total.runs);
        }
        let now = Now { file, total, runs: 0, told: Instant::now() };
        Ok(Progress { path, expected, before, begun: Instant::now(), now: Mutex::new(now) })
    }

    /// Whether an earlier call has done this step.
    pub fn has(&self, step: u64) -> bool {
        self.before.contains(&step)
    }

    /// A step is done.
    ///
    /// # Panics
    /// If the file can't be written any more.
    pub fn note(&self, done: &Done) {
        let mut now = self.now.lock().expect("nobody panics while holding it");
        let line = serde_json::to_string(done).expect("numbers and strings");
        writeln!(now.file, "{line}").expect("write what is done");
        now.runs += done.runs;
        now.total.add(done.clone());
        let pause = Duration::from_secs(if std::io::stderr().is_terminal() { 1 } else { 30 });
        if now.told.elapsed() >= pause {
            now.told = Instant::now();
            eprintln!("{}", self.tell(&now));
        }
    }

    fn tell(&self, now: &Now) -> String {
        let left = self.expected.saturating_sub(now.total.runs);
        let seconds = self.begun.elapsed().as_secs_f64() * left as f64 / now.runs.max(1) as f64;
        let (runs, expected, failed) = (now.total.runs, self.expected, now.total.failures.len());
        format!("{runs} of {expected} runs, {failed} failed, about {seconds:.0} s left")
    }

    /// All is done: the file goes, and what came of it is returned.
    ///
    /// # Errors
    /// A file that can't be removed.
    pub fn finish(self) -> Result<Done> {
        fs::remove_file(&self.path)?;
        Ok(self.now.into_inner().expect("nobody panics while holding it").total)
    }
}

impl Done {
    fn add(&mut self, other: Done) {
        self.runs += other.runs;
        self.changed += other.changed;
        self.flagged += other.flagged;
        self.failures.extend(other.failures);
    }
}

/// A number that another build of this program hasn't.
fn program() -> Result<u64> {
    let own = std::env::current_exe().and_then(fs::read).context("read this program")?;
    let mut hasher = DefaultHasher::new();
    own.hash(&mut hasher);
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_work_is_taken_up_and_another_one_is_not() {
        let directory = std::env::temp_dir().join(format!("primacy-exhaust-{}", std::process::id()));
        let open = |key, anew| Progress::open_in(&directory, "x", key, anew, 9).unwrap();
        let failures = vec![("0: store down".into(), "I1".into())];
        let one = Done { step: 3, runs: 4, changed: 2, flagged: 1, failures };
        let progress = open("a", false);
        progress.note(&one);
        drop(progress);
        // As if the program had been killed while it wrote.
        let path = directory.join("x.jsonl");
        let cut = fs::read_to_string(&path).unwrap() + "{\"step\":4,\"ru";
        fs::write(&path, cut).unwrap();
        let again = open("a", false);
        assert!(again.has(3) && !again.has(4));
        assert_eq!(again.now.lock().unwrap().total, Done { step: 0, ..one.clone() });
        drop(again);
        assert!(!open("b", false).has(3));
        open("a", false).note(&one);
        assert!(!open("a", true).has(3));
        assert_eq!(open("a", true).finish().unwrap(), Done::default());
        fs::remove_dir_all(&directory).unwrap();
    }
}
