//! What a node is doing. Each role has a file of its own; a step looks at everything the node knows and either orders
//! what the role demands, or goes over to another role.
//!
//! | role | means |
//! |---|---|
//! | [`Starting`](Role::Starting) | has not yet seen the store and its own instance |
//! | [`Vacant`](Role::Vacant) | has no data: waits for its turn to make or copy some |
//! | [`Bootstrap`](Role::Bootstrap) | makes the first data directory of the cluster |
//! | [`Standby`](Role::Standby) | follows the primary, or looks for one |
//! | [`Candidate`](Role::Candidate) | has closed its WAL sources and compares positions |
//! | [`Claiming`](Role::Claiming) | asks the store for the lease |
//! | [`Promoting`](Role::Promoting) | holds the lease, PostgreSQL isn't writable yet |
//! | [`Primary`](Role::Primary) | holds the lease, PostgreSQL is writable |
//! | [`Leaving`](Role::Leaving) | makes PostgreSQL stop, then gives the lease back |
//! | [`Frozen`](Role::Frozen) | needs an operator |
//! | [`Stopped`](Role::Stopped) | the agent is about to exit |

pub mod candidate;
pub mod claiming;
pub mod leaving;
pub mod primary;
mod promoting;
mod standby;
mod starting;
mod vacant;

use crate::event::Frozen;
use crate::instance::{Instance, Op};
use crate::node::{Blind, Node, Out, Timer, UNORDERED};
use crate::store::{EpochRecord, Initialize, Key, Record, Rule};
use crate::{Effect, Event, Name, Time};
use alloc::vec;
pub use candidate::Candidate;
pub use claiming::Claim;
pub use leaving::Leaving;
pub use primary::Reigning;

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the table in the module's documentation")]
pub enum Role {
    Starting,
    Vacant,
    Bootstrap,
    Standby,
    Candidate(Candidate),
    Claiming(Claim),
    Promoting,
    Primary(Reigning),
    Leaving(Leaving),
    Frozen(Frozen),
    Stopped,
}

impl Role {
    /// The role's name in one word, for people and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Role::Starting => "starting",
            Role::Vacant => "vacant",
            Role::Bootstrap => "bootstrap",
            Role::Standby => "standby",
            Role::Candidate(_) => "candidate",
            Role::Claiming(_) => "claiming",
            Role::Promoting => "promoting",
            Role::Primary(_) => "primary",
            Role::Leaving(_) => "leaving",
            Role::Frozen(_) => "frozen",
            Role::Stopped => "stopped",
        }
    }
}

impl Node {
    /// Does what the role demands. Says whether the role changed, so that the new one has to be looked at, too.
    pub(crate) fn step(&mut self, out: &mut Out) -> bool {
        let next = match &self.role {
            Role::Starting => self.starting(out),
            Role::Vacant => self.vacant(out),
            Role::Bootstrap => self.bootstrap(out),
            Role::Standby => self.standby(out),
            Role::Candidate(_) => self.candidate(out),
            Role::Claiming(_) => self.claiming(out),
            Role::Promoting => self.promoting(out),
            Role::Primary(_) => self.primary(out),
            Role::Leaving(_) => self.leaving(out),
            Role::Frozen(_) => self.frozen(out),
            Role::Stopped => None,
        };
        match next {
            Some(role) => {
                self.role = role;
                true
            }
            None => false,
        }
    }

    pub(crate) fn role_timers(&self, timer: &mut dyn FnMut(Time, Timer)) {
        match &self.role {
            Role::Vacant => self.vacant_timers(timer),
            Role::Standby => self.standby_timers(timer),
            Role::Candidate(candidate) => self.candidate_timers(candidate, timer),
            Role::Primary(_) => self.primary_timers(timer),
            Role::Starting
            | Role::Bootstrap
            | Role::Claiming(_)
            | Role::Promoting
            | Role::Leaving(_)
            | Role::Frozen(_)
            | Role::Stopped => {}
        }
    }

    /// What keeps a node without a lease from doing anything: a reason to freeze, or the wish to exit.
    pub(crate) fn held_back(&mut self, out: &mut Out) -> Option<Role> {
        if let Some(why) = self.frozen {
            out.tell(Event::Froze { why });
            return Some(Role::Frozen(why));
        }
        if self.exiting {
            return self.stop_and_exit(out);
        }
        None
    }

    /// Frozen: starts nothing and stands for nothing; what runs in recovery goes on, what is writable is killed.
    fn frozen(&mut self, out: &mut Out) -> Option<Role> {
        if matches!(self.instance, Instance::Primary { .. }) {
            self.kill(out);
        }
        self.write_down_what_was_forgotten(out);
        if self.exiting { self.stop_and_exit(out) } else { None }
    }

    /// See [`store_is_behind`](Node::store_is_behind). What any claim compares is written anew with it: one that is on its
    /// way, by somebody who doesn't know of this yet, is refused.
    fn write_down_what_was_forgotten(&mut self, out: &mut Out) {
        let Some(Frozen::StoreWentBack { seen, .. }) = self.frozen else { return };
        if self.stale || self.view.epochs.last_key_value().is_some_and(|(known, _)| *known >= seen) {
            return;
        }
        let followed = self.saved.lineage.iter().find(|(epoch, _)| *epoch == seen);
        let (holder, nonce) = (Name::from(""), followed.map_or(UNORDERED, |(_, nonce)| *nonce));
        let record = EpochRecord { epoch: seen, holder, nonce, fork: None, checkpointed: false };
        let mut put = vec![Record::Epoch(record)];
        match (&self.view.rule, &self.view.initialize) {
            (Some(rule), _) => put.push(Record::Rule(Rule::clone(&rule.value))),
            (None, Some(founded)) => put.push(Record::Initialize(Initialize::clone(&founded.value))),
            (None, None) => {}
        }
        self.ask_to_put(out, &[Key::Reign], put);
    }

    /// Stops a PostgreSQL that this node has no lease for, then exits.
    fn stop_and_exit(&mut self, out: &mut Out) -> Option<Role> {
        match self.instance {
            Instance::Primary { .. } => self.kill(out),
            Instance::Standby { .. } => self.order_instead(out, Op::Stop),
            Instance::Unknown => match self.blind {
                Blind::Untried => self.order(out, Op::Look),
                Blind::Looked => self.kill(out),
                Blind::Killed => return self.exit(out),
            },
            Instance::Absent | Instance::Incomplete | Instance::Foreign(_) | Instance::Stopped { .. } => {
                return self.exit(out);
            }
        }
        None
    }

    /// Exits once nothing is under way any more that could start a process.
    fn exit(&mut self, out: &mut Out) -> Option<Role> {
        if self.lane.is_some() {
            self.kill(out);
            return None;
        }
        out.tell(Event::Stopped);
        out.push(Effect::Exit);
        Some(Role::Stopped)
    }
}
