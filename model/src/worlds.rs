//! The named worlds: each asks one question, and fixes what it doesn't ask about.

use crate::canon::canonicalise;
use crate::step::Step;
use primacy_core::instance::Instance;
use primacy_core::{Config, Event as Told, MachineId, Name, Span};
use primacy_sim::invariants::progress;
use primacy_sim::world::enumerate::{ANY, Bounds, Spent};
use primacy_sim::world::event::{Event, Fault, Site};
use primacy_sim::world::postgres::Process;
use primacy_sim::world::{Setup, Trail, World};
use std::sync::Arc;

/// A world to explore.
pub struct Named {
    /// Its name.
    pub name: &'static str,
    /// Its one question.
    pub asks: &'static str,
    /// What can't happen in it, or happens in one way only.
    pub fixes: &'static str,
    /// Explored only on demand.
    pub long: bool,
    /// Its cluster becomes healthy once nothing more goes wrong. Two machines of one name never do.
    pub heals: bool,
    /// How many states it has.
    pub states: usize,
    hosts: usize,
    tune: fn(&mut Config),
    /// How it came to where it begins.
    before: fn(&mut World),
    bounds: fn() -> Bounds,
    /// What must be reached somewhere, lest silence be taken for success.
    pub sometimes: &'static [Sometimes],
}

