//! The agent beside each PostgreSQL instance.

mod clock;
mod config;
mod drain;
mod journal;
mod store;
mod telemetry;

fn main() {}
