//! Who runs the agents' nodes.

use crate::plan::Plan;
use crate::run::Outcome;
use crate::{driver, run};
use serde::{Deserialize, Serialize};

/// One of two ways to run the same plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// The world hands the nodes their inputs itself: far faster, and every event has its own moment.
    World,
    /// The agent's async loop does, under madsim.
    Driver,
}

impl Engine {
    /// Runs a plan to its end, or to the first violation.
    pub fn run(self, seed: u64, plan: &Plan, with_story: bool) -> Outcome {
        match self {
            Engine::World => run::run(seed, plan, with_story),
            Engine::Driver => driver::run(seed, plan, with_story),
        }
    }

    /// The command that runs a single seed.
    pub fn command(self) -> &'static str {
        match self {
            Engine::World => "cargo sim run",
            Engine::Driver => "cargo sim driver",
        }
    }
}
