//! The parts of `cargo verify`, and how one is run.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::keeper::processes;
use crate::{packages, place};

/// In which runs a part takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// In all.
    Always,
    /// In the usual ones, because `--full` has a longer form of it.
    Usual,
    /// With `--full`.
    Full,
}

/// What a part does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Checks that the packages are there, and installs them where that takes no password.
    Packages,
    /// Runs a program. One that begins with `@` lies beside this program: built by an earlier part, and not built
    /// again with another choice of features, as cargo would.
    Run(&'static [&'static str]),
}

/// One part.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// In which runs.
    pub when: When,
    /// Seconds after which it has failed.
    pub budget: u64,
    /// Whether nothing after it makes sense once it has failed.
    pub vital: bool,
    /// What it does.
    pub work: Work,
}

const fn part(name: &'static str, when: When, budget: u64, work: &'static [&'static str]) -> Part {
    Part { name, when, budget, vital: false, work: Work::Run(work) }
}

/// Broken links in the documentation fail; what the configuration file sets beside it stays in force.
const DOC_FLAGS: &str = r#"build.rustdocflags=["-D","warnings"]"#;

/// All parts, in order.
pub const PARTS: &[Part] = &[
    Part { name: "packages", when: When::Always, budget: 600, vital: true, work: Work::Packages },
    part("format", When::Always, 60, &["cargo", "fmt", "--all", "--check", "--", "--color", "never"]),
    Part {
        name: "build",
        when: When::Always,
        budget: 2_400,
        vital: true,
        work: Work::Run(&["cargo", "build", "--release", "--workspace", "--all-targets"]),
    },
    part("clippy", When::Always, 600, CLIPPY),
    part(
        "docs",
        When::Always,
        400,
        &["cargo", "doc", "--release", "--workspace", "--no-deps", "--config", DOC_FLAGS],
    ),
    part("tests", When::Always, 600, TESTS),
    part("tests", When::Full, 300, SLOW_TESTS),
    part("tidy", When::Always, 120, &["cargo", "test", "--release", "--workspace", "--test", "tidy"]),
    part("simulation", When::Usual, 300, &["@primacy-sim", "sweep", "--seeds", "0..200"]),
    part("simulation", When::Full, 3_600, &["@primacy-sim", "sweep", "--seeds", "0..5000"]),
    part("exhaust", When::Usual, 300, &["@primacy-sim", "exhaust", "switchover", "failover", "clean-stop"]),
    part("exhaust", When::Full, 3_600, &["@primacy-sim", "exhaust", "--pairs", "50000"]),
    part("driver", When::Always, 300, &["@primacy-sim", "driver"]),
    part("mistakes", When::Always, 900, &["@primacy-sim", "mistakes"]),
    part("model", When::Always, 700, &["@primacy-model", "check"]),
    part("mistakes", When::Full, 3_600, &["@primacy-model", "mistakes"]),
    part("network", When::Always, 60, &["@lab", "check"]),
    part("clusters", When::Usual, 600, &["@lab", "--name", "verify", "fault", "quick"]),
    part("clusters", When::Full, 3_600, &["@lab", "--name", "verify", "fault", "all", "--times", "3"]),
];

const CLIPPY: &[&str] =
    &["cargo", "clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"];

/// Tidiness is a part of its own.
const TESTS: &[&str] =
    &["cargo", "test", "--release", "--workspace", "--no-fail-fast", "--", "--skip", "tidy::"];

/// Those that have to wait for something.
const SLOW_TESTS: &[&str] = &["cargo", "test", "--release", "--workspace", "--", "--ignored"];

/// How a part ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Checks that went well, at least one if the part did.
    pub passed: usize,
    /// Checks that didn't.
    pub failed: usize,
    /// Why, if the part failed.
    pub reason: Option<String>,
}

