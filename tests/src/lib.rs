//! The lab: clusters of real processes with faults, a counting client and a judgement, and the programs behind
//! `cargo lab`, `cargo demo` and `cargo verify`.
//!
//! | module | what it is |
//! |---|---|
//! | [`network`] | hosts' network namespaces and the user-space switch that passes, drops or delays their packets |
//! | [`host`] | what runs inside a host: its first process, which is also its service manager, and the files it needs |
//! | [`keeper`] | the process that owns switch and hosts and does what it is told over a socket |
//! | [`lab`] | a running lab, seen from outside: the handle all programs use |
//! | [`client`] | clients that write all the time, and the poller of the agents' REST interface |
//! | [`judge`] | outage, loss, two writers: pure functions over what the clients saw |
//! | [`faults`] | the catalogue of faults, and how one is run |
//! | [`chaos`] | faults drawn from a seed, at random moments, for as long as one likes |
//! | [`record`] | what the agents logged: how reigns began, and by which way nodes came back |
//! | [`journals`] | the agents' journals, given to the core once more |
//! | [`report`] | the same outcome for people and as JSON |
//! | [`packages`] | the Debian packages a lab needs |
//! | [`parts`] | the parts of `cargo verify` |

pub mod chaos;
pub mod client;
pub mod faults;
pub mod host;
pub mod journals;
pub mod judge;
pub mod keeper;
pub mod lab;
pub mod network;
pub mod packages;
pub mod parts;
pub mod place;
pub mod record;
pub mod report;
pub mod time;
