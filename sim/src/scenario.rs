//! Plays the stories of `tests/scenarios` in the pure world.

use crate::invariants::{Violation, progress};
use crate::plan::{HOSTS, Knobs, Plan, What, name};
use crate::run::{Outcome, Run, message};
use crate::world::World;
use crate::world::event::HostId;
use anyhow::{Context, Result, anyhow, bail};
use primacy_scenarios::{Expect, Scenario, Step, Way};
use std::fmt::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

/// The seed of all of them: it decides how long a message takes, and which member is the first primary.
pub const SEED: u64 = 0;

/// A story that was played.
pub struct Played {
    /// How it ended.
    pub outcome: Outcome,
    /// What was told from the first trouble on.
    pub told: String,
    /// What of it isn't as it should be, besides what was told.
    pub wrong: Vec<String>,
}

/// Where the stories are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scenarios")
}

/// The stories of these names; all if there are none.
///
/// # Errors
/// A story that can't be read, or a name that none has.
pub fn named(names: &[String]) -> Result<Vec<Scenario>> {
    let all = primacy_scenarios::all(&directory()).map_err(|e| anyhow!(e))?;
    let known: Vec<_> = all.iter().map(|scenario| scenario.name.clone()).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        bail!("no scenario is called {unknown}; there are: {}", known.join(", "));
    }
    Ok(all.into_iter().filter(|scenario| names.is_empty() || names.contains(&scenario.name)).collect())
}

/// Plays one story.
///
/// # Errors
/// A step that can't be read, or that names a role which nobody has at its moment.
pub fn play(scenario: &Scenario) -> Result<Played> {
    let mut run = opening(scenario, true);
    if let Some(first) = scenario.steps.first() {
        run.advance_to(first.at_ms * 1_000);
    }
    let primary = primary(&run.world);
    for step in &scenario.steps {
        take(&mut run, step)?;
    }
    let from = scenario.steps.first().map_or(0, |step| step.at_ms * 1_000);
    let outcome = finish(run);
    let wrong = judge(scenario, primary, &outcome);
    let told = told(&outcome.story, from);
    Ok(Played { outcome, told, wrong })
}

/// A run of the story that is about to begin, without any of its troubles.
pub fn opening(scenario: &Scenario, with_story: bool) -> Run {
    let knobs = Knobs::quiet(scenario.ttl_ms);
    let plan = Plan { knobs, troubles: Vec::new(), length_ms: scenario.lasts_ms };
    Run::new(SEED, &plan, false, with_story)
}

/// Lets the run go on to the moment of a step, and the trouble begin.
///
/// # Errors
/// A step that can't be read, or that names a role which nobody has.
pub fn take(run: &mut Run, step: &Step) -> Result<()> {
    let at = step.at_ms * 1_000;
    run.advance_to(at);
    let place = || format!("at {}s, {}", step.at_ms as f64 / 1e3, step.what);
    let text = step.resolved(|role| in_role(&run.world, role)).map_err(|e| anyhow!(e)).with_context(place)?;
    let what: What = text.parse().map_err(|e: String| anyhow!(e)).with_context(place)?;
    run.plan_trouble(at, step.for_ms * 1_000, what);
    Ok(())
}

/// Lets a run go on to its end. An assertion that fails on the way is a violation like any other.
pub fn finish(mut run: Run) -> Outcome {
    let whole = panic::catch_unwind(AssertUnwindSafe(|| {
        while run.due().is_some() {
            run.next();
        }
    }));
    if let Err(panic) = whole {
        run.blame(Violation { id: "assertion", what: message(panic.as_ref()) });
    }
    run.end()
}

fn primary(world: &World) -> Option<HostId> {
    (0..HOSTS).find(|host| {
        let node = world.hosts[usize::from(*host)].running();
        node.is_some_and(|node| node.is_primary(world.local(*host)))
    })
}

fn in_role(world: &World, role: &str) -> Result<String, String> {
    let primary = primary(world).ok_or("nobody is the primary then")?;
    let mut others = (0..HOSTS).filter(|host| *host != primary);
    let (standby, other) = (others.next(), others.next());
    let host = match role {
        "primary" => Some(primary),
        "standby" => standby,
        _ => other,
    };
    host.map(|host| name(host).to_string()).ok_or_else(|| format!("nobody is the {role} then"))
}

