//! The world around the nodes, as a value: a store, hosts with clocks, guards and PostgreSQL instances, what is on its
//! way between them, and clients.
//!
//! [`World::apply`] is the one transition relation: the simulator draws an event and applies it, the model checker
//! applies each of [`World::events`], a replay reads them from a file. An event that can't happen (any more) changes
//! nothing, so a list of events stays meaningful when some are dropped.

pub mod agent;
pub mod enumerate;
pub mod event;
pub mod faults;
pub mod host;
mod ills;
pub mod orders;
pub mod postgres;
mod rebuild;
mod settle;
pub mod store;
mod watch;

use event::{Event, FlightId, HostId, Site};
use host::{Agent, Cargo, Clock, Flight, Host, Warden};
use postgres::{Postgres, Process, Timeline};
use primacy_core::instance::Saved;
use primacy_core::store::{Reign, View};
use primacy_core::{Boot, Command, Config, Epoch, Input, Lsn, Name, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use store::Store;

/// What stays the same in a world, and what can happen in it at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// The settings of each host's node; the number of hosts.
    pub configs: Vec<Arc<Config>>,
    /// What stays on a host takes no time, and news from the store arrive at once or not at all (models).
    pub instant: bool,
    /// The nodes in this world are copies: something outside runs them and says how they are after each input.
    pub outside: bool,
    /// What may happen when all events are listed.
    pub bounds: enumerate::Bounds,
}

/// It never changes, and states are hashed millions of times.
impl std::hash::Hash for Setup {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl Setup {
    /// The host of this name.
    pub fn host(&self, name: &Name) -> Option<HostId> {
        self.configs.iter().position(|config| config.me == *name).and_then(|at| u8::try_from(at).ok())
    }
}

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// What stays the same.
    pub setup: Arc<Setup>,
    /// True time.
    pub now: u64,
    /// The store.
    pub store: Store,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// Everything on its way, oldest first.
    pub flights: Vec<Flight>,
    /// The number of the next thing on its way.
    pub next_flight: FlightId,
    /// Directed links that pass nothing.
    pub cuts: BTreeSet<(Site, Site)>,
    /// The store as somebody has saved it.
    pub backup: Option<Arc<View>>,
    /// What the invariants need to remember.
    pub record: Record,
    /// How many faults of each bounded kind have happened (models).
    pub spent: enumerate::Spent,
}

/// What no node knows, but an invariant has to remember.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    /// Every promotion that ever was: number → who, and from where.
    pub promotions: BTreeMap<Epoch, Timeline>,
    /// A timeline number that was used twice.
    pub reused: Option<Epoch>,
    /// The last acknowledged commit of each timeline.
    pub acknowledged: BTreeMap<(Epoch, HostId), Lsn>,
    /// A host that took WAL from a source whose history isn't its own.
    pub misjoined: Option<HostId>,
    /// The reign that somebody stands for as the one it was handed to, and who that is.
    pub handed: Option<(Epoch, HostId)>,
    /// What the store had before it was exchanged, until it is made anew.
    pub forgotten: Option<Arc<View>>,
    /// A reign that was taken of a store that went back before anybody who knew of it could say so: no rule can prevent
    /// that (decision 17).
    pub unwarned: Option<Epoch>,
    /// One was taken so since the store was last exchanged.
    pub retaken: bool,
    /// What must not have happened to a copy of the data.
    pub wrong: Option<(HostId, Wrong)>,
}

/// What must not happen to a copy of the data, or by means of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrong {
    /// Commits of the elected history were discarded of which there was no other copy.
    Destroyed,
    /// A copy was discarded that was part of the elected history as it was.
    Needless,
    /// Acknowledged commits were discarded without saying so.
    Unreported,
    /// A new copy bears the mark of another one.
    SameMark,
    /// A reign that was handed over in order began without all commits of the one before.
    Short,
    /// A copy stood for election that still replayed its own WAL.
    Unready,
    /// A loss was accepted in the name of an operator who hadn't.
    Unasked,
    /// A copy stood by itself that lacks more of what was published than its settings allow.
    TooShort,
}

