//! Planted mistakes: the nets are tested, too.
//!
//! Each file of `sim/mistakes` is a small patch over the core, with a slip of the kind that people make. It is applied
//! to a copy of the sources below `target/mistakes`, the copy is built, and its simulator or model checker has to catch
//! it. Nothing in the code that ships knows of this. A patch that doesn't apply any more is a failure as well: the
//! rule that it breaks has moved.
//!
//! A net says what it has caught in a line of its output: `caught by ID after COST: WHAT`.

use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::str::FromStr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A planted mistake, as its file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The name of its file.
    pub name: String,
    /// What is wrong, in one sentence.
    pub what: String,
    /// The rule it breaks, or the hazard it stands for.
    pub stands_for: String,
    /// The names of the nets that have to catch it.
    pub catch: Vec<String>,
    /// Which net can't see it, and why.
    pub blind: Option<String>,
    /// Its file.
    pub patch: PathBuf,
}

/// A program that has to catch mistakes.
#[derive(Clone, Copy, Debug)]
pub struct Net {
    /// Its name in the headers of the mistakes.
    pub name: &'static str,
    /// Its package and program.
    pub package: &'static str,
    /// How it is run so that it ends with its first catch.
    pub arguments: &'static [&'static str],
}

/// Which mistakes are tried; all, if nothing is said.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Choice {
    /// The mistakes of these names.
    names: Vec<String>,
    /// The K-th of N shares, as K/N.
    #[arg(long, conflicts_with = "names")]
    share: Option<Share>,
    /// One of N shares, chosen by the commit.
    #[arg(long, value_name = "N", conflicts_with_all = ["names", "share"])]
    rotate: Option<usize>,
    /// Try all, and write what was caught to docs/planted-mistakes.md.
    #[arg(long, conflicts_with_all = ["names", "share", "rotate"])]
    write: bool,
}

/// A part of the mistakes: the `number`-th of `of`, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    number: usize,
    of: usize,
}

impl FromStr for Share {
    type Err = String;
    fn from_str(text: &str) -> Result<Share, String> {
        let (number, of) = text.split_once('/').ok_or("write the share as K/N")?;
        let parse = |text: &str| text.parse::<usize>().map_err(|e| format!("{text:?}: {e}"));
        let (number, of) = (parse(number)?, parse(of)?);
        if (1..=of).contains(&number) { Ok(Share { number, of }) } else { Err(format!("no share {text}")) }
    }
}

/// What a net has caught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catch {
    /// The invariant that was broken; or `assertion`, if the core itself noticed.
    pub by: String,
    /// What it took.
    pub after: String,
    /// What was seen.
    pub what: String,
}

/// All mistakes, by name.
///
/// # Errors
/// Fails if a header lacks something.
pub fn all() -> Result<Vec<Mistake>> {
    let folder = repository().join("sim/mistakes");
    let entries = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let patches = paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == "patch"));
    let mut mistakes = patches.map(|path| Mistake::read(&path)).collect::<Result<Vec<_>>>()?;
    mistakes.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(mistakes)
}

impl Mistake {
    fn read(patch: &Path) -> Result<Mistake> {
        let text = fs::read_to_string(patch).with_context(|| format!("read {}", patch.display()))?;
        let header = text.split("\n--- ").next().unwrap_or_default();
        let field = |name: &str| header.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let needed = |name: &str| {
            field(name).map(String::from).with_context(|| format!("no {name:?} in {}", patch.display()))
        };
        Ok(Mistake {
            name: patch.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            what: needed("what:")?,
            stands_for: needed("stands for:")?,
            catch: needed("catch:")?.split(',').map(|net| net.trim().to_owned()).collect(),
            blind: field("blind:").map(String::from),
            patch: patch.to_owned(),
        })
    }

    /// Whether this net has to catch it.
    pub fn concerns(&self, net: &Net) -> bool {
        self.catch.iter().any(|name| name == net.name)
    }
}

