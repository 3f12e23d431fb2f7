//! One run: a plan's troubles with safety checked after every step, then everything is mended and liveness demanded.
//!
//! A [`Run`] knows when its next step is due and takes it. What waits in between is another's: here nothing does, and
//! in [`driver`](crate::driver) the agents live meanwhile.

use crate::invariants::{Violation, first_violation, progress, quiescence};
use crate::plan::{HOSTS, Plan, Trouble, What, name};
use crate::schedule::Schedule;
use crate::world::enumerate::Bounds;
use crate::world::event::{Event, Fault, HostId};
use crate::world::host::Host;
use crate::world::{Move, Setup, Trail, World};
use primacy_core::instance::Op;
use primacy_core::{Config, Input, Name, Node, Span, event::Frozen};
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

/// How long the mended cluster has until it must be healthy again.
const HEAL_US: u64 = 60_000_000;
/// Followers that were just found, and rules that list them, settle in a moment.
const SETTLE_US: u64 = 3_000_000;
/// How long it is watched for quiet after that.
const QUIET_US: u64 = 20_000_000;
/// How often it is looked at whether the cluster is healthy yet.
const GLANCE_US: u64 = 100_000;

/// What a run counts, so that silence isn't taken for success.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Virtual microseconds.
    pub virtual_us: u64,
    /// Events applied.
    pub steps: u64,
    /// Commits acknowledged.
    pub commits: u64,
    /// Acknowledged commits that the last primary lacks.
    pub lost: u64,
    /// What was told, by kind.
    pub told: BTreeMap<&'static str, u64>,
    /// Troubles that happened, by kind.
    pub troubles: BTreeMap<&'static str, u64>,
    /// Roles at the end of a run.
    pub roles: BTreeMap<&'static str, u64>,
    /// Every kind of input taken in every role, with the role it led to.
    pub moves: BTreeMap<Move, u64>,
}

/// How a run ended.
pub struct Outcome {
    /// What it counted.
    pub counts: Counts,
    /// What went wrong, if anything.
    pub violation: Option<Violation>,
    /// The world at the end.
    pub world: World,
    /// A number over everything that happened: equal for equal runs.
    pub fingerprint: u64,
    /// The story, if it was asked for.
    pub story: String,
}

/// A run under way. A copy of it goes on just as the original does.
#[derive(Clone)]
pub struct Run {
    /// The world.
    pub world: World,
    /// Its future.
    pub schedule: Schedule,
    /// What has arrived for agents outside and wasn't handed to them yet.
    pub inputs: Vec<(HostId, Input)>,
    plan: Plan,
    counts: Counts,
    violation: Option<Violation>,
    fingerprint: u64,
    story: Option<String>,
    phase: Phase,
    /// When the phase ends.
    until: u64,
    /// When it is looked next whether the cluster is healthy.
    glance_at: u64,
    quiet: bool,
}

/// A run is in one of these after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Things go wrong.
    Troubles,
    /// All is mended, and the cluster has to become healthy.
    Healing,
    /// It is healthy, and the last things fall into their places.
    Settling,
    /// Nothing may change any more.
    Quiet,
    /// The run has ended.
    Over,
}

/// The setup of a simulated world.
fn setup(plan: &Plan, outside: bool) -> Arc<Setup> {
    let configs = (0..HOSTS).map(|host| {
        let me = Name::from(name(host).to_string().as_str());
        let mut config = Config::new(me, Span::millis(plan.knobs.ttl_ms));
        if plan.knobs.ttl_ms < 5_000 {
            config.demote_lead = Span::millis(500);
        }
        config.drift = Span(config.ttl.0 * 2 * plan.knobs.rate_ppm / 1_000_000);
        config.lag_bytes_max = plan.knobs.lag_max;
        config.clone_patience = Span::secs(120);
        config.instance_patience = Span::secs(20);
        config.validate().expect("the simulator's settings hold");
        Arc::new(config)
    });
    Arc::new(Setup { configs: configs.collect(), instant: false, outside, bounds: Bounds::default() })
}

