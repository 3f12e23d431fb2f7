//! The agent beside each PostgreSQL instance.

mod config;

fn main() {}
