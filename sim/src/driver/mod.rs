//! The agent's async loop, unchanged, under madsim over the same world.
//!
//! What differs from [`run`](crate::run): there the world holds the nodes and hands them their inputs; here
//! [`primacy_driver::run`] does, one task for each agent, and the world keeps copies of the nodes for the invariants.
//! madsim has the clock and the order in which tasks are polled, drawn from the seed. It sleeps at least a millisecond,
//! so what is due within the same millisecond happens together.
//!
//! A frozen agent or a suspended host isn't polled; an agent that dies is dropped, wherever it waits.

mod life;
mod promises;
mod stage;
mod traits;

use crate::plan::Plan;
use crate::run::{Outcome, Run};
use madsim::runtime::Runtime;
use stage::Stage;

/// Runs a plan to its end, or to the first violation. An agent that panics is one.
pub fn run(seed: u64, plan: &Plan, with_story: bool) -> Outcome {
    let whole = plan.clone();
    // The order of hash maps and other things that hang on a thread are the same only on a fresh one.
    let thread = std::thread::spawn(move || {
        let runtime = Runtime::with_seed_and_config(seed, madsim::Config::default());
        runtime.block_on(conduct(Run::new(seed, &whole, true, with_story)))
    });
    thread.join().expect("only agents panic, and that is noticed")
}

async fn conduct(run: Run) -> Outcome {
    let stage = Stage::new(run);
    while stage.due().await {
        stage.next();
    }
    stage.end()
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::plan;

    #[test]
    fn a_seed_run_twice_is_the_same_to_the_last_byte() {
        for seed in [3, 8] {
            let plan = plan::from_seed(seed, 300_000);
            let (one, two) = (run(seed, &plan, true), run(seed, &plan, true));
            assert!(one.story.contains("leads epoch 1"), "nothing happened: {}", one.story);
            assert_eq!(one.story, two.story);
            assert_eq!(one.fingerprint, two.fingerprint);
            assert_eq!(one.counts, two.counts);
        }
    }

    #[test]
    fn another_seed_is_another_run() {
        let plan = plan::from_seed(3, 60_000);
        assert_ne!(run(3, &plan, false).fingerprint, run(4, &plan, false).fingerprint);
    }
}