/// Something that a world must be able to show.
pub struct Sometimes {
    /// In words.
    pub name: &'static str,
    /// Whether a step shows it.
    pub seen: fn(&Step<'_>) -> bool,
}

/// Two troubles, each of any of these kinds: a request or its answer that is late, lost, or a zombie; an agent that is
/// frozen or killed; a host without power.
fn hardships() -> Bounds {
    Bounds {
        prompt: true,
        troubles: Some(2),
        loss: true,
        zombies: 1,
        agent_dies: ANY,
        agent_freezes: ANY,
        host_dies: ANY,
        slow_stops: true,
        ..Bounds::default()
    }
}

/// All worlds, the quick ones first.
pub const WORLDS: &[Named] = &[
    Named {
        name: "key",
        asks: "does anything hang on the mirrored leader key?",
        fixes: "nothing is lost, exact clocks, punctual agents, no crashes; not followed beyond a takeover",
        long: false,
        heals: true,
        states: 29,
        hosts: 2,
        tune: |_| {},
        before: lead,
        bounds: || Bounds { epoch_max: 1, leader_key_goes: true, slow_stops: true, ..Bounds::default() },
        sometimes: &[KEY_GONE],
    },
    Named {
        name: "handover",
        asks: "is a lease given back only by a PostgreSQL that is stopped?",
        fixes: "one switchover, nothing is lost, exact clocks, no crashes; not followed beyond a takeover",
        long: false,
        heals: true,
        states: 1_906,
        hosts: 2,
        tune: |_| {},
        before: lead,
        bounds: || Bounds { epoch_max: 1, switchovers: 1, slow_orders: true, ..Bounds::default() },
        sometimes: &[ELECTED],
    },
    Named {
        name: "heir",
        asks: "does a reign that is handed over in order begin without a commit of the one before?",
        fixes: "one switchover, one commit, one host loses its power or one request stalls, exact clocks; orders but \
                stops take no time; one takeover",
        long: false,
        heals: true,
        states: 9_734,
        hosts: 2,
        tune: |_| {},
        before: lead,
        bounds: || Bounds {
            epoch_max: 2,
            switchovers: 1,
            commits: 1,
            prompt: true,
            troubles: Some(1),
            host_dies: ANY,
            replicate: true,
            slow_stops: true,
            ..Bounds::default()
        },
        sometimes: &[HEIR, TOO_SHORT],
    },
    Named {
        name: "silence",
        asks: "how long is a holder sure of its lease when beats and answers are late or lost?",
        fixes: "exact clocks, punctual agents, no crashes; not followed beyond a takeover",
        long: false,
        heals: true,
        states: 7_332,
        hosts: 2,
        tune: |_| {},
        before: lead,
        bounds: || Bounds { epoch_max: 1, loss: true, slow_stops: true, ..Bounds::default() },
        sometimes: &[ELECTED, FENCED],
    },
    Named {
        name: "freeze",
        asks: "does PostgreSQL end in time if its agent is frozen at any moment?",
        fixes: "one freeze, nothing is lost, exact clocks, no crashes; not followed beyond a takeover",
        long: false,
        heals: true,
        states: 11_851,
        hosts: 2,
        tune: |_| {},
        before: lead,
        bounds: || Bounds { epoch_max: 1, agent_freezes: 1, slow_stops: true, ..Bounds::default() },
        sometimes: &[ELECTED, FENCED],
    },
    Named {
        name: "unsettled",
        asks: "does a lease long enough for three beats without an answer count from the right one?",
        fixes: "exact clocks, punctual agents, no crashes; not followed beyond a takeover",
        long: false,
        heals: true,
        states: 22_730,
        hosts: 2,
        tune: |config| config.ttl = Span(8),
        before: lead,
        bounds: || Bounds { epoch_max: 1, loss: true, slow_stops: true, ..Bounds::default() },
        sometimes: &[ELECTED, FENCED],
    },
    Named {
        name: "clocks",
        asks: "does PostgreSQL end in time by a slow clock?",
        fixes: "one freeze, nothing is lost, no crashes; not followed beyond a takeover",
        long: false,
        heals: true,
        states: 124_106,
        hosts: 2,
        tune: |config| config.drift = Span(2),
        before: lead,
        bounds: || Bounds {
            epoch_max: 1,
            drift_every: 5,
            agent_freezes: 1,
            slow_stops: true,
            ..Bounds::default()
        },
        sometimes: &[ELECTED, FENCED],
    },
    Named {
        name: "twin",
        asks: "does an agent on a cloned machine take the reign of its name for its own?",
        fixes: "one host and its clone, two troubles, exact clocks, punctual agents; not followed beyond a takeover",
        long: false,
        heals: false,
        states: 119_980,
        hosts: 2,
        tune: |config| {
            if config.me.as_str() == NAMES[1] {
                (config.me, config.machine) = (NAMES[0].into(), MachineId(1));
            }
        },
        before: cloned,
        bounds: || Bounds { epoch_max: 1, ..hardships() },
        sometimes: &[TAKEOVER],
    },
    Named {
        name: "rejoin",
        asks: "is an old primary that left the history ever run half-made, or discarded while it is needed?",
        fixes: "two hosts, one trouble once the old primary has lost its power, one commit, exact clocks, no freezes; no \
                takeover is followed",
        long: false,
        heals: true,
        states: 254_232,
        hosts: 2,
        tune: |_| {},
        before: parted,
        bounds: || Bounds {
            epoch_max: 2,
            prompt: true,
            troubles: Some(1),
            agent_dies: ANY,
            host_dies: ANY,
            fails: ANY,
            commits: 1,
            slow_orders: true,
            late_checkpoints: true,
            ..Bounds::default()
        },
        sometimes: &[TORN, ASIDE, REWOUND, BACK],
    },
    Named {
        name: "watch",
        asks: "may a candidate trust what it has not heard?",
        fixes: "nothing else is lost, exact clocks, punctual agents, no crashes; not followed beyond a takeover",
        long: false,
        heals: true,
        states: 404_631,
        hosts: 2,
        tune: |_| {},
        before: lead,
        bounds: || Bounds { epoch_max: 1, watch_breaks: true, slow_stops: true, ..Bounds::default() },
        sometimes: &[MISSED],
    },
    Named {
        name: "restart",
        asks: "what may an agent conclude that was killed and started again?",
        fixes: "one crash, exact clocks, punctual agents; not followed beyond a takeover",
        long: false,
        heals: true,
        states: 296_953,
        hosts: 2,
        tune: |_| {},
        before: lead,
        bounds: || Bounds { epoch_max: 1, loss: true, agent_dies: 1, slow_stops: true, ..Bounds::default() },
        sometimes: &[ELECTED, FENCED],
    },
    Named {
        name: "successor",
        asks: "what is a takeover worth whose winner is frozen meanwhile?",
        fixes: "one switchover, one freeze, nothing is lost, exact clocks, no crashes, one takeover",
        long: false,
        heals: true,
        states: 439_095,
        hosts: 2,
        tune: |_| {},
        before: lead,
        bounds: || Bounds {
            epoch_max: 2,
            switchovers: 1,
            agent_freezes: 1,
            slow_stops: true,
            ..Bounds::default()
        },
        sometimes: &[TAKEOVER],
    },
    Named {
        name: "lease",
        asks: "can two hosts be writable at once, whatever requests and answers are late or lost?",
        fixes: "two hosts, one takeover, exact clocks, punctual agents, no crashes, no commits, orders but stops take \
                no time",
        long: false,
        heals: true,
        states: 527_215,
        hosts: 2,
        tune: |_| {},
        before: lead,
        bounds: || Bounds { epoch_max: 2, loss: true, slow_stops: true, ..Bounds::default() },
        sometimes: &[TAKEOVER, FENCED],
    },
    Named {
        name: "three",
        asks: "can two of three hosts be writable at once, whatever single thing goes wrong?",
        fixes: "one trouble of any kind, exact clocks, orders but stops take no time, one takeover",
        long: false,
        heals: true,
        states: 26_364,
        hosts: 3,
        tune: |_| {},
        before: lead,
        bounds: || Bounds {
            epoch_max: 2,
            troubles: Some(1),
            store_down: ANY,
            watch_breaks: true,
            ..hardships()
        },
        sometimes: &[TAKEOVER, WRITABLE, FENCED],
    },
    Named {
        name: "drift",
        asks: "does a tick that a slow clock loses do harm, whatever two things go wrong besides?",
        fixes: "three hosts, store and watches never fail, orders but stops take no time; not followed beyond a \
                takeover",
        long: false,
        heals: true,
        states: 888_013,
        hosts: 3,
        tune: |config| config.drift = Span(2),
        before: lead,
        bounds: || Bounds { epoch_max: 1, drift_every: 5, slips: Some(1), ..hardships() },
        sometimes: &[ELECTED, FENCED],
    },
    Named {
        name: "pairs",
        asks: "can two of three hosts be writable at once, whatever two things go wrong?",
        fixes: "two troubles of any kind, exact clocks, orders but stops take no time, one takeover",
        long: true,
        heals: true,
        states: 5_979_803,
        hosts: 3,
        tune: |_| {},
        before: lead,
        bounds: || Bounds { epoch_max: 2, store_down: ANY, watch_breaks: true, ..hardships() },
        sometimes: &[TAKEOVER, WRITABLE, FENCED],
    },
];

const ELECTED: Sometimes = Sometimes {
    name: "another host is elected",
    seen: |step| step.after.epoch() > step.before.epoch() && holder(step.after) != holder(step.before),
};

const TAKEOVER: Sometimes = Sometimes {
    name: "a takeover by another host",
    seen: |step| step.trail.told.iter().any(|(host, told)| *host > 0 && matches!(told, Told::Took { .. })),
};

const WRITABLE: Sometimes = Sometimes {
    name: "another host is writable",
    seen: |step| step.after.hosts[1..].iter().any(|one| one.postgres.process == Process::Primary),
};

const FENCED: Sometimes = Sometimes {
    name: "a primary killed by the guard",
    seen: |step| {
        let Event::GuardFires(host) = step.event else { return false };
        step.before.hosts[usize::from(*host)].postgres.process == Process::Primary
    },
};

const KEY_GONE: Sometimes = Sometimes {
    name: "the leader key is gone",
    seen: |step| matches!(step.event, Event::Fault(Fault::LeaderKeyGone)),
};

const HEIR: Sometimes = Sometimes {
    name: "a host leads that it was handed to",
    seen: |step| step.before.record.handed.is_some() && writable(step.after, 1) && !writable(step.before, 1),
};

const TOO_SHORT: Sometimes = Sometimes {
    name: "a host that lacks the end of a reign that was handed over",
    seen: |step| {
        let reign = step.after.store.view.reign.as_ref();
        let end = reign.and_then(|reign| reign.released.as_ref()?.end);
        let lacks =
            step.after.hosts[1].postgres.data.as_ref().zip(end).is_some_and(|(data, end)| data.end < end);
        lacks && matches!(step.after.hosts[1].postgres.process, Process::Recovery(_))
    },
};

const TORN: Sometimes = Sometimes {
    name: "a rewind that was interrupted is found",
    seen: |step| {
        let incomplete = |world: &World| {
            world.hosts[0].node().is_some_and(|node| *node.instance() == Instance::Incomplete)
        };
        incomplete(step.after) && !incomplete(step.before)
    },
};

const ASIDE: Sometimes = Sometimes {
    name: "a copy is moved aside",
    seen: |step| step.after.hosts[0].postgres.aside > step.before.hosts[0].postgres.aside,
};

const REWOUND: Sometimes = Sometimes {
    name: "a copy is rewound",
    seen: |step| step.trail.told.iter().any(|(_, told)| matches!(told, Told::Rewound { .. })),
};

const BACK: Sometimes = Sometimes {
    name: "the old primary follows the new one",
    seen: |step| step.after.streams(0) == Some(1) && step.before.streams(0).is_none(),
};

const MISSED: Sometimes = Sometimes {
    name: "a standby reads what it has missed",
    seen: |step| step.trail.moves.contains(&("standby", "watch interrupted", "standby")),
};

fn writable(world: &World, host: usize) -> bool {
    world.hosts[host].postgres.process == Process::Primary
}

fn holder(world: &World) -> Option<&Name> {
    world.store.view.reign.as_ref().map(|reign| &reign.holder)
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Settings in ticks. An order of magnitude is enough to tell all moments apart that matter: a beat is sent at each
/// tick, the fence falls two ticks after the last one that was committed, the guard may take one tick more, and after
/// five the lease has lapsed. A clock loses one tick in that time at most; the margin is one tick more, because ticks
/// are whole, and ends that touch count as an overlap.
fn ticks(me: &str) -> Config {
    let tick = Span(1);
    Config {
        drift: tick,
        stop_budget: tick,
        beat_every: tick,
        store_patience: tick,
        retry_after: tick,
        retry_longest: tick,
        demote_lead: Span::ZERO,
        election_window: tick,
        handover_patience: tick,
        instance_patience: tick.times(3),
        clone_patience: tick.times(3),
        restarts_max: 1,
        lag_bytes_max: 100,
        health_age: Span::ZERO,
        ..Config::new(me.into(), tick.times(5))
    }
}

impl Named {
    /// The world of this name.
    pub fn find(name: &str) -> Option<&'static Named> {
        WORLDS.iter().find(|named| named.name == name)
    }

    /// The name of one of its hosts.
    pub fn name_of(&self, host: u8) -> &'static str {
        NAMES[usize::from(host)]
    }

