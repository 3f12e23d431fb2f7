//! I10 and I16: if nothing more goes wrong, the cluster becomes healthy from wherever it is, or a node says why a person
//! is needed.

use crate::step::guarded;
use crate::worlds::Named;
use primacy_core::Node;
use primacy_sim::invariants::{first_violation, progress};
use primacy_sim::world::event::{Event, Fault};
use primacy_sim::world::{Trail, World};

/// Steps after which it is taken for granted that a cluster won't become healthy any more. Those that do take far fewer.
const STEPS_MAX: usize = 3_000;

/// For so many ticks, three times T, it must then stay healthy: a lease that isn't renewed any more shows by then.
const STAYS: u64 = 15;

/// How it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The cluster is healthy for good after so many steps.
    Healthy(usize),
    /// A node says that it needs a person, and why, and nothing happens any more.
    NeedsOperator(String),
}

/// Mends everything in a state of this world, and lets it go on.
///
/// # Errors
/// Says what is missing in the end, or which invariant was broken on the way.
pub fn goes_on(named: &Named, state: &World) -> Result<End, String> {
    guarded(|| from(named.unbound(state)))?
}

fn from(mut world: World) -> Result<End, String> {
    mend(&mut world);
    let mut healthy = None;
    for steps in 0..STEPS_MAX {
        let missing = progress::healthy(&world).err();
        healthy = if missing.is_none() { healthy.or(Some((steps, world.now))) } else { None };
        if let Some((steps, since)) = healthy
            && world.now >= since + STAYS
        {
            return Ok(End::Healthy(steps));
        }
        step(&mut world);
        if let Some(violation) = first_violation(&world) {
            return Err(format!("{} {} on the way to health", violation.id, violation.what));
        }
    }
    let needs = world.hosts.iter().find_map(|one| one.node().and_then(Node::needs_operator));
    match (needs, progress::healthy(&world)) {
        (Some(why), _) => Ok(End::NeedsOperator(why.to_string())),
        (None, Err(what)) => Err(format!("{what}, long after all was mended")),
        (None, Ok(_)) => Err("it becomes healthy again and again, and never stays so".to_owned()),
    }
}

fn mend(world: &mut World) {
    let mut faults = vec![Fault::StoreUp];
    for host in 0..world.hosts.len() as u8 {
        faults.extend([Fault::HostStarts(host), Fault::AgentThaws(host), Fault::AgentStarts(host)]);
    }
    faults.extend(world.cuts.clone().into_iter().map(|(from, to)| Fault::Heal(from, to)));
    for fault in faults {
        // What isn't broken needs no mending.
        world.apply(&Event::Fault(fault), &mut Trail::default());
    }
}

/// Lets the first thing happen that can and changes anything; time passes only if there is none.
fn step(world: &mut World) {
    let before = world.clone();
    let goes_on = |event: &Event| {
        matches!(
            event,
            Event::Deliver(_)
                | Event::Perform(..)
                | Event::GuardFires(_)
                | Event::OrphansEnd(_)
                | Event::Expire(..)
                | Event::Wake(_)
        )
    };
    for event in before.events().iter().filter(|event| goes_on(event)) {
        if world.apply(event, &mut Trail::default()) && *world != before {
            return;
        }
    }
    world.apply(&Event::Advance(1), &mut Trail::default());
}
