//! The world of Primacy as values, explored at random from seeds.

#[cfg(not(madsim))]
compile_error!(
    "build with --cfg madsim: .cargo/config.toml sets it, but an exported RUSTFLAGS, or building from outside the \
     workspace, hides that file"
);

pub mod driver;
pub mod engine;
pub mod exhaust;
pub mod invariants;
pub mod journal;
pub mod junit;
pub mod mistakes;
pub mod plan;
pub mod regressions;
pub mod report;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod shrink;
pub mod states;
pub mod world;