    fn setup(&self, bounds: Bounds) -> Arc<Setup> {
        let configs = NAMES.iter().take(self.hosts).map(|me| {
            let mut config = ticks(me);
            (self.tune)(&mut config);
            Arc::new(config)
        });
        Arc::new(Setup { configs: configs.collect(), instant: true, outside: false, bounds })
    }

    /// The world at its beginning, in canonical form: if nothing else is asked for a healthy cluster, led by its first
    /// primary, where everybody may be elected.
    pub fn begin(&self) -> World {
        let mut world = self.unbound(&World::new(self.setup(Bounds::default())));
        (self.before)(&mut world);
        world.setup = self.setup((self.bounds)());
        world.spent = Spent::default();
        canonicalise(&mut world);
        world
    }

    /// This state without the bounds of its world, in which nothing goes wrong any more.
    pub fn unbound(&self, state: &World) -> World {
        let late_checkpoints = (self.bounds)().late_checkpoints;
        let mut world = state.clone();
        world.setup = self.setup(Bounds { epoch_max: u32::MAX, late_checkpoints, ..Bounds::default() });
        world
    }
}

/// Lets everything take its course without any trouble until there is a healthy cluster and nothing is left to do.
fn lead(world: &mut World) {
    let mut trail = Trail::default();
    for host in 0..world.hosts.len() as u8 {
        world.apply(&Event::Fault(Fault::AgentStarts(host)), &mut trail);
        run_until(world, |world| world.hosts.iter().any(|one| one.postgres.process == Process::Primary));
    }
    run_until(world, |world| {
        let listed = world.store.view.rule.as_ref().map_or(0, |rule| rule.electable.len());
        progress::healthy(world).is_ok() && listed + 1 == world.hosts.len() && world.flights.is_empty()
    });
}

