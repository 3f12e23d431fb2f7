//! Makes a failing plan as simple as it still fails.

use crate::plan::{self, Plan};
use crate::run::{self, Outcome};

/// Tries at most this many simpler plans.
const TRIES: usize = 2_000;

/// The simplest plan found that still breaks the same invariant, with its outcome and story.
pub fn shrink(seed: u64, length_ms: u64) -> (Plan, Outcome) {
    let mut tree = plan::tree(seed, length_ms);
    let mut best = tree.current();
    let outcome = attempt(seed, &best);
    let Some(id) = outcome.violation.as_ref().map(|violation| violation.id) else { return (best, outcome) };
    let mut tries = 0;
    let mut simpler = tree.simplify();
    while simpler && tries < TRIES {
        tries += 1;
        let candidate = tree.current();
        let again = attempt(seed, &candidate);
        simpler = if again.violation.as_ref().is_some_and(|violation| violation.id == id) {
            best = candidate;
            tree.simplify()
        } else {
            tree.complicate()
        };
    }
    let outcome = run::run(seed, &best, true);
    (best, outcome)
}

fn attempt(seed: u64, plan: &Plan) -> Outcome {
    run::run(seed, plan, false)
}
