//! Chaos: faults drawn from a seed, several at a time, under load, for as long as one likes.
//!
//! | module | what it is |
//! |---|---|
//! | [`plan`] | which faults happen when: pure, from a seed |
//! | `random` | the generator that draws it |
//! | `hand` | inflicts a fault on a lab, and undoes it |
//! | `run` | the loop: rounds of faults, and a checkpoint after each |
//! | `losses` | what members report of the rows they have discarded |
//! | [`verdict`] | what came of it, in words and as JSON |
//! | [`interrupt`] | Ctrl-C, which asks for a verdict so far |

mod hand;
pub mod interrupt;
mod losses;
pub mod plan;
mod random;
mod run;
pub mod verdict;

pub use hand::Hand;
pub use plan::{Kind, Planned, Trouble, Victim, Whom};
pub use run::{Options, run};
