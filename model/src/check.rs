//! Explores worlds and says what was found.

use crate::live::End;
use crate::search::{Broken, Found, explore};
use crate::step::{Next, next};
use crate::worlds::Named;
use primacy_sim::junit::Case;
use primacy_sim::report;
use std::collections::BTreeMap;

/// A world with more states than this is taken for one that grows without end.
const STATES_MAX: usize = 20_000_000;

/// From so many states of each world it is looked how it goes on if nothing more goes wrong.
const LOOKED_AT: u64 = 1_000;

/// Explores all of these worlds, and says what came of each.
pub fn all(worlds: &[&Named]) -> Vec<Case> {
    let cases: Vec<Case> = worlds.iter().map(|named| one(named)).collect();
    let failed = cases.iter().filter(|case| case.failure.is_some()).count();
    if let Some(most) = memory() {
        println!("at most {most} of memory");
    }
    println!("test result: {} passed; {failed} failed", worlds.len() - failed);
    cases
}

/// The most memory that this process has had so far, as Linux tells it.
fn memory() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = most.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(format!("{} MiB", kibibytes / 1_024))
}

/// Explores these worlds up to the first violation, and says whether there was one.
pub fn first(worlds: &[&Named]) -> bool {
    // A violation is expected here, and a node's own check may be what finds it.
    std::panic::set_hook(Box::new(|_| {}));
    worlds.iter().any(|named| {
        let found = explore(named, STATES_MAX, looked_at(named));
        let broken = found.broken.as_ref();
        if let Some(broken) = broken {
            let steps = broken.events.len();
            println!("caught by {} after {steps} steps in world {}: {}", broken.id, named.name, broken.what);
        }
        broken.is_some()
    })
}

fn one(named: &Named) -> Case {
    let found = explore(named, STATES_MAX, looked_at(named));
    println!(
        "{:10} {} states, {} steps, depth {}, {:.1} s, {}",
        named.name,
        found.states,
        found.steps,
        found.depth,
        found.seconds,
        if found.exhausted { "exhausted" } else { "not exhausted" }
    );
    if let Some(broken) = &found.broken {
        tell(named, broken);
    }
    for (sometimes, depth) in named.sometimes.iter().zip(&found.reached) {
        match depth {
            Some(depth) => println!("           {}: after {depth} steps", sometimes.name),
            None => println!("           {}: NEVER", sometimes.name),
        }
    }
    if named.heals {
        tell_ends(&found.ends);
    }
    let wrong = wrong(named, &found);
    let failure = (!wrong.is_empty()).then(|| wrong.join("\n"));
    Case { name: named.name.to_owned(), seconds: Some(found.seconds), failure }
}

/// One in so many of its states.
fn looked_at(named: &Named) -> Option<u64> {
    named.heals.then(|| (named.states as u64 / LOOKED_AT).max(1))
}

/// How it goes on if nothing more goes wrong.
fn tell_ends(ends: &[End]) {
    let mut operators: BTreeMap<&str, usize> = BTreeMap::new();
    let mut steps = Vec::new();
    for end in ends {
        match end {
            End::Healthy(after) => steps.push(*after),
            End::NeedsOperator(why) => *operators.entry(why).or_default() += 1,
        }
    }
    let most = steps.iter().max().copied().unwrap_or_default();
    println!(
        "           of {} states {} become healthy, after at most {most} steps",
        ends.len(),
        steps.len()
    );
    for (why, count) in operators {
        println!("           {count} need an operator: {why}");
    }
}

/// What isn't as it must be, besides what was told.
fn wrong(named: &Named, found: &Found) -> Vec<String> {
    let broken = found.broken.iter();
    let mut wrong: Vec<String> = broken
        .map(|broken| format!("{} {} in {} steps", broken.id, broken.what, broken.events.len()))
        .collect();
    let reached = named.sometimes.iter().zip(&found.reached);
    wrong.extend(
        reached
            .filter(|(_, depth)| depth.is_none())
            .map(|(sometimes, _)| format!("never: {}", sometimes.name)),
    );
    if !found.exhausted {
        wrong.push("not exhausted".to_owned());
    }
    if found.states != named.states {
        let expected = named.states;
        println!("           {expected} states were expected: if the change is meant, write it down");
        wrong.push(format!("{} states instead of {expected}", found.states));
    }
    wrong
}

/// What happened, event by event, with what was told, and how the hosts stood after the last one but one.
fn tell(named: &Named, broken: &Broken) {
    println!("           BROKEN {} {} in {} steps:", broken.id, broken.what, broken.events.len());
    if broken.events.is_empty() {
        return;
    }
    let mut world = named.begin();
    for event in &broken.events {
        println!("             {event:?}");
        let Next::World(after, trail) = next(&world, event) else { break };
        for (host, told) in &trail.told {
            println!("               {}: {told}", named.name_of(*host));
        }
        world = *after;
    }
    for row in report::hosts(&world) {
        println!("           {row}");
    }
}