/// Runs a plan to its end, or to the first violation. An assertion that fails on the way, of a node that checks itself
/// say, is a violation like any other.
pub fn run(seed: u64, plan: &Plan, with_story: bool) -> Outcome {
    let mut run = Run::new(seed, plan, false, with_story);
    let whole = panic::catch_unwind(AssertUnwindSafe(|| {
        while run.due().is_some() {
            run.next();
        }
    }));
    if let Err(panic) = whole {
        run.violation = Some(Violation { id: "assertion", what: message(panic.as_ref()) });
    }
    run.end()
}

/// What was said by a panic.
pub(crate) fn message(panic: &dyn Any) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}

impl Run {
    /// A run that is about to begin. Its agents live in the world, or are driven from outside.
    pub fn new(seed: u64, plan: &Plan, outside: bool, with_story: bool) -> Run {
        let mut world = World::new(setup(plan, outside));
        for (one, ppm) in world.hosts.iter_mut().zip(&plan.knobs.clock_ppm) {
            one.clock.ppm = *ppm;
            // Hosts that have been up for different times, all longer than any wait of the protocol.
            one.clock.offset = 3_600_000_000 + ppm * 50_000;
        }
        let mut run = Run {
            world,
            schedule: Schedule::new(seed, plan.knobs.clone(), usize::from(HOSTS)),
            inputs: Vec::new(),
            plan: plan.clone(),
            counts: Counts::default(),
            violation: None,
            fingerprint: 0xcbf2_9ce4_8422_2325,
            story: with_story.then(String::new),
            phase: Phase::Troubles,
            until: plan.length_ms * 1_000,
            glance_at: 0,
            quiet: false,
        };
        run.plan_troubles();
        run
    }

    fn plan_troubles(&mut self) {
        for host in 0..HOSTS {
            let at = self.schedule.dice().between(0, 1_000_000);
            self.schedule.at(at, Event::Fault(Fault::AgentStarts(host)));
        }
        self.plan_regulars();
        for Trouble { at_ms, for_ms, what } in self.plan.troubles.clone() {
            self.plan_trouble(at_ms * 1_000, for_ms * 1_000, what);
        }
    }

    /// Lets something go wrong at a moment that is still to come, and for how long; in microseconds.
    pub fn plan_trouble(&mut self, begin: u64, lasts: u64, what: What) {
        for fault in what.begins() {
            self.schedule.at(begin, Event::Fault(fault));
        }
        for fault in what.ends() {
            self.schedule.at(begin + lasts, Event::Fault(fault));
        }
        if let Some((host, command)) = what.asks() {
            self.schedule.at(begin, Event::Operate(host, command));
        }
        *self.counts.troubles.entry(what.word()).or_default() += 1;
    }

    /// What happens all the time: agents look at their instances, a client commits.
    fn plan_regulars(&mut self) {
        for host in 0..HOSTS {
            self.schedule.at(u64::from(host) * 300_000, Event::Look(host));
        }
        self.schedule.at(0, Event::Commit(HostId::MAX));
    }

    /// When the next step is due; none if the run is over.
    pub fn due(&self) -> Option<u64> {
        if self.phase == Phase::Over || self.violation.is_some() {
            return None;
        }
        Some(self.schedule.next_at().map_or(self.until, |at| at.min(self.until)))
    }

    /// Whether it is still in the phase in which things go wrong.
    pub fn goes_wrong(&self) -> bool {
        self.phase == Phase::Troubles
    }

    /// Takes all steps before this moment, in microseconds.
    pub fn advance_to(&mut self, moment: u64) {
        while self.due().is_some_and(|due| due < moment) {
            self.next();
        }
    }

