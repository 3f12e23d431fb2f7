//! The agent beside each PostgreSQL instance.

fn main() {}
