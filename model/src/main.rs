//! The world of Primacy explored exhaustively.

fn main() {}
