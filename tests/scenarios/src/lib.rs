//! Stories of a cluster with troubles, as text. The simulator plays each one and compares what it tells, line by line;
//! the lab plays those whose troubles it can make on real processes.
//!
//! ```text
//! # A primary whose host dies is replaced, and comes back as a standby.
//! ttl 5s
//! lasts 40s
//! 8s host dies primary for 12s
//! expect another primary
//! expect return by rewind
//! ----
//! what the simulator tells, from the first trouble on
//! ```
//!
//! A trouble stands as a failing run prints it. In the place of a host's letter there may be `primary`, `standby` (the
//! first that follows) or `other` (the one that is left), as they are at that moment.

use std::fs;
use std::path::{Path, PathBuf};

/// A story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The name of its file, without the ending.
    pub name: String,
    /// What it shows: its first line.
    pub title: String,
    /// T in milliseconds.
    pub ttl_ms: u64,
    /// How long the simulator lets it go on before all is mended, in milliseconds.
    pub lasts_ms: u64,
    /// What goes wrong, in order.
    pub steps: Vec<Step>,
    /// What must be true at the end.
    pub expects: Vec<Expect>,
    /// What the simulator tells; empty if nobody has looked yet.
    pub told: String,
}

/// One trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When, in milliseconds since the beginning.
    pub at_ms: u64,
    /// What, with letters or roles for hosts.
    pub what: String,
    /// For how long, in milliseconds; 0 if it has no end.
    pub for_ms: u64,
}

/// What must be true at the end of a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The last primary is the first one.
    SamePrimary,
    /// It is another one.
    AnotherPrimary,
    /// No acknowledged commit is lost.
    NoLoss,
    /// Nobody comes back in a harder way than this.
    ReturnBy(Way),
}

/// How a member gets back to its primary's history, the gentlest way first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// It takes the WAL that it lacks.
    Stream,
    /// What it has too much is taken back.
    Rewind,
    /// It takes a new copy.
    Clone,
}

/// The roles that may stand for a host's letter.
pub const ROLES: [&str; 3] = ["primary", "standby", "other"];

/// Divides a story from what is told of it.
const LINE: &str = "----";

/// The stories that lie in this directory, by name.
///
/// # Errors
/// Names the file and the line that can't be read, and why.
pub fn all(directory: &Path) -> Result<Vec<Scenario>, String> {
    let inside = fs::read_dir(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let mut files: Vec<PathBuf> = inside.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "txt"));
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

/// Reads one story.
///
/// # Errors
/// Names the file and the line that can't be read, and why.
pub fn read(file: &Path) -> Result<Scenario, String> {
    let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let name = file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    parse(&name, &text).map_err(|e| format!("{}: {e}", file.display()))
}

/// Reads a story from its text.
///
/// # Errors
/// Names the line that can't be read, and why.
pub fn parse(name: &str, text: &str) -> Result<Scenario, String> {
    let (story, told) = text.split_once(&format!("{LINE}\n")).unwrap_or((text, ""));
    let mut scenario = Scenario {
        name: name.into(),
        title: String::new(),
        ttl_ms: 5_000,
        lasts_ms: 30_000,
        steps: Vec::new(),
        expects: Vec::new(),
        told: told.into(),
    };
    for (number, line) in (1..).zip(story.lines()) {
        scenario.take(line.trim()).map_err(|e| format!("line {number}: {e}"))?;
    }
    scenario.steps.sort_by_key(|step| step.at_ms);
    match scenario.steps.last() {
        Some(last) if last.at_ms >= scenario.lasts_ms => {
            Err(format!("{} comes after the end of the story", last.what))
        }
        _ => Ok(scenario),
    }
}

impl Scenario {
    /// The file's text, with this as what is told of it.
    pub fn with_told(text: &str, told: &str) -> String {
        let story = text.split_once(&format!("{LINE}\n")).map_or(text, |(story, _)| story);
        format!("{story}{LINE}\n{told}")
    }

    fn take(&mut self, line: &str) -> Result<(), String> {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        match first {
            "" => {}
            "#" if self.title.is_empty() => self.title = rest.into(),
            "#" => {}
            "ttl" => self.ttl_ms = millis(rest)?,
            "lasts" => self.lasts_ms = millis(rest)?,
            "expect" => self.expects.push(expect(rest)?),
            at => self.steps.push(Step::new(millis(at)?, rest)?),
        }
        Ok(())
    }
}

