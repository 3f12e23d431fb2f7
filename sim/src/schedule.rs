//! When things happen: draws a moment for everything that becomes possible.

use crate::plan::Knobs;
use crate::world::World;
use crate::world::event::{Event, Fault, HostId};
use crate::world::host::{Agent, Cargo, Warden};
use primacy_core::OpId;
use primacy_core::instance::Op;
use primacy_core::store::{Record, Request};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A small generator of our own: the same numbers on every platform and in every process (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A generator for this seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll() % (high.saturating_sub(low) + 1)
    }

    /// True so many times in a thousand.
    pub fn permille(&mut self, of: u32) -> bool {
        of > 0 && self.roll() % 1_000 < u64::from(of)
    }
}

/// The future: events with their moments, in true microseconds.
#[derive(Clone)]
pub struct Schedule {
    dice: Dice,
    knobs: Knobs,
    queue: BinaryHeap<Reverse<(u64, u64, QueuedEvent)>>,
    order: u64,
    /// When each host's agent is going to wake next.
    wakes: Vec<u64>,
    /// When the last news for each host arrives: a watch keeps its order.
    news: Vec<u64>,
    /// From when until when nothing passes from each host to the store, and back.
    silent: Vec<[(u64, u64); 2]>,
    /// Troubles are over: nothing is lost, late or slow any more.
    pub calm: bool,
}

/// Orders by moment and then by when it was queued; the event itself decides nothing.
#[derive(Clone)]
struct QueuedEvent(Event);