/// The first primary acknowledges a commit that nobody receives, and loses its power. The other host has been elected,
/// and has just become writable.
fn parted(world: &mut World) {
    lead(world);
    let mut trail = Trail::default();
    let link = (Site::Host(0), Site::Host(1));
    let events = [
        Event::Fault(Fault::Cut(link.0, link.1)),
        Event::Commit(0),
        Event::Fault(Fault::HostDies(0)),
        Event::Fault(Fault::Heal(link.0, link.1)),
    ];
    for event in events {
        assert!(world.apply(&event, &mut trail), "{event:?} can't happen");
    }
    run_until(world, |world| world.hosts[1].postgres.process == Process::Primary);
}

/// A cluster of one host, whose machine has been cloned, with all that is on its disks; the clone's agent doesn't run
/// yet.
fn cloned(world: &mut World) {
    let mut trail = Trail::default();
    world.apply(&Event::Fault(Fault::AgentStarts(0)), &mut trail);
    run_until(world, |world| {
        let leads = world.hosts[0].node().is_some_and(|node| node.is_primary(world.local(0)));
        leads && world.flights.is_empty()
    });
    let original = world.hosts[0].clone();
    let clone = world.host(1);
    (clone.saved, clone.postgres.data) = (original.saved, original.postgres.data);
}