impl Step {
    /// Reads what happens, and for how long.
    ///
    /// # Errors
    /// A length that is no time.
    pub fn new(at_ms: u64, text: &str) -> Result<Step, String> {
        let (what, for_ms) = match text.rsplit_once(" for ") {
            Some((what, long)) => (what, millis(long)?),
            None => (text, 0),
        };
        if what.is_empty() {
            return Err("a moment without anything that happens".into());
        }
        Ok(Step { at_ms, what: what.into(), for_ms })
    }

    /// What happens, with the letter that `who` says for each role.
    ///
    /// # Errors
    /// What `who` says if there is nobody in a role.
    pub fn resolved(&self, mut who: impl FnMut(&str) -> Result<String, String>) -> Result<String, String> {
        let words = self.what.split(' ').map(|word| {
            let (bare, comma) = word.strip_suffix(',').map_or((word, ""), |bare| (bare, ","));
            if ROLES.contains(&bare) { Ok(who(bare)? + comma) } else { Ok(word.into()) }
        });
        Ok(words.collect::<Result<Vec<String>, String>>()?.join(" "))
    }
}

fn expect(text: &str) -> Result<Expect, String> {
    Ok(match text {
        "the same primary" => Expect::SamePrimary,
        "another primary" => Expect::AnotherPrimary,
        "no loss" => Expect::NoLoss,
        "return by stream" => Expect::ReturnBy(Way::Stream),
        "return by rewind" => Expect::ReturnBy(Way::Rewind),
        "return by clone" => Expect::ReturnBy(Way::Clone),
        _ => {
            return Err(format!(
                "can't expect {text:?}; there are: the same primary, another primary, no loss, return by stream, \
                 return by rewind, return by clone"
            ));
        }
    })
}

/// A number of seconds such as `8s` or `0.250s`, in milliseconds.
fn millis(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} isn't a time such as 8s or 0.250s");
    let seconds = text.strip_suffix('s').and_then(|number| number.parse::<f64>().ok()).ok_or_else(wrong)?;
    if (0.0..1e6).contains(&seconds) { Ok((seconds * 1e3).round() as u64) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORY: &str = "# Dies.\n# More.\nttl 3s\nlasts 40s\n\n8.5s host dies primary for 12s\n9s switchover asked of \
                         standby, to other\nexpect return by rewind\nexpect no loss\n----\n  told\n";

    #[test]
    fn a_story_is_read() {
        let scenario = parse("dies", STORY).unwrap();
        assert_eq!((scenario.title.as_str(), scenario.ttl_ms, scenario.lasts_ms), ("Dies.", 3_000, 40_000));
        let dies = Step { at_ms: 8_500, what: "host dies primary".into(), for_ms: 12_000 };
        assert_eq!(scenario.steps[0], dies);
        assert_eq!(scenario.steps[1].for_ms, 0);
        assert_eq!(scenario.expects, [Expect::ReturnBy(Way::Rewind), Expect::NoLoss]);
        assert_eq!(scenario.told, "  told\n");
        assert!(Scenario::with_told(STORY, "anew\n").ends_with("no loss\n----\nanew\n"));
    }

    #[test]
    fn roles_become_letters() {
        let scenario = parse("dies", STORY).unwrap();
        let letter = |role: &str| if role == "other" { Err("nobody".into()) } else { Ok(role[..1].into()) };
        assert_eq!(scenario.steps[0].resolved(letter), Ok("host dies p".into()));
        assert_eq!(scenario.steps[1].resolved(letter), Err("nobody".into()));
        let comma = scenario.steps[1].resolved(|role| Ok(role[..1].into()));
        assert_eq!(comma, Ok("switchover asked of s, to o".into()));
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, line) in [
            ("ttl 5\n", "line 1: \"5\" isn't a time"),
            ("# x\nexpect luck\n", "line 2: can't expect \"luck\""),
            ("8s\n", "line 1: a moment without"),
            ("-1s host dies a\n", "line 1: \"-1s\" isn't a time"),
            ("31s host dies a\n", "host dies a comes after the end"),
        ] {
            let error = parse("x", text).unwrap_err();
            assert!(error.contains(line), "{error}");
        }
    }
}