impl Choice {
    fn pick(&self, mistakes: Vec<Mistake>) -> Result<Vec<Mistake>> {
        for name in &self.names {
            ensure!(mistakes.iter().any(|mistake| mistake.name == *name), "no mistake is called {name}");
        }
        let share = self.share.or(self.rotate.map(|of| Share { number: 1 + lot() % of.max(1), of }));
        if let Some(Share { number, of }) = share {
            println!("share {number}/{of}; again with --share {number}/{of}");
        }
        let chosen = (0..).zip(mistakes).filter(|(index, mistake)| match share {
            Some(Share { number, of }) => index % of == number - 1,
            None => self.names.is_empty() || self.names.contains(&mistake.name),
        });
        Ok(chosen.map(|(_, mistake)| mistake).collect())
    }
}

/// A number that is another one for each commit; where there is no commit, for each day.
fn lot() -> usize {
    let head = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(repository()).output();
    let hash = head.ok().filter(|head| head.status.success());
    let start = hash.and_then(|head| String::from_utf8(head.stdout).ok());
    let number = start.and_then(|hash| usize::from_str_radix(hash.get(..7)?, 16).ok());
    let day = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() / 86_400);
    number.unwrap_or_else(|| day() as usize)
}

/// Tries the chosen mistakes with a net, and says what came of each.
///
/// # Errors
/// Fails if one of them isn't caught.
pub fn command(net: &Net, choice: &Choice) -> Result<()> {
    let mistakes = all()?;
    let mut row = Vec::new();
    let (mut passed, mut failed) = (0, 0);
    let scratch = Scratch::open()?;
    for mistake in choice.pick(mistakes)?.iter().filter(|mistake| mistake.concerns(net)) {
        let begun = Instant::now();
        let caught = attempt(net, &scratch, mistake);
        let took = begun.elapsed().as_secs();
        match caught {
            Ok(Catch { by, after, what }) => {
                passed += 1;
                println!("{:<24} caught by {by} after {after}: {what} ({took} s)", mistake.name);
                row.push((mistake.name.clone(), Catch { by, after, what }));
            }
            Err(error) => {
                failed += 1;
                println!("{:<24} FAILED: {error:#} ({took} s)", mistake.name);
            }
        }
    }
    println!("test result: {passed} passed; {failed} failed");
    ensure!(failed == 0, "{failed} mistakes were not caught");
    if choice.write {
        let path = document_path();
        let text = fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, document(&text, &all()?, Some((net.name, &row))))?;
    }
    Ok(())
}

fn attempt(net: &Net, scratch: &Scratch, mistake: &Mistake) -> Result<Catch> {
    scratch.prepare(mistake)?;
    let output = Command::new(scratch.build(net.package)?).args(net.arguments).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().find_map(caught).with_context(|| match said.lines().last() {
        Some(last) => last.to_owned(),
        None => format!("not caught, {}: {}", output.status, last_words(&output)),
    })
}

/// Reads the line in which a net tells its catch.
fn caught(line: &str) -> Option<Catch> {
    let (head, what) = line.strip_prefix("caught by ")?.split_once(": ")?;
    let (by, after) = head.split_once(" after ")?;
    Some(Catch { by: by.into(), after: after.into(), what: what.into() })
}