fn run_until(world: &mut World, done: impl Fn(&World) -> bool) {
    let mut trail = Trail::default();
    for _ in 0..1_000 {
        if done(world) {
            return;
        }
        let passes = |event: &Event| matches!(event, Event::Deliver(_) | Event::Wake(_));
        let before = world.clone();
        if let Some(event) = world.events().into_iter().find(passes) {
            world.apply(&event, &mut trail);
        }
        if *world == before {
            world.apply(&Event::Advance(1), &mut trail);
        }
    }
    panic!("the cluster does not become healthy: {:?}", progress::healthy(world));
}

#[cfg(test)]
mod tests {
    use super::Named;
    use crate::step::{Next, next};
    use primacy_sim::world::World;
    use primacy_sim::world::event::{Event, Fault};

    fn after(world: &World, event: &Event) -> World {
        match next(world, event) {
            Next::World(after, _) => *after,
            Next::Nothing | Next::Assertion(_) => panic!("{event:?} can't happen"),
        }
    }

    /// The holder has just sent a beat.
    fn beating() -> World {
        let begin = Named::find("three").expect("the world").begin();
        after(&after(&begin, &Event::Advance(1)), &Event::Wake(0))
    }

    fn goes_wrong(world: &World) -> bool {
        world.events().iter().any(|event| matches!(event, Event::Stall(_) | Event::Fault(_)))
    }

    #[test]
    fn a_request_is_answered_before_anything_else_happens() {
        let world = beating();
        let sent = world.flights[0].id;
        let may = [
            Event::Deliver(sent),
            Event::Stall(sent),
            Event::Fault(Fault::AgentDies(0)),
            Event::Fault(Fault::AgentFreezes(0)),
            Event::Fault(Fault::HostDies(0)),
        ];
        assert_eq!(world.events(), may);
        assert!(after(&world, &may[0]).flights.is_empty(), "the answer has arrived, too");
    }

    #[test]
    fn a_stalled_request_lets_time_pass_until_it_is_given_up() {
        let world = beating();
        let stalled = after(&world, &Event::Stall(world.flights[0].id));
        assert!(stalled.events().contains(&Event::Deliver(stalled.flights[0].id)));
        let later = after(&stalled, &Event::Advance(1));
        let gives_up = |event: &&Event| matches!(event, Event::Expire(0, _));
        let events = later.events();
        assert!(!events.contains(&Event::Advance(1)), "its patience is over");
        let zombie = after(&later, events.iter().find(gives_up).expect("it may give up"));
        let revision = |world: &World| world.store.view.beat.as_ref().map(|beat| beat.revision);
        let old = zombie.flights.iter().find(|flight| flight.stalled).expect("it may still arrive");
        assert!(zombie.events().contains(&Event::Deliver(old.id)));
        assert!(revision(&after(&zombie, &Event::Deliver(old.id))) > revision(&zombie));
    }

    #[test]
    fn what_has_gone_wrong_is_counted() {
        let world = beating();
        assert!(goes_wrong(&world));
        assert!(!goes_wrong(&after(&world, &Event::Stall(world.flights[0].id))), "once is all");
    }
}