impl PartialEq for QueuedEvent {
    fn eq(&self, _: &QueuedEvent) -> bool {
        true
    }
}
impl Eq for QueuedEvent {}
impl PartialOrd for QueuedEvent {
    fn partial_cmp(&self, other: &QueuedEvent) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for QueuedEvent {
    fn cmp(&self, _: &QueuedEvent) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl Schedule {
    /// An empty future.
    pub fn new(seed: u64, knobs: Knobs, hosts: usize) -> Schedule {
        Schedule {
            dice: Dice::new(seed),
            knobs,
            queue: BinaryHeap::new(),
            order: 0,
            wakes: vec![u64::MAX; hosts],
            news: vec![0; hosts],
            silent: vec![[(0, 0); 2]; hosts],
            calm: false,
        }
    }

    /// When the last news so far arrives anywhere.
    pub fn last_news(&self) -> u64 {
        self.news.iter().copied().max().unwrap_or(0)
    }

    /// The moment of the next event.
    pub fn next_at(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse((at, _, _))| *at)
    }

    /// The next event.
    pub fn pop(&mut self) -> Option<(u64, Event)> {
        let Reverse((at, _, QueuedEvent(event))) = self.queue.pop()?;
        if let Event::Wake(host) = event {
            self.wakes[usize::from(host)] = u64::MAX;
        }
        Some((at, event))
    }

    /// Queues an event for a given moment.
    pub fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse((at, self.order, QueuedEvent(event))));
    }

    /// Draws the moment of something that has become possible.
    pub fn draw(&mut self, world: &World, event: Event) {
        let now = world.now;
        match event {
            Event::Wake(host) => self.draw_wake(world, host),
            Event::Deliver(id) => self.draw_flight(world, id),
            Event::Expire(host, op) => {
                let one = &world.hosts[usize::from(host)];
                if let Some((_, until)) = one.waiting.iter().find(|(id, _)| *id == op) {
                    // Whoever slept through it may find the answer first.
                    let late = self.dice.between(0, 2_000);
                    self.at(one.clock.when(*until).max(now) + late, Event::Expire(host, op));
                }
            }
            Event::Perform(host, op) => self.draw_order(world, host, op),
            Event::GuardFires(host) => {
                let one = &world.hosts[usize::from(host)];
                if let Warden::Armed { until, .. } = one.guard {
                    let budget = world.setup.configs[usize::from(host)].stop_budget.0;
                    let late = self.dice.between(0, budget * 9 / 10);
                    self.at((one.clock.when(until) + late).max(now), Event::GuardFires(host));
                }
            }
            Event::Look(host) => {
                let at = now + self.dice.between(1_000, 50_000);
                self.at(at, Event::Look(host));
            }
            Event::Replicate(host) => {
                let at = now + self.delay();
                self.at(at, Event::Replicate(host));
            }
            Event::Replayed(host) => {
                let long = self.dice.permille(200) && !self.calm;
                let most = if long { 400_000 * self.knobs.slowness } else { 200_000 };
                let at = now + self.dice.between(1_000, most);
                self.at(at, Event::Replayed(host));
            }
            Event::OrphansEnd(host) => {
                let at = now + self.dice.between(0, 200_000);
                self.at(at, Event::OrphansEnd(host));
            }
            // The client finds its way by itself.
            Event::Commit(_) => {}
            Event::Advance(_)
            | Event::AdvanceBut(_)
            | Event::Lose(_)
            | Event::Stall(_)
            | Event::Fail(..)
            | Event::LookFails(_)
            | Event::Unheard(..) => {}
            Event::Fault(Fault::StoreRebuilt) => {
                let at = now + self.dice.between(3_000_000, 30_000_000);
                self.at(at, event);
            }
            Event::Fault(_) | Event::Operate(..) => self.at(now, event),
        }
    }

    fn delay(&mut self) -> u64 {
        let long = self.dice.permille(100) && !self.calm;
        let most = if self.calm { 2_000.min(self.knobs.delay_us) } else { self.knobs.delay_us };
        self.dice.between(200, if long { most.max(300) } else { (most / 4).max(300) })
    }

    fn draw_wake(&mut self, world: &World, host: HostId) {
        let one = &world.hosts[usize::from(host)];
        let Agent::Up(node) = &one.agent else { return };
        let Some((deadline, _)) = node.deadline(world.local(host)) else { return };
        let due = one.clock.when(deadline).max(world.now + 1);
        if self.wakes[usize::from(host)] <= due {
            return;
        }
        self.wakes[usize::from(host)] = due;
        let late = self.lateness();
        self.at(due + late, Event::Wake(host));
    }

    /// The latest an agent ever is with something it wanted to do.
    pub fn latest(&self) -> u64 {
        100 + self.knobs.late_ms * 1_000
    }

    /// Whether a part of an agent's surroundings hangs this time.
    pub fn hangs(&mut self) -> bool {
        !self.calm && self.dice.permille(self.knobs.failing_permille / 10)
    }

    /// How long an agent is late with something it wanted to do.
    pub fn lateness(&mut self) -> u64 {
        let late = if self.calm || !self.dice.permille(50) { 0 } else { self.knobs.late_ms * 1_000 };
        self.dice.between(0, 100 + late)
    }

    fn draw_flight(&mut self, world: &World, id: u32) {
        let Some(flight) = world.flights.iter().rev().find(|flight| flight.id == id) else { return };
        let (host, now) = (usize::from(flight.host), world.now);
        match flight.cargo {
            Cargo::Ask(..) | Cargo::Answer(..) => {
                self.fall_silent(host, now, &flight.cargo);
                let way = usize::from(matches!(flight.cargo, Cargo::Answer(..)));
                let silent = (self.silent[host][way].0..self.silent[host][way].1).contains(&now);
                if !self.calm && (silent || self.dice.permille(self.knobs.loss_permille)) {
                    // Half of the lost ones come after all, when nobody waits for them any more.
                    let lost = self.dice.permille(500);
                    let at = now + self.dice.between(1_000, 8_000_000);
                    return self.at(at, if lost { Event::Lose(id) } else { Event::Deliver(id) });
                }
                let at = now + self.delay();
                self.at(at, Event::Deliver(id));
            }
            Cargo::News(_) => {
                // They travel in a stream, which makes up for what was lost.
                let heard = if self.calm { 0 } else { self.silent[host][1].1 };
                let at = (now + self.delay()).max(self.news[host]).max(heard);
                self.news[host] = at;
                self.at(at, Event::Deliver(id));
            }
            Cargo::Done(..) | Cargo::Arm(..) | Cargo::Guard(_) => {
                let at = now + self.dice.between(50, 1_000);
                self.at(at, Event::Deliver(id));
            }
        }
    }

    /// A silence may begin with any message, so that what a node has just sent or heard may be the last for a while;
    /// the message itself may still pass. It begins more easily where that is worth most: with a message that asks for
    /// a lease, or just after another silence.
    fn fall_silent(&mut self, host: usize, now: u64, cargo: &Cargo) {
        let ttl = self.knobs.ttl_ms * 1_000;
        let over = self.silent[host].iter().map(|(_, until)| *until).max().unwrap_or(0);
        let eager = now < over + ttl / 10 || asks_for_a_lease(cargo);
        let chance = self.knobs.silence_permille * if eager { 8 } else { 1 };
        if self.calm || now < over || !self.dice.permille(chance) {
            return;
        }
        for way in 0..2 {
            let from = now + self.dice.between(0, 1);
            let lasts = if self.dice.permille(300) { 0 } else { self.dice.between(ttl / 10, 2 * ttl) };
            self.silent[host][way] = (from, from + lasts);
        }
    }

    fn draw_order(&mut self, world: &World, host: HostId, op: OpId) {
        let one = &world.hosts[usize::from(host)];
        let Some((_, order)) = &one.order else { return };
        let (low, high) = duration(&order.op);
        let slowness = if self.calm { 10 } else { self.knobs.slowness };
        let takes = self.dice.between(low, high) * slowness / 10;
        let done = world.now + takes;
        let until = one.clock.when(order.until).max(world.now + 1);
        let fails = self.fails();
        if done >= until {
            self.at(until, Event::Fail(host, op));
        } else if fails {
            let unheard = self.dice.permille(500);
            self.at(done, if unheard { Event::Unheard(host, op) } else { Event::Fail(host, op) });
        } else {
            self.at(done, Event::Perform(host, op));
        }
    }

    /// Whether something that is done to PostgreSQL fails this time.
    pub fn fails(&mut self) -> bool {
        !self.calm && self.dice.permille(self.knobs.failing_permille)
    }

    /// The generator, for what else has to be drawn.
    pub fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }
}