fn last_words(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// The copy of the sources that mistakes are planted in. Only one process works in it at a time.
pub struct Scratch {
    root: PathBuf,
    _lock: File,
}

/// All that the nets are built from, in the copy.
const MEMBERS: [&str; 5] = ["core", "agent/driver", "tests/scenarios", "sim", "model"];

impl Scratch {
    /// Takes hold of the place for the copy, as soon as nobody else works there.
    ///
    /// # Errors
    /// Fails if it can't be made or locked.
    pub fn open() -> Result<Scratch> {
        let place = repository().join("target/mistakes");
        fs::create_dir_all(&place)?;
        let lock = File::create(place.join("lock"))?;
        lock.lock()?;
        Ok(Scratch { root: place.join("workspace"), _lock: lock })
    }

    /// Copies the sources anew and plants a mistake in them.
    ///
    /// # Errors
    /// Fails if the patch doesn't fit the sources as they are now.
    pub fn prepare(&self, mistake: &Mistake) -> Result<()> {
        if self.root.exists() {
            fs::remove_dir_all(&self.root)?;
        }
        for member in MEMBERS {
            copy(&repository().join(member), &self.root.join(member))?;
        }
        copy(&repository().join(".cargo"), &self.root.join(".cargo"))?;
        fs::copy(repository().join("Cargo.lock"), self.root.join("Cargo.lock"))?;
        let manifest = fs::read_to_string(repository().join("Cargo.toml"))?;
        fs::write(self.root.join("Cargo.toml"), with_fewer_members(&manifest)?)?;
        self.plant(mistake)
    }

    fn plant(&self, mistake: &Mistake) -> Result<()> {
        // Inside a repository, git would look for the files from its top.
        let above = self.root.parent().unwrap_or(&self.root);
        let mut git = Command::new("git");
        git.arg("apply").arg(&mistake.patch).current_dir(&self.root).env("GIT_CEILING_DIRECTORIES", above);
        let output = git.output().context("run git")?;
        ensure!(output.status.success(), "the patch doesn't apply any more: {}", last_words(&output));
        Ok(())
    }

    /// Builds a program of the copy. Dependencies are built once; what was fetched for this workspace is enough, where
    /// all of it was.
    ///
    /// # Errors
    /// Fails if the copy can't be built.
    pub fn build(&self, package: &str) -> Result<PathBuf> {
        let target = self.root.with_file_name("target");
        let cargo = || {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.args(["build", "--release", "--quiet", "--package", package]).current_dir(&self.root);
            cargo.env("CARGO_TARGET_DIR", &target).env("CARGO_INCREMENTAL", "1");
            cargo
        };
        let mut output = cargo().arg("--offline").output().context("run cargo")?;
        if !output.status.success() {
            output = cargo().output()?;
        }
        if !output.status.success() {
            bail!("the copy can't be built: {}", last_words(&output));
        }
        Ok(target.join("release").join(package))
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_path_buf()
}

/// Copies a folder, but nothing that was built in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let (from, to) = (from.join(entry?.file_name()), to);
        let to = to.join(from.file_name().unwrap_or_default());
        if from.is_dir() && !from.ends_with("target") {
            copy(&from, &to)?;
        } else if from.is_file() {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}

/// The workspace's manifest, for the nets alone.
fn with_fewer_members(manifest: &str) -> Result<String> {
    let start = manifest.find("members = [").context("the workspace has no members")?;
    let length = manifest[start..].find(']').context("the list of members has no end")?;
    let mut fewer = manifest.to_owned();
    fewer.replace_range(start..=start + length, &format!("members = {MEMBERS:?}"));
    Ok(fewer)
}

fn document_path() -> PathBuf {
    repository().join("docs/planted-mistakes.md")
}

/// `docs/planted-mistakes.md` with what a net has just caught; what others have stays as it was.
fn document(before: &str, mistakes: &[Mistake], caught: Option<(&str, &[(String, Catch)])>) -> String {
    let mut text = head(mistakes);
    for net in ["sim", "model"] {
        let title = format!("\n## Caught by {net}\n");
        match caught {
            Some((name, rows)) if name == net => {
                text.push_str(&title);
                text.push_str("\n| name | broken | after | seen |\n|---|---|---|---|\n");
                for (name, Catch { by, after, what }) in rows {
                    writeln!(text, "| {name} | {by} | {after} | {what} |").expect("writing to a string");
                }
            }
            Some(_) | None => {
                if let Some(at) = before.find(&title) {
                    let section = &before[at + title.len()..];
                    let end = section.find("\n## ").unwrap_or(section.len());
                    text.push_str(&title);
                    text.push_str(&section[..end]);
                }
            }
        }
    }
    text
}

fn head(mistakes: &[Mistake]) -> String {
    let mut text = String::from(
        "# Planted mistakes\n\nWritten by `cargo sim mistakes --write` and `cargo model mistakes --write`, from the \
         headers of the patches in\n`sim/mistakes` and from what was caught. Each patch plants one mistake in a copy \
         of the core; the simulator and the\nmodel checker built from that copy must catch it. `assertion` means that \
         the core's own check stopped the node first.\nSeeds run for 300 virtual seconds of troubles each, one after \
         the other from seed 0.\n\n| name | what is wrong | stands for | to be caught by |\n|---|---|---|---|\n",
    );
    for Mistake { name, what, stands_for, catch, blind, .. } in mistakes {
        let blind = blind.as_ref().map_or(String::new(), |why| format!("; not {why}"));
        let catch = catch.join(", ");
        writeln!(text, "| {name} | {what} | {stands_for} | {catch}{blind} |").expect("writing to a string");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(name: &str) -> Mistake {
        let (what, stands_for, patch) = ("w".into(), "A01".into(), PathBuf::new());
        Mistake { name: name.into(), what, stands_for, catch: vec!["sim".into()], blind: None, patch }
    }

    fn names(choice: &Choice) -> Vec<String> {
        let five = ["a", "b", "c", "d", "e"].map(mistake).to_vec();
        choice.pick(five).expect("known names").into_iter().map(|mistake| mistake.name).collect()
    }

    #[test]
    fn shares_are_all_of_them_together() {
        let share = |text: &str| names(&Choice { share: Some(text.parse().unwrap()), ..Choice::default() });
        assert_eq!(share("1/2"), ["a", "c", "e"]);
        assert_eq!(share("2/2"), ["b", "d"]);
        assert_eq!(names(&Choice::default()).len(), 5);
        assert_eq!(names(&Choice { rotate: Some(5), ..Choice::default() }).len(), 1);
        assert!("0/2".parse::<Share>().is_err() && "3/2".parse::<Share>().is_err());
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let choice = Choice { names: vec!["x".into()], ..Choice::default() };
        assert!(choice.pick(vec![mistake("a")]).is_err());
    }

    #[test]
    fn a_catch_is_read_from_its_line() {
        let by = Catch { by: "I1".into(), after: "2 seeds, 640 virtual s".into(), what: "x: a, b".into() };
        assert_eq!(caught("caught by I1 after 2 seeds, 640 virtual s: x: a, b"), Some(by));
        assert_eq!(caught("nothing caught in 2 seeds"), None);
    }

    #[test]
    fn only_the_members_of_the_manifest_change() {
        let fewer = with_fewer_members("[workspace]\nmembers = [\n    \"a\",\n]\n\n[x]\ny = []\n").unwrap();
        assert_eq!(fewer, format!("[workspace]\nmembers = {MEMBERS:?}\n\n[x]\ny = []\n"));
    }

    #[test]
    fn what_one_net_has_caught_stays_when_another_writes() {
        let row = |by: &str| {
            let (by, after, what) = (by.into(), "2".into(), "w".into());
            [("a".to_owned(), Catch { by, after, what })]
        };
        let first = document("", &[mistake("a")], Some(("model", &row("I1"))));
        let both = document(&first, &[mistake("a")], Some(("sim", &row("I2"))));
        assert!(both.contains("| a | I1 | 2 | w |") && both.contains("| a | I2 | 2 | w |"));
        assert_eq!(document(&both, &[mistake("a")], None), both);
    }

    #[test]
    fn the_document_tells_of_every_mistake() {
        let written = fs::read_to_string(document_path()).expect("read docs/planted-mistakes.md");
        let fresh = document(&written, &all().expect("every header is complete"), None);
        assert!(written == fresh, "run: cargo sim mistakes --write");
    }

    #[test]
    fn every_mistake_still_fits_the_core() {
        let scratch = Scratch::open().expect("a place for the copy");
        for mistake in all().expect("every header is complete") {
            scratch.prepare(&mistake).unwrap_or_else(|error| panic!("{}: {error:#}", mistake.name));
        }
    }
}
