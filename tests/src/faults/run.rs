//! Running one fault: wait for health, let it happen, wait for health again, judge.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::{Fault, HEALTHY_WITHIN, Mark, Scene, Story, text};
use crate::client::{Ack, Clients, Missing, Seen};
use crate::judge::{self, Loss, NOTICED, Outage, Overlap, Reign, TwoWriters};
use crate::lab::Lab;
use crate::network::Host;
use crate::record::{Record, Way, kept_aside};
use crate::time::Moment;

/// What came of one fault.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Which fault.
    pub id: String,
    /// One line on what happened.
    pub title: String,
    /// What was done, the fault itself first.
    pub marks: Vec<Mark>,
    /// How long nobody could write.
    pub outage: Outage,
    /// Acknowledged rows that are gone.
    pub loss: Loss,
    /// Two writers, which there must never be.
    pub two_writers: TwoWriters,
    /// Who called itself primary when.
    pub reigns: Vec<Reign>,
    /// Who did so at the same time.
    pub overlaps: Vec<Overlap>,
    /// The hardest way each node has gone to follow anew.
    #[serde(default)]
    pub ways: Vec<(Host, Way)>,
    /// When all three nodes were streaming again, and written to, for good; `None` if they never were.
    pub healthy_at: Option<Moment>,
    /// Writes with unknown outcome.
    pub unknown: u64,
    /// Everything that must not be.
    pub problems: Vec<String>,
    /// When the record ends.
    pub end: Moment,
    /// All acknowledgements; not part of the JSON report.
    #[serde(skip)]
    pub acks: Vec<Ack>,
}

impl Outcome {
    /// When the fault happened.
    pub fn fault_at(&self) -> Moment {
        self.marks.first().map_or(self.end, |mark| mark.at)
    }

    /// When it was undone, if it was one to undo; else when it happened.
    pub fn repaired_at(&self) -> Moment {
        self.marks.iter().rev().find(|mark| mark.repair).map_or_else(|| self.fault_at(), |mark| mark.at)
    }

    /// Seconds from the repair until all nodes were streaming again.
    pub fn rejoin_seconds(&self) -> Option<f64> {
        Some(self.healthy_at?.since(self.repaired_at()).max(0.0))
    }
}

/// Brings a lab's cluster up, if it isn't, and waits until it is healthy.
pub fn prepare(lab: &Lab) -> Result<()> {
    let clients = Clients::start(lab)?;
    let scene = Scene { lab, clients: &clients, marks: Vec::new(), problems: Vec::new() };
    scene.store()?.wait_until_complete()?;
    scene.repair()?;
    wait_healthy(&clients, Moment::now(), Duration::ZERO).context("bring the cluster up")
}

/// Makes a cluster that doesn't recover anew, from nothing.
pub fn renew(lab: &Lab) -> Result<()> {
    let clients = Clients::start(lab)?;
    let scene = Scene { lab, clients: &clients, marks: Vec::new(), problems: Vec::new() };
    scene.repair()?;
    super::catalogue::empty(&scene)?;
    prepare(lab)
}

/// Runs a fault on a lab whose cluster is up. `watch` gets to see the clients before it begins.
pub fn run(lab: &Lab, fault: &Fault, watch: &mut dyn FnMut(&Clients)) -> Result<Outcome> {
    let empty = fault.id == "C1";
    if empty {
        let clients = Clients::start(lab)?;
        super::catalogue::empty(&Scene { lab, clients: &clients, marks: Vec::new(), problems: Vec::new() })?;
    }
    let clients = Clients::start(lab)?;
    watch(&clients);
    if !empty {
        wait_healthy(&clients, Moment::now(), WARM_UP).context("before the fault")?;
    }
    let before = clients.nodes().primary();
    let (record, aside) = (Record::from_now(&lab.name), kept_aside(&lab.name));
    let mut scene = Scene { lab, clients: &clients, marks: Vec::new(), problems: Vec::new() };
    let story = match fault.story {
        Story::Code(story) => story(&mut scene),
        Story::Text(scenario) => text::play(scenario, &mut scene),
    };
    let story = story.with_context(|| format!("in the story of {}", fault.id));
    scene.repair()?;
    let (marks, mut problems) = (scene.marks, scene.problems);
    if let Err(error) = story {
        problems.push(format!("{error:#}"));
    }
    let repaired = marks.last().map_or_else(Moment::now, |mark| mark.at);
    if let Err(error) = wait_healthy(&clients, repaired, SETTLED) {
        problems.push(format!("after the fault: {error:#}"));
    }
    let after = clients.nodes().primary();
    let waits = lab.waits_for_standbys()?;
    let end = Moment::now();
    let (seen, missing) = clients.finish()?;
    let missing = missing.unwrap_or_else(|error| {
        problems.push(format!("{error:#}"));
        Missing::new()
    });
    let limits = Fault { may_lose: fault.may_lose && !waits, ..*fault };
    let mut outcome = judge(fault, marks, seen, &missing, waits, end);
    problems.extend(problems_of(&limits, &outcome, before, after));
    let ways = record.ways();
    problems.extend(wrong_ways(fault, &ways));
    problems.extend(not_kept(&ways, &aside, &kept_aside(&lab.name)));
    // Who set out but never arrived has gone no way.
    outcome.ways = if outcome.healthy_at.is_some() { ways } else { Vec::new() };
    outcome.problems = problems;
    Ok(outcome)
}

