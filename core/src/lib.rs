//! The deciding state machine of Primacy: no clock, no I/O, no randomness.
