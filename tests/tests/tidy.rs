//! What no linter knows about this repository.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

mod tidy {
    use super::*;

    #[test]
    fn functions_fit_on_a_page() {
        let long: Vec<String> = files("rs").iter().flat_map(|path| long_functions(path)).collect();
        assert!(long.is_empty(), "functions of more than {FUNCTION_LINES} lines:\n{}", long.join("\n"));
    }

    #[test]
    fn files_are_split_in_time() {
        let long = files("rs").into_iter().filter(|path| read(path).lines().count() > FILE_LINES);
        let long: Vec<String> = long.map(|path| name(&path)).collect();
        assert!(long.is_empty(), "files of more than {FILE_LINES} lines:\n{}", long.join("\n"));
    }

    #[test]
    fn nothing_names_a_place_of_one_workplace() {
        let places = [["/wo", "rk/"], ["/tmp/ta", "rget"]].map(|parts| parts.concat());
        let found = all_files().into_iter().flat_map(|path| {
            let text = read(&path);
            let hits = places.iter().filter(|place| text.contains(place.as_str()));
            hits.map(|place| format!("{}: {place}", name(&path))).collect::<Vec<_>>()
        });
        let found: Vec<String> = found.collect();
        assert!(found.is_empty(), "paths that mean nothing elsewhere:\n{}", found.join("\n"));
    }

    #[test]
    fn papers_that_are_named_exist() {
        let all = all_files();
        let exists = |paper: &String| all.iter().any(|path| path.ends_with(paper));
        let found = all.iter().flat_map(|path| {
            let missing = papers(&read(path)).into_iter().filter(|paper| !exists(paper));
            missing.map(|paper| format!("{}: {paper}", name(path))).collect::<Vec<_>>()
        });
        let found: Vec<String> = found.collect();
        assert!(found.is_empty(), "papers that aren't in this repository:\n{}", found.join("\n"));
    }

    #[test]
    fn invariants_of_the_handbook_are_in_the_code() {
        let handbook = read(&root().join("docs/invariants.md"));
        assert!(!handbook.is_empty(), "docs/invariants.md is missing");
        let (checked, open) = by_heading(&handbook, "Not yet");
        let itself = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tidy.rs");
        let code: String =
            files("rs").iter().filter(|path| **path != itself).map(|path| read(path)).collect();
        let (checked, open, coded) = (headed(&checked), headed(&open), invariants(&code));
        let missing: Vec<&String> = checked.difference(&coded).collect();
        assert!(missing.is_empty(), "checked by docs/invariants.md, but in no code: {missing:?}");
        let modest: Vec<&String> = open.intersection(&coded).collect();
        assert!(modest.is_empty(), "in code, but \"not yet\" in docs/invariants.md: {modest:?}");
        let all: BTreeSet<String> = (1..=16).map(|number| format!("I{number}")).collect();
        let silent: Vec<&String> =
            all.iter().filter(|id| !checked.contains(*id) && !open.contains(*id)).collect();
        assert!(silent.is_empty(), "docs/invariants.md says nothing about {silent:?}");
    }

    #[test]
    fn whatever_is_said_to_notice_a_hazard_is_there() {
        let page = read(&root().join("docs/hazards.md"));
        let witnesses = witnesses(&page);
        assert!(witnesses.len() > 100, "docs/hazards.md names but {} witnesses", witnesses.len());
        let code: String = files("rs").iter().map(|path| read(path)).collect();
        let exists = |name: &String| {
            code.contains(&format!("fn {name}()"))
                || root().join(name).is_file()
                || root().join("sim/mistakes").join(name).with_extension("patch").is_file()
                || primacy_tests::faults::find(name).is_some()
        };
        let missing: Vec<&String> = witnesses.iter().filter(|name| !exists(name)).collect();
        assert!(missing.is_empty(), "docs/hazards.md names what isn't there: {missing:#?}");
    }

    #[test]
    fn links_between_pages_are_alive() {
        let dead: Vec<String> = files("md").iter().flat_map(|path| dead_links(path)).collect();
        assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
    }

    #[test]
    fn changes_are_recorded() {
        assert!(root().join("CHANGELOG.md").is_file(), "there is no record of changes");
    }

    #[test]
    fn the_checks_see_what_they_look_for() {
        assert_eq!(links("a [b](c.md#d) and ![e](f.png \"g\")"), ["c.md#d", "f.png"]);
        assert_eq!(anchor("## What `cargo lab` *does*, now"), Some("what-cargo-lab-does-now".into()));
        assert_eq!(
            invariants("I1, I16, I17, XI3 and I12."),
            BTreeSet::from(["I1", "I12", "I16"].map(String::from))
        );
        let table = "| A01 | `a` | b | `c`, `d/e.rs`; mistake `f` |\n`g`\n";
        assert_eq!(witnesses(table), BTreeSet::from(["c", "d/e.rs", "f"].map(String::from)));
        let (before, below) =
            by_heading("# a\n### I1: x\n## Not yet\n### I2: y, not I3\n## Then\nb", "Not yet");
        assert_eq!(
            (before.as_str(), below.as_str()),
            ("# a\n### I1: x\n## Then\nb\n", "### I2: y, not I3\n")
        );
        assert_eq!(headed("### I2: y\nsee I3\n"), BTreeSet::from(["I2".to_string()]));
        let paper = ["THIS", ".md"].concat();
        assert_eq!(papers(&format!("as {paper} and x.md say")), [paper]);
        let text = "    fn f() {\n        1\n    }\n";
        assert_eq!(function_lengths(text), [("f".to_string(), 1, 3)]);
    }
}