/// How long a cluster must have been healthy before a fault.
const WARM_UP: Duration = Duration::from_millis(1_500);
/// And after it, to count as settled.
pub(crate) const SETTLED: Duration = Duration::from_secs(2);

/// Waits until the cluster has been healthy for a while after a moment, with the steady client writing.
pub(crate) fn wait_healthy(clients: &Clients, from: Moment, duration: Duration) -> Result<()> {
    let end = Instant::now() + HEALTHY_WITHIN;
    let mut since = None;
    loop {
        let now = Moment::now();
        let writing = clients.look(|seen| seen.acks.last().is_some_and(|ack| now.since(ack.acked) < 0.5));
        let good = writing && now > from && clients.nodes().healthy();
        since = if good { since.or(Some(now)) } else { None };
        if since.is_some_and(|since| now >= since.plus(duration)) {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("not healthy within {} s: {}", HEALTHY_WITHIN.as_secs(), describe(clients));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn describe(clients: &Clients) -> String {
    let one = |(host, says): &(Host, Option<crate::client::Says>)| match says {
        None => format!("{host} is silent"),
        Some(says) if says.primary => {
            format!("{host} is primary with {} standbys", says.standbys.unwrap_or(0))
        }
        Some(says) => {
            format!("{host} is {} {}", says.role, if says.streaming { "streaming" } else { &says.state })
        }
    };
    clients.nodes().0.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn judge(
    fault: &Fault,
    marks: Vec<Mark>,
    seen: Seen,
    missing: &Missing,
    waits: bool,
    end: Moment,
) -> Outcome {
    let at = marks.first().map_or(end, |mark| mark.at);
    let reigns = judge::reigns(&seen.samples);
    let last_bad = judge::unhealthy_since(&seen.samples, at);
    let healthy_at = match last_bad {
        None => Some(at),
        Some(bad) => seen.samples.iter().map(|sample| sample.answered).find(|answered| *answered > bad),
    };
    let healthy_at = healthy_at.max(healthy_at.and(judge::silent_until(&seen.acks, at)));
    Outcome {
        id: fault.id.into(),
        title: fault.title.into(),
        outage: judge::outage(&seen.acks, at, end),
        loss: judge::loss(&seen.acks, missing),
        two_writers: judge::two_writers(&seen.acks, |ack| !waits || missing.contains(&ack.id)),
        overlaps: judge::overlaps(&reigns),
        reigns,
        ways: Vec::new(),
        healthy_at,
        unknown: seen.unknown,
        problems: Vec::new(),
        marks,
        end,
        acks: seen.acks,
    }
}

fn problems_of(fault: &Fault, outcome: &Outcome, before: Option<Host>, after: Option<Host>) -> Vec<String> {
    let mut problems = Vec::new();
    let two = &outcome.two_writers;
    if two.instants > 0 {
        problems.push(format!("two writers: {} acknowledgements over {:.3} s", two.instants, two.seconds));
    }
    for overlap in &outcome.overlaps {
        let seconds = overlap.to.since(overlap.from);
        problems
            .push(format!("{} and {} both said primary for {seconds:.3} s", overlap.older, overlap.newer));
    }
    if outcome.loss.rows > 0 && !fault.may_lose {
        problems.push(format!("{} acknowledged rows lost, where none may be", outcome.loss.rows));
    }
    if outcome.outage.longest.to.is_none() {
        problems.push("nobody could write any more".into());
    }
    if let Some(seconds) = outcome.outage.longest.seconds()
        && fault.seamless
        && seconds > NOTICED
    {
        problems.push(format!("nobody could write for {seconds:.2} s, where nobody may notice"));
    }
    if !fault.may_move {
        problems.extend(needless_move(outcome, before, after));
    }
    problems
}

/// Nodes that went a harder way than they should have had to.
fn wrong_ways(fault: &Fault, ways: &[(Host, Way)]) -> Vec<String> {
    let (hardest, id) = (fault.returns_by, fault.id);
    let harder = ways.iter().filter(|(_, way)| *way > hardest);
    let say = |(host, way): &(Host, Way)| {
        format!("{host} came back by {}; after {id}, {} is enough", way.word(), hardest.word())
    };
    harder.map(say).collect()
}

/// Nodes that were copied anew without keeping what they had.
fn not_kept(ways: &[(Host, Way)], before: &Aside, after: &Aside) -> Vec<String> {
    let kept = |host: &Host| after.difference(before).any(|(of, _)| of == host);
    let lacking = ways.iter().filter(|(host, way)| *way == Way::Clone && !kept(host));
    lacking.map(|(host, _)| format!("{host} was copied anew, but its old data is not kept aside")).collect()
}

/// Directories kept aside.
type Aside = BTreeSet<(Host, OsString)>;

/// A change of the primary, or a new promotion of the same one, where neither is needed.
fn needless_move(outcome: &Outcome, before: Option<Host>, after: Option<Host>) -> Option<String> {
    if let (Some(before), Some(after)) = (before, after)
        && before != after
    {
        return Some(format!("the primary moved from {before} to {after} without need"));
    }
    let timelines = outcome.acks.iter().map(|ack| ack.timeline);
    let (first, last) = timelines.clone().min().zip(timelines.max())?;
    (first != last)
        .then(|| format!("the primary was promoted anew, from timeline {first} to {last}, without need"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Writer;
    use crate::faults::find;

    fn ack(id: i64, host: u8, timeline: u32) -> Ack {
        let acked = Moment(id * 1_000);
        Ack {
            id,
            writer: Writer::Steady,
            host: Host(host),
            timeline,
            position: id as u64,
            sent: acked,
            acked,
        }
    }

    fn outcome(id: &str, acks: Vec<Ack>, missing: &Missing) -> Vec<String> {
        let fault = find(id).expect("a fault");
        let seen = Seen { acks, ..Seen::default() };
        let marks = vec![Mark { at: Moment(1_000), what: "fault".into(), repair: false }];
        let outcome = judge(&fault, marks, seen, missing, false, Moment(10_000));
        problems_of(&fault, &outcome, Some(Host(1)), Some(Host(2)))
    }

    #[test]
    fn loss_is_a_problem_only_where_none_may_be() {
        let acks = vec![ack(1, 1, 1), ack(2, 1, 1), ack(5, 2, 2)];
        assert_eq!(outcome("B5", acks.clone(), &Missing::from([2])), Vec::<String>::new());
        let lost = "1 acknowledged rows lost, where none may be";
        assert_eq!(outcome("C5", acks, &Missing::from([2])), [lost]);
    }

    #[test]
    fn what_nobody_may_notice_must_not_stop_writers() {
        let acks = |last| vec![ack(1, 1, 1), ack(2, 1, 1), ack(last, 1, 1), ack(10_000, 1, 1)];
        let seen = |id, last| {
            let fault = find(id).expect("a fault");
            let seen = Seen { acks: acks(last), ..Seen::default() };
            let marks = vec![Mark { at: Moment(1_000), what: "fault".into(), repair: false }];
            let outcome = judge(&fault, marks, seen, &Missing::new(), false, Moment(10_000_000));
            problems_of(&fault, &outcome, None, None).len()
        };
        assert_eq!((seen("A1", 9_400), seen("B2", 9_400)), (1, 0));
    }

    #[test]
    fn a_harder_way_than_needed_is_a_problem() {
        let ways = [(Host(1), Way::Clone), (Host(2), Way::Stream)];
        let expected = "h1 came back by clone; after B10, stream is enough";
        assert_eq!(wrong_ways(&find("B10").expect("a fault"), &ways), [expected]);
        assert_eq!(wrong_ways(&find("B6").expect("a fault"), &ways), Vec::<String>::new());
    }

    #[test]
    fn old_data_must_be_kept_when_it_is_copied_anew() {
        let kept = |names: &[&str]| names.iter().map(|name| (Host(1), OsString::from(name))).collect();
        let (before, after): (Aside, Aside) = (kept(&["aside-1"]), kept(&["aside-1", "aside-2"]));
        let ways = [(Host(1), Way::Clone), (Host(2), Way::Stream)];
        assert_eq!(not_kept(&ways, &before, &after), Vec::<String>::new());
        let expected = "h1 was copied anew, but its old data is not kept aside";
        assert_eq!(not_kept(&ways, &before, &before), [expected]);
    }

    #[test]
    fn two_writers_and_a_needless_move_are_always_named() {
        let problems = outcome("B2", vec![ack(1, 1, 1), ack(3, 2, 2), ack(4, 1, 1)], &Missing::new());
        let moved = "the primary moved from h1 to h2 without need";
        assert_eq!(problems, ["two writers: 1 acknowledgements over 0.001 s", moved]);
    }
}
