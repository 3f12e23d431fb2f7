//! Stories of `tests/scenarios`, on real processes: as far as a lab can make what happens in them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use primacy_scenarios::{Expect, Scenario, Step};

use super::catalogue::{Fault, Story};
use super::scene::Scene;
use crate::chaos::{Hand, Kind, Planned, Trouble, Victim, Whom};
use crate::record::Way;
use crate::time::Moment;

/// Where they are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// The stories of these names; all that a lab can play if there are none.
///
/// # Errors
/// A story that can't be read or isn't there, or one of the named ones that a lab can't play, and why.
pub fn named(names: &[String]) -> Result<Vec<Fault>> {
    let all = primacy_scenarios::all(&directory()).map_err(|e| anyhow!(e))?;
    if names.is_empty() {
        return Ok(all.into_iter().filter(|scenario| acts(scenario).is_ok()).map(fault).collect());
    }
    let one = |name: &String| {
        let found = all.iter().find(|scenario| scenario.name == *name);
        let scenario = found.with_context(|| format!("no scenario is called {name}"))?;
        acts(scenario).with_context(|| format!("{name} can't be played on real processes"))?;
        Ok(fault(scenario.clone()))
    };
    names.iter().map(one).collect()
}

/// What is done, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Inflict(Planned),
    RecycleWal,
}

/// A story as a fault. There are few, and they live as long as the program.
fn fault(scenario: Scenario) -> Fault {
    let scenario: &'static Scenario = Box::leak(Box::new(scenario));
    let expects = |expected| scenario.expects.contains(&expected);
    let by = |way| expects(Expect::ReturnBy(way));
    let returns_by = match (by(primacy_scenarios::Way::Stream), by(primacy_scenarios::Way::Rewind)) {
        (true, _) => Way::Stream,
        (_, true) => Way::Rewind,
        (_, _) => Way::Clone,
    };
    Fault {
        id: &scenario.name,
        title: &scenario.title,
        may_lose: !expects(Expect::NoLoss),
        may_move: !expects(Expect::SamePrimary),
        returns_by,
        seamless: false,
        story: Story::Text(scenario),
    }
}

/// Lets a story happen.
///
/// # Errors
/// What can't be done to the cluster as it is.
pub fn play(scenario: &Scenario, scene: &mut Scene) -> Result<()> {
    let acts = acts(scenario)?;
    let before = scene.primary()?;
    let mut hand = Hand::new(scene.lab, scene.clients)?;
    let first = scenario.steps.first().map_or(0, |step| step.at_ms);
    let begin = Moment::now();
    let begins = acts.iter().enumerate().map(|(index, (at, _))| (*at, index, true));
    let ends = acts.iter().enumerate().filter_map(|(index, (_, act))| match act {
        Act::Inflict(planned) if planned.until > planned.at => Some((planned.until, index, false)),
        Act::Inflict(_) | Act::RecycleWal => None,
    });
    let mut moments: Vec<(u64, usize, bool)> = begins.chain(ends).collect();
    moments.sort_unstable();
    for (at, index, begins) in moments {
        let due = begin.plus(Duration::from_millis(at - first));
        std::thread::sleep(Duration::from_secs_f64(due.since(Moment::now()).max(0.0)));
        let what = &scenario.steps[index].what;
        match (acts[index].1, begins) {
            (Act::RecycleWal, _) => scene.recycle_wal(scene.primary()?)?,
            (Act::Inflict(planned), true) => {
                scene.mark(Moment::now(), what.clone());
                hand.inflict(index, &planned).1.with_context(|| what.clone())?;
            }
            (Act::Inflict(_), false) => {
                hand.undo(index)?;
                scene.mark_repair(Moment::now(), format!("over: {what}"));
            }
        }
    }
    let answers = hand.finish();
    let refused = answers.into_iter().filter(|answer| !answer.contains(": 200: "));
    scene.problems.extend(refused);
    let after = scene.primary()?;
    if scenario.expects.contains(&Expect::AnotherPrimary) && before == after {
        scene.problems.push(format!("{after} is the primary as before, where another one was expected"));
    }
    Ok(())
}

/// What a lab does for each step, with its moment.
fn acts(scenario: &Scenario) -> Result<Vec<(u64, Act)>> {
    if scenario.steps.is_empty() {
        bail!("nothing is done to the cluster in it");
    }
    scenario
        .steps
        .iter()
        .map(|step| Ok((step.at_ms, act(step).with_context(|| step.what.clone())?)))
        .collect()
}

fn act(step: &Step) -> Result<Act> {
    if step.what == "WAL recycled" {
        return Ok(Act::RecycleWal);
    }
    let words: Vec<&str> = step.what.split(' ').collect();
    let (kind, whom) = match &words[..] {
        ["agent", "dies", whom] => (Kind::AgentAway, whom),
        ["agent", "stops", "in", "order", whom] => (Kind::AgentStopped, whom),
        ["agent", "freezes", whom] => (Kind::AgentFrozen, whom),
        ["postgres", "dies", whom] => (Kind::Killed(Victim::Postmaster), whom),
        ["guard", "dies", whom] => (Kind::Killed(Victim::Guard), whom),
        ["host", "dies", whom] => (Kind::PowerLost, whom),
        ["host", "cut", "off", whom] => (Kind::Network(Trouble::CutOff), whom),
        ["cut", "off", "from", "the", "store", whom] => (Kind::Network(Trouble::Etcd), whom),
        ["store", "down"] => (Kind::StoreAway, &"primary"),
        ["switchover", "asked", "of", "primary,", "to", whom] => (Kind::SwitchoverTo, whom),
        _ => bail!("a lab can't make this happen"),
    };
    let whom = match *whom {
        "primary" => Whom::Primary,
        "standby" => Whom::OneStandby,
        "other" => Whom::OtherStandby,
        _ => bail!("a lab knows primary, standby and other, but no letters"),
    };
    Ok(Act::Inflict(Planned { at: step.at_ms, until: step.at_ms + step.for_ms, kind, whom }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stories_become_faults() {
        let all = named(&[]).unwrap();
        let find = |id| all.iter().find(|fault| fault.id == id).unwrap();
        let failover = find("failover");
        assert_eq!((failover.may_lose, failover.may_move, failover.returns_by), (true, true, Way::Rewind));
        let join = find("join");
        assert_eq!((join.may_lose, join.may_move, join.returns_by), (false, false, Way::Clone));
    }

    #[test]
    fn what_a_lab_cannot_do_is_named() {
        let story = |text: &str| acts(&primacy_scenarios::parse("x", text).unwrap());
        let error = |text| format!("{:#}", story(text).unwrap_err());
        assert!(
            error("8s agent dies in a rewind primary\n")
                .contains("agent dies in a rewind primary: a lab can't")
        );
        assert!(error("8s host dies a\n").contains("no letters"));
        let planned = Planned { at: 8_000, until: 9_500, kind: Kind::PowerLost, whom: Whom::OtherStandby };
        assert_eq!(story("8s host dies other for 1.5s\n").unwrap(), [(8_000, Act::Inflict(planned))]);
        assert!(format!("{:#}", named(&["nothing".into()]).unwrap_err()).contains("called nothing"));
    }
}