    /// Takes the next step: lets something happen, or enters the next phase.
    pub fn next(&mut self) {
        if self.phase == Phase::Healing && self.world.now >= self.glance_at {
            self.glance_at = self.world.now + GLANCE_US;
            if self.world.store_is_doubted() {
                self.step(&Event::Fault(Fault::StoreRebuilt));
            }
            // News that set out before all was mended may still be on their way.
            let arrived = self.schedule.last_news() <= self.world.now;
            if arrived && progress::healthy(&self.world).is_ok() {
                return self.enter(Phase::Settling, SETTLE_US);
            }
        }
        match self.schedule.next_at() {
            Some(at) if at <= self.until => self.happen(),
            Some(_) | None => self.next_phase(),
        }
    }

    fn enter(&mut self, phase: Phase, length_us: u64) {
        self.phase = phase;
        self.until = self.world.now + length_us;
    }

    fn next_phase(&mut self) {
        self.world.now = self.world.now.max(self.until);
        match self.phase {
            Phase::Troubles => {
                self.mend();
                self.enter(Phase::Healing, HEAL_US);
            }
            Phase::Healing => {
                self.demand_health();
                self.enter(Phase::Settling, SETTLE_US);
            }
            Phase::Settling => {
                self.quiet = progress::healthy(&self.world).is_ok();
                self.enter(Phase::Quiet, QUIET_US);
            }
            Phase::Quiet | Phase::Over => self.phase = Phase::Over,
        }
    }

    fn mend(&mut self) {
        self.schedule.calm = true;
        // Nobody restores it any more.
        self.world.backup = None;
        let mut faults = vec![Fault::StoreUp];
        for host in 0..HOSTS {
            faults.extend([Fault::HostWakes(host), Fault::HostStarts(host)]);
            faults.extend([Fault::StorageGoesOn(host), Fault::PostgresGoesOn(host)]);
            faults.extend([Fault::AgentThaws(host), Fault::AgentStarts(host), Fault::ControlPutBack(host)]);
        }
        faults.extend(self.world.cuts.clone().into_iter().map(|(from, to)| Fault::Heal(from, to)));
        for fault in faults {
            self.step(&Event::Fault(fault));
        }
    }

    fn demand_health(&mut self) {
        if let Err(what) = progress::healthy(&self.world)
            && !self.needs_operator()
        {
            let what = format!("progress: {what} 60 s after all was mended");
            self.blame(Violation { id: "I10", what });
        }
    }

