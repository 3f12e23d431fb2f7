//! The worlds in stateright's Explorer: a person walks through one, event by event, in a browser.
//!
//! It walks by the same relation as the search, so a state that can be reached in the one can be reached in the other;
//! a test compares how many there are.

use crate::step::{Next, Step, next};
use crate::worlds::Named;
use anyhow::Context;
use primacy_sim::invariants::SAFETY;
use primacy_sim::report;
use primacy_sim::world::World;
use primacy_sim::world::event::Event;
use stateright::{Model, Property};
use std::fmt;
use std::net::{Ipv4Addr, TcpListener};

/// Serves a world on this port of the loopback interface until the process is ended.
///
/// # Errors
/// Fails if the port is taken.
pub fn serve(named: &'static Named, port: u16) -> anyhow::Result<()> {
    let address = (Ipv4Addr::LOCALHOST, port);
    // The Explorer panics where this fails with a reason.
    drop(TcpListener::bind(address).with_context(|| format!("listen on port {port}"))?);
    println!("the world {} is at http://{}:{port}", named.name, address.0);
    // A node's own check shows as a state of its own.
    std::panic::set_hook(Box::new(|_| {}));
    Explored(named).checker().serve(address);
    Ok(())
}

/// A world as stateright wants it.
struct Explored(&'static Named);

/// A state of it.
#[derive(Clone, PartialEq, Hash)]
enum Spot {
    /// A world in canonical form.
    World(Box<World>),
    /// A node has found itself in a state that must not be; nothing follows.
    Assertion(String),
}

impl Spot {
    fn world(&self) -> Option<&World> {
        match self {
            Spot::World(world) => Some(world),
            Spot::Assertion(_) => None,
        }
    }
}

/// Without what stays the same.
impl fmt::Debug for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Spot::World(world) => {
                for row in report::hosts(world) {
                    writeln!(f, "{row}")?;
                }
                write!(f, "{:#?}\n{:#?}\n{:#?}", world.flights, world.store, world.hosts)
            }
            Spot::Assertion(what) => write!(f, "ASSERTION {what}"),
        }
    }
}

impl Model for Explored {
    type State = Spot;
    type Action = Event;

    fn init_states(&self) -> Vec<Spot> {
        vec![Spot::World(Box::new(self.0.begin()))]
    }

    fn actions(&self, state: &Spot, actions: &mut Vec<Event>) {
        actions.extend(state.world().map(World::events).unwrap_or_default());
    }

    fn next_state(&self, state: &Spot, event: Event) -> Option<Spot> {
        match next(state.world()?, &event) {
            Next::World(after, _) => Some(Spot::World(after)),
            Next::Nothing => None,
            Next::Assertion(what) => Some(Spot::Assertion(what)),
        }
    }

    fn format_step(&self, state: &Spot, event: Event) -> Option<String> {
        let before = state.world()?;
        let arrives = match &event {
            Event::Deliver(id) => before.flights.iter().find(|flight| flight.id == *id),
            _ => None,
        };
        let mut lines: Vec<_> = arrives.map(|flight| format!("{:?}", flight.cargo)).into_iter().collect();
        match next(before, &event) {
            Next::World(after, trail) => {
                let told = trail.told.iter();
                lines.extend(told.map(|(host, told)| format!("{}: {told}", self.0.name_of(*host))));
                lines.extend(report::hosts(&after));
            }
            Next::Nothing => return None,
            Next::Assertion(what) => lines.push(format!("ASSERTION {what}")),
        }
        Some(lines.join("\n"))
    }

    fn properties(&self) -> Vec<Property<Explored>> {
        let always =
            SAFETY.iter().zip(HOLDS).map(|(invariant, holds)| Property::always(invariant.name, holds));
        let shown = self.0.sometimes;
        assert!(
            shown.len() <= SHOWS.len(),
            "the world {} has more to show than SHOWS has room for",
            self.0.name
        );
        let sometimes = shown.iter().zip(SHOWS).map(|(seen, shows)| Property::sometimes(seen.name, shows));
        let asserted = Property::always("no assertion fails", |_, state: &Spot| state.world().is_some());
        always.chain([asserted]).chain(sometimes).collect()
    }
}

/// A property of stateright is a plain function: one for each place of a list.
type Condition = fn(&Explored, &Spot) -> bool;
const HOLDS: [Condition; SAFETY.len()] = [
    holds::<0>, holds::<1>, holds::<2>, holds::<3>, holds::<4>, holds::<5>, holds::<6>, holds::<7>,
    holds::<8>, holds::<9>,
];
const SHOWS: [Condition; 6] = [shows::<0>, shows::<1>, shows::<2>, shows::<3>, shows::<4>, shows::<5>];

fn holds<const INVARIANT: usize>(_: &Explored, state: &Spot) -> bool {
    state.world().is_none_or(|world| (SAFETY[INVARIANT].check)(world).is_none())
}

/// Whether one of the steps from here shows what the world must be able to show.
fn shows<const SOMETIMES: usize>(explored: &Explored, state: &Spot) -> bool {
    let Some(before) = state.world() else { return false };
    before.events().iter().any(|event| match next(before, event) {
        Next::World(after, trail) => {
            (explored.0.sometimes[SOMETIMES].seen)(&Step { before, event, after: &after, trail: &trail })
        }
        Next::Nothing | Next::Assertion(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search;
    use stateright::Checker;

    /// The search ends after the step of breadth in which it has met so many states.
    const ENOUGH: usize = 1_000;

    #[test]
    fn stateright_finds_as_many_states_as_the_search() {
        for named in crate::worlds::WORLDS {
            let found = search::explore(named, ENOUGH, None);
            assert!(found.broken.is_none() && found.depth > 3, "{}: depth {}", named.name, found.depth);
            // It counts the beginning as the first level.
            let checker = Explored(named).checker().target_max_depth(found.depth + 1).spawn_bfs().join();
            checker.assert_no_discovery("single writer");
            assert_eq!(checker.unique_state_count(), found.states, "{}", named.name);
        }
    }

    #[test]
    fn every_world_can_be_opened() {
        for named in crate::worlds::WORLDS {
            let explored = Explored(named);
            let properties = explored.properties();
            assert_eq!(properties.len(), SAFETY.len() + 1 + named.sometimes.len());
            let begin = &explored.init_states()[0];
            assert!((0..SAFETY.len()).all(|at| HOLDS[at](&explored, begin)), "{}", named.name);
            assert!(explored.next_steps(begin).iter().any(|(_, spot)| spot != begin), "{}", named.name);
        }
    }
}
