//! The deciding state machine of Primacy.
//!
//! [`Node`] decides what one member of a cluster does. It has no clock, does no I/O and draws nothing at random:
//! [`Node::handle`] takes the time and an [`Input`] and returns the [`Effect`]s to carry out; every effect that can be
//! answered has an [`OpId`], and its answer is an input again. The same code runs in the agent, in the simulator and
//! in the model checker.
//!
//! Where to read on:
//!
//! | question | module |
//! |---|---|
//! | what can a node learn, what can it ask for? | [`input`], [`effect`], [`store`], [`instance`] |
//! | until when may PostgreSQL be writable? | [`lease`] |
//! | who may stand for election? | [`election`] |
//! | is a copy of the data part of the elected history? | [`lineage`] |
//! | what does a node do in each role? | [`role`] |
//! | why was something done? | [`event`] |

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod config;
pub mod effect;
pub mod election;
pub mod event;
mod ids;
pub mod input;
pub mod instance;
pub mod lease;
pub mod lineage;
mod node;
pub mod rebuild;
mod requests;
pub mod role;
pub mod store;
mod time;
pub mod touch;

pub use config::{BadConfig, Config};
pub use effect::Effect;
pub use event::Event;
pub use ids::{
    Boot, CopyId, Epoch, Lsn, MachineId, Name, Nonce, OpId, Position, RequestId, Revision, SystemId,
};
pub use input::{Command, Guard, Input};
pub use node::{Node, Timer};
pub use role::Role;
pub use time::{Span, Time};