    /// Remembers what went wrong first.
    pub fn blame(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    /// Whether a node has said that a person is needed, and why can be, in a world where people promote by hand and
    /// nobody exchanges data or store: no primary is in sight that such a copy could be replaced from. Counted, so that
    /// it doesn't become the way out of everything.
    fn needs_operator(&mut self) -> bool {
        let why = |one: &Host| one.node().and_then(Node::needs_operator);
        let leads = |(host, one): (HostId, &Host)| {
            one.running().is_some_and(|node| node.is_primary(self.world.local(host)))
        };
        let by_hand = self.world.hosts.iter().any(|one| why(one) == Some(Frozen::PromotedByHand))
            || self.world.is_beyond_rebuilding();
        let flagged = by_hand && !(0..).zip(&self.world.hosts).any(leads);
        if flagged {
            *self.counts.roles.entry("(needs an operator)").or_default() += 1;
        }
        flagged
    }

    /// The end of the run.
    pub fn end(&mut self) -> Outcome {
        self.counts.virtual_us = self.world.now;
        if let Ok(primary) = progress::healthy(&self.world) {
            self.counts.lost = lost(&self.world, primary);
        }
        for one in &self.world.hosts {
            if let Some(node) = one.node() {
                *self.counts.roles.entry(node.role().word()).or_default() += 1;
            }
        }
        Outcome {
            counts: std::mem::take(&mut self.counts),
            violation: self.violation.take(),
            world: self.world.clone(),
            fingerprint: self.fingerprint,
            story: self.story.take().unwrap_or_default(),
        }
    }

    fn happen(&mut self) {
        let Some((at, event)) = self.schedule.pop() else { return };
        self.world.now = self.world.now.max(at);
        match event {
            Event::Commit(_) => self.client(),
            Event::Look(host) => {
                // A regular look is taken every second; those asked for in between come on top.
                if at % 1_000_000 == u64::from(host) * 300_000 {
                    self.schedule.at(at + 1_000_000, Event::Look(host));
                }
                let fails = self.schedule.fails();
                self.step(&if fails { Event::LookFails(host) } else { Event::Look(host) });
            }
            event => self.step(&event),
        }
    }

    /// The client tries to commit at any host that takes it.
    fn client(&mut self) {
        let gap = 1_000_000 / self.plan.knobs.commits_per_s.max(1);
        let at = self.world.now + gap;
        self.schedule.at(at, Event::Commit(HostId::MAX));
        for host in 0..HOSTS {
            if self.world.hosts[usize::from(host)].postgres.can_acknowledge() {
                self.step(&Event::Commit(host));
            }
        }
    }

    /// Lets one thing happen, and looks at what it has brought about.
    fn step(&mut self, event: &Event) {
        let mut trail = Trail::default();
        if !self.world.apply(event, &mut trail) {
            return;
        }
        self.counts.steps += 1;
        self.counts.commits += u64::from(matches!(event, Event::Commit(_)));
        self.mix(self.world.now);
        self.mix(kind(event));
        if let Event::Fault(_)
        | Event::GuardFires(_)
        | Event::Operate(..)
        | Event::Fail(..)
        | Event::LookFails(_)
        | Event::Unheard(..) = event
        {
            self.tell(format_args!("  ! {event}"));
        }
        self.follow(trail);
    }

    /// An agent outside does something at this moment.
    pub fn act(&mut self, now: u64, what: impl FnOnce(&mut World, &mut Trail)) {
        self.world.now = self.world.now.max(now);
        let mut trail = Trail::default();
        what(&mut self.world, &mut trail);
        self.counts.steps += 1;
        self.mix(self.world.now);
        self.follow(trail);
    }

    /// What a step has brought about: counted, told, judged, and what has become possible is drawn.
    fn follow(&mut self, mut trail: Trail) {
        self.note(&trail);
        for step in &trail.moves {
            *self.counts.moves.entry(*step).or_default() += 1;
        }
        if self.schedule.calm {
            // An order to stop that took until after the troubles: somebody starts the agent again.
            for host in &trail.exits {
                self.schedule.at(self.world.now + 100_000, Event::Fault(Fault::AgentStarts(*host)));
            }
        }
        for event in trail.possible.drain(..) {
            self.schedule.draw(&self.world, event);
        }
        self.inputs.append(&mut trail.inputs);
        if let Some(violation) = first_violation(&self.world) {
            self.blame(violation);
        }
    }

    /// Remembers what was told: for the counts, for the fingerprint, for the story.
    fn note(&mut self, trail: &Trail) {
        for (host, told) in &trail.told {
            let word = word(told);
            *self.counts.told.entry(word).or_default() += 1;
            self.mix(u64::from(*host) + word.len() as u64 * 8);
            if self.quiet && !quiescence::is_quiet(told) {
                let what = format!("quiescence: {} {told}, though nothing has happened", name(*host));
                self.blame(Violation { id: "I11", what });
            }
            self.tell(format_args!("{} {told}", name(*host)));
        }
        for (host, reply) in &trail.replies {
            self.tell(format_args!("{} answers {reply:?}", name(*host)));
        }
    }

    fn tell(&mut self, what: std::fmt::Arguments<'_>) {
        let now = self.world.now as f64 / 1e6;
        if let Some(story) = &mut self.story {
            writeln!(story, "{now:10.6}s {what}").expect("writing to a string");
        }
    }

    fn mix(&mut self, value: u64) {
        self.fingerprint = (self.fingerprint ^ value).wrapping_mul(0x0100_0000_01b3);
    }
}

/// The acknowledged commits that this host's data lacks.
fn lost(world: &World, primary: HostId) -> u64 {
    let Some(data) = &world.hosts[usize::from(primary)].postgres.data else { return 0 };
    let lost = world.record.acknowledged.iter().map(|((epoch, by), end)| {
        let Some(at) = data.timelines.iter().position(|t| t.epoch == *epoch && t.by == *by) else {
            return u64::from(!data.holds(*epoch, *by, *end));
        };
        let kept = data.timelines.get(at + 1).map_or(data.end, |next| next.start);
        end.0.saturating_sub(kept.0)
    });
    lost.sum()
}

/// An event's kind as a number, for the fingerprint.
fn kind(event: &Event) -> u64 {
    match event {
        Event::Advance(_) => 1,
        Event::AdvanceBut(_) => 2,
        Event::Wake(host) => 0x100 + u64::from(*host),
        Event::Deliver(id) => 0x1_0000 + u64::from(*id),
        Event::Lose(id) => 0x2_0000_0000 + u64::from(*id),
        Event::Stall(id) => 0x3_0000_0000 + u64::from(*id),
        Event::Expire(host, _) => 0x200 + u64::from(*host),
        Event::Perform(host, _) => 0x300 + u64::from(*host),
        Event::Fail(host, _) => 0x400 + u64::from(*host),
        Event::GuardFires(host) => 0x500 + u64::from(*host),
        Event::Look(host) => 0x600 + u64::from(*host),
        Event::Replicate(host) => 0x700 + u64::from(*host),
        Event::Replayed(host) => 0xe00 + u64::from(*host),
        Event::Commit(host) => 0x800 + u64::from(*host),
        Event::OrphansEnd(host) => 0x900 + u64::from(*host),
        Event::Fault(_) => 0xa00,
        Event::Operate(host, _) => 0xb00 + u64::from(*host),
        Event::LookFails(host) => 0xd00 + u64::from(*host),
        Event::Unheard(host, _) => 0xc00 + u64::from(*host),
    }
}

/// The kind of a told fact in one word.
pub fn word(event: &primacy_core::Event) -> &'static str {
    use primacy_core::Event as E;
    match event {
        E::ClaimedBootstrap => "claimed bootstrap",
        E::Consented { .. } => "loss accepted",
        E::Lapsed { .. } => "lapse seen",
        E::SawRelease { .. } => "release seen",
        E::Stands { .. } => "stood",
        E::NotBest { .. } => "yielded",
        E::TooFarBehind { .. } => "too far behind",
        E::HolderIsBack { .. } => "holder came back",
        E::Took { .. } => "takeover",
        E::LostElection { .. } => "election lost",
        E::Resumed { .. } => "resumed",
        E::Leads { .. } => "led",
        E::Follows { .. } => "followed",
        E::BeatMissed { .. } => "beat missed",
        E::LeaseEnds { .. } => "orderly demotion",
        E::LostLease { .. } => "lease lost",
        E::PrimaryDied { .. } => "restart in place",
        E::PrimaryGivenUp => "primary given up",
        E::PrimaryHangs { .. } => "primary hung",
        E::GuardLost => "guard lost",
        E::UnorderedPromotion { .. } => "unordered promotion",
        E::WrongTimeline { .. } => "wrong timeline",
        E::HandsOver { .. } => "handed over",
        E::SwitchoverRefused { .. } => "switchover refused",
        E::Released { .. } => "released",
        E::NotContained { .. } => "moved aside",
        E::Rewinds { .. } => "rewind begun",
        E::Rewound { .. } => "rewound",
        E::Starved { .. } => "WAL gone",
        E::Reinitializes { .. } => "new copy wanted",
        E::Failed { op: Op::Rewind(_), .. } => "rewind failed",
        E::Failed { .. } => "order failed",
        E::Froze { .. } => "froze",
        E::Stopped => "stopped",
    }
}
