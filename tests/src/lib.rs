//! The lab, scenarios, parity of fakes with the real things, and the programs behind cargo demo and cargo verify.
