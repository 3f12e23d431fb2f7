//! The faults a lab can inflict, each a short story, and how one is run and judged.

mod base64;
mod catalogue;
mod run;
mod scene;
mod store;
pub mod text;

pub use catalogue::{ALL, Fault, QUICK, Story, find};
pub use run::{Outcome, prepare, renew, run};
pub(crate) use run::{SETTLED, wait_healthy};
pub use scene::{Mark, STORE_PORTS, Scene};
pub use store::Store;

use std::time::Duration;

/// After a fault, and before one, the cluster must be healthy within this time.
pub const HEALTHY_WITHIN: Duration = Duration::from_secs(60);