fn judge(scenario: &Scenario, first: Option<HostId>, outcome: &Outcome) -> Vec<String> {
    let mut wrong: Vec<_> = outcome.violation.iter().map(ToString::to_string).collect();
    let last = progress::healthy(&outcome.world).ok();
    let counted = |word| outcome.counts.told.get(word).copied().unwrap_or(0) > 0;
    let way = match (counted("moved aside"), counted("rewind begun")) {
        (true, _) => Way::Clone,
        (false, true) => Way::Rewind,
        (false, false) => Way::Stream,
    };
    for expected in &scenario.expects {
        let holds = match expected {
            Expect::SamePrimary => last == first,
            Expect::AnotherPrimary => last.is_some() && last != first,
            Expect::NoLoss => outcome.counts.lost == 0,
            Expect::ReturnBy(hardest) => way <= *hardest,
        };
        if !holds {
            let primaries = [first, last].map(|host| host.map_or('-', name));
            wrong.push(format!(
                "{expected:?} doesn't hold: primary {} and then {}, {} commits lost, return by {way:?}",
                primaries[0], primaries[1], outcome.counts.lost
            ));
        }
    }
    wrong
}

/// The lines of a story from this moment on, with milliseconds.
fn told(story: &str, from: u64) -> String {
    let mut text = String::new();
    for line in story.lines() {
        let Some((at, what)) = line.split_once("s ") else { continue };
        let Ok(at) = at.trim().parse::<f64>() else { continue };
        if (at * 1e6).round() as u64 >= from {
            writeln!(text, "{at:8.3}s {what}").expect("writing to a string");
        }
    }
    text
}

/// Plays stories, and compares what is told with what their files say, or writes it there.
///
/// # Errors
/// Stories that can't be read, or that don't go as they should.
pub fn command(names: &[String], write: bool) -> Result<()> {
    let scenarios = named(names)?;
    let mut failed = Vec::new();
    for scenario in &scenarios {
        let played = play(scenario).with_context(|| scenario.name.clone())?;
        if write {
            let file = directory().join(format!("{}.txt", scenario.name));
            let text = std::fs::read_to_string(&file)?;
            std::fs::write(&file, Scenario::with_told(&text, &played.told))?;
        }
        let complaints = complaints(scenario, &played, write);
        let verdict = if complaints.is_empty() { "passed" } else { "FAILED" };
        println!("{verdict}  {:20} {}", scenario.name, scenario.title);
        complaints.iter().for_each(|complaint| println!("        {complaint}"));
        if names.len() == 1 {
            print!("{}", played.told);
        }
        if !complaints.is_empty() {
            failed.push(scenario.name.clone());
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("{} fail: {}", failed.len(), failed.join(", ")) }
}

fn complaints(scenario: &Scenario, played: &Played, written: bool) -> Vec<String> {
    let mut complaints = played.wrong.clone();
    if !written && played.told != scenario.told {
        let (told, expected) = (played.told.lines(), scenario.told.lines());
        let same = told.zip(expected).take_while(|(told, expected)| told == expected).count();
        let line = |text: &str| text.lines().nth(same).unwrap_or("(the end)").to_owned();
        complaints.push(format!("line {} of what is told: {:?}", same + 1, line(&played.told)));
        complaints.push(format!("the file has {:?}", line(&scenario.told)));
        complaints.push(format!("if that is right: cargo sim scenario --write {}", scenario.name));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_stories_go_as_they_say() {
        let all = named(&[]).unwrap();
        assert!(all.len() >= 9, "only {} stories", all.len());
        for scenario in &all {
            let complaints = complaints(scenario, &play(scenario).unwrap(), false);
            assert!(complaints.is_empty(), "{}: {complaints:#?}", scenario.name);
            assert!(
                !scenario.title.is_empty() && !scenario.expects.is_empty(),
                "{} says nothing",
                scenario.name
            );
        }
    }

    #[test]
    fn a_wrong_expectation_is_found() {
        let text =
            "# x\n8s switchover asked of primary, to standby\nexpect the same primary\nexpect no loss\n";
        let played = play(&primacy_scenarios::parse("x", text).unwrap()).unwrap();
        assert_eq!(played.wrong.len(), 1, "{:?}", played.wrong);
        assert!(played.wrong[0].contains("SamePrimary"), "{:?}", played.wrong);
    }

    #[test]
    fn a_trouble_that_is_none_is_named_with_its_moment() {
        let scenario = primacy_scenarios::parse("x", "8s host explodes primary\n").unwrap();
        let error = format!("{:#}", play(&scenario).err().unwrap());
        assert!(error.contains("at 8s, host explodes primary") && error.contains("host dies"), "{error}");
        let early = primacy_scenarios::parse("x", "0.5s host dies primary\n").unwrap();
        let error = format!("{:#}", play(&early).err().unwrap());
        assert!(error.contains("nobody is the primary then"), "{error}");
    }
}
