//! The loop around the core: it waits for whatever comes first, tells the [`Node`], and has the effects carried out.
//!
//! It decides nothing and knows no runtime; what it needs of the world are four traits. The agent implements them with
//! etcd, PostgreSQL and the guard, the simulator with values.
//!
//! What the driver promises the core, whatever the implementations do:
//!
//! - **Every request ends.** A store request is answered by its `until`, as unknown if need be, and a late answer is
//!   dropped. An order to PostgreSQL ends a little after its `until`, a guard has [`ARM_PATIENCE`] to acknowledge
//!   (invariant I13).
//! - **One order at a time.** A new one drops the future of the one before, and with it what that one was doing.
//! - **No stale look.** While an order is carried out the instance isn't asked for reports; one begun before is
//!   dropped, as it may show a state from before the order.
//! - **Attention in a fixed order**: the guard, answers, the timer, then everything else. Nothing is left to chance, so
//!   a run in the simulator can be repeated.
//!
//! Everything runs in the one task that awaits [`run`]: futures need not be `Send`.

#![forbid(unsafe_code)]

mod bounded;
mod lanes;
mod run;
#[cfg(test)]
mod tests;

use primacy_core::effect::Reply;
use primacy_core::instance::{Found, Order, Performed};
use primacy_core::store::{News, Request, Response};
use primacy_core::{Command, Epoch, Event, Guard, Input, Node, RequestId, Span, Time};
use std::future::Future;

pub use run::{Exit, run};

/// How long a guard may take to acknowledge a fence before it counts as lost.
pub const ARM_PATIENCE: Span = Span::millis(500);

/// How much longer than its `until` an order to PostgreSQL is waited for. Orders watch their time themselves and then
/// say how the instance is left; this is for one that doesn't.
pub const ORDER_GRACE: Span = Span::millis(250);

/// A clock that counts suspended time.
pub trait Clock {
    /// The time now. Never goes back.
    fn now(&self) -> Time;
    /// Ends at `time`, or at once if that has passed.
    fn sleep_until(&self, time: Time) -> impl Future<Output = ()>;
}

/// The store of the cluster's records.
pub trait Store {
    /// Carries out a request and answers by `until`. If it is dropped, its outcome is unknown.
    fn ask(&self, request: Request, until: Time) -> impl Future<Output = Response>;
    /// The next news of the watch. Dropped futures lose nothing: the next call says it.
    fn news(&self) -> impl Future<Output = News>;
}

/// The local PostgreSQL instance and its guard.
pub trait Postgres {
    /// Carries out an order. If it is dropped the order is cancelled, and no process that it started for itself (a
    /// base backup, say) is left.
    fn perform(&self, order: Order) -> impl Future<Output = Performed>;
    /// The next thing the instance says by itself. It is dropped whenever an order is given, and called anew after.
    fn report(&self) -> impl Future<Output = Found>;
    /// Moves the guard's fence to `until`, and says how the guard stands once it has acknowledged. Starts a guard if
    /// there is none.
    fn arm(&self, epoch: Epoch, until: Time) -> impl Future<Output = Guard>;
    /// The next thing the guard says by itself: its death, or its state when it was found at the start.
    fn guard(&self) -> impl Future<Output = Guard>;
}

/// Everybody else: operators, logs, the journal.
pub trait Outside {
    /// A fact for log, metrics and history.
    fn tell(&self, now: Time, event: &Event);
    /// The answer to an operator's command.
    fn reply(&self, request: RequestId, reply: Reply);
    /// The next command of an operator. Dropped futures lose nothing.
    fn next_command(&self) -> impl Future<Output = (RequestId, Command)>;
    /// Called after each input, before its effects are carried out: for the journal, and to publish the state.
    fn handled(&self, now: Time, input: &Input, node: &Node);
}