impl Part {
    /// Runs it to its end, or to the end of its budget.
    pub fn run(&self) -> Verdict {
        let done = match self.work {
            Work::Packages => packages::install().map(|_| String::new()),
            Work::Run(command) => self.command(command),
        };
        match done {
            Ok(output) => verdict(true, &output, None),
            Err(error) => {
                let output = fs::read_to_string(self.log()).unwrap_or_default();
                verdict(false, &output, Some(format!("{error:#}")))
            }
        }
    }

    /// Where its output goes.
    pub fn log(&self) -> PathBuf {
        place::target().join("verify").join(format!("{}.log", self.name))
    }

    fn command(&self, command: &[&str]) -> Result<String> {
        let log = self.log();
        fs::create_dir_all(log.parent().expect("a file in a directory"))?;
        let file = File::create(&log).with_context(|| format!("write {}", log.display()))?;
        let mut child = program(command[0])
            .args(&command[1..])
            .current_dir(place::repository())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("run {}", command[0]))?;
        let status = wait(&mut child, Duration::from_secs(self.budget))?;
        let output = fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())?;
        match status {
            Some(status) if status.success() => Ok(output),
            Some(status) => anyhow::bail!("{status}"),
            None => anyhow::bail!("not done within {} s", self.budget),
        }
    }
}

/// A program, without what cargo has told this one about itself, which would make an inner cargo build things anew.
fn program(name: &str) -> Command {
    let mut command = match name.strip_prefix('@') {
        Some(beside) => Command::new(place::target().join("release").join(beside)),
        None if name == "cargo" => Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
        None => Command::new(name),
    };
    command.envs([("CARGO_TERM_COLOR", "never"), ("NO_COLOR", "1"), ("TERM", "dumb")]);
    for (key, _) in std::env::vars_os() {
        let own = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if key.to_str().is_some_and(|key| own.iter().any(|prefix| key.starts_with(prefix))) {
            command.env_remove(key);
        }
    }
    command
}

/// Waits for a child's end; one that takes too long is killed with all it started.
fn wait(child: &mut Child, budget: Duration) -> Result<Option<std::process::ExitStatus>> {
    let end = Instant::now() + budget;
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    processes::kill_tree(child.id() as i32);
    child.wait()?;
    Ok(None)
}

/// Sums up what the test harnesses said; a part without any is one check.
fn verdict(good: bool, output: &str, reason: Option<String>) -> Verdict {
    let (mut passed, mut failed) = (0, 0);
    for line in output.lines().filter(|line| line.starts_with("test result:")) {
        passed += number_before(line, " passed");
        failed += number_before(line, " failed");
    }
    if good && passed == 0 {
        passed = 1;
    }
    if !good && failed == 0 {
        failed = 1;
    }
    Verdict { passed, failed, reason }
}

fn number_before(line: &str, word: &str) -> usize {
    let before = line.split(word).next().unwrap_or_default();
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    if line.contains(word) { digits.parse().unwrap_or(0) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_harnesses_counts_are_summed_up() {
        let output = "test a ... ok\ntest result: ok. 12 passed; 0 failed; 1 ignored; 0 measured\n\
                      test result: FAILED. 3 passed; 2 failed; 0 ignored\n";
        assert_eq!(verdict(false, output, None), Verdict { passed: 15, failed: 2, reason: None });
    }

    #[test]
    fn a_part_without_counts_is_one_check() {
        assert_eq!(verdict(true, "fine", None), Verdict { passed: 1, failed: 0, reason: None });
        assert_eq!(verdict(false, "bad", None), Verdict { passed: 0, failed: 1, reason: None });
        let harness = "test result: ok. 5 passed; 0 failed";
        assert_eq!(verdict(false, harness, None).failed, 1, "a failing part has at least one failure");
    }

    #[test]
    fn a_part_that_takes_too_long_is_ended_with_its_children() {
        let mut child = Command::new("sh").args(["-c", "sleep 30 & wait"]).spawn().expect("sh");
        let start = Instant::now();
        assert_eq!(wait(&mut child, Duration::from_millis(100)).expect("waited"), None);
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