/// What one step has brought about, besides the change of the world.
#[derive(Debug, Default)]
pub struct Trail {
    /// Events that have become possible; the simulator draws when they happen.
    pub possible: Vec<Event>,
    /// What the nodes have told.
    pub told: Vec<(HostId, primacy_core::Event)>,
    /// What kind of input a node took in which role, and in which role it was after that.
    pub moves: Vec<Move>,
    /// Inputs for agents that are driven from outside.
    pub inputs: Vec<(HostId, Input)>,
    /// Answers to operators.
    pub replies: Vec<(HostId, primacy_core::effect::Reply)>,
    /// Agents that exited in order.
    pub exits: Vec<HostId>,
}

/// A node's role before an input, the kind of the input, and the role after it, in one word each.
pub type Move = (&'static str, &'static str, &'static str);

impl World {
    /// An empty cluster: hosts with power, no agent running yet, no data.
    pub fn new(setup: Arc<Setup>) -> World {
        let hosts = (0..setup.configs.len()).map(|host| Host {
            up: true,
            suspended: false,
            clock: Clock::default(),
            agent: Agent::Down,
            freezes_asking: false,
            dies_rewinding: false,
            impatient: false,
            consents: false,
            given_up: None,
            starts: 0,
            boot: Boot(1_000 * (host as u64 + 1)),
            guard: Warden::Idle,
            postgres: Postgres::default(),
            saved: Saved::default(),
            order: None,
            waiting: Vec::new(),
        });
        World {
            now: 0,
            store: Store::default(),
            hosts: hosts.collect(),
            flights: Vec::new(),
            next_flight: 0,
            cuts: BTreeSet::new(),
            backup: None,
            record: Record::default(),
            spent: enumerate::Spent::default(),
            setup,
        }
    }

    /// What the store has, or had before it forgot the last reign. A reign that was taken unwarned counts, however low
    /// its number is: whoever reigned before must be gone by then.
    pub fn history(&self) -> &View {
        fn epoch(view: &View) -> Option<Epoch> {
            view.reign.as_ref().map(|reign| reign.epoch)
        }
        let now = &self.store.view;
        let before = self.record.forgotten.as_ref().filter(|_| !self.record.retaken);
        before.filter(|before| epoch(before) > epoch(now)).unwrap_or(now)
    }

    /// The last reign that was given, even if the store has forgotten it.
    pub fn reign(&self) -> Option<&Reign> {
        self.history().reign.as_ref().map(|reign| &*reign.value)
    }

    /// What this host's clock shows.
    pub fn local(&self, host: HostId) -> Time {
        self.hosts[usize::from(host)].clock.at(self.now)
    }

    /// Does what the event says. Says whether it could happen at all; if not, nothing has changed.
    pub fn apply(&mut self, event: &Event, trail: &mut Trail) -> bool {
        let happened = self.happen(event, trail);
        if happened && self.setup.instant {
            self.settle(trail);
        }
        happened
    }

    fn happen(&mut self, event: &Event, trail: &mut Trail) -> bool {
        match event {
            Event::Advance(by) => self.advance(*by),
            Event::AdvanceBut(host) => self.advance_but(*host),
            Event::Wake(host) => self.hand(*host, Input::Wake, trail),
            Event::Deliver(flight) => self.deliver(*flight, trail),
            Event::Lose(flight) => self.lose(*flight),
            Event::Stall(flight) => self.stall(*flight),
            Event::Expire(host, op) => self.expire(*host, *op, trail),
            Event::Perform(host, op) => self.perform(*host, *op, trail),
            Event::Fail(host, op) => self.fail(*host, *op, trail),
            Event::Unheard(host, op) => self.perform_unheard(*host, *op, trail),
            Event::GuardFires(host) => self.guard_fires(*host, trail),
            Event::Look(host) => self.look(*host, trail),
            Event::LookFails(host) => self.look_fails(*host, trail),
            Event::Replicate(host) => self.replicate(*host, trail),
            Event::Replayed(host) => self.replayed(*host, trail),
            Event::Commit(host) => self.commit(*host, trail),
            Event::OrphansEnd(host) => std::mem::take(&mut self.host(*host).postgres.orphans),
            Event::Fault(fault) => self.fault(*fault, trail),
            Event::Operate(host, command) => {
                let request = primacy_core::RequestId(1);
                if let Command::Failover { consent } | Command::Reinit { consent } = command {
                    self.host(*host).consents = *consent;
                }
                self.hand(*host, Input::Operator(request, command.clone()), trail)
            }
        }
    }

    /// The host of this number, to be changed.
    pub fn host(&mut self, host: HostId) -> &mut Host {
        &mut self.hosts[usize::from(host)]
    }

    /// Whether something passes from one site to the other.
    pub fn passes(&self, from: Site, to: Site) -> bool {
        let awake = |site: Site| match site {
            Site::Host(host) => self.hosts[usize::from(host)].awake(),
            Site::Store => true,
        };
        awake(from) && awake(to) && (self.cuts.is_empty() || !self.cuts.contains(&(from, to)))
    }

    fn advance(&mut self, by: u64) -> bool {
        self.now += by;
        let ticks = u8::try_from(by).unwrap_or(u8::MAX);
        for one in &mut self.hosts {
            one.clock.rests = one.clock.rests.saturating_sub(ticks);
        }
        true
    }

    fn advance_but(&mut self, slow: HostId) -> bool {
        self.advance(1);
        let rests = self.setup.bounds.drift_every;
        let clock = &mut self.host(slow).clock;
        clock.offset -= 1;
        clock.rests = rests;
        true
    }

    fn replayed(&mut self, host: HostId, trail: &mut Trail) -> bool {
        let one = self.host(host);
        let replays = one.awake() && !one.postgres.hangs() && std::mem::take(&mut one.postgres.replays);
        if replays {
            trail.possible.push(Event::Look(host));
        }
        replays
    }

    /// A client's commit: one record more, acknowledged as soon as it is flushed here (asynchronous replication).
    fn commit(&mut self, host: HostId, trail: &mut Trail) -> bool {
        let one = &mut self.hosts[usize::from(host)];
        if !one.awake() || !one.postgres.can_acknowledge() || one.postgres.hangs() {
            return false;
        }
        let Some(data) = &mut one.postgres.data else { return false };
        data.end = Lsn(data.end.0 + 1);
        let Some(timeline) = data.timeline() else { return false };
        let key = (timeline.epoch, timeline.by);
        self.record.acknowledged.insert(key, data.end);
        self.offer(host, trail);
        true
    }

    /// Lets those that stream from this host receive what is new.
    pub(crate) fn offer(&self, source: HostId, trail: &mut Trail) {
        for (host, one) in (0..).zip(&self.hosts) {
            if matches!(one.postgres.process, Process::Recovery(Some((from, _))) if from == source) {
                trail.possible.push(Event::Replicate(host));
            }
        }
    }

    /// Whether this host's walreceiver streams, and from whom.
    pub fn streams(&self, host: HostId) -> Option<HostId> {
        let one = &self.hosts[usize::from(host)];
        let Process::Recovery(Some((source, _))) = one.postgres.process else { return None };
        let from = self.hosts.get(usize::from(source))?;
        let linked = self.passes(Site::Host(source), Site::Host(host))
            && self.passes(Site::Host(host), Site::Host(source));
        let sends = from.postgres.process != Process::Down && !from.postgres.hangs() && !one.postgres.hangs();
        let (own, theirs) = (one.postgres.data.as_ref()?, from.postgres.data.as_ref()?);
        (linked && sends && own.can_stream_from(theirs)).then_some(source)
    }

    fn replicate(&mut self, host: HostId, trail: &mut Trail) -> bool {
        let Some(source) = self.streams(host) else { return false };
        let theirs = self.hosts[usize::from(source)].postgres.data.clone();
        let (Some(theirs), Some(own)) = (theirs, &mut self.host(host).postgres.data) else { return false };
        if own.end == theirs.end && own.timelines.len() == theirs.timelines.len() {
            return false;
        }
        let joins = own.timelines.iter().all(|t| theirs.timelines.contains(t) || t.start >= own.end);
        own.timelines = theirs.timelines;
        own.end = theirs.end;
        if !joins {
            self.record.misjoined = Some(host);
        }
        self.offer(host, trail);
        true
    }

    /// Puts something on its way.
    pub(crate) fn send(&mut self, host: HostId, cargo: Cargo, trail: &mut Trail) {
        let id = self.next_flight;
        self.next_flight += 1;
        self.flights.push(Flight { id, host, cargo, stalled: false });
        trail.possible.push(Event::Deliver(id));
    }
}
