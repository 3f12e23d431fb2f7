//! Every state of a world, by breadth: so the first violation found is one of the shortest.
//!
//! Kept are a fingerprint of each state and of the state it was first reached from; the states themselves only while
//! they are at the edge. A path is found again by walking it. Two threads share the work of each slice of the edge, and
//! what they find is taken in the order of the slice: the numbers are the same however many threads there are.

use crate::canon::fingerprint;
use crate::live::{self, End};
use crate::step::{Next, Step, guarded, next};
use crate::worlds::Named;
use primacy_sim::invariants::first_violation;
use primacy_sim::world::World;
use primacy_sim::world::event::Event;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Instant;

/// So many states of the edge are worked on before what they lead to is sorted out.
const SLICE: usize = 8_192;

/// What was found in a world.
pub struct Found {
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// The length of the longest of all shortest paths.
    pub depth: usize,
    /// Seconds.
    pub seconds: f64,
    /// Whether there is nothing left to explore.
    pub exhausted: bool,
    /// What must not be, and how it came about.
    pub broken: Option<Broken>,
    /// For each `sometimes` of the world: after how many steps it was first seen.
    pub reached: Vec<Option<usize>>,
    /// How it goes on from some of the states, if that was asked for.
    pub ends: Vec<End>,
}

/// Something that must not be.
pub struct Broken {
    /// The invariant, or `assertion` if a node's own check has failed.
    pub id: String,
    /// In words.
    pub what: String,
    /// What happened, from the world's beginning.
    pub events: Vec<Event>,
}

/// What one state leads to.
#[derive(Default)]
struct Leads {
    steps: usize,
    fresh: Vec<(u64, u64, Box<World>)>,
    broken: Option<(u64, Event, String, String)>,
    reached: Vec<bool>,
}

type Seen = HashMap<u64, u64, ahash::RandomState>;

/// Explores a world until it is exhausted, something is broken, or there are more states than `states_max`. Looks how it
/// goes on from one in `every` states, if that is a number.
pub fn explore(named: &Named, states_max: usize, every: Option<u64>) -> Found {
    let begun = Instant::now();
    let reached = vec![None; named.sometimes.len()];
    let mut found = Found {
        states: 1,
        steps: 0,
        depth: 0,
        seconds: 0.0,
        exhausted: false,
        broken: None,
        reached,
        ends: Vec::new(),
    };
    let first = match guarded(|| named.begin()) {
        Ok(first) => first,
        Err(what) => {
            let what = format!("the starting cluster can't be built: {what}");
            found.broken = Some(Broken { id: "assertion".into(), what, events: Vec::new() });
            return found;
        }
    };
    let root = fingerprint(&first);
    let mut seen = Seen::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4));
    seen.insert(root, root);
    let mut edge = vec![(root, Box::new(first.clone()))];
    while !edge.is_empty() && found.broken.is_none() && seen.len() <= states_max {
        let mut further = Vec::new();
        for slice in edge.chunks(SLICE) {
            let chosen = slice.iter().filter(|(print, _)| every.is_some_and(|every| print % every == 0));
            for (print, end) in go_on(named, &chosen.collect::<Vec<_>>()) {
                match end {
                    Ok(end) => found.ends.push(end),
                    Err(what) if found.broken.is_none() => {
                        found.broken =
                            Some(Broken { id: "I16".into(), what, events: path(&first, &seen, print) });
                    }
                    Err(_) => {}
                }
            }
            for leads in expand(named, slice, &seen) {
                take(leads, &mut found, &mut seen, &mut further, &first);
            }
            if found.broken.is_some() {
                break;
            }
        }
        found.depth += usize::from(!further.is_empty());
        edge = further;
    }
    found.exhausted = edge.is_empty() && found.broken.is_none();
    found.states = seen.len();
    found.seconds = begun.elapsed().as_secs_f64();
    found
}

/// How it goes on from these states, on all processors.
fn go_on(named: &Named, chosen: &[&(u64, Box<World>)]) -> Vec<(u64, Result<End, String>)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let parts = chosen.chunks(chosen.len().div_ceil(threads).max(1));
        let workers: Vec<_> = parts
            .map(|part| {
                let ends = part.iter().map(|(print, world)| (*print, live::goes_on(named, world)));
                scope.spawn(move || ends.collect::<Vec<_>>())
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker of the search")).collect()
    })
}

fn take(
    leads: Leads,
    found: &mut Found,
    seen: &mut Seen,
    further: &mut Vec<(u64, Box<World>)>,
    first: &World,
) {
    found.steps += leads.steps;
    for (now, before) in found.reached.iter_mut().zip(leads.reached) {
        if before {
            now.get_or_insert(found.depth + 1);
        }
    }
    for (print, parent, world) in leads.fresh {
        if let Entry::Vacant(entry) = seen.entry(print) {
            entry.insert(parent);
            further.push((print, world));
        }
    }
    if let (None, Some((parent, event, id, what))) = (&found.broken, leads.broken) {
        let mut events = path(first, seen, parent);
        events.push(event);
        found.broken = Some(Broken { id, what, events });
    }
}

/// Takes all steps from these states, in as many parts as there are processors.
fn expand(named: &Named, slice: &[(u64, Box<World>)], seen: &Seen) -> Vec<Leads> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(slice.len());
    std::thread::scope(|scope| {
        let parts = slice.chunks(slice.len().div_ceil(threads));
        let workers: Vec<_> = parts.map(|part| scope.spawn(move || expand_part(named, part, seen))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker of the search")).collect()
    })
}

fn expand_part(named: &Named, part: &[(u64, Box<World>)], seen: &Seen) -> Leads {
    let mut leads = Leads { reached: vec![false; named.sometimes.len()], ..Leads::default() };
    for (print, world) in part {
        for event in world.events() {
            leads.steps += 1;
            let (after, trail) = match next(world, &event) {
                Next::World(after, trail) => (after, trail),
                Next::Nothing => continue,
                Next::Assertion(what) => {
                    leads.broken.get_or_insert((*print, event, "assertion".into(), what));
                    continue;
                }
            };
            let step = Step { before: world, event: &event, after: &after, trail: &trail };
            for (reached, sometimes) in leads.reached.iter_mut().zip(named.sometimes) {
                *reached = *reached || (sometimes.seen)(&step);
            }
            let to = fingerprint(&after);
            if seen.contains_key(&to) {
                continue;
            }
            if let Some(violation) = first_violation(&after) {
                leads.broken.get_or_insert((*print, event, violation.id.into(), violation.what));
            } else {
                leads.fresh.push((to, *print, after));
            }
        }
    }
    leads
}

/// The events by which a state was first reached.
fn path(first: &World, seen: &Seen, to: u64) -> Vec<Event> {
    let mut prints = vec![to];
    while let Some(parent) = seen.get(&prints[prints.len() - 1]).filter(|p| **p != prints[prints.len() - 1]) {
        prints.push(*parent);
    }
    prints.reverse();
    let (mut world, mut events) = (first.clone(), Vec::new());
    for print in &prints[1..] {
        let step = world.events().into_iter().find_map(|event| match next(&world, &event) {
            Next::World(after, _) if fingerprint(&after) == *print => Some((event, after)),
            Next::World(..) | Next::Nothing | Next::Assertion(_) => None,
        });
        let (event, after) = step.expect("a path that was walked before");
        events.push(event);
        world = *after;
    }
    events
}