const FUNCTION_LINES: usize = 80;
const FILE_LINES: usize = 900;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_path_buf()
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// A file's text, empty if it isn't text or isn't there.
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// All files of the repository but what is built or generated. In a worktree, `.git` is a file.
fn all_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("list a directory").flatten() {
            let path = entry.path();
            let skip = [".git", "target", "proto"].iter().any(|name| path.ends_with(name));
            match path.is_dir() {
                _ if skip => {}
                true => open.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

fn files(extension: &str) -> Vec<PathBuf> {
    all_files().into_iter().filter(|path| path.extension().is_some_and(|e| e == extension)).collect()
}

fn long_functions(path: &Path) -> Vec<String> {
    let long = function_lengths(&read(path)).into_iter().filter(|(_, _, lines)| *lines > FUNCTION_LINES);
    long.map(|(function, line, lines)| format!("{}:{line}: {function}, {lines} lines", name(path))).collect()
}

/// Name, line and length of each function, by the indentation that rustfmt gives it.
fn function_lengths(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(function) = function_name(line) else { continue };
        let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
        if let Some(length) = lines[index..].iter().position(|later| *later == end) {
            found.push((function, index + 1, length + 1));
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "fn")?;
    let qualifiers = ["pub", "pub(crate)", "pub(super)", "async", "const", "unsafe", "extern"];
    if line.trim_end().ends_with(['}', ';']) || !words[..at].iter().all(|word| qualifiers.contains(word)) {
        return None;
    }
    let rest = words.get(at + 1)?;
    Some(rest.split(['(', '<']).next().unwrap_or(rest).to_string())
}

/// File names in capitals, as papers at the top of a repository have.
fn papers(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_' && c != '-');
    let words = words.map(|word| word.trim_end_matches('.'));
    let capital = |word: &&str| {
        let stem = word.strip_suffix(".md").unwrap_or_default();
        stem.len() > 2 && stem.chars().all(|c| c.is_ascii_uppercase() || c == '_')
    };
    words.filter(capital).map(String::from).collect()
}

/// Ids I1 to I16 that stand alone.
fn invariants(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let known = |word: &&str| {
        word.strip_prefix('I').and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| (1..=16).contains(&n))
    };
    words.filter(known).map(String::from).collect()
}

/// What stands in backticks in the last column of tables.
fn witnesses(page: &str) -> BTreeSet<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix('|')?.trim_end().strip_suffix('|'));
    let last = rows.filter_map(|row| row.rsplit_once('|').map(|(_, last)| last));
    last.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// Those that have a heading of their own.
fn headed(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter_map(|line| line.strip_prefix("### "));
    headings.flat_map(|heading| invariants(heading.split(':').next().unwrap_or_default())).collect()
}

/// The text without what stands below one heading of the second level, and that.
fn by_heading(text: &str, heading: &str) -> (String, String) {
    let (mut rest, mut below, mut inside) = (String::new(), String::new(), false);
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            inside = title == heading;
            if inside {
                continue;
            }
        }
        let part = if inside { &mut below } else { &mut rest };
        part.push_str(line);
        part.push('\n');
    }
    (rest, below)
}

fn dead_links(page: &Path) -> Vec<String> {
    let text = without_code(&read(page));
    let inner = links(&text).into_iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:"));
    inner.filter(|link| !is_alive(page, link)).map(|link| format!("{}: {link}", name(page))).collect()
}

fn is_alive(page: &Path, link: &str) -> bool {
    let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
    let target = match file {
        "" => page.to_path_buf(),
        file => page.parent().expect("a page is in a directory").join(file),
    };
    if fragment.is_empty() || target.extension().is_none_or(|e| e != "md") {
        return target.exists();
    }
    without_code(&read(&target)).lines().filter_map(anchor).any(|anchor| anchor == fragment)
}

fn without_code(text: &str) -> String {
    let mut code = false;
    let mut out = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// What stands in `](…)`.
fn links(text: &str) -> Vec<String> {
    let starts = text.match_indices("](").map(|(at, found)| at + found.len());
    let inner = starts.filter_map(|start| Some(&text[start..start + text[start..].find(')')?]));
    inner.filter_map(|inner| inner.split_whitespace().next()).map(String::from).collect()
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(line: &str) -> Option<String> {
    let title = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?;
    let kept = title.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    Some(kept.map(|c| if c == ' ' { '-' } else { c }).collect())
}