fn asks_for_a_lease(cargo: &Cargo) -> bool {
    let Cargo::Ask(_, Request::Transact(txn)) = cargo else { return false };
    txn.put.iter().any(|record| matches!(record, Record::Reign(_)))
}

/// How long PostgreSQL takes, in microseconds: as measured on small instances, and longer.
fn duration(op: &Op) -> (u64, u64) {
    match op {
        Op::Look => (1_000, 20_000),
        Op::Initdb => (800_000, 2_000_000),
        Op::Clone(_) => (500_000, 5_000_000),
        Op::Rewind(_) => (200_000, 2_000_000),
        Op::SetAside => (1_000, 20_000),
        Op::StartStandby => (100_000, 500_000),
        Op::StartInPlace => (200_000, 900_000),
        Op::Follow(_) => (5_000, 50_000),
        Op::CloseSources => (100_000, 200_000),
        Op::Promote => (50_000, 200_000),
        Op::Settle => (1_000, 30_000),
        Op::Checkpoint => (10_000, 300_000),
        Op::Stop => (50_000, 400_000),
        Op::Kill => (5_000, 30_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan;
    use crate::world::Trail;
    use crate::world::enumerate::Bounds;
    use crate::world::{Setup, World};
    use primacy_core::{Config, Span};
    use std::sync::Arc;

    /// When the answer to a second read is there, if each message begins a silence.
    fn second_read(seed: u64) -> (Schedule, Option<u64>) {
        let knobs =
            plan::Knobs { silence_permille: 1_000, loss_permille: 0, ..plan::from_seed(0, 15_000).knobs };
        let mut schedule = Schedule::new(seed, knobs, 1);
        let configs = vec![Arc::new(Config::new("a".into(), Span::secs(5)))];
        let setup = Setup { configs, instant: false, outside: false, bounds: Bounds::default() };
        let mut world = World::new(Arc::new(setup));
        for id in 0..2 {
            world.now += 1_000;
            world.send(0, Cargo::Ask(OpId(1 + id), Request::Read), &mut Trail::default());
            schedule.draw(&world, Event::Deliver(id));
        }
        let mut events = std::iter::from_fn(|| schedule.pop());
        let arrives = events.find(|(_, event)| *event == Event::Deliver(1)).map(|(at, _)| at);
        (schedule, arrives)
    }

    #[test]
    fn nothing_arrives_in_time_through_a_silence() {
        let (mut silent, mut heard) = (0, 0);
        for seed in 0..200 {
            let (schedule, arrives) = second_read(seed);
            let prompt = arrives.is_some_and(|at| at <= 2_000 + schedule.knobs.delay_us.max(300));
            let (from, until) = schedule.silent[0][0];
            if from <= 2_000 && 2_000 < until {
                silent += 1;
                assert!(arrives.is_none_or(|at| at >= 3_000), "seed {seed}: {arrives:?}");
            } else {
                heard += 1;
                assert!(prompt, "seed {seed}: {arrives:?}");
            }
        }
        assert!(silent > 50 && heard > 20, "{silent} silent, {heard} heard");
    }
}
