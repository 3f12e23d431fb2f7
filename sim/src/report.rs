//! What a person reads: a failing run with its plan and the command that replays it; a sweep with its counts.

use crate::engine::Engine;
use crate::plan::{Plan, name};
use crate::run::{Counts, Outcome};
use crate::world::World;
use crate::world::host::{Agent, Warden};
use primacy_core::Time;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// So much of the story is shown: its end.
const STORY_LINES: usize = 40;

/// A failing run: what, in which plan, how the hosts stood, and how to see it again.
pub fn failure(engine: Engine, seed: u64, plan: &Plan, shrunk: Option<&Plan>, outcome: &Outcome) -> String {
    let mut text = String::new();
    let what = outcome.violation.as_ref().map_or(String::from("nothing"), ToString::to_string);
    let at = outcome.world.now as f64 / 1e6;
    let mut line = |line: String| writeln!(text, "{line}").expect("writing to a string");
    line(format!("FAILED  seed {seed}  {what}  at {at:.3}s, step {}", outcome.counts.steps));
    let shown = shrunk.unwrap_or(plan);
    line(format!("plan    {}", shown.knobs));
    line(match shrunk {
        Some(shrunk) => {
            format!("        {} troubles; these {} are enough:", plan.troubles.len(), shrunk.troubles.len())
        }
        None => format!("        {} troubles:", plan.troubles.len()),
    });
    let mut troubles: Vec<_> = shown.troubles.iter().collect();
    troubles.sort_by_key(|trouble| trouble.at_ms);
    for trouble in troubles {
        line(format!("        {trouble}"));
    }
    if shrunk.is_some() {
        let story: Vec<_> = outcome.story.lines().collect();
        for told in &story[story.len().saturating_sub(STORY_LINES)..] {
            line(format!("   {told}"));
        }
    }
    for row in hosts(&outcome.world) {
        line(format!("last    {row}"));
    }
    line(format!("replay  {} --seed {seed} --story", engine.command()));
    text
}

/// One line for each host.
pub fn hosts(world: &World) -> Vec<String> {
    let row = |host: u8| {
        let one = &world.hosts[usize::from(host)];
        let agent = match &one.agent {
            Agent::Down => "agent down".to_owned(),
            Agent::Up(node) => node.role().word().to_owned(),
            Agent::Frozen(node) => format!("{} (frozen)", node.role().word()),
        };
        let local = world.local(host);
        let left = |end: Time| match i128::from(end.0) - i128::from(local.0) {
            // Models count in ticks.
            ticks if world.setup.instant => format!("{ticks} ticks left"),
            us => format!("{:.3}s left", us as f64 / 1e6),
        };
        let authority = one.node().and_then(|node| node.authority()).map_or("none".to_owned(), left);
        let guard = match one.guard {
            Warden::Dead => "dead".to_owned(),
            Warden::Idle => "idle".to_owned(),
            Warden::Armed { epoch, until } => {
                format!("armed t{epoch} {}", left(until))
            }
        };
        let data =
            one.postgres.data.as_ref().map_or("no data".to_owned(), |data| data.position().to_string());
        let power = if one.up { "" } else { "  no power" };
        let process = one.postgres.process;
        format!("{} {agent:22} {process:?}  {data}  authority {authority}  guard {guard}{power}", name(host))
    };
    (0u8..).zip(&world.hosts).map(|(host, _)| row(host)).collect()
}

/// Adds one run's counts to a sweep's.
pub fn add(total: &mut Counts, one: &Counts) {
    fn sum(total: &mut BTreeMap<&'static str, u64>, one: &BTreeMap<&'static str, u64>) {
        for (word, count) in one {
            *total.entry(word).or_default() += count;
        }
    }
    total.virtual_us += one.virtual_us;
    total.steps += one.steps;
    total.commits += one.commits;
    total.lost += one.lost;
    sum(&mut total.told, &one.told);
    sum(&mut total.troubles, &one.troubles);
    sum(&mut total.roles, &one.roles);
    for (step, count) in &one.moves {
        *total.moves.entry(*step).or_default() += count;
    }
}

/// A sweep in a few lines.
pub fn counts(counts: &Counts) -> String {
    let list = |map: &BTreeMap<&'static str, u64>| {
        map.iter().map(|(word, count)| format!("{word} {count}")).collect::<Vec<_>>().join(", ")
    };
    format!(
        "virtual   {:.0} s, {} steps\ncommits   {} acknowledged, {} of them lost (asynchronous)\nevents    {}\n\
         troubles  {}\nroles     {} (at the end of a run)\n",
        counts.virtual_us as f64 / 1e6,
        counts.steps,
        counts.commits,
        counts.lost,
        list(&counts.told),
        list(&counts.troubles),
        list(&counts.roles)
    )
}

/// What a sweep of so many seeds must have reached, or it says nothing: (count, per thousand seeds).
pub const FLOORS: [(&str, u64); 22] = [
    ("takeover", 2_500),
    ("led", 2_500),
    ("lapse seen", 1_500),
    ("release seen", 50),
    ("yielded", 100),
    ("holder came back", 10),
    ("election lost", 100),
    ("resumed", 80),
    ("restart in place", 200),
    ("primary hung", 50),
    ("orderly demotion", 200),
    ("lease lost", 200),
    ("handed over", 300),
    ("rewind begun", 400),
    ("rewound", 250),
    ("rewind failed", 100),
    ("moved aside", 60),
    ("WAL gone", 30),
    ("new copy wanted", 20),
    ("froze", 300),
    ("guard lost", 300),
    ("stopped", 150),
];

/// The floors that a sweep hasn't reached.
pub fn below_floor(counts: &Counts, seeds: u64) -> Vec<String> {
    let missed = FLOORS.iter().filter_map(|(word, per_thousand)| {
        let (reached, floor) = (counts.told.get(word).copied().unwrap_or(0), per_thousand * seeds / 1_000);
        (reached < floor).then(|| format!("{word}: {reached}, at least {floor} expected"))
    });
    let mut missed: Vec<_> = missed.collect();
    let flagged = counts.roles.get("(needs an operator)").copied().unwrap_or(0);
    // 38 of 50,000, all of them after a promotion by hand of the only copy that could lead; but two of the first 200.
    if flagged > seeds / 500 + 2 {
        missed.push(format!("{flagged} runs ended with a call for an operator, more than one in 500"));
    }
    missed
}
