//! The agent beside each PostgreSQL instance.

mod api;
mod board;
mod cli;
mod clock;
mod config;
mod drain;
mod journal;
mod outside;
mod patroni;
mod store;
mod telemetry;

fn main() {}
