//! The state machine as it was really seen: which role led to which, and which kinds of input were taken in each.

use crate::run::{self, Counts};
use crate::world::Move;
use crate::{plan, report};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// How many seeds are looked at; the same ones each time.
const SEEDS: u64 = 600;

/// What these seeds have really done.
pub fn seen() -> BTreeSet<Move> {
    let mut counts = Counts::default();
    for seed in 0..SEEDS {
        report::add(&mut counts, &run::run(seed, &plan::from_seed(seed, 300_000), false).counts);
    }
    counts.moves.into_keys().collect()
}

/// `docs/state-machine.md`, made anew.
pub fn document() -> String {
    let mut text = String::from(
        "# The state machine\n\nWritten by `cargo sim states --write` from what 600 seeded runs have really done, so it \
         can't be out of date\nwithout a test noticing. What each role means: `core/src/role/mod.rs`.\n\n## Roles\n\n\
         ```mermaid\nstateDiagram-v2\n    [*] --> starting\n",
    );
    let mut edges: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    let mut taken: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (before, input, after) in &seen() {
        if before != after {
            edges.entry((*before, *after)).or_default().insert(*input);
        }
        taken.entry(*before).or_default().insert(*input);
    }
    for ((before, after), inputs) in &edges {
        let inputs: Vec<_> = inputs.iter().copied().collect();
        writeln!(text, "    {before} --> {after}: {}", inputs.join(", ")).expect("writing to a string");
    }
    text.push_str("```\n\n## Inputs taken in each role\n\n| role | inputs |\n|---|---|\n");
    for (role, inputs) in &taken {
        let inputs: Vec<_> = inputs.iter().copied().collect();
        writeln!(text, "| {role} | {} |", inputs.join(", ")).expect("writing to a string");
    }
    text
}

/// Where it belongs.
pub fn path() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/state-machine.md")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_document_is_what_the_seeds_do() {
        let written = std::fs::read_to_string(super::path()).expect("read docs/state-machine.md");
        assert!(written == super::document(), "run: cargo sim states --write");
    }
}
