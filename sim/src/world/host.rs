//! One host: its clock, its agent, its guard, its PostgreSQL. Each fails by itself.

use super::event::FlightId;
use super::postgres::Postgres;
use primacy_core::instance::{Order, Performed, Saved};
use primacy_core::store::{News, Request, Response};
use primacy_core::{Boot, CopyId, Epoch, Guard, Node, OpId, Role, Time};

/// A host as a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// It has power.
    pub up: bool,
    /// It is suspended.
    pub suspended: bool,
    /// Its clock.
    pub clock: Clock,
    /// The agent's process.
    pub agent: Agent,
    /// The agent is going to be stopped just after its next request to the store.
    pub freezes_asking: bool,
    /// The agent is going to be killed in the middle of its next rewind.
    pub dies_rewinding: bool,
    /// An operator is going to ask for a new copy, at no loss, once a rewind fails.
    pub impatient: bool,
    /// The operator who asked something of it last accepts a loss.
    pub consents: bool,
    /// The copy that an operator wants replaced.
    pub given_up: Option<CopyId>,
    /// How often it has started.
    pub starts: u32,
    /// The random mark of the agent's next life.
    pub boot: Boot,
    /// The guard's process.
    pub guard: Warden,
    /// The instance.
    pub postgres: Postgres,
    /// What is durable beside the data.
    pub saved: Saved,
    /// The order under way.
    pub order: Option<(OpId, Order)>,
    /// Requests to the store that were not answered yet, and until when the agent waits for each.
    pub waiting: Vec<(OpId, Time)>,
}

/// A clock that counts suspended time, at a rate of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Clock {
    /// What it shows at the world's time 0, or is ahead or behind by in a model.
    pub offset: i64,
    /// How much faster than true time it runs, in parts per million.
    pub ppm: i64,
    /// Ticks until it may lose another one (models only).
    pub rests: u8,
}

impl Clock {
    /// What the clock shows at true time `now`.
    pub fn at(&self, now: u64) -> Time {
        let drift = i128::from(now) * i128::from(self.ppm) / 1_000_000;
        let shown = i128::from(now) + drift + i128::from(self.offset);
        Time(u64::try_from(shown).unwrap_or(0))
    }

    /// The first true time at which it shows at least `time`.
    pub fn when(&self, time: Time) -> u64 {
        let wanted = i128::from(time.0) - i128::from(self.offset);
        let exact = wanted * 1_000_000 / (1_000_000 + i128::from(self.ppm));
        u64::try_from(exact).unwrap_or(0) + u64::from(self.ppm != 0)
    }
}

/// The agent's process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Agent {
    /// Not running.
    Down,
    /// Running.
    Up(Box<Node>),
    /// Stopped by a signal, or starved.
    Frozen(Box<Node>),
}

/// The guard's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Warden {
    /// Not running.
    Dead,
    /// Lets PostgreSQL run in recovery only.
    Idle,
    /// Kills it at `until`.
    Armed {
        /// The reign.
        epoch: Epoch,
        /// The fence, on the host's clock.
        until: Time,
    },
}

impl Warden {
    /// As the agent hears of it.
    pub fn heard(self) -> Guard {
        match self {
            Warden::Dead => Guard::Lost,
            Warden::Idle => Guard::Idle,
            Warden::Armed { epoch, until } => Guard::Armed { epoch, until },
        }
    }
}

/// Something on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flight {
    /// Its number.
    pub id: FlightId,
    /// The host it comes from or goes to.
    pub host: u8,
    /// What it is.
    pub cargo: Cargo,
    /// A request, or its answer, that takes its time or gets lost, where the others don't (models only).
    pub stalled: bool,
}

/// What can be on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cargo {
    /// A request to the store.
    Ask(OpId, Request),
    /// Its answer.
    Answer(OpId, Response),
    /// News from the watch.
    News(News),
    /// The outcome of an order.
    Done(OpId, Performed),
    /// A fence for the guard.
    Arm(Epoch, Time),
    /// News from the guard.
    Guard(Guard),
}

impl Host {
    /// The node, if the agent runs and isn't frozen.
    pub fn running(&self) -> Option<&Node> {
        match &self.agent {
            Agent::Up(node) if self.awake() => Some(node),
            Agent::Up(_) | Agent::Down | Agent::Frozen(_) => None,
        }
    }

    /// The node, running or frozen.
    pub fn node(&self) -> Option<&Node> {
        match &self.agent {
            Agent::Up(node) | Agent::Frozen(node) => Some(node),
            Agent::Down => None,
        }
    }

    /// Whether its clock times a lease of its own: one that its agent holds or asks for, or that its guard watches.
    pub fn times_a_lease(&self) -> bool {
        let held = |node: &Node| node.lease().is_some() || matches!(node.role(), Role::Claiming(_));
        self.up && (matches!(self.guard, Warden::Armed { .. }) || self.node().is_some_and(held))
    }

    /// Whether anything can happen on this host.
    pub fn awake(&self) -> bool {
        self.up && !self.suspended
    }

    /// Whether the agent can take an input.
    pub fn listens(&self) -> bool {
        self.awake() && matches!(self.agent, Agent::Up(_))
    }
}
