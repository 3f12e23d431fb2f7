//! Makes a failing plan as simple as it still fails.

use crate::engine::Engine;
use crate::plan::{self, Plan};
use crate::run::Outcome;

/// Tries at most this many simpler plans.
const TRIES: usize = 2_000;

/// The simplest plan found that still breaks the same invariant, with its outcome and story.
pub fn shrink(engine: Engine, seed: u64, length_ms: u64) -> (Plan, Outcome) {
    let mut tree = plan::tree(seed, length_ms);
    let mut best = tree.current();
    let outcome = engine.run(seed, &best, false);
    let Some(id) = outcome.violation.as_ref().map(|violation| violation.id) else { return (best, outcome) };
    let mut tries = 0;
    let mut simpler = tree.simplify();
    while simpler && tries < TRIES {
        tries += 1;
        let candidate = tree.current();
        let again = engine.run(seed, &candidate, false);
        simpler = if again.violation.as_ref().is_some_and(|violation| violation.id == id) {
            best = candidate;
            tree.simplify()
        } else {
            tree.complicate()
        };
    }
    let outcome = engine.run(seed, &best, true);
    (best, outcome)
}
